//! Pauses that grow, each a little different on each node.

use std::time::Duration;

/// The first pause, at most.
const FIRST: Duration = Duration::from_millis(50);

/// Pauses between tries.
#[derive(Clone, Debug)]
pub struct Backoff {
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses up to `max`.
    pub fn new(max: Duration) -> Self {
        Self { max, failures: 0 }
    }

    /// The next pause: twice as long as the last, of which a random half is taken off, so that a
    /// fleet does not come back all at once.
    pub fn next(&mut self, random: u64) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let milliseconds = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis(random % milliseconds.saturating_add(1))
    }

    /// It went well: the next pause is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_grows_to_its_limit_and_never_beyond(random: Vec<u64>) {
            let max = Duration::from_secs(2);
            let mut backoff = Backoff::new(max);
            for (tries, random) in random.into_iter().enumerate() {
                let pause = backoff.next(random);
                prop_assert!(pause <= max);
                prop_assert!(tries < 7 || pause >= max / 2);
            }
            backoff.reset();
            prop_assert!(backoff.next(u64::MAX) <= FIRST);
        }
    }
}
