//! Metrics, the access log and readiness: record and expose, never steer.
//!
//! A request costs a handful of relaxed additions to counters of its own thread, and one line of
//! text that is formatted into a buffer of its own thread; writing happens on one thread that no
//! request waits for.

mod access_log;
mod counters;
mod line;
mod metrics;
mod observer;
pub mod process;
mod queue;
mod readiness;
mod readings;
mod record;
mod redact;
mod trace;

use std::io;
use std::path::PathBuf;

pub use counters::Totals;
pub(crate) use counters::{shard_count, shard_of_this_thread};
pub use metrics::{Kind, METRICS, Metric};
pub use observer::{Answer, Observation, Observer};
pub use readiness::{Cause, Phase, Readiness, State};
pub use readings::{Labelled, Reading, Readings};
pub use record::Verdict;
pub use redact::redact;
pub use trace::{LevelHandle, start_tracing};

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The access log's file cannot be opened.
    #[error("log.access: cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output cannot be used.
    #[error("log.access: cannot use standard output: {source}")]
    Stdout {
        /// What the system said.
        source: io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the access log's thread: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// `log.level` is no filter.
    #[error(
        "log.level = {level:?}: allowed are off, error, warn, info, debug, trace and lists such as \
         info,parvis::origin=debug ({what})"
    )]
    Level {
        /// The setting.
        level: String,
        /// What is wrong with it.
        what: String,
    },
    /// Messages already go somewhere else.
    #[error("messages are already set up")]
    AlreadyTracing,
}
