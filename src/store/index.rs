//! The owner of what is stored: slots, and from tag, pool, URL and time to slots.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use regex::bytes::Regex;
use roaring::RoaringBitmap;

use super::entry::{Entry, Retention, TagId};
use super::eviction::Eviction;
use super::names::{Names, reserve_slowly};
use super::new_entry::NewEntry;
use super::sharded::Sharded;
use super::slots::{Removed, Slot, Slots};
use super::uses::Used;
use super::weight::{entry_bytes, tags_bytes};
use crate::clock::Moment;

/// Responses whose end falls into the same span are removed together, up to this late.
const EXPIRY_SPAN_MILLISECONDS: u64 = 10_000;

/// No slot.
const NONE: Slot = Slot::MAX;

/// What is stored, and in which order it goes when memory is short.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Option<Arc<Entry>>>,
    /// Of each slot.
    links: Vec<Link>,
    /// The first of the free slots, which are linked by `next`.
    free: Option<Slot>,
    pub(super) tags: Names,
    pub(super) pools: Names,
    /// The first response of each URL; its other variants are linked.
    urls: Sharded<Slot>,
    expiry: BTreeMap<u64, Slots>,
    eviction: Eviction,
    /// What purges have reached and nobody has removed yet, by slot and sequence number.
    purged: VecDeque<(Slot, u64)>,
    /// How many of these are still here.
    purged_objects: u64,
    objects: u64,
    bytes: u64,
    hasher: RandomState,
}

/// The neighbours of a response among those of its URL.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous: Slot,
    next: Slot,
}

impl Index {
    /// An index of responses that take so many bytes in all.
    pub(super) fn new(memory_bytes: u64) -> Self {
        Self { eviction: Eviction::new(memory_bytes), ..Self::default() }
    }

    /// Takes everything out. What is left still knows what went for want of room.
    pub(super) fn take(&mut self) -> Self {
        let eviction = self.eviction.emptied();
        std::mem::replace(self, Self { eviction, ..Self::default() })
    }

    /// Stores a response, or gives it back where it would weigh more than `bytes_max`. `replaced`:
    /// what stands under its key so far, and is to be removed next. `restored`: how it was used
    /// elsewhere, where it comes from there.
    pub(super) fn insert(
        &mut self,
        new: NewEntry,
        (now, sequence): (Moment, u64),
        bytes_max: u64,
        replaced: Option<&Entry>,
        restored: Option<Used>,
    ) -> Option<Arc<Entry>> {
        let fresh = new.tags.iter().filter(|tag| self.tags.find(tag).is_none());
        let weight_bytes = entry_bytes(&new) + tags_bytes(new.tags.len(), fresh);
        let weight_bytes = u32::try_from(weight_bytes).ok()?;
        if u64::from(weight_bytes) > bytes_max
            || self.entries.len() >= NONE as usize - 1
            || self.tags.room() < new.tags.len()
            || self.pools.room() == 0
        {
            return None;
        }
        let slot = self.free_slot();
        let tags: Vec<TagId> =
            new.tags.iter().filter_map(|tag| self.tags.link(tag, slot)).collect();
        let pool = new.pool.as_ref().and_then(|pool| self.pools.link(pool, slot));
        let used = restored.max(replaced.map(Entry::used)).unwrap_or_default();
        let is_restored = restored.is_some();
        let retention = Retention { slot, sequence, weight_bytes, tags, pool, used, is_restored };
        let entry = Arc::new(Entry::new(new, now, retention));
        link(&mut self.expiry, span_of(&entry), slot);
        let standing = replaced.map(|replaced| self.eviction.standing(replaced.slot));
        let standing = standing.unwrap_or_default();
        self.eviction.insert(&entry, self.hasher.hash_one(entry.key_bytes()), standing);
        self.objects += 1;
        self.bytes += u64::from(weight_bytes);
        self.entries[slot as usize] = Some(Arc::clone(&entry));
        self.link_url(entry.url(), slot);
        self.eviction.pass_on(&self.entries, self.bytes);
        Some(entry)
    }

