//! The fragments of a page: requests of their own, with the client of the page.
//!
//! What the store knows is joined at once, without a task or a wait. Only for what has to be fetched
//! is a page streamed. Of a fragment its content alone is taken: Set-Cookie and all other fields are
//! dropped, as Varnish does, for the head of the page may have left already; and a fragment that is
//! for one visitor is fetched for each, while its page stays stored for all.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::sync::oneshot;

use super::answer::{facts, failure};
use super::lookup::Finding;
use super::miss::Missed;
use super::visit::Visit;
use super::{Node, Outcome};
use crate::body::Body;
use crate::delivery::{self, Coding, DecodeLimits, Decoded, Joined, JoinedSender, join};
use crate::esi::{self, FragmentFailed, InOrder, Listeners, Mistake, PageUrl, StreamLimits};
use crate::exchange::Response;
use crate::fields::Fields;
use crate::observe::{Verdict, redact};
use crate::policy::{LookupPlan, Plan};
use crate::reason::Reason;
use crate::settings::FragmentError;
use crate::store::{Encoded, Entry, Include, Piece, StoredBody};

/// Where a request stands among the fragments of one page.
#[derive(Default)]
pub(super) struct Nesting {
    /// 0 for a client's request, 1 for a fragment of a page, and so on.
    depth: usize,
    /// The request of the client, where this is for a fragment.
    page: Option<Arc<Visit>>,
    /// Includes of the page so far, counted at the request of the client.
    includes: AtomicUsize,
}

impl Nesting {
    /// That of a fragment of this request's response.
    pub(super) fn within(parent: &Arc<Visit>) -> Self {
        let page = parent.nesting.page.as_ref().unwrap_or(parent);
        let depth = parent.nesting.depth + 1;
        Self { depth, page: Some(Arc::clone(page)), includes: AtomicUsize::new(0) }
    }

    /// Is this for a fragment of a page?
    pub(super) fn is_fragment(&self) -> bool {
        self.page.is_some()
    }

    /// Counts one more include of the page; false: there are too many.
    fn take(&self, total_max: usize) -> bool {
        let page = self.page.as_deref().map_or(self, |page| &page.nesting);
        page.includes.fetch_add(1, Ordering::Relaxed) < total_max
    }
}

/// A fragment, as far as the store knows it.
pub(super) enum Fragment {
    /// All of it is there.
    Ready(Joined),
    /// Something has to be fetched.
    Awaited(Box<Awaited>),
}

impl Fragment {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// What is there.
    pub(super) fn into_ready(self) -> Joined {
        match self {
            Self::Ready(joined) => joined,
            Self::Awaited(_) => Joined::default(),
        }
    }
}

/// A fragment that has to be fetched.
pub(super) struct Awaited {
    /// What it stands in.
    visit: Arc<Visit>,
    source: Source,
    /// What is tried where the source fails.
    alternative: Option<Bytes>,
    continues: bool,
}

/// One source of a fragment.
struct Source {
    /// The request for it.
    visit: Arc<Visit>,
    step: Step,
}

/// What is to be done about a source.
enum Step {
    /// It is stored, and fragments of its own are not.
    Join { entry: Arc<Entry>, fragments: Vec<Fragment> },
    /// It is stored as the origin coded it.
    Decode { entry: Arc<Entry> },
    /// It may be stored.
    Ask { plan: Box<LookupPlan>, missed: Missed },
    /// It is passed.
    Pass { reason: Reason },
}

/// What is known of one source.
enum Known {
    Ready(Joined),
    ToFetch(Source),
}

