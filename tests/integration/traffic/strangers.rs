//! Who makes its session up.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;
use super::php_time::slow_origin;
use super::{BROWSER, HTML, rule};

const ID: &str = "im2tov5730esfpirp7tijom7dv";
const GUESTS: &str = "do = \"limit\"\nwho = [\"new-visitor\", \"stranger\"]\nfacets_min = 1\nphp = \"1s/1h\"\n\
                      per = \"rule\"\nbeyond = \"challenge\"\n";

/// Of so many filters that nobody has asked for, those that were rendered.
fn rendered(parvis: &Parvis, from: usize, cookie: impl Fn(usize) -> String) -> usize {
    let ask = |at: usize| {
        let address = format!("198.{}.{}.1", 18 + at / 250 % 2, at % 250);
        let cookie = cookie(at);
        let headers = [HTML, BROWSER, ("X-Forwarded-For", &*address), ("Cookie", &*cookie)];
        parvis.get(&format!("/women.html?color={at}"), &headers).status == 200
    };
    (from..from + 60).filter(|at| ask(*at)).count()
}

#[test]
fn made_up_sessions_share_one_account_and_real_ones_do_not() {
    let (origin, redis) = (slow_origin(), Redis::start());
    let socket = format!("unix:{}/sessions.sock", redis.directory().display());
    let node = |rules: &str| {
        Parvis::before_http(origin.port)
            .with("sessions.url", &format!("\"{}\"", redis.url()))
            .with("sessions.listen", &format!("\"{socket}\""))
            .with("sessions.visitor_wait", "\"1s\"")
            .with_toml(rules)
            .start()
    };
    redis.ask(&["-n", "2", "hset", &format!("sess_{ID}"), "data", "default|a:1:{s:1:\"a\";i:1;}"]);
    let parvis = node(&rule("guests", GUESTS));
    let made_up =
        |at: usize| format!("PHPSESSID=made-up-{at}; form_key=abc; mage-cache-storage=%7B%7D");
    let through = rendered(&parvis, 0, made_up);
    // A second's worth, of some 60 ms each.
    assert!((4..=25).contains(&through), "{through}");
    let own = |_: usize| format!("PHPSESSID={ID}");
    assert_eq!(rendered(&parvis, 1_000, own), 60, "a session that is one");
    let spent = rendered(&parvis, 2_000, |at| format!("form_key=key-{at}"));
    assert_eq!(spent, 0, "other cookies are no session");
    let asked = parvis.metric("parvis_traffic_rule_php_seconds_total{rule=\"guests\"}");
    assert!(asked.is_some_and(|spent| spent < 3.0), "real ones are not charged there: {asked:?}");
    let before = rendered(&parvis, 1_000, made_up);
    assert_eq!(before, 60, "what is stored is for all");
    drop(parvis);
    let without = GUESTS.replace(", \"stranger\"", "");
    let off = node(&rule("guests", &without));
    assert_eq!(rendered(&off, 3_000, made_up), 60, "where nobody asks whether a session is one");
}

#[test]
fn while_redis_is_away_nobody_is_a_stranger() {
    let (origin, mut redis) = (slow_origin(), Redis::start());
    let socket = format!("unix:{}/sessions.sock", redis.directory().display());
    let parvis = Parvis::before_http(origin.port)
        .with("sessions.url", &format!("\"{}\"", redis.url()))
        .with("sessions.listen", &format!("\"{socket}\""))
        .with_toml(&rule("guests", GUESTS))
        .start();
    redis.kill();
    let is_away = || {
        let cookie = ("Cookie", "PHPSESSID=a");
        parvis.get("/private", &[HTML, BROWSER, cookie]);
        parvis.metric("parvis_sessions_php_unknown_total") > Some(0.0)
    };
    wait_until("Redis is away", Duration::from_secs(10), is_away);
    let through = rendered(&parvis, 0, |at| format!("PHPSESSID=made-up-{at}"));
    assert_eq!(through, 60);
}
