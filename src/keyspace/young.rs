//! Values that were written a moment ago: their tags may still be on their way, so a clean of one that has not
//! named them yet looks at them.

use std::collections::{HashSet, VecDeque};

use super::Database;
use super::dense::Dense;
use super::fence::Name;
use super::layout::{TagSets, tags_of};
use super::named;
use super::value::Entry;

/// So many are remembered.
const COUNT_MAX: usize = 1_024;
/// And for so long, in milliseconds: between a value and its tags are two commands of one client.
const AGE_MAX_MS: u64 = 10_000;

/// The last ones, oldest first.
#[derive(Debug, Default)]
pub(super) struct Young {
    row: VecDeque<One>,
    keys_bytes: usize,
}

#[derive(Debug)]
struct One {
    name: Name,
    database: usize,
    key: Vec<u8>,
    /// Its tags stand in it, or all have named it.
    is_known: bool,
    /// When, in milliseconds since 1970.
    since_ms: i64,
}

impl Young {
    /// One was written.
    pub fn add(&mut self, name: Name, database: usize, key: &[u8], is_known: bool, now_ms: i64) {
        // The oldest makes room, and leaves its own.
        let is_old = |it: &One| it.since_ms.abs_diff(now_ms) > AGE_MAX_MS;
        let oldest = if self.row.len() >= COUNT_MAX || self.row.front().is_some_and(is_old) {
            self.row.pop_front()
        } else {
            None
        };
        let mut own = oldest.map(|it| it.key).unwrap_or_default();
        self.keys_bytes -= own.capacity();
        own.clear();
        own.extend_from_slice(key);
        self.keys_bytes += own.capacity();
        self.row.push_back(One { name, database, key: own, is_known, since_ms: now_ms });
    }

    /// Forgets those that are no longer young.
    fn age(&mut self, now_ms: i64) {
        while let Some(old) = self.row.pop_front_if(|it| it.since_ms.abs_diff(now_ms) > AGE_MAX_MS)
        {
            self.keys_bytes -= old.key.capacity();
        }
    }

    /// All tags of these have named them. They were written last, mostly.
    pub fn settle(&mut self, names: &[Name]) {
        for name in names {
            if let Some(one) = self.row.iter_mut().rev().find(|one| one.name == *name) {
                one.is_known = true;
            }
        }
    }

    /// Are all tags of one known, as it was written last?
    pub fn knows(&self, name: Name) -> bool {
        self.row.iter().rev().find(|one| one.name == name).is_some_and(|one| one.is_known)
    }

    /// Those of a database that may have one of the tags with these sets, which has not named them yet.
    pub fn with_tags(
        &mut self,
        entries: &Dense<Entry>,
        layout: &[TagSets],
        (database, sets): (usize, &[&[u8]]),
        now_ms: i64,
    ) -> Vec<Vec<u8>> {
        // One walk, however many they are.
        let cleaned: HashSet<&[u8]> = sets.iter().copied().collect();
        self.of(database, now_ms, |one| {
            layout.iter().any(|pair| one.may_have(entries, pair, sets, |its| cleaned.contains(its)))
        })
    }

    /// Those of a database that may have all of the tags with these sets.
    pub fn with_all_tags(
        &mut self,
        entries: &Dense<Entry>,
        layout: &[TagSets],
        (database, sets): (usize, &[&[u8]]),
        now_ms: i64,
    ) -> Vec<Vec<u8>> {
        self.of(database, now_ms, |one| {
            layout.iter().any(|pair| {
                sets.iter().all(|set| one.may_have(entries, pair, &[*set], |its| its == *set))
            })
        })
    }

    fn of(&mut self, database: usize, now_ms: i64, is_it: impl Fn(&One) -> bool) -> Vec<Vec<u8>> {
        self.age(now_ms);
        let those = self.row.iter().filter(|one| one.database == database && is_it(one));
        those.map(|one| one.key.clone()).collect()
    }

    /// Those that one of their tags does not name, or of which nobody knows which tags they have.
    pub fn unnamed(
        &mut self,
        databases: &[Database],
        layout: &[TagSets],
        now_ms: i64,
    ) -> Vec<(usize, Vec<u8>)> {
        self.age(now_ms);
        let unnamed = self.row.iter().filter(|one| {
            let entries = &databases[one.database].entries;
            entries.get(&one.key).is_some_and(|entry| !one.is_named(entries, layout, entry))
        });
        unnamed.map(|one| (one.database, one.key.clone())).collect()
    }

    /// What they take in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.row.capacity() * size_of::<One>() + self.keys_bytes
    }
}

impl One {
    fn may_have(
        &self,
        entries: &Dense<Entry>,
        pair: &TagSets,
        sets: &[&[u8]],
        is_cleaned: impl Fn(&[u8]) -> bool,
    ) -> bool {
        let Some(value) = pair.of_value(&self.key) else { return false };
        let Some(entry) = entries.get(&self.key) else { return false };
        let names = |set: &[u8]| {
            named::members(entries, set).is_some_and(|members| members.contains(value.name))
        };
        match tags_of(entry) {
            Some(tags) => {
                tags.split(|byte| *byte == b',').any(|tag| is_cleaned(&pair.set(&value, tag)))
            }
            None => sets.iter().any(|set| {
                pair.of_set(set).is_some_and(|tag| TagSets::are_of_one(&tag, &value))
                    && (!self.is_known || names(set))
            }),
        }
    }

    fn is_named(&self, entries: &Dense<Entry>, layout: &[TagSets], entry: &Entry) -> bool {
        let Some(tags) = tags_of(entry) else { return self.is_known };
        layout.iter().all(|pair| {
            let Some(value) = pair.of_value(&self.key) else { return true };
            let mut tags = tags.split(|byte| *byte == b',').filter(|tag| !tag.is_empty());
            tags.all(|tag| {
                named::members(entries, &pair.set(&value, tag))
                    .is_some_and(|members| members.contains(value.name))
            })
        })
    }
}
