//! Fetches from the origin: for everybody (a fill), or for one client (a pass).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::answer::{failure, spool_failure, takes_esi};
use super::lookup::Stale;
use super::nobody::Session;
use super::partial::completed;
use super::prepare::{Decoded, decoded, prepared};
use super::turn::{NotFetched, Turn};
use super::validate::Destination;
use super::visit::Visit;
use super::{Node, Outcome, Rules};
use crate::admission::{Followers, Ticket};
use crate::body::{Body, BodyError, Spooled};
use crate::exchange::Beside;
use crate::fields::Fields;
use crate::fill::{FillPermit, FillSharing, Release, Shared, SharedHead};
use crate::observe::Verdict;
use crate::origin::OriginResponse;
use crate::policy::completion::{is_ranged, rest_of};
use crate::policy::validation::conditions;
use crate::policy::{Delivery, Judgement, LookupPlan, OriginHead, Purpose, Storable};
use crate::reason::Reason;
use crate::sessions::gate::{Kind, Pass};
use crate::store::Entry;

/// What the request that leads a fill gets.
pub(super) enum LeaderAnswer {
    /// The response, shared with everybody.
    Shared {
        /// What arrives.
        shared: Arc<Shared>,
        /// The cookies that are for the leader alone, where `site.cookies_to_fetcher` says so.
        cookies: Fields,
    },
    /// The response, for this client alone.
    Private {
        /// As the origin sent it.
        response: OriginResponse,
        /// Why it is not shared.
        reason: Reason,
    },
    /// The node that owns the key had it; it is stored here now.
    Borrowed(Arc<Entry>),
    /// It is not its turn in its session, and a fill that others may join does not wait for that.
    MustWait(Box<LookupPlan>),
    /// What is stored is still right; this is it, with its fields brought up to date.
    Validated(Arc<Entry>),
    /// There is none that may be given out.
    Failed {
        /// Why.
        reason: Reason,
        /// The status where nothing stale is there.
        status: StatusCode,
    },
}

/// Everything a fill carries from its start to its end.
pub(super) struct FillTask {
    pub(super) visit: Arc<Visit>,
    pub(super) plan: LookupPlan,
    pub(super) permit: FillPermit,
    /// What is stored: it is validated where that is possible, and a failing origin does not
    /// replace it.
    pub(super) stale: Option<Stale>,
    /// A background refresh's place, given back at the end.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// May the node that owns the key be asked first?
    pub(super) abroad: Abroad,
    /// Its turn in its session, where it has waited for that.
    pub(super) turn: Option<Pass>,
    /// Does the client whose request it is wait for it?
    pub(super) hints: Hints,
}

/// Whether another node may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abroad {
    /// It may.
    Allowed,
    /// Another node has asked this one, the response is not one to be stored, or somebody wants
    /// it to come from the origin.
    Forbidden,
}

/// How PHP is asked.
pub(super) struct Asking {
    pub(super) hints: Hints,
    pub(super) session: Session,
    /// How it comes to its turn in its session.
    pub(super) turn: Turn,
    /// Who waits for the response besides the client whose request it is.
    pub(super) followers: Option<Followers>,
    /// And how urgent it is to them.
    pub(super) urgency: Option<Followers>,
}

impl Asking {
    /// `elsewhere`: how many wait for it at the node that asks for it.
    fn of_fill(
        permit: &FillPermit,
        hints: Hints,
        session: Session,
        turn: Option<Pass>,
        elsewhere: usize,
    ) -> Self {
        let is_shared = permit.can_be_joined();
        let followers = || -> Followers {
            let here = permit.followers();
            if elsewhere == 0 { here } else { Arc::new(move || here().saturating_add(elsewhere)) }
        };
        Self {
            hints,
            session,
            turn: Turn::of_fill(turn),
            followers: is_shared.then(followers),
            urgency: is_shared.then(|| permit.urgency()),
        }
    }
}

/// Who gets the origin's interim responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hints {
    /// The client whose request fetches.
    ToClient,
    /// Nobody: it has its response already.
    Unwanted,
}

/// What is stored when the origin is asked.
#[derive(Clone, Copy)]
pub(super) enum Prior<'a> {
    /// Nothing of use.
    Nothing,
    /// A response that may still be right.
    Whole(&'a Entry),
    /// The first bytes.
    Beginning(&'a Entry, &'a Bytes),
}

impl Node {
    /// Starts a fill which goes on whether or not its leader stays.
    pub(super) fn spawn_fill(&self, task: FillTask) -> oneshot::Receiver<LeaderAnswer> {
        let (answer, answered) = oneshot::channel();
        let node = self.clone();
        tokio::spawn(async move { node.fill(task, answer).await });
        answered
    }

