//! Tests of the store as a whole.

mod behaviour;
mod eviction;
mod model;
mod restore;
mod threads;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{Encoded, NewEntry, Segment, StoredBody};
use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::policy::CacheKey;

/// A small page that lives for an hour.
pub(crate) fn page(url: &str, tags: &[&'static str]) -> NewEntry {
    let literal = Segment::Literal(Encoded::from_identity(b"<p>page</p>", None, 0));
    NewEntry {
        key: CacheKey::for_tests(url.as_bytes(), b""),
        status: StatusCode::OK,
        head: StoredHead::new(Fields::from([("Content-Type", "text/html")])),
        body: StoredBody::new([literal]),
        tags: tags.iter().map(|&tag| Bytes::from(tag)).collect(),
        pool: None,
        ttl: Duration::from_hours(1),
        grace: Duration::from_mins(5),
        keep: Duration::from_mins(10),
        stale_if_error: Duration::ZERO,
        stale_if_disconnected: true,
        age: Duration::ZERO,
        validation: None,
        variant: None,
        debug: false,
    }
}
