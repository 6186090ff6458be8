//! Small responses that carry many tags, to be stored.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parvis::exchange::StoredHead;
use parvis::fields::Fields;
use parvis::policy::CacheKey;
use parvis::store::{Encoded, NewEntry, Segment, StoredBody};

/// The key of a numbered response.
pub fn key(number: usize) -> CacheKey {
    let url = format!("www.example.com/catalog/category/view/product-{number}.html");
    CacheKey::for_tests(url.as_bytes(), b"https")
}

/// A small response with these tags.
pub fn response(number: usize, tags: Vec<Bytes>) -> NewEntry {
    let literal = Segment::Literal(Encoded::from_identity(&[b'x'; 500], None, 0));
    NewEntry {
        key: key(number),
        status: StatusCode::OK,
        head: StoredHead::new(Fields::from([("Content-Type", "text/html")])),
        body: StoredBody::new([literal]),
        tags,
        pool: None,
        ttl: Duration::from_hours(24),
        grace: Duration::from_mins(5),
        keep: Duration::from_hours(72),
        stale_if_error: Duration::ZERO,
        stale_if_disconnected: true,
        age: Duration::ZERO,
        validation: None,
        variant: None,
        debug: false,
    }
}

/// A tag that one response alone carries.
pub fn own_tag(number: usize) -> Bytes {
    Bytes::from(format!("cat_p_{number}"))
}

/// A tag that several carry.
pub fn shared_tag(number: usize) -> Bytes {
    Bytes::from(format!("cat_c_p_{number}"))
}

/// Its own tag and others of `shared` ones, `tags` in all.
pub fn mixed_tags(number: usize, tags: usize, shared: usize) -> Vec<Bytes> {
    let mixed = |n: usize| (number * tags + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let others = (1..tags).map(|n| shared_tag(mixed(n) % shared));
    std::iter::once(own_tag(number)).chain(others).collect()
}
