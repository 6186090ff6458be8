//! One request on its way through the steps.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Method;

use super::Rules;
use super::fragments::Nesting;
use crate::admission::Ticket;
use crate::body::{Body, Spooled};
use crate::clock::Moment;
use crate::exchange::{Beside, Client, Request};
use crate::fill::Bill;
use crate::fleet::peer::message::Wanted;
use crate::origin::OriginRequest;
use crate::policy::Purpose;
use crate::traffic::Judged;

/// A request without its content, who sent it, and the rules that were in force when it came.
pub(super) struct Visit {
    pub(super) request: Request,
    pub(super) client: Client,
    pub(super) rules: Arc<Rules>,
    pub(super) started: Moment,
    /// Is it a client's request, or one for a fragment of a page?
    pub(super) nesting: Nesting,
    /// What the rules said of it; of a fragment, what they said of its page.
    pub(super) judged: Judged,
    /// Milliseconds for which it has waited for its turn in its session, and for a place in PHP.
    pub(super) queued_milliseconds: Arc<AtomicU64>,
    /// How urgently another node wants it, where that one asks and says so.
    pub(super) wanted: Option<Wanted>,
    /// Where what PHP takes is counted instead, of another node's request: it is charged there.
    pub(super) bill: Option<Bill>,
    /// Is the session that it brings none here? Looked up where a rule asks for it.
    is_stranger: OnceLock<bool>,
    /// The class in which it has asked for a place in PHP.
    class: OnceLock<Arc<str>>,
    /// A value of Set-Cookie with the way into the shop.
    kept_cookie: OnceLock<String>,
}

impl Visit {
    /// A client's request.
    pub(super) fn new(
        request: Request,
        client: Client,
        rules: Arc<Rules>,
        started: Moment,
    ) -> Self {
        let (nesting, queued_milliseconds) = (Nesting::default(), Arc::default());
        let (judged, wanted, bill, class) = (Judged::default(), None, None, OnceLock::new());
        Self {
            request,
            client,
            rules,
            started,
            nesting,
            judged,
            queued_milliseconds,
            wanted,
            bill,
            is_stranger: OnceLock::new(),
            class,
            kept_cookie: OnceLock::new(),
        }
    }

    /// Judged so by the rules.
    pub(super) fn judged(self, judged: Judged) -> Self {
        Self { judged, ..self }
    }

    /// Another node's request.
    pub(super) fn of_peer(self, wanted: Option<Wanted>, bill: Bill) -> Self {
        Self { wanted, bill: Some(bill), ..self }
    }

    /// It asks for a place in PHP in this class. What counts is the first.
    pub(super) fn note_class(&self, name: Option<&Arc<str>>) {
        if let Some(name) = name {
            let _is_known = self.class.set(Arc::clone(name));
        }
    }

    /// The session that it brings is none here, or is one. What counts is the first.
    pub(super) fn note_stranger(&self, is_one: bool) {
        let _is_known = self.is_stranger.set(is_one);
    }

    /// Is it known that the session which it brings is none here?
    pub(super) fn is_stranger(&self) -> bool {
        self.is_stranger.get().is_some_and(|is_one| *is_one)
    }

    /// Its client gets this value of Set-Cookie, which keeps it in the shop. What counts is the first.
    pub(super) fn keep_cookie(&self, cookie: String) {
        let _is_known = self.kept_cookie.set(cookie);
    }

    /// The value of Set-Cookie that keeps its client in the shop, if it gets one.
    pub(super) fn kept_cookie(&self) -> Option<&str> {
        self.kept_cookie.get().map(String::as_str)
    }

    /// The class in which it has asked for a place in PHP, if it has.
    pub(super) fn class(&self) -> Option<&Arc<str>> {
        self.class.get()
    }

    /// A fragment of this request's page, fetched for the same client.
    pub(super) fn fragment(self: &Arc<Self>, target: Bytes, started: Moment) -> Self {
        let parent = &self.request;
        let mut fields = parent.fields.clone();
        // Conditions, range, coding and content were the page's.
        fields.retain(|field| !NOT_FOR_FRAGMENTS.iter().any(|name| field.is(name)));
        let request = Request {
            method: Method::GET,
            target,
            authority: parent.authority.clone(),
            version: parent.version,
            fields,
            body: Body::empty(),
            connection: parent.connection.clone(),
            beside: Beside::default(),
        };
        let (client, rules) = (self.client.clone(), Arc::clone(&self.rules));
        let nesting = Nesting::within(self);
        let (judged, is_stranger) = (self.judged.clone(), self.is_stranger.clone());
        Self { nesting, judged, is_stranger, ..Self::new(request, client, rules, started) }
    }

    /// What the client's connection takes; fields that it may not see are left out of hints too.
    fn beside(&self) -> Beside {
        let Beside { interim, upgrade } = self.request.beside.clone();
        Beside { interim: interim.hiding(self.rules.policy.hidden_fields()), upgrade }
    }

    /// The request as the origin gets it: `target` is the plan's where there is one.
    pub(super) fn for_origin(
        &self,
        method: Method,
        target: &Bytes,
        purpose: Purpose,
        body: Spooled,
    ) -> OriginRequest {
        let policy = &self.rules.policy;
        let fields = policy.origin_request(&self.request, &self.client, target, purpose);
        // A fill's Host is the keyed one: a port that is not, must not enter the page.
        let authority = fields.first("Host").unwrap_or(&self.request.authority).clone();
        OriginRequest {
            method,
            target: target.clone(),
            authority,
            fields,
            body,
            client: self.client.clone(),
            beside: self.beside(),
            files_alone: false,
            ticket: Ticket::default(),
        }
    }
}

const NOT_FOR_FRAGMENTS: [&str; 11] = [
    "Accept-Encoding",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Expect",
];
