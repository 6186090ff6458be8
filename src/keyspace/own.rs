//! What is known of one client as a writer of a cache: since when it may know what it writes, and what of it was
//! not kept.

use std::collections::{HashMap, HashSet, VecDeque};

use super::coherence::Rules;
use super::dense::Dense;
use super::fence::{Fence, Name};
use super::looks::Looks;
use super::value::Entry;

/// So many keys that were not kept, or that the client cleaned itself, are known of one client; beyond it what
/// it writes is not kept until its next beginning.
const NAMES_MAX: usize = 4_096;
/// A client reads back what was not kept of at most so many bytes.
const SHADOW_MAX_BYTES: usize = 4 << 20;
/// So many values are remembered whose tags are still to name them.
const FRESH_MAX: usize = 256;
/// A value whose tags are not known by its command.
#[derive(Debug)]
struct Doubtful {
    database: usize,
    key: Box<[u8]>,
    name: Name,
    is_named: bool,
}

/// What a client wrote last of what was not kept: it alone reads it.
#[derive(Debug)]
pub(super) struct Shadow {
    pub database: usize,
    pub key: Box<[u8]>,
    pub name: Name,
    pub entry: Entry,
}

#[derive(Debug, Default)]
struct Known {
    unkept: HashSet<Name>,
    /// The last of them, so that who reads back what it wrote finds it.
    shadow: Option<Shadow>,
    /// Keys and tags it cleaned itself, with the number of that clean.
    forgiven: HashMap<Name, u64>,
    /// Databases it flushed itself, likewise.
    flushed: Vec<(usize, u64)>,
    doubtful: Vec<Doubtful>,
    /// Values whose tags name them later; whether one has.
    fresh: VecDeque<(Name, bool)>,
    /// A tag named something in this turn.
    names: bool,
    /// Of what it did before it began anew in this turn: values that tags have named, and those that none has.
    settled: Vec<Name>,
    unnamed: Vec<(usize, Box<[u8]>)>,
}

/// A client as a writer.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The number of the last clean when it began.
    mark: u64,
    /// The mark that it gets where it never pauses, and since when that is known.
    next: (u64, u64),
    /// The last clean of tags, where it was its own, as were all since it began.
    cleaned: u64,
    /// The value that it wrote last.
    written: Option<Name>,
    /// What it wrote last, or what was not kept, and did not find again.
    missed: Option<Name>,
    /// When it was heard last, in milliseconds of any monotonic clock.
    heard_ms: Option<u64>,
    known: Option<Box<Known>>,
    /// What it looked at before it cleans.
    pub looks: Looks,
}

impl Own {
    /// It says something, at a time of a monotonic clock: after a pause that is the beginning of new work.
    /// Amid a transaction it is not: that goes on.
    pub fn hear(&mut self, last: u64, now_ms: u64, rules: &Rules, is_amid: bool) {
        let before = self.heard_ms.replace(now_ms);
        if is_amid {
            return;
        }
        if before.is_none_or(|before| now_ms.saturating_sub(before) >= rules.pause_ms) {
            self.begin(last);
            self.next = (last, now_ms);
        } else if now_ms.saturating_sub(self.next.1) >= rules.renew_ms {
            self.mark = self.next.0;
            self.next = (last, now_ms);
            if let Some(known) = self.known.as_deref_mut() {
                known.shadow = None;
            }
        }
    }

