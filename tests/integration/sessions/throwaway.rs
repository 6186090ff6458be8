//! What a throwaway session answers is all that PHP needs of one.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use bytes::BytesMut;
use parvis::resp::{Limits, Protocol, ReadState, read_request, write};
use parvis::sessions::throwaway::{Answers, Mint};
use serde_json::Value;

/// A store that knows nothing but throwaway sessions. What else it was asked is an error, which PHP
/// tells.
fn serve(stream: UnixStream, mint: Arc<Mint>) {
    const LIMITS: Limits = Limits {
        inline_max_bytes: 1 << 10,
        bulk_max_bytes: 1 << 20,
        arguments_max: 100,
        request_max_bytes: 1 << 20,
    };
    let (mut stream, mut answers) = (stream, Answers::new(mint, b"sess_"));
    let (mut buffer, mut state) = (BytesMut::new(), ReadState::default());
    let mut piece = [0; 4_096];
    while let Ok(bytes @ 1..) = stream.read(&mut piece) {
        buffer.extend_from_slice(&piece[..bytes]);
        let mut out = BytesMut::new();
        while let Ok(Some(request)) = read_request(&mut buffer, &LIMITS, &mut state) {
            if request.is("SELECT") {
                write::simple(&mut out, "OK");
            } else if !answers.answer(&request, Protocol::Resp2, &mut out) {
                write::error(&mut out, b"ERR not a throwaway session's");
            }
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

fn store(socket: &Path, mint: &Arc<Mint>) {
    let (listener, mint) = (UnixListener::bind(socket).expect("a socket"), Arc::clone(mint));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mint = Arc::clone(&mint);
            thread::spawn(move || serve(stream, mint));
        }
    });
}

fn visit(strict: bool) -> (String, Value) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("store.sock");
    let mint = Arc::new(Mint::new(""));
    store(&socket, &mint);
    let id = mint.id();
    let mut command = Command::new("php");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/session.php"));
    command.env("SESSION_STORE", format!("unix:{}", socket.display()));
    command.env("SESSION_ID", &id).env("SESSION_SET", "x").env("SESSION_TIMES", "2");
    command.env("SESSION_STRICT", if strict { "1" } else { "0" });
    let output = command.output().expect("PHP");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    (id, serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {text}")))
}

#[test]
fn php_has_the_lock_at_once_writes_and_finds_nothing_of_it_later() {
    let (id, told) = visit(false);
    assert_eq!(told["id"], id.as_str(), "{told}");
    assert_eq!((&told["tries"], &told["locked"]), (&1.into(), &true.into()), "{told}");
    assert_eq!((&told["before"], &told["written"]), (&0.into(), &true.into()), "{told}");
}

#[test]
fn strict_mode_takes_the_id_where_the_handler_cannot_tell_which_there_are() {
    let (id, told) = visit(true);
    assert_eq!((&told["id"], &told["written"]), (&id.as_str().into(), &true.into()), "{told}");
}
