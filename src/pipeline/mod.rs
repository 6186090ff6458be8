//! The order of the steps of a request. No rule lives here, and errors become responses here alone.
//!
//! A hit: `Node::begin` -> `client::resolve` -> `Policy::plan` -> `Store::lookup` ->
//! `delivery::respond` -> back to the listener. What cannot be answered so goes on in
//! `Node::handle`, which may wait. All protocols take this way.

mod answer;
mod apology;
mod borrow;
mod fetch;
mod fragments;
mod give;
mod hit;
mod lend;
mod lookup;
mod miss;
mod nobody;
mod partial;
mod portable;
mod prepare;
mod purge;
mod room;
mod stamp;
mod ticket;
mod traffic;
mod turn;
mod upgrade;
mod validate;
mod visit;
mod warm;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::body::{Body, SpoolMemory};
use crate::clock::{Clock, Moment};
use crate::error_pages::ErrorPages;
use crate::esi::MistakeLog;
use crate::exchange::{
    Begun, Beside, Client, Completion, Delivered, Handler, RefusedRequest, Request, Response,
};
use crate::fields::Fields;
use crate::fill::Flights;
use crate::fleet::Fleet;
use crate::observe::{Observer, State, Verdict};
use crate::origin::Origin;
use crate::policy::{self, Plan, Policy, Refusal};
use crate::reason::Reason;
use crate::sessions::gate::Gate;
use crate::sessions::throwaway::Mint;
use crate::sessions::visitors::Visitors;
use crate::settings::Settings;
use crate::store::Store;
use crate::traffic::bots::Bots;
use crate::traffic::{Kept, Traffic};
use crate::waiting_room::Room;

use answer::failure;
pub use apology::Maintenance;
use fragments::Begins;
use hit::{Opened, Receipt};
use lookup::Looked;
pub use nobody::{PrivateParts, SharedPages};
pub use portable::NotImported;
pub use purge::Sharer;
pub use room::RoomPaths;
use visit::Visit;

/// What a reload replaces as a whole.
pub struct Rules {
    /// The compiled rules.
    pub policy: Policy,
    /// The settings they were compiled from.
    pub settings: Arc<Settings>,
    /// What clients see where there is no response.
    pub pages: Arc<ErrorPages>,
    /// What clients may do.
    pub traffic: Traffic,
    /// Before which paths visitors wait.
    pub room_paths: RoomPaths,
}

/// What one Parvis node consists of; cheap to clone.
#[derive(Clone)]
pub struct Node {
    parts: Arc<Parts>,
}

/// The parts that a node is wired from.
pub struct Parts {
    /// The rules in force.
    pub rules: ArcSwap<Rules>,
    /// Stored responses.
    pub store: Arc<Store>,
    /// Where misses go.
    pub origin: Arc<Origin>,
    /// Logs and metrics.
    pub observer: Arc<Observer>,
    /// Time.
    pub clock: Clock,
    /// Fetches under way.
    pub flights: Arc<Flights>,
    /// Places for background refreshes.
    pub refreshes: Arc<Semaphore>,
    /// Places for those of what may have missed purges.
    pub soft_refreshes: Arc<Semaphore>,
    /// The purges' way to the other nodes, and what stored responses are worth.
    pub fleet: Arc<Fleet>,
    /// Whether the load balancer may send requests here.
    pub readiness: Arc<State>,
    /// Were forwarding headers from a hop that is not trusted seen?
    pub forgery_seen: AtomicBool,
    /// What was wrong in the ESI of pages.
    pub esi_mistakes: MistakeLog,
    /// For the content of requests.
    pub body_memory: SpoolMemory,
    /// The queues of sessions before PHP, where there are any.
    pub session_gate: Option<Arc<Gate>>,
    /// Who the visitors are by their sessions; nothing while sessions do not pass through this server.
    pub visitors: OnceLock<Arc<Visitors>>,
    /// Which parts of the shop are of one visitor.
    pub private_parts: PrivateParts,
    /// Pages that are for all.
    pub shared_pages: SharedPages,
    /// Whether the shop is being worked on.
    pub maintenance: Maintenance,
    /// What limits count, and what signs what clients keep.
    pub kept_traffic: Arc<Kept>,
    /// Who is a bot.
    pub bots: Arc<Bots>,
    /// Where visitors wait while the shop is full.
    pub room: Arc<Room>,
    /// Makes the sessions that keep nothing; `None`: sessions do not pass through this server.
    pub mint: Option<Arc<Mint>>,
    /// Who else applies each purge, while two processes serve.
    pub sharer: ArcSwap<Option<Arc<dyn Sharer>>>,
}

/// A response and what the log says of it.
struct Outcome {
    response: Response,
    verdict: Verdict,
    reason: Option<Reason>,
    /// The rule that said no.
    rule: Option<Arc<str>>,
    /// Is the response being stored, or was it?
    stored: bool,
    /// Seconds for which the stored response is still fresh; negative: stale for.
    ttl_seconds: Option<i64>,
    /// Did Magento ask for debugging headers (developer mode)?
    debug: bool,
    /// What the fetch was like, where there was one.
    fetch: Fetch,
    /// What may still turn the response into an error, before its head leaves.
    begins: Option<Begins>,
}

