//! One client of the gateway, as far as locks go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::locks::{Bell, Locks, PACE, Word};
use super::step::{Answer, Place, Seen, Step, StoreError};
use crate::clock::Moment;
use crate::sessions::carried::{CarriedLock, CarriedLocks, CarriedTries, Octets, milliseconds};
use crate::sessions::gateway::BackendError;

/// Locks that one client may have; PHP has one.
const HELD_MAX: usize = 16;

/// Tries of one waiter follow each other within this time: PHP sleeps half a second.
const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// A client that has connected; dropping it is its disconnecting.
pub struct LockClient {
    locks: Arc<Locks>,
    peer_pid: Option<i32>,
    held: Vec<Held>,
    attempt: Option<Attempt>,
}

/// What Redis has acknowledged of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The field `pid`, where it was written.
    pub pid: Option<Bytes>,
    /// The field `lock`, where it was written.
    pub lock: Option<i64>,
    /// Is the session gone, or one of the two fields?
    pub deleted: bool,
}

struct Held {
    place: Place,
    number: u64,
    pid: Option<Bytes>,
    /// It has asked for it again, and PHP does not ask for what it has: others broke it, or a request
    /// before ended without setting it free.
    is_asked_for: bool,
    /// It was taken through another process, so nobody here was told whose it is.
    is_untold: bool,
}

/// The tries of one waiter.
struct Attempt {
    place: Place,
    number: u64,
    turn: i64,
    /// How long they were held.
    held: Duration,
    /// How long the one under way was held by another process.
    waited: Duration,
    /// When the one under way began.
    began: Option<Moment>,
    ended: Moment,
    /// For whom it waits, and since when that is so.
    seen: Option<(Seen, Moment)>,
}

/// What ends a wait.
enum Woken {
    Look,
    TooLong,
}

impl LockClient {
    pub(super) fn new(locks: Arc<Locks>, peer_pid: Option<i32>) -> Self {
        Self { locks, peer_pid, held: Vec::new(), attempt: None }
    }

    /// For `HINCRBY KEY lock 1` outside of MULTI: waits in line and gives what the command is to
    /// answer. 1: the lock is the client's. Dropping the future is the client's going away.
    ///
    /// # Errors
    /// [`BackendError`], also with the words of the command's own error.
    pub async fn take(&mut self, database: u32, key: &Bytes) -> Result<i64, BackendError> {
        let place = Place { database, key: key.clone() };
        self.locks.asked(key);
        if let Some(held) = self.held.iter_mut().find(|held| held.place == place) {
            held.is_asked_for = true;
        }
        let began = self.locks.clock.now();
        let attempt = self.attempt_at(place, began);
        // It stays where the wait is ended from outside.
        let attempt = self.attempt.insert(attempt);
        let seat = Seat::new(&self.locks, attempt);
        let outcome = seat.wait(attempt).await;
        if outcome == Ok(1) {
            let (place, number) = (attempt.place.clone(), attempt.number);
            self.attempt = None;
            self.locks.counts.taken.fetch_add(1, Ordering::Relaxed);
            self.locks.hold(number, &place, None);
            let (pid, is_asked_for, is_untold) = (None, false, false);
            self.remember(Held { place, number, pid, is_asked_for, is_untold });
        } else {
            attempt.ended = self.locks.clock.now();
            attempt.held += attempt.waited + attempt.ended.since(began);
            (attempt.waited, attempt.began) = (Duration::ZERO, None);
        }
        Ok(outcome?)
    }

    /// Does it have a lock, as far as is known?
    pub fn holds_any(&self) -> bool {
        self.held.iter().any(|held| !held.is_asked_for)
    }

    /// Redis has acknowledged a write of this client that names the fields `lock` or `pid` of a key, or
    /// deletes them.
    pub fn wrote(&mut self, database: u32, key: &Bytes, written: Written) {
        let place = Place { database, key: key.clone() };
        let at = self.held.iter().position(|held| held.place == place);
        if written.deleted || written.lock == Some(0) {
            let number = at.map(|at| self.held.remove(at).number);
            self.let_go(place, number);
            return;
        }
        match (at, written) {
            (Some(at), Written { pid: Some(pid), .. }) if !self.held[at].is_asked_for => {
                let held = &mut self.held[at];
                held.pid = Some(pid.clone());
                let (number, is_untold) = (held.number, std::mem::take(&mut held.is_untold));
                self.locks.hold(number, &place, Some(pid.clone()));
                if is_untold {
                    self.own(number, place, pid, false);
                }
            }
            (_, Written { pid: Some(pid), lock: Some(_), .. }) => self.broke(place, pid),
            _ => {}
        }
    }

