//! The servers of a shop as one cache: the ordered log of purges, and who they are.
//!
//! A purge is applied here first, then appended to the log in Redis, which every node reads and
//! applies in order. So are cleans of the object cache, where there is one: no page is rendered again
//! from what was cleaned before its purge. While Redis is away purges wait in a journal. A node that cannot prove that it
//! has seen the log's end trusts what it has stored no longer ([`Trust`]). Without `[redis]` there
//! is nothing of this but the purge itself and its echo.
//!
//! | file | job |
//! | --- | --- |
//! | `log/` | what a node knows of the log, as a state machine; entries; the journal |
//! | `stream` | keys and scripts in Redis |
//! | `writer`, `reader`, `beat` | the tasks: append, read and apply, prove and announce |
//! | `apply`, `echo`, `trust` | purging, purging again, and what stored responses are worth |
//! | `members`, `look`, `stand`, `hosts` | who is there, how many may be not ready at once, which hosts have left |
//! | `join`, `warmth` | what a node that comes or goes asks of the others, and how far it is |
//! | `release` | which release of the shop this is |
//! | `pages` | whom this node asks for a page, and when it may answer another one |
//! | `peer/` | pages from node to node, and who owns which |

mod apply;
mod beat;
mod echo;
mod hosts;
mod join;
mod link;
pub mod log;
mod look;
mod members;
mod pages;
pub mod peer;
mod reader;
pub mod release;
mod stand;
mod stream;
mod trust;
mod warmth;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub use apply::{CleanFigures, Values};
pub use echo::Due;
pub use hosts::own_host;
pub use join::Host;
pub use link::Unlogged;
pub use members::{Member, Overview};
pub use pages::Owner;
pub use stand::{Stand, may_be_out, out_max};
pub use trust::Trust;
pub use warmth::WarmFigures;

use crate::clock::Clock;
use crate::keyspace::Clean;
use crate::observe::{Observer, State};
use crate::policy::{PurgeRequest, PurgeScope};
use crate::redis_pool::{Redis, RedisError};
use crate::settings::Settings;
use crate::store::{Purged, Store};
use apply::{Applier, orders};
use link::Link;
use log::{Order, Position};
use peer::{PeerError, Peers};

/// How busy this node is, as others see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests in the origin.
    pub in_use: usize,
    /// `origin.concurrency_max`
    pub places: usize,
}

/// Whether a purge's answer waits for the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It waits for the log alone.
    Log,
    /// It waits for each live node to have applied it (`X-Parvis-Wait: fleet`).
    Fleet,
}

/// How far a purge got. Here it is applied in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// There is no fleet.
    Alone,
    /// It is in the log.
    Logged,
    /// Each live node has applied it.
    Fleet,
    /// It is in the log, and these nodes have not said in time that they have applied it.
    Lagging(Vec<String>),
    /// The log cannot be reached; it waits in the journal.
    Journaled,
}

/// What a purge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// On this node.
    pub purged: Purged,
    /// Elsewhere.
    pub reach: Reach,
}

impl Reach {
    /// Is there more to come (202)?
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Lagging(_) | Self::Journaled)
    }

    /// The word in the answer.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Logged => "logged",
            Self::Fleet => "fleet",
            Self::Lagging(_) => "lagging",
            Self::Journaled => "journaled",
        }
    }
}

/// Why this node cannot be part of a fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Of Redis.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Of the other nodes.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// This node's part in the fleet; shared by `Arc`.
pub struct Fleet {
    applier: Arc<Applier>,
    link: Option<Arc<Link>>,
    peers: Option<Arc<Peers>>,
}

/// What is around the content of a page in an answer; a list of pages alone is no longer.
const AROUND_MAX_BYTES: u64 = 17 << 20;

/// Between two looks whether the log has been read or written far enough.
const LOOK: Duration = Duration::from_millis(2);

impl Fleet {
    /// A node; alone where the settings have no Redis. `values`: its object cache, if it keeps one.
    ///
    /// # Errors
    /// [`RedisError::Authority`], [`PeerError::Certificate`]; whether Redis can be reached shows
    /// later.
    pub fn new(
        settings: &Settings,
        store: Arc<Store>,
        values: Option<Arc<dyn Values>>,
        observer: Arc<Observer>,
        clock: &Clock,
    ) -> Result<Self, FleetError> {
        let is_alone = !settings.redis.is_set();
        let trust = if is_alone { Trust::alone() } else { Trust::of(&settings.fleet) };
        let applier =
            Arc::new(Applier::new((store, values), observer, clock, trust, &settings.purge));
        let link = if is_alone {
            None
        } else {
            Some(Arc::new(Link::new(settings, Arc::clone(&applier), clock)?))
        };
        let peers = match &link {
            None => None,
            Some(link) => {
                let answer_max = settings.store.forms_max_bytes().saturating_add(AROUND_MAX_BYTES);
                let answer_max = usize::try_from(answer_max);
                let answer_max = answer_max.unwrap_or(usize::MAX);
                Peers::new(&settings.fleet, &link.name, answer_max, clock)?
            }
        };
        Ok(Self { applier, link, peers: peers.map(Arc::new) })
    }

