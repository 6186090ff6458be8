//! A map whose entries stand in one row without gaps.
//!
//! What is removed leaves its place to the last of the row. So an entry only ever moves towards the
//! front, and who walks from the back misses none that was there all the time, whatever comes and goes
//! meanwhile: that is what SCAN promises, and it needs no state but how much of the row is left. A random
//! entry is a random place. Few entries are searched one by one, more have an index.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use hashbrown::HashTable;

/// So many entries are searched one by one.
const UNINDEXED_MAX: usize = 8;
/// From so many entries on the row grows by a quarter, not by twice: what lies unused of it is memory that values could
/// have.
const DOUBLED_MAX: usize = 64;

/// One for all maps; it is keyed at start, so that nobody can choose keys that collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a value holds on the heap.
pub trait Heap {
    /// Bytes, roughly.
    fn heap_bytes(&self) -> usize;
}

impl Heap for () {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Heap for Box<[u8]> {
    fn heap_bytes(&self) -> usize {
        allocated(self.len())
    }
}

/// What the allocator takes for so many bytes: a multiple of 16, or beyond 128 bytes one of four steps for each
/// doubling, which is up to a fifth of a long value. A sixteenth lies unused between long values that come and go (as
/// was measured).
pub fn allocated(bytes: usize) -> usize {
    const STEP_BYTES: usize = 16;
    const SHORT_BYTES: usize = 512;
    let step = (bytes.next_power_of_two() / 8).max(STEP_BYTES);
    let rounded = bytes.next_multiple_of(step);
    if bytes <= SHORT_BYTES { rounded } else { rounded + rounded / 16 }
}

#[derive(Clone, Debug)]
pub struct Slot<V> {
    key: Box<[u8]>,
    hash: u64,
    pub value: V,
}

impl<V: Heap> Slot<V> {
    /// What it takes in memory, roughly.
    pub fn cost(&self) -> usize {
        Dense::cost(&self.key, &self.value)
    }
}

/// The map.
#[derive(Clone, Debug)]
pub struct Dense<V> {
    slots: Vec<Slot<V>>,
    index: Option<Box<HashTable<u32>>>,
    /// Bytes of the entries, each with its place in the row.
    bytes: usize,
    /// Bytes of the row, unused places included, and of the index.
    tables_bytes: usize,
}

impl<V> Default for Dense<V> {
    fn default() -> Self {
        Self { slots: Vec::new(), index: None, bytes: 0, tables_bytes: 0 }
    }
}

/// Most keys differ in length or in their first byte, and fields are often one byte: a call to compare more is rare.
fn is_same(own: &[u8], key: &[u8]) -> bool {
    own.len() == key.len() && own.first() == key.first() && (own.len() <= 1 || own[1..] == key[1..])
}

fn hash_of(key: &[u8]) -> u64 {
    HASHER.hash_one(key)
}

impl<V: Heap> Dense<V> {
    /// Entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What all of it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        (self.bytes - self.slots.len() * size_of::<Slot<V>>()) + self.tables_bytes
    }

    /// What the entries take of that: the sum of their [`Dense::cost`].
    pub fn entries_bytes(&self) -> usize {
        self.bytes
    }

    /// Counts what the row and the index take, after the row was made longer or shorter.
    fn count_tables(&mut self) {
        let row = allocated(self.slots.capacity() * size_of::<Slot<V>>());
        let index = self.index.as_ref().map_or(0, |index| {
            allocated(size_of::<HashTable<u32>>()) + allocated(index.allocation_size())
        });
        self.tables_bytes = row + index;
    }

    /// Makes room in the row for one more.
    fn grow(&mut self) {
        let number = self.slots.len();
        if number == self.slots.capacity() && number >= DOUBLED_MAX {
            self.slots.reserve_exact(number / 4);
        }
    }

    /// Where an entry stands now.
    pub fn place(&self, key: &[u8]) -> Option<usize> {
        self.find(self.hash(key), key)
    }

