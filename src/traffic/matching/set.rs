//! A set of rules, by their places.

/// As many rules as a set has places for.
pub const RULES_MAX: usize = 128;

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u128);

impl Set {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// One; none where there is no such place.
    pub fn of(rule: usize) -> Self {
        Self(u32::try_from(rule).ok().and_then(|place| 1_u128.checked_shl(place)).unwrap_or(0))
    }

    /// Those whose place is below this.
    pub fn first(count: usize) -> Self {
        let places = u32::try_from(count).unwrap_or(u32::MAX);
        Self(1_u128.checked_shl(places).map_or(u128::MAX, |next| next - 1))
    }

    /// Is there none?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Is this rule in it?
    pub fn has(self, rule: usize) -> bool {
        !self.and(Self::of(rule)).is_empty()
    }

    /// Adds a rule.
    pub fn add(&mut self, rule: usize) {
        *self = self.or(Self::of(rule));
    }

    /// Takes a rule out.
    pub fn remove(&mut self, rule: usize) {
        *self = self.without(Self::of(rule));
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Their places, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let first = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (first < u128::BITS).then_some(first as usize)
        })
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(rules: I) -> Self {
        rules.into_iter().fold(Self::EMPTY, |set, rule| set.or(Self::of(rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_added_in_order() {
        let set: Set = [127, 0, 64, 5].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 5, 64, 127]);
        assert!(set.has(64) && !set.has(63) && !set.has(500));
        assert_eq!(Set::of(RULES_MAX), Set::EMPTY);
        assert_eq!(Set::EMPTY.iter().next(), None);
    }

    #[test]
    fn the_first_are_as_many_as_are_asked_for() {
        assert_eq!(Set::first(0), Set::EMPTY);
        assert_eq!(Set::first(3).iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(Set::first(RULES_MAX).iter().count(), RULES_MAX);
    }
}
