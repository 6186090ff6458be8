//! What is stored and where: variants, ranges, and responses that the origin says are still right.

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::oneshot;

use super::answer::failure;
use super::fetch::LeaderAnswer;
use super::prepare::{Decoded, decoded};
use super::visit::Visit;
use super::{Node, Outcome, Rules};
use crate::delivery;
use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::fill::{FillPermit, Release};
use crate::observe::Verdict;
use crate::origin::OriginResponse;
use crate::policy::validation::overlaid;
use crate::policy::{
    CacheKey, Delivery, Judgement, LookupPlan, OriginHead, PurgeRequest, PurgeScope, Storable,
    language_of,
};
use crate::reason::Reason;
use crate::store::{Entry, NewEntry, StoredBody, Variant};

/// Where a response is stored.
pub(super) struct Destination {
    /// The key.
    pub(super) key: CacheKey,
    /// Which variant it is, where it is one.
    pub(super) variant: Option<Variant>,
    /// Its fields as the origin sent them, where it can be validated.
    pub(super) validation: Option<StoredHead>,
    /// What is stored of it and stays where the new one breaks.
    pub(super) replaces: Option<Arc<Entry>>,
}

impl Destination {
    /// The place of a response with these fields, as the origin sent them.
    pub(super) fn of(
        visit: &Visit,
        plan: &LookupPlan,
        status: StatusCode,
        fields: &Fields,
        storable: &Storable,
    ) -> Self {
        let has_validator = fields.contains("ETag") || fields.contains("Last-Modified");
        let validation = has_validator.then(|| StoredHead::new(fields.clone()));
        let request = &visit.request.fields;
        let variant = storable.vary().map(|vary| Variant {
            primary: plan.key.clone(),
            vary: vary.clone(),
            by_language: language_of(fields)
                .and_then(|language| vary.key_by_language(&plan.key, request, &language)),
        });
        let partial = plan.range.as_ref().filter(|_| status == StatusCode::PARTIAL_CONTENT);
        let key = match (&variant, partial) {
            (_, Some(range)) => range.clone(),
            (Some(variant), None) => variant.vary.key(&plan.key, request),
            (None, None) => plan.key.clone(),
        };
        Self { key, variant, validation, replaces: None }
    }

    /// The response as it is stored.
    pub(super) fn entry(
        self,
        status: StatusCode,
        head: StoredHead,
        body: StoredBody,
        storable: &Storable,
    ) -> NewEntry {
        NewEntry {
            key: self.key,
            status,
            head,
            body,
            tags: storable.tags().to_vec(),
            pool: storable.pool().cloned(),
            ttl: storable.ttl(),
            grace: storable.grace(),
            keep: storable.keep(),
            stale_if_error: storable.stale_if_error(),
            stale_if_disconnected: storable.stale_if_disconnected(),
            age: storable.age(),
            debug: storable.debug(),
            validation: self.validation,
            variant: self.variant,
        }
    }
}

impl Node {
    /// The origin said 304: what is stored is fresh again, with the fields that came
    /// (RFC 9111 4.3.4). A purge that came since the request went out is stronger.
    pub(super) fn validated(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        permit: FillPermit,
        stored: &Entry,
        update: &Fields,
        answer: oneshot::Sender<LeaderAnswer>,
    ) {
        let (rules, status) = (&*visit.rules, stored.status());
        let told = stored.validation().map(|told| overlaid(&told, update)).unwrap_or_default();
        let head = OriginHead { status, fields: told.clone() };
        let judgement = rules.policy.judge(plan, &head, self.parts.clock.wall());
        let stays = matches!(judgement, Judgement::Store(_));
        let (storable, release) = match judgement {
            Judgement::Store(storable) => {
                // What must be validated each time is no answer to those who waited.
                let release = if storable.ttl().is_zero() {
                    Release::Uncacheable(Reason::NoLifetime)
                } else {
                    Release::Validated
                };
                (storable, release)
            }
            Judgement::Uncacheable { reason, remember } => {
                let store = &self.parts.store;
                store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
                (Storable::never(), Release::Uncacheable(reason))
            }
        };
        let head = updated_head(rules, stored, update, &storable);
        let destination = Destination::of(visit, plan, status, &told, &storable);
        let new = destination.entry(status, head, stored.body().clone(), &storable);
        let kept =
            if stays { self.parts.store.insert(permit.mark(), new.clone()).ok() } else { None };
        let entry = kept.unwrap_or_else(|| self.parts.store.unstored(new));
        permit.release(release);
        drop(answer.send(LeaderAnswer::Validated(entry)));
    }
}

impl Node {
    /// Ends what is stored for the URLs that a request has changed (RFC 9111 4.4).
    pub(super) async fn invalidate(&self, visit: &Visit, response: &OriginResponse) {
        let (policy, status) = (&visit.rules.policy, response.status);
        let scopes = policy.invalidated(&visit.request, &visit.client, status, &response.fields);
        for scope in scopes {
            if let PurgeScope::Url(url) = &scope {
                self.parts.store.purge_url(url, false);
                self.share(&PurgeRequest { scopes: vec![scope], soft: false }).await;
            }
        }
    }

    /// Stores the response to a POST where that may answer a later GET (RFC 9110 9.3.3), and
    /// delivers it; else gives it back.
    pub(super) async fn store_content_of_post(
        &self,
        visit: &Arc<Visit>,
        response: OriginResponse,
    ) -> Result<Outcome, OriginResponse> {
        let head = OriginHead { status: response.status, fields: response.fields.clone() };
        let (policy, received) = (&visit.rules.policy, self.parts.clock.wall());
        let stored = policy.content_of_post(&visit.request, &visit.client, &head, received);
        let Some((plan, storable)) = stored else { return Err(response) };
        let destination = Destination::of(visit, &plan, head.status, &head.fields, &storable);
        // On the heap, so that a request whose response comes plain does not carry the room.
        let response = match Box::pin(decoded(visit, response)).await {
            Decoded::Ready(response) => response,
            Decoded::Undecodable(response) => return Err(response),
        };
        let (mark, now) = (self.parts.store.mark(), self.parts.clock.now());
        let permit = self.parts.flights.alone(&destination.key, mark, now);
        let (answer, answered) = oneshot::channel();
        let (node, task_visit) = (self.clone(), Arc::clone(visit));
        tokio::spawn(async move {
            node.share_and_store(&task_visit, permit, response, storable, destination, answer)
                .await;
        });
        Ok(match answered.await {
            Ok(LeaderAnswer::Shared { shared, .. }) => {
                self.deliver_shared(visit, &shared, Verdict::Pass, Some(Reason::Method))
            }
            _ => failure(Reason::FillAbandoned, StatusCode::BAD_GATEWAY),
        })
    }
}

/// The head that is delivered, brought up to date.
fn updated_head(rules: &Rules, stored: &Entry, update: &Fields, storable: &Storable) -> StoredHead {
    let mut update = update.clone();
    update.retain(|field| !storable.withholds(field));
    let update = rules.policy.delivered(Delivery::Stored, update);
    let mut fields = overlaid(&stored.head().to_fields(), &update);
    if stored.body().has_includes() {
        // It says nothing of the fragments.
        fields.remove("Last-Modified");
    }
    if delivery::has_variants(stored.body()) {
        delivery::vary_by_encoding(&mut fields);
    }
    StoredHead::new(fields)
}
