//! Sessions that pass through Parvis, and what PHP's session handler says to its store.

mod again;
mod bots;
mod embedded;
mod failover;
mod fills;
mod gateway;
mod handler;
mod handover;
mod inside;
mod killed;
mod latency;
mod lock;
mod orphans;
mod queue;
mod random;
mod replay;
mod restart;
mod script;
mod seats;
mod throwaway;
mod trunks;
mod turns;
mod visitors;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parvis::resp::write;

use crate::support::Parvis;
use crate::support::parvis::Builder;
use crate::support::process::free_port;
use crate::support::redis::Replies;

/// A node that serves sessions from a Redis, and the port where it does.
fn node(url: &str, with: impl FnOnce(Builder) -> Builder) -> (Parvis, u16) {
    let port = free_port();
    let builder = Parvis::before_http(free_port())
        .with("sessions.listen", &format!("\"127.0.0.1:{port}\""))
        .with("sessions.url", &format!("\"{url}\""));
    (with(builder).start(), port)
}

/// A client of Redis that sees bytes.
struct Client {
    stream: TcpStream,
    replies: Replies,
}

impl Client {
    fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("it listens")
    }

    /// `None`: nobody listens there any more.
    fn try_connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        Some(Self { stream, replies: Replies::default() })
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it reads");
    }

    /// The next reply, as it came; `None`: the connection has ended, or nothing comes.
    fn reply(&mut self) -> Option<Bytes> {
        self.replies.next(&mut self.stream).ok().flatten()
    }

    /// The reply to a command; `None`: the connection has ended.
    fn try_ask(&mut self, command: &[u8]) -> Option<Bytes> {
        self.stream.write_all(command).ok()?;
        self.reply()
    }

    /// Is it served?
    fn reply_to_ping(mut self) -> bool {
        self.try_ask(&packed("PING")).is_some_and(|reply| reply == "+PONG\r\n"[..])
    }

    /// The reply to a command that is written with spaces.
    fn ask(&mut self, command: &str) -> String {
        self.send(&packed(command));
        text(&self.reply().unwrap_or_else(|| panic!("{command}: the connection has ended")))
    }
}

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).trim_end().replace("\r\n", "|")
}

/// A command in bytes; its arguments stand between single spaces.
fn packed(command: &str) -> Bytes {
    let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let mut out = BytesMut::new();
    write::command(&mut out, &arguments);
    out.freeze()
}
