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

    use proptest::prelude::*;

    fn value(kind: u8, size: usize) -> Value {
        let names = (0..size).map(|at| format!("name{at}"));
        match kind {
            0 => Value::String(vec![0; size]),
            1 => {
                let mut members = Set::default();
                for name in names {
                    members.insert(name.as_bytes(), ());
                }
                Value::Set(Box::new(members))
            }
            _ => {
                let mut fields = Hash::default();
                for name in names {
                    fields.insert(name.as_bytes(), (*b"value").into());
                }
                Value::Hash(Box::new(fields))
            }
        }
    }

    /// Fields and members.
    fn parts(value: &Value) -> usize {
        match value {
            Value::String(_) => 0,
            Value::Set(members) => members.len(),
            Value::Hash(fields) => fields.len(),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Database(usize, u8, usize),
        Entry(u8, usize),
        Set(usize),
        Take(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = || prop_oneof![4 => 0..20_usize, 1 => 4_000..6_000_usize];
        let step = prop_oneof![
            1 => (0..300_usize, 0..3_u8, 0..200_usize)
                .prop_map(|(keys, kind, size)| Step::Database(keys, kind, size)),
            4 => (0..3_u8, size()).prop_map(|(kind, size)| Step::Entry(kind, size)),
            2 => size().prop_map(Step::Set),
            3 => (1..300_000_usize).prop_map(Step::Take),
        ];
        proptest::collection::vec(step, 0..30)
    }

    /// Entries, fields and members that are dropped.
    fn things(freed: &Freed) -> usize {
        let within: usize = freed.0.iter().map(|slot| parts(&slot.value.value)).sum();
        freed.0.len() + within + freed.1.len() + freed.2.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn what_is_thrown_away_is_counted_until_it_comes_out_once(steps in steps()) {
            let (mut garbage, mut left) = (Garbage::default(), 0);
            for step in steps {
                let before = garbage.bytes();
                match step {
                    Step::Database(keys, kind, size) => {
                        let mut entries = Dense::default();
                        for at in 0..keys {
                            entries.insert(format!("k{at}").as_bytes(), entry(value(kind, size)));
                        }
                        let all: usize = entries.iter().map(|(_, it)| 1 + parts(&it.value)).sum();
                        garbage.add(entries);
                        // Few are dropped at once.
                        left += if garbage.bytes() > before { all } else { 0 };
                    }
                    Step::Entry(kind, size) => {
                        let one = entry(value(kind, size));
                        left += 1 + parts(&one.value);
                        garbage.add_entry((*b"key").into(), one);
                        prop_assert!(garbage.bytes() > before);
                    }
                    Step::Set(size) => {
                        let Value::Set(members) = value(1, size) else { unreachable!() };
                        left += members.len();
                        garbage.add_set(*members);
                        prop_assert!(garbage.bytes() > before || size == 0);
                    }
                    Step::Take(bytes) => {
                        left -= garbage.take(bytes).map_or(0, |freed| things(&freed));
                        prop_assert!(garbage.bytes() <= before);
                    }
                }
            }
            while let Some(freed) = garbage.take(10_000) {
                left -= things(&freed);
            }
            prop_assert_eq!((left, garbage.bytes(), garbage.is_empty()), (0, 0, true));
        }
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
