//! A request that may be answered from the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::fetch::{Abroad, FillTask, Hints};
use super::miss::Missed;
use super::visit::Visit;
use super::{Node, Outcome};
use crate::clock::Moment;
use crate::fields::Fields;
use crate::fill::{Joined, Release};
use crate::observe::Verdict;
use crate::policy::{CacheKey, LookupPlan};
use crate::reason::Reason;
use crate::store::{Entry, Found};

/// A stored response that is to be fetched anew or validated.
#[derive(Clone)]
pub(super) struct Stale {
    /// The response.
    pub(super) entry: Arc<Entry>,
    /// May it be served where the origin cannot be reached (RFC 9111 4.2.4)?
    pub(super) for_failure: bool,
    /// May it be served where the origin answers with an error (RFC 5861 4)?
    pub(super) for_error: bool,
}

impl Stale {
    pub(super) fn new(entry: Arc<Entry>, stale_for: Duration) -> Self {
        let for_error = stale_for < entry.stale_if_error();
        Self { for_failure: entry.stale_if_disconnected(), for_error, entry }
    }

    /// Somebody asked for a fetch though it is fresh: it serves where that brings nothing.
    fn fresh(entry: Arc<Entry>) -> Self {
        Self { entry, for_failure: true, for_error: true }
    }

    /// It may have been purged, and nobody is to get it (`fleet.strict`).
    fn unproven(entry: Arc<Entry>) -> Self {
        Self { entry, for_failure: false, for_error: false }
    }
}

/// What the store said of a request.
pub(super) struct Looked {
    pub(super) found: Found,
    /// The key to fetch, where that is another than the primary one.
    key: Option<CacheKey>,
}

impl Looked {
    /// What is to be fetched of a plan, and what is stored of it.
    pub(super) fn into_fill(self, plan: &LookupPlan) -> (CacheKey, Option<Stale>) {
        let stale = match self.found {
            Found::Fresh(entry) => Some(Stale::fresh(entry)),
            Found::Stale { entry, stale_for } => Some(Stale::new(entry, stale_for)),
            Found::HitForMiss(_) | Found::Nothing(_) => None,
        };
        let of_stale = || stale.as_ref().map(|stale| stale.entry.key().clone());
        let key = self.key.or_else(of_stale).unwrap_or_else(|| plan.key.clone());
        (key, stale)
    }
}

