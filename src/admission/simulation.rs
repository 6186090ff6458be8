//! The limit against a made-up PHP: its processors and its database are shared by all who are in it.
//! Requests never run out, and the best fixed limit is found by trying each.

use std::time::Duration;

use super::limit::{Bounds, Limit};
use crate::random::chance::Chance;

const STEP: Duration = Duration::from_millis(5);
const CHILDREN: usize = 32;
/// Runs with other chances.
const SEEDS: u64 = 8;

/// What a request needs of each, in seconds at full speed.
#[derive(Clone, Copy)]
struct Work {
    processor: f64,
    database: f64,
    sleep: f64,
}

/// A shop's PHP.
#[derive(Clone, Copy)]
struct Shape {
    processors: f64,
    /// Queries that the database does at full speed, and what each more costs all of them.
    queries: f64,
    thrash: f64,
    /// What a request needs at least; at most it is four times that.
    least: Work,
    /// Of so many requests one needs a hundred times as much; 0: none does.
    one_is_long_in: f64,
}

const NOTHING: Work = Work { processor: 0.0, database: 0.0, sleep: 0.0 };
const SLEEPS: Shape = Shape {
    processors: 2.0,
    queries: 99.0,
    thrash: 0.0,
    least: Work { sleep: 0.1, ..NOTHING },
    one_is_long_in: 0.0,
};
const EXPORTS: Shape = Shape { one_is_long_in: 300.0, ..SLEEPS };
const COMPUTES: Shape = Shape { least: Work { processor: 0.04, ..NOTHING }, ..SLEEPS };
const SATURATES: Shape = Shape {
    queries: 6.0,
    thrash: 0.05,
    least: Work { processor: 0.01, database: 0.06, sleep: 0.0 },
    ..SLEEPS
};
const MAGENTO: Shape = Shape {
    queries: 8.0,
    thrash: 0.02,
    least: Work { processor: 0.025, database: 0.03, sleep: 0.03 },
    ..SLEEPS
};
const SHAPES: [(&str, Shape); 4] =
    [("sleeps", SLEEPS), ("computes", COMPUTES), ("saturates", SATURATES), ("magento", MAGENTO)];

struct Random(Chance);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        (self.0.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Request {
    class: usize,
    since: Duration,
    left: Work,
}

/// What came of a run: responses and the limit in each second, and what a response took in all.
struct Run {
    responses: Vec<usize>,
    limits: Vec<usize>,
    took: Duration,
}

impl Run {
    fn goodput(&self, from: usize, to: usize) -> f64 {
        self.responses[from..to].iter().sum::<usize>() as f64 / (to - from) as f64
    }

    fn mean(&self) -> f64 {
        self.took.as_secs_f64() / self.responses.iter().sum::<usize>() as f64
    }
}

/// Runs for so many seconds. `slower`: how many times as slow PHP is in a second.
fn run(shape: Shape, limit: Limit, seconds: usize, slower: fn(usize) -> f64) -> Run {
    run_by(0, shape, limit, seconds, slower)
}

/// With other chances for each seed.
fn run_by(
    seed: u64,
    shape: Shape,
    mut limit: Limit,
    seconds: usize,
    slower: fn(usize) -> f64,
) -> Run {
    let mut random = Random(Chance::of(seed));
    let mut in_php: Vec<Request> = Vec::new();
    let mut run =
        Run { responses: vec![0; seconds], limits: vec![0; seconds], took: Duration::ZERO };
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(seconds as u64) {
        let second = now.as_secs() as usize;
        while in_php.len() < limit.places() {
            // Of two classes one takes half as long.
            let class = usize::from(random.next() < 0.3);
            let mut scale = (1.0 + 3.0 * random.next()) / (1.0 + class as f64);
            if shape.one_is_long_in > 0.0 {
                scale = spread(&mut random)
                    * if random.next() * shape.one_is_long_in < 1.0 { 100.0 } else { 1.0 };
            }
            let Work { processor, database, sleep } = shape.least;
            let left = Work {
                processor: processor * scale,
                database: database * scale,
                sleep: sleep * scale,
            };
            limit.begin(now);
            in_php.push(Request { class, since: now, left });
        }
        limit.wait(now);
        advance(shape, &mut in_php, STEP.as_secs_f64() / slower(second));
        now += STEP;
        let mut at = 0;
        while at < in_php.len() {
            let Work { processor, database, sleep } = in_php[at].left;
            if processor + database + sleep > 0.0 {
                at += 1;
                continue;
            }
            let request = in_php.swap_remove(at);
            let took = now.saturating_sub(request.since);
            run.took += took;
            run.responses[second] += 1;
            limit.end(request.class, Some(took), now);
        }
        run.limits[second] = limit.places();
    }
    run
}

/// About 1, and twice or half of that often (lognormal).
fn spread(random: &mut Random) -> f64 {
    let sum: f64 = (0..12).map(|_| random.next()).sum();
    ((sum - 6.0) * 0.7).exp()
}

/// Each request first computes, then asks the database, then sleeps.
fn advance(shape: Shape, in_php: &mut [Request], step: f64) {
    let computing = in_php.iter().filter(|one| one.left.processor > 0.0).count() as f64;
    let is_asking = |one: &&Request| one.left.processor <= 0.0 && one.left.database > 0.0;
    let asking = in_php.iter().filter(is_asking).count() as f64;
    let processor = (shape.processors / computing).min(1.0);
    let excess = (asking - shape.queries).max(0.0);
    let database = (shape.queries / asking).min(1.0) / (1.0 + shape.thrash * excess);
    for request in in_php {
        let left = &mut request.left;
        if left.processor > 0.0 {
            left.processor = (left.processor - step * processor).max(0.0);
        } else if left.database > 0.0 {
            left.database = (left.database - step * database).max(0.0);
        } else {
            left.sleep = (left.sleep - step).max(0.0);
        }
    }
}

fn limit(max: usize, adaptive: bool) -> Limit {
    limit_from(2, max, adaptive)
}

fn limit_from(min: usize, max: usize, adaptive: bool) -> Limit {
    let bounds = Bounds { min, max, slowdown_max: 1.5, adaptive };
    Limit::new(2, bounds, Duration::ZERO)
}

/// Responses a second with the best fixed limit.
fn best(shape: Shape, slower: fn(usize) -> f64) -> f64 {
    let goodput = |places| run(shape, limit(places, false), 30, slower).goodput(5, 30);
    let all = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 26, CHILDREN].map(goodput);
    all.into_iter().fold(0.0, f64::max)
}

