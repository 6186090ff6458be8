//! The default rules: a shop can leave them on.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::corpus::exchanges;
use super::super::support::dns::Dns;
use super::super::support::origin::{Origin, page};
use super::super::support::process::wait_until;
use super::php_time::slow_origin;
use super::{BROWSER, HTML, from, on_and_off};

#[test]
fn the_recorded_traffic_passes_untouched() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    for exchange in exchanges() {
        let is_framing =
            |name: &str| ["connection", "content-length"].contains(&name.to_lowercase().as_str());
        let headers: Vec<(&str, &str)> = exchange
            .headers
            .iter()
            .filter(|(name, _)| !is_framing(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let reply = parvis.ask(&exchange.method, &exchange.target, &headers, &exchange.body);
        let detail = reply.cache_status();
        let is_of_rule = detail.contains("rule-") || detail.contains("detail=challenge");
        assert!(!is_of_rule && reply.status != 429, "{}: {detail}", exchange.name);
    }
}

#[test]
fn payment_callbacks_and_the_balancers_checks_are_let_through() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    for target in
        ["/paypal/ipn/", "/rest/V1/buckaroo/push", "/stripe/webhooks", "/mollie/checkout/webhook"]
    {
        for _ in 0..50 {
            assert_eq!(parvis.ask("POST", target, &[], b"a=1").status, 200, "{target}");
        }
    }
    for _ in 0..200 {
        assert_eq!(
            parvis.get("/health_check.php", &[("User-Agent", "ELB-HealthChecker/2.0")]).status,
            200
        );
    }
    let rest = "/rest/V1/products?searchCriteria[a]=1&searchCriteria[b]=2&searchCriteria[c]=3";
    for page in 0..100 {
        assert_eq!(parvis.get(&format!("{rest}&n={page}"), &[]).status, 200);
    }
}

#[test]
fn passwords_can_be_guessed_ten_times_a_minute() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    let passed = |parvis: &Parvis, target: &str, session: Option<&str>| {
        let cookie = session.map(|id| format!("PHPSESSID={id}"));
        let mut headers = vec![HTML, BROWSER, ("X-Forwarded-For", "192.0.2.1")];
        headers.extend(cookie.as_deref().map(|cookie| ("Cookie", cookie)));
        let guess =
            |_: &usize| parvis.ask("POST", target, &headers, b"login[username]=a").status == 200;
        (0..30).filter(guess).count()
    };
    let log_in = "/customer/account/loginPost/";
    let first = passed(&on, log_in, Some("a"));
    assert!((10..=11).contains(&first), "{first}");
    let spelt = passed(&on, "/de/customer/account/LOGINPOST", Some("a"));
    assert!(spelt <= 1, "Magento reads it in any case: {spelt}");
    let other = passed(&on, log_in, Some("b"));
    assert!((9..=11).contains(&other), "what a is refused does not count for its address: {other}");
    let more: usize = ["c", "d", "e", "f"].map(|id| passed(&on, log_in, Some(id))).iter().sum();
    assert!(more <= 44, "{more}");
    let seventh = passed(&on, log_in, Some("g"));
    assert!(seventh <= 2, "an address has sixty: {seventh}");
    assert_eq!(passed(&off, log_in, Some("a")), 30, "without the rules");
}

#[test]
fn who_combines_facets_as_bots_do_is_challenged() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    let crawl = |parvis: &Parvis| {
        let target = |n: usize| format!("/women.html?color={n}&size={n}&material={n}");
        (0..60).filter(|n| from(parvis, &format!("192.0.2.{n}"), &target(*n)).status == 200).count()
    };
    let passed = crawl(&on);
    assert!((30..=33).contains(&passed), "a network's burst: {passed}");
    assert_eq!(from(&on, "192.0.2.1", "/women.html?color=1&p=2").status, 200);
    assert_eq!(from(&on, "198.51.100.1", "/women.html?color=1&size=1&material=1").status, 200);
    assert_eq!(crawl(&off), 60, "without the rules");
}

