//! The `parvis` command.

use std::process::ExitCode;

/// Pages come and go by the thousand, in all sizes: jemalloc gives memory back where the system's
/// allocator keeps it in pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    parvis::cli::main(parvis::app::run, |options| parvis::demo::run(&options))
}
