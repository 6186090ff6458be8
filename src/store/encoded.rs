//! Text as it is kept: a raw deflate stream that others can be joined to.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::StoreError;
use super::entry::Encoded;

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
        Self {
            identity: plain.then(|| Bytes::copy_from_slice(identity)),
            deflate,
            crc32: crc32fast::hash(identity),
            identity_bytes,
        }
    }

    /// The content itself: a clone where it is kept plain, else it is inflated and checked.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the stream does not give the content it was made from.
    pub fn inflate(&self) -> Result<Bytes, StoreError> {
        if let Some(identity) = &self.identity {
            return Ok(identity.clone());
        }
        let stream = self.deflate.as_ref().ok_or(StoreError::Corrupt)?;
        let length = usize::try_from(self.identity_bytes).map_err(|_| StoreError::Corrupt)?;
        let mut identity = Vec::with_capacity(length);
        Decompress::new(false)
            .decompress_vec(stream, &mut identity, FlushDecompress::Sync)
            .map_err(|_| StoreError::Corrupt)?;
        if identity.len() == length && crc32fast::hash(&identity) == self.crc32 {
            Ok(identity.into())
        } else {
            Err(StoreError::Corrupt)
        }
    }
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
fn deflate(identity: &[u8], level: u32) -> Option<Bytes> {
    let mut compress = Compress::new(Compression::new(level.clamp(1, 9)), false);
    let mut stream = Vec::with_capacity(identity.len() / 4 + 64);
    loop {
        let consumed = usize::try_from(compress.total_in()).ok()?;
        compress.compress_vec(&identity[consumed..], &mut stream, FlushCompress::Sync).ok()?;
        // The flush is complete once room is left in the output.
        if compress.total_in() == identity.len() as u64 && stream.len() < stream.capacity() {
            return Some(stream.into_boxed_slice().into());
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
        assert!(large.identity.is_none());
        assert!(large.deflate.as_ref().is_some_and(|deflate| deflate.len() < 1_000));
        assert_eq!(large.inflate().unwrap(), page(20_000));
        let small = Encoded::from_identity(&page(600), Some(6), 0);
        assert!(small.identity.is_some() && small.deflate.is_some());
        let tiny = Encoded::from_identity(&page(600), Some(6), 1_024);
        assert!(tiny.deflate.is_none());
    }

    #[test]
    fn streams_join_behind_one_gzip_header_with_a_combined_checksum() {
        use std::io::Read as _;
        let first = Encoded::from_identity(&page(5_000), Some(6), 0);
        let second = Encoded::from_identity(b"<nav>menu menu menu menu menu</nav>", Some(6), 0);
        let mut joined = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        joined.extend_from_slice(first.deflate.as_ref().unwrap());
        joined.extend_from_slice(second.deflate.as_ref().unwrap());
        joined.extend_from_slice(&[3, 0]);
        let crc32 = combine_crc32(first.crc32, second.crc32, second.identity_bytes);
        joined.extend_from_slice(&crc32.to_le_bytes());
        let length = u32::try_from(first.identity_bytes + second.identity_bytes).unwrap();
        joined.extend_from_slice(&length.to_le_bytes());
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&joined[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out.len(), 5_035);
        assert!(out.ends_with(b"</nav>"));
    }

    #[test]
    fn a_stream_that_was_changed_is_found_out() {
        let mut encoded = Encoded::from_identity(&page(20_000), Some(6), 0);
        encoded.crc32 ^= 1;
        assert_eq!(encoded.inflate(), Err(StoreError::Corrupt));
        encoded.crc32 ^= 1;
        encoded.identity_bytes -= 1;
        assert_eq!(encoded.inflate(), Err(StoreError::Corrupt));
        encoded.deflate = Some(Bytes::from_static(&[0xff; 20]));
        assert_eq!(encoded.inflate(), Err(StoreError::Corrupt));
        encoded.deflate = None;
        assert_eq!(encoded.inflate(), Err(StoreError::Corrupt));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            identity in prop::collection::vec(0_u8..4, 0..9_000),
            level in 1_u32..=9,
        ) {
            let encoded = Encoded::from_identity(&identity, Some(level), 0);
            prop_assert_eq!(encoded.inflate().unwrap(), identity.clone());
            if let Some(deflate) = &encoded.deflate {
                prop_assert!(deflate.ends_with(&[0, 0, 0xff, 0xff]));
                let only = Encoded { identity: None, ..encoded.clone() };
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
