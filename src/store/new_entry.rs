//! A response on its way into the store.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::body::StoredBody;
use crate::exchange::StoredHead;
use crate::policy::{CacheKey, Vary};

/// A response to be stored.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Its key.
    pub key: CacheKey,
    /// Its status.
    pub status: StatusCode,
    /// Its head as it is delivered, without the fields of a single delivery.
    pub head: StoredHead,
    /// Its content.
    pub body: StoredBody,
    /// Its tags.
    pub tags: Vec<Bytes>,
    /// Its `X-Pool`.
    pub pool: Option<Bytes>,
    /// Its lifetime from now.
    pub ttl: Duration,
    /// How long past that it may be served while one fetch refreshes it.
    pub grace: Duration,
    /// How long past its lifetime it is kept (at least `grace`).
    pub keep: Duration,
    /// How long past its lifetime it may be served where the origin answers with an error.
    pub stale_if_error: Duration,
    /// May it be served, as long as it is kept, where the origin cannot be reached?
    pub stale_if_disconnected: bool,
    /// The age it had on arrival.
    pub age: Duration,
    /// Did Magento ask for debugging headers?
    pub debug: bool,
    /// The fields as the origin sent them, where one is a validator: a 304 is laid over them.
    pub validation: Option<StoredHead>,
    /// Where it is one of several that share a primary key.
    pub variant: Option<Variant>,
}

/// Which variant a response is (RFC 9111 4.1).
#[derive(Clone, Debug)]
pub struct Variant {
    /// The key without regard to Vary.
    pub primary: CacheKey,
    /// What selects it.
    pub vary: Vary,
    /// Another key under which it is found, by the language it is in.
    pub by_language: Option<CacheKey>,
}

/// Bytes of the buffer that a response takes at most.
pub(super) fn buffer_bytes(new: &NewEntry) -> usize {
    let numbers = new.tags.len() + usize::from(new.pool.is_some());
    new.key.as_bytes().len()
        + numbers * NUMBER_BYTES
        + new.head.http1().len()
        + new.validation.as_ref().map_or(0, |head| head.http1().len())
}

/// Bytes that a number takes at most, where there are less than 250 million.
const NUMBER_BYTES: usize = 4;
