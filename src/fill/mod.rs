//! One fetch per key, however many wait.
//!
//! The first request that misses leads: it gets a [`FillPermit`], and whoever holds that fetches.
//! Others follow and share what arrives. A permit that is lost (a panic, a cancelled task) frees
//! its followers. What is fetched, from where and whether it may be stored is the caller's.

mod flight;

pub use flight::{
    Bill, FillPermit, FillSharing, FillWait, Flight, Outcome, Release, Shared, SharedHead,
};

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Moment;
use crate::policy::CacheKey;
use crate::store::FillMark;

/// Number of independent locks; a power of two.
const SHARDS: usize = 64;

/// The fetches that are under way, by key.
pub struct Flights {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

type Shard = Mutex<HashMap<CacheKey, Held>>;

/// A flight as it stands under a key.
struct Held {
    flight: Arc<Flight>,
    /// It stands under another key as well, which it began with.
    is_alias: bool,
}

/// What a request that misses does.
pub enum Joined {
    /// It fetches.
    Lead(FillPermit),
    /// Somebody does already.
    Follow(FillWait),
    /// `fill.waiters_max` requests wait for that fetch already.
    Full,
}

/// What bounds joining.
#[derive(Clone, Copy, Debug)]
pub struct JoinLimits {
    /// `fill.leader_timeout`
    pub leader_timeout: Duration,
    /// `fill.waiters_max`
    pub waiters_max: usize,
}

impl Default for Flights {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Flights {
    /// Joins the fetch of `key`, or leads a new one.
    ///
    /// `mark` is the store's purge number now. An older flight is not joined where `overtaken`
    /// says that a purge came after it began (the request may have come after that purge was
    /// answered, and must not see what was rendered before), nor where its leader has hung for
    /// `leader_timeout` without a response head; the caller then leads a new flight in its place.
    pub fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        mark: FillMark,
        now: Moment,
        limits: JoinLimits,
        overtaken: impl FnOnce(&Flight) -> bool,
    ) -> Joined {
        let mut shard = self.shard(key).lock();
        if let Some(Held { flight, .. }) = shard.get(key) {
            let hung = flight.is_waiting() && now.since(flight.started()) >= limits.leader_timeout;
            if !hung && !overtaken(flight) {
                return FillWait::new(flight, limits.waiters_max)
                    .map_or(Joined::Full, Joined::Follow);
            }
        }
        let flight = Arc::new(Flight::new(mark, now));
        shard.insert(key.clone(), Held { flight: Arc::clone(&flight), is_alias: false });
        drop(shard);
        Joined::Lead(FillPermit::new(Arc::clone(self), key.clone(), flight))
    }

    /// A fetch that nobody joins: after hit-for-miss, requests do not wait for each other.
    pub fn alone(self: &Arc<Self>, key: &CacheKey, mark: FillMark, now: Moment) -> FillPermit {
        FillPermit::new(Arc::clone(self), key.clone(), Arc::new(Flight::new(mark, now)))
    }

    /// Lets a flight be joined under one more key, unless there is a flight already.
    fn take_free(&self, key: &CacheKey, flight: &Arc<Flight>) -> bool {
        let mut shard = self.shard(key).lock();
        let is_free = !shard.contains_key(key);
        if is_free {
            shard.insert(key.clone(), Held { flight: Arc::clone(flight), is_alias: true });
        }
        is_free
    }

    /// Fetches under way.
    pub fn len(&self) -> usize {
        self.sum(|_| 1)
    }

    /// Is nothing under way?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests that wait for another's fetch.
    pub fn waiters(&self) -> usize {
        self.sum(Flight::waiters)
    }

    fn sum(&self, of: impl Fn(&Flight) -> usize) -> usize {
        let held = |held: &Held| if held.is_alias { 0 } else { of(&held.flight) };
        self.shards.iter().map(|shard| shard.lock().values().map(held).sum::<usize>()).sum()
    }

    /// May requests still join this flight?
    fn holds(&self, key: &CacheKey, flight: &Arc<Flight>) -> bool {
        self.shard(key).lock().get(key).is_some_and(|held| Arc::ptr_eq(&held.flight, flight))
    }

    /// The flight has ended; a newer one that took its place stays.
    fn land(&self, key: &CacheKey, flight: &Arc<Flight>) {
        let mut shard = self.shard(key).lock();
        if shard.get(key).is_some_and(|held| Arc::ptr_eq(&held.flight, flight)) {
            shard.remove(key);
        }
    }

    fn shard(&self, key: &CacheKey) -> &Shard {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash).unwrap_or(0) % SHARDS]
    }
}

#[cfg(test)]
mod tests;
