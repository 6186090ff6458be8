//! The protocol of Redis (RESP2 and RESP3) as bytes: requests read, replies framed and decoded, both
//! written. Pure: no sockets, no time.
//!
//! A request is read as redis-server reads it, with its words for what is wrong, but strictly: each
//! line and each bulk must end with CR LF, where redis-server skips two bytes unseen. Requests of many
//! clients go on over one connection, so two readers must never disagree on where one ends.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>; redis-server 7.0 for errors.

mod error;
mod inline;
mod number;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod value;
pub mod write;

pub use error::ProtocolError;
pub use number::integer;
pub use reply::{RawReply, ReplyKind, ReplyLimits, ReplyState, read_reply};
pub use request::{Limits, ReadState, Request, read_request};
pub use value::{DEPTH_MAX, Value, decode};

/// Which shapes replies have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// What a connection speaks until it says HELLO 3.
    #[default]
    Resp2,
    /// With maps, sets, doubles, pushes.
    Resp3,
}

/// Where a line ends: the CR LF at or behind `from`.
enum Line {
    /// The line is `buffer[start..end]`, what follows begins two bytes later.
    Ends(usize),
    /// More bytes are needed; what was looked through need not be looked at again.
    Partial(usize),
    /// A CR without LF, at that place.
    Broken(usize),
}

/// Looks for the end of a line; `scanned` is where to look from, at least the line's start.
fn line_end(buffer: &[u8], scanned: usize) -> Line {
    match memchr::memchr(b'\r', &buffer[scanned..]) {
        None => Line::Partial(buffer.len()),
        Some(at) => match buffer.get(scanned + at + 1) {
            None => Line::Partial(scanned + at),
            Some(b'\n') => Line::Ends(scanned + at),
            Some(_) => Line::Broken(scanned + at),
        },
    }
}
