//! What Magento's session handler said and heard, once more (`tests/corpus/sessions`).

use std::path::Path;

use bytes::{Bytes, BytesMut};
use parvis::resp::{Limits, ReadState, read_request};
use serde_json::Value;

use super::{Client, node, text};
use crate::support::redis::Redis;

/// A recorded connection.
struct Recorded {
    name: String,
    commands: Vec<Bytes>,
    /// What the client sent, as it was cut.
    raw: Vec<u8>,
    replies: usize,
}

fn recorded() -> Vec<Recorded> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/sessions");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("it is in the repository")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let lines = std::fs::read_to_string(&file).expect("a file");
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let stem = file.file_stem().expect("a name").to_string_lossy();
            let raw = base64(line["raw_client_b64"].as_str().expect("bytes"));
            all.push(Recorded {
                name: format!("{stem} {}", line["connection"].as_str().expect("a name")),
                commands: commands(&raw),
                raw,
                replies: line["replies"].as_array().expect("replies").len(),
            });
        }
    }
    all
}

fn commands(raw: &[u8]) -> Vec<Bytes> {
    let limits = Limits {
        inline_max_bytes: 1 << 16,
        bulk_max_bytes: 1 << 20,
        arguments_max: 1_000,
        request_max_bytes: 1 << 20,
    };
    let (mut buffer, mut state) = (BytesMut::from(raw), ReadState::default());
    let mut commands = Vec::new();
    while let Some(request) = read_request(&mut buffer, &limits, &mut state).expect("commands") {
        commands.push(request.raw().clone());
    }
    commands
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let digits =
        digits.map(|byte| LETTERS.iter().position(|letter| *letter == byte).expect("base64"));
    let (mut bits, mut count, mut bytes) = (0_usize, 0, Vec::new());
    for digit in digits {
        (bits, count) = (bits << 6 | digit, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[test]
fn recorded_connections_get_the_same_replies_as_from_redis_itself() {
    let (behind, direct) = (Redis::start(), Redis::start());
    let (_node, port) =
        node(&behind.url(), |builder| builder.with("sessions.wait_max", "\"50ms\""));
    let recorded = recorded();
    assert!(recorded.len() >= 20, "{}", recorded.len());
    let mut asked = 0;
    for connection in &recorded {
        assert_eq!(connection.commands.len(), connection.replies, "{}", connection.name);
        let (mut ours, mut its) = (Client::connect(port), Client::connect(direct.port));
        for command in &connection.commands {
            ours.send(command);
            its.send(command);
            let (ours, its) = (ours.reply().expect("a reply"), its.reply().expect("a reply"));
            assert_eq!(text(&ours), text(&its), "{}: {}", connection.name, text(command));
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked}");
    assert_eq!(dump(&behind), dump(&direct), "the same data");
}

#[test]
fn what_was_recorded_gets_its_replies_when_it_comes_all_at_once_too() {
    let (behind, direct) = (Redis::start(), Redis::start());
    let (_node, port) = node(&behind.url(), |builder| builder.with("sessions.wait_max", "\"0s\""));
    for connection in recorded() {
        let (mut ours, mut its) = (Client::connect(port), Client::connect(direct.port));
        ours.send(&connection.raw);
        its.send(&connection.raw);
        for at in 0..connection.replies {
            let (ours, its) = (ours.reply().expect("a reply"), its.reply().expect("a reply"));
            assert_eq!(text(&ours), text(&its), "{}: reply {at}", connection.name);
        }
    }
    assert_eq!(dump(&behind), dump(&direct), "the same data");
}

/// All sessions, in an order of their own.
fn dump(redis: &Redis) -> Vec<String> {
    let keys = redis.ask(&["-n", "2", "keys", "sess_*"]);
    let mut keys: Vec<&str> = keys.lines().collect();
    keys.sort_unstable();
    let all = |key: &&str| {
        let text = redis.ask(&["-n", "2", "hgetall", key]);
        let mut parts: Vec<&str> = text.lines().collect();
        parts.sort_unstable();
        format!("{key} {parts:?}")
    };
    keys.iter().map(all).collect()
}
