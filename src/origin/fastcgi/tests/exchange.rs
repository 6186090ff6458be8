use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::*;
use crate::admission::Admission;
use crate::body::{Body, BodyError, SpoolMemory, Spooled};
use crate::clock::Clock;
use crate::fields::Fields;
use crate::origin::fastcgi::{Client, Script};
use crate::origin::testing::{Act, Peer, content, request, settings};
use crate::origin::{OriginError, OriginRequest, OriginResponse};
use crate::settings::{Endpoint, Settings};

const PAGE: &str = "Content-Type: text/html\r\n\r\npage";

fn php(scripts: Vec<Vec<Act>>) -> Peer {
    Peer::start(is_whole, scripts)
}

fn answers(stream: Vec<u8>) -> Vec<Act> {
    vec![Act::Read, Act::Write(stream)]
}

fn client(peer: &Peer, settings: &Settings) -> Client {
    let gate = Admission::new(settings, &Clock::system());
    Client::new(peer.endpoint.clone(), settings, gate, &Clock::system())
}

fn kept_alive() -> Settings {
    let mut settings = settings();
    settings.origin.keep_alive = Some(Duration::from_secs(5));
    settings
}

fn retrying() -> Settings {
    let mut settings = settings();
    settings.origin.retries = 1;
    settings
}

async fn get(client: &Client) -> Result<OriginResponse, OriginError> {
    client.fetch(&request(Method::GET, "/"), &Script::default()).await
}

async fn page(client: &Client) -> Result<Bytes, BodyError> {
    content(get(client).await.expect("a response")).await
}

#[tokio::test]
async fn a_reply_comes_through_whatever_the_packets() {
    let stream = [stderr(b"PHP Warning"), reply(PAGE)].concat();
    let drip = vec![Act::Read, Act::Drip(stream.clone())];
    let peer = php(vec![answers(stream), drip]);
    let client = client(&peer, &settings());
    for _ in 0..2 {
        let response = get(&client).await.expect("a response");
        assert_eq!(response.status, 200);
        assert_eq!(response.fields, Fields::from([("Content-Type", "text/html")]));
        assert_eq!(content(response).await, Ok(Bytes::from("page")));
    }
}

#[tokio::test]
async fn a_reply_without_end_request_is_an_error() {
    let peer = php(vec![
        answers(stdout(PAGE.as_bytes())),
        answers(stdout(b"Content-Length: 4\r\n\r\npage")),
        answers(stdout(b"Content-Type: text")),
        answers(Vec::new()),
    ]);
    let client = client(&peer, &settings());
    assert_eq!(page(&client).await, Err(BodyError::Truncated));
    assert_eq!(page(&client).await, Err(BodyError::Truncated), "also with all its bytes");
    assert!(matches!(get(&client).await, Err(OriginError::Lost { .. })));
    assert!(matches!(get(&client).await, Err(OriginError::Lost { .. })));
}

#[tokio::test]
async fn content_shorter_than_its_length_is_truncated_and_malformed_records_show_as_such() {
    let broken = [stdout(PAGE.as_bytes()), record(6, 2, b"more", 0)].concat();
    let peer = php(vec![
        answers(reply("Content-Length: 5\r\n\r\npage")),
        answers(broken),
        answers(record(6, 0, PAGE.as_bytes(), 0)),
        answers(reply("\r\npage")),
    ]);
    let client = client(&peer, &settings());
    assert_eq!(page(&client).await, Err(BodyError::Truncated));
    assert_eq!(page(&client).await, Err(BodyError::Malformed));
    assert!(matches!(get(&client).await, Err(OriginError::Malformed { .. })));
    assert!(matches!(get(&client).await, Err(OriginError::Malformed { .. })));
}

#[tokio::test]
async fn an_overloaded_application_is_busy_and_one_of_another_kind_malformed() {
    let peer = php(vec![answers(end_with(2)), answers(end_with(1)), answers(end_with(3))]);
    let client = client(&peer, &settings());
    assert!(matches!(get(&client).await, Err(OriginError::Overloaded)));
    assert!(matches!(get(&client).await, Err(OriginError::Malformed { .. })));
    assert!(matches!(get(&client).await, Err(OriginError::Malformed { .. })));
}

