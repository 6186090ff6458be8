//! WebSocket and other upgrades (RFC 9110 7.8): a tunnel opens with the origin's 101 and never
//! before; whatever else comes of the offer, the bytes behind it are no request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::support::Parvis;
use super::support::client::{Client, raw};
use super::support::origin::{Origin, Seen, page};
use super::support::parvis::Builder;
use super::support::php::Php;
use super::support::process::wait_until;

const OFFER: &str = "GET /socket HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n";

/// Switches where it is asked to and echoes each piece in brackets; otherwise it gives a page.
fn echo(seen: &Seen, stream: &mut TcpStream) {
    if seen.header("upgrade").is_none() {
        let _ = stream.write_all(&page("page", "t"));
        return;
    }
    let _ = stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade, X-Hop\r\n\
          X-Hop: 1\r\nSec-WebSocket-Accept: def\r\nServer: x\r\n\r\nhello ",
    );
    let mut buffer = [0; 1_000];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let text = [b"[", &buffer[..count], b"]"].concat();
        if stream.write_all(&text).is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"bye");
}

fn before(origin: &Origin) -> Builder {
    Parvis::before_http(origin.port).with("origin.retries", "0")
}

fn read_text(client: &mut Client, count: usize) -> String {
    (0..count).map(|_| client.first_byte().expect("a byte") as char).collect()
}

fn rest(client: &mut Client) -> String {
    let mut text = String::new();
    while let Ok(byte) = client.first_byte() {
        text.push(byte as char);
    }
    text
}

fn offering(parvis: &Parvis) -> Client {
    let mut client = Client::connect(parvis.port);
    client.send(OFFER.as_bytes());
    client
}

#[test]
fn bytes_flow_both_ways_after_the_101_and_the_end_is_logged() {
    let origin = Origin::start(echo);
    for policy in ["magento", "generic"] {
        let parvis = before(&origin).with("site.policy", &format!("\"{policy}\"")).start();
        let mut client = offering(&parvis);
        let head = client.read_head().expect("a head");
        assert_eq!(head.status, 101);
        assert_eq!(head.header("connection"), Some("upgrade"));
        assert_eq!(head.header("upgrade"), Some("WebSocket"));
        assert_eq!(head.header("sec-websocket-accept"), Some("def"));
        assert_eq!(head.header("x-hop"), None);
        assert_eq!(head.header("content-length"), None);
        assert_eq!(read_text(&mut client, 6), "hello ");
        for text in ["one", "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n"] {
            client.send(text.as_bytes());
            assert_eq!(read_text(&mut client, text.len() + 2), format!("[{text}]"));
        }
        assert!(parvis.access_log().is_empty(), "it is logged at its end");
        assert_eq!(parvis.metric("parvis_listen_upgrades "), Some(1.0));
        client.stream().shutdown(std::net::Shutdown::Write).expect("half closed");
        assert_eq!(rest(&mut client), "bye");
        wait_until("the record", Duration::from_secs(20), || {
            let log = parvis.access_log();
            log.contains("\"status\":101") && log.contains("\"reason\":\"upgrade\"")
        });
        assert_eq!(parvis.metric("parvis_reasons_total{reason=\"upgrade\"}"), Some(1.0));
        wait_until("the tunnel's place", Duration::from_secs(5), || {
            parvis.metric("parvis_listen_upgrades ") == Some(0.0)
        });
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), 2, "nothing in the tunnel was taken for a request");
    assert_eq!(seen[0].header("upgrade"), Some("websocket"));
    assert_eq!(seen[0].header("connection"), Some("upgrade"));
    assert_eq!(seen[0].header("sec-websocket-key"), Some("abc"));
}

#[test]
fn what_a_client_sends_before_the_101_belongs_to_the_tunnel() {
    let origin = Origin::start(echo);
    let parvis = before(&origin).start();
    let mut client = Client::connect(parvis.port);
    let early = "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    client.send(format!("{OFFER}{early}").as_bytes());
    assert_eq!(client.read_head().expect("a head").status, 101);
    assert_eq!(read_text(&mut client, 6 + early.len() + 2), format!("hello [{early}]"));
    assert_eq!(origin.count(), 1);
}

#[test]
fn after_a_refused_upgrade_the_bytes_behind_it_are_no_request_and_the_connection_closes() {
    let origin = Origin::start(|_, stream| {
        let _ = stream.write_all(&page("page", "t"));
    });
    let parvis = before(&origin).start();
    for _ in 0..2 {
        let early = "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        let text = String::from_utf8(raw(parvis.port, format!("{OFFER}{early}").as_bytes()));
        let text = text.expect("text");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    }
    let targets: Vec<_> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/socket", "/socket"], "passed, never stored");
}

