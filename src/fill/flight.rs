//! A single fetch: the leader's permits and the followers' wait.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::watch;

use super::Flights;
use crate::body::{Body, BodyError, SharedBody, SharedSource};
use crate::clock::Moment;
use crate::fields::Fields;
use crate::policy::{CacheKey, Storable};
use crate::reason::Reason;
use crate::store::FillMark;

/// A fetch under way.
pub struct Flight {
    mark: FillMark,
    started: Moment,
    phase: watch::Sender<Phase>,
    waiters: AtomicUsize,
    /// How urgent it is to the one of them to whom it is most; lower is more.
    urgency: AtomicUsize,
    /// Does its leader ask another node?
    is_abroad: AtomicBool,
    bill: OnceLock<Bill>,
}

/// Milliseconds of PHP for which nobody of this node is charged: another node asked for what they went to, and takes
/// them with its answer.
pub type Bill = Arc<AtomicU64>;

#[derive(Clone)]
enum Phase {
    Waiting,
    Sharing(Arc<Shared>),
    /// It was shared, and is stored by now, if it could be.
    Landed(Arc<Shared>),
    Released(Release),
}

/// What is known of a storable response before its content.
pub struct SharedHead {
    /// Its status.
    pub status: StatusCode,
    /// Its fields as they are delivered, but for coding and framing.
    pub fields: Fields,
    /// Is it to be looked through for includes?
    pub takes_esi: bool,
    /// What the rules said of it.
    pub storable: Storable,
    /// The key it is stored under: that of its variant, where it varies.
    pub key: CacheKey,
}

/// A storable response which arrives.
pub struct Shared {
    head: SharedHead,
    source: SharedSource,
}

impl Shared {
    /// What is known of it.
    pub fn head(&self) -> &SharedHead {
        &self.head
    }

    /// The content from its beginning.
    pub fn body(&self) -> Body {
        Body::from(self.source.reader())
    }
}

/// Why followers got nothing to share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The response is for one client alone: fetch for yourself.
    Uncacheable(Reason),
    /// What is stored is still right: look again.
    Validated,
    /// Nobody was asked, for it is not the leader's turn in its session: look again.
    MustWait,
    /// There is no usable response.
    Failed {
        /// Why.
        reason: Reason,
        /// The status for clients for whom nothing stale is there.
        status: StatusCode,
    },
}

/// What a follower's wait ended with.
pub enum Outcome {
    /// A response to share.
    Shared(Arc<Shared>),
    /// Nothing to share.
    Released(Release),
    /// The wait was too long.
    TimedOut,
}

impl Flight {
    pub(super) fn new(mark: FillMark, started: Moment) -> Self {
        let (phase, _) = watch::channel(Phase::Waiting);
        Self {
            mark,
            started,
            phase,
            waiters: AtomicUsize::new(0),
            urgency: AtomicUsize::new(usize::MAX),
            is_abroad: AtomicBool::new(false),
            bill: OnceLock::new(),
        }
    }

    /// The purge number at its start.
    pub fn mark(&self) -> FillMark {
        self.mark
    }

    /// When it began.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// The response, once its head is known and it may be shared.
    pub fn shared(&self) -> Option<Arc<Shared>> {
        match &*self.phase.borrow() {
            Phase::Sharing(shared) | Phase::Landed(shared) => Some(Arc::clone(shared)),
            Phase::Waiting | Phase::Released(_) => None,
        }
    }

    /// Requests that wait for it.
    pub(super) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Waiting)
    }
}

/// The right and the duty to fetch. Dropping it releases the followers as failed.
pub struct FillPermit {
    flights: Arc<Flights>,
    key: CacheKey,
    /// Another key under which requests join it.
    alias: Option<CacheKey>,
    flight: Arc<Flight>,
    landed: bool,
}

impl FillPermit {
    pub(super) fn new(flights: Arc<Flights>, key: CacheKey, flight: Arc<Flight>) -> Self {
        Self { flights, key, alias: None, flight, landed: false }
    }

    /// The key that is filled.
    pub fn key(&self) -> &CacheKey {
        &self.key
    }

    /// The store's purge number when the flight began; storing needs it.
    pub fn mark(&self) -> FillMark {
        self.flight.mark
    }

    /// May others join? Not a fetch after hit-for-miss, nor one that a newer flight replaced.
    pub fn can_be_joined(&self) -> bool {
        self.flights.holds(&self.key, &self.flight)
    }

    /// The response turned out to be stored under another key: who asks for that joins too. To be
    /// called before anybody can know the key.
    pub fn stand_for(&mut self, key: &CacheKey) {
        let may_stand = *key != self.key && self.can_be_joined();
        if may_stand && self.flights.take_free(key, &self.flight) {
            self.alias = Some(key.clone());
        }
    }

    /// Says how many wait for what is fetched, at any time.
    pub fn followers(&self) -> Arc<dyn Fn() -> usize + Send + Sync> {
        let flight = Arc::clone(&self.flight);
        Arc::new(move || flight.waiters())
    }

    /// Says how urgent it is to those who wait; lower is more ([`FillWait::want`]).
    pub fn urgency(&self) -> Arc<dyn Fn() -> usize + Send + Sync> {
        let flight = Arc::clone(&self.flight);
        Arc::new(move || flight.urgency.load(Ordering::Relaxed))
    }

    /// It is led for another node: what PHP takes goes here. The first one counts.
    pub fn bill_to(&self, bill: &Bill) {
        let _is_known = self.flight.bill.set(Arc::clone(bill));
    }

