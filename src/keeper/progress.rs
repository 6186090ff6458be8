//! Says in the log how far something is that takes long.

use std::time::Duration;

use crate::clock::{Clock, Moment};

/// Between two words.
const PROGRESS: Duration = Duration::from_secs(2);

/// So many steps go by without a look at the clock.
const STEPS: u64 = 64;

/// Counts pages.
pub(super) struct Progress {
    what: &'static str,
    clock: Clock,
    began: Moment,
    said: Moment,
    pages: u64,
}

impl Progress {
    pub(super) fn new(what: &'static str, clock: &Clock) -> Self {
        let now = clock.now();
        Self { what, clock: clock.clone(), began: now, said: now, pages: 0 }
    }

    /// One more page.
    pub(super) fn step(&mut self) {
        self.pages += 1;
        if self.pages.is_multiple_of(STEPS) {
            let now = self.clock.now();
            if now.since(self.said) >= PROGRESS {
                self.said = now;
                let seconds = now.since(self.began).as_secs();
                tracing::info!(pages = self.pages, seconds, "{}", self.what);
            }
        }
    }

    /// Since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now().since(self.began)
    }
}
