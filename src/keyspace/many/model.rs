//! What a node's databases are to hold, as plain maps, and what its memory is to count.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::dense::{Dense, Heap};
use super::super::value::{Entry, Value};
use super::super::{Clean, Keyspace};

/// Tags by their number; the last one is that of all values of Magento's.
const TAGS: [&str; 6] = ["T0", "T1", "T2", "T3", "T4", MAGE];
const MAGE: &str = "MAGE";
/// The tags of a value or a clean are bits; this one is MAGE.
pub const SCOPE: u8 = 1 << 5;
/// The set of all tags of `Cm_Cache_Backend_Redis`.
pub const LIST: &str = "zc:tags";

/// How a backend keeps values and tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `Cm_Cache_Backend_Redis`: a hash that has its tags in it.
    Hashes,
    /// Symfony's: a string, and sets that name it.
    Strings,
}

impl Layout {
    /// The key of a value.
    pub fn key(self, id: &str) -> String {
        let prefix = if self == Self::Hashes { "zc:k:" } else { "abc_:" };
        format!("{prefix}{id}")
    }

    fn set(self, tag: &str) -> String {
        let prefix = if self == Self::Hashes { "zc:ti:" } else { "cache:tags:abc_" };
        format!("{prefix}{tag}")
    }

    /// The sets of tags.
    pub fn sets(self, tags: u8) -> Vec<String> {
        names(tags).into_iter().map(|tag| self.set(tag)).collect()
    }

    /// Whose value, of which id, a key is.
    fn of_key(key: &str) -> Option<(Self, &str)> {
        let hash = key.strip_prefix("zc:k:").map(|id| (Self::Hashes, id));
        hash.or_else(|| key.strip_prefix("abc_:").map(|id| (Self::Strings, id)))
    }

    /// Whose set, of which tag, a key is.
    fn of_set(key: &str) -> Option<(Self, &str)> {
        let set = key.strip_prefix("zc:ti:").map(|tag| (Self::Hashes, tag));
        set.or_else(|| key.strip_prefix("cache:tags:abc_").map(|tag| (Self::Strings, tag)))
    }
}

/// The names of tags.
pub fn names(tags: u8) -> Vec<&'static str> {
    (0..TAGS.len()).filter(|at| tags & 1_u8 << at != 0).map(|at| TAGS[at]).collect()
}

/// One tag after another.
pub fn each(tags: u8) -> impl Iterator<Item = u8> {
    (0..8).map(|at| 1_u8 << at).filter(move |tag| tags & tag != 0)
}

/// What stands in a value: when it was made, of which tags, when it was saved, and bytes that say nothing.
pub fn text(made: u64, tags: u8, saved: u64, bytes: usize) -> String {
    format!("{made};{tags};{saved};{}", "x".repeat(bytes))
}

fn made_of(text: &str) -> (u64, u8) {
    let mut words = text.split(';');
    let mut number = || words.next().expect("a number").parse().expect("a number");
    let made = number();
    (made, u8::try_from(number()).expect("tags"))
}

/// A value that is to be there.
#[derive(Clone, Debug)]
pub struct Held {
    pub layout: Layout,
    pub text: String,
    pub tags: u8,
    /// Milliseconds since 1970.
    pub end_ms: i64,
}

/// What is to be there.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub values: BTreeMap<String, Held>,
    pub sets: BTreeMap<String, BTreeSet<String>>,
}

/// What is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub values: BTreeMap<String, String>,
    pub sets: BTreeMap<String, BTreeSet<String>>,
}

impl Found {
    /// Without what has ended.
    pub fn of(keyspace: &Keyspace, now_ms: i64) -> Self {
        let mut found = Self::default();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        for (key, entry) in keyspace.databases.iter().flat_map(|database| database.entries.iter()) {
            if entry.is_expired(now_ms) {
                continue;
            }
            match &entry.value {
                Value::Set(members) => {
                    let members = members.iter().map(|(member, ())| text(member)).collect();
                    found.sets.insert(text(key), members);
                }
                Value::Hash(fields) => {
                    let data = fields.get(b"d").expect("its data");
                    found.values.insert(text(key), text(data));
                }
                Value::String(data) => {
                    found.values.insert(text(key), text(data));
                }
            }
        }
        found
    }