    /// It was heard until then.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = Some(now_ms);
    }

    /// From here on it knows what was cleaned before. No more tags come for what it wrote up to here.
    pub fn begin(&mut self, last: u64) {
        if let Some(known) = self.known.as_deref_mut() {
            known.names = false;
        }
        let (settled, unnamed) = (self.take_settled(), self.take_unnamed());
        (self.mark, self.cleaned) = (last, 0);
        (self.written, self.missed, self.known) = (None, None, None);
        self.looks = Looks::default();
        if !settled.is_empty() || !unnamed.is_empty() {
            self.known = Some(Box::new(Known { settled, unnamed, ..Known::default() }));
        }
    }

    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// It cleans tags itself, with that number; the last clean of any tag was `before`.
    pub fn cleans_tags(&mut self, before: u64, number: u64) {
        if !self.is_any_tag_late(before) {
            self.cleaned = number;
        }
    }

    /// Was any tag cleaned since by another, the last one being that?
    pub fn is_any_tag_late(&self, last_of_tags: u64) -> bool {
        self.mark.max(self.cleaned) < last_of_tags
    }

    fn known(&mut self) -> &mut Known {
        self.known.get_or_insert_default()
    }

    /// Was the database cleaned since by another?
    fn is_database_late(&self, fence: &Fence, database: usize) -> bool {
        let cleaned = fence.of_database(database);
        let is_own = |known: &Known| known.flushed.contains(&(database, cleaned));
        cleaned > self.mark && !self.known.as_deref().is_some_and(is_own)
    }

    /// Is it so old that nobody knows what was cleaned since? So is who went over a restart.
    pub fn knows_nothing(&self, fence: &Fence) -> bool {
        self.mark < fence.floor()
    }

    /// Was a key, or the tag whose set it is, cleaned since by another?
    pub fn is_late(&self, fence: &Fence, database: usize, name: Name) -> bool {
        if self.mark >= fence.last() {
            return false;
        }
        let forgiven = |known: &Known| known.forgiven.get(&name).copied();
        match fence.of_name(name).filter(|number| *number > self.mark) {
            Some(number) => {
                self.known.as_deref().and_then(forgiven) != Some(number)
                    || fence.of_everything() > number
                    || self.is_database_late(fence, database)
            }
            None => self.knows_nothing(fence) || self.is_database_late(fence, database),
        }
    }

    /// It cleans a key or tag itself, with that number: what it writes afterwards is kept.
    pub fn forgive(&mut self, fence: &Fence, database: usize, name: Name, number: u64) {
        let is_late = self.is_late(fence, database, name);
        let known = self.known();
        known.unkept.remove(&name);
        known.shadow.take_if(|shadow| shadow.name == name);
        if !is_late && (known.forgiven.len() < NAMES_MAX || known.forgiven.contains_key(&name)) {
            known.forgiven.insert(name, number);
        }
    }

    /// It flushes a database itself.
    pub fn forgive_flush(&mut self, fence: &Fence, database: usize, number: u64) {
        let is_late = self.is_database_late(fence, database);
        let known = self.known();
        known.flushed.retain(|(own, _)| *own != database);
        known.shadow.take_if(|shadow| shadow.database == database);
        if !is_late {
            known.flushed.push((database, number));
        }
    }

    /// What it wrote under a key was not kept; nothing that it adds to it is.
    pub fn not_kept(&mut self, name: Name) {
        let known = self.known();
        if known.unkept.len() < NAMES_MAX {
            known.unkept.insert(name);
        }
    }

    /// What was not kept of it, for itself, instead of what there was.
    pub fn shade(&mut self, shadow: Shadow) {
        let bytes = Dense::cost(&shadow.key, &shadow.entry);
        self.known().shadow = Some(shadow).filter(|_| bytes <= SHADOW_MAX_BYTES);
    }

    /// What was not kept under that key.
    pub fn take_shadow(&mut self, database: usize, key: &[u8]) -> Option<Shadow> {
        let shadow = &mut self.known.as_deref_mut()?.shadow;
        shadow.take_if(|shadow| shadow.database == database && *shadow.key == *key)
    }

    /// It wrote a value, kept or not.
    pub fn writes(&mut self, name: Name) {
        if self.written.replace(name) != Some(name) {
            self.missed = None;
            if let Some(known) = self.known.as_deref_mut() {
                known.shadow.take_if(|shadow| shadow.name != name);
            }
        }
    }

    /// Was anything not kept that it wrote?
    pub fn has_unkept(&self) -> bool {
        self.known.as_deref().is_some_and(|known| !known.unkept.is_empty())
    }

    /// Did it write something that it may look for?
    pub fn may_miss(&self) -> bool {
        self.written.is_some() || self.has_unkept()
    }

    /// It read a key.
    pub fn reads(&mut self, name: Name, is_there: bool) {
        let misses = self.is_unkept(name) || self.written == Some(name) && !is_there;
        self.missed = misses.then_some(name);
    }

    /// What it did not find is no longer what it is at.
    pub fn misses_nothing(&mut self) {
        self.missed = None;
    }

    /// It has deleted something.
    pub fn deleted(&mut self) {
        (self.written, self.missed) = (None, None);
    }

    /// Did it look for what it wrote there, in vain? Who then deletes it, deletes its own.
    pub fn misses(&self, name: Name) -> bool {
        self.missed == Some(name)
    }

    pub fn is_unkept(&self, name: Name) -> bool {
        self.known
            .as_deref()
            .is_some_and(|known| known.unkept.contains(&name) || known.unkept.len() >= NAMES_MAX)
    }

    /// It wrote a value whose tags are still to come; false: there are too many.
    pub fn doubt(&mut self, database: usize, key: &[u8], name: Name) -> bool {
        let doubtful = &mut self.known().doubtful;
        if doubtful.len() >= FRESH_MAX {
            return false;
        }
        doubtful.push(Doubtful { database, key: key.into(), name, is_named: false });
        true
    }

    /// It wrote one, and nothing says which tags will name it.
    pub fn wrote(&mut self, name: Name) {
        let fresh = &mut self.known().fresh;
        if fresh.len() == FRESH_MAX {
            fresh.pop_front();
        }
        fresh.push_back((name, false));
    }

    /// Has it written what tags are to name?
    pub fn awaits_names(&self) -> bool {
        let awaits = |known: &Known| !known.doubtful.is_empty() || !known.fresh.is_empty();
        self.known.as_deref().is_some_and(awaits)
    }

    /// Is there anything to be settled at the end of a turn?
    pub fn has_to_settle(&self) -> bool {
        let has = |known: &Known| !known.settled.is_empty() || !known.unnamed.is_empty();
        self.awaits_names() || self.known.as_deref().is_some_and(has)
    }

    /// Values that tags have named, once no more come.
    pub fn take_settled(&mut self) -> Vec<Name> {
        let Some(known) = self.known.as_deref_mut() else { return Vec::new() };
        let mut settled = std::mem::take(&mut known.settled);
        if !std::mem::take(&mut known.names) {
            let named = known.fresh.iter().filter(|(_, is_named)| *is_named);
            settled.extend(named.map(|(name, _)| *name));
            known.fresh.retain(|(_, is_named)| !is_named);
        }
        settled
    }

    /// No more tags name a value.
    pub fn settle(&mut self, name: Name) {
        if let Some(known) = self.known.as_deref_mut() {
            known.fresh.retain(|(fresh, _)| *fresh != name);
        }
    }

    /// A tag names a value, which was not cleaned.
    pub fn name(&mut self, name: Name) {
        let Some(known) = self.known.as_deref_mut() else { return };
        known.names = true;
        for it in known.doubtful.iter_mut().filter(|it| it.name == name) {
            it.is_named = true;
        }
        for (_, is_named) in known.fresh.iter_mut().filter(|(fresh, _)| *fresh == name) {
            *is_named = true;
        }
    }

    /// Values that no tag named in their turn.
    pub fn take_unnamed(&mut self) -> Vec<(usize, Box<[u8]>)> {
        let Some(known) = self.known.as_deref_mut() else { return Vec::new() };
        let mut unnamed = std::mem::take(&mut known.unnamed);
        let doubtful = std::mem::take(&mut known.doubtful).into_iter().filter(|it| !it.is_named);
        unnamed.extend(doubtful.map(|it| (it.database, it.key)));
        unnamed
    }
}
