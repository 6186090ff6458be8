//! Content of requests: how it arrives, how much of it, and what becomes of it after an answer.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Door, until};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

#[tokio::test]
async fn continue_is_sent_when_the_content_is_first_read() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(format!("{POST}Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n")).await;
    assert_eq!(client.reply().await.head, "HTTP/1.1 100 Continue\r\n\r\n");
    let reply = client.ask("abc").await;
    assert_eq!(reply.content, "POST / a HTTP/1.1 abc");
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn continue_is_not_sent_to_one_who_did_not_wait_for_it() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(format!("{POST}Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")).await;
    assert_eq!(client.reply().await.content, "POST / a HTTP/1.1 abc");
}

#[tokio::test]
async fn an_early_answer_spares_a_waiting_client_the_content_and_closes() {
    let door = Door::open().await;
    let request =
        "POST /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let told = String::from_utf8(door.send(request).await).expect("UTF-8");
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    assert!(told.contains("Connection: close\r\n"), "{told}");
    let told =
        door.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"));
    assert!(told.await.starts_with(b"HTTP/1.1 413 "));
}

#[tokio::test]
async fn after_an_early_answer_up_to_64_kib_of_content_are_drained() {
    let door = Door::open().await;
    for framing in ["Content-Length: 60000", "Transfer-Encoding: chunked"] {
        let mut client = door.client().await;
        client.write(format!("POST /early HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await;
        assert_eq!(client.reply().await.content, "early\n");
        let content = "x".repeat(60_000);
        if framing.starts_with('C') {
            client.write(content).await;
        } else {
            client.write(format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len())).await;
        }
        // What follows is a request of its own, and not content of the one before.
        let reply = client.ask("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(reply.content, "GET /next a HTTP/1.1 ", "{framing}");
    }
}

#[tokio::test]
async fn after_an_early_answer_more_than_64_kib_of_content_close_the_connection() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let head = "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n";
    let reply = client.ask(head).await;
    assert_eq!(reply.field("connection"), Some("close"));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000);
    client.write(&smuggled[..70_000.min(smuggled.len())]).await;
    assert!(client.rest().await.is_empty());

    // In chunks nobody knows beforehand how much comes.
    let mut client = door.client().await;
    let head = "POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = client.ask(head).await;
    assert_eq!(reply.field("connection"), None);
    let content = "x".repeat(70_000);
    client.write(format!("{:x}\r\n{content}\r\n0\r\n\r\n{head}", content.len())).await;
    assert!(client.rest().await.is_empty());
    assert_eq!(door.teller.started(), 2);
}

#[tokio::test]
async fn content_over_the_limit_is_413_and_the_connection_closes() {
    let door = Door::open_with(|listen| listen.body_max_bytes = 10).await;
    let cases = [
        ("a length", format!("{POST}Content-Length: 11\r\n\r\n01234567890")),
        ("a length alone", format!("{POST}Content-Length: 11\r\n\r\n")),
        (
            "one chunk",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n"),
        ),
        (
            "two chunks",
            format!("{POST}Transfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n3\r\n890\r\n"),
        ),
        ("a huge chunk", format!("{POST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n")),
    ];
    for (name, request) in cases {
        let mut client = door.client().await;
        let reply = client.ask(request).await;
        assert_eq!((reply.status, reply.field("connection")), (413, Some("close")), "{name}");
        assert!(client.rest().await.is_empty(), "{name}");
    }
    let mut client = door.client().await;
    let reply = client.ask(format!("{POST}Content-Length: 10\r\n\r\n0123456789")).await;
    assert_eq!(reply.content, "POST / a HTTP/1.1 0123456789");
}

#[tokio::test]
async fn chunks_that_turn_out_malformed_later_end_the_content_and_the_connection() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")).await;
    until("handler", || door.teller.started() == 1).await;
    let reply = client.ask("3\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((reply.status, reply.field("connection")), (400, Some("close")));
    assert!(client.rest().await.is_empty());
    assert_eq!(door.teller.started(), 1);
}

#[tokio::test]
async fn endless_trailers_end_the_content_and_the_connection() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let trailer = "a".repeat(9_000);
    let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n0\r\nX: {trailer}");
    let reply = client.ask(head).await;
    assert_eq!((reply.status, reply.field("connection")), (400, Some("close")));
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn content_that_stalls_is_given_up() {
    let door = Door::open_with(|listen| listen.body_timeout = Duration::from_millis(100)).await;
    let mut client = door.client().await;
    let reply = client.ask(format!("{POST}Content-Length: 3\r\n\r\nab")).await;
    assert_eq!((reply.status, reply.field("connection")), (408, Some("close")));
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn large_content_passes_at_the_handlers_pace() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let content = "0123456789abcdef".repeat(40_000);
    let told = format!("POST / a HTTP/1.1 {content}");
    let head = format!("{POST}Content-Length: {}\r\n\r\n", content.len());
    assert_eq!(client.ask(head + &content).await.content, told);
    let mut chunks = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    for piece in content.as_bytes().chunks(777) {
        let piece = std::str::from_utf8(piece).expect("UTF-8");
        let _ = write!(chunks, "{:x}\r\n{piece}\r\n", piece.len());
    }
    assert_eq!(client.ask(chunks + "0\r\n\r\n").await.content, told);
}

#[tokio::test]
async fn content_cut_off_by_the_client_drops_the_handler() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(format!("{POST}Content-Length: 3\r\n\r\nab")).await;
    until("handler", || door.teller.started() == 1).await;
    drop(client);
    let dropped = &door.teller.dropped;
    until("drop", || dropped.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
}
