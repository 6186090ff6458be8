//! How responses leave: taken out, expired, purged, or evicted for want of room.

use std::sync::Arc;

use super::cache::Caches;
use super::entry::Entry;
use super::slots::Slot;
use super::{Store, Writers};
use crate::policy::CacheKey;

impl Store {
    /// Takes a response out of index and caches. What is given back is to be dropped after the
    /// lock.
    pub(super) fn take_out(
        writers: &mut Writers,
        caches: &Caches,
        slot: Slot,
        sequence: u64,
    ) -> Option<Arc<Entry>> {
        let entry = writers.index.remove(slot, sequence)?;
        caches.pages.remove(&entry);
        Self::forget_identities(caches, &entry);
        Some(entry)
    }

    /// Takes out what stands under these keys.
    pub(super) fn take_out_keys(
        writers: &mut Writers,
        caches: &Caches,
        keys: &[CacheKey],
        gone: &mut Vec<Arc<Entry>>,
    ) {
        for key in keys {
            if let Some(entry) = caches.pages.get(key.as_bytes()) {
                gone.extend(Self::take_out(writers, caches, entry.slot, entry.sequence));
            }
        }
    }

    pub(super) fn forget_identities(caches: &Caches, entry: &Entry) {
        entry.mark_removed();
        for (place, piece) in entry.body.pieces().enumerate() {
            if piece.literal().is_some_and(|literal| !literal.has_identity()) {
                caches.identities.remove((entry.sequence, place));
            }
        }
    }

    /// Takes out up to `limit` responses that are past their end, and says how many.
    pub(super) fn expire(
        &self,
        writers: &mut Writers,
        caches: &Caches,
        gone: &mut Vec<Arc<Entry>>,
        limit: usize,
    ) -> usize {
        let due = writers.index.due(self.clock.now(), limit);
        for &(slot, sequence) in &due {
            gone.extend(Self::take_out(writers, caches, slot, sequence));
        }
        writers.counters.expirations += due.len() as u64;
        due.len()
    }

    /// Takes out up to `limit` responses whose life a purge has ended, and says how many it saw.
    pub(super) fn remove_purged(
        writers: &mut Writers,
        caches: &Caches,
        gone: &mut Vec<Arc<Entry>>,
        limit: usize,
    ) -> usize {
        let mut seen = 0;
        while seen < limit
            && let Some((slot, sequence)) = writers.index.next_purged()
        {
            seen += 1;
            gone.extend(Self::take_out(writers, caches, slot, sequence));
        }
        seen
    }

    /// Removes until the rest keeps to the limit: first what purges have reached, then what is worth
    /// least.
    pub(super) fn make_room(
        &self,
        writers: &mut Writers,
        caches: &Caches,
        gone: &mut Vec<Arc<Entry>>,
    ) {
        while writers.index.bytes() > self.shares.pages_bytes {
            if Self::remove_purged(writers, caches, gone, 1) > 0 {
                continue;
            }
            let next = writers.index.next_to_evict(self.shares.pages_bytes);
            let Some((slot, sequence)) = next else { return };
            gone.extend(Self::take_out(writers, caches, slot, sequence));
            writers.counters.evictions += 1;
        }
    }
}
