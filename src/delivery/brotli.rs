//! The frame of a brotli stream (RFC 7932 9) around meta-blocks that were made when storing.

use bytes::{BufMut, Bytes, BytesMut};

use crate::store::{BROTLI_HEAD, BROTLI_TAIL};

/// Bytes that one uncompressed meta-block takes where its length has four nibbles.
const UNCOMPRESSED_MAX_BYTES: usize = 65_536;

/// Bytes in front of an uncompressed meta-block.
const UNCOMPRESSED_HEAD_BYTES: usize = 3;

/// [`BROTLI_HEAD`] as a piece of its own.
pub(super) const fn head() -> Bytes {
    Bytes::from_static(&BROTLI_HEAD)
}

/// [`BROTLI_TAIL`] as a piece of its own.
pub(super) const fn tail() -> Bytes {
    Bytes::from_static(&BROTLI_TAIL)
}

/// Appends bytes to a stream without compressing them: as uncompressed meta-blocks, none the last.
pub(super) fn push_uncompressed(bytes: &Bytes, parts: &mut Vec<Bytes>) {
    for start in (0..bytes.len()).step_by(UNCOMPRESSED_MAX_BYTES) {
        let block = bytes.slice(start..bytes.len().min(start + UNCOMPRESSED_MAX_BYTES));
        // ISLAST 0, MNIBBLES 4 (as 0), MLEN - 1 in 16 bits, ISUNCOMPRESSED 1, padding.
        let bits = ((block.len() as u64 - 1) << 3) | 1 << 19;
        let mut head = BytesMut::with_capacity(UNCOMPRESSED_HEAD_BYTES);
        head.put_uint_le(bits, UNCOMPRESSED_HEAD_BYTES);
        parts.push(head.freeze());
        parts.push(block);
    }
}

/// Bytes that [`push_uncompressed`] appends.
pub(super) fn uncompressed_bytes(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(UNCOMPRESSED_MAX_BYTES as u64) * UNCOMPRESSED_HEAD_BYTES as u64
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Encoded, Segment, StoredBody};

    /// What a decoder makes of a stream; an error where bytes follow its end, too.
    pub(in crate::delivery) fn unbrotli(stream: &[u8]) -> std::io::Result<Vec<u8>> {
        let (mut rest, mut out) = (stream, Vec::new());
        brotli::BrotliDecompress(&mut rest, &mut out)?;
        assert!(rest.is_empty(), "nothing follows the end");
        Ok(out)
    }

    fn kept(text: &[u8], level: u32) -> Encoded {
        let mut body = StoredBody::new([Segment::Literal(Encoded::from_identity(text, None, 0))]);
        body.add_brotli(level, 0);
        body.only().expect("a literal").clone()
    }

    #[test]
    fn nothing_is_a_stream() {
        assert_eq!(unbrotli(&[BROTLI_HEAD.as_slice(), &BROTLI_TAIL].concat()).expect("sound"), b"");
    }

    #[test]
    fn a_stored_literal_is_a_file() {
        let text = "<p>some text</p>".repeat(1_000);
        let file = kept(text.as_bytes(), 5).brotli_stream().expect("it gains");
        assert!(file.len() < 100);
        assert_eq!(unbrotli(&file).expect("sound"), text.as_bytes());
    }

    #[test]
    fn uncompressed_blocks_of_any_length_are_read_and_counted() {
        for length in [0, 1, 15, 16, 65_535, 65_536, 65_537, 200_000] {
            let bytes = Bytes::from(vec![b'x'; length]);
            let mut parts = vec![head()];
            push_uncompressed(&bytes, &mut parts);
            assert_eq!(parts[1..].concat().len() as u64, uncompressed_bytes(length as u64));
            parts.push(tail());
            assert_eq!(unbrotli(&parts.concat()).expect("sound"), bytes, "{length}");
        }
    }

    /// Text in which pieces repeat each other, as a page and its menu do, and words of brotli's own
    /// dictionary, so that a reference to what is not there would show.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let words = [" the ", "<div class=\"", "\">", "http://www.", "ab", "</div>\n", " of the "];
        prop_oneof![
            prop::collection::vec(prop::sample::select(words.to_vec()), 0..400)
                .prop_map(|words| words.concat().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..300),
            (0u8..4, 0usize..200_000).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn pieces_follow_each_other_in_any_order(
            pieces in prop::collection::vec((text(), 2u32..=11), 0..6),
        ) {
            let mut parts = vec![head()];
            for (text, level) in &pieces {
                match kept(text, *level).brotli() {
                    Some(blocks) => parts.push(blocks),
                    None => push_uncompressed(&Bytes::from(text.clone()), &mut parts),
                }
            }
            parts.push(tail());
            let expected: Vec<u8> = pieces.into_iter().flat_map(|(text, _)| text).collect();
            prop_assert_eq!(unbrotli(&parts.concat()).expect("sound"), expected);
        }
    }
}
