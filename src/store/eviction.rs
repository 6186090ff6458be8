//! What goes when memory is short.
//!
//! S3-FIFO (Yang et al., SOSP 2023): what is new waits in a small queue of a tenth of the memory. When its
//! turn comes it goes, unless it was asked for meanwhile: then it joins the main part, from which a
//! hand goes round and takes out what was not asked for since it last came by. So a flood of URLs that
//! are asked for once passes through the small queue alone. What goes out is remembered as a ghost: if
//! it comes back soon, it joins the main part at once.
//!
//! The main part is no list: it is whatever stands in the index' slots and not in the small queue, and
//! the hand goes by slots. That takes no memory for each response.

use std::collections::VecDeque;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::entry::Entry;
use super::slots::Slot;

/// The small queue's part of the memory: one in so many bytes.
const SMALL_PART: u64 = 10;

/// There is room for more while one in so many bytes of the memory is free.
const ROOM_PART: u64 = 8;

/// Responses at which the hand looks at most before it takes the next one, asked for or not: a bound
/// on the time for which others wait.
const LOOKS_MAX: usize = 1_000;

/// Memory for responses in bytes for each ghost: there are about as many ghosts as responses.
const MEMORY_PER_GHOST_BYTES: u64 = 8 << 10;

/// Records of what has left the small queue otherwise that it holds besides as many as are in use.
const RECORDS_SPARE: usize = 64;

/// The order in which responses go.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// Oldest first. Some have gone otherwise.
    small: VecDeque<Record>,
    in_small: RoaringBitmap,
    small_bytes: u64,
    /// The slot that the hand looks at next.
    hand: usize,
    ghosts: Ghosts,
    /// What all responses may take.
    memory_bytes: u64,
}

/// How a response that is being stored stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is known of it.
    #[default]
    New,
    /// It takes the place of one that stood in the main part.
    Main,
}

impl Eviction {
    /// For responses of so many bytes in all.
    pub(super) fn new(memory_bytes: u64) -> Self {
        Self { memory_bytes, ghosts: Ghosts::new(memory_bytes), ..Self::default() }
    }

    /// The same without responses; it still knows what went.
    pub(super) fn emptied(&mut self) -> Self {
        let ghosts = std::mem::take(&mut self.ghosts);
        Self { memory_bytes: self.memory_bytes, ghosts, ..Self::default() }
    }

    /// Bytes of memory for ghosts.
    pub(super) fn ghosts_bytes(memory_bytes: u64) -> u64 {
        Ghosts::buckets_of(memory_bytes) as u64 * size_of::<Bucket>() as u64
    }

    /// A response was stored; `hash` is one of its key.
    pub(super) fn insert(&mut self, entry: &Entry, hash: u64, standing: Standing) {
        if self.ghosts.take(hash) || standing == Standing::Main {
            return;
        }
        if self.small.len() == self.small.capacity() {
            // By itself it would take as much again.
            self.small.reserve_exact(self.small.len() / 4 + RECORDS_SPARE);
        }
        self.small.push_back(Record::of(entry));
        self.in_small.insert(entry.slot);
        self.small_bytes += entry.weight_bytes();
    }

    /// A response was stored, and all take so many bytes. As long as there is room for more, what is no
    /// longer new joins the main part. A queue of everything would take memory for nothing, and once
    /// the store is full a flood would replace all of it: pages that one thread stored and another frees,
    /// of which the allocator holds back many.
    pub(super) fn pass_on(&mut self, entries: &[Option<Arc<Entry>>], all_bytes: u64) {
        let room_bytes = self.memory_bytes.saturating_sub(all_bytes);
        while room_bytes > self.memory_bytes / ROOM_PART
            && self.small_bytes > self.memory_bytes / SMALL_PART
            && let Some(record) = self.small.pop_front()
        {
            if let Some(entry) = entry_of(entries, record) {
                self.leave_small(entry);
            }
        }
    }

    fn leave_small(&mut self, entry: &Entry) {
        if self.in_small.remove(entry.slot) {
            self.small_bytes -= entry.weight_bytes();
        }
    }

    /// A response was removed, for whatever reason. What has proved its worth is remembered.
    pub(super) fn remove(&mut self, entry: &Entry, hash: u64, entries: &[Option<Arc<Entry>>]) {
        if !self.in_small.remove(entry.slot) {
            self.ghosts.insert(hash);
            return;
        }
        self.small_bytes -= entry.weight_bytes();
        if self.small.len() > 2 * self.in_small.len() as usize + RECORDS_SPARE {
            let in_small = &self.in_small;
            self.small.retain(|record| {
                in_small.contains(record.slot) && entry_of(entries, *record).is_some()
            });
        }
    }

