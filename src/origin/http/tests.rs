use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::body::{BodyError, Spooled};
use crate::fields::Fields;
use crate::origin::decoder::{Fault, Step};
use crate::origin::testing::{Act, Peer, content, request, settings};

/// A request without content is whole with its empty line; one with content ends with a dot.
fn is_whole(request: &[u8]) -> bool {
    let has_content = request.windows(16).any(|window| window == b"Content-Length: ");
    if has_content { request.ends_with(b".") } else { request.ends_with(b"\r\n\r\n") }
}

fn server(scripts: Vec<Vec<Act>>) -> Peer {
    Peer::start(is_whole, scripts)
}

fn answers(stream: &str) -> Vec<Act> {
    vec![Act::Read, Act::Write(stream.as_bytes().to_vec())]
}

fn kept_alive() -> Settings {
    let mut settings = settings();
    settings.origin.keep_alive = Some(Duration::from_secs(5));
    settings
}

fn client(peer: &Peer, settings: &Settings) -> Client {
    let gate = Admission::new(settings, &Clock::system());
    Client::new(peer.endpoint.clone(), settings, gate, &Clock::system())
}

async fn fetch(client: &Client, method: Method) -> Result<OriginResponse, OriginError> {
    client.fetch(&request(method, "/p?x=1")).await
}

async fn page(client: &Client) -> Result<Bytes, BodyError> {
    content(fetch(client, Method::GET).await.expect("a response")).await
}

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    status: StatusCode,
    fields: Fields,
    content: Vec<u8>,
    reusable: bool,
}

/// Reads pieces and then the end of the connection.
fn decode<'a>(
    head_request: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Decoded, Fault> {
    let mut reply = Reply::new(head_request, 4_096);
    let mut input = BytesMut::new();
    let mut decoded = None;
    let mut pieces = pieces.into_iter();
    loop {
        let step = match reply.next(&mut input)? {
            Step::More => match pieces.next() {
                Some(piece) => {
                    input.extend_from_slice(piece);
                    continue;
                }
                None => reply.end_of_input()?,
            },
            step => step,
        };
        match step {
            Step::More => unreachable!("the connection has ended"),
            Step::Head(head) => {
                let (status, fields) = (head.status, head.fields);
                decoded = Some(Decoded { status, fields, content: Vec::new(), reusable: false });
            }
            Step::Content(piece) => {
                decoded.as_mut().expect("a head").content.extend_from_slice(&piece);
            }
            Step::Interim { .. } | Step::Trailers(_) => {}
            Step::End { reusable } => {
                return Ok(Decoded { reusable, ..decoded.expect("a head") });
            }
        }
    }
}

fn decode_get(stream: &str) -> Result<Decoded, Fault> {
    decode(false, [stream.as_bytes()])
}

#[test]
fn fields_come_out_in_order_and_case_with_duplicates() {
    let stream = "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nX-aB: \t1 \r\nset-cookie: b\r\n\
                  Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nhi";
    let decoded = decode_get(stream).expect("a response");
    let expected = Fields::from([
        ("Set-Cookie", "a"),
        ("X-aB", "1"),
        ("set-cookie", "b"),
        ("Content-Length", "2"),
    ]);
    assert_eq!(decoded.fields, expected);
    assert_eq!((&decoded.content[..], decoded.reusable), (&b"hi"[..], true));
}

#[test]
fn content_ends_by_length_by_chunks_or_with_the_connection() {
    for (stream, reusable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage", true),
        ("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\npage", false),
        // No coding that anybody knows (RFC 9112 6.3).
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: abc\r\n\r\npage", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\npage", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\npage", true),
        ("HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 4\r\n\r\npage", false),
    ] {
        let decoded = decode_get(stream).expect("a response");
        assert_eq!((&decoded.content[..], decoded.reusable), (&b"page"[..], reusable), "{stream}");
    }
}

