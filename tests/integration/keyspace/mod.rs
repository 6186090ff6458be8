//! The protocol of Redis and the commands on keys, side by side with a real redis-server.

mod commands;
pub mod compare;
mod protocol;
mod side_by_side;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use parvis::resp::{Value, decode};

use crate::support::redis::{Redis, Replies};

/// A connection to redis-server.
struct Direct {
    stream: UnixStream,
    replies: Replies,
}

impl Direct {
    fn to(redis: &Redis) -> Self {
        let stream = UnixStream::connect(redis.socket()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        Self { stream, replies: Replies::default() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next reply; `None`: the connection was closed.
    fn reply(&mut self) -> Option<Value> {
        let reply = self.replies.next(&mut self.stream).expect("read");
        reply.map(|reply| decode(&reply).expect("decoded"))
    }
}
