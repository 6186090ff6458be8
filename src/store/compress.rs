//! Compressing what is to be kept: raw deflate and brotli streams that others can be joined to.

use brotli::enc::{BrotliCompress, BrotliEncoderParams};
use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::StoreError;
use super::body::{Segment, StoredBody};
use super::encoded::{BROTLI_WINDOW_BITS, Encoded, Forms};

/// Bytes in front of a brotli meta-block whose bytes are not compressed.
const UNCOMPRESSED_HEAD_BYTES: u64 = 3;

/// Content of at most this many bytes is kept plain besides its deflate stream: inflating it
/// costs more than the bytes.
const SMALL_IDENTITY_BYTES: usize = 1_024;

impl Encoded {
    /// Takes content in.
    ///
    /// With a `gzip_level` (1 to 9) content of at least `min_bytes` is compressed; where that
    /// gains nothing, and below `min_bytes`, it is kept as it is. What is kept is a copy of exactly
    /// its size, so that a slice of a network buffer does not hold the whole buffer.
    ///
    /// Compressing takes about 10 ms per MiB: call it off the threads that serve requests.
    pub fn from_identity(identity: &[u8], gzip_level: Option<u32>, min_bytes: u64) -> Self {
        let identity_bytes = identity.len() as u64;
        let deflate = gzip_level
            .filter(|_| identity_bytes >= min_bytes && !identity.is_empty())
            .and_then(|level| deflate(identity, level))
            .filter(|deflate| deflate.len() < identity.len());
        let plain = deflate.is_none() || identity.len() <= SMALL_IDENTITY_BYTES;
        let forms = Forms {
            identity: plain.then_some(identity),
            deflate: deflate.as_deref(),
            ..Forms::default()
        };
        Self::of_forms(forms, crc32fast::hash(identity), identity_bytes)
    }

    /// The content itself: a clone where it is kept plain, else it is inflated and checked.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the stream does not give the content it was made from.
    pub fn inflate(&self) -> Result<Bytes, StoreError> {
        if let Some(identity) = self.identity() {
            return Ok(identity);
        }
        let stream = self.forms().deflate.ok_or(StoreError::Corrupt)?;
        let length = usize::try_from(self.identity_bytes()).map_err(|_| StoreError::Corrupt)?;
        let mut identity = Vec::with_capacity(length);
        Decompress::new(false)
            .decompress_vec(stream, &mut identity, FlushDecompress::Sync)
            .map_err(|_| StoreError::Corrupt)?;
        if identity.len() == length && crc32fast::hash(&identity) == self.crc32() {
            Ok(identity.into())
        } else {
            Err(StoreError::Corrupt)
        }
    }
}

impl StoredBody {
    /// Compresses each literal with brotli as well (`level` 2 to 11), where the whole gets smaller
    /// by that than it is so far. Without includes content of less than `min_bytes` bytes is left
    /// as it is.
    ///
    /// Level 5 takes about 30 ms per MiB: call it off the threads that serve requests.
    pub fn add_brotli(&mut self, level: u32, min_bytes: u64) {
        if self.only().is_some_and(|only| only.identity_bytes() < min_bytes) {
            return;
        }
        let before: u64 = self.literals().map(smallest_bytes).sum();
        let streams: Vec<_> = self.literals().map(|literal| brotli(literal, level)).collect();
        let with = |(literal, stream): (&Encoded, &Option<Vec<u8>>)| match stream {
            Some(stream) => stream.len() as u64,
            None => literal.identity_bytes() + UNCOMPRESSED_HEAD_BYTES,
        };
        if self.literals().zip(&streams).map(with).sum::<u64>() >= before {
            return;
        }
        let mut streams = streams.into_iter();
        *self = std::mem::take(self).map(|literal| match streams.next().flatten() {
            Some(stream) => literal.with(Forms { brotli: Some(&stream), ..literal.forms() }),
            None => literal,
        });
    }
}

impl StoredBody {
    /// Compresses content without includes of at least `min_bytes` bytes with zstd as well (`level` 1
    /// to 19), where it gets smaller by that than by deflate. (A frame's blocks refer to what stands
    /// before them, so that parts of a page could not be joined in one.)
    ///
    /// Call it off the threads that serve requests.
    pub fn add_zstd(&mut self, level: u32, min_bytes: u64) {
        let Some(only) = self.only().filter(|only| only.identity_bytes() >= min_bytes) else {
            return;
        };
        let level = i32::try_from(level.clamp(1, 19)).unwrap_or(1);
        let frame = only.inflate().ok().and_then(|text| zstd::bulk::compress(&text, level).ok());
        if let Some(frame) = frame.filter(|frame| (frame.len() as u64) < smallest_bytes(only)) {
            let literal = only.with(Forms { zstd: Some(&frame), ..only.forms() });
            *self = Self::new([Segment::Literal(literal)]);
        }
    }
}

