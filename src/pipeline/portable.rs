//! Stored responses in the form in which they leave this process, and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::Node;
use crate::clock::Moment;
use crate::delivery;
use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::fleet::Due;
use crate::policy::{CacheKey, Vary, language_of};
use crate::snapshot::{self, Literal, StoredResponse};
use crate::store::{
    Encoded, Entry, FillMark, Forms, Freshness, Include, Names, NewEntry, NotRestored, Piece,
    Segment, Stored, StoredBody, Used, Variant,
};

/// Why a response from elsewhere was not stored here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotImported {
    /// It is none, or its key is.
    #[error("it is no response that this program would have stored")]
    Malformed,
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] NotRestored),
}

impl Node {
    /// A stored response in the form in which it leaves this process, without a request: all that
    /// selected it stands in its key. `None`: it has gone, or is kept no longer, or is the answer to a
    /// Range, which is stored beside another, or is about to be purged again (P5): what shows the state
    /// before a change would come back otherwise.
    pub fn export(&self, stored: &Stored) -> Option<StoredResponse> {
        let Stored { entry, used } = stored;
        if entry.status() == StatusCode::PARTIAL_CONTENT {
            return None;
        }
        let names = self.parts.store.names(entry)?;
        // After the look at the store: what is purged from now on, who takes it learns.
        let echo = self.parts.fleet.echo_of(&names.tags, entry.key().url());
        let response = portable(entry, names, self.parts.clock.now())?;
        let ttl = match echo {
            Due::Nothing => response.ttl,
            Due::Soft(_) => Duration::ZERO,
            Due::Hard(_) => return None,
        };
        Some(StoredResponse { ttl, hits: used.hits, marks: used.marks, ..response })
    }

    /// Stores a response that another store gave, under the key that it brings, as a fill which began
    /// at `mark`: a purge since then that names it refuses it. It is worth what it says of its time, so
    /// that who has had it for a while first lets it age ([`StoredResponse::aged_by`]); and it counts as
    /// old where this node misses purges ([`Entry::is_restored`]). Who calls this knows that keys mean
    /// the same there ([`crate::policy::Policy::keyspace`]), and that the release is the same.
    ///
    /// # Errors
    /// [`NotImported`].
    pub fn import(
        &self,
        mark: FillMark,
        response: StoredResponse,
    ) -> Result<Arc<Entry>, NotImported> {
        let used = Used { hits: response.hits, marks: response.marks };
        let new = restorable(response).ok_or(NotImported::Malformed)?;
        Ok(self.parts.store.restore(mark, new, used)?)
    }
}

/// The same as a response to be stored here, under the key that it brings. `None`: it is none.
fn restorable(response: StoredResponse) -> Option<NewEntry> {
    let key = CacheKey::checked(&response.key)?;
    let told = fields_of(&response.head)?;
    let variant = Vary::of_key(&key).map(|(primary, vary)| {
        let by_language = language_of(&told);
        let by_language = by_language.and_then(|it| Vary::language_key_of(&key, &it));
        Variant { primary, vary, by_language }
    });
    to_be_stored(response, key, variant)
}

/// A stored response as it stands now. `None`: it is kept no longer.
pub(super) fn portable(entry: &Entry, names: Names, now: Moment) -> Option<StoredResponse> {
    let stale_for = match entry.freshness(now) {
        Freshness::Fresh => Duration::ZERO,
        Freshness::Stale { stale_for } => stale_for,
        Freshness::Dead => return None,
    };
    let key = entry.key();
    let variant = Vary::of_key(&key).map(|(primary, vary)| snapshot::Variant {
        primary: primary.as_bytes().clone(),
        vary: vary.names().map(Bytes::copy_from_slice).collect(),
        by_language: None,
    });
    Some(StoredResponse {
        key: key.as_bytes().clone(),
        status: entry.status().as_u16(),
        head: Bytes::copy_from_slice(entry.head().http1()),
        validation: entry.validation().map(|fields| lines(&fields)),
        segments: entry.body().pieces().map(portable_piece).collect(),
        tags: names.tags,
        pool: names.pool,
        ttl: entry.remaining(now),
        stale_for,
        grace: entry.grace(),
        keep: entry.keep(),
        stale_if_error: entry.stale_if_error(),
        stale_if_disconnected: entry.stale_if_disconnected(),
        age: entry.age_at(now),
        debug: entry.debug(),
        variant,
        ..StoredResponse::default()
    })
}

