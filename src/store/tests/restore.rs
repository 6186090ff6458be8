//! What leaves for another store, and what comes from one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::page;
use crate::clock::Clock;
use crate::fields::Fields;
use crate::policy::{CacheKey, Vary};
use crate::reason::Reason;
use crate::settings;
use crate::store::{
    Encoded, Found, NewEntry, NotRestored, Segment, Store, StoredBody, Used, Variant, Walk,
};

fn store_of(memory_bytes: u64) -> (Arc<Store>, Clock) {
    let clock = Clock::manual();
    let settings = settings::Store { memory_bytes, ..settings::Store::default() };
    (Arc::new(Store::new(&settings, clock.clone())), clock)
}

fn key(url: &str) -> CacheKey {
    CacheKey::for_tests(url.as_bytes(), b"")
}

fn url_of(number: usize) -> String {
    format!("shop/{number}")
}

const USED: Used = Used { hits: 160, marks: 2 };

#[test]
fn a_walk_gives_the_hottest_first_and_leaves_out_what_goes_meanwhile() {
    let (store, clock) = store_of(64 << 20);
    for number in 0..1_000 {
        store.insert(store.mark(), page(&url_of(number), &["a"])).unwrap();
    }
    for number in [7, 500, 999] {
        for _ in 0..number * 16 {
            store.lookup(&key(&url_of(number)), clock.now());
        }
    }
    let mut walk = Walk::new(Arc::clone(&store));
    assert_eq!(walk.remaining(), 1_000);
    let all = 16 * (7 + 500 + 999);
    assert!(walk.hits().abs_diff(all) < all / 20, "{} of {all}", walk.hits());
    let mut first = Vec::new();
    for _ in 0..3 {
        first.extend(walk.next().map(|stored| stored.entry.key()));
    }
    assert_eq!(first, [999, 500, 7].map(|number| key(&url_of(number))));
    store.purge_url(b"shop/3", false);
    store.insert(store.mark(), page("shop/4", &[])).unwrap();
    let rest = walk.by_ref().count();
    // Those of a batch that was looked up before are given still.
    assert!((995..=997).contains(&rest), "{rest}");
    store.purge_all(false);
    assert_eq!(Walk::new(store).count(), 0);
}

#[test]
fn weights_fade_by_half_in_half_an_hour() {
    let (store, clock) = store_of(64 << 20);
    for number in 0..10 {
        store.restore(store.mark(), page(&url_of(number), &[]), USED).unwrap();
    }
    let hits = || Walk::new(Arc::clone(&store)).hits();
    assert_eq!(hits(), 1_600);
    for _ in 0..1_800 {
        clock.advance(Duration::from_secs(1));
        store.maintain();
    }
    assert_eq!(hits(), 800);
}

#[test]
fn a_restored_response_has_its_weight_and_is_marked_as_from_elsewhere() {
    let (store, clock) = store_of(64 << 20);
    let entry = store.restore(store.mark(), page("shop/a", &["a"]), USED).unwrap();
    assert!(entry.is_restored() && entry.used() == USED);
    assert!(matches!(store.lookup(&key("shop/a"), clock.now()), Found::Fresh(_)));
    let refilled = store.insert(store.mark(), page("shop/a", &["a"])).unwrap();
    assert!(!refilled.is_restored());
    assert!(refilled.used() >= USED);
}

#[test]
fn a_purge_since_the_mark_refuses_what_it_names() {
    let (store, _) = store_of(64 << 20);
    let mark = store.mark();
    store.purge_tags(&[Bytes::from("a")], false);
    let refused = store.restore(mark, page("shop/a", &["a"]), USED);
    assert_eq!(refused.err(), Some(NotRestored::Refused(Reason::Fenced)));
    assert!(store.restore(mark, page("shop/b", &["b"]), USED).is_ok());
    let too_late = store.restore(store.mark(), page("shop/a", &["a"]), USED);
    assert!(too_late.is_ok(), "with a mark that was taken later it comes back");
}

