//! Several nodes and one log of purges, with a real Redis.

mod connection;
mod faults;
mod journal;
mod log;
mod members;
mod soft;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::support::Parvis;
use super::support::client;
use super::support::origin::{Origin, page};
use super::support::parvis::Builder;
use super::support::process::wait_until;
use super::support::redis::Redis;

/// Longer than any fault in these tests needs to be noticed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A shop whose pages say which version was committed when they were rendered; their tags are their
/// paths.
pub struct Shop {
    pub origin: Origin,
    version: Arc<AtomicU64>,
}

impl Shop {
    pub fn open() -> Self {
        let version = Arc::new(AtomicU64::new(0));
        let committed = Arc::clone(&version);
        let origin = Origin::start(move |seen, stream| {
            let tags = seen.target.trim_start_matches('/');
            let version = committed.load(Ordering::SeqCst).to_string();
            let _ = stream.write_all(&page(&version, tags));
        });
        Self { origin, version }
    }

    /// Commits a change; what is rendered from now on shows it.
    pub fn commit(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A node of a fleet, not yet started.
    pub fn node(&self, name: &str, url: &str) -> Builder {
        Parvis::before_http(self.origin.port)
            .with("fleet.name", &format!("\"{name}\""))
            .with("redis.url", &format!("\"{url}\""))
            .with("fleet.journal_directory", "\"\"")
            .with("fleet.heartbeat", "\"100ms\"")
    }

    /// Nodes that know the log's end.
    pub fn nodes<const N: usize>(&self, redis: &Redis) -> [Parvis; N] {
        std::array::from_fn(|at| {
            let node = self.node(&format!("web-{}", at + 1), &redis.url()).start();
            wait_until_current(&node);
            node
        })
    }
}

pub fn wait_until_current(node: &Parvis) {
    wait_until("the log's end", PATIENCE, || is_soft(node) == Some(false));
}

pub fn is_soft(node: &Parvis) -> Option<bool> {
    node.metric("parvis_fleet_soft ").map(|soft| soft > 0.0)
}

/// Fetches a page until it is stored; its version.
pub fn store(node: &Parvis, target: &str) -> u64 {
    node.get(target, &[]);
    wait_until("storing", PATIENCE, || node.get(target, &[]).is_hit());
    version(node, target)
}

pub fn version(node: &Parvis, target: &str) -> u64 {
    node.get(target, &[]).text().parse().expect("a version")
}

/// The answer of `/fleet`.
pub fn overview(node: &Parvis) -> serde_json::Value {
    let reply = client::get(node.control, "/fleet", &[]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// How often everything tagged went soft on this node.
pub fn softened(node: &Parvis) -> u64 {
    let text = client::get(node.control, "/metrics", &[]).text();
    let line = text.lines().find(|line| line.starts_with("parvis_fleet_softened_total "));
    let value = line.and_then(|line| line.rsplit(' ').next()).expect("a node of a fleet");
    value.parse().expect("a number")
}
