//! HTTP/2, with prior knowledge in clear.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parvis::body::{Body, BodyError, channel};
use parvis::exchange::Delivered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Client, Door, large, until};

/// A client of hyper's on any stream.
pub async fn connect<S>(stream: S) -> SendRequest<Body>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn open(door: &Door) -> SendRequest<Body> {
    connect(TcpStream::connect(door.address).await.expect("connected")).await
}

pub fn get(target: &str) -> Request<Body> {
    Request::get(target).version(Version::HTTP_2).body(Body::empty()).expect("valid")
}

pub async fn content(response: Response<Incoming>) -> Result<Vec<u8>, hyper::Error> {
    let mut incoming = response.into_body();
    let mut all = Vec::new();
    let next = async |incoming: &mut Incoming| {
        std::future::poll_fn(|context| {
            http_body::Body::poll_frame(std::pin::Pin::new(&mut *incoming), context)
        })
        .await
    };
    while let Some(frame) = next(&mut incoming).await {
        all.extend(frame?.into_data().unwrap_or_default());
    }
    Ok(all)
}

async fn told(client: &mut SendRequest<Body>, request: Request<Body>) -> (u16, String) {
    let response = client.send_request(request).await.expect("a response");
    let status = response.status().as_u16();
    let content = content(response).await.expect("content");
    (status, String::from_utf8(content).expect("UTF-8"))
}

#[tokio::test]
async fn prior_knowledge_is_recognised_on_a_cleartext_port() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let (status, told) = told(&mut client, get("http://a:81/x?y=z")).await;
    assert_eq!((status, &*told), (200, "GET /x?y=z a:81 HTTP/2.0 "));
}

#[tokio::test]
async fn cookie_crumbs_are_joined_and_host_stands_first() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let mut request = get("http://a/");
    for (name, value) in [("x-a", "1"), ("cookie", "b=1"), ("x-a", "2"), ("cookie", "c=2")] {
        request.headers_mut().append(name, value.parse().expect("valid"));
    }
    let response = client.send_request(request).await.expect("a response");
    assert_eq!(response.headers()["x-lines"], "host=a|x-a=1|x-a=2|cookie=b=1; c=2");
}

#[tokio::test]
async fn content_passes_both_ways() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let content = "0123456789abcdef".repeat(20_000);
    let post = |body| Request::post("http://a/").body(body).expect("valid");
    let body = Body::from(Bytes::from(content.clone()));
    let expected = format!("POST / a HTTP/2.0 {content}");
    assert!(told(&mut client, post(body)).await == (200, expected.clone()));
    // Without a length.
    let (mut sender, body) = channel(10_000, None);
    tokio::spawn(async move {
        for piece in content.as_bytes().chunks(7_000) {
            sender.send(Bytes::copy_from_slice(piece)).await.expect("wanted");
        }
        sender.finish();
    });
    assert!(told(&mut client, post(body)).await == (200, expected));
    let response = client.send_request(get("http://a/large")).await.expect("a response");
    assert_eq!(response.headers()["content-length"], "8388608");
    assert!(self::content(response).await.expect("content") == large());
}

#[tokio::test]
async fn heads_of_responses_are_those_of_http_1_without_the_connections_fields() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let response = client.send_request(get("http://a/stored-framing")).await.expect("a response");
    let headers = response.headers();
    assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), ["4"]);
    assert_eq!(headers.get_all("date").iter().collect::<Vec<_>>(), ["then"]);
    assert_eq!(headers["x-a"], "1");
    let response = client.send_request(get("http://a/stored")).await.expect("a response");
    assert_eq!(response.headers()["x-second"], "2");
    assert!(response.headers().contains_key("date"));
    assert_eq!(content(response).await.expect("content"), b"page");
    assert_eq!(door.teller.delivery().await, Delivered::Whole { body_bytes: 4 });

    let head = |path: &str| Request::head(format!("http://a{path}")).body(Body::empty());
    for (path, length) in
        [("/stored", Some("4")), ("/told-length", Some("1234")), ("/stream", None)]
    {
        let request = head(path).expect("valid");
        let response = client.send_request(request).await.expect("a response");
        let found = response.headers().get("content-length").map(|value| value.to_str());
        assert_eq!(found.transpose().expect("text"), length, "{path}");
        assert_eq!(content(response).await.expect("content"), b"", "{path}");
    }
    for path in ["/no-content", "/not-modified"] {
        let response = client.send_request(get(&format!("http://a{path}"))).await.expect("one");
        assert!(!response.headers().contains_key("content-length"), "{path}");
        assert_eq!(content(response).await.expect("content"), b"", "{path}");
    }
    for path in ["/split", "/interim"] {
        assert_eq!(told(&mut client, get(&format!("http://a{path}"))).await.0, 502, "{path}");
    }
}

