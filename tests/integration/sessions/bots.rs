//! Declared bots get pages without a session, where the settings say so.

use std::time::Duration;

use serde_json::Value;

use super::super::support::parvis::{Builder, Parvis};
use super::super::support::php::Php;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;
use super::super::support::{Reply, get};

const BOT: (&str, &str) = ("User-Agent", "Googlebot/2.1 (+http://www.google.com/bot.html)");
const BROWSER: (&str, &str) =
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0");
const SESSION: &str = "PHPSESSID=im2tov5730esfpirp7tijom7dv";

fn shop() -> (Redis, Php) {
    let redis = Redis::start();
    let php = Php::with_sessions(&format!("unix:{}", redis.socket().display()), 4);
    (redis, php)
}

/// With a place where PHP could connect to, so that throwaway sessions are given out. PHP keeps on
/// using the Redis, to show which ids it was given, unless a test tells it to use that place.
fn before(php: &Php, redis: &Redis) -> Builder {
    let socket = format!("\"unix:{}/sessions.sock\"", redis.directory().display());
    Parvis::before_php(php)
        .with("redis.url", &format!("\"{}\"", redis.url()))
        .with("sessions.listen", &socket)
        .with("sessions.bots", "\"none\"")
}

fn told(reply: &Reply) -> Value {
    serde_json::from_str(&reply.text()).unwrap_or_else(|_| panic!("no JSON: {}", reply.text()))
}

fn has_throwaway(reply: &Reply) -> bool {
    told(reply)["cookie"].as_str().is_some_and(|id| id.len() == 40)
}

fn names_a_session(reply: &Reply) -> bool {
    reply.all("set-cookie").iter().any(|line| line.starts_with("PHPSESSID="))
}

#[test]
fn a_declared_bot_gets_its_pages_without_a_session() {
    let (redis, php) = shop();
    let parvis = before(&php, &redis).start();
    for target in ["/page?cacheable=600", "/wishlist/index", "/customer/account"] {
        let reply = parvis.get(target, &[BOT]);
        assert!(has_throwaway(&reply), "{target}: {}", reply.text());
        assert!(!names_a_session(&reply), "{target}");
    }
}

#[test]
fn visitors_and_what_has_a_session_are_no_bots() {
    let (redis, php) = shop();
    let parvis = before(&php, &redis).start();
    let own = parvis.get("/customer/account", &[BOT, ("Cookie", SESSION)]);
    assert_eq!(format!("PHPSESSID={}", told(&own)["cookie"].as_str().unwrap_or("")), SESSION);
    let posted = parvis.ask("POST", "/contact/post", &[BOT], b"x=1");
    assert!(names_a_session(&posted) && !has_throwaway(&posted));
    let browser = parvis.get("/customer/account", &[BROWSER]);
    assert!(names_a_session(&browser) && !has_throwaway(&browser));
}

#[test]
fn bots_get_a_session_where_the_settings_say_so() {
    let (redis, php) = shop();
    let parvis = before(&php, &redis).with("sessions.bots", "\"session\"").start();
    let reply = parvis.get("/customer/account", &[BOT]);
    assert!(names_a_session(&reply) && !has_throwaway(&reply));
}

fn sessions_in(redis: &Redis) -> String {
    redis.ask(&["-n", "2", "--scan", "--pattern", "sess_*"])
}

#[test]
fn neither_a_bot_nor_a_shared_page_leaves_a_session_in_redis() {
    let redis = Redis::start();
    let store = format!("unix:{}/sessions.sock", redis.directory().display());
    let php = Php::with_sessions(&store, 4);
    let parvis = before(&php, &redis).with("sessions.fill_cookie", "\"drop\"").start();
    for target in ["/page?cacheable=600", "/wishlist/index", "/customer/account"] {
        let told = told(&parvis.get(target, &[BOT]));
        assert_eq!((&told["locked"], &told["written"]), (&true.into(), &true.into()), "{told}");
    }
    let told_browser = told(&parvis.get("/other?cacheable=600", &[BROWSER, ("Cookie", SESSION)]));
    assert_eq!((&told_browser["locked"], &told_browser["visits"]), (&true.into(), &1.into()));
    assert_eq!(sessions_in(&redis), "");
    let own = parvis.get("/customer/account", &[BROWSER, ("Cookie", SESSION)]);
    assert_eq!(told(&own)["visits"], 1);
    assert_eq!(sessions_in(&redis), format!("sess_{}", &SESSION["PHPSESSID=".len()..]));
}

#[test]
fn the_checker_of_what_is_left_fails_where_bots_get_sessions() {
    let redis = Redis::start();
    let store = format!("unix:{}/sessions.sock", redis.directory().display());
    let php = Php::with_sessions(&store, 4);
    let parvis = before(&php, &redis).with("sessions.bots", "\"session\"").start();
    parvis.get("/customer/account", &[BOT]);
    assert!(sessions_in(&redis).starts_with("sess_"));
}

#[test]
fn parvis_sessions_names_the_path_that_holds_a_lock_and_no_id() {
    let redis = Redis::start();
    let store = format!("unix:{}/sessions.sock", redis.directory().display());
    let php = Php::with_sessions(&store, 4);
    let parvis = before(&php, &redis).start();
    let port = parvis.port;
    let slow = std::thread::spawn(move || {
        let target = "/checkout/cart/add/product/77/?hold=3000&secret=x";
        get(port, target, &[BROWSER, ("Cookie", SESSION)])
    });
    let shown = || get(parvis.control, "/sessions", &[]).text();
    wait_until("the lock is seen", Duration::from_secs(10), || shown().contains("/checkout/"));
    let text = shown();
    assert!(text.contains("\"GET /checkout/cart/add/product/*/\""), "{text}");
    for secret in ["im2tov", "secret", "77", "shop.test"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    slow.join().expect("a reply");
    assert!(!shown().contains("/checkout/"), "{}", shown());
}
