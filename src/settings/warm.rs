//! What a node takes from others when it comes, and what it leaves to them when it goes: further
//! keys of `[fleet]`.

use std::time::Duration;

/// The part of `[fleet]` that is about nodes which come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct Warm {
    /// How long a node that starts waits for the log's end before it is ready without.
    pub join_wait: Duration,
    /// How long it then takes pages from others before it is ready without; zero: it takes none.
    pub warm_max: Duration,
    /// It is ready when it has this share of what is asked for, in percent.
    pub share_percent: u64,
    /// Bytes in a second that a node takes, and that it gives to all others.
    pub rate_bytes: u64,
    /// Pages that are listed.
    pub pages_max: u32,
    /// Nodes that are asked.
    pub peers_max: usize,
    /// Nodes that are given to at once.
    pub streams_max: usize,
    /// How long a node that stops hands on its pages; zero: it does not.
    pub leave_max: Duration,
    /// Bytes that it hands on.
    pub leave_max_bytes: u64,
    /// The share of the nodes that may be not ready before a fault makes no further one so, in percent.
    pub out_share_percent: usize,
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            join_wait: Duration::from_secs(5),
            warm_max: Duration::from_secs(60),
            share_percent: 95,
            rate_bytes: 32 << 20,
            pages_max: 100_000,
            peers_max: 3,
            streams_max: 2,
            leave_max: Duration::from_secs(10),
            leave_max_bytes: 256 << 20,
            out_share_percent: 30,
        }
    }
}
