//! The fence: what was cleaned when, so that what a client made of older data is not kept after it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher as _, RandomState};

/// Cleans in order, each with its number. What it remembers is bounded: forgetting one raises `floor` to its
/// number, and who began before the floor has nothing kept.
#[derive(Debug)]
pub(super) struct Fence {
    last: u64,
    /// The last number of a clean of a tag, whichever.
    last_of_tags: u64,
    /// Below it nothing is known.
    floor: u64,
    /// The last clean of all databases that nobody is forgiven.
    everything: u64,
    /// The last clean of each database as a whole.
    databases: Vec<u64>,
    /// The last clean of a key, by a keyed hash: two that collide are cleaned together, which costs a miss.
    names: HashMap<u64, u64>,
    /// `names` by number; entries whose name was cleaned again since are skipped.
    order: VecDeque<(u64, u64)>,
    names_max: usize,
    hasher: RandomState,
}

/// What stands for a key of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Name(u64);

impl Fence {
    pub fn new(databases: usize, names_max: usize) -> Self {
        // Who began before there was this fence is late for all.
        Self {
            last: 1,
            last_of_tags: 0,
            floor: 1,
            everything: 0,
            databases: vec![0; databases],
            names: HashMap::new(),
            order: VecDeque::new(),
            names_max,
            hasher: RandomState::new(),
        }
    }

    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        // A table is at most seven eighths full, with a byte beside each place.
        let names = self.names.capacity() * 8 / 7 * (size_of::<(u64, u64)>() + 1);
        names + self.order.capacity() * size_of::<(u64, u64)>()
    }

    /// The number of the last clean.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The number of the last clean of any tag.
    pub fn last_of_tags(&self) -> u64 {
        self.last_of_tags
    }

    pub fn name(&self, database: usize, key: &[u8]) -> Name {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_usize(database);
        hasher.write(key);
        Name(hasher.finish())
    }

    /// Begins a clean; what is remembered from here on has its number.
    pub fn begin(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Nobody who began before now has anything kept.
    pub fn everything(&mut self) {
        (self.floor, self.everything) = (self.last, self.last);
    }

    /// A database is cleaned. What was cleaned in it by name stays known: the one who does it goes on.
    pub fn database(&mut self, database: usize) {
        if let Some(number) = self.databases.get_mut(database) {
            *number = self.last;
        }
    }

    /// A tag is cleaned, whose set is that key.
    pub fn tag(&mut self, name: Name) {
        self.last_of_tags = self.last;
        self.key(name);
    }

    /// A key is cleaned.
    pub fn key(&mut self, name: Name) {
        if self.names.insert(name.0, self.last) != Some(self.last) {
            self.order.push_back((self.last, name.0));
        }
        while self.names.len() > self.names_max {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            if self.names.get(&oldest) == Some(&number) {
                self.names.remove(&oldest);
                self.floor = self.floor.max(number);
            }
        }
        // Keys that are cleaned again and again leave old places behind.
        if self.order.len() > 2 * self.names_max + 16 {
            let names = &self.names;
            self.order.retain(|(number, hash)| names.get(hash) == Some(number));
        }
    }

    /// The last clean of a key; `None`: none that is known.
    pub fn of_name(&self, name: Name) -> Option<u64> {
        self.names.get(&name.0).copied()
    }

    /// The last clean of a database.
    pub fn of_database(&self, database: usize) -> u64 {
        self.databases.get(database).copied().unwrap_or(0)
    }

    /// The last clean of everything.
    pub fn of_everything(&self) -> u64 {
        self.everything
    }

    /// Below this nothing is known.
    pub fn floor(&self) -> u64 {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_forgotten_raises_the_floor() {
        let mut fence = Fence::new(2, 2);
        let [a, b, c] = [b"a", b"b", b"c"].map(|key| fence.name(0, key));
        for name in [a, b, a] {
            fence.begin();
            fence.key(name);
        }
        assert_eq!((fence.floor(), fence.of_name(a), fence.of_name(b)), (1, Some(4), Some(3)));
        fence.begin();
        fence.tag(c);
        assert_eq!((fence.floor(), fence.of_name(a), fence.of_name(b)), (3, Some(4), None));
        assert_eq!(fence.last_of_tags(), 5);
        assert_ne!(fence.name(0, b"a"), fence.name(1, b"a"));
    }

    #[test]
    fn a_key_that_is_cleaned_ten_thousand_times_takes_one_place() {
        let mut fence = Fence::new(1, 4);
        let (a, b) = (fence.name(0, b"a"), fence.name(0, b"b"));
        for _ in 0..10_000 {
            fence.begin();
            for name in [a, a, b] {
                fence.key(name);
            }
        }
        assert!(fence.order.len() <= 24 && fence.names.len() == 2 && fence.floor() == 1);
    }
}
