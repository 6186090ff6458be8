//! What was taken out of the databases as a whole. It is dropped in slices: by the clients' writes, each of
//! which frees more than it takes, so that the bound of memory holds meanwhile; and by who keeps house, so that it does
//! not lie there.

use super::dense::{Dense, Heap, Slot};
use super::value::{Entry, Hash, Set, Value};

/// Entries that take so much are not dropped while everybody waits.
const AT_ONCE_MAX_BYTES: usize = 256 << 10;

/// A clean of more keys leaves them to be dropped later.
pub(super) const AT_ONCE_MAX_KEYS: usize = 100;

/// Emptied databases, large values of theirs, and what was cleaned together with many others.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    databases: Vec<Dense<Entry>>,
    /// Without an index, too.
    cleaned: Dense<Entry>,
    hashes: Vec<Hash>,
    sets: Vec<Set>,
}

/// Some of it, to be dropped where that keeps nobody waiting.
#[derive(Debug, Default)]
pub struct Freed(Vec<Slot<Entry>>, Vec<Slot<Box<[u8]>>>, Vec<Slot<()>>);

impl Garbage {
    /// Takes in what was a database; few entries are dropped at once.
    pub fn add(&mut self, entries: Dense<Entry>) {
        if entries.bytes() > AT_ONCE_MAX_BYTES {
            self.databases.push(entries.without_index());
        }
    }

    /// Takes in one entry of many that are cleaned together.
    pub fn add_entry(&mut self, key: Box<[u8]>, entry: Entry) {
        self.cleaned.push_unindexed(key, entry);
    }

    /// Takes in the members of a set.
    pub fn add_set(&mut self, members: Set) {
        self.sets.push(members.without_index());
    }

    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
            && self.cleaned.is_empty()
            && self.hashes.is_empty()
            && self.sets.is_empty()
    }

    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let databases: usize = self.databases.iter().map(Dense::bytes).sum();
        let hashes: usize = self.hashes.iter().map(Dense::bytes).sum();
        databases
            + self.cleaned.bytes()
            + hashes
            + self.sets.iter().map(Dense::bytes).sum::<usize>()
    }

    /// Takes about so many bytes out; `None`: there is nothing.
    pub fn take(&mut self, bytes: usize) -> Option<Freed> {
        if self.is_empty() {
            return None;
        }
        let mut freed = Freed::default();
        let mut left = bytes;
        take_of(&mut self.sets, &mut left, &mut freed.2);
        take_of(&mut self.hashes, &mut left, &mut freed.1);
        if left > 0 && !self.cleaned.is_empty() {
            // A row of its own, so that it goes the same way.
            self.databases.push(std::mem::take(&mut self.cleaned));
        }
        take_of(&mut self.databases, &mut left, &mut freed.0);
        for slot in &mut freed.0 {
            if slot.value.heap_bytes() <= AT_ONCE_MAX_BYTES {
                continue;
            }
            // Large ones are taken apart, too.
            match std::mem::replace(&mut slot.value.value, Value::String(Vec::new())) {
                Value::Set(members) => self.sets.push(members.without_index()),
                Value::Hash(fields) => self.hashes.push(fields.without_index()),
                text @ Value::String(_) => slot.value.value = text,
            }
        }
        Some(freed)
    }
}

/// Takes slots off the last of some rows, until they are so many bytes.
fn take_of<V: Heap>(rows: &mut Vec<Dense<V>>, left: &mut usize, taken: &mut Vec<Slot<V>>) {
    while *left > 0
        && let Some(row) = rows.last_mut()
    {
        match row.pop() {
            Some(slot) => {
                *left = left.saturating_sub(slot.cost().min(AT_ONCE_MAX_BYTES));
                taken.push(slot);
            }
            None => drop(rows.pop()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: Value) -> Entry {
        Entry::new(value, None)
    }

    #[test]
    fn all_of_it_goes_in_slices_however_large_one_value_is() {
        let mut members = Set::default();
        for at in 0..20_000 {
            members.insert(format!("member{at}").as_bytes(), ());
        }
        let mut entries = Dense::default();
        entries.insert(b"large", entry(Value::Set(Box::new(members))));
        for at in 0..1_000 {
            entries.insert(format!("k{at}").as_bytes(), entry(Value::String(vec![0; 1_000])));
        }
        let mut garbage = Garbage::default();
        garbage.add(entries);
        let (mut slices, mut slots, mut members) = (0, 0, 0);
        while let Some(Freed(some, _, names)) = garbage.take(10_000) {
            assert!(some.len() + names.len() < 400);
            (slices, slots, members) = (slices + 1, slots + some.len(), members + names.len());
        }
        assert!(slices > 100 && garbage.is_empty());
        assert_eq!((slots, members), (1_001, 20_000));
    }

    #[test]
    fn little_is_dropped_at_once() {
        let mut garbage = Garbage::default();
        let mut entries = Dense::default();
        entries.insert(b"k", entry(Value::String(vec![0; 1_000])));
        garbage.add(entries);
        assert!(garbage.take(1).is_none());
    }
}
