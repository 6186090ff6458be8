//! The lock of a session: who finds it taken is answered when it is free, first come, first served,
//! over all nodes.
//!
//! PHP takes it with `HINCRBY sess_ID lock 1`, and has it if that gives 1. Else it sleeps half a second
//! and tries again, with its worker. Here such a try is held until the lock is free, or for
//! `sessions.wait_max`, and all tries of one waiter for `sessions.hold_max` in total, for PHP counts its
//! tries and not its seconds; after that it gets Redis' plain answer.
//!
//! - Each step is one script (`lock.lua`) in the Redis that has the sessions. What is known there besides
//!   PHP's own fields stands in two keys beside the session, which expire: who waits, and who has the
//!   lock. Where they are lost PHP's own rules go on: nobody has the lock but who counted it from 0 to 1
//!   or who broke it by PHP's rule.
//! - **Woken, not polling.** Who lets the lock go calls the first of the line by a message to its process.
//!   A process that nobody hears is passed over at once, and one that does not come in 250 ms by who
//!   stands behind it. After a lost connection all waiters of a process look anew.
//! - **A lock that no live gateway has** (PHP that talks to Redis itself, a process that was killed) is
//!   set free without a message. Who waits for one looks each [`PACE`]: twice as often as PHP would, one
//!   script, no worker awake, and no other lock is looked at so.
//! - **Who is gone.** A client that disconnects with the lock frees it, where owner and pid are still its
//!   own. A lock of a host that left the fleet is freed by who waits for it; one whose process is gone,
//!   or of this host without a connection here, after `sessions.orphan_after`.

mod client;
mod embedded;
mod locks;
mod scripts;
#[cfg(test)]
mod simulation;
mod step;
mod table;

pub use client::{LockClient, Written};
pub use embedded::Kept;
pub use locks::{Bounds, Figures, Hosts, Locks, PACE, Standing};
pub use scripts::Scripts;
pub use step::{Answer, Boxed, Hears, LockStore, Place, Seen, Step, StoreError, Token};
pub use table::{Fields, Table, Told};