    /// Starts what runs in the background, which ends when `stopped` says so. `load` is asked at
    /// each announcement.
    pub fn start(
        &self,
        state: Arc<State>,
        load: impl Fn() -> Load + Send + Sync + 'static,
        stopped: &watch::Receiver<bool>,
    ) {
        spawn_until(stopped.clone(), apply::run_echoes(Arc::clone(&self.applier)));
        let Some(link) = &self.link else {
            tracing::info!("no [redis] is set: this is a single node, and purges reach it alone");
            return;
        };
        link.introduce();
        // Until it is known who else has a fault.
        state.excuse(true);
        spawn_until(stopped.clone(), writer::run(Arc::clone(link)));
        spawn_until(stopped.clone(), reader::run(Arc::clone(link)));
        spawn_until(stopped.clone(), release::run(Arc::clone(link)));
        let (looking, peers) = (Arc::clone(link), self.peers.clone());
        spawn_until(stopped.clone(), look::run(looking, peers, Arc::clone(&state)));
        spawn_until(stopped.clone(), beat::run(Arc::clone(link), state, Box::new(load)));
    }

    /// Takes this node out of the list, once it has stopped, so that nobody waits for it. Where
    /// another process is this node by now, that one stays.
    pub async fn leave(&self) {
        if let Some(link) = &self.link
            && !link.is_aside.load(Ordering::Relaxed)
        {
            beat::leave(link).await;
        }
    }

    /// Another process is this node from now on, and announces it; or no longer.
    pub fn stand_aside(&self, is_aside: bool) {
        if let Some(link) = &self.link {
            link.is_aside.store(is_aside, Ordering::Relaxed);
        }
    }

    /// Up to where everything that is in the log is applied to what is stored here, as
    /// [`Fleet::resume`] takes it; empty: there is no log, or it was not found yet.
    pub fn position(&self) -> String {
        let position = self.link.as_ref().and_then(|link| link.position());
        position.map(|position| position.to_string()).unwrap_or_default()
    }

    /// The purges that this node is to apply again shortly, as [`Fleet::take_echoes`] takes them.
    pub fn pending_echoes(&self, bytes_max: usize) -> Vec<bytes::Bytes> {
        self.applier.pending_echoes(bytes_max)
    }

    /// Purges that another process was to apply again: they are, and a while later once more (P5).
    pub fn take_echoes(&self, echoes: &[bytes::Bytes], regex_max_bytes: usize) {
        for echo in echoes {
            // What cannot be read named something, nobody knows what.
            let order = Order::decode(echo, regex_max_bytes).unwrap_or(Order::Soften);
            self.applier.take_echo(&order);
        }
    }

    /// What comes into the store from elsewhere had the log applied up to there: goes on from there,
    /// before [`Fleet::start`]. Until the log was read to its end what came is doubtful; where the log
    /// does not reach back that far, it goes soft. Of several places the first counts. False: there is no
    /// log, or this is no place in one, or in another one than a place before.
    pub fn resume(&self, position: &str) -> bool {
        let (link, position) = (self.link.as_ref(), Position::parse(position));
        link.zip(position).is_some_and(|(link, position)| link.resume(position))
    }

    /// Purges on this node. When this returns nothing that was named is served as fresh here; the
    /// others do not know of it yet ([`Fleet::spread`]).
    pub async fn purge_here(&self, request: &PurgeRequest) -> Purged {
        let (applier, request) = (Arc::clone(&self.applier), request.clone());
        if orders(&request).any(|order| order.is_long()) {
            // It fails where this process ends, and its store with it.
            let purge = tokio::task::spawn_blocking(move || applier.purge_all(&request));
            purge.await.unwrap_or_default()
        } else {
            applier.purge_all(&request)
        }
    }

    /// A purge that another process of this node brings to the others.
    pub fn purge_for_other_process(&self, request: &PurgeRequest) {
        if let Some(link) = &self.link {
            link.be_quiet();
        }
        self.applier.purge_all(request);
    }

