//! The fence: what was purged when, so that a fill which began before a purge is not stored
//! after it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use regex::bytes::Regex;

use super::index::join;
use crate::policy::CacheKey;

/// The number of the last purge when a fill began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillMark(pub(super) u64);

/// What a purge can name of a response.
#[derive(Clone, Copy, Debug)]
pub struct Purgeable<'a> {
    /// Its key, whose URL a purge names.
    pub key: &'a CacheKey,
    /// Its tags in order.
    pub tags: &'a [Bytes],
    /// Its `X-Pool`.
    pub pool: Option<&'a Bytes>,
}

/// What a regex of a purge is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// A response's tags, joined by commas.
    Tags,
    /// Its pool.
    Pool,
}

/// Purges in order, each with its number. What it remembers is bounded: forgetting a purge raises
/// `floor` to its number, and a fill that began before the floor is not stored, whatever its tags.
#[derive(Debug)]
pub(super) struct Fence {
    enabled: bool,
    last: u64,
    floor: u64,
    /// As `floor`, but for what made everything tagged stale alone.
    hard_floor: u64,
    /// Last purge of a tag or URL, by a keyed hash of it: two that collide are purged together,
    /// which costs a fill and is never wrong.
    names: HashMap<u64, u64>,
    /// `names` by number; entries whose name was purged again since are skipped.
    order: VecDeque<(u64, u64)>,
    names_max: usize,
    patterns: VecDeque<(u64, Over, Regex)>,
    patterns_max: usize,
    hasher: RandomState,
}

