//! Programs that do as visitors do: they get little of what only visitors need, and payment services, other systems and browsers
//! notice nothing.

use super::super::support::Parvis;
use super::super::support::client::Reply;
use super::super::support::origin::{Origin, page};
use super::php_time::slow_origin;
use super::{BROWSER, HTML, from, on_and_off, rule};

const SCRIPT: (&str, &str) = ("User-Agent", "python-requests/2.31.0");
const FORM_KEY: (&str, &str) = ("Cookie", "form_key=abcdefghijklmnop");

/// Of so many requests, one after the other, those that came through.
fn passed(count: usize, mut ask: impl FnMut(usize) -> Reply) -> usize {
    (0..count).filter(|at| ask(*at).status == 200).count()
}

fn posts(parvis: &Parvis, target: &str, address: &str, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[("X-Forwarded-For", address)], headers].concat();
    parvis.ask("POST", target, &headers, b"product=1&qty=1&form_key=abcdefghijklmnop")
}

#[test]
fn a_script_fills_ten_carts_at_once_from_an_address_and_twenty_from_a_network() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    let cart = |at: usize| format!("/checkout/cart/add/product/{at}/");
    let fill = |parvis: &Parvis, agent: &str, address: &dyn Fn(usize) -> String| {
        let headers = [("User-Agent", agent), FORM_KEY];
        passed(60, |at| posts(parvis, &cart(at), &address(at), &headers))
    };
    for (third, agent) in
        ["python-requests/2.31.0", "curl/8.5.0", "Go-http-client/2.0"].iter().enumerate()
    {
        let one = fill(&on, agent, &|_| format!("192.0.{third}.1"));
        assert!((10..=12).contains(&one), "{agent}: {one}");
        let many = fill(&on, agent, &|at| format!("198.51.{third}.{at}"));
        assert!((20..=23).contains(&many), "{agent}: {many}");
    }
    assert_eq!(fill(&off, SCRIPT.1, &|_| "192.0.2.1".to_owned()), 60, "without the rules");
}

#[test]
fn so_are_wishlists_forms_and_the_carts_of_guests_by_rest() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    let rest =
        ["/rest/V1/guest-carts", "/rest/default/V1/guest-carts/abc/items", "/rest/V1/customers"];
    for (number, target) in [
        "/wishlist/index/add/",
        "/de/wishlist/index/add/",
        "/customer/account/loginPost/",
        "/contact/index/post/",
    ]
    .iter()
    .chain(&rest)
    .enumerate()
    {
        let address = format!("203.0.{number}.1");
        let through = passed(60, |_| posts(&parvis, target, &address, &[SCRIPT, FORM_KEY]));
        assert!((10..=24).contains(&through), "{target}: {through}");
    }
}

#[test]
fn a_scripts_carts_get_a_tenth_of_a_worker_from_a_network_and_a_fifth_from_all() {
    let origin = slow_origin();
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    let fill = |parvis: &Parvis| {
        passed(60, |at| posts(parvis, "/checkout/cart/add/", &format!("198.51.{at}.1"), &[SCRIPT]))
    };
    let through = fill(&on);
    // Two seconds' worth, of some 60 ms each, and a little that comes back meanwhile.
    assert!((10..=50).contains(&through), "{through}");
    assert_eq!(fill(&off), 60, "without the rules");
}

#[test]
fn payment_services_other_systems_and_browsers_are_let_through() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    let go = ("User-Agent", "Go-http-client/1.1");
    for target in ["/paypal/ipn/", "/stripe/webhooks", "/mollie/checkout/webhook", "/adyen/webhook"]
    {
        let through = passed(80, |_| posts(&parvis, target, "192.0.2.1", &[go]));
        assert_eq!(through, 80, "{target}");
    }
    let token = ("Authorization", "Bearer abcdefghijklmnopqrstuvwxyz012345");
    for target in ["/rest/V1/guest-carts", "/rest/all/V1/customers", "/rest/V1/orders"] {
        let through = passed(200, |_| posts(&parvis, target, "192.0.2.1", &[SCRIPT, token]));
        assert_eq!(through, 200, "{target}");
    }
    let ajax = [
        BROWSER,
        ("Accept", "application/json, text/javascript, */*; q=0.01"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("Cookie", "PHPSESSID=0123456789abcdef0123456789; form_key=abcdefghijklmnop"),
    ];
    for target in ["/checkout/cart/add/", "/checkout/sidebar/removeItem/", "/wishlist/index/add/"] {
        let through = passed(200, |_| posts(&parvis, target, "192.0.2.1", &ajax));
        assert_eq!(through, 200, "{target}");
    }
    let app = ("User-Agent", "okhttp/4.12.0");
    let through = passed(200, |_| posts(&parvis, "/rest/V1/guest-carts", "192.0.2.1", &[app]));
    assert_eq!(through, 200, "an app of a shop");
}

