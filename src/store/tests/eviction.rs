//! What stays when memory is short.

use super::page;
use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::random::chance::Chance;
use crate::settings;
use crate::store::{Encoded, Found, NewEntry, Segment, Store, StoredBody};

/// Room for about 2,000 pages.
const MEMORY_BYTES: u64 = 4 << 20;

struct Shop {
    store: Store,
    clock: Clock,
}

impl Shop {
    fn new() -> Self {
        let clock = Clock::manual();
        let settings = settings::Store { memory_bytes: MEMORY_BYTES, ..settings::Store::default() };
        Self { store: Store::new(&settings, clock.clone()), clock }
    }

    /// Its store is full of what nobody asks for again.
    fn full() -> Self {
        let shop = Self::new();
        let mut number = 0;
        while shop.store.stats().evictions == 0 {
            number += 1;
            shop.ask(&format!("shop/old-{number}"));
        }
        shop
    }

    /// A visitor asks for a page, which is stored where it was not.
    fn ask(&self, url: &str) -> bool {
        let key = CacheKey::for_tests(url.as_bytes(), b"");
        let is_hit = matches!(self.store.lookup(&key, self.clock.now()), Found::Fresh(_));
        if !is_hit {
            let literal = Segment::Literal(Encoded::from_identity(&[b'x'; 700], None, 0));
            let new = NewEntry { body: StoredBody::new([literal]), ..page(url, &[]) };
            self.store.insert(self.store.mark(), new).unwrap();
        }
        is_hit
    }
}

/// Ranks by Zipf's law with an exponent of 1.
struct Zipf(Vec<f64>);

impl Zipf {
    fn of(ranks: u32) -> Self {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        });
        Self(sums.collect())
    }

    fn roll(&self, chance: &mut Chance) -> usize {
        let part = f64::from((chance.number() >> 32) as u32) / f64::from(u32::MAX);
        let at = part * self.0.last().unwrap();
        self.0.partition_point(|&sum| sum < at)
    }
}

#[test]
fn pages_that_visitors_ask_for_survive_a_flood_of_urls_that_are_asked_for_once() {
    let shop = Shop::full();
    let popular = 150;
    for round in 0..3 {
        for number in 0..popular {
            assert_eq!(shop.ask(&format!("shop/{number}")), round > 0);
        }
    }
    let before = shop.store.stats().evictions;
    // Several times what fits, while visitors go on: each page is asked for again after half of it.
    for flood in 0..10_000 {
        shop.ask(&format!("shop/flood-{flood}"));
        if flood % 10 == 0 {
            let number = flood / 10 % popular;
            assert!(shop.ask(&format!("shop/{number}")), "page {number} went for the flood");
        }
    }
    assert!(shop.store.stats().evictions > before + 7_000);
    let kept = (0..popular).filter(|number| shop.ask(&format!("shop/{number}"))).count();
    assert_eq!(kept, popular);
}

#[test]
fn pages_that_nobody_asked_for_again_go_in_the_same_flood() {
    let shop = Shop::full();
    (0..150).for_each(|number| _ = shop.ask(&format!("shop/{number}")));
    (0..10_000).for_each(|flood| _ = shop.ask(&format!("shop/flood-{flood}")));
    assert!((0..150).all(|number| !shop.ask(&format!("shop/{number}"))));
}

/// Pages that go and come back.
const GHOSTS: usize = 30;

#[test]
fn a_page_that_comes_back_soon_after_it_went_stays() {
    let shop = Shop::full();
    // Enough that what is new has gone, and not everything.
    let flood = shop.store.stats().objects / 3;
    let ghosts: Vec<_> = (0..GHOSTS).map(|number| format!("shop/ghost-{number}")).collect();
    for ghost in &ghosts {
        shop.ask(ghost);
    }
    (0..flood).for_each(|number| _ = shop.ask(&format!("shop/flood-{number}")));
    assert!(ghosts.iter().all(|ghost| !shop.ask(ghost)), "they have gone");
    (0..flood).for_each(|number| _ = shop.ask(&format!("shop/flood-more-{number}")));
    // Where hashes fall is chance: others may have taken the place of some.
    let stay = ghosts.iter().filter(|ghost| shop.ask(ghost)).count();
    assert!(stay > GHOSTS / 2, "{stay} of {GHOSTS} have joined the main part");
}

/// The hit ratio of visitors who ask by Zipf's law for ten times what fits, with one request of a
/// scanner after each of theirs, or without, against that of a store which always holds the most
/// popular pages.
#[test]
fn visitors_hit_nearly_as_often_while_a_scanner_asks_for_as_much_as_they_do() {
    let zipf = Zipf::of(20_000);
    let ratio = |scans: bool| {
        let (shop, mut chance) = (Shop::new(), Chance::of(1));
        let (mut asked, mut hits) = (0, 0);
        for number in 0..60_000 {
            let hit = shop.ask(&format!("shop/{}", zipf.roll(&mut chance)));
            // The first half fills the store.
            if number >= 30_000 {
                asked += 1;
                hits += u32::from(hit);
            }
            if scans {
                shop.ask(&format!("shop/scan-{number}"));
            }
        }
        let fit = shop.store.stats().objects as usize;
        (f64::from(hits) / f64::from(asked), zipf.0[fit - 1] / zipf.0.last().unwrap())
    };
    let (alone, best) = ratio(false);
    let (scanned, _) = ratio(true);
    println!("{alone:.3} alone, {scanned:.3} with a scanner, {best:.3} at best");
    assert!(alone > 0.85 * best, "{alone} of {best}");
    assert!(scanned > 0.85 * alone, "{scanned} of {alone}");
}
