//! What nodes say to each other directly: pages, so that each is rendered once.
//!
//! A miss of a page that may be stored goes to the node that owns its key among the live members of
//! the same release and version ([`owner`]). That node answers from its store or renders with its own
//! PHP, and gives the stored form back. It never asks a third one, and whatever goes wrong the
//! node that asked renders by itself.
//!
//! On its way a page may be overtaken by a purge. The node that asks says up to where it has applied
//! the log ([`message::Ask::place`]); the one that answers first waits until it has come as far, and
//! then looks into its store, which holds nothing that any of these purges named. What the asking
//! node applies later its own fence stops, since its fill began before. A node that cannot prove
//! that it knows the log's end neither asks nor gives.
//!
//! | file | job |
//! | --- | --- |
//! | `owner` | whose a key is |
//! | `message`, `seal` | what is said, and how a node proves that it is one |
//! | `tls` | the same by certificates |
//! | `client`, `server`, `asked` | both ends of a connection |
//! | `warm_message`, `haul` | pages before they are asked for: what is said, and what is taken next |

mod asked;
mod client;
pub mod haul;
pub mod message;
pub mod owner;
pub mod seal;
mod server;
mod tls;
pub mod warm_message;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::members::Member;
use super::warmth::Pace;
use crate::clock::{Clock, Moment};
use crate::settings;
use client::{Client, Failure};
use message::{Answer, Ask, Lent, Question, Why};
pub use server::PeerDoor;
use warm_message::{Heir, Hottest, HottestAsk, Inherited, LeavingAsk, Parcel, TakeAsk};

/// Who answers what other nodes ask for.
pub trait Lender: Send + Sync + 'static {
    /// The page, if it may be given.
    fn lend(&self, ask: Ask, from: IpAddr) -> impl Future<Output = Lent> + Send;

    /// What is asked for most, for a node that joins.
    fn hottest(&self, ask: HottestAsk) -> impl Future<Output = Result<Hottest, Why>> + Send;

    /// Pages for a node that joins.
    fn give(&self, ask: TakeAsk) -> impl Future<Output = Result<Vec<Option<Parcel>>, Why>> + Send;

    /// Takes what is this node's when another one leaves.
    fn inherit(&self, ask: LeavingAsk) -> impl Future<Output = Result<Inherited, Why>> + Send;
}

/// Why this node can neither ask nor answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// A certificate cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The address cannot be listened on.
    #[error("fleet.listen = {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What became of pages between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerFigures {
    /// Other nodes whose pages this one may have.
    pub known: usize,
    /// Pages asked for.
    pub asked: u64,
    /// Pages that came.
    pub borrowed: u64,
    /// Questions without an answer: the node was away, too slow, or answered something wrong.
    pub failed: u64,
    /// Pages given.
    pub lent: u64,
    /// Requests of strangers: without a seal, with a wrong one, or with one that was used before.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    borrowed: AtomicU64,
    failed: AtomicU64,
    lent: AtomicU64,
    refused: AtomicU64,
}

/// Another node of the same release.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    number: u64,
    address: SocketAddr,
}

/// The other nodes.
pub(super) struct Peers {
    own_number: u64,
    client: Client,
    door: Arc<PeerDoor>,
    others: ArcSwap<Vec<Peer>>,
    /// Nodes that are not asked up to a moment.
    paused: Mutex<HashMap<SocketAddr, Moment>>,
    /// This node owns nothing any more.
    is_leaving: AtomicBool,
    pub(super) taking: Pace,
    pub(super) giving: Pace,
    /// Places for those to whom this node gives in advance.
    pub(super) streams: Semaphore,
    settings: settings::Peers,
    clock: Clock,
    counts: Arc<Counts>,
}

impl Peers {
    /// `None`: there is no `fleet.listen`. `answer_max_bytes`: the largest page.
    pub(super) fn new(
        fleet: &settings::Fleet,
        name: &str,
        answer_max_bytes: usize,
        clock: &Clock,
    ) -> Result<Option<Self>, PeerError> {
        let (settings, warm) = (&fleet.peers, &fleet.warm);
        let Some(address) = settings.listen else { return Ok(None) };
        let tls = tls::load(settings)?;
        let counts = Arc::<Counts>::default();
        let (acceptor, connector) = tls.map(|tls| (tls.acceptor, tls.connector)).unzip();
        Ok(Some(Self {
            own_number: owner::number_of(name.as_bytes()),
            client: Client::new(settings, connector, answer_max_bytes),
            door: Arc::new(PeerDoor::new(address, settings, acceptor, Arc::clone(&counts))),
            others: ArcSwap::default(),
            paused: Mutex::default(),
            is_leaving: AtomicBool::new(false),
            taking: Pace::new(warm.rate_bytes),
            giving: Pace::new(warm.rate_bytes),
            streams: Semaphore::new(warm.streams_max),
            settings: settings.clone(),
            clock: clock.clone(),
            counts,
        }))
    }

