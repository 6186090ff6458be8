//! The look-up tables and what they throw out when memory is short: moka, by weight.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::sync::{Cache, SegmentedCache};
use parking_lot::Mutex;

use super::entry::Entry;
use super::fence::Fence;
use super::slots::Slot;
use super::variants::Variants;
use super::weight::allocation_bytes;
use crate::clock::Moment;
use crate::policy::CacheKey;
use crate::reason::Reason;
use crate::settings;

/// Each segment has a log of reads and locks of its own, so that threads rarely meet.
const SEGMENTS_MAX: u64 = 16;

/// A segment holds at least so many responses of the largest size, since one that is larger
/// than a segment would never stay.
const LARGEST_PER_SEGMENT: u64 = 4;

/// Bytes of a small response in a cache, besides key and content. Measured as
/// `weight::BOOKKEEPING_BYTES` is.
const SMALL_ENTRY_BYTES: usize = 480;

/// Free pages that the allocator holds back, as far as they do not grow with what is stored.
const ALLOCATOR_BYTES_MAX: u64 = 8 << 20;

/// How the memory is shared out. The sum, with the fence's table and what the allocator holds
/// back, is `store.memory_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// For stored responses: a multiple of `segments`.
    pub(super) pages_bytes: u64,
    /// For plain forms of what is stored compressed.
    pub(super) identities_bytes: u64,
    /// For keys whose responses are uncacheable, and as much for what is known of variants.
    pub(super) markers_bytes: u64,
    /// Parts of the table of stored responses; a power of two.
    pub(super) segments: u64,
    /// The heaviest response that is stored.
    pub(super) entry_bytes_max: u64,
}

impl Shares {
    pub(super) fn of(settings: &settings::Store) -> Self {
        let memory_bytes = settings.memory_bytes;
        let identities_bytes = memory_bytes / 16;
        let markers_bytes = memory_bytes / 64;
        let fence_bytes = Fence::bytes_max(settings.purged_tags_max).min(memory_bytes / 16);
        let allocator_bytes = memory_bytes / 32 + ALLOCATOR_BYTES_MAX.min(memory_bytes / 16);
        let rest =
            memory_bytes - identities_bytes - 2 * markers_bytes - fence_bytes - allocator_bytes;
        let mut segments = SEGMENTS_MAX;
        let wanted = settings.object_max_bytes.saturating_mul(LARGEST_PER_SEGMENT);
        while segments > 1 && rest / segments < wanted {
            segments /= 2;
        }
        let segment_bytes = rest / segments;
        Self {
            pages_bytes: segment_bytes * segments,
            identities_bytes,
            markers_bytes,
            segments,
            entry_bytes_max: segment_bytes.min(settings.object_max_bytes).min(u64::from(u32::MAX)),
        }
    }
}

/// A response for this key was found uncacheable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    pub(super) reason: Reason,
    pub(super) until: Moment,
}

/// A response that left the table, by its slot and its sequence number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evicted {
    pub(super) slot: Slot,
    pub(super) sequence: u64,
    /// For want of room, not because another took its place.
    pub(super) for_room: bool,
}

/// Responses that left the table and are still in the index. The listener only notes them, since it
/// may run on any thread, also on one that holds the index' lock.
pub(super) type Evictions = Arc<Mutex<Vec<Evicted>>>;

/// The tables that look-ups read. The table of responses holds weak references: what the index
/// lets go of is gone at once, whatever moka still keeps in its logs and garbage.
pub(super) struct Caches {
    pub(super) pages: SegmentedCache<CacheKey, Weak<Entry>>,
    /// By sequence number and segment.
    pub(super) identities: Cache<(u64, usize), Bytes>,
    pub(super) markers: Cache<CacheKey, Marker>,
    /// By primary key.
    pub(super) variants: Cache<CacheKey, Arc<Variants>>,
}

impl Caches {
    pub(super) fn new(shares: &Shares, evictions: &Evictions) -> Self {
        let evictions = Arc::clone(evictions);
        let pages = SegmentedCache::builder(shares.segments as usize)
            .max_capacity(shares.pages_bytes)
            .weigher(|_: &CacheKey, entry: &Weak<Entry>| {
                entry.upgrade().map_or(1, |entry| entry.weight_bytes)
            })
            .eviction_listener(move |_, entry: Weak<Entry>, cause| {
                // What the store itself took out has left the index already.
                if cause == RemovalCause::Explicit {
                    return;
                }
                if let Some(entry) = entry.upgrade() {
                    let (slot, sequence) = (entry.slot, entry.sequence);
                    let for_room = cause == RemovalCause::Size;
                    evictions.lock().push(Evicted { slot, sequence, for_room });
                }
            })
            .build();
        let identities = Cache::builder()
            .max_capacity(shares.identities_bytes)
            .weigher(|_, identity: &Bytes| {
                let bytes = allocation_bytes(identity.len()) + SMALL_ENTRY_BYTES;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        let markers = Cache::builder()
            .max_capacity(shares.markers_bytes)
            .weigher(|key: &CacheKey, _| {
                let bytes = allocation_bytes(key.as_bytes().len()) + SMALL_ENTRY_BYTES;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        let variants = Cache::builder()
            .max_capacity(shares.markers_bytes)
            .weigher(|key: &CacheKey, variants: &Arc<Variants>| {
                let bytes = allocation_bytes(key.as_bytes().len()) + SMALL_ENTRY_BYTES;
                u32::try_from(bytes + variants.bytes()).unwrap_or(u32::MAX)
            })
            .build();
        Self { pages, identities, markers, variants }
    }

    /// Lets moka do what it has put off.
    pub(super) fn run_pending_tasks(&self) {
        self.pages.run_pending_tasks();
        self.identities.run_pending_tasks();
        self.markers.run_pending_tasks();
        self.variants.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_always_holds_the_largest_response_and_the_shares_keep_to_the_limit() {
        for memory_mib in [0, 1, 8, 16, 64, 512, 65_536] {
            let settings =
                settings::Store { memory_bytes: memory_mib << 20, ..settings::Store::default() };
            let shares = Shares::of(&settings);
            assert!(shares.pages_bytes / shares.segments >= shares.entry_bytes_max);
            assert!(shares.segments.is_power_of_two());
            let sum = shares.pages_bytes + shares.identities_bytes + shares.markers_bytes;
            assert!(sum <= settings.memory_bytes);
            assert!(memory_mib < 64 || sum > settings.memory_bytes / 100 * 79);
        }
        let shares = Shares::of(&settings::Store::default());
        assert_eq!((shares.segments, shares.entry_bytes_max), (8, 8 << 20));
    }
}
