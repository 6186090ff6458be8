//! The checker notices a node without its fence, without its gap check, without the chain, without the echo,
//! whose cleans are not in the log or behind the purges, and whose object cache has no fence. All but that
//! without the echo need a binary of the feature `faulty`, which `tests/run --long` builds.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use super::faults::{promote_with_a_lost_tail, slow_pages, trim_past_readers};
use super::world::{Plan, World};
use super::{hold, run, tell};

/// Does a run of several find a read that breaks a promise?
fn notices(what: &str, plan: impl Fn() -> Plan, fault: impl Fn(&World, usize)) {
    for attempt in 1..=4 {
        let outcome = run(plan(), None, |world, cycle| fault(world, cycle));
        let found = outcome.findings.violations_in_all;
        if found > 0 {
            let stale = outcome.findings.stale_max;
            tell(&format!(
                "| {what} switched off | {} | {} | {} | {stale:.2?} | - | - | {found}, as it must | - | run {attempt} |",
                outcome.reads, outcome.under_fault, outcome.writes
            ));
            return;
        }
        println!("{}\nthe machine was late by {:?} in all", outcome.row(), outcome.late);
    }
    panic!("nobody noticed that there is no {what}");
}

/// A plan with a faulty binary; `None`: there is none.
fn without(what: &'static str) -> Option<impl Fn(Plan) -> Plan> {
    let Some(binary) = std::env::var_os("PARVIS_FAULTY_BINARY").map(PathBuf::from) else {
        println!("left out: PARVIS_FAULTY_BINARY names no binary of the feature `faulty`");
        return None;
    };
    Some(move |plan: Plan| Plan {
        environment: vec![("PARVIS_WITHOUT".to_owned(), what.to_owned())],
        binary: Some(binary.clone()),
        // Nothing needs an echo then, which would hide what the other mechanism is for.
        early: false,
        echo: Duration::ZERO,
        ..plan
    })
}

#[test]
fn a_missing_echo_is_noticed() {
    let plan = || Plan { echo: Duration::ZERO, ..Plan::of("none") };
    notices("echo", plan, |_, _| sleep(hold()));
}

#[test]
fn a_missing_fence_is_noticed() {
    let Some(faulty) = without("fence") else { return };
    let plan = || faulty(slow_pages("a 30 s fill across a purge"));
    notices("fence", plan, |world, _| sleep(2 * world.plan.rules.render_max));
}

#[test]
fn a_missing_gap_check_is_noticed() {
    let Some(faulty) = without("gap") else { return };
    notices("gap check", || faulty(Plan::of("trimming past a reader")), trim_past_readers);
}

#[test]
fn a_missing_chain_is_noticed() {
    let Some(faulty) = without("chain") else { return };
    let plan = || {
        let mut plan = faulty(Plan::of("promotion of a replica with a lost tail"));
        // A reader that was away for longer than its proof would refresh what it shows.
        plan.rules.proof_max = Duration::from_secs(8);
        plan
    };
    notices("chain", plan, promote_with_a_lost_tail);
}

#[test]
fn cleans_that_are_not_in_the_log_are_noticed() {
    let Some(faulty) = without("cleans") else { return };
    notices("cleans in the log", || faulty(Plan::of("none")), |_, _| sleep(hold()));
}

#[test]
fn cleans_behind_the_purges_that_came_after_them_are_noticed() {
    let Some(faulty) = without("clean-order") else { return };
    notices("order of cleans and purges", || faulty(Plan::of("none")), |_, _| sleep(hold()));
}

#[test]
fn a_missing_fence_of_values_is_noticed() {
    let Some(faulty) = without("objects-fence") else { return };
    let plan = || faulty(slow_pages("a 30 s fill across a purge"));
    notices("fence of values", plan, |world, _| sleep(2 * world.plan.rules.render_max));
}
