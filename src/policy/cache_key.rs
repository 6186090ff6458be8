//! The key of a stored response.

use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// What distinguishes stored responses; the whole key is compared, never its hash alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheKey {
    bytes: Bytes,
    url_end: usize,
}

impl CacheKey {
    /// A key for tests and benches of what knows no rules.
    #[doc(hidden)]
    pub fn for_tests(url: &[u8], variant: &[u8]) -> Self {
        let mut key = KeyBuilder::new(url.to_vec());
        key.bytes.extend_from_slice(variant);
        key.finish()
    }

    /// A key from what [`CacheKey::as_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let url_end = Self::url_of(bytes).len();
        Self { bytes: Bytes::copy_from_slice(bytes), url_end }
    }

    /// [`CacheKey::url`] of the key with these bytes.
    pub fn url_of(bytes: &[u8]) -> &[u8] {
        &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
    }

    /// The whole key.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Host and target, which all variants of a URL share; a purge by URL names this.
    pub fn url(&self) -> &[u8] {
        &self.bytes[..self.url_end]
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// What a part of a key says. The numbers are part of the encoding: each is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    /// `http` or `https`.
    Scheme = 1,
    /// The X-Magento-Vary cookie.
    MagentoVary = 2,
    /// Which design exception matches the User-Agent.
    Design = 3,
    /// It is an `XMLHttpRequest`.
    Ajax = 4,
    /// One of `site.key_cookies`.
    Cookie = 5,
    /// One of `site.key_headers`.
    Header = 6,
    /// X-Magento-Cache-Id.
    CacheId = 7,
    /// A Bearer token came with a cache id.
    Authorized = 8,
    /// GraphQL's Store.
    Store = 9,
    /// GraphQL's Content-Currency.
    Currency = 10,
    /// The Origin of an API call.
    Origin = 11,
    /// The Accept of a REST call.
    Accept = 12,
    /// The port, in the generic policy.
    Port = 13,
    /// The name of a header by which the response varies; what follows is its value, if it has one.
    VaryName = 14,
    /// The value of such a header.
    VaryValue = 15,
    /// In its place: the language that the client likes best, and the response is in.
    Language = 16,
    /// The Range to which a 206 is the answer.
    Range = 17,
}

/// Builds a key in one buffer: host and target, a NUL, then the parts of the variant.
///
/// A part is its number, its length in 32 bits and its bytes, so that no list of parts is the
/// beginning or the look-alike of another. Hosts and targets with a NUL never get here.
#[derive(Debug)]
pub(super) struct KeyBuilder {
    bytes: Vec<u8>,
    url_end: usize,
}

impl KeyBuilder {
    /// `url` is host, a slash-led path and the normalised query.
    pub(super) fn new(mut url: Vec<u8>) -> Self {
        let url_end = url.len();
        url.push(0);
        Self { bytes: url, url_end }
    }

    /// A key that goes on where another ends.
    pub(super) fn extending(key: &CacheKey) -> Self {
        Self { bytes: key.bytes.to_vec(), url_end: key.url_end }
    }

    /// The bytes that one part takes, and what separates all of them from the URL.
    pub(super) const fn room(value_bytes: usize) -> usize {
        1 + 1 + 4 + value_bytes
    }

    /// Appends a part.
    pub(super) fn push(&mut self, part: Part, value: &[u8]) {
        self.head(part, value.len());
        self.bytes.extend_from_slice(value);
    }

    /// Appends a part that is one of a numbered list, such as the second of `site.key_cookies`.
    pub(super) fn push_numbered(&mut self, part: Part, number: usize, value: &[u8]) {
        self.head(part, value.len() + 4);
        self.bytes.extend_from_slice(&(number as u32).to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    /// The key.
    pub(super) fn finish(self) -> CacheKey {
        // A key is kept as long as its response: no spare room.
        CacheKey { bytes: self.bytes.into_boxed_slice().into(), url_end: self.url_end }
    }

    fn head(&mut self, part: Part, length: usize) {
        self.bytes.push(part as u8);
        self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Parts = Vec<(u8, Vec<u8>)>;

    fn build(url: &[u8], parts: &Parts) -> CacheKey {
        const PARTS: [Part; 4] = [Part::Scheme, Part::MagentoVary, Part::Store, Part::Accept];
        let mut builder = KeyBuilder::new(url.to_vec());
        for (part, value) in parts {
            builder.push(PARTS[usize::from(*part)], value);
        }
        builder.finish()
    }

    fn parts() -> impl Strategy<Value = Parts> {
        prop::collection::vec((0u8..4, prop::collection::vec(0u8..3, 0..6)), 0..4)
    }

    proptest! {
        #[test]
        fn different_urls_and_lists_never_give_equal_keys(
            url_one in "[a/]{0,4}", url_two in "[a/]{0,4}", one in parts(), two in parts(),
        ) {
            let same = url_one == url_two && one == two;
            let one = build(url_one.as_bytes(), &one);
            let two = build(url_two.as_bytes(), &two);
            prop_assert_eq!(one.as_bytes() == two.as_bytes(), same);
            prop_assert_eq!(one == two, same);
        }
    }

    #[test]
    fn a_numbered_part_keeps_its_number_apart_from_its_value() {
        let key = |number, value: &[u8]| {
            let mut builder = KeyBuilder::new(b"h/".to_vec());
            builder.push_numbered(Part::Cookie, number, value);
            builder.finish()
        };
        assert_ne!(key(0, b"a"), key(1, b"a"));
        assert_eq!(key(1, b"a").url(), b"h/");
    }
}
