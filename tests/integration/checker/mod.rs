//! The checker of the fleet's promises: pages carry the version that was committed when they were
//! rendered, half of them that of a block in the object cache of the node; writers commit, clean the block,
//! purge, and note the acknowledgement (or clean and purge first, as Magento may); readers on all nodes record
//! what they saw; then each read is judged by the bound of its promise ([`history`]). The third node is strict.
//!
//! `tests/run --long` runs each case for at least 100,000 reads while its fault lasts.

mod away;
mod blocks;
mod faults;
mod history;
mod network;
mod switched_off;
mod visitors;
mod world;

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use history::{Findings, History, Rules, Window};
use network::{Network, Skipped};
use world::{Plan, World};

pub const NODES: usize = 3;
/// Longer than anything here takes to come back.
pub const PATIENCE: Duration = Duration::from_secs(60);
const READERS: usize = 2;

/// Reads that are wanted while each fault lasts: `None` in the short form.
fn long() -> Option<u64> {
    std::env::var("PARVIS_CHECKER_READS").ok().map(|reads| reads.parse().expect("a number"))
}

/// One that is longer in the long form.
fn seconds(short: f64, long_one: u64) -> Duration {
    if long().is_some() { Duration::from_secs(long_one) } else { Duration::from_secs_f64(short) }
}

/// How long a fault lasts.
fn hold() -> Duration {
    seconds(2.5, 10)
}

impl Plan {
    fn of(name: &'static str) -> Self {
        let rules = Rules {
            proof_max: seconds(1.0, 2),
            refill_trust: seconds(0.8, 3),
            echo: Duration::from_secs(1),
            render_max: Duration::ZERO,
            is_strict: [false, false, true],
        };
        let pause = |short| Duration::from_millis(if long().is_some() { 0 } else { short });
        Self {
            name,
            pages: 24,
            slow_pages: 0,
            build: Duration::from_millis(20),
            echo: rules.echo,
            rules,
            heartbeat: Duration::from_millis(100),
            early: true,
            writers: 3,
            write_pause: Duration::from_millis(40),
            read_pause: pause(4),
            environment: Vec::new(),
            redis_environment: Vec::new(),
            redis_arguments: Vec::new(),
            binary: None,
            is_calm: false,
            kinds: 1,
        }
    }
}

/// What a run came to.
struct Outcome {
    name: &'static str,
    note: String,
    reads: u64,
    under_fault: u64,
    writes: usize,
    /// Pages that PHP rendered from a block of the object cache.
    from_blocks: u64,
    findings: Findings,
    failures: Vec<String>,
    /// In which epochs the nodes were before and after each fault.
    places: Vec<String>,
    late: Duration,
}

impl Outcome {
    fn assert_whole(&self) {
        let Findings { violations, violations_in_all, .. } = &self.findings;
        let places = self.places.join("\n");
        assert!(
            violations.is_empty(),
            "{}: {violations_in_all} reads broke a promise:\n{}\n{places}",
            self.name,
            violations.join("\n")
        );
        assert!(self.failures.is_empty(), "{}: {:#?}\n{places}", self.name, self.failures);
        assert!(self.writes > 20 && self.reads > 200, "{} {}", self.reads, self.writes);
        assert!(self.from_blocks > 0, "no page was rendered from a block");
    }

    fn row(&self) -> String {
        let Findings { stale_max, journaled_max, marked_max, violations_in_all, .. } =
            &self.findings;
        format!(
            "| {} | {} | {} | {} | {stale_max:.2?} | {journaled_max:.2?} | {marked_max:.2?} | {violations_in_all} | {} | {} |",
            self.name,
            self.reads,
            self.under_fault,
            self.writes,
            self.failures.len(),
            self.note
        )
    }
}

/// Adds a line to the table of the long form.
fn tell(row: &str) {
    println!("{row}");
    if let Some(path) = std::env::var_os("PARVIS_CHECKER_TABLE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        writeln!(file.expect("the table"), "{row}").expect("written");
    }
}

