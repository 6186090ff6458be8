//! The gzip file format (RFC 1952) around deflate streams that were made when storing.

use bytes::{BufMut, Bytes, BytesMut};

use crate::store::{GZIP_HEAD, gzip_tail};

/// Bytes that one stored block takes (RFC 1951 3.2.4).
const STORED_BLOCK_MAX_BYTES: usize = 65_535;

/// Bytes in front of a stored block.
const STORED_BLOCK_HEAD_BYTES: usize = 5;

/// The header as a piece of its own.
pub(super) const fn head() -> Bytes {
    Bytes::from_static(&GZIP_HEAD)
}

/// [`gzip_tail`] as a piece of its own.
pub(super) fn tail(crc32: u32, identity_bytes: u64) -> Bytes {
    Bytes::copy_from_slice(&gzip_tail(crc32, identity_bytes))
}

/// Appends bytes to a deflate stream without compressing them: as stored blocks, none the last.
pub(super) fn push_stored_blocks(bytes: &Bytes, parts: &mut Vec<Bytes>) {
    for start in (0..bytes.len()).step_by(STORED_BLOCK_MAX_BYTES) {
        let block = bytes.slice(start..bytes.len().min(start + STORED_BLOCK_MAX_BYTES));
        let length = block.len() as u16;
        let mut head = BytesMut::with_capacity(STORED_BLOCK_HEAD_BYTES);
        head.put_u8(0);
        head.put_u16_le(length);
        head.put_u16_le(!length);
        parts.push(head.freeze());
        parts.push(block);
    }
}

/// Bytes that [`push_stored_blocks`] appends.
pub(super) fn stored_blocks_bytes(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(STORED_BLOCK_MAX_BYTES as u64) * STORED_BLOCK_HEAD_BYTES as u64
}
