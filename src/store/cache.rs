//! The look-up tables, and how memory is shared out between them.
//!
//! What can be made again is in caches by moka, which throw it out by themselves.

use std::sync::Arc;

use moka::sync::Cache;

use super::eviction::Eviction;
use super::fence::Fence;
use super::identities::Identities;
use super::pages::Pages;
use super::variants::Variants;
use super::weight::allocation_bytes;
use crate::clock::Moment;
use crate::policy::CacheKey;
use crate::reason::Reason;
use crate::settings;

/// Bytes of a small thing in a cache of moka, besides key and content. Measured.
const SMALL_ENTRY_BYTES: usize = 480;

/// Free pages that the allocator holds back, as far as they do not grow with what is stored.
const ALLOCATOR_BYTES_MAX: u64 = 8 << 20;

/// How the memory is shared out. The sum, with the fence's table and what the allocator holds
/// back, is `store.memory_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// For stored responses.
    pub(super) pages_bytes: u64,
    /// For plain forms of what is stored compressed.
    pub(super) identities_bytes: u64,
    /// For keys whose responses are uncacheable, and as much for what is known of variants.
    pub(super) markers_bytes: u64,
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
        let tables_bytes = Pages::empty_bytes(rest) + Eviction::ghosts_bytes(rest);
        let pages_bytes = rest.saturating_sub(tables_bytes);
        Self {
            pages_bytes,
            identities_bytes,
            markers_bytes,
            entry_bytes_max: pages_bytes.min(settings.object_max_bytes).min(u64::from(u32::MAX)),
        }
    }
}

/// A response for this key was found uncacheable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    pub(super) reason: Reason,
    pub(super) until: Moment,
}

/// The tables that look-ups read.
pub(super) struct Caches {
    pub(super) pages: Pages,
    pub(super) identities: Identities,
    pub(super) markers: Cache<CacheKey, Marker>,
    /// By primary key.
    pub(super) variants: Cache<CacheKey, Arc<Variants>>,
}

impl Caches {
    pub(super) fn new(shares: &Shares) -> Self {
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
        let pages = Pages::new(shares.pages_bytes);
        let identities = Identities::new(shares.identities_bytes);
        Self { pages, identities, markers, variants }
    }

    /// Lets moka do what it has put off.
    pub(super) fn run_pending_tasks(&self) {
        self.markers.run_pending_tasks();
        self.variants.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_keep_to_the_limit_and_leave_room_for_the_largest_response() {
        for memory_mib in [0, 1, 8, 16, 64, 512, 65_536] {
            let settings =
                settings::Store { memory_bytes: memory_mib << 20, ..settings::Store::default() };
            let shares = Shares::of(&settings);
            assert!(shares.pages_bytes >= shares.entry_bytes_max);
            let sum = shares.pages_bytes + shares.identities_bytes + shares.markers_bytes;
            assert!(sum <= settings.memory_bytes);
            assert!(memory_mib < 64 || sum > settings.memory_bytes / 100 * 79);
        }
        let shares = Shares::of(&settings::Store::default());
        assert_eq!(shares.entry_bytes_max, 8 << 20);
    }
}