/// Bytes that a literal takes on its way in what it is kept as so far.
fn smallest_bytes(literal: &Encoded) -> u64 {
    literal.forms().deflate.map_or(literal.identity_bytes(), |deflate| deflate.len() as u64)
}

/// Meta-blocks that can follow any others, and be followed. `None` where that gains nothing.
fn brotli(literal: &Encoded, level: u32) -> Option<Vec<u8>> {
    let identity = literal.inflate().ok()?;
    let params = BrotliEncoderParams {
        // 0 and 1 end with a last block whatever else is asked for.
        quality: i32::try_from(level.clamp(2, 11)).ok()?,
        lgwin: i32::from(BROTLI_WINDOW_BITS),
        size_hint: identity.len(),
        // Nothing in front is referred to: neither bytes nor distances, nor the dictionary, whose
        // places depend on how much came before.
        catable: true,
        use_dictionary: false,
        // Not the last, and up to a byte boundary, without the head and the tail of a stream.
        appendable: true,
        byte_align: true,
        bare_stream: true,
        ..BrotliEncoderParams::default()
    };
    let mut stream = Vec::with_capacity(identity.len() / 4 + 64);
    BrotliCompress(&mut &identity[..], &mut stream, &params).ok()?;
    let gains = (stream.len() as u64) < literal.identity_bytes() + UNCOMPRESSED_HEAD_BYTES;
    (gains && !identity.is_empty()).then_some(stream)
}

/// The CRC-32 of `a` followed by `b`, from the CRC-32 of each (RFC 1952 8) and the bytes of `b`.
pub fn combine_crc32(a: u32, b: u32, b_bytes: u64) -> u32 {
    // The bytes of `a` do not matter for the sum.
    let mut both = crc32fast::Hasher::new_with_initial(a);
    both.combine(&crc32fast::Hasher::new_with_initial_len(b, b_bytes));
    both.finalize()
}