#[test]
fn head_204_and_304_have_no_content_and_more_bytes_end_the_connections_use() {
    for (head_request, status, after, reusable) in [
        (true, 200, "", true),
        (true, 200, "page", false),
        (false, 304, "", true),
        (false, 204, "page", false),
    ] {
        let stream = format!("HTTP/1.1 {status} X\r\nContent-Length: 4\r\n\r\n{after}");
        let decoded = decode(head_request, [stream.as_bytes()]).expect("a response");
        assert_eq!((decoded.content.len(), decoded.reusable), (0, reusable), "{stream}");
        assert_eq!(decoded.fields.contains("content-length"), status != 204);
    }
}

#[test]
fn interim_responses_are_skipped_up_to_the_heads_bound_and_101_is_refused() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let decoded = decode_get(&format!("HTTP/1.1 100 Continue\r\n\r\n{interim}{PAGE}"));
    assert_eq!(decoded.map(|decoded| decoded.content), Ok(b"page".to_vec()));
    let endless = decode_get(&interim.repeat(200));
    assert!(matches!(endless, Err(Fault::Malformed(_))));
    let switched = decode_get("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    assert!(matches!(switched, Err(Fault::Malformed(_))));
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_malformed() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4",
        "HTTP/1.1 200 OK\r\nContent-Length: 4, 4",
        "HTTP/1.1 200 OK\r\nContent-Length: +4",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: abc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: abc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 4",
        "HTTP/1.1 200 OK\r\nA: b\r\n c",
        "HTTP/1.1 200 OK\r\nA : b",
        "HTTP/1.1 200 OK\r\nA: b\x01",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "ICY 200 OK",
        "http/1.1 200 OK",
        "",
    ] {
        let result = decode_get(&format!("{head}\r\n\r\npage"));
        assert!(matches!(result, Err(Fault::Malformed(_))), "{head:?} {result:?}");
    }
}

#[test]
fn a_head_beyond_its_bound_is_malformed() {
    let stream = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(4_096));
    assert!(matches!(decode_get(&stream), Err(Fault::Malformed(_))));
}

#[test]
fn a_connection_that_ends_early_cuts_the_reply() {
    for stream in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npage",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n",
    ] {
        assert_eq!(decode_get(stream), Err(Fault::Cut), "{stream:?}");
    }
}

