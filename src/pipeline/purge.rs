//! Magento's purges on the public listener.

use std::sync::Arc;

use http::StatusCode;

use super::visit::Visit;
use super::{Node, Outcome};
use crate::body::Body;
use crate::exchange::Response;
use crate::fleet::{Answer, Reach, Wait};
use crate::observe::Verdict;

/// Asks for the answer to wait until all nodes have applied the purge.
const WAIT: &str = "X-Parvis-Wait";

impl Node {
    /// Answers `PURGE` with a length: 200 when it is in the log and applied here, 202 when it will
    /// be in the log later, or when a node that was to be waited for has not applied it in time.
    pub(super) async fn purge(&self, visit: &Arc<Visit>) -> Outcome {
        let policy = &visit.rules.policy;
        if !policy.may_purge(&visit.client) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut response = Response::text(status, "PURGE is not allowed from here\n");
            response.fields.push_static("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            return Outcome::new(response, Verdict::Refused, None);
        }
        match policy.purge_request(&visit.request) {
            Ok(request) => {
                let waits = visit.request.fields.first(WAIT).is_some_and(|value| value == "fleet");
                let wait = if waits { Wait::Fleet } else { Wait::Log };
                let answer = self.parts.fleet.purge(&request, wait).await;
                Outcome::new(purged(&answer), Verdict::Purge, None)
            }
            Err(refusal) => {
                let response = Response::text(refusal.status(), format!("{refusal}\n"));
                Outcome::new(response, Verdict::Refused, None)
            }
        }
    }
}

fn purged(answer: &Answer) -> Response {
    let (status, text) = if answer.reach.is_pending() {
        (StatusCode::ACCEPTED, &b"Purged here; the others follow\n"[..])
    } else {
        (StatusCode::OK, &b"Purged\n"[..])
    };
    let mut response = Response::new(status, Body::from(bytes::Bytes::from_static(text)));
    response.fields.push_static("Content-Type", "text/plain; charset=utf-8");
    response.fields.push_static("X-Parvis-Purged", answer.purged.responses.to_string());
    if answer.reach != Reach::Alone {
        response.fields.push_static("X-Parvis-Reach", answer.reach.word());
    }
    if let Reach::Lagging(nodes) = &answer.reach {
        response.fields.push_static("X-Parvis-Lagging", nodes.join(", "));
    }
    response
}
