//! The object cache outlives its process: what it has goes out as commands, in parts between which clients
//! are served, and comes in as such before clients are.
//!
//! All of a copy is used, or nothing: a part of it could have a value without the tag that cleans it.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::Objects;
use super::life::Noted;
use crate::keyspace::{Bounds, Copying, Eviction, Keyspace, Part, Session, Swapped};
use crate::resp::{Limits, ProtocolError, ReadState, read_request};

/// Bytes of keys and values in one part, or one value: what takes that long keeps no client waiting.
const PART_BYTES: usize = 128 << 10;

/// What is read may take so much more than `objects.memory` until all of it is there: clients wrote while it
/// was copied.
const REPLAY_SHARE: usize = 4;

/// A copy under way; ended when dropped.
#[derive(Debug)]
pub struct Transcript<'a> {
    objects: &'a Objects,
    copying: Copying,
    done_bytes: usize,
}

/// Why a copy cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCopied {
    /// Its order would be wrong.
    #[error(transparent)]
    Swapped(#[from] Swapped),
    /// Clients write faster than it goes.
    #[error("clients wrote more meanwhile than objects.memory has")]
    Overtaken,
}

/// Why what comes in is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLoaded {
    /// It is no command.
    #[error("it has what is no command: {0}")]
    Protocol(ProtocolError),
    /// A command of it fails.
    #[error("a command of it fails: {0}")]
    Refused(String),
    /// It ends in the midst of a command.
    #[error("it ends within a command")]
    Short,
    /// There is more than fits.
    #[error("it takes more than objects.memory has")]
    TooLarge,
    /// Clients are served already.
    #[error("it came too late: clients were served already")]
    Late,
    /// Of what was cleaned meanwhile too much is not known any more.
    #[error("it is not known what was cleaned since it was copied")]
    Outdated,
}

/// What comes in, until it takes its place.
#[derive(Debug)]
pub struct Loading {
    keyspace: Keyspace,
    session: Session,
    read: BytesMut,
    state: ReadState,
    replies: BytesMut,
    limits: Limits,
    memory_max_bytes: usize,
    now_ms: i64,
    leaves_out_own: bool,
}

impl Objects {
    /// Begins a copy. `None`: another one is under way.
    pub fn copy(&self) -> Option<Transcript<'_>> {
        let mut keyspace = self.keyspace.lock();
        if std::mem::replace(&mut self.life.lock().is_copied, true) {
            return None;
        }
        Some(Transcript { objects: self, copying: keyspace.begin_copy(), done_bytes: 0 })
    }

    /// Databases to be filled, which take the place of these by [`Objects::put_in_place`].
    pub fn loading(&self) -> Loading {
        let bounds = Bounds {
            memory_max_bytes: usize::MAX,
            eviction: Eviction::LeastRecentlyUsed,
            ..self.bounds
        };
        Loading {
            keyspace: Keyspace::new(bounds, self.seed),
            session: Session::new(0),
            read: BytesMut::new(),
            state: ReadState::default(),
            replies: BytesMut::new(),
            limits: self.limits,
            memory_max_bytes: self.bounds.memory_max_bytes,
            now_ms: self.now_ms(),
            leaves_out_own: false,
        }
    }

    /// Has what was loaded instead of what there is, unless clients are served already. How many keys that
    /// are.
    pub fn put_in_place(&self, loading: Loading) -> Result<usize, NotLoaded> {
        let leaves_out_own = loading.leaves_out_own;
        let mut loaded = loading.finish(self.now_ms())?;
        let mut keyspace = self.keyspace.lock();
        let mut life = self.life.lock();
        if life.is_open {
            return Err(NotLoaded::Late);
        }
        if life.is_outdated {
            return Err(NotLoaded::Outdated);
        }
        loaded.take_coherence(&mut keyspace);
        if leaves_out_own {
            loaded.forget_own(self.now_ms());
        }
        for clean in life.noted.take() {
            loaded.clean(&clean, self.now_ms());
        }
        let figures = loaded.figures();
        life.commands_before = figures.commands;
        *keyspace = loaded;
        Ok(figures.keys)
    }

    /// From now on clients are served: nothing is loaded any more.
    pub fn open(&self) {
        let _keyspace = self.keyspace.lock();
        let mut life = self.life.lock();
        life.is_open = true;
        life.noted = Noted::default();
        drop(life);
        self.opened.send_replace(true);
    }

    /// Resolves when clients may be served.
    pub async fn opened(&self) {
        let _ = self.opened.subscribe().wait_for(|opened| *opened).await;
    }

    /// Has clients passed on from now on, without a copy of what there is.
    pub fn give_away(&self) {
        let _keyspace = self.keyspace.lock();
        self.is_given_away.store(true, Ordering::Relaxed);
    }

    /// The process that was to take over does not: commands are done here again.
    pub fn take_back(&self) {
        let _keyspace = self.keyspace.lock();
        self.is_given_away.store(false, Ordering::Relaxed);
    }
}

