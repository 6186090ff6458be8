//! Trailers (RFC 9110 6.5): an origin's reach the client of a pass, but for those that would mean
//! something else there; a client's end at the door.

use std::io::{Read, Write};

use super::support::Parvis;
use super::support::client::{Client, raw};
use super::support::origin::Origin;

/// Chunked, with trailers; `kept` may be stored.
fn origin() -> Origin {
    Origin::start(|seen, stream| {
        let control =
            if seen.target.starts_with("/kept") { "public, s-maxage=600" } else { "private" };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/x\r\nCache-Control: {control}\r\n\
             X-Magento-Tags: t\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
             4\r\npage\r\n0\r\nX-Sum: 1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\
             Set-Cookie: a=b\r\nHost: evil.test\r\nAuthorization: x\r\nContent-Type: text/html\r\n\
             Cache-Control: public\r\nX-Magento-Tags: u\r\nConnection: close\r\nServer-Timing: a\r\n\r\n"
        );
    })
}

fn get(target: &str, version: &str) -> String {
    format!("GET {target} HTTP/{version}\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
}

#[test]
fn trailers_reach_the_client_of_a_pass_but_for_those_that_frame_route_or_authorise() {
    let origin = origin();
    let parvis = Parvis::before_http(origin.port).start();
    let bytes = raw(parvis.port, get("/customer/x", "1.1").as_bytes());
    let text = String::from_utf8(bytes).expect("text");
    let (head, content) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    assert!(!head.contains("Trailer:"), "{head}");
    let end = "0\r\nX-Sum: 1\r\nServer-Timing: a\r\n\r\n";
    assert_eq!(content, format!("4\r\npage\r\n{end}"));
}

/// Text in pieces, with trailers; whatever stands below `/coded/` in gzip, but for `/coded/not`.
fn text_origin() -> Origin {
    Origin::start(|seen, stream| {
        let page = "<p>page</p>".repeat(if seen.target.ends_with("large") { 20_000 } else { 1 });
        let content = if seen.target == "/coded/not" || !seen.target.starts_with("/coded/") {
            page.into_bytes()
        } else {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(page.as_bytes()).expect("in memory");
            encoder.finish().expect("in memory")
        };
        let coding = seen.target.starts_with("/coded/").then_some("Content-Encoding: gzip\r\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: private\r\n{}\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n",
            coding.unwrap_or_default(),
            content.len()
        );
        let end = "\r\n0\r\nX-Sum: 1\r\nRepr-Digest: sha-256=:x:\r\nDigest: y\r\nETag: \"z\"\r\n\
                   Server-Timing: a\r\n\r\n";
        let _ = stream.write_all(&[head.as_bytes(), &content, end.as_bytes()].concat());
    })
}

const ALL: &str = "x-sum, repr-digest, digest, etag, server-timing";
const NOT_OF_THE_BYTES: &str = "x-sum, server-timing";

/// Target, whether pages are searched for includes, what the client accepts, and the trailers.
const CHANGED: [(&str, bool, &str, &str); 9] = [
    ("/plain/page", false, "", ALL),
    ("/plain/page", true, "", NOT_OF_THE_BYTES),
    ("/plain/page", false, "gzip", NOT_OF_THE_BYTES),
    ("/plain/large", true, "gzip", NOT_OF_THE_BYTES),
    ("/coded/page", false, "gzip", ALL),
    ("/coded/page", true, "", NOT_OF_THE_BYTES),
    ("/coded/page", true, "gzip", NOT_OF_THE_BYTES),
    ("/coded/large", true, "", NOT_OF_THE_BYTES),
    ("/coded/not", true, "gzip", ALL),
];

#[test]
fn what_is_searched_or_recoded_keeps_the_trailers_that_do_not_describe_its_bytes() {
    let origin = text_origin();
    for searched in [true, false] {
        let esi = if searched { "true" } else { "false" };
        let parvis = Parvis::before_http(origin.port).with("esi.enabled", esi).start();
        for (target, _, accepted, expected) in CHANGED.iter().filter(|case| case.1 == searched) {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\
                 Accept-Encoding: {accepted}\r\n\r\n"
            );
            let bytes = raw(parvis.port, request.as_bytes());
            let end = memchr::memmem::rfind(&bytes, b"\r\n0\r\n").expect("a last chunk");
            let trailers = String::from_utf8_lossy(&bytes[end + 5..]).to_lowercase();
            let names: Vec<_> =
                trailers.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
            assert_eq!(names.join(", "), *expected, "{target}, {searched}, {accepted}");
        }
        let parvis = parvis.over_http2();
        for (target, _, accepted, expected) in CHANGED.iter().filter(|case| case.1 == searched) {
            let reply = parvis.get(target, &[("Accept-Encoding", accepted)]);
            let names = reply.headers.iter().filter_map(|(name, _)| name.strip_prefix("trailer "));
            let names: Vec<_> = names.collect();
            assert_eq!(names.join(", "), *expected, "HTTP/2 {target}, {searched}, {accepted}");
            if !target.ends_with("not") {
                assert!(reply.text().ends_with("<p>page</p>"), "{target}");
            }
        }
    }
}

#[test]
fn http_1_0_and_a_stored_response_have_no_trailers() {
    let origin = origin();
    let parvis = Parvis::before_http(origin.port).start();
    for (target, version) in [("/customer/x", "1.0"), ("/kept", "1.1"), ("/kept", "1.1")] {
        let bytes = raw(parvis.port, get(target, version).as_bytes());
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.contains("page"), "{target}: {text}");
        assert!(!text.contains("X-Sum"), "{target}: {text}");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn over_http_2_they_follow_the_content_too() {
    let origin = origin();
    let parvis = Parvis::before_http(origin.port).start().over_http2();
    let reply = parvis.get("/customer/x", &[]);
    assert_eq!((reply.status, reply.text().as_str()), (200, "page"));
    assert_eq!(reply.header("x-sum"), None, "no field of the head");
    let names = reply.headers.iter().map(|(name, _)| name.as_str());
    let trailers: Vec<_> = names.filter(|name| name.starts_with("trailer ")).collect();
    assert_eq!(trailers, ["trailer x-sum", "trailer server-timing"]);
}

#[test]
fn a_broken_trailer_of_the_origin_makes_the_response_a_broken_one() {
    for trailer in ["no colon", "X : y", "X: y\r\n folded", "X: \u{1}"] {
        let origin = Origin::always(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: private\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n4\r\npage\r\n0\r\n{trailer}\r\n\r\n"
        ));
        let parvis = Parvis::before_http(origin.port).start();
        let mut client = Client::connect(parvis.port);
        client.send(get("/customer/x", "1.1").as_bytes());
        assert!(client.read(false).is_err(), "{trailer:?}");
    }
}

#[test]
fn a_clients_trailers_end_at_the_door_and_are_bounded() {
    let origin = Origin::start(|seen, stream| {
        let seen = format!("{} {:?}", String::from_utf8_lossy(&seen.body), seen.headers);
        let length = seen.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{seen}"
        );
    });
    let parvis = Parvis::before_http(origin.port).start();
    let post = |trailers: &str| {
        let mut client = Client::connect(parvis.port);
        client.send(
            format!(
                "POST /p HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
                 Connection: close, te\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n"
            )
            .as_bytes(),
        );
        let mut text = String::new();
        let _ = client.stream().read_to_string(&mut text);
        text
    };
    let text = post("X-Sum: 1\r\nContent-Length: 9\r\n").to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200") && text.contains("abc"), "{text}");
    for name in ["x-sum", "trailer", "\"te\""] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    let text = post(&"X-T: y\r\n".repeat(2_000));
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
}