/// Of the best, what is reached in these seconds: on average over some runs, and in the worst of them.
fn reached(runs: &[Run], (from, to): (usize, usize), best: f64) -> (f64, f64) {
    let all: Vec<f64> = runs.iter().map(|run| run.goodput(from, to) / best).collect();
    let average = all.iter().sum::<f64>() / all.len() as f64;
    (average, all.into_iter().fold(f64::MAX, f64::min))
}

#[test]
fn goodput_is_within_a_tenth_of_the_best_also_when_php_becomes_twice_as_slow_and_back() {
    for (name, shape) in SHAPES {
        let (normal, slow) = (best(shape, |_| 1.0), best(shape, |_| 2.0));
        let slower = |second| if (40..80).contains(&second) { 2.0 } else { 1.0 };
        let runs: Vec<_> = (0..SEEDS)
            .map(|seed| run_by(seed, shape, limit(CHILDREN, true), 120, slower))
            .collect();
        // From ten seconds after each change.
        for (part, best) in [((10, 40), normal), ((50, 80), slow), ((90, 120), normal)] {
            let (average, worst) = reached(&runs, part, best);
            println!("{name} {part:?}: {average:.3} of the best, {worst:.3} in the worst run");
            assert!(average >= 0.9 && worst >= 0.75, "{name} {part:?}: {average} {worst}");
        }
    }
}

#[test]
fn where_more_in_php_brings_nothing_they_do_not_wait_for_each_other_there() {
    let all = run(COMPUTES, limit(CHILDREN, false), 60, |_| 1.0);
    let found = run(COMPUTES, limit(CHILDREN, true), 60, |_| 1.0);
    let (all, found) = (all.mean(), found.mean());
    assert!(found < all / 2.0, "{found} s, and {all} s without a limit");
}

#[test]
fn where_php_sleeps_each_child_is_used() {
    let found = run(SLEEPS, limit(CHILDREN, true), 60, |_| 1.0);
    let places: usize = found.limits[10..].iter().sum();
    assert!(places >= 50 * CHILDREN * 95 / 100, "{:?}", found.limits);
}

#[test]
fn where_php_sleeps_few_children_are_used_whatever_single_requests_take() {
    let slower = |second| if (40..80).contains(&second) { 3.0 } else { 1.0 };
    let used = |seed| {
        let found = run_by(seed, EXPORTS, limit_from(4, 8, true), 120, slower);
        found.limits.iter().sum::<usize>() as f64 / (120.0 * 8.0)
    };
    let all: Vec<f64> = (0..SEEDS).map(used).collect();
    let average = all.iter().sum::<f64>() / all.len() as f64;
    // What is missing are the looks.
    let worst = all.into_iter().fold(f64::MAX, f64::min);
    assert!(average >= 0.85 && worst >= 0.8, "{average} {worst}");
}

#[test]
fn while_the_limit_is_not_used_up_it_does_not_fall() {
    let mut limit = limit(16, true);
    let mut now = Duration::ZERO;
    for round in 0..2_000_u64 {
        // Of a class that may have half of the places, requests wait all the time.
        (0..8).for_each(|_| limit.begin(now));
        limit.wait(now);
        let took = Duration::from_millis(100 + 10 * (round % 50));
        now += took;
        (0..8).for_each(|_| limit.end(0, Some(took), now));
    }
    assert_eq!(limit.places(), 16);
}

#[test]
fn without_a_limit_that_moves_a_database_that_thrashes_loses_more_than_a_tenth() {
    let best = best(SATURATES, |_| 1.0);
    let all = run(SATURATES, limit(CHILDREN, false), 60, |_| 1.0).goodput(20, 60);
    assert!(all < best * 0.9, "{all} of {best}");
}
