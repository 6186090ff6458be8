//! Who the visitors are whose requests go to PHP, by their sessions' records.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::php::Php;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;

const CUSTOMER: &str = r#"customer_base|a:1:{s:11:"customer_id";s:1:"7";}"#;
const ID: &str = "im2tov5730esfpirp7tijom7dv";

fn is_counted(parvis: &Parvis, class: &str, times: f64) {
    let name = format!("parvis_sessions_php_{class}_total");
    wait_until(&name, Duration::from_secs(5), || parvis.metric(&name) == Some(times));
}

#[test]
fn requests_to_php_are_counted_by_what_their_sessions_record_says() {
    let redis = Redis::start();
    let socket = format!("unix:{}/sessions.sock", redis.directory().display());
    let php = Php::with_sessions(&socket, 2);
    let parvis = Parvis::before_php(&php)
        .with("redis.url", &format!("\"{}\"", redis.url()))
        .with("sessions.listen", &format!("\"{socket}\""))
        .start();
    let customer = format!("PHPSESSID={ID}");
    redis.ask(&["-n", "2", "hset", &format!("sess_{ID}"), "data", CUSTOMER]);
    redis.ask(&["-n", "2", "hset", "sess_odd", "data", "no record"]);
    for (cookie, class) in
        [(customer.as_str(), "customer"), ("PHPSESSID=odd", "unknown"), ("PHPSESSID=new", "new")]
    {
        // Not a bot's, and nobody's hit.
        let headers = [("Cookie", cookie), ("User-Agent", "Firefox")];
        assert_eq!(parvis.get("/customer/account", &headers).status, 200);
        is_counted(&parvis, class, 1.0);
    }
    let cached = [("Cookie", customer.as_str())];
    let is_hit = || parvis.get("/page?cacheable=600", &cached).is_hit();
    wait_until("storing", Duration::from_secs(5), is_hit);
    let before = parvis.metric("parvis_sessions_php_customer_total");
    assert!(parvis.get("/page?cacheable=600", &cached).is_hit());
    assert_eq!(parvis.metric("parvis_sessions_php_customer_total"), before, "a hit asks nobody");
}