    /// A value that one of its tags does not name would outlive each clean of that tag.
    pub fn all_are_named(&self) -> Result<(), String> {
        for (key, text) in &self.values {
            let (layout, id) = Layout::of_key(key).expect("a value's key");
            let is_named = |set: &String| self.sets.get(set).is_some_and(|ids| ids.contains(id));
            if let Some(set) = layout.sets(made_of(text).1).iter().find(|set| !is_named(set)) {
                return Err(format!("{set} does not name {key}"));
            }
        }
        Ok(())
    }
}

/// What was cleaned, on whichever node, and when.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// Values that have all of these tags.
    tags: Vec<(Layout, u8, u64)>,
    keys: BTreeMap<String, u64>,
    all: u64,
}

impl Cleaned {
    pub fn tags(&mut self, layout: Layout, tags: u8, at: u64) {
        self.tags.push((layout, tags, at));
    }

    pub fn key(&mut self, key: String, at: u64) {
        self.keys.insert(key, at);
    }

    pub fn all(&mut self, at: u64) {
        self.all = at;
    }

    /// Is a value older than a clean of it?
    pub fn outlived_by(&self, found: &Found) -> Result<(), String> {
        for (key, text) in &found.values {
            let ((made, tags), (layout, _)) = (made_of(text), Layout::of_key(key).expect("a key"));
            let by_tag = self.tags.iter().any(|(own, cleaned, at)| {
                *own == layout && tags & cleaned == *cleaned && made < *at
            });
            let by_key = self.keys.get(key).is_some_and(|at| made < *at);
            if by_tag || by_key || made < self.all {
                return Err(format!("{key} of {made} is older than a clean of it"));
            }
        }
        Ok(())
    }
}

impl Model {
    /// Forgets what has ended.
    pub fn end(&mut self, now_ms: i64) {
        self.values.retain(|_, held| now_ms <= held.end_ms);
    }

    /// A value is saved, and named by its tags; those that it had before forget it.
    pub fn save(&mut self, id: &str, held: Held) {
        let (layout, tags) = (held.layout, held.tags);
        let old = self.values.insert(layout.key(id), held).map_or(0, |old| old.tags);
        for set in layout.sets(tags) {
            self.sets.entry(set).or_default().insert(id.to_owned());
        }
        if layout == Layout::Hashes {
            let list = self.sets.entry(LIST.to_owned()).or_default();
            list.extend(names(tags).into_iter().map(str::to_owned));
        }
        for set in layout.sets(old & !tags) {
            self.take_out(&set, id);
        }
    }

    pub fn take_out(&mut self, set: &str, member: &str) {
        if let Some(members) = self.sets.get_mut(set) {
            members.remove(member);
            if members.is_empty() {
                self.sets.remove(set);
            }
        }
    }

    /// The ids that all of these sets have, or any.
    pub fn ids(&self, sets: &[String], are_all: bool) -> BTreeSet<String> {
        let empty = BTreeSet::new();
        let mut sets = sets.iter().map(|set| self.sets.get(set).unwrap_or(&empty));
        let first = sets.next().cloned().unwrap_or_default();
        sets.fold(first, |ids, set| if are_all { &ids & set } else { &ids | set })
    }

