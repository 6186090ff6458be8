//! Who is connected, how many may be, and how they are told to go.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::Limits;
use crate::exchange::Peer;

/// What connections are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Go on.
    Serving,
    /// Another process accepts connections: each kept one ends with its next response. Idle ones
    /// stay, so that none is closed while its client sends a request.
    Leaving,
    /// Finish the request in flight, then close; idle connections close at once.
    Draining,
    /// Close now.
    Aborting,
}

/// Stops listeners and their connections, in stages. Clones are handles on the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Connections>);

impl Shutdown {
    /// Everything serves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops accepting, and ends each kept connection after its next response.
    pub fn leave(&self) {
        self.0.advance(Stage::Leaving);
    }

    /// Takes [`Shutdown::leave`] back, if nothing more was said; who accepts is to begin anew.
    pub fn resume(&self) {
        let (leaving, serving) = (Stage::Leaving as u8, Stage::Serving as u8);
        let _ = self.0.stage.compare_exchange(leaving, serving, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Stops accepting and lets requests in flight finish.
    pub fn drain(&self) {
        self.0.advance(Stage::Draining);
    }

    /// Cuts what is left.
    pub fn abort(&self) {
        self.0.advance(Stage::Aborting);
    }

    /// What connections are to do now.
    pub fn stage(&self) -> Stage {
        self.0.stage()
    }

    /// Resolves when no connection is left. New ones may come unless they are to leave or to drain;
    /// then it waits for those who accept as well, since one may just have taken a connection.
    pub async fn all_gone(&self) {
        loop {
            let mut gone = pin!(self.0.gone.notified());
            gone.as_mut().enable();
            let may_come = self.stage() != Stage::Serving && self.0.is_accepting();
            if self.0.count() == 0 && !may_come {
                return;
            }
            gone.await;
        }
    }

    /// The connections it governs.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.0
    }
}

/// The connections of all listeners that share a [`Shutdown`].
#[derive(Debug, Default)]
pub struct Connections {
    stage: AtomicU8,
    stage_changed: Notify,
    registry: Mutex<Registry>,
    /// How many listeners accept.
    accepting: AtomicUsize,
    gone: Notify,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Registry {
    next_id: u64,
    /// A waker that wakes the connection's task, once that task has run.
    open: HashMap<u64, Option<Waker>>,
    by_address: HashMap<IpAddr, usize>,
}

/// What the door has seen since the start; for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    refused_connections_max: AtomicU64,
    refused_per_address: AtomicU64,
    accept_errors: AtomicU64,
    tls_handshakes_failed: AtomicU64,
    requests_refused: AtomicU64,
    http2_connections_cut: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken.
    pub accepted: u64,
    /// Connections closed at once because `listen.connections_max` were open.
    pub refused_connections_max: u64,
    /// Connections closed at once because of `listen.connections_per_address_max`.
    pub refused_per_address: u64,
    /// `accept` failed for want of descriptors or memory.
    pub accept_errors: u64,
    /// TLS handshakes that failed or took too long.
    pub tls_handshakes_failed: u64,
    /// Requests refused before the handler saw them.
    pub requests_refused: u64,
    /// HTTP/2 connections cut for stalling or for resetting too many streams.
    pub http2_connections_cut: u64,
}

/// Something the door counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    AcceptError,
    TlsHandshakeFailed,
    RequestRefused,
    Http2Cut,
}

/// Why a new connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// `listen.connections_max` are open.
    ConnectionsMax,
    /// `listen.connections_per_address_max` are open from there.
    PerAddress,
}

impl Connections {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.registry.lock().open.len()
    }

    /// What was seen since the start.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Counts {
            accepted: read(&counters.accepted),
            refused_connections_max: read(&counters.refused_connections_max),
            refused_per_address: read(&counters.refused_per_address),
            accept_errors: read(&counters.accept_errors),
            tls_handshakes_failed: read(&counters.tls_handshakes_failed),
            requests_refused: read(&counters.requests_refused),
            http2_connections_cut: read(&counters.http2_connections_cut),
        }
    }

    /// Does a listener accept?
    fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::SeqCst) > 0
    }

    /// A listener accepts for as long as this lives.
    pub(super) fn accept(self: &Arc<Self>) -> Accepting {
        self.accepting.fetch_add(1, Ordering::SeqCst);
        Accepting(Arc::clone(self))
    }

    pub(super) fn note(&self, event: Event) {
        let counter = match event {
            Event::AcceptError => &self.counters.accept_errors,
            Event::TlsHandshakeFailed => &self.counters.tls_handshakes_failed,
            Event::RequestRefused => &self.counters.requests_refused,
            Event::Http2Cut => &self.counters.http2_connections_cut,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Leaving,
            2 => Stage::Draining,
            _ => Stage::Aborting,
        }
    }

    fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::SeqCst);
        self.stage_changed.notify_waiters();
        let wakers: Vec<Waker> =
            self.registry.lock().open.values().filter_map(Clone::clone).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Resolves once connections are to go.
    pub(super) async fn stopping(&self) {
        loop {
            let mut changed = pin!(self.stage_changed.notified());
            changed.as_mut().enable();
            if self.stage() != Stage::Serving {
                return;
            }
            changed.await;
        }
    }

    /// Gives a new connection its place. `connections_max` is what the limits and the system's
    /// descriptors allow.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: Peer,
        connections_max: usize,
        limits: &Limits,
    ) -> Result<Slot, NoPlace> {
        let address = (!limits.trusted.contains(peer.address())).then(|| network(peer.address()));
        let mut registry = self.registry.lock();
        if registry.open.len() >= connections_max {
            self.counters.refused_connections_max.fetch_add(1, Ordering::Relaxed);
            return Err(NoPlace::ConnectionsMax);
        }
        if let Some(address) = address {
            let open = registry.by_address.get(&address).copied().unwrap_or(0);
            if open >= limits.connections_per_address_max {
                self.counters.refused_per_address.fetch_add(1, Ordering::Relaxed);
                return Err(NoPlace::PerAddress);
            }
            registry.by_address.insert(address, open + 1);
        }
        let id = registry.next_id;
        registry.next_id += 1;
        registry.open.insert(id, None);
        drop(registry);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Slot { connections: Arc::clone(self), id, address })
    }
}

