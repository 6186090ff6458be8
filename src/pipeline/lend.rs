//! A page for another node: out of the store, or rendered here. Never from a third one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, Version};

use super::Node;
use super::fetch::{Abroad, FillTask, Hints};
use super::lookup::{Looked, Stale};
use super::portable::portable;
use super::visit::Visit;
use crate::body::Body;
use crate::exchange::{Beside, Client, Connection, Peer, Request};
use crate::fill::{Bill, FillWait, Joined, Release};
use crate::fleet::peer::Lender;
use crate::fleet::peer::message::{Answer, Ask, Lent, Why};
use crate::fleet::peer::warm_message::{
    Hottest, HottestAsk, Inherited, LeavingAsk, Parcel, TakeAsk,
};
use crate::policy::{LookupPlan, Plan};
use crate::snapshot::record;
use crate::store::{Entry, Found};

/// Between two looks whether a fetch that is waited for asks another node.
const LOOK: Duration = Duration::from_millis(20);

impl Lender for Node {
    async fn lend(&self, ask: Ask, from: IpAddr) -> Lent {
        let asks_php = ask.wanted.as_ref().is_some_and(|wanted| wanted.asks_php);
        let bill = Bill::default();
        let answer = self.find_or_render(ask, from, &bill).await.unwrap_or_else(Answer::Nothing);
        let milliseconds = if asks_php { bill.swap(0, Ordering::Relaxed) } else { 0 };
        Lent { answer, php: Duration::from_millis(milliseconds) }
    }

    async fn hottest(&self, ask: HottestAsk) -> Result<Hottest, Why> {
        self.list_hottest(ask).await
    }

    async fn give(&self, ask: TakeAsk) -> Result<Vec<Option<Parcel>>, Why> {
        self.give_pages(ask).await
    }

    async fn inherit(&self, ask: LeavingAsk) -> Result<Inherited, Why> {
        self.inherit_from(ask).await
    }
}

impl Node {
    async fn find_or_render(&self, ask: Ask, from: IpAddr, bill: &Bill) -> Result<Answer, Why> {
        self.parts.fleet.may_answer(&ask.release, ask.place).await?;
        let (visit, plan) = self.planned(&ask, from, bill)?;
        let looked = self.look_for(&visit, &plan);
        if let Some(answer) = self.give(&looked.found) {
            return Ok(answer);
        }
        let stale = if ask.takes_stale { self.stale_for_others(&looked.found) } else { None };
        if let Some((stale, true)) = &stale
            && let Some(page) = self.page(&stale.entry)
        {
            if ask.may_render && self.refresh(&visit, plan, stale.clone()) {
                // The answer does not wait for what PHP will take: who asked is charged what it took of late.
                let typical = self.parts.kept_traffic.for_peers().get();
                let milliseconds = u64::try_from(typical.as_millis()).unwrap_or(u64::MAX);
                bill.fetch_add(milliseconds, Ordering::Relaxed);
            }
            return Ok(page);
        }
        if !ask.may_render {
            return Err(Why::NotStored);
        }
        let rendered = self.render_for(&visit, plan, looked).await;
        rendered.or_else(|why| match stale {
            Some((stale, _)) if stale.for_failure => self.page(&stale.entry).ok_or(why),
            _ => Err(why),
        })
    }

    /// What this node would look up for the same request, which has to be what the other one does.
    fn planned(
        &self,
        ask: &Ask,
        from: IpAddr,
        bill: &Bill,
    ) -> Result<(Arc<Visit>, LookupPlan), Why> {
        let rules = self.parts.rules.load_full();
        let (request, client) = request_of(ask, from);
        let plan = if ask.is_fragment {
            rules.policy.plan_fragment(&request, &ask.target, &client)
        } else {
            rules.policy.plan(&request, &client)
        };
        let Plan::Lookup(plan) = plan else { return Err(Why::Key) };
        let is_plain = plan.range.is_none() && !plan.force && !plan.only_if_cached;
        if *plan.key.as_bytes() != ask.key || !is_plain {
            return Err(Why::Key);
        }
        let now = self.parts.clock.now();
        let visit = Visit::new(request, client, rules, now);
        let visit = visit.of_peer(ask.wanted.clone(), Arc::clone(bill));
        Ok((Arc::new(visit), plan))
    }

    /// What is stored and stale, where it may be given to who has nothing at all, and whether that is
    /// so while the origin answers. What this node marked as stale since it missed purges is given to nobody: who asks may have
    /// nothing because of one of them.
    fn stale_for_others(&self, found: &Found) -> Option<(Stale, bool)> {
        let trust = self.parts.fleet.trust();
        match found {
            Found::Stale { entry, stale_for } if !trust.may_have_missed(entry) => {
                let stale = Stale::new(Arc::clone(entry), *stale_for);
                let is_servable = self.serves(&stale, *stale_for);
                Some((stale, is_servable))
            }
            Found::Stale { .. } | Found::Fresh(_) | Found::HitForMiss(_) | Found::Nothing(_) => {
                None
            }
        }
    }

