//! How slow a client is.

use std::time::Duration;

/// How long one message has kept us waiting for its client, and how much of it has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
    /// Bytes per second, over all the time waited.
    rate_min: u64,
}

impl Pace {
    /// A message begins.
    pub(super) const fn new(rate_min: u64) -> Self {
        Self { waited: Duration::ZERO, bytes: 0, rate_min }
    }

    /// The next message begins.
    pub(super) const fn begin(&mut self) {
        *self = Self::new(self.rate_min);
    }

    /// So many bytes have passed after such a wait.
    pub(super) fn passed(&mut self, bytes: u64, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
    }

    /// Bytes that have passed.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has the client been slower than the least rate, after a first `allowance`?
    pub(super) fn is_too_slow(&self, allowance: Duration) -> bool {
        self.waited > allowance
            && u128::from(self.bytes) * 1_000
                < self.waited.as_millis().saturating_mul(u128::from(self.rate_min))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowness_counts_after_the_allowance_and_over_all_the_time() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(100);
        pace.passed(1, second * 10);
        assert!(!pace.is_too_slow(second * 10));
        assert!(pace.is_too_slow(second * 9));
        pace.passed(999, Duration::ZERO);
        assert!(!pace.is_too_slow(second * 9));
        pace.begin();
        assert_eq!(pace.bytes(), 0);
        assert!(!pace.is_too_slow(Duration::ZERO));
    }
}
