//! One look over a request's head: what the rules ask for, as slices.

use bytes::Bytes;

use crate::exchange::Request;
use crate::fields::Field;
use crate::policy::host::split_authority;

/// What the rules need of a head. Of a repeated field the first line counts, and a fill carries
/// that line alone, so that the key and PHP see the same.
#[expect(clippy::struct_excessive_bools, reason = "each was seen or not, by itself")]
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    /// The host without its port.
    pub(super) host: &'a [u8],
    /// The port that Host names.
    pub(super) port: Option<&'a [u8]>,
    pub(super) has_cookies: bool,
    /// Cache-Control: no-cache, or Pragma: no-cache.
    pub(super) asks_for_no_cache: bool,
    /// Cache-Control: only-if-cached.
    pub(super) only_if_cached: bool,
    /// A GET or HEAD that brings content, were it none but announced ("fat GET").
    pub(super) has_content: bool,
    pub(super) authorization: Option<&'a Bytes>,
    pub(super) user_agent: Option<&'a Bytes>,
    pub(super) requested_with: Option<&'a Bytes>,
    pub(super) cache_id: Option<&'a Bytes>,
    pub(super) store: Option<&'a Bytes>,
    pub(super) content_currency: Option<&'a Bytes>,
    pub(super) origin: Option<&'a Bytes>,
    pub(super) accept: Option<&'a Bytes>,
    pub(super) range: Option<&'a Bytes>,
}

impl<'a> Seen<'a> {
    /// Looks once at each field.
    pub(super) fn of(request: &'a Request) -> Self {
        let (host, port) = split_authority(&request.authority);
        let has_content = !request.body.is_empty();
        let mut seen = Self { host, port, has_content, ..Self::default() };
        for field in &request.fields {
            seen.take(field);
        }
        seen
    }

    /// The length of a name rules out nearly all comparisons.
    fn take(&mut self, field: &'a Field) {
        let value = &field.value;
        match field.name.len() {
            5 if field.is("store") => first(&mut self.store, value),
            6 if field.is("cookie") => self.has_cookies = true,
            6 if field.is("accept") => first(&mut self.accept, value),
            6 if field.is("origin") => first(&mut self.origin, value),
            6 if field.is("pragma") => self.asks_for_no_cache |= names(value, "no-cache"),
            5 if field.is("range") => first(&mut self.range, value),
            10 if field.is("user-agent") => first(&mut self.user_agent, value),
            13 if field.is("authorization") => first(&mut self.authorization, value),
            13 if field.is("cache-control") => {
                self.asks_for_no_cache |= names(value, "no-cache");
                self.only_if_cached |= names(value, "only-if-cached");
            }
            14 if field.is("content-length") => self.has_content |= value != "0",
            16 if field.is("x-requested-with") => first(&mut self.requested_with, value),
            16 if field.is("content-currency") => first(&mut self.content_currency, value),
            17 if field.is("transfer-encoding") => self.has_content = true,
            18 if field.is("x-magento-cache-id") => first(&mut self.cache_id, value),
            _ => {}
        }
    }

    /// Is it an `XMLHttpRequest`, as Magento's `isAjax` reads it?
    pub(super) fn is_ajax(&self) -> bool {
        self.requested_with.is_some_and(|value| value == AJAX)
    }

    /// Does Authorization hold a Bearer token? Magento compares the scheme without case.
    pub(super) fn has_bearer(&self) -> bool {
        self.authorization.is_some_and(|value| {
            value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        })
    }
}

/// The value of X-Requested-With that scripts send.
pub(super) const AJAX: &str = "XMLHttpRequest";

fn first<'a>(slot: &mut Option<&'a Bytes>, value: &'a Bytes) {
    slot.get_or_insert(value);
}

fn names(value: &[u8], directive: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|named| named.trim_ascii().eq_ignore_ascii_case(directive.as_bytes()))
}