fn portable_piece(piece: Piece<'_>) -> snapshot::Segment {
    match piece {
        Piece::Literal(encoded) => snapshot::Segment::Literal(Literal {
            identity_bytes: encoded.identity_bytes(),
            crc32: encoded.crc32(),
            identity: encoded.identity(),
            deflate: encoded.deflate(),
            brotli: encoded.brotli(),
            zstd: encoded.zstd_frame(),
        }),
        Piece::Include(include) => snapshot::Segment::Include {
            source: include.source.clone(),
            alternative: include.alternative.clone(),
            continues: include.continues,
        },
    }
}

/// The same as a response to be stored here, under a key of this node's making. `None`: it is none.
pub(super) fn to_be_stored(
    response: StoredResponse,
    key: CacheKey,
    variant: Option<Variant>,
) -> Option<NewEntry> {
    let segments: Vec<_> = response.segments.into_iter().map(segment_of).collect();
    let body = StoredBody::new(segments);
    let mut fields = fields_of(&response.head)?;
    delivery::prepare(&mut fields, &body);
    let validation = match response.validation {
        Some(lines) => Some(StoredHead::new(fields_of(&lines)?)),
        None => None,
    };
    Some(NewEntry {
        key,
        status: StatusCode::from_u16(response.status).ok()?,
        head: StoredHead::new(fields),
        body,
        tags: response.tags,
        pool: response.pool,
        ttl: response.ttl,
        // Here its life begins anew, so that what it has been stale for is taken off.
        grace: response.grace.saturating_sub(response.stale_for),
        keep: response.keep.saturating_sub(response.stale_for),
        stale_if_error: response.stale_if_error.saturating_sub(response.stale_for),
        stale_if_disconnected: response.stale_if_disconnected,
        age: response.age,
        debug: response.debug,
        validation,
        variant,
    })
}

fn segment_of(segment: snapshot::Segment) -> Segment {
    match segment {
        snapshot::Segment::Literal(literal) => {
            let forms = Forms {
                identity: literal.identity.as_deref(),
                deflate: literal.deflate.as_deref(),
                brotli: literal.brotli.as_deref(),
                zstd: literal.zstd.as_deref(),
            };
            Segment::Literal(Encoded::of_forms(forms, literal.crc32, literal.identity_bytes))
        }
        snapshot::Segment::Include { source, alternative, continues } => {
            Segment::Include(Include { source, alternative, continues })
        }
    }
}

fn lines(fields: &Fields) -> Bytes {
    let mut out = Vec::with_capacity(fields.wire_bytes());
    fields.write_http1(&mut out);
    out.into()
}

/// `None`: these are no lines as [`lines`] writes them.
pub(super) fn fields_of(lines: &Bytes) -> Option<Fields> {
    let mut fields = Fields::new();
    let mut rest = &lines[..];
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let (line, behind) = (&rest[..end], &rest[end + 2..]);
        let colon = memchr::memchr(b':', line)?;
        let value = line[colon + 1..].strip_prefix(b" ")?;
        if colon == 0 || memchr::memchr3(0, b'\r', b'\n', line).is_some() {
            return None;
        }
        fields.push(lines.slice_ref(&line[..colon]), lines.slice_ref(value));
        rest = behind;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_read_back_as_they_were_written(
            pairs in prop::collection::vec(("[a-zA-Z-]{1,9}", "[ -~]{0,9}"), 0..5),
        ) {
            let mut fields = Fields::new();
            for (name, value) in pairs {
                fields.push(name, value);
            }
            prop_assert_eq!(fields_of(&lines(&fields)), Some(fields));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = fields_of(&bytes.into());
        }
    }
}
