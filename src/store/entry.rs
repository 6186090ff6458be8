//! A stored response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::body::StoredBody;
use super::new_entry::{NewEntry, buffer_bytes};
use super::slots::Slot;
use super::span::Span;
use super::uses::{Used, Uses};
use crate::clock::Moment;
use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::policy::CacheKey;

/// An interned tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub(super) u32);

/// A stored response.
///
/// What a reader holds stays whole and unchanged, also after the store has let go of it.
///
/// There are as many of them as pages in the store, so that its size counts: what is of no fixed length
/// stands in one buffer with the head, and times take four bytes each.
#[derive(Debug)]
pub struct Entry {
    /// Its buffer has key, number of the pool, numbers of the tags, lines of the head, lines of the
    /// origin's head, in this order.
    head: StoredHead,
    pub(super) body: StoredBody,
    pub(super) sequence: u64,
    stored_at: Moment,
    key_bytes: u32,
    ttl: Span,
    grace: Span,
    keep: Span,
    stale_if_error: Span,
    age: Span,
    pub(super) slot: Slot,
    pub(super) weight_bytes: u32,
    purged: AtomicU32,
    /// The [`Span`] after which it may be refreshed in the background, from when it was stored.
    refresh_from: AtomicU32,
    pub(super) uses: Uses,
    status: StatusCode,
    /// A sum of [`HAS_POOL`] and the like.
    flags: u8,
    removed: AtomicBool,
}

const HAS_POOL: u8 = 1;
const HAS_VALIDATION: u8 = 2;
const DEBUG: u8 = 4;
const STALE_IF_DISCONNECTED: u8 = 8;
const CODED: u8 = 16;
const RESTORED: u8 = 32;

/// What the index knows of a response that it holds.
#[derive(Debug, Default)]
pub(super) struct Retention {
    pub(super) slot: Slot,
    /// Counts stored responses; never reused, as slots are.
    pub(super) sequence: u64,
    pub(super) weight_bytes: u32,
    pub(super) tags: Vec<TagId>,
    pub(super) pool: Option<TagId>,
    /// As what stood under its key, or as it was where it comes from.
    pub(super) used: Used,
    /// See [`Entry::is_restored`].
    pub(super) is_restored: bool,
}

/// How old a response is against its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Within its lifetime.
    Fresh,
    /// Past it, and still kept.
    Stale {
        /// For so long: since its lifetime ended, or a soft purge came.
        stale_for: Duration,
    },
    /// Past what it is kept, or purged.
    Dead,
}

/// Values of [`Entry::purged`]: a soft purge is its [`Span`] after the response was stored, plus one.
/// The least value wins, so that purges in any order end the same way.
const PURGED_HARD: u32 = 0;
const NOT_PURGED: u32 = u32::MAX;

impl Entry {
    pub(super) fn new(new: NewEntry, stored_at: Moment, retention: Retention) -> Self {
        let Retention { slot, sequence, weight_bytes, tags, pool, used, is_restored } = retention;
        let mut buffer = Vec::with_capacity(buffer_bytes(&new));
        buffer.extend_from_slice(new.key.as_bytes());
        for number in pool.iter().chain(&tags) {
            push_number(&mut buffer, number.0);
        }
        let start = buffer.len();
        buffer.extend_from_slice(new.head.http1());
        let lines = start..buffer.len();
        buffer.extend_from_slice(new.validation.as_ref().map_or(&[], StoredHead::http1));
        let flags = [
            (HAS_POOL, pool.is_some()),
            (HAS_VALIDATION, new.validation.is_some()),
            (DEBUG, new.debug),
            (STALE_IF_DISCONNECTED, new.stale_if_disconnected),
            (CODED, new.head.first("content-encoding").is_some()),
            (RESTORED, is_restored),
        ];
        Self {
            head: StoredHead::within(buffer.into(), lines, new.head.has_date()),
            body: new.body,
            sequence,
            stored_at,
            key_bytes: new.key.as_bytes().len() as u32,
            ttl: Span::of(new.ttl),
            grace: Span::of(new.grace),
            keep: Span::of(new.keep.max(new.grace).max(new.stale_if_error)),
            stale_if_error: Span::of(new.stale_if_error),
            age: Span::of(new.age),
            slot,
            weight_bytes,
            purged: AtomicU32::new(NOT_PURGED),
            refresh_from: AtomicU32::new(0),
            uses: Uses::of(used),
            status: new.status,
            flags: flags.iter().filter(|flag| flag.1).map(|flag| flag.0).sum(),
            removed: AtomicBool::new(false),
        }
    }

    /// A refresh failed: puts off the next one in the background to this moment.
    pub fn put_off_refresh(&self, until: Moment) {
        let from = Span::of(until.since(self.stored_at));
        self.refresh_from.store(from.0, Ordering::Relaxed);
    }

    /// Is a refresh in the background due, as far as earlier ones that failed go?
    pub fn is_refresh_due(&self, now: Moment) -> bool {
        let from = Span(self.refresh_from.load(Ordering::Relaxed));
        from == Span(0) || now >= self.stored_at.plus(from.get())
    }

