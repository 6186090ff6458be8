//! Connections: how many, for how long, and how they end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parvis::settings::Networks;
use tokio::time::Instant;

use super::{Client, Door, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_client_that_leaves_drops_the_handler() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(WAIT).await;
    until("handler", || door.teller.started() == 1).await;
    drop(client);
    until("drop", || door.teller.dropped.load(Ordering::SeqCst) == 1).await;
    door.shutdown.all_gone().await;
}

#[tokio::test]
async fn a_pipelined_request_waits_its_turn_and_does_not_disturb_the_one_before() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(format!("{WAIT}{GET}")).await;
    until("handler", || door.teller.started() == 1).await;
    door.teller.go.notify_one();
    assert_eq!(client.reply().await.content, "waited\n");
    assert_eq!(client.reply().await.content, "GET / a HTTP/1.1 ");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_408_after_the_header_timeout() {
    let door = Door::open_with(|listen| listen.header_timeout = Duration::from_millis(200)).await;
    let mut client = door.client().await;
    let begin = Instant::now();
    client.write("GET / HTTP/1.1\r\nHost: a\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        // The server may have had enough already.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, b"X: y\r\n").await;
    }
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.field("connection")), (408, Some("close")));
    assert!((180..9_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_closes_without_a_word() {
    let door = Door::open_with(|listen| {
        listen.header_timeout = Duration::from_millis(300);
        listen.keep_alive = Duration::from_millis(1_500);
    })
    .await;
    // The first request must come within the header timeout, later ones may be idle for longer.
    let begin = Instant::now();
    assert!(door.client().await.rest().await.is_empty());
    assert!((280..1_400).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    let mut client = door.client().await;
    client.ask(GET).await;
    let begin = Instant::now();
    assert!(client.rest().await.is_empty());
    assert!((1_400..9_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_empty_line_after_content_does_not_start_the_header_timeout() {
    let door = Door::open_with(|listen| listen.header_timeout = Duration::from_millis(500)).await;
    let mut client = door.client().await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n";
    client.ask(post).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(client.ask(GET).await.status, 200);
}

#[tokio::test]
async fn draining_finishes_requests_in_flight_and_closes_idle_connections() {
    let door = Door::open().await;
    let mut idle = door.client().await;
    idle.ask(GET).await;
    let mut busy = door.client().await;
    busy.write(WAIT).await;
    until("handler", || door.teller.started() == 2).await;
    door.shutdown.drain();
    assert!(idle.rest().await.is_empty());
    assert_eq!(door.shutdown.connections().count(), 1);
    let refused = async || tokio::net::TcpStream::connect(door.address).await.is_err();
    let refusing = async {
        while !refused().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, refusing).await.expect("accepting has ended");
    door.teller.go.notify_one();
    let reply = busy.reply().await;
    assert_eq!((&*reply.content, reply.field("connection")), ("waited\n", Some("close")));
    door.shutdown.all_gone().await;
}

#[tokio::test]
async fn aborting_cuts_what_is_left() {
    let door = Door::open().await;
    let mut busy = door.client().await;
    busy.write(WAIT).await;
    until("handler", || door.teller.started() == 1).await;
    door.shutdown.drain();
    door.shutdown.abort();
    door.shutdown.all_gone().await;
    assert!(busy.rest().await.is_empty());
    assert_eq!(door.teller.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_untrusted_address_gets_only_so_many_connections() {
    let door = Door::open_with(|listen| {
        listen.trusted = Networks::default();
        listen.connections_per_address_max = 2;
    })
    .await;
    let mut first = door.client().await;
    let mut second = door.client().await;
    first.ask(GET).await;
    second.ask(GET).await;
    assert!(door.client().await.rest().await.is_empty());
    assert_eq!(door.shutdown.connections().counts().refused_per_address, 1);
    drop(first);
    until("place", || door.shutdown.connections().count() == 1).await;
    assert_eq!(door.client().await.ask(GET).await.status, 200);
}

#[tokio::test]
async fn over_the_total_a_connection_is_closed_at_once() {
    let door = Door::open_with(|listen| listen.connections_max = 1).await;
    let mut first = door.client().await;
    first.ask(GET).await;
    assert!(door.client().await.rest().await.is_empty());
    assert_eq!(first.ask(GET).await.status, 200);
    assert_eq!(door.shutdown.connections().counts().refused_connections_max, 1);
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("door.sock");
    let door = Door::open().await;
    let endpoint = parvis::settings::Endpoint::Unix(path.clone());
    let listener = parvis::listener::bind("listen.http", &[endpoint]).expect("bound").remove(0);
    let limits = parvis::listener::Limits::from(&parvis::settings::Listen::default());
    let (teller, shutdown) = (door.teller.clone(), door.shutdown.clone());
    tokio::spawn(parvis::listener::serve(listener, None, teller, limits.into(), shutdown));
    let stream = tokio::net::UnixStream::connect(path).await.expect("connected");
    assert_eq!(Client::new(stream).ask(GET).await.content, "GET / a HTTP/1.1 ");
}

#[tokio::test]
async fn a_client_sees_its_refusal_although_it_is_still_sending() {
    let door = Door::open_with(|listen| listen.body_max_bytes = 10).await;
    let mut client = door.client().await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
    // More than the socket's buffers hold: somebody must take it.
    client.write(vec![b'x'; 1_000_000]).await;
    assert_eq!(client.reply().await.status, 413);
    // A reset could have destroyed the answer.
    let mut buffer = [0];
    let end = tokio::io::AsyncReadExt::read(&mut client.io, &mut buffer).await;
    assert_eq!(end.expect("a proper end"), 0);
}
