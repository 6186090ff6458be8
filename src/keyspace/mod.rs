//! Databases of strings, hashes and sets in memory, and the commands on them as redis-server has them.
//! Pure: time is an argument of each command, randomness begins with a seed.
//!
//! A [`Keyspace`] has one owner at a time (`&mut`), and who shares it between threads puts it behind one
//! mutex. A command takes a microsecond or less, so that threads would wait longer for the locks of parts
//! than for each other, as Redis itself shows, which does all in one thread. And transactions over several
//! databases, WATCH, FLUSHALL and the bound of memory, which is one for all, need no order of locks.
//!
//! Replies are those of redis-server 7.0, whose tests run side by side (`tests/integration/keyspace`). Other
//! types, blocking commands, publishing and scripts are unknown or refused; numbers in C's hexadecimal form are
//! no numbers; CLIENT LIST has the client that asks; what newer clients send at their beginning (CLIENT SETINFO,
//! CLIENT NO-TOUCH) is taken.
//!
//! Where it is told so ([`Keyspace::keep_coherent`]), it notices what clients clean, so that other nodes hear of
//! it ([`Keyspace::take_cleans`], [`Keyspace::clean`]), and keeps nothing that is older than a clean.
//!
//! A client's [`Session`] knows its database, transaction and protocol. What a command did can be had as
//! commands that do the same at any time ([`Keyspace::take_effects`]).

mod clean;
mod cleaning;
#[cfg(test)]
mod cleans_tests;
mod coherence;
mod command;
mod commands;
#[cfg(test)]
mod common_tests;
mod dense;
mod dump;
mod effects;
mod error;
mod eviction;
mod fence;
mod float;
mod garbage;
mod glob;
mod guard;
mod largest;
mod layout;
mod looks;
#[cfg(test)]
mod magento_tests;
#[cfg(test)]
mod many;
mod named;
#[cfg(test)]
mod naming_tests;
mod own;
mod session;
#[cfg(test)]
mod simulation;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod touched;
mod value;
mod view;
mod watch;
mod young;

use bytes::{Bytes, BytesMut};

use coherence::Coherence;
use dense::Dense;
use effects::Effects;
use eviction::Sets;
use garbage::Garbage;
use value::{Entry, Set};
use watch::Watches;

pub use clean::Clean;
pub use coherence::Rules;
pub use dump::{Copying, Part, Swapped};
pub use eviction::Eviction;
pub use garbage::Freed;
pub use glob::matches;
pub use largest::{Content, DatabaseFigures, Largest, Look, Sized};
pub use layout::TagSets;
pub use session::{After, Anew, Session};
pub use touched::Touched;

/// What a keyspace and its clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Databases; SELECT takes numbers below.
    pub databases: usize,
    /// Bytes of memory for keys and values of all databases.
    pub memory_max_bytes: usize,
    /// What is done with what would take more.
    pub eviction: Eviction,
    /// Bytes of one string that APPEND or SETRANGE make.
    pub string_max_bytes: usize,
    /// Bytes of the commands that wait in one client's transaction.
    pub queue_max_bytes: usize,
    /// Keys that one client watches.
    pub watched_max: usize,
    /// Elements which SRANDMEMBER and HRANDFIELD give with repetition.
    pub repeated_max: usize,
    /// Bytes of one reply that gives something several times, and of what a transaction replies.
    pub reply_max_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            databases: 16,
            memory_max_bytes: 256 << 20,
            eviction: Eviction::Refuse,
            string_max_bytes: 512 << 20,
            queue_max_bytes: 64 << 20,
            watched_max: 10_000,
            repeated_max: 100_000,
            reply_max_bytes: 512 << 20,
        }
    }
}

/// A command that grows drops so much more of what was emptied than twice its own size: what an entry takes
/// beside its content, and for the garbage to end.
const FREED_BESIDE_BYTES: usize = 512;

/// One database.
#[derive(Debug, Default)]
struct Database {
    entries: Dense<Entry>,
    /// Keys with an end.
    expiring: usize,
    sets: Sets,
    watches: Watches,
    /// Entries that the search for expired ones has not come to yet.
    unsearched: usize,
    /// Where the search for a value to give up found the last one.
    walked: usize,
}

/// Numbers for logs and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Keys in all databases.
    pub keys: usize,
    /// Bytes which keys and values take in memory.
    pub memory_bytes: usize,
    /// Commands since the start.
    pub commands: u64,
    /// Keys that ended since the start.
    pub expired: u64,
    /// Commands that were refused for want of memory.
    pub refused: u64,
    /// Keys that were given up for want of memory.
    pub evicted: u64,
    /// How often a database began anew, since sets alone took most of the memory.
    pub resets: u64,
    /// Keys that reading commands found.
    pub hits: u64,
    /// Keys that reading commands did not find.
    pub misses: u64,
    /// Bytes of the sets' entries within `memory_bytes`.
    pub sets_bytes: usize,
    /// Values that were not kept, since they were older than a clean.
    pub unkept: u64,
    /// Cleans that were done, those of other nodes included.
    pub cleans: u64,
    /// Scripts that are not known.
    pub refused_scripts: u64,
}

