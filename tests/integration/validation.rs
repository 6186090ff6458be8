//! Validation, staleness by directive and invalidation (RFC 9111 4.2.4, 4.3, 4.4; RFC 5861).

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::support::Parvis;
use super::support::origin::{Origin, Seen};
use super::support::process::wait_until;

fn generic(origin: &Origin) -> Parvis {
    Parvis::before_http(origin.port).with("site.policy", "\"generic\"").start()
}

fn answer(stream: &mut TcpStream, status: &str, head: &str, content: &str) {
    let length = if status.starts_with("304") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", content.len())
    };
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}{length}Connection: close\r\n\r\n{content}");
}

/// 304 to who has the present version, else a page that must be validated each time.
fn validating() -> (Origin, Arc<AtomicUsize>) {
    let version = Arc::new(AtomicUsize::new(1));
    let of_origin = Arc::clone(&version);
    let origin = Origin::start(move |seen, stream| {
        let version = of_origin.load(Ordering::SeqCst);
        let (tag, number) = (format!("\"v{version}\""), seen.number);
        let head = format!("ETag: {tag}\r\nCache-Control: no-cache\r\nX-Number: {number}\r\n");
        if seen.header("if-none-match") == Some(&tag) {
            answer(stream, "304 Not Modified", &head, "");
        } else {
            answer(stream, "200 OK", &head, &format!("version {version}"));
        }
    });
    (origin, version)
}

#[test]
fn what_is_stored_is_validated_and_its_fields_brought_up_to_date() {
    let (origin, version) = validating();
    let parvis = generic(&origin);
    assert_eq!(parvis.get("/p", &[]).text(), "version 1");
    wait_until("storing", Duration::from_secs(5), || {
        let reply = parvis.get("/p", &[]);
        assert_eq!(reply.text(), "version 1");
        reply.cache_status().contains("fwd-status=304")
    });
    let before = origin.count();
    let reply = parvis.get("/p", &[]);
    assert_eq!(reply.header("x-number"), Some(&*before.to_string()));
    assert_eq!(origin.seen()[before].header("if-none-match"), Some("\"v1\""));
    version.store(2, Ordering::SeqCst);
    assert_eq!(parvis.get("/p", &[]).text(), "version 2");
    // Who has it gets 304 after the validation.
    let has = [("If-None-Match", "\"v2\"")];
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &has).status == 304);
}

#[test]
fn a_purge_during_a_validation_is_stronger() {
    let (sender, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |seen, stream| {
        let head = "ETag: \"a\"\r\nCache-Control: max-age=1\r\n";
        if seen.header("if-none-match").is_some() {
            let _ = gate.lock().expect("one at a time").recv_timeout(Duration::from_secs(10));
            answer(stream, "304 Not Modified", "Cache-Control: max-age=600\r\n", "");
        } else {
            answer(stream, "200 OK", head, &format!("version {}", seen.number));
        }
    });
    let parvis = generic(&origin);
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1100));
    thread::scope(|scope| {
        let validating = scope.spawn(|| parvis.get("/p", &[]));
        wait_until("the validation", Duration::from_secs(5), || {
            origin.seen().iter().any(|seen| seen.header("if-none-match").is_some())
        });
        let json = [("Content-Type", "application/json")];
        let everything = br#"{"all":true}"#;
        let purged = super::support::request(parvis.control, "POST", "/purge", &json, everything);
        assert_eq!(purged.status, 200, "{}", purged.text());
        sender.send(()).expect("the origin waits");
        assert_eq!(validating.join().expect("a reply").text(), "version 0");
    });
    let after = parvis.get("/p", &[]);
    assert!(!after.is_hit() && after.text() != "version 0", "{}", after.text());
}

