//! What the commands of a client mean for the locks of sessions.

use bytes::Bytes;

use crate::resp::{Request, integer};
use crate::sessions::lock::Written;

/// A write that concerns a lock, once it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrote {
    pub(super) database: u32,
    pub(super) key: Bytes,
    pub(super) written: Written,
}

/// Is it PHP's try for the lock of a session? Gives the key.
pub(super) fn key_to_lock(request: &Request, prefix: &[u8]) -> Option<Bytes> {
    let is_try = request.len() == 4
        && request.is("hincrby")
        && request.arg(2) == Some(b"lock")
        && request.arg(3) == Some(b"1");
    if is_try { session_key(request, 1, prefix) } else { None }
}

/// What it writes of locks.
pub(super) fn writes(request: &Request, database: u32, prefix: &[u8]) -> Vec<Wrote> {
    let wrote = |key, written| Wrote { database, key, written };
    if request.is("hmset") || request.is("hset") {
        let written = fields(request);
        let key = session_key(request, 1, prefix).filter(|_| written != Written::default());
        return key.map(|key| wrote(key, written)).into_iter().collect();
    }
    let deleted = Written { deleted: true, ..Written::default() };
    if request.is("del") || request.is("unlink") {
        let keys = (1..request.len()).filter_map(|at| session_key(request, at, prefix));
        return keys.map(|key| wrote(key, deleted.clone())).collect();
    }
    let is_of_lock = |at| matches!(request.arg(at), Some(b"lock" | b"pid"));
    if request.is("hdel") && (2..request.len()).any(is_of_lock) {
        let key = session_key(request, 1, prefix);
        return key.map(|key| wrote(key, deleted)).into_iter().collect();
    }
    Vec::new()
}

/// The fields that count, of field and value in turn.
fn fields(request: &Request) -> Written {
    let mut written = Written::default();
    for at in (2..request.len()).step_by(2) {
        match (request.arg(at), request.arg(at + 1)) {
            (Some(b"lock"), Some(value)) => written.lock = integer(value),
            (Some(b"pid"), Some(value)) => written.pid = Some(Bytes::copy_from_slice(value)),
            _ => {}
        }
    }
    written
}

/// A key that does not keep the whole request alive.
fn session_key(request: &Request, at: usize, prefix: &[u8]) -> Option<Bytes> {
    request.arg(at).filter(|key| key.starts_with(prefix)).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        let arguments: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        Request::pack(&arguments)
    }

    #[test]
    fn a_try_for_a_lock_is_known_by_all_its_words() {
        let key = |text| key_to_lock(&request(text), b"sess_");
        assert_eq!(key("HINCRBY sess_a lock 1").as_deref(), Some(&b"sess_a"[..]));
        assert_eq!(key("hincrby sess_a lock 1").as_deref(), Some(&b"sess_a"[..]));
        for other in [
            "HINCRBY sess_a wait 1",
            "HINCRBY sess_a lock 2",
            "HINCRBY other lock 1",
            "HINCRBY sess_a lock",
            "HGET sess_a lock",
        ] {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_written_of_a_lock_is_seen_in_any_order() {
        let one = |text| {
            let all = writes(&request(text), 2, b"sess_");
            all.into_iter().map(|wrote| wrote.written).next()
        };
        let signed = Written { pid: Some("web|1".into()), lock: Some(1), deleted: false };
        assert_eq!(one("HMSET sess_a pid web|1 lock 1 req x"), Some(signed));
        let free = Written { lock: Some(0), ..Written::default() };
        assert_eq!(one("HSET sess_a data lock lock 0"), Some(free));
        let gone = Written { deleted: true, ..Written::default() };
        for gone_by in ["DEL x sess_a", "UNLINK sess_a", "HDEL sess_a x pid"] {
            assert_eq!(one(gone_by), Some(gone.clone()), "{gone_by}");
        }
        for other in ["HMSET sess_a data x", "HMSET other lock 0", "DEL other", "HDEL sess_a data"]
        {
            assert_eq!(one(other), None, "{other}");
        }
    }
}
