//! The beginning of a response that is stored, and the rest that completes it (RFC 9111 3.4).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::Node;
use crate::body::Body;
use crate::fields::Fields;
use crate::fields::validators::is_strong_tag;
use crate::origin::OriginResponse;
use crate::policy::{CacheKey, LookupPlan};
use crate::store::{Entry, Found};

impl Node {
    /// Notes that a 206 which is being stored begins where the whole does.
    pub(super) fn announce_beginning(
        &self,
        plan: &LookupPlan,
        key: &CacheKey,
        status: StatusCode,
        fields: &Fields,
    ) {
        if status == StatusCode::PARTIAL_CONTENT && content_range(fields).is_some_and(|r| r.0 == 0)
        {
            self.parts.store.announce_beginning(&plan.key, key);
        }
    }

    /// The beginning that is stored of what a plan asks for, and its bytes.
    pub(super) fn beginning(&self, plan: &LookupPlan) -> Option<(Arc<Entry>, Bytes)> {
        let store = &self.parts.store;
        let variants = store.variants(&plan.key).filter(|_| plan.range.is_none())?;
        let Found::Fresh(entry) = store.lookup(variants.beginning()?, self.parts.clock.now())
        else {
            return None;
        };
        let bytes = store.identity(&entry, 0).ok()?;
        let (first, last, _) = content_range(&entry.head().fields)?;
        (first == 0 && last + 1 == bytes.len() as u64).then_some((entry, bytes))
    }
}

/// What is asked for where the beginning is there: the rest, of the same version if that can be
/// told.
pub(super) fn rest_of(entry: &Entry, bytes: &Bytes) -> Fields {
    let mut fields = Fields::new();
    fields.push_static("Range", format!("bytes={}-", bytes.len()));
    if let Some(tag) = strong_tag(&entry.head().fields) {
        fields.push_static("If-Range", tag.clone());
    }
    fields
}

/// The whole, where a 206 is the rest of what is stored: by the same strong entity tag, up to the
/// end (RFC 9110 15.3.7.3). `None`: the two cannot be put together.
pub(super) async fn completed(
    entry: &Entry,
    beginning: &Bytes,
    rest: OriginResponse,
    bytes_max: u64,
) -> Option<OriginResponse> {
    let OriginResponse { mut fields, body, .. } = rest;
    let (first, last, length) = content_range(&fields)?;
    let tag = strong_tag(&fields)?;
    let fits = first == beginning.len() as u64 && last + 1 == length && length <= bytes_max;
    if !fits || strong_tag(&entry.head().fields) != Some(tag) {
        return None;
    }
    let rest = body.collect(bytes_max).await.ok()?;
    if (beginning.len() + rest.len()) as u64 != length {
        return None;
    }
    let mut whole = BytesMut::with_capacity(beginning.len() + rest.len());
    whole.extend_from_slice(beginning);
    whole.extend_from_slice(&rest);
    fields.remove("Content-Range");
    fields.set("Content-Length", length.to_string());
    let body = Body::from(whole.freeze());
    Some(OriginResponse { status: StatusCode::OK, fields, body })
}

fn strong_tag(fields: &Fields) -> Option<&Bytes> {
    fields.first("ETag").filter(|tag| is_strong_tag(tag))
}

/// First and last byte and whole length of `bytes 0-4/10`; `None` where one is not told.
fn content_range(fields: &Fields) -> Option<(u64, u64, u64)> {
    let value = fields.first_str("Content-Range")?.strip_prefix("bytes ")?;
    let (range, length) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| digits && *number < u64::MAX / 2)
    };
    let (first, last, length) = (number(first)?, number(last)?, number(length)?);
    (first <= last && last < length).then_some((first, last, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_says_three_numbers() {
        let read = |value: &str| content_range(&Fields::from([("Content-Range", value)]));
        assert_eq!(read("bytes 0-4/10"), Some((0, 4, 10)));
        for value in [
            "bytes 0-4/*",
            "bytes */10",
            "bytes 4-0/10",
            "bytes 0-10/10",
            "bytes +0-4/10",
            "bytes -4/10",
            "items 0-4/10",
            "bytes 0-4/99999999999999999999",
            "",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
