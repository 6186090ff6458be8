//! What this node counts of its visitors.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of visitors on this node since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// They drew a ticket and wait.
    pub drawn: u64,
    /// They came in, at once or after their wait.
    pub admitted: u64,
    /// They looked whether it is their turn, and it was not.
    pub looked: u64,
    /// The line was full.
    pub full: u64,
    /// Questions and steps for which Redis was away or slow.
    pub alone: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub drawn: AtomicU64,
    pub admitted: AtomicU64,
    pub looked: AtomicU64,
    pub full: AtomicU64,
    pub alone: AtomicU64,
}

impl Counts {
    pub fn figures(&self) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Self { drawn, admitted, looked, full, alone } = self;
        Figures {
            drawn: read(drawn),
            admitted: read(admitted),
            looked: read(looked),
            full: read(full),
            alone: read(alone),
        }
    }
}

/// One more.
pub(super) fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
