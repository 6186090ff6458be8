//! Stored responses and their tags; the only writer of both.
//!
//! Two structures hold a response. The index, under one lock that only writers take, knows slots,
//! tags, pools, URLs, ends of life, and what goes when memory is short. The table, which look-ups
//! read without that lock, finds it by its key. A response comes into both and leaves both under
//! the index' lock.
//!
//! Storing and purging take turns under the index' lock, and each purge has a number. A purge
//! first notes its number and what it names, then takes out what was stored before that; a fill
//! that began before is refused by the note ([`Reason::Fenced`]). So nothing that a completed
//! purge names stays or comes in late, and new content passes while the purge is still at work.
//! A purge of many only ends their lives, so that no look-up gives them; they are removed later.

mod body;
mod cache;
mod compress;
mod encoded;
mod entry;
mod eviction;
mod fence;
mod identities;
mod index;
mod names;
mod new_entry;
mod pages;
mod purge;
mod removal;
mod restore;
mod sharded;
mod slots;
mod soften;
mod span;
#[cfg(test)]
pub(crate) mod tests;
mod uses;
mod variants;
mod walk;
mod weight;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

pub use body::{Include, Piece, Segment, StoredBody};
pub use compress::combine_crc32;
pub use encoded::{
    BROTLI_HEAD, BROTLI_TAIL, BROTLI_WINDOW_BITS, Encoded, Forms, GZIP_HEAD, GZIP_TAIL_BYTES,
    gzip_tail,
};
pub use entry::{Entry, Freshness, TagId};
pub use fence::{FillMark, Purgeable};
pub use new_entry::{NewEntry, Variant};
pub use purge::Purged;
pub use restore::NotRestored;
pub use uses::Used;
pub use variants::Variants;
pub use walk::{Stored, Walk};

use cache::{Caches, Marker, Shares};
use entry::Retention;
use fence::Fence;
use index::Index;
use slots::Slot;

use crate::clock::{Clock, Moment};
use crate::policy::{CacheKey, Vary};
use crate::reason::Reason;
use crate::settings;

/// Responses past their end, and as many purged ones, that one insertion removes on its way.
const DUE_PER_INSERT: usize = 4;

/// Responses that a purge looks at, or that are removed, without giving others a turn at the lock.
const RESPONSES_PER_TURN: usize = 256;

/// Why stored content cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A compressed literal does not give the content it was made from.
    #[error("a stored literal is corrupt")]
    Corrupt,
    /// There is no literal at that place.
    #[error("the segment is no literal")]
    NoLiteral,
}

/// What a look-up found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A response within its lifetime.
    Fresh(Arc<Entry>),
    /// A response past its lifetime that is kept; [`Entry::grace`] says how long it may be served
    /// with a healthy origin.
    Stale {
        /// The response.
        entry: Arc<Entry>,
        /// Since when: since its lifetime ended, or a soft purge came.
        stale_for: Duration,
    },
    /// The last response was uncacheable for this reason: do not wait for each other.
    HitForMiss(Reason),
    /// Nothing to serve: [`Reason::Cold`] or [`Reason::Expired`].
    Nothing(Reason),
}

/// By what purges reach a response, besides its URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its tags.
    pub tags: Vec<Bytes>,
    /// Its `X-Pool`.
    pub pool: Option<Bytes>,
}

/// Gauges and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Stored responses.
    pub objects: u64,
    /// What they take in bytes, bookkeeping included.
    pub bytes: u64,
    /// `store.memory_bytes`
    pub limit_bytes: u64,
    /// Different tags.
    pub tags: u64,
    /// Pairs of a tag and a response.
    pub links: u64,
    /// Keys that are remembered as uncacheable; approximate.
    pub hit_for_miss: u64,
    /// Bytes of plain forms that are kept of compressed content.
    pub identities_bytes: u64,
    /// Responses that were stored.
    pub insertions: u64,
    /// Responses removed for want of room.
    pub evictions: u64,
    /// Responses removed because what they are kept was over.
    pub expirations: u64,
    /// Purges, which is the number of the last one.
    pub purges: u64,
    /// Responses that purges reached.
    pub purged: u64,
    /// Responses that were not stored because a purge came while they were under way.
    pub fenced: u64,
    /// Responses that were not stored because of their size or number of tags.
    pub too_large: u64,
}

