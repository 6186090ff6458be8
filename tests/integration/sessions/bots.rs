//! Declared bots get pages without a session, where the settings say so.

use serde_json::Value;

use super::super::support::Reply;
use super::super::support::parvis::{Builder, Parvis};
use super::super::support::php::Php;
use super::super::support::redis::Redis;

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
/// using the Redis, to show which ids it was given.
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