#[test]
fn the_validators_of_an_expired_200_never_leak_into_the_404_that_replaces_it() {
    let origin = Origin::start(|seen, stream| {
        if seen.number == 0 {
            let head = "ETag: \"a\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nCache-Control: max-age=1\r\n";
            answer(stream, "200 OK", head, "found");
        } else {
            answer(stream, "404 Not Found", "Cache-Control: max-age=600\r\n", "gone");
        }
    });
    let parvis = generic(&origin);
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1100));
    parvis.get("/p", &[]);
    wait_until("storing the 404", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    let reply = parvis.get("/p", &[("If-None-Match", "\"a\"")]);
    assert_eq!((reply.status, &*reply.text()), (404, "gone"));
    assert!(reply.header("etag").is_none() && reply.header("last-modified").is_none());
}

/// Fresh for a second, then the origin fails as `fails` says.
fn failing(control: &str, fails: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Origin {
    let head = format!("Cache-Control: {control}\r\n");
    Origin::start(move |seen: &Seen, stream: &mut TcpStream| {
        if seen.number == 0 { answer(stream, "200 OK", &head, "good") } else { fails(stream) }
    })
}

fn after_its_lifetime(origin: &Origin) -> (u16, String) {
    let parvis = generic(origin);
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1100));
    let reply = parvis.get("/p", &[]);
    (reply.status, reply.text())
}

#[test]
fn stale_is_given_for_an_error_only_where_the_response_allows_it() {
    let error = |stream: &mut TcpStream| answer(stream, "503 Busy", "", "busy");
    let allowed = failing("max-age=1, stale-if-error=60", error);
    assert_eq!(after_its_lifetime(&allowed), (200, "good".to_owned()));
    assert_eq!(after_its_lifetime(&failing("max-age=1", error)), (503, "busy".to_owned()));
    let forbidden = failing("max-age=1, stale-if-error=60, must-revalidate", error);
    assert_eq!(after_its_lifetime(&forbidden).0, 503);
}

#[test]
fn stale_is_given_while_the_origin_cannot_be_reached_unless_it_must_be_validated() {
    let closes = |_: &mut TcpStream| {};
    assert_eq!(after_its_lifetime(&failing("max-age=1", closes)), (200, "good".to_owned()));
    for control in ["max-age=1, must-revalidate", "s-maxage=1", "max-age=1, proxy-revalidate"] {
        assert_eq!(after_its_lifetime(&failing(control, closes)).0, 502, "{control}");
    }
}

#[test]
fn stale_while_revalidate_serves_at_once_and_refreshes_once() {
    let origin = Origin::start(|seen, stream| {
        let head = "Cache-Control: max-age=1, stale-while-revalidate=60\r\n";
        answer(stream, "200 OK", head, &format!("version {}", seen.number));
    });
    let parvis = generic(&origin);
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(parvis.get("/p", &[]).text(), "version 0");
    wait_until("the refresh", Duration::from_secs(5), || {
        parvis.get("/p", &[]).text() != "version 0"
    });
}

#[test]
fn without_the_directive_nothing_stale_is_served_by_a_healthy_origin() {
    let origin = Origin::start(|seen, stream| {
        answer(
            stream,
            "200 OK",
            "Cache-Control: max-age=1\r\n",
            &format!("version {}", seen.number),
        );
    });
    let parvis = generic(&origin);
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(parvis.get("/p", &[]).text(), "version 1");
}

#[test]
fn a_change_ends_what_is_stored_of_its_url_and_of_those_it_names() {
    let origin = Origin::start(|seen, stream| {
        let head = match seen.method.as_str() {
            "GET" => "Cache-Control: max-age=600\r\n",
            _ if seen.target == "/fails" => return answer(stream, "500 Oops", "", ""),
            _ => "Location: /named\r\nContent-Location: http://shop.test/content\r\n",
        };
        answer(stream, "200 OK", head, "page");
    });
    let parvis = generic(&origin);
    let paths = ["/changed", "/named", "/content", "/other", "/fails"];
    for path in paths {
        parvis.get(path, &[]);
        wait_until("storing", Duration::from_secs(5), || parvis.get(path, &[]).is_hit());
    }
    parvis.ask("POST", "/changed", &[], b"x");
    parvis.ask("DELETE", "/fails", &[], b"");
    let hits = paths.map(|path| parvis.get(path, &[]).is_hit());
    assert_eq!(hits, [false, false, false, true, true]);
}

