//! The table in which look-ups find stored responses.
//!
//! It is cut into parts, each with a lock of its own that look-ups share, so that threads rarely
//! meet and a part that grows keeps few of them waiting. What stands in it is what the index
//! holds: both change together, under the lock that only writers take.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use parking_lot::RwLock;

use super::entry::Entry;
use super::sharded::shard_of;

/// Memory for responses in bytes for each part of the table, so that a part of a full store has
/// some thousand responses to move when it grows.
const MEMORY_PER_PART_BYTES: u64 = 4 << 20;

/// Parts of a small table, and of the largest.
const PARTS_MIN: u64 = 16;
const PARTS_MAX: u64 = 1_024;

/// Stored responses by key.
pub(super) struct Pages {
    parts: Box<[Part]>,
    /// Keyed, so that nobody can make up keys that meet in one place.
    hasher: RandomState,
}

/// No two of them share a cache line, or a look-up in one would slow down those in the other.
#[repr(align(64))]
#[derive(Default)]
struct Part(RwLock<HashTable<Arc<Entry>>>);

impl Pages {
    /// An empty table for responses of so many bytes in all.
    pub(super) fn new(memory_bytes: u64) -> Self {
        let parts = Self::parts_of(memory_bytes);
        Self {
            parts: std::iter::repeat_with(Part::default).take(parts as usize).collect(),
            hasher: RandomState::new(),
        }
    }

    fn parts_of(memory_bytes: u64) -> u64 {
        (memory_bytes / MEMORY_PER_PART_BYTES).next_power_of_two().clamp(PARTS_MIN, PARTS_MAX)
    }

    /// Bytes that a table takes before anything stands in it.
    pub(super) fn empty_bytes(memory_bytes: u64) -> u64 {
        Self::parts_of(memory_bytes) * size_of::<Part>() as u64
    }

    /// What stands under a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        let hash = self.hasher.hash_one(key);
        self.part(hash).0.read().find(hash, |entry| entry.key_bytes() == key).map(Arc::clone)
    }

    /// Puts a response in, in place of what stood under its key, which is given back.
    pub(super) fn insert(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let hash = self.hasher.hash_one(entry.key_bytes());
        let mut part = self.part(hash).0.write();
        let place = part.entry(
            hash,
            |other| other.key_bytes() == entry.key_bytes(),
            |other| self.hasher.hash_one(other.key_bytes()),
        );
        match place {
            Place::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), entry)),
            Place::Vacant(place) => {
                place.insert(entry);
                None
            }
        }
    }

    /// Takes out this very response; another one under its key stays.
    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        let hash = self.hasher.hash_one(entry.key_bytes());
        let mut part = self.part(hash).0.write();
        if let Ok(place) = part.find_entry(hash, |other| Arc::ptr_eq(other, entry)) {
            place.remove();
        }
    }

    fn part(&self, hash: u64) -> &Part {
        &self.parts[shard_of(hash, self.parts.len())]
    }
}

#[cfg(test)]
impl Pages {
    /// Responses in the table.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.0.read().len() as u64).sum()
    }
}
