//! How many are let in: the share of a node, and what the rate was.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::settings::Rate;

/// So much of what was let in is remembered.
const HISTORY: Duration = Duration::from_mins(1);

/// So many moments of it.
const MOMENTS_MAX: usize = 240;

/// The share of a node in the rate at which visitors are let in. What is not used within a second is lost, but for one.
#[derive(Debug, Default)]
pub(super) struct Pace {
    left: f64,
    at: Option<Moment>,
}

impl Pace {
    /// What has come up to now, of the rate of so many nodes.
    pub fn fill(&mut self, rate: Rate, nodes: usize, now: Moment) {
        #[expect(clippy::cast_precision_loss, reason = "nodes are few")]
        let nodes = nodes.max(1) as f64;
        let per_second = f64::from(rate.amount) / rate.each.as_secs_f64().max(0.001) / nodes;
        let passed = self.at.map_or(0.0, |at| now.since(at).as_secs_f64());
        self.at = Some(now);
        self.left = (self.left + per_second * passed).min(per_second.max(1.0));
    }

    /// Whole ones that are left.
    pub fn left(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and bounded by the settings"
        )]
        let left = self.left.max(0.0) as u64;
        left
    }

    /// So many were used.
    pub fn take(&mut self, count: u64) {
        #[expect(clippy::cast_precision_loss, reason = "they are at most what was left")]
        let count = count as f64;
        self.left = (self.left - count).max(0.0);
    }

    /// One that was taken was not used after all.
    pub fn give_back(&mut self) {
        self.left += 1.0;
    }

    /// Nothing comes while PHP has more to do than it can.
    pub fn pause(&mut self, now: Moment) {
        (self.left, self.at) = (0.0, Some(now));
    }
}

/// What was let in within the last minute.
#[derive(Debug, Default)]
pub(super) struct History {
    epoch: u64,
    moments: VecDeque<(Moment, u64)>,
}

impl History {
    /// So many were let in since this line began.
    pub fn note(&mut self, epoch: u64, granted: u64, now: Moment) {
        let is_less = self.moments.back().is_some_and(|(_, before)| *before > granted);
        if self.epoch != epoch || is_less {
            self.moments.clear();
            self.epoch = epoch;
        }
        while self.moments.len() >= MOMENTS_MAX
            || self.moments.front().is_some_and(|(at, _)| now.since(*at) > HISTORY)
        {
            self.moments.pop_front();
        }
        self.moments.push_back((now, granted));
    }

    /// How many that were, and within which time.
    pub fn last(&self) -> Option<(u64, Duration)> {
        let (first, last) = (self.moments.front()?, self.moments.back()?);
        Some((last.1.saturating_sub(first.1), last.0.since(first.0)))
    }

    /// How many in a minute.
    pub fn per_minute(&self) -> u64 {
        self.last().map_or(0, |(count, time)| {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
            if count == 0 { 0 } else { (count * 60_000).div_ceil(milliseconds.max(1_000)) }
        })
    }

    /// How long it takes until so many are let in, at that rate; `None`: nobody was.
    pub fn time_for(&self, count: u64) -> Option<Duration> {
        let (granted, time) = self.last()?;
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        (granted > 0).then(|| Duration::from_millis(count.saturating_mul(milliseconds) / granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_milliseconds(milliseconds)
    }

    fn in_ten_minutes(rate: Rate, nodes: usize) -> u64 {
        let mut pace = Pace::default();
        let mut taken = 0;
        for tick in 0..=1_200 {
            pace.fill(rate, nodes, at(tick * 500));
            taken += pace.left();
            pace.take(pace.left());
        }
        taken
    }

    #[test]
    fn nodes_share_a_rate() {
        let rate = Rate { amount: 600, each: Duration::from_mins(1) };
        assert!(in_ten_minutes(rate, 1).abs_diff(6_000) <= 1);
        assert!(in_ten_minutes(rate, 4).abs_diff(1_500) <= 1);
        let slow = Rate { amount: 1, each: Duration::from_mins(1) };
        assert!(in_ten_minutes(slow, 1).abs_diff(10) <= 1);
        assert!(in_ten_minutes(slow, 5).abs_diff(2) <= 1);
    }

    #[test]
    fn what_is_not_used_does_not_come_at_once_later() {
        let mut pace = Pace::default();
        let rate = Rate { amount: 10, each: Duration::from_secs(1) };
        pace.fill(rate, 1, at(0));
        pace.fill(rate, 1, at(3_600_000));
        assert_eq!(pace.left(), 10);
        pace.pause(at(3_600_100));
        pace.fill(rate, 1, at(3_600_200));
        assert_eq!(pace.left(), 1);
    }

    #[test]
    fn an_estimate_is_by_the_last_minute() {
        let mut history = History::default();
        assert_eq!(history.time_for(10), None);
        for second in 0..=300 {
            let granted = if second <= 200 { second } else { 200 + (second - 200) * 10 };
            history.note(1, granted, at(second * 1_000));
        }
        assert_eq!(history.per_minute(), 600);
        assert_eq!(history.time_for(100), Some(Duration::from_secs(10)));
        history.note(2, 5, at(301_000));
        assert_eq!(history.time_for(1), None);
    }
}
