//! A page from the node that owns its key, in place of one that is rendered here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Node;
use super::fetch::{Abroad, FillTask, LeaderAnswer};
use super::portable::to_be_stored;
use super::visit::Visit;
use crate::fill::{FillPermit, Release};
use crate::fleet::peer::message::{Answer, Ask, Lent};
use crate::fleet::{Due, Owner};
use crate::policy::{CacheKey, LookupPlan, Vary, language_of};
use crate::reason::Reason;
use crate::snapshot::{StoredResponse, record};
use crate::store::{Entry, Variant};

/// How often it is looked whether a page that another node is asked for is wanted more urgently.
const LOOK: Duration = Duration::from_millis(500);

/// What became of asking another node.
enum Borrowed {
    /// It is stored here now.
    Page(Arc<Entry>),
    /// Responses to this are not stored: nobody need wait for another's.
    Uncacheable(Reason),
    /// Nothing: it is rendered here.
    Nothing,
}

impl Node {
    /// Asks another node before anything is fetched, where that may be. `None`: the page is here, and
    /// all who wait have it.
    pub(super) async fn borrow_first(
        &self,
        task: FillTask,
        answer: oneshot::Sender<LeaderAnswer>,
    ) -> Option<(FillTask, oneshot::Sender<LeaderAnswer>)> {
        if task.abroad == Abroad::Forbidden {
            return Some((task, answer));
        }
        match self.borrow(&task).await {
            Borrowed::Page(entry) => {
                task.permit.release(Release::Validated);
                drop(answer.send(LeaderAnswer::Borrowed(entry)));
                None
            }
            Borrowed::Uncacheable(reason) => {
                let permit = self.part_followers(&task.visit, &task.plan, task.permit, reason);
                Some((FillTask { permit, ..task }, answer))
            }
            Borrowed::Nothing => Some((task, answer)),
        }
    }

    /// Another node says that the response is not one to be stored: it is remembered, and who waits
    /// for this fetch fetches for himself. The fetch goes on, without anybody to join it.
    fn part_followers(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        permit: FillPermit,
        reason: Reason,
    ) -> FillPermit {
        let store = &self.parts.store;
        let remember = visit.rules.policy.remembered(plan, reason);
        if !store.remember_uncacheable(permit.mark(), permit.key(), reason, remember) {
            return permit;
        }
        let (key, now) = (permit.key().clone(), self.parts.clock.now());
        let alone = self.parts.flights.alone(&key, permit.mark(), now);
        permit.release(Release::Uncacheable(reason));
        alone
    }

    /// Asks the owner of a key, where that is another node. Waits no longer than for any fetch.
    async fn borrow(&self, task: &FillTask) -> Borrowed {
        let FillTask { visit, plan, permit, stale, .. } = task;
        let is_whole = plan.range.is_none() && self.beginning(plan).is_none();
        let owner = self.parts.fleet.owner_of(plan.key.as_bytes());
        let Some(owner) = owner.filter(|_| is_whole) else { return Borrowed::Nothing };
        let takes_stale = stale.is_none();
        let Some(ask) = ask_of(visit, plan, &owner, takes_stale) else {
            return Borrowed::Nothing;
        };
        let payers = self.payers(visit);
        permit.set_abroad(true);
        let patience = visit.rules.settings.fill.wait_timeout;
        let asked = tokio::time::timeout(patience, self.ask_as_wanted(task, &owner, ask)).await;
        permit.set_abroad(false);
        let Ok(Some(Lent { answer, php })) = asked else { return Borrowed::Nothing };
        // Whoever makes PHP work is charged where the rules have judged it, whichever node's PHP that is.
        if !php.is_zero() {
            self.charge(visit, &payers, php);
        }
        match answer {
            Answer::Page { record, echo } => {
                let kept = self.keep_borrowed(visit, plan, permit, (record, echo), takes_stale);
                kept.map_or(Borrowed::Nothing, Borrowed::Page)
            }
            Answer::Uncacheable(reason) => Borrowed::Uncacheable(reason),
            Answer::Nothing(why) => {
                tracing::debug!(?why, "the owner of a page has nothing to give");
                Borrowed::Nothing
            }
        }
    }

    /// Asks, and once more where somebody comes to wait who wants it more urgently: at the other node that lifts
    /// the seat of the fetch that is under way. Each time it is of a better rank, so that it ends.
    async fn ask_as_wanted(&self, task: &FillTask, owner: &Owner, mut ask: Ask) -> Option<Lent> {
        loop {
            let wanted = self.wanted(task);
            let class = wanted.class.clone();
            ask.wanted = Some(wanted);
            let is_wanted_more = async {
                while self.wanted(task).class == class {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                biased;
                answer = self.parts.fleet.ask(owner, &ask) => return answer,
                () = is_wanted_more => {}
            }
        }
    }

    /// Stores it, unless a purge came since this node began to ask, or it is not what was asked
    /// for.
    fn keep_borrowed(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        permit: &FillPermit,
        (content, echo): (Bytes, Due),
        takes_stale: bool,
    ) -> Option<Arc<Entry>> {
        let response = record::read(content).ok()?;
        if response.ttl.is_zero() && !takes_stale {
            return None;
        }
        let (key, variant) = place_of(visit, plan, &response)?;
        let new = to_be_stored(response, key, variant)?;
        let entry = self.parts.store.insert(permit.mark(), new).ok()?;
        // It may show what stood before a change; the owner will purge it again, and so do we.
        self.parts.fleet.echo(entry.key().url(), echo);
        Some(entry)
    }
}

/// `None`: it may not be asked for elsewhere.
fn ask_of(visit: &Visit, plan: &LookupPlan, owner: &Owner, takes_stale: bool) -> Option<Ask> {
    let (request, client) = (&visit.request, &visit.client);
    let there = visit.rules.policy.peer_request(request, client, &plan.target)?;
    Some(Ask {
        key: plan.key.as_bytes().clone(),
        target: plan.target.clone(),
        authority: there.authority,
        scheme: client.scheme,
        server_port: client.server_port,
        is_fragment: visit.nesting.is_fragment(),
        may_render: there.may_render,
        takes_stale,
        place: owner.place,
        release: Bytes::copy_from_slice(owner.release.as_bytes()),
        wanted: None,
        fields: there.fields,
    })
}

/// The key under which it is stored, as this node makes it; `None`: that is not the key under which
/// it stands at the owner, so that it is not for this request.
fn place_of(
    visit: &Visit,
    plan: &LookupPlan,
    response: &StoredResponse,
) -> Option<(CacheKey, Option<Variant>)> {
    let (primary, fields) = (&plan.key, &visit.request.fields);
    let (key, variant) = match &response.variant {
        None => (primary.clone(), None),
        Some(variant) => {
            let vary = Vary::of_names(&variant.vary)?;
            let told = super::portable::fields_of(&response.head)?;
            let by_language = language_of(&told)
                .and_then(|language| vary.key_by_language(primary, fields, &language));
            let key = vary.key(primary, fields);
            (key, Some(Variant { primary: primary.clone(), vary, by_language }))
        }
    };
    (*key.as_bytes() == response.key).then_some((key, variant))
}