/// A listener that accepts.
#[derive(Debug)]
pub(super) struct Accepting(Arc<Connections>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::SeqCst);
        self.0.gone.notify_waiters();
    }
}

/// The place of one connection; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    id: u64,
    address: Option<IpAddr>,
}

impl Slot {
    /// Runs a connection in its place: the task is woken when the stage changes, so that waits
    /// within look at it again, and is dropped when all are to go.
    ///
    /// The waker is given once. A task's waker stays valid for its life, so a connection costs the
    /// shared registry two locks in all, and none for a request.
    ///
    /// The connection is boxed: an async function keeps its arguments beside what it makes of
    /// them, and an idle connection would take its memory twice.
    pub(super) async fn run(self, mut connection: Pin<Box<impl Future<Output = ()>>>) {
        let mut is_known = false;
        std::future::poll_fn(|context| {
            if !std::mem::replace(&mut is_known, true) {
                let mut registry = self.connections.registry.lock();
                registry.open.insert(self.id, Some(context.waker().clone()));
            }
            if self.connections.stage() == Stage::Aborting {
                return Poll::Ready(());
            }
            connection.as_mut().poll(context)
        })
        .await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut registry = self.connections.registry.lock();
        let waker = registry.open.remove(&self.id);
        if let Some(address) = self.address
            && let Some(open) = registry.by_address.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                registry.by_address.remove(&address);
            }
        }
        let is_last = registry.open.is_empty();
        drop(registry);
        drop(waker);
        if is_last {
            self.connections.gone.notify_waiters();
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Listen, Networks};
    use std::net::SocketAddr;

    fn limits(trusted: Networks) -> Limits {
        let listen = Listen { connections_per_address_max: 2, trusted, ..Listen::default() };
        Limits::from(&listen)
    }

    fn peer(address: &str) -> Peer {
        Peer::Ip(SocketAddr::new(address.parse().expect("an address"), 1))
    }

    #[test]
    fn one_ipv6_network_counts_as_one_client() {
        let connections = Arc::new(Connections::default());
        let limits = limits(Networks::default());
        let first = connections.admit(peer("2001:db8::1"), 9, &limits).expect("a place");
        let _second = connections.admit(peer("2001:db8::2"), 9, &limits).expect("a place");
        let refused = connections.admit(peer("2001:db8::ffff:3"), 9, &limits);
        assert_eq!(refused.expect_err("full"), NoPlace::PerAddress);
        let _other = connections.admit(peer("2001:db8:0:1::1"), 9, &limits).expect("a place");
        drop(first);
        let _again = connections.admit(peer("2001:db8::3"), 9, &limits).expect("a place");
        assert_eq!(connections.counts().refused_per_address, 1);
    }

    #[test]
    fn a_trusted_peer_is_bounded_by_the_total_alone() {
        let connections = Arc::new(Connections::default());
        let limits = limits(Networks::loopback());
        let slots: Vec<_> = (0..3).map(|_| connections.admit(Peer::Unix, 3, &limits)).collect();
        assert!(slots.iter().all(Result::is_ok));
        let refused = connections.admit(Peer::Unix, 3, &limits).expect_err("full");
        assert_eq!(refused, NoPlace::ConnectionsMax);
        drop(slots);
        assert_eq!(connections.count(), 0);
        assert!(connections.registry.lock().by_address.is_empty());
    }

    #[tokio::test]
    async fn all_are_gone_no_sooner_than_nobody_accepts() {
        let shutdown = Shutdown::new();
        let accepting = shutdown.connections().accept();
        shutdown.all_gone().await;
        shutdown.leave();
        let mut gone = pin!(shutdown.all_gone());
        assert!(
            std::future::poll_fn(|context| Poll::Ready(gone.as_mut().poll(context)))
                .await
                .is_pending()
        );
        drop(accepting);
        gone.await;
    }

    #[tokio::test]
    async fn aborting_ends_a_connection_that_waits_for_ever() {
        let shutdown = Shutdown::new();
        let limits = limits(Networks::loopback());
        let slot = shutdown.connections().admit(Peer::Unix, 1, &limits).expect("a place");
        let task = tokio::spawn(slot.run(Box::pin(std::future::pending())));
        tokio::task::yield_now().await;
        assert_eq!(shutdown.connections().count(), 1);
        shutdown.abort();
        task.await.expect("ended");
        shutdown.all_gone().await;
    }
}