/// All databases.
#[derive(Debug)]
pub struct Keyspace {
    databases: Vec<Database>,
    bounds: Bounds,
    effects: Effects,
    /// What was changed, where somebody wants to know.
    touched: Option<Touched>,
    /// Grows with each change.
    changes: u64,
    /// The database where the search for keys that have ended goes on.
    searched: usize,
    random: u64,
    commands: u64,
    expired: u64,
    refused: u64,
    evicted: u64,
    resets: u64,
    refused_scripts: u64,
    /// The SHA1 of one of them.
    refused_script: Option<Box<[u8]>>,
    hits: u64,
    misses: u64,
    /// The command that is done reads.
    is_reading: bool,
    /// What keeps a cache coherent with those of other nodes; `None`: nothing does.
    coherence: Option<Box<Coherence>>,
    /// Databases that were emptied.
    garbage: Garbage,
}

impl Keyspace {
    /// Empty databases. `seed` begins the choice of random keys and members.
    pub fn new(bounds: Bounds, seed: u64) -> Self {
        let databases = (0..bounds.databases.max(1)).map(|_| Database::default()).collect();
        Self {
            databases,
            bounds,
            effects: Effects::default(),
            touched: None,
            changes: 0,
            searched: 0,
            random: seed | 1,
            commands: 0,
            expired: 0,
            refused: 0,
            evicted: 0,
            resets: 0,
            refused_scripts: 0,
            refused_script: None,
            hits: 0,
            misses: 0,
            is_reading: false,
            coherence: None,
            garbage: Garbage::default(),
        }
    }

    /// From now on what commands do is kept until [`Keyspace::take_effects`].
    pub fn keep_effects(&mut self) {
        self.effects.wanted = true;
    }

    /// What was done since the last time, as packed commands that begin with a SELECT: times are absolute,
    /// what was chosen at random has a name, keys that ended are deleted. Played again in another keyspace,
    /// with a time before all others, it gives the same.
    pub fn take_effects(&mut self) -> Bytes {
        self.effects.take()
    }

    /// From now on, or no more, it is kept which keys commands change, until [`Keyspace::take_touched`].
    pub fn keep_touched(&mut self, wanted: bool) {
        self.touched = wanted.then(Touched::default);
    }

