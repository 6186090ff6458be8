//! What clients have sent that could not be done yet, of all of them together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So much of one client's is not counted.
const FREE_BYTES: usize = 64 << 10;

/// The bound.
#[derive(Debug)]
pub(super) struct Buffers {
    max_bytes: usize,
    bytes: AtomicUsize,
}

/// One client's part; given back when dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    buffers: &'a Buffers,
    bytes: usize,
}

impl Buffers {
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: AtomicUsize::new(0) }
    }

    /// The part of a client that has sent nothing.
    pub fn hold(&self) -> Held<'_> {
        Held { buffers: self, bytes: 0 }
    }
}

impl Held<'_> {
    /// The client's buffers have so many bytes now; false: that is more than there is.
    pub fn set(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE_BYTES);
        if let Some(more) = wanted.checked_sub(self.bytes).filter(|more| *more > 0) {
            let before = self.buffers.bytes.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.buffers.max_bytes {
                self.buffers.bytes.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else if wanted < self.bytes {
            self.buffers.bytes.fetch_sub(self.bytes - wanted, Ordering::Relaxed);
        }
        self.bytes = wanted;
        true
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_are_bounded_and_what_is_done_makes_room() {
        let buffers = Buffers::new(1_000);
        let (mut one, mut other) = (buffers.hold(), buffers.hold());
        assert!(one.set(FREE_BYTES + 600));
        assert!(!other.set(FREE_BYTES + 600));
        assert!(other.set(FREE_BYTES + 400));
        assert!(one.set(FREE_BYTES));
        assert!(other.set(FREE_BYTES + 1_000));
        drop(other);
        assert!(one.set(FREE_BYTES + 1_000));
        drop(one);
        assert_eq!(buffers.bytes.load(Ordering::Relaxed), 0);
    }
}