#[test]
fn what_comes_after_everything_went_soft_is_stale_unless_it_was_purged() {
    let (store, clock) = store_of(64 << 20);
    let mark = store.mark();
    store.purge_tags(&[Bytes::from("a")], false);
    store.soften_tagged();
    store.purge_tags(&[Bytes::from("c")], false);
    store.soften_tagged();
    let restore = |tag| store.restore(mark, page(&format!("shop/{tag}"), &[tag]), USED).is_ok();
    assert_eq!(["a", "b", "c"].map(restore), [false, true, false]);
    assert!(matches!(store.lookup(&key("shop/b"), clock.now()), Found::Stale { .. }));
    store.restore(mark, page("shop/plain", &[]), USED).unwrap();
    assert!(matches!(store.lookup(&key("shop/plain"), clock.now()), Found::Fresh(_)));
}

#[test]
fn what_is_known_here_and_as_good_stays() {
    let (store, clock) = store_of(64 << 20);
    let restore = |new| store.restore(store.mark(), new, USED).map(|_| ());
    let fresh = || page("shop/a", &["a"]);
    let stale = || NewEntry { ttl: Duration::ZERO, ..fresh() };
    store.insert(store.mark(), fresh()).unwrap();
    assert_eq!(restore(fresh()), Err(NotRestored::Known));
    store.purge_tags(&[Bytes::from("a")], true);
    clock.advance(Duration::from_secs(1));
    assert_eq!(restore(stale()), Err(NotRestored::Known), "both are stale");
    assert_eq!(restore(fresh()), Ok(()));
    store.purge_url(b"shop/a", false);
    let minute = Duration::from_secs(60);
    store.remember_uncacheable(store.mark(), &key("shop/a"), Reason::Private, minute);
    assert_eq!(restore(fresh()), Err(NotRestored::Known), "the origin has spoken");
    clock.advance(minute);
    assert_eq!(restore(fresh()), Ok(()));
}

#[test]
fn neither_kind_of_response_ends_the_other_where_that_is_newer() {
    let (store, _) = store_of(64 << 20);
    let variant_of = |url: &str| {
        let (primary, vary) = (key(url), Vary::of_names(&[Bytes::from("x")]).unwrap());
        let key = vary.key(&primary, &Fields::from([("X", "1")]));
        let variant = Some(Variant { primary, vary, by_language: None });
        NewEntry { key, variant, ..page(url, &[]) }
    };
    store.insert(store.mark(), page("shop/a", &[])).unwrap();
    let refused = store.restore(store.mark(), variant_of("shop/a"), USED);
    assert_eq!(refused.err(), Some(NotRestored::Known));
    store.insert(store.mark(), variant_of("shop/b")).unwrap();
    let refused = store.restore(store.mark(), page("shop/b", &[]), USED);
    assert_eq!(refused.err(), Some(NotRestored::Known));
    store.restore(store.mark(), variant_of("shop/c"), USED).unwrap();
    assert!(store.variants(&key("shop/c")).is_some(), "it is found by requests");
}

#[test]
fn nothing_goes_for_what_is_restored() {
    let (store, _) = store_of(8 << 20);
    let body =
        || StoredBody::new([Segment::Literal(Encoded::from_identity(&[b'x'; 9_000], None, 0))]);
    let new = |number| NewEntry { body: body(), ..page(&url_of(number), &["a", "b"]) };
    let mut restored = 0;
    let refused = loop {
        match store.restore(store.mark(), new(restored), USED) {
            Ok(_) => restored += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, NotRestored::Full);
    assert!(restored > 300, "{restored}");
    let stats = store.stats();
    assert!(stats.evictions <= 1, "{stats:?}");
    // Then what is new takes its place, and what was used there is worth more than it.
    for number in 0..restored {
        store.insert(store.mark(), new(100_000 + number)).unwrap();
    }
    let kept = (0..restored).filter(|&number| {
        !matches!(store.lookup(&key(&url_of(number)), Clock::manual().now()), Found::Nothing(_))
    });
    assert!(kept.count() > restored * 8 / 10);
}
