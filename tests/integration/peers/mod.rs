//! Several nodes that render each page once, with a real Redis.

mod faults;
mod once;
pub mod played;
mod purges;
mod stale;
mod strangers;
mod urgency;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::support::Parvis;
use super::support::origin::{Origin, Seen, page};
use super::support::parvis::Builder;
use super::support::process::{free_port, wait_until};
use super::support::redis::Redis;

/// Longer than anything in these tests takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pages that are asked for on each node; more of them in `PARVIS_PAGES`, for the figures.
pub fn pages() -> usize {
    std::env::var("PARVIS_PAGES").ok().and_then(|pages| pages.parse().ok()).unwrap_or(100)
}

pub const SECRET: &str = "a secret of the fleet";

/// A shop whose pages say which version was committed when they were rendered; their tags are their
/// paths.
pub struct Shop {
    pub origin: Origin,
    version: Arc<AtomicU64>,
}

impl Shop {
    pub fn open() -> Self {
        Self::with(|_| Duration::ZERO)
    }

    /// Rendering takes as long as `takes` says.
    pub fn with(takes: impl Fn(&Seen) -> Duration + Send + Sync + 'static) -> Self {
        let version = Arc::new(AtomicU64::new(0));
        let committed = Arc::clone(&version);
        let origin = Origin::start(move |seen, stream| {
            let version = committed.load(Ordering::SeqCst);
            std::thread::sleep(takes(seen));
            let tags = seen.target.trim_start_matches('/');
            // Long enough to be compressed, or so that it cannot be.
            let text = if tags.starts_with("large") {
                format!("{version} {}", noise(seen.number as u64))
            } else {
                format!("{version} {}", "all work and no play ".repeat(100))
            };
            let response = if tags.starts_with("private") {
                format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: private\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{text}",
                    text.len()
                )
                .into_bytes()
            } else {
                page(&text, tags)
            };
            let _ = stream.write_all(&response);
        });
        Self { origin, version }
    }

    /// Commits a change; what is rendered from now on shows it.
    pub fn commit(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A node that asks others and answers them, not yet started.
    pub fn node(&self, name: &str, redis: &Redis) -> Builder {
        Parvis::before_http(self.origin.port)
            .with("fleet.name", &format!("\"{name}\""))
            .with("redis.url", &format!("\"{}\"", redis.url()))
            .with("fleet.journal_directory", "\"\"")
            .with("fleet.heartbeat", "\"100ms\"")
            .with("fleet.listen", &format!("\"127.0.0.1:{}\"", free_port()))
            .with("fleet.secret", &format!("\"{SECRET}\""))
            // Nobody is too slow on a machine that is busy.
            .with("fleet.owner_wait", "\"5s\"")
            .with("fleet.owner_silence", "\"5s\"")
            .with("lifecycle.threads", "1")
    }

    /// Nodes that know each other.
    pub fn nodes(&self, number: usize, redis: &Redis) -> Vec<Parvis> {
        let name = |at: usize| format!("web-{at}");
        started((1..=number).map(|at| self.node(&name(at), redis)))
    }

    /// How often these were rendered.
    pub fn renders(&self, prefix: &str) -> usize {
        self.origin.seen().iter().filter(|seen| seen.target.starts_with(prefix)).count()
    }
}

/// 16 KiB which no coding makes much smaller.
fn noise(seed: u64) -> String {
    let mut random = Random(seed + 1);
    (0..1_024).map(|_| format!("{:016x}", random.next())).collect()
}

/// Numbers without a pattern, the same each time (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }
}

/// Starts nodes, and waits until they know each other and the log.
pub fn started(nodes: impl Iterator<Item = Builder>) -> Vec<Parvis> {
    let nodes: Vec<_> = nodes.map(Builder::start).collect();
    let others = (nodes.len() - 1) as f64;
    for node in &nodes {
        wait_until("the others", PATIENCE, || {
            node.metric("parvis_peers_known ") == Some(others)
                && node.metric("parvis_fleet_soft ") == Some(0.0)
        });
    }
    nodes
}

pub fn version(node: &Parvis, target: &str) -> u64 {
    let reply = node.get(target, &[]);
    assert_eq!(reply.status, 200);
    let text = reply.text();
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a version")
}

/// A page of which `owner` is the owner, as `other` sees it.
pub fn owned_by(owner: &Parvis, other: &Parvis, prefix: &str) -> String {
    for number in 0..1_000 {
        let target = format!("/{prefix}-{number}");
        let before = owner.metric("parvis_peers_lent_total ");
        let reply = other.get(&target, &[]);
        assert_eq!(reply.status, 200);
        if owner.metric("parvis_peers_lent_total ") > before {
            return target;
        }
    }
    panic!("a node that owns nothing");
}
