//! The fragments of a page: requests of their own, with the client of the page.

use std::pin::Pin;
use std::sync::Arc;

use http::StatusCode;

use super::Node;
use super::lookup::Finding;
use super::visit::Visit;
use crate::body::Body;
use crate::delivery::{Joined, join};
use crate::esi::{self, PageUrl, StreamLimits};
use crate::policy::Plan;
use crate::store::{Encoded, Include, Segment, StoredBody};

impl Node {
    /// The fragments of a stored page in the order of its includes. One that fails or is too slow
    /// leaves nothing behind; the page goes on.
    pub(super) async fn fragments(&self, visit: &Arc<Visit>, page: &StoredBody) -> Vec<Joined> {
        let mut fragments = Vec::new();
        for segment in &page.segments {
            if let Segment::Include(include) = segment {
                let timeout = visit.rules.settings.esi.timeout;
                let fragment = tokio::time::timeout(timeout, self.fragment(visit, include)).await;
                fragments.push(fragment.ok().flatten().unwrap_or_default());
            }
        }
        fragments
    }

    /// Joins a response as it arrives.
    pub(super) fn joined_stream(&self, visit: &Arc<Visit>, body: Body) -> Body {
        let (node, visit) = (self.clone(), Arc::clone(visit));
        let limits = StreamLimits::from(&*visit.rules.settings);
        esi::stream(body, limits, move |include| {
            let (node, visit) = (node.clone(), Arc::clone(&visit));
            async move {
                let fragment = node.fragment(&visit, &include).await?;
                fragment.identity(|encoded: &Encoded| encoded.inflate().ok()).ok()
            }
        })
    }

    /// One fragment. Boxed, since fragments may have fragments.
    fn fragment<'a>(
        &'a self,
        visit: &'a Arc<Visit>,
        include: &'a Include,
    ) -> Pin<Box<dyn Future<Output = Option<Joined>> + Send + 'a>> {
        Box::pin(async move {
            let fragment = self.fragment_visit(visit, include)?;
            let plan = fragment.rules.policy.plan(&fragment.request, &fragment.client);
            let plan = match plan {
                Plan::Lookup(plan) => match self.find(&fragment, plan) {
                    Finding::Serve { entry, .. } => {
                        let nested = self.fragments(&fragment, entry.body()).await;
                        return Some(join(entry.body(), nested));
                    }
                    Finding::Ask { plan, missed } => {
                        return self
                            .take_in(&fragment, self.miss(&fragment, plan, missed).await)
                            .await;
                    }
                },
                Plan::Pass(reason) => reason,
                Plan::Purge | Plan::Health | Plan::Refuse(_) => return None,
            };
            let outcome = self.pass(&fragment, Body::empty(), plan).await;
            self.take_in(&fragment, outcome).await
        })
    }

    fn fragment_visit(&self, visit: &Arc<Visit>, include: &Include) -> Option<Arc<Visit>> {
        let esi = &visit.rules.settings.esi;
        if visit.depth >= esi.depth_max {
            tracing::warn!(depth_max = esi.depth_max, "ESI includes are nested too deep");
            return None;
        }
        let page = PageUrl { authority: &visit.request.authority, target: &visit.request.target };
        match esi::resolve(&include.source, page) {
            Ok(target) => Some(Arc::new(visit.fragment(target, self.parts.clock.now()))),
            Err(refused) => {
                tracing::warn!(%refused, "an ESI include is refused");
                None
            }
        }
    }

    async fn take_in(&self, visit: &Visit, outcome: super::Outcome) -> Option<Joined> {
        if outcome.response.status != StatusCode::OK {
            tracing::warn!(
                status = outcome.response.status.as_u16(),
                reason = outcome.reason.map(crate::reason::Reason::as_str),
                "a fragment failed; its page goes on without"
            );
            return None;
        }
        let max = visit.rules.settings.store.object_max_bytes;
        outcome.response.body.collect(max).await.ok().map(Joined::from)
    }
}