#[test]
fn who_fills_carts_without_a_session_as_a_browser_has_a_third_of_a_worker_in_a_network() {
    let origin = slow_origin();
    let parvis = Parvis::before_http(origin.port).start();
    let fill = |third: usize, cookie: (&'static str, &'static str)| {
        let address = |at: usize| format!("198.51.{third}.{}", at % 250);
        passed(90, |at| posts(&parvis, "/checkout/cart/add/", &address(at), &[BROWSER, cookie]))
    };
    let through = fill(1, FORM_KEY);
    assert!((20..=80).contains(&through), "{through}");
    assert_eq!(fill(2, ("Cookie", "PHPSESSID=0123456789abcdef0123456789")), 90, "with a session");
}

#[test]
fn an_authorization_that_anybody_can_make_up_gives_no_more_than_a_workers_time() {
    let origin = slow_origin();
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    let app = ("User-Agent", "okhttp/4.12.0");
    let token = ("Authorization", "Bearer abcdefghijklmnopqrstuvwxyz012345");
    let fill = |parvis: &Parvis, who: (&str, &str), address: &str| {
        let ask = || posts(parvis, "/rest/V1/guest-carts", address, &[who, token]);
        std::thread::scope(|scope| {
            let some: Vec<_> = (0..8).map(|_| scope.spawn(|| passed(60, |_| ask()))).collect();
            some.into_iter().map(|some| some.join().expect("asked")).sum::<usize>()
        })
    };
    // Ten seconds' worth, of some 60 ms each, and what comes back meanwhile.
    for (who, address) in [(SCRIPT, "192.0.2.1"), (app, "203.0.113.1")] {
        let through = fill(&on, who, address);
        assert!((100..=400).contains(&through), "{who:?}: {through}");
    }
    assert_eq!(fill(&off, SCRIPT, "192.0.2.1"), 480, "without the rules");
}

/// What Magento's scripts do with it: the checkout shows `message`, the cart's form loads its page again.
#[test]
fn a_script_of_the_shop_gets_a_429_that_it_can_read() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"1/1h\"\nper = \"rule\"\nbeyond = ";
    let json = ("Content-Type", "application/json");
    let ajax = ("X-Requested-With", "XMLHttpRequest");
    for (beyond, reason, waits) in
        [("wait", "rule-limited", true), ("challenge", "rule-stored", true)]
    {
        let parvis = Parvis::before_http(origin.port)
            .with_toml(&rule("narrow", &format!("{limit}\"{beyond}\"")))
            .start();
        for (method, target, header) in [
            ("POST", "/rest/V1/guest-carts/abc/items", json),
            ("POST", "/checkout/cart/add/", ajax),
            ("GET", "/customer/section/load/?sections=cart", ajax),
        ] {
            let address = ("X-Forwarded-For", "192.0.2.1");
            let ask = || parvis.ask(method, target, &[BROWSER, header, address], b"{}");
            ask();
            let reply = ask();
            let what = format!("{method} {target}: {}", reply.cache_status());
            assert_eq!(reply.status, 429, "{what}");
            assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
            let told: serde_json::Value = serde_json::from_str(&reply.text()).expect("JSON");
            assert_eq!((&told["status"], &told["reason"]), (&429.into(), &reason.into()), "{what}");
            assert!(told["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
            let again = reply.header("retry-after").and_then(|text| text.parse::<u64>().ok());
            assert_eq!(told["retry_after_seconds"].as_u64(), again, "{what}");
            assert_eq!(again.is_some_and(|seconds| seconds > 0), waits, "{what}");
        }
    }
    let parvis =
        Parvis::before_http(origin.port).with_toml(&rule("puzzle", "do = \"challenge\"")).start();
    let reply = parvis.get("/women.html?color=1", &[HTML, BROWSER, ajax]);
    let told: serde_json::Value = serde_json::from_str(&reply.text()).expect("JSON");
    assert_eq!((reply.status, &told["reason"]), (429, &"challenge".into()));
    assert!(
        told["message"].is_string() && told["retry_after_seconds"].is_null(),
        "waiting is no help"
    );
    assert!(
        from(&parvis, "192.0.2.1", "/women.html").text().contains("data-puzzle"),
        "loading the page is"
    );
}
