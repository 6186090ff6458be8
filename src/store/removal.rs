//! How responses leave: taken out, expired, purged, or evicted for want of room.

use std::sync::Arc;

use super::cache::{Caches, Evicted};
use super::entry::{Encoded, Entry, Segment};
use super::slots::Slot;
use super::{EVICTION_ROUNDS_MAX, Store, Writers};
use crate::policy::CacheKey;

impl Store {
    /// Takes a response out of index and caches. What is given back is to be dropped after the
    /// lock. By then the index must know what has left the cache ([`Store::settle`]): of two
    /// responses with the same key the cache holds the newer one.
    pub(super) fn take_out(
        writers: &mut Writers,
        caches: &Caches,
        slot: Slot,
        sequence: u64,
    ) -> Option<Arc<Entry>> {
        let entry = writers.index.remove(slot, sequence)?;
        caches.pages.invalidate(&entry.key);
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
            if let Some(entry) = caches.pages.get(key).and_then(|entry| entry.upgrade()) {
                gone.extend(Self::take_out(writers, caches, entry.slot, entry.sequence));
            }
        }
    }

    pub(super) fn forget_identities(caches: &Caches, entry: &Entry) {
        entry.mark_removed();
        for (place, segment) in entry.body.segments.iter().enumerate() {
            if matches!(segment, Segment::Literal(Encoded { identity: None, .. })) {
                caches.identities.invalidate(&(entry.sequence, place));
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

    /// Takes out of the index what has left the cache, and sees to it that the rest keeps to the
    /// limit: by itself moka would do so some time later.
    pub(super) fn settle(
        &self,
        writers: &mut Writers,
        caches: &Caches,
        gone: &mut Vec<Arc<Entry>>,
    ) {
        for _ in 0..EVICTION_ROUNDS_MAX {
            let replaced = self.forget_evicted(writers, caches, gone);
            if !replaced && writers.index.bytes() <= self.shares.pages_bytes {
                return;
            }
            // After a replacement moka 0.12 must have seen the new weight before the key is
            // invalidated: otherwise it takes off the new one where it had added the old one, and
            // its sum is wrong from then on.
            caches.pages.run_pending_tasks();
        }
        self.forget_evicted(writers, caches, gone);
        // The limit holds also where moka's sum is wrong: what ends first goes first, after what has
        // been purged.
        while writers.index.bytes() > self.shares.pages_bytes {
            if Self::remove_purged(writers, caches, gone, 1) > 0 {
                continue;
            }
            let Some((slot, sequence)) = writers.index.first_to_end() else { return };
            gone.extend(Self::take_out(writers, caches, slot, sequence));
            writers.counters.evictions += 1;
        }
    }

    /// Takes out of the index what has left the cache. True: something was replaced.
    pub(super) fn forget_evicted(
        &self,
        writers: &mut Writers,
        caches: &Caches,
        gone: &mut Vec<Arc<Entry>>,
    ) -> bool {
        let evicted = std::mem::take(&mut *self.evictions.lock());
        let mut replaced = false;
        for Evicted { slot, sequence, for_room } in evicted {
            replaced |= !for_room;
            if let Some(entry) = writers.index.remove(slot, sequence) {
                Self::forget_identities(caches, &entry);
                writers.counters.evictions += u64::from(for_room);
                gone.push(entry);
            }
        }
        replaced
    }
}