    /// It has the lock without having counted it from 0 to 1: it broke another's by PHP's own rule.
    fn broke(&mut self, place: Place, pid: Bytes) {
        let number = self.locks.next_number();
        self.locks.hold(number, &place, Some(pid.clone()));
        self.own(number, place.clone(), pid.clone(), true);
        let (pid, is_asked_for, is_untold) = (Some(pid), false, false);
        self.remember(Held { place, number, pid, is_asked_for, is_untold });
    }

    /// Says whose the lock is.
    fn own(&self, number: u64, place: Place, pid: Bytes, broke: bool) {
        let step = Step::Own { token: self.locks.token(number), pid, broke };
        self.locks.settle(place, step);
    }

    /// What is to be known of it where it goes on; then this one has nothing any more.
    pub fn carry(&mut self) -> CarriedLocks {
        let held = std::mem::take(&mut self.held).into_iter().map(|held| {
            self.locks.let_go(held.number);
            CarriedLock {
                database: held.place.database,
                key: Octets(held.place.key),
                pid: held.pid.map(Octets),
                is_asked_for: held.is_asked_for,
            }
        });
        let held = held.collect();
        let (now, at_ms) = (self.locks.clock.now(), milliseconds(self.locks.clock.wall()));
        let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let tries = self.attempt.take().map(|attempt| CarriedTries {
            database: attempt.place.database,
            key: Octets(attempt.place.key),
            turn: attempt.turn,
            held_ms: whole(attempt.held),
            waits_ms: attempt.began.map(|began| whole(attempt.waited + now.since(began))),
            at_ms,
        });
        CarriedLocks { held, tries }
    }

    /// Goes on as a client of another process, which has this one's locks.
    pub fn resume(&mut self, carried: CarriedLocks) {
        for CarriedLock { database, key, pid, is_asked_for } in carried.held {
            let (place, pid) = (Place { database, key: key.0 }, pid.map(|pid| pid.0));
            let number = self.locks.next_number();
            self.locks.hold(number, &place, pid.clone());
            if let Some(pid) = pid.clone().filter(|_| !is_asked_for) {
                self.own(number, place.clone(), pid, false);
            }
            let is_untold = pid.is_none();
            self.remember(Held { place, number, pid, is_asked_for, is_untold });
        }
        let now = self.locks.clock.now();
        self.attempt = carried.tries.map(|tries| Attempt {
            number: 0,
            turn: tries.turn,
            held: Duration::from_millis(tries.held_ms),
            waited: tries.waited(self.locks.clock.wall()).unwrap_or_default(),
            began: None,
            ended: now,
            seen: None,
            place: Place { database: tries.database, key: tries.key.0 },
        });
    }

    /// In place of what was known of the same lock. The oldest is forgotten where there are too many:
    /// PHP has one, and the others were broken long ago.
    fn remember(&mut self, held: Held) {
        let known = self.held.iter().position(|known| known.place == held.place);
        let full = (self.held.len() >= HELD_MAX).then_some(0);
        if let Some(at) = known.or(full) {
            self.locks.let_go(self.held.remove(at).number);
        }
        self.held.push(held);
    }

    /// Sets a lock free that is still this one's.
    fn free(&self, Held { place, number, pid, .. }: Held) {
        self.locks.let_go(number);
        let owner = self.locks.token(number);
        let step = Step::Free { token: owner.clone(), owner, pid };
        self.locks.settle(place, step);
    }

    fn let_go(&self, place: Place, number: Option<u64>) {
        if let Some(number) = number {
            self.locks.let_go(number);
        }
        self.locks.freed(&place.key);
        // Without a number it is nobody's token.
        let token = self.locks.token(number.unwrap_or(0));
        self.locks.settle(place, Step::Release { token });
    }

    /// The tries so far, where they are for the same lock and of the same waiter.
    fn attempt_at(&mut self, place: Place, now: Moment) -> Attempt {
        let goes_on =
            |known: &Attempt| known.place == place && now.since(known.ended) < BETWEEN_TRIES;
        let known = self.attempt.take().filter(goes_on);
        let number = self.locks.next_number();
        let began = Some(now);
        if let Some(known) = known {
            return Attempt { number, began, ..known };
        }
        let (held, waited, seen) = (Duration::ZERO, Duration::ZERO, None);
        Attempt { place, number, turn: 0, held, waited, began, ended: now, seen }
    }
}