    /// Tells the others of a clean that a client of this node's object cache did. When this returns, each
    /// purge of this node that comes later stands behind it in the log. It waits for room in the writer's
    /// queue (`fleet.queue_max`) alone; a clean that a kill takes before it was written, its purge is not
    /// answered either.
    pub async fn tell_clean(&self, clean: Clean) {
        self.applier.told(&clean);
        if let Some(link) = &self.link {
            tell(link, clean).await;
        }
    }

    /// A clean that another process of this node did, and tells the others.
    pub fn clean_for_other_process(&self, clean: Clean) {
        self.applier.purge(&Order::Objects(clean));
    }

    /// Waits until each clean that was told is in the log or the journal, since this process ends.
    pub async fn cleans_written(&self) {
        let Some(link) = &self.link else { return };
        while !link.cleans_are_written() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What became of cleans; `None`: this node keeps no object cache.
    pub fn clean_figures(&self) -> Option<CleanFigures> {
        self.applier.clean_figures()
    }

    /// To be held from before a purge is applied here until [`Fleet::spread`] has begun with it.
    pub fn spreading(&self) -> Option<Unlogged> {
        self.link.as_ref().map(|link| link.unlogged())
    }

    /// Brings a purge, which is applied here, to the other nodes.
    pub async fn spread(&self, request: &PurgeRequest, wait: Wait) -> Reach {
        match &self.link {
            None => Reach::Alone,
            Some(link) => link.spread(orders(request).collect(), wait).await,
        }
    }

    /// What stored responses are worth.
    pub fn trust(&self) -> &Trust {
        &self.applier.trust
    }

    /// Who is there, and how this node stands; `None`: there is no fleet.
    pub async fn overview(&self) -> Option<Overview> {
        match &self.link {
            Some(link) => Some(members::overview(link).await),
            None => None,
        }
    }

    /// Was a node of the fleet on that host, and is none there any more? While Redis is away the last
    /// view stays.
    pub fn has_left(&self, host: &str) -> bool {
        let members = self.link.as_ref().and_then(|link| Some((link, link.members.load_full()?)));
        members.is_some_and(|(link, members)| link.hosts.has_left(host, &members))
    }

    /// How many nodes there are, this one included; while Redis is away the last view stays.
    pub fn nodes(&self) -> usize {
        let members = self.link.as_ref().and_then(|link| link.members.load_full());
        members.map_or(1, |members| members.len().max(1))
    }

    /// The Redis of the fleet, for what else its nodes share; `None`: there is none.
    pub fn redis(&self) -> Option<Arc<Redis>> {
        self.link.as_ref().map(|link| Arc::clone(&link.redis))
    }

    /// How what has one of these tags, or this URL, will be purged again shortly.
    pub fn echo_of(&self, tags: &[bytes::Bytes], url: &[u8]) -> Due {
        self.applier.echo_of(tags, url)
    }

    /// Purges a URL when another node will.
    pub fn echo(&self, url: &[u8], due: Due) {
        let scope = PurgeScope::Url(url.to_vec());
        match due {
            Due::Nothing => {}
            Due::Soft(after) => {
                self.applier.note_echo_after(&Order::Purge { scope, soft: true }, after);
            }
            Due::Hard(after) => {
                self.applier.note_echo_after(&Order::Purge { scope, soft: false }, after);
            }
        }
    }

    /// This node's own figures; `None`: there is no fleet.
    pub fn figures(&self) -> Option<Figures> {
        self.link.as_ref().map(|link| link.figures())
    }
}

#[cfg(not(feature = "faulty"))]
async fn tell(link: &Arc<Link>, clean: Clean) {
    link.tell(clean).await;
}

/// Not at all, or behind the purges that come meanwhile, where `PARVIS_WITHOUT` says so.
#[cfg(feature = "faulty")]
async fn tell(link: &Arc<Link>, clean: Clean) {
    use crate::settings::faulty::{Mechanism, is_off};
    if is_off(Mechanism::CleanOrder) {
        let link = Arc::clone(link);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            link.tell(clean).await;
        });
    } else if !is_off(Mechanism::Cleans) {
        link.tell(clean).await;
    }
}

/// Of the log and this node's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Does the connection to Redis stand?
    pub connected: bool,
    /// Does this node not know the log's end?
    pub soft: bool,
    /// The last sequence that was applied.
    pub position: u64,
    /// Entries between that and the log's end, as far as it is known.
    pub lag: u64,
    /// Purges that wait in the journal.
    pub journal: usize,
    /// Their bytes.
    pub journal_bytes: u64,
    /// Entries of other nodes that were applied.
    pub applied: u64,
    /// Times that everything tagged went soft.
    pub softened: u64,
}

fn spawn_until(
    mut stopped: watch::Receiver<bool>,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tokio::spawn(async move {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = task => {}
        }
    });
}

/// Tells a task that something has changed.
type Bell = Notify;
