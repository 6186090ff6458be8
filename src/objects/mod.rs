//! The object cache of the shop: what PHP keeps between requests, in this process' memory, behind the
//! protocol of Redis. What commands do is the `keyspace`'s; here are the clients: how they are read,
//! bounded and answered.
//!
//! All complete commands of a connection are done in one turn, under one lock, and answered in one write.

mod buffers;
mod connection;
pub mod figures;
pub mod kept;
mod life;
mod messages;
mod onward;
mod telling;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::keyspace::{self, After, Bounds, Clean, Eviction, Keyspace, Rules, Session, TagSets};
use crate::resp::{Limits, Request};
use crate::settings;
use buffers::Buffers;
use life::Life;
use messages::Messages;
use telling::Telling;

pub use telling::Tell;

/// Where a client is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// By this process.
    Here,
    /// By the one that has taken over.
    Elsewhere,
    /// The server stops.
    Nowhere,
}

/// What one hears who gets no place, in redis-server's words.
pub const NO_PLACE: &[u8] = b"-ERR max number of clients reached\r\n";

/// A reply that gives things several times, or of a transaction, may have so much, or as much as a command.
const REPLY_MAX_BYTES: usize = 64 << 20;

/// Keys that one round of upkeep looks at, whether they have ended.
const SEARCHED_MAX: usize = 2_000;

/// What is dropped at once of a database that was emptied, how many times in one round of upkeep, and the pause in
/// between.
const FREED_SLICE_BYTES: usize = 128 << 10;
const FREED_SLICES: usize = 100;
const FREED_PAUSE: Duration = Duration::from_millis(1);

/// The databases, and what their clients share.
#[derive(Debug)]
pub struct Objects {
    keyspace: Mutex<Keyspace>,
    telling: Telling,
    messages: OnceLock<Messages>,
    /// Locked while `keyspace` is.
    life: Mutex<Life>,
    /// Changed while `keyspace` is locked: another process has all, and does what commands come.
    is_given_away: AtomicBool,
    opened: watch::Sender<bool>,
    bounds: Bounds,
    seed: u64,
    clock: Clock,
    limits: Limits,
    idle_timeout: Option<Duration>,
    write_timeout: Duration,
    buffers: Buffers,
    clients: AtomicUsize,
    clients_seen: AtomicU64,
    refused: AtomicU64,
    /// It was said once that `objects.tag_sets` lacks something.
    has_warned_of_set: AtomicBool,
    /// It was said once that a script is not known.
    has_warned_of_script: AtomicBool,
}

/// Numbers for metrics and statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of the databases.
    pub keyspace: keyspace::Figures,
    /// The bound of their memory.
    pub memory_max_bytes: u64,
    /// Clients that are connected.
    pub clients: usize,
    /// Connections since the start.
    pub clients_seen: u64,
    /// Connections that were closed for what their client sent: no command, or too large a one.
    pub refused: u64,
    /// Messages that did not go through Redis.
    pub message_failures: u64,
}

