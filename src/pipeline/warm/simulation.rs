//! Two nodes with real stores, one of which takes a page from the other in the steps in which that is
//! done, while purges come at both and each reads the log when it does. In any order of these steps no
//! page is fresh that is older than a purge which its node has applied.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::settings;
use crate::store::tests::page;
use crate::store::{FillMark, NewEntry, Store, Used};

const GIVER: usize = 0;
const TAKER: usize = 1;

/// Mechanisms that can be switched off, to show that the check finds out.
#[derive(Clone, Copy, Debug)]
struct Mechanisms {
    /// The fence of the node that takes.
    fence: bool,
    /// The giving node waits until it has applied the log as far as who asks.
    place: bool,
    /// The mark is taken before the page is asked for, not when it comes.
    mark_first: bool,
}

const ALL: Mechanisms = Mechanisms { fence: true, place: true, mark_first: true };

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A change is committed, and purged at this node.
    Purge(usize),
    /// This node applies the next entry of the log.
    Read(usize),
    /// The giving node begins to render, or stores what it has begun.
    Render,
    /// The next step of taking: mark and place, look into the store, store.
    Take,
}

#[derive(Clone, Copy, Debug)]
enum Taking {
    Asked { mark: FillMark, place: usize },
    Given { mark: FillMark, version: u64 },
}

struct World {
    mechanisms: Mechanisms,
    clock: Clock,
    stores: [Store; 2],
    /// Versions that were purged, in the order of the log.
    log: Vec<u64>,
    /// Entries that each node has applied in order.
    positions: [usize; 2],
    /// Up to where others must have come to know what each has applied.
    known: [usize; 2],
    /// The newest version that a purge which each node has applied stands for.
    purged: [u64; 2],
    rendering: Option<(FillMark, u64)>,
    taking: Option<Taking>,
    taken: usize,
}

impl World {
    fn new(mechanisms: Mechanisms) -> Self {
        let (clock, settings) = (Clock::manual(), settings::Store::default());
        let taker = if mechanisms.fence { Store::new } else { Store::without_fence };
        let stores = [Store::new(&settings, clock.clone()), taker(&settings, clock.clone())];
        Self {
            mechanisms,
            clock,
            stores,
            log: Vec::new(),
            positions: [0; 2],
            known: [0; 2],
            purged: [0; 2],
            rendering: None,
            taking: None,
            taken: 0,
        }
    }

    fn committed(&self) -> u64 {
        self.log.len() as u64
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Purge(node) => {
                self.log.push(self.committed() + 1);
                self.apply(node, self.committed());
                self.known[node] = self.log.len();
            }
            Step::Read(node) => {
                let position = self.positions[node];
                if let Some(version) = self.log.get(position).copied() {
                    self.apply(node, version);
                    self.positions[node] = position + 1;
                    self.known[node] = self.known[node].max(position + 1);
                }
            }
            Step::Render => match self.rendering.take() {
                None => self.rendering = Some((self.stores[GIVER].mark(), self.committed())),
                Some((mark, version)) => drop(self.stores[GIVER].insert(mark, of_version(version))),
            },
            Step::Take => self.take(),
        }
    }

    fn apply(&mut self, node: usize, version: u64) {
        self.stores[node].purge_tags(&[Bytes::from_static(b"t")], false);
        self.purged[node] = self.purged[node].max(version);
    }

    fn take(&mut self) {
        self.taking = match self.taking.take() {
            None => {
                let mark = self.stores[TAKER].mark();
                Some(Taking::Asked { mark, place: self.known[TAKER] })
            }
            Some(Taking::Asked { place, .. })
                if self.mechanisms.place && self.positions[GIVER] < place =>
            {
                // It says that it is behind, and is asked anew.
                None
            }
            Some(Taking::Asked { mark, .. }) => {
                self.fresh(GIVER).map(|version| Taking::Given { mark, version })
            }
            Some(Taking::Given { mark, version }) => {
                let late = self.stores[TAKER].mark();
                let mark = if self.mechanisms.mark_first { mark } else { late };
                let new = of_version(version);
                let stored = self.stores[TAKER].restore(mark, new, Used::default());
                self.taken += usize::from(stored.is_ok());
                None
            }
        };
    }

    /// The version that visitors of a node get.
    fn fresh(&self, node: usize) -> Option<u64> {
        let now = self.clock.now();
        let key = CacheKey::for_tests(b"shop/p", b"");
        Some(self.stores[node].peek(&key, now)?.age_at(now).as_secs())
    }

    fn is_right(&self) -> bool {
        [GIVER, TAKER]
            .iter()
            .all(|node| self.fresh(*node).is_none_or(|version| version >= self.purged[*node]))
    }
}

/// A page whose age says its version.
fn of_version(version: u64) -> NewEntry {
    NewEntry { age: Duration::from_secs(version), ..page("shop/p", &["t"]) }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..2_usize;
    let step = prop_oneof![
        1 => node.clone().prop_map(Step::Purge),
        2 => node.prop_map(Step::Read),
        3 => Just(Step::Render),
        4 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..60)
}

/// Does any order of steps show an old page? Gives how many pages were taken too.
fn shows_an_old_page(mechanisms: Mechanisms) -> (bool, usize) {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRunner::deterministic().rng().clone());
    let taken = std::cell::Cell::new(0);
    let found = runner.run(&steps(), |steps| {
        let mut world = World::new(mechanisms);
        for step in steps {
            world.step(step);
            prop_assert!(world.is_right());
        }
        taken.set(taken.get() + world.taken);
        Ok(())
    });
    (found.is_err(), taken.get())
}

#[test]
fn no_order_of_steps_shows_a_page_from_before_a_purge_that_was_applied() {
    let (is_wrong, taken) = shows_an_old_page(ALL);
    assert!(!is_wrong);
    assert!(taken > 500, "{taken} pages were taken");
}

#[test]
fn without_the_fence_the_place_or_the_early_mark_some_do_which_shows_that_the_check_notices() {
    for mechanisms in [
        Mechanisms { fence: false, ..ALL },
        Mechanisms { place: false, ..ALL },
        Mechanisms { mark_first: false, ..ALL },
    ] {
        assert!(shows_an_old_page(mechanisms).0, "{mechanisms:?}");
    }
}
