//! One fetch per key, however many wait.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::origin::{Origin, page};
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

fn at_once(parvis: &Parvis, requests: usize, target: &'static str) -> Vec<Reply> {
    let (port, barrier) = (parvis.port, Arc::new(Barrier::new(requests)));
    let threads: Vec<_> = (0..requests)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let mut client = Client::connect(port);
                barrier.wait();
                client.ask("GET", target, &[], b"")
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("a reply")).collect()
}

fn slow_page(pause: Duration) -> Origin {
    Origin::start(move |seen, stream| {
        thread::sleep(pause);
        let content = format!("render {}", seen.number);
        let _ = stream.write_all(&page(&content, "cat_p_1"));
    })
}

#[test]
fn of_many_coalesced_requests_one_says_miss_and_the_rest_hit() {
    let origin = slow_page(Duration::from_millis(500));
    let parvis = Parvis::before_http(origin.port).start();
    let replies = at_once(&parvis, 40, "/p");
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text() == "render 0"));
    assert_eq!(origin.count(), 1, "one fetch per key");
    assert_eq!(replies.iter().filter(|reply| !reply.is_hit() && !reply.is_collapsed()).count(), 1);
}

#[test]
fn the_checker_of_coalescing_fails_where_nobody_waits() {
    let origin = slow_page(Duration::from_millis(500));
    let parvis = Parvis::before_http(origin.port).with("fill.wait_timeout", "\"1ms\"").start();
    at_once(&parvis, 10, "/p");
    assert!(origin.count() > 1, "the mechanism is off, and it shows");
}

#[test]
fn requests_for_different_keys_do_not_wait_for_each_other() {
    let origin = Origin::start(|seen, stream| {
        if seen.target == "/slow" {
            thread::sleep(Duration::from_secs(2));
        }
        let _ = stream.write_all(&page("x", "t"));
    });
    let parvis = Parvis::before_http(origin.port).start();
    let port = parvis.port;
    let slow = thread::spawn(move || super::support::get(port, "/slow", &[]));
    thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    assert_eq!(parvis.get("/fast", &[]).status, 200);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(slow.join().expect("a reply").status, 200);
}

#[test]
fn the_leader_going_away_does_not_stop_the_fetch() {
    let origin = slow_page(Duration::from_millis(600));
    let parvis = Parvis::before_http(origin.port).start();
    let mut leader = Client::connect(parvis.port);
    leader.send(b"GET /p HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    wait_until("the fetch", Duration::from_secs(5), || origin.count() == 1);
    drop(leader);
    let reply = parvis.get("/p", &[]);
    assert_eq!((reply.status, reply.text().as_str()), (200, "render 0"));
    assert_eq!(origin.count(), 1);
}

#[test]
fn waiters_stream_a_response_as_it_arrives() {
    let origin = Origin::start(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Magento-Tags: t\r\n\
              Cache-Control: public, s-maxage=60\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst",
        );
        let _ = stream.flush();
        thread::sleep(Duration::from_millis(1500));
        let _ = stream.write_all(b"later");
    });
    let parvis = Parvis::before_http(origin.port).start();
    let port = parvis.port;
    let clients: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                let began = Instant::now();
                let mut client = Client::connect(port);
                client.send(b"GET /p HTTP/1.1\r\nHost: shop.test\r\n\r\n");
                client.read_head().expect("a head");
                client.first_byte().expect("content");
                began.elapsed()
            })
        })
        .collect();
    for client in clients {
        let first_byte = client.join().expect("a time");
        assert!(first_byte < Duration::from_millis(1200), "the head came after {first_byte:?}");
    }
}

#[test]
fn a_response_found_uncacheable_releases_the_waiters_at_once_and_is_remembered() {
    let busy = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&busy), Arc::clone(&most));
    let origin = Origin::start(move |seen, stream| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        let content = format!("visitor {}", seen.number);
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: private, max-age=0\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{content}",
            content.len()
        );
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let parvis = Parvis::before_http(origin.port).start();
    let replies = at_once(&parvis, 10, "/account-like");
    let mut texts: Vec<String> = replies.iter().map(Reply::text).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 10, "no visitor saw another's page");
    assert!(most.load(Ordering::SeqCst) >= 5, "they waited in line for each other");
    let began = Instant::now();
    at_once(&parvis, 10, "/account-like");
    assert!(began.elapsed() < Duration::from_millis(900), "hit-for-miss requests waited in line");
    let reply = parvis.get("/account-like", &[]);
    assert!(reply.cache_status().contains("private"), "{}", reply.cache_status());
}

#[test]
fn a_leader_that_hangs_is_superseded_and_a_waiter_that_gives_up_fetches_for_itself() {
    let origin = Origin::start(|seen, stream| {
        if seen.number == 0 {
            thread::sleep(Duration::from_secs(8));
        }
        let _ = stream.write_all(&page(&format!("render {}", seen.number), "t"));
    });
    let parvis = Parvis::before_http(origin.port)
        .with("fill.leader_timeout", "\"1s\"")
        .with("fill.wait_timeout", "\"500ms\"")
        .start();
    let mut hung = Client::connect(parvis.port);
    hung.send(b"GET /p HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    wait_until("the fetch", Duration::from_secs(5), || origin.count() == 1);
    let gave_up = parvis.get("/p", &[]);
    assert_eq!(gave_up.text(), "render 1");
    assert!(!gave_up.is_hit());
    thread::sleep(Duration::from_millis(700));
    let superseding = parvis.get("/p", &[]);
    assert_eq!(superseding.text(), "render 2", "what the waiter fetched was not stored");
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
}

#[test]
fn a_truncated_reply_reaches_the_client_without_its_end_and_is_not_stored() {
    let origin = Origin::start(|seen, stream| {
        let whole = seen.number > 0;
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Magento-Tags: t\r\n\
              Cache-Control: public, s-maxage=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        );
        if whole {
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    let mut client = Client::connect(parvis.port);
    client.send(b"GET /p HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert!(client.read(false).is_err(), "a truncated page passed for a whole one");
    let reply = parvis.get("/p", &[]);
    assert_eq!(reply.text(), "half");
    assert!(!reply.is_hit(), "the truncated page was stored");
}

#[test]
fn head_on_a_cold_key_fills_by_get() {
    let origin = Origin::always(page("content", "t"));
    let parvis = Parvis::before_http(origin.port).start();
    let reply = parvis.ask("HEAD", "/p", &[], b"");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    assert_eq!(origin.seen()[0].method, "GET");
    assert_eq!(origin.count(), 1);
    let head = parvis.ask("HEAD", "/p", &[], b"");
    assert_eq!(head.header("content-length"), Some("7"));
}

#[test]
fn a_fill_carries_neither_range_nor_conditions_and_a_pass_keeps_them() {
    let origin = Origin::always(page("content", "t"));
    let parvis = Parvis::before_http(origin.port).start();
    let conditions = [
        ("If-Modified-Since", "Sun, 22 Nov 2026 19:28:33 GMT"),
        ("If-Unmodified-Since", "Sun, 22 Nov 2026 19:28:33 GMT"),
        ("Range", "bytes=0-1"),
    ];
    parvis.get("/p", &conditions);
    parvis.get("/customer/account/", &conditions);
    let seen = origin.seen();
    for (name, _) in conditions {
        assert!(seen[0].header(name).is_none(), "{name} reached a fill");
        assert!(seen[1].header(name).is_some(), "{name} was lost on a pass");
    }
}
