//! What a node that joins takes next, from whom, and how far it is. It asks nobody itself.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::warm_message::{Hottest, TAKE_MAX};

/// Nodes that are told apart.
pub const SOURCES_MAX: usize = 128;

/// A page that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Its key.
    pub key: Bytes,
    weight: u64,
    bytes: u64,
    /// A bit for each node that has it.
    sources: u128,
}

/// Pages to be asked for at one node.
#[derive(Debug)]
pub struct Batch {
    /// The place of the node among those whose lists were given.
    pub source: usize,
    /// What is asked for, what is asked for most first.
    pub wants: VecDeque<Want>,
}

/// What became of a page that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is here.
    Here,
    /// It was purged since, or cannot be used: there is nothing to have.
    Gone,
    /// That node does not have it any more; another may.
    NotThere,
}

/// What is wanted, in the order in which it is asked for most.
#[derive(Debug)]
pub struct Haul {
    wants: VecDeque<Want>,
    /// The weight of all that can be had.
    weight: u64,
    /// Of that, what is here.
    weight_here: u64,
    /// Has a node failed that had something which no other had?
    is_short: bool,
}

impl Haul {
    /// From the lists of some nodes ([`SOURCES_MAX`] at most); `is_here` says what need not be taken.
    pub fn new(lists: Vec<Hottest>, is_here: impl Fn(&[u8]) -> bool) -> Self {
        let weight = lists.iter().map(|list| list.weight).fold(0, u64::saturating_add);
        let mut found: HashMap<Bytes, Want> = HashMap::new();
        for (source, list) in lists.into_iter().take(SOURCES_MAX).enumerate() {
            for page in list.pages {
                let want = found.entry(page.key).or_insert_with_key(|key| Want {
                    key: key.clone(),
                    weight: 0,
                    bytes: 0,
                    sources: 0,
                });
                want.weight += u64::from(page.weight);
                want.bytes = want.bytes.max(u64::from(page.bytes));
                want.sources |= 1 << source;
            }
        }
        let (here, wants): (Vec<_>, Vec<_>) =
            found.into_values().partition(|want| is_here(&want.key));
        let mut wants = wants;
        wants.sort_by(|one, other| {
            other.weight.cmp(&one.weight).then_with(|| one.key.cmp(&other.key))
        });
        // A node's total is not believed where its own list says more.
        let listed = here.iter().chain(&wants).map(|want| want.weight).sum();
        let weight_here = here.iter().map(|want| want.weight).sum();
        let (wants, weight) = (wants.into(), weight.max(listed));
        Self { wants, weight, weight_here, is_short: false }
    }

    /// The share of the weight that is here, in percent; rounded down, so that 100 means all.
    pub fn percent(&self) -> u64 {
        let share = u128::from(self.weight_here) * 100;
        share.checked_div(u128::from(self.weight)).map_or(100, |share| share.min(100) as u64)
    }

    /// Pages that are still wanted.
    pub fn left(&self) -> usize {
        self.wants.len()
    }

    /// Is something missing because a node failed that others may have by now?
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// What to ask for next, of so many bytes about. `None`: nothing is left.
    pub fn next(&mut self, bytes: u64) -> Option<Batch> {
        let source = self.wants.front()?.sources.trailing_zeros() as usize;
        let (mut wants, mut sum) = (VecDeque::new(), 0);
        while let Some(want) = self.wants.pop_front_if(|want| want.sources & (1 << source) != 0) {
            sum += want.bytes;
            wants.push_back(want);
            if sum >= bytes || wants.len() == TAKE_MAX {
                break;
            }
        }
        Some(Batch { source, wants })
    }

    /// What became of the first of a batch.
    pub fn settle(&mut self, batch: &mut Batch, came: Came) {
        let Some(mut want) = batch.wants.pop_front() else { return };
        match came {
            Came::Here => self.weight_here += want.weight,
            Came::Gone => self.weight -= want.weight,
            Came::NotThere => {
                want.sources &= !(1 << batch.source);
                if want.sources == 0 {
                    self.weight -= want.weight;
                } else {
                    self.wants.push_front(want);
                }
            }
        }
    }

    /// The rest of a batch was not answered, and is asked for again.
    pub fn again(&mut self, batch: Batch) {
        batch.wants.into_iter().rev().for_each(|want| self.wants.push_front(want));
    }

