//! Visitors and bots of a shop, by thousands from one thread.
//!
//! `parvis-load run PLAN RESULTS` does what a plan says (`plan.rs`) and writes what it measured;
//! `parvis-load describe` says how many requests of each kind a session has.
//! `python3 tests/load` makes plans, and runs this beside the servers.

mod answer;
mod bots;
mod calls;
mod client;
mod figures;
mod journey;
mod plan;
mod run;
mod visitor;
mod warm;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", plan, results] => run::run(plan, results),
        ["describe"] => {
            println!("{}", run::describe());
            Ok(())
        }
        _ => Err("parvis-load run PLAN RESULTS | describe".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("parvis-load: {problem}");
            ExitCode::FAILURE
        }
    }
}
