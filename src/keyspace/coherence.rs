//! What keeps a cache coherent with those of other nodes: cleans are noticed where a client does them, and
//! told; those of others are done here. What was cleaned when is the fence's to know, for [`super::guard`].

use std::collections::VecDeque;

use bytes::Bytes;

use super::clean::Clean;
use super::command::Call;
use super::fence::{Fence, Name};
use super::layout::{Parts, TagSets};
use super::own::{self, Look, Own};
use super::value::{Hash, Set, Value};
use super::view::View;
use super::{Keyspace, glob};

/// One clean has so many bytes as text, but for a key that alone has more.
const TOLD_AT_ONCE_MAX_BYTES: usize = 64 << 10;
/// So many values are remembered whose tags may still be on their way.
const YOUNG_MAX: usize = 1_024;

/// How a cache is kept coherent.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Where tags and values stand.
    pub tag_sets: Vec<TagSets>,
    /// Patterns of keys, in any case, which are no other node's business: never told, never fenced, and
    /// never cleaned by key or tag.
    pub private: Vec<Bytes>,
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

    /// Is it no other node's business?
    pub(super) fn is_private(&self, key: &[u8]) -> bool {
        self.private.iter().any(|pattern| glob::matches(pattern, key, true))
    }
}

/// A value that was written a moment ago.
#[derive(Debug)]
struct Young {
    name: Name,
    database: usize,
    key: Box<[u8]>,
    /// Its tags stand in it, or all have named it.
    is_known: bool,
}

/// What is cleaned, was cleaned, and is to be told.
#[derive(Debug)]
pub(super) struct Coherence {
    pub rules: Rules,
    pub fence: Fence,
    told: Vec<Clean>,
    told_bytes: usize,
    young: VecDeque<Young>,
    /// Values that were not kept.
    pub unkept: u64,
    /// Cleans that were done, those of other nodes included.
    pub cleans: u64,
}

impl Keyspace {
    /// From now on cleans are noticed, and what is older than them is not kept.
    pub fn keep_coherent(&mut self, rules: Rules) {
        let fence = Fence::new(self.databases.len(), rules.cleans_max);
        self.coherence = Some(Box::new(Coherence {
            rules,
            fence,
            told: Vec::new(),
            told_bytes: 0,
            young: VecDeque::new(),
            unkept: 0,
            cleans: 0,
        }));
    }