impl Drop for LockClient {
    fn drop(&mut self) {
        self.locks.gone(self.peer_pid);
        for held in std::mem::take(&mut self.held) {
            self.locks.freed(&held.place.key);
            self.free(held);
        }
    }
}

/// A place in the line; dropping it before there is an answer leaves the line.
struct Seat<'a> {
    locks: &'a Arc<Locks>,
    place: Place,
    number: u64,
    bell: Arc<Bell>,
    is_settled: bool,
}

impl<'a> Seat<'a> {
    fn new(locks: &'a Arc<Locks>, attempt: &Attempt) -> Self {
        let (place, number) = (attempt.place.clone(), attempt.number);
        Self { locks, place, number, bell: locks.bell(number), is_settled: false }
    }

    async fn wait(mut self, attempt: &mut Attempt) -> Result<i64, StoreError> {
        let bounds = &self.locks.bounds;
        let left = bounds.hold_max.saturating_sub(attempt.held).min(bounds.wait_max);
        let hold = left.saturating_sub(attempt.waited);
        let token = self.locks.token(self.number);
        let (mut waits, mut is_over, mut gives_up) = (false, hold.is_zero(), false);
        let patience = tokio::time::sleep(hold);
        tokio::pin!(patience);
        loop {
            let step = if gives_up {
                Step::Now { token: token.clone() }
            } else {
                let (turn, waiters_max) = (attempt.turn, bounds.waiters_max);
                Step::Take { token: token.clone(), turn, waiters_max }
            };
            match self.locks.store.run(&self.place, &step).await {
                Ok(Answer::Waits { turn, seen }) => {
                    attempt.turn = turn;
                    if !is_over && !std::mem::replace(&mut waits, true) {
                        self.locks.counts.waited.fetch_add(1, Ordering::Relaxed);
                    }
                    if self.frees(attempt, &seen).await {
                        continue;
                    }
                    // Who is not held any more has looked all the same: PHP goes on with its tries,
                    // and nobody else may look whether the lock was left behind.
                    if is_over {
                        gives_up = true;
                        continue;
                    }
                    let must_look = self.locks.must_look(&seen);
                    let woken = tokio::select! {
                        biased;
                        woken = self.woken(must_look) => woken,
                        () = &mut patience => Woken::TooLong,
                    };
                    is_over = matches!(woken, Woken::TooLong);
                }
                Ok(Answer::Counted(number)) => {
                    self.is_settled = true;
                    if is_over && number != 1 {
                        self.locks.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(number);
                }
                Ok(Answer::Done | Answer::Freed) | Err(StoreError::Refused(_)) => {
                    return self.plain().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The server does not do the step: it is a key of another kind, or scripts are forbidden. The
    /// command itself says in Redis' words what is wrong, or works.
    async fn plain(self) -> Result<i64, StoreError> {
        self.locks.store.count(&self.place).await
    }

    async fn woken(&self, must_look: bool) -> Woken {
        let mut pause = must_look.then_some(PACE);
        loop {
            let look = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                word = self.bell.heard() => match word {
                    Word::Look => return Woken::Look,
                    // It sees to it that the one before comes.
                    Word::Next => pause = Some(PACE + PACE / 10),
                },
                () = look => return Woken::Look,
            }
        }
    }

    /// Frees the lock where who has it is gone. True: it was.
    async fn frees(&self, attempt: &mut Attempt, seen: &Seen) -> bool {
        let now = self.locks.clock.now();
        let since = match &attempt.seen {
            Some((known, since)) if known == seen => *since,
            _ => now,
        };
        attempt.seen = Some((seen.clone(), since));
        if !self.locks.is_orphan(seen, since) {
            return false;
        }
        let token = self.locks.token(self.number);
        let (owner, pid) = (seen.owner.clone(), Some(seen.pid.clone()));
        let step = Step::Free { token, owner, pid };
        let is_freed = matches!(self.locks.store.run(&self.place, &step).await, Ok(Answer::Freed));
        if is_freed {
            self.locks.counts.freed.fetch_add(1, Ordering::Relaxed);
        }
        is_freed
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.locks.silence(self.number);
        if !self.is_settled {
            let token = self.locks.token(self.number);
            self.locks.settle(self.place.clone(), Step::Leave { token });
        }
    }
}
