//! Stored responses as bytes: on disk over a restart, or on their way to another process; and the object
//! cache.
//!
//! It knows no store. Whoever has one makes a [`StoredResponse`] of each entry, hottest first, so
//! that a bound leaves out the coldest; and judges what it reads before use.
//!
//! A snapshot is a stream of blocks, each with its kind, its length, its content and a CRC-32 over
//! these three; numbers are little-endian:
//!
//! | block | content |
//! | --- | --- |
//! | magic, `PARVISSN` and the version (2 bytes) | no block, but the same for all versions |
//! | `1`, head | [`Head`] |
//! | `2`, record | one response, as [`record`] has it |
//! | `3`, end | the number of records |
//! | `4`, commands | instead of records, for the object cache: bytes of a stream of commands |
//!
//! What is not whole ends in a [`Fault`]; the records before it are as they were written. A record's
//! content is read into one buffer, and all its parts are slices of that.
//!
//! # When a snapshot may be used
//!
//! A purge that was answered must hold for what is read, or a page would come back. So whoever reads
//! must know each purge since the snapshot was **begun** (not since it was finished: a record is older
//! than the purges that came while later ones were written):
//!
//! 1. With a log of purges the head's position says where to read on. The records are inserted as
//!    fills that began there, and count as doubtful until the log was read to its end; if the log no
//!    longer reaches back that far, they are stale.
//! 2. From process to process, while one takes over from the other, each purge is applied by both. The
//!    one that reads takes its mark of the fence before the other begins to write, and inserts by it.
//!    What others write to a log meanwhile comes as in 1.
//! 3. Without a log, a server that was down cannot know of purges that were sent meanwhile and
//!    refused: what it reads from disk may be shown as stale at best, and asked for anew.
//!
//! A purge that is to be applied again shortly is in the log already: whoever writes leaves out what it
//! names, and whoever reads applies it again. In all cases release and keyspace must be the same: pages of another release name static files
//! that are gone, and keys of other rules may be somebody else's.

pub mod file;
mod reader;
pub mod record;
mod writer;

use std::io;
use std::time::Duration;

use bytes::Bytes;

pub use reader::Reader;
pub use writer::{Pushed, Writer};

const MAGIC: &[u8; 8] = b"PARVISSN";
/// Raised with each change of the format, of what a key is made of, or of what a stored head or body
/// is; another version is not read.
const VERSION: u16 = 1;

const HEAD: u8 = 1;
const RECORD: u8 = 2;
const END: u8 = 3;
const COMMANDS: u8 = 4;

/// Kind and length before a block's content.
const BLOCK_HEAD_BYTES: usize = 5;
/// The checksum behind it.
const CHECKSUM_BYTES: usize = 4;

/// Bytes of each of a head's texts.
const TEXT_MAX_BYTES: usize = 4 << 10;

/// Bytes of a head's [`Head::echoes`], each with four more.
pub const ECHOES_MAX_BYTES: usize = 256 << 10;

/// What a snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// When it was begun, in seconds of the Unix epoch. For people, and to let responses age: it
    /// decides nothing about purges.
    pub created_unix_seconds: u64,
    /// What keys mean ([`crate::policy::Policy::keyspace`]).
    pub keyspace: u64,
    /// Was it written when nothing could be purged any more?
    pub is_last: bool,
    /// The hits of about the last hour of all that was stored, what found no room included.
    pub hits: u64,
    /// The release of the application whose pages it has.
    pub release: String,
    /// Where the log of purges stood when it was begun; empty: there is none.
    pub position: String,
    /// Purges that were to be applied once more shortly after, as the log has them.
    pub echoes: Vec<Bytes>,
}

