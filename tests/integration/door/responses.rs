//! Responses on the wire: heads, framing, ends.

use std::time::Duration;

use parvis::exchange::Delivered;

use super::{Door, large, numbered};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn a_stored_head_leaves_as_it_was_stored_and_before_the_rest() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let reply = client.ask(get("/stored")).await;
    let lines: Vec<_> = reply.head.lines().collect();
    assert_eq!(lines[..4], ["HTTP/1.1 200 OK", "X-First: 1", "x-SECOND: 2", "Age: 7"]);
    assert!(reply.field("date").is_some_and(|date| date.ends_with(" GMT")));
    assert_eq!((reply.field("content-length"), &*reply.content), (Some("4"), "page"));
    assert_eq!(door.teller.delivery().await, Delivered::Whole { body_bytes: 4 });
}

#[tokio::test]
async fn there_is_never_a_second_length_or_date() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let reply = client.ask(get("/stored-framing")).await;
    assert_eq!(reply.field("content-length"), Some("4"));
    assert_eq!(reply.field("date"), Some("then"));
    assert_eq!(reply.field("x-a"), Some("1"));
    let reply = client.ask(get("/told-length")).await;
    assert_eq!((reply.field("content-length"), &*reply.content), (Some("0"), ""));
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_content() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (path, length) in [
        ("/stored", Some("4")),
        ("/told-length", Some("1234")),
        ("/stream", None),
        ("/stream-of-six", Some("6")),
        ("/large", Some("8388608")),
    ] {
        client.write(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let reply = client.reply_to(false).await;
        assert_eq!((reply.status, reply.field("content-length")), (200, length), "{path}");
        assert_eq!(reply.field("transfer-encoding"), None, "{path}");
    }
    assert_eq!(client.ask(get("/stored")).await.content, "page");
}

#[tokio::test]
async fn no_content_and_not_modified_have_neither_content_nor_length() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (path, status) in [("/no-content", 204), ("/not-modified", 304)] {
        let reply = client.ask(get(path)).await;
        assert_eq!((reply.status, reply.field("content-length")), (status, None));
        assert_eq!(reply.field("transfer-encoding"), None);
    }
    assert_eq!(client.ask(get("/stored")).await.content, "page");
}

#[tokio::test]
async fn content_of_unknown_length_is_chunked_and_of_known_length_is_not() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let reply = client.ask(get("/stream")).await;
    assert_eq!(reply.field("transfer-encoding"), Some("chunked"));
    assert_eq!((reply.field("content-length"), &*reply.content), (None, "onetwo"));
    let reply = client.ask(get("/stream-of-six")).await;
    assert_eq!((reply.field("content-length"), &*reply.content), (Some("6"), "onetwo"));
    assert_eq!(door.teller.delivery().await, Delivered::Whole { body_bytes: 6 });
    assert_eq!(door.teller.delivery().await, Delivered::Whole { body_bytes: 6 });
}

#[tokio::test]
async fn http_1_0_gets_content_of_unknown_length_up_to_the_end_of_the_connection() {
    let door = Door::open().await;
    let told = door.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let told = String::from_utf8(told).expect("UTF-8");
    assert!(told.contains("\r\nConnection: close\r\n"), "{told}");
    assert!(told.ends_with("\r\n\r\nonetwo"), "{told}");
    assert!(!told.contains("chunked"), "{told}");
}

#[tokio::test]
async fn a_truncated_reply_reaches_the_client_without_its_final_chunk() {
    let door = Door::open().await;
    let told = String::from_utf8(door.send(get("/broken")).await).expect("UTF-8");
    assert!(told.ends_with("\r\n3\r\none\r\n"), "{told}");
    assert_eq!(door.teller.delivery().await, Delivered::BodyFailed { body_bytes: 3 });
}

#[tokio::test]
async fn a_broken_reply_that_ends_with_the_connection_ends_with_a_reset() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write("GET /broken HTTP/1.0\r\n\r\n").await;
    let mut buffer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut client.io, &mut buffer).await;
    assert_eq!(read.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn content_that_is_not_as_long_as_was_said_cuts_the_connection() {
    let door = Door::open().await;
    let told = String::from_utf8(door.send(get("/stream-of-seven")).await).expect("UTF-8");
    assert!(told.ends_with("Content-Length: 7\r\n\r\none"), "{told}");
    let told = String::from_utf8(door.send(get("/stream-of-five")).await).expect("UTF-8");
    assert!(told.ends_with("Content-Length: 5\r\n\r\none"), "{told}");
    for _ in 0..2 {
        assert_eq!(door.teller.delivery().await, Delivered::BodyFailed { body_bytes: 3 });
    }
}

#[tokio::test]
async fn a_response_that_would_be_two_is_502() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for path in ["/split", "/interim"] {
        let reply = client.ask(get(path)).await;
        assert_eq!((reply.status, reply.field("set-cookie")), (502, None), "{path}");
    }
}

#[tokio::test]
async fn a_response_may_end_the_connection() {
    let door = Door::open().await;
    for request in
        [get("/close"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n".to_owned()]
    {
        let mut client = door.client().await;
        assert_eq!(client.ask(request).await.field("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test]
async fn many_parts_and_large_content_arrive_whole() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let expected = numbered(100, |at| format!("{at},"));
    assert_eq!(client.ask(get("/parts")).await.content, expected);
    client.write(get("/large")).await;
    client.read_until("\r\n\r\n").await;
    // The server has to wait for us.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.take(large().len()).await, large());
    let parts = expected.len() as u64;
    assert_eq!(door.teller.delivery().await, Delivered::Whole { body_bytes: parts });
    assert_eq!(door.teller.delivery().await, Delivered::Whole { body_bytes: 8 << 20 });
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let door = Door::open_with(|listen| listen.write_timeout = Duration::from_millis(100)).await;
    let mut client = door.client().await;
    client.write(get("/large")).await;
    let delivered = door.teller.delivery().await;
    let Delivered::ClientGone { body_bytes } = delivered else { panic!("{delivered:?}") };
    assert!((1..8 << 20).contains(&body_bytes), "{body_bytes}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_is_noticed_while_nothing_is_sent() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.write(get("/endless")).await;
    client.read_until("one\r\n").await;
    drop(client);
    assert_eq!(door.teller.delivery().await, Delivered::ClientGone { body_bytes: 3 });
}
