//! What a node that comes or goes asks of the others. What it does with the answers is the
//! pipeline's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use tokio::task::JoinSet;

use super::Fleet;
use super::peer::message::{Place, Why};
use super::peer::warm_message::{
    Heir, Hottest, HottestAsk, Inherited, LeavingAsk, Parcel, TakeAsk,
};
use super::warmth::WarmFigures;
use crate::observe::{Cause, State};
use crate::settings::Warm;

/// Between two looks whether the log's end is known.
const END_LOOK: Duration = Duration::from_millis(20);

/// A node from which pages may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Where it gives pages.
    pub address: SocketAddr,
    /// Hits of its last hour.
    pub hits_hour: u64,
    /// Does it not know the log's end, so that it gives nothing?
    pub is_soft: bool,
}

impl Fleet {
    /// Makes a node that starts not ready for what it has to wait for; who waits clears that.
    pub fn hold(&self, state: &State) {
        if self.link.is_none() {
            return;
        }
        state.raise(Cause::LogUnknown);
        if self.warm().is_some() {
            state.raise(Cause::Warming);
        }
    }

    /// The settings of nodes that come and go; `None`: there is nobody to take pages from.
    pub fn warm(&self) -> Option<&Warm> {
        let (link, _) = (self.link.as_ref()?, self.peers.as_ref()?);
        Some(&link.settings.warm).filter(|warm| !warm.warm_max.is_zero())
    }

    /// Waits until this node knows the log's end, for so long at most. False: it does not.
    pub async fn knows_end_within(&self, wait: Duration) -> bool {
        let Some(link) = &self.link else { return true };
        let knows = async {
            while link.position().is_none() || self.trust().is_soft(link.clock.now()) {
                tokio::time::sleep(END_LOOK).await;
            }
        };
        tokio::time::timeout(wait, knows).await.is_ok()
    }

    /// Waits until each clean is done here that others, or processes of this node before, have told of: up to the
    /// log's end, and what was in the journal. Where cleans were missed, all values are gone by then.
    pub async fn knows_cleans(&self) {
        let Some(link) = &self.link else { return };
        let knows = || {
            link.is_journal_done.load(Ordering::Acquire)
                && link.position().is_some()
                && !self.trust().is_soft(link.clock.now())
        };
        while !knows() {
            tokio::time::sleep(END_LOOK).await;
        }
    }

    /// Between two looks at who is there.
    pub fn heartbeat(&self) -> Duration {
        self.link.as_ref().map_or(Duration::from_secs(1), |link| link.settings.heartbeat)
    }

    /// How long a node that starts waits for the log's end; `None`: there is no log.
    pub fn join_wait(&self) -> Option<Duration> {
        self.link.as_ref().map(|link| link.settings.warm.join_wait)
    }

