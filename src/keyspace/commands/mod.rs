//! The commands, a file for each family.
#![allow(clippy::unnecessary_wraps, reason = "all commands are of one type")]

pub(super) mod connection;
pub(super) mod expiry;
pub(super) mod hashes;
pub(super) mod keys;
mod magento;
pub(super) mod numbers;
pub(super) mod scan;
pub(super) mod scripts;
pub(super) mod server;
pub(super) mod sets;
pub(super) mod strings;