    async fn fill(&self, task: FillTask, answer: oneshot::Sender<LeaderAnswer>) {
        let Some((task, mut answer)) = self.borrow_first(task, answer).await else { return };
        let FillTask { visit, plan, mut permit, stale, place: _held, turn, hints, .. } = task;
        let stored = stale.as_ref().map(|stale| &stale.entry);
        let validated = stored.filter(|entry| entry.has_validation());
        let asked = validated.map_or(Prior::Nothing, |entry| Prior::Whole(entry));
        let for_one = !permit.can_be_joined();
        let session = self.fill_session(&visit, &plan, &permit, stored.is_some());
        let elsewhere = visit.wanted.as_ref().map_or(0, |wanted| wanted.followers.into());
        let asking = Asking::of_fill(&permit, hints, session, turn, elsewhere);
        let response = tokio::select! {
            response = self.ask_or_complete(&visit, &plan, asked, asking) => response,
            // What is likely uncacheable ends with the one who waits for it.
            () = answer.closed(), if for_one => return,
        };
        let response = match response {
            Ok(response) => response,
            Err(NotFetched::MustWait) => return must_wait(permit, answer, plan),
            Err(error) => {
                self.put_off_refresh(&visit, stored);
                return fail(permit, answer, error.reason(), error.status());
            }
        };
        if let Some(entry) = validated.filter(|_| response.status == StatusCode::NOT_MODIFIED) {
            return self.validated(&visit, &plan, permit, entry, &response.fields, answer);
        }
        let has_stale = stale.as_ref().is_some_and(|stale| stale.for_error);
        match self.judge(&visit, &plan, &response) {
            Judgement::Store(storable) => {
                let response = self.for_all(&plan, session, response);
                let (status, fields) = (response.status, &response.fields);
                let replaces = stored.cloned();
                let destination = Destination {
                    replaces,
                    ..Destination::of(&visit, &plan, status, fields, &storable)
                };
                match decoded(&visit, response).await {
                    Decoded::Ready(response) => {
                        // Before the key is announced, or its next request would lead a fetch too.
                        permit.stand_for(&destination.key);
                        if let Some(vary) = storable.vary() {
                            self.parts.store.announce(&plan.key, vary);
                        }
                        let (status, fields) = (response.status, &response.fields);
                        self.announce_beginning(&plan, &destination.key, status, fields);
                        self.share_and_store(
                            &visit,
                            permit,
                            response,
                            storable,
                            destination,
                            answer,
                        )
                        .await;
                    }
                    Decoded::Undecodable(response) => {
                        let remember = visit.rules.settings.site.hit_for_miss;
                        let reason = Reason::ContentEncoding;
                        self.keep_private(permit, response, (reason, remember), answer);
                    }
                }
            }
            Judgement::Uncacheable { .. } if has_stale && response.status.is_server_error() => {
                self.put_off_refresh(&visit, stored);
                fail(permit, answer, Reason::Status, response.status);
            }
            Judgement::Uncacheable { reason, remember } => {
                let (told, why) = ((session, response), (reason, remember));
                self.give_to_one(&visit, &plan, permit, told, why, answer).await;
            }
        }
    }

    /// A fetch brought nothing: what is stored is not refreshed in the background for a while, so
    /// that an origin in trouble is not asked by each hit.
    fn put_off_refresh(&self, visit: &Visit, stored: Option<&Arc<Entry>>) {
        if let Some(stored) = stored {
            let pause = visit.rules.settings.fill.refresh_pause;
            stored.put_off_refresh(self.parts.clock.now().plus(pause));
        }
    }

    /// The response is the leader's alone, for a reason that is remembered for some time.
    pub(super) fn keep_private(
        &self,
        permit: FillPermit,
        response: OriginResponse,
        (reason, remember): (Reason, Duration),
        answer: oneshot::Sender<LeaderAnswer>,
    ) {
        let store = &self.parts.store;
        store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
        permit.release(Release::Uncacheable(reason));
        drop(answer.send(LeaderAnswer::Private { response, reason }));
    }

    fn judge(&self, visit: &Visit, plan: &LookupPlan, response: &OriginResponse) -> Judgement {
        let head = OriginHead { status: response.status, fields: response.fields.clone() };
        let received = self.parts.clock.wall();
        let judgement = visit.rules.policy.judge(plan, &head, received);
        let object_max = visit.rules.settings.store.object_max_bytes;
        let too_large = response.body.len().is_some_and(|length| length > object_max);
        if too_large && matches!(judgement, Judgement::Store(_)) {
            let remember = visit.rules.settings.site.hit_for_miss;
            return Judgement::Uncacheable { reason: Reason::TooLarge, remember };
        }
        judgement
    }