#[derive(Debug, Default)]
struct Counters {
    insertions: u64,
    evictions: u64,
    expirations: u64,
    purged: u64,
    fenced: u64,
    too_large: u64,
}

/// What writers share, under one lock.
#[derive(Debug)]
struct Writers {
    index: Index,
    fence: Fence,
    /// Of the last response that was stored.
    sequence: u64,
    /// Up to when the weights of what is asked for were halved.
    halved_until: Moment,
    counters: Counters,
}

/// The store; shared by `Arc`.
pub struct Store {
    caches: ArcSwap<Caches>,
    writers: Mutex<Writers>,
    /// [`Fence::last`], for readers without the lock.
    last_purge: AtomicU64,
    /// Responses with a sequence number up to this were purged all at once.
    purged_through: AtomicU64,
    shares: Shares,
    limit_bytes: u64,
    tags_max: usize,
    clock: Clock,
}

impl Store {
    /// An empty store.
    pub fn new(settings: &settings::Store, clock: Clock) -> Self {
        Self::with_fence(settings, clock, true)
    }

    /// A store that lets late fills in after purges, to show that tests of the fence find out.
    #[doc(hidden)]
    pub fn without_fence(settings: &settings::Store, clock: Clock) -> Self {
        Self::with_fence(settings, clock, false)
    }

    fn with_fence(settings: &settings::Store, clock: Clock, enabled: bool) -> Self {
        let shares = Shares::of(settings);
        let fence = Fence::new(settings.purged_tags_max, settings.purged_patterns_max, enabled);
        Self {
            caches: ArcSwap::from_pointee(Caches::new(&shares)),
            writers: Mutex::new(Writers {
                index: Index::new(shares.pages_bytes),
                fence,
                sequence: 0,
                halved_until: clock.now(),
                counters: Counters::default(),
            }),
            last_purge: AtomicU64::new(0),
            purged_through: AtomicU64::new(0),
            shares,
            limit_bytes: settings.memory_bytes,
            tags_max: settings.tags_max,
            clock,
        }
    }

    /// What is stored under a key. Takes no lock of the index and allocates nothing.
    pub fn lookup(&self, key: &CacheKey, now: Moment) -> Found {
        let caches = self.caches.load();
        let mut nothing = Reason::Cold;
        if let Some(entry) = caches.pages.get(key.as_bytes())
            && !self.is_purged(&entry)
        {
            entry.uses.note();
            match entry.freshness(now) {
                Freshness::Fresh => return Found::Fresh(entry),
                Freshness::Stale { stale_for } => return Found::Stale { entry, stale_for },
                Freshness::Dead => nothing = Reason::Expired,
            }
        }
        match caches.markers.get(key) {
            Some(marker) if now < marker.until => Found::HitForMiss(marker.reason),
            _ => Found::Nothing(nothing),
        }
    }

    /// What is known of the variants of a primary key; `None`: its responses have no Vary, or none
    /// came yet.
    pub fn variants(&self, primary: &CacheKey) -> Option<Arc<Variants>> {
        self.caches.load().variants.get(primary)
    }

    /// Notes that responses of a primary key vary, before one is stored: requests that come from
    /// now on know which fetch is theirs.
    pub fn announce(&self, primary: &CacheKey, vary: &Vary) {
        let _writers = self.writers.lock();
        variants::announce(&self.caches.load(), primary, vary);
    }

    /// Notes under which key a part of the response of a primary key is stored that begins where
    /// the whole does.
    pub fn announce_beginning(&self, primary: &CacheKey, key: &CacheKey) {
        let _writers = self.writers.lock();
        variants::announce_beginning(&self.caches.load(), primary, key);
    }

    /// To be taken when a fill begins, before anything is sent to the origin.
    pub fn mark(&self) -> FillMark {
        FillMark(self.last_purge.load(Ordering::Acquire))
    }

