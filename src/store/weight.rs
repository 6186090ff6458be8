//! What a stored response costs in memory, and how it is made to cost no more.

use bytes::Bytes;

use super::entry::Entry;
use super::names::SHORT_NAME_BYTES;
use super::new_entry::{NewEntry, buffer_bytes};

/// Bytes that a response takes besides what is counted piece by piece: its places in the look-up
/// table (9 bytes for each of up to twice as many), among the slots (16), in the table of URLs (5 for each
/// of up to twice as many), in the queue of what is new (8) and in the list by expiry (up to 48); the
/// rest is for lists that have just grown.
const BOOKKEEPING_BYTES: usize = 112;

/// Bytes of a tag that no other response carries, besides its name: its record, its place in the
/// table of names, and the beginning of a list.
const TAG_BYTES: usize = 96;

/// Bytes of one more response under a tag: its slot in a list that has room to grow.
const LINK_BYTES: usize = 6;

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

pub(super) fn shared_bytes(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { allocation_bytes(bytes.len()) + SHARED_BYTES }
}

/// What a response weighs in bytes, without its tags.
pub(super) fn entry_bytes(new: &NewEntry) -> usize {
    BOOKKEEPING_BYTES
        + allocation_bytes(size_of::<Entry>() + ARC_BYTES)
        + allocation_bytes(buffer_bytes(new) + ARC_BYTES)
        + new.body.bytes()
}

/// What its tags weigh in bytes, where `fresh` are those that no other response carries.
pub(super) fn tags_bytes<'a>(tags: usize, fresh: impl Iterator<Item = &'a Bytes>) -> usize {
    tags * LINK_BYTES + fresh.map(|tag| TAG_BYTES + name_bytes(tag)).sum::<usize>()
}

fn name_bytes(name: &Bytes) -> usize {
    if name.len() <= SHORT_NAME_BYTES { 0 } else { allocation_bytes(name.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Encoded, Forms, Segment, StoredBody};

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
        let text = [b'x'; 5_000];
        let mut forms = Forms { identity: Some(&text), ..Forms::default() };
        let weigh = |forms| {
            let literal = Encoded::of_forms(forms, 0, 5_000);
            StoredBody::new([Segment::Literal(literal)]).bytes()
        };
        let plain = weigh(forms);
        assert_eq!(plain, 5_120 + SHARED_BYTES);
        forms.deflate = Some(&text[..700]);
        forms.brotli = Some(&text[..600]);
        forms.zstd = Some(&text[..500]);
        assert_eq!(weigh(forms), 7_168 + SHARED_BYTES);
    }
}
