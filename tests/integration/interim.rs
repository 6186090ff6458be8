//! Interim responses (RFC 9110 15.2, RFC 8297): an origin's hints reach the client that fetches.

use std::future::poll_fn;
use std::io::Write;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};

use super::support::client::Client;
use super::support::origin::{Origin, page};
use super::support::process::wait_until;
use super::support::{Parvis, h2};

const HINTS: &str = "HTTP/1.1 100 Continue\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
    Keep-Alive: timeout=5\r\nSet-Cookie: a=b\r\nX-Magento-Tags: t\r\nX-Own: 1\r\n\r\n\
    HTTP/1.1 102 Processing\r\n\r\n";

fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Sends hints, and the page only when the test says so.
fn held_origin() -> (Origin, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::start(move |seen, stream| {
        send(stream, HINTS.as_bytes());
        if seen.target.contains("held") {
            let _ = gone.lock().expect("not poisoned").recv_timeout(Duration::from_secs(20));
        }
        send(stream, &page("page", "t"));
    });
    (origin, go)
}

fn get(target: &str, version: &str) -> String {
    format!("GET {target} HTTP/{version}\r\nHost: shop.test\r\n\r\n")
}

/// The statuses up to the final one, and the fields of the 103.
fn read_all(client: &mut Client) -> (Vec<u16>, Vec<(String, String)>) {
    let (mut statuses, mut hinted) = (Vec::new(), Vec::new());
    loop {
        let head = client.read_head().expect("a head");
        statuses.push(head.status);
        if head.status == 103 {
            hinted.clone_from(&head.headers);
        }
        if head.status >= 200 {
            return (statuses, hinted);
        }
    }
}

#[test]
fn hints_reach_the_client_before_the_response_with_end_to_end_fields_alone() {
    let (origin, go) = held_origin();
    for policy in ["magento", "generic"] {
        let parvis =
            Parvis::before_http(origin.port).with("site.policy", &format!("\"{policy}\"")).start();
        for target in ["/held", "/customer/held"] {
            let mut client = Client::connect(parvis.port);
            client.send(get(target, "1.1").as_bytes());
            let hint = client.read_head().expect("a hint while the page is held");
            assert_eq!(hint.status, 103, "{policy} {target}");
            assert_eq!(hint.header("link"), Some("</a.css>; rel=preload"));
            let names: Vec<_> = hint.headers.iter().map(|(name, _)| name.as_str()).collect();
            match policy {
                "magento" => assert_eq!(names, ["Link", "X-Own"]),
                _ => assert_eq!(names, ["Link", "X-Magento-Tags", "X-Own"]),
            }
            assert_eq!(client.read_head().expect("another").status, 102);
            go.send(()).expect("the origin waits");
            let reply = client.read(false).expect("the page");
            assert_eq!((reply.status, reply.text().as_str()), (200, "page"));
        }
    }
}

#[test]
fn neither_a_hit_nor_http_1_0_gets_hints() {
    let (origin, _go) = held_origin();
    let parvis = Parvis::before_http(origin.port).start();
    let mut client = Client::connect(parvis.port);
    client.send(get("/old", "1.0").as_bytes());
    assert_eq!(client.read_head().expect("a head").status, 200);
    let mut client = Client::connect(parvis.port);
    client.send(get("/p", "1.1").as_bytes());
    assert_eq!(read_all(&mut client).0, [103, 102, 200]);
    for _ in 0..2 {
        let mut client = Client::connect(parvis.port);
        client.send(get("/p", "1.1").as_bytes());
        let hit = client.read_head().expect("a head");
        assert_eq!((hit.status, hit.is_hit() || hit.is_collapsed()), (200, true));
    }
}

#[test]
fn a_follower_gets_the_response_without_the_leaders_hints() {
    let (origin, go) = held_origin();
    let parvis = Parvis::before_http(origin.port).start();
    let mut leader = Client::connect(parvis.port);
    leader.send(get("/held", "1.1").as_bytes());
    assert_eq!(leader.read_head().expect("a hint").status, 103);
    let mut follower = Client::connect(parvis.port);
    follower.send(get("/held", "1.1").as_bytes());
    wait_until("a follower", Duration::from_secs(20), || {
        parvis.metric("parvis_fill_waiters") == Some(1.0)
    });
    go.send(()).expect("the origin waits");
    assert_eq!(read_all(&mut follower).0, [200]);
    assert_eq!(read_all(&mut leader).0, [102, 200]);
    assert_eq!(origin.count(), 1);
}

