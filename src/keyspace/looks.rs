//! What a client looked at before it deletes keys: sets of tags, which then stand for what it deletes.

use std::collections::{HashSet, VecDeque};

use super::dense::Dense;
use super::layout::TagSets;
use super::named::{members, names_any, values};
use super::value::Entry;

/// So many looks at sets of tags are remembered.
pub(super) const LOOKS_MAX: usize = 8;
/// So many pairs of a key and a set are looked up one by one before the sets' members are put together.
const LOOKUPS_MAX: usize = 4_096;

/// What a client did with sets of tags before it deletes what they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// SUNION: what has any of the tags. It is the clean.
    Union,
    /// SINTER: what has all of them. Likewise.
    Intersection,
    /// SMEMBERS, SSCAN: a clean of one tag, or a search for what has ended.
    Members,
}

#[derive(Debug)]
struct Looked {
    database: usize,
    sets: Vec<Box<[u8]>>,
    how: Look,
    /// The other nodes know; so many copies were begun by then.
    told: Option<u64>,
    /// The client has deleted something that it found.
    is_used: bool,
}

/// Keys that a client deletes, by what it looked at.
pub(super) struct Covered<'a> {
    /// Those that no set names.
    pub left: Vec<&'a [u8]>,
    /// What stands for the others. Up to now they could be read.
    pub by: Vec<By>,
}

/// Sets that stand for what they name.
pub(super) struct By {
    pub sets: Vec<Box<[u8]>>,
    /// For what all of them name, and not any.
    pub are_common: bool,
    /// The other nodes know of it.
    pub is_told: bool,
}

#[derive(Debug, Default)]
struct Known {
    looks: VecDeque<Looked>,
    /// So many of the last ones were SMEMBERS, with no command between them.
    row: usize,
    /// It has asked for all tags, and looks at them one by one since: it collects garbage.
    collects: bool,
}

/// What one client looked at.
#[derive(Debug, Default)]
pub(super) struct Looks(Option<Box<Known>>);

impl Looks {
    fn known(&mut self) -> &mut Known {
        self.0.get_or_insert_default()
    }

    /// It looked at sets of tags, which are there.
    pub fn look(&mut self, database: usize, sets: &[&[u8]], how: Look, copies: u64) {
        let told = (how != Look::Members).then_some(copies);
        let sets = sets.iter().map(|set| Box::from(*set)).collect();
        let known = self.known();
        if known.looks.len() == LOOKS_MAX {
            known.looks.pop_front();
        }
        known.looks.push_back(Looked { database, sets, how, told, is_used: false });
        known.row = if how == Look::Members { (known.row + 1).min(LOOKS_MAX) } else { 0 };
    }

    /// The sets that it looked at one after another, and at nothing else since.
    pub fn row(&self) -> Vec<Box<[u8]>> {
        let Some(known) = self.0.as_deref() else { return Vec::new() };
        let last = known.looks.iter().rev().take(known.row);
        last.flat_map(|look| look.sets.iter().cloned()).collect()
    }

    /// It says something else.
    pub fn ends_row(&mut self) {
        if let Some(known) = self.0.as_deref_mut() {
            known.row = 0;
        }
    }

    /// It looks at the set of all tags.
    pub fn lists(&mut self) {
        self.known().collects = true;
    }

    /// Does it collect garbage?
    pub fn is_collecting(&self) -> bool {
        self.0.as_deref().is_some_and(|known| known.collects)
    }

    /// It does what who collects garbage does not.
    pub fn stops_collecting(&mut self) {
        if let Some(known) = self.0.as_deref_mut() {
            known.collects = false;
        }
    }

