//! What Parvis shows of itself: log, metrics, headers.

use std::io::Write;
use std::time::Duration;

use super::support::origin::{Origin, page};
use super::support::process::wait_until;
use super::support::{Parvis, get};

fn node() -> (Origin, Parvis) {
    let origin = Origin::start(|seen, stream| {
        if seen.target.starts_with("/private") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        } else {
            let _ = stream.write_all(&page("x", "t"));
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    (origin, parvis)
}

#[test]
fn a_reason_is_the_same_word_in_header_log_and_metric() {
    let (_origin, parvis) = node();
    for (target, method, word) in [
        ("/p", "GET", "cold"),
        ("/p", "POST", "method"),
        ("/checkout/", "GET", "bypass-path"),
        ("/private", "GET", "private"),
    ] {
        let reply = parvis.ask(method, target, &[], b"");
        assert!(
            reply.cache_status().contains(&format!("detail={word}")),
            "{word}: {}",
            reply.cache_status()
        );
        let logged = || {
            parvis
                .access_log()
                .lines()
                .any(|line| line.contains(target) && line.contains(&format!("\"{word}\"")))
        };
        wait_until(word, Duration::from_secs(5), logged);
        let counter = format!("reason=\"{word}\"");
        wait_until(&counter, Duration::from_secs(5), || {
            let text = get(parvis.control, "/metrics", &[]).text();
            text.lines().any(|line| line.contains(&counter) && !line.ends_with(" 0"))
        });
    }
}

#[test]
fn each_line_of_the_access_log_is_json_and_holds_no_cookie() {
    let (_origin, parvis) = node();
    let agent = ("User-Agent", "a\"b\\c");
    parvis.get("/p?q=%22%0a'", &[("Cookie", "PHPSESSID=secretvalue"), agent]);
    parvis.get("/x?SID=secretvalue", &[]);
    wait_until("lines", Duration::from_secs(5), || parvis.access_log().lines().count() >= 2);
    for line in parvis.access_log().lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    assert!(!parvis.access_log().contains("secretvalue"), "{}", parvis.access_log());
}

#[test]
fn the_gauges_return_to_zero_after_a_flush() {
    let (_origin, parvis) = node();
    for number in 0..30 {
        parvis.get(&format!("/p/{number}"), &[]);
    }
    let objects = || {
        parvis
            .metric("parvis_store_objects ")
            .or_else(|| parvis.metric("parvis_store_objects"))
            .expect("a gauge")
    };
    wait_until("objects", Duration::from_secs(5), || objects() >= 30.0);
    parvis.ask("PURGE", "/", &[("X-Magento-Tags-Pattern", ".*")], b"");
    wait_until("zero", Duration::from_secs(5), || objects() == 0.0);
}

#[test]
fn the_vcls_debugging_headers_come_in_developer_mode() {
    let origin = Origin::start(|_, stream| {
        let text = String::from_utf8(page("x", "t"))
            .expect("text")
            .replace("X-Magento-Tags", "X-Magento-Debug: 1\r\nX-Magento-Tags");
        let _ = stream.write_all(text.as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    assert_eq!(parvis.get("/p", &[]).header("x-magento-cache-debug"), Some("MISS"));
    wait_until("a hit", Duration::from_secs(5), || {
        parvis.get("/p", &[]).header("x-magento-cache-debug") == Some("HIT")
    });
    assert!(parvis.get("/p", &[]).header("x-magento-debug").is_none());
}

#[test]
fn metrics_are_there_for_latency_and_the_origin() {
    let (_origin, parvis) = node();
    parvis.get("/p", &[]);
    wait_until("counts", Duration::from_secs(5), || {
        let text = get(parvis.control, "/metrics", &[]).text();
        ["_bucket", "# HELP", "# TYPE", "verdict=\"miss\""].iter().all(|part| text.contains(part))
    });
}