proptest! {
    #[test]
    fn any_split_of_a_reply_over_reads_gives_the_same_result(
        body in "[a-z]{0,100}",
        chunked in any::<bool>(),
        piece_bytes in 1_usize..40,
    ) {
        let framed = if chunked {
            let last = "0\r\nX-Trailer: 1\r\n\r\n";
            let first = format!("{:x};e\r\n{body}\r\n", body.len());
            let content = if body.is_empty() { last.to_owned() } else { first + last };
            format!("Transfer-Encoding: chunked\r\n\r\n{content}")
        } else {
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let stream = format!("HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\n{framed}");
        let whole = decode_get(&stream).expect("a response");
        prop_assert_eq!(&whole.content[..], body.as_bytes());
        prop_assert!(whole.reusable);
        prop_assert_eq!(decode(false, stream.as_bytes().chunks(piece_bytes)), Ok(whole));
    }

    #[test]
    fn any_bytes_give_an_outcome_and_the_same_one_in_single_bytes(
        stream in proptest::collection::vec(any::<u8>(), 0..200),
        start in 0_usize..3,
    ) {
        let start = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
            [start];
        let stream = [start.as_bytes(), &stream].concat();
        let whole = decode(false, [&stream[..]]);
        let dripped = decode(false, stream.chunks(1));
        prop_assert_eq!(dripped.is_ok(), whole.is_ok());
    }
}

#[tokio::test]
async fn a_request_is_written_anew_with_its_own_framing() {
    let peer = server(vec![answers(PAGE), answers(PAGE)]);
    let client = client(&peer, &settings());
    let mut post = request(Method::POST, "/p?x=1");
    post.body = Spooled::from(Bytes::from("a=1."));
    post.fields = Fields::from([
        ("Host", "shop.test"),
        ("X-aB", "1"),
        ("Content-Length", "99"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "X-aB"),
        ("Expect", "100-continue"),
        ("X-Bad", "a\r\nb"),
        ("cookie", "b=2"),
    ]);
    client.fetch(&post).await.expect("a response");
    fetch(&client, Method::GET).await.expect("a response");
    let sent: Vec<_> = peer.requests().into_iter().map(String::from_utf8).collect();
    let post = "POST /p?x=1 HTTP/1.1\r\nHost: shop.test\r\nX-aB: 1\r\ncookie: b=2\r\n\
                Content-Length: 4\r\nConnection: close\r\n\r\na=1.";
    let get = "GET /p?x=1 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
    assert_eq!(sent, [Ok(post.to_owned()), Ok(get.to_owned())]);
}

#[tokio::test]
async fn a_target_that_would_leave_its_line_is_not_sent() {
    let peer = server(Vec::new());
    let client = client(&peer, &settings());
    for target in ["", "/a b", "/a\r\nX: y", "/\0"] {
        let result = client.fetch(&request(Method::GET, target)).await;
        assert!(matches!(result, Err(OriginError::Malformed { .. })), "{target:?}");
    }
}

#[tokio::test]
async fn what_came_with_the_head_is_there_without_a_wait() {
    let peer = server(vec![answers(PAGE)]);
    let client = client(&peer, &settings());
    let mut body = fetch(&client, Method::GET).await.expect("a response").body;
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(body.poll_next(&mut context), Poll::Ready(Some(Ok(Bytes::from("page")))));
    assert_eq!(body.poll_next(&mut context), Poll::Ready(None));
}

#[tokio::test]
async fn content_that_comes_byte_by_byte_has_no_block_of_memory_for_each() {
    let head = answers("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n");
    let peer = server(vec![[head, vec![Act::Drip(vec![b'x'; 90])]].concat()]);
    let client = client(&peer, &settings());
    let mut body = fetch(&client, Method::GET).await.expect("a response").body;
    let mut pieces = Vec::new();
    while let Some(piece) = body.next().await {
        pieces.push(piece.expect("whole"));
    }
    let at = |piece: Option<&Bytes>| piece.map_or(0, |piece| piece.as_ptr().addr());
    assert!(pieces.len() > 1);
    assert!(at(pieces.last()).wrapping_sub(at(pieces.first())) < 90);
}

#[tokio::test]
async fn an_idle_connection_serves_the_next_request() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n";
    let peer = server(vec![[answers(PAGE), answers(chunked), answers(PAGE)].concat()]);
    let client = client(&peer, &kept_alive());
    for _ in 0..3 {
        assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    }
    peer.played(1).await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_anything_is_not_used_again() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npage";
    let smuggled = format!("{PAGE}{PAGE}");
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\npage";
    let wait = || vec![Act::AwaitClose];
    let peer = server(vec![
        [answers(long), wait()].concat(),
        [answers(&smuggled), wait()].concat(),
        [answers(both), wait()].concat(),
        answers(PAGE),
    ]);
    let client = client(&peer, &kept_alive());
    let mut response = fetch(&client, Method::GET).await.expect("a response");
    assert_eq!(response.body.next().await, Some(Ok(Bytes::from("page"))));
    drop(response);
    assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    let both = fetch(&client, Method::GET).await;
    assert!(matches!(both, Err(OriginError::Malformed { .. })));
    assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    peer.played(4).await;
}

#[tokio::test]
async fn a_short_content_is_truncated_and_one_to_the_connections_end_is_whole() {
    let peer = server(vec![
        answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npage"),
        answers("HTTP/1.1 200 OK\r\n\r\npage"),
        answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n"),
    ]);
    let client = client(&peer, &settings());
    assert_eq!(page(&client).await, Err(BodyError::Truncated));
    assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    assert_eq!(page(&client).await, Err(BodyError::Truncated));
}

#[tokio::test]
async fn an_idle_connection_that_died_before_the_first_byte_is_replaced() {
    let dies = [answers(PAGE), vec![Act::Read]].concat();
    let peer = server(vec![dies, answers(PAGE)]);
    let client = client(&peer, &kept_alive());
    for _ in 0..2 {
        assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    }
    assert_eq!(peer.requests().len(), 3);
}