#[test]
fn facets_that_are_posted_count_as_those_that_are_asked_for() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    let posts = |n: &usize| {
        let target = format!("/women.html?color={n}&size={n}&material={n}");
        let headers = [HTML, BROWSER, ("X-Requested-With", "XMLHttpRequest")];
        let address = ("X-Forwarded-For", "192.0.2.1");
        parvis.ask("POST", &target, &[&headers[..], &[address]].concat(), b"").status == 200
    };
    let passed = (0..60).filter(posts).count();
    assert!((30..=33).contains(&passed), "{passed}");
}

/// A crawler with as many addresses as it likes keeps no session; visitors have one from their first page on.
#[test]
fn filters_that_are_not_stored_are_rendered_for_newcomers_within_a_tenth_of_a_worker() {
    let origin = slow_origin();
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    let crawl = |parvis: &Parvis| {
        let ask =
            |n: usize| from(parvis, &format!("198.51.{n}.1"), &format!("/women.html?color={n}"));
        (0..60).filter(|n| ask(*n).status == 200).count()
    };
    let passed = crawl(&on);
    // A second's worth, of some 60 ms each, and a little that comes back meanwhile.
    assert!((4..=25).contains(&passed), "{passed}");
    assert!(from(&on, "198.51.99.1", "/women.html?color=0").is_hit(), "what is stored is for all");
    assert_eq!(from(&on, "198.51.99.1", "/women.html").status, 200, "what is no filter, too");
    let session = ("Cookie", "PHPSESSID=0123456789abcdef0123456789");
    for n in 100..140 {
        let target = format!("/women.html?color={n}");
        let address = ("X-Forwarded-For", "198.51.99.1");
        let reply = on.get(&target, &[HTML, BROWSER, session, address]);
        assert_eq!(reply.status, 200, "{}", reply.cache_status());
    }
    assert_eq!(crawl(&off), 60, "without the rules");
}

#[test]
fn the_doors_that_guesses_come_in_by_have_a_budget() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    for (method, target) in [
        ("PUT", "/rest/V1/guest-carts/abc/order"),
        ("POST", "/rest/default/async/V1/integration/customer/token"),
        ("POST", "/rest/async/V1/integration/customer/token"),
        ("POST", "/rest/V1/tfa/provider/google/authenticate"),
        ("POST", "/customer/account/createPost/"),
        ("POST", "/paypal/express/placeOrder/"),
    ] {
        let headers = [("X-Forwarded-For", "192.0.2.1"), ("Cookie", "PHPSESSID=abc")];
        let ask = |_: &usize| parvis.ask(method, target, &headers, b"{}").status == 200;
        let passed = (0..30).filter(ask).count();
        assert!(passed <= 11, "{target}: {passed}");
    }
}

#[test]
fn a_verified_googlebot_crawls_and_who_takes_its_name_is_challenged() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let dns = Dns::start(&["--host-record=host.example,203.0.113.4"]);
    let parvis = Parvis::before_http(origin.port)
        .with("bots.resolvers", &format!("[\"{}\"]", dns.address()))
        .start();
    let googlebot =
        ("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");
    let ask = |address: &str, target: &str| {
        parvis.get(target, &[HTML, googlebot, ("X-Forwarded-For", address)])
    };
    assert_eq!(ask("66.249.66.1", "/robots.txt").status, 200);
    for number in 0..300 {
        let reply = ask("66.249.66.1", &format!("/product-{number}.html"));
        assert_eq!(reply.status, 200, "{}", reply.cache_status());
        let variant = format!("/product.html?size={number}&color={number}");
        let reply = ask("66.249.66.1", &variant);
        assert_eq!(reply.status, 200, "{}", reply.cache_status());
    }
    for number in 0..40 {
        let target = format!("/women.html?color={number}&size={number}&material={number}");
        let reply = ask("66.249.66.1", &target);
        assert!(!reply.text().contains("data-puzzle"), "no bot solves one: {}", reply.text());
    }
    let is_challenged = || ask("203.0.113.4", "/product-1.html").text().contains("data-puzzle");
    wait_until("DNS to convict the other one", Duration::from_secs(10), is_challenged);
}
