//! What is wrong in an ESI document: counted always, said once per page.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PageUrl;
use crate::observe::redact;

/// A mistake in a page or in a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A value without quotes, an attribute twice, an end tag with attributes.
    #[error("a tag is malformed")]
    Malformed,
    /// A tag, an `<esi:remove>` or a `<!--esi` has no end.
    #[error("something is never ended")]
    Unclosed,
    /// It is longer than `esi.tag_max`.
    #[error("a tag is longer than esi.tag_max")]
    TooLong,
    /// It is none of include, remove and comment.
    #[error("an element is not known")]
    UnknownElement,
    /// There is nothing for it to end.
    #[error("an end tag ends nothing")]
    UnexpectedEnd,
    /// Its `src` is empty or not there.
    #[error("an include has no source")]
    NoSource,
    /// There are more than `esi.includes_max`.
    #[error("there are more includes than esi.includes_max")]
    TooManyIncludes,
    /// There are more than `esi.total_max` with those of its fragments.
    #[error("there are more includes, with those of the fragments, than esi.total_max")]
    TooManyInTotal,
    /// It is deeper than `esi.depth_max`.
    #[error("includes are nested deeper than esi.depth_max")]
    TooDeep,
    /// A source that is not fetched.
    #[error("{0}")]
    Refused(#[from] super::Refused),
}

/// The mistakes of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// The first one.
    pub first: Option<Mistake>,
    /// All of them.
    pub count: u64,
}

impl Mistakes {
    /// Takes note of one more.
    pub fn push(&mut self, mistake: Mistake) {
        self.first.get_or_insert(mistake);
        self.count += 1;
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self { first: Some(mistake), count: 1 }
    }
}

/// Pages whose mistakes were said; those of more are counted alone, so that memory and log stay
/// bounded.
const PAGES_MAX: usize = 1_024;

/// Places that a page may take among them.
const PROBES: usize = 16;

/// Counts mistakes, and knows of which pages they were said. It takes no lock: a wrong page may be
/// one that is hit by all cores.
pub struct MistakeLog {
    count: AtomicU64,
    /// Hashes of pages; 0 is a free place.
    said: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for MistakeLog {
    fn default() -> Self {
        let said = (0..PAGES_MAX).map(|_| AtomicU64::new(0)).collect();
        Self { count: AtomicU64::new(0), said, hasher: RandomState::new() }
    }
}

impl MistakeLog {
    /// Counts the mistakes of a page and, the first time, writes a message. The query is left out
    /// of it.
    pub fn note(&self, page: PageUrl<'_>, mistakes: Mistakes) {
        let Some(first) = mistakes.first else { return };
        self.count.fetch_add(mistakes.count, Ordering::Relaxed);
        let path = page.path();
        if !self.is_new(page.authority, path) {
            return;
        }
        tracing::warn!(
            host = %page.authority.escape_ascii(),
            path = %redact(path).escape_ascii(),
            count = mistakes.count,
            "ESI of a page is wrong and was left out: {first}"
        );
    }

    /// Mistakes since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn is_new(&self, authority: &[u8], path: &[u8]) -> bool {
        let hash = self.hasher.hash_one((authority, path)).max(1);
        for probe in 0..PROBES {
            let place = &self.said[(hash as usize).wrapping_add(probe) % PAGES_MAX];
            let mut found = place.load(Ordering::Relaxed);
            if found == 0 {
                match place.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return true,
                    Err(other) => found = other,
                }
            }
            if found == hash {
                return false;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(log: &MistakeLog) -> usize {
        log.said.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count()
    }

    #[test]
    fn mistakes_are_counted_always_and_said_once_per_page() {
        let log = MistakeLog::default();
        let page = |target| PageUrl { authority: b"shop.test", target };
        let mut mistakes = Mistakes::from(Mistake::Malformed);
        mistakes.push(Mistake::TooLong);
        assert_eq!((mistakes.first, mistakes.count), (Some(Mistake::Malformed), 2));
        log.note(page(b"/a"), mistakes);
        log.note(page(b"/a?b"), mistakes);
        log.note(page(b"/c"), Mistakes::default());
        assert_eq!((log.count(), said(&log)), (4, 1));
    }

    #[test]
    fn what_is_remembered_of_pages_is_bounded() {
        let log = MistakeLog::default();
        for number in 0..PAGES_MAX * 8 {
            let target = format!("/{number}");
            let page = PageUrl { authority: b"shop.test", target: target.as_bytes() };
            log.note(page, Mistake::NoSource.into());
        }
        assert_eq!(log.count(), 8 * PAGES_MAX as u64);
        assert!(said(&log) > PAGES_MAX / 2);
        assert!(!log.is_new(b"shop.test", b"/0"));
    }
}
