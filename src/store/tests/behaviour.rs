//! One behaviour each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use regex::bytes::Regex;

use super::page;
use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::reason::Reason;
use crate::settings;
use crate::store::{
    Encoded, Found, Include, NewEntry, Purgeable, RESPONSES_PER_TURN, Segment, Store, StoreError,
    StoreStats, StoredBody,
};

fn store_of(memory_bytes: u64) -> (Store, Clock) {
    let clock = Clock::manual();
    let settings = settings::Store { memory_bytes, ..settings::Store::default() };
    (Store::new(&settings, clock.clone()), clock)
}

fn store() -> (Store, Clock) {
    store_of(64 << 20)
}

fn put(store: &Store, new: NewEntry) {
    store.insert(store.mark(), new).unwrap();
    check(store);
}

fn look(store: &Store, clock: &Clock, url: &str) -> Found {
    store.lookup(&CacheKey::for_tests(url.as_bytes(), b""), clock.now())
}

fn is_fresh(store: &Store, clock: &Clock, url: &str) -> bool {
    matches!(look(store, clock, url), Found::Fresh(_))
}

fn is_cold(store: &Store, clock: &Clock, url: &str) -> bool {
    matches!(look(store, clock, url), Found::Nothing(Reason::Cold))
}

fn check(store: &Store) {
    store.writers.lock().index.check();
}