impl Transcript<'_> {
    /// The next part, which clients wait for no longer than for a command. Blocks for as long as that.
    pub fn part(&mut self) -> Result<Part, NotCopied> {
        let part = {
            let mut keyspace = self.objects.keyspace.lock();
            keyspace.copy_part(&mut self.copying, self.objects.now_ms(), PART_BYTES)?
        };
        self.count(part)
    }

    /// Was all of it copied? Further parts have what clients do.
    pub fn is_over(&self) -> bool {
        self.copying.is_over()
    }

    /// The last part. From now on no command is done here: clients are passed on to the process that has the
    /// copy.
    pub fn give_away(&mut self) -> Result<Part, NotCopied> {
        let mut keyspace = self.objects.keyspace.lock();
        let part = keyspace.end_of_copy(&mut self.copying, self.objects.now_ms(), PART_BYTES)?;
        self.objects.is_given_away.store(true, Ordering::Relaxed);
        drop(keyspace);
        self.count(part)
    }

    /// The last part, where clients are served here as before.
    pub fn end(&mut self) -> Result<Part, NotCopied> {
        let part = {
            let mut keyspace = self.objects.keyspace.lock();
            keyspace.end_of_copy(&mut self.copying, self.objects.now_ms(), PART_BYTES)?
        };
        self.count(part)
    }

    fn count(&mut self, part: Part) -> Result<Part, NotCopied> {
        self.done_bytes = self.done_bytes.saturating_add(part.done.len());
        let most = self.objects.bounds.memory_max_bytes;
        if !self.is_over() && self.done_bytes > most {
            return Err(NotCopied::Overtaken);
        }
        Ok(part)
    }
}

impl Drop for Transcript<'_> {
    fn drop(&mut self) {
        let mut keyspace = self.objects.keyspace.lock();
        keyspace.end_copy();
        self.objects.life.lock().is_copied = false;
    }
}

impl Loading {
    /// Takes in what comes next; it may end in the midst of a command.
    pub fn take_in(&mut self, commands: &Bytes) -> Result<(), NotLoaded> {
        self.read.extend_from_slice(commands);
        loop {
            let next = read_request(&mut self.read, &self.limits, &mut self.state);
            let Some(request) = next.map_err(NotLoaded::Protocol)? else { break };
            self.replies.clear();
            self.session.execute(&mut self.keyspace, &request, self.now_ms, &mut self.replies);
            if self.replies.first() == Some(&b'-') {
                let said = String::from_utf8_lossy(&self.replies).trim_end().to_owned();
                return Err(NotLoaded::Refused(said));
            }
        }
        drop(self.keyspace.take_freed(usize::MAX));
        let most = self.memory_max_bytes.saturating_add(self.memory_max_bytes / REPLAY_SHARE);
        if self.keyspace.memory_bytes() > most { Err(NotLoaded::TooLarge) } else { Ok(()) }
    }

    /// What is one server's own (locks, counters, `objects.local`) is not to be there: nobody tells what became of it
    /// since.
    pub fn leave_out_own(&mut self) {
        self.leaves_out_own = true;
    }

