//! The object cache over its socket, side by side with a real redis-server.

mod bounds;
mod eviction;
mod fence;
mod fleet;
mod fleet_magento;
mod large;
mod messages;
mod php;
mod replay;
mod restart;
mod scripts;
mod scripts_magento;
mod shown;
mod snapshot;
mod snapshot_in_fleet;
mod symfony;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parvis::resp::{Request, Value, decode};

use crate::support::Parvis;
use crate::support::chance::Chance;
use crate::support::redis::Replies;

/// A connection to either.
struct Connection {
    stream: UnixStream,
    replies: Replies,
}

impl Connection {
    fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        Self { stream, replies: Replies::default() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next reply; `None`: the connection was closed.
    fn reply(&mut self) -> Option<Value> {
        let reply = self.replies.next(&mut self.stream).ok().flatten();
        reply.map(|reply| decode(&reply).expect("decoded"))
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
