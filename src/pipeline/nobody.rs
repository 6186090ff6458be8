//! Requests that PHP gets without the visitor's session: what all share, and what bots ask for.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::oneshot;

use super::Node;
use super::fetch::{Asking, Hints, LeaderAnswer, Prior};
use super::turn::Turn;
use super::visit::Visit;
use crate::clock::Moment;
use crate::exchange::split_target;
use crate::fields::Fields;
use crate::fill::{FillPermit, Release};
use crate::origin::OriginResponse;
use crate::policy::LookupPlan;
use crate::reason::Reason;
use crate::sessions::gate::Kind;
use crate::settings::FillCookie;

/// Shared pages that are remembered at once, in some hundred bytes each.
const PAGES_MAX: u64 = 32_768;
/// Kinds of paths that are remembered at once.
const KINDS_MAX: u64 = 4_096;
/// Segments that say which part of the shop a path belongs to: with a store's code before, or an
/// action behind.
const KIND_SEGMENTS: usize = 2;

/// Whose session PHP gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// The visitor's, as it came.
    Visitors,
    /// Nobody's: the response is for all. If it is not, PHP is asked again.
    Nobodys,
    /// Nobody's, whatever comes of it.
    Bots,
}

/// The parts of the shop whose pages were found to be one visitor's a short while ago. There PHP
/// would be asked twice for each page.
pub struct PrivateParts {
    hasher: RandomState,
    until: Cache<u64, Moment>,
}

impl Default for PrivateParts {
    fn default() -> Self {
        Self { hasher: RandomState::new(), until: Cache::new(KINDS_MAX) }
    }
}

impl PrivateParts {
    fn key(&self, visit: &Visit, plan: &LookupPlan) -> u64 {
        let (path, _) = split_target(&plan.target);
        let segments = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty());
        let kind: Vec<&[u8]> = segments.take(KIND_SEGMENTS).collect();
        self.hasher.hash_one((&visit.request.authority, kind))
    }

    fn note(&self, visit: &Visit, plan: &LookupPlan, until: Moment) {
        self.until.insert(self.key(visit, plan), until);
    }

    fn have(&self, visit: &Visit, plan: &LookupPlan, now: Moment) -> bool {
        self.until.get(&self.key(visit, plan)).is_some_and(|until| now < until)
    }
}

/// Pages that were stored here, by their keys. A purge does not end that a page is for all.
pub struct SharedPages {
    hasher: RandomState,
    pages: Cache<u64, ()>,
}

impl Default for SharedPages {
    fn default() -> Self {
        Self { hasher: RandomState::new(), pages: Cache::new(PAGES_MAX) }
    }
}

impl SharedPages {
    fn note(&self, plan: &LookupPlan) {
        self.pages.insert(self.hasher.hash_one(&plan.key), ());
    }

    fn forget(&self, plan: &LookupPlan) {
        self.pages.invalidate(&self.hasher.hash_one(&plan.key));
    }

    fn have(&self, plan: &LookupPlan) -> bool {
        self.pages.get(&self.hasher.hash_one(&plan.key)).is_some()
    }
}

impl Node {
    /// Whose session a fill gets. A fill that nobody may join is likely one visitor's.
    pub(super) fn fill_session(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        permit: &FillPermit,
        is_stored: bool,
    ) -> Session {
        let policy = &visit.rules.policy;
        if self.is_sessionless_bot(visit) {
            Session::Bots
        } else if permit.can_be_joined()
            && policy.fills_without_session(&visit.request, plan)
            && self.counts_as_shared(visit, plan, is_stored)
        {
            Session::Nobodys
        } else {
            Session::Visitors
        }
    }

    /// Nobody knows before a page is there whether it is one visitor's, and asking twice is no way to find
    /// out: a GET may pay, or confirm.
    fn counts_as_shared(&self, visit: &Visit, plan: &LookupPlan, is_stored: bool) -> bool {
        match visit.rules.settings.sessions.fill_cookie {
            FillCookie::Keep => false,
            FillCookie::Known => is_stored || self.parts.shared_pages.have(plan),
            FillCookie::Drop => !self.parts.private_parts.have(visit, plan, self.parts.clock.now()),
        }
    }

    /// The response is for all who ask for this. The cookies of a session that is nobody's are for nobody:
    /// one of them would replace the session of the one who leads.
    pub(super) fn for_all(
        &self,
        plan: &LookupPlan,
        session: Session,
        response: OriginResponse,
    ) -> OriginResponse {
        self.parts.shared_pages.note(plan);
        without_cookies(session, response)
    }

    /// What is not to be shared is for the one who leads: as it is, or asked for anew with the session.
    pub(super) async fn give_to_one(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        permit: FillPermit,
        (session, response): (Session, OriginResponse),
        (reason, remember): (Reason, Duration),
        answer: oneshot::Sender<LeaderAnswer>,
    ) {
        self.parts.shared_pages.forget(plan);
        let may_differ = visit.rules.policy.may_be_of_visitor(response.status, reason);
        if session == Session::Nobodys && may_differ {
            // Its worker is free for the second try.
            drop(response);
            self.ask_as_visitor(visit, plan, permit, (reason, remember), answer).await;
        } else {
            let response = without_cookies(session, response);
            self.keep_private(permit, response, (reason, remember), answer);
        }
    }

    /// Whose session a request gets that is one client's.
    pub(super) fn own_session(&self, visit: &Visit) -> Session {
        if self.is_sessionless_bot(visit) { Session::Bots } else { Session::Visitors }
    }

    fn is_sessionless_bot(&self, visit: &Visit) -> bool {
        let names_one = |agent: &[u8]| self.parts.bots.names_one(agent);
        visit.rules.policy.is_sessionless_bot(&visit.request, names_one)
    }

    /// Puts a session that keeps nothing in place of the visitor's; none, where sessions do not
    /// pass through this server.
    pub(super) fn give_session(&self, visit: &Visit, session: Session, fields: &mut Fields) {
        if session != Session::Visitors {
            let id = self.parts.mint.as_ref().map(|mint| mint.id());
            visit.rules.policy.replace_session(fields, id.as_deref());
        }
    }

    /// The fill's response was nobody's, and is not to be shared after all: the one who leads gets
    /// theirs, where it may differ. Who waited fetches for himself.
    async fn ask_as_visitor(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        permit: FillPermit,
        (reason, remember): (Reason, Duration),
        mut answer: oneshot::Sender<LeaderAnswer>,
    ) {
        let store = &self.parts.store;
        store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
        permit.release(Release::Uncacheable(reason));
        if !remember.is_zero() {
            let until = self.parts.clock.now().plus(remember);
            self.parts.private_parts.note(visit, plan, until);
        }
        let turn = Turn::InLine(Kind::Visitor);
        let (session, followers, urgency) = (Session::Visitors, None, None);
        let asking = Asking { hints: Hints::ToClient, session, turn, followers, urgency };
        let told = tokio::select! {
            biased;
            // A refresh in the background, or a page for another node: nobody waits for it.
            () = answer.closed() => return,
            told = self.ask_origin(visit, plan, Prior::Nothing, asking) => told,
        };
        drop(answer.send(match told {
            Ok(response) => LeaderAnswer::Private { response, reason },
            Err(error) => LeaderAnswer::Failed { reason: error.reason(), status: error.status() },
        }));
    }
}

fn without_cookies(session: Session, mut response: OriginResponse) -> OriginResponse {
    if session == Session::Nobodys {
        response.fields.remove("Set-Cookie");
    }
    response
}
