//! The store against a naive model: a list of responses and a list of purges.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use regex::bytes::Regex;

use super::page;
use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::reason::Reason;
use crate::settings;
use crate::store::{FillMark, Found, NewEntry, Store};

const TAGS: [&str; 4] = ["a", "b", "ab", "c"];
const PATTERNS: [&str; 4] = ["a", "^b", "a,b", "(^|,)ab(,|$)"];
const POOLS: [&str; 2] = ["blue", "green"];

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Insert { fill: usize, url: u8, variant: u8, tags: Vec<usize>, pool: Option<usize>, ttl: u64 },
    Purge { scope: Scope, soft: bool },
    Lookup { url: u8, variant: u8 },
    Advance { seconds: u64 },
}

#[derive(Clone, Debug)]
enum Scope {
    All,
    Tags(Vec<usize>),
    TagsMatching(usize),
    Pool(usize),
    Url(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let tags = || prop::collection::vec(0..TAGS.len(), 0..3);
    let scope = prop_oneof![
        1 => Just(Scope::All),
        4 => prop::collection::vec(0..TAGS.len(), 1..3).prop_map(Scope::Tags),
        2 => (0..PATTERNS.len()).prop_map(Scope::TagsMatching),
        1 => (0..POOLS.len()).prop_map(Scope::Pool),
        2 => (0..3_u8).prop_map(Scope::Url),
    ];
    prop_oneof![
        3 => Just(Step::Begin),
        6 => (0..6_usize, 0..3_u8, 0..2_u8, tags(), prop::option::of(0..POOLS.len()), 0..90_u64)
            .prop_map(|(fill, url, variant, tags, pool, ttl)| Step::Insert {
                fill, url, variant, tags, pool, ttl
            }),
        3 => (scope, any::<bool>()).prop_map(|(scope, soft)| Step::Purge { scope, soft }),
        4 => (0..3_u8, 0..2_u8).prop_map(|(url, variant)| Step::Lookup { url, variant }),
        1 => (1..70_u64).prop_map(|seconds| Step::Advance { seconds }),
    ]
}

/// What the model knows of a response.
#[derive(Clone, Debug)]
struct Known {
    url: u8,
    variant: u8,
    tags: Vec<usize>,
    pool: Option<usize>,
    stale_at: u64,
}

impl Known {
    fn is_named_by(&self, scope: &Scope) -> bool {
        let matches =
            |pattern: &str, text: &str| Regex::new(pattern).unwrap().is_match(text.as_bytes());
        match scope {
            Scope::All => true,
            Scope::Tags(tags) => tags.iter().any(|tag| self.tags.contains(tag)),
            Scope::TagsMatching(pattern) => {
                let mut seen = Vec::new();
                for &tag in &self.tags {
                    if !seen.contains(&TAGS[tag]) {
                        seen.push(TAGS[tag]);
                    }
                }
                matches(PATTERNS[*pattern], &seen.join(","))
            }
            Scope::Pool(pool) => self.pool == Some(*pool),
            Scope::Url(url) => self.url == *url,
        }
    }
}

const KEEP_SECONDS: u64 = 40;

#[derive(Default)]
struct Model {
    now: u64,
    stored: Vec<Known>,
    purges: Vec<Scope>,
    /// The number of purges when each fill began.
    fills: Vec<usize>,
}

/// Does the fence refuse exactly what the model refuses, or may it, since it forgets, refuse more?
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    Exact,
    Bounded,
}

struct Pair {
    store: Store,
    clock: Clock,
    marks: Vec<FillMark>,
    model: Model,
    memory: Memory,
}