#[tokio::test]
async fn a_truncated_reply_is_a_stream_reset_and_the_connection_goes_on() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let response = client.send_request(get("http://a/broken")).await.expect("a response");
    content(response).await.expect_err("a reset");
    assert_eq!(door.teller.delivery().await, Delivered::BodyFailed { body_bytes: 6 });
    assert_eq!(told(&mut client, get("http://a/stored")).await, (200, "page".to_owned()));
}

#[tokio::test]
async fn a_length_that_was_said_is_kept_or_the_stream_is_reset() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    for (path, delivered) in [
        ("/stream-of-six", Delivered::Whole { body_bytes: 6 }),
        ("/stream-of-seven", Delivered::BodyFailed { body_bytes: 6 }),
        ("/stream-of-five", Delivered::BodyFailed { body_bytes: 3 }),
    ] {
        let response = client.send_request(get(&format!("http://a{path}"))).await;
        let content = match response {
            Ok(response) => content(response).await,
            Err(error) => Err(error),
        };
        assert_eq!(content.is_ok(), path == "/stream-of-six", "{path}");
        assert_eq!(door.teller.delivery().await, delivered, "{path}");
    }
    let parts = client.send_request(get("http://a/parts")).await.expect("a response");
    let expected: String = (0..100).map(|at| format!("{at},")).collect();
    assert_eq!(content(parts).await.expect("content"), expected.as_bytes());
}

/// A client that decides about windows and sees interim responses.
async fn open_plain(door: &Door) -> ::h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(door.address).await.expect("connected");
    let (sender, connection) = ::h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender.ready().await.expect("a stream")
}

