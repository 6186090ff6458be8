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

    /// A key from what another process says [`CacheKey::as_bytes`] gave; `None`: no policy builds
    /// such.
    pub fn checked(bytes: &[u8]) -> Option<Self> {
        let key = Self::from_bytes(bytes);
        let is_key = !key.url().is_empty() && key.parts().is_some();
        is_key.then_some(key)
    }

    /// The parts behind the URL: where each begins in the key, its number and its value. `None`:
    /// [`KeyBuilder`] has not built this.
    pub(super) fn parts(&self) -> Option<Vec<(usize, Part, &[u8])>> {
        let mut rest = self.bytes.get(self.url_end + 1..)?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (part, value) = split_part(rest)?;
            parts.push((self.bytes.len() - rest.len(), part, value));
            rest = &rest[PART_HEAD_BYTES + value.len()..];
        }
        Some(parts)
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

impl Part {
    const ALL: [Self; 17] = [
        Self::Scheme,
        Self::MagentoVary,
        Self::Design,
        Self::Ajax,
        Self::Cookie,
        Self::Header,
        Self::CacheId,
        Self::Authorized,
        Self::Store,
        Self::Currency,
        Self::Origin,
        Self::Accept,
        Self::Port,
        Self::VaryName,
        Self::VaryValue,
        Self::Language,
        Self::Range,
    ];
}

/// Number and length of a part.
const PART_HEAD_BYTES: usize = 5;

/// The part that stands first.
fn split_part(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let (&[number, length @ ..], rest) = bytes.split_first_chunk::<PART_HEAD_BYTES>()?;
    let part = Part::ALL.into_iter().find(|part| *part as u8 == number)?;
    Some((part, rest.get(..u32::from_be_bytes(length) as usize)?))
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
        Self::extending_from(key, key.bytes.len())
    }

    /// A key that goes on at a place in another, where a part begins.
    pub(super) fn extending_from(key: &CacheKey, at: usize) -> Self {
        Self { bytes: key.bytes[..at].to_vec(), url_end: key.url_end }
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
        fn a_key_that_was_built_passes_the_check_with_all_its_parts(
            url in "[a/]{1,4}", parts in parts(), cut in any::<prop::sample::Index>(), any: Vec<u8>,
        ) {
            let key = build(url.as_bytes(), &parts);
            prop_assert_eq!(CacheKey::checked(key.as_bytes()), Some(key.clone()));
            let found: Vec<_> = key.parts().unwrap().iter().map(|part| part.2.to_vec()).collect();
            let values: Vec<_> = parts.into_iter().map(|(_, value)| value).collect();
            prop_assert_eq!(found, values);
            let cut = &key.as_bytes()[..cut.index(key.as_bytes().len())];
            for bytes in [cut, &any[..]] {
                if let Some(other) = CacheKey::checked(bytes) {
                    prop_assert_eq!(&other.as_bytes()[..], bytes);
                }
            }
        }

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
    fn what_no_builder_builds_is_no_key() {
        for bytes in [&b""[..], b"\0", b"a", b"a\0\x01", b"a\0\x01\0\0\0\x01", b"a\0\x63\0\0\0\0"] {
            assert_eq!(CacheKey::checked(bytes), None, "{bytes:?}");
        }
        assert!(CacheKey::checked(b"a\0\x01\0\0\0\x01x").is_some());
        assert!(Part::ALL.iter().zip(1..).all(|(part, number)| *part as u8 == number));
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
