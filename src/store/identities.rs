//! Plain forms of what is stored compressed, kept for a while for clients that take no coding.
//!
//! Look-ups take the lock of one part alone, which they share. What goes when room is short is what was
//! kept longest and was not asked for since its turn last came (second chance).

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};

use super::sharded::shard_of;
use super::weight::{allocation_bytes, shared_bytes};

/// Parts of the table.
const PARTS: usize = 64;

/// Bytes of a plain form besides the form itself: its places in table and queue, when both have just
/// doubled.
const PLACE_BYTES: usize = 192;

/// Records in the queue of what has gone otherwise, besides as many as are in use.
const RECORDS_SPARE: usize = 64;

/// Whose plain form it is: a response's sequence number and the place of the literal in it.
pub(super) type Place = (u64, usize);

/// Plain forms by [`Place`].
pub(super) struct Identities {
    parts: Box<[Part]>,
    order: Mutex<Order>,
    bytes_max: u64,
}

/// No two of them share a cache line.
#[repr(align(64))]
#[derive(Default)]
struct Part(RwLock<HashTable<Kept>>);

struct Kept {
    place: Place,
    identity: Bytes,
    /// Asked for since its turn last came?
    used: AtomicBool,
}

/// Who is next to go, and what all take.
#[derive(Default)]
struct Order {
    /// The oldest first. Some have gone otherwise.
    queue: VecDeque<Place>,
    kept: usize,
    bytes: u64,
}

impl Identities {
    /// Room for so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let parts = std::iter::repeat_with(Part::default).take(PARTS).collect();
        Self { parts, order: Mutex::default(), bytes_max }
    }

    /// The plain form, if it is kept.
    pub(super) fn get(&self, place: Place) -> Option<Bytes> {
        let hash = hash_of(place);
        let part = self.part(hash).0.read();
        let kept = part.find(hash, |kept| kept.place == place)?;
        // What is asked for all the time is read by all cores, and written by none.
        if !kept.used.load(Ordering::Relaxed) {
            kept.used.store(true, Ordering::Relaxed);
        }
        Some(kept.identity.clone())
    }

    /// Keeps a plain form, unless it would take more than a quarter of the room.
    pub(super) fn insert(&self, place: Place, identity: Bytes) {
        let bytes = bytes_of(&identity);
        if bytes > self.bytes_max / 4 {
            return self.remove(place);
        }
        let mut order = self.order.lock();
        self.take_out(&mut order, place);
        let mut chances = order.queue.len();
        while order.bytes + bytes > self.bytes_max {
            let Some(oldest) = order.queue.pop_front() else { return };
            if chances > 0 && self.has_another_chance(oldest) {
                chances -= 1;
                order.queue.push_back(oldest);
            } else {
                self.take_out(&mut order, oldest);
            }
        }
        order.bytes += bytes;
        order.kept += 1;
        order.queue.push_back(place);
        let hash = hash_of(place);
        let kept = Kept { place, identity, used: AtomicBool::new(false) };
        self.part(hash).0.write().insert_unique(hash, kept, |kept| hash_of(kept.place));
        self.tidy(&mut order);
    }

    /// Lets go of a plain form.
    pub(super) fn remove(&self, place: Place) {
        // Nearly all responses that go have none.
        if !self.contains(place) {
            return;
        }
        let mut order = self.order.lock();
        self.take_out(&mut order, place);
        self.tidy(&mut order);
    }

    /// What all take.
    pub(super) fn bytes(&self) -> u64 {
        self.order.lock().bytes
    }

    /// Bounds the records of what has gone.
    fn tidy(&self, order: &mut Order) {
        if order.queue.len() > 2 * order.kept + RECORDS_SPARE {
            let mut seen = HashSet::with_capacity(order.kept);
            order.queue.retain(|place| self.contains(*place) && seen.insert(*place));
        }
    }

    fn take_out(&self, order: &mut Order, place: Place) {
        let hash = hash_of(place);
        let mut part = self.part(hash).0.write();
        if let Ok(found) = part.find_entry(hash, |kept| kept.place == place) {
            order.bytes -= bytes_of(&found.remove().0.identity);
            order.kept -= 1;
        }
    }

    fn has_another_chance(&self, place: Place) -> bool {
        let hash = hash_of(place);
        let part = self.part(hash).0.read();
        let kept = part.find(hash, |kept| kept.place == place);
        kept.is_some_and(|kept| kept.used.swap(false, Ordering::Relaxed))
    }

    fn contains(&self, place: Place) -> bool {
        let hash = hash_of(place);
        self.part(hash).0.read().find(hash, |kept| kept.place == place).is_some()
    }

    fn part(&self, hash: u64) -> &Part {
        &self.parts[shard_of(hash, PARTS)]
    }
}

/// Numbers of our own, which nobody can choose: a multiplication spreads them over all bits.
fn hash_of((sequence, literal): Place) -> u64 {
    let mixed = sequence.wrapping_add((literal as u64) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

fn bytes_of(identity: &Bytes) -> u64 {
    (shared_bytes(identity) + allocation_bytes(PLACE_BYTES)) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn text(number: u64, length: usize) -> Bytes {
        Bytes::from(vec![number as u8; length])
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_put_in_and_never_more_than_there_is_room(
            steps in prop::collection::vec((0_u8..4, 0_u64..40, 0_usize..3, 1_usize..6_000), 1..400),
        ) {
            let identities = Identities::new(20_000);
            let mut model = HashMap::new();
            for (step, number, literal, length) in steps {
                let place = (number, literal);
                match step {
                    0 | 1 => {
                        let identity = text(number, length);
                        model.insert(place, identity.clone());
                        identities.insert(place, identity);
                    }
                    2 => {
                        model.remove(&place);
                        identities.remove(place);
                        prop_assert_eq!(identities.get(place), None);
                    }
                    _ => {
                        let found = identities.get(place);
                        prop_assert!(found.is_none() || found.as_ref() == model.get(&place));
                    }
                }
                let kept: Vec<_> = model.keys().filter_map(|place| identities.get(*place)).collect();
                let order = identities.order.lock();
                prop_assert_eq!(order.bytes, kept.iter().map(bytes_of).sum::<u64>());
                prop_assert_eq!(order.kept, kept.len());
                prop_assert!(order.bytes <= 20_000);
                prop_assert!(order.queue.len() <= 2 * order.kept + RECORDS_SPARE + 1);
            }
        }
    }

    #[test]
    fn what_is_asked_for_outlasts_what_is_not() {
        let identities = Identities::new(100_000);
        identities.insert((0, 0), text(0, 5_000));
        for number in 1..200 {
            assert!(identities.get((0, 0)).is_some(), "before {number}");
            identities.insert((number, 0), text(number, 5_000));
        }
        assert!(identities.get((1, 0)).is_none());
    }

    #[test]
    fn what_takes_more_than_a_quarter_of_the_room_is_not_kept() {
        let identities = Identities::new(40_000);
        identities.insert((1, 0), text(1, 10_000));
        assert_eq!((identities.get((1, 0)), identities.bytes()), (None, 0));
    }
}
