//! What is known of an origin's health.
//!
//! Two questions with two answers. "Healthy" decides about grace alone: a request with nothing
//! stored is always tried. "Refused" is a fault of this very server, whose socket does not
//! answer, and makes it not ready; a failing health check is shared by all servers and does not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;

use super::{OriginError, OriginResponse};
use crate::clock::{Clock, Moment};
use crate::settings;

/// Stands for "no such moment".
const NEVER: u64 = u64::MAX;

/// The health of one origin; read without locks.
#[derive(Debug)]
pub struct Health {
    clock: Clock,
    window_max: usize,
    threshold: usize,
    /// How long a run of failures speaks against the origin when nothing more is heard of it.
    memory: Duration,
    probes: Mutex<VecDeque<bool>>,
    probes_pass: AtomicBool,
    failures_in_a_row: AtomicU32,
    last_failure: AtomicU64,
    refused_since: AtomicU64,
}

/// What one exchange says about the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered.
    Answered,
    /// It accepted the connection and failed.
    Failed,
    /// It refused the connection.
    Refused,
    /// It accepted a connection, over which nothing was asked.
    Accepted,
    /// It was not asked.
    Silent,
}

impl Sign {
    /// Reads the outcome of a fetch. 502 and 504 are a gateway's way to say that who is behind it
    /// failed; any other status is an answer.
    pub fn of(outcome: &Result<OriginResponse, OriginError>) -> Self {
        match outcome {
            Ok(response) => match response.status {
                StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Self::Failed,
                _ => Self::Answered,
            },
            Err(
                OriginError::Busy(_)
                | OriginError::Closed
                | OriginError::Overloaded
                | OriginError::File(_),
            ) => Self::Silent,
            Err(OriginError::Refused { .. }) => Self::Refused,
            Err(
                OriginError::TimedOut { .. }
                | OriginError::Malformed { .. }
                | OriginError::Lost { .. },
            ) => Self::Failed,
        }
    }
}

impl Health {
    /// An origin of which nothing is known counts as healthy.
    pub fn new(settings: &settings::Health, clock: Clock) -> Self {
        Self {
            clock,
            window_max: settings.window.max(1),
            threshold: settings.threshold,
            memory: settings.interval,
            probes: Mutex::new(std::iter::repeat_n(true, settings.window.max(1)).collect()),
            probes_pass: AtomicBool::new(true),
            failures_in_a_row: AtomicU32::new(0),
            last_failure: AtomicU64::new(NEVER),
            refused_since: AtomicU64::new(NEVER),
        }
    }

    /// May the origin be relied on to refresh what is stored? Enough of the last probes passed,
    /// and its last exchanges did not all fail.
    pub fn healthy(&self) -> bool {
        self.probes_pass.load(Ordering::Relaxed) && !self.fails_now()
    }

    /// How long its socket has been refusing connections, `None` if it does not.
    pub fn refused_for(&self, now: Moment) -> Option<Duration> {
        let since = self.refused_since.load(Ordering::Relaxed);
        (since != NEVER).then(|| now.since(Moment::from_milliseconds(since)))
    }

    /// Probes that passed, of those that are looked at.
    pub fn probes_passed(&self) -> (usize, usize) {
        let probes = self.probes.lock();
        (probes.iter().filter(|passed| **passed).count(), probes.len())
    }

    /// Notes the result of an active probe.
    pub fn note_probe(&self, passed: bool) {
        let mut probes = self.probes.lock();
        if probes.len() >= self.window_max {
            probes.pop_front();
        }
        probes.push_back(passed);
        let good = probes.iter().filter(|passed| **passed).count();
        let pass = good >= self.threshold;
        if self.probes_pass.swap(pass, Ordering::Relaxed) != pass {
            tracing::warn!(
                good,
                of = self.window_max,
                healthy = pass,
                "the origin's health changed"
            );
        }
    }

    /// Notes what an exchange showed in passing.
    pub fn note(&self, sign: Sign) {
        let now = self.clock.now().milliseconds();
        match sign {
            Sign::Silent => return,
            Sign::Accepted | Sign::Answered | Sign::Failed => {
                if self.refused_since.swap(NEVER, Ordering::Relaxed) != NEVER {
                    tracing::info!("the origin accepts connections again");
                }
            }
            Sign::Refused => {
                let relaxed = Ordering::Relaxed;
                let _ = self.refused_since.compare_exchange(NEVER, now, relaxed, relaxed);
            }
        }
        match sign {
            Sign::Answered => self.failures_in_a_row.store(0, Ordering::Relaxed),
            Sign::Failed | Sign::Refused => {
                self.last_failure.store(now, Ordering::Relaxed);
                self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
            }
            Sign::Accepted | Sign::Silent => {}
        }
    }

    /// A run of failures is forgotten after a while without news: else an origin that nobody asks
    /// any more could never be seen to have recovered.
    fn fails_now(&self) -> bool {
        let failures = self.failures_in_a_row.load(Ordering::Relaxed) as usize;
        if failures < self.threshold.max(1) {
            return false;
        }
        let last = Moment::from_milliseconds(self.last_failure.load(Ordering::Relaxed));
        self.clock.now().since(last) < self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (Health, Clock) {
        let clock = Clock::manual();
        (Health::new(&settings::Health::default(), clock.clone()), clock)
    }

    #[test]
    fn five_of_ten_probes_must_pass() {
        let (health, _clock) = health();
        (0..5).for_each(|_| health.note_probe(false));
        assert!(health.healthy());
        health.note_probe(false);
        assert!(!health.healthy());
        (0..4).for_each(|_| health.note_probe(true));
        assert_eq!(health.probes_passed(), (4, 10), "the old passes have left the window");
        assert!(!health.healthy());
        health.note_probe(true);
        assert!(health.healthy());
    }

    #[test]
    fn a_run_of_failures_is_a_sign_until_an_answer_or_a_while_without_news() {
        let (health, clock) = health();
        (0..5).for_each(|_| health.note(Sign::Failed));
        assert!(!health.healthy());
        health.note(Sign::Answered);
        assert!(health.healthy());
        (0..5).for_each(|_| health.note(Sign::Refused));
        assert!(!health.healthy());
        clock.advance(Duration::from_secs(5));
        assert!(health.healthy());
    }

    #[test]
    fn refusing_counts_from_the_first_refusal_to_the_first_connection() {
        let (health, clock) = health();
        assert_eq!(health.refused_for(clock.now()), None);
        health.note(Sign::Refused);
        clock.advance(Duration::from_secs(7));
        health.note(Sign::Refused);
        health.note(Sign::Silent);
        assert_eq!(health.refused_for(clock.now()), Some(Duration::from_secs(7)));
        health.note(Sign::Accepted);
        assert_eq!(health.refused_for(clock.now()), None);
    }

    #[test]
    fn a_busy_gate_says_nothing_about_the_origin() {
        let busy = OriginError::Busy(crate::admission::Refused::Full);
        assert_eq!(Sign::of(&Err(busy)), Sign::Silent);
    }
}
