//! Nodes that come and go: they are ready when they are warm, leave their pages to the others, and a
//! fault that many have takes no more than some of them out.

mod join;
mod leave;
mod out;
mod purges;
mod wait;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::peers::{PATIENCE, Random};
use super::support::Parvis;
use super::support::client::{self, Client};
use super::support::process::wait_until;

/// What the load balancer is told.
pub fn health(node: &Parvis) -> (u16, String) {
    let reply = node.get("/.parvis/ready", &[]);
    (reply.status, reply.text().trim_end().to_owned())
}

pub fn wait_until_ready(node: &Parvis) {
    wait_until("ready", PATIENCE, || health(node).0 == 200);
}

/// A number of a node's statistics.
pub fn stat(node: &Parvis, group: &str, key: &str) -> Option<u64> {
    let text = client::get(node.control, "/stats", &[]).text();
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json[group][key].as_u64()
}

/// Has pages asked for until each is stored, and was asked for since.
pub fn heat(node: &Parvis, prefix: &str, pages: usize) {
    for page in 0..pages {
        let target = format!("/{prefix}-{page}");
        for _ in 0..2 {
            wait_until("a hit", PATIENCE, || node.get(&target, &[]).is_hit());
        }
    }
}

/// The fleet as a node shows it.
pub fn stand_of(node: &Parvis, name: &str) -> Option<String> {
    let text = client::get(node.control, "/fleet", &[]).text();
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let nodes = json["nodes"].as_array()?;
    let found = nodes.iter().find(|node| node["name"] == name)?;
    found["stand"].as_str().map(str::to_owned)
}

/// Visitors who ask for pages with the odds of Zipf's law: the second page half as often as the first,
/// the third a third as often, and so on.
pub struct Crowd {
    /// Sums of the odds.
    sums: Vec<f64>,
}

impl Crowd {
    pub fn of(pages: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=pages).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// The next page that is asked for.
    pub fn page(&self, random: &mut Random) -> usize {
        let all = self.sums.last().expect("pages");
        let at = (random.next() % 1_000_000) as f64 / 1e6 * all;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }

    /// Asks a node until told to stop, or so often; counts answers and hits.
    pub fn ask(&self, node: &Parvis, seed: u64, requests: u64, stop: &AtomicBool) -> Hits {
        let (mut random, mut client) = (Random(seed), Client::connect(node.port));
        let hits = Hits::default();
        for _ in 0..requests {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let target = format!("/zipf-{}", self.page(&mut random));
            let reply = client.ask("GET", &target, &[], b"");
            assert_eq!(reply.status, 200);
            hits.all.fetch_add(1, Ordering::SeqCst);
            hits.hits.fetch_add(u64::from(reply.is_hit()), Ordering::SeqCst);
        }
        hits
    }
}

/// Answers, and those that came from the store.
#[derive(Debug, Default)]
pub struct Hits {
    pub all: AtomicU64,
    pub hits: AtomicU64,
}

impl Hits {
    pub fn ratio(&self) -> f64 {
        self.hits.load(Ordering::SeqCst) as f64 / self.all.load(Ordering::SeqCst) as f64
    }
}
