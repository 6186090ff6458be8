//! Counts the instructions of each scenario under valgrind and holds them against a baseline.
//!
//! `cargo bench --profile count --bench instructions` fails where one takes 5 % more than
//! `benches/instructions.toml` says, and warns where it takes 5 % less. With `-- --accept` it
//! rewrites that file; the commit says why. Further words name the scenarios to count.
//!
//! A scenario runs twice, the second time with more rounds: the difference is what those cost, and
//! what happens once, before them or in the first, takes no part. Instructions of all threads count, such as
//! those of the access log's writer. They depend on the compiler and on the processor's
//! extensions (the baseline is of x86-64 with AVX2), and not on what else the machine does.
#![expect(clippy::expect_used, reason = "a bench that cannot run may stop")]

mod scenarios;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use scenarios::{ALL, Scenario};

/// That of the binary: what it does is part of what a hit costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// By how much a scenario may differ from the baseline, in percent.
const TOLERANCE_PERCENT: u64 = 5;

/// What would make counts differ between runs. glibc copies what is long with one `rep movsb`, which
/// counts as an instruction for each byte. jemalloc gives memory back by the clock, and now and
/// then empties what a thread keeps for its next large allocation.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM"),
    ("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1,lg_tcache_max:20"),
];

const HEADER: &str = "\
# Instructions of one repetition of each scenario in benches/scenarios, all threads together.
# `cargo bench --profile count --bench instructions -- --accept` rewrites this file. Whoever
# changes a figure says in the commit why.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, rounds] = &words[..]
        && flag == "--repeat"
    {
        let scenario = ALL.iter().find(|scenario| scenario.name == name).expect("a scenario");
        repeat(scenario, rounds.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if !words.iter().any(|word| word == "--bench") {
        // As a test: each scenario works.
        for scenario in ALL {
            repeat(scenario, 1);
        }
        return ExitCode::SUCCESS;
    }
    let named: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = ALL.iter().filter(|scenario| {
        named.is_empty() || named.iter().any(|name| scenario.name.contains(name.as_str()))
    });
    let accepts = words.iter().any(|word| word == "--accept");
    gate(wanted, accepts)
}

fn repeat(scenario: &Scenario, rounds: u32) {
    let mut operation = (scenario.prepare)();
    for _ in 0..rounds {
        operation();
    }
}

/// Counts, compares, and says whether all is well.
fn gate<'a>(wanted: impl Iterator<Item = &'a Scenario>, accepts: bool) -> ExitCode {
    let mut baseline = read_baseline();
    let mut code = ExitCode::SUCCESS;
    for scenario in wanted {
        let counted = instructions_of_one_round(scenario);
        let known = baseline.insert(scenario.name.to_owned(), counted);
        let (verdict, fails) = compare(known, counted);
        println!("{:<28}{counted:>10}  {verdict}", scenario.name);
        if fails && !accepts {
            code = ExitCode::FAILURE;
        }
    }
    if accepts {
        baseline.retain(|name, _| ALL.iter().any(|scenario| scenario.name == name));
        std::fs::write(baseline_path(), baseline_text(&baseline)).expect("writable");
    }
    code
}

/// What is to be said of a count, and whether it fails the gate.
fn compare(known: Option<u64>, counted: u64) -> (String, bool) {
    let Some(known) = known else {
        return ("is not in the baseline: run with --accept".to_owned(), true);
    };
    #[expect(clippy::cast_precision_loss, reason = "a share is shown, nothing is decided by it")]
    let percent = (counted as f64 / known as f64 - 1.0) * 100.0;
    let verdict = format!("{percent:+.1} % of {known}");
    if counted * 100 > known * (100 + TOLERANCE_PERCENT) {
        (format!("{verdict}: FAILS; make it cheaper, or run with --accept and say why"), true)
    } else if counted * 100 < known * (100 - TOLERANCE_PERCENT) {
        (format!("{verdict}: better; run with --accept so that it stays so"), false)
    } else {
        (verdict, false)
    }
}

fn instructions_of_one_round(scenario: &Scenario) -> u64 {
    let warm_up = scenario.rounds / 4;
    let before = instructions(scenario.name, warm_up);
    let after = instructions(scenario.name, warm_up + scenario.rounds);
    after.saturating_sub(before) / u64::from(scenario.rounds)
}

/// Of a process of its own that runs so many rounds.
fn instructions(name: &str, rounds: u32) -> u64 {
    let this = std::env::current_exe().expect("it has a path");
    let ended = Command::new("valgrind")
        .envs(ENVIRONMENT)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--repeat", name, &rounds.to_string()])
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{name}: {said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    count.and_then(|(_, count)| count.trim().parse().ok()).expect("callgrind says what it counted")
}

fn baseline_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}

fn read_baseline() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(baseline_path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, count)| (name.to_owned(), count.parse().expect("a number")))
        .collect()
}

fn baseline_text(baseline: &BTreeMap<String, u64>) -> String {
    let mut text = HEADER.to_owned();
    for scenario in ALL {
        if let Some(count) = baseline.get(scenario.name) {
            let _ = writeln!(text, "{} = {count}", scenario.name);
        }
    }
    text
}