    fn finish(mut self, now_ms: i64) -> Result<Keyspace, NotLoaded> {
        if !self.read.is_empty() {
            return Err(NotLoaded::Short);
        }
        // What has ended meanwhile is not to count as there.
        while self.keyspace.expire(now_ms, self.keyspace.figures().keys) > 0 {}
        self.keyspace.end_replay(self.memory_max_bytes, now_ms);
        Ok(self.keyspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::keyspace::Clean;
    use crate::objects::life::Life;
    use crate::resp::Request;
    use crate::settings;
    use std::time::Duration;

    fn objects(memory_bytes: u64) -> Objects {
        let settings = settings::Objects { memory_bytes, ..settings::Objects::default() };
        Objects::new(&settings, Clock::manual(), 7)
    }

    fn say(objects: &Objects, session: &mut Session, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let (requests, mut out) = ([Request::pack(&words)], BytesMut::new());
        match objects.execute(session, &requests, &mut out, usize::MAX) {
            Some(_) => out.escape_ascii().to_string(),
            None => "given away".to_owned(),
        }
    }

    fn filled(memory_bytes: u64) -> (Objects, Session) {
        let objects = objects(memory_bytes);
        objects.open();
        let mut session = Session::new(1);
        for at in 0..2_000 {
            say(&objects, &mut session, &format!("SET k{at} {}", "x".repeat(at % 400)));
            say(&objects, &mut session, &format!("SADD tag{} k{at}", at % 9));
        }
        say(&objects, &mut session, "SELECT 3");
        say(&objects, &mut session, "HSET h d data t tag1");
        say(&objects, &mut session, "SET soon x PX 300");
        say(&objects, &mut session, "SET later x EX 1000");
        (objects, session)
    }

    /// All parts of a copy that is finished at once.
    fn copied(objects: &Objects) -> Vec<Bytes> {
        let mut copy = objects.copy().expect("no other");
        let mut parts = Vec::new();
        while !copy.is_over() {
            let Part { done, copied } = copy.part().expect("a part");
            parts.extend([done, copied]);
        }
        parts
    }

    fn load(objects: &Objects, parts: &[Bytes]) -> Result<usize, NotLoaded> {
        let mut loading = objects.loading();
        for part in parts {
            loading.take_in(part)?;
        }
        objects.put_in_place(loading)
    }

    #[test]
    fn all_of_it_is_there_again_but_for_what_has_ended() {
        let (old, _) = filled(64 << 20);
        let parts = copied(&old);
        std::thread::sleep(Duration::from_millis(310));
        let new = objects(64 << 20);
        assert_eq!(load(&new, &parts), Ok(2_000 + 9 + 2));
        new.open();
        let mut session = Session::new(1);
        assert_eq!(say(&new, &mut session, "SCARD tag3"), say(&old, &mut session, "SCARD tag3"));
        assert_eq!(say(&new, &mut session, "STRLEN k399"), r":399\r\n");
        say(&new, &mut session, "SELECT 3");
        assert_eq!(say(&new, &mut session, "GET soon"), r"$-1\r\n");
        assert!(say(&new, &mut session, "PTTL later").starts_with(":99"));
        assert_eq!(say(&new, &mut session, "HGET h t"), r"$4\r\ntag1\r\n");
        let figures = new.figures().keyspace;
        assert_eq!((figures.commands, figures.hits, figures.misses, figures.expired), (6, 4, 1, 0));
    }

    #[test]
    fn a_part_of_a_copy_or_a_late_one_is_not_used() {
        let (old, _) = filled(64 << 20);
        let parts = copied(&old);
        let whole = parts.concat();
        let new = objects(64 << 20);
        let cut = Bytes::copy_from_slice(&whole[..whole.len() - 3]);
        assert_eq!(load(&new, &[cut]), Err(NotLoaded::Short));
        let wrong = Bytes::from_static(
            b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*3\r\n$4\r\nSADD\r\n$1\r\nn\r\n$1\r\nm\r\n",
        );
        assert!(matches!(load(&new, &[wrong]), Err(NotLoaded::Refused(_))));
        assert_eq!(new.figures().keyspace.keys, 0);
        new.open();
        assert_eq!(load(&new, &parts), Err(NotLoaded::Late));
        assert_eq!(new.figures().keyspace.keys, 0);
    }

    #[test]
    fn what_is_cleaned_or_not_kept_while_it_is_copied_is_not_there_again() {
        let old = objects(64 << 20);
        old.open();
        let (mut late, mut session) = (Session::new(1), Session::new(2));
        say(&old, &mut late, "GET x");
        for name in ["a", "b", "c"] {
            say(&old, &mut session, &format!("HSET zc:k:{name} d {name} t {name}"));
            say(&old, &mut session, &format!("SADD zc:ti:{name} {name}"));
        }
        let mut copy = old.copy().expect("no other");
        let mut parts = Vec::new();
        while !copy.is_over() {
            let Part { done, copied } = copy.part().expect("a part");
            parts.extend([done, copied]);
        }
        let keys = |key: &'static str| Clean::Keys { database: 0, keys: vec![key.into()] };
        old.clean(&keys("zc:ti:a"));
        say(&old, &mut late, "HSET zc:k:late d old t a");
        let Part { done, copied } = copy.give_away().expect("a part");
        parts.extend([done, copied]);
        let new = objects(64 << 20);
        new.clean(&keys("zc:ti:b"));
        assert_eq!(load(&new, &parts), Ok(2));
        new.open();
        let (mut session, mut left) = (Session::new(1), Vec::new());
        for name in ["a", "b", "c", "late"] {
            if say(&new, &mut session, &format!("EXISTS zc:k:{name}")) == r":1\r\n" {
                left.push(name);
            }
        }
        assert_eq!(left, ["c"]);
        let outdated = objects(64 << 20);
        outdated.cleans_were_missed();
        assert_eq!(load(&outdated, &parts), Err(NotLoaded::Outdated));
    }

    #[test]
    fn a_value_whose_tags_were_to_come_is_not_there_again() {
        let old = objects(64 << 20);
        old.open();
        let mut session = Session::new(1);
        for command in [
            "HSET zc:k:named d x t a,b",
            "SADD zc:ti:a named",
            "SADD zc:ti:b named half",
            "HSET zc:k:half d x t a,b",
            "HSET zc:k:none d x t a",
            "SET 4e0_:none x",
            "SET plain x",
        ] {
            say(&old, &mut session, command);
        }
        let mut copy = old.copy().expect("no other");
        let mut parts = Vec::new();
        while !copy.is_over() {
            let Part { done, copied } = copy.part().expect("a part");
            parts.extend([done, copied]);
        }
        let Part { done, copied } = copy.end().expect("a part");
        parts.extend([done, copied]);
        let new = objects(64 << 20);
        assert_eq!(load(&new, &parts), Ok(4));
        new.open();
        let keys = "zc:k:named zc:k:half zc:k:none 4e0_:none plain";
        assert_eq!(say(&new, &mut session, &format!("EXISTS {keys}")), r":2\r\n");
        assert_eq!(say(&old, &mut session, &format!("EXISTS {keys}")), r":5\r\n");
    }

    #[test]
    fn what_is_one_servers_own_is_left_out_of_what_is_older() {
        let old = objects(64 << 20);
        old.open();
        let mut session = Session::new(1);
        for command in ["SET lock 1 NX", "INCR counter", "SET cache:all_ids x", "SET value x"] {
            say(&old, &mut session, command);
        }
        let mut copy = old.copy().expect("no other");
        let mut parts = Vec::new();
        say(&old, &mut session, "SET later 1 NX EX 100");
        while !copy.is_over() {
            let Part { done, copied } = copy.part().expect("a part");
            parts.extend([done, copied]);
        }
        for (leaves_out, keys) in [(false, 5), (true, 1)] {
            let new = objects(64 << 20);
            let mut loading = new.loading();
            if leaves_out {
                loading.leave_out_own();
            }
            for part in &parts {
                loading.take_in(part).expect("commands");
            }
            assert_eq!(new.put_in_place(loading), Ok(keys));
        }
    }

    #[test]
    fn cleans_from_before_clients_are_served_are_noted_once_and_too_many_are_noticed() {
        let keys = |keys: Vec<String>| Clean::Keys {
            database: 0,
            keys: keys.into_iter().map(Bytes::from).collect(),
        };
        let (mut life, again) = (Life::default(), keys(vec!["a".repeat(1_000)]));
        for _ in 0..100_000 {
            life.note(&again);
        }
        life.note(&Clean::Database(3));
        assert!(!life.is_outdated);
        assert_eq!(life.noted.take(), [Clean::Database(3), again]);
        for at in 0..40 {
            life.note(&keys(vec![format!("{at}{}", "a".repeat(1 << 20))]));
        }
        assert!(life.is_outdated && life.noted.take().is_empty());
    }

    #[test]
    fn less_memory_than_it_takes_is_noticed_before_it_is_used_up() {
        let (old, _) = filled(64 << 20);
        let parts = copied(&old);
        let bytes = old.figures().keyspace.memory_bytes as u64;
        let small = objects(bytes / 2);
        assert_eq!(load(&small, &parts), Err(NotLoaded::TooLarge));
        let tight = objects(bytes * 9 / 10);
        load(&tight, &parts).expect("what was not used for longest makes room");
        assert!(tight.figures().keyspace.memory_bytes as u64 <= bytes * 9 / 10);
    }

    #[test]
    fn what_is_given_away_is_done_elsewhere_until_it_is_taken_back() {
        let (old, mut session) = filled(64 << 20);
        let mut copy = old.copy().expect("no other");
        assert!(old.copy().is_none(), "one at a time");
        let mut parts = Vec::new();
        while !copy.is_over() {
            let Part { done, copied } = copy.part().expect("a part");
            parts.extend([done, copied]);
        }
        say(&old, &mut session, "DEL h");
        parts.push(copy.give_away().expect("the last").done);
        drop(copy);
        assert_eq!(say(&old, &mut session, "GET later"), "given away");
        let new = objects(64 << 20);
        load(&new, &parts).expect("whole");
        new.open();
        say(&new, &mut session, "SELECT 3");
        assert_eq!(say(&new, &mut session, "EXISTS h"), r":0\r\n");
        old.take_back();
        assert_eq!(say(&old, &mut session, "GET later"), r"$1\r\nx\r\n");
        assert!(old.copy().is_some());
    }
}
