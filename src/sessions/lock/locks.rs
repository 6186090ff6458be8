//! The locks as one process knows them: who waits here, what is held here, what is told to it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::client::LockClient;
use super::step::{Answer, LockStore, Place, Seen, Step, StoreError, Token};
use crate::clock::{Clock, Moment};
use crate::sessions::gate::Gate;
use crate::settings;

/// How often a waiter looks by itself for a lock that no live gateway has.
pub const PACE: Duration = Duration::from_millis(250);

/// Between tries to hear, or to do what must be done for who has gone.
const RETRY: Duration = Duration::from_secs(1);

/// How often the latter is tried: for ten minutes. While this process lives nobody else frees the lock, so what is not
/// done by then is left to PHP's own rule.
const SETTLE_TRIES: usize = 600;

/// Refusals of the moment, by their first word: the same is done later.
const OF_THE_MOMENT: [&[u8]; 9] = [
    b"OOM",
    b"MISCONF",
    b"LOADING",
    b"READONLY",
    b"BUSY",
    b"NOREPLICAS",
    b"MASTERDOWN",
    b"CLUSTERDOWN",
    b"TRYAGAIN",
];

/// Steps for one lock that wait for others to be done.
const SETTLING_MAX: usize = 256;

/// How long is waited and for whom.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// `sessions.key_prefix`
    pub key_prefix: String,
    /// `sessions.wait_max`
    pub wait_max: Duration,
    /// `sessions.hold_max`
    pub hold_max: Duration,
    /// `sessions.waiters_max`
    pub waiters_max: usize,
    /// `sessions.orphan_after`
    pub orphan_after: Duration,
}

impl Bounds {
    /// Those of the settings.
    pub fn of(sessions: &settings::Sessions) -> Self {
        Self {
            key_prefix: sessions.key_prefix.clone(),
            wait_max: sessions.wait_max,
            hold_max: sessions.hold_max,
            waiters_max: sessions.waiters_max,
            orphan_after: sessions.orphan_after,
        }
    }
}

/// What is known of a host that a pid names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is this one.
    Here,
    /// It was of the fleet, and has left it.
    Gone,
    /// It is another node, or one that is not known.
    Other,
}

/// Says so.
pub type Hosts = Box<dyn Fn(&str) -> Standing + Send + Sync>;

/// What was seen of locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Tries that are held now.
    pub waiting: usize,
    /// Locks that clients of this process have.
    pub held: usize,
    /// Locks that were taken.
    pub taken: u64,
    /// Tries that were held.
    pub waited: u64,
    /// Of them those that got the plain answer in the end.
    pub unanswered: u64,
    /// Locks that were freed for who had gone.
    pub freed: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) taken: AtomicU64,
    pub(super) waited: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) freed: AtomicU64,
}

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It stands behind who was called.
    Next,
    /// The lock is free, or may be.
    Look,
}

/// How a waiter of this process is told.
#[derive(Default)]
pub(super) struct Bell {
    word: AtomicU8,
    notify: Notify,
}

impl Bell {
    fn ring(&self, word: Word) {
        self.word.fetch_max(if word == Word::Look { 2 } else { 1 }, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Waits for the next word.
    pub(super) async fn heard(&self) -> Word {
        loop {
            self.notify.notified().await;
            match self.word.swap(0, Ordering::AcqRel) {
                0 => {}
                1 => return Word::Next,
                _ => return Word::Look,
            }
        }
    }
}

/// A lock that a client of this process has.
#[derive(Clone)]
struct Held {
    place: Place,
    pid: Option<Bytes>,
}

/// The locks of all sessions, as this process knows them.
pub struct Locks {
    pub(super) store: Arc<dyn LockStore>,
    pub(super) bounds: Bounds,
    pub(super) clock: Clock,
    pub(super) counts: Counts,
    hosts: Hosts,
    gate: Option<Arc<Gate>>,
    process: String,
    runtime: Handle,
    number: AtomicU64,
    /// By number, so that who came first is rung first.
    bells: Mutex<BTreeMap<u64, Arc<Bell>>>,
    held: Mutex<BTreeMap<u64, Held>>,
    /// What is to be done for who does not wait for it, by the lock: one step after the other, since who
    /// breaks a lock and goes must be known to have it before it is freed.
    settling: Mutex<HashMap<Place, VecDeque<Step>>>,
    settled: Notify,
    /// Processes that are connected, and how often.
    peers: Mutex<HashMap<i32, usize>>,
    hears: AtomicBool,
    listener: Mutex<Option<AbortHandle>>,
}

impl Locks {
    /// Listens from now on. `process`: 16 letters that no other process has. Needs a tokio runtime.
    pub fn new(
        store: Arc<dyn LockStore>,
        bounds: Bounds,
        process: String,
        hosts: Hosts,
        gate: Option<Arc<Gate>>,
        clock: &Clock,
    ) -> Arc<Self> {
        let locks = Arc::new(Self {
            store,
            bounds,
            clock: clock.clone(),
            counts: Counts::default(),
            hosts,
            gate,
            process,
            runtime: Handle::current(),
            number: AtomicU64::new(1),
            bells: Mutex::default(),
            held: Mutex::default(),
            settling: Mutex::default(),
            settled: Notify::new(),
            peers: Mutex::default(),
            hears: AtomicBool::new(false),
            listener: Mutex::default(),
        });
        let listener = tokio::spawn(listen(Arc::downgrade(&locks)));
        *locks.listener.lock() = Some(listener.abort_handle());
        locks
    }

    /// A client that has connected; dropping it is its disconnecting. `peer_pid`: of its process, where
    /// the system says that.
    pub fn client(self: &Arc<Self>, peer_pid: Option<i32>) -> LockClient {
        let peer_pid = peer_pid.filter(|pid| *pid > 0);
        if let Some(pid) = peer_pid {
            *self.peers.lock().entry(pid).or_default() += 1;
        }
        LockClient::new(Arc::clone(self), peer_pid)
    }

    /// What was seen.
    pub fn figures(&self) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            waiting: self.bells.lock().len(),
            held: self.held.lock().len(),
            taken: count(&self.counts.taken),
            waited: count(&self.counts.waited),
            unanswered: count(&self.counts.unanswered),
            freed: count(&self.counts.freed),
        }
    }