    pub(super) fn door(&self) -> &Arc<PeerDoor> {
        &self.door
    }

    /// The owner of a key; `None`: this node.
    pub(super) fn owner_of(&self, key: &[u8]) -> Option<SocketAddr> {
        let others = self.others.load();
        if others.is_empty() {
            return None;
        }
        let now = self.clock.now();
        let paused = self.paused.lock();
        let is_asked = |peer: &&Peer| paused.get(&peer.address).is_none_or(|until| now >= *until);
        let asked: Vec<&Peer> = others.iter().filter(is_asked).collect();
        drop(paused);
        let own_number = (!self.is_leaving.load(Ordering::Relaxed)).then_some(self.own_number);
        let numbers = asked.iter().map(|peer| peer.number).chain(own_number);
        let place = owner::owner(numbers, owner::number_of(key))?;
        asked.get(place).map(|peer| peer.address)
    }

    /// Asks a node for a page. `None`: it gave no answer.
    pub(super) async fn ask(&self, owner: SocketAddr, ask: &Ask) -> Option<Lent> {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        match self.client.ask(owner, ask).await {
            Ok(lent) => {
                if matches!(lent.answer, Answer::Page { .. }) {
                    self.counts.borrowed.fetch_add(1, Ordering::Relaxed);
                }
                Some(lent)
            }
            Err(failure) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%owner, ?failure, "the owner of a page gave no answer");
                if matches!(failure, Failure::Away | Failure::Slow) {
                    self.pause(owner);
                }
                None
            }
        }
    }

    /// Asks what no visitor waits for. `None`: there was no answer.
    pub(super) async fn ask_beside<Q: Question>(
        &self,
        node: SocketAddr,
        question: &Q,
    ) -> Option<Q::Answer> {
        let answer = self.client.ask_beside(node, question).await;
        answer.inspect_err(|failure| tracing::debug!(%node, ?failure, "no answer")).ok()
    }

    /// This node owns nothing any more; gives where those are that do.
    pub(super) fn leave(&self) -> Vec<SocketAddr> {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.others.load().iter().map(|peer| peer.address).collect()
    }

    /// Another node leaves: it is not asked any more, whatever its last announcement says. Gives how
    /// this node is its heir.
    pub(super) fn without(&self, leaving: &Member, announced_for: Duration) -> Option<Heir> {
        let address = leaving.peer.parse().ok()?;
        let until = self.clock.now().plus(announced_for);
        self.paused.lock().insert(address, until);
        let others = self.others.load();
        let others = others.iter().filter(|peer| peer.address != address).map(|peer| peer.number);
        Some(Heir { number: self.own_number, others: others.collect() })
    }

    fn pause(&self, owner: SocketAddr) {
        let until = self.clock.now().plus(self.settings.owner_pause);
        if self.paused.lock().insert(owner, until).is_none() {
            tracing::info!(%owner, "a node is away or too slow: its pages are rendered here");
        }
    }

    /// Takes note of who is there.
    pub(super) fn see(&self, own_name: &str, release: &str, members: &[Member]) {
        let is_other = |member: &&Member| {
            member.is_like(own_name, release) && !member.soft && member.stand.renders()
        };
        let peer = |member: &Member| {
            let number = owner::number_of(member.name.as_bytes());
            Some(Peer { number, address: member.peer.parse().ok()? })
        };
        let others: Vec<_> = members.iter().filter(is_other).filter_map(peer).collect();
        let now = self.clock.now();
        self.paused.lock().retain(|_, until| now < *until);
        let like: Vec<SocketAddr> = members
            .iter()
            .filter(|member| member.is_like(own_name, release))
            .filter_map(|member| member.peer.parse().ok())
            .collect();
        self.client.keep(|address| like.contains(&address));
        if **self.others.load() != others {
            self.others.store(Arc::new(others));
        }
    }

    pub(super) fn figures(&self) -> PeerFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PeerFigures {
            known: self.others.load().len(),
            asked: of(&self.counts.asked),
            borrowed: of(&self.counts.borrowed),
            failed: of(&self.counts.failed),
            lent: of(&self.counts.lent),
            refused: of(&self.counts.refused),
        }
    }
}
