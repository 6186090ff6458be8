//! What is known of the responses that share a primary key and differ by selecting headers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cache::Caches;
use super::new_entry::Variant;
use super::weight::allocation_bytes;
use crate::fields::Fields;
use crate::policy::{CacheKey, Vary, favourite_language};

/// Variants of one primary key; the oldest goes for a newer one. (`site.key_headers` and
/// X-Magento-Vary are part of the key and count apart.)
const VARIANTS_MAX: usize = 32;

/// Different lists of selecting headers of one primary key.
const RULES_MAX: usize = 4;

/// Which keys a request may find its variant under.
#[derive(Clone, Debug, Default)]
pub struct Variants {
    /// Newest first.
    rules: Vec<Vary>,
    /// Oldest first.
    keys: VecDeque<CacheKey>,
    /// Keys by language, and the variants they stand for.
    languages: Vec<(CacheKey, CacheKey)>,
    /// Where a part is stored that begins where the whole does.
    beginning: Option<CacheKey>,
}

impl Variants {
    /// The keys under which a request's variant may be stored, the most recent rule's first: that
    /// is the one to fetch where none is.
    pub fn candidates<'a>(
        &'a self,
        primary: &'a CacheKey,
        request: &'a Fields,
    ) -> impl Iterator<Item = CacheKey> + 'a {
        let keys = self.rules.iter().map(|vary| vary.key(primary, request));
        // Looked at only where none of these is stored.
        let by_language = std::iter::once_with(|| self.by_language(primary, request));
        keys.chain(by_language.flatten())
    }

    /// What selects the variant under a key for this request.
    pub fn rule(&self, key: &CacheKey, primary: &CacheKey, request: &Fields) -> Option<&Vary> {
        self.rules.iter().find(|vary| vary.key(primary, request) == *key)
    }

    fn by_language(&self, primary: &CacheKey, request: &Fields) -> Option<CacheKey> {
        let language = if self.languages.is_empty() { None } else { favourite_language(request) }?;
        self.rules.iter().find_map(|vary| {
            let key = vary.key_by_language(primary, request, &language)?;
            let stands_for = self.languages.iter().find(|(by, _)| *by == key);
            stands_for.map(|(_, key)| key.clone())
        })
    }

    /// The key of a part that begins where the whole does.
    pub fn beginning(&self) -> Option<&CacheKey> {
        self.beginning.as_ref()
    }

    pub(super) fn keys(&self) -> Vec<CacheKey> {
        self.keys.iter().cloned().collect()
    }

    /// Bytes it takes; its keys share their bytes with what is stored under them, mostly.
    pub(super) fn bytes(&self) -> usize {
        let languages =
            self.languages.iter().map(|(key, _)| allocation_bytes(key.as_bytes().len()));
        let names = self.rules.iter().flat_map(Vary::names);
        allocation_bytes(size_of::<Self>())
            + allocation_bytes(self.keys.capacity() * size_of::<CacheKey>())
            + allocation_bytes(self.languages.capacity() * size_of::<(CacheKey, CacheKey)>())
            + languages.sum::<usize>()
            + names.map(|name| allocation_bytes(name.len()) + size_of::<Box<[u8]>>()).sum::<usize>()
    }

    fn follow(&mut self, vary: &Vary) {
        self.rules.retain(|known| known != vary);
        self.rules.insert(0, vary.clone());
        self.rules.truncate(RULES_MAX);
    }

    /// Adds a variant; gives back the key of the one that goes for it.
    fn add(&mut self, key: &CacheKey, by_language: Option<CacheKey>) -> Option<CacheKey> {
        self.keys.retain(|known| known != key);
        self.keys.push_back(key.clone());
        self.languages.retain(|(by, of)| of != key && Some(by) != by_language.as_ref());
        self.languages.extend(by_language.map(|by| (by, key.clone())));
        if self.keys.len() <= VARIANTS_MAX {
            return None;
        }
        let oldest = self.keys.pop_front()?;
        self.languages.retain(|(_, of)| *of != oldest);
        Some(oldest)
    }
}

/// Notes what responses of a primary key vary by.
pub(super) fn announce(caches: &Caches, primary: &CacheKey, vary: &Vary) {
    change(caches, primary, |variants| variants.follow(vary));
}

/// Notes where a part is stored that begins where the whole does.
pub(super) fn announce_beginning(caches: &Caches, primary: &CacheKey, key: &CacheKey) {
    change(caches, primary, |variants| variants.beginning = Some(key.clone()));
}

/// Notes a variant that was stored; gives back the keys of what it supersedes: the oldest variant
/// of too many, and the response without Vary.
pub(super) fn register(caches: &Caches, variant: Variant, key: &CacheKey) -> Vec<CacheKey> {
    let Variant { primary, vary, by_language } = variant;
    let oldest = change(caches, &primary, |variants| {
        variants.follow(&vary);
        variants.add(key, by_language)
    });
    oldest.into_iter().chain([primary]).collect()
}

fn change<T>(caches: &Caches, primary: &CacheKey, then: impl FnOnce(&mut Variants) -> T) -> T {
    let known = caches.variants.get(primary);
    let mut variants = known.map(Arc::unwrap_or_clone).unwrap_or_default();
    let result = then(&mut variants);
    caches.variants.insert(primary.clone(), Arc::new(variants));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> CacheKey {
        CacheKey::for_tests(b"shop/", number.to_string().as_bytes())
    }

    #[test]
    fn of_too_many_variants_the_oldest_goes() {
        let mut variants = Variants::default();
        for number in 0..VARIANTS_MAX {
            assert_eq!(variants.add(&key(number), None), None);
        }
        assert_eq!(variants.add(&key(0), None), None);
        assert_eq!(variants.add(&key(99), Some(key(100))), Some(key(1)));
        assert_eq!(variants.keys().len(), VARIANTS_MAX);
    }
}
