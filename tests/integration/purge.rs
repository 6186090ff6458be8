//! Magento's purges, byte for byte, and who may send them.

use std::io::Write;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::raw;
use super::support::corpus;
use super::support::origin::{Origin, Seen, page};
use super::support::process::wait_until;
use super::support::{Parvis, get};

/// Pages whose tags are named by their path: `/cat_p_1,cat_c_2`.
fn tagged() -> Origin {
    Origin::start(|seen: &Seen, stream| {
        let tags = seen.target.trim_start_matches('/').to_owned();
        let _ = stream.write_all(&page(&format!("version {}", seen.number), &tags));
    })
}

fn store(parvis: &Parvis, target: &str) {
    parvis.get(target, &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get(target, &[]).is_hit());
}

#[test]
fn each_recorded_purge_removes_what_it_names_and_nothing_else() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    for (event, purge) in corpus::purges() {
        let pattern = purge
            .split("X-Magento-Tags-Pattern: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        let pattern = pattern.expect("a pattern");
        let first = pattern.split("(^|,)").nth(1).and_then(|rest| rest.split("(,|$)").next());
        let first = first.unwrap_or("everything");
        let (named, other) = (format!("/shared_tag,{first}"), format!("/shared_tag,{first}_other"));
        store(&parvis, &named);
        store(&parvis, &other);
        let began = Instant::now();
        let answer =
            raw(parvis.port, purge.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{event}: {answer}");
        assert!(began.elapsed() < Duration::from_secs(2), "{event}: Magento would wait");
        assert!(!parvis.get(&named, &[]).is_hit(), "{event}: {named} survived");
        assert_eq!(parvis.get(&other, &[]).is_hit(), pattern != ".*", "{event}: {other}");
    }
}

#[test]
fn a_purge_is_answered_with_a_length_on_a_connection_that_stays_and_on_one_that_closes() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    let reply = parvis.purge_tag("cat_p_1");
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-length").is_some());
    let closing = raw(
        parvis.port,
        b"PURGE / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Magento-Tags-Pattern: .*\r\nConnection: close\r\n\r\n",
    );
    assert!(closing.starts_with(b"HTTP/1.1 200"));
    let without_host = raw(parvis.port, b"PURGE / HTTP/1.0\r\nX-Magento-Tags-Pattern: .*\r\n\r\n");
    assert!(without_host.starts_with(b"HTTP/1.1 200") || without_host.starts_with(b"HTTP/1.0 200"));
}

#[test]
fn a_purge_says_how_many_responses_it_reached() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    for target in ["/cat_p_1,a", "/cat_p_1,b", "/cat_p_2"] {
        store(&parvis, target);
    }
    assert_eq!(parvis.purge_tag("cat_p_1").header("x-parvis-purged"), Some("2"));
    assert_eq!(parvis.purge_tag("cat_p_1").header("x-parvis-purged"), Some("0"));
}

#[test]
fn a_purge_without_a_pattern_is_400_or_purges_the_url_where_a_setting_says_so() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/a");
    assert_eq!(parvis.ask("PURGE", "/a", &[], b"").status, 400);
    assert!(parvis.get("/a", &[]).is_hit());
    let parvis = Parvis::before_http(origin.port).with("purge.without_pattern", "\"url\"").start();
    store(&parvis, "/a");
    store(&parvis, "/b");
    let vary = [("Cookie", "X-Magento-Vary=abc")];
    parvis.get("/a", &vary);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/a", &vary).is_hit());
    assert_eq!(parvis.ask("PURGE", "/a", &[], b"").status, 200);
    assert!(!parvis.get("/a", &[]).is_hit());
    assert!(!parvis.get("/a", &vary).is_hit(), "a variant of the URL survived");
    assert!(parvis.get("/b", &[]).is_hit());
}

