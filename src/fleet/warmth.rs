//! What a node has taken from others in advance, and given to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Counts of pages that move before they are asked for.
#[derive(Debug)]
pub(super) struct Warmth {
    percent: AtomicU64,
    taken: AtomicU64,
    taken_bytes: AtomicU64,
    refused: AtomicU64,
    given: AtomicU64,
    given_bytes: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmFigures {
    /// The share of the weight of what the others' visitors ask for that is here, in percent;
    /// `None`: that is not known, or of no interest any more.
    pub percent: Option<u64>,
    /// Pages that were taken.
    pub taken: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// Pages that came and were not stored: purged meanwhile, or not readable.
    pub refused: u64,
    /// Pages that were given.
    pub given: u64,
    /// Their bytes.
    pub given_bytes: u64,
}

/// No percentage.
const UNKNOWN: u64 = u64::MAX;

impl Default for Warmth {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            percent: AtomicU64::new(UNKNOWN),
            taken: zero(),
            taken_bytes: zero(),
            refused: zero(),
            given: zero(),
            given_bytes: zero(),
        }
    }
}

impl Warmth {
    pub(super) fn reach(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    pub(super) fn took(&self, pages: u64, bytes: u64, refused: u64) {
        self.taken.fetch_add(pages, Ordering::Relaxed);
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
    }

    pub(super) fn gave(&self, pages: u64, bytes: u64) {
        self.given.fetch_add(pages, Ordering::Relaxed);
        self.given_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> WarmFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WarmFigures {
            percent: Some(of(&self.percent)).filter(|percent| *percent != UNKNOWN),
            taken: of(&self.taken),
            taken_bytes: of(&self.taken_bytes),
            refused: of(&self.refused),
            given: of(&self.given),
            given_bytes: of(&self.given_bytes),
        }
    }
}

/// Holds bytes to so many in a second.
#[derive(Debug)]
pub(super) struct Pace {
    rate_bytes: u64,
    /// When what was had so far has been paid for, on the clock of the caller.
    paid: Mutex<Duration>,
}

impl Pace {
    pub(super) fn new(rate_bytes: u64) -> Self {
        Self { rate_bytes: rate_bytes.max(1), paid: Mutex::default() }
    }

    /// Takes so many; gives how long that lasts, with what others took before.
    pub(super) fn take(&self, bytes: u64, now: Duration) -> Duration {
        let mut paid = self.paid.lock();
        let from = now.max(*paid);
        let takes = u128::from(bytes) * 1_000_000 / u128::from(self.rate_bytes);
        *paid = from + Duration::from_micros(u64::try_from(takes).unwrap_or(u64::MAX));
        paid.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_to_the_rate_and_what_was_not_used_is_not_saved_up() {
        let (pace, at) = (Pace::new(1_000), Duration::from_millis);
        assert_eq!(pace.take(500, at(0)), at(500));
        assert_eq!(pace.take(500, at(0)), at(1_000));
        assert_eq!(pace.take(100, at(900)), at(200));
        assert_eq!(pace.take(100, at(60_000)), at(100));
        assert_eq!(pace.take(100, at(60_000)), at(200));
    }

    #[test]
    fn a_share_that_nobody_knows_is_not_shown() {
        let warmth = Warmth::default();
        assert_eq!(warmth.figures(), WarmFigures::default());
        warmth.reach(95);
        warmth.took(2, 10, 1);
        warmth.gave(1, 5);
        let figures = warmth.figures();
        assert_eq!((figures.percent, figures.taken, figures.refused), (Some(95), 2, 1));
        assert_eq!((figures.taken_bytes, figures.given, figures.given_bytes), (10, 1, 5));
    }
}