    /// The hash of a key, where it is needed.
    fn hash(&self, key: &[u8]) -> u64 {
        if self.index.is_some() { hash_of(key) } else { 0 }
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        match &self.index {
            None => self.slots.iter().position(|slot| is_same(&slot.key, key)),
            Some(index) => {
                let is_it = |at: &u32| *self.slots[*at as usize].key == *key;
                index.find(hash, is_it).map(|at| *at as usize)
            }
        }
    }

    /// Is it there?
    pub fn contains(&self, key: &[u8]) -> bool {
        self.place(key).is_some()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.place(key).map(|at| &self.slots[at].value)
    }

    /// The entry at a place in the row.
    pub fn at(&self, place: usize) -> Option<(&[u8], &V)> {
        self.slots.get(place).map(|slot| (&*slot.key, &slot.value))
    }

    /// All, in the order of the row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &V)> {
        self.slots.iter().map(|slot| (&*slot.key, &slot.value))
    }

    /// Changes a value in its place.
    pub fn change<T>(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> T) -> Option<T> {
        self.place(key).map(|place| self.change_at(place, change))
    }

    /// Changes the value at a place, which must be in the row.
    pub fn change_at<T>(&mut self, place: usize, change: impl FnOnce(&mut V) -> T) -> T {
        let value = &mut self.slots[place].value;
        let before = value.heap_bytes();
        let result = change(value);
        let after = value.heap_bytes();
        self.bytes = (self.bytes - before) + after;
        result
    }

    /// Puts a value under a key; the one that was there.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let hash = self.hash(key);
        if let Some(place) = self.find(hash, key) {
            return Some(self.change_at(place, |own| std::mem::replace(own, value)));
        }
        self.push(hash, key, value);
        None
    }

    /// Puts a value under a key that is not there; where it stands then.
    pub fn add(&mut self, key: &[u8], value: V) -> usize {
        self.push(self.hash(key), key, value)
    }

    fn push(&mut self, hash: u64, key: &[u8], value: V) -> usize {
        self.bytes += Self::cost(key, &value);
        let (at, capacity) = (self.slots.len(), self.slots.capacity());
        self.grow();
        self.slots.push(Slot { key: key.into(), hash, value });
        let slots = &self.slots;
        match &mut self.index {
            Some(index) => {
                // The memory's bound comes long before 2^32 entries.
                index.insert_unique(hash, at as u32, |at| slots[*at as usize].hash);
            }
            None if slots.len() > UNINDEXED_MAX => self.build_index(),
            None => {}
        }
        if self.slots.capacity() != capacity || at == UNINDEXED_MAX {
            self.count_tables();
        }
        at
    }

    fn build_index(&mut self) {
        let mut index = HashTable::with_capacity(self.slots.len() * 2);
        for slot in &mut self.slots {
            slot.hash = hash_of(&slot.key);
        }
        let slots = &self.slots;
        for (at, slot) in slots.iter().enumerate() {
            index.insert_unique(slot.hash, at as u32, |at| slots[*at as usize].hash);
        }
        self.index = Some(Box::new(index));
    }

    /// Takes an entry out; the last of the row moves to its place.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.place(key).map(|at| self.remove_at(at).1)
    }

    /// Takes out the entry at a place, which must be in the row.
    pub fn remove_at(&mut self, place: usize) -> (Box<[u8]>, V) {
        let last = self.slots.len() - 1;
        if let Some(index) = &mut self.index {
            if let Ok(it) = index.find_entry(self.slots[place].hash, |at| *at as usize == place) {
                it.remove();
            }
            if last != place
                && let Some(at) = index.find_mut(self.slots[last].hash, |at| *at as usize == last)
            {
                *at = place as u32;
            }
        }
        let slot = self.slots.swap_remove(place);
        self.bytes -= Self::cost(&slot.key, &slot.value);
        self.shrink();
        (slot.key, slot.value)
    }

    /// The same row, which is to be taken apart from its end alone.
    pub fn without_index(mut self) -> Self {
        self.index = None;
        self.count_tables();
        self
    }

    /// Puts an entry at the end of a row that has no index, whatever its key.
    pub fn push_unindexed(&mut self, key: Box<[u8]>, value: V) {
        let slot = Slot { key, hash: 0, value };
        self.bytes += slot.cost();
        self.grow();
        self.slots.push(slot);
        self.count_tables();
    }

    /// Takes the last of a row without an index.
    pub fn pop(&mut self) -> Option<Slot<V>> {
        let slot = self.slots.pop()?;
        self.bytes -= slot.cost();
        self.shrink();
        Some(slot)
    }

    /// Gives memory back once most of the row is gone.
    fn shrink(&mut self) {
        if self.slots.is_empty() {
            *self = Self::default();
            return;
        }
        let wanted = self.slots.len() * 2;
        if self.slots.capacity() > 64 && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(wanted);
            let slots = &self.slots;
            if let Some(index) = &mut self.index {
                index.shrink_to(wanted, |at| slots[*at as usize].hash);
            }
            self.count_tables();
        }
    }

    /// What an entry takes in memory, roughly.
    pub fn cost(key: &[u8], value: &V) -> usize {
        size_of::<Slot<V>>() + allocated(key.len()) + value.heap_bytes()
    }
}

