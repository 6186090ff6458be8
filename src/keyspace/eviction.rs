//! What is given up where a bound of memory would be exceeded.
//!
//! Values go, the least recently used of a few that are chosen at random, as Redis does it: no list to keep,
//! and nothing to do on reading but to write a number. Sets do not go: to a cache they are the tags, and a
//! value whose tag has forgotten it would outlive each clean of that tag. What they still name of values that
//! are gone does no harm; a clean deletes it in vain. Where sets alone take most of the memory, they name
//! little else, and there is no telling which: the database begins anew, empty, which is consistent.

use super::dense::Dense;
use super::value::{Entry, Value};
use super::view::View;
use super::{Database, Keyspace};

/// What is done where there is no room for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// What would take more is refused.
    #[default]
    Refuse,
    /// Values are given up, those that were not used for longest first.
    LeastRecentlyUsed,
}

impl Eviction {
    /// As CONFIG GET maxmemory-policy has it: clients that tag refuse to work where sets may go alone.
    pub(super) fn policy(self) -> &'static str {
        match self {
            Self::Refuse => "noeviction",
            Self::LeastRecentlyUsed => "volatile-lru",
        }
    }
}

/// Of so many at random the oldest goes.
const SAMPLES: usize = 16;
/// After so many looks at samples without a value the row is walked along: that finds one in as many steps
/// as there are keys for each value.
const VAIN_MAX: usize = 8;

/// The sets of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub number: usize,
    pub bytes: usize,
}

/// How long ago a value was used, in commands; it is right for the last 4,000 million.
fn age(commands: u64, used: u32) -> u32 {
    (commands as u32).wrapping_sub(used)
}

impl Keyspace {
    /// Gives up values until `more_bytes` fit within the bound.
    pub(super) fn make_room(&mut self, now_ms: i64, more_bytes: usize) {
        let room = self.bounds.memory_max_bytes.saturating_sub(more_bytes);
        let beside = self.coherence.as_ref().map_or(0, |coherence| coherence.bytes());
        let room = room.saturating_sub(beside);
        loop {
            let excess = (self.entries_bytes() + self.garbage.bytes()).saturating_sub(room);
            if excess == 0 {
                return;
            }
            if !self.garbage.is_empty() {
                self.free_some(excess);
                continue;
            }
            let sets_bytes: usize = self.databases.iter().map(|database| database.sets.bytes).sum();
            if sets_bytes > self.bounds.memory_max_bytes / 2 || !self.evict(now_ms) {
                self.begin_anew();
            }
        }
    }

    /// Gives up one value; false: there is none.
    fn evict(&mut self, now_ms: i64) -> bool {
        let Some(at) = self.some_database() else { return false };
        let sampled = (0..VAIN_MAX).find_map(|_| self.oldest_of_some(at, now_ms));
        let Some(place) = sampled.or_else(|| self.next_value(at)) else { return false };
        let database = &mut self.databases[at];
        let (key, entry) = database.entries.remove_at(place);
        database.forget(&key, &entry);
        database.watches.touch(&key);
        self.effects.push(at, &[b"DEL", &key]);
        self.changes += 1;
        self.evicted += 1;
        true
    }

    /// Where the oldest value of some at random stands.
    fn oldest_of_some(&mut self, at: usize, now_ms: i64) -> Option<usize> {
        let mut oldest: Option<(u32, usize)> = None;
        for _ in 0..SAMPLES {
            let place = self.random_below(self.databases[at].entries.len());
            let Some((_, entry)) = self.databases[at].entries.at(place) else { continue };
            let age = match entry.value {
                _ if entry.is_expired(now_ms) => u32::MAX,
                Value::Set(_) => continue,
                Value::String(_) | Value::Hash(_) => age(self.commands, entry.used.get()),
            };
            if oldest.is_none_or(|(oldest, _)| age > oldest) {
                oldest = Some((age, place));
            }
        }
        oldest.map(|(_, place)| place)
    }

    /// Where the next value stands from where the last walk found one. Values that stand together behind
    /// many sets are so found with one walk past those, not with one for each.
    fn next_value(&mut self, at: usize) -> Option<usize> {
        let database = &mut self.databases[at];
        let number = database.entries.len();
        let is_value = |place: &usize| {
            let entry = database.entries.at(*place).map(|(_, entry)| entry);
            entry.is_some_and(|entry| !matches!(entry.value, Value::Set(_)))
        };
        let from = database.walked.min(number);
        let place = (from..number).chain(0..from).find(is_value)?;
        database.walked = place;
        Some(place)
    }

