//! What keeps a cache coherent with those of other nodes: cleans are noticed where a client does them, and
//! told; those of others are done here. What was cleaned when is the fence's to know, for [`super::guard`].

use bytes::Bytes;

use super::clean::Clean;
use super::fence::Fence;
use super::garbage::AT_ONCE_MAX_KEYS;
use super::layout::TagSets;
use super::looks::{self, By, Covered, Look};
use super::named;
use super::own::Own;
use super::told::Told;
use super::view::View;
use super::young::Young;
use super::{Keyspace, glob};

/// How a cache is kept coherent.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Where tags and values stand.
    pub tag_sets: Vec<TagSets>,
    /// Patterns of keys, in any case, which are no other node's business: never told, never fenced, and
    /// never cleaned by key or tag.
    pub private: Vec<Bytes>,
    /// Patterns of keys, in any case, which are lists of all values: who deletes one has emptied the cache.
    pub indexes: Vec<Bytes>,
    /// Keys and tags whose last clean is remembered.
    pub cleans_max: usize,
    /// Bytes of what is told in one turn; beyond it the database is told to be flushed.
    pub told_max_bytes: usize,
    /// A client that says nothing for so long begins anew, in milliseconds.
    pub pause_ms: u64,
    /// One that never pauses does after this, or up to twice this, in milliseconds.
    pub renew_ms: u64,
    /// Nothing is kept that was made of what was cleaned. Switched off to show that a checker notices.
    pub is_fenced: bool,
}

impl Rules {
    /// Is the key a tag's set?
    pub(super) fn is_tag(&self, key: &[u8]) -> bool {
        self.tag_sets.iter().any(|pair| pair.is_set(key))
    }

    /// Is the key that of a value which tags may name?
    pub(super) fn is_tagged(&self, key: &[u8]) -> bool {
        self.tag_sets.iter().any(|pair| pair.is_value(key))
    }

    /// Is the key the set of all tags?
    pub(super) fn is_list(&self, key: &[u8]) -> bool {
        self.tag_sets.iter().any(|pair| pair.list().is_some_and(|list| **list == *key))
    }

    /// Is the key a list of all values?
    pub(super) fn is_index(&self, key: &[u8]) -> bool {
        self.indexes.iter().any(|pattern| glob::matches(pattern, key, true))
    }

    /// Is it no other node's business?
    pub(super) fn is_private(&self, key: &[u8]) -> bool {
        self.private.iter().any(|pattern| glob::matches(pattern, key, true))
    }
}

/// What is cleaned, was cleaned, and is to be told.
#[derive(Debug)]
pub(super) struct Coherence {
    pub rules: Rules,
    pub fence: Fence,
    told: Told,
    pub young: Young,
    /// Copies that were begun: what was told before one is told again.
    pub copies: u64,
    /// A set that a script cleaned as a tag's, where the settings lead from it to nothing.
    pub unknown_set: Option<Box<[u8]>>,
    /// Values that were not kept.
    pub unkept: u64,
    /// Cleans that were done, those of other nodes included.
    pub cleans: u64,
}

impl Keyspace {
    /// From now on cleans are noticed, and what is older than them is not kept.
    pub fn keep_coherent(&mut self, rules: Rules) {
        let fence = Fence::new(self.databases.len(), rules.cleans_max);
        let told_max_bytes = rules.told_max_bytes;
        self.coherence = Some(Box::new(Coherence {
            rules,
            fence,
            told: Told::new(told_max_bytes),
            young: Young::default(),
            copies: 0,
            unknown_set: None,
            unkept: 0,
            cleans: 0,
        }));
    }

    /// What clients have cleaned since the last time, to be told to other nodes.
    pub fn take_cleans(&mut self) -> Vec<Clean> {
        let Some(coherence) = &mut self.coherence else { return Vec::new() };
        coherence.told.take()
    }

    /// A set that a script cleaned as a tag's since the last time, and of which the rules know nothing: other
    /// nodes clean the whole database for it.
    pub fn take_unknown_set(&mut self) -> Option<Box<[u8]>> {
        self.coherence.as_mut()?.unknown_set.take()
    }

    /// The number of the last clean.
    pub(super) fn last_clean(&self) -> u64 {
        self.coherence.as_ref().map_or(0, |coherence| coherence.fence.last())
    }

    /// Cleans what another node has cleaned, or what this one has once more.
    pub fn clean(&mut self, clean: &Clean, now_ms: i64) {
        self.is_reading = false;
        let number = self.databases.len();
        let at = |database: u32| usize::try_from(database).ok().filter(|at| *at < number);
        match clean {
            Clean::Everything => self.clean_databases(0..number, now_ms),
            Clean::Database(database) => {
                self.clean_databases(at(*database).into_iter(), now_ms);
            }
            Clean::Keys { database, keys } => {
                let Some(at) = at(*database) else { return };
                View { keyspace: self, at, now_ms }.portraying(|view| {
                    with(view, |coherence, view| coherence.clean_keys(view, keys));
                });
            }
            Clean::Common { database, sets } => {
                let Some(at) = at(*database) else { return };
                View { keyspace: self, at, now_ms }.portraying(|view| {
                    with(view, |coherence, view| coherence.clean_common(view, sets));
                });
            }
        }
    }

