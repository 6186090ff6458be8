//! The queue of a session before PHP: at most one of its requests is on its way to the session's
//! lock, the others wait here, where they take no worker.
//!
//! PHP-FPM's workers would wait for the lock one by one: ten requests of one visitor take ten workers
//! of all visitors. The next one goes when [`Gate::freed`] says that the lock was let go, which is
//! when PHP has closed the session and not when the response has ended; or when the response has ended;
//! or when PHP has asked for no lock within `sessions.lockless_after`.
//!
//! Who has the turn may still wait for a place in PHP. Those behind it keep their order, and it waits as
//! the most urgent of them would ([`Bearing`]); the time until it has to ask for the lock begins when it
//! has its place.
//!
//! A session is known by a keyed hash of its id, and only while one of its requests is here.

mod line;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

pub use line::Kind;

use crate::admission::Turn;
use crate::clock::Clock;
use crate::settings;
use line::{Entered, Line};

/// Parts of the table, so that sessions seldom wait for one lock.
const SHARDS: usize = 64;

/// How many wait, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `sessions.queue_max`
    pub queue_max: usize,
    /// `sessions.queue_wait`
    pub queue_wait: Duration,
    /// `sessions.lockless_after`
    pub lockless_after: Duration,
}

impl Bounds {
    /// Those of the settings.
    pub fn of(sessions: &settings::Sessions) -> Self {
        Self {
            queue_max: sessions.queue_max,
            queue_wait: sessions.queue_wait,
            lockless_after: sessions.lockless_after,
        }
    }
}

/// Why a request does not go to PHP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many of the session wait already as may.
    #[error("too many requests of this session wait")]
    Full,
    /// Its turn did not come.
    #[error("those before it in its session took too long")]
    TooLong,
}

/// What the gate has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests that wait now.
    pub waiting: usize,
    /// Requests that had to wait.
    pub waited: u64,
    /// Requests that were refused.
    pub refused: u64,
}

type Key = u128;
type Call = oneshot::Sender<()>;

/// The queues of all sessions.
pub struct Gate {
    bounds: Bounds,
    clock: Clock,
    keys: [RandomState; 2],
    shards: Vec<Mutex<HashMap<Key, Line<Call>>>>,
    /// Somebody has come to wait, of each part.
    joined: Vec<Notify>,
    number: AtomicU64,
    waiting: AtomicUsize,
    waited: AtomicU64,
    refused: AtomicU64,
}

/// What who waits for a place in PHP shows of its turn.
struct Bearing {
    gate: Arc<Gate>,
    key: Key,
    number: u64,
}

/// The right of one request to be in PHP; dropping it says that its response has ended.
pub struct Pass {
    gate: Arc<Gate>,
    key: Key,
    number: u64,
}