#[tokio::test]
async fn nothing_of_a_reply_leaks_into_the_next() {
    let excess = reply("Content-Length: 4\r\n\r\npage and much more");
    let late = [reply(PAGE), stdout(b"late"), end()].concat();
    let peer = php(vec![
        [answers(excess), answers(late), vec![Act::AwaitClose]].concat(),
        [answers(reply(PAGE)), vec![Act::AwaitClose]].concat(),
    ]);
    let client = client(&peer, &kept_alive());
    for _ in 0..3 {
        assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    }
    peer.played(1).await;
}

#[tokio::test]
async fn head_with_and_without_a_body_from_php_then_get() {
    let script = [
        answers(reply("Content-Length: 4\r\n\r\n")),
        answers(reply("Content-Length: 4\r\n\r\npage")),
        answers(reply(PAGE)),
    ];
    let peer = php(vec![script.concat()]);
    let client = client(&peer, &kept_alive());
    for _ in 0..2 {
        let head = request(Method::HEAD, "/");
        let response = client.fetch(&head, &Script::default()).await.expect("a response");
        assert_eq!(response.fields.first_str("content-length"), Some("4"));
        assert_eq!(content(response).await, Ok(Bytes::new()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    assert_eq!(peer.requests().len(), 3, "all over one connection");
}

#[tokio::test]
async fn exactly_one_empty_stdin_record_is_sent_also_for_an_empty_chunked_body() {
    let peer = php(vec![answers(reply(PAGE)), answers(reply(PAGE))]);
    let client = client(&peer, &settings());
    let (sender, body) = crate::body::channel(10, None);
    sender.finish();
    let empty = Spooled::take_in(body, &SpoolMemory::new(10), 10, 10, Path::new(""))
        .await
        .expect("taken in");
    let post = OriginRequest { body: empty, ..request(Method::POST, "/") };
    for request in [request(Method::GET, "/"), post] {
        client.fetch(&request, &Script::default()).await.expect("a response");
    }
    for request in peer.requests() {
        assert_eq!(stdin(&request), (Vec::new(), vec![0]));
    }
}

/// A request whose content lies in memory and in a file.
async fn large_request(method: Method) -> (OriginRequest, Bytes) {
    let all: Bytes = (0..300_000_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    let body = Body::from(all.clone());
    let memory = SpoolMemory::new(10_000);
    let body = Spooled::take_in(body, &memory, 10_000, 1 << 20, Path::new(""));
    let body = body.await.expect("taken in");
    (OriginRequest { body, ..request(method, "/") }, all)
}

#[tokio::test]
async fn bodies_over_64_kib_go_in_records_of_at_most_65535_bytes() {
    let peer = php(vec![answers(reply(PAGE))]);
    let (request, all) = large_request(Method::POST).await;
    let client = client(&peer, &settings());
    client.fetch(&request, &Script::default()).await.expect("a response");
    let (sent, sizes) = stdin(&peer.requests()[0]);
    assert_eq!(sent, all);
    assert!(sizes.iter().all(|size| *size <= 65_535));
    assert_eq!(sizes.iter().filter(|size| **size == 0).count(), 1);
}

#[tokio::test]
async fn a_request_body_can_be_sent_again_on_a_retry() {
    let peer = php(vec![vec![Act::Read], answers(reply(PAGE))]);
    let (request, all) = large_request(Method::GET).await;
    let client = client(&peer, &retrying());
    let response = client.fetch(&request, &Script::default()).await.expect("a response");
    assert_eq!(content(response).await, Ok(Bytes::from("page")));
    let requests = peer.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| stdin(request).0 == all));
}

#[tokio::test]
async fn only_an_unanswered_idempotent_request_is_sent_again() {
    for (method, first) in [
        (Method::POST, vec![Act::Read]),
        (Method::GET, answers(stderr(b"PHP Fatal"))),
        (Method::GET, answers(b"\x01".to_vec())),
        (Method::GET, answers(end_with(2))),
    ] {
        let peer = php(vec![first, answers(reply(PAGE))]);
        let client = client(&peer, &retrying());
        let result = client.fetch(&request(method, "/"), &Script::default()).await;
        assert!(result.is_err());
        assert_eq!(peer.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_for_any_method() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("php.sock");
    let settings = retrying();
    let gate = Admission::new(&settings, &Clock::system());
    let client = Client::new(Endpoint::Unix(path.clone()), &settings, gate, &Clock::system());
    let post = request(Method::POST, "/");
    let refused = client.fetch(&post, &Script::default()).await;
    assert!(matches!(refused, Err(OriginError::Refused { .. })));
    let restarted = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let listener = tokio::net::UnixListener::bind(path).expect("bound");
        let (mut stream, _) = listener.accept().await.expect("accepted");
        tokio::io::AsyncWriteExt::write_all(&mut stream, &reply(PAGE)).await.expect("written");
        let mut request = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut request).await;
    };
    let script = Script::default();
    let (response, ()) = tokio::join!(
        async { content(client.fetch(&post, &script).await.expect("a response")).await },
        restarted
    );
    assert_eq!(response, Ok(Bytes::from("page")));
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced_once_and_never_used_for_a_post() {
    let dies = [answers(reply(PAGE)), vec![Act::Read]].concat();
    let peer = php(vec![dies, answers(reply(PAGE)), answers(reply(PAGE))]);
    let client = client(&peer, &kept_alive());
    for _ in 0..2 {
        assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    }
    let post = request(Method::POST, "/");
    client.fetch(&post, &Script::default()).await.expect("a response");
    peer.played(3).await;
    assert_eq!(peer.requests().len(), 4);
}

#[tokio::test]
async fn the_connection_is_closed_when_the_head_comes_that_nobody_waits_for() {
    let head = Act::Write(stdout(PAGE.as_bytes()));
    let peer =
        php(vec![vec![Act::Read, Act::Pause(Duration::from_millis(100)), head, Act::AwaitClose]]);
    let client = client(&peer, &settings());
    let waiting = tokio::time::timeout(Duration::from_millis(50), get(&client)).await;
    assert!(waiting.is_err());
    peer.played(1).await;
}

#[tokio::test]
async fn the_connection_is_closed_when_nobody_waits_any_more_for_an_uncacheable_reply() {
    let peer = php(vec![[answers(stdout(PAGE.as_bytes())), vec![Act::AwaitClose]].concat()]);
    let client = client(&peer, &kept_alive());
    let mut response = get(&client).await.expect("a response");
    assert_eq!(response.body.next().await, Some(Ok(Bytes::from("page"))));
    drop(response);
    peer.played(1).await;
}

#[tokio::test]
async fn a_connection_cut_after_head_or_in_the_middle_is_not_used_again() {
    let unfinished = |head: &str| vec![Act::Read, Act::Write(stdout(head.as_bytes()))];
    let peer = php(vec![
        [unfinished(PAGE), vec![Act::AwaitClose]].concat(),
        [unfinished("X-A: 1\r\n\r\n"), vec![Act::AwaitClose]].concat(),
        answers(reply(PAGE)),
    ]);
    let mut settings = kept_alive();
    settings.origin.between_bytes_timeout = Duration::from_millis(50);
    let client = client(&peer, &settings);
    assert_eq!(page(&client).await, Err(BodyError::TimedOut));
    let head = client.fetch(&request(Method::HEAD, "/"), &Script::default()).await;
    assert_eq!(content(head.expect("a response")).await, Ok(Bytes::new()));
    assert_eq!(page(&client).await, Ok(Bytes::from("page")));
    peer.played(3).await;
}

#[tokio::test]
async fn the_wait_for_the_head_has_an_end() {
    let slow = vec![Act::Read, Act::Write(stderr(b"noise")), Act::AwaitClose];
    let peer = php(vec![slow]);
    let mut settings = retrying();
    settings.origin.first_byte_timeout = Duration::from_millis(50);
    let client = client(&peer, &settings);
    assert!(matches!(get(&client).await, Err(OriginError::TimedOut { .. })));
    peer.played(1).await;
}

#[tokio::test]
async fn a_slow_client_does_not_hold_a_worker_up_to_the_bound() {
    let large = vec![b'x'; 60_000];
    let head = stdout(b"X-A: 1\r\n\r\n");
    let bodies: Vec<u8> = (0..16).flat_map(|_| stdout(&large)).collect();
    let stream = [head, bodies, end()].concat();
    let peer = php(vec![answers(stream.clone()), answers(stream)]);
    let mut settings = settings();
    settings.origin.concurrency_max = 1;
    let client = client(&peer, &settings);
    let unread = get(&client).await.expect("a response");
    peer.played(1).await;
    let second = tokio::time::timeout(Duration::from_secs(2), get(&client)).await;
    let second = second.expect("the place is free").expect("a response");
    assert_eq!(content(unread).await.map(|content| content.len()), Ok(960_000));
    assert_eq!(content(second).await.map(|content| content.len()), Ok(960_000));
}

#[tokio::test]
async fn beyond_the_bound_and_without_buffering_php_waits_for_its_reader() {
    let large: Vec<u8> = (0..200).flat_map(|_| stdout(&vec![b'x'; 60_000])).collect();
    let stream = |head: &str| [stdout(head.as_bytes()), large.clone(), end()].concat();
    for head in ["X-A: 1\r\n\r\n", "X-Accel-Buffering: no\r\n\r\n"] {
        let peer = php(vec![answers(stream(head))]);
        let mut settings = settings();
        if head.starts_with("X-A:") {
            settings.origin.response_memory_max_bytes = 1 << 20;
        }
        let client = client(&peer, &settings);
        let response = get(&client).await.expect("a response");
        let soon = tokio::time::timeout(Duration::from_millis(200), peer.played(1)).await;
        assert!(soon.is_err(), "PHP could write everything");
        assert_eq!(content(response).await.map(|content| content.len()), Ok(12_000_000));
        peer.played(1).await;
    }
}

#[tokio::test]
async fn a_place_is_taken_until_the_reply_has_ended() {
    let unfinished = stdout(b"Content-Length: 4\r\n\r\npage");
    let ends_late = vec![
        Act::Read,
        Act::Write(unfinished),
        Act::Pause(Duration::from_millis(100)),
        Act::Write(end()),
    ];
    let peer = php(vec![ends_late]);
    let settings = settings();
    let gate = Admission::new(&settings, &Clock::system());
    let door = std::sync::Arc::clone(&gate);
    let client = Client::new(peer.endpoint.clone(), &settings, door, &Clock::system());
    let mut response = get(&client).await.expect("a response");
    assert_eq!(response.body.next().await, Some(Ok(Bytes::from("page"))));
    drop(response);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(gate.figures().in_php, 1, "its reader has gone, PHP still works");
    peer.played(1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(gate.figures().in_php, 0);
}

#[tokio::test]
async fn a_place_stays_taken_when_its_client_leaves_before_php_has_answered() {
    let peer = php(vec![vec![Act::Read, Act::AwaitClose]]);
    let mut settings = settings();
    settings.origin.first_byte_timeout = Duration::from_millis(500);
    let gate = Admission::new(&settings, &Clock::system());
    let door = std::sync::Arc::clone(&gate);
    let client = Client::new(peer.endpoint.clone(), &settings, door, &Clock::system());
    let asks = tokio::spawn(async move { get(&client).await.map(drop) });
    while peer.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    asks.abort();
    assert!(asks.await.is_err());
    assert_eq!(gate.figures().in_php, 1, "its client has gone, PHP still works");
    peer.played(1).await;
    while gate.figures().in_php > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_flag_to_keep_the_connection_is_set_only_with_keep_alive() {
    for (settings, flag) in [(settings(), 0), (kept_alive(), 1)] {
        let peer = php(vec![answers(reply(PAGE))]);
        page(&client(&peer, &settings)).await.expect("content");
        let begin = records(&peer.requests()[0]).remove(0);
        assert_eq!(begin, (1, vec![0, 1, flag, 0, 0, 0, 0, 0]));
    }
}

#[tokio::test]
async fn a_reply_before_the_request_is_read_ends_the_exchange() {
    let peer = php(vec![vec![Act::Write(reply(PAGE)), Act::Pause(Duration::from_millis(50))]]);
    let (request, _) = large_request(Method::POST).await;
    let client = client(&peer, &kept_alive());
    let response = client.fetch(&request, &Script::default()).await.expect("a response");
    assert_eq!(content(response).await, Ok(Bytes::from("page")));
}

#[tokio::test]
async fn it_works_over_tcp_as_well() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let endpoint = Endpoint::Tcp(listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut request = Vec::new();
        while !is_whole(&request) {
            let read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut request).await;
            assert!(read.expect("readable") > 0);
        }
        tokio::io::AsyncWriteExt::write_all(&mut stream, &reply(PAGE)).await.expect("written");
    });
    let settings = settings();
    let client = Client::new(
        endpoint,
        &settings,
        Admission::new(&settings, &Clock::system()),
        &Clock::system(),
    );
    assert_eq!(page(&client).await, Ok(Bytes::from("page")));
}

#[tokio::test]
async fn the_recorded_streams_come_through_a_socket() {
    for (name, expected) in
        [("bighdr", "ok"), ("flush", "chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n")]
    {
        let stream = corpus(&format!("edge-{name}.server.bin"));
        let peer = php(vec![vec![Act::Read, Act::Drip(stream)]]);
        let client = client(&peer, &settings());
        assert_eq!(page(&client).await, Ok(Bytes::from(expected)), "{name}");
    }
}
