//! Magento's purges on the public listener.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::visit::Visit;
use super::{Node, Outcome};
use crate::body::Body;
use crate::exchange::Response;
use crate::fleet::{Answer, Reach, Wait};
use crate::keyspace::Clean;
use crate::observe::Verdict;
use crate::policy::PurgeRequest;
use crate::store::Purged;

/// Asks for the answer to wait until all nodes have applied the purge.
const WAIT: &str = "X-Parvis-Wait";
/// How long a clean waits to be in the log or the journal, while another process writes there, too.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// Another process of this server, which has a store of its own for as long as it lasts.
pub trait Sharer: Send + Sync {
    /// Has it apply the purge; returns when it has, within a bound.
    fn share<'a>(
        &'a self,
        request: &'a PurgeRequest,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Has it do a clean of the object cache; returns when it has, within a bound.
    fn share_clean<'a>(&'a self, clean: &'a Clean)
    -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

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
                let answer = self.purge_everywhere(request, wait).await;
                Outcome::new(purged(&answer), Verdict::Purge, None)
            }
            Err(refusal) => {
                let response = Response::text(refusal.status(), format!("{refusal}\n"));
                Outcome::new(response, Verdict::Refused, None)
            }
        }
    }

    /// Purges here, in the other process where two serve while one takes over from the other, and
    /// in the fleet; when this returns, nothing that was named is served as fresh by this server. It goes
    /// on to its end where nobody waits for it any more.
    pub async fn purge_everywhere(&self, request: PurgeRequest, wait: Wait) -> Answer {
        let node = self.clone();
        let purge = tokio::spawn(async move { node.purge_by_steps(&request, wait).await });
        // It fails where this process ends, and then nobody knows how far it came.
        purge.await.unwrap_or(Answer { purged: Purged::default(), reach: Reach::Journaled })
    }

    async fn purge_by_steps(&self, request: &PurgeRequest, wait: Wait) -> Answer {
        let _spreading = self.parts.fleet.spreading();
        let purged = self.parts.fleet.purge_here(request).await;
        self.share(request).await;
        let reach = self.parts.fleet.spread(request, wait).await;
        Answer { purged, reach }
    }

    /// Tells the other process and the other nodes of a clean that a client of this process' object cache did.
    /// When this returns, each purge that comes later comes after it, on each node.
    pub async fn clean_elsewhere(&self, clean: Clean) {
        let sharer = self.parts.sharer.load_full();
        if let Some(sharer) = &*sharer {
            sharer.share_clean(&clean).await;
        }
        self.parts.fleet.tell_clean(clean).await;
        if sharer.is_some() {
            // The other process writes purges, too, and knows nothing of what waits here.
            let _ = tokio::time::timeout(WRITTEN_WITHIN, self.parts.fleet.cleans_written()).await;
        }
    }

    /// Has the other process, where there is one, apply what was applied here.
    pub(super) async fn share(&self, request: &PurgeRequest) {
        if let Some(sharer) = &*self.parts.sharer.load_full() {
            sharer.share(request).await;
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