    fn clean_databases(&mut self, databases: impl Iterator<Item = usize>, now_ms: i64) {
        if let Some(coherence) = &mut self.coherence {
            coherence.begin();
        }
        for at in databases {
            if let Some(coherence) = &mut self.coherence {
                coherence.fence.database(at);
            }
            self.effects.push(at, &[b"FLUSHDB"]);
            View { keyspace: self, at, now_ms }.flush();
        }
    }

    /// Cleans were missed, nobody knows which: all databases are emptied, and nothing is kept of who began
    /// before.
    pub fn cleans_were_missed(&mut self) {
        self.clean(&Clean::Everything, 0);
        if let Some(coherence) = &mut self.coherence {
            coherence.fence.everything();
        }
    }
}

impl Keyspace {
    /// Values which a tag of theirs does not name, or not yet, and in which database.
    pub(super) fn unnamed_values(&mut self, now_ms: i64) -> Vec<(usize, Vec<u8>)> {
        let Some(coherence) = &mut self.coherence else { return Vec::new() };
        coherence.young.unnamed(&self.databases, &coherence.rules.tag_sets, now_ms)
    }

    /// Removes what is one server's own, of which nobody tells what became of it.
    pub fn forget_own(&mut self, now_ms: i64) {
        for at in 0..self.databases.len() {
            let mut view = View { keyspace: self, at, now_ms };
            with(&mut view, |coherence, view| {
                let entries = &view.database_ref().entries;
                let own = entries
                    .iter()
                    .filter(|(key, entry)| entry.is_own || coherence.rules.is_private(key));
                let own: Vec<Box<[u8]>> = own.map(|(key, _)| key.into()).collect();
                for key in own {
                    drop(view.remove(&key));
                }
            });
        }
    }
}

/// Does something with what keeps the cache coherent, where it is kept so.
pub(super) fn with(view: &mut View<'_>, act: impl FnOnce(&mut Coherence, &mut View<'_>)) {
    if let Some(mut coherence) = view.keyspace.coherence.take() {
        act(&mut coherence, view);
        view.keyspace.coherence = Some(coherence);
    }
}