    /// Has something been purged since `mark`, hard or soft, that names this? With `None`: has
    /// anything at all? A request that arrives after a purge must not join a fill for which this
    /// says yes.
    pub fn fenced(&self, mark: FillMark, of: Option<&Purgeable<'_>>) -> bool {
        let purged_since = self.last_purge.load(Ordering::Acquire) > mark.0;
        match of {
            Some(of) if purged_since => self.writers.lock().fence.hits(mark, of),
            _ => purged_since,
        }
    }

    /// Stores a response whose fill began at `mark`, in place of what is stored under its key.
    ///
    /// A purge that came since and names it refuses it, a soft one too: the response may be as old
    /// as what the purge made stale, and what is stored stays for grace.
    ///
    /// # Errors
    /// [`Reason::StoreOff`], [`Reason::TooLarge`] (also for too many tags), [`Reason::Fenced`].
    pub fn insert(&self, mark: FillMark, new: NewEntry) -> Result<Arc<Entry>, Reason> {
        if self.limit_bytes == 0 {
            return Err(Reason::StoreOff);
        }
        let new = NewEntry { body: new.body.compact(), ..new };
        let mut gone = Vec::new();
        let mut writers = self.writers.lock();
        Self::pass_fence(&mut writers, mark, &new)?;
        let entry = self.put(&mut writers, new, None, &mut gone);
        drop(writers);
        entry
    }

    fn pass_fence(writers: &mut Writers, mark: FillMark, new: &NewEntry) -> Result<(), Reason> {
        let of = Purgeable { key: &new.key, tags: &new.tags, pool: new.pool.as_ref() };
        if writers.fence.hits(mark, &of) {
            writers.counters.fenced += 1;
            return Err(Reason::Fenced);
        }
        Ok(())
    }

    /// Stores what has passed the fence. What goes for it is to be dropped after the lock.
    fn put(
        &self,
        writers: &mut Writers,
        new: NewEntry,
        restored: Option<Used>,
        gone: &mut Vec<Arc<Entry>>,
    ) -> Result<Arc<Entry>, Reason> {
        let (key, variant) = (new.key.clone(), new.variant.clone());
        let now = self.clock.now();
        let sequence = writers.sequence + 1;
        let caches = self.caches.load();
        let replaced = caches.pages.get(key.as_bytes());
        let fits = new.tags.len() <= self.tags_max;
        let (bytes_max, replaced) = (self.shares.entry_bytes_max, replaced.as_deref());
        let index = &mut writers.index;
        let entry = fits
            .then(|| index.insert(new, (now, sequence), bytes_max, replaced, restored))
            .flatten();
        let Some(entry) = entry else {
            writers.counters.too_large += 1;
            return Err(Reason::TooLarge);
        };
        writers.sequence = sequence;
        writers.counters.insertions += 1;
        caches.markers.invalidate(&key);
        if let Some(replaced) = caches.pages.insert(Arc::clone(&entry)) {
            gone.extend(Self::take_out(writers, &caches, replaced.slot, replaced.sequence));
        }
        let superseded = match variant {
            Some(variant) => variants::register(&caches, variant, &key),
            None => caches.variants.remove(&key).map_or_else(Vec::new, |it| it.keys()),
        };
        Self::take_out_keys(writers, &caches, &superseded, gone);
        self.make_room(writers, &caches, gone);
        self.expire(writers, &caches, gone, DUE_PER_INSERT);
        Self::remove_purged(writers, &caches, gone, DUE_PER_INSERT);
        Ok(entry)
    }

    /// Tags and pool of a response. `None`: it has been purged or removed, and nobody is to get it.
    pub fn names(&self, entry: &Entry) -> Option<Names> {
        let writers = self.writers.lock();
        let held = writers.index.entry(entry.slot)?;
        if held.sequence != entry.sequence || self.is_purged(entry) {
            return None;
        }
        let (tags, pools) = (&writers.index.tags, &writers.index.pools);
        let name = |names: &names::Names, id| Bytes::copy_from_slice(names.name(id));
        Some(Names {
            tags: entry.tags().map(|id| name(tags, id)).collect(),
            pool: entry.pool().map(|id| name(pools, id)),
        })
    }

