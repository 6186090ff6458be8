//! What was found or fetched, on its way to a client.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::fragments::{Fragment, fragment_failure};
use super::prepare::{Decoded, decoded_for_one};
use super::visit::Visit;
use super::{Node, Outcome, Rules};
use crate::body::{Body, BodyError, SpoolError};
use crate::clock::Moment;
use crate::delivery::{self, RequestFacts};
use crate::esi::{self, FragmentFailed};
use crate::exchange::{Request, Response};
use crate::fields::Fields;
use crate::fill::Shared;
use crate::observe::Verdict;
use crate::origin::{OriginError, OriginResponse, Provenance};
use crate::policy::Delivery;
use crate::reason::Reason;
use crate::store::{Encoded, Entry, Freshness, Piece};

impl Node {
    /// Delivers a stored response, its fragments joined in.
    pub(super) async fn deliver(
        &self,
        visit: &Arc<Visit>,
        entry: &Arc<Entry>,
        verdict: Verdict,
        reason: Option<Reason>,
    ) -> Outcome {
        let Ok(fragments) = self.fragments(visit, entry.body()) else {
            return fragment_failure();
        };
        let now = self.parts.clock.now();
        let response = if fragments.iter().all(Fragment::is_ready) {
            let fragments = fragments.into_iter().map(Fragment::into_ready);
            let identity = |encoded: &Encoded| self.identity(entry, encoded);
            delivery::respond(entry, facts(&visit.request, &visit.rules), fragments, identity)
        } else {
            match self.respond_in_parts(visit, entry, fragments).await {
                Ok(response) => Ok(response),
                Err(FragmentFailed) => return fragment_failure(),
            }
        };
        let mut response = match response {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%error, "a stored response cannot be delivered");
                return failure(Reason::Truncated, StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        if visit.rules.settings.site.age {
            response.fields.push_static("Age", entry.age_at(now).as_secs().to_string());
        }
        let mut outcome = Outcome::new(response, verdict, reason);
        outcome.ttl_seconds = Some(ttl_seconds(entry, now));
        outcome.debug = entry.debug();
        outcome
    }

    /// The bytes of a literal that is kept compressed alone. The store remembers those of the
    /// page's own; a fragment's are inflated.
    pub(super) fn identity(&self, entry: &Entry, encoded: &Encoded) -> Option<Bytes> {
        let is_it = |piece: Piece<'_>| piece.literal().is_some_and(|literal| literal.is(encoded));
        let own = entry.body().pieces().position(is_it);
        match own {
            Some(segment) => self.parts.store.identity(entry, segment).ok(),
            None => encoded.inflate().ok(),
        }
    }

    /// Delivers a response which others share, as it arrives.
    pub(super) fn deliver_shared(
        &self,
        visit: &Arc<Visit>,
        shared: &Arc<Shared>,
        verdict: Verdict,
        reason: Option<Reason>,
    ) -> Outcome {
        let head = shared.head();
        let known = |fields: &Fields| delivery::not_modified(&visit.request.fields, fields);
        let is_known = head.status.is_success() && !head.takes_esi && known(&head.fields);
        let body = if is_known { Body::empty() } else { shared.body() };
        let (body, begins) =
            if head.takes_esi { self.joined_stream(visit, body) } else { (body, None) };
        let mut response = if is_known {
            delivery::without_content(&head.fields)
        } else {
            compressed(visit, head.status, head.fields.clone(), body)
        };
        let age = head.storable.age().as_secs();
        if visit.rules.settings.site.age && age > 0 {
            response.fields.push_static("Age", age.to_string());
        }
        let mut outcome = Outcome::new(response, verdict, reason);
        outcome.begins = begins;
        outcome.stored = true;
        outcome.ttl_seconds = i64::try_from(head.storable.ttl().as_secs()).ok();
        outcome.debug = head.storable.debug();
        outcome
    }

    /// Delivers a response that is for one client alone; what came coded and may have includes is
    /// decoded for that.
    pub(super) async fn deliver_private(
        &self,
        visit: &Arc<Visit>,
        response: OriginResponse,
        verdict: Verdict,
        reason: Reason,
    ) -> Outcome {
        let debug = response.fields.contains("X-Magento-Debug");
        let kind =
            if verdict == Verdict::Pass { Delivery::of_pass(reason) } else { Delivery::Uncached };
        // A static file goes out as it is, with its length: Magento puts no includes there. What
        // cannot be decoded cannot be searched.
        let may_include = visit.request.method != Method::HEAD
            && kind != Delivery::StaticFile
            && reason != Reason::ContentEncoding
            && takes_esi(visit, response.status, &response.fields);
        let (response, takes_esi) = if may_include {
            // On the heap, so that a request whose response comes plain does not carry the room.
            match Box::pin(decoded_for_one(visit, response)).await {
                Decoded::Ready(response) => (response, true),
                Decoded::Undecodable(response) => (response, false),
            }
        } else {
            (response, false)
        };
        let OriginResponse { status, fields, body, provenance } = response;
        let mut fields = visit.rules.policy.delivered(kind, fields);
        let (body, begins) = if takes_esi {
            fields.remove("Content-Length");
            self.joined_stream(visit, body)
        } else {
            (body, None)
        };
        let response = compressed(visit, status, fields, body);
        let verdict = if provenance == Provenance::Disk { Verdict::File } else { verdict };
        let mut outcome = Outcome::new(response, verdict, Some(reason));
        outcome.begins = begins;
        outcome.debug = debug;
        outcome
    }
}

/// Is a response of the origin to be looked through for includes, once its coding is taken off?
pub(super) fn takes_esi(visit: &Visit, status: StatusCode, fields: &Fields) -> bool {
    let content_type = fields.first("Content-Type").map(|value| &value[..]);
    visit.rules.settings.esi.enabled
        && visit.rules.policy.takes_esi(fields)
        && esi::applies(content_type, status)
}

fn compressed(visit: &Visit, status: StatusCode, mut fields: Fields, body: Body) -> Response {
    let encoding = &visit.rules.settings.encoding;
    let facts = facts(&visit.request, &visit.rules);
    let body = delivery::compress(status, &mut fields, body, facts, encoding);
    let mut response = Response::new(status, body);
    response.fields = fields;
    response
}

pub(super) fn facts<'a>(request: &'a Request, rules: &Rules) -> RequestFacts<'a> {
    let ranges_max = rules.settings.store.ranges_max;
    RequestFacts { method: &request.method, fields: &request.fields, ranges_max }
}

