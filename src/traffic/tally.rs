//! What rules have done, counted by each thread for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::observe::{shard_count, shard_of_this_thread};
use crate::settings::WhoKind;

/// What one rule has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests that it matched.
    pub matched: u64,
    /// Of them those that it decided on: let through, turned away, or sent to what is stored.
    pub decided: u64,
    /// Those that it would have turned away, and only counted.
    pub dry_run: u64,
    /// Milliseconds of PHP that went to what it matched.
    pub php_milliseconds: u64,
}

// Aligned to two cache lines, which processors prefetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Block {
    matched: AtomicU64,
    decided: AtomicU64,
    dry_run: AtomicU64,
    php_milliseconds: AtomicU64,
}

/// The counts of one rule; it goes on over a reload.
#[derive(Clone, Debug)]
pub(super) struct Tally(Arc<[Block]>);

impl Tally {
    pub(super) fn new() -> Self {
        Self((0..shard_count()).map(|_| Block::default()).collect())
    }

    fn own(&self) -> Option<&Block> {
        self.0.get(shard_of_this_thread(self.0.len()))
    }

    pub(super) fn match_one(&self) {
        add(self.own().map(|block| &block.matched), 1);
    }

    pub(super) fn decide(&self) {
        add(self.own().map(|block| &block.decided), 1);
    }

    pub(super) fn decide_dry(&self) {
        add(self.own().map(|block| &block.dry_run), 1);
    }

    pub(super) fn charge(&self, php: Duration) {
        let milliseconds = u64::try_from(php.as_millis()).unwrap_or(u64::MAX);
        add(self.own().map(|block| &block.php_milliseconds), milliseconds);
    }

    pub(super) fn figures(&self) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.0.iter().fold(Figures::default(), |sum, block| Figures {
            matched: sum.matched + read(&block.matched),
            decided: sum.decided + read(&block.decided),
            dry_run: sum.dry_run + read(&block.dry_run),
            php_milliseconds: sum.php_milliseconds + read(&block.php_milliseconds),
        })
    }
}

fn add(count: Option<&AtomicU64>, by: u64) {
    if let Some(count) = count {
        count.fetch_add(by, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct KindBlock([AtomicU64; WhoKind::ALL.len()]);

/// Requests by who sent them, as far as a rule asked.
#[derive(Clone, Debug)]
pub(super) struct Kinds(Arc<[KindBlock]>);

impl Kinds {
    pub(super) fn new() -> Self {
        Self((0..shard_count()).map(|_| KindBlock::default()).collect())
    }

    pub(super) fn count(&self, kind: WhoKind) {
        let own = self.0.get(shard_of_this_thread(self.0.len()));
        add(own.and_then(|block| block.0.get(kind as usize)), 1);
    }

    pub(super) fn counted(&self, kind: WhoKind) -> u64 {
        let counts = self.0.iter().filter_map(|block| block.0.get(kind as usize));
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