impl Dense<Box<[u8]>> {
    /// Writes text under a key; is the key new? Text as long as what stands there takes its memory.
    pub fn write(&mut self, key: &[u8], text: &[u8]) -> bool {
        let hash = self.hash(key);
        let Some(place) = self.find(hash, key) else {
            self.push(hash, key, text.into());
            return true;
        };
        let own = &mut self.slots[place].value;
        if own.len() == text.len() {
            own.copy_from_slice(text);
        } else {
            self.change_at(place, |own| *own = text.into());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_allocator_takes() {
        let sizes = [0, 1, 36, 129, 512, 513, 640, 641, 1_024, 1_025, 20_000, 1_200_000];
        let expected = [0, 16, 48, 160, 512, 640, 640, 768, 1_024, 1_280, 20_480, 1_310_720];
        let rounded = |bytes| allocated(bytes) - allocated(bytes) / 17;
        let sizes = sizes.map(|it| if it > 512 { rounded(it) } else { allocated(it) });
        assert_eq!(sizes, expected);
    }

    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u8),
        Remove(u8),
        Scan(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            3 => any::<u8>().prop_map(Step::Remove),
            2 => (0..20_u8).prop_map(Step::Scan),
        ];
        proptest::collection::vec(step, 0..600)
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_a_walk_from_the_back_misses_nothing(steps in steps()) {
            let (mut dense, mut model) = (Dense::<Box<[u8]>>::default(), BTreeMap::new());
            let (mut left, mut seen) = (None, BTreeSet::new());
            // What was there since the walk began.
            let mut owed = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        let value = vec![value; usize::from(value) % 5];
                        let expected = model.insert(key, value.clone());
                        if value.first().is_some_and(|first| first % 2 == 0) {
                            prop_assert_eq!(dense.write(&[key], &value), expected.is_none());
                        } else {
                            let old = dense.insert(&[key], value.into());
                            prop_assert_eq!(old.map(Vec::from), expected);
                        }
                    }
                    Step::Remove(key) => {
                        let removed = dense.remove(&[key]).map(Vec::from);
                        prop_assert_eq!(removed, model.remove(&key));
                        owed.remove(&key);
                    }
                    Step::Scan(count) => {
                        if left.is_none() {
                            owed = model.keys().copied().collect();
                            seen.clear();
                        }
                        let from = left.unwrap_or(usize::MAX).min(dense.len());
                        let to = from.saturating_sub(usize::from(count));
                        seen.extend((to..from).filter_map(|at| dense.at(at)).map(|it| it.0[0]));
                        left = (to > 0).then_some(to);
                        if left.is_none() {
                            prop_assert!(seen.is_superset(&owed));
                        }
                    }
                }
                prop_assert_eq!(dense.len(), model.len());
            }
            let mut all: Vec<_> = dense.iter().map(|(key, value)| (key[0], value.to_vec())).collect();
            all.sort();
            prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
            for (key, value) in &model {
                prop_assert_eq!(dense.get(&[*key]).map(|it| &**it), Some(&value[..]));
            }
            while !dense.is_empty() {
                dense.remove_at(dense.len() / 2);
            }
            prop_assert_eq!(dense.bytes(), 0);
        }
    }
}