#[tokio::test]
async fn a_client_that_waits_for_it_is_told_to_go_on_when_its_content_is_wanted() {
    let door = Door::open().await;
    let mut client = open_plain(&door).await;
    let post = |path: &str| {
        let request = Request::post(format!("http://a{path}")).header("expect", "100-continue");
        request.body(()).expect("valid")
    };
    let (mut response, mut content) = client.send_request(post("/"), false).expect("sent");
    let told = std::future::poll_fn(|context| response.poll_informational(context)).await;
    assert_eq!(told.expect("one").expect("a response").status(), StatusCode::CONTINUE);
    content.send_data(Bytes::from("content"), true).expect("open");
    let mut response = response.await.expect("a response");
    let told = response.body_mut().data().await.expect("content").expect("content");
    assert_eq!(told, "POST / a HTTP/2.0 content");

    // Nobody wants this, and nobody asks for it.
    let (mut response, _content) = client.send_request(post("/early"), false).expect("sent");
    let interim = std::future::poll_fn(|context| {
        let interim = response.poll_informational(context);
        if interim.is_pending() && std::pin::Pin::new(&mut response).poll(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        interim
    });
    assert!(interim.await.is_none());
}

#[tokio::test]
async fn a_client_may_send_no_more_content_than_its_window_until_the_handler_takes_some() {
    const WINDOW_BYTES: usize = 64 << 10;
    let door = Door::open().await;
    let mut client = open_plain(&door).await;
    let post = Request::post("http://a/wait").body(()).expect("valid");
    let (response, mut content) = client.send_request(post, false).expect("sent");
    let mut sent = 0;
    while sent < WINDOW_BYTES {
        content.reserve_capacity(WINDOW_BYTES);
        let room = std::future::poll_fn(|context| content.poll_capacity(context)).await;
        let room = room.expect("open").expect("room");
        content.send_data(Bytes::from(vec![b'x'; room]), false).expect("open");
        sent += room;
    }
    assert_eq!(sent, WINDOW_BYTES);
    // What came before these is where it stays.
    for _ in 0..3 {
        let get = Request::get("http://a/stored").body(()).expect("valid");
        let (other, _) = client.send_request(get, true).expect("sent");
        assert_eq!(other.await.expect("a response").status(), StatusCode::OK);
    }
    content.reserve_capacity(1);
    assert_eq!(content.capacity(), 0);
    door.teller.go.notify_one();
    assert_eq!(response.await.expect("a response").status(), StatusCode::OK);
}

#[tokio::test]
async fn requests_that_do_not_hold_together_are_refused() {
    let door = Door::open_with(|listen| {
        listen.body_max_bytes = 10;
        listen.request_line_max_bytes = 100;
    })
    .await;
    let mut client = open(&door).await;
    let with = |name: &'static str, value: &str| {
        let mut request = get("http://a/");
        request.headers_mut().append(name, value.parse().expect("valid"));
        request
    };
    assert_eq!(told(&mut client, with("host", "b")).await.0, 400);
    assert_eq!(told(&mut client, with("host", "A")).await.0, 200);
    assert_eq!(told(&mut client, with("expect", "tea")).await.0, 417);
    assert_eq!(told(&mut client, with("x-a", &"y".repeat(17_000))).await.0, 431);
    assert_eq!(told(&mut client, get("http://u@a/")).await.0, 400);
    assert_eq!(told(&mut client, get(&format!("http://a/{}", "x".repeat(100)))).await.0, 414);
    let mut many = get("http://a/");
    for at in 0..100 {
        let name: http::HeaderName = format!("x-{at}").parse().expect("valid");
        many.headers_mut().append(name, "y".parse().expect("valid"));
    }
    assert_eq!(told(&mut client, many).await.0, 431);
    let mut crumbs = get("http://a/");
    for at in 0..500 {
        crumbs.headers_mut().append("cookie", format!("c{at}=1").parse().expect("valid"));
    }
    assert_eq!(told(&mut client, crumbs).await.0, 200, "crumbs are one field");
    let body = Body::from(Bytes::from_static(b"0123456789a"));
    let post = Request::post("http://a/").body(body).expect("valid");
    assert_eq!(told(&mut client, post).await.0, 413);
}

#[tokio::test]
async fn a_stream_that_the_client_resets_drops_the_handler() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let request = tokio::spawn(client.send_request(get("http://a/wait")));
    until("handler", || door.teller.started() == 1).await;
    request.abort();
    let dropped = &door.teller.dropped;
    until("drop", || dropped.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    assert_eq!(told(&mut client, get("http://a/stored")).await.0, 200);
}

#[tokio::test]
async fn content_that_stalls_or_breaks_off_ends_with_an_error() {
    let door = Door::open_with(|listen| listen.body_timeout = Duration::from_millis(100)).await;
    let mut client = open(&door).await;
    let (mut sender, body) = channel(100, None);
    sender.send(Bytes::from_static(b"x")).await.expect("wanted");
    let post = Request::post("http://a/").body(body).expect("valid");
    assert_eq!(told(&mut client, post).await.0, 408);
    drop(sender);

    let (mut sender, body) = channel(100, None);
    sender.send(Bytes::from_static(b"x")).await.expect("wanted");
    let post = Request::post("http://a/").body(body).expect("valid");
    let request = tokio::spawn(client.send_request(post));
    until("handler", || door.teller.started() == 2).await;
    sender.abort(BodyError::Truncated);
    // The stream is gone: there is nobody to answer, and nothing of it is left.
    request.await.expect("joined").expect_err("a reset");
}

