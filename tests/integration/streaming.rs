//! How the end of a content reaches the client.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::support::Parvis;
use super::support::client::Client;
use super::support::h2::{H2, Length};
use super::support::origin::{Origin, page};
use super::support::process::wait_until;

#[test]
fn a_refresh_never_delays_the_end_of_the_stale_body_that_goes_out() {
    let pause = Duration::from_secs(4);
    let origin = Origin::start(move |seen, stream| {
        if seen.number > 0 {
            thread::sleep(pause);
        }
        let text = String::from_utf8(page(&"x".repeat(200_000), "t")).expect("text");
        let _ = stream.write_all(text.replace("s-maxage=86400", "s-maxage=1").as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).with("store.grace", "\"60s\"").start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    thread::sleep(Duration::from_millis(1_100));
    let mut client = Client::connect(parvis.port);
    let mut h2 = H2::connect(parvis.port);
    let began = Instant::now();
    for _ in 0..3 {
        let stale = client.ask("GET", "/p", &[], b"");
        assert_eq!((stale.status, stale.text().len()), (200, 200_000));
        assert!(stale.cache_status().contains("grace"), "{}", stale.cache_status());
        let stale = h2.ask("GET", "/p", &[("Accept-Encoding", "gzip")], b"", Length::Told);
        assert_eq!(stale.text().len(), 200_000);
    }
    assert!(began.elapsed() < pause / 2, "the refresh was waited for: {:?}", began.elapsed());
    wait_until("the refresh", Duration::from_secs(5), || origin.count() >= 2);
}

#[test]
fn a_pass_that_has_come_in_whole_leaves_with_its_length_and_one_that_goes_on_in_chunks() {
    let origin = Origin::start(|seen, stream| {
        let content = "x".repeat(20_000);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: private\r\n";
        let whole = format!("{head}Content-Length: {}\r\n\r\n{content}", content.len());
        if seen.target == "/customer/whole" {
            let _ = stream.write_all(whole.as_bytes());
        } else {
            let _ = stream.write_all(&whole.as_bytes()[..10_000]);
            thread::sleep(Duration::from_millis(200));
            let _ = stream.write_all(&whole.as_bytes()[10_000..]);
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    let mut client = Client::connect(parvis.port);
    let whole = client.ask("GET", "/customer/whole", &[], b"");
    assert_eq!(whole.header("content-length"), Some("20000"));
    let slow = client.ask("GET", "/customer/slow", &[], b"");
    assert_eq!(slow.header("transfer-encoding"), Some("chunked"));
    for reply in [whole, slow] {
        assert_eq!((reply.status, reply.text()), (200, "x".repeat(20_000)));
    }
}

#[test]
fn a_truncated_reply_reaches_an_http2_client_as_a_reset_and_is_not_stored() {
    let origin = Origin::start(|seen, stream| {
        let control = match seen.target.as_str() {
            "/fill" => "public, s-maxage=600",
            _ => "private",
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Magento-Tags: t\r\n\
             Cache-Control: {control}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        );
        if seen.number >= 4 {
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let parvis = Parvis::before_http(origin.port).with("origin.retries", "0").start();
    let mut client = H2::connect(parvis.port);
    let gzip = [("Accept-Encoding", "gzip")];
    for (target, headers) in
        [("/fill", &gzip[..]), ("/fill", &[]), ("/private", &gzip), ("/customer/x", &[])]
    {
        let cut = client.try_ask("GET", target, headers, b"", Length::Told);
        assert!(cut.is_err(), "a truncated reply passed for a whole one: {target}");
    }
    assert_eq!(origin.count(), 4);
    let whole = client.ask("GET", "/fill", &[], b"", Length::Told);
    assert_eq!(whole.text(), "half");
    assert!(!whole.is_hit(), "the truncated page was stored");
}