fn tags(names: &[&'static str]) -> Vec<Bytes> {
    names.iter().map(|&name| Bytes::from(name)).collect()
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

fn gauges(stats: StoreStats) -> [u64; 4] {
    [stats.objects, stats.bytes, stats.tags, stats.links]
}

#[test]
fn a_response_goes_from_fresh_to_stale_to_expired_and_is_removed() {
    let (store, clock) = store();
    put(&store, page("shop/a", &["a"]));
    assert!(is_cold(&store, &clock, "shop/b"));
    clock.advance(Duration::from_secs(3_599));
    assert!(is_fresh(&store, &clock, "shop/a"));
    clock.advance(Duration::from_mins(10));
    let Found::Stale { stale_for, .. } = look(&store, &clock, "shop/a") else { panic!() };
    assert_eq!(stale_for, Duration::from_secs(599));
    clock.advance(Duration::from_secs(1));
    assert!(matches!(look(&store, &clock, "shop/a"), Found::Nothing(Reason::Expired)));
    clock.advance(Duration::from_secs(10));
    store.maintain();
    assert_eq!(gauges(store.stats()), [0; 4]);
    assert_eq!(store.stats().expirations, 1);
    check(&store);
}

#[test]
fn a_purge_by_tag_reaches_what_carries_it_and_says_how_many() {
    let (store, clock) = store();
    put(&store, page("shop/a", &["cat_p", "cat_p_1"]));
    put(&store, page("shop/b", &["cat_p", "cat_p_11"]));
    put(&store, page("shop/c", &["cms_b_1"]));
    let purged = store.purge_tags(&tags(&["cat_p_1", "nobody"]), false);
    assert_eq!((purged.number, purged.responses), (1, 1));
    assert!(is_cold(&store, &clock, "shop/a") && is_fresh(&store, &clock, "shop/b"));
    let purged = store.purge_tags(&tags(&["cat_p", "cms_b_1"]), false);
    assert_eq!((purged.number, purged.responses), (2, 2));
    assert_eq!(gauges(store.stats()), [0; 4]);
    check(&store);
}

#[test]
fn a_soft_purge_leaves_the_response_for_grace_and_keeps_late_fills_out() {
    let (store, clock) = store();
    let mark = store.mark();
    put(&store, page("shop/a", &["a"]));
    assert_eq!(store.purge_tags(&tags(&["a"]), true).responses, 1);
    let Found::Stale { entry, stale_for } = look(&store, &clock, "shop/a") else { panic!() };
    assert!(entry.is_soft_purged());
    assert_eq!(stale_for, Duration::ZERO);
    assert_eq!(store.insert(mark, page("shop/a", &["a"])).unwrap_err(), Reason::Fenced);
    assert_eq!(store.stats().fenced, 1);
    put(&store, page("shop/a", &["a"]));
    assert!(is_fresh(&store, &clock, "shop/a"));
    assert_eq!(store.purge_all(true).responses, 1);
    assert!(matches!(look(&store, &clock, "shop/a"), Found::Stale { .. }));
    clock.advance(Duration::from_mins(10));
    assert!(matches!(look(&store, &clock, "shop/a"), Found::Nothing(Reason::Expired)));
}

#[test]
fn a_regex_is_matched_unanchored_over_the_comma_joined_tags() {
    let (store, clock) = store();
    put(&store, page("shop/a", &["cat_p_1", "cms"]));
    put(&store, page("shop/b", &["cms", "cat_p_12"]));
    assert_eq!(store.purge_tags_matching(&regex("cat_p_2"), false).responses, 0);
    assert_eq!(store.purge_tags_matching(&regex("p_1,c"), false).responses, 1);
    assert!(is_cold(&store, &clock, "shop/a") && is_fresh(&store, &clock, "shop/b"));
    assert_eq!(store.purge_tags_matching(&regex("((^|,)cat_p_12(,|$))"), true).responses, 1);
    assert!(matches!(look(&store, &clock, "shop/b"), Found::Stale { .. }));
    check(&store);
}

#[test]
fn a_purge_by_pool_reaches_only_responses_with_such_a_pool() {
    let (store, clock) = store();
    put(&store, NewEntry { pool: Some(Bytes::from("blue")), ..page("shop/a", &[]) });
    put(&store, NewEntry { pool: Some(Bytes::from("green")), ..page("shop/b", &[]) });
    put(&store, page("shop/c", &[]));
    assert_eq!(store.purge_pools_matching(&regex("^blue$"), false).responses, 1);
    assert!(is_cold(&store, &clock, "shop/a"));
    assert_eq!(store.purge_pools_matching(&regex(""), false).responses, 1);
    assert!(is_fresh(&store, &clock, "shop/c"));
    check(&store);
}

#[test]
fn a_purge_of_a_url_reaches_all_its_variants_and_no_other_url() {
    let (store, clock) = store();
    for variant in [&b""[..], b"vary=1", b"vary=2"] {
        let key = CacheKey::for_tests(b"shop/a", variant);
        put(&store, NewEntry { key, ..page("", &["a"]) });
    }
    put(&store, page("shop/ab", &["a"]));
    assert_eq!(store.purge_url(b"shop/a", false).responses, 3);
    assert!(is_cold(&store, &clock, "shop/a") && is_fresh(&store, &clock, "shop/ab"));
    let new = CacheKey::for_tests(b"shop/a", b"vary=1");
    assert!(matches!(store.lookup(&new, clock.now()), Found::Nothing(Reason::Cold)));
    check(&store);
}

#[test]
fn a_fill_that_began_before_a_purge_of_its_tag_url_pool_or_everything_is_not_stored() {
    let (store, _) = store();
    let pool = Some(Bytes::from("blue"));
    let new = || NewEntry { pool: pool.clone(), ..page("shop/a", &["a", "b"]) };
    let purges: [(&dyn Fn(), bool); 8] = [
        (&|| _ = store.purge_tags(&tags(&["b"]), false), true),
        (&|| _ = store.purge_tags(&tags(&["c"]), false), false),
        (&|| _ = store.purge_url(b"shop/a", false), true),
        (&|| _ = store.purge_url(b"shop/b", false), false),
        (&|| _ = store.purge_tags_matching(&regex("a,b"), false), true),
        (&|| _ = store.purge_pools_matching(&regex("green"), false), false),
        (&|| _ = store.purge_pools_matching(&regex("blue"), true), true),
        (&|| _ = store.purge_all(false), true),
    ];
    for (purge, fenced) in purges {
        let mark = store.mark();
        let entry = new();
        let of = Purgeable { key: &entry.key, tags: &entry.tags, pool: entry.pool.as_ref() };
        assert!(!store.fenced(mark, Some(&of)) && !store.fenced(mark, None));
        purge();
        assert_eq!(store.fenced(mark, Some(&of)), fenced);
        assert!(store.fenced(mark, None));
        assert_eq!(store.insert(mark, new()).err(), fenced.then_some(Reason::Fenced));
        put(&store, new());
    }
}

#[test]
fn gauges_return_to_zero_after_a_flush_and_never_underflow() {
    let (store, clock) = store();
    for _ in 0..2 {
        for page_number in 0..2_000 {
            let url = format!("shop/{}", page_number % 1_500);
            let own = Bytes::from(format!("cat_p_{page_number}"));
            let mut new = page(&url, &["cat_p", "cat_p", "cms"]);
            new.tags.push(own);
            store.insert(store.mark(), new).unwrap();
        }
        check(&store);
        let stats = store.stats();
        assert_eq!(stats.objects, 1_500);
        assert_eq!((stats.tags, stats.links), (1_502, 4_500));
        let purged = store.purge_all(false);
        assert_eq!(purged.responses, 1_500);
        assert!(is_cold(&store, &clock, "shop/1"));
        assert_eq!(gauges(store.stats()), [0; 4]);
        assert_eq!(store.purge_all(false).responses, 0);
        check(&store);
    }
}

#[test]
fn gauges_are_right_after_evictions_and_memory_keeps_to_its_limit() {
    let (store, clock) = store_of(4 << 20);
    for number in 0..4_000_u32 {
        let url = format!("shop/{}", number % 1_700);
        let literal = Encoded::from_identity(&vec![b'x'; (number % 97) as usize * 100], None, 0);
        let mut new = page(&url, &["all"]);
        new.tags.push(Bytes::from(format!("cat_p_{}", number % 300)));
        new.body = StoredBody::new([Segment::Literal(literal)]);
        look(&store, &clock, &url);
        store.insert(store.mark(), new).unwrap();
        assert!(store.stats().bytes <= store.shares.pages_bytes);
    }
    assert!(store.stats().evictions > 1_000);
    check(&store);
    store.maintain();
    assert_eq!(store.caches.load().pages.len(), store.stats().objects);
    let objects = store.stats().objects;
    assert_eq!(store.purge_tags(&tags(&["all"]), false).responses, objects);
    store.maintain();
    assert_eq!(gauges(store.stats()), [0; 4]);
    check(&store);
}

fn weighing(url: &str, content_bytes: usize) -> NewEntry {
    let literal = Encoded::from_identity(&vec![b'x'; content_bytes], None, 0);
    NewEntry { body: StoredBody::new([Segment::Literal(literal)]), ..page(url, &[]) }
}

#[test]
fn what_is_new_goes_before_what_is_newer() {
    let (mut store, clock) = store_of(4 << 20);
    store.shares.pages_bytes = 100_000;
    for number in 0..20 {
        clock.advance(Duration::from_secs(10));
        put(&store, weighing(&format!("shop/{number}"), 20_000));
        assert!(store.stats().bytes <= 100_000);
    }
    assert!(is_fresh(&store, &clock, "shop/19") && is_cold(&store, &clock, "shop/0"));
    assert_eq!(store.stats().evictions, 20 - store.stats().objects);
}

#[test]
fn what_no_longer_fits_is_refused_with_its_reason() {
    let (store, clock) = store_of(4 << 20);
    let large = Encoded::from_identity(&vec![b'x'; 5 << 20], None, 0);
    let mut new = page("shop/a", &[]);
    new.body = StoredBody::new([Segment::Literal(large)]);
    assert_eq!(store.insert(store.mark(), new).unwrap_err(), Reason::TooLarge);
    let mut new = page("shop/a", &[]);
    new.tags = (0..10_001).map(|number| Bytes::from(number.to_string())).collect();
    assert_eq!(store.insert(store.mark(), new.clone()).unwrap_err(), Reason::TooLarge);
    assert_eq!(store.stats().too_large, 2);
    assert!(is_cold(&store, &clock, "shop/a"));
    new.tags.pop();
    put(&store, new);
    let (off, clock) = store_of(0);
    assert_eq!(off.insert(off.mark(), page("shop/a", &[])).unwrap_err(), Reason::StoreOff);
    let key = CacheKey::for_tests(b"shop/a", b"");
    let minute = Duration::from_mins(1);
    assert!(!off.remember_uncacheable(off.mark(), &key, Reason::Private, minute));
    assert!(is_cold(&off, &clock, "shop/a"));
    assert_eq!(off.purge_all(false).responses, 0);
}

#[test]
fn uncacheable_is_remembered_for_its_time_and_ended_by_a_good_response() {
    let (store, clock) = store();
    let key = CacheKey::for_tests(b"shop/a", b"");
    let minute = Duration::from_mins(1);
    assert!(store.remember_uncacheable(store.mark(), &key, Reason::Private, minute));
    assert!(matches!(look(&store, &clock, "shop/a"), Found::HitForMiss(Reason::Private)));
    clock.advance(minute);
    assert!(is_cold(&store, &clock, "shop/a"));
    assert!(store.remember_uncacheable(store.mark(), &key, Reason::Status, minute));
    put(&store, page("shop/a", &[]));
    assert!(is_fresh(&store, &clock, "shop/a"));
    store.purge_url(b"shop/a", false);
    assert!(is_cold(&store, &clock, "shop/a"));
    let mark = store.mark();
    store.purge_all(false);
    assert!(!store.remember_uncacheable(mark, &key, Reason::Status, minute));
    assert!(store.remember_uncacheable(store.mark(), &key, Reason::Status, minute));
    store.maintain();
    assert_eq!(store.stats().hit_for_miss, 1);
    store.purge_all(false);
    assert!(is_cold(&store, &clock, "shop/a"));
    assert_eq!(store.stats().hit_for_miss, 0);
}

#[test]
fn an_uncacheable_answer_replaces_what_is_stale_and_never_what_is_fresh() {
    let (store, clock) = store();
    let key = CacheKey::for_tests(b"shop/a", b"");
    let minute = Duration::from_mins(1);
    put(&store, page("shop/a", &["a"]));
    assert!(!store.remember_uncacheable(store.mark(), &key, Reason::Status, minute));
    assert!(is_fresh(&store, &clock, "shop/a"));
    store.purge_tags(&tags(&["a"]), true);
    assert!(store.remember_uncacheable(store.mark(), &key, Reason::Status, minute));
    assert!(matches!(look(&store, &clock, "shop/a"), Found::HitForMiss(Reason::Status)));
    clock.advance(minute);
    assert!(is_cold(&store, &clock, "shop/a"));
    assert_eq!(gauges(store.stats()), [0; 4]);
}

#[test]
fn memory_for_uncacheable_keys_is_bounded() {
    let (store, _) = store_of(4 << 20);
    for number in 0..5_000 {
        let key = CacheKey::for_tests(format!("shop/{number}").as_bytes(), b"");
        store.remember_uncacheable(store.mark(), &key, Reason::Status, Duration::from_mins(1));
    }
    store.maintain();
    let remembered = store.stats().hit_for_miss;
    assert!((50..=(4 << 20) / 64 / 480).contains(&remembered), "{remembered}");
}

#[test]
fn plain_forms_are_made_on_demand_and_go_with_their_response() {
    let (store, _) = store();
    let text = b"<li>item</li>".repeat(1_000);
    let include = Segment::Include(Include::new("/menu"));
    let literal = Segment::Literal(Encoded::from_identity(&text, Some(6), 1_024));
    let mut new = page("shop/a", &["a"]);
    new.body = StoredBody::new([include, literal]);
    let entry = store.insert(store.mark(), new.clone()).unwrap();
    assert_eq!(store.identity(&entry, 1).unwrap(), text);
    assert_eq!(store.identity(&entry, 1).unwrap(), text);
    store.maintain();
    assert!(store.stats().identities_bytes >= 13_000);
    assert_eq!(store.identity(&entry, 0), Err(StoreError::NoLiteral));
    assert_eq!(store.identity(&entry, 2), Err(StoreError::NoLiteral));
    store.purge_tags(&tags(&["a"]), false);
    assert_eq!(store.identity(&entry, 1).unwrap(), text, "a reader keeps what it has");
    store.maintain();
    assert_eq!(store.stats().identities_bytes, 0);
    let entry = store.unstored(new);
    assert_eq!(store.identity(&entry, 1).unwrap(), text);
    store.maintain();
    assert_eq!(store.stats().identities_bytes, 0);
}

#[test]
fn a_reader_keeps_the_response_it_has_while_the_store_lets_go() {
    let (store, clock) = store();
    put(&store, page("shop/a", &["a"]));
    let Found::Fresh(entry) = look(&store, &clock, "shop/a") else { panic!() };
    store.purge_all(false);
    assert_eq!(entry.head().http1(), b"Content-Type: text/html\r\n");
    assert_eq!(entry.body().pieces().len(), 1);
    assert!(is_cold(&store, &clock, "shop/a"));
}

#[test]
fn a_replaced_response_is_freed_at_once_and_leaves_the_new_ones_links() {
    let (store, clock) = store();
    put(&store, page("shop/a", &["a", "old"]));
    let old = match look(&store, &clock, "shop/a") {
        Found::Fresh(old) => Arc::downgrade(&old),
        other => panic!("{other:?}"),
    };
    put(&store, page("shop/a", &["a", "new"]));
    assert!(old.upgrade().is_none());
    let stats = store.stats();
    assert_eq!((stats.objects, stats.tags, stats.links, stats.evictions), (1, 2, 2, 0));
    assert_eq!(store.purge_tags(&tags(&["old"]), false).responses, 0);
    assert_eq!(store.purge_tags(&tags(&["a"]), false).responses, 1);
}

/// Pages with one tag in common, twice as many as a purge removes at once.
fn store_of_many() -> (Store, Clock) {
    let (store, clock) = store();
    for number in 0..MANY {
        store.insert(store.mark(), page(&format!("shop/{number}"), &["many"])).unwrap();
    }
    (store, clock)
}

const MANY: usize = 2 * RESPONSES_PER_TURN;

#[test]
fn a_purge_of_many_gives_none_of_them_any_more_and_leaves_the_rest_of_its_work_for_later() {
    let (store, clock) = store_of_many();
    assert_eq!(store.purge_tags(&tags(&["many"]), false).responses, MANY as u64);
    assert!((0..MANY).all(|number| is_cold(&store, &clock, &format!("shop/{number}"))));
    assert_eq!(store.stats().objects, (MANY - RESPONSES_PER_TURN) as u64);
    check(&store);
    assert_eq!(store.purge_tags(&tags(&["many"]), false).responses, 0, "none is purged twice");
    store.maintain();
    assert_eq!(gauges(store.stats()), [0; 4]);
    assert_eq!(store.stats().purged, MANY as u64);
    check(&store);
}

#[test]
fn a_response_that_takes_the_place_of_a_purged_one_stays_when_that_is_removed() {
    let (store, clock) = store_of_many();
    store.purge_tags(&tags(&["many"]), false);
    let url = format!("shop/{}", MANY - 1);
    put(&store, page(&url, &["new"]));
    assert!(is_fresh(&store, &clock, &url));
    store.maintain();
    assert!(is_fresh(&store, &clock, &url));
    assert_eq!(store.stats().objects, 1);
    check(&store);
}

#[test]
fn purging_everything_counts_what_waits_to_be_removed_once() {
    let (store, _) = store_of_many();
    put(&store, page("shop/other", &["other"]));
    store.purge_tags(&tags(&["many"]), false);
    assert_eq!(store.purge_all(false).responses, 1);
    assert_eq!(gauges(store.stats()), [0; 4]);
    check(&store);
}
