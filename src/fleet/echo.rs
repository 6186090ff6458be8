//! Purges that are applied again a short while later: Magento may send one before its transaction
//! is visible, and what was rendered in between shows the old state.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::log::Order;
use crate::clock::Moment;
use crate::policy::PurgeScope;

/// Purges that come within this time are applied again together.
const TOGETHER: Duration = Duration::from_millis(100);

/// What is to be applied again, oldest first.
#[derive(Debug)]
pub(super) struct Echoes {
    after: Duration,
    max: usize,
    count: usize,
    groups: VecDeque<Group>,
}

/// How something will be purged again shortly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Not at all.
    Nothing,
    /// It will be marked stale.
    Soft,
    /// It will be gone.
    Hard,
}

#[derive(Debug)]
struct Group {
    due: Moment,
    closes: Moment,
    hard: BTreeSet<Bytes>,
    soft: BTreeSet<Bytes>,
    others: Vec<Order>,
    /// There was no room: everything tagged instead.
    everything: bool,
}

impl Echoes {
    /// Echoes after `purge.echo`; zero: none.
    pub(super) fn new(after: Duration, max: usize) -> Self {
        Self { after, max, count: 0, groups: VecDeque::new() }
    }

    /// A purge was applied.
    pub(super) fn note(&mut self, order: &Order, now: Moment) {
        if self.after.is_zero() {
            return;
        }
        if self.groups.back().is_none_or(|group| now >= group.closes) {
            self.groups.push_back(Group {
                due: now.plus(self.after).plus(TOGETHER),
                closes: now.plus(TOGETHER),
                hard: BTreeSet::new(),
                soft: BTreeSet::new(),
                others: Vec::new(),
                everything: false,
            });
        }
        let Some(group) = self.groups.back_mut() else { return };
        if group.everything {
            return;
        }
        let before = group.len();
        match order {
            Order::Purge { scope: PurgeScope::Tags(tags), soft } => {
                let set = if *soft { &mut group.soft } else { &mut group.hard };
                set.extend(tags.iter().cloned());
            }
            other => group.others.push(other.clone()),
        }
        self.count += group.len() - before;
        if self.count > self.max {
            self.count -= group.len();
            group.hard.clear();
            group.soft.clear();
            group.others.clear();
            group.everything = true;
        }
    }

    /// What will be due, oldest first.
    pub(super) fn pending(&self) -> impl Iterator<Item = Order> + '_ {
        self.groups.iter().flat_map(Group::orders)
    }

    /// What is due now.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Some(group) = self.groups.pop_front_if(|group| group.due <= now) {
            self.count -= group.len();
            orders.extend(group.orders());
        }
        orders
    }

    /// How what has one of these tags, or this URL, will be purged again. Patterns of pools count as
    /// naming everything.
    pub(super) fn of(&self, tags: &[Bytes], url: &[u8]) -> Due {
        let joined = OnceCell::new();
        let joined = || joined.get_or_init(|| tags.join(&b','));
        let of_order = |order: &Order| match order {
            Order::Soften => Due::Soft,
            Order::Purge { scope: PurgeScope::Url(named), .. } if named != url => Due::Nothing,
            Order::Purge { scope: PurgeScope::TagsMatching(regex), .. }
                if !regex.is_match(joined()) =>
            {
                Due::Nothing
            }
            Order::Purge { soft, .. } => {
                if *soft {
                    Due::Soft
                } else {
                    Due::Hard
                }
            }
        };
        let of_group = |group: &Group| {
            let is_hard = tags.iter().any(|tag| group.hard.contains(tag));
            let is_soft = group.everything || tags.iter().any(|tag| group.soft.contains(tag));
            let of_tags = match (is_hard, is_soft) {
                (true, _) => Due::Hard,
                (false, true) => Due::Soft,
                (false, false) => Due::Nothing,
            };
            group.others.iter().map(of_order).fold(of_tags, Due::max)
        };
        self.groups.iter().map(of_group).max().unwrap_or(Due::Nothing)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.groups.front().map(|group| group.due)
    }
}

