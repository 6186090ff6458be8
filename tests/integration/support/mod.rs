//! What the tests are made of: a real Parvis process, real PHP-FPM and nginx, origins that
//! misbehave on purpose, and a client that sees every byte.

#[path = "../../../src/random/chance.rs"]
pub mod chance;
pub mod client;
pub mod corpus;
pub mod dns;
pub mod fastcgi;
pub mod frames;
pub mod h2;
pub mod nginx;
pub mod origin;
pub mod parvis;
pub mod php;
pub mod process;
pub mod redis;
pub mod tiny;

pub use client::{Reply, get, request};
pub use parvis::Parvis;
