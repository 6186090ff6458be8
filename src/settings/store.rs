//! `[store]`, `[fill]` and `[purge]`: what is stored, how it gets there and how it leaves.

use std::path::PathBuf;
use std::time::Duration;

use super::Networks;

/// `[store]`: stored responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Bytes for everything that is stored; zero switches storing off.
    pub memory_bytes: u64,
    /// Bytes of the largest response that is stored.
    pub object_max_bytes: u64,
    /// How long past its lifetime a response is served while one fetch refreshes it.
    pub grace: Duration,
    /// How long past its lifetime a response is kept, to be served while the origin is sick.
    pub keep: Duration,
    /// Tags of one response.
    pub tags_max: usize,
    /// Purged tags that are remembered for the fence.
    pub purged_tags_max: usize,
    /// Purges by regex that are remembered for the fence.
    pub purged_patterns_max: usize,
    /// Ranges of one request that are cut from a stored response; zero: none.
    pub ranges_max: usize,
    /// Where snapshots are kept over a stop and start; empty: none are.
    pub snapshot_directory: PathBuf,
    /// Between two snapshots; zero: one is written at the stop alone.
    pub snapshot_interval: Duration,
    /// Bytes of a snapshot.
    pub snapshot_max_bytes: u64,
    /// Bytes that are written in a second while the server serves.
    pub snapshot_rate_bytes: u64,
    /// How long the snapshot at the stop may take.
    pub snapshot_timeout: Duration,
}

impl Store {
    /// Bytes that the content of a stored response takes at most, in all the forms that are kept of it.
    pub fn forms_max_bytes(&self) -> u64 {
        const FORMS: u64 = 3;
        self.object_max_bytes.saturating_mul(FORMS)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            object_max_bytes: 8 << 20,
            grace: Duration::from_mins(5),
            keep: Duration::from_hours(72),
            tags_max: 10_000,
            purged_tags_max: 100_000,
            purged_patterns_max: 16,
            ranges_max: 16,
            snapshot_directory: PathBuf::new(),
            snapshot_interval: Duration::from_mins(10),
            snapshot_max_bytes: 1 << 30,
            snapshot_rate_bytes: 32 << 20,
            snapshot_timeout: Duration::from_secs(10),
        }
    }
}

/// `[fill]`: one fetch per key.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    /// After this a leader that has not answered is superseded by the next request.
    pub leader_timeout: Duration,
    /// After this a waiter fetches for itself, unstored.
    pub wait_timeout: Duration,
    /// After this a request for which something stale is stored gets that; the fetch goes on.
    pub stale_after: Duration,
    /// Requests that wait for one fetch.
    pub waiters_max: usize,
    /// Background refreshes at once.
    pub refreshes_max: usize,
    /// After one that failed its page is not refreshed in the background for so long.
    pub refresh_pause: Duration,
}

impl Default for Fill {
    fn default() -> Self {
        Self {
            leader_timeout: Duration::from_secs(30),
            wait_timeout: Duration::from_mins(1),
            stale_after: Duration::from_secs(5),
            waiters_max: 10_000,
            refreshes_max: 8,
            refresh_pause: Duration::from_secs(5),
        }
    }
}

/// `[purge]`
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// Who may send PURGE to a public listener.
    pub allow: Networks,
    /// A PURGE without a pattern.
    pub without_pattern: PurgeWithoutPattern,
    /// Bytes of a pattern that is a real regex once compiled.
    pub regex_max_bytes: usize,
    /// A purge is applied again after so long, since Magento may send it before its transaction
    /// is visible; zero: it is not.
    pub echo: Duration,
    /// Tags and other scopes that wait to be applied again; beyond it everything tagged is marked
    /// stale then.
    pub echoes_max: usize,
}

/// `purge.without_pattern`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeWithoutPattern {
    /// 400, as the VCL.
    Refuse,
    /// Purge the URL with all its variants.
    Url,
}

impl Default for Purge {
    fn default() -> Self {
        Self {
            allow: Networks::loopback(),
            without_pattern: PurgeWithoutPattern::Refuse,
            regex_max_bytes: 1 << 20,
            echo: Duration::from_secs(2),
            echoes_max: 100_000,
        }
    }
}
