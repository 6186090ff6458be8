//! What was seen of requests since the last decision, and what they are known to take.

use std::time::Duration;

/// Of a class, to learn what it takes; and to learn that it takes less, with many in PHP. From few, the
/// faster ones of windows would teach that all others are too slow.
pub(super) const CLASS_SAMPLES_MIN: usize = 4;
const FASTER_SAMPLES_MIN: usize = 8;
/// One request counts for no more than so many times what its class takes now: an export says nothing of pages.
const SAMPLE_MAX: f64 = 4.0;
/// Weight of a window in what a class takes.
const LEARNS: f64 = 0.3;

/// What was seen since the last decision.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) since: Duration,
    changed: Duration,
    /// Requests in PHP, in seconds of them.
    pub(super) occupied: f64,
    /// Ends that still belong to the time before.
    pub(super) settling: usize,
    /// By class: requests and their seconds.
    seen: Vec<(usize, f64)>,
    pub(super) waited: bool,
}

impl Window {
    /// Nothing of so many classes.
    pub(super) fn new(classes: usize, now: Duration) -> Self {
        Self {
            since: now,
            changed: now,
            occupied: 0.0,
            settling: 0,
            seen: vec![(0, 0.0); classes],
            waited: false,
        }
    }

    /// From now on there are more classes.
    pub(super) fn set_classes(&mut self, classes: usize) {
        self.seen.resize(classes, (0, 0.0));
    }

    /// A request of this class took so many seconds, as far as it counts.
    pub(super) fn add(&mut self, class: usize, seconds: f64) {
        if let Some(seen) = self.seen.get_mut(class) {
            seen.0 += 1;
            seen.1 += seconds;
        }
    }

    pub(super) fn begin(&mut self, now: Duration, settling: usize) {
        (self.since, self.changed) = (now, now);
        (self.occupied, self.waited, self.settling) = (0.0, false, settling);
        self.seen.fill((0, 0.0));
    }

    pub(super) fn pass(&mut self, in_use: usize, now: Duration) {
        self.occupied += in_use as f64 * now.saturating_sub(self.changed).as_secs_f64();
        self.changed = now;
    }

    pub(super) fn samples(&self) -> usize {
        self.seen.iter().map(|(count, _)| count).sum()
    }
}

/// What requests take with few others in PHP.
#[derive(Debug)]
pub(super) struct Takes {
    /// Seconds, by class.
    seconds: Vec<Option<f64>>,
    /// With how many in PHP that was measured.
    pub(super) measured_at: f64,
    /// Did they take the same with still fewer?
    pub(super) is_confirmed: bool,
    /// How many times as long as that requests took in the last window; 1 at least.
    pub(super) slowness: f64,
}

impl Takes {
    /// Nothing is known.
    pub(super) fn new(classes: usize) -> Self {
        Self {
            seconds: vec![None; classes],
            measured_at: f64::MAX,
            is_confirmed: false,
            slowness: 1.0,
        }
    }

    /// From now on there are more classes.
    pub(super) fn set_classes(&mut self, classes: usize) {
        self.seconds.resize(classes, None);
    }

    /// For how many seconds a request of this class counts at most.
    pub(super) fn longest(&self, class: usize) -> f64 {
        let known = self.seconds.get(class).copied().flatten();
        known.map_or(f64::MAX, |known| known * self.slowness * SAMPLE_MAX)
    }

    /// How many times as long as with few in PHP requests took.
    pub(super) fn ratio(&self, window: &Window) -> f64 {
        let (mut took, mut expected) = (0.0, 0.0);
        for ((count, seconds), takes) in window.seen.iter().zip(&self.seconds) {
            if let Some(takes) = takes {
                took += seconds;
                expected += *count as f64 * takes;
            }
        }
        if expected > 0.0 { (took / expected).max(f64::MIN_POSITIVE) } else { 1.0 }
    }

    /// Learns from a window with as few in PHP as the last, or where requests took less than was known. `least`: as
    /// few as there may be.
    pub(super) fn learn(&mut self, window: &Window, in_php: f64, least: f64) {
        let is_low = in_php <= self.measured_at.max(least) * 1.1;
        let mut is_first = false;
        for ((count, seconds), takes) in window.seen.iter().zip(&mut self.seconds) {
            if *count < CLASS_SAMPLES_MIN {
                continue;
            }
            let mean = seconds / *count as f64;
            let is_faster = |known: f64| *count >= FASTER_SAMPLES_MIN && mean < known;
            match takes {
                None => {
                    *takes = Some(mean);
                    is_first = true;
                }
                Some(known) if is_low || is_faster(*known) => *known += LEARNS * (mean - *known),
                Some(_) => {}
            }
        }
        if is_low || is_first {
            // Never higher: step by step a queue would become what requests take.
            self.measured_at = self.measured_at.min(in_php);
        }
    }

    /// What this window shows is what requests take.
    pub(super) fn relearn(&mut self, window: &Window, in_php: f64) {
        let ratio = self.ratio(window);
        for ((count, seconds), takes) in window.seen.iter().zip(&mut self.seconds) {
            match takes {
                Some(known) if *count < CLASS_SAMPLES_MIN => *known *= ratio,
                None if *count < CLASS_SAMPLES_MIN => {}
                takes => *takes = Some(seconds / *count as f64),
            }
        }
        self.measured_at = in_php;
        self.is_confirmed = false;
    }
}