    /// That node is not asked any more.
    pub fn failed(&mut self, source: usize) {
        let before = self.wants.len();
        self.wants.retain_mut(|want| {
            want.sources &= !(1 << source);
            want.sources != 0
        });
        self.is_short |= self.wants.len() < before;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::warm_message::Hot;
    use super::*;

    fn list(pages: &[(&'static str, u32)]) -> Hottest {
        let page = |(key, weight): &(&'static str, u32)| Hot {
            key: Bytes::from_static(key.as_bytes()),
            weight: *weight,
            bytes: 10,
        };
        let weight = pages.iter().map(|(_, weight)| u64::from(*weight)).sum();
        Hottest { weight, pages: pages.iter().map(page).collect() }
    }

    fn keys(batch: &Batch) -> Vec<&str> {
        batch.wants.iter().map(|want| std::str::from_utf8(&want.key).expect("text")).collect()
    }

    #[test]
    fn what_is_asked_for_most_on_all_nodes_comes_first_and_what_is_here_counts() {
        let lists = vec![list(&[("a", 50), ("b", 30)]), list(&[("b", 40), ("c", 60), ("d", 20)])];
        let mut haul = Haul::new(lists, |key| key == b"d");
        assert_eq!((haul.percent(), haul.left()), (10, 3));
        let mut first = haul.next(5).expect("wanted");
        assert_eq!((first.source, keys(&first)), (0, vec!["b"]));
        haul.settle(&mut first, Came::Here);
        assert_eq!(haul.percent(), 45);
        let mut second = haul.next(100).expect("wanted");
        assert_eq!((second.source, keys(&second)), (1, vec!["c"]), "the other has the next one");
        haul.settle(&mut second, Came::Gone);
        assert_eq!(haul.percent(), 64, "what cannot be had does not count");
        let mut third = haul.next(100).expect("wanted");
        haul.settle(&mut third, Came::NotThere);
        assert_eq!((haul.percent(), haul.is_short()), (100, false));
        assert!(haul.next(1).is_none());
    }

    #[test]
    fn what_a_node_does_not_have_any_more_is_asked_for_at_another() {
        let mut haul = Haul::new(vec![list(&[("a", 5)]), list(&[("a", 5)])], |_| false);
        let mut batch = haul.next(100).expect("wanted");
        haul.settle(&mut batch, Came::NotThere);
        let batch = haul.next(100).expect("wanted");
        assert_eq!(batch.source, 1);
        haul.again(batch);
        haul.failed(1);
        assert!(haul.next(100).is_none());
        assert_eq!((haul.percent(), haul.is_short()), (0, true), "it is not warm");
    }

    #[test]
    fn nobody_who_has_something_means_that_all_is_here() {
        assert_eq!(Haul::new(vec![], |_| false).percent(), 100);
        assert_eq!(Haul::new(vec![list(&[])], |_| false).percent(), 100);
    }

    proptest! {
        #[test]
        fn each_page_is_taken_once_and_then_all_is_here(
            lists in prop::collection::vec(
                prop::collection::btree_map(0..20_u8, 0..100_u32, 0..20), 0..4),
            bytes in 1..100_u64, failed in 0..5_usize,
        ) {
            let lists: Vec<_> = lists.into_iter().map(|pages| Hottest {
                weight: pages.values().map(|weight| u64::from(*weight)).sum(),
                pages: pages.iter().map(|(key, weight)| Hot {
                    key: vec![*key].into(), weight: *weight, bytes: 10,
                }).collect(),
            }).collect();
            let mut haul = Haul::new(lists.clone(), |_| false);
            haul.failed(failed);
            let (mut taken, mut turns) = (std::collections::BTreeSet::new(), 0);
            while let Some(mut batch) = haul.next(bytes) {
                turns += 1;
                prop_assert!(turns < 1_000 && batch.source != failed);
                while let Some(want) = batch.wants.front() {
                    prop_assert!(lists[batch.source].pages.iter().any(|page| page.key == want.key));
                    prop_assert!(taken.insert(want.key.clone()));
                    haul.settle(&mut batch, Came::Here);
                }
            }
            prop_assert!(haul.is_short() || haul.percent() == 100);
        }
    }
}