#[test]
fn a_change_ends_nothing_in_the_magento_policy() {
    let origin = Origin::start(|_, stream| {
        let head = "Cache-Control: public, s-maxage=600\r\nX-Magento-Tags: t\r\n";
        answer(stream, "200 OK", head, "page");
    });
    let parvis = Parvis::before_http(origin.port).start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    parvis.ask("POST", "/p", &[], b"x");
    assert!(parvis.get("/p", &[]).is_hit(), "or anybody could have every page rendered anew");
}

#[test]
fn only_if_cached_never_reaches_the_origin() {
    let origin = Origin::start(|_, stream| {
        let head = "Cache-Control: public, s-maxage=600\r\nX-Magento-Tags: t\r\n";
        answer(stream, "200 OK", head, "page");
    });
    for policy in ["generic", "magento"] {
        let parvis =
            Parvis::before_http(origin.port).with("site.policy", &format!("\"{policy}\"")).start();
        let asks = [("Cache-Control", "only-if-cached")];
        let before = origin.count();
        assert_eq!(parvis.get("/p", &asks).status, 504, "{policy}");
        assert_eq!(origin.count(), before, "{policy}");
        parvis.get("/p", &[]);
        wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &asks).status == 200);
    }
}

#[test]
fn fields_that_are_private_reach_the_client_that_fetched_and_nobody_else() {
    let origin = Origin::start(|_, stream| {
        let head =
            "Cache-Control: max-age=600, private=\"X-Secret\"\r\nX-Secret: s\r\nX-Open: o\r\n";
        answer(stream, "200 OK", head, "page");
    });
    let parvis = generic(&origin);
    assert_eq!(parvis.get("/p", &[]).header("x-secret"), Some("s"));
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    let reply = parvis.get("/p", &[]);
    assert_eq!((reply.header("x-secret"), reply.header("x-open")), (None, Some("o")));
}

#[test]
fn what_is_for_shared_caches_counts_before_cache_control() {
    let origin = Origin::start(|seen, stream| {
        let head = match seen.target.as_str() {
            "/cdn" => "Cache-Control: no-store\r\nCDN-Cache-Control: max-age=600\r\n",
            "/private" => "Cache-Control: max-age=600\r\nCDN-Cache-Control: private\r\n",
            _ => "Cache-Control: max-age=600\r\nCDN-Cache-Control: max-age=0, &&\r\n",
        };
        answer(stream, "200 OK", head, "page");
    });
    let parvis = generic(&origin);
    for path in ["/cdn", "/malformed"] {
        parvis.get(path, &[]);
        wait_until(path, Duration::from_secs(5), || parvis.get(path, &[]).is_hit());
    }
    parvis.get("/private", &[]);
    assert!(!parvis.get("/private", &[]).is_hit());
}

#[test]
fn those_who_wait_for_what_must_be_validated_each_time_do_not_wait_in_line() {
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (of_origin, counted) = (Arc::clone(&most), Arc::clone(&now));
    let origin = Origin::start(move |seen, stream| {
        let head = "ETag: \"a\"\r\nCache-Control: no-cache\r\n";
        if seen.header("if-none-match").is_none() {
            return answer(stream, "200 OK", head, "page");
        }
        of_origin.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        counted.fetch_sub(1, Ordering::SeqCst);
        answer(stream, "304 Not Modified", head, "");
    });
    let parvis = generic(&origin);
    wait_until("storing", Duration::from_secs(5), || {
        parvis.get("/p", &[]).cache_status().contains("fwd-status=304")
    });
    thread::scope(|scope| {
        let asked: Vec<_> = (0..10).map(|_| scope.spawn(|| parvis.get("/p", &[]).text())).collect();
        for text in asked {
            assert_eq!(text.join().expect("a reply"), "page");
        }
    });
    assert!(most.load(Ordering::SeqCst) >= 5, "they validated one after another");
}