#[test]
fn a_101_to_what_was_not_offered_is_502() {
    for answer in [
        "Upgrade: other\r\nConnection: upgrade",
        "Upgrade: websocket, other\r\nConnection: upgrade",
        "Upgrade: websocket",
        "Connection: upgrade",
        "Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked",
    ] {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n\r\nraw");
        let origin = Origin::always(head);
        let parvis = before(&origin).start();
        let text = String::from_utf8(raw(parvis.port, OFFER.as_bytes())).expect("text");
        assert!(text.starts_with("HTTP/1.1 502"), "{answer}: {text}");
        assert!(!text.contains("raw"), "{answer}: {text}");
        // Without an offer no 101 is one.
        assert_eq!(parvis.get("/p", &[]).status, 502, "{answer}");
    }
}

#[test]
fn upgrades_that_are_not_for_us_are_ignored() {
    let origin = Origin::start(echo);
    let parvis = before(&origin).start();
    let requests = [
        "GET /a HTTP/1.0\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        "GET /c HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\n\r\n",
        "OPTIONS /d HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    for request in requests {
        let mut client = Client::connect(parvis.port);
        client.send(request.as_bytes());
        assert_eq!(client.read(false).expect(request).text(), "page");
    }
    assert!(origin.seen().iter().all(|seen| seen.header("upgrade").is_none()));
    let mut client = Client::connect(parvis.port);
    let get = "GET /b HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    client.send(requests[1].as_bytes());
    assert_eq!(client.read(false).expect("a page").text(), "page");
    client.send(get.as_bytes());
    assert_eq!(client.read(false).expect("the connection goes on").text(), "page");
    // But what comes before the answer is not read.
    let text = raw(parvis.port, format!("{}{get}", requests[1]).as_bytes());
    assert_eq!(String::from_utf8_lossy(&text).matches("HTTP/1.1 200").count(), 1);
}

#[test]
fn php_fpm_is_never_offered_another_protocol() {
    let php = Php::with_front_controller("echo.php", 2);
    let parvis = Parvis::before_php(&php).start();
    let mut client = offering(&parvis);
    assert_eq!(client.read_head().expect("a head").status, 200);
}

#[test]
fn tunnels_are_bounded_and_beyond_that_the_offer_is_ignored() {
    let origin = Origin::start(echo);
    let parvis = before(&origin).with("listen.upgrades_max", "1").start();
    let mut first = offering(&parvis);
    assert_eq!(first.read_head().expect("a head").status, 101);
    let mut second = offering(&parvis);
    assert_eq!(second.read_head().expect("a head").status, 200);
    drop(first);
    wait_until("a free place", Duration::from_secs(20), || {
        offering(&parvis).read_head().expect("a head").status == 101
    });
}

#[test]
fn tunnels_take_no_place_of_the_origin() {
    let origin = Origin::start(echo);
    let parvis = before(&origin).with("origin.concurrency_max", "1").start();
    let mut tunnels: Vec<_> = (0..3).map(|_| offering(&parvis)).collect();
    for tunnel in &mut tunnels {
        assert_eq!(tunnel.read_head().expect("a head").status, 101);
    }
    assert_eq!(parvis.get("/p", &[]).text(), "page");
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    let origin = Origin::start(echo);
    let parvis = before(&origin).with("listen.upgrade_idle_timeout", "\"200ms\"").start();
    let mut client = offering(&parvis);
    assert_eq!(client.read_head().expect("a head").status, 101);
    assert_eq!(rest(&mut client), "hello ");
}

#[test]
fn a_tunnel_lasts_through_a_drain_until_the_deadline() {
    let origin = Origin::start(echo);
    let mut parvis = before(&origin).with("lifecycle.deadline", "\"8s\"").start();
    let mut client = offering(&parvis);
    assert_eq!(client.read_head().expect("a head").status, 101);
    assert_eq!(read_text(&mut client, 6), "hello ");
    parvis.process.signal("TERM");
    wait_until("the drain", Duration::from_secs(20), || {
        TcpStream::connect(("127.0.0.1", parvis.port)).is_err()
    });
    client.send(b"still");
    assert_eq!(read_text(&mut client, 7), "[still]");
    assert_eq!(rest(&mut client), "");
    wait_until("the end", Duration::from_secs(20), || parvis.process.has_ended());
}

#[test]
fn megabytes_pass_unchanged_at_the_pace_of_the_slower_side() {
    let origin = Origin::start(|_, stream| {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let mut buffer = [0; 10_000];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    let parvis = before(&origin).start();
    let mut client = offering(&parvis);
    assert_eq!(client.read_head().expect("a head").status, 101);
    let sent: Vec<u8> = (0..4_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut writer = client.stream().try_clone().expect("a second handle");
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).expect("written");
        writer.shutdown(std::net::Shutdown::Write).expect("half closed");
    });
    let mut got = Vec::with_capacity(sent.len());
    while let Ok(byte) = client.first_byte() {
        got.push(byte);
    }
    writing.join().expect("no panic");
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}
