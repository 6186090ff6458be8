//! Fills, purges, look-ups and evictions from many threads at once.
//!
//! Each tag has a version that a writer raises before it purges the tag, as a shop commits a change
//! and then tells the cache. A page carries the versions of its tags as its fill read them. Whoever
//! looks up after a purge was answered must not find a page that is older.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use regex::bytes::Regex;

use super::page;
use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::random::chance::Chance;
use crate::settings;
use crate::store::{Encoded, Found, NewEntry, Segment, Store, StoredBody};

const TAGS: usize = 6;
const URLS: u64 = 12;
const ROUNDS: u64 = 600;

struct Shop {
    store: Store,
    clock: Clock,
    /// What a render shows.
    committed: [AtomicU64; TAGS],
    /// What a page must show at least.
    purged: [AtomicU64; TAGS],
    violated: AtomicBool,
    done: AtomicBool,
}

type Work = fn(&Shop, &mut Chance);

fn key(url: u64) -> CacheKey {
    CacheKey::for_tests(format!("shop/{url}").as_bytes(), b"")
}

/// The tags of a page: two of them, the same for each render.
fn tags_of(url: u64) -> [usize; 2] {
    [url as usize % TAGS, (url as usize / 2 + 1) % TAGS]
}

fn name(tag: usize) -> Bytes {
    Bytes::from(format!("tag_{tag}"))
}

impl Shop {
    fn new(store: Store, clock: Clock) -> Self {
        Self {
            store,
            clock,
            committed: Default::default(),
            purged: Default::default(),
            violated: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    fn fill(&self, chance: &mut Chance) {
        let url = chance.below(URLS as usize) as u64;
        let mark = self.store.mark();
        let mut shown = tags_of(url).map(|tag| self.committed[tag].load(Ordering::SeqCst)).to_vec();
        for _ in 0..chance.below(4) {
            thread::yield_now();
        }
        // Weight, so that some are evicted.
        shown.resize(2 + chance.below(3_000), 0);
        let content: Vec<u8> = shown.iter().flat_map(|version| version.to_le_bytes()).collect();
        let literal = Segment::Literal(Encoded::from_identity(&content, None, 0));
        let new = NewEntry {
            key: key(url),
            tags: tags_of(url).map(name).to_vec(),
            body: StoredBody::new([literal]),
            ..page("", &[])
        };
        let _ = self.store.insert(mark, new);
    }

    fn purge(&self, chance: &mut Chance) {
        let tag = chance.below(TAGS);
        let version = self.committed[tag].fetch_add(1, Ordering::SeqCst) + 1;
        match chance.below(12) {
            0 => _ = self.store.purge_all(false),
            1 => {
                let regex = Regex::new(&format!("(^|,)tag_{tag}(,|$)")).unwrap();
                self.store.purge_tags_matching(&regex, false);
            }
            2 => {
                for url in (0..URLS).filter(|&url| tags_of(url).contains(&tag)) {
                    self.store.purge_url(key(url).url(), false);
                }
            }
            _ => _ = self.store.purge_tags(&[name(tag)], false),
        }
        self.purged[tag].fetch_max(version, Ordering::SeqCst);
    }

    fn look(&self, chance: &mut Chance) {
        let url = chance.below(URLS as usize) as u64;
        let least = tags_of(url).map(|tag| self.purged[tag].load(Ordering::SeqCst));
        let Found::Fresh(entry) = self.store.lookup(&key(url), self.clock.now()) else { return };
        let content = self.store.identity(&entry, 0).unwrap();
        for (shown, least) in content.as_chunks::<8>().0.iter().zip(least) {
            if u64::from_le_bytes(*shown) < least {
                self.violated.store(true, Ordering::SeqCst);
            }
        }
    }

    fn open(&self) {
        let others: [(u64, Work); 4] =
            [(11, Self::fill), (12, Self::fill), (13, Self::look), (14, Self::look)];
        thread::scope(|scope| {
            for (seed, work) in others {
                scope.spawn(move || {
                    let mut chance = Chance::of(seed);
                    while !self.done.load(Ordering::SeqCst) {
                        work(self, &mut chance);
                    }
                });
            }
            let writers = [21, 22].map(|seed| {
                scope.spawn(move || {
                    let mut chance = Chance::of(seed);
                    for _ in 0..ROUNDS {
                        self.purge(&mut chance);
                        if chance.below(50) == 0 {
                            self.store.maintain();
                        }
                        thread::yield_now();
                    }
                })
            });
            let ended = writers.map(thread::ScopedJoinHandle::join);
            self.done.store(true, Ordering::SeqCst);
            assert!(ended.iter().all(Result::is_ok));
        });
        // What is left after the last purge must be as new as that purge.
        let mut chance = Chance::of(31);
        for _ in 0..1_000 {
            self.look(&mut chance);
        }
    }
}

/// Tight in memory, so that evictions take part.
fn settings() -> settings::Store {
    settings::Store {
        memory_bytes: 128 << 10,
        object_max_bytes: 32 << 10,
        purged_tags_max: 4,
        purged_patterns_max: 2,
        ..settings::Store::default()
    }
}

/// Opens the shop until `enough` has happened: how threads take turns differs between machines.
fn open_until(shop: &Shop, enough: impl Fn(&Shop) -> bool) {
    for _ in 0..50 {
        shop.done.store(false, Ordering::SeqCst);
        shop.open();
        if enough(shop) {
            break;
        }
    }
}

#[test]
fn after_a_purge_was_answered_nobody_finds_what_it_named() {
    let clock = Clock::manual();
    let shop = Shop::new(Store::new(&settings(), clock.clone()), clock);
    let everything_took_part = |shop: &Shop| {
        let stats = shop.store.stats();
        stats.fenced > 0 && stats.purged > 0 && stats.evictions > 0 && stats.insertions > 1_000
    };
    open_until(&shop, everything_took_part);
    assert!(!shop.violated.load(Ordering::SeqCst));
    let stats = shop.store.stats();
    assert!(everything_took_part(&shop), "{stats:?}");
    assert!(stats.bytes <= shop.store.shares.pages_bytes, "{stats:?}");
    shop.store.maintain();
    shop.store.writers.lock().index.check();
    assert_eq!(shop.store.caches.load().pages.len(), shop.store.stats().objects);
    shop.store.purge_all(false);
    let stats = shop.store.stats();
    assert_eq!([stats.objects, stats.bytes, stats.tags, stats.links], [0; 4]);
}

#[test]
fn without_the_fence_an_old_page_is_found_after_its_purge() {
    let clock = Clock::manual();
    let shop = Shop::new(Store::without_fence(&settings(), clock.clone()), clock);
    open_until(&shop, |shop| shop.violated.load(Ordering::SeqCst));
    assert!(shop.violated.load(Ordering::SeqCst));
}
