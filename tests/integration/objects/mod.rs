//! The object cache over its socket, side by side with a real redis-server.

mod bounds;
mod eviction;
mod fence;
mod fleet;
mod large;
mod messages;
mod php;
mod replay;
mod restart;
mod scripts;
mod shown;
mod snapshot;
mod snapshot_in_fleet;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use parvis::resp::{ReplyLimits, ReplyState, Request, Value, decode, read_reply};

use crate::support::Parvis;

const LIMITS: ReplyLimits = ReplyLimits {
    line_max_bytes: 64 << 10,
    bulk_max_bytes: 64 << 20,
    elements_max: 1 << 20,
    reply_max_bytes: 256 << 20,
};

/// A connection to either.
struct Connection {
    stream: UnixStream,
    buffer: BytesMut,
    state: ReplyState,
}

impl Connection {
    fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        Self { stream, buffer: BytesMut::new(), state: ReplyState::default() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next reply; `None`: the connection was closed.
    fn reply(&mut self) -> Option<Value> {
        loop {
            let reply = read_reply(&mut self.buffer, &LIMITS, &mut self.state).expect("a reply");
            if let Some(reply) = reply {
                return Some(decode(&reply.bytes).expect("decoded"));
            }
            let mut piece = [0; 64 << 10];
            let count = self.stream.read(&mut piece).unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }

    fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        self.send(Request::pack(&words).raw());
        self.reply().expect("still connected")
    }

    fn say(&mut self, command: &str) -> Value {
        self.ask(&command.split(' ').collect::<Vec<_>>())
    }

    /// All keys of the database with what stands under them, in one order.
    fn contents(&mut self) -> BTreeMap<String, String> {
        let Value::Array(keys) = self.say("KEYS *") else { panic!("a list") };
        let mut all = BTreeMap::new();
        for key in keys {
            let Value::Bulk(key) = key else { panic!("a key") };
            let kind = match self.ask(&[&b"TYPE"[..], &key]) {
                Value::Simple(kind) => kind,
                other => panic!("{other:?}"),
            };
            let value = match &kind[..] {
                b"string" => format!("{:?}", self.ask(&[&b"GET"[..], &key])),
                b"hash" => sorted(&self.ask(&[&b"HGETALL"[..], &key]), 2),
                _ => sorted(&self.ask(&[&b"SMEMBERS"[..], &key]), 1),
            };
            let ends = self.ask(&[&b"TTL"[..], &key]) != Value::Integer(-1);
            all.insert(key.escape_ascii().to_string(), format!("{ends} {value}"));
        }
        all
    }
}

fn sorted(list: &Value, step: usize) -> String {
    let Value::Array(list) = list else { panic!("{list:?}") };
    let mut parts: Vec<String> = list.chunks(step).map(|part| format!("{part:?}")).collect();
    parts.sort();
    parts.concat()
}

/// A server with an object cache, whose socket is in a directory of its own.
struct Kept {
    parvis: Parvis,
    directory: tempfile::TempDir,
}

impl Kept {
    fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = format!("\"unix:{}\"", directory.path().join("objects.sock").display());
        // A Redis cleans once.
        let mut builder = Parvis::before_http(1).with("purge.echo", "0");
        builder = builder.with("objects.listen", &socket);
        for (key, value) in settings {
            builder = builder.with(key, value);
        }
        let parvis = builder.start();
        // It answers once all sockets are open; that of the objects is opened after the others.
        assert!(parvis.metric("parvis_objects_keys").is_some());
        Self { parvis, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("objects.sock")
    }

    fn connect(&self) -> Connection {
        Connection::to(&self.socket())
    }

    fn metric(&self, name: &str) -> f64 {
        self.parvis.metric(&format!("parvis_objects_{name}")).expect("a number")
    }
}

/// xorshift; a test says where it begins.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % end
    }
}
