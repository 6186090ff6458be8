//! A copy of all databases while they are in use: commands that make the same of an empty keyspace.
//!
//! The rows are walked from the back in turns, each key told by commands that make it what it is, and what
//! clients do between two turns is told in between, in its order. Played again in that order, all of it
//! gives what the databases are at the last turn, and nothing older: a value whose tag does not name it
//! would outlive each clean of that tag. Why that is so:
//!
//! - A key that is there all the time is walked over, since keys only ever move towards the front. What was
//!   told of it before is overridden by that; what is told afterwards comes on top.
//! - A key that is made meanwhile is told whole by the commands that make it. Those that make it of others
//!   (RENAME, SUNIONSTORE) could be told before these were walked over: what came of them is told instead.
//! - A large set or hash is walked over in several turns, by the same rules for its own row.

use bytes::{Bytes, BytesMut};

use super::Keyspace;
use super::command;
use super::dense::{Dense, Heap};
use super::value::{Entry, Value};
use crate::resp::write;

/// Keys, fields and members that one turn tells at most, however small they are.
const TURN_MAX: usize = 500;

/// How far a copy is.
#[derive(Debug)]
pub struct Copying {
    /// Databases from this one on were walked over.
    database: usize,
    /// Keys of the one before it that were not.
    left: Option<usize>,
    /// A key of which a part was told, and how much of it was not.
    within: Option<(Box<[u8]>, usize)>,
}

/// A part of a copy: commands to be played in this order.
#[derive(Debug, Default)]
pub struct Part {
    /// What clients did since the part before.
    pub done: Bytes,
    /// Keys as they are now.
    pub copied: Bytes,
}

/// Databases were swapped under the copy, which is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("databases were swapped meanwhile (SWAPDB)")]
pub struct Swapped;

impl Copying {
    /// Was everything walked over? What clients do goes on to be told.
    pub fn is_over(&self) -> bool {
        self.database == 0 && self.left.is_none() && self.within.is_none()
    }
}

impl Keyspace {
    /// Begins a copy; there is one at a time, and it is ended by [`Keyspace::end_copy`].
    pub fn begin_copy(&mut self) -> Copying {
        self.effects.begin_copy();
        if let Some(coherence) = &mut self.coherence {
            coherence.copies += 1;
        }
        Copying { database: self.databases.len(), left: None, within: None }
    }

    /// What clients do is not kept any more.
    pub fn end_copy(&mut self) {
        self.effects.end_copy();
    }

    /// The next part of a copy, of which about `max_bytes` are keys that were walked over. It ends in the midst
    /// of a large set or hash, but not of a value.
    pub fn copy_part(
        &mut self,
        copying: &mut Copying,
        now_ms: i64,
        max_bytes: usize,
    ) -> Result<Part, Swapped> {
        if self.effects.is_spoiled {
            return Err(Swapped);
        }
        let (done, mut out, mut told) = (self.effects.take(), BytesMut::new(), 0);
        while out.len() < max_bytes && told < TURN_MAX && !copying.is_over() {
            told += self.copy_step(copying, now_ms, max_bytes, TURN_MAX - told, &mut out);
        }
        Ok(Part { done, copied: out.freeze() })
    }

    /// The last part of a copy that is over. A value whose tags were to come is not in it: they may never come
    /// to who plays it, and no clean would reach it.
    pub fn end_of_copy(
        &mut self,
        copying: &mut Copying,
        now_ms: i64,
        max_bytes: usize,
    ) -> Result<Part, Swapped> {
        let Part { done, copied } = self.copy_part(copying, now_ms, max_bytes)?;
        let mut out = BytesMut::from(&copied[..]);
        for (at, key) in self.unnamed_values(now_ms) {
            write::command(&mut out, &[b"SELECT", at.to_string().as_bytes()]);
            write::command(&mut out, &[b"DEL", &key]);
        }
        Ok(Part { done, copied: out.freeze() })
    }

