//! A node that starts is ready when it knows the log's end, and has the pages that are asked for most;
//! and what it takes from a node that leaves.
//!
//! Each batch of pages is stored as a fill that began before it was asked for: what was purged here
//! before, the other node had applied when it looked into its store; what was purged since, the fence
//! of this store knows.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::Node;
use super::give::BATCH_BYTES;
use super::portable::NotImported;
use crate::clock::Moment;
use crate::fleet::peer::haul::{Came, Haul, SOURCES_MAX};
use crate::fleet::peer::message::Why;
use crate::fleet::peer::warm_message::{Heir, Hottest, Inherited, LeavingAsk, Parcel};
use crate::fleet::{Due, Host};
use crate::observe::Cause;
use crate::policy::CacheKey;
use crate::snapshot::record;
use crate::store::{FillMark, NotRestored};

/// Between two tries where a node is busy, or this one's own purges are not in the log yet.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries at a node that is busy or behind, before it counts as failed.
const TRIES_MAX: usize = 100;

/// Between two lines of progress in the log.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How taking pages came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// There is nobody to take pages from.
    Nobody,
    /// What the others list is here.
    Complete,
    /// There is no room for more.
    Full,
    /// A node failed; others may have what it had.
    Short,
}

/// What was taken so far.
#[derive(Debug, Default)]
struct Taken {
    pages: u64,
    bytes: u64,
}

/// What became of one answer.
enum Kept {
    Some { came: Vec<Came>, taken: Taken, refused: u64 },
    Full,
}

impl Node {
    /// Runs from the start of a node until it has what it can have. Clears what makes it not ready.
    /// `restored` resolves when it has what it had before it was started.
    pub async fn join_fleet(&self, restored: impl Future<Output = ()>) {
        let fleet = &self.parts.fleet;
        let Some(join_wait) = fleet.join_wait() else { return };
        let state = &self.parts.readiness;
        if fleet.knows_end_within(join_wait).await {
            state.clear(Cause::LogUnknown);
        } else {
            state.clear(Cause::LogUnknown);
            state.clear(Cause::Warming);
            tracing::warn!(
                "fleet.join_wait is over without the log's end: ready alone, and with nothing of others"
            );
            fleet.knows_end_within(Duration::MAX).await;
            tracing::info!("the log's end is known");
        }
        let Some(warm) = fleet.warm() else { return };
        let began = self.parts.clock.now();
        let mut taken = Taken::default();
        let warming = async {
            restored.await;
            self.warm_up(&mut taken).await
        };
        let ended = timeout(warm.warm_max, warming).await;
        let was_waited_for = state.clear(Cause::Warming);
        let percent = fleet.warm_figures().and_then(|figures| figures.percent);
        let took = self.parts.clock.now().since(began);
        let Taken { pages, bytes } = taken;
        match ended {
            Ok(Ended::Nobody) => tracing::info!("no other node has pages to take: ready"),
            Ok(ended) => tracing::info!(?ended, percent, pages, bytes, ?took, "warm"),
            Err(_) if was_waited_for => tracing::warn!(
                percent,
                pages,
                bytes,
                "fleet.warm_max is over: ready without the rest of the others' pages"
            ),
            Err(_) => tracing::info!(percent, pages, bytes, "fleet.warm_max is over"),
        }
    }

