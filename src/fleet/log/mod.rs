//! The ordered log of purges: entries, what a node knows of the log, and what it keeps while the
//! log cannot be reached. Without I/O but for the journal's file.

mod journal;
mod machine;
mod order;
mod passed;
mod position;
#[cfg(test)]
mod simulation;
mod token;

pub use journal::{Journal, JournalError, Kept};
pub use machine::{Action, Cause, Checks, Entry, Limits, Machine, Question};
pub use order::{Order, Unreadable};
pub use position::Position;
pub use token::Token;
