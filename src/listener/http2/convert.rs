//! Between the messages of the h2 crate and ours.
//!
//! What HTTP/2 decoded is checked as strictly as what HTTP/1 brings: the origin behind us speaks
//! HTTP/1 or `FastCGI`, and a request must not change its meaning on the way down.

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
};
use http::{Method, StatusCode, Uri, Version};

use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{Beside, Connection, InterimResponse, Request, Response, StoredHead};
use crate::fields::{Field, Fields};
use crate::listener::date::with_date;
use crate::listener::http1::head::{is_authority, is_forbidden_in_value, is_target_byte, nameable};
use crate::listener::limits::HeadLimits;
use crate::listener::refused::Refused;

/// Fields that speak of one connection; HTTP/2 has none of them (RFC 9113 8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
/// The value of Expect that is known (RFC 9110 10.1.1).
const CONTINUE: &[u8] = b"100-continue";

/// Bytes that the fields take. In HTTP/2 a few bytes can stand for kilobytes, again and again.
pub(super) fn fields_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Does the client wait for `100 Continue` before it sends the content?
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE))
}

/// What a request that is refused says of its method and target, for the log.
pub(super) fn named(head: &http::request::Parts) -> (Method, Bytes) {
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    nameable(head.method.as_str().as_bytes(), target.as_bytes())
}

/// Makes our request of what was decoded, but for its content.
pub(super) fn request(
    head: &http::request::Parts,
    body: Body,
    connection: Connection,
    limits: &HeadLimits,
) -> Result<Request, Refused> {
    let http::request::Parts { method, uri, headers, .. } = head;
    // The scheme says nothing to an origin. h2 keeps none where the authority is a Host field.
    let is_web =
        |scheme: &str| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    if !uri.scheme_str().is_none_or(is_web) {
        return Err(Refused::Scheme);
    }
    let authority = authority(uri, headers)?;
    let target = target(method, uri)?;
    if target.len() > limits.request_line_max_bytes {
        return Err(Refused::RequestLineTooLong);
    }
    // h2 takes several that agree; for us a length is said once (RFC 9110 8.6).
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refused::LengthRepeated);
    }
    let fields = fields(headers, &authority, limits)?;
    if fields.wire_bytes() + target.len() > limits.head_max_bytes {
        return Err(Refused::HeadTooLong);
    }
    Ok(Request {
        method: method.clone(),
        target,
        authority,
        version: Version::HTTP_2,
        fields,
        body,
        connection,
        // Extended CONNECT (RFC 8441) is off.
        beside: Beside::default(),
    })
}

/// `:authority`, or Host; where there are both they agree (RFC 9113 8.3.1).
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<Bytes, Refused> {
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refused::HostRepeated);
    }
    let named = uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = match (named, host) {
        (Some(named), None) => named,
        (None, Some(host)) => host,
        (Some(named), Some(host)) if named.eq_ignore_ascii_case(host) => named,
        (Some(_), Some(_)) => return Err(Refused::HostMismatch),
        (None, None) => return Err(Refused::HostMissing),
    };
    if !is_authority(authority) {
        return Err(Refused::HostMalformed);
    }
    Ok(Bytes::copy_from_slice(authority))
}

fn target(method: &Method, uri: &Uri) -> Result<Bytes, Refused> {
    if *method == Method::CONNECT {
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        return Ok(Bytes::copy_from_slice(authority.as_bytes()));
    }
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).as_bytes();
    let is_asterisk = target == b"*" && *method == Method::OPTIONS;
    let is_path = target.starts_with(b"/") && target.iter().copied().all(is_target_byte);
    if is_asterisk || is_path { Ok(Bytes::copy_from_slice(target)) } else { Err(Refused::Target) }
}