/// A raw deflate stream of whole blocks that ends on a byte boundary and is not final: what a sync
/// flush leaves (RFC 1951 3.2.4: an empty stored block). `None` where the compressor fails.
fn deflate(identity: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(level.clamp(1, 9)), false);
    let mut stream = Vec::with_capacity(identity.len() / 4 + 64);
    loop {
        let consumed = usize::try_from(compress.total_in()).ok()?;
        compress.compress_vec(&identity[consumed..], &mut stream, FlushCompress::Sync).ok()?;
        // The flush is complete once room is left in the output.
        if compress.total_in() == identity.len() as u64 && stream.len() < stream.capacity() {
            return Some(stream);
        }
        stream.reserve((stream.len() / 2).max(4_096));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(bytes: usize) -> Vec<u8> {
        b"<div class=\"product\">price 12.99</div>\n".iter().copied().cycle().take(bytes).collect()
    }

    #[test]
    fn text_is_kept_compressed_and_small_text_plain_as_well() {
        let large = Encoded::from_identity(&page(20_000), Some(6), 1_024);
        assert!(!large.has_identity());
        assert!(large.forms().deflate.is_some_and(|deflate| deflate.len() < 1_000));
        assert_eq!(large.inflate().unwrap(), page(20_000));
        let small = Encoded::from_identity(&page(600), Some(6), 0);
        assert!(small.has_identity() && small.has_deflate());
        let tiny = Encoded::from_identity(&page(600), Some(6), 1_024);
        assert!(!tiny.has_deflate());
    }

    #[test]
    fn streams_join_behind_one_gzip_header_with_a_combined_checksum() {
        use std::io::Read as _;
        let first = Encoded::from_identity(&page(5_000), Some(6), 0);
        let second = Encoded::from_identity(b"<nav>menu menu menu menu menu</nav>", Some(6), 0);
        let mut joined = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        joined.extend_from_slice(first.forms().deflate.unwrap());
        joined.extend_from_slice(second.forms().deflate.unwrap());
        joined.extend_from_slice(&[3, 0]);
        let crc32 = combine_crc32(first.crc32(), second.crc32(), second.identity_bytes());
        joined.extend_from_slice(&crc32.to_le_bytes());
        let length = u32::try_from(first.identity_bytes() + second.identity_bytes()).unwrap();
        joined.extend_from_slice(&length.to_le_bytes());
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&joined[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out.len(), 5_035);
        assert!(out.ends_with(b"</nav>"));
    }

    #[test]
    fn a_stream_that_was_changed_is_found_out() {
        let encoded = Encoded::from_identity(&page(20_000), Some(6), 0);
        let (forms, crc32) = (encoded.forms(), encoded.crc32());
        let damaged = [
            Encoded::of_forms(forms, crc32 ^ 1, 20_000),
            Encoded::of_forms(forms, crc32, 19_999),
            encoded.with(Forms { deflate: Some(&[0xff; 20]), ..forms }),
            encoded.with(Forms::default()),
        ];
        assert!(damaged.iter().all(|it| it.inflate() == Err(StoreError::Corrupt)));
    }

    fn unbrotli(blocks: &[&[u8]]) -> Vec<u8> {
        // A window of 22 bits up to a byte boundary, and an empty last block.
        let stream = [&[0x6b, 0][..], &blocks.concat(), &[3]].concat();
        let mut out = Vec::new();
        brotli::BrotliDecompress(&mut &stream[..], &mut out).unwrap();
        out
    }

    fn literal(text: &[u8]) -> Segment {
        Segment::Literal(Encoded::from_identity(text, Some(6), 1_024))
    }

    fn streams(body: &StoredBody) -> Vec<Option<&[u8]>> {
        body.literals().map(|literal| literal.forms().brotli).collect()
    }

    #[test]
    fn text_is_kept_in_brotli_where_it_is_smaller_than_what_is_kept_already() {
        let mut body =
            StoredBody::new([literal(&page(20_000)), literal(b"-"), literal(&page(300))]);
        body.add_brotli(5, 1_024);
        let [Some(first), None, Some(last)] = streams(&body)[..] else { panic!("two gain") };
        assert_eq!(unbrotli(&[first, last]), [page(20_000), page(300)].concat());
        let noise: Vec<u8> =
            (0..5_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut body = StoredBody::new([literal(&noise)]);
        body.add_brotli(5, 1_024);
        let deflate = body.only().and_then(|literal| literal.forms().deflate);
        let kept = streams(&body)[0].map_or(usize::MAX, <[u8]>::len);
        assert!(kept == usize::MAX || kept < deflate.map_or(noise.len(), <[u8]>::len));
        // What deflate made by hand is smaller than anything brotli could make.
        let text = page(20_000);
        let forms = Forms { identity: Some(&text), deflate: Some(b"x"), ..Forms::default() };
        let literal = Encoded::of_forms(forms, crc32fast::hash(&text), text.len() as u64);
        let mut body = StoredBody::new([Segment::Literal(literal)]);
        body.add_brotli(5, 1_024);
        assert_eq!(streams(&body), [None]);
    }

    #[test]
    fn a_whole_page_is_kept_in_zstd_where_that_is_smaller() {
        // Repetitions too far apart for deflate.
        let noise: Vec<u8> = (0..40_000_u32)
            .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let text = [&noise[..], &noise[..]].concat();
        let mut body = StoredBody::new([literal(&text)]);
        body.add_zstd(6, 1_024);
        let frame = body.only().unwrap().zstd_frame().unwrap();
        assert_eq!(zstd::bulk::decompress(&frame, text.len()).unwrap(), text);
        let mut body = StoredBody::new([literal(&page(500))]);
        body.add_zstd(6, 1_024);
        assert!(!body.only().unwrap().has_zstd());
    }

    #[test]
    fn little_content_is_not_kept_in_brotli_unless_it_is_a_part_of_a_page() {
        let mut body = StoredBody::new([literal(&page(1_000))]);
        body.add_brotli(5, 1_024);
        assert_eq!(streams(&body), [None]);
        let source = Bytes::from("/menu");
        let include = Segment::Include(crate::store::Include::new(source));
        let mut body = StoredBody::new([literal(&page(1_000)), include]);
        body.add_brotli(5, 1_024);
        assert!(streams(&body)[0].is_some());
        let mut empty = StoredBody::default();
        empty.add_brotli(5, 0);
        assert!(empty.is_empty());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            identity in prop::collection::vec(0_u8..4, 0..9_000),
            level in 1_u32..=9,
        ) {
            let encoded = Encoded::from_identity(&identity, Some(level), 0);
            prop_assert_eq!(encoded.inflate().unwrap(), identity.clone());
            if let Some(deflate) = encoded.forms().deflate {
                prop_assert!(deflate.ends_with(&[0, 0, 0xff, 0xff]));
                let only = encoded.with(Forms { identity: None, ..encoded.forms() });
                prop_assert_eq!(only.inflate().unwrap(), identity);
            }
        }

        #[test]
        fn checksums_combine(a in prop::collection::vec(any::<u8>(), 0..99), b in prop::collection::vec(any::<u8>(), 0..99)) {
            let both = [a.as_slice(), b.as_slice()].concat();
            prop_assert_eq!(
                combine_crc32(crc32fast::hash(&a), crc32fast::hash(&b), b.len() as u64),
                crc32fast::hash(&both)
            );
        }
    }
}
