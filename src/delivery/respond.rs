//! The answer to one request.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::joined::{Joined, join, own_bytes};
use super::{DeliveryError, accepts_gzip, gzip_stream, head, not_modified};
use crate::body::Body;
use crate::exchange::{Response, StoredHead};
use crate::fields::Fields;
use crate::settings;
use crate::store::{Encoded, Entry, Segment, StoredBody};

/// Room for the fields of a delivery, those of the caller included.
const DELIVERY_FIELDS: usize = 8;

/// What delivery looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// Conditions and Accept-Encoding are read from these.
    pub fields: &'a Fields,
}

/// What delivery looks at in a stored response.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its head, prepared by [`super::prepare`].
    pub head: &'a Arc<StoredHead>,
    /// Its content, prepared by [`super::prepare`].
    pub body: &'a StoredBody,
}

impl<'a> From<&'a Entry> for Stored<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self { status: entry.status(), head: entry.head(), body: entry.body() }
    }
}

impl<'a> From<&'a Arc<Entry>> for Stored<'a> {
    fn from(entry: &'a Arc<Entry>) -> Self {
        Self::from(&**entry)
    }
}

/// Answers from a stored response: 304 where the client has it, else its status, in the coding
/// that the client takes. The length of the content is always known. `fragments` go in the places
/// of the includes, in order. `identity` gives the bytes of a piece that is kept compressed alone.
///
/// Range is left aside, as RFC 9110 14.2 allows. Fields such as Age and those for debugging are
/// the caller's to add. A whole page that leaves compressed costs no more than a few counters.
pub fn respond<'a>(
    stored: impl Into<Stored<'a>>,
    request: RequestFacts<'_>,
    fragments: impl IntoIterator<Item = Joined>,
    identity: impl Fn(&Encoded) -> Option<Bytes>,
) -> Result<Response, DeliveryError> {
    let stored = stored.into();
    if stored.status.is_success() && not_modified(request.fields, &stored.head.fields) {
        return Ok(without_content(stored.head));
    }
    let is_head = request.method == Method::HEAD;
    let gzip = head::offers_gzip(stored.body) && accepts_gzip(request.fields);
    if is_head {
        return Ok(to_head(stored, gzip, &join(stored.body, fragments)));
    }
    let body = match (&stored.body.gzip, &*stored.body.segments) {
        (Some(file), _) if gzip => Body::parts(Arc::clone(file)),
        (_, [Segment::Literal(only)]) if !gzip => own_bytes(only, &identity)?.into(),
        _ if gzip => join(stored.body, fragments).gzip()?,
        _ => join(stored.body, fragments).identity(identity)?,
    };
    Ok(assemble(stored, gzip, body))
}

/// HEAD gets the fields of GET (RFC 9110 9.3.2).
fn to_head(stored: Stored<'_>, gzip: bool, joined: &Joined) -> Response {
    let length = if gzip { joined.gzip_bytes() } else { joined.identity_bytes() };
    let mut response = assemble(stored, gzip, Body::empty());
    response.fields.push_static("Content-Length", length.to_string());
    response
}

fn assemble(stored: Stored<'_>, gzip: bool, body: Body) -> Response {
    let mut response = Response::new(stored.status, body);
    response.stored = Some(Arc::clone(stored.head));
    response.fields = Fields::with_capacity(DELIVERY_FIELDS);
    if gzip {
        response.fields.push_static("Content-Encoding", Bytes::from_static(b"gzip"));
    }
    response
}

/// 304 with what guides the client's own cache, and nothing that describes content which is not
/// sent (RFC 9110 15.4.5).
fn without_content(head: &StoredHead) -> Response {
    const DESCRIPTIONS: [&str; 4] =
        ["content-type", "content-encoding", "content-language", "content-disposition"];
    let mut response = Response::new(StatusCode::NOT_MODIFIED, Body::empty());
    response.fields = head
        .fields
        .iter()
        .filter(|field| !DESCRIPTIONS.iter().any(|name| field.is(name)))
        .cloned()
        .collect();
    response
}

/// Compresses a response that is not from the store, where that makes sense and the client takes
/// it; adapts its fields. HEAD gets the fields that GET would get.
pub fn compress(
    status: StatusCode,
    fields: &mut Fields,
    body: Body,
    request: RequestFacts<'_>,
    encoding: &settings::Encoding,
) -> Body {
    let is_head = request.method == Method::HEAD;
    let length = if is_head { content_length(fields) } else { body.len() };
    let large = length.is_none_or(|bytes| bytes >= encoding.min_bytes);
    if !encoding.gzip || !large || !head::compressible(status, fields) {
        return body;
    }
    head::vary_by_encoding(fields);
    if !accepts_gzip(request.fields) {
        return body;
    }
    head::use_gzip(fields);
    if is_head { body } else { gzip_stream(body, encoding.gzip_level, encoding.buffer_max_bytes) }
}

fn content_length(fields: &Fields) -> Option<u64> {
    fields.first_str("content-length")?.parse().ok()
}

#[cfg(test)]
mod tests;