impl Pair {
    fn new(memory: Memory, fence: bool) -> Self {
        let clock = Clock::manual();
        let mut settings = settings::Store { memory_bytes: 4 << 20, ..settings::Store::default() };
        if memory == Memory::Bounded {
            settings.purged_tags_max = 2;
            settings.purged_patterns_max = 1;
        }
        let build = if fence { Store::new } else { Store::without_fence };
        let store = build(&settings, clock.clone());
        let marks = vec![store.mark()];
        let model = Model { fills: vec![0], ..Model::default() };
        Self { store, clock, marks, model, memory }
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Begin => {
                self.marks.push(self.store.mark());
                self.model.fills.push(self.model.purges.len());
            }
            Step::Insert { fill, url, variant, tags, pool, ttl } => {
                let stale_at = self.model.now + ttl;
                let known = Known {
                    url: *url,
                    variant: *variant,
                    tags: tags.clone(),
                    pool: *pool,
                    stale_at,
                };
                self.insert(*fill, known, *ttl)?;
            }
            Step::Purge { scope, soft } => self.purge(scope, *soft)?,
            Step::Lookup { url, variant } => self.lookup(*url, *variant)?,
            Step::Advance { seconds } => {
                self.model.now += seconds;
                self.clock.advance(Duration::from_secs(*seconds));
                let now = self.model.now;
                self.model.stored.retain(|known| now < known.stale_at + KEEP_SECONDS);
            }
        }
        self.store.writers.lock().index.check();
        Ok(())
    }

    fn insert(&mut self, fill: usize, known: Known, ttl: u64) -> Result<(), TestCaseError> {
        let fill = self.marks.len() - 1 - fill.min(self.marks.len() - 1);
        let new = NewEntry {
            key: key(known.url, known.variant),
            tags: known.tags.iter().map(|&tag| Bytes::from(TAGS[tag])).collect(),
            pool: known.pool.map(|pool| Bytes::from(POOLS[pool])),
            ttl: Duration::from_secs(ttl),
            grace: Duration::ZERO,
            keep: Duration::from_secs(KEEP_SECONDS),
            ..page("", &[])
        };
        let since = &self.model.purges[self.model.fills[fill]..];
        let fenced = since.iter().any(|scope| known.is_named_by(scope));
        match self.store.insert(self.marks[fill], new) {
            Ok(_) => {
                prop_assert!(!fenced, "a late fill got in");
                let same = |other: &Known| other.url == known.url && other.variant == known.variant;
                self.model.stored.retain(|other| !same(other));
                self.model.stored.push(known);
            }
            Err(reason) => {
                prop_assert_eq!(reason, Reason::Fenced);
                prop_assert!(fenced || (self.memory == Memory::Bounded && !since.is_empty()));
            }
        }
        Ok(())
    }

    fn purge(&mut self, scope: &Scope, soft: bool) -> Result<(), TestCaseError> {
        let store = &self.store;
        let purged = match scope {
            Scope::All => store.purge_all(soft),
            Scope::Tags(tags) => {
                let tags: Vec<_> = tags.iter().map(|&tag| Bytes::from(TAGS[tag])).collect();
                store.purge_tags(&tags, soft)
            }
            Scope::TagsMatching(pattern) => {
                store.purge_tags_matching(&Regex::new(PATTERNS[*pattern]).unwrap(), soft)
            }
            Scope::Pool(pool) => {
                store.purge_pools_matching(&Regex::new(POOLS[*pool]).unwrap(), soft)
            }
            Scope::Url(url) => store.purge_url(key(*url, 0).url(), soft),
        };
        self.model.purges.push(scope.clone());
        prop_assert_eq!(purged.number, self.model.purges.len() as u64);
        let now = self.model.now;
        let mut reached = 0;
        self.model.stored.retain_mut(|known| {
            let named = known.is_named_by(scope);
            reached += u64::from(named);
            if named && soft {
                known.stale_at = known.stale_at.min(now);
            }
            soft || !named
        });
        // What is dead and not yet removed is counted as well.
        prop_assert!(purged.responses >= reached);
        self.model.stored.retain(|known| now < known.stale_at + KEEP_SECONDS);
        Ok(())
    }

    fn lookup(&self, url: u8, variant: u8) -> Result<(), TestCaseError> {
        let found = self.store.lookup(&key(url, variant), self.clock.now());
        let known =
            self.model.stored.iter().find(|known| known.url == url && known.variant == variant);
        let now = self.model.now;
        match (found, known) {
            (Found::Fresh(entry), Some(known)) => {
                prop_assert!(now < known.stale_at);
                prop_assert_eq!(entry.remaining(self.clock.now()).as_secs(), known.stale_at - now);
            }
            (Found::Stale { stale_for, .. }, Some(known)) => {
                prop_assert!(now >= known.stale_at);
                prop_assert_eq!(stale_for.as_secs(), now - known.stale_at);
            }
            (Found::Nothing(_), None) => {}
            (found, known) => prop_assert!(false, "found {found:?}, expected {known:?}"),
        }
        Ok(())
    }
}

fn key(url: u8, variant: u8) -> CacheKey {
    CacheKey::for_tests(&[b'/', b'a' + url], &[variant])
}

fn run(memory: Memory, fence: bool) -> Result<(), String> {
    let mut runner =
        TestRunner::new(Config { cases: 256, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(), 1..60);
    runner
        .run(&steps, |steps| {
            let mut pair = Pair::new(memory, fence);
            for step in &steps {
                pair.apply(step)?;
            }
            pair.store.purge_all(false);
            let stats = pair.store.stats();
            prop_assert_eq!([stats.objects, stats.bytes, stats.tags, stats.links], [0; 4]);
            Ok(())
        })
        .map_err(|error| error.to_string())
}

#[test]
fn the_store_does_what_a_naive_model_does() {
    run(Memory::Exact, true).unwrap();
}

#[test]
fn a_fence_that_forgets_refuses_more_and_never_less() {
    run(Memory::Bounded, true).unwrap();
}

#[test]
fn without_the_fence_the_model_finds_a_late_fill() {
    let found = run(Memory::Exact, false).unwrap_err();
    assert!(found.contains("a late fill got in"), "{found}");
}
