//! Fetches from the origin: for everybody (a fill), or for one client (a pass).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::answer::{origin_failure, spool_failure, takes_esi};
use super::visit::Visit;
use super::{Node, Outcome, Rules};
use crate::body::{Body, BodyError, Spooled};
use crate::delivery::{self, Coding};
use crate::esi;
use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::fill::{FillPermit, FillSharing, Release, Shared, SharedHead};
use crate::observe::Verdict;
use crate::origin::{OriginError, OriginResponse};
use crate::policy::{Delivery, Judgement, LookupPlan, OriginHead, Purpose, Storable};
use crate::reason::Reason;
use crate::settings::Settings;
use crate::store::{NewEntry, StoredBody};

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
    /// Something stale is stored: a failing origin must not replace it.
    pub(super) has_stale: bool,
    /// A background refresh's place, given back at the end.
    pub(super) place: Option<OwnedSemaphorePermit>,
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
        let FillTask { visit, plan, permit, has_stale, place: _place } = task;
        let response = match self.ask_origin(&visit, &plan).await {
            Ok(response) => response,
            Err(error) => return fail(permit, answer, error.reason(), error.status()),
        };
        match self.judge(&visit, &plan, &response) {
            Judgement::Store(storable) => {
                self.share_and_store(&visit, permit, response, storable, answer).await;
            }
            Judgement::Uncacheable { .. } if has_stale && response.status.is_server_error() => {
                fail(permit, answer, Reason::Status, response.status);
            }
            Judgement::Uncacheable { reason, remember } => {
                let store = &self.parts.store;
                store.remember_uncacheable(permit.mark(), &plan.key, reason, remember);
                permit.release(Release::Uncacheable(reason));
                drop(answer.send(LeaderAnswer::Private { response, reason }));
            }
        }
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

    async fn ask_origin(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
    ) -> Result<OriginResponse, OriginError> {
        let nothing = Spooled::default();
        let request = visit.for_origin(Method::GET, &plan.target, Purpose::Fill, nothing);
        self.parts.origin.fetch(&request).await
    }

    async fn share_and_store(
        &self,
        visit: &Visit,
        permit: FillPermit,
        response: OriginResponse,
        storable: Storable,
        answer: oneshot::Sender<LeaderAnswer>,
    ) {
        let rules = &visit.rules;
        let OriginResponse { status, mut fields, body } = decoded(&rules.settings, response);
        let cookies = rules.policy.fetcher_cookies(&fields);
        let takes_esi = takes_esi(visit, status, &fields);
        fields.remove("Content-Length");
        let fields = rules.policy.delivered(Delivery::Stored, fields);
        let length = if takes_esi { None } else { body.len() };
        let sharing = permit.share(SharedHead { status, fields, takes_esi, storable }, length);
        let shared = Arc::clone(sharing.shared());
        drop(answer.send(LeaderAnswer::Shared { shared, cookies }));
        let bound = rules.settings.origin.response_memory_max_bytes;
        match take_in(body, &sharing, bound).await {
            Ok(Some(content)) => self.store(rules, sharing, content).await,
            Ok(None) => {
                let remember = rules.settings.site.hit_for_miss;
                let permit = sharing.finish();
                let (store, reason) = (&self.parts.store, Reason::TooLarge);
                store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
            }
            Err(error) => {
                tracing::warn!(%error, "a response under way broke; it is not stored");
                sharing.abort(error);
            }
        }
    }

    async fn store(&self, rules: &Rules, sharing: FillSharing, content: Bytes) {
        let shared = Arc::clone(sharing.shared());
        let permit = sharing.finish();
        let (settings, head) = (&rules.settings, shared.head());
        let Some((stored_head, body)) = prepared(settings, head, content).await else {
            return;
        };
        let storable = &head.storable;
        let stale = (!storable.must_revalidate()).then_some(&settings.store);
        let entry = NewEntry {
            key: permit.key().clone(),
            status: head.status,
            head: stored_head,
            body,
            tags: storable.tags().to_vec(),
            pool: storable.pool().cloned(),
            ttl: storable.ttl(),
            grace: stale.map(|store| store.grace).unwrap_or_default(),
            keep: stale.map(|store| store.keep).unwrap_or_default(),
            age: storable.age(),
            debug: storable.debug(),
        };
        if let Err(reason) = self.parts.store.insert(permit.mark(), entry) {
            tracing::debug!(reason = reason.as_str(), "not stored");
            if reason == Reason::TooLarge {
                let remember = settings.site.hit_for_miss;
                let store = &self.parts.store;
                store.remember_uncacheable(permit.mark(), permit.key(), reason, remember);
            }
        }
    }

    /// A waiter that gave up fetches for itself; what it gets is not stored.
    pub(super) async fn fetch_unstored(&self, visit: &Arc<Visit>, plan: &LookupPlan) -> Outcome {
        let reason = Reason::FillAbandoned;
        match self.ask_origin(visit, plan).await {
            Ok(response) => self.deliver_private(visit, response, Verdict::Miss, reason),
            Err(error) => origin_failure(&error),
        }
    }

    /// Passes a request: its content is taken in whole first, so that no worker waits for it.
    pub(super) async fn pass(&self, visit: &Arc<Visit>, body: Body, reason: Reason) -> Outcome {
        let listen = &visit.rules.settings.listen;
        let (memory_max, max) = (listen.body_memory_max_bytes, listen.body_max_bytes);
        let spooled = match Spooled::take_in(body, memory_max, max, &listen.body_directory).await {
            Ok(spooled) => spooled,
            Err(error) => return spool_failure(&error),
        };
        let (method, target) = (visit.request.method.clone(), &visit.request.target);
        let request = visit.for_origin(method, target, Purpose::Pass, spooled);
        match self.parts.origin.fetch(&request).await {
            Ok(response) => self.deliver_private(visit, response, Verdict::Pass, reason),
            Err(error) => origin_failure(&error),
        }
    }
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

/// The origin's gzip taken apart: pages are searched for includes and compressed by us.
fn decoded(settings: &Settings, response: OriginResponse) -> OriginResponse {
    let OriginResponse { status, mut fields, body } = response;
    if delivery::content_coding(&fields) != Coding::Gzip {
        return OriginResponse { status, fields, body };
    }
    fields.remove("Content-Encoding");
    let (encoding, max) = (&settings.encoding, settings.store.object_max_bytes);
    let (ratio, buffer) = (encoding.ratio_max, encoding.buffer_max_bytes);
    let body = delivery::inflate_stream(body, ratio, max, buffer);
    OriginResponse { status, fields, body }
}

/// Head and content as they are stored. Compressing a page takes milliseconds, which belong to
/// none of the threads that serve requests.
async fn prepared(
    settings: &Settings,
    head: &SharedHead,
    content: Bytes,
) -> Option<(Arc<StoredHead>, StoredBody)> {
    let mut fields = head.fields.clone();
    let encoding = &settings.encoding;
    let compress = encoding.gzip && delivery::compressible(head.status, &fields);
    let (level, min_bytes) = (compress.then_some(encoding.gzip_level), encoding.min_bytes);
    let (takes_esi, limits) = (head.takes_esi, esi::Limits::from(&settings.esi));
    let prepared = tokio::task::spawn_blocking(move || {
        let mut body = if takes_esi {
            esi::split(&content, limits, level, min_bytes).body
        } else {
            esi::whole(&content, level, min_bytes)
        };
        delivery::prepare(&mut fields, &mut body);
        (Arc::new(StoredHead::new(fields)), body)
    });
    prepared.await.ok()
}
