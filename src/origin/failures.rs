//! What the origin failed in, for the log: bounded, since a broken one fails every request.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::OriginError;
use crate::clock::{Clock, Moment};
use crate::reason::Reason;

/// Between two messages of one reason. The access log has the requests themselves.
const PAUSE: Duration = Duration::from_secs(10);

/// The failures of one origin.
#[derive(Debug)]
pub(super) struct Failures {
    clock: Clock,
    said: Mutex<BTreeMap<Reason, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Moment,
    /// Failures since then.
    kept_back: u64,
}

impl Failures {
    /// Nothing has failed yet.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, said: Mutex::default() }
    }

    /// Writes a warning, unless one of the same reason was written a moment ago.
    pub(super) fn note(&self, error: &OriginError) {
        let reason = error.reason();
        if let Some(kept_back) = self.admit(reason) {
            let reason = reason.as_str();
            tracing::warn!(reason, kept_back, "the origin failed: {error}");
        }
    }

    /// May a message go out now? Says how many before it did not.
    fn admit(&self, reason: Reason) -> Option<u64> {
        let now = self.clock.now();
        let mut all = self.said.lock();
        let Some(said) = all.get_mut(&reason) else {
            all.insert(reason, Said { at: now, kept_back: 0 });
            return Some(0);
        };
        if now.since(said.at) < PAUSE {
            said.kept_back += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_at_once_and_then_counted() {
        let clock = Clock::manual();
        let failures = Failures::new(clock.clone());
        assert_eq!(failures.admit(Reason::OriginRefused), Some(0));
        assert_eq!(failures.admit(Reason::OriginTimeout), Some(0));
        for _ in 0..3 {
            assert_eq!(failures.admit(Reason::OriginRefused), None);
        }
        clock.advance(PAUSE);
        assert_eq!(failures.admit(Reason::OriginRefused), Some(3));
        assert_eq!(failures.admit(Reason::OriginRefused), None);
    }
}
