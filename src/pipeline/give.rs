//! Pages for nodes that come, and from nodes that go: what this one answers.

use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use crate::fleet::peer::message::Why;
use crate::fleet::peer::warm_message::{Heir, Hot, Hottest, HottestAsk, Parcel, TakeAsk};
use crate::policy::CacheKey;
use crate::snapshot::record;
use crate::store::{Entry, Freshness, Stored, Used, Walk};

/// Bytes of an answer with pages, after which no further page is put into it.
pub(super) const BATCH_BYTES: u64 = 256 << 10;

/// Bytes of a list of pages: 100,000 keys of 150 bytes. Who asks takes no longer answer.
const LIST_MAX_BYTES: usize = 16 << 20;

impl Node {
    /// What keys mean here, as it is told to others.
    pub(super) fn keyspace(&self) -> u64 {
        self.parts.rules.load().policy.keyspace()
    }

    fn is_of_keyspace(&self, keyspace: u64) -> Result<(), Why> {
        if keyspace == self.keyspace() { Ok(()) } else { Err(Why::Key) }
    }

    /// What is asked for most here, for a node that joins, or for the heir of this one.
    pub(super) async fn list_hottest(&self, ask: HottestAsk) -> Result<Hottest, Why> {
        self.parts.fleet.is_of_release(&ask.release)?;
        self.is_of_keyspace(ask.keyspace)?;
        let _place = self.parts.fleet.giving()?;
        let node = self.clone();
        // All that is stored is looked at.
        tokio::task::spawn_blocking(move || node.walk_hottest(&ask)).await.map_err(|_| Why::Failed)
    }

    fn walk_hottest(&self, ask: &HottestAsk) -> Hottest {
        let (mut list, mut list_bytes, mut page_bytes) = (Hottest::default(), 0, 0);
        let legacy = |heir: &Heir| self.parts.fleet.legacy_bytes(heir.others.len() + 1);
        let page_bytes_max = ask.heir.as_ref().map_or(u64::MAX, legacy);
        let asked_for =
            Walk::new(Arc::clone(&self.parts.store)).take_while(|stored| weight(stored.used) > 0);
        for Stored { entry, used } in asked_for {
            let key = entry.key().as_bytes().clone();
            let is_owned = ask.heir.as_ref().is_none_or(|heir| heir.owns(&key));
            if !is_owned || !self.may_give(&entry) {
                continue;
            }
            let (weight, bytes) = (weight(used), entry.weight_bytes());
            list.weight += u64::from(weight);
            list_bytes += key.len() + Hottest::PAGE_BYTES;
            page_bytes += bytes;
            let fits = list.pages.len() < ask.pages_max as usize && list_bytes <= LIST_MAX_BYTES;
            if fits && page_bytes <= page_bytes_max {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                list.pages.push(Hot { key, weight, bytes });
            }
        }
        list
    }

    /// Pages by their keys. It looks into its store once it has applied the log as far as who asks.
    pub(super) async fn give_pages(&self, ask: TakeAsk) -> Result<Vec<Option<Parcel>>, Why> {
        self.is_of_keyspace(ask.keyspace)?;
        let fleet = &self.parts.fleet;
        let _place = fleet.giving()?;
        fleet.may_answer(&ask.release, ask.place).await?;
        let node = self.clone();
        let found = tokio::task::spawn_blocking(move || node.parcels(&ask.keys));
        let parcels = found.await.map_err(|_| Why::Failed)?;
        let sizes = parcels.iter().flatten().map(|parcel| parcel.record.len() as u64);
        let (pages, bytes) = (parcels.iter().flatten().count() as u64, sizes.sum());
        // Visitors come first: pages for the future keep to a rate.
        fleet.pace_giving(bytes).await;
        fleet.gave(pages, bytes);
        Ok(parcels)
    }

    /// One for each key, until there are enough bytes; the rest is asked for again.
    fn parcels(&self, keys: &[Bytes]) -> Vec<Option<Parcel>> {
        let mut bytes = 0;
        let mut parcels = Vec::with_capacity(keys.len());
        for key in keys {
            let parcel = CacheKey::checked(key).and_then(|key| self.parcel(&key));
            bytes += parcel.as_ref().map_or(0, |parcel| parcel.record.len() as u64);
            parcels.push(parcel);
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        parcels
    }

    fn parcel(&self, key: &CacheKey) -> Option<Parcel> {
        let (store, fleet, now) = (&self.parts.store, &self.parts.fleet, self.parts.clock.now());
        let entry = store.peek(key, now).filter(|entry| self.may_give(entry))?;
        let tags = store.names(&entry)?.tags;
        // Asked for after the look at the store: what is purged from now on, who asks will fence.
        let echo = fleet.echo_of(&tags, key.url());
        let used = entry.used();
        let response = self.export(&Stored { entry, used })?;
        let mut out = Vec::new();
        record::write(&response, &mut out).ok()?;
        Some(Parcel { record: out.into(), echo })
    }

    /// Is it fresh, and beyond doubt?
    fn may_give(&self, entry: &Entry) -> bool {
        let now = self.parts.clock.now();
        entry.freshness(now) == Freshness::Fresh && !self.doubts(entry, now)
    }
}

/// Hits of the last hour; of what was asked for less often than these are counted, its marks.
fn weight(used: Used) -> u32 {
    u32::try_from(used.hits.saturating_add(u64::from(used.marks))).unwrap_or(u32::MAX)
}