    pub(super) async fn ask_origin(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        prior: Prior<'_>,
        asking: Asking,
    ) -> Result<OriginResponse, NotFetched> {
        let nothing = Spooled::default();
        let mut request = visit.for_origin(Method::GET, &plan.target, Purpose::Fill, nothing);
        self.give_session(visit, asking.session, &mut request.fields);
        if asking.hints == Hints::Unwanted {
            request.beside = Beside::default();
        }
        match prior {
            Prior::Whole(entry) => {
                let conditions = entry.validation().map(|fields| conditions(&fields));
                request.fields.extend(conditions.unwrap_or_default());
            }
            Prior::Beginning(entry, bytes) => {
                request.fields.extend(rest_of(&entry.head().to_fields(), bytes.len() as u64));
            }
            Prior::Nothing if plan.range.is_some() => {
                let asked = visit.request.fields.iter();
                request.fields.extend(asked.filter(|field| is_ranged(field)).cloned());
            }
            Prior::Nothing => {}
        }
        let ticket = self.ticket(visit, &request, asking.hints).await;
        request.ticket = Ticket { followers: asking.followers, urgency: asking.urgency, ..ticket };
        let mut response = self.fetch_in_turn(visit, request, asking.turn).await?;
        if asking.session == Session::Bots {
            visit.rules.policy.drop_session_cookies(&mut response.fields);
        }
        Ok(response)
    }

    /// Asks for the whole, or for the rest where its beginning is stored.
    async fn ask_or_complete(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        prior: Prior<'_>,
        asking: Asking,
    ) -> Result<OriginResponse, NotFetched> {
        let beginning = if matches!(prior, Prior::Nothing) { self.beginning(plan) } else { None };
        let Some((entry, bytes)) = beginning else {
            return self.ask_origin(visit, plan, prior, asking).await;
        };
        let rest = Prior::Beginning(&entry, &bytes);
        let (followers, urgency) = (asking.followers.clone(), asking.urgency.clone());
        let again = Asking { turn: Turn::IfFree, followers, urgency, ..asking };
        let response = self.ask_origin(visit, plan, rest, asking).await?;
        let is_answer = matches!(response.status.as_u16(), 206 | 416);
        if !is_answer {
            return Ok(response);
        }
        let bytes_max = visit.rules.settings.store.object_max_bytes;
        match completed(&entry, &bytes, response, bytes_max).await {
            Some(whole) => Ok(whole),
            None => self.ask_origin(visit, plan, Prior::Nothing, again).await,
        }
    }

    pub(super) async fn share_and_store(
        &self,
        visit: &Visit,
        permit: FillPermit,
        response: OriginResponse,
        storable: Storable,
        destination: Destination,
        answer: oneshot::Sender<LeaderAnswer>,
    ) {
        let rules = &visit.rules;
        let OriginResponse { status, mut fields, body, .. } = response;
        let mut cookies = rules.policy.fetcher_cookies(&fields);
        cookies.extend(fields.iter().filter(|field| storable.withholds(field)).cloned());
        fields.retain(|field| !storable.withholds(field));
        let takes_esi = takes_esi(visit, status, &fields);
        fields.remove("Content-Length");
        let fields = rules.policy.delivered(Delivery::Stored, fields);
        let length = if takes_esi { None } else { body.len() };
        let key = destination.key.clone();
        let sharing = permit.share(SharedHead { status, fields, takes_esi, storable, key }, length);
        let shared = Arc::clone(sharing.shared());
        drop(answer.send(LeaderAnswer::Shared { shared, cookies }));
        let bound = rules.settings.origin.response_memory_max_bytes;
        match take_in(body, &sharing, bound).await {
            Ok(Some(content)) => self.store(rules, sharing, content, destination).await,
            Ok(None) => {
                let remember = rules.settings.site.hit_for_miss;
                let permit = sharing.finish();
                let (store, reason) = (&self.parts.store, Reason::TooLarge);
                store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
            }
            Err(error) => {
                tracing::warn!(%error, "a response under way broke; it is not stored");
                self.put_off_refresh(visit, destination.replaces.as_ref());
                sharing.abort(error);
            }
        }
    }