impl Objects {
    /// Empty databases. `seed` begins the choice of random keys.
    pub fn new(settings: &settings::Objects, clock: Clock, seed: u64) -> Self {
        let bounds = Bounds {
            databases: settings.databases as usize,
            memory_max_bytes: usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX),
            eviction: Eviction::LeastRecentlyUsed,
            string_max_bytes: settings.request_max_bytes,
            queue_max_bytes: settings.request_max_bytes,
            reply_max_bytes: settings.request_max_bytes.max(REPLY_MAX_BYTES),
            ..Bounds::default()
        };
        let mut keyspace = Keyspace::new(bounds, seed);
        keyspace.keep_coherent(rules(settings));
        let limits = Limits {
            inline_max_bytes: 64 << 10,
            bulk_max_bytes: settings.request_max_bytes,
            arguments_max: settings.arguments_max,
            request_max_bytes: settings.request_max_bytes,
        };
        Self {
            keyspace: Mutex::new(keyspace),
            telling: Telling::default(),
            messages: OnceLock::new(),
            life: Mutex::default(),
            is_given_away: AtomicBool::new(false),
            opened: watch::Sender::new(false),
            bounds,
            seed,
            clock,
            limits,
            idle_timeout: Some(settings.idle_timeout).filter(|idle| !idle.is_zero()),
            write_timeout: settings.write_timeout,
            buffers: Buffers::new(settings.buffers_max_bytes),
            clients: AtomicUsize::new(0),
            clients_seen: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            has_warned_of_set: AtomicBool::new(false),
            has_warned_of_script: AtomicBool::new(false),
        }
    }

    /// What is kept, and who is connected.
    pub fn figures(&self) -> Figures {
        let keyspace = self.keyspace.lock();
        let mut kept = keyspace.figures();
        kept.commands -= self.life.lock().commands_before;
        Figures {
            memory_max_bytes: keyspace.memory_max_bytes() as u64,
            keyspace: kept,
            clients: self.clients.load(Ordering::Relaxed),
            clients_seen: self.clients_seen.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            message_failures: self.message_failures(),
        }
    }

    /// Grows with each change of what is kept.
    pub fn changes(&self) -> u64 {
        self.keyspace.lock().changes()
    }

    /// Removes some of the keys that have ended, and frees what was taken out of the databases as a whole.
    /// Blocks for as long as that takes.
    pub fn maintain(&self) {
        let (set, script) = {
            let mut keyspace = self.keyspace.lock();
            keyspace.expire(self.now_ms(), SEARCHED_MAX);
            (keyspace.take_unknown_set(), keyspace.take_refused_script())
        };
        self.warn(set.as_deref(), script.as_deref());
        for _ in 0..FREED_SLICES {
            let freed = self.keyspace.lock().take_freed(FREED_SLICE_BYTES);
            if freed.is_none() {
                return;
            }
            // Not under the lock. A database has a hundred thousand values and more: who serves pages would have to
            // share a core with this.
            drop(freed);
            std::thread::sleep(FREED_PAUSE);
        }
    }

    /// Says once what of a client's doings is not as its shop may think.
    fn warn(&self, set: Option<&[u8]>, script: Option<&[u8]>) {
        if let Some(set) = set
            && !self.has_warned_of_set.swap(true, Ordering::Relaxed)
        {
            let set = set.escape_ascii();
            tracing::warn!(
                %set,
                "a script cleans by a set that objects.tag_sets does not know: each such clean empties the database"
            );
        }
        if let Some(script) = script
            && !self.has_warned_of_script.swap(true, Ordering::Relaxed)
        {
            let sha1 = script.escape_ascii();
            tracing::warn!(
                %sha1,
                "a client's Lua script is not known and was refused: what it was to clean may still be there, so \
                 flush the shop's cache once; with use_lua 0 in app/etc/env.php Magento sends fewer"
            );
        }
    }

    /// Where the cleans of clients go. Told once, before the first client.
    pub fn tell_cleans(&self, tell: Tell) {
        self.telling.begin(tell);
    }

    /// Another node's clean, or one that is done once more: done here, and told to nobody. When it returns, no
    /// command reads what was cleaned, and nothing is kept that is older.
    pub fn clean(&self, clean: &Clean) {
        let mut keyspace = self.keyspace.lock();
        self.life.lock().note(clean);
        // What a flush leaves is dropped by the next upkeep, not by who reads the log.
        keyspace.clean(clean, self.now_ms());
    }

    /// Cleans were missed, nobody knows which: all databases are emptied, and what was begun before is not
    /// kept.
    pub fn cleans_were_missed(&self) {
        let mut keyspace = self.keyspace.lock();
        self.life.lock().is_outdated = true;
        keyspace.cleans_were_missed();
    }

    /// Milliseconds since 1970: keys end by the wall's clock, as EXPIREAT says.
    fn now_ms(&self) -> i64 {
        let since = self.clock.wall_roughly().duration_since(UNIX_EPOCH);
        i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
    }

    /// Does commands from the front of a list, until their replies are `replies_max_bytes` together. How
    /// many were done, what becomes of the connection, and what is to be told before it hears of it. `None`:
    /// another process does them.
    fn execute(
        &self,
        session: &mut Session,
        requests: &[Request],
        out: &mut BytesMut,
        replies_max_bytes: usize,
    ) -> Option<(usize, After, Vec<Clean>)> {
        let now_ms = self.now_ms();
        let (mut done, mut after) = (0, After::Continue);
        let mut keyspace = self.keyspace.lock();
        if self.is_given_away.load(Ordering::Relaxed) {
            return None;
        }
        session.begin_turn(&keyspace, self.clock.roughly().milliseconds());
        for request in requests {
            after = session.execute(&mut keyspace, request, now_ms, out);
            done += 1;
            if after != After::Continue || out.len() >= replies_max_bytes {
                break;
            }
        }
        session.end_turn(&mut keyspace, now_ms);
        Some((done, after, keyspace.take_cleans()))
    }

    /// A client has gone, and had said all that it began to say.
    fn end(&self, session: &mut Session) {
        if session.awaits_names() {
            session.end(&mut self.keyspace.lock(), self.now_ms());
        }
    }
}

/// How the settings want the databases to be kept coherent with those of other nodes.
fn rules(settings: &settings::Objects) -> Rules {
    let pairs = settings.tag_sets.iter();
    let pairs = pairs.map(|it| TagSets::parse(&it.set, &it.value, it.list.as_deref()));
    let private = settings.local.iter().chain(&settings.messages);
    let keys = |it: &String| it.clone().into_bytes().into();
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Rules {
        // The settings take no others.
        tag_sets: pairs.filter_map(Result::ok).collect(),
        private: private.map(keys).collect(),
        indexes: settings.indexes.iter().map(keys).collect(),
        cleans_max: settings.cleans_max,
        told_max_bytes: settings.clean_max_bytes,
        pause_ms: milliseconds(settings.pause),
        renew_ms: milliseconds(settings.work_max),
        is_fenced: is_fenced(),
    }
}

#[cfg(not(feature = "faulty"))]
fn is_fenced() -> bool {
    true
}

/// Not where `PARVIS_WITHOUT` names it.
#[cfg(feature = "faulty")]
fn is_fenced() -> bool {
    use crate::settings::faulty::{Mechanism, is_off};
    !is_off(Mechanism::ObjectsFence)
}