impl Gate {
    /// A gate before which nobody waits.
    pub fn new(bounds: Bounds, clock: &Clock) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            clock: clock.clone(),
            keys: [RandomState::new(), RandomState::new()],
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            joined: (0..SHARDS).map(|_| Notify::new()).collect(),
            number: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Waits for the turn of a request of `session`. Dropping the future leaves the queue. `urgency`: how
    /// urgent it is, lower is more; who goes before it shows as much at the door of PHP.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn enter(
        self: &Arc<Self>,
        session: &[u8],
        kind: Kind,
        urgency: usize,
    ) -> Result<Pass, Refused> {
        let (key, number) = (self.key(session), self.next_number());
        let (call, mut called) = oneshot::channel();
        let entered = self.with_line(key, |line| {
            line.enter((number, kind, urgency), self.bounds.queue_max, || call)
        });
        if entered == Entered::Full {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        // From here on it leaves the line when it is dropped.
        let pass = Pass { gate: Arc::clone(self), key, number };
        if entered == Entered::Goes {
            return Ok(pass);
        }
        let _waiting = Waiting::begin(self);
        self.joined[Self::shard_of(key)].notify_waiters();
        let patience = tokio::time::sleep(self.bounds.queue_wait);
        tokio::pin!(patience);
        loop {
            let look = tokio::time::sleep(self.until_look(key));
            tokio::select! {
                biased;
                _ = &mut called => return Ok(pass),
                () = &mut patience => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(Refused::TooLong);
                }
                () = look => self.look(key),
            }
        }
    }

    /// As [`Gate::enter`], for who does not wait.
    pub fn try_enter(self: &Arc<Self>, session: &[u8]) -> Option<Pass> {
        let (key, number) = (self.key(session), self.next_number());
        let goes = self.with_line(key, |line| line.takes(number));
        goes.then(|| Pass { gate: Arc::clone(self), key, number })
    }

    /// PHP asks for the lock of a session.
    pub fn asked(&self, session: &[u8]) {
        let key = self.key(session);
        if let Some(line) = self.shard(key).lock().get_mut(&key) {
            line.asked();
        }
    }

    /// PHP has let the lock of a session go.
    pub fn freed(&self, session: &[u8]) {
        self.advance(self.key(session), |line, _| line.freed());
    }

    /// What was seen.
    pub fn figures(&self) -> Figures {
        Figures {
            waiting: self.waiting.load(Ordering::Relaxed),
            waited: self.waited.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn look(&self, key: Key) {
        let after = self.bounds.lockless_after;
        self.advance(key, |line, gate| line.look(gate.clock.now(), after));
    }

    /// When a waiter is to look whether who goes before it takes a lock at all.
    fn until_look(&self, key: Key) -> Duration {
        let after = self.bounds.lockless_after;
        let shard = self.shard(key).lock();
        let due = shard.get(&key).and_then(|line| line.due(self.clock.now(), after));
        // A moment is a whole millisecond; one that has begun is not over.
        due.map_or(after, |due| due + Duration::from_millis(1))
    }

    /// Does what may let the next one go.
    fn advance(&self, key: Key, step: impl Fn(&mut Line<Call>, &Self) -> Option<Call>) {
        let mut shard = self.shard(key).lock();
        let Some(line) = shard.get_mut(&key) else { return };
        let call = step(line, self);
        if line.is_idle() {
            shard.remove(&key);
        }
        drop(shard);
        if let Some(call) = call {
            // Who has gone meanwhile gives its turn up by dropping its pass.
            let _is_gone = call.send(());
        }
    }

    fn with_line<T>(&self, key: Key, step: impl FnOnce(&mut Line<Call>) -> T) -> T {
        step(self.shard(key).lock().entry(key).or_default())
    }

    fn shard(&self, key: Key) -> &Mutex<HashMap<Key, Line<Call>>> {
        &self.shards[Self::shard_of(key)]
    }

    fn shard_of(key: Key) -> usize {
        (key % SHARDS as u128) as usize
    }

    fn key(&self, session: &[u8]) -> Key {
        let [high, low] = &self.keys;
        u128::from(high.hash_one(session)) << 64 | u128::from(low.hash_one(session))
    }

    fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

impl Pass {
    /// For the door of PHP.
    pub fn turn(&self) -> Arc<dyn Turn> {
        let &Self { ref gate, key, number } = self;
        Arc::new(Bearing { gate: Arc::clone(gate), key, number })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let number = self.number;
        self.gate.advance(self.key, |line, _| line.ended(number));
    }
}

impl Turn for Bearing {
    fn urgency(&self) -> usize {
        let shard = self.gate.shard(self.key).lock();
        shard.get(&self.key).map_or(usize::MAX, |line| line.urgency_behind(self.number))
    }

    fn joined(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.gate.joined[Gate::shard_of(self.key)].notified())
    }

    fn goes(&self) {
        let now = self.gate.clock.now();
        if let Some(line) = self.gate.shard(self.key).lock().get_mut(&self.key) {
            line.goes(self.number, now);
        }
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pass").finish_non_exhaustive()
    }
}

/// Counts a request that waits for as long as it does.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn begin(gate: &'a Gate) -> Self {
        gate.waiting.fetch_add(1, Ordering::Relaxed);
        gate.waited.fetch_add(1, Ordering::Relaxed);
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        queue_max: 2,
        queue_wait: Duration::from_secs(30),
        lockless_after: Duration::from_secs(1),
    };

    const URGENCY: usize = 5;

    fn gate() -> Arc<Gate> {
        Gate::new(BOUNDS, &Clock::manual())
    }

    fn is_empty(gate: &Gate) -> bool {
        gate.shards.iter().all(|shard| shard.lock().is_empty())
    }

    /// A request that comes after those before it have been seen to wait.
    async fn waiter(
        gate: &Arc<Gate>,
        kind: Kind,
    ) -> tokio::task::JoinHandle<Result<Pass, Refused>> {
        let (before, own) = (gate.figures().waited, Arc::clone(gate));
        let task = tokio::spawn(async move { own.enter(b"a", kind, URGENCY).await });
        while gate.figures().waited == before && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn the_next_one_goes_when_the_lock_is_free_and_not_when_the_response_has_ended() {
        let gate = gate();
        let export = gate.enter(b"a", Kind::Visitor, URGENCY).await.expect("free");
        let poll = waiter(&gate, Kind::Visitor).await;
        assert!(!poll.is_finished());
        export.turn().goes();
        gate.asked(b"a");
        gate.freed(b"a");
        let poll = poll.await.expect("joined").expect("its turn");
        drop((export, poll));
        assert!(is_empty(&gate));
    }

    #[tokio::test]
    async fn the_next_one_goes_when_the_response_has_ended() {
        let gate = gate();
        let first = gate.enter(b"a", Kind::Visitor, URGENCY).await.expect("free");
        let second = waiter(&gate, Kind::Visitor).await;
        let fill = waiter(&gate, Kind::Fill).await;
        assert_eq!(gate.enter(b"a", Kind::Visitor, URGENCY).await.err(), Some(Refused::Full));
        drop(first);
        let fill = fill.await.expect("joined").expect("it goes first");
        assert!(!second.is_finished());
        drop(fill);
        drop(second.await.expect("joined").expect("then the other"));
        assert!(is_empty(&gate));
        assert_eq!(gate.figures(), Figures { waiting: 0, waited: 2, refused: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_lock_does_not_hold_the_others_back_for_long() {
        let clock = Clock::manual();
        let gate = Gate::new(BOUNDS, &clock);
        let first = gate.enter(b"a", Kind::Visitor, URGENCY).await.expect("free");
        let second = waiter(&gate, Kind::Visitor).await;
        clock.advance(BOUNDS.lockless_after);
        tokio::time::sleep(BOUNDS.lockless_after * 2).await;
        assert!(!second.is_finished(), "it waits for a place in PHP");
        first.turn().goes();
        clock.advance(BOUNDS.lockless_after);
        drop(second.await.expect("joined").expect("its turn"));
    }

    #[tokio::test]
    async fn who_has_the_turn_hears_of_those_behind_it() {
        let gate = gate();
        let first = gate.enter(b"a", Kind::Visitor, URGENCY).await.expect("free");
        let turn = first.turn();
        assert_eq!(turn.urgency(), usize::MAX);
        let joined = turn.joined();
        tokio::pin!(joined);
        let not_yet = tokio::time::timeout(Duration::ZERO, joined.as_mut()).await;
        assert!(not_yet.is_err());
        let second = waiter(&gate, Kind::Visitor).await;
        joined.await;
        assert_eq!(turn.urgency(), URGENCY);
        drop(first);
        drop(second.await.expect("joined").expect("its turn"));
        assert_eq!(turn.urgency(), usize::MAX, "it is over");
        turn.goes();
        assert!(is_empty(&gate));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_has_an_end_and_sessions_do_not_wait_for_each_other() {
        let gate = gate();
        let _first = gate.enter(b"a", Kind::Visitor, URGENCY).await.expect("free");
        gate.asked(b"a");
        let _other = gate.enter(b"b", Kind::Visitor, URGENCY).await.expect("another session");
        assert_eq!(gate.enter(b"a", Kind::Visitor, URGENCY).await.err(), Some(Refused::TooLong));
        assert!(gate.try_enter(b"a").is_none());
        assert!(gate.try_enter(b"c").is_some());
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_gives_its_place_up_even_when_it_was_called_already() {
        let gate = gate();
        let first = gate.enter(b"a", Kind::Visitor, URGENCY).await.expect("free");
        let (gone, called) =
            (waiter(&gate, Kind::Visitor).await, waiter(&gate, Kind::Visitor).await);
        gone.abort();
        assert!(gone.await.is_err());
        // It is called and never hears of it.
        called.abort();
        drop(first);
        assert!(called.await.is_err());
        assert!(is_empty(&gate));
        assert_eq!(gate.figures().waiting, 0);
    }
}