impl Coherence {
    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.fence.bytes() + self.young.bytes()
    }

    fn begin(&mut self) -> u64 {
        self.cleans += 1;
        self.fence.begin()
    }

    /// Another node has cleaned these keys.
    fn clean_keys(&mut self, view: &mut View<'_>, keys: &[Bytes]) {
        self.begin();
        let tags = keys.iter().filter(|key| self.rules.is_tag(key) && !self.rules.is_private(key));
        let tags: Vec<&[u8]> = tags.map(|key| &**key).collect();
        let young = self.fence_tags(view, &tags);
        self.remove_all(view, &young);
        for key in keys {
            if self.rules.is_private(key) {
                continue;
            }
            if self.rules.is_tag(key) {
                self.clean_tag(view, key);
            } else if !view.is_own(key) {
                self.fence.key(self.fence.name(view.at, key));
                view.remove(key);
            }
        }
    }

    /// Another node has cleaned what all of these sets name. Where one is no tag's by the settings of this node, the
    /// others stand for it.
    fn clean_common(&mut self, view: &mut View<'_>, sets: &[Bytes]) {
        self.begin();
        let sets = sets.iter().filter(|set| self.rules.is_tag(set) && !self.rules.is_private(set));
        let sets: Vec<&[u8]> = sets.map(|set| &**set).collect();
        let entries = &view.keyspace.databases[view.at].entries;
        let common = named::common(entries, &self.rules.tag_sets, &sets);
        let young = self.fence_common(view, &sets);
        for set in &sets {
            self.take_out(view, set, &common);
        }
        self.remove_all(view, &common);
        self.remove_all(view, &young);
    }

    /// Takes keys out of a tag's set.
    fn take_out(&self, view: &mut View<'_>, set: &[u8], keys: &[Vec<u8>]) {
        if !matches!(view.set(set), Ok(Some(_))) {
            return;
        }
        let values = keys.iter().flat_map(|key| {
            self.rules
                .tag_sets
                .iter()
                .filter(|pair| pair.is_set(set))
                .filter_map(|pair| pair.of_value(key))
        });
        // It is a set, so that there is no error.
        let _ = view.change_set(set, |members| {
            let before = members.len();
            for value in values {
                members.remove(value.name);
            }
            (members.len() < before, ())
        });
    }

    /// Removes what a tag's set names here, and the set.
    fn clean_tag(&self, view: &mut View<'_>, set: &[u8]) {
        let entries = &view.keyspace.databases[view.at].entries;
        let are_many = named::members(entries, set).is_some_and(|own| own.len() > AT_ONCE_MAX_KEYS);
        self.remove_all(view, &named::values(entries, &self.rules.tag_sets, set));
        view.remove_one_of(set, are_many);
        for pair in &self.rules.tag_sets {
            let (Some(tag), Some(list)) = (pair.of_set(set), pair.list()) else { continue };
            if matches!(view.set(list), Ok(Some(_))) {
                // It is a set, so that there is no error.
                let _ = view.change_set(list, |tags| {
                    let is_there = tags.remove(tag.name).is_some();
                    (is_there, ())
                });
            }
        }
    }

    pub fn remove_all(&self, view: &mut View<'_>, keys: &[Vec<u8>]) {
        let are_many = keys.len() > AT_ONCE_MAX_KEYS;
        for key in keys.iter().filter(|key| !self.rules.is_private(key)) {
            // No command says that this goes, too.
            view.keyspace.effects.push(view.at, &[b"DEL", key]);
            view.remove_one_of(key, are_many);
        }
    }

    /// Remembers that tags were cleaned. What was written a moment ago and has one of them, which nobody else
    /// may know yet.
    fn fence_tags(&mut self, view: &View<'_>, sets: &[&[u8]]) -> Vec<Vec<u8>> {
        for set in sets {
            self.fence.tag(self.fence.name(view.at, set));
        }
        if sets.is_empty() || !self.rules.is_fenced {
            return Vec::new();
        }
        let entries = &view.database_ref().entries;
        self.young.with_tags(entries, &self.rules.tag_sets, (view.at, sets), view.now_ms)
    }

    /// Remembers that what all of these sets name was cleaned, of which the smallest stands for it. What was written a
    /// moment ago and may have all of the tags.
    fn fence_common(&mut self, view: &View<'_>, sets: &[&[u8]]) -> Vec<Vec<u8>> {
        let entries = &view.database_ref().entries;
        let Some(smallest) = named::smallest(entries, sets) else { return Vec::new() };
        self.fence.tag(self.fence.name(view.at, smallest));
        if !self.rules.is_fenced {
            return Vec::new();
        }
        self.young.with_all_tags(entries, &self.rules.tag_sets, (view.at, sets), view.now_ms)
    }

    /// A client deletes keys. What is left of what their tags name, to be removed once that is done.
    pub fn deletes(&mut self, view: &mut View<'_>, own: &mut Own, keys: &[&[u8]]) -> Vec<Vec<u8>> {
        let (at, layout) = (view.at, &self.rules.tag_sets);
        let entries = &view.keyspace.databases[at].entries;
        let theirs = keys.iter().copied().filter(|key| {
            !self.rules.is_private(key)
                && !entries.get(key).is_some_and(|entry| entry.is_own)
                && !own.misses(self.fence.name(at, key))
        });
        let (tags, plain): (Vec<&[u8]>, Vec<&[u8]>) =
            theirs.partition(|key| self.rules.is_tag(key));
        let is_garbage = |set: &&[u8]| {
            own.looks.collects(entries, layout, at, set)
                || own.looks.is_collecting() && !entries.contains(set)
        };
        let tags: Vec<&[u8]> = tags.into_iter().filter(|set| !is_garbage(set)).collect();
        let Covered { left: plain, by } =
            own.looks.cover((entries, layout), at, plain, self.copies);
        let mut left: Vec<Vec<u8>> =
            tags.iter().flat_map(|set| named::values(entries, layout, set)).collect();
        if tags.is_empty() && plain.is_empty() && by.is_empty() {
            return left;
        }
        let number = self.begin();
        for key in &plain {
            let name = self.fence.name(at, key);
            own.forgive(&self.fence, at, name, number);
            self.fence.key(name);
        }
        let (common, each): (Vec<By>, Vec<By>) = by.into_iter().partition(|by| by.are_common);
        let of_each = |is_told: bool| {
            let those = each.iter().filter(move |by| is_told || !by.is_told);
            those.flat_map(|by| by.sets.iter().map(|set| &**set))
        };
        let sets: Vec<&[u8]> = of_each(true).chain(tags.clone()).collect();
        self.forgive_tags(at, own, &sets, number);
        left.extend(self.fence_tags(view, &sets));
        for By { sets, is_told, .. } in &common {
            let sets: Vec<&[u8]> = sets.iter().map(|set| &**set).collect();
            left.extend(self.forgive_common(view, own, &sets, number));
            if !is_told {
                self.told.common(at, &sets);
            }
        }
        self.told.keys(at, of_each(false).chain(tags).chain(plain));
        left
    }

    fn forgive_common(
        &mut self,
        view: &View<'_>,
        own: &mut Own,
        sets: &[&[u8]],
        number: u64,
    ) -> Vec<Vec<u8>> {
        let smallest = named::smallest(&view.database_ref().entries, sets);
        self.forgive_tags(view.at, own, smallest.as_slice(), number);
        self.fence_common(view, sets)
    }

    /// A client is about to clean tags itself, with that number.
    fn forgive_tags(&self, database: usize, own: &mut Own, sets: &[&[u8]], number: u64) {
        if !sets.is_empty() {
            own.cleans_tags(self.fence.last_of_tags(), number);
        }
        for set in sets {
            own.forgive(&self.fence, database, self.fence.name(database, set), number);
        }
    }

    /// A client empties databases.
    pub fn flushes(&mut self, own: &mut Own, databases: &[usize], is_everything: bool) {
        let number = self.begin();
        for at in databases {
            own.forgive_flush(&self.fence, *at, number);
            self.fence.database(*at);
            if let Ok(database) = u32::try_from(*at)
                && !is_everything
            {
                self.told.database(database);
            }
        }
        if is_everything {
            self.told.everything();
        }
    }

    /// A client cleans tags with a command that names them.
    pub fn cleans_tags(&mut self, view: &mut View<'_>, own: &mut Own, sets: &[&[u8]]) {
        let gone = self.cleans(view, own, sets);
        self.remove_all(view, &gone);
    }

    /// A client cleans what has one of these tags and another one besides. Of what was written a moment ago that goes
    /// whose tags are not known.
    pub fn cleans_in_part(&mut self, view: &mut View<'_>, own: &mut Own, sets: &[&[u8]]) {
        let mut gone = self.cleans(view, own, sets);
        gone.retain(|key| !self.young.knows(self.fence.name(view.at, key)));
        self.remove_all(view, &gone);
    }

    /// A client cleans tags, but what was written a moment ago and has one of them is given.
    fn cleans(&mut self, view: &View<'_>, own: &mut Own, sets: &[&[u8]]) -> Vec<Vec<u8>> {
        let number = self.begin();
        self.forgive_tags(view.at, own, sets, number);
        self.told.keys(view.at, sets.iter().copied());
        self.fence_tags(view, sets)
    }

    /// A client cleans what all of these tags' sets name, but what was written a moment ago and may have all of the
    /// tags is given.
    fn cleans_common(&mut self, view: &View<'_>, own: &mut Own, sets: &[&[u8]]) -> Vec<Vec<u8>> {
        let number = self.begin();
        self.told.common(view.at, sets);
        self.forgive_common(view, own, sets, number)
    }

    /// A client looks at sets of tags before it deletes what they name. Where nothing is named here, nothing
    /// will be deleted, so that this is the clean; so it is where it asks for those of several tags, which
    /// nobody does but to delete them.
    pub fn looks(
        &mut self,
        view: &mut View<'_>,
        own: &mut Own,
        sets: &[&[u8]],
        how: Look,
        finds: bool,
    ) {
        // What is written from here on will not be among what is deleted, and what the other nodes have may
        // be named by none of it.
        if !finds || how != Look::Members {
            let gone = match how {
                Look::Intersection => self.cleans_common(view, own, sets),
                Look::Union | Look::Members => self.cleans(view, own, sets),
            };
            let gone = if finds { self.not_found(view, (sets, how), &gone) } else { gone };
            self.remove_all(view, &gone);
        }
        if finds {
            own.looks.look(view.at, sets, how, self.copies);
            if how == Look::Members {
                self.looks_at_several(view, own);
            }
        }
    }

    /// Of keys those which a client does not find by its look: what it finds it deletes by itself.
    fn not_found(&self, view: &View<'_>, look: (&[&[u8]], Look), keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let entries = &view.database_ref().entries;
        let left = looks::unnamed(entries, &self.rules.tag_sets, look, keys);
        left.into_iter().map(<[u8]>::to_vec).collect()
    }

    /// Of sets that a client looks at one after another it deletes what is in all of them, as Magento does where SINTER
    /// would take long. Where that is nothing here, nothing will be deleted, so that this is the clean. Who looks at more
    /// of them than a clean names walks over all.
    fn looks_at_several(&mut self, view: &mut View<'_>, own: &mut Own) {
        let row = own.looks.row();
        let sets: Vec<&[u8]> = row.iter().map(|set| &**set).collect();
        let entries = &view.keyspace.databases[view.at].entries;
        if !(2..looks::LOOKS_MAX).contains(&sets.len())
            || own.looks.is_collecting()
            || !named::are_apart(entries, &self.rules.tag_sets, &sets)
        {
            return;
        }
        let gone = self.cleans_common(view, own, &sets);
        self.remove_all(view, &gone);
    }
}