    /// Lets go of the response in a slot, if it is still the one that was stored as `sequence`.
    pub(super) fn remove(&mut self, slot: Slot, sequence: u64) -> Option<Arc<Entry>> {
        let place = self.entries.get_mut(slot as usize)?;
        let entry = place.take_if(|entry| entry.sequence == sequence)?;
        self.unlink_url(entry.url(), slot);
        self.links[slot as usize] = Link { previous: NONE, next: self.free.unwrap_or(NONE) };
        self.free = Some(slot);
        for tag in entry.tags() {
            self.tags.unlink(tag, slot);
        }
        if let Some(pool) = entry.pool() {
            self.pools.unlink(pool, slot);
        }
        unlink(&mut self.expiry, span_of(&entry), slot);
        let hash = self.hasher.hash_one(entry.key_bytes());
        self.eviction.remove(&entry, hash, &self.entries);
        self.objects -= 1;
        self.purged_objects -= u64::from(entry.is_purged());
        self.bytes -= u64::from(entry.weight_bytes);
        Some(entry)
    }

    /// The response that goes next where all may take so many bytes; the caller removes it.
    pub(super) fn next_to_evict(&mut self, limit_bytes: u64) -> Option<(Slot, u64)> {
        self.eviction.next(&self.entries, self.bytes, limit_bytes)
    }

    fn free_slot(&mut self) -> Slot {
        if let Some(slot) = self.free {
            let next = self.links[slot as usize].next;
            self.free = (next != NONE).then_some(next);
            return slot;
        }
        reserve_slowly(&mut self.entries);
        reserve_slowly(&mut self.links);
        self.entries.push(None);
        self.links.push(Link { previous: NONE, next: NONE });
        (self.entries.len() - 1) as Slot
    }

    fn link_url(&mut self, url: &[u8], slot: Slot) {
        let entries = &self.entries;
        let first = self.urls.find_mut(url, |&first| url_in(entries, first) == url);
        let next = if let Some(first) = first {
            std::mem::replace(first, slot)
        } else {
            self.urls.insert(url, slot, |slot| url_in(entries, slot));
            NONE
        };
        self.links[slot as usize] = Link { previous: NONE, next };
        if next != NONE {
            self.links[next as usize].previous = slot;
        }
    }

    fn unlink_url(&mut self, url: &[u8], slot: Slot) {
        let Link { previous, next } = self.links[slot as usize];
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
        } else if next == NONE {
            self.urls.remove(url, |&first| first == slot);
        } else if let Some(first) = self.urls.find_mut(url, |&first| first == slot) {
            *first = next;
        }
    }

    /// From now on no look-up gives this response; it is to be removed. False: that was so already.
    pub(super) fn mark_purged(&mut self, entry: &Entry) -> bool {
        if entry.is_purged() {
            return false;
        }
        entry.mark_purged();
        self.purged.push_back((entry.slot, entry.sequence));
        self.purged_objects += 1;
        true
    }

    /// The next response to be removed because a purge has reached it. It may have gone already.
    pub(super) fn next_purged(&mut self) -> Option<(Slot, u64)> {
        let next = self.purged.pop_front();
        if self.purged.is_empty() {
            self.purged = VecDeque::new();
        }
        next
    }

    /// The response in a slot.
    pub(super) fn entry(&self, slot: Slot) -> Option<&Arc<Entry>> {
        self.entries.get(slot as usize).and_then(Option::as_ref)
    }

    /// Slots of responses with that URL.
    pub(super) fn slots_of_url(&self, url: &[u8]) -> RoaringBitmap {
        let first = self.urls.find(url, |&first| url_in(&self.entries, first) == url);
        let next = |&slot: &Slot| {
            let next = self.links[slot as usize].next;
            (next != NONE).then_some(next)
        };
        std::iter::successors(first, next).collect()
    }

    /// Slots of responses that carry one of the tags.
    pub(super) fn slots_of_tags<'a>(&self, tags: impl Iterator<Item = &'a [u8]>) -> RoaringBitmap {
        let mut slots = RoaringBitmap::new();
        let found = tags.filter_map(|tag| self.tags.find(tag));
        for found in found.filter_map(|tag| self.tags.slots(tag)) {
            found.add_to(&mut slots);
        }
        slots
    }

    /// Slots of responses whose pool matches.
    pub(super) fn slots_of_pools(&self, regex: &Regex) -> RoaringBitmap {
        let mut slots = RoaringBitmap::new();
        for (_, found) in self.pools.iter().filter(|(pool, _)| regex.is_match(pool)) {
            found.add_to(&mut slots);
        }
        slots
    }

    /// Slots in use and free ones.
    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// All slots in use.
    pub(super) fn all_slots(&self) -> RoaringBitmap {
        let used = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_some());
        used.map(|(slot, _)| slot as Slot).collect()
    }

    /// Does the regex match the response's tags, joined by commas? `buffer` is scratch space.
    pub(super) fn tags_match(&self, entry: &Entry, regex: &Regex, buffer: &mut Vec<u8>) -> bool {
        join(buffer, entry.tags().map(|tag| self.tags.name(tag)));
        regex.is_match(buffer)
    }

    /// Up to `limit` slots of responses that no look-up gives any more.
    pub(super) fn due(&self, now: Moment, limit: usize) -> Vec<(Slot, u64)> {
        let spans = self.expiry.range(..now.milliseconds() / EXPIRY_SPAN_MILLISECONDS);
        let mut slots = RoaringBitmap::new();
        for (_, found) in spans {
            found.add_to(&mut slots);
            if slots.len() >= limit as u64 {
                break;
            }
        }
        let found = slots.iter().take(limit).filter_map(|slot| self.entry(slot));
        found.map(|entry| (entry.slot, entry.sequence)).collect()
    }

    /// Stored responses that no purge has reached.
    pub(super) fn living(&self) -> u64 {
        self.objects - self.purged_objects
    }

    /// Stored responses.
    pub(super) fn objects(&self) -> u64 {
        self.objects
    }

    /// What they weigh in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