    /// A database at random, by how many values they have.
    fn some_database(&mut self) -> Option<usize> {
        let values = |database: &Database| database.entries.len() - database.sets.number;
        let all: usize = self.databases.iter().map(values).sum();
        let mut place = self.random_below(all);
        self.databases.iter().position(|database| {
            let number = values(database);
            let is_it = place < number;
            place = place.saturating_sub(number);
            is_it
        })
    }

    /// Empties the database whose sets take most.
    fn begin_anew(&mut self) {
        let by_sets = |at: &usize| {
            let database = &self.databases[*at];
            (database.sets.bytes, database.entries.bytes())
        };
        let Some(at) = (0..self.databases.len()).max_by_key(by_sets) else { return };
        self.effects.push(at, &[b"FLUSHDB"]);
        self.evicted += self.databases[at].entries.len() as u64;
        self.resets += 1;
        View { keyspace: self, at, now_ms: 0 }.flush();
    }
}

impl Database {
    /// Counts an entry no longer, which was taken out.
    pub(super) fn forget(&mut self, key: &[u8], entry: &Entry) {
        self.expiring -= usize::from(entry.expires_ms.is_some());
        if matches!(entry.value, Value::Set(_)) {
            self.sets.number -= 1;
            self.sets.bytes -= Dense::cost(key, entry);
        }
    }