#[test]
fn a_purge_from_outside_the_acl_or_with_forged_forwarding_headers_is_405() {
    let origin = tagged();
    let everything = ("X-Magento-Tags-Pattern", ".*");
    let parvis = Parvis::before_http(origin.port).with("purge.allow", "[\"10.1.2.3\"]").start();
    store(&parvis, "/a");
    assert_eq!(parvis.ask("PURGE", "/", &[everything], b"").status, 405);
    let from_allowed = [everything, ("X-Forwarded-For", "10.1.2.3")];
    assert_eq!(
        parvis.ask("PURGE", "/", &from_allowed, b"").status,
        200,
        "judged by the resolved client"
    );
    let parvis = Parvis::before_http(origin.port).with("listen.trusted", "[]").start();
    store(&parvis, "/a");
    let forged = [everything, ("X-Forwarded-For", "127.0.0.1")];
    assert_eq!(parvis.ask("PURGE", "/", &forged, b"").status, 405);
    assert!(parvis.get("/a", &[]).is_hit());
}

#[test]
fn a_pool_is_purged_by_its_name() {
    let origin = Origin::start(|seen, stream| {
        let pool = seen.target.trim_start_matches('/');
        let response = page("x", "t");
        let text = String::from_utf8_lossy(&response)
            .replace("X-Magento-Tags", &format!("X-Pool: {pool}\r\nX-Magento-Tags"));
        let _ = stream.write_all(text.as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/blue");
    store(&parvis, "/green");
    assert_eq!(parvis.ask("PURGE", "/", &[("X-Pool", "blue")], b"").status, 200);
    assert!(!parvis.get("/blue", &[]).is_hit());
    assert!(parvis.get("/green", &[]).is_hit());
}

#[test]
fn a_pattern_that_is_a_real_regex_is_matched_and_a_broken_one_is_400() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/cat_p_17");
    store(&parvis, "/cat_p_27");
    assert_eq!(
        parvis.ask("PURGE", "/", &[("X-Magento-Tags-Pattern", "cat_p_1[0-9]")], b"").status,
        200
    );
    assert!(!parvis.get("/cat_p_17", &[]).is_hit());
    assert!(parvis.get("/cat_p_27", &[]).is_hit());
    assert_eq!(parvis.ask("PURGE", "/", &[("X-Magento-Tags-Pattern", "cat_p_(")], b"").status, 400);
    assert_eq!(
        parvis.ask("PURGE", "/", &[("X-Magento-Tags-Pattern", "((a{900}){900}){900}")], b"").status,
        400
    );
}

#[test]
fn a_fill_that_began_before_a_purge_is_not_stored_and_later_requests_do_not_join_it() {
    let origin = Origin::start(|seen, stream| {
        if seen.number == 0 {
            thread::sleep(Duration::from_millis(1500));
        }
        let _ = stream.write_all(&page(&format!("version {}", seen.number), "cat_p_1"));
    });
    let parvis = Parvis::before_http(origin.port).start();
    let port = parvis.port;
    let early = thread::spawn(move || get(port, "/p", &[]));
    wait_until("the fetch", Duration::from_secs(5), || origin.count() == 1);
    assert_eq!(parvis.purge_tag("cat_p_1").status, 200);
    let after = parvis.get("/p", &[]);
    assert_eq!(after.text(), "version 1", "a request after the purge saw what was rendered before");
    assert_eq!(early.join().expect("a reply").text(), "version 0");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(parvis.get("/p", &[]).text(), "version 1", "the fenced fill replaced the page");
}

#[test]
fn no_page_is_older_than_the_purge_that_was_answered_before_it_was_asked_for() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let version = Arc::new(AtomicU64::new(0));
    let of_origin = Arc::clone(&version);
    let origin = Origin::start(move |seen, stream| {
        let rendered = of_origin.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis((seen.number as u64 * 7) % 25));
        let _ = stream.write_all(&page(&format!("{rendered}"), "cat_p_1"));
    });
    let parvis = Parvis::before_http(origin.port).start();
    let purged = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(5));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (port, purged, barrier) = (parvis.port, Arc::clone(&purged), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                let mut client = super::support::client::Client::connect(port);
                for _ in 0..300 {
                    let least = purged.load(Ordering::SeqCst);
                    let seen: u64 =
                        client.ask("GET", "/p", &[], b"").text().parse().expect("a version");
                    assert!(
                        seen >= least,
                        "saw version {seen} after the purge of {least} was answered"
                    );
                }
            })
        })
        .collect();
    barrier.wait();
    for _ in 0..60 {
        let next = version.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(parvis.purge_tag("cat_p_1").status, 200);
        purged.store(next, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(10));
    }
    for reader in readers {
        reader.join().expect("no older page");
    }
}
