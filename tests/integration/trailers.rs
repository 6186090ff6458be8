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
