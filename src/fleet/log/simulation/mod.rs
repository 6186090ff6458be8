//! Nodes, a log and a shop in a deterministic simulation: real machines, stores, fences and echoes,
//! with time, network, Redis and its failures made up from a seed.
//!
//! Pages carry the version that was committed when they were rendered, every second one that of a value which
//! its node keeps beside, and which is cleaned before the page is purged. A purge that the log has taken
//! obliges each node: later than its bound no node may give out an older version as good. Each
//! mechanism is switched off in turn to show that this checker notices.
mod parts;
mod world;

use super::machine::Checks;
use world::World;

const NODES: usize = 3;
const TAGS: usize = 40;
const TICK: u64 = 10;
const PROOF_MAX: u64 = 5_000;
const HEARTBEAT: u64 = 1_000;
const APPEND_TIMEOUT: u64 = 500;
const ECHO: u64 = 2_000;
/// Between two faults, so that each one's bound can be told.
const FAULT_EVERY: u64 = 25_000;
const RUN: u64 = 200_000;

/// What is switched on.
#[expect(clippy::struct_excessive_bools, reason = "each test switches one of them off")]
#[derive(Clone, Copy)]
struct Mechanisms {
    checks: Checks,
    fence: bool,
    /// A value that was built from before a clean is not kept.
    value_fence: bool,
    cleans: Cleans,
    echo: bool,
    /// Are some purges sent before their commit is visible?
    early: bool,
    faults: bool,
}

/// Where cleans of values stand in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cleans {
    BeforeThePurge,
    BehindThePurge,
    Nowhere,
}

const ALL: Mechanisms = Mechanisms {
    checks: Checks { gap: true, chain: true },
    fence: true,
    value_fence: true,
    cleans: Cleans::BeforeThePurge,
    echo: true,
    early: true,
    faults: true,
};

/// Without purges that are early nothing needs an echo, which would hide what another mechanism is for.
const PLAIN: Mechanisms = Mechanisms { echo: false, early: false, ..ALL };

/// Runs of several seeds; those with a violation.
fn violations(with: Mechanisms, seeds: std::ops::Range<u64>) -> Vec<String> {
    let mut found = Vec::new();
    for seed in seeds {
        let world = World::new(seed, with).run();
        assert!(world.hits > 500 || !world.violations.is_empty(), "seed {seed}: {}", world.hits);
        found.extend(world.violations.iter().map(|violation| format!("seed {seed}: {violation}")));
    }
    found
}

/// Does the checker find a run that breaks a promise?
fn notices(with: Mechanisms, seeds: std::ops::Range<u64>) -> bool {
    seeds.into_iter().any(|seed| !World::new(seed, with).run().violations.is_empty())
}

#[test]
fn without_faults_nothing_older_is_given_out_250_ms_after_the_log_has_a_purge() {
    let found = violations(Mechanisms { faults: false, ..ALL }, 0..5);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn under_any_fault_nothing_older_is_given_out_as_good_once_its_bound_is_over() {
    for with in [ALL, PLAIN] {
        let found = violations(with, 0..6);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn the_checker_notices_a_machine_without_its_gap_check() {
    let checks = Checks { gap: false, chain: true };
    assert!(notices(Mechanisms { checks, ..PLAIN }, 0..60));
}

#[test]
fn the_checker_notices_a_machine_that_ignores_the_chain() {
    let checks = Checks { gap: true, chain: false };
    assert!(notices(Mechanisms { checks, ..PLAIN }, 0..60));
}

#[test]
fn the_checker_notices_a_store_without_its_fence() {
    assert!(notices(Mechanisms { fence: false, ..PLAIN }, 0..60));
}

#[test]
fn the_checker_notices_values_without_a_fence() {
    assert!(notices(Mechanisms { value_fence: false, ..PLAIN }, 0..60));
}

#[test]
fn the_checker_notices_cleans_that_stand_behind_their_purge_or_nowhere() {
    for cleans in [Cleans::BehindThePurge, Cleans::Nowhere] {
        assert!(notices(Mechanisms { cleans, faults: false, ..PLAIN }, 0..60));
    }
}

#[test]
fn the_checker_notices_that_there_is_no_echo() {
    assert!(notices(Mechanisms { echo: false, ..ALL }, 0..60));
}