impl Group {
    fn orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for (tags, soft) in [(&self.hard, false), (&self.soft, true)] {
            if !tags.is_empty() {
                let scope = PurgeScope::Tags(tags.iter().cloned().collect());
                orders.push(Order::Purge { scope, soft });
            }
        }
        orders.extend(self.others.iter().cloned());
        orders.extend(self.everything.then_some(Order::Soften));
        orders
    }

    fn len(&self) -> usize {
        self.hard.len() + self.soft.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(name: &str) -> Order {
        let scope = PurgeScope::Tags(vec![name.to_owned().into()]);
        Order::Purge { scope, soft: false }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_milliseconds(milliseconds)
    }

    fn texts(orders: &[Order]) -> Vec<String> {
        orders.iter().map(|order| String::from_utf8_lossy(&order.encode()).into_owned()).collect()
    }

    #[test]
    fn a_purge_is_due_again_after_its_time_and_once() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 10);
        echoes.note(&tags("a"), at(1_000));
        echoes.note(&tags("b"), at(1_050));
        echoes.note(&tags("a"), at(1_099));
        echoes.note(&tags("c"), at(1_100));
        assert!(echoes.due(at(2_999)).is_empty(), "never before its time");
        assert_eq!(echoes.next(), Some(at(3_100)));
        assert_eq!(texts(&echoes.due(at(3_100))), ["1 hard tags a,b"]);
        assert_eq!(texts(&echoes.due(at(9_000))), ["1 hard tags c"]);
        assert_eq!((echoes.next(), echoes.count), (None, 0));
    }

    #[test]
    fn what_finds_no_room_becomes_everything() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 2);
        for name in ["a", "b", "c", "d"] {
            echoes.note(&tags(name), at(0));
        }
        assert_eq!(texts(&echoes.due(at(5_000))), ["1 soft lost "]);
        assert_eq!(echoes.count, 0);
    }

    #[test]
    fn what_is_due_is_known_by_tag_and_url() {
        let of = |echoes: &Echoes, tag: &str, url: &str| {
            echoes.of(&[tag.to_owned().into()], url.as_bytes())
        };
        let mut echoes = Echoes::new(Duration::from_secs(2), 10);
        assert_eq!(of(&echoes, "a", "u"), Due::Nothing);
        echoes.note(&tags("a"), at(0));
        let url = Order::Purge { scope: PurgeScope::Url(b"u".to_vec()), soft: true };
        echoes.note(&url, at(0));
        assert_eq!(of(&echoes, "a", "u"), Due::Hard);
        assert_eq!(of(&echoes, "b", "u"), Due::Soft);
        assert_eq!(of(&echoes, "b", "v"), Due::Nothing);
        let regex = regex::bytes::Regex::new("(^|,)c").expect("a regex");
        let matching = Order::Purge { scope: PurgeScope::TagsMatching(regex), soft: false };
        echoes.note(&matching, at(0));
        assert_eq!(of(&echoes, "c_1", "v"), Due::Hard);
        assert_eq!(of(&echoes, "b", "v"), Due::Nothing);
        echoes.note(&Order::Soften, at(200));
        assert_eq!(of(&echoes, "b", "v"), Due::Soft);
        echoes.note(&Order::Purge { scope: PurgeScope::All, soft: false }, at(200));
        assert_eq!(of(&echoes, "b", "v"), Due::Hard);
        echoes.due(at(9_000));
        assert_eq!(of(&echoes, "a", "u"), Due::Nothing);
    }

    #[test]
    fn without_a_time_nothing_is_remembered() {
        let mut echoes = Echoes::new(Duration::ZERO, 2);
        echoes.note(&tags("a"), at(0));
        assert_eq!(echoes.next(), None);
    }
}