    /// Its key.
    pub fn key(&self) -> CacheKey {
        CacheKey::from_bytes(self.key_bytes())
    }

    pub(super) fn key_bytes(&self) -> &[u8] {
        &self.head.buffer()[..self.key_bytes as usize]
    }

    /// As [`CacheKey::url`].
    pub(super) fn url(&self) -> &[u8] {
        CacheKey::url_of(self.key_bytes())
    }

    /// The numbers of its tags.
    pub(super) fn tags(&self) -> impl Iterator<Item = TagId> + '_ {
        self.numbers().skip(usize::from(self.has(HAS_POOL)))
    }

    /// The number of its pool.
    pub(super) fn pool(&self) -> Option<TagId> {
        self.numbers().next().filter(|_| self.has(HAS_POOL))
    }

    /// The numbers between key and head.
    fn numbers(&self) -> impl Iterator<Item = TagId> + '_ {
        let range = self.key_bytes as usize..self.head.range().start;
        let mut rest = &self.head.buffer()[range];
        std::iter::from_fn(move || take_number(&mut rest).map(TagId))
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its head.
    pub fn head(&self) -> &StoredHead {
        &self.head
    }

    /// Its content.
    pub fn body(&self) -> &StoredBody {
        &self.body
    }

    /// Its lifetime from the moment it was stored.
    pub fn ttl(&self) -> Duration {
        self.ttl.get()
    }

    /// How long past its lifetime it may be served while one fetch refreshes it.
    pub fn grace(&self) -> Duration {
        self.grace.get()
    }

    /// How long past its lifetime it is kept.
    pub fn keep(&self) -> Duration {
        self.keep.get()
    }

    /// How long past its lifetime it may be served where the origin answers with an error.
    pub fn stale_if_error(&self) -> Duration {
        self.stale_if_error.get()
    }

    /// May it be served, as long as it is kept, where the origin cannot be reached?
    pub fn stale_if_disconnected(&self) -> bool {
        self.has(STALE_IF_DISCONNECTED)
    }

    /// The fields as the origin sent them, where one is a validator.
    pub fn validation(&self) -> Option<Fields> {
        let lines = self.head.range().end..self.head.buffer().len();
        let kept = || StoredHead::within(Arc::clone(self.head.buffer()), lines, false);
        self.has_validation().then(|| kept().to_fields())
    }

    /// Can it be validated: are the fields of the origin kept?
    pub fn has_validation(&self) -> bool {
        self.has(HAS_VALIDATION)
    }

    /// When it was stored.
    pub fn stored_at(&self) -> Moment {
        self.stored_at
    }

    /// Could a purge by tag reach it?
    pub fn is_tagged(&self) -> bool {
        self.tags().next().is_some()
    }

    /// Its age (RFC 9111 4.2.3): that on arrival and the time in the store.
    pub fn age_at(&self, now: Moment) -> Duration {
        self.age.get().saturating_add(now.since(self.stored_at))
    }

    /// What is left of its lifetime; zero once it is stale.
    pub fn remaining(&self, now: Moment) -> Duration {
        self.stale_at().since(now)
    }

    /// How it stands at that moment.
    pub fn freshness(&self, now: Moment) -> Freshness {
        if self.is_purged() {
            return Freshness::Dead;
        }
        let stale_at = self.stale_at();
        if now < stale_at {
            Freshness::Fresh
        } else if now < stale_at.plus(self.keep.get()) {
            Freshness::Stale { stale_for: now.since(stale_at) }
        } else {
            Freshness::Dead
        }
    }

    /// Is its content kept as the origin coded it (generic policy)?
    pub fn is_coded(&self) -> bool {
        self.has(CODED)
    }

    /// Was it stored elsewhere, and taken over from there? Then it is older than it has been here.
    pub fn is_restored(&self) -> bool {
        self.has(RESTORED)
    }

    /// How much it is asked for.
    pub fn used(&self) -> Used {
        self.uses.get()
    }

    /// Did Magento ask for debugging headers?
    pub fn debug(&self) -> bool {
        self.has(DEBUG)
    }

    /// Bytes of memory it takes, bookkeeping included; zero for one that was never stored.
    pub fn weight_bytes(&self) -> u64 {
        u64::from(self.weight_bytes)
    }

    /// Has a soft purge made it stale?
    pub fn is_soft_purged(&self) -> bool {
        !matches!(self.purged.load(Ordering::Acquire), NOT_PURGED | PURGED_HARD)
    }

    /// Ends its lifetime now, as a soft purge does: from here on it counts as stale, for its grace
    /// and its keep. What it says is known to be wrong, so that no earlier failure puts off its
    /// refresh.
    pub fn mark_stale(&self, now: Moment) {
        let at = Span::of(now.since(self.stored_at)).0.saturating_add(1).min(NOT_PURGED - 1);
        self.purged.fetch_min(at, Ordering::AcqRel);
        self.refresh_from.store(0, Ordering::Relaxed);
    }

    /// A hard purge has come: no look-up gives it any more.
    pub(super) fn mark_purged(&self) {
        self.purged.store(PURGED_HARD, Ordering::Release);
    }

    pub(super) fn is_purged(&self) -> bool {
        self.purged.load(Ordering::Acquire) == PURGED_HARD
    }

    /// The store has let go of it, for whatever reason.
    pub(super) fn mark_removed(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// When it is dead at the latest; a soft purge may bring that forward.
    pub(super) fn dead_at_unless_purged(&self) -> Moment {
        self.stored_at.plus(self.ttl.get()).plus(self.keep.get())
    }

    fn stale_at(&self) -> Moment {
        let expires_at = self.stored_at.plus(self.ttl.get());
        match self.purged.load(Ordering::Acquire) {
            NOT_PURGED | PURGED_HARD => expires_at,
            soft => expires_at.min(self.stored_at.plus(Span(soft - 1).get())),
        }
    }
}