    /// Tells one key, or more of one; how many keys, fields or members.
    fn copy_step(
        &self,
        copying: &mut Copying,
        now_ms: i64,
        max_bytes: usize,
        count_max: usize,
        out: &mut BytesMut,
    ) -> usize {
        let (at, place, before) = match (copying.within.take(), copying.left) {
            (Some((key, left)), _) => {
                let at = copying.database;
                // One that has gone meanwhile was told to be gone.
                let place = self.databases[at].entries.place(&key);
                (at, place, Some(left))
            }
            (None, Some(left)) => {
                let at = copying.database;
                let place = left.min(self.len(at)).checked_sub(1);
                copying.left = place;
                (at, place, None)
            }
            (None, None) => {
                copying.database -= 1;
                copying.left = Some(self.len(copying.database));
                return 0;
            }
        };
        let found = place.and_then(|place| self.databases[at].entries.at(place));
        let Some((key, entry)) = found.filter(|(_, entry)| !entry.is_expired(now_ms)) else {
            return 1;
        };
        let (told, left) = tell(at, key, entry, before, (max_bytes, count_max), out);
        copying.within = left.map(|left| (key.into(), left));
        told
    }

    /// A command changes keys by what others hold, while a copy is made: what came of them is told.
    pub(super) fn tell_touched(&mut self) {
        let touched = self.touched.take().unwrap_or_default();
        self.effects.is_spoiled |= touched.everything;
        for (at, key) in touched.keys {
            let mut out = BytesMut::new();
            command::portrait(at, &key, self.databases[at].entries.get(&key), &mut out);
            self.effects.push_raw(at, &out);
        }
    }

    /// Does what no command tells, and tells what came of it where a copy is made.
    pub(super) fn portraying(&mut self, act: impl FnOnce(&mut Self)) {
        if !self.effects.is_copied {
            return act(self);
        }
        self.keep_touched(true);
        act(self);
        self.tell_touched();
    }

    /// Goes on with what `before` knows of cleans, in its place.
    pub fn take_coherence(&mut self, before: &mut Self) {
        self.coherence = before.coherence.take();
    }

    /// Ends what was played again without a bound of memory: keeps to one from now on, and counts what is
    /// done from here on alone.
    pub fn end_replay(&mut self, memory_max_bytes: usize, now_ms: i64) {
        self.limit_memory(memory_max_bytes);
        self.make_room(now_ms, 0);
        (self.hits, self.misses, self.expired, self.refused) = (0, 0, 0, 0);
        (self.evicted, self.resets) = (0, 0);
        drop(self.take_effects());
    }
}

/// Tells a key, or what stands in its row before a place; how much that was, and what is left.
fn tell(
    database: usize,
    key: &[u8],
    entry: &Entry,
    before: Option<usize>,
    (max_bytes, count_max): (usize, usize),
    out: &mut BytesMut,
) -> (usize, Option<usize>) {
    write::command(out, &[b"SELECT", database.to_string().as_bytes()]);
    if before.is_none() {
        write::command(out, &[b"DEL", key]);
    }
    let (told, left) = match (&entry.value, before) {
        (Value::String(text), None) => {
            write::command(out, &[b"SET", key, text]);
            (1, None)
        }
        // It was something else when it was begun, and that it is this was told.
        (Value::String(_), Some(_)) => return (1, None),
        (Value::Hash(fields), before) => {
            let (words, left) = row(fields, before, max_bytes, count_max, |field, value, words| {
                words.extend([field, &**value]);
                value.len()
            });
            command_of(b"HSET", key, &words, out);
            (words.len() / 2, left)
        }
        (Value::Set(members), before) => {
            let (words, left) = row(members, before, max_bytes, count_max, |member, (), words| {
                words.push(member);
                0
            });
            command_of(b"SADD", key, &words, out);
            (words.len(), left)
        }
    };
    if entry.is_own {
        write::command(out, &[b"PARVIS.OWN", key]);
    }
    // With each part: what was told of the key may have been taken out again, and its end with it.
    if let Some(end) = entry.expires_ms {
        write::command(out, &[b"PEXPIREAT", key, end.to_string().as_bytes()]);
    }
    (told.max(1), left)
}

fn command_of(name: &[u8], key: &[u8], words: &[&[u8]], out: &mut BytesMut) {
    if !words.is_empty() {
        let all: Vec<&[u8]> = [name, key].into_iter().chain(words.iter().copied()).collect();
        write::command(out, &all);
    }
}