#[tokio::test]
async fn a_post_is_not_sent_twice() {
    let mut settings = settings();
    settings.origin.retries = 3;
    let peer = server(vec![vec![Act::Read], answers(PAGE)]);
    let client = client(&peer, &settings);
    let mut post = request(Method::POST, "/");
    post.body = Spooled::from(Bytes::from("."));
    assert!(matches!(client.fetch(&post).await, Err(OriginError::Lost { .. })));
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_silent_server_times_out_in_head_and_content() {
    let mut settings = settings();
    settings.origin.first_byte_timeout = Duration::from_millis(50);
    settings.origin.between_bytes_timeout = Duration::from_millis(50);
    let stalls =
        [answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npage"), vec![Act::AwaitClose]];
    let peer = server(vec![vec![Act::Read, Act::AwaitClose], stalls.concat()]);
    let client = client(&peer, &settings);
    let silent = fetch(&client, Method::GET).await;
    assert!(matches!(silent, Err(OriginError::TimedOut { .. })));
    assert_eq!(page(&client).await, Err(BodyError::TimedOut));
    peer.played(2).await;
}

#[tokio::test]
async fn a_full_gate_refuses_and_a_missing_socket_is_refused() {
    let mut settings = settings();
    settings.origin.concurrency_max = 1;
    settings.origin.queue_max = 0;
    let peer = server(vec![vec![Act::Read, Act::AwaitClose]]);
    let client = client(&peer, &settings);
    let first = fetch(&client, Method::GET);
    let second = async {
        while peer.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fetch(&client, Method::GET).await
    };
    tokio::select! {
        _ = first => panic!("the server never answers"),
        second = second => assert!(matches!(second, Err(OriginError::Busy(_)))),
    }
    drop(peer);
    assert!(matches!(fetch(&client, Method::GET).await, Err(OriginError::Refused { .. })));
}

/// The steps up to the head, as text.
fn heads(offered: &'static str, stream: &str) -> Result<Vec<String>, Fault> {
    let mut reply = Reply::new(false, 4_096).offering(Bytes::from(offered));
    let mut input = BytesMut::from(stream);
    let mut steps = Vec::new();
    loop {
        let (status, fields) = match reply.next(&mut input)? {
            Step::Interim { status, fields } => (status, fields),
            Step::Head(head) => {
                steps.push(format!("{} {:?}", head.status.as_u16(), head.fields.first("upgrade")));
                return Ok(steps);
            }
            Step::More => return Err(Fault::Cut),
            step => panic!("{step:?}"),
        };
        let names: Vec<_> = fields.iter().map(|field| field.name.clone()).collect();
        steps.push(format!("{} {names:?}", status.as_u16()));
    }
}

#[test]
fn interim_responses_come_out_without_hop_by_hop_fields_and_100_does_not() {
    let stream = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\
        Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
        HTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let expected = ["103 [b\"Link\"]", "199 []", "204 None"].map(str::to_owned);
    assert_eq!(heads("", stream), Ok(expected.to_vec()));
    let long = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".repeat(100);
    assert!(matches!(heads("", &long), Err(Fault::Malformed(_))), "they share the head's bound");
}

#[test]
fn a_switch_is_one_to_an_offered_protocol_alone() {
    let to = |upgrade: &str| {
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{upgrade}\r\n\r\n")
    };
    let switched = heads("websocket, b/2", &to("Upgrade: WebSocket"));
    assert_eq!(switched, Ok(vec!["101 Some(b\"WebSocket\")".to_owned()]));
    for (offered, answer) in [
        ("", to("Upgrade: websocket")),
        ("websocket", to("Upgrade: web")),
        ("websocket", to("Upgrade: websocket, b/2")),
        ("websocket", to("Upgrade:")),
        ("websocket", to("X: y")),
        ("websocket", to("Upgrade: websocket").replace("HTTP/1.1", "HTTP/1.0")),
        ("websocket", to("Upgrade: websocket").replace("Connection", "X")),
    ] {
        assert!(matches!(heads(offered, &answer), Err(Fault::Malformed(_))), "{answer}");
    }
}