/// The lines, with Host first as HTTP/1 has it and all Cookie crumbs as one line.
fn fields(headers: &HeaderMap, authority: &Bytes, limits: &HeadLimits) -> Result<Fields, Refused> {
    let others = || headers.iter().filter(|(name, _)| *name != HOST && *name != COOKIE);
    let (mut count, mut length) = (0, 0);
    for (name, value) in others() {
        check(name, value)?;
        count += 1;
        length += name.as_str().len() + value.len();
    }
    let has_cookie = headers.contains_key(COOKIE);
    let lines = count + 1 + usize::from(has_cookie);
    if lines > limits.fields_max {
        return Err(Refused::TooManyFields);
    }
    // One buffer for all of them, as the head is in HTTP/1.
    let mut bytes = Vec::with_capacity(length);
    for (name, value) in others() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    let bytes = Bytes::from(bytes);
    let mut fields = Fields::with_capacity(lines);
    fields.push_static("host", authority.clone());
    let mut at = 0;
    for (name, value) in others() {
        let name_end = at + name.as_str().len();
        let value_end = name_end + value.len();
        // h2 keeps the white space around a value that the peer sent.
        let value = bytes.slice_ref(bytes[name_end..value_end].trim_ascii());
        fields.push(bytes.slice(at..name_end), value);
        at = value_end;
    }
    if has_cookie {
        let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        fields.push_static("cookie", crumbs.join(&b"; "[..]));
    }
    let longest = fields.iter().map(|field| field.name.len() + 2 + field.value.len()).max();
    if longest.unwrap_or(0) > limits.field_max_bytes {
        return Err(Refused::FieldTooLong);
    }
    Ok(fields)
}

fn check(name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
    let value = value.as_bytes();
    if is_connection_specific(name.as_str().as_bytes())
        || (*name == TE && !value.eq_ignore_ascii_case(b"trailers"))
    {
        return Err(Refused::ConnectionSpecific);
    }
    if value.iter().copied().any(is_forbidden_in_value) {
        return Err(Refused::FieldValue);
    }
    if *name == EXPECT && !value.eq_ignore_ascii_case(CONTINUE) {
        return Err(Refused::Expectation);
    }
    Ok(())
}

fn is_connection_specific(name: &[u8]) -> bool {
    matches!(name.len(), 7 | 10 | 16 | 17)
        && CONNECTION_SPECIFIC.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Makes the head that h2 sends of our response. `None`: it would be no valid message.
pub(super) fn response_head(
    response: &Response,
    head_only: bool,
    clock: &Clock,
) -> Option<http::Response<()>> {
    if response.status.is_informational() {
        return None;
    }
    let lines = response.stored.as_ref().map_or(0, StoredHead::len) + response.fields.len();
    // Room for Date and Content-Length.
    let mut headers = HeaderMap::try_with_capacity(lines + 2).ok()?;
    for field in response.all_fields() {
        if is_ours(&field) {
            continue;
        }
        let (name, value) = header(&field)?;
        // RFC 9110 6.6.1: one Date, that of the origin where it gave one.
        if name != DATE || !headers.contains_key(DATE) {
            headers.try_append(name, value).ok()?;
        }
    }
    if !headers.contains_key(DATE)
        && let Ok(date) = with_date(clock, HeaderValue::from_bytes)
    {
        headers.insert(DATE, date);
    }
    if let Some(length) = content_length(response, head_only) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(head(response.status, headers))
}

/// Makes the head of an interim response (RFC 9110 15.2).
pub(super) fn interim_head(interim: &InterimResponse) -> http::Response<()> {
    head(interim.status, loose_fields(&interim.fields))
}

/// What follows the content (RFC 9110 6.5).
pub(super) fn trailers(fields: &Fields) -> HeaderMap {
    loose_fields(fields)
}

/// Fields that are no part of a message's head: what cannot be sent is left out.
fn loose_fields(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().filter(|field| !is_ours(field)).filter_map(header) {
        if headers.try_append(name, value).is_err() {
            break;
        }
    }
    headers
}

/// Is it a field that this module writes itself, or that HTTP/2 does not have?
fn is_ours(field: &Field) -> bool {
    is_connection_specific(&field.name) || field.is("content-length") || field.is("te")
}

fn header(field: &Field) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(&field.name).ok()?;
    Some((name, HeaderValue::from_maybe_shared(field.value.clone()).ok()?))
}

fn head(status: StatusCode, headers: HeaderMap) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    head
}

fn content_length(response: &Response, head_only: bool) -> Option<u64> {
    if has_no_content(response.status) {
        return None;
    }
    if !head_only {
        return response.body.len();
    }
    // An empty content here says nothing about the length of a GET's.
    response
        .fields
        .first_str("content-length")
        .and_then(|told| told.parse().ok())
        .or_else(|| response.body.len().filter(|&length| length > 0))
}

/// Statuses whose responses have neither content nor a length (RFC 9110 6.4.1).
pub(super) fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

#[cfg(test)]
mod tests;
