//! Who is there: each node announces itself under a key that expires.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Reach;
use super::link::Link;
use super::log::Token;
use super::stand::Stand;
use crate::redis_pool::RedisError;

/// Nodes that are listed; a fleet has tens.
const MEMBERS_MAX: usize = 10_000;

/// Between two looks whether the others have applied a purge: at first, and at most.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(40);

/// A node as it announces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its process.
    pub instance: String,
    /// The name of its host; empty: an older version, which does not say.
    #[serde(default)]
    pub host: String,
    /// Where it listens.
    pub address: String,
    /// Where the other nodes get pages from it; empty: nowhere.
    #[serde(default)]
    pub peer: String,
    /// Its version of Parvis.
    pub version: String,
    /// The shop's release; empty: unknown.
    pub release: String,
    /// The epoch of the log that it reads; empty: none yet.
    pub epoch: String,
    /// The last entry that it has applied.
    pub sequence: u64,
    /// Does it not know the log's end?
    pub soft: bool,
    /// Purges that wait in its journal.
    pub journal: u64,
    /// Requests in its origin, in percent of the places.
    pub load_percent: u64,
    /// Hits in percent of the last minute; `None`: nothing was asked.
    pub hit_percent: Option<u64>,
    /// Hits of the last hour.
    #[serde(default)]
    pub hits_hour: u64,
    /// How it stands towards its visitors.
    #[serde(default)]
    pub stand: Stand,
    /// While it starts: the share of what the others' visitors ask for that it has, in percent.
    #[serde(default)]
    pub warm_percent: Option<u64>,
}

impl Member {
    /// Is it another node with which pages may be exchanged?
    pub(super) fn is_like(&self, own_name: &str, release: &str) -> bool {
        let is_same = self.release == release && self.version == env!("CARGO_PKG_VERSION");
        is_same && self.name != own_name
    }
}

/// The fleet as one node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// This node.
    pub name: String,
    /// Where Redis is, without user and password.
    pub redis: String,
    /// Does it answer?
    pub connected: bool,
    /// Does this node not know the log's end?
    pub soft: bool,
    /// The log's last entry, as far as it is known here.
    pub sequence: u64,
    /// Why the others are not known.
    pub error: Option<String>,
    /// Who has announced itself, by name.
    pub nodes: Vec<Member>,
}

/// Asks who is there.
pub(super) async fn overview(link: &Link) -> Overview {
    let asked = list(link).await;
    let figures = link.figures();
    let (error, nodes) = match asked {
        Ok(nodes) => (None, nodes),
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    let newest = nodes.iter().map(|member| member.sequence).max().unwrap_or(0);
    Overview {
        name: link.name.clone(),
        redis: link.redis.address(),
        connected: figures.connected,
        soft: figures.soft,
        sequence: newest.max(figures.position + figures.lag),
        error,
        nodes,
    }
}

/// Waits until each live node has applied an entry, for `fleet.wait_max` at most. Who has not by then
/// is named.
pub(super) async fn wait_for(link: &Link, (epoch, sequence): (Token, u64)) -> Reach {
    let (began, epoch) = (link.clock.now(), epoch.to_string());
    let mut pause = LOOK_FIRST;
    loop {
        let lagging = match list(link).await {
            Ok(members) => members
                .into_iter()
                .filter(|member| member.name != link.name)
                .filter(|member| member.epoch != epoch || member.sequence < sequence)
                .map(|member| member.name)
                .collect(),
            // It is in the log, but who has read it nobody knows.
            Err(_) => vec!["?".to_owned()],
        };
        if lagging.is_empty() {
            return Reach::Fleet;
        }
        let left = link.settings.wait_max.saturating_sub(link.clock.now().since(began));
        if left.is_zero() {
            return Reach::Lagging(lagging);
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

pub(super) async fn list(link: &Link) -> Result<Vec<Member>, RedisError> {
    let reply = link.redis.ask(&link.keys.members()).await?;
    let announced = reply.list().ok_or(RedisError::Unexpected)?;
    let read = announced.iter().take(MEMBERS_MAX).filter_map(|one| one.bytes());
    let mut members: Vec<Member> =
        read.filter_map(|text| serde_json::from_slice(text).ok()).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(members)
}