    /// The response as an entry that is delivered once and never stored: for what
    /// [`Store::insert`] refuses.
    pub fn unstored(&self, new: NewEntry) -> Arc<Entry> {
        let retention = Retention { slot: Slot::MAX, ..Retention::default() };
        let entry = Entry::new(new, self.clock.now(), retention);
        entry.mark_removed();
        Arc::new(entry)
    }

    /// Remembers for `ttl` that the response to a fill which began at `mark` was uncacheable.
    /// False: it was not remembered.
    ///
    /// As in Varnish the answer replaces a response under the key that is past its lifetime: the
    /// origin has spoken, and what it said before would come back after `ttl`. A response within its
    /// lifetime stays (somebody forced a fetch). A failure of the origin is no answer: a fill that
    /// has something stale keeps it and does not call this.
    pub fn remember_uncacheable(
        &self,
        mark: FillMark,
        key: &CacheKey,
        reason: Reason,
        ttl: Duration,
    ) -> bool {
        if ttl.is_zero() || self.limit_bytes == 0 {
            return false;
        }
        let now = self.clock.now();
        let mut writers = self.writers.lock();
        if writers.fence.hits(mark, &Purgeable { key, tags: &[], pool: None }) {
            return false;
        }
        let caches = self.caches.load();
        let mut gone = Vec::new();
        if let Some(entry) = caches.pages.get(key.as_bytes()) {
            if !self.is_purged(&entry) && entry.freshness(now) == Freshness::Fresh {
                return false;
            }
            gone.extend(Self::take_out(&mut writers, &caches, entry.slot, entry.sequence));
        }
        caches.markers.insert(key.clone(), Marker { reason, until: now.plus(ttl) });
        drop(writers);
        true
    }

    /// The plain bytes of a literal: as they are kept, or inflated and then remembered for a while
    /// in a sixteenth of the memory.
    ///
    /// # Errors
    /// [`StoreError::NoLiteral`] where `segment` is none; [`StoreError::Corrupt`].
    pub fn identity(&self, entry: &Entry, segment: usize) -> Result<Bytes, StoreError> {
        let encoded = entry.body.literal(segment).ok_or(StoreError::NoLiteral)?;
        if let Some(identity) = encoded.identity() {
            return Ok(identity);
        }
        let caches = self.caches.load();
        let place = (entry.sequence, segment);
        if let Some(identity) = caches.identities.get(place) {
            return Ok(identity);
        }
        let identity = encoded.inflate()?;
        if !entry.is_removed() && !self.is_purged(entry) {
            caches.identities.insert(place, identity.clone());
            // It may have been removed since the question, and its plain form before we put it in.
            if entry.is_removed() {
                caches.identities.remove(place);
            }
        }
        Ok(identity)
    }

    /// What is put off otherwise: removes what is past its end or purged, lets the caches clean up. To be
    /// called about once a second, off the threads that serve requests where there are some.
    pub fn maintain(&self) {
        self.caches.load().run_pending_tasks();
        self.halve_weights();
        loop {
            let mut writers = self.writers.lock();
            let caches = self.caches.load();
            let mut gone = Vec::new();
            let expired = self.expire(&mut writers, &caches, &mut gone, RESPONSES_PER_TURN);
            let purged = Self::remove_purged(&mut writers, &caches, &mut gone, RESPONSES_PER_TURN);
            let removed = expired.max(purged);
            drop(writers);
            if removed < RESPONSES_PER_TURN {
                return;
            }
        }
    }

    /// Gauges and counters.
    pub fn stats(&self) -> StoreStats {
        let caches = self.caches.load();
        let writers = self.writers.lock();
        let Counters { insertions, evictions, expirations, purged, fenced, too_large } =
            writers.counters;
        StoreStats {
            objects: writers.index.objects(),
            bytes: writers.index.bytes(),
            limit_bytes: self.limit_bytes,
            tags: writers.index.tags.len(),
            links: writers.index.tags.links(),
            hit_for_miss: caches.markers.entry_count(),
            identities_bytes: caches.identities.bytes(),
            insertions,
            evictions,
            expirations,
            purges: writers.fence.last(),
            purged,
            fenced,
            too_large,
        }
    }

    fn is_purged(&self, entry: &Entry) -> bool {
        entry.sequence <= self.purged_through.load(Ordering::Acquire) || entry.is_purged()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