/// Seconds for which an entry is fresh; negative: stale for.
pub(super) fn ttl_seconds(entry: &Entry, now: Moment) -> i64 {
    let remaining = i64::try_from(entry.remaining(now).as_secs()).unwrap_or(i64::MAX);
    if remaining > 0 {
        return remaining;
    }
    match entry.freshness(now) {
        Freshness::Stale { stale_for } => {
            i64::try_from(stale_for.as_secs()).map_or(0, |seconds| -seconds)
        }
        _ => 0,
    }
}

/// An error as the client sees it.
pub(super) fn failure(reason: Reason, status: StatusCode) -> Outcome {
    let mut response = Response::text(status, format!("{status}\n"));
    response.fields.push_static("Cache-Control", Bytes::from_static(b"no-store"));
    let comes_again = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
    if comes_again.contains(&status) {
        response.fields.push_static("Retry-After", Bytes::from_static(b"5"));
    }
    Outcome::new(response, Verdict::Failed, Some(reason))
}

pub(super) fn origin_failure(error: &OriginError) -> Outcome {
    failure(error.reason(), error.status())
}

/// The content of a request could not be taken in.
pub(super) fn spool_failure(error: &SpoolError) -> Outcome {
    let mut response = Response::text(error.status(), format!("{error}\n"));
    response.close = true;
    let reason = match error {
        SpoolError::TooLarge { .. } => Some(Reason::OversizedRequest),
        SpoolError::Sender(BodyError::TimedOut) => Some(Reason::SlowRequest),
        SpoolError::Sender(_) => Some(Reason::MalformedRequest),
        SpoolError::Storage(_) => None,
    };
    Outcome::new(response, Verdict::Refused, reason)
}
