//! What a client may send and take is bounded.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use parvis::resp::Value;

use super::Kept;
use crate::support::process::wait_until;

fn error(value: Option<Value>) -> String {
    match value {
        Some(Value::Error(text)) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_command_is_told_and_ends_the_connection_after_what_came_before() {
    let kept = Kept::start(&[]);
    let mut connection = kept.connect();
    connection.send(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n:1\r\nPING\r\n");
    assert_eq!(connection.reply(), Some(Value::Simple("PONG".into())));
    assert_eq!(connection.reply(), Some(Value::Simple("PONG".into())));
    assert_eq!(error(connection.reply()), "ERR Protocol error: expected '$', got ':'");
    assert_eq!(connection.reply(), None);
    assert!(kept.metric("refused_connections_total") > 0.0);
}

#[test]
fn nothing_is_done_of_what_a_browser_was_made_to_send() {
    for head in ["POST / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nhOST: x\r\n"] {
        let kept = Kept::start(&[]);
        let mut connection = kept.connect();
        connection.send(format!("{head}\r\nSET k v\r\n").as_bytes());
        // GET itself has too many arguments.
        while let Some(reply) = connection.reply() {
            assert!(matches!(reply, Value::Error(_)), "{reply:?}");
        }
        assert_eq!(kept.connect().say("GET k"), Value::Null);
        assert!(kept.metric("refused_connections_total") > 0.0);
    }
}

#[test]
fn too_long_a_command_is_refused_before_it_comes() {
    let kept = Kept::start(&[("objects.request_max", "\"64KiB\"")]);
    let mut connection = kept.connect();
    connection.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$70000\r\n");
    assert_eq!(error(connection.reply()), "ERR Protocol error: invalid bulk length");
    assert_eq!(connection.reply(), None);
    let mut connection = kept.connect();
    connection.send(b"*1000000\r\n");
    let value = "x".repeat(60_000);
    assert!(kept.connect().ask(&["SET", "a", &value]) == Value::Simple("OK".into()));
}

#[test]
fn all_clients_together_may_have_begun_so_much() {
    let settings = [("objects.request_max", "\"1MiB\""), ("objects.buffers_max", "\"1MiB\"")];
    let kept = Kept::start(&settings);
    let begin = |bytes: usize| {
        let mut connection = kept.connect();
        let head = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n";
        // Who is refused is not read any further.
        let _ = connection.stream.write_all(&[&head[..], &vec![b'x'; bytes]].concat());
        connection
    };
    let first = begin(900_000);
    // The second is refused as soon as the first one's bytes have been read.
    let mut refused = None;
    wait_until("a refusal", Duration::from_secs(20), || {
        let mut connection = begin(900_000);
        let _ = connection.stream.set_read_timeout(Some(Duration::from_millis(200)));
        refused = connection.reply();
        refused.is_some()
    });
    let said = error(refused);
    assert!(said.contains("objects.buffers_max"), "{said}");
    drop(first);
    wait_until("room", Duration::from_secs(20), || {
        let mut connection = begin(1_000_000);
        let _ = connection.stream.write_all(b"\r\n");
        connection.reply() == Some(Value::Simple("OK".into()))
    });
}

#[test]
fn one_client_too_many_hears_so() {
    let kept = Kept::start(&[("objects.clients_max", "2")]);
    let (mut first, mut second) = (kept.connect(), kept.connect());
    assert_eq!(first.say("PING"), Value::Simple("PONG".into()));
    assert_eq!(second.say("PING"), Value::Simple("PONG".into()));
    let mut third = kept.connect();
    assert_eq!(error(third.reply()), "ERR max number of clients reached");
    assert_eq!(third.reply(), None);
    drop(first);
    wait_until("a place", Duration::from_secs(20), || {
        let mut next = kept.connect();
        next.send(b"PING\r\n");
        next.reply() == Some(Value::Simple("PONG".into()))
    });
}

#[test]
fn a_silent_client_is_let_go_where_the_settings_say_so() {
    let kept = Kept::start(&[("objects.idle_timeout", "\"1s\"")]);
    let mut connection = kept.connect();
    assert_eq!(connection.say("PING"), Value::Simple("PONG".into()));
    assert_eq!(connection.stream.read(&mut [0]).expect("closed in order"), 0);
}

#[test]
fn the_socket_has_the_mode_of_the_settings() {
    let kept = Kept::start(&[("objects.mode", "\"0600\"")]);
    let mode = std::fs::metadata(kept.socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