    /// Counts an entry, which is put in.
    pub(super) fn remember(&mut self, key: &[u8], entry: &Entry) {
        self.expiring += usize::from(entry.expires_ms.is_some());
        if matches!(entry.value, Value::Set(_)) {
            self.sets.number += 1;
            self.sets.bytes += Dense::cost(key, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::keyspace::{Bounds, Session};
    use crate::resp::Request;

    fn keyspace(memory_max_bytes: usize) -> Keyspace {
        let eviction = Eviction::LeastRecentlyUsed;
        Keyspace::new(Bounds { databases: 3, memory_max_bytes, eviction, ..Bounds::default() }, 3)
    }

    fn say(keyspace: &mut Keyspace, session: &mut Session, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        session.execute(keyspace, &Request::pack(&words), 1_000, &mut out);
        out.escape_ascii().to_string()
    }

    fn sets(database: &Database) -> Sets {
        let sets = database.entries.iter().filter(|(_, it)| matches!(it.value, Value::Set(_)));
        let costs: Vec<_> = sets.map(|(key, entry)| Dense::cost(key, entry)).collect();
        Sets { number: costs.len(), bytes: costs.iter().sum() }
    }

    #[test]
    fn the_sets_are_counted_whatever_becomes_of_them() {
        let (mut keyspace, mut session) = (keyspace(40_000), Session::new(1));
        for round in 0..20_000_u64 {
            let at = keyspace.random_below(30);
            let other = keyspace.random_below(30);
            let command = match keyspace.random_below(14) {
                0..4 => format!("SADD k{at} m{other} m{round}"),
                4 => format!("SREM k{at} m{other}"),
                5 => format!("DEL k{at} k{other}"),
                6 => format!("SET k{at} {}", "x".repeat(other * 100)),
                7 => format!("SUNIONSTORE k{at} k{other} k1 k2"),
                8 => format!("RENAME k{at} k{other}"),
                9 => format!("SMOVE k{at} k{other} m{other}"),
                10 => format!("SPOP k{at} 3"),
                11 => format!("PEXPIREAT k{at} {}", 900 + other * 10),
                12 => format!("HSET k{at} f {}", "y".repeat(other * 50)),
                _ if round % 50 == 0 => "SWAPDB 0 1".to_owned(),
                _ if round % 71 == 0 => "FLUSHDB".to_owned(),
                _ => format!("SELECT {}", other % 3),
            };
            say(&mut keyspace, &mut session, &command);
            for database in &keyspace.databases {
                assert_eq!(database.sets, sets(database), "after {command}");
            }
            assert!(keyspace.memory_bytes() <= 40_000);
        }
        assert!(keyspace.evicted > 0 && keyspace.resets > 0);
    }

    #[test]
    fn a_few_large_values_among_many_small_sets_make_room_one_by_one() {
        for (sets, values) in [(0, 0), (0, 1), (1, 2)] {
            let (mut keyspace, mut session) = (keyspace(12_000_000), Session::new(1));
            say(&mut keyspace, &mut session, &format!("SELECT {sets}"));
            for at in 0..20_000 {
                say(&mut keyspace, &mut session, &format!("SADD set{at} m"));
            }
            let sets_bytes = keyspace.figures().sets_bytes;
            assert!(sets_bytes < 6_000_000, "{sets_bytes}");
            say(&mut keyspace, &mut session, &format!("SELECT {values}"));
            let value = "x".repeat(100_000);
            for at in 0..1_000 {
                let said = say(&mut keyspace, &mut session, &format!("SET k{at} {value}"));
                assert!(said.starts_with("+OK"), "{said}");
            }
            let figures = keyspace.figures();
            assert_eq!((figures.resets, figures.sets_bytes), (0, sets_bytes));
            assert!(figures.evicted > 800 && figures.keys > 20_020, "{figures:?}");
        }
    }

    #[test]
    fn what_is_used_stays() {
        let (mut keyspace, mut session) = (keyspace(100_000), Session::new(1));
        let value = "x".repeat(200);
        for at in 0..5_000 {
            say(&mut keyspace, &mut session, &format!("HSET h{at} f {value}"));
            say(&mut keyspace, &mut session, "HGET h0 f");
            say(&mut keyspace, &mut session, "TOUCH h1");
            // Who asks about a key does not use it.
            for word in ["TTL", "PTTL", "EXISTS", "TYPE"] {
                (2..32).for_each(|at| {
                    drop(say(&mut keyspace, &mut session, &format!("{word} h{at}")));
                });
            }
        }
        let mut is_there = |at: usize| {
            say(&mut keyspace, &mut session, &format!("EXISTS h{at}")).starts_with(":1")
        };
        assert!(is_there(0) && is_there(1) && is_there(4_999));
        assert!((2..32).filter(|at| is_there(*at)).count() < 5);
        assert!((2..2_000).filter(|at| is_there(*at)).count() < 20);
    }

    #[test]
    fn short_commands_that_take_much_keep_the_bound_in_a_transaction_too() {
        let (mut keyspace, mut session) = (keyspace(50_000), Session::new(1));
        say(&mut keyspace, &mut session, &format!("SET k {}", "x".repeat(10_000)));
        say(&mut keyspace, &mut session, "MULTI");
        for at in 0..100 {
            assert!(say(&mut keyspace, &mut session, "GET k").starts_with("+QUEUED"));
            say(&mut keyspace, &mut session, &format!("COPY k c{at}"));
            say(&mut keyspace, &mut session, "GET k");
        }
        let said = say(&mut keyspace, &mut session, "EXEC");
        assert!(said.starts_with("*300"), "{}", &said[..40]);
        assert!(keyspace.memory_bytes() <= 50_000, "{}", keyspace.memory_bytes());
        for at in 0..20 {
            say(&mut keyspace, &mut session, &format!("COPY k d{at}"));
            assert!(keyspace.memory_bytes() <= 50_000, "{}", keyspace.memory_bytes());
        }
    }

    #[test]
    fn a_write_that_fits_is_never_refused() {
        let (mut keyspace, mut session) = (keyspace(50_000), Session::new(1));
        for at in 0..2_000 {
            let said = say(&mut keyspace, &mut session, &format!("SADD set{} m{at}", at % 3));
            assert!(said.starts_with(':'), "{said}");
            let value = "x".repeat(at % 40_000);
            let said = say(&mut keyspace, &mut session, &format!("SET k{at} {value}"));
            assert!(said.starts_with("+OK"), "{said}");
        }
        assert!(keyspace.memory_bytes() < 100_000);
    }

    #[test]
    fn a_whole_database_is_given_away_to_be_dropped() {
        let (mut keyspace, mut session) = (keyspace(10 << 20), Session::new(1));
        for at in 0..2_000 {
            say(&mut keyspace, &mut session, &format!("SET k{at} {}", "x".repeat(300)));
        }
        assert!(keyspace.take_freed(usize::MAX).is_none());
        let before = keyspace.memory_bytes();
        say(&mut keyspace, &mut session, "FLUSHDB");
        // It takes what it took until it is dropped.
        assert!(keyspace.memory_bytes() > before / 2);
        assert!(keyspace.take_freed(1_000).is_some());
        // What is written then drops the rest.
        for at in 0..2_000 {
            say(&mut keyspace, &mut session, &format!("SET k{at} {}", "x".repeat(300)));
        }
        assert!(keyspace.take_freed(usize::MAX).is_none());
    }
}
