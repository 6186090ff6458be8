//! The protocol of Redis and the commands on keys, side by side with a real redis-server.

mod commands;
pub mod compare;
mod protocol;
mod side_by_side;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use parvis::resp::{ReplyLimits, ReplyState, Value, decode, read_reply};

const LIMITS: ReplyLimits = ReplyLimits {
    line_max_bytes: 64 << 10,
    bulk_max_bytes: 16 << 20,
    elements_max: 1 << 20,
    reply_max_bytes: 64 << 20,
};

/// A connection to redis-server.
struct Direct {
    stream: UnixStream,
    buffer: BytesMut,
    state: ReplyState,
}

impl Direct {
    fn to(redis: &crate::support::redis::Redis) -> Self {
        let stream = UnixStream::connect(redis.socket()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
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
            let mut piece = [0; 16 << 10];
            let count = self.stream.read(&mut piece).expect("read");
            if count == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }
}