#[tokio::test]
async fn draining_says_goodbye_and_finishes_streams_in_flight() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let waiting = tokio::spawn(client.send_request(get("http://a/wait")));
    until("handler", || door.teller.started() == 1).await;
    door.shutdown.drain();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(door.shutdown.connections().count(), 1);
    door.teller.go.notify_one();
    let response = waiting.await.expect("joined").expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    door.shutdown.all_gone().await;
    client.ready().await.expect_err("closed");
}

#[tokio::test]
async fn a_response_that_closes_says_goodbye_and_lets_other_streams_finish() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let waiting = tokio::spawn(client.send_request(get("http://a/wait")));
    until("handler", || door.teller.started() == 1).await;
    assert_eq!(told(&mut client, get("http://a/close")).await, (200, "bye\n".to_owned()));
    assert_eq!(door.shutdown.connections().count(), 1);
    door.teller.go.notify_one();
    let response = waiting.await.expect("joined").expect("a response");
    assert_eq!(content(response).await.expect("content"), b"waited\n");
    // The client keeps its side open, and would be idle for more than a minute.
    until("end", || door.shutdown.connections().count() == 0).await;
    client.ready().await.expect_err("closed");
}

#[tokio::test]
async fn content_that_trickles_is_given_up() {
    let door = Door::open_with(|listen| {
        listen.body_timeout = Duration::from_millis(200);
        listen.rate_min_bytes = 1 << 20;
    })
    .await;
    let mut client = open(&door).await;
    let (mut sender, body) = channel(100, None);
    // No pause is long; all of it is.
    let trickle = tokio::spawn(async move {
        while sender.send(Bytes::from_static(b"x")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let post = Request::post("http://a/").body(body).expect("valid");
    assert_eq!(told(&mut client, post).await.0, 408);
    trickle.await.expect("ended");
}

#[tokio::test]
async fn aborting_drops_the_handlers_of_all_streams() {
    let door = Door::open().await;
    let mut client = open(&door).await;
    let waiting = tokio::spawn(client.send_request(get("http://a/wait")));
    until("handler", || door.teller.started() == 1).await;
    door.shutdown.abort();
    waiting.await.expect("joined").expect_err("cut");
    let dropped = &door.teller.dropped;
    until("drop", || dropped.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_connection_without_requests_is_ended() {
    let door = Door::open_with(|listen| {
        listen.header_timeout = Duration::from_millis(500);
        listen.keep_alive = Duration::from_millis(600);
    })
    .await;
    let mut fresh = open(&door).await;
    let mut used = open(&door).await;
    told(&mut used, get("http://a/")).await;
    until("end", || door.shutdown.connections().count() == 0).await;
    fresh.ready().await.expect_err("closed");
    used.ready().await.expect_err("closed");
}

/// Frames by hand, for what a proper client does not do.
mod frames {
    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const CONTINUATION: u8 = 9;
    /// The flags for the end of the stream and of the fields.
    pub const WHOLE: u8 = 5;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// `GET path` of the host `a`, without Huffman coding or a table.
    pub fn get(path: &str) -> Vec<u8> {
        let mut block = vec![0x82, 0x86, 0x01, 1, b'a', 0x04];
        block.push(u8::try_from(path.len()).expect("short"));
        block.extend_from_slice(path.as_bytes());
        block
    }

    pub fn literal(name: &str, value: &str) -> Vec<u8> {
        let mut block = vec![0];
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
        block
    }
}

async fn raw(door: &Door, settings: &[u8]) -> Client<TcpStream> {
    let mut client = door.client().await;
    client.write(frames::PREFACE).await;
    client.write(frames::frame(frames::SETTINGS, 0, 0, settings)).await;
    client
}

fn request_and_reset(at: u32) -> [Vec<u8>; 2] {
    let stream = at * 2 + 1;
    let get = frames::frame(frames::HEADERS, frames::WHOLE, stream, &frames::get("/wait"));
    [get, frames::frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8])]
}

#[tokio::test]
async fn a_client_that_cancels_its_requests_at_once_is_cut() {
    let door = Door::open().await;
    let mut client = raw(&door, &[]).await;
    for at in 0..1_000 {
        let both = request_and_reset(at).concat();
        if tokio::io::AsyncWriteExt::write_all(&mut client.io, &both).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    client.rest().await;
    until("end", || door.shutdown.connections().count() == 0).await;
    assert!(door.teller.started() <= 200, "{}", door.teller.started());
}

#[tokio::test]
async fn a_client_that_cancels_its_requests_once_they_are_handled_is_cut() {
    let door = Door::open().await;
    let mut client = raw(&door, &[]).await;
    for at in 0..101 {
        let [get, reset] = request_and_reset(at);
        client.write(get).await;
        until("handler", || door.teller.started() > at as usize).await;
        client.write(reset).await;
    }
    client.rest().await;
    assert_eq!(door.shutdown.connections().counts().http2_connections_cut, 1);
}

#[tokio::test]
async fn a_client_that_gives_no_window_is_cut() {
    let door = Door::open_with(|listen| listen.write_timeout = Duration::from_millis(200)).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let mut client = raw(&door, &[0, 4, 0, 0, 0, 0]).await;
    client.write(frames::frame(frames::HEADERS, frames::WHOLE, 1, &frames::get("/large"))).await;
    client.rest().await;
    assert_eq!(door.shutdown.connections().counts().http2_connections_cut, 1);
    let delivered = door.teller.delivery().await;
    assert!(matches!(delivered, Delivered::ClientGone { body_bytes: 0..100_000 }), "{delivered:?}");
}

#[tokio::test]
async fn fields_of_the_connection_and_bad_pseudo_fields_never_reach_the_handler() {
    let door = Door::open().await;
    let cases: &[(&str, Vec<u8>)] = &[
        ("connection", frames::literal("connection", "close")),
        ("transfer-encoding", frames::literal("transfer-encoding", "chunked")),
        ("upgrade", frames::literal("upgrade", "h2c")),
        ("keep-alive", frames::literal("keep-alive", "1")),
        ("te", frames::literal("te", "gzip")),
        ("upper case", frames::literal("X-A", "b")),
        ("line feed in a value", frames::literal("x-a", "b\nc: d")),
        ("carriage return in a value", frames::literal("x-a", "b\rc")),
        ("NUL in a value", frames::literal("x-a", "b\0c")),
        ("colon in a name", frames::literal("x:a", "b")),
        ("space in a name", frames::literal("x a", "b")),
        ("empty name", frames::literal("", "b")),
        ("second path", vec![0x84]),
        ("second authority", vec![0x01, 1, b'b']),
        ("unknown pseudo-field", frames::literal(":x", "b")),
        (
            "two lengths",
            [frames::literal("content-length", "0"), frames::literal("content-length", "1")]
                .concat(),
        ),
        ("wrong length", frames::literal("content-length", "5")),
        ("length with plus", frames::literal("content-length", "+0")),
    ];
    for (name, extra) in cases {
        let mut client = raw(&door, &[]).await;
        let block = [frames::get("/"), extra.clone()].concat();
        client.write(frames::frame(frames::HEADERS, frames::WHOLE, 1, &block)).await;
        // The answer is a reset, a goodbye or a 400; then nothing is left of the stream.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(door.teller.started(), 0, "{name}");
    }
}

#[tokio::test]
async fn header_lists_without_end_are_cut() {
    let door = Door::open().await;
    let mut client = raw(&door, &[]).await;
    client.write(frames::frame(frames::HEADERS, 1, 1, &frames::get("/"))).await;
    let block = frames::literal("x-a", &"y".repeat(120)).repeat(100);
    for _ in 0..1_000 {
        let more = frames::frame(frames::CONTINUATION, 0, 1, &block);
        if tokio::io::AsyncWriteExt::write_all(&mut client.io, &more).await.is_err() {
            break;
        }
    }
    client.rest().await;
    assert_eq!(door.teller.started(), 0);
}
