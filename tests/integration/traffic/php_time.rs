//! PHP's time is charged to who asked for it, and what is stored costs none.

use std::io::Write;
use std::time::{Duration, Instant};

use super::super::support::Parvis;
use super::super::support::client::Client;
use super::super::support::origin::{Origin, page};
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;
use super::{BROWSER, HTML, from, on_and_off, rule, store};

/// Takes its time for each page.
pub(super) fn slow_origin() -> Origin {
    Origin::start(|seen, stream| {
        std::thread::sleep(Duration::from_millis(60));
        let cacheable = page("page", "cat_p_1");
        let text = String::from_utf8(cacheable).expect("text");
        let text = if seen.target.starts_with("/private") {
            text.replace("max-age=86400, public, s-maxage=86400", "private")
        } else {
            text
        };
        let _ = stream.write_all(text.as_bytes());
    })
}

#[test]
fn who_has_used_up_php_gets_429_for_what_needs_it_and_hits_all_the_same() {
    let origin = slow_origin();
    let limit = "do = \"limit\"\nphp = \"50ms/1h\"";
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port).with_toml(&rule("php", limit)));
    assert_eq!(from(&on, "192.0.2.1", "/x").status, 200);
    store(&on, "/x");
    assert!(from(&on, "192.0.2.1", "/x").is_hit(), "what is stored costs nothing");
    let asked = origin.count();
    let spent = from(&on, "192.0.2.1", "/y");
    assert_eq!(spent.status, 429);
    assert_eq!(spent.cache_status(), "parvis; detail=rule-php");
    assert!(spent.header("retry-after").is_some());
    assert_eq!(on.ask("POST", "/z", &[("X-Forwarded-For", "192.0.2.1")], b"a=1").status, 429);
    assert_eq!(origin.count(), asked);
    assert!(from(&on, "192.0.2.1", "/x").is_hit());
    assert_eq!(from(&on, "192.0.2.2", "/y").status, 200, "another one's account");
    let counted = on.metric("parvis_traffic_rule_php_seconds_total{rule=\"php\"}");
    assert!(counted >= Some(0.1), "{counted:?}");
    for target in ["/x", "/y"] {
        assert_eq!(from(&off, "192.0.2.1", target).status, 200, "without the rules");
    }
}

#[test]
fn what_passes_is_charged_as_well() {
    let origin = slow_origin();
    let limit = "do = \"limit\"\nphp = \"50ms/1h\"\nper = \"rule\"";
    let parvis = Parvis::before_http(origin.port).with_toml(&rule("php", limit)).start();
    assert_eq!(from(&parvis, "192.0.2.1", "/private").status, 200);
    assert_eq!(from(&parvis, "192.0.2.2", "/private").status, 429, "one account for all");
}

#[test]
fn a_client_that_gives_up_in_the_queue_is_not_charged_for_its_wait() {
    let origin = Origin::start(|seen, stream| {
        if seen.target == "/held" {
            std::thread::sleep(Duration::from_secs(2));
        }
        let _ = stream.write_all(&page("page", "t"));
    });
    let rules = rule("held", "do = \"allow\"\npaths = [\"/held\"]")
        + &rule("php", "do = \"limit\"\nphp = \"1000s/1day\"");
    let parvis = Parvis::before_http(origin.port)
        .with("origin.concurrency_max", "1")
        .with("admission.limit_min", "1")
        .with_toml(&rules)
        .start();
    std::thread::scope(|scope| {
        scope.spawn(|| parvis.ask("POST", "/held", &[], b"a=1"));
        wait_until("PHP to work", Duration::from_secs(10), || origin.count() == 1);
        let began = Instant::now();
        let mut impatient = Client::connect(parvis.port);
        impatient.send(b"POST /x HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\na=1");
        wait_until("the queue", Duration::from_secs(10), || {
            parvis.metric("parvis_origin_queued ") == Some(1.0)
        });
        std::thread::sleep(Duration::from_millis(500));
        drop(impatient);
        wait_until("it to leave", Duration::from_secs(10), || {
            parvis.metric("parvis_origin_queued ") == Some(0.0)
        });
        let waited = began.elapsed().as_secs_f64();
        let charged = parvis.metric("parvis_traffic_rule_php_seconds_total{rule=\"php\"}");
        assert!(charged < Some(waited / 4.0), "{charged:?} of {waited} seconds in the queue");
        assert_eq!(origin.count(), 1, "PHP never saw it");
    });
}

#[test]
fn what_offers_an_upgrade_is_charged_as_well() {
    let origin = slow_origin();
    let limit = "do = \"limit\"\nphp = \"50ms/1h\"";
    let parvis = Parvis::before_http(origin.port).with_toml(&rule("php", limit)).start();
    let offer = |address: &str| {
        let fields =
            [("X-Forwarded-For", address), ("Connection", "Upgrade"), ("Upgrade", "websocket")];
        Client::connect(parvis.port).ask("GET", "/x", &fields, b"").status
    };
    assert_eq!(offer("192.0.2.1"), 200);
    assert_eq!(offer("192.0.2.1"), 429);
    assert_eq!(offer("192.0.2.2"), 200, "another one's account");
}

#[test]
fn who_asked_when_php_began_is_charged_though_that_is_forgotten_meanwhile() {
    let redis = Redis::start();
    let socket = format!("unix:{}/sessions.sock", redis.directory().display());
    let logged_in = "customer_base|a:1:{s:11:\"customer_id\";s:1:\"7\";}";
    redis.ask(&["-n", "2", "hset", "sess_a", "data", logged_in]);
    let origin = Origin::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(1_500));
        let _ = stream.write_all(&page("page", "t"));
    });
    let limit =
        "do = \"limit\"\nwho = [\"stranger\", \"customer\"]\nphp = \"1s/1h\"\nper = \"class\"";
    let parvis = Parvis::before_http(origin.port)
        .with("sessions.url", &format!("\"{}\"", redis.url()))
        .with("sessions.listen", &format!("\"{socket}\""))
        .with("sessions.visitor_ttl", "\"500ms\"")
        .with("sessions.visitor_wait", "\"10s\"")
        .with_toml(&rule("customers", limit))
        .start();
    let ask = |target: &str| parvis.get(target, &[HTML, BROWSER, ("Cookie", "PHPSESSID=a")]).status;
    assert_eq!(ask("/x"), 200);
    let charged = parvis.metric("parvis_traffic_rule_php_seconds_total{rule=\"customers\"}");
    assert!(charged >= Some(1.0), "{charged:?}");
    assert_eq!(ask("/y"), 429, "the second that customers have in an hour is spent");
}
