//! Requests that are in order, and what the handler is given of them.

use super::{Door, numbered};

/// Name, bytes, what the handler tells.
const CASES: &[(&str, &[u8], &str)] = &[
    ("plain", b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a?b=c a HTTP/1.1 "),
    ("empty line first", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / a HTTP/1.1 "),
    ("host with a port", b"GET / HTTP/1.1\r\nHost: a.b:81\r\n\r\n", "GET / a.b:81 HTTP/1.1 "),
    ("IPv6 host", b"GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", "GET / [::1]:81 HTTP/1.1 "),
    ("no space after the colon", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", "GET / a HTTP/1.1 "),
    ("spaces around a value", b"GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n", "GET / a HTTP/1.1 "),
    ("raw UTF-8 path", b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\u{e4} a HTTP/1.1 "),
    (
        "odd characters",
        b"GET /|\\\"<>^`{}[] HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /|\\\"<>^`{}[] a HTTP/1.1 ",
    ),
    (
        "escapes stay",
        b"GET /%2e%2E/%00/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%2e%2E/%00/%zz a HTTP/1.1 ",
    ),
    ("double slash", b"GET //x HTTP/1.1\r\nHost: a\r\n\r\n", "GET //x a HTTP/1.1 "),
    ("absolute form", b"GET http://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y A HTTP/1.1 "),
    (
        "absolute form, https",
        b"GET HTTPS://a:9/ HTTP/1.1\r\nHost: a:9\r\n\r\n",
        "GET / a:9 HTTP/1.1 ",
    ),
    ("absolute form, no path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / a HTTP/1.1 "),
    (
        "absolute form, query alone",
        b"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?b a HTTP/1.1 ",
    ),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * a HTTP/1.1 "),
    (
        "asterisk, absolute",
        b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * a HTTP/1.1 ",
    ),
    ("extension method", b"PURGE /x HTTP/1.1\r\nHost: a\r\n\r\n", "PURGE /x a HTTP/1.1 "),
    ("Upgrade alone", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n", "GET / a HTTP/1.1 "),
    (
        "length",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / a HTTP/1.1 abc",
    ),
    (
        "length zero",
        b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n",
        "POST / a HTTP/1.1 ",
    ),
    (
        "length with zeros",
        b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 003\r\n\r\nabc",
        "POST / a HTTP/1.1 abc",
    ),
    (
        "chunks",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
            3\r\nabc\r\n00a;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        "POST / a HTTP/1.1 abc0123456789",
    ),
    (
        "trailers are dropped",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n0\r\nX: y\r\nHost: z\r\n\r\n",
        "POST / a HTTP/1.1 abc",
    ),
    (
        "GET with content",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "GET / a HTTP/1.1 abc",
    ),
];

#[tokio::test]
async fn a_request_reaches_the_handler_as_it_came() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (name, bytes, told) in CASES {
        let reply = client.ask(bytes).await;
        assert_eq!((reply.status, &*reply.content), (200, *told), "{name}");
    }
    assert_eq!(door.teller.started(), CASES.len());
}

#[tokio::test]
async fn order_case_and_duplicates_of_fields_are_kept() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let reply = client
        .ask("GET / HTTP/1.1\r\nX-b: 1\r\nHoSt: a\r\nCookie: c=1\r\nx-B:\r\nCookie: d=2\r\n\r\n")
        .await;
    assert_eq!(reply.field("x-lines"), Some("X-b=1|HoSt=a|Cookie=c=1|x-B=|Cookie=d=2"));
}

#[tokio::test]
async fn one_hundred_fields_and_a_cookie_of_twelve_kilobytes_are_no_error() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let many = numbered(98, |at| format!("X-{at}: y\r\n"));
    let cookie = "c".repeat(12 << 10);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n{many}\r\n");
    assert_eq!(client.ask(request).await.status, 200);
    let target = "t".repeat((16 << 10) - 14);
    let request = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.ask(request).await.status, 200, "a request line of exactly 16 KiB");
}

#[tokio::test]
async fn http_1_0_needs_no_host_and_closes_unless_asked_to_stay() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let reply = client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(reply.content, "GET /  HTTP/1.0 ");
    assert_eq!(reply.field("connection"), Some("keep-alive"));
    let reply = client.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(reply.content, "GET / a HTTP/1.0 ");
    assert_eq!(reply.field("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn connect_reaches_the_handler_and_never_becomes_a_tunnel() {
    let door = Door::open().await;
    let told =
        door.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    let told = String::from_utf8(told).expect("UTF-8");
    assert!(told.contains("Connection: close\r\n"), "{told}");
    assert!(told.ends_with("CONNECT a:443 a:443 HTTP/1.1 "), "{told}");
    assert_eq!(door.teller.started(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let requests =
        numbered(50, |at| format!("POST /{at} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy"));
    client.write(requests).await;
    for at in 0..50 {
        assert_eq!(client.reply().await.content, format!("POST /{at} a HTTP/1.1 xy"));
    }
}

#[tokio::test]
async fn a_request_in_single_bytes_is_the_same_request() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let request = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n1;e\r\nd\r\n0\r\nT: r\r\n\r\n";
    for byte in request {
        client.write([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.reply().await.content, "POST /x a HTTP/1.1 abcd");
}

#[tokio::test]
async fn an_empty_line_before_a_request_is_skipped_though_it_comes_in_two_pieces() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for _ in 0..2 {
        client.write("\r").await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let reply = client.ask("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(reply.status, 200);
    }
}