    /// Is what is told to this process heard?
    pub fn hears(&self) -> bool {
        self.hears.load(Ordering::Acquire)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn token(&self, number: u64) -> Token {
        format!("{}:{number}", self.process)
    }

    pub(super) fn gone(&self, peer_pid: Option<i32>) {
        let Some(pid) = peer_pid else { return };
        let mut peers = self.peers.lock();
        if let Some(count) = peers.get_mut(&pid) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&pid);
            }
        }
    }

    pub(super) fn bell(&self, number: u64) -> Arc<Bell> {
        let bell = Arc::new(Bell::default());
        self.bells.lock().insert(number, Arc::clone(&bell));
        bell
    }

    pub(super) fn silence(&self, number: u64) {
        self.bells.lock().remove(&number);
    }

    pub(super) fn hold(&self, number: u64, place: &Place, pid: Option<Bytes>) {
        self.held.lock().insert(number, Held { place: place.clone(), pid });
    }

    pub(super) fn let_go(&self, number: u64) {
        self.held.lock().remove(&number);
    }

    /// PHP asks for a lock.
    pub(super) fn asked(&self, key: &[u8]) {
        if let (Some(gate), Some(session)) = (&self.gate, self.session(key)) {
            gate.asked(session);
        }
    }

    /// PHP has let it go.
    pub(super) fn freed(&self, key: &[u8]) {
        if let (Some(gate), Some(session)) = (&self.gate, self.session(key)) {
            gate.freed(session);
        }
    }

    fn session<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.bounds.key_prefix.as_bytes())
    }

    /// Does what must be done for who does not wait for it, after what was to be done before for the same
    /// lock.
    pub(super) fn settle(self: &Arc<Self>, place: Place, step: Step) {
        let mut settling = self.settling.lock();
        if let Some(steps) = settling.get_mut(&place) {
            if steps.len() < SETTLING_MAX {
                steps.push_back(step);
            }
            return;
        }
        settling.insert(place.clone(), VecDeque::from([step]));
        drop(settling);
        let locks = Arc::clone(self);
        self.runtime.spawn(async move {
            while let Some(step) = locks.next_to_settle(&place) {
                locks.settle_now(&place, &step).await;
            }
        });
    }

    fn next_to_settle(&self, place: &Place) -> Option<Step> {
        let mut settling = self.settling.lock();
        let step = settling.get_mut(place).and_then(VecDeque::pop_front);
        if step.is_none() {
            settling.remove(place);
            self.settled.notify_waiters();
        }
        step
    }

    /// Does it, some times if need be.
    async fn settle_now(&self, place: &Place, step: &Step) {
        for _ in 0..SETTLE_TRIES {
            match self.store.run(place, step).await {
                Ok(Answer::Freed) => {
                    self.counts.freed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(_) => return,
                Err(StoreError::Refused(words)) if !is_of_the_moment(&words) => return,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Resolves when nothing is left to be done for who does not wait for it.
    pub async fn settled(&self) {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.settling.lock().is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Must who waits for this one look by itself?
    pub(super) fn must_look(&self, seen: &Seen) -> bool {
        !seen.owner_lives || !self.hears() || self.standing(&seen.pid) == Standing::Gone
    }

    /// May the lock be freed that was seen unchanged since then?
    pub(super) fn is_orphan(&self, seen: &Seen, since: Moment) -> bool {
        if seen.is_free {
            return false;
        }
        let waited = self.clock.now().since(since) >= self.bounds.orphan_after;
        match self.standing(&seen.pid) {
            // Until the owner signs the pid is of who had it before.
            Standing::Gone => waited || (seen.is_signed && !seen.owner_lives),
            _ if seen.owner_lives => false,
            Standing::Here => waited && !self.is_connected(&seen.pid),
            // PHP there talks to Redis itself, or its gateway was killed.
            Standing::Other => waited && !seen.owner.is_empty(),
        }
    }

    fn standing(&self, pid: &[u8]) -> Standing {
        let host = split_pid(pid).and_then(|(host, _)| std::str::from_utf8(host).ok());
        host.map_or(Standing::Other, |host| (self.hosts)(host))
    }

    /// Is the process of this pid a client here?
    fn is_connected(&self, pid: &[u8]) -> bool {
        let number = split_pid(pid).and_then(|(_, number)| std::str::from_utf8(number).ok());
        let number = number.and_then(|number| number.parse::<i32>().ok());
        number.is_some_and(|number| self.peers.lock().contains_key(&number))
            || self.held.lock().values().any(|held| held.pid.as_deref() == Some(pid))
    }

    fn hear(&self, message: &[u8]) {
        let Some((word, token)) = message.split_first() else { return };
        let number = token.iter().position(|byte| *byte == b':').map(|at| &token[at + 1..]);
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let bell = number.and_then(|number: u64| self.bells.lock().get(&number).cloned());
        if let Some(bell) = bell {
            bell.ring(if *word == b'n' { Word::Next } else { Word::Look });
        }
    }

    /// Messages may have been lost.
    fn look_everywhere(&self) {
        for bell in self.bells.lock().values() {
            bell.ring(Word::Look);
        }
    }

    /// The Redis may have forgotten who has the locks of this process.
    async fn tell_again(&self) {
        let held: Vec<_> = self.held.lock().iter().map(|(n, held)| (*n, held.clone())).collect();
        for (number, Held { place, pid }) in held {
            let Some(pid) = pid else { continue };
            let step = Step::Own { token: self.token(number), pid, broke: false };
            if self.store.run(&place, &step).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get_mut() {
            listener.abort();
        }
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Locks").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

/// Before Redis 7 the words of a command within a script stand behind those of the script: `ERR Error running script
/// (...): ... -OOM command not allowed ...`.
fn is_of_the_moment(words: &[u8]) -> bool {
    let is_one = |word: &[u8]| OF_THE_MOMENT.contains(&word.strip_prefix(b"-").unwrap_or(word));
    let mut all = words.split(|byte| *byte == b' ');
    all.next().is_some_and(is_one) || all.any(|word| word.starts_with(b"-") && is_one(word))
}

/// Hears what is told to this process, for as long as there are locks.
async fn listen(locks: Weak<Locks>) {
    while let Some(these) = locks.upgrade() {
        let (store, process) = (Arc::clone(&these.store), these.process.clone());
        drop(these);
        if let Ok(mut hears) = store.listen(&process).await {
            let Some(these) = locks.upgrade() else { return };
            these.hears.store(true, Ordering::Release);
            these.tell_again().await;
            these.look_everywhere();
            drop(these);
            while let Some(message) = hears.next().await {
                let Some(these) = locks.upgrade() else { return };
                these.hear(&message);
            }
            let Some(these) = locks.upgrade() else { return };
            these.hears.store(false, Ordering::Release);
            these.look_everywhere();
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Host and number of a pid as PHP writes it (`HOST|NUMBER`).
fn split_pid(pid: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pid.iter().rposition(|byte| *byte == b'|')?;
    Some((&pid[..at], &pid[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_moment_are_known_also_where_a_script_is_named_before_them() {
        let of_the_moment: [&[u8]; 3] = [
            b"OOM command not allowed when used memory > 'maxmemory'.",
            b"LOADING Redis is loading the dataset in memory",
            b"ERR Error running script (call to f_1): @user_script:12: -OOM command not allowed",
        ];
        assert!(of_the_moment.iter().all(|words| is_of_the_moment(words)));
        let others: [&[u8]; 3] = [
            b"WRONGTYPE Operation against a key holding the wrong kind of value",
            b"NOPERM no rights for OOM -X",
            b"",
        ];
        assert!(!others.iter().any(|words| is_of_the_moment(words)));
    }
}
