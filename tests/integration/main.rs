//! Parvis as its users meet it: a process behind real sockets. One file per behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests measure real time")]
#![allow(clippy::format_push_string, reason = "a test's text is short")]
#![allow(clippy::format_collect, reason = "a test's text is short")]
#![allow(clippy::large_stack_arrays, reason = "a test's stack is large enough")]
#![allow(clippy::cast_precision_loss, reason = "numbers of a test are small")]

mod support;

mod admission;
mod apologies;
mod bodies;
mod bots;
mod challenge;
mod checker;
mod codings;
mod command;
mod connections;
mod copies;
mod corpus;
mod demo;
mod disconnects;
mod door;
mod esi;
mod fastcgi;
mod faults;
mod files;
mod fills;
mod fleet;
mod grace;
mod h2_frames;
mod injection;
mod interim;
mod keyspace;
mod lifecycle;
mod load_test;
mod memory;
mod objects;
mod peers;
mod poisoning;
mod public_suite;
mod purge;
mod ranges;
mod refusals;
mod requests;
mod restart;
mod room_line;
mod sessions;
mod shows;
mod slow;
mod streaming;
mod systemd;
mod tags;
mod tls;
mod traffic;
mod trailers;
mod upgrades;
mod validation;
mod variants;
mod visitors;
mod waiting_room;
mod warm;
