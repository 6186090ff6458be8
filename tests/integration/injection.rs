//! What an origin, or what it repeats of a stranger, must not achieve: split responses, requests
//! to elsewhere, memory without end.

use std::io::Write;
use std::time::Duration;

use super::support::Parvis;
use super::support::client::Client;
use super::support::origin::{Origin, page};
use super::support::process::wait_until;

#[test]
fn a_response_head_that_two_readers_read_in_two_ways_is_502_and_not_stored() {
    let odd = [
        "X-A: a\rSet-Cookie: x=1",
        "X-A: a\nSet-Cookie: x=1",
        "X-A: a\r\n folded",
        "X-A: a\u{0}b",
        "X-A: a\u{1b}b",
        "X-A : a",
        "X A: a",
        ": a",
        "no colon",
        "Content-Length: 5",
        "Content-Length: +4",
        "Content-Length: 4, 4",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity, chunked",
    ];
    for line in odd {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: public, s-maxage=600\r\n\
             X-Magento-Tags: t\r\n{line}\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
        );
        let origin = Origin::always(answer);
        let parvis = Parvis::before_http(origin.port).with("origin.retries", "0").start();
        for method in ["GET", "POST", "GET"] {
            let reply = parvis.ask(method, "/p", &[], b"");
            assert_eq!(reply.status, 502, "{line:?}");
            assert!(reply.header("set-cookie").is_none(), "{line:?}");
            assert!(!reply.is_hit(), "{line:?} was stored");
        }
    }
}

#[test]
fn includes_reach_this_host_alone_and_nothing_else_is_left_in_their_place() {
    let other = Origin::always(page("secret", "t"));
    let elsewhere = format!("127.0.0.1:{}", other.port);
    let sources = [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://{elsewhere}/secret"),
        format!("//{elsewhere}/secret"),
        format!("http://shop.test@{elsewhere}/secret"),
        format!("http://{elsewhere}\\@shop.test/secret"),
        format!("http://shop.test.{elsewhere}/"),
        format!("\\\\{elsewhere}\\secret"),
        "file:///etc/passwd".to_owned(),
        format!("gopher://{elsewhere}/_x"),
        "http://localhost/secret".to_owned(),
        "/own#fragment".to_owned(),
        "/own split HTTP/1.1".to_owned(),
        "/own&#10;X-A: b".to_owned(),
    ];
    let includes = sources.join("\"/>][<esi:include src=\"");
    let content =
        format!("[<esi:include src=\"{includes}\"/>]<esi:include src=\"http://shop.test/inner\"/>");
    let origin = Origin::start(move |seen, stream| {
        let content =
            if seen.target == "/page" || seen.target == "/private" { &content } else { "in" };
        let mut answer = String::from_utf8(page(content, "t")).expect("text");
        if seen.target == "/private" {
            answer = answer.replace("max-age=86400, public, s-maxage=86400", "private");
        }
        let _ = stream.write_all(answer.as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    for target in ["/page", "/page", "/private"] {
        let reply = parvis.get(target, &[]);
        assert_eq!(reply.status, 200);
        assert!(reply.text().ends_with("]in"), "{}", reply.text());
        assert!(!reply.text().contains("esi:"), "{}", reply.text());
        assert!(!reply.text().contains("secret"), "{}", reply.text());
    }
    assert_eq!(other.count(), 0, "a request left for another host");
    let seen = origin.seen();
    assert!(seen.iter().all(|seen| seen.header("host") == Some("shop.test")));
    assert!(
        seen.iter().all(|seen| !seen.target.contains("latest") && seen.header("x-a").is_none())
    );
}

#[test]
fn a_page_that_includes_itself_ends_at_its_depth() {
    let origin = Origin::start(|seen, stream| {
        let content = format!("<{}<esi:include src=\"{}\"/>>", seen.number, seen.target);
        let answer = String::from_utf8(page(&content, "t")).expect("text");
        let private = answer.replace("max-age=86400, public, s-maxage=86400", "private");
        let kept = seen.target.starts_with("/kept");
        let _ = stream.write_all(if kept { answer.as_bytes() } else { private.as_bytes() });
    });
    let parvis = Parvis::before_http(origin.port).start();
    let reply = parvis.get("/loop", &[]);
    assert_eq!((reply.status, origin.count()), (200, 4), "the page and three levels");
    for _ in 0..3 {
        let kept = parvis.get("/kept", &[]);
        assert_eq!(kept.text(), "<4<4<4<4>>>>");
    }
    assert_eq!(origin.count(), 5, "a page that includes itself waits for no second fetch");
}

#[test]
fn includes_in_what_is_no_text_and_in_a_request_are_left_as_they_are() {
    let origin = Origin::start(|seen, stream| {
        let content = format!("{{\"q\":\"{}<esi:include src='/inner'/>\"}}", seen.target);
        let answer = String::from_utf8(page(&content, "t")).expect("text");
        let _ = stream
            .write_all(answer.replace("text/html; charset=UTF-8", "application/json").as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    for _ in 0..2 {
        let reply = parvis.get("/search?q=<esi:include", &[]);
        assert!(reply.text().contains("<esi:include src='/inner'/>"), "{}", reply.text());
    }
    assert!(origin.seen().iter().all(|seen| seen.target != "/inner"));
}

#[test]
fn a_compression_bomb_is_cut_is_not_stored_and_costs_little_memory() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        encoder.write_all(&zeros).expect("compressed");
    }
    let bomb = encoder.finish().expect("compressed");
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\
         Cache-Control: public, s-maxage=600\r\nX-Magento-Tags: t\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        bomb.len()
    )
    .into_bytes();
    answer.extend_from_slice(&bomb);
    let origin = Origin::always(answer);
    let parvis = Parvis::before_http(origin.port).start();
    parvis.get("/.parvis/ready", &[]);
    let before = parvis.resident_bytes();
    for _ in 0..3 {
        let mut client = Client::connect(parvis.port);
        client.send(b"GET /p HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        assert!(client.read(false).is_err(), "the bomb passed for a whole page");
    }
    let grown = parvis.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    assert_eq!(parvis.metric("parvis_store_objects"), Some(0.0));
}

#[test]
fn a_page_too_large_to_be_stored_reaches_its_clients_whole() {
    let content = "0123456789abcdef".repeat((20 << 20) / 16);
    let origin = Origin::start(move |seen, stream| {
        let length = if seen.target == "/told" {
            format!("Content-Length: {}\r\n", content.len())
        } else {
            String::new()
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
             Cache-Control: public, s-maxage=600\r\nX-Magento-Tags: t\r\n{length}Connection: close\r\n\r\n"
        );
        let _ = stream.write_all(content.as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    for target in ["/told", "/untold"] {
        for _ in 0..3 {
            let mut client = Client::connect(parvis.port);
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n").as_bytes());
            let reply = client.read(false).expect(target);
            assert_eq!(reply.body.len(), 20 << 20, "{target}");
            assert!(!reply.is_hit());
        }
    }
}

#[test]
fn an_upgrade_to_another_protocol_opens_no_tunnel() {
    let origin = Origin::always(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\nraw",
    );
    let parvis = Parvis::before_http(origin.port).with("origin.retries", "0").start();
    for target in ["/p", "/customer/account/"] {
        let headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")];
        assert_eq!(parvis.get(target, &headers).status, 502, "{target}");
    }
    assert_eq!(parvis.ask("CONNECT", "/", &[], b"").status / 100, 4);
    wait_until("the next request", Duration::from_secs(5), || {
        parvis.get("/.parvis/ready", &[]).status == 200
    });
}
