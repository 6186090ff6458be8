//! So many in such a time, at any time.

use crate::settings::Rate;

/// A list of an account in Redis is no longer; a budget of more is kept in parts of its time.
const COUNT_MAX: u64 = 1_000;

/// So many in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) count: u64,
    pub(super) microseconds: u64,
}

impl Window {
    /// What a rate and a burst allow, the widest first: `amount` in `each`, and no more than `burst` in the time in which the
    /// rate gives as many. A larger burst than amount is one in its own time alone.
    pub(super) fn all(rate: Rate, burst: u32) -> Vec<Self> {
        let (amount, burst) = (u64::from(rate.amount.max(1)), u64::from(burst.max(1)));
        let mut windows = vec![Self::of(rate, amount.max(burst))];
        if burst < amount.min(COUNT_MAX) {
            windows.push(Self::of(rate, burst));
        }
        windows
    }

    /// The time in which the rate gives so many.
    fn of(rate: Rate, count: u64) -> Self {
        let count = count.min(COUNT_MAX);
        let each = rate.each.as_micros().saturating_mul(u128::from(count));
        let microseconds = each.div_ceil(u128::from(rate.amount.max(1))).max(1);
        // A hundred years, which a number of Lua holds beside the time itself.
        Self { count, microseconds: u64::try_from(microseconds).unwrap_or(u64::MAX).min(1 << 52) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn windows(amount: u32, seconds: u64, burst: u32) -> Vec<(u64, u64)> {
        let rate = Rate { amount, each: Duration::from_secs(seconds) };
        let windows = Window::all(rate, burst);
        windows.iter().map(|window| (window.count, window.microseconds)).collect()
    }

    #[test]
    fn as_many_as_the_rate_says_may_come_at_once_or_fewer() {
        assert_eq!(windows(10, 60, 10), [(10, 60_000_000)]);
        assert_eq!(windows(10, 60, 3), [(10, 60_000_000), (3, 18_000_000)]);
        assert_eq!(windows(10, 60, 20), [(20, 120_000_000)]);
        assert_eq!(windows(3, 10, 1), [(3, 10_000_000), (1, 3_333_334)]);
    }

    #[test]
    fn large_numbers_are_kept_in_parts_of_their_time() {
        assert_eq!(windows(60_000, 60, 60_000), [(1_000, 1_000_000)]);
        assert_eq!(windows(60_000, 60, 10), [(1_000, 1_000_000), (10, 10_000)]);
        assert_eq!(windows(1, u64::MAX, 1), [(1, 1 << 52)]);
    }
}
