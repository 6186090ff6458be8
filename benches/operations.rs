//! How long each scenario takes: whole hits, their steps, and what compressing costs elsewhere.
//!
//! `cargo bench --bench operations`; a word names the scenarios to measure.

mod scenarios;

use criterion::{Criterion, criterion_group, criterion_main};

/// That of the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn operations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("operations");
    for scenario in scenarios::ALL {
        let mut operation = (scenario.prepare)();
        group.sample_size(scenario.rounds.clamp(10, 100) as usize);
        group.bench_function(scenario.name, |bencher| bencher.iter(&mut operation));
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
