//! A request that may be answered from the store.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::answer::failure;
use super::fetch::{FillTask, LeaderAnswer};
use super::visit::Visit;
use super::{Node, Outcome};
use crate::fill::{FillPermit, FillWait, JoinLimits, Joined, Outcome as Waited, Release};
use crate::observe::Verdict;
use crate::policy::LookupPlan;
use crate::reason::Reason;
use crate::store::{Entry, Found, Purgeable};

/// What a miss knows about what it missed.
pub(super) struct Missed {
    /// The word for log and metrics.
    pub(super) reason: Reason,
    /// A stale response, in case the origin fails.
    pub(super) stale: Option<Arc<Entry>>,
}

/// What the store said of a request.
pub(super) enum Finding {
    /// Serve this.
    Serve {
        /// What is stored.
        entry: Arc<Entry>,
        /// Fresh, or within its grace.
        verdict: Verdict,
    },
    /// Ask the origin.
    Ask {
        /// The plan, given back.
        plan: LookupPlan,
        /// Why.
        missed: Missed,
    },
}

impl Node {
    /// Answers from the store, from a fetch that is under way, or from a new one.
    pub(super) async fn lookup(&self, visit: &Arc<Visit>, plan: LookupPlan) -> Outcome {
        match self.find(visit, plan) {
            Finding::Serve { entry, verdict } => self.deliver(visit, &entry, verdict, None).await,
            Finding::Ask { plan, missed } => self.miss(visit, plan, missed).await,
        }
    }

    /// Asks the store; starts a refresh of what is served stale.
    pub(super) fn find(&self, visit: &Arc<Visit>, plan: LookupPlan) -> Finding {
        let found = self.parts.store.lookup(&plan.key, self.parts.clock.now());
        let (reason, stale) = match found {
            Found::Fresh(entry) if plan.force => (Reason::Forced, Some(entry)),
            Found::Fresh(entry) => return Finding::Serve { entry, verdict: Verdict::Hit },
            Found::Stale { entry, .. } if plan.force => (Reason::Forced, Some(entry)),
            Found::Stale { entry, stale_for } => {
                if stale_for <= entry.grace() || !self.parts.origin.health().healthy() {
                    self.refresh(visit, plan);
                    return Finding::Serve { entry, verdict: Verdict::Grace };
                }
                (Reason::Expired, Some(entry))
            }
            Found::HitForMiss(_) => (Reason::HitForMiss, None),
            Found::Nothing(reason) => (reason, None),
        };
        Finding::Ask { plan, missed: Missed { reason, stale } }
    }

    /// Fetches, or waits for who fetches already.
    pub(super) async fn miss(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        missed: Missed,
    ) -> Outcome {
        if missed.reason == Reason::HitForMiss {
            return self.lead_alone(visit, plan, missed).await;
        }
        match self.join(visit, &plan) {
            Joined::Lead(permit) => self.lead(visit, plan, missed, permit).await,
            Joined::Follow(wait) => self.follow(visit, plan, missed, wait).await,
            Joined::Full => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                self.fail(visit, &missed, Reason::OriginBusy, status).await
            }
        }
    }

    fn join(&self, visit: &Visit, plan: &LookupPlan) -> Joined {
        let (store, fill) = (&self.parts.store, &visit.rules.settings.fill);
        let limits =
            JoinLimits { leader_timeout: fill.leader_timeout, waiters_max: fill.waiters_max };
        let now = self.parts.clock.now();
        self.parts.flights.join(&plan.key, store.mark(), now, limits, |flight| {
            let shared = flight.shared();
            let purgeable = shared.as_ref().map(|shared| {
                let storable = &shared.head().storable;
                Purgeable { key: &plan.key, tags: storable.tags(), pool: storable.pool() }
            });
            store.fenced(flight.mark(), purgeable.as_ref())
        })
    }

    async fn lead(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        missed: Missed,
        permit: FillPermit,
    ) -> Outcome {
        let patience = patience(visit, &missed);
        let (task_visit, has_stale) = (Arc::clone(visit), missed.stale.is_some());
        let answer =
            self.spawn_fill(FillTask { visit: task_visit, plan, permit, has_stale, place: None });
        let answer =
            if has_stale { tokio::time::timeout(patience, answer).await } else { Ok(answer.await) };
        match answer {
            Ok(Ok(LeaderAnswer::Shared { shared, cookies })) => {
                let mut outcome =
                    self.deliver_shared(visit, &shared, Verdict::Miss, Some(missed.reason));
                outcome.response.fields.extend(cookies);
                outcome
            }
            Ok(Ok(LeaderAnswer::Private { response, reason })) => {
                let verdict = if missed.reason == Reason::HitForMiss {
                    Verdict::HitForMiss
                } else {
                    Verdict::Miss
                };
                self.deliver_private(visit, response, verdict, reason)
            }
            Ok(Ok(LeaderAnswer::Failed { reason, status })) => {
                self.fail(visit, &missed, reason, status).await
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

    async fn follow(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        missed: Missed,
        wait: FillWait,
    ) -> Outcome {
        match wait.outcome(patience(visit, &missed)).await {
            Waited::Shared(shared) => self.deliver_shared(visit, &shared, Verdict::Hit, None),
            Waited::Released(Release::Uncacheable(reason)) => {
                self.lead_alone(visit, plan, Missed { reason, ..missed }).await
            }
            Waited::Released(Release::Failed { reason, status }) => {
                self.fail(visit, &missed, reason, status).await
            }
            Waited::TimedOut if missed.stale.is_some() => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                self.fail(visit, &missed, Reason::OriginTimeout, status).await
            }
            Waited::TimedOut => self.fetch_unstored(visit, &plan).await,
        }
    }

    /// Fetches without anybody waiting for it: responses for this key were uncacheable. If this
    /// one is cacheable again, it is stored.
    async fn lead_alone(&self, visit: &Arc<Visit>, plan: LookupPlan, missed: Missed) -> Outcome {
        let (mark, now) = (self.parts.store.mark(), self.parts.clock.now());
        let permit = self.parts.flights.alone(&plan.key, mark, now);
        self.lead(visit, plan, missed, permit).await
    }

    /// Refreshes in the background, at most `fill.refreshes_max` at once and one per key.
    fn refresh(&self, visit: &Arc<Visit>, plan: LookupPlan) {
        let Ok(place) = Arc::clone(&self.parts.refreshes).try_acquire_owned() else {
            return;
        };
        if let Joined::Lead(permit) = self.join(visit, &plan) {
            let (visit, place) = (Arc::clone(visit), Some(place));
            drop(self.spawn_fill(FillTask { visit, plan, permit, has_stale: true, place }));
        }
    }

    /// Nothing came from the origin: the stale response, if there is one, else an error.
    async fn fail(
        &self,
        visit: &Arc<Visit>,
        missed: &Missed,
        reason: Reason,
        status: StatusCode,
    ) -> Outcome {
        match &missed.stale {
            Some(entry) => self.deliver(visit, entry, Verdict::Grace, Some(reason)).await,
            None => failure(reason, status),
        }
    }
}

/// How long this request waits for somebody's fetch: not for long where it has something
/// stale to give.
fn patience(visit: &Visit, missed: &Missed) -> Duration {
    let fill = &visit.rules.settings.fill;
    if missed.stale.is_some() { fill.stale_after } else { fill.wait_timeout }
}
