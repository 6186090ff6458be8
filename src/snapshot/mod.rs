//! Stored responses as bytes, on their way to another process.
//!
//! It knows no store. Whoever has one makes a [`StoredResponse`] of an entry, and judges what it reads
//! before use: a purge that was answered must hold for it, and it must be of the same release, since
//! pages of another one name static files that are gone.

pub mod record;

use std::time::Duration;

use bytes::Bytes;

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

#[cfg(test)]
mod tests;
