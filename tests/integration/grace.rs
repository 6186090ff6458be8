//! Stale while one fetch refreshes, stale when the origin fails.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::origin::{Origin, page};
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

const GOOD: u8 = 0;
const ERROR: u8 = 1;
const REFUSING: u8 = 2;
const SLOW: u8 = 3;
const PRIVATE: u8 = 4;
const BREAKING: u8 = 5;

/// An origin whose mood a test sets; its pages are fresh for one second.
fn moody() -> (Origin, Arc<AtomicU8>) {
    let mood = Arc::new(AtomicU8::new(GOOD));
    let of_origin = Arc::clone(&mood);
    let origin = Origin::start(move |seen, stream| {
        let content = format!("version {}", seen.number);
        let length = content.len();
        match of_origin.load(Ordering::SeqCst) {
            ERROR => drop(stream.write_all(
                b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\nOops",
            )),
            REFUSING => {}
            BREAKING => drop(stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Magento-Tags: t\r\n\
                  Cache-Control: public, s-maxage=1\r\nContent-Length: 90\r\nConnection: close\r\n\r\n<",
            )),
            mood => {
                if mood == SLOW {
                    thread::sleep(Duration::from_secs(3));
                }
                let control = if mood == PRIVATE { "private" } else { "public, s-maxage=1" };
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Magento-Tags: t\r\nCache-Control: {control}\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n{content}"
                );
            }
        }
    });
    (origin, mood)
}

fn stale_after_a_moment(parvis: &Parvis) -> Reply {
    assert_eq!(parvis.get("/p", &[]).text(), "version 0");
    wait_until("storing", Duration::from_secs(2), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1100));
    parvis.get("/p", &[])
}

#[test]
fn a_stale_page_is_served_at_once_while_one_fetch_refreshes_it() {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port).start();
    mood.store(GOOD, Ordering::SeqCst);
    let first = parvis.get("/p", &[]);
    assert_eq!(first.text(), "version 0");
    thread::sleep(Duration::from_millis(1300));
    mood.store(SLOW, Ordering::SeqCst);
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(parvis.get("/p", &[]).text(), "version 0");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "a refresh delayed the stale page");
    wait_until("the refresh", Duration::from_secs(6), || {
        parvis.get("/p", &[]).text() != "version 0"
    });
    assert!(origin.count() <= 3, "one refresh at a time, not {}", origin.count());
}

#[test]
fn a_refresh_that_fails_never_replaces_a_good_page() {
    for failing in [ERROR, REFUSING] {
        let (origin, mood) = moody();
        let parvis = Parvis::before_http(origin.port).with("store.grace", "\"1h\"").start();
        parvis.get("/p", &[]);
        mood.store(failing, Ordering::SeqCst);
        stale_after_mood(&parvis);
        wait_until("a failed refresh", Duration::from_secs(5), || origin.count() >= 2);
        thread::sleep(Duration::from_millis(200));
        assert_eq!(parvis.get("/p", &[]).text(), "version 0", "mood {failing}");
    }
}

/// Asks 40 times for a page that is stale, of an origin in this mood; how often the origin was asked
/// meanwhile.
fn refreshes_of_a_sick_origin(sick: u8, pause: &str) -> usize {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port)
        .with("store.grace", "\"1h\"")
        .with("fill.refresh_pause", &format!("\"{pause}\""))
        .with("origin.retries", "0")
        .start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(2), || parvis.get("/p", &[]).is_hit());
    mood.store(sick, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(1300));
    let before = origin.count();
    for _ in 0..40 {
        let reply = parvis.get("/p", &[]);
        assert_eq!((reply.status, reply.text().as_str()), (200, "version 0"));
        thread::sleep(Duration::from_millis(15));
    }
    origin.count() - before
}

#[test]
fn a_sick_origin_is_asked_once_in_a_while_and_not_by_each_hit_on_a_stale_page() {
    for sick in [ERROR, REFUSING, BREAKING] {
        assert_eq!(refreshes_of_a_sick_origin(sick, "1h"), 1, "mood {sick}");
    }
    let often = refreshes_of_a_sick_origin(ERROR, "0s");
    assert!(often > 5, "without the pause it would be asked again and again, not {often} times");
}

