//! Content as h2 takes it: what is in memory in several parts leaves in as few frames as one part.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes for DATA frames, which h2 cuts at the largest size that the client takes.
#[derive(Debug)]
pub(super) enum Content {
    /// One piece.
    Piece(Bytes),
    /// Several, none of them empty.
    Parts {
        parts: VecDeque<Bytes>,
        /// Bytes in all of them.
        remaining: usize,
    },
}

impl Content {
    /// Content in parts that are in memory.
    pub(super) fn of(parts: &[Bytes]) -> Self {
        if let [piece] = parts {
            return Self::Piece(piece.clone());
        }
        let parts: VecDeque<_> = parts.iter().filter(|part| !part.is_empty()).cloned().collect();
        let remaining = parts.iter().map(Bytes::len).sum();
        Self::Parts { parts, remaining }
    }
}

impl From<Bytes> for Content {
    fn from(piece: Bytes) -> Self {
        Self::Piece(piece)
    }
}

impl Buf for Content {
    fn remaining(&self) -> usize {
        match self {
            Self::Piece(piece) => piece.len(),
            Self::Parts { remaining, .. } => *remaining,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Piece(piece) => piece,
            Self::Parts { parts, .. } => parts.front().map_or(&[], |part| part),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Piece(piece) => piece.advance(count),
            Self::Parts { parts, remaining } => {
                let mut left = count;
                while let Some(first) = parts.front_mut().filter(|_| left > 0) {
                    let taken = left.min(first.len());
                    first.advance(taken);
                    left -= taken;
                    if first.is_empty() {
                        parts.pop_front();
                    }
                }
                *remaining -= count - left;
            }
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Piece(piece) => piece.chunks_vectored(slices),
            Self::Parts { parts, .. } => {
                let mut used = 0;
                for (slice, part) in slices.iter_mut().zip(parts) {
                    *slice = IoSlice::new(part);
                    used += 1;
                }
                used
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_pass_as_one_however_they_are_taken() {
        let parts = ["ab", "", "cde", "f"].map(Bytes::from);
        for step in 1..=6 {
            let mut content = Content::of(&parts);
            let mut taken = Vec::new();
            while content.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 8];
                let used = content.chunks_vectored(&mut slices);
                let bytes: Vec<u8> =
                    slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(bytes.len(), content.remaining());
                assert!(bytes.starts_with(content.chunk()) && !content.chunk().is_empty());
                let count = step.min(bytes.len());
                taken.extend_from_slice(&bytes[..count]);
                content.advance(count);
            }
            assert_eq!(taken, b"abcdef");
        }
        assert_eq!(Content::of(&[]).remaining(), 0);
        assert_eq!(Content::of(&parts[..1]).chunk(), b"ab");
    }
}
