//! The answer to one request.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::conditional::{self, Precondition};
use super::joined::{Joined, join, own_bytes};
use super::{DeliveryError, gzip_stream, head, ranged};
use crate::body::Body;
use crate::exchange::{Response, StoredHead};
use crate::fields::Fields;
use crate::fields::accept_encoding::{Offered, Variant, choose};
use crate::settings;
use crate::store::{Encoded, Entry, StoredBody};

/// Room for the fields of a delivery, those of the caller included.
const DELIVERY_FIELDS: usize = 4;

/// What delivery looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// Conditions, Range and Accept-Encoding are read from these.
    pub fields: &'a Fields,
    /// Ranges that one answer has at most; where more are asked for, the whole is sent.
    pub ranges_max: usize,
}

/// Which fields a request has that are rare: found in one pass, since most have none.
#[derive(Clone, Copy, Default)]
struct Asked {
    conditions: bool,
    range: bool,
}

impl Asked {
    fn of(fields: &Fields) -> Self {
        let mut asked = Self::default();
        for field in fields {
            match field.name.len() {
                5 => asked.range |= field.is("range"),
                8 => asked.conditions |= field.is("if-match"),
                13 => asked.conditions |= field.is("if-none-match"),
                17 => asked.conditions |= field.is("if-modified-since"),
                19 => asked.conditions |= field.is("if-unmodified-since"),
                _ => {}
            }
        }
        asked
    }
}

/// What delivery looks at in a stored response.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its head, prepared by [`super::prepare`].
    pub head: &'a StoredHead,
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

/// Answers from a stored response: 304 where the client has it, 412 where it wants another, 206
/// where it wants parts, else its status, in the coding that the client likes best. The length of
/// the content is always known. `fragments` go in the places of the includes, in order. `identity`
/// gives the bytes of a piece that is kept compressed alone.
///
/// Fields such as Age and those for debugging are the caller's to add. A whole page that leaves
/// compressed costs no more than a few counters.
pub fn respond<'a>(
    stored: impl Into<Stored<'a>>,
    request: RequestFacts<'_>,
    fragments: impl IntoIterator<Item = Joined>,
    identity: impl Fn(&Encoded) -> Option<Bytes>,
) -> Result<Response, DeliveryError> {
    let stored = stored.into();
    let asked = Asked::of(request.fields);
    let may_be_known = stored.status.is_success() && !stored.body.has_includes();
    if asked.conditions && may_be_known {
        match conditional::evaluate(request.fields, stored.head) {
            Precondition::Holds => {}
            Precondition::NotModified => return Ok(stored_without_content(stored.head)),
            Precondition::Failed => {
                return Ok(Response::new(StatusCode::PRECONDITION_FAILED, Body::empty()));
            }
        }
    }
    if asked.range
        && let Some(response) = ranged::respond(stored, request, &identity)?
    {
        return Ok(response);
    }
    let variant = choose(request.fields, head::offered(stored.body));
    if request.method == Method::HEAD {
        return Ok(to_head(stored, variant, &join(stored.body, fragments)));
    }
    let whole = stored.body.only().and_then(|only| match variant {
        Variant::Gzip => only.gzip_file(),
        Variant::Brotli => only.brotli_stream(),
        Variant::Zstd => only.zstd_frame(),
        Variant::Identity => own_bytes(only, &identity).ok(),
    });
    let body = match (whole, variant) {
        (Some(whole), _) => whole.into(),
        (None, Variant::Identity | Variant::Zstd) => {
            join(stored.body, fragments).identity(identity)?
        }
        (None, Variant::Gzip) => join(stored.body, fragments).gzip()?,
        (None, Variant::Brotli) => join(stored.body, fragments).brotli(identity)?,
    };
    Ok(assemble(stored, variant, body))
}

/// HEAD gets the fields of GET (RFC 9110 9.3.2).
fn to_head(stored: Stored<'_>, variant: Variant, joined: &Joined) -> Response {
    let length = match variant {
        Variant::Identity => joined.identity_bytes(),
        Variant::Gzip => joined.gzip_bytes(),
        Variant::Brotli => joined.brotli_bytes(),
        Variant::Zstd => {
            let frame = stored.body.only().and_then(|only| only.forms().zstd);
            frame.map_or(0, |frame| frame.len() as u64)
        }
    };
    let mut response = assemble(stored, variant, Body::empty());
    response.fields.push_static("Content-Length", length.to_string());
    response
}

pub(super) fn assemble(stored: Stored<'_>, variant: Variant, body: Body) -> Response {
    let mut response = Response::new(stored.status, body);
    response.stored = Some(stored.head.clone());
    response.fields = Fields::with_capacity(DELIVERY_FIELDS);
    let coding = match variant {
        Variant::Identity => return response,
        Variant::Gzip => "gzip",
        Variant::Brotli => "br",
        Variant::Zstd => "zstd",
    };
    response.fields.push_static("Content-Encoding", coding);
    response
}

/// Fields that describe content which a 304 does not have (RFC 9110 15.4.5).
const DESCRIPTIONS: [&str; 4] =
    ["content-type", "content-encoding", "content-language", "content-disposition"];

/// 304 with what guides the client's own cache.
fn stored_without_content(head: &StoredHead) -> Response {
    let mut response = Response::new(StatusCode::NOT_MODIFIED, Body::empty());
    response.stored = Some(head.without(&DESCRIPTIONS));
    response.fields = Fields::with_capacity(DELIVERY_FIELDS);
    response
}

/// 304 for a response with these fields that is not stored yet.
pub fn without_content(fields: &Fields) -> Response {
    let mut response = Response::new(StatusCode::NOT_MODIFIED, Body::empty());
    response.fields = fields.clone();
    response.fields.retain(|field| !DESCRIPTIONS.iter().any(|name| field.is(name)));
    response
}

/// Compresses a response that is not from the store with gzip, where that makes sense and the
/// client takes it; adapts its fields. HEAD gets the fields that GET would get.
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
    let offered = Offered { gzip: true, ..Offered::default() };
    if choose(request.fields, offered) != Variant::Gzip {
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