    /// Of keys that it deletes those which no set names that it looked at, and the sets that stand for the
    /// others, where the other nodes do not know yet, or who reads a copy that was begun since.
    pub fn cover<'a>(
        &mut self,
        (entries, layout): (&Dense<Entry>, &[TagSets]),
        database: usize,
        keys: Vec<&'a [u8]>,
        copies: u64,
    ) -> Covered<'a> {
        let mut covered = Covered { left: keys, by: Vec::new() };
        let Some(known) = self.0.as_deref_mut() else { return covered };
        let looks = known.looks.iter_mut().filter(|look| look.database == database);
        // Whatever it was for that a key is deleted: what was made of it since the look is fenced by all that name it.
        let mut looks: Vec<&mut Looked> = looks
            .filter(|look| covered.left.iter().any(|key| look.names(entries, layout, key)))
            .collect();
        // Of two that name the same the smaller is told. One that is gone may have named anything, and so comes last.
        looks.sort_by_key(|look| {
            let sizes = look.sets.iter().map(|set| members(entries, set).map_or(0, Dense::len));
            (look.has_gone(entries), sizes.sum::<usize>())
        });
        for look in looks {
            look.is_used = true;
            let before = covered.left.len();
            covered.left = look.leave(entries, layout, std::mem::take(&mut covered.left));
            let is_needed = covered.left.len() < before;
            covered.by.push(By {
                sets: look.sets.clone(),
                are_common: look.how == Look::Intersection,
                is_told: !is_needed || look.told.replace(copies) == Some(copies),
            });
        }
        covered
    }

    /// Does it delete a tag's set since all that it names is gone, as those do who collect garbage?
    pub fn collects(
        &self,
        entries: &Dense<Entry>,
        layout: &[TagSets],
        database: usize,
        set: &[u8],
    ) -> bool {
        let Some(known) = self.0.as_deref() else { return false };
        let is_it = |look: &&Looked| {
            look.database == database && look.how == Look::Members && *look.sets[0] == *set
        };
        let looked = known.looks.iter().rev().find(is_it);
        let is_garbage = |look: &Looked| look.told.is_none() && !look.is_used;
        looked.is_some_and(is_garbage) && !names_any(entries, layout, set)
    }
}

/// Of keys those which a look at sets does not find.
pub(super) fn unnamed<'a>(
    entries: &Dense<Entry>,
    layout: &[TagSets],
    (sets, how): (&[&[u8]], Look),
    keys: Vec<&'a [u8]>,
) -> Vec<&'a [u8]> {
    let sets = sets.iter().map(|set| Box::from(*set)).collect();
    Looked { database: 0, sets, how, told: None, is_used: false }.leave(entries, layout, keys)
}

impl Looked {
    /// Has another's clean taken the set that it looked at?
    fn has_gone(&self, entries: &Dense<Entry>) -> bool {
        let mut sets = self.sets.iter();
        self.how == Look::Members && sets.any(|set| members(entries, set).is_none())
    }

    /// Does it name a key?
    fn names(&self, entries: &Dense<Entry>, layout: &[TagSets], key: &[u8]) -> bool {
        let is_in = |set: &[u8]| {
            layout.iter().any(|pair| match (pair.of_value(key), pair.of_set(set)) {
                (Some(value), Some(tag)) if TagSets::are_of_one(&tag, &value) => {
                    // A set that another's clean took may have named it.
                    members(entries, set)
                        .map_or(self.how == Look::Members, |members| members.contains(value.name))
                }
                _ => false,
            })
        };
        match self.how {
            Look::Intersection => self.sets.iter().all(|set| is_in(set)),
            Look::Union | Look::Members => self.sets.iter().any(|set| is_in(set)),
        }
    }

    /// The keys that it does not name.
    fn leave<'a>(
        &self,
        entries: &Dense<Entry>,
        layout: &[TagSets],
        keys: Vec<&'a [u8]>,
    ) -> Vec<&'a [u8]> {
        let are_few = keys.len() * self.sets.len() <= LOOKUPS_MAX;
        if self.how == Look::Intersection || are_few || self.has_gone(entries) {
            return keys.into_iter().filter(|key| !self.names(entries, layout, key)).collect();
        }
        let named = self.sets.iter().flat_map(|set| values(entries, layout, set));
        let named: HashSet<Vec<u8>> = named.collect();
        keys.into_iter().filter(|key| !named.contains(*key)).collect()
    }
}