/// Words of a row from the back, and how much is left of it.
fn row<'a, V: Heap>(
    row: &'a Dense<V>,
    before: Option<usize>,
    max_bytes: usize,
    count_max: usize,
    take: impl Fn(&'a [u8], &'a V, &mut Vec<&'a [u8]>) -> usize,
) -> (Vec<&'a [u8]>, Option<usize>) {
    let (mut words, mut bytes, mut count) = (Vec::new(), 0, 0);
    let mut left = before.unwrap_or(usize::MAX).min(row.len());
    while left > 0 && bytes < max_bytes && count < count_max {
        left -= 1;
        if let Some((name, value)) = row.at(left) {
            bytes += name.len() + take(name, value, &mut words);
            count += 1;
        }
    }
    (words, (left > 0).then_some(left))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::keyspace::{Bounds, Eviction, Session};
    use crate::resp::{Limits, ReadState, Request, read_request};

    const LIMITS: Limits = Limits {
        inline_max_bytes: 64 << 10,
        bulk_max_bytes: 64 << 20,
        arguments_max: 1 << 20,
        request_max_bytes: 64 << 20,
    };

    fn keyspace(memory_max_bytes: usize, eviction: Eviction) -> Keyspace {
        Keyspace::new(Bounds { databases: 3, memory_max_bytes, eviction, ..Bounds::default() }, 3)
    }

    fn say(keyspace: &mut Keyspace, session: &mut Session, now_ms: i64, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        session.execute(keyspace, &Request::pack(&words), now_ms, &mut out);
    }

    fn play(again: &mut Keyspace, session: &mut Session, bytes: &Bytes) {
        let mut bytes = BytesMut::from(&bytes[..]);
        let mut state = ReadState::default();
        while let Some(told) = read_request(&mut bytes, &LIMITS, &mut state).expect("ours") {
            let mut out = BytesMut::new();
            session.execute(again, &told, 0, &mut out);
            assert_ne!(out[0], b'-', "{told:?}: {out:?}");
        }
        assert!(bytes.is_empty());
    }

    fn contents(keyspace: &Keyspace, now_ms: i64) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (at, database) in keyspace.databases.iter().enumerate() {
            for (key, entry) in database.entries.iter() {
                let mut parts: Vec<String> = match &entry.value {
                    Value::String(text) => vec![text.escape_ascii().to_string()],
                    Value::Hash(fields) => fields
                        .iter()
                        .map(|(a, b)| format!("{}={}", a.escape_ascii(), b.escape_ascii()))
                        .collect(),
                    Value::Set(members) => {
                        members.iter().map(|(it, ())| it.escape_ascii().to_string()).collect()
                    }
                };
                parts.sort();
                if !entry.is_expired(now_ms) {
                    let key = format!("{at} {}", key.escape_ascii());
                    all.insert(key, format!("{:?} {}", entry.expires_ms, parts.join(" ")));
                }
            }
        }
        all
    }

    fn random_command(keyspace: &mut Keyspace, round: usize) -> String {
        let key = keyspace.random_below(40);
        let (other, number) = (keyspace.random_below(40), keyspace.random_below(300));
        match keyspace.random_below(24) {
            0..4 => format!("SADD s{} m{number} n{round}", key % 8),
            4 => format!("SREM s{} m{number}", key % 8),
            5 => format!("DEL k{key} s{}", other % 8),
            6 => format!("SET k{key} {}", "x".repeat(other * 10)),
            7 => format!("SUNIONSTORE s{} s{} s{}", key % 8, other % 8, number % 8),
            8 => format!("RENAME k{key} k{other}"),
            9 => format!("SMOVE s{} s{} m{number}", key % 8, other % 8),
            10 => format!("SPOP s{} 3", key % 8),
            11 => format!("PEXPIREAT k{key} {}", 1_000 + round + other * 10),
            12..15 => format!("HSET h{} f{number} {round} g{other} {round}", key % 4),
            15 => format!("HDEL h{} f{number}", key % 4),
            16 => format!("APPEND k{key} y"),
            17 => format!("COPY k{key} k{other} DB {} REPLACE", number % 3),
            18 => format!("RENAME s{} s{}", key % 8, other % 8),
            19 => format!("PEXPIREAT s{} {}", key % 8, 1_000 + round + other * 10),
            20 if round.is_multiple_of(40) => "FLUSHDB".to_owned(),
            21 => format!("HINCRBY h{} n{number} 1", key % 4),
            22 => format!("SINTERSTORE s{} s{} s{}", key % 8, other % 8, number % 8),
            _ => format!("SELECT {}", other % 3),
        }
    }

    /// Copies while random commands go on; are copy and original the same in the end?
    fn is_exact(seed: u64, memory_max_bytes: usize, tells: bool) -> bool {
        let mut original = keyspace(memory_max_bytes, Eviction::LeastRecentlyUsed);
        original.random = seed | 1;
        let (mut client, mut replayer) = (Session::new(1), Session::new(2));
        for round in 0..2_000 {
            let command = random_command(&mut original, round);
            say(&mut original, &mut client, 1_000 + command::signed(round), &command);
        }
        let mut again = keyspace(usize::MAX, Eviction::Refuse);
        let mut copying = original.begin_copy();
        let mut round = 2_000;
        while !copying.is_over() {
            let now_ms = 1_000 + command::signed(round);
            let part = original.copy_part(&mut copying, now_ms, 700).expect("none swapped");
            if tells {
                play(&mut again, &mut replayer, &part.done);
            }
            play(&mut again, &mut replayer, &part.copied);
            for _ in 0..3 {
                round += 1;
                let command = random_command(&mut original, round);
                say(&mut original, &mut client, 1_000 + command::signed(round), &command);
            }
        }
        let now_ms = 1_000 + command::signed(round);
        let last = original.copy_part(&mut copying, now_ms, 700).expect("none swapped");
        assert!(last.copied.is_empty());
        if tells {
            play(&mut again, &mut replayer, &last.done);
        }
        original.end_copy();
        contents(&original, now_ms) == contents(&again, now_ms)
    }

    #[test]
    fn a_copy_while_clients_write_is_what_the_databases_are_at_its_end() {
        for seed in 1..=60 {
            assert!(is_exact(seed * 7_919, 10 << 20, true), "seed {seed}");
            // With eviction on the way.
            assert!(is_exact(seed * 7_919, 60_000, true), "seed {seed}");
        }
    }

    #[test]
    fn a_copy_that_does_not_hear_of_what_clients_do_is_noticed() {
        let exact = (1..=20).filter(|seed| is_exact(seed * 7_919, 10 << 20, false)).count();
        assert!(exact < 3, "{exact} of 20");
    }

    #[test]
    fn a_turn_is_short_whatever_there_is() {
        let (mut keyspace, mut client) = (keyspace(1 << 30, Eviction::Refuse), Session::new(1));
        for at in 0..5_000 {
            say(&mut keyspace, &mut client, 0, &format!("SADD all member{at}"));
            say(&mut keyspace, &mut client, 0, &format!("SET k{at} {at}"));
        }
        say(&mut keyspace, &mut client, 0, &format!("HSET h d {}", "x".repeat(100_000)));
        let mut copying = keyspace.begin_copy();
        let (mut parts, mut longest) = (0, 0);
        while !copying.is_over() {
            let part = keyspace.copy_part(&mut copying, 0, 10_000).expect("none swapped");
            (parts, longest) = (parts + 1, longest.max(part.copied.len()));
        }
        assert!(parts > 20 && longest < 112_000, "{parts} parts, the longest {longest}");
    }

    #[test]
    fn nothing_is_kept_of_what_clients_do_but_while_there_is_a_copy_and_swapping_spoils_it() {
        let (mut keyspace, mut client) = (keyspace(1 << 30, Eviction::Refuse), Session::new(1));
        say(&mut keyspace, &mut client, 0, "SET a 1");
        let mut copying = keyspace.begin_copy();
        say(&mut keyspace, &mut client, 0, "SWAPDB 0 1");
        assert_eq!(keyspace.copy_part(&mut copying, 0, 100).map(|_| ()), Err(Swapped));
        keyspace.end_copy();
        say(&mut keyspace, &mut client, 0, "SET a 2");
        assert!(keyspace.take_effects().is_empty());
        let mut copying = keyspace.begin_copy();
        let part = keyspace.copy_part(&mut copying, 0, 100).expect("begun anew");
        assert!(part.done.is_empty());
    }
}