/// What a fetch was like (RFC 9211 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fetch {
    /// It brought the response, or there was none.
    #[default]
    Plain,
    /// The origin said that what is stored is still right (304).
    Validated,
    /// It was another's, and was waited for.
    Collapsed,
}

impl Outcome {
    fn new(response: Response, verdict: Verdict, reason: Option<Reason>) -> Self {
        Self {
            response,
            verdict,
            reason,
            rule: None,
            stored: false,
            ttl_seconds: None,
            debug: false,
            fetch: Fetch::default(),
            begins: None,
        }
    }
}

impl Node {
    /// Wires a node.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The parts, for control and reload.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    async fn respond(
        &self,
        visit: &Arc<Visit>,
        plan: Plan,
        looked: Option<Looked>,
        body: Body,
    ) -> Outcome {
        if let Some(no) = visit.judged.no() {
            return self.denied(visit, no);
        }
        match plan {
            plan if upgrade::is_offered(self, visit, &plan) => {
                match self.may_ask(visit, None).await {
                    Ok(()) => self.switch(visit).await,
                    Err(no) => self.denied(visit, &no),
                }
            }
            Plan::Lookup(plan) => self.lookup(visit, plan, looked).await,
            Plan::Pass(reason) => {
                let is_page = !matches!(reason, Reason::StaticFile | Reason::HealthCheck);
                if is_page && let Some(page) = self.waits(visit).await {
                    return page;
                }
                self.pass(visit, body, reason).await
            }
            Plan::Purge => self.purge(visit).await,
            Plan::Health => self.health_answer(),
            Plan::Maintenance => failure(Reason::Maintenance, StatusCode::SERVICE_UNAVAILABLE),
            Plan::Refuse(refusal) => refuse(refusal),
        }
    }

    /// Says once that a hop in front of us is not trusted: that is how redirect loops behind a
    /// load balancer start.
    fn warn_of_forgery(&self, client: &Client) {
        if client.forged && !self.parts.forgery_seen.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = %client.address,
                "forwarding headers from an address that is not in listen.trusted are ignored; if \
                 that is your load balancer, add its network"
            );
        }
    }

    fn health_answer(&self) -> Outcome {
        let readiness = self.parts.readiness.readiness();
        let status =
            if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let maintenance = if self.parts.maintenance.is_on() { ", in maintenance" } else { "" };
        let line = readiness.to_line() + maintenance + "\n";
        Outcome::new(Response::text(status, line), Verdict::Synth, None)
    }
}

impl Handler for Node {
    fn refused(&self, refused: RefusedRequest<'_>) -> Completion {
        let RefusedRequest { connection, version, method, target, status, reason } = refused;
        let request = Request {
            method,
            target,
            authority: Bytes::new(),
            version,
            fields: Fields::new(),
            body: Body::empty(),
            connection: connection.clone(),
            beside: Beside::default(),
        };
        let trusted = &self.parts.rules.load().settings.listen.trusted;
        let client = policy::client::resolve(trusted, &request);
        let began = self.parts.clock.elapsed();
        let mut observation = self.parts.observer.begin(&request, &client, began);
        observation.answer(status, Verdict::Refused, Some(reason));
        observation.into_completion()
    }

    type Receipt = Receipt;
    // On the heap: a hit, which has none, is moved about without the room for it.
    type Open = Box<Opened>;

    fn begin(&self, request: &Request) -> Begun<Receipt, Box<Opened>> {
        self.answer_at_once(request)
    }

    fn settle(&self, request: &Request, receipt: Receipt, delivered: Delivered) {
        self.note_hit(request, &receipt, delivered);
    }

    async fn handle(&self, mut request: Request, open: Box<Opened>) -> Response {
        let Opened { began, rules, client, plan, judged, looked } = *open;
        let started = Moment::of(began);
        let body = std::mem::take(&mut request.body);
        let visit = Arc::new(Visit::new(request, client, rules, started).judged(judged));
        let observation = self.parts.observer.begin(&visit.request, &visit.client, began);
        let mut outcome = self.respond(&visit, plan, looked, body).await.begun().await;
        apology::apologise(&visit, &mut outcome);
        room::keep_in(&visit, &mut outcome);
        self.stamp(&visit, outcome, observation)
    }
}

fn refuse(refusal: Refusal) -> Outcome {
    let (status, text) = match refusal {
        Refusal::MisdirectedHost => {
            (StatusCode::MISDIRECTED_REQUEST, "this host is not served here\n")
        }
        Refusal::UnknownMethod => (StatusCode::NOT_IMPLEMENTED, "unknown method\n"),
        Refusal::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed\n")
        }
        Refusal::MissingHost => (StatusCode::BAD_REQUEST, "a Host is required\n"),
    };
    let mut response = Response::text(status, text);
    // Who sends such a request takes us for somebody else: what follows is not read either.
    response.close = true;
    if refusal == Refusal::MethodNotAllowed {
        response.fields.push_static("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    let reason = match refusal {
        Refusal::MisdirectedHost => Reason::UnknownHost,
        Refusal::UnknownMethod | Refusal::MethodNotAllowed => Reason::Method,
        Refusal::MissingHost => Reason::MalformedRequest,
    };
    Outcome::new(response, Verdict::Refused, Some(reason))
}