    /// Which keys were changed since the last time.
    pub fn take_touched(&mut self) -> Touched {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Has another bound of memory from now on.
    pub fn limit_memory(&mut self, memory_max_bytes: usize) {
        self.bounds.memory_max_bytes = memory_max_bytes;
    }

    /// Keys, memory, what was done.
    pub fn figures(&self) -> Figures {
        Figures {
            keys: self.databases.iter().map(|database| database.entries.len()).sum(),
            memory_bytes: self.memory_bytes(),
            commands: self.commands,
            expired: self.expired,
            refused: self.refused,
            evicted: self.evicted,
            resets: self.resets,
            hits: self.hits,
            misses: self.misses,
            sets_bytes: self.databases.iter().map(|database| database.sets.bytes).sum(),
            unkept: self.coherence.as_ref().map_or(0, |coherence| coherence.unkept),
            cleans: self.coherence.as_ref().map_or(0, |coherence| coherence.cleans),
            refused_scripts: self.refused_scripts,
        }
    }

    /// The SHA1, in hexadecimal digits, of the first script that was refused since the last time.
    pub fn take_refused_script(&mut self) -> Option<Box<[u8]>> {
        self.refused_script.take()
    }

    /// The bound of [`Keyspace::memory_bytes`].
    pub fn memory_max_bytes(&self) -> usize {
        self.bounds.memory_max_bytes
    }

    /// Some of what was emptied, about so many bytes of it, to be dropped where that keeps nobody waiting.
    /// `None`: there is nothing.
    pub fn take_freed(&mut self, bytes: usize) -> Option<Freed> {
        self.garbage.take(bytes)
    }

    /// Has the members of a set that is gone dropped later.
    fn free_later(&mut self, members: Set) {
        self.garbage.add_set(members);
    }

    /// Drops more of what was emptied than a command takes.
    fn free_some(&mut self, more_bytes: usize) {
        drop(self.garbage.take(more_bytes.saturating_mul(2).saturating_add(FREED_BESIDE_BYTES)));
    }

    /// Grows with each change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Counts a look at a key.
    fn looked(&mut self, is_there: bool) {
        if self.is_reading {
            *(if is_there { &mut self.hits } else { &mut self.misses }) += 1;
        }
    }

    /// Bytes which keys and values take in memory, with what holds them together, with what was emptied and not
    /// dropped yet, and with what is known of cleans.
    pub fn memory_bytes(&self) -> usize {
        let cleans = self.coherence.as_ref().map_or(0, |coherence| coherence.bytes());
        self.entries_bytes() + self.garbage.bytes() + cleans
    }

    fn entries_bytes(&self) -> usize {
        self.databases.iter().map(|database| database.entries.bytes()).sum()
    }

    /// Removes keys that have ended, among at most `search_max` others, going on where it stopped the last
    /// time. How many it removed.
    pub fn expire(&mut self, now_ms: i64, search_max: usize) -> usize {
        let (mut removed, mut left, mut first_share) = (0, search_max, 0);
        let (first, number) = (self.searched, self.databases.len());
        // The first one comes last, too, with what lies before the place where the search stopped.
        for step in 0..=number {
            let at = (first + step) % number;
            let database = &self.databases[at];
            if database.expiring == 0 {
                continue;
            }
            let entries = database.entries.len();
            let row = match database.unsearched {
                _ if step == number => entries.saturating_sub(first_share),
                unsearched if (1..=entries).contains(&unsearched) => unsearched,
                _ => entries,
            };
            let share = left.min(row);
            left -= share;
            removed += self.expire_in(at, now_ms, share);
            if step == 0 {
                first_share = share;
            }
            if left == 0 {
                // Others have their turn once its row is done.
                self.searched = if share < row { at } else { (at + 1) % number };
                break;
            }
        }
        removed
    }

    fn expire_in(&mut self, at: usize, now_ms: i64, search_max: usize) -> usize {
        let mut removed = 0;
        for _ in 0..search_max {
            let database = &mut self.databases[at];
            if database.unsearched == 0 || database.unsearched > database.entries.len() {
                database.unsearched = database.entries.len();
            }
            let Some(place) = database.unsearched.checked_sub(1) else { break };
            database.unsearched = place;
            // From the back, so that what takes a removed one's place was searched already.
            let found = database.entries.at(place).filter(|(_, entry)| entry.is_expired(now_ms));
            if let Some(key) = found.map(|(key, _)| Box::<[u8]>::from(key)) {
                view::View { keyspace: self, at, now_ms }.end(&key);
                removed += 1;
            }
        }
        removed
    }

    /// How many keys a database has, those included that have ended and were not removed yet; a walk over
    /// them for [`Keyspace::portrait`] begins there.
    pub fn len(&self, database: usize) -> usize {
        self.databases.get(database).map_or(0, |database| database.entries.len())
    }

    /// Has it no keys at all?
    pub fn is_empty(&self) -> bool {
        self.databases.iter().all(|database| database.entries.is_empty())
    }

    /// How many databases there are.
    pub fn databases(&self) -> usize {
        self.databases.len()
    }

    /// The commands that make the key at a place of a database's row (0 is the first) what it is now,
    /// whatever it was. Keys only ever move towards the front, so who walks from the back misses none that is
    /// there all the time.
    pub fn portrait(&self, database: usize, place: usize, out: &mut BytesMut) {
        let entries = self.databases.get(database).map(|database| &database.entries);
        if let Some((key, entry)) = entries.and_then(|entries| entries.at(place)) {
            command::portrait(database, key, Some(entry), out);
        }
    }

    /// The commands that make a key what it is now, also where it is gone.
    pub fn portrait_of(&self, database: usize, key: &[u8], out: &mut BytesMut) {
        let entries = self.databases.get(database).map(|database| &database.entries);
        command::portrait(database, key, entries.and_then(|entries| entries.get(key)), out);
    }

    /// When a key ends, in milliseconds since 1970, if it does; `None`: it is not there.
    pub fn end_of(&self, database: usize, key: &[u8]) -> Option<Option<i64>> {
        let entries = &self.databases.get(database)?.entries;
        entries.get(key).map(|entry| entry.expires_ms)
    }

    /// Says that whole databases were changed.
    fn changed_everything(&mut self) {
        self.changes += 1;
        if let Some(touched) = &mut self.touched {
            touched.everything = true;
        }
    }

    /// The next random number (xorshift); nobody's secret depends on it.
    fn next_random(&mut self) -> u64 {
        let mut state = self.random;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random = state;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A random number below `end`; 0 where that is 0.
    fn random_below(&mut self, end: usize) -> usize {
        let number = self.next_random() >> 11;
        usize::try_from(number).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }
}
