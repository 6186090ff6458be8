//! A set of slots that is never empty.

use roaring::RoaringBitmap;

/// The number of a place in the table of stored responses; reused after its response has gone.
pub(super) type Slot = u32;

/// Most tags and nearly all URLs belong to one response, so one slot takes no allocation.
#[derive(Clone, Debug)]
pub(super) enum Slots {
    One(Slot),
    Many(RoaringBitmap),
}

impl Slots {
    /// Adds a slot; false: it was there.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        match self {
            Self::One(only) if *only == slot => false,
            Self::One(only) => {
                *self = Self::Many(RoaringBitmap::from_iter([*only, slot]));
                true
            }
            Self::Many(slots) => slots.insert(slot),
        }
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, slot: Slot) -> Removed {
        match self {
            Self::One(only) if *only == slot => Removed::Last,
            Self::One(_) => Removed::Absent,
            Self::Many(slots) => match (slots.remove(slot), slots.is_empty()) {
                (false, _) => Removed::Absent,
                (true, true) => Removed::Last,
                (true, false) => Removed::OneOfMany,
            },
        }
    }

    /// The least slot.
    pub(super) fn first(&self) -> Slot {
        match self {
            Self::One(only) => *only,
            Self::Many(slots) => slots.min().unwrap_or(Slot::MAX),
        }
    }

    /// Adds all slots to `sum`.
    pub(super) fn add_to(&self, sum: &mut RoaringBitmap) {
        match self {
            Self::One(only) => {
                sum.insert(*only);
            }
            Self::Many(slots) => *sum |= slots,
        }
    }
}

/// What [`Slots::remove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// The slot was not in the set.
    Absent,
    /// It was, among others.
    OneOfMany,
    /// It was the last one: the set is to be dropped.
    Last,
}