#[derive(Hash)]
enum Name<'a> {
    Tag(&'a [u8]),
    Url(&'a [u8]),
}

impl Fence {
    /// A fence that remembers so many tags and URLs, and so many regexes.
    pub(super) fn new(names_max: usize, patterns_max: usize, enabled: bool) -> Self {
        Self {
            enabled,
            last: 0,
            floor: 0,
            hard_floor: 0,
            names: HashMap::new(),
            order: VecDeque::new(),
            names_max,
            patterns: VecDeque::new(),
            patterns_max,
            hasher: RandomState::new(),
        }
    }

    /// The number of the last purge.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Everything may have been purged, and is stale from now on; what was purged by name stays known.
    pub(super) fn soften(&mut self) -> u64 {
        self.last += 1;
        self.floor = self.last;
        self.last
    }

    /// Everything is purged.
    pub(super) fn all(&mut self) -> u64 {
        self.last += 1;
        self.raise_floors(self.last);
        self.names.clear();
        self.order.clear();
        self.patterns.clear();
        self.last
    }

    /// These tags are purged.
    pub(super) fn tags(&mut self, tags: &[Bytes]) -> u64 {
        self.last += 1;
        for tag in tags {
            self.remember(&Name::Tag(tag));
        }
        self.last
    }

    /// This URL is purged.
    pub(super) fn url(&mut self, url: &[u8]) -> u64 {
        self.last += 1;
        self.remember(&Name::Url(url));
        self.last
    }

    /// All responses are purged that match.
    pub(super) fn matching(&mut self, over: Over, regex: &Regex) -> u64 {
        self.last += 1;
        self.patterns.push_back((self.last, over, regex.clone()));
        while self.patterns.len() > self.patterns_max {
            if let Some((number, ..)) = self.patterns.pop_front() {
                self.raise_floors(number);
            }
        }
        self.last
    }

    /// Was any of this purged after the mark?
    pub(super) fn hits(&self, mark: FillMark, of: &Purgeable<'_>) -> bool {
        if !self.enabled || mark.0 >= self.last {
            return false;
        }
        mark.0 < self.floor || self.is_named_after(mark, of)
    }

    /// The same, but for what made everything tagged stale: for what comes in as stale.
    pub(super) fn hits_stale(&self, mark: FillMark, of: &Purgeable<'_>) -> bool {
        self.enabled && (mark.0 < self.hard_floor || self.is_named_after(mark, of))
    }

    fn is_named_after(&self, mark: FillMark, of: &Purgeable<'_>) -> bool {
        self.purged_after(mark, &Name::Url(of.key.url()))
            || of.tags.iter().any(|tag| self.purged_after(mark, &Name::Tag(tag)))
            || self.matched_after(mark, of)
    }

    fn raise_floors(&mut self, number: u64) {
        self.floor = self.floor.max(number);
        self.hard_floor = self.hard_floor.max(number);
    }

    fn purged_after(&self, mark: FillMark, name: &Name<'_>) -> bool {
        self.names.get(&self.hasher.hash_one(name)).is_some_and(|&number| number > mark.0)
    }

    fn matched_after(&self, mark: FillMark, of: &Purgeable<'_>) -> bool {
        let mut recent =
            self.patterns.iter().rev().take_while(|(number, ..)| *number > mark.0).peekable();
        if recent.peek().is_none() {
            return false;
        }
        let mut tags = Vec::new();
        join(&mut tags, of.tags.iter().map(|tag| &tag[..]));
        recent.any(|(_, over, regex)| match over {
            Over::Tags => regex.is_match(&tags),
            Over::Pool => of.pool.is_some_and(|pool| regex.is_match(pool)),
        })
    }

    fn remember(&mut self, name: &Name<'_>) {
        let hash = self.hasher.hash_one(name);
        if self.names.insert(hash, self.last) != Some(self.last) {
            self.order.push_back((self.last, hash));
        }
        while self.names.len() > self.names_max {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            if self.names.get(&oldest) == Some(&number) {
                self.names.remove(&oldest);
                self.raise_floors(number);
            }
        }
        // Tags that are purged again and again leave old places behind.
        if self.order.len() > 2 * self.names_max + 16 {
            let names = &self.names;
            self.order.retain(|(number, hash)| names.get(hash) == Some(number));
        }
    }

    /// Bytes that a full table takes.
    pub(super) const fn bytes_max(names_max: usize) -> u64 {
        // A map's entry of 17 bytes at 7/16 load at worst, and two places in the order.
        names_max as u64 * (40 + 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(fence: &Fence, mark: u64, tags: &[&'static str]) -> bool {
        let key = CacheKey::for_tests(b"shop/a", b"");
        let tags: Vec<_> = tags.iter().map(|&tag| Bytes::from(tag)).collect();
        fence.hits(FillMark(mark), &Purgeable { key: &key, tags: &tags, pool: None })
    }

    #[test]
    fn a_forgotten_tag_raises_the_floor_below_which_nothing_is_stored() {
        let mut fence = Fence::new(2, 2, true);
        for tag in ["a", "b", "a"] {
            fence.tags(&[Bytes::from(tag)]);
        }
        assert!(hits(&fence, 2, &["a"]) && !hits(&fence, 3, &["a"]));
        assert!(!hits(&fence, 0, &["c"]));
        fence.tags(&[Bytes::from("c")]);
        assert!(hits(&fence, 1, &["x"]), "b is forgotten, so fills from before 2 may carry it");
        assert!(!hits(&fence, 2, &["x"]));
        assert!(hits(&fence, 2, &["a"]));
    }

    #[test]
    fn softening_holds_fills_off_and_lets_in_as_stale_what_nothing_names() {
        let mut fence = Fence::new(2, 2, true);
        let hits_stale = |fence: &Fence, mark: u64, tag: &'static str| {
            let key = CacheKey::for_tests(b"shop/a", b"");
            let of = Purgeable { key: &key, tags: &[Bytes::from(tag)], pool: None };
            fence.hits_stale(FillMark(mark), &of)
        };
        fence.tags(&[Bytes::from("a")]);
        fence.soften();
        assert!(hits(&fence, 1, &["b"]) && !hits(&fence, 2, &["b"]));
        assert!(hits_stale(&fence, 0, "a") && !hits_stale(&fence, 1, "a"));
        assert!(!hits_stale(&fence, 0, "b"));
        fence.all();
        assert!(hits_stale(&fence, 0, "b") && !hits_stale(&fence, 3, "b"));
    }

    #[test]
    fn a_tag_that_is_purged_ten_thousand_times_takes_one_place() {
        let mut fence = Fence::new(4, 2, true);
        for _ in 0..10_000 {
            fence.tags(&[Bytes::from("a"), Bytes::from("a"), Bytes::from("b")]);
        }
        assert!(fence.order.len() <= 24 && fence.names.len() == 2);
        assert!(!hits(&fence, 0, &["c"]));
        assert!(hits(&fence, 9_999, &["b"]));
    }

    #[test]
    fn a_regex_is_held_against_the_joined_tags_and_the_oldest_is_forgotten() {
        let mut fence = Fence::new(4, 2, true);
        fence.matching(Over::Tags, &Regex::new("a,b").unwrap());
        assert!(hits(&fence, 0, &["a", "b"]) && !hits(&fence, 0, &["b", "a"]));
        assert!(!hits(&fence, 1, &["a", "b"]));
        fence.matching(Over::Pool, &Regex::new(".").unwrap());
        assert!(!hits(&fence, 1, &["a", "b"]), "it has no pool");
        fence.matching(Over::Tags, &Regex::new("z").unwrap());
        assert!(hits(&fence, 0, &["q"]) && !hits(&fence, 1, &["q"]));
    }
}