/// What is to be done about a request.
#[expect(clippy::large_enum_variant, reason = "it stands on the stack for a moment")]
pub(super) enum Finding {
    /// Serve this.
    Serve {
        /// What is stored.
        entry: Arc<Entry>,
        /// Fresh, or within its grace.
        verdict: Verdict,
        /// Why it is not served as fresh, where that is not its age.
        reason: Option<Reason>,
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
    pub(super) async fn lookup(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        looked: Option<Looked>,
    ) -> Outcome {
        let is_all_kept = self.keeps_hits_back();
        if is_all_kept && let Some(page) = self.waits(visit).await {
            return page;
        }
        let looked = looked.unwrap_or_else(|| self.look_now(visit, &plan));
        match self.judge_found(visit, plan, looked) {
            Finding::Serve { entry, verdict, reason } => {
                self.deliver(visit, &entry, verdict, reason).await
            }
            Finding::Ask { plan, missed } => {
                if !is_all_kept && let Some(page) = self.waits(visit).await {
                    return page;
                }
                match self.may_ask(visit, None).await {
                    Ok(()) => self.miss(visit, plan, missed).await,
                    Err(no) => self.not_asked(visit, &missed, &no).await,
                }
            }
        }
    }

    /// Asks the store and judges what it says.
    pub(super) fn find(&self, visit: &Arc<Visit>, plan: LookupPlan) -> Finding {
        let looked = self.look_now(visit, &plan);
        self.judge_found(visit, plan, looked)
    }

    pub(super) fn look_now(&self, visit: &Visit, plan: &LookupPlan) -> Looked {
        self.look(&visit.request.fields, plan, self.parts.clock.now())
    }

    /// Asks the store alone. `fields`: the request's, which select a variant.
    pub(super) fn look(&self, fields: &Fields, plan: &LookupPlan, now: Moment) -> Looked {
        let found = self.parts.store.lookup(&plan.key, now);
        match found {
            Found::Fresh(_) | Found::Stale { .. } => Looked { found, key: None },
            Found::HitForMiss(_) | Found::Nothing(_) => self.select(fields, plan, found, now),
        }
    }

    /// What is to be done about what the store said; starts a refresh of what is served stale.
    fn judge_found(&self, visit: &Arc<Visit>, plan: LookupPlan, looked: Looked) -> Finding {
        let Looked { found, key } = looked;
        let (reason, stale) = match found {
            Found::Fresh(entry) if plan.force => (Reason::Forced, Some(Stale::fresh(entry))),
            Found::Fresh(entry) if !self.doubts(&entry, self.parts.clock.now()) => {
                return Finding::Serve { entry, verdict: Verdict::Hit, reason: None };
            }
            Found::Fresh(entry) if self.parts.fleet.trust().is_strict() => {
                (Reason::Unproven, Some(Stale::unproven(entry)))
            }
            Found::Fresh(entry) => {
                self.refresh(visit, plan, Stale::fresh(Arc::clone(&entry)));
                let reason = Some(Reason::Unproven);
                return Finding::Serve { entry, verdict: Verdict::Grace, reason };
            }
            Found::Stale { entry, .. } if self.is_strictly_soft(&entry) => {
                (Reason::Unproven, Some(Stale::unproven(entry)))
            }
            Found::Stale { entry, stale_for } => {
                let stale = Stale::new(entry, stale_for);
                if self.serves(&stale, stale_for) && !plan.force {
                    self.refresh(visit, plan, stale.clone());
                    let verdict = Verdict::Grace;
                    return Finding::Serve { entry: stale.entry, verdict, reason: None };
                }
                (if plan.force { Reason::Forced } else { Reason::Expired }, Some(stale))
            }
            Found::HitForMiss(_) => (Reason::HitForMiss, None),
            Found::Nothing(reason) => (reason, None),
        };
        let key = key.or_else(|| stale.as_ref().map(|stale| stale.entry.key()));
        let key = key.unwrap_or_else(|| plan.key.clone());
        let plan = LookupPlan { range: plan.range.filter(|range| *range == key), ..plan };
        let (looks, followed, turn) = (0, Duration::ZERO, None);
        Finding::Ask { plan, missed: Missed { reason, stale, key, looks, followed, turn } }
    }

    /// Nothing stands under the primary key: looks for the variant that the request selects, then
    /// for the range that it asks for.
    fn select(&self, fields: &Fields, plan: &LookupPlan, found: Found, now: Moment) -> Looked {
        let store = &self.parts.store;
        let mut selected = Looked { found, key: None };
        if let Some(variants) = store.variants(&plan.key) {
            // The newest rule's is the one to fetch where none is stored.
            let (mut first, mut stale) = (None, None);
            for key in variants.candidates(&plan.key, fields) {
                let found = store.lookup(&key, now);
                let kind = match found {
                    Found::Fresh(_) => return Looked { found, key: Some(key) },
                    Found::Stale { .. } => &mut stale,
                    Found::HitForMiss(_) | Found::Nothing(_) => &mut first,
                };
                kind.get_or_insert(Looked { found, key: Some(key) });
            }
            if let Some(stale) = stale {
                return stale;
            }
            selected = first.unwrap_or(selected);
        }
        match &plan.range {
            Some(range) => Looked { found: store.lookup(range, now), key: Some(range.clone()) },
            None => selected,
        }
    }

    /// Refreshes in the background, at most `fill.refreshes_max` at once and one per key; after one
    /// that failed the next begins `fill.refresh_pause` later. False: this visit begins none.
    pub(super) fn refresh(&self, visit: &Arc<Visit>, plan: LookupPlan, stale: Stale) -> bool {
        if !stale.entry.is_refresh_due(self.parts.clock.now()) || !self.may_refresh(visit) {
            return false;
        }
        let places = self.refresh_places(&stale.entry);
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            return false;
        };
        let Joined::Lead(permit) = self.join(visit, &stale.entry.key()) else { return false };
        if self.landed_since(visit, &plan, Some(&stale)).is_some() {
            permit.release(Release::Validated);
            return false;
        }
        let (visit, place, stale) = (Arc::clone(visit), Some(place), Some(stale));
        let plan = LookupPlan { range: None, ..plan };
        let (abroad, turn, hints) = (Abroad::Allowed, None, Hints::Unwanted);
        drop(self.spawn_fill(FillTask { visit, plan, permit, stale, place, abroad, turn, hints }));
        true
    }

    /// May it have been purged without this node's knowing, though it is fresh by itself?
    pub(super) fn doubts(&self, entry: &Entry, now: Moment) -> bool {
        self.parts.fleet.trust().doubts(entry, now)
    }

    /// May it be served as it is, while it is refreshed?
    pub(super) fn serves(&self, stale: &Stale, stale_for: Duration) -> bool {
        let in_grace = stale_for < stale.entry.grace();
        in_grace || (stale.for_failure && !self.parts.origin.health().healthy())
    }

    pub(super) fn is_strictly_soft(&self, entry: &Entry) -> bool {
        let trust = self.parts.fleet.trust();
        trust.is_strict() && trust.softened_since(entry)
    }

    /// What may have missed purges is refreshed within a share of PHP's places: there is a lot of it
    /// at once.
    pub(super) fn refresh_places(&self, entry: &Entry) -> &Arc<Semaphore> {
        let is_soft = self.parts.fleet.trust().softened_since(entry)
            || entry.is_restored()
            || self.doubts(entry, self.parts.clock.now());
        if is_soft { &self.parts.soft_refreshes } else { &self.parts.refreshes }
    }
}
