//! What the stored responses are worth while this node may miss purges; read on each hit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::settings;
use crate::store::Entry;

/// How far this node trusts what it has stored.
#[derive(Debug)]
pub struct Trust {
    /// Milliseconds of the moment from which on tagged responses are doubtful.
    proven_until: AtomicU64,
    /// Milliseconds of the moment, plus one, at which everything tagged went soft; 0: never.
    softened_at: AtomicU64,
    trusts_refill_for: Duration,
    strict: bool,
}

impl Trust {
    /// A single node misses nothing.
    pub fn alone() -> Self {
        Self {
            proven_until: AtomicU64::new(u64::MAX),
            softened_at: AtomicU64::new(0),
            trusts_refill_for: Duration::ZERO,
            strict: false,
        }
    }

    /// A node that has proven nothing yet.
    pub fn of(settings: &settings::Fleet) -> Self {
        let strict = settings.strict;
        let trusts_refill_for = if strict { Duration::ZERO } else { settings.refill_trust };
        Self { proven_until: AtomicU64::new(0), strict, trusts_refill_for, ..Self::alone() }
    }

    /// Is it doubtful whether a response that is fresh by itself was purged?
    pub fn doubts(&self, entry: &Entry, now: Moment) -> bool {
        now.milliseconds() >= self.proven_until.load(Ordering::Acquire)
            && entry.is_tagged()
            && (entry.is_restored() || now.since(entry.stored_at()) >= self.trusts_refill_for)
    }

    /// Is a doubtful response to be fetched anew before anybody gets it (`fleet.strict`)?
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Did everything tagged go soft since this was stored?
    pub fn softened_since(&self, entry: &Entry) -> bool {
        let softened_at = self.softened_at.load(Ordering::Acquire);
        softened_at > entry.stored_at().milliseconds() && entry.is_tagged()
    }

    /// May this stale response stand in for purges that this node missed? One that came in from a snapshot
    /// after everything went soft is stale by that, and was stored later.
    pub fn may_have_missed(&self, entry: &Entry) -> bool {
        self.softened_since(entry) || (entry.is_restored() && entry.is_tagged())
    }

    /// Does this node not know the log's end?
    pub fn is_soft(&self, now: Moment) -> bool {
        now.milliseconds() >= self.proven_until.load(Ordering::Acquire)
    }

    pub(super) fn prove(&self, until: Option<Moment>) {
        let until = until.map_or(0, Moment::milliseconds);
        self.proven_until.store(until, Ordering::Release);
    }

    pub(super) fn soften(&self, now: Moment) {
        self.softened_at.store(now.milliseconds().saturating_add(1), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::policy::CacheKey;
    use crate::store::{Found, Store, Used, tests::page};

    #[test]
    fn what_came_in_after_everything_went_soft_may_have_missed_purges_too() {
        let clock = Clock::manual();
        let store = Store::new(&settings::Store::default(), clock.clone());
        let trust = Trust::of(&settings::Fleet::default());
        let before = store.insert(store.mark(), page("shop/before", &["a"])).expect("stored");
        let mark = store.mark();
        store.soften_tagged();
        trust.soften(clock.now());
        clock.advance(Duration::from_secs(1));
        let later = store.restore(mark, page("shop/later", &["a"]), Used::default());
        let later = later.expect("restored");
        let key = CacheKey::for_tests(b"shop/later", b"");
        assert!(matches!(store.lookup(&key, clock.now()), Found::Stale { .. }));
        assert!(!trust.softened_since(&later), "it was stored later");
        assert!(trust.may_have_missed(&before) && trust.may_have_missed(&later));
        let fresh = store.insert(store.mark(), page("shop/fresh", &["a"])).expect("stored");
        assert!(!trust.may_have_missed(&fresh));
    }
}
