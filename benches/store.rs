//! What a look-up, an insertion and purges cost.
//!
//! Run with `cargo bench --bench store`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use parvis::clock::Clock;
use parvis::settings;
use parvis::store::{Found, NewEntry, Store};
use regex::bytes::Regex;

use stored::{key, mixed_tags, own_tag, response, shared_tag};

#[path = "scenarios/stored.rs"]
mod stored;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const OBJECTS: usize = 100_000;
const TAGS_EACH: usize = 40;
/// Shared tags; each is carried by about a hundred responses.
const TAGS_SHARED: usize = OBJECTS * (TAGS_EACH - 1) / 100;

fn page(object: usize) -> NewEntry {
    response(object, mixed_tags(object, TAGS_EACH, TAGS_SHARED))
}

fn empty() -> (Store, Clock) {
    let clock = Clock::system();
    let settings = settings::Store { memory_bytes: 4 << 30, ..settings::Store::default() };
    (Store::new(&settings, clock.clone()), clock)
}

fn full() -> (Store, Clock) {
    let (store, clock) = empty();
    for object in 0..OBJECTS {
        let _ = store.insert(store.mark(), page(object));
    }
    store.maintain();
    assert_eq!(store.stats().objects, OBJECTS as u64);
    (store, clock)
}

fn look_up(criterion: &mut Criterion) {
    let (store, clock) = full();
    let keys: Vec<_> = (0..1_024).map(|object| key(object * 97)).collect();
    let mut next = 0;
    criterion.bench_function("lookup/hit", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % keys.len();
            matches!(store.lookup(black_box(&keys[next]), clock.now()), Found::Fresh(_))
        });
    });
    let unknown = key(OBJECTS);
    criterion.bench_function("lookup/miss", |bencher| {
        bencher.iter(|| matches!(store.lookup(black_box(&unknown), clock.now()), Found::Fresh(_)));
    });
}

fn insert(criterion: &mut Criterion) {
    let (store, _) = full();
    let mut object = 0;
    criterion.bench_function("insert/40_tags", |bencher| {
        bencher.iter_batched(
            || {
                object = (object + 7) % OBJECTS;
                page(object)
            },
            |page| store.insert(store.mark(), page),
            BatchSize::SmallInput,
        );
    });
}

fn purge(criterion: &mut Criterion) {
    let (store, _) = full();
    let refill = |responses: std::ops::Range<usize>| {
        for object in responses {
            let _ = store.insert(store.mark(), page(object));
        }
    };
    let mut object = 0;
    criterion.bench_function("purge_tag/of_1_among_100000x40", |bencher| {
        bencher.iter_batched(
            || {
                refill(object..object + 1);
                object = (object + 7_919) % OBJECTS;
                [own_tag(object)]
            },
            |tags| store.purge_tags(&tags, false),
            BatchSize::PerIteration,
        );
    });
    refill(0..OBJECTS);
    let mut tag = 0;
    criterion.bench_function("purge_tag/of_100_among_100000x40", |bencher| {
        bencher.iter_batched(
            || {
                if store.stats().objects < OBJECTS as u64 * 9 / 10 {
                    refill(0..OBJECTS);
                }
                tag = (tag + 7_919) % TAGS_SHARED;
                [shared_tag(tag)]
            },
            |tags| store.purge_tags(&tags, false),
            BatchSize::PerIteration,
        );
    });
    refill(0..OBJECTS);
    let nothing = Regex::new("cat_p_5,cat_p_6|no_such_tag_[0-9]+x").ok();
    if let Some(regex) = nothing {
        let mut group = criterion.benchmark_group("purge_regex");
        group.sample_size(10);
        group.bench_function("of_0_among_100000x40", |bencher| {
            bencher.iter(|| store.purge_tags_matching(&regex, false));
        });
    }
}

fn purge_all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("purge_all");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_millis(1));
    group.bench_function("of_100000x40", |bencher| {
        bencher.iter_batched_ref(
            full,
            |(store, _)| store.purge_all(false),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, look_up, insert, purge, purge_all);
criterion_main!(benches);
