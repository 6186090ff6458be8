//! Bytes that are under way, of all clients together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on bytes; clones are handles on the same.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Left>);

#[derive(Debug)]
struct Left {
    left_bytes: AtomicUsize,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Left { left_bytes: AtomicUsize::new(max_bytes) }))
    }

    /// Holds nothing yet.
    pub(super) fn hold(&self) -> Hold {
        Hold { budget: self.clone(), bytes: 0 }
    }
}

/// A part of the budget; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Hold {
    budget: Budget,
    bytes: usize,
}

impl Hold {
    /// Takes so many more, if they are left.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let left = &self.budget.0.left_bytes;
        let taken =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Takes over what another holds.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// All that is held, for somebody else.
    pub(super) fn split(&mut self) -> Self {
        Self { budget: self.budget.clone(), bytes: std::mem::take(&mut self.bytes) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.0.left_bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_and_no_more_is_given_than_there_is() {
        let budget = Budget::new(10);
        let mut hold = budget.hold();
        assert!(hold.grow(6) && !hold.grow(5) && hold.grow(4));
        assert!(!budget.hold().grow(1));
        drop(hold);
        assert!(budget.hold().grow(10));
    }
}