    async fn warm_up(&self, taken: &mut Taken) -> Ended {
        let fleet = &self.parts.fleet;
        let pause = fleet.heartbeat();
        loop {
            let Some(hosts) = fleet.hosts() else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if hosts.is_empty() {
                return Ended::Nobody;
            }
            let (hosts, lists) = self.lists_of(hosts).await;
            if !lists.is_empty() {
                let ended = self.take_all(&hosts, lists, Some(Cause::Warming), taken).await;
                if ended != Ended::Short {
                    return ended;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks the warmest for their lists, further ones where one gives none.
    async fn lists_of(&self, hosts: Vec<Host>) -> (Vec<Host>, Vec<Hottest>) {
        let fleet = &self.parts.fleet;
        let peers_max = fleet.warm().map_or(0, |warm| warm.peers_max).min(SOURCES_MAX);
        let keyspace = self.keyspace();
        let (mut able, mut lists) = (Vec::new(), Vec::new());
        for host in hosts.into_iter().filter(|host| !host.is_soft) {
            match fleet.hottest(host.address, keyspace, None).await {
                Some(Ok(list)) => {
                    able.push(host);
                    lists.push(list);
                }
                answer => tracing::info!(host.name, ?answer, "no list of pages"),
            }
            if lists.len() >= peers_max {
                break;
            }
        }
        (able, lists)
    }

    /// Takes what is listed and not here. `waits`: what makes this node not ready, until it has
    /// `fleet.warm_share`.
    async fn take_all(
        &self,
        hosts: &[Host],
        lists: Vec<Hottest>,
        waits: Option<Cause>,
        taken: &mut Taken,
    ) -> Ended {
        let (fleet, keyspace) = (&self.parts.fleet, self.keyspace());
        let node = self.clone();
        let haul = tokio::task::spawn_blocking(move || Haul::new(lists, |key| node.is_here(key)));
        let Ok(mut haul) = haul.await else { return Ended::Short };
        let share = fleet.warm().map_or(100, |warm| warm.share_percent);
        let mut told = self.parts.clock.now();
        tracing::info!(
            nodes = hosts.len(),
            pages = haul.left(),
            percent = haul.percent(),
            "taking pages"
        );
        loop {
            if let Some(cause) = waits {
                fleet.reach(haul.percent());
                if haul.percent() >= share && self.parts.readiness.clear(cause) {
                    tracing::info!(
                        percent = haul.percent(),
                        pages = taken.pages,
                        "warm enough: ready"
                    );
                }
            }
            told = self.tell(told, &haul, taken);
            let Some(mut batch) = haul.next(BATCH_BYTES) else { break };
            let keys = batch.wants.iter().map(|want| want.key.clone()).collect();
            let Some(kept) = self.take(hosts[batch.source].address, keyspace, keys).await else {
                let source = batch.source;
                tracing::info!(host = hosts[source].name, "a node gives no more pages");
                haul.again(batch);
                haul.failed(source);
                continue;
            };
            let Kept::Some { came, taken: more, refused } = kept else { return Ended::Full };
            for came in came {
                haul.settle(&mut batch, came);
            }
            haul.again(batch);
            fleet.took(more.pages, more.bytes, refused);
            taken.pages += more.pages;
            taken.bytes += more.bytes;
            fleet.pace_taking(more.bytes).await;
        }
        if haul.is_short() { Ended::Short } else { Ended::Complete }
    }

    /// Says now and then how far it is.
    fn tell(&self, told: Moment, haul: &Haul, taken: &Taken) -> Moment {
        let now = self.parts.clock.now();
        if now.since(told) < TOLD_EVERY {
            return told;
        }
        let (percent, left, pages, bytes) = (haul.percent(), haul.left(), taken.pages, taken.bytes);
        tracing::info!(percent, pages, bytes, left, "taking pages");
        now
    }

    /// Takes pages by their keys, and stores them. `None`: that node gives none.
    async fn take(
        &self,
        host: std::net::SocketAddr,
        keyspace: u64,
        keys: Vec<Bytes>,
    ) -> Option<Kept> {
        let fleet = &self.parts.fleet;
        for _ in 0..TRIES_MAX {
            // Before the place is asked for: what is purged in between, both know of.
            let mark = self.parts.store.mark();
            if let Some(place) = fleet.place() {
                match fleet.take(host, place, keyspace, keys.clone()).await? {
                    // Less than one page would never come to an end.
                    Ok(parcels) if parcels.is_empty() => return None,
                    Ok(parcels) => {
                        let node = self.clone();
                        let kept = move || node.keep(mark, &keys, parcels);
                        return tokio::task::spawn_blocking(kept).await.ok();
                    }
                    Err(Why::Busy | Why::Behind) => {}
                    Err(_) => return None,
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    fn keep(&self, mark: FillMark, keys: &[Bytes], parcels: Vec<Option<Parcel>>) -> Kept {
        let (mut came, mut taken, mut refused) = (Vec::new(), Taken::default(), 0);
        for (key, parcel) in keys.iter().zip(parcels) {
            let Some(Parcel { record, echo }) = parcel else {
                came.push(Came::NotThere);
                continue;
            };
            let bytes = record.len() as u64;
            match self.keep_one(mark, key, record, echo) {
                Ok(()) => {
                    came.push(Came::Here);
                    taken.pages += 1;
                    taken.bytes += bytes;
                }
                Err(NotImported::Store(NotRestored::Known)) => came.push(Came::Here),
                Err(NotImported::Store(NotRestored::Full)) => return Kept::Full,
                Err(error) => {
                    tracing::debug!(%error, "a page of another node is not stored");
                    refused += 1;
                    came.push(Came::Gone);
                }
            }
        }
        Kept::Some { came, taken, refused }
    }

    fn keep_one(
        &self,
        mark: FillMark,
        key: &Bytes,
        content: Bytes,
        echo: Due,
    ) -> Result<(), NotImported> {
        let response = record::read(content).map_err(|_| NotImported::Malformed)?;
        if response.key != key || response.ttl.is_zero() {
            return Err(NotImported::Malformed);
        }
        let entry = self.import(mark, response)?;
        // It may show what stood before a change; the other node will purge it again, and so do we.
        self.parts.fleet.echo(entry.key().url(), echo);
        Ok(())
    }

    fn is_here(&self, key: &[u8]) -> bool {
        let now = self.parts.clock.now();
        CacheKey::checked(key).is_some_and(|key| self.parts.store.peek(&key, now).is_some())
    }

    /// Takes what will be this node's when another one has left.
    pub(super) async fn inherit_from(&self, ask: LeavingAsk) -> Result<Inherited, Why> {
        let (host, heir, wait) = self.parts.fleet.heir_of(&ask.name).ok_or(Why::NotStored)?;
        let mut taken = Taken::default();
        let name = host.name.clone();
        // The other node waits no longer.
        let all = timeout(wait, self.take_legacy(host, heir, &mut taken)).await;
        let Taken { pages, bytes } = taken;
        tracing::info!(
            name,
            pages,
            bytes,
            in_time = all.is_ok(),
            "took the pages of a node that leaves"
        );
        Ok(Inherited { pages, bytes })
    }

    async fn take_legacy(&self, host: Host, heir: Heir, taken: &mut Taken) {
        let (fleet, keyspace) = (&self.parts.fleet, self.keyspace());
        for _ in 0..TRIES_MAX {
            match fleet.hottest(host.address, keyspace, Some(heir.clone())).await {
                Some(Ok(list)) => {
                    self.take_all(&[host], vec![list], None, taken).await;
                    return;
                }
                Some(Err(Why::Busy)) => tokio::time::sleep(PAUSE).await,
                Some(Err(_)) | None => return,
            }
        }
    }
}

#[cfg(test)]
mod simulation;