#[test]
fn after_the_pause_a_page_is_refreshed_from_an_origin_that_has_recovered() {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port)
        .with("store.grace", "\"1h\"")
        .with("fill.refresh_pause", "\"500ms\"")
        .start();
    parvis.get("/p", &[]);
    mood.store(ERROR, Ordering::SeqCst);
    stale_after_mood(&parvis);
    wait_until("a failed refresh", Duration::from_secs(5), || origin.count() >= 2);
    mood.store(GOOD, Ordering::SeqCst);
    wait_until("the refresh", Duration::from_secs(10), || {
        parvis.get("/p", &[]).text() != "version 0"
    });
}

fn stale_after_mood(parvis: &Parvis) {
    thread::sleep(Duration::from_millis(1300));
    let reply = parvis.get("/p", &[]);
    assert_eq!((reply.status, reply.text().as_str()), (200, "version 0"));
}

#[test]
fn past_its_grace_a_page_is_served_where_the_origin_answers_an_error_or_refuses() {
    for failing in [ERROR, REFUSING] {
        let (origin, mood) = moody();
        let parvis = Parvis::before_http(origin.port).with("store.grace", "\"0s\"").start();
        parvis.get("/p", &[]);
        wait_until("storing", Duration::from_secs(2), || parvis.get("/p", &[]).is_hit());
        mood.store(failing, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1300));
        let reply = parvis.get("/p", &[]);
        assert_eq!((reply.status, reply.text().as_str()), (200, "version 0"), "mood {failing}");
        mood.store(GOOD, Ordering::SeqCst);
        let reply = parvis.get("/p", &[]);
        assert_ne!(reply.text(), "version 0", "a healthy origin's page replaces it");
    }
}

#[test]
fn past_its_grace_a_page_is_served_where_the_origin_is_slow() {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port)
        .with("store.grace", "\"0s\"")
        .with("fill.stale_after", "\"300ms\"")
        .start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(2), || parvis.get("/p", &[]).is_hit());
    mood.store(SLOW, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(1300));
    let began = Instant::now();
    let reply = parvis.get("/p", &[]);
    assert_eq!((reply.status, reply.text().as_str()), (200, "version 0"));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn without_anything_stored_an_error_is_the_error_and_a_refusal_is_502() {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port).start();
    mood.store(ERROR, Ordering::SeqCst);
    assert_eq!(parvis.get("/p", &[]).status, 500);
    mood.store(REFUSING, Ordering::SeqCst);
    assert_eq!(parvis.get("/q", &[]).status, 502);
    mood.store(GOOD, Ordering::SeqCst);
    assert_eq!(parvis.get("/q", &[]).status, 200);
}

#[test]
fn the_checker_of_stale_if_error_fails_where_nothing_is_kept() {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port)
        .with("store.grace", "\"0s\"")
        .with("store.keep", "\"0s\"")
        .start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(2), || parvis.get("/p", &[]).is_hit());
    mood.store(ERROR, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(1300));
    assert_eq!(parvis.get("/p", &[]).status, 500, "the mechanism is off, and it shows");
}

#[test]
fn a_soft_purge_serves_the_old_page_once_more_and_refreshes_it() {
    let origin = Origin::start(|seen, stream| {
        let _ = stream.write_all(&page(&format!("version {}", seen.number), "cat_p_1"));
    });
    let parvis = Parvis::before_http(origin.port).start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(2), || parvis.get("/p", &[]).is_hit());
    let pattern =
        [("X-Magento-Tags-Pattern", "((^|,)cat_p_1(,|$))"), ("X-Magento-Purge-Soft", "1")];
    assert_eq!(parvis.ask("PURGE", "/", &pattern, b"").status, 200);
    assert_eq!(parvis.get("/p", &[]).text(), "version 0");
    wait_until("the refresh", Duration::from_secs(5), || {
        parvis.get("/p", &[]).text() == "version 1"
    });
}

#[test]
fn a_private_answer_to_a_refresh_does_not_leak_to_others() {
    let (origin, mood) = moody();
    let parvis = Parvis::before_http(origin.port).start();
    let stale = {
        mood.store(GOOD, Ordering::SeqCst);
        stale_after_a_moment(&parvis)
    };
    assert_eq!(stale.status, 200);
    mood.store(PRIVATE, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(1300));
    parvis.get("/p", &[]);
    thread::sleep(Duration::from_millis(300));
    let texts: Vec<String> = (0..3).map(|_| parvis.get("/p", &[]).text()).collect();
    assert!(
        texts.windows(2).all(|pair| pair[0] != pair[1] || pair[0] == stale.text()),
        "{texts:?}"
    );
}