impl Node {
    /// The fragments of a stored page in the order of its includes.
    pub(super) fn fragments(
        &self,
        visit: &Arc<Visit>,
        page: &StoredBody,
    ) -> Result<Vec<Fragment>, FragmentFailed> {
        let include = |piece: Piece<'_>| match piece {
            Piece::Include(include) => Some(self.fragment(visit, include)),
            Piece::Literal(_) => None,
        };
        page.pieces().filter_map(include).collect()
    }

    /// Answers with a stored page of which fragments have to be fetched: what is known leaves at
    /// once. Where a fragment may fail its page, nothing leaves before the first that has nothing
    /// in front of it.
    pub(super) async fn respond_in_parts(
        &self,
        visit: &Arc<Visit>,
        entry: &Arc<Entry>,
        fragments: Vec<Fragment>,
    ) -> Result<Response, FragmentFailed> {
        let buffer_max_bytes = visit.rules.settings.encoding.buffer_max_bytes;
        let (node, stored) = (self.clone(), Arc::clone(entry));
        let identity = Box::new(move |encoded: &Encoded| node.identity(&stored, encoded));
        let facts = facts(&visit.request, &visit.rules);
        let (response, sender) = delivery::stream_joined(entry, facts, identity, buffer_max_bytes);
        let Some(sender) = sender else { return Ok(response) };
        let mut fragments = self.under_way(visit, fragments);
        let mut first = Vec::new();
        if visit.rules.settings.esi.on_error == FragmentError::Fail {
            for piece in entry.body().pieces() {
                let Piece::Include(_) = piece else { break };
                first.push(fragments.next().await?);
                if first.last().is_some_and(|joined| !joined.is_empty()) {
                    break;
                }
            }
        }
        tokio::spawn(send(Arc::clone(entry), first, fragments, sender));
        Ok(response)
    }

    /// Joins a response as it arrives. To HEAD no content is sent, so nothing is fetched for it.
    ///
    /// Where a fragment may fail its page, the second is told whether one did before anything of
    /// the page left.
    pub(super) fn joined_stream(&self, visit: &Arc<Visit>, body: Body) -> (Body, Option<Begins>) {
        if visit.request.method == Method::HEAD {
            return (Body::empty(), None);
        }
        let limits = StreamLimits::from(&*visit.rules.settings);
        if let Some((body, mistakes)) = esi::at_once(&body, limits.parse) {
            self.parts.esi_mistakes.note(url(visit), mistakes);
            return (body, None);
        }
        let may_fail = visit.rules.settings.esi.on_error == FragmentError::Fail;
        let (told, begins) = may_fail.then(oneshot::channel).unzip();
        let (node, page) = (self.clone(), Arc::clone(visit));
        let fetch = move |include: Include| {
            let fragment = node.fragment(&page, &include);
            let (node, page) = (node.clone(), Arc::clone(&page));
            async move {
                let joined = match fragment? {
                    Fragment::Ready(joined) => joined,
                    Fragment::Awaited(awaited) => node.awaited(*awaited).await?,
                };
                joined
                    .identity(|encoded: &Encoded| encoded.inflate().ok())
                    .or_else(|_| without(&page, include.continues).map(|_| Body::empty()))
            }
        };
        let (node, page) = (self.clone(), Arc::clone(visit));
        let mistakes = move |mistakes| node.parts.esi_mistakes.note(url(&page), mistakes);
        let listeners = Listeners { mistakes, begins: told };
        (esi::stream(body, limits, fetch, listeners), begins)
    }

    /// One fragment: the source, else what stands in for it, else what the settings say.
    fn fragment(&self, visit: &Arc<Visit>, include: &Include) -> Result<Fragment, FragmentFailed> {
        let sources = [Some(&include.source), include.alternative.as_ref()];
        let mut sources = sources.into_iter().flatten();
        while let Some(source) = sources.next() {
            match self.known(visit, source) {
                Some(Known::Ready(joined)) => return Ok(Fragment::Ready(joined)),
                Some(Known::ToFetch(source)) => {
                    return Ok(Fragment::Awaited(Box::new(Awaited {
                        visit: Arc::clone(visit),
                        source,
                        alternative: sources.next().cloned(),
                        continues: include.continues,
                    })));
                }
                None => {}
            }
        }
        without(visit, include.continues).map(Fragment::Ready)
    }

    /// What the store knows of a source; `None`: it has failed.
    fn known(&self, visit: &Arc<Visit>, source: &[u8]) -> Option<Known> {
        let visit = self.fragment_visit(visit, source)?;
        let step = match visit.rules.policy.plan(&visit.request, &visit.client) {
            Plan::Lookup(plan) => match self.find(&visit, plan) {
                Finding::Serve { entry, .. } if entry.status() != StatusCode::OK => return None,
                Finding::Serve { entry, .. } if entry.is_coded() => Step::Decode { entry },
                Finding::Serve { entry, .. } => {
                    let fragments = self.fragments(&visit, entry.body()).ok()?;
                    if fragments.iter().all(Fragment::is_ready) {
                        let fragments = fragments.into_iter().map(Fragment::into_ready);
                        return Some(Known::Ready(join(entry.body(), fragments)));
                    }
                    Step::Join { entry, fragments }
                }
                Finding::Ask { plan, missed } => Step::Ask { plan: Box::new(plan), missed },
            },
            Plan::Pass(reason) => Step::Pass { reason },
            Plan::Purge | Plan::Health | Plan::Maintenance | Plan::Refuse(_) => return None,
        };
        Some(Known::ToFetch(Source { visit, step }))
    }

    fn fragment_visit(&self, visit: &Arc<Visit>, source: &[u8]) -> Option<Arc<Visit>> {
        let esi = &visit.rules.settings.esi;
        let mistake = if visit.nesting.depth >= esi.depth_max {
            Mistake::TooDeep
        } else if !visit.nesting.take(esi.total_max) {
            Mistake::TooManyInTotal
        } else {
            match esi::resolve(source, url(visit)) {
                Ok(target) => {
                    return Some(Arc::new(visit.fragment(target, self.parts.clock.now())));
                }
                Err(refused) => Mistake::Refused(refused),
            }
        };
        self.parts.esi_mistakes.note(url(visit), mistake.into());
        None
    }

    /// Starts what has to be fetched, as much of it at the same time as is allowed.
    fn under_way(&self, visit: &Visit, fragments: Vec<Fragment>) -> UnderWay {
        let mut fetches = InOrder::new(visit.rules.settings.esi.concurrency_max);
        let known: Vec<_> = fragments
            .into_iter()
            .map(|fragment| match fragment {
                Fragment::Ready(joined) => Some(joined),
                Fragment::Awaited(awaited) => {
                    fetches.push(self.awaited(*awaited));
                    None
                }
            })
            .collect();
        UnderWay { known: known.into_iter(), fetches }
    }

    /// Fetches a fragment. Boxed, since fragments may have fragments.
    fn awaited(&self, awaited: Awaited) -> Boxed<Result<Joined, FragmentFailed>> {
        let node = self.clone();
        Box::pin(async move {
            let Awaited { visit, source, alternative, continues } = awaited;
            let timeout = visit.rules.settings.esi.timeout;
            if let Some(joined) = node.fetched(source, timeout).await {
                return Ok(joined);
            }
            let joined = match alternative.and_then(|source| node.known(&visit, &source)) {
                Some(Known::Ready(joined)) => Some(joined),
                Some(Known::ToFetch(source)) => node.fetched(source, timeout).await,
                None => None,
            };
            joined.map_or_else(|| without(&visit, continues), Ok)
        })
    }

    async fn fetched(&self, source: Source, timeout: Duration) -> Option<Joined> {
        let Source { visit, step } = source;
        let fetched = async {
            match step {
                Step::Join { entry, fragments } => {
                    let mut under_way = self.under_way(&visit, fragments);
                    let mut fragments = Vec::new();
                    for piece in entry.body().pieces() {
                        if let Piece::Include(_) = piece {
                            fragments.push(under_way.next().await.ok()?);
                        }
                    }
                    Some(join(entry.body(), fragments))
                }
                Step::Decode { entry } => {
                    let outcome = self.deliver(&visit, &entry, Verdict::Hit, None).await;
                    self.take_in(&visit, outcome).await
                }
                Step::Ask { plan, missed } => {
                    let outcome = self.miss(&visit, *plan, missed).await;
                    self.take_in(&visit, outcome).await
                }
                Step::Pass { reason } => {
                    let outcome = self.pass(&visit, Body::empty(), reason).await;
                    self.take_in(&visit, outcome).await
                }
            }
        };
        if let Ok(in_time) = tokio::time::timeout(timeout, fetched).await {
            return in_time;
        }
        tracing::warn!(path = %path(&visit), "a fragment took longer than esi.timeout");
        None
    }

    /// The content of a response in whole, in memory.
    async fn take_in(&self, visit: &Arc<Visit>, outcome: Outcome) -> Option<Joined> {
        let fields: Fields = outcome.response.all_fields().collect();
        let Response { status, body, .. } = outcome.response;
        let coding = delivery::content_coding(&fields);
        if status != StatusCode::OK || coding == Coding::Other {
            tracing::warn!(
                path = %path(visit),
                status = status.as_u16(),
                reason = outcome.reason.map(Reason::as_str),
                "a fragment failed"
            );
            return None;
        }
        let settings = &visit.rules.settings;
        let max_bytes = settings.store.object_max_bytes;
        let body = if coding == Coding::Identity {
            body
        } else {
            let limits = DecodeLimits::of(settings);
            let Decoded::Identity(body) = delivery::decode(body, coding, limits).await else {
                tracing::warn!(path = %path(visit), "a fragment is not coded as it says");
                return None;
            };
            body
        };
        match body.collect(max_bytes).await {
            Ok(content) => Some(Joined::from(content)),
            Err(error) => {
                tracing::warn!(path = %path(visit), %error, "a fragment failed");
                None
            }
        }
    }
}

