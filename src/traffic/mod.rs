//! Who asks, and what they may do.

pub mod bots;
pub mod challenge;

mod asked;
mod matching;
mod rules;
mod tally;
mod verdict;