/// Appends a number, seven bits to a byte, the low ones first: most take three bytes.
fn push_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What [`push_number`] has appended.
fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..u32::BITS).step_by(7) {
        let (&byte, more) = rest.split_first()?;
        *rest = more;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::page;

    fn at(seconds: u64) -> Moment {
        Moment::from_milliseconds(seconds * 1_000)
    }

    fn retention(tags: Vec<TagId>, pool: Option<TagId>) -> Retention {
        Retention { sequence: 1, tags, pool, ..Retention::default() }
    }

    fn entry() -> Entry {
        let mut new = page("shop/a", &[]);
        new.ttl = Duration::from_secs(100);
        new.grace = Duration::from_secs(30);
        new.keep = Duration::from_secs(50);
        new.age = Duration::from_secs(7);
        Entry::new(new, at(10), retention(Vec::new(), None))
    }

    #[test]
    fn an_entry_takes_160_bytes_with_the_counts_of_its_references() {
        assert!(size_of::<Entry>() + 16 <= 160, "{}", size_of::<Entry>());
    }

    #[test]
    fn what_stands_in_the_buffer_is_found_again() {
        let mut new = page("shop/a", &[]);
        new.validation = Some(StoredHead::new(Fields::from([("ETag", "\"a\""), ("Date", "x")])));
        let (key, head) = (new.key.clone(), new.head.clone());
        let tags = [0, 1, 127, 128, 16_383, 16_384, u32::MAX].map(TagId).to_vec();
        for (tags, pool) in [(tags, Some(TagId(300))), (Vec::new(), None)] {
            let entry = Entry::new(new.clone(), at(0), retention(tags.clone(), pool));
            assert_eq!((entry.key(), entry.url()), (key.clone(), key.url()));
            assert_eq!(entry.tags().collect::<Vec<_>>(), tags);
            assert_eq!((entry.pool(), entry.head()), (pool, &head));
            let told = entry.validation().expect("it is kept");
            assert_eq!(told, Fields::from([("ETag", "\"a\""), ("Date", "x")]));
        }
    }

    #[test]
    fn a_response_is_fresh_then_stale_then_dead() {
        let entry = entry();
        assert_eq!(entry.freshness(at(109)), Freshness::Fresh);
        assert_eq!(entry.remaining(at(109)), Duration::from_secs(1));
        assert_eq!(entry.age_at(at(109)), Duration::from_secs(106));
        let stale_for = Duration::from_secs(49);
        assert_eq!(entry.freshness(at(159)), Freshness::Stale { stale_for });
        assert_eq!(entry.remaining(at(159)), Duration::ZERO);
        assert_eq!(entry.freshness(at(160)), Freshness::Dead);
    }

    #[test]
    fn a_soft_purge_ends_the_lifetime_and_never_prolongs_it() {
        let entry = entry();
        entry.mark_stale(at(20));
        entry.mark_stale(at(40));
        assert!(entry.is_soft_purged());
        let stale_for = Duration::from_secs(49);
        assert_eq!(entry.freshness(at(69)), Freshness::Stale { stale_for });
        assert_eq!(entry.freshness(at(70)), Freshness::Dead);
        let late = self::entry();
        late.mark_stale(at(150));
        assert_eq!(late.freshness(at(110)), Freshness::Stale { stale_for: Duration::ZERO });
    }

    #[test]
    fn a_refresh_is_put_off_until_its_moment_or_a_soft_purge() {
        let entry = entry();
        assert!(entry.is_refresh_due(at(0)));
        entry.put_off_refresh(at(115));
        assert!(!entry.is_refresh_due(at(114)) && entry.is_refresh_due(at(115)));
        entry.mark_stale(at(112));
        assert!(entry.is_refresh_due(at(112)));
    }

    #[test]
    fn a_hard_purge_outlasts_a_soft_one() {
        let entry = entry();
        entry.mark_purged();
        entry.mark_stale(at(0));
        assert_eq!(entry.freshness(at(11)), Freshness::Dead);
        assert!(!entry.is_soft_purged());
    }
}
