//! Purges, from Magento on the public listener and from the control API.

use std::sync::Arc;

use http::StatusCode;

use super::visit::Visit;
use super::{Node, Outcome};
use crate::body::Body;
use crate::exchange::Response;
use crate::observe::Verdict;
use crate::policy::{PurgeRequest, PurgeScope};
use crate::store::Purged;

impl Node {
    /// Answers `PURGE`. The answer comes at once, with a length: Magento saves a product no
    /// sooner than each purge was answered.
    pub(super) fn purge(&self, visit: &Arc<Visit>) -> Outcome {
        let policy = &visit.rules.policy;
        if !policy.may_purge(&visit.client) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut response = Response::text(status, "PURGE is not allowed from here\n");
            response.fields.push_static("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            return Outcome::new(response, Verdict::Refused, None);
        }
        match policy.purge_request(&visit.request) {
            Ok(request) => {
                let purged = self.apply(&request);
                let body = Body::from(bytes::Bytes::from_static(b"Purged\n"));
                let mut response = Response::new(StatusCode::OK, body);
                response.fields.push_static("Content-Type", "text/plain; charset=utf-8");
                response.fields.push_static("X-Parvis-Purged", purged.responses.to_string());
                Outcome::new(response, Verdict::Purge, None)
            }
            Err(refusal) => {
                let response = Response::text(refusal.status(), format!("{refusal}\n"));
                Outcome::new(response, Verdict::Refused, None)
            }
        }
    }

    /// Purges from the store; when this returns, nothing that was named is served as fresh.
    pub fn apply(&self, request: &PurgeRequest) -> Purged {
        let (store, soft) = (&self.parts.store, request.soft);
        let mut all = Purged::default();
        for scope in &request.scopes {
            let purged = match scope {
                PurgeScope::All => store.purge_all(soft),
                PurgeScope::Tags(tags) => store.purge_tags(tags, soft),
                PurgeScope::TagsMatching(regex) => store.purge_tags_matching(regex, soft),
                PurgeScope::Pool(regex) => store.purge_pools_matching(regex, soft),
                PurgeScope::Url(url) => store.purge_url(url, soft),
            };
            all = Purged { number: purged.number, responses: all.responses + purged.responses };
        }
        self.parts.observer.record_purge(all.responses);
        tracing::info!(number = all.number, responses = all.responses, soft, "purged");
        all
    }
}
