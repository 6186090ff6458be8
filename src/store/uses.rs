//! How much a response is asked for.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::clock::Moment;

/// One in so many look-ups is counted.
const SAMPLE: u64 = 16;

/// Weights are halved once in this time: of what a page was asked for at a steady rate three quarters are of
/// the last hour.
const HALF_LIFE_MILLISECONDS: u64 = 30 * 60 * 1_000;

/// More marks say no more of what a response is worth.
const MARKS_MAX: u32 = 3;

/// The bits of the marks; those above are the weight.
const MARKS: u32 = 3;
const WEIGHT_SHIFT: u32 = 2;

thread_local! {
    static TURN: Cell<u32> = const { Cell::new(0) };
}

/// Goes through all numbers evenly, so that no pattern of look-ups keeps step with it.
const STEP: u32 = 0x9e37_79b9;

/// What a stored response was asked for: marks for the eviction, as many as its hand is to pass by,
/// and a weight of hits.
///
/// What is asked for often has all its marks, and of its look-ups one in [`SAMPLE`] is written, so that
/// the line of memory stays with all cores otherwise.
#[derive(Debug, Default)]
pub(super) struct Uses(AtomicU32);

/// [`Uses`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// Look-ups of about the last hour, to the nearest sixteen or so.
    pub hits: u64,
    /// Marks of the eviction, up to 3.
    pub marks: u8,
}

impl Uses {
    pub(super) fn of(used: Used) -> Self {
        let weight = used.hits.div_ceil(SAMPLE).min(u64::from(u32::MAX >> WEIGHT_SHIFT)) as u32;
        let marks = u32::from(used.marks).min(MARKS_MAX);
        // What has been asked for is worth a look of the hand at least.
        Self(AtomicU32::new(weight << WEIGHT_SHIFT | marks.max(u32::from(weight > 0))))
    }

    pub(super) fn get(&self) -> Used {
        let value = self.0.load(Ordering::Relaxed);
        Used { hits: u64::from(value >> WEIGHT_SHIFT) * SAMPLE, marks: (value & MARKS) as u8 }
    }

    /// Somebody asked for it. Of two marks at once one may be lost.
    pub(super) fn note(&self) {
        let turn = TURN.get().wrapping_add(STEP);
        TURN.set(turn);
        if turn < u32::MAX / SAMPLE as u32 {
            self.0.fetch_add(1 << WEIGHT_SHIFT, Ordering::Relaxed);
        }
        let value = self.0.load(Ordering::Relaxed);
        if value & MARKS < MARKS_MAX {
            self.exchange(value, value + 1);
        }
    }

    pub(super) fn marks(&self) -> u8 {
        self.get().marks
    }

    /// Takes off one mark; false: there was none.
    pub(super) fn spend(&self) -> bool {
        let value = self.0.load(Ordering::Relaxed);
        let is_marked = value & MARKS > 0;
        if is_marked {
            self.exchange(value, value - 1);
        }
        is_marked
    }

    /// Time goes by.
    pub(super) fn halve(&self) {
        let weight = self.0.load(Ordering::Relaxed) >> WEIGHT_SHIFT;
        // What is added meanwhile stays. Nobody else takes off, since writers take turns.
        self.0.fetch_sub((weight - weight / 2) << WEIGHT_SHIFT, Ordering::Relaxed);
    }

    fn exchange(&self, from: u32, to: u32) {
        // Somebody else was quicker, and what is lost is one mark.
        let _ = self.0.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The places among so many whose weights are to be halved between two moments: each has its turn once in
/// the half-life.
pub(super) fn places_to_halve(
    from: Moment,
    to: Moment,
    places: usize,
) -> impl Iterator<Item = usize> {
    let passed = |at: u64| {
        let (rounds, rest) = (at / HALF_LIFE_MILLISECONDS, at % HALF_LIFE_MILLISECONDS);
        rounds * places as u64 + rest * places as u64 / HALF_LIFE_MILLISECONDS
    };
    let longest = Duration::from_millis(HALF_LIFE_MILLISECONDS);
    let milliseconds = to.since(from).min(longest).as_millis() as u64;
    let range = passed(to.milliseconds() - milliseconds)..passed(to.milliseconds());
    range.map(move |place| (place % places.max(1) as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_sixteen_look_ups_is_counted_whatever_their_pattern() {
        for pattern in [1, 2, 3, 5, 16, 32] {
            let all: Vec<_> = std::iter::repeat_with(Uses::default).take(pattern).collect();
            for number in 0..16_000 {
                all[number % pattern].note();
            }
            for uses in &all {
                let (hits, share) = (uses.get().hits, 16_000 / pattern as u64);
                assert!(hits.abs_diff(share) < share / 10 + 32, "{hits} of {share}");
                assert_eq!(uses.marks(), 3);
            }
        }
    }

    #[test]
    fn marks_and_weight_leave_each_other_alone() {
        let uses = Uses::of(Used { hits: 1_600, marks: 2 });
        assert!(uses.spend());
        assert_eq!(uses.get(), Used { hits: 1_600, marks: 1 });
        uses.halve();
        assert_eq!(uses.get(), Used { hits: 800, marks: 1 });
        assert!(uses.spend() && !uses.spend());
        assert_eq!(uses.get(), Used { hits: 800, marks: 0 });
        for _ in 0..10 {
            uses.halve();
        }
        assert_eq!(uses.get(), Used::default());
    }

    #[test]
    fn what_was_asked_for_elsewhere_is_worth_a_mark_here() {
        assert_eq!(Uses::of(Used { hits: 20, marks: 0 }).get(), Used { hits: 32, marks: 1 });
        assert_eq!(Uses::of(Used { hits: 0, marks: 0 }).get(), Used::default());
        let most = Uses::of(Used { hits: u64::MAX, marks: u8::MAX }).get();
        assert!(most.hits > 1 << 33 && most.marks == 3, "{most:?}");
    }

    #[test]
    fn each_place_has_its_turn_once_in_the_half_life() {
        let at = Moment::from_milliseconds;
        for places in [0, 1, 7, 10_000] {
            let mut turns = vec![0; places];
            for second in 0..1_800 {
                let (from, to) = (at(5_000_000 + second * 1_000), at(5_001_000 + second * 1_000));
                places_to_halve(from, to, places).for_each(|place| turns[place] += 1);
            }
            assert!(turns.iter().all(|&turns| turns == 1));
        }
        let after_a_day = places_to_halve(at(0), at(86_400_000), 10);
        assert_eq!(after_a_day.count(), 10, "no more than one round");
    }
}