    /// What clients have cleaned since the last time, to be told to other nodes.
    pub fn take_cleans(&mut self) -> Vec<Clean> {
        let Some(coherence) = &mut self.coherence else { return Vec::new() };
        coherence.told_bytes = 0;
        std::mem::take(&mut coherence.told)
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
                self.portraying(|keyspace| {
                    let mut view = View { keyspace, at, now_ms };
                    with(&mut view, |coherence, view| coherence.clean_keys(view, keys));
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

/// Does something with what keeps the cache coherent, where it is kept so.
pub(super) fn with(view: &mut View<'_>, act: impl FnOnce(&mut Coherence, &mut View<'_>)) {
    if let Some(mut coherence) = view.keyspace.coherence.take() {
        act(&mut coherence, view);
        view.keyspace.coherence = Some(coherence);
    }
}

impl Coherence {
    fn begin(&mut self) -> u64 {
        self.cleans += 1;
        self.fence.begin()
    }

    /// Another node has cleaned these keys.
    fn clean_keys(&mut self, view: &mut View<'_>, keys: &[Bytes]) {
        self.begin();
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

    /// Removes what a tag's set names here, and the set.
    fn clean_tag(&mut self, view: &mut View<'_>, set: &[u8]) {
        let mut gone = self.fence_tag(view, set);
        let entries = &view.keyspace.databases[view.at].entries;
        gone.extend(own::values(entries, &self.rules.tag_sets, set));
        self.remove_all(view, &gone);
        view.remove(set);
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

    fn remove_all(&self, view: &mut View<'_>, keys: &[Vec<u8>]) {
        for key in keys.iter().filter(|key| !self.rules.is_private(key)) {
            // No command says that this goes, too.
            view.keyspace.effects.push(view.at, &[b"DEL", key]);
            view.remove(key);
        }
    }

    /// Remembers that a tag was cleaned. What was written a moment ago and has it, which nobody else may know
    /// yet.
    fn fence_tag(&mut self, view: &View<'_>, set: &[u8]) -> Vec<Vec<u8>> {
        self.fence.tag(self.fence.name(view.at, set));
        let mut gone = Vec::new();
        for pair in self.rules.tag_sets.iter().filter(|_| self.rules.is_fenced) {
            let Some(tag) = pair.of_set(set) else { continue };
            let members = own::members(&view.database_ref().entries, set);
            let young = self.young.iter().filter(|young| {
                young.database == view.at && may_have(view, pair, &tag, members, young)
            });
            gone.extend(young.map(|it| it.key.to_vec()));
        }
        gone
    }

    /// A value was written; its tags' sets may name it only later. What to call it where nothing else says
    /// which tags it has.
    pub fn is_young(&mut self, view: &View<'_>, key: &[u8]) -> Option<Name> {
        if !self.rules.is_tagged(key) {
            return None;
        }
        let entry = view.database_ref().entries.get(key)?;
        let is_known = matches!(&entry.value, Value::Hash(fields) if tags_of(fields).is_some());
        if self.young.len() == YOUNG_MAX {
            self.young.pop_front();
        }
        let name = self.fence.name(view.at, key);
        self.young.push_back(Young { name, database: view.at, key: key.into(), is_known });
        (!is_known).then_some(name)
    }

    /// All tags of these values have named them.
    pub fn settle(&mut self, names: &[Name]) {
        for young in self.young.iter_mut().filter(|young| names.contains(&young.name)) {
            young.is_known = true;
        }
    }

    /// Tells that keys of a database were cleaned.
    fn tell_keys<'k>(&mut self, database: usize, keys: impl Iterator<Item = &'k [u8]>) {
        let Ok(database) = u32::try_from(database) else { return };
        let covers =
            |told: &Clean| *told == Clean::Everything || *told == Clean::Database(database);
        if self.told.iter().any(covers) {
            return;
        }
        let keys = keys.map(Bytes::copy_from_slice).collect();
        for clean in Clean::of_keys(database, keys, TOLD_AT_ONCE_MAX_BYTES) {
            self.told_bytes = self.told_bytes.saturating_add(clean.bytes());
            self.told.push(clean);
        }
        if self.told_bytes > self.rules.told_max_bytes {
            self.tell_database(database);
        }
    }

    fn tell_database(&mut self, database: u32) {
        let is_covered = |told: &Clean| match told {
            Clean::Keys { database: own, .. } | Clean::Database(own) => *own == database,
            Clean::Everything => false,
        };
        self.told.retain(|told| !is_covered(told));
        if !self.told.contains(&Clean::Everything) {
            self.told.push(Clean::Database(database));
        }
    }

    /// A client deletes keys. What is left of what their tags name, to be removed once that is done.
    fn deletes(&mut self, view: &mut View<'_>, own: &mut Own, keys: &[&[u8]]) -> Vec<Vec<u8>> {
        let (at, layout) = (view.at, &self.rules.tag_sets);
        let entries = &view.keyspace.databases[at].entries;
        let theirs = keys.iter().copied().filter(|key| {
            !self.rules.is_private(key) && !entries.get(key).is_some_and(|entry| entry.is_own)
        });
        let (tags, plain): (Vec<&[u8]>, Vec<&[u8]>) =
            theirs.partition(|key| self.rules.is_tag(key));
        let tags: Vec<&[u8]> =
            tags.into_iter().filter(|set| !own.collects(entries, layout, at, set)).collect();
        let (plain, sets) = own.cover(entries, layout, at, plain);
        let mut left: Vec<Vec<u8>> =
            tags.iter().flat_map(|set| own::values(entries, layout, set)).collect();
        if tags.is_empty() && plain.is_empty() && sets.is_empty() {
            return left;
        }
        let number = self.begin();
        for key in &plain {
            let name = self.fence.name(at, key);
            own.forgive(&self.fence, at, name, number);
            self.fence.key(name);
        }
        let sets: Vec<&[u8]> = sets.iter().map(|set| &**set).chain(tags).collect();
        for set in &sets {
            own.forgive(&self.fence, at, self.fence.name(at, set), number);
            left.extend(self.fence_tag(view, set));
        }
        self.tell_keys(at, sets.into_iter().chain(plain));
        left
    }

    /// A client empties databases.
    fn flushes(&mut self, own: &mut Own, databases: &[usize], is_everything: bool) {
        let number = self.begin();
        for at in databases {
            own.forgive_flush(&self.fence, *at, number);
            self.fence.database(*at);
            if let Ok(database) = u32::try_from(*at)
                && !is_everything
            {
                self.tell_database(database);
            }
        }
        if is_everything {
            self.told = vec![Clean::Everything];
        }
    }

    /// A client cleans tags with a command that names them.
    fn cleans_tags(&mut self, view: &mut View<'_>, own: &mut Own, sets: &[&[u8]]) {
        let number = self.begin();
        for set in sets {
            own.forgive(&self.fence, view.at, self.fence.name(view.at, set), number);
            let gone = self.fence_tag(view, set);
            self.remove_all(view, &gone);
        }
        self.tell_keys(view.at, sets.iter().copied());
    }

    /// A client looks at sets of tags before it deletes what they name. Where nothing is named here, nothing
    /// will be deleted, so that this is the clean.
    fn looks(
        &mut self,
        view: &mut View<'_>,
        own: &mut Own,
        sets: &[&[u8]],
        how: Look,
        finds: bool,
    ) {
        let entries = &view.keyspace.databases[view.at].entries;
        let named = match how {
            Look::Intersection => own::smallest(entries, sets).into_iter().collect(),
            Look::Union | Look::Members => sets.to_vec(),
        };
        if !finds {
            self.cleans_tags(view, own, &named);
            return;
        }
        own.look(view.at, sets, how);
        if how != Look::Members {
            // What is written from here on will not be among what is deleted.
            let number = self.begin();
            for set in named {
                let name = self.fence.name(view.at, set);
                own.forgive(&self.fence, view.at, name, number);
                self.fence.tag(name);
            }
        }
    }
}

/// May a value have a tag that has not named it yet?
fn may_have(
    view: &View<'_>,
    pair: &TagSets,
    tag: &Parts<'_>,
    members: Option<&Set>,
    young: &Young,
) -> bool {
    let Some(value) = pair.of_value(&young.key) else { return false };
    let Some(entry) = view.database_ref().entries.get(&young.key) else { return false };
    let tags = match &entry.value {
        Value::Hash(fields) => tags_of(fields),
        _ => None,
    };
    let is_named = || members.is_some_and(|members| members.contains(value.name));
    TagSets::are_of_one(tag, &value)
        && match tags {
            Some(tags) => tags.split(|byte| *byte == b',').any(|one| *one == *tag.name),
            None => !young.is_known || is_named(),
        }
}

/// The field in which `Cm_Cache_Backend_Redis` keeps the tags of a value.
pub(super) const TAGS: &[u8] = b"t";

/// The tags that stand in a value, with commas between them.
pub(super) fn tags_of(fields: &Hash) -> Option<&[u8]> {
    fields.get(TAGS).map(|tags| &**tags)
}

/// What commands say of cleans.
impl Call<'_> {
    fn cleans(&mut self, act: impl FnOnce(&mut Coherence, &mut View<'_>, &mut Own)) {
        let own = &mut self.client.own;
        with(&mut self.view, |coherence, view| act(coherence, view, own));
    }

    /// The client deletes keys, before it does. What is left of what their tags name, for
    /// [`Call::remove_left`].
    pub fn deletes(&mut self, keys: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut left = Vec::new();
        self.cleans(|coherence, view, own| left = coherence.deletes(view, own, keys));
        left
    }

    /// Removes what came between the client's look at a tag and its clean.
    pub fn remove_left(&mut self, left: &[Vec<u8>]) {
        if !left.is_empty() {
            self.cleans(|coherence, view, _| coherence.remove_all(view, left));
        }
    }

    /// The client empties databases, each for itself.
    pub fn flushes(&mut self, databases: &[usize]) {
        self.cleans(|coherence, _, own| coherence.flushes(own, databases, false));
    }

    /// The client empties all databases.
    pub fn flushes_everything(&mut self) {
        let all: Vec<usize> = (0..self.view.keyspace.databases.len()).collect();
        self.cleans(|coherence, _, own| coherence.flushes(own, &all, true));
    }

    /// The client cleans tags as a whole. `values` are told where the settings do not lead to them.
    pub fn cleans_tags(&mut self, sets: &[&[u8]], values: &[Vec<u8>]) {
        if sets.is_empty() {
            return;
        }
        self.cleans(|coherence, view, own| {
            coherence.cleans_tags(view, own, sets);
            if !sets.iter().all(|set| coherence.rules.is_tag(set)) {
                for key in values {
                    coherence.fence.key(coherence.fence.name(view.at, key));
                }
                coherence.tell_keys(view.at, values.iter().map(Vec::as_slice));
            }
        });
    }

    /// The client looks at these sets; `finds`: something is in what it asks for.
    pub fn looks(&mut self, sets: &[&[u8]], how: Look, finds: bool) {
        let Some(coherence) = &self.view.keyspace.coherence else { return };
        if sets.iter().all(|set| coherence.rules.is_tag(set)) {
            self.cleans(|coherence, view, own| coherence.looks(view, own, sets, how, finds));
        }
    }

    /// A tag's set moves to where no clean finds it: what it names is about to be deleted.
    pub fn moves(&mut self, set: &[u8]) {
        self.cleans(|coherence, view, own| {
            if coherence.rules.is_tag(set) && view.contains(set) {
                coherence.cleans_tags(view, own, &[set]);
            }
        });
    }

    /// The client begins anew.
    pub fn begins(&mut self) {
        let last = self.view.keyspace.last_clean();
        self.client.own.begin(last);
    }
}
