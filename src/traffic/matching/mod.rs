//! Which rules match, found for all of them at once.
//!
//! A hundred rules must not cost a hit a hundred comparisons. So each condition is turned round: a request's
//! path, address or header is looked up once, and gives the set of all rules that take it. What
//! is left when all sets were cut matches.

mod headers;
mod hosts;
mod networks;
mod parameters;
mod paths;
mod set;
mod table;

pub(super) use headers::Headers;
pub(super) use hosts::Hosts;
pub(super) use networks::NetworkTable;
pub(super) use parameters::{Besides, Parameters, names};
pub(super) use paths::Paths;
pub(super) use set::{RULES_MAX, Set};
