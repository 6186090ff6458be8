//! A database at a time: what commands do to keys, whatever the command.

use super::dense::Dense;
use super::error::Error;
use super::eviction::{Eviction, Sets};
use super::value::{Entry, Hash, Set, Value};
use super::{Database, Keyspace};

/// One database of a keyspace, now.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub keyspace: &'a mut Keyspace,
    /// Which database.
    pub at: usize,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

impl View<'_> {
    pub fn database(&mut self) -> &mut Database {
        &mut self.keyspace.databases[self.at]
    }

    pub fn database_ref(&self) -> &Database {
        &self.keyspace.databases[self.at]
    }

    /// Does what no command tells, and tells what came of it where a copy is made.
    pub fn portraying(&mut self, act: impl FnOnce(&mut View<'_>)) {
        let (at, now_ms) = (self.at, self.now_ms);
        self.keyspace.portraying(|keyspace| act(&mut View { keyspace, at, now_ms }));
    }

    /// Is it a lock or a counter?
    pub fn is_own(&self, key: &[u8]) -> bool {
        self.database_ref().entries.get(key).is_some_and(|entry| entry.is_own)
    }

    /// It is a lock or a counter.
    pub fn keep_own(&mut self, key: &[u8]) {
        // Of a cache alone anybody asks.
        if self.keyspace.bounds.eviction == Eviction::LeastRecentlyUsed {
            self.database().entries.change(key, |entry| entry.is_own = true);
        }
    }

    /// Removes a key that has ended.
    pub fn end(&mut self, key: &[u8]) {
        if self.take(key).is_some() {
            self.touch(key);
            self.keyspace.effects.push(self.at, &[b"DEL", key]);
            self.keyspace.expired += 1;
        }
    }

    /// The entry of a key, if it has not ended. It counts as used.
    pub fn entry(&mut self, key: &[u8]) -> Option<&Entry> {
        let commands = self.keyspace.commands as u32;
        let entry = self.peek(key)?;
        entry.used.set(commands);
        Some(entry)
    }

    /// The entry of a key, if it has not ended, for who asks about it, and does not use it.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        let place = self.place(key)?;
        self.database_ref().entries.at(place).map(|(_, entry)| entry)
    }

    /// Where a key stands, if it has not ended.
    fn place(&mut self, key: &[u8]) -> Option<usize> {
        let entries = &self.keyspace.databases[self.at].entries;
        let found = entries.place(key);
        let entry = found.and_then(|place| entries.at(place));
        if entry.is_some_and(|(_, entry)| entry.is_expired(self.now_ms)) {
            self.end(key);
            self.keyspace.looked(false);
            return None;
        }
        self.keyspace.looked(found.is_some());
        found
    }

    /// The hash of a key that was looked at in this command already.
    pub fn peek_hash(&self, key: &[u8]) -> Option<&Hash> {
        match self.keyspace.databases[self.at].entries.get(key).map(|entry| &entry.value) {
            Some(Value::Hash(fields)) => Some(fields),
            _ => None,
        }
    }

    /// The set of a key that was looked at in this command already.
    pub fn peek_set(&self, key: &[u8]) -> Option<&Set> {
        match self.keyspace.databases[self.at].entries.get(key).map(|entry| &entry.value) {
            Some(Value::Set(members)) => Some(members),
            _ => None,
        }
    }

    /// Is a key there? It does not count as used.
    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    pub fn string(&mut self, key: &[u8]) -> Result<Option<&Vec<u8>>, Error> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    pub fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, Error> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::Hash(fields)) => Ok(Some(fields)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    pub fn set(&mut self, key: &[u8]) -> Result<Option<&Set>, Error> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::Set(members)) => Ok(Some(members)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// Says that a key was changed.
    pub fn changed(&mut self, key: &[u8]) {
        self.keyspace.changes += 1;
        self.touch(key);
    }

    /// Tells all who want to know of it.
    fn touch(&mut self, key: &[u8]) {
        self.keyspace.databases[self.at].watches.touch(key);
        if let Some(touched) = &mut self.keyspace.touched {
            touched.add(self.at, key);
        }
    }

    /// Puts an entry under a key, whatever stood there.
    pub fn put(&mut self, key: &[u8], entry: Entry) {
        entry.used.set(self.keyspace.commands as u32);
        let database = self.database();
        database.remember(key, &entry);
        if let Some(old) = database.entries.insert(key, entry) {
            database.forget(key, &old);
        }
        self.changed(key);
    }

    /// Has another entry stand under a key, without a word to who watches it; what stood there.
    pub fn swap(&mut self, key: &[u8], entry: Option<Entry>) -> Option<Entry> {
        let Some(entry) = entry else { return self.take(key) };
        let database = self.database();
        database.remember(key, &entry);
        let before = database.entries.insert(key, entry)?;
        database.forget(key, &before);
        Some(before)
    }

    /// Takes an entry out, without a word to who watches it.
    fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let database = self.database();
        let entry = database.entries.remove(key)?;
        database.forget(key, &entry);
        Some(entry)
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        self.entry(key)?;
        let entry = self.take(key);
        self.changed(key);
        entry
    }

    /// Removes one key of many that are cleaned together, whose memory is freed later; was it there?
    pub fn discard(&mut self, key: &[u8]) -> bool {
        let Some(place) = self.place(key) else { return false };
        let database = self.database();
        let (own, entry) = database.entries.remove_at(place);
        database.forget(&own, &entry);
        self.keyspace.garbage.add_entry(own, entry);
        self.changed(key);
        true
    }

    /// Removes a key, whose memory is freed later where `is_one_of_many`; was it there?
    pub fn remove_one_of(&mut self, key: &[u8], is_one_of_many: bool) -> bool {
        if is_one_of_many { self.discard(key) } else { self.remove(key).is_some() }
    }

    /// Says when a key ends, or that it does not; the key must be there.
    pub fn set_end(&mut self, key: &[u8], expires_ms: Option<i64>) {
        let database = self.database();
        let before = database
            .entries
            .change(key, |entry| std::mem::replace(&mut entry.expires_ms, expires_ms).is_some());
        if let Some(before) = before {
            database.expiring += usize::from(expires_ms.is_some());
            database.expiring -= usize::from(before);
            self.changed(key);
        }
    }

    /// Changes a value, which is made where there is none; `change` says whether it did change it, `None`: it is of
    /// another type. A hash or set that is empty then is removed.
    fn update<T>(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Value,
        change: impl FnOnce(&mut Value) -> Option<(bool, T)>,
    ) -> Result<T, Error> {
        let found = self.place(key);
        let commands = self.keyspace.commands as u32;
        let database = &mut self.keyspace.databases[self.at];
        let (mut is_set, before) = (false, database.entries.entries_bytes());
        let place = found.unwrap_or_else(|| database.entries.add(key, Entry::new(make(), None)));
        let changed = database.entries.change_at(place, |entry| {
            entry.used.set(commands);
            let (is_changed, result) = change(&mut entry.value)?;
            entry.is_own &= !is_changed;
            let is_empty = match &entry.value {
                Value::String(_) => false,
                Value::Hash(fields) => fields.is_empty(),
                Value::Set(members) => members.is_empty(),
            };
            is_set = matches!(entry.value, Value::Set(_));
            Some((is_changed, is_empty, result))
        });
        let (is_changed, is_empty, result) = changed.ok_or(Error::WRONG_TYPE)?;
        if is_set {
            database.sets.number += usize::from(found.is_none());
            database.sets.bytes = (database.sets.bytes + database.entries.entries_bytes()) - before;
        }
        if is_empty {
            self.take(key);
        }
        if is_changed {
            self.changed(key);
        }
        Ok(result)
    }

    /// Changes a hash; see `update`.
    pub fn change_hash<T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Hash) -> (bool, T),
    ) -> Result<T, Error> {
        let make = || Value::Hash(Box::default());
        self.update(key, make, |value| match value {
            Value::Hash(fields) => Some(change(fields)),
            Value::String(_) | Value::Set(_) => None,
        })
    }

    /// Changes a set; see `update`.
    pub fn change_set<T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Set) -> (bool, T),
    ) -> Result<T, Error> {
        let make = || Value::Set(Box::default());
        self.update(key, make, |value| match value {
            Value::Set(members) => Some(change(members)),
            Value::String(_) | Value::Hash(_) => None,
        })
    }

    /// Changes a string in its place, and keeps when it ends.
    pub fn change_string<T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, Error> {
        let make = || Value::String(Vec::new());
        self.update(key, make, |value| match value {
            Value::String(text) => Some((true, change(text))),
            Value::Hash(_) | Value::Set(_) => None,
        })
    }

    /// Puts a string under a key, whatever stood there.
    pub fn put_string(&mut self, key: &[u8], text: Vec<u8>, expires_ms: Option<i64>) {
        self.put(key, Entry::new(Value::String(text), expires_ms));
    }

    /// Puts a set under a key, or removes the key where the set is empty.
    pub fn put_set(&mut self, key: &[u8], members: Dense<()>) {
        if members.is_empty() {
            self.remove(key);
        } else {
            self.put(key, Entry::new(Value::Set(Box::new(members)), None));
        }
    }

    /// Removes all keys of the database.
    pub fn flush(&mut self) {
        let database = self.database();
        let entries = std::mem::take(&mut database.entries);
        (database.expiring, database.unsearched, database.sets) = (0, 0, Sets::default());
        database.watches.touch_all(|key| entries.contains(key));
        self.keyspace.changed_everything();
        self.keyspace.garbage.add(entries);
    }
}