    /// Where does a stored response stand?
    pub(super) fn standing(&self, slot: Slot) -> Standing {
        if self.in_small.contains(slot) { Standing::New } else { Standing::Main }
    }

    /// The response that is to go next; the caller removes it. `all_bytes`: what all take; `limit_bytes`: what they may.
    pub(super) fn next(
        &mut self,
        entries: &[Option<Arc<Entry>>],
        all_bytes: u64,
        limit_bytes: u64,
    ) -> Option<(Slot, u64)> {
        while self.small_bytes > limit_bytes / SMALL_PART || self.small_bytes == all_bytes {
            let record = self.small.pop_front()?;
            let Some(entry) = entry_of(entries, record) else { continue };
            self.leave_small(entry);
            if entry.uses.marks() == 0 {
                return Some((entry.slot, entry.sequence));
            }
        }
        self.go_round(entries)
    }

    fn go_round(&mut self, entries: &[Option<Arc<Entry>>]) -> Option<(Slot, u64)> {
        if entries.is_empty() {
            return None;
        }
        let mut looks = 0;
        // By then the hand has come by each of them once.
        for _ in 0..entries.len() + LOOKS_MAX {
            let place = self.hand % entries.len();
            self.hand = place + 1;
            let Some(entry) = &entries[place] else { continue };
            if self.in_small.contains(entry.slot) {
                continue;
            }
            looks += 1;
            if looks > LOOKS_MAX || !entry.uses.spend() {
                return Some((entry.slot, entry.sequence));
            }
        }
        None
    }

    /// Counts anew what the gauges say.
    #[cfg(test)]
    pub(super) fn check(&self, entries: &[Option<Arc<Entry>>]) {
        let bytes = |slot: Slot| entries[slot as usize].as_ref().map_or(0, |e| e.weight_bytes());
        assert_eq!(self.small_bytes, self.in_small.iter().map(bytes).sum::<u64>());
        for slot in &self.in_small {
            let entry = entries[slot as usize].as_ref();
            let record = entry.map(|entry| Record::of(entry));
            assert!(record.is_some_and(|record| self.small.contains(&record)));
        }
        assert!(self.small.len() <= 2 * self.in_small.len() as usize + RECORDS_SPARE + 1);
    }
}

/// A response in the small queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    slot: Slot,
    /// The low bits of its sequence number. Two responses in one slot whose bits agree are billions of
    /// insertions apart.
    sequence: u32,
}

impl Record {
    fn of(entry: &Entry) -> Self {
        Self { slot: entry.slot, sequence: entry.sequence as u32 }
    }
}

/// The response of a record, if it is still there.
fn entry_of(entries: &[Option<Arc<Entry>>], record: Record) -> Option<&Arc<Entry>> {
    let entry = entries.get(record.slot as usize)?.as_ref();
    entry.filter(|entry| Record::of(entry) == record)
}

/// Ghosts in one place; the oldest goes for a new one.
type Bucket = [u32; 8];

/// Keys of what went a while ago, by their hashes. A mistake costs nothing but a better place.
#[derive(Debug, Default)]
struct Ghosts(Box<[Bucket]>);

impl Ghosts {
    fn new(memory_bytes: u64) -> Self {
        Self(vec![Bucket::default(); Self::buckets_of(memory_bytes)].into_boxed_slice())
    }

    fn buckets_of(memory_bytes: u64) -> usize {
        let ghosts = (memory_bytes / MEMORY_PER_GHOST_BYTES) as usize;
        (ghosts / Bucket::default().len()).next_power_of_two()
    }

    fn insert(&mut self, hash: u64) {
        if let Some(bucket) = self.bucket(hash) {
            bucket.rotate_right(1);
            bucket[0] = Self::print(hash);
        }
    }

    /// Was it there? It is no ghost any more.
    fn take(&mut self, hash: u64) -> bool {
        let print = Self::print(hash);
        let found = self.bucket(hash).and_then(|bucket| bucket.iter_mut().find(|it| **it == print));
        found.map(|place| *place = 0).is_some()
    }

    fn bucket(&mut self, hash: u64) -> Option<&mut Bucket> {
        let mask = self.0.len().wrapping_sub(1);
        self.0.get_mut(hash as usize & mask)
    }

    /// Never zero, which is no ghost.
    fn print(hash: u64) -> u32 {
        (hash >> 32) as u32 | 1
    }
}
