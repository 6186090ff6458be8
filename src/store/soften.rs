//! Everything tagged goes soft: for a node that may have missed purges and cannot know which.

use super::Store;
use super::purge::{Purged, Test};

impl Store {
    /// Marks everything stale that carries a tag, as a soft purge does; no fill that is under way is
    /// stored. What has no tag no purge would have reached.
    pub fn soften_tagged(&self) -> Purged {
        let mut writers = self.writers.lock();
        let number = writers.fence.soften();
        self.publish(number);
        let slots = writers.index.all_slots();
        self.reach(writers, number, &slots, &Test::Tagged, true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::clock::Clock;
    use crate::policy::CacheKey;
    use crate::reason::Reason;
    use crate::settings;
    use crate::store::tests::page;
    use crate::store::{Found, Store};

    #[test]
    fn what_has_tags_is_stale_and_what_has_none_stays_fresh() {
        let clock = Clock::manual();
        let store = Store::new(&settings::Store::default(), clock.clone());
        store.insert(store.mark(), page("shop/tagged", &["a"])).expect("stored");
        store.insert(store.mark(), page("shop/plain", &[])).expect("stored");
        let early = store.mark();
        clock.advance(Duration::from_secs(1));
        assert_eq!(store.soften_tagged().responses, 1);
        let found =
            |url: &str| store.lookup(&CacheKey::for_tests(url.as_bytes(), b""), clock.now());
        assert!(matches!(found("shop/tagged"), Found::Stale { .. }));
        assert!(matches!(found("shop/plain"), Found::Fresh(_)));
        let late = store.insert(early, page("shop/late", &["b"]));
        assert_eq!(late.err(), Some(Reason::Fenced), "a fill from before may have missed them too");
        store.insert(store.mark(), page("shop/tagged", &["a"])).expect("stored");
        assert!(matches!(found("shop/tagged"), Found::Fresh(_)));
    }
}
