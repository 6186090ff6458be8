//! A hit: answered by a plain function, on the stack of who asks. Nothing of the request is kept,
//! no task is made, nothing is waited for.
//!
//! Whatever needs more than that is left to the steps that may wait, with what is known by then.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::answer::{facts, ttl_seconds};
use super::apology::Maintenance;
use super::lookup::Looked;
use super::{Node, Outcome, Rules};
use crate::clock::Moment;
use crate::delivery::{self, Joined, join};
use crate::esi::{self, PageUrl};
use crate::exchange::{Begun, Client, Delivered, Request, Response, Scheme};
use crate::observe::{Answer, Verdict};
use crate::policy::{self, Plan};
use crate::store::{Encoded, Entry, Found, Piece, StoredBody};
use crate::traffic::Judged;

/// What is kept of a hit until its response has left.
pub struct Receipt {
    began: Duration,
    client: IpAddr,
    scheme: Scheme,
    status: StatusCode,
}

/// A request that has been looked at.
pub struct Opened {
    /// When its head had been read, since the clock's origin.
    pub(super) began: Duration,
    pub(super) rules: Arc<Rules>,
    pub(super) client: Client,
    pub(super) plan: Plan,
    /// What the rules of `[traffic]` said.
    pub(super) judged: Judged,
    /// What the store said, where it was asked.
    pub(super) looked: Option<Looked>,
}

/// A request for which something is stored and fresh.
struct Page<'a> {
    request: &'a Request,
    client: &'a Client,
    rules: &'a Rules,
    now: Moment,
    /// Includes so far, on all levels.
    includes: Cell<usize>,
}

/// Where an include stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The target of the page, or of the fragment that it stands in.
    target: &'a Bytes,
    /// 0 in a page, 1 in a fragment of it, and so on.
    depth: usize,
}

impl Node {
    /// Answers what is stored and fresh, with all its fragments; opens everything else.
    pub(super) fn answer_at_once(&self, request: &Request) -> Begun<Receipt, Box<Opened>> {
        let began = self.parts.clock.elapsed();
        let rules = self.parts.rules.load();
        let client = policy::client::resolve(&rules.settings.listen.trusted, request);
        self.warn_of_forgery(&client);
        let mut plan = rules.policy.plan(request, &client);
        if self.parts.maintenance.is_on() {
            plan = Maintenance::plan(&rules, &client, plan);
        }
        let now = Moment::of(began);
        let judged = self.judge_request(&rules, request, &client, &plan, now);
        let mut looked = None;
        // An upgrade is offered to the origin, whatever is stored.
        if let Plan::Lookup(lookup) = &plan
            && request.beside.upgrade.is_none()
            && judged.no().is_none()
        {
            let seen = self.look(&request.fields, lookup, now);
            if let Found::Fresh(entry) = &seen.found
                && !lookup.force
                && !self.doubts(entry, now)
                && !self.keeps_hits_back()
                && let Some(response) = self.hit(&Page::new(request, &client, &rules, now), entry)
            {
                let (client, scheme, status) = (client.address, client.scheme, response.status);
                return Begun::Answered(response, Receipt { began, client, scheme, status });
            }
            looked = Some(seen);
        }
        let rules = arc_swap::Guard::into_inner(rules);
        Begun::Open(Box::new(Opened { began, rules, client, plan, judged, looked }))
    }

    /// Counts and logs a hit whose response has left.
    pub(super) fn note_hit(&self, request: &Request, receipt: &Receipt, delivered: Delivered) {
        let &Receipt { began, client, scheme, status } = receipt;
        let answer = Answer { status, verdict: Verdict::Hit, delivered, ..Answer::default() };
        self.parts.observer.note(request, (client, scheme), began, &answer);
    }

    /// `None`: something about it has to be waited for, or is wrong.
    fn hit(&self, page: &Page<'_>, entry: &Arc<Entry>) -> Option<Response> {
        let place = Place { target: &page.request.target, depth: 0 };
        let fragments = self.stored_fragments(page, place, entry.body())?;
        let identity = |encoded: &Encoded| self.identity(entry, encoded);
        let facts = facts(page.request, page.rules);
        let mut response = delivery::respond(entry, facts, fragments, identity).ok()?;
        let site = &page.rules.settings.site;
        if site.age {
            response.fields.push_static("Age", entry.age_at(page.now).as_secs().to_string());
        }
        let mut outcome = Outcome::new(response, Verdict::Hit, None);
        outcome.ttl_seconds = Some(ttl_seconds(entry, page.now));
        outcome.debug = entry.debug();
        self.dress(site, &mut outcome);
        Some(outcome.response)
    }

    /// The fragments of a page, where all of them are stored and fresh.
    fn stored_fragments(
        &self,
        page: &Page<'_>,
        place: Place<'_>,
        body: &StoredBody,
    ) -> Option<Vec<Joined>> {
        let include = |piece: Piece<'_>| match piece {
            Piece::Include(include) => Some(self.stored_fragment(page, place, &include.source)),
            Piece::Literal(_) => None,
        };
        body.pieces().filter_map(include).collect()
    }

    fn stored_fragment(&self, page: &Page<'_>, place: Place<'_>, source: &[u8]) -> Option<Joined> {
        let esi = &page.rules.settings.esi;
        page.includes.set(page.includes.get() + 1);
        if place.depth >= esi.depth_max || page.includes.get() > esi.total_max {
            return None;
        }
        let target = esi::resolve(source, page.url_of(place)).ok()?;
        let plan = page.rules.policy.plan_fragment(page.request, &target, page.client);
        let Plan::Lookup(plan) = plan else { return None };
        let Found::Fresh(entry) = self.parts.store.lookup(&plan.key, page.now) else {
            return None;
        };
        let is_usable = entry.status() == StatusCode::OK && !entry.is_coded();
        if plan.force || !is_usable || self.doubts(&entry, page.now) {
            return None;
        }
        let place = Place { target: &target, depth: place.depth + 1 };
        let fragments = self.stored_fragments(page, place, entry.body())?;
        Some(join(entry.body(), fragments))
    }
}

impl<'a> Page<'a> {
    fn new(request: &'a Request, client: &'a Client, rules: &'a Rules, now: Moment) -> Self {
        Self { request, client, rules, now, includes: Cell::new(0) }
    }

    fn url_of(&self, place: Place<'a>) -> PageUrl<'a> {
        PageUrl { authority: &self.request.authority, target: place.target }
    }
}
