//! The gzip file format (RFC 1952) around deflate streams that were made when storing.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::store::Encoded;

/// Header: deflate, no flags, no time, operating system unknown (RFC 1952 2.3).
pub(super) const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A final, empty block with fixed codes (RFC 1951 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Bytes of what [`tail`] makes.
pub(super) const TAIL_BYTES: usize = 10;

/// Bytes that one stored block takes (RFC 1951 3.2.4).
const STORED_BLOCK_MAX_BYTES: usize = 65_535;

/// Bytes in front of a stored block.
const STORED_BLOCK_HEAD_BYTES: usize = 5;

/// The header as a piece of its own.
pub(super) const fn head() -> Bytes {
    Bytes::from_static(&HEAD)
}

/// What ends a file of `identity_bytes` bytes with this checksum: a final block, the checksum and
/// the length modulo 2^32.
pub(super) fn tail(crc32: u32, identity_bytes: u64) -> Bytes {
    let mut tail = BytesMut::with_capacity(TAIL_BYTES);
    tail.put_slice(&LAST_BLOCK);
    tail.put_u32_le(crc32);
    tail.put_u32_le(identity_bytes as u32);
    tail.freeze()
}

/// One stored literal as a file of its own; `None` where it is not deflated.
pub(super) fn file(literal: &Encoded) -> Option<Arc<[Bytes]>> {
    let deflate = literal.deflate.clone()?;
    Some(Arc::from([head(), deflate, tail(literal.crc32, literal.identity_bytes)]))
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