    /// Nodes of the same release and version, those with most hits first. `None`: nobody has looked
    /// yet, or this node's release has not been read.
    pub fn hosts(&self) -> Option<Vec<Host>> {
        let link =
            self.link.as_ref().filter(|link| link.is_release_read.load(Ordering::Acquire))?;
        let (members, release) = (link.members.load_full()?, link.release.load());
        let like = members.iter().filter(|member| member.is_like(&link.name, &release));
        let host = |member: &super::Member| {
            Some(Host {
                name: member.name.clone(),
                address: member.peer.parse().ok()?,
                hits_hour: member.hits_hour,
                is_soft: member.soft,
            })
        };
        let mut hosts: Vec<_> = like.filter_map(host).collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.hits_hour));
        Some(hosts)
    }

    /// Asks what is asked for most. `None`: there was no answer.
    pub async fn hottest(
        &self,
        host: SocketAddr,
        keyspace: u64,
        heir: Option<Heir>,
    ) -> Option<Result<Hottest, Why>> {
        let (peers, link) = (self.peers.as_ref()?, self.link.as_ref()?);
        let pages_max = link.settings.warm.pages_max;
        let release = link.release_bytes();
        peers.ask_beside(host, &HottestAsk { release, keyspace, pages_max, heir }).await
    }

    /// The place up to which who gives pages must have come, so that each purge that is applied here
    /// holds for them. `None`: there is none now.
    pub fn place(&self) -> Option<Place> {
        let link = self.link.as_ref()?;
        link.known().filter(|_| !self.trust().is_soft(link.clock.now()))
    }

    /// Asks for pages. `None`: there was no answer.
    pub async fn take(
        &self,
        host: SocketAddr,
        place: Place,
        keyspace: u64,
        keys: Vec<Bytes>,
    ) -> Option<Result<Vec<Option<Parcel>>, Why>> {
        let (peers, link) = (self.peers.as_ref()?, self.link.as_ref()?);
        let release = link.release_bytes();
        peers.ask_beside(host, &TakeAsk { place, release, keyspace, keys }).await
    }

    /// Waits as long as so many bytes last that were taken.
    pub async fn pace_taking(&self, bytes: u64) {
        if let (Some(peers), Some(link)) = (&self.peers, &self.link) {
            tokio::time::sleep(peers.taking.take(bytes, link.clock.elapsed())).await;
        }
    }

    /// Waits as long as so many bytes last that are given.
    pub async fn pace_giving(&self, bytes: u64) {
        if let (Some(peers), Some(link)) = (&self.peers, &self.link) {
            tokio::time::sleep(peers.giving.take(bytes, link.clock.elapsed())).await;
        }
    }

    /// A place among those to whom this node gives at once.
    ///
    /// # Errors
    /// [`Why::Busy`].
    pub fn giving(&self) -> Result<SemaphorePermit<'_>, Why> {
        let peers = self.peers.as_ref().ok_or(Why::Busy)?;
        peers.streams.try_acquire().map_err(|_| Why::Busy)
    }

    /// The bytes that this node hands to each of so many heirs.
    pub fn legacy_bytes(&self, heirs: usize) -> u64 {
        let bytes = self.link.as_ref().map_or(0, |link| link.settings.warm.leave_max_bytes);
        bytes / heirs.max(1) as u64
    }

    /// Another node says that it leaves: it is not asked for pages any more. Gives where it is, how this
    /// node is its heir, and how long it waits. `None`: it is no node from which pages may be had.
    pub fn heir_of(&self, name: &[u8]) -> Option<(Host, Heir, Duration)> {
        let (peers, link) = (self.peers.as_ref()?, self.link.as_ref()?);
        let members = link.members.load_full()?;
        let leaving = members.iter().find(|member| member.name.as_bytes() == name)?;
        let host = self.hosts()?.into_iter().find(|host| host.name == leaving.name)?;
        let heir = peers.without(leaving, link.settings.proof_max)?;
        Some((host, heir, link.settings.warm.leave_max))
    }

    /// Tells the others that this node leaves, and waits until they have taken what they want, for
    /// `fleet.leave_max` at most.
    pub async fn hand_on(&self) {
        let (Some(peers), Some(link)) = (&self.peers, &self.link) else { return };
        if link.is_aside.load(Ordering::Relaxed) {
            return;
        }
        let (others, leave_max) = (peers.leave(), link.settings.warm.leave_max);
        if others.is_empty() || leave_max.is_zero() {
            return;
        }
        tracing::info!(nodes = others.len(), "handing pages on to the nodes that will own them");
        let mut telling = JoinSet::new();
        for other in others {
            let (peers, name) = (Arc::clone(peers), Bytes::copy_from_slice(link.name.as_bytes()));
            telling.spawn(async move { peers.ask_beside(other, &LeavingAsk { name }).await });
        }
        let (mut sum, mut silent) = (Inherited::default(), 0);
        let all = async {
            while let Some(told) = telling.join_next().await {
                match told {
                    Ok(Some(Ok(Inherited { pages, bytes }))) => {
                        sum.pages += pages;
                        sum.bytes += bytes;
                    }
                    Ok(Some(Err(_)) | None) | Err(_) => silent += 1,
                }
            }
        };
        let in_time = tokio::time::timeout(leave_max, all).await.is_ok();
        let Inherited { pages, bytes } = sum;
        tracing::info!(pages, bytes, silent, in_time, "pages were handed on");
    }

    /// Notes how much of what is asked for is here.
    pub fn reach(&self, percent: u64) {
        if let Some(link) = &self.link {
            link.warmth.reach(percent);
        }
    }

    /// Counts pages that came, their bytes, and those that came and were not stored.
    pub fn took(&self, pages: u64, bytes: u64, refused: u64) {
        if let Some(link) = &self.link {
            link.warmth.took(pages, bytes, refused);
        }
    }

    /// Counts pages that were given, and their bytes.
    pub fn gave(&self, pages: u64, bytes: u64) {
        if let Some(link) = &self.link {
            link.warmth.gave(pages, bytes);
        }
    }

    /// What was taken and given in advance; `None`: there is nobody to take from.
    pub fn warm_figures(&self) -> Option<WarmFigures> {
        let (link, _) = (self.link.as_ref()?, self.peers.as_ref()?);
        Some(link.warmth.figures())
    }
}
