//! A request that the store does not answer: it leads a fetch, or waits for who does already.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::answer::failure;
use super::fetch::{Abroad, FillTask, Hints, LeaderAnswer};
use super::lookup::{Finding, Stale};
use super::visit::Visit;
use super::{Fetch, Node, Outcome};
use crate::fill::{FillPermit, FillWait, JoinLimits, Joined, Outcome as Waited, Release, Shared};
use crate::observe::Verdict;
use crate::policy::{CacheKey, LookupPlan};
use crate::reason::Reason;
use crate::sessions::gate::{Kind, Pass};
use crate::store::{Entry, Found, Purgeable};

/// How often a request looks again, after what it waited for turned out to be another's variant or
/// to have been validated.
const LOOKS_MAX: usize = 3;

/// What a miss knows about what it missed.
pub(super) struct Missed {
    /// The word for log and metrics.
    pub(super) reason: Reason,
    /// What is stored and may not be served as it is.
    pub(super) stale: Option<Stale>,
    /// What is to be fetched: the primary key, that of the variant which the request selects, or
    /// that of its range.
    pub(super) key: CacheKey,
    /// How often the request has looked already.
    pub(super) looks: usize,
    /// How long it has waited for others' fetches.
    pub(super) followed: Duration,
    /// Its turn in its session, where it has waited for that.
    pub(super) turn: Option<Pass>,
}

impl Missed {
    /// What may be served where the origin cannot be reached.
    pub(super) fn for_failure(&self) -> Option<&Arc<Entry>> {
        self.stale.as_ref().filter(|stale| stale.for_failure).map(|stale| &stale.entry)
    }
}