/// A stored response, by itself. Durations count from when it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredResponse {
    /// The whole key.
    pub key: Bytes,
    /// The status.
    pub status: u16,
    /// The lines of its head, as HTTP/1.1 sends them, without what belongs to one delivery.
    pub head: Bytes,
    /// The lines as the origin sent them, where one is a validator.
    pub validation: Option<Bytes>,
    /// Literals and includes, in order.
    pub segments: Vec<Segment>,
    /// Its tags.
    pub tags: Vec<Bytes>,
    /// Its `X-Pool`.
    pub pool: Option<Bytes>,
    /// What is left of its lifetime.
    pub ttl: Duration,
    /// For how long it has been stale; zero while `ttl` is not.
    pub stale_for: Duration,
    /// How long past its lifetime it may be served while one fetch refreshes it.
    pub grace: Duration,
    /// How long past its lifetime it is kept.
    pub keep: Duration,
    /// How long past its lifetime it may be served where the origin answers with an error.
    pub stale_if_error: Duration,
    /// May it be served, as long as it is kept, where the origin cannot be reached?
    pub stale_if_disconnected: bool,
    /// Its age (RFC 9111 4.2.3).
    pub age: Duration,
    /// Did Magento ask for debugging headers?
    pub debug: bool,
    /// Its hits of about the last hour, as the store weighs them.
    pub hits: u64,
    /// Marks of the store's eviction.
    pub marks: u8,
    /// Where it is one of several that share a primary key.
    pub variant: Option<Variant>,
}

/// Which variant a response is (RFC 9111 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// The key without regard to Vary.
    pub primary: Bytes,
    /// The names that select it.
    pub vary: Vec<Bytes>,
    /// Another key under which it is found, by the language it is in.
    pub by_language: Option<Bytes>,
}

/// A piece of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes.
    Literal(Literal),
    /// Another response that is joined in here.
    Include {
        /// The source as it stood in the page.
        source: Bytes,
        /// What is tried where the source fails.
        alternative: Option<Bytes>,
        /// Does the page go on without where both fail?
        continues: bool,
    },
}

/// Bytes in the forms that are kept of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Literal {
    /// How many they are.
    pub identity_bytes: u64,
    /// Their CRC-32 (RFC 1952 8).
    pub crc32: u32,
    /// They themselves.
    pub identity: Option<Bytes>,
    /// Whole blocks of a deflate stream, not the last.
    pub deflate: Option<Bytes>,
    /// Whole meta-blocks of a brotli stream, not the last.
    pub brotli: Option<Bytes>,
    /// A zstd frame.
    pub zstd: Option<Bytes>,
}

impl StoredResponse {
    /// The same after so long. `None`: it is past the time for which it is kept.
    pub fn aged_by(mut self, elapsed: Duration) -> Option<Self> {
        let beyond = elapsed.saturating_sub(self.ttl);
        self.ttl = self.ttl.saturating_sub(elapsed);
        self.stale_for = self.stale_for.saturating_add(beyond);
        self.age = self.age.saturating_add(elapsed);
        (!self.ttl.is_zero() || self.stale_for < self.keep).then_some(self)
    }
}

/// Why reading ends. What was read before is good.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// It begins otherwise.
    #[error("it is no snapshot")]
    NoSnapshot,
    /// A version that this program does not read.
    #[error("it is of version {0}; this program reads version {VERSION}")]
    Version(u16),
    /// It ends before its end.
    #[error("it ends in record {0}, before its end")]
    Short(u64),
    /// A checksum does not fit.
    #[error("the checksum of record {0} is wrong")]
    Checksum(u64),
    /// A record is larger than allowed.
    #[error("record {record} has {bytes} bytes, which is more than allowed")]
    TooLarge {
        /// Its number, from 0.
        record: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// What no writer writes, though its checksum fits.
    #[error("record {record} is wrong: {what}")]
    Malformed {
        /// Its number, from 0.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The end says another number of records.
    #[error("it has {read} records, and its end says {said}")]
    Count {
        /// Records that were read.
        read: u64,
        /// Records that there should be.
        said: u64,
    },
}

/// The checksum of a block.
fn checksum(head: [u8; BLOCK_HEAD_BYTES], content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(content);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests;
