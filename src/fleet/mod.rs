//! The servers of a shop as one cache: the ordered log of purges, and who they are.
//!
//! A purge is applied here first, then appended to the log in Redis, which every node reads and
//! applies in order. While Redis is away purges wait in a journal. A node that cannot prove that it
//! has seen the log's end trusts what it has stored no longer ([`Trust`]). Without `[redis]` there
//! is nothing of this but the purge itself and its echo.
//!
//! | file | job |
//! | --- | --- |
//! | `log/` | what a node knows of the log, as a state machine; entries; the journal |
//! | `stream` | keys and scripts in Redis |
//! | `writer`, `reader`, `beat` | the tasks: append, read and apply, prove and announce |
//! | `apply`, `echo`, `trust` | purging, purging again, and what stored responses are worth |
//! | `members` | who is there |

mod apply;
mod beat;
mod echo;
mod link;
pub mod log;
mod members;
mod reader;
mod release;
mod stream;
mod trust;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub use members::{Member, Overview};
pub use trust::Trust;

use crate::clock::Clock;
use crate::observe::{Observer, State};
use crate::policy::PurgeRequest;
use crate::redis_pool::RedisError;
use crate::settings::Settings;
use crate::store::{Purged, Store};
use apply::Applier;
use link::Link;
use log::Order;

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

/// This node's part in the fleet; shared by `Arc`.
pub struct Fleet {
    applier: Arc<Applier>,
    link: Option<Arc<Link>>,
}

impl Fleet {
    /// A node; alone where the settings have no Redis.
    ///
    /// # Errors
    /// [`RedisError::Authority`]; whether Redis can be reached shows later.
    pub fn new(
        settings: &Settings,
        store: Arc<Store>,
        observer: Arc<Observer>,
        clock: &Clock,
    ) -> Result<Self, RedisError> {
        let is_alone = !settings.redis.is_set();
        let trust = if is_alone { Trust::alone() } else { Trust::of(&settings.fleet) };
        let applier = Arc::new(Applier::new(store, observer, clock, trust, &settings.purge));
        let link = if is_alone {
            None
        } else {
            Some(Arc::new(Link::new(settings, Arc::clone(&applier), clock)?))
        };
        Ok(Self { applier, link })
    }

    /// Starts what runs in the background, which ends when `stopped` says so. `load` is asked at
    /// each announcement.
    pub fn start(
        &self,
        state: Arc<State>,
        load: impl Fn() -> Load + Send + Sync + 'static,
        stopped: &watch::Receiver<bool>,
    ) {
        let echoes = run_echoes(Arc::clone(&self.applier));
        spawn_until(stopped.clone(), echoes);
        let Some(link) = &self.link else {
            tracing::info!("no [redis] is set: this is a single node, and purges reach it alone");
            return;
        };
        link.introduce();
        spawn_until(stopped.clone(), writer::run(Arc::clone(link)));
        spawn_until(stopped.clone(), reader::run(Arc::clone(link)));
        spawn_until(stopped.clone(), release::run(Arc::clone(link)));
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

    /// Purges on this node. When this returns nothing that was named is served as fresh here; the
    /// others do not know of it yet ([`Fleet::spread`]).
    pub fn purge_here(&self, request: &PurgeRequest) -> Purged {
        let mut purged = Purged::default();
        for order in orders(request) {
            let one = self.applier.purge(&order);
            purged = Purged { number: one.number, responses: purged.responses + one.responses };
        }
        self.applier.count(purged.responses);
        let soft = request.soft;
        tracing::info!(number = purged.number, responses = purged.responses, soft, "purged");
        purged
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

    /// This node's own figures; `None`: there is no fleet.
    pub fn figures(&self) -> Option<Figures> {
        self.link.as_ref().map(|link| link.figures())
    }
}

fn orders(request: &PurgeRequest) -> impl Iterator<Item = Order> + '_ {
    let soft = request.soft;
    request.scopes.iter().map(move |scope| Order::Purge { scope: scope.clone(), soft })
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

/// Applies purges again when their time has come.
async fn run_echoes(applier: Arc<Applier>) {
    loop {
        let noted = applier.echo_noted.notified();
        match applier.next_echo() {
            None => noted.await,
            Some(pause) => {
                tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
                let applier = Arc::clone(&applier);
                // A regex over all that is stored takes its time.
                drop(tokio::task::spawn_blocking(move || applier.apply_echoes()).await);
            }
        }
    }
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
