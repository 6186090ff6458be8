//! What a stored response costs in memory, and how it is made to cost no more.

use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Include, NewEntry, Segment, StoredBody, TagId};
use crate::exchange::{StoredHead, is_framing};
use crate::fields::{Field, Fields};

/// Bytes that a response takes besides what is counted piece by piece: its place in the cache, the
/// table of slots, the index of URLs and the list by expiry. Measured 350 with 36,000 responses without
/// content; the rest is for tables that have just doubled.
const BOOKKEEPING_BYTES: usize = 480;

/// Bytes of a tag that no other response carries: two entries of tables and a bitmap's start.
const TAG_BYTES: usize = 112;

/// Bytes of one more response under a tag: its number in the response, its bit in the bitmap.
const LINK_BYTES: usize = 8;

/// Reference counts in front of what an `Arc` holds.
const ARC_BYTES: usize = 16;

/// What a `Bytes` allocates besides its content once it is shared.
const SHARED_BYTES: usize = 32;

/// Bytes that the allocator takes for `length` bytes: jemalloc has classes of 16 bytes up to 128
/// and then four to each doubling; from 16 KiB on it adds a page.
pub(super) const fn allocation_bytes(length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    if length <= 128 {
        return length.next_multiple_of(16);
    }
    let step = (length - 1).next_power_of_two() / 8;
    let step = if (length - 1).is_power_of_two() { step * 2 } else { step };
    let class = length.next_multiple_of(step);
    if class > 14 << 10 { class + (4 << 10) } else { class }
}

fn shared_bytes(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { allocation_bytes(bytes.len()) + SHARED_BYTES }
}

/// What a response weighs in bytes, without its tags.
pub(super) fn entry_bytes(new: &NewEntry) -> usize {
    BOOKKEEPING_BYTES
        + allocation_bytes(size_of::<Entry>() + ARC_BYTES)
        + shared_bytes(new.key.as_bytes())
        + head_bytes(&new.head)
        + new.validation.as_ref().map_or(0, |head| head_bytes(head))
        + body_bytes(&new.body)
}

/// What its tags weigh in bytes, where `fresh` are those that no other response carries.
pub(super) fn tags_bytes<'a>(tags: usize, fresh: impl Iterator<Item = &'a Bytes>) -> usize {
    allocation_bytes(tags * size_of::<TagId>())
        + tags * (LINK_BYTES - size_of::<TagId>())
        + fresh.map(|tag| TAG_BYTES + allocation_bytes(tag.len() + ARC_BYTES)).sum::<usize>()
}

fn head_bytes(head: &StoredHead) -> usize {
    allocation_bytes(size_of::<StoredHead>() + ARC_BYTES)
        + allocation_bytes(head.fields.len() * size_of::<Field>())
        + shared_bytes(&head.http1)
}

fn body_bytes(body: &StoredBody) -> usize {
    let segments = body.segments.iter().map(|segment| match segment {
        Segment::Literal(encoded) => {
            encoded.identity.as_ref().map_or(0, shared_bytes)
                + encoded.deflate.as_ref().map_or(0, shared_bytes)
                + encoded.brotli.as_ref().map_or(0, shared_bytes)
        }
        Segment::Include(include) => {
            shared_bytes(&include.source) + include.alternative.as_ref().map_or(0, shared_bytes)
        }
    });
    allocation_bytes(body.segments.len() * size_of::<Segment>())
        + segments.sum::<usize>()
        + body.gzip.as_deref().map_or(0, file_bytes)
        + body.zstd.as_ref().map_or(0, shared_bytes)
        + body.brotli.as_deref().map_or(0, |parts| allocation_bytes(size_of_val(parts) + ARC_BYTES))
}

/// The list of a gzip file's parts, and its tail: the head is static, and the rest is a segment's.
/// Of a brotli file the tail is static, too.
fn file_bytes(parts: &[Bytes]) -> usize {
    allocation_bytes(size_of_val(parts) + ARC_BYTES) + parts.last().map_or(0, shared_bytes)
}

/// The head in one allocation for its bytes: both forms are slices of the same copy, and no
/// buffer of the network stays alive for it. What each connection says anew is left out.
pub(super) fn compact_head(head: &StoredHead) -> Arc<StoredHead> {
    let kept = || head.fields.iter().filter(|field| !is_framing(field));
    let mut out = Vec::with_capacity(head.fields.wire_bytes());
    kept().for_each(|field| field.write_http1(&mut out));
    let http1 = Bytes::from(out.into_boxed_slice());
    let mut fields = Fields::with_capacity(head.fields.len());
    let mut at = 0;
    for field in kept() {
        let name = at..at + field.name.len();
        let value = name.end + 2..name.end + 2 + field.value.len();
        at = value.end + 2;
        fields.push(http1.slice(name), http1.slice(value));
    }
    Arc::new(StoredHead { fields, http1, has_date: head.has_date })
}

/// The content with copies of the sources of includes, which are slices of the page.
/// Literals are exact already: [`super::Encoded::from_identity`] copies.
pub(super) fn compact_body(mut body: StoredBody) -> StoredBody {
    for segment in &mut body.segments {
        if let Segment::Include(Include { source, alternative, .. }) = segment {
            *source = Bytes::copy_from_slice(source);
            *alternative = alternative.as_deref().map(Bytes::copy_from_slice);
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_rounded_as_the_allocator_does() {
        let classes = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (1_025, 1_280),
            (4_096, 4_096),
            (4_097, 5_120),
            (14 << 10, 14 << 10),
            ((14 << 10) + 1, 20 << 10),
            (33_000, (40 << 10) + (4 << 10)),
        ];
        for (length, class) in classes {
            assert_eq!(allocation_bytes(length), class, "{length}");
        }
    }

    #[test]
    fn every_kept_form_counts() {
        use crate::store::Encoded;
        let bytes = |length: usize| Some(Bytes::from(vec![b'x'; length]));
        let mut literal = Encoded::plain(vec![b'x'; 5_000].into());
        let mut weights = Vec::new();
        let mut weigh = |literal: &Encoded| {
            weights.push(body_bytes(&StoredBody::new([Segment::Literal(literal.clone())])));
        };
        weigh(&literal);
        literal.deflate = bytes(700);
        weigh(&literal);
        literal.brotli = bytes(600);
        weigh(&literal);
        let added: Vec<_> = weights.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(added, [768 + SHARED_BYTES, 640 + SHARED_BYTES]);
        let mut ready = StoredBody::new([Segment::Literal(literal)]);
        ready.brotli = Some(Arc::from(vec![Bytes::new(); 3]));
        assert!(body_bytes(&ready) > weights[2]);
    }

    #[test]
    fn a_compacted_head_has_the_same_lines_in_one_buffer() {
        let head = StoredHead::new(Fields::from([("Content-Type", "text/html"), ("X-Empty", "")]));
        let compact = compact_head(&head);
        assert_eq!(*compact, head);
        let start = compact.http1.as_ptr() as usize;
        for field in &compact.fields {
            let at = field.name.as_ptr() as usize;
            assert!((start..start + compact.http1.len()).contains(&at));
        }
    }
}