    /// Its leader asks another node, or has ended to.
    pub fn set_abroad(&self, is_abroad: bool) {
        self.flight.is_abroad.store(is_abroad, Ordering::Release);
    }

    /// The leader's own way to what it fetches; it does not count as a waiter.
    pub fn follow(&self) -> FillWait {
        FillWait { flight: Arc::clone(&self.flight), counted: false }
    }

    /// The response may be shared: followers stream what is pushed from now on.
    pub fn share(self, head: SharedHead, length: Option<u64>) -> FillSharing {
        let body = SharedBody::new(length);
        let shared = Arc::new(Shared { head, source: body.source() });
        self.flight.phase.send_replace(Phase::Sharing(Arc::clone(&shared)));
        FillSharing { permit: self, body, shared }
    }

    /// There is nothing to share.
    pub fn release(mut self, release: Release) {
        self.land(release);
    }

    fn land(&mut self, release: Release) {
        if std::mem::replace(&mut self.landed, true) {
            return;
        }
        self.leave_flights();
        self.flight.phase.send_if_modified(|phase| {
            match phase {
                Phase::Waiting => *phase = Phase::Released(release),
                Phase::Sharing(shared) => *phase = Phase::Landed(Arc::clone(shared)),
                Phase::Landed(_) | Phase::Released(_) => return false,
            }
            true
        });
    }
}

impl FillPermit {
    /// From now on nobody joins it.
    fn leave_flights(&self) {
        for key in [Some(&self.key), self.alias.as_ref()].into_iter().flatten() {
            self.flights.land(key, &self.flight);
        }
    }
}

impl Drop for FillPermit {
    fn drop(&mut self) {
        self.land(Release::Failed {
            reason: Reason::FillAbandoned,
            status: StatusCode::BAD_GATEWAY,
        });
    }
}

/// A fetch whose response is being shared. Dropping it truncates what followers read.
pub struct FillSharing {
    permit: FillPermit,
    body: SharedBody,
    shared: Arc<Shared>,
}

impl FillSharing {
    /// A piece of the content.
    pub fn push(&self, piece: Bytes) {
        self.body.push(piece);
    }

    /// Nobody joins any more: the content is too large to be kept for those who come later.
    pub fn close(&self) {
        self.permit.leave_flights();
    }

    /// A piece of content that is not kept, once those who read have left room for it within
    /// `bytes_max`; only after [`FillSharing::close`].
    ///
    /// # Errors
    /// [`BodyError::ConnectionLost`] where nobody reads any more.
    pub async fn push_paced(&self, piece: Bytes, bytes_max: usize) -> Result<(), BodyError> {
        self.body.push_paced(piece, bytes_max).await
    }

    /// The response that is shared.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The content is complete: followers see its end now. The flight stays joinable until the
    /// returned permit is dropped, so that nobody fetches again between here and storing.
    pub fn finish(self) -> FillPermit {
        self.body.finish();
        self.permit
    }

    /// The content is broken.
    pub fn abort(self, error: BodyError) {
        self.body.abort(error);
    }
}

/// A place among those who wait for a fetch; given back when dropped.
pub struct FillWait {
    flight: Arc<Flight>,
    counted: bool,
}

impl FillWait {
    pub(super) fn new(flight: &Arc<Flight>, waiters_max: usize) -> Option<Self> {
        let before = flight.waiters.fetch_add(1, Ordering::Relaxed);
        let wait = Self { flight: Arc::clone(flight), counted: true };
        (before < waiters_max).then_some(wait)
    }

    /// So urgent it is; lower is more. It stays so when this one leaves.
    pub fn want(&self, urgency: usize) {
        self.flight.urgency.fetch_min(urgency, Ordering::Relaxed);
    }

    /// Does its leader ask another node? Whoever fetches for one does not wait for it then: a miss
    /// visits one node.
    pub fn is_abroad(&self) -> bool {
        self.flight.is_abroad.load(Ordering::Acquire)
    }

    /// What PHP took so far for other nodes that asked for this, which one of them is charged: nothing is left for
    /// the next.
    pub fn take_bill(&self) -> u64 {
        self.flight.bill.get().map_or(0, |bill| bill.swap(0, Ordering::Relaxed))
    }

    /// Waits until the response is stored, if it can be.
    pub async fn landed(&self) {
        let mut phase = self.flight.phase.subscribe();
        let is_over = |phase: &Phase| matches!(phase, Phase::Landed(_) | Phase::Released(_));
        // Where the flight is gone, so is its leader.
        drop(phase.wait_for(is_over).await);
    }

    /// Waits for the response's head.
    pub async fn outcome(&self, timeout: Duration) -> Outcome {
        let mut phase = self.flight.phase.subscribe();
        let decided = phase.wait_for(|phase| !matches!(phase, Phase::Waiting));
        match tokio::time::timeout(timeout, decided).await {
            Ok(Ok(phase)) => match &*phase {
                Phase::Sharing(shared) | Phase::Landed(shared) => {
                    Outcome::Shared(Arc::clone(shared))
                }
                Phase::Released(release) => Outcome::Released(*release),
                Phase::Waiting => Outcome::TimedOut,
            },
            Ok(Err(_)) | Err(_) => Outcome::TimedOut,
        }
    }
}

impl Drop for FillWait {
    fn drop(&mut self) {
        if self.counted {
            self.flight.waiters.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
