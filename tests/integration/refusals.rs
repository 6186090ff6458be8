//! What is refused, or answered by Parvis itself, is shown: in the log with its reason, and counted.

use std::time::Duration;

use serde_json::Value;

use super::support::Parvis;
use super::support::client::raw;
use super::support::frames::{
    Answer, CONTINUATION, END_HEADERS, END_STREAM, Frames, HEADERS, field, frame, request,
};
use super::support::origin::{Origin, page};
use super::support::process::wait_until;

fn lines(parvis: &Parvis, count: usize) -> Vec<Value> {
    wait_until("lines", Duration::from_secs(20), || parvis.access_log().lines().count() >= count);
    parvis.access_log().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn each_refusal_is_logged_with_its_reason_and_counted() {
    let origin = Origin::always(page("page", "t"));
    let parvis = Parvis::before_http(origin.port)
        .with("site.hosts", "[\"shop.test\"]")
        .with("listen.body_max", "\"10B\"")
        .with("listen.header_timeout", "\"3s\"")
        .start();
    let long = "a".repeat(20_000);
    let cases = [
        ("GET /a HTTP/1.1\r\nX : y\r\n\r\n".to_owned(), "GET", "/a", 400, "malformed-request"),
        ("G(T /b HTTP/1.1\r\n\r\n".to_owned(), "-", "/b", 400, "malformed-request"),
        ("GET /c\x1b[1m HTTP/1.1\r\n\r\n".to_owned(), "GET", "-", 400, "malformed-request"),
        ("\x16\x03\x01".to_owned(), "-", "-", 400, "malformed-request"),
        (format!("GET /d HTTP/1.1\r\nX: {long}"), "GET", "/d", 431, "oversized-request"),
        (format!("GET /{long}"), "GET", "-", 414, "oversized-request"),
        (
            "POST /e HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 11\r\n\r\n".to_owned(),
            "POST",
            "/e",
            413,
            "oversized-request",
        ),
        (
            "POST /f HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\nx".to_owned(),
            "POST",
            "/f",
            400,
            "malformed-request",
        ),
        (
            "GET /g HTTP/1.1\r\nHost: shop.test\r\nExpect: tea\r\n\r\n".to_owned(),
            "GET",
            "/g",
            417,
            "expectation",
        ),
        ("GET /h HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "GET", "/h", 421, "unknown-host"),
        ("BREW /i HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_owned(), "BREW", "/i", 501, "method"),
        ("GET /j HTTP/1.1\r\nHost:".to_owned(), "GET", "/j", 408, "slow-request"),
    ];
    for (at, (bytes, method, target, status, reason)) in cases.iter().enumerate() {
        let answer = raw(parvis.port, bytes.as_bytes());
        assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{bytes:.60?}");
        let line = lines(&parvis, at + 1).pop().expect("a line");
        let told = (&line["method"], &line["target"], &line["status"], &line["reason"]);
        assert_eq!(
            told,
            (&(*method).into(), &(*target).into(), &(*status).into(), &(*reason).into())
        );
        assert_eq!((&line["verdict"], &line["end"]), (&"refused".into(), &"whole".into()));
        assert_eq!(line["client"], "127.0.0.1");
        assert_eq!(line["first_byte_seconds"], Value::Null);
    }
    let malformed = "parvis_reasons_total{reason=\"malformed-request\"}";
    assert_eq!(parvis.metric(malformed), Some(5.0));
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_is_refused_at_the_door_of_http_2_is_logged_as_well() {
    let origin = Origin::always(page("page", "t"));
    let parvis = Parvis::before_http(origin.port).start();
    let with = |target: &str, name: &str, value: &str| {
        [request("POST", target), field(name, value)].concat()
    };
    let long = "a".repeat(20_000);
    let cases = [
        (with("/a", "host", "evil.test"), "/a", 400, "malformed-request"),
        (with("/b", "expect", "tea"), "/b", 417, "expectation"),
        (with("/c", "x-a", &long), "/c", 431, "oversized-request"),
        (with(&format!("/{long}"), "x-a", "1"), "-", 414, "oversized-request"),
    ];
    let mut client = Frames::connect(parvis.port);
    for (at, (block, target, status, reason)) in cases.iter().enumerate() {
        let number = u32::try_from(at).expect("few") * 2 + 1;
        for frame in blocks(number, block) {
            client.send(frame);
        }
        assert_eq!(client.answer(number), Answer::Status(*status), "{target}");
        let line = lines(&parvis, at + 1).pop().expect("a line");
        let told = (&line["method"], &line["target"], &line["status"], &line["reason"]);
        assert_eq!(told, (&"POST".into(), &(*target).into(), &(*status).into(), &(*reason).into()));
        assert_eq!((&line["verdict"], &line["end"]), (&"refused".into(), &"whole".into()));
        assert_eq!(line["protocol"], "HTTP/2.0");
    }
    assert_eq!(origin.count(), 0);
}

/// A block of fields in as many frames as it takes.
fn blocks(stream: u32, block: &[u8]) -> Vec<Vec<u8>> {
    let pieces: Vec<_> = block.chunks(16_000).collect();
    let frames = pieces.iter().enumerate().map(|(at, piece)| {
        let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if at == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
        frame(kind, flags | end, stream, piece)
    });
    frames.collect()
}

#[test]
fn an_answer_of_our_own_has_no_first_byte_of_the_origin() {
    let origin = Origin::always(page("page", "t"));
    let parvis = Parvis::before_http(origin.port).start();
    // One after the other: a record is queued after its last byte has left.
    parvis.get("/p", &[]);
    lines(&parvis, 1);
    parvis.get("/.parvis/ready", &[]);
    lines(&parvis, 2);
    parvis.purge_tag("t");
    let told: Vec<_> = lines(&parvis, 3)
        .iter()
        .map(|line| (line["verdict"].clone(), line["first_byte_seconds"].is_null()))
        .collect();
    let expected = [("miss", false), ("synth", true), ("purge", true)];
    assert_eq!(told, expected.map(|(verdict, null)| (verdict.into(), null)));
}
