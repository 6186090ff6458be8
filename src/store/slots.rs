//! A set of slots that is never empty.

use roaring::RoaringBitmap;

/// The number of a place in the table of stored responses; reused after its response has gone.
pub(super) type Slot = u32;

/// So many slots are kept as a list: in a bitmap they would lie alone in its pieces, of which each
/// takes ten times what a slot takes in a list.
const FEW_MAX: usize = 1_024;

/// Most tags and nearly all URLs belong to one response, so one slot takes no allocation.
#[derive(Clone, Debug)]
pub(super) enum Slots {
    One(Slot),
    Few(Box<List>),
    Many(Box<RoaringBitmap>),
}

/// Slots in order. Apart, so that a set of one, of which there are most, takes no room for it.
#[derive(Clone, Debug)]
pub(super) struct List(Vec<Slot>);

impl Slots {
    /// Adds a slot; false: it was there.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        match self {
            Self::One(only) if *only == slot => false,
            Self::One(only) => {
                let list = List(vec![slot.min(*only), slot.max(*only)]);
                *self = Self::Few(Box::new(list));
                true
            }
            Self::Few(list) => {
                let slots = &mut list.0;
                let Err(at) = slots.binary_search(&slot) else { return false };
                if slots.len() == slots.capacity() {
                    // Lists are many, so they grow by less than a vector does by itself.
                    slots.reserve_exact(slots.len() / 8 + 2);
                }
                slots.insert(at, slot);
                if slots.len() > FEW_MAX {
                    *self = Self::Many(Box::new(slots.iter().copied().collect()));
                }
                true
            }
            Self::Many(slots) => slots.insert(slot),
        }
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, slot: Slot) -> Removed {
        let (was_there, is_empty) = match self {
            Self::One(only) => (*only == slot, *only == slot),
            Self::Few(list) => {
                let slots = &mut list.0;
                let found = slots.binary_search(&slot).map(|at| slots.remove(at));
                if slots.len() < slots.capacity() / 2 {
                    slots.shrink_to(slots.len() + slots.len() / 4);
                }
                (found.is_ok(), slots.is_empty())
            }
            Self::Many(slots) => (slots.remove(slot), slots.is_empty()),
        };
        match (was_there, is_empty) {
            (false, _) => Removed::Absent,
            (true, true) => Removed::Last,
            (true, false) => Removed::OneOfMany,
        }
    }

    /// Adds all slots to `sum`.
    pub(super) fn add_to(&self, sum: &mut RoaringBitmap) {
        match self {
            Self::One(only) => {
                sum.insert(*only);
            }
            Self::Few(list) => sum.extend(&list.0),
            Self::Many(slots) => *sum |= &**slots,
        }
    }
}

#[cfg(test)]
impl Slots {
    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Few(list) => list.0.len() as u64,
            Self::Many(slots) => slots.len(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_are_a_set_whatever_form_they_have(
            steps in prop::collection::vec((any::<bool>(), 0_u32..2_000), 1..6_000),
            first in 0_u32..2_000,
        ) {
            let (mut slots, mut model) = (Slots::One(first), BTreeSet::from([first]));
            for (adds, slot) in steps {
                // Most are added, so that all forms are seen.
                if adds || slot % 3 > 0 {
                    prop_assert_eq!(slots.insert(slot), model.insert(slot));
                } else {
                    let removed = match (model.remove(&slot), model.is_empty()) {
                        (false, _) => Removed::Absent,
                        (true, true) => Removed::Last,
                        (true, false) => Removed::OneOfMany,
                    };
                    prop_assert_eq!(slots.remove(slot), removed);
                    if removed == Removed::Last {
                        break;
                    }
                }
                prop_assert_eq!(slots.len(), model.len() as u64);
            }
            let mut sum = RoaringBitmap::new();
            slots.add_to(&mut sum);
            if !model.is_empty() {
                prop_assert!(sum.iter().eq(model.iter().copied()));
            }
        }
    }
}
