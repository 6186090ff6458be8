//! A hash table in parts, so that growing moves few things at once: the whole of a large one would
//! hold the index' lock for a tenth of a second.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Parts of a table.
const PARTS: usize = 256;

/// A table of small values, such as slots, whose names stand elsewhere.
#[derive(Debug)]
pub(super) struct Sharded<T> {
    parts: Box<[HashTable<T>]>,
    /// Keyed, so that nobody can make up names that meet in one place.
    hasher: RandomState,
}

impl<T> Default for Sharded<T> {
    fn default() -> Self {
        Self {
            parts: std::iter::repeat_with(HashTable::new).take(PARTS).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl<T: Copy> Sharded<T> {
    /// The value of a name; `is` says whether a value's name is that one.
    pub(super) fn find(&self, name: &[u8], is: impl FnMut(&T) -> bool) -> Option<T> {
        let hash = self.hasher.hash_one(name);
        self.parts[shard_of(hash, PARTS)].find(hash, is).copied()
    }

    /// As [`Sharded::find`], to be changed in its place.
    pub(super) fn find_mut(&mut self, name: &[u8], is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let hash = self.hasher.hash_one(name);
        self.parts[shard_of(hash, PARTS)].find_mut(hash, is)
    }

    /// Adds the value of a name that has none; `name_of` gives the names of others.
    pub(super) fn insert<'a>(&mut self, name: &[u8], value: T, name_of: impl Fn(T) -> &'a [u8]) {
        let hash = self.hasher.hash_one(name);
        let hasher = &self.hasher;
        self.parts[shard_of(hash, PARTS)]
            .insert_unique(hash, value, |other| hasher.hash_one(name_of(*other)));
    }

    /// Takes out the value of a name.
    pub(super) fn remove(&mut self, name: &[u8], is: impl FnMut(&T) -> bool) {
        let hash = self.hasher.hash_one(name);
        if let Ok(place) = self.parts[shard_of(hash, PARTS)].find_entry(hash, is) {
            place.remove();
        }
    }

    /// Values in all.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }
}

/// The part of so many (a power of two) in which a hash stands: by bits which the tables use neither
/// for the place nor for the tag.
pub(super) fn shard_of(hash: u64, parts: usize) -> usize {
    (hash >> 40) as usize & (parts - 1)
}