#[test]
fn hints_are_bounded_by_number_and_by_size_and_can_be_switched_off() {
    let origin = Origin::start(|seen, stream| {
        let large = "x".repeat(if seen.target == "/large" { 30_000 } else { 1 });
        for _ in 0..20 {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{large}>\r\n\r\n");
            send(stream, hint.as_bytes());
        }
        send(stream, &page("page", "t"));
    });
    let parvis = Parvis::before_http(origin.port).with("origin.head_max", "\"2MiB\"").start();
    for (target, hints) in [("/small", 8), ("/large", 2)] {
        let mut client = Client::connect(parvis.port);
        client.send(get(target, "1.1").as_bytes());
        assert_eq!(read_all(&mut client).0.len(), hints + 1, "{target}");
    }
    let parvis = Parvis::before_http(origin.port).with("listen.interim_responses_max", "0").start();
    let mut client = Client::connect(parvis.port);
    client.send(get("/small", "1.1").as_bytes());
    assert_eq!(read_all(&mut client).0, [200]);
}

#[test]
fn hints_without_end_are_502() {
    let origin = Origin::start(|_, stream| {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1_000);
        while stream.write_all(hint.as_bytes()).is_ok() {}
    });
    let parvis = Parvis::before_http(origin.port).start();
    let mut client = Client::connect(parvis.port);
    client.send(get("/p", "1.1").as_bytes());
    let (statuses, _) = read_all(&mut client);
    assert_eq!((statuses.len(), statuses.last()), (9, Some(&502)));
}

/// Asks over HTTP/2, and calls `each` with each interim response as it comes.
fn ask_over_http2(port: u16, target: &str, mut each: impl FnMut(&Response<()>)) -> u16 {
    let request = Request::get(format!("http://shop.test{target}")).body(()).expect("a request");
    h2::runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a listener");
        let (sender, connection) = ::h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut sender = sender.ready().await.expect("a stream");
        let (mut response, _) = sender.send_request(request, true).expect("sent");
        let answered = poll_fn(|context| {
            while let Poll::Ready(Some(hint)) = response.poll_informational(context) {
                each(&hint.expect("a hint"));
            }
            Pin::new(&mut response).poll(context)
        });
        let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
        answered.expect("in time").expect("a response").status().as_u16()
    })
}

#[test]
fn hints_reach_a_client_of_http_2_before_the_response_with_the_same_fields_and_bounds() {
    let (origin, go) = held_origin();
    let parvis = Parvis::before_http(origin.port).start();
    for target in ["/held", "/customer/held"] {
        let mut hints = Vec::new();
        let status = ask_over_http2(parvis.port, target, |hint| {
            let fields = hint.headers().iter();
            let names: Vec<_> = fields.map(|(name, _)| name.as_str().to_owned()).collect();
            hints.push((hint.status().as_u16(), names));
            if hints.len() == 1 {
                // The response cannot have come before.
                go.send(()).expect("the origin waits");
            }
        });
        assert_eq!(status, 200);
        let names = vec!["link".to_owned(), "x-own".to_owned()];
        assert_eq!(hints, [(103, names), (102, Vec::new())], "{target}");
    }
    let mut hints = 0;
    // A hit has none.
    assert_eq!(ask_over_http2(parvis.port, "/held", |_| hints += 1), 200);
    assert_eq!(hints, 0);

    let many = Origin::start(|_, stream| {
        send(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20).as_bytes());
        send(stream, &page("page", "t"));
    });
    for (responses_max, expected) in [("8", 8), ("0", 0)] {
        let parvis = Parvis::before_http(many.port)
            .with("listen.interim_responses_max", responses_max)
            .start();
        let mut hints = 0;
        assert_eq!(ask_over_http2(parvis.port, "/p", |_| hints += 1), 200);
        assert_eq!(hints, expected);
    }
}
