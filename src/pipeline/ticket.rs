//! What a request shows at the door of PHP: its class, and how many wait with it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::Node;
use super::fetch::{Abroad, FillTask, Hints};
use super::miss::Missed;
use super::visit::Visit;
use crate::admission::{ClassId, Classified, Facts, Ticket};
use crate::fill::{FillPermit, Release};
use crate::fleet::peer::message::Wanted;
use crate::origin::OriginRequest;
use crate::policy::{self, LookupPlan};
use crate::reason::Reason;
use crate::sessions::visitors::Class;
use crate::settings::VisitorKind;

impl Node {
    /// The ticket of a request to the origin; whose hints nobody wants is waited for by nobody. Who asks is looked
    /// up where its class depends on that, for `sessions.visitor_wait` at most.
    pub(super) async fn ticket(
        &self,
        visit: &Visit,
        request: &OriginRequest,
        hints: Hints,
    ) -> Ticket {
        let waited_milliseconds = Arc::clone(&visit.queued_milliseconds);
        let classes = self.parts.origin.admission().classes();
        let is_refresh = hints == Hints::Unwanted;
        let facts = Facts {
            content: request.body.beginning(),
            is_refresh,
            ..self.facts(visit, &request.method, &request.target)
        };
        let told = self.told_class(visit).filter(|_| !is_refresh);
        let class = match told.map_or_else(|| classes.of(&facts), Classified::Is) {
            Classified::Is(class) => class,
            Classified::DependsOnVisitor => {
                classes.of_visitor(&facts, self.visitor_kind(visit, &request.target).await)
            }
        };
        if !is_refresh {
            visit.note_class(classes.name(class));
        }
        Ticket { class: Some(class), waited_milliseconds, ..Ticket::default() }
    }

    /// The class of a request that may be answered from the store, without asking who sends it.
    fn class_of(&self, visit: &Visit, plan: &LookupPlan) -> ClassId {
        let facts = self.facts(visit, &Method::GET, &plan.target);
        let classes = self.parts.origin.admission().classes();
        self.told_class(visit).unwrap_or_else(|| classes.of_visitor(&facts, None))
    }

    /// The class that the node named which asks: it has seen the client, of whom little comes along. One that has no
    /// such name here counts by its request.
    fn told_class(&self, visit: &Visit) -> Option<ClassId> {
        let wanted = visit.wanted.as_ref()?;
        self.parts.origin.admission().classes().named(&wanted.class)
    }

    /// How urgently a fetch is wanted here, for the node that is asked for it: by whoever wants it most.
    pub(super) fn wanted(&self, task: &FillTask) -> Wanted {
        let FillTask { visit, plan, permit, hints, .. } = task;
        let classes = self.parts.origin.admission().classes();
        let own = (*hints == Hints::ToClient).then(|| self.class_of(visit, plan));
        let class = classes.most_urgent(permit.urgency()(), own);
        let followers = u16::try_from(permit.followers()()).unwrap_or(u16::MAX);
        let name = class.and_then(|class| classes.name(class));
        Wanted {
            class: name.map(|name| Bytes::copy_from_slice(name.as_bytes())).unwrap_or_default(),
            followers,
            is_refresh: class.is_none(),
            asks_php: !visit.judged.has_matched_none(),
        }
    }

    /// How urgent a request with this ticket is, for one that goes before it in its session.
    pub(super) fn urgency(&self, ticket: &Ticket) -> usize {
        let classes = self.parts.origin.admission().classes();
        ticket.class.map_or(usize::MAX, |class| classes.urgency(class))
    }

    /// How urgently it is wanted, for a fetch that it follows.
    pub(super) fn wants(&self, visit: &Visit, plan: &LookupPlan) -> usize {
        let class = self.class_of(visit, plan);
        self.parts.origin.admission().classes().urgency(class)
    }

    /// As [`Node::wants`], by who asks.
    pub(super) async fn wants_as_visitor(&self, visit: &Visit, plan: &LookupPlan) -> usize {
        let classes = self.parts.origin.admission().classes();
        let facts = self.facts(visit, &Method::GET, &plan.target);
        let class = match classes.of(&facts) {
            Classified::Is(class) => class,
            Classified::DependsOnVisitor => {
                classes.of_visitor(&facts, self.visitor_kind(visit, &plan.target).await)
            }
        };
        classes.urgency(class)
    }

    /// What is stale is there at once, and a place in PHP is not. A queue is no disconnection (RFC 9111 4.2.4), so
    /// it has to be what may stand in for an error (RFC 5861 4).
    pub(super) fn has_stale_and_no_place(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        missed: &Missed,
    ) -> bool {
        missed.stale.as_ref().is_some_and(|stale| stale.for_error)
            && missed.reason != Reason::Forced
            && self.parts.origin.admission().must_wait(self.class_of(visit, plan))
    }

    /// Leads a fetch for nobody, as one of the refreshes: at most `fill.refreshes_max`, and not right after one
    /// that failed.
    pub(super) fn refresh_when_there_is_a_place(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        missed: &mut Missed,
        permit: FillPermit,
        abroad: Abroad,
    ) {
        // Nobody's next request is to wait in its session for a refresh.
        missed.turn = None;
        let now = self.parts.clock.now();
        let due = missed.stale.clone().filter(|stale| stale.entry.is_refresh_due(now));
        let place = due.and_then(|stale| {
            let place = Arc::clone(self.refresh_places(&stale.entry)).try_acquire_owned();
            Some((place.ok()?, stale))
        });
        let Some((place, stale)) = place else {
            let (reason, status) = (Reason::OriginBusy, StatusCode::SERVICE_UNAVAILABLE);
            return permit.release(Release::Failed { reason, status });
        };
        drop(self.spawn_fill(FillTask {
            visit: Arc::clone(visit),
            plan,
            permit,
            stale: Some(stale),
            place: Some(place),
            abroad,
            turn: None,
            hints: Hints::Unwanted,
        }));
    }

    /// Who asks; `None`: that cannot be told.
    pub(super) async fn visitor_kind(&self, visit: &Visit, target: &[u8]) -> Option<VisitorKind> {
        let visitors = self.parts.visitors.get()?;
        if !self.parts.origin.runs(target) {
            return None;
        }
        let cookies = &visit.rules.settings.sessions.cookies;
        let Some(session) = policy::session_of(&visit.request.fields, cookies) else {
            return Some(VisitorKind::New);
        };
        match visitors.of(&session).await.class() {
            Class::Unknown => None,
            Class::New => Some(VisitorKind::New),
            Class::Guest => Some(VisitorKind::Guest),
            Class::Cart => Some(VisitorKind::Cart),
            Class::Customer => Some(VisitorKind::Customer),
            Class::Admin => Some(VisitorKind::Admin),
        }
    }

    /// What decides on the class of a request for this.
    fn facts<'a>(&self, visit: &'a Visit, method: &'a Method, target: &'a Bytes) -> Facts<'a> {
        let request = &visit.request;
        let names_one = |agent: &[u8]| self.parts.bots.names_one(agent);
        Facts {
            user_agent: request.fields.first("User-Agent").map_or(&[], |agent| &agent[..]),
            is_bot: visit.rules.policy.is_declared_bot(request, names_one),
            ..Facts::plain(method, target)
        }
    }
}