    /// Removes values; how many there were.
    pub fn remove<'i>(&mut self, layout: Layout, ids: impl Iterator<Item = &'i String>) -> usize {
        ids.filter(|id| self.values.remove(&layout.key(id)).is_some()).count()
    }

    /// A tag goes with all that it names.
    pub fn clean_tag(&mut self, set: &str, leaves_list: bool) {
        let Some((layout, tag)) = Layout::of_set(set) else { return };
        let ids = self.sets.remove(set).unwrap_or_default();
        self.remove(layout, ids.iter());
        if layout == Layout::Hashes && leaves_list {
            self.take_out(LIST, tag);
        }
    }

    /// Does what another node has cleaned.
    pub fn clean(&mut self, clean: &Clean) {
        let keys = match clean {
            Clean::Keys { keys, .. } => keys,
            Clean::Common { sets, .. } => return self.clean_common(sets),
            Clean::Everything | Clean::Database(_) => {
                *self = Self::default();
                return;
            }
        };
        for key in keys.iter().map(|key| String::from_utf8_lossy(key)) {
            if Layout::of_set(&key).is_some() {
                self.clean_tag(&key, true);
            } else {
                self.values.remove(&*key);
            }
        }
    }

    fn clean_common(&mut self, sets: &[Bytes]) {
        let sets: Vec<String> =
            sets.iter().map(|set| String::from_utf8_lossy(set).into_owned()).collect();
        let Some((layout, _)) = Layout::of_set(&sets[0]) else { return };
        let ids = self.ids(&sets, true);
        self.remove(layout, ids.iter());
        for set in &sets {
            for id in &ids {
                self.take_out(set, id);
            }
        }
    }

    /// Are these the same?
    pub fn is(&self, found: &Found) -> Result<(), String> {
        let held: BTreeMap<&String, &String> =
            self.values.iter().map(|(key, held)| (key, &held.text)).collect();
        if let Some((key, _)) = found.values.iter().find(|(key, text)| held.get(key) != Some(text))
        {
            return Err(format!("{key} is not what it is to be"));
        }
        if let Some(key) = held.keys().find(|key| !found.values.contains_key(**key)) {
            return Err(format!("{key} is gone"));
        }
        let sets: BTreeSet<&String> = self.sets.keys().chain(found.sets.keys()).collect();
        let differs = sets.into_iter().find(|set| self.sets.get(*set) != found.sets.get(*set));
        differs.map_or(Ok(()), |set| {
            let length =
                |sets: &BTreeMap<String, BTreeSet<String>>| sets.get(set).map(BTreeSet::len);
            let (own, found) = (length(&self.sets), length(&found.sets));
            Err(format!("{set} has {found:?} members, and is to have {own:?}"))
        })
    }
}

/// What the row and the index of a map may take for each entry, and for a few: rows are made shorter once three quarters of
/// them are gone.
const ROOM: usize = 8;
const FEW: usize = 128;

/// Counts a map anew, by the cost of each entry.
fn recount<V: Heap>(map: &Dense<V>, what: &str) -> Result<(), String> {
    let entries: usize = map.iter().map(|(key, value)| Dense::cost(key, value)).sum();
    if map.entries_bytes() != entries {
        let counted = map.entries_bytes();
        return Err(format!("{what}: {counted} bytes were counted for entries of {entries}"));
    }
    let slot =
        map.iter().next().map_or(0, |(_, value)| Dense::cost(b"", value) - value.heap_bytes());
    let own = entries - map.len() * slot;
    let tables = map.bytes().checked_sub(own).ok_or_else(|| format!("{what}: less than it has"))?;
    let (least, most) = (map.len() * slot, (map.len() * ROOM + FEW) * slot);
    if (least..=most).contains(&tables) {
        return Ok(());
    }
    Err(format!("{what}: {tables} bytes of tables for {} entries", map.len()))
}

/// Counts the memory of all databases anew.
pub fn recount_all(keyspace: &Keyspace) -> Result<(), String> {
    let mut all = 0;
    for database in &keyspace.databases {
        recount(&database.entries, "a database")?;
        all += database.entries.bytes();
        let (mut number, mut bytes, mut expiring) = (0, 0, 0);
        for (key, entry) in database.entries.iter() {
            expiring += usize::from(entry.expires_ms.is_some());
            match &entry.value {
                Value::Hash(fields) => recount(fields, "a hash")?,
                Value::Set(members) => {
                    recount(members, "a set")?;
                    (number, bytes) = (number + 1, bytes + Dense::<Entry>::cost(key, entry));
                }
                Value::String(_) => {}
            }
        }
        if (database.sets.number, database.sets.bytes) != (number, bytes) {
            return Err(format!("{:?} for {number} sets of {bytes} bytes", database.sets));
        }
        if database.expiring != expiring {
            return Err(format!("{} for {expiring} keys with an end", database.expiring));
        }
    }
    let garbage = keyspace.garbage.bytes();
    let cleans = keyspace.coherence.as_ref().map_or(0, |coherence| coherence.bytes());
    if keyspace.memory_bytes() == all + garbage + cleans {
        return Ok(());
    }
    Err(format!("{} bytes for {all}, {garbage} and {cleans}", keyspace.memory_bytes()))
}
