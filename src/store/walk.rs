//! What is stored, hottest first, for who takes it elsewhere.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::entry::{Entry, Freshness};
use super::slots::Slot;
use super::uses::{Used, places_to_halve};
use super::{RESPONSES_PER_TURN, Store};
use crate::clock::Moment;
use crate::policy::CacheKey;

/// Responses that are looked up in one turn at the lock, and kept alive until they were given.
const AHEAD: usize = 64;

/// A stored response, and how much it was asked for when the walk began.
#[derive(Clone, Debug)]
pub struct Stored {
    /// It.
    pub entry: Arc<Entry>,
    /// By that the walk is in order.
    pub used: Used,
}

/// What was stored when it began, what is asked for most first. What goes meanwhile is left out, what is
/// stored anew as well. It holds 32 bytes for each response, and a few responses themselves.
pub struct Walk {
    store: Arc<Store>,
    /// Least asked for first.
    places: Vec<(Used, u64, Slot)>,
    hits: u64,
    /// The last one is next.
    ahead: Vec<Stored>,
}

impl Walk {
    /// Begins. Takes turns at the writers' lock, and about 0.2 us for each response: not on a thread
    /// that serves requests.
    pub fn new(store: Arc<Store>) -> Self {
        let mut places = Vec::new();
        let mut writers = store.writers.lock();
        let mut from = 0;
        while from < writers.index.slots() {
            let to = from + RESPONSES_PER_TURN;
            let entries = (from..to).filter_map(|slot| writers.index.entry(slot as Slot));
            let living = entries.filter(|entry| !store.is_purged(entry));
            places.extend(living.map(|entry| (entry.used(), entry.sequence, entry.slot)));
            from = to;
            MutexGuard::bump(&mut writers);
        }
        drop(writers);
        places.sort_unstable();
        let hits = places.iter().map(|(used, ..)| used.hits).sum();
        Self { store, places, hits, ahead: Vec::new() }
    }

    /// The hits of about the last hour of all that was stored when it began.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// So many are still to come, at most.
    pub fn remaining(&self) -> usize {
        self.places.len() + self.ahead.len()
    }

    fn look_ahead(&mut self) {
        let first = self.places.len().saturating_sub(AHEAD);
        let writers = self.store.writers.lock();
        let places = self.places.drain(first..).filter_map(|(used, sequence, slot)| {
            let entry = writers.index.entry(slot).filter(|entry| entry.sequence == sequence)?;
            let is_here = !self.store.is_purged(entry);
            is_here.then(|| Stored { entry: Arc::clone(entry), used })
        });
        self.ahead.extend(places);
    }
}

impl Iterator for Walk {
    type Item = Stored;

    fn next(&mut self) -> Option<Stored> {
        while self.ahead.is_empty() && !self.places.is_empty() {
            self.look_ahead();
        }
        self.ahead.pop()
    }
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Walk").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl Store {
    /// What is stored under a key and fresh. Nobody asks for it, so that it counts as no use.
    pub fn peek(&self, key: &CacheKey, now: Moment) -> Option<Arc<Entry>> {
        let entry = self.caches.load().pages.get(key.as_bytes())?;
        let is_fresh = !self.is_purged(&entry) && entry.freshness(now) == Freshness::Fresh;
        is_fresh.then_some(entry)
    }

    /// Halves the weights whose turn has come since the last time.
    pub(super) fn halve_weights(&self) {
        let now = self.clock.now();
        let mut writers = self.writers.lock();
        let from = std::mem::replace(&mut writers.halved_until, now);
        let places = places_to_halve(from, now, writers.index.slots());
        for (number, place) in places.enumerate() {
            if let Some(entry) = writers.index.entry(place as Slot) {
                entry.uses.halve();
            }
            if number % RESPONSES_PER_TURN == 0 {
                MutexGuard::bump(&mut writers);
            }
        }
    }
}