    async fn store(
        &self,
        rules: &Rules,
        sharing: FillSharing,
        content: Bytes,
        destination: Destination,
    ) {
        let shared = Arc::clone(sharing.shared());
        let permit = sharing.finish();
        let (settings, head) = (&rules.settings, shared.head());
        let Some((stored_head, body)) = prepared(settings, head, content).await else {
            return;
        };
        let entry = destination.entry(head.status, stored_head, body, &head.storable);
        if let Err(reason) = self.parts.store.insert(permit.mark(), entry) {
            tracing::debug!(reason = reason.as_str(), "not stored");
            if reason == Reason::TooLarge {
                let remember = settings.site.hit_for_miss;
                let store = &self.parts.store;
                store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
            }
        }
    }

    /// A waiter that gave up fetches for itself; what it gets is not stored. `turn`: its own in its
    /// session, where it has that already; it would wait behind itself otherwise.
    pub(super) async fn fetch_unstored(
        &self,
        visit: &Arc<Visit>,
        plan: &LookupPlan,
        turn: Option<Pass>,
    ) -> Outcome {
        let reason = Reason::FillAbandoned;
        let session = self.own_session(visit);
        let turn = turn.map_or(Turn::InLine(Kind::Visitor), Turn::Has);
        let asking =
            Asking { hints: Hints::ToClient, session, turn, followers: None, urgency: None };
        match self.ask_origin(visit, plan, Prior::Nothing, asking).await {
            Ok(response) => self.deliver_private(visit, response, Verdict::Miss, reason).await,
            Err(error) => failure(error.reason(), error.status()),
        }
    }

    /// Passes a request: its content is taken in whole first, so that no worker waits for it.
    pub(super) async fn pass(&self, visit: &Arc<Visit>, body: Body, reason: Reason) -> Outcome {
        let listen = &visit.rules.settings.listen;
        let (memory_max, max) = (listen.body_memory_max_bytes, listen.body_max_bytes);
        let (memory, directory) = (&self.parts.body_memory, &listen.body_directory);
        let spooled = match Spooled::take_in(body, memory, memory_max, max, directory).await {
            Ok(spooled) => spooled,
            Err(error) => return spool_failure(&error),
        };
        if let Err(no) = self.may_ask(visit, Some(&spooled)).await {
            return self.denied(visit, &no);
        }
        let (method, target) = (visit.request.method.clone(), &visit.request.target);
        let mut request = visit.for_origin(method, target, Purpose::Pass, spooled);
        let session = self.own_session(visit);
        self.give_session(visit, session, &mut request.fields);
        request.files_alone = self.parts.maintenance.leaves_files_alone(visit, reason);
        request.ticket = self.ticket(visit, &request, Hints::ToClient).await;
        match self.fetch_in_turn(visit, request, Turn::InLine(Kind::Visitor)).await {
            Ok(mut response) => {
                if session == Session::Bots {
                    visit.rules.policy.drop_session_cookies(&mut response.fields);
                }
                self.invalidate(visit, &response).await;
                match self.store_content_of_post(visit, response).await {
                    Ok(outcome) => outcome,
                    Err(response) => {
                        self.deliver_private(visit, response, Verdict::Pass, reason).await
                    }
                }
            }
            Err(error) => failure(error.reason(), error.status()),
        }
    }
}

/// Who follows looks again, and fetches by a session that is free.
fn must_wait(permit: FillPermit, answer: oneshot::Sender<LeaderAnswer>, plan: LookupPlan) {
    permit.release(Release::MustWait);
    drop(answer.send(LeaderAnswer::MustWait(Box::new(plan))));
}

fn fail(
    permit: FillPermit,
    answer: oneshot::Sender<LeaderAnswer>,
    reason: Reason,
    status: StatusCode,
) {
    permit.release(Release::Failed { reason, status });
    drop(answer.send(LeaderAnswer::Failed { reason, status }));
}

/// Shares each piece as it arrives and keeps it; `None`: it was too large to keep. Those who read
/// it then get it whole, at the pace of the slowest.
async fn take_in(
    mut body: Body,
    sharing: &FillSharing,
    bytes_max: usize,
) -> Result<Option<Bytes>, BodyError> {
    let mut content = Some(BytesMut::new());
    while let Some(piece) = body.next().await.transpose()? {
        match &mut content {
            Some(kept) if kept.len() + piece.len() <= bytes_max => {
                kept.extend_from_slice(&piece);
                sharing.push(piece);
                continue;
            }
            Some(_) => {
                content = None;
                sharing.close();
            }
            None => {}
        }
        sharing.push_paced(piece, bytes_max).await?;
    }
    Ok(content.map(BytesMut::freeze))
}
