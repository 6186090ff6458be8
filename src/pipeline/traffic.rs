//! What the rules of `[traffic]` say of a request, before anything is asked and before PHP is.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;

use super::miss::Missed;
use super::visit::Visit;
use super::{Node, Outcome, Rules};
use crate::body::Spooled;
use crate::clock::Moment;
use crate::exchange::{Client, Request, Response};
use crate::observe::Verdict;
use crate::policy::{self, Plan};
use crate::reason::Reason;
use crate::sessions::visitors::Class;
use crate::traffic::bots::Bot;
use crate::traffic::forms;
use crate::traffic::{Asked, Declared, Denial, Judged, Knows, No, Payers};

/// Who sends a request: looked up where a rule needs it.
struct Who<'a> {
    node: &'a Node,
    rules: &'a Rules,
    request: &'a Request,
    client: &'a Client,
    is_stranger: bool,
    now: Moment,
}

impl Knows for Who<'_> {
    fn declared(&self) -> Declared {
        match self.node.bot_of(self.request, self.client, self.now) {
            Bot::No => Declared::Browser,
            Bot::Declared(_) => Declared::Unverified,
            Bot::Verified(_) => Declared::Verified,
            Bot::Impostor(_) => Declared::Impostor,
        }
    }

    fn session(&self) -> Option<Bytes> {
        policy::session_of(&self.request.fields, &self.rules.settings.sessions.cookies)
    }

    fn is_stranger(&self, _: &[u8]) -> bool {
        self.is_stranger
    }

    fn is_customer(&self, session: &[u8]) -> bool {
        let known = self.node.parts.visitors.get().and_then(|visitors| visitors.known(session));
        known.is_some_and(|visitor| visitor.class() == Class::Customer)
    }

    fn has_passed(&self) -> bool {
        let (fields, address) = (&self.request.fields, self.client.address);
        self.rules.traffic.challenge().passed(fields, address, self.node.unix_seconds())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.rules.settings.listen.trusted.contains(address)
    }

    fn strips(&self, parameter: &[u8]) -> bool {
        self.rules.policy.strips(parameter)
    }
}

impl Node {
    /// Which bot a client says that it is, and what is known of that.
    pub(super) fn bot_of(&self, request: &Request, client: &Client, now: Moment) -> Bot {
        let user_agent = request.fields.first("User-Agent");
        let user_agent = user_agent.map_or(&b""[..], |agent| &agent[..]);
        self.parts.bots.of(user_agent, client.address, now)
    }

    /// Judges a request by all that is known without waiting. Files are judged, too; purges, health checks, and who
    /// gets the shop while it is being worked on are not.
    pub(super) fn judge_request(
        &self,
        rules: &Rules,
        request: &Request,
        client: &Client,
        plan: &Plan,
        now: Moment,
    ) -> Judged {
        let allow = &rules.settings.maintenance.allow;
        let is_own = !allow.is_empty() && allow.contains(client.address) && !client.forged;
        if !plan.is_judged() || is_own || !rules.traffic.is_on() {
            return Judged::default();
        }
        let who = Who { node: self, rules, request, client, is_stranger: false, now };
        rules.traffic.judge(&Asked::new(request, client, &who), now)
    }

