//! Parvis as its users meet it: a process behind real sockets. One file per behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests measure real time")]
#![allow(clippy::format_push_string, reason = "a test's text is short")]
#![allow(clippy::format_collect, reason = "a test's text is short")]
#![allow(clippy::large_stack_arrays, reason = "a test's stack is large enough")]
#![allow(clippy::cast_precision_loss, reason = "numbers of a test are small")]

mod support;

mod bodies;
mod command;
mod connections;
mod corpus;
mod demo;
mod disconnects;
mod door;
mod fastcgi;
mod faults;
mod files;
mod fills;
mod grace;
mod injection;
mod lifecycle;
mod memory;
mod poisoning;
mod purge;
mod requests;
mod shows;
mod streaming;
mod tags;
mod tls;
mod visitors;
