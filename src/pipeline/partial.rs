//! The beginning of a response that is stored, and the rest that completes it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::Node;
use crate::body::Body;
use crate::fields::Fields;
use crate::origin::OriginResponse;
use crate::policy::completion::{is_beginning, is_of_beginning, whole_bytes, whole_fields};
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
        if is_beginning(status, fields) {
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
        is_of_beginning(&entry.head().to_fields(), bytes.len() as u64).then_some((entry, bytes))
    }
}

/// The whole, where a 206 is the rest of what is stored; else `None`.
pub(super) async fn completed(
    entry: &Entry,
    beginning: &Bytes,
    rest: OriginResponse,
    bytes_max: u64,
) -> Option<OriginResponse> {
    let OriginResponse { fields, body, provenance, .. } = rest;
    let (stored, begun_bytes) = (entry.head().to_fields(), beginning.len() as u64);
    let length = whole_bytes(&stored, begun_bytes, &fields, bytes_max)?;
    let rest = body.collect(bytes_max).await.ok()?;
    if begun_bytes + rest.len() as u64 != length {
        return None;
    }
    let mut whole = BytesMut::with_capacity(beginning.len() + rest.len());
    whole.extend_from_slice(beginning);
    whole.extend_from_slice(&rest);
    let (fields, body) = (whole_fields(fields, length), Body::from(whole.freeze()));
    Some(OriginResponse { status: StatusCode::OK, fields, body, provenance })
}