impl Node {
    /// Fetches, or waits for who fetches already.
    pub(super) async fn miss(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        missed: Missed,
    ) -> Outcome {
        if plan.only_if_cached {
            return failure(missed.reason, StatusCode::GATEWAY_TIMEOUT);
        }
        // Who forces a fetch does not mean one that is under way already.
        if missed.reason == Reason::HitForMiss || plan.force {
            return self.lead_alone(visit, plan, missed).await;
        }
        match self.join(visit, &missed.key) {
            Joined::Lead(permit) => match self.landed_since(visit, &plan, missed.stale.as_ref()) {
                Some(entry) => {
                    permit.release(Release::Validated);
                    self.deliver(visit, &entry, Verdict::Hit, None).await
                }
                None => self.lead(visit, plan, missed, permit, Abroad::Allowed).await,
            },
            // Who waits for another's fetch is in nobody's way in its session.
            Joined::Follow(wait) => {
                self.follow(visit, plan, Missed { turn: None, ..missed }, wait).await
            }
            Joined::Full => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                self.fail(visit, &missed, Reason::OriginBusy, status).await
            }
        }
    }

    pub(super) fn join(&self, visit: &Visit, key: &CacheKey) -> Joined {
        let (store, fill) = (&self.parts.store, &visit.rules.settings.fill);
        let limits =
            JoinLimits { leader_timeout: fill.leader_timeout, waiters_max: fill.waiters_max };
        let now = self.parts.clock.now();
        self.parts.flights.join(key, store.mark(), now, limits, |flight| {
            let shared = flight.shared();
            let purgeable = shared.as_ref().map(|shared| {
                let storable = &shared.head().storable;
                Purgeable { key, tags: storable.tags(), pool: storable.pool() }
            });
            store.fenced(flight.mark(), purgeable.as_ref())
        })
    }

    /// What a fetch has stored that ended after this request had looked and before it joined. `stale`:
    /// what it saw, and must not have.
    pub(super) fn landed_since(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        stale: Option<&Stale>,
    ) -> Option<Arc<Entry>> {
        let Found::Fresh(entry) = self.look_now(visit, plan).found else { return None };
        let is_known = stale.is_some_and(|stale| Arc::ptr_eq(&stale.entry, &entry));
        (!is_known && !self.doubts(&entry, self.parts.clock.now())).then_some(entry)
    }

    async fn lead(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        mut missed: Missed,
        permit: FillPermit,
        abroad: Abroad,
    ) -> Outcome {
        if self.has_stale_and_no_place(visit, &plan, &missed) {
            self.refresh_when_there_is_a_place(visit, plan, &mut missed, permit, abroad);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return self.fail(visit, &missed, Reason::OriginBusy, status).await;
        }
        let patience = patience(visit, &missed);
        let (task_visit, stale) = (Arc::clone(visit), missed.stale.clone());
        let (place, turn) = (None, missed.turn.take());
        let answer = self.spawn_fill(FillTask {
            visit: task_visit,
            plan,
            permit,
            stale,
            place,
            abroad,
            turn,
            hints: Hints::ToClient,
        });
        let answer = if missed.for_failure().is_some() {
            tokio::time::timeout(patience, answer).await
        } else {
            Ok(answer.await)
        };
        match answer {
            Ok(Ok(LeaderAnswer::Shared { shared, cookies })) => {
                let mut outcome =
                    self.deliver_shared(visit, &shared, Verdict::Miss, Some(missed.reason));
                outcome.response.fields.extend(cookies);
                outcome
            }
            Ok(Ok(LeaderAnswer::Validated(entry))) => {
                let reason = Some(missed.reason);
                let mut outcome = self.deliver(visit, &entry, Verdict::Miss, reason).await;
                (outcome.stored, outcome.fetch) = (true, Fetch::Validated);
                outcome
            }
            Ok(Ok(LeaderAnswer::Borrowed(entry))) => {
                let reason = Some(missed.reason);
                let mut outcome = self.deliver(visit, &entry, Verdict::Miss, reason).await;
                outcome.stored = true;
                outcome
            }
            Ok(Ok(LeaderAnswer::Private { response, reason })) => {
                let verdict = if missed.reason == Reason::HitForMiss {
                    Verdict::HitForMiss
                } else {
                    Verdict::Miss
                };
                self.deliver_private(visit, response, verdict, reason).await
            }
            Ok(Ok(LeaderAnswer::Failed { reason, status })) => {
                self.fail(visit, &missed, reason, status).await
            }
            Ok(Ok(LeaderAnswer::MustWait(plan))) => {
                let kind = if abroad == Abroad::Allowed { Kind::Fill } else { Kind::Visitor };
                self.lead_in_turn(visit, *plan, missed, kind).await
            }
            Ok(Err(_lost)) => {
                let status = StatusCode::BAD_GATEWAY;
                self.fail(visit, &missed, Reason::FillAbandoned, status).await
            }
            Err(_elapsed) => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                self.fail(visit, &missed, Reason::OriginTimeout, status).await
            }
        }
    }

    /// Waits for the request's turn in its session, and then fetches if that is still needed.
    async fn lead_in_turn(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        missed: Missed,
        kind: Kind,
    ) -> Outcome {
        let turn = self.turn_of_fill(visit, &plan, kind);
        let turn = if missed.for_failure().is_some() {
            tokio::time::timeout(patience(visit, &missed), turn).await
        } else {
            Ok(turn.await)
        };
        let (reason, status) = match turn {
            Ok(Ok(turn)) => {
                let missed = Missed { looks: missed.looks + 1, turn, ..missed };
                return self.look_again(visit, plan, missed).await;
            }
            Ok(Err(refused)) => (refused.reason(), refused.status()),
            Err(_elapsed) => (Reason::SessionBusy, StatusCode::SERVICE_UNAVAILABLE),
        };
        self.fail(visit, &missed, reason, status).await
    }

    async fn follow(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        mut missed: Missed,
        wait: FillWait,
    ) -> Outcome {
        if self.has_stale_and_no_place(visit, &plan, &missed) {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return self.fail(visit, &missed, Reason::OriginBusy, status).await;
        }
        let began = self.parts.clock.now();
        let left = patience(visit, &missed).saturating_sub(missed.followed);
        let waited = self.wait_for(visit, &plan, wait, left).await;
        missed.followed += self.parts.clock.now().since(began);
        match waited {
            Waited::Shared(shared) if shared.head().storable.ttl().is_zero() => {
                // It may be used again only once the origin has said so (RFC 9111 4).
                let reason = Reason::NoLifetime;
                self.lead_alone(visit, plan, Missed { reason, ..missed }).await
            }
            Waited::Shared(shared) if is_for(visit, &plan, &shared) => {
                let mut outcome = self.deliver_shared(visit, &shared, Verdict::Hit, None);
                outcome.fetch = Fetch::Collapsed;
                outcome
            }
            Waited::Shared(_) | Waited::Released(Release::Validated) => {
                let missed = Missed { looks: missed.looks + 1, ..missed };
                self.look_again(visit, plan, missed).await
            }
            // It does not count: however many leaders' sessions are busy, who follows must not ask PHP
            // all at once. Each of them leads once, and all of it is within the wait.
            Waited::Released(Release::MustWait) => self.look_again(visit, plan, missed).await,
            Waited::Released(Release::Uncacheable(reason)) => {
                self.lead_alone(visit, plan, Missed { reason, ..missed }).await
            }
            // Its leader's seat was worse than its own may be, or it has waited for longer.
            Waited::Released(Release::Failed { reason, .. })
                if reason.is_of_queue() && missed.looks < LOOKS_MAX =>
            {
                let missed = Missed { looks: missed.looks + 1, ..missed };
                self.look_again(visit, plan, missed).await
            }
            Waited::Released(Release::Failed { reason, status }) => {
                self.fail(visit, &missed, reason, status).await
            }
            Waited::TimedOut if missed.for_failure().is_some() => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                self.fail(visit, &missed, Reason::OriginTimeout, status).await
            }
            Waited::TimedOut => self.fetch_unstored(visit, &plan, None).await,
        }
    }

    /// Waits for another's fetch, and says how urgently it is wanted: as by anybody, and as by this visitor once it is
    /// known who that is.
    async fn wait_for(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        wait: FillWait,
        patience: Duration,
    ) -> Waited {
        wait.want(self.wants(visit, plan));
        let lifts = async {
            wait.want(self.wants_as_visitor(visit, plan).await);
            std::future::pending().await
        };
        tokio::select! {
            biased;
            waited = wait.outcome(patience) => waited,
            never = lifts => never,
        }
    }

    /// What was waited for is another variant, or stored by now, or was not asked for. Boxed, since it goes in circles,
    /// though not for long.
    fn look_again<'a>(
        &'a self,
        visit: &'a Arc<Visit>,
        plan: LookupPlan,
        before: Missed,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let Missed { looks, followed, turn, .. } = before;
            match self.find(visit, plan) {
                Finding::Serve { entry, verdict, reason } => {
                    self.deliver(visit, &entry, verdict, reason).await
                }
                Finding::Ask { plan, .. } if looks > LOOKS_MAX => {
                    self.fetch_unstored(visit, &plan, turn).await
                }
                Finding::Ask { plan, missed } => {
                    self.miss(visit, plan, Missed { looks, followed, turn, ..missed }).await
                }
            }
        })
    }

    /// Fetches without anybody waiting for it: responses for this key were uncacheable. If this
    /// one is cacheable again, it is stored.
    async fn lead_alone(&self, visit: &Arc<Visit>, plan: LookupPlan, missed: Missed) -> Outcome {
        let (mark, now) = (self.parts.store.mark(), self.parts.clock.now());
        let permit = self.parts.flights.alone(&missed.key, mark, now);
        self.lead(visit, plan, missed, permit, Abroad::Forbidden).await
    }

    /// Nothing came from the origin: the stale response, if there is one, else an error.
    async fn fail(
        &self,
        visit: &Arc<Visit>,
        missed: &Missed,
        reason: Reason,
        status: StatusCode,
    ) -> Outcome {
        match missed.for_failure() {
            Some(entry) => self.deliver(visit, entry, Verdict::Grace, Some(reason)).await,
            None if missed.reason == Reason::Unproven => {
                failure(Reason::Unproven, StatusCode::SERVICE_UNAVAILABLE)
            }
            None => failure(reason, status),
        }
    }
}

/// How long this request waits for somebody's fetch: not for long where it has something
/// stale to give.
fn patience(visit: &Visit, missed: &Missed) -> Duration {
    let fill = &visit.rules.settings.fill;
    if missed.for_failure().is_some() { fill.stale_after } else { fill.wait_timeout }
}

/// Is a response that others share the variant which this request selects?
fn is_for(visit: &Visit, plan: &LookupPlan, shared: &Shared) -> bool {
    let head = shared.head();
    head.storable.vary().is_none_or(|vary| vary.key(&plan.key, &visit.request.fields) == head.key)
}
