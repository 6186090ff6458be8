//! A fill for everybody goes to PHP without the session of the visitor who happens to lead it.

use std::time::Duration;

use serde_json::Value;

use super::super::support::Reply;
use super::super::support::parvis::{Builder, Parvis};
use super::super::support::php::Php;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;

const SESSION: &str = "im2tov5730esfpirp7tijom7dv";
const COOKIE: (&str, &str) = ("Cookie", "a=1; PHPSESSID=im2tov5730esfpirp7tijom7dv; b=2");

fn shop() -> (Redis, Php) {
    let redis = Redis::start();
    let php = Php::with_sessions(&format!("unix:{}", redis.socket().display()), 4);
    (redis, php)
}

fn before(php: &Php) -> Builder {
    let parvis = Parvis::before_php(php).with("site.cookies_to_fetcher", "true");
    parvis.with("sessions.fill_cookie", "\"drop\"")
}

fn told(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_str(&reply.text()).unwrap_or_else(|_| panic!("no JSON: {}", reply.text()))
}

fn names_a_session(reply: &Reply) -> bool {
    reply.all("set-cookie").iter().any(|line| line.starts_with("PHPSESSID="))
}

/// Somebody holds the lock of the session, and will not let go.
fn lock(redis: &Redis) {
    redis.ask(&["-n", "2", "hset", &format!("sess_{SESSION}"), "lock", "1", "pid", "other|1"]);
}

#[test]
fn a_shared_page_waits_for_nobodys_session_and_replaces_none() {
    let (redis, php) = shop();
    lock(&redis);
    let parvis = before(&php).start();
    let reply = parvis.get("/page?cacheable=600", &[COOKIE]);
    let told = told(&reply);
    assert_eq!((&told["tries"], &told["cookie"]), (&1.into(), &Value::Null), "{told}");
    assert!(!names_a_session(&reply), "it would replace the session of the one who leads");
    let is_hit = || parvis.get("/page?cacheable=600", &[COOKIE]).is_hit();
    wait_until("storing", Duration::from_secs(5), is_hit);
}

#[test]
fn the_checker_of_waiting_fails_where_fills_keep_the_session() {
    let (redis, php) = shop();
    lock(&redis);
    let parvis = before(&php).with("sessions.fill_cookie", "\"keep\"").start();
    let reply = parvis.get("/page?cacheable=600&break_after=0.5", &[COOKIE]);
    let told = told(&reply);
    assert!(told["tries"].as_u64() > Some(1), "{told}");
    assert_eq!(told["cookie"], SESSION);
    assert!(names_a_session(&reply));
}

#[test]
fn a_page_that_proves_to_be_the_visitors_own_is_rendered_with_the_session() {
    let (_redis, php) = shop();
    let parvis = before(&php).start();
    for (target, visits) in [("/wishlist/index?x=1", 1), ("/wishlist/index?x=2", 2)] {
        let reply = parvis.get(target, &[COOKIE]);
        let told = told(&reply);
        assert_eq!((&told["id"], &told["visits"]), (&SESSION.into(), &visits.into()), "{told}");
        assert!(names_a_session(&reply));
    }
}

#[test]
fn below_a_path_that_was_the_visitors_own_php_is_asked_once() {
    let (redis, php) = shop();
    let parvis = before(&php).start();
    let sessions = || redis.ask(&["-n", "2", "dbsize"]).parse::<u32>().expect("a number");
    parvis.get("/wishlist/index?x=1", &[COOKIE]);
    assert_eq!(sessions(), 2, "that of the first try, and the visitor's");
    parvis.get("/wishlist/index?x=2", &[COOKIE]);
    assert_eq!(sessions(), 2, "the session came along at once");
    parvis.get("/other?x=1", &[COOKIE]);
    assert_eq!(sessions(), 3);
}

#[test]
fn a_visitor_without_a_session_gets_one_with_a_page_of_their_own() {
    let (_redis, php) = shop();
    let parvis = before(&php).start();
    assert!(names_a_session(&parvis.get("/contact", &[])));
}

#[test]
fn a_variant_is_rendered_with_the_session_that_it_needs() {
    let (_redis, php) = shop();
    let parvis = before(&php).start();
    let cookies = format!("X-Magento-Vary=abc; PHPSESSID={SESSION}");
    let reply = parvis.get("/page?cacheable=600", &[("Cookie", &cookies)]);
    assert_eq!(told(&reply)["cookie"], SESSION);
}

#[test]
fn the_administrations_session_stays_with_its_requests() {
    let (_redis, php) = shop();
    let parvis = before(&php).start();
    let cookies = format!("admin=x; PHPSESSID={SESSION}");
    let reply = parvis.get("/admin/page?cacheable=600", &[("Cookie", &cookies)]);
    assert_eq!(told(&reply)["cookie"], SESSION);
}

#[test]
fn a_page_that_was_shared_once_waits_for_nobodys_session_after_its_purge() {
    let (redis, php) = shop();
    let parvis = Parvis::before_php(&php).start();
    let first = parvis.get("/page?cacheable=600", &[COOKIE]);
    assert_eq!(told(&first)["cookie"], SESSION, "nobody knows yet that it is for all");
    assert_eq!(parvis.purge_tag("cat_p_1").status, 200);
    lock(&redis);
    let told = told(&parvis.get("/page?cacheable=600", &[COOKIE]));
    assert_eq!((&told["tries"], &told["cookie"]), (&1.into(), &Value::Null), "{told}");
}

#[test]
fn php_is_asked_once_for_a_page_that_nobody_knows() {
    let (redis, php) = shop();
    let parvis = Parvis::before_php(&php).start();
    let told = told(&parvis.get("/newsletter/confirm?x=1", &[COOKIE]));
    assert_eq!((&told["id"], &told["visits"]), (&SESSION.into(), &1.into()), "{told}");
    assert_eq!(redis.ask(&["-n", "2", "dbsize"]), "1", "no other session was begun for it");
}
