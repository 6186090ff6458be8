//! What was stored elsewhere, by the process before this one or by another node, comes in.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Freshness};
use super::fence::{FillMark, Purgeable};
use super::new_entry::NewEntry;
use super::uses::Used;
use super::{Store, Writers};
use crate::policy::CacheKey;
use crate::reason::Reason;

/// Why a response from elsewhere was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    /// Something as good or newer is known here.
    #[error("what is known here is as good")]
    Known,
    /// There is no room for it unless something else goes.
    #[error("the store is full")]
    Full,
    /// A purge came since the mark, or the store takes it from nobody.
    #[error("refused: {0:?}")]
    Refused(Reason),
}

impl Store {
    /// Stores a response that comes from another store, as a fill that began at `mark`; `used`: how
    /// much it was asked for there. It takes the place of nothing that is as good, and drives nothing
    /// out, so that the hottest are to come first. Its weight and its marks are carried over. Where
    /// everything tagged went soft since the mark it is stale, as if it had been here by then.
    ///
    /// # Errors
    /// [`NotRestored`]; of the refusals those of [`Store::insert`].
    pub fn restore(
        &self,
        mark: FillMark,
        new: NewEntry,
        used: Used,
    ) -> Result<Arc<Entry>, NotRestored> {
        if self.limit_bytes == 0 {
            return Err(NotRestored::Refused(Reason::StoreOff));
        }
        let new = NewEntry { body: new.body.compact(), ..new };
        let mut gone = Vec::new();
        let mut writers = self.writers.lock();
        let result = self.restore_locked(&mut writers, mark, new, used, &mut gone);
        drop(writers);
        result
    }

    fn restore_locked(
        &self,
        writers: &mut Writers,
        mark: FillMark,
        mut new: NewEntry,
        used: Used,
        gone: &mut Vec<Arc<Entry>>,
    ) -> Result<Arc<Entry>, NotRestored> {
        let of = Purgeable { key: &new.key, tags: &new.tags, pool: new.pool.as_ref() };
        if writers.fence.hits_stale(mark, &of) {
            writers.counters.fenced += 1;
            return Err(NotRestored::Refused(Reason::Fenced));
        }
        if writers.fence.hits(mark, &of) && !new.tags.is_empty() {
            new.ttl = Duration::ZERO;
        }
        if self.knows_better(&new) {
            return Err(NotRestored::Known);
        }
        // Tags are not in this figure; what little room they take is found as for any other.
        let weight_bytes = super::weight::entry_bytes(&new) as u64;
        if writers.index.bytes() + weight_bytes > self.shares.pages_bytes {
            return Err(NotRestored::Full);
        }
        self.put(writers, new, Some(used), gone).map_err(NotRestored::Refused)
    }

    /// Is what is known here of its key as good, or newer?
    fn knows_better(&self, new: &NewEntry) -> bool {
        let (caches, now) = (self.caches.load(), self.clock.now());
        let standing = |key: &CacheKey| {
            let entry = caches.pages.get(key.as_bytes()).filter(|entry| !self.is_purged(entry))?;
            Some(entry.freshness(now)).filter(|freshness| *freshness != Freshness::Dead)
        };
        let is_marked = caches.markers.get(&new.key).is_some_and(|marker| now < marker.until);
        let is_as_good = match standing(&new.key) {
            Some(Freshness::Fresh) => true,
            Some(_) => new.ttl.is_zero(),
            None => false,
        };
        // A response without Vary ends all variants, and the first variant ends that.
        let is_another_kind = match &new.variant {
            Some(variant) => standing(&variant.primary).is_some(),
            None => caches.variants.get(&new.key).is_some(),
        };
        is_marked || is_as_good || is_another_kind
    }
}