    /// Has `work` done with the request as rules see it.
    fn with_asked<T>(&self, visit: &Visit, work: impl FnOnce(&Asked<'_>, Moment) -> T) -> T {
        let now = self.parts.clock.now();
        let (rules, request, client) = (&*visit.rules, &visit.request, &visit.client);
        let is_stranger = visit.is_stranger();
        let who = Who { node: self, rules, request, client, is_stranger, now };
        work(&Asked::new(request, client, &who), now)
    }

    /// May PHP be asked for it? What the limits of the fleet count is counted here, `content` may name an account.
    /// Fragments are part of their page, which was judged.
    pub(super) async fn may_ask(&self, visit: &Visit, content: Option<&Spooled>) -> Result<(), No> {
        let is_free = visit.judged.goes_anywhere() || visit.nesting.is_fragment();
        if is_free || !self.parts.origin.runs(&visit.request.target) {
            return Ok(());
        }
        let traffic = &visit.rules.traffic;
        if traffic.rules().ask_for_strangers(&visit.judged) {
            self.look_for_stranger(visit).await;
        }
        let mut claims =
            self.with_asked(visit, |asked, now| traffic.before_php(&visit.judged, asked, now))?;
        if claims.iter().any(|claim| traffic.reads(claim)) {
            let whole = match content {
                Some(content) => content.whole(forms::CONTENT_MAX_BYTES).await.ok().flatten(),
                None => Some(Bytes::new()),
            };
            let content_type = visit.request.fields.first("Content-Type").map(|value| &value[..]);
            traffic.read(&mut claims, content_type, whole.as_deref());
        }
        let (nodes, now) = (self.parts.fleet.nodes(), self.parts.clock.now());
        let refused = traffic.claim(&claims, nodes, now).await;
        if refused.is_empty() {
            return Ok(());
        }
        let no = self.with_asked(visit, |asked, _| {
            let mut refused = refused.into_iter();
            refused.find_map(|(place, again)| traffic.rules().used_up(place, asked, again, false))
        });
        no.map_or(Ok(()), Err)
    }

    /// Finds out whether the session that a request brings is one. All that goes to PHP has its session looked at in any
    /// case, to be counted: this is the same question to Redis. What cannot be told in time is no stranger's.
    async fn look_for_stranger(&self, visit: &Visit) {
        let cookies = &visit.rules.settings.sessions.cookies;
        let session = policy::session_of(&visit.request.fields, cookies);
        if let (Some(session), Some(visitors)) = (session, self.parts.visitors.get()) {
            visit.note_stranger(visitors.of(&session).await.class() == Class::New);
        }
    }

    /// May PHP be asked for a refresh of what it is given stale?
    pub(super) fn may_refresh(&self, visit: &Visit) -> bool {
        let traffic = &visit.rules.traffic;
        visit.judged.goes_anywhere()
            || self.with_asked(visit, |asked, now| traffic.may_refresh(&visit.judged, asked, now))
    }

    /// In place of what PHP was not asked for: what is stored, if the rule says so and there is any.
    pub(super) async fn not_asked(&self, visit: &Arc<Visit>, missed: &Missed, no: &No) -> Outcome {
        match (no.denial, missed.for_failure()) {
            (Denial::Stored(_), Some(entry)) => {
                let reason = Some(no.reason());
                let mut outcome = self.deliver(visit, entry, Verdict::Grace, reason).await;
                outcome.rule = Some(Arc::clone(&no.rule));
                outcome
            }
            _ => self.denied(visit, no),
        }
    }

    /// What a client gets by a rule's no.
    pub(super) fn denied(&self, visit: &Visit, no: &No) -> Outcome {
        let reason = Some(no.reason());
        self.warn_of_proxy(visit, no);
        let mut outcome = match no.denial {
            Denial::Challenge => {
                let (challenge, address) = (visit.rules.traffic.challenge(), visit.client.address);
                let page = challenge.page(&visit.request, address, self.unix_seconds());
                Outcome::new(page, Verdict::Refused, reason)
            }
            Denial::Refused => refusal(StatusCode::FORBIDDEN, None, reason),
            Denial::Wait(again) | Denial::Stored(Some(again)) => {
                refusal(StatusCode::TOO_MANY_REQUESTS, Some(again), reason)
            }
            Denial::Stored(None) => {
                let again = visit.rules.settings.error_pages.retry_after;
                refusal(StatusCode::TOO_MANY_REQUESTS, Some(again), reason)
            }
        };
        outcome.rule = Some(Arc::clone(&no.rule));
        outcome
    }

    /// Says once of an address that is limited and names many others that it may be a proxy's.
    fn warn_of_proxy(&self, visit: &Visit, no: &No) {
        let (request, client) = (&visit.request, &visit.client);
        if no.denial == Denial::Refused {
            return;
        }
        let Some(other) = policy::client::hearsay(request, client) else { return };
        if self.parts.kept_traffic.proxies().names_many(client.address, other) {
            tracing::warn!(
                address = %client.address,
                rule = %no.rule,
                "a rule turns away requests of an address that is not in listen.trusted and names many others in \
                 X-Forwarded-For; if that is your CDN or load balancer, all its visitors count as one: add its networks"
            );
        }
    }

    /// Charges PHP's time from here on until it is dropped, without what the request waits for a place.
    pub(super) fn charging<'a>(&'a self, visit: &'a Visit) -> Charging<'a> {
        let queued_milliseconds = visit.queued_milliseconds.load(Ordering::Relaxed);
        let payers = visit.rules.traffic.deposit(self.payers(visit), self.parts.clock.now());
        let began = self.parts.clock.now();
        Charging { node: self, visit, began, queued_milliseconds, payers }
    }

    /// Whom PHP's time is charged that begins now.
    pub(super) fn payers(&self, visit: &Visit) -> Payers {
        if visit.judged.has_matched_none() {
            return Payers::default();
        }
        self.with_asked(visit, |asked, _| visit.rules.traffic.payers(&visit.judged, asked))
    }

    /// Charges what PHP took for a request; of another node's it is put on the bill that this one gets.
    pub(super) fn charge(&self, visit: &Visit, payers: &Payers, php: Duration) {
        if let Some(bill) = &visit.bill {
            self.parts.kept_traffic.for_peers().took(php);
            let milliseconds = u64::try_from(php.as_millis()).unwrap_or(u64::MAX).max(1);
            bill.fetch_add(milliseconds, Ordering::Relaxed);
            return;
        }
        visit.rules.traffic.charge(payers, php, self.parts.clock.now());
    }

    pub(super) fn unix_seconds(&self) -> u64 {
        let since = self.parts.clock.wall_roughly().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }
}

fn refusal(status: StatusCode, again: Option<Duration>, reason: Option<Reason>) -> Outcome {
    let mut response = Response::text(status, format!("{status}\n"));
    response.fields.push_static("Cache-Control", "no-store");
    if let Some(again) = again {
        let up = u64::from(again.subsec_nanos() > 0);
        let seconds = again.as_secs().saturating_add(up).max(1);
        response.fields.push_static("Retry-After", seconds.to_string());
    }
    Outcome::new(response, Verdict::Refused, reason)
}

/// PHP works for a request until its response's head is there, or nobody wants it any more.
pub(super) struct Charging<'a> {
    node: &'a Node,
    visit: &'a Visit,
    began: Moment,
    queued_milliseconds: u64,
    payers: Payers,
}

impl Drop for Charging<'_> {
    fn drop(&mut self) {
        let visit = self.visit;
        if visit.judged.has_matched_none() && visit.bill.is_none() {
            return;
        }
        let waited = visit.queued_milliseconds.load(Ordering::Relaxed);
        let waited = Duration::from_millis(waited.saturating_sub(self.queued_milliseconds));
        let php = self.node.parts.clock.now().since(self.began).saturating_sub(waited);
        self.node.charge(visit, &self.payers, php);
    }
}
