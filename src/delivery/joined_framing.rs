//! How the pieces of a joined page become content of one coding: what comes first, how a piece is
//! emitted, what comes last. All a coding needs to be joined, at once or while streaming.

use bytes::Bytes;
use crc32fast::Hasher;

use super::joined::own_bytes;
use super::{DeliveryError, brotli, gzip};
use crate::store::Encoded;

/// A coding of joined content.
pub(super) trait Framing {
    /// What is before the first piece.
    fn head(&mut self, parts: &mut Vec<Bytes>);

    /// Appends the next piece.
    fn piece(&mut self, piece: &Encoded, parts: &mut Vec<Bytes>) -> Result<(), DeliveryError>;

    /// What is behind the last piece.
    fn tail(&mut self, parts: &mut Vec<Bytes>);
}

/// One gzip file (RFC 1952): deflate streams which end on byte boundaries, one after another, and
/// the checksum made from theirs.
#[derive(Default)]
pub(super) struct GzipFraming {
    checksum: Hasher,
    identity_bytes: u64,
}

impl Framing for GzipFraming {
    fn head(&mut self, parts: &mut Vec<Bytes>) {
        parts.push(gzip::head());
    }

    fn piece(&mut self, piece: &Encoded, parts: &mut Vec<Bytes>) -> Result<(), DeliveryError> {
        self.checksum.combine(&Hasher::new_with_initial_len(piece.crc32(), piece.identity_bytes()));
        self.identity_bytes += piece.identity_bytes();
        if let Some(deflate) = piece.deflate() {
            parts.push(deflate);
        } else {
            let identity = piece.identity().ok_or(DeliveryError::Damaged)?;
            gzip::push_stored_blocks(&identity, parts);
        }
        Ok(())
    }

    fn tail(&mut self, parts: &mut Vec<Bytes>) {
        let checksum = std::mem::take(&mut self.checksum);
        parts.push(gzip::tail(checksum.finalize(), self.identity_bytes));
    }
}

/// The bytes themselves; the function gives those of a piece that is kept compressed alone.
pub(super) struct IdentityFraming<F>(pub(super) F);

impl<F: Fn(&Encoded) -> Option<Bytes>> Framing for IdentityFraming<F> {
    fn head(&mut self, _: &mut Vec<Bytes>) {}

    fn piece(&mut self, piece: &Encoded, parts: &mut Vec<Bytes>) -> Result<(), DeliveryError> {
        parts.push(own_bytes(piece, &self.0)?);
        Ok(())
    }

    fn tail(&mut self, _: &mut Vec<Bytes>) {}
}

/// One brotli stream (RFC 7932): meta-blocks which end on byte boundaries, one after another. Pieces
/// that are not kept in brotli become uncompressed meta-blocks; the function gives the bytes of those.
pub(super) struct BrotliFraming<F>(pub(super) F);

impl<F: Fn(&Encoded) -> Option<Bytes>> Framing for BrotliFraming<F> {
    fn head(&mut self, parts: &mut Vec<Bytes>) {
        parts.push(brotli::head());
    }

    fn piece(&mut self, piece: &Encoded, parts: &mut Vec<Bytes>) -> Result<(), DeliveryError> {
        match piece.brotli() {
            Some(blocks) => parts.push(blocks),
            None => brotli::push_uncompressed(&own_bytes(piece, &self.0)?, parts),
        }
        Ok(())
    }

    fn tail(&mut self, parts: &mut Vec<Bytes>) {
        parts.push(brotli::tail());
    }
}