/// Runs a fault under readers and writers, as often as the reads take, and judges what was seen.
fn run(plan: Plan, network: Option<Network>, mut fault: impl FnMut(&World, usize)) -> Outcome {
    let world = World::open(plan, network);
    let mut history = History::default();
    let mut under_fault = 0;
    std::thread::scope(|scope| {
        let world = &world;
        let readers = world.nodes.iter().flat_map(|node| {
            (0..READERS).map(move |reader| scope.spawn(move || visitors::read(world, node, reader)))
        });
        let readers: Vec<_> = readers.collect();
        let writers = 0..world.plan.writers;
        let writers: Vec<_> =
            writers.map(|at| scope.spawn(move || visitors::write(world, at))).collect();
        let polls: Vec<_> =
            world.nodes.iter().map(|node| scope.spawn(|| visitors::poll(world, node))).collect();
        let watch = scope.spawn(|| visitors::watch(world));
        let driven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            under_fault = drive(world, &mut fault);
        }));
        world.is_over.store(true, Ordering::SeqCst);
        for node in &world.nodes {
            // One that a fault has left stopped would keep its readers.
            node.wake();
        }
        history.reads = readers.into_iter().flat_map(|one| one.join().expect("read")).collect();
        history.writes = writers.into_iter().flat_map(|one| one.join().expect("wrote")).collect();
        history.polls = polls.into_iter().flat_map(|one| one.join().expect("polled")).collect();
        history.late = watch.join().expect("watched");
        if let Err(panicked) = driven {
            std::panic::resume_unwind(panicked);
        }
    });
    history.windows.clone_from(&world.windows.lock().expect("not poisoned"));
    let failures = world.failures.lock().expect("not poisoned").clone();
    let (reads, writes) = (history.reads.len() as u64, history.writes.len());
    let late = history.late.whole();
    let findings = history.check(&world.plan.rules);
    let means = world.network.as_ref().map(|network| network.means().to_owned());
    let notes = world.notes.lock().expect("not poisoned");
    let note = means.iter().chain(notes.last()).cloned().collect::<Vec<_>>().join("; ");
    let from_blocks = world.shop.from_blocks.load(Ordering::SeqCst);
    let (name, places) = (world.plan.name, world.places.lock().expect("not poisoned").clone());
    Outcome {
        name,
        note,
        reads,
        under_fault,
        writes,
        from_blocks,
        findings,
        failures,
        places,
        late,
    }
}

/// Gives the reads while the fault lasted, and while what it did could still be seen.
fn drive(world: &World, fault: &mut impl FnMut(&World, usize)) -> u64 {
    let rules = &world.plan.rules;
    let calm = seconds(0.3, 1);
    let mut under_fault = 0;
    for cycle in 0..50 {
        std::thread::sleep(calm);
        world.note_places("before the fault");
        let (began, before) = (world.now(), world.reads.load(Ordering::SeqCst));
        let at = {
            let mut windows = world.windows.lock().expect("not poisoned");
            let all = Duration::MAX;
            if !world.plan.is_calm {
                windows.push(Window { began, over: all, settled: all, forgets: false });
            }
            windows.len().wrapping_sub(1)
        };
        fault(world, cycle);
        let over = world.now();
        world.settle();
        world.note_places("when all are current");
        let mut bound = rules.proof_max + rules.refill_trust + rules.render_max + rules.echo;
        if let Some(window) = world.windows.lock().expect("not poisoned").get_mut(at) {
            window.over = over;
            window.settled = world.now();
            if window.forgets {
                bound += history::APPENDED_AGAIN;
            }
        }
        std::thread::sleep(calm);
        // A purge that was lost shows where no other one comes after it.
        world.writes.store(false, Ordering::SeqCst);
        std::thread::sleep(bound + Duration::from_millis(700));
        world.writes.store(true, Ordering::SeqCst);
        under_fault += world.reads.load(Ordering::SeqCst) - before;
        let least = if long().is_some() { world.plan.kinds } else { 1 };
        if under_fault >= long().unwrap_or(1) && cycle + 1 >= least {
            break;
        }
    }
    under_fault
}

/// A case on loopback.
fn case(plan: Plan, fault: impl FnMut(&World, usize)) {
    finish(&run(plan, None, fault));
}

/// A case in network namespaces of its own; `test` is its path in this binary.
fn case_in_network(test: &str, plan: Plan, fault: impl FnMut(&World, usize)) {
    match network::inside(test) {
        Ok(Some(said)) => println!("{said}"),
        Ok(None) => finish(&run(plan, Some(Network::build()), fault)),
        Err(Skipped(why)) => skipped(plan.name, &why),
    }
}

/// Names a case that cannot be run here, where those who run the tests see it.
fn skipped(name: &str, why: &str) {
    tell(&format!("| {name} | - | - | - | - | - | - | - | - | skipped: {why} |"));
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}

fn finish(outcome: &Outcome) {
    tell(&outcome.row());
    println!("the machine was late by {:?} in all", outcome.late);
    outcome.assert_whole();
}