impl Index {
    /// Counts everything anew and panics where the gauges or links differ.
    pub(super) fn check(&self) {
        let entries: Vec<_> = self.entries.iter().flatten().collect();
        assert_eq!(self.objects, entries.len() as u64);
        let purged = entries.iter().filter(|entry| entry.is_purged());
        assert_eq!(self.purged_objects, purged.count() as u64);
        assert_eq!(self.bytes, entries.iter().map(|entry| entry.weight_bytes()).sum::<u64>());
        let next = |&slot: &Slot| Some(self.links[slot as usize].next).filter(|&it| it != NONE);
        let free = std::iter::successors(self.free, next).count();
        assert_eq!(free + entries.len(), self.entries.len());
        self.eviction.check(&self.entries);
        let links: usize = entries.iter().map(|entry| entry.tags().count()).sum();
        assert_eq!(self.tags.links(), links as u64);
        let pools = entries.iter().filter(|entry| entry.pool().is_some()).count();
        assert_eq!(self.pools.links(), pools as u64);
        for names in [&self.tags, &self.pools] {
            let links = names.iter().map(|(_, slots)| slots.len());
            assert_eq!(links.sum::<u64>(), names.links());
            assert_eq!(names.iter().count() as u64, names.len());
        }
        assert_eq!(self.expiry.values().map(Slots::len).sum::<u64>(), self.objects);
        let urls: std::collections::HashSet<_> = entries.iter().map(|it| it.url()).collect();
        assert_eq!(self.urls.len(), urls.len());
        let of_urls = urls.iter().map(|url| self.slots_of_url(url).len());
        assert_eq!(of_urls.sum::<u64>(), self.objects);
        for entry in entries {
            let carries =
                |slots: &Slots| !matches!(slots.clone().remove(entry.slot), Removed::Absent);
            assert!(entry.tags().all(|tag| self.tags.slots(tag).is_some_and(carries)));
            assert!(self.slots_of_url(entry.url()).contains(entry.slot));
            assert!(self.expiry.get(&span_of(entry)).is_some_and(carries));
        }
    }
}

/// Names joined by commas, as the header carries them.
pub(super) fn join<'a>(buffer: &mut Vec<u8>, names: impl Iterator<Item = &'a [u8]>) {
    buffer.clear();
    for (index, name) in names.enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        buffer.extend_from_slice(name);
    }
}

fn url_in(entries: &[Option<Arc<Entry>>], slot: Slot) -> &[u8] {
    let entry = entries.get(slot as usize).and_then(Option::as_ref);
    entry.map_or(&[], |entry| entry.url())
}

fn span_of(entry: &Entry) -> u64 {
    entry.dead_at_unless_purged().milliseconds() / EXPIRY_SPAN_MILLISECONDS
}

fn link(slots: &mut BTreeMap<u64, Slots>, key: u64, slot: Slot) {
    slots
        .entry(key)
        .and_modify(|slots| {
            slots.insert(slot);
        })
        .or_insert(Slots::One(slot));
}

fn unlink(slots: &mut BTreeMap<u64, Slots>, key: u64, slot: Slot) {
    if slots.get_mut(&key).is_some_and(|slots| slots.remove(slot) == Removed::Last) {
        slots.remove(&key);
    }
}