/// Tells whether content of a streamed page leaves (true), or one of its fragments failed before
/// (false).
pub(super) type Begins = oneshot::Receiver<bool>;

impl Outcome {
    /// An error page in the place of a page of which nothing can leave: a fragment failed that it
    /// does not do without.
    pub(super) async fn begun(mut self) -> Self {
        let Some(begins) = self.begins.take() else { return self };
        if begins.await == Ok(false) { fragment_failure() } else { self }
    }
}

/// The page fails with its fragment.
pub(super) fn fragment_failure() -> Outcome {
    failure(Reason::Fragment, StatusCode::BAD_GATEWAY)
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The fragments of a page in order, while some are fetched.
struct UnderWay {
    /// What is known already; `None` for the next of the fetches.
    known: std::vec::IntoIter<Option<Joined>>,
    fetches: InOrder<Result<Joined, FragmentFailed>>,
}

impl UnderWay {
    async fn next(&mut self) -> Result<Joined, FragmentFailed> {
        match self.known.next().flatten() {
            Some(joined) => Ok(joined),
            None => self.fetches.next().await.unwrap_or(Err(FragmentFailed)),
        }
    }
}

/// Sends a stored page; `first` are its first fragments, which were waited for. When the client has
/// gone nothing more is fetched for it.
async fn send(
    entry: Arc<Entry>,
    first: Vec<Joined>,
    mut fragments: UnderWay,
    mut sender: JoinedSender,
) {
    let mut first = first.into_iter();
    for piece in entry.body().pieces() {
        let next = match piece {
            Piece::Literal(literal) => Joined::from(literal.clone()),
            Piece::Include(_) => {
                if let Some(joined) = first.next() {
                    joined
                } else {
                    tokio::select! {
                        joined = fragments.next() => match joined {
                            Ok(joined) => joined,
                            Err(FragmentFailed) => return sender.abort(),
                        },
                        () = sender.closed() => return,
                    }
                }
            }
        };
        if sender.send(&next).await.is_err() {
            return;
        }
    }
    sender.finish().await;
}

/// What stands in the place of a fragment that failed.
fn without(visit: &Visit, continues: bool) -> Result<Joined, FragmentFailed> {
    if continues || visit.rules.settings.esi.on_error == FragmentError::Continue {
        Ok(Joined::default())
    } else {
        Err(FragmentFailed)
    }
}

/// For messages: the path of a fragment, without what must not stand in a log.
fn path(visit: &Visit) -> String {
    redact(url(visit).path()).escape_ascii().to_string()
}

fn url(visit: &Visit) -> PageUrl<'_> {
    PageUrl { authority: &visit.request.authority, target: &visit.request.target }
}
