//! Purges: by tag, regex, pool, URL, or everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::MutexGuard;
use regex::bytes::Regex;
use roaring::RoaringBitmap;

use super::cache::Caches;
use super::entry::Entry;
use super::fence::Over;
use super::index::Index;
use super::{RESPONSES_PER_TURN, Store, Writers};

/// So many responses are dropped at once on the thread that purged; more get a thread of their
/// own.
const DROPPED_INLINE_MAX: u64 = 1_000;

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Its number: purges are counted from one.
    pub number: u64,
    /// Responses that it reached.
    pub responses: u64,
}

/// What is still to be asked of a response whose slot was listed.
pub(super) enum Test<'a> {
    None,
    /// Has it any tag?
    Tagged,
    Tags(&'a Regex),
}

impl Test<'_> {
    fn passes(&self, index: &Index, entry: &Entry, buffer: &mut Vec<u8>) -> bool {
        match self {
            Self::None => true,
            Self::Tagged => entry.is_tagged(),
            Self::Tags(regex) => index.tags_match(entry, regex, buffer),
        }
    }
}

/// A purge. When it returns, no look-up gives what it removed, and no fill that began before it
/// stores what it names. A soft purge makes responses stale in place of removing them, and holds
/// fills off all the same.
impl Store {
    /// Purges everything; takes the same short time whatever is stored, unless it is soft.
    pub fn purge_all(&self, soft: bool) -> Purged {
        let mut writers = self.writers.lock();
        let number = writers.fence.all();
        self.publish(number);
        if soft {
            let slots = writers.index.all_slots();
            return self.reach(writers, number, &slots, &Test::None, soft);
        }
        self.purged_through.store(writers.sequence, Ordering::Release);
        let responses = writers.index.living();
        writers.counters.purged += responses;
        let index = writers.index.take();
        let caches = self.caches.load();
        let caches = if index.objects() > 0 || caches.markers.entry_count() > 0 {
            Some(self.caches.swap(Arc::new(Caches::new(&self.shares))))
        } else {
            // Uncounted markers may still be in moka's log.
            caches.markers.invalidate_all();
            None
        };
        drop(writers);
        drop_elsewhere(index, caches);
        Purged { number, responses }
    }

    /// Purges what carries one of the tags. Costs what the tags hold.
    pub fn purge_tags(&self, tags: &[Bytes], soft: bool) -> Purged {
        let mut writers = self.writers.lock();
        let number = writers.fence.tags(tags);
        self.publish(number);
        let slots = writers.index.slots_of_tags(tags.iter().map(|tag| &tag[..]));
        self.reach(writers, number, &slots, &Test::None, soft)
    }

    /// Purges what the regex matches anywhere in its tags, joined by commas without spaces.
    /// Looks at everything that is stored, about 3 us each: call it off the threads that serve
    /// requests.
    pub fn purge_tags_matching(&self, regex: &Regex, soft: bool) -> Purged {
        let mut writers = self.writers.lock();
        let number = writers.fence.matching(Over::Tags, regex);
        self.publish(number);
        let slots = writers.index.all_slots();
        self.reach(writers, number, &slots, &Test::Tags(regex), soft)
    }

    /// Purges what has an `X-Pool` in which the regex matches anywhere.
    pub fn purge_pools_matching(&self, regex: &Regex, soft: bool) -> Purged {
        let mut writers = self.writers.lock();
        let number = writers.fence.matching(Over::Pool, regex);
        self.publish(number);
        let slots = writers.index.slots_of_pools(regex);
        self.reach(writers, number, &slots, &Test::None, soft)
    }

    /// Purges all variants of a URL, as [`crate::policy::CacheKey::url`] gives it.
    pub fn purge_url(&self, url: &[u8], soft: bool) -> Purged {
        let mut writers = self.writers.lock();
        let number = writers.fence.url(url);
        self.publish(number);
        let slots = writers.index.slots_of_url(url);
        self.reach(writers, number, &slots, &Test::None, soft)
    }

    pub(super) fn publish(&self, number: u64) {
        self.last_purge.store(number, Ordering::Release);
    }

    /// Ends the life of what stands in the slots and passes the test, or makes it stale. Others get
    /// turns at the lock in between; what they store has passed the fence, so it is left alone.
    ///
    /// A response whose life has ended is given to nobody, so the purge is done with it. It is removed
    /// at once where there are few; of more, the rest is removed later ([`Store::maintain`]).
    pub(super) fn reach(
        &self,
        mut writers: MutexGuard<'_, Writers>,
        number: u64,
        slots: &RoaringBitmap,
        test: &Test<'_>,
        soft: bool,
    ) -> Purged {
        let now = self.clock.now();
        let through = writers.sequence;
        let mut responses = 0;
        let mut buffer = Vec::new();
        let mut slots = slots.iter();
        loop {
            let mut looked_at = 0;
            for slot in slots.by_ref().take(RESPONSES_PER_TURN) {
                looked_at += 1;
                let Some(entry) = writers.index.entry(slot).map(Arc::clone) else { continue };
                if entry.sequence > through || !test.passes(&writers.index, &entry, &mut buffer) {
                    continue;
                }
                if soft {
                    entry.mark_stale(now);
                    responses += u64::from(!entry.is_purged());
                } else {
                    responses += u64::from(writers.index.mark_purged(&entry));
                }
            }
            if looked_at < RESPONSES_PER_TURN {
                break;
            }
            MutexGuard::bump(&mut writers);
        }
        writers.counters.purged += responses;
        let mut gone = Vec::new();
        Self::remove_purged(&mut writers, &self.caches.load(), &mut gone, RESPONSES_PER_TURN);
        drop(writers);
        Purged { number, responses }
    }
}

/// Dropping a full store takes a tenth of a second and more, which a purge's answer must not wait
/// for.
fn drop_elsewhere(index: Index, caches: Option<Arc<Caches>>) {
    if index.objects() > DROPPED_INLINE_MAX {
        let what = (index, caches);
        // Where no thread can be had, the closure and what it holds are dropped here.
        let _ = std::thread::Builder::new().name("store-drop".to_owned()).spawn(|| drop(what));
    }
}