    /// Renders what another node asks for.
    async fn render_for(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        looked: Looked,
    ) -> Result<Answer, Why> {
        let patience = visit.rules.settings.fill.wait_timeout;
        let rendered = self.render(visit, plan.clone(), looked);
        tokio::time::timeout(patience, rendered).await.map_err(|_| Why::Busy)??;
        let looked = self.look_for(visit, &plan);
        self.give(&looked.found).ok_or(Why::Failed)
    }

    fn look_for(&self, visit: &Visit, plan: &LookupPlan) -> Looked {
        self.look(&visit.request.fields, plan, self.parts.clock.now())
    }

    /// What is stored, where that is fresh.
    fn give(&self, found: &Found) -> Option<Answer> {
        match found {
            Found::Fresh(entry) if !self.doubts(entry, self.parts.clock.now()) => self.page(entry),
            Found::HitForMiss(reason) => Some(Answer::Uncacheable(*reason)),
            Found::Fresh(_) | Found::Stale { .. } | Found::Nothing(_) => None,
        }
    }

    /// `None`: it was purged meanwhile. Who asks finds out whether its request selects this variant.
    fn page(&self, entry: &Entry) -> Option<Answer> {
        let (store, fleet) = (&self.parts.store, &self.parts.fleet);
        let names = store.names(entry)?;
        // Asked for after the look at the store: what is purged from now on, who asks will fence.
        let echo = fleet.echo_of(&names.tags, entry.key().url());
        // One that came between these two was none that is still to come.
        store.names(entry)?;
        let response = portable(entry, names, self.parts.clock.now())?;
        let mut out = Vec::new();
        record::write(&response, &mut out).ok()?;
        Some(Answer::Page { record: out.into(), echo })
    }

    /// Fetches what is to be stored, or waits for who does so. What became of it is in the store.
    async fn render(
        &self,
        visit: &Arc<Visit>,
        plan: LookupPlan,
        looked: Looked,
    ) -> Result<(), Why> {
        let (key, stale) = looked.into_fill(&plan);
        let alone = match self.join(visit, &key) {
            Joined::Full => return Err(Why::Busy),
            Joined::Lead(permit) => {
                if self.landed_since(visit, &plan, stale.as_ref()).is_some() {
                    permit.release(Release::Validated);
                    return Ok(());
                }
                permit
            }
            Joined::Follow(wait) => {
                wait.want(self.wants(visit, &plan));
                if wait_at_home(&wait).await {
                    // Another node's question may have led it that was given up, or was this visitor's less urgent one.
                    take_over_bill(visit, &wait);
                    return Ok(());
                }
                // Who leads it asks a third node, and a miss visits one.
                let (mark, now) = (self.parts.store.mark(), self.parts.clock.now());
                self.parts.flights.alone(&key, mark, now)
            }
        };
        if let Some(bill) = &visit.bill {
            alone.bill_to(bill);
        }
        let landing = alone.follow();
        let is_refresh = visit.wanted.as_ref().is_some_and(|wanted| wanted.is_refresh);
        let hints = if is_refresh { Hints::Unwanted } else { Hints::ToClient };
        let (visit, permit, abroad) = (Arc::clone(visit), alone, Abroad::Forbidden);
        // What nobody joins ends where this is dropped.
        let _leader = self.spawn_fill(FillTask {
            visit,
            plan,
            permit,
            stale,
            place: None,
            abroad,
            turn: None,
            hints,
        });
        landing.landed().await;
        Ok(())
    }
}

/// What PHP took for a fetch that this one followed, unless whoever led it has it already.
fn take_over_bill(visit: &Visit, wait: &FillWait) {
    let asks_php = visit.wanted.as_ref().is_some_and(|wanted| wanted.asks_php);
    if let Some(bill) = visit.bill.as_ref().filter(|_| asks_php) {
        bill.fetch_add(wait.take_bill(), Ordering::Relaxed);
    }
}

/// Waits for a fetch; false: it asks another node.
async fn wait_at_home(wait: &FillWait) -> bool {
    while !wait.is_abroad() {
        if tokio::time::timeout(LOOK, wait.landed()).await.is_ok() {
            return true;
        }
    }
    false
}

/// The request as if it had come from a hop that is trusted to say how the client came.
fn request_of(ask: &Ask, from: IpAddr) -> (Request, Client) {
    let request = Request {
        method: Method::GET,
        target: ask.target.clone(),
        authority: ask.authority.clone(),
        version: Version::HTTP_11,
        fields: ask.fields.clone(),
        body: Body::empty(),
        connection: Connection { peer: Peer::Ip((from, 0).into()), local: None, tls: false },
        beside: Beside::default(),
    };
    let client = Client {
        address: from,
        port: 0,
        scheme: ask.scheme,
        server_port: ask.server_port,
        trusted_peer: true,
        forged: false,
        hops: Vec::new(),
    };
    (request, client)
}
