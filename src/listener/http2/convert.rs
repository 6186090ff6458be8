//! Between hyper's messages and ours.
//!
//! What HTTP/2 decoded is checked as strictly as what HTTP/1 brings: the origin behind us speaks
//! HTTP/1 or `FastCGI`, and a request must not change its meaning on the way down.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{Beside, Connection, Request, Response};
use crate::fields::Fields;
use crate::listener::date::with_date;
use crate::listener::http1::head::{is_authority, is_forbidden_in_value, is_target_byte};
use crate::listener::limits::HeadLimits;

/// Fields that speak of one connection; HTTP/2 has none of them (RFC 9113 8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Bytes that the fields take. In HTTP/2 a few bytes can stand for kilobytes, again and again.
pub(super) fn fields_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Makes our request of hyper's, but for its content.
pub(super) fn request(
    head: http::request::Parts,
    body: Body,
    connection: Connection,
    limits: &HeadLimits,
) -> Result<Request, StatusCode> {
    let http::request::Parts { method, uri, headers, .. } = head;
    // The scheme says nothing to an origin. hyper keeps none where the authority is a Host field.
    let is_web =
        |scheme: &str| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    if !uri.scheme_str().is_none_or(is_web) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let authority = authority(&uri, &headers)?;
    let target = target(&method, &uri)?;
    if target.len() > limits.request_line_max_bytes {
        return Err(StatusCode::URI_TOO_LONG);
    }
    // h2 takes several that agree; for us a length is said once (RFC 9110 8.6).
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let fields = fields(&headers, &authority, limits)?;
    if fields.wire_bytes() + target.len() > limits.head_max_bytes {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    // hyper has no way to send interim responses, and extended CONNECT (RFC 8441) is off.
    let (version, beside) = (Version::HTTP_2, Beside::default());
    Ok(Request { method, target, authority, version, fields, body, connection, beside })
}

/// `:authority`, or Host; where there are both they agree (RFC 9113 8.3.1).
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<Bytes, StatusCode> {
    let mut hosts = headers.get_all("host").iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    let named = uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = match (named, host, hosts.next()) {
        (Some(named), None, None) => named,
        (None, Some(host), None) => host,
        (Some(named), Some(host), None) if named.eq_ignore_ascii_case(host) => named,
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    if !is_authority(authority) {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(Bytes::copy_from_slice(authority))
}

fn target(method: &Method, uri: &Uri) -> Result<Bytes, StatusCode> {
    if *method == Method::CONNECT {
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        return Ok(Bytes::copy_from_slice(authority.as_bytes()));
    }
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).as_bytes();
    let is_asterisk = target == b"*" && *method == Method::OPTIONS;
    let is_path = target.starts_with(b"/") && target.iter().copied().all(is_target_byte);
    if is_asterisk || is_path {
        Ok(Bytes::copy_from_slice(target))
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}

/// The lines, with Host first as HTTP/1 has it and all Cookie crumbs as one line.
fn fields(
    headers: &HeaderMap,
    authority: &Bytes,
    limits: &HeadLimits,
) -> Result<Fields, StatusCode> {
    let crumbs: Vec<&[u8]> = headers.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    let cookie = (!crumbs.is_empty()).then(|| Bytes::from(crumbs.join(&b"; "[..])));
    let others = headers.len() - crumbs.len() - headers.get_all("host").iter().count();
    if others + 1 + usize::from(cookie.is_some()) > limits.fields_max {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let is_other = |name: &HeaderName| name != "cookie" && name != "host";
    // One buffer for all of them, as the head is in HTTP/1.
    let mut bytes = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_other(name)) {
        check(name, value)?;
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    let bytes = Bytes::from(bytes);
    let mut fields = Fields::with_capacity(others + 2);
    fields.push_static("host", authority.clone());
    let mut at = 0;
    for (name, value) in headers.iter().filter(|(name, _)| is_other(name)) {
        let name_end = at + name.as_str().len();
        let value_end = name_end + value.len();
        // hyper keeps the white space around a value that the peer sent.
        let value = bytes.slice_ref(bytes[name_end..value_end].trim_ascii());
        fields.push(bytes.slice(at..name_end), value);
        at = value_end;
    }
    if let Some(cookie) = cookie {
        fields.push_static("cookie", cookie);
    }
    let longest = fields.iter().map(|field| field.name.len() + 2 + field.value.len()).max();
    if longest.unwrap_or(0) > limits.field_max_bytes {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    Ok(fields)
}

fn check(name: &HeaderName, value: &HeaderValue) -> Result<(), StatusCode> {
    let value = value.as_bytes();
    let is_refused = CONNECTION_SPECIFIC.contains(&name.as_str())
        || (name == "te" && !value.eq_ignore_ascii_case(b"trailers"))
        || value.iter().copied().any(is_forbidden_in_value);
    if name == "expect" && !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(StatusCode::EXPECTATION_FAILED);
    }
    if is_refused { Err(StatusCode::BAD_REQUEST) } else { Ok(()) }
}

/// Makes hyper's response head of ours. `None`: the fields are no valid message.
pub(super) fn response_head(
    response: &Response,
    head_only: bool,
    clock: &Clock,
) -> Option<http::Response<()>> {
    if response.status.is_informational() {
        return None;
    }
    let mut headers = HeaderMap::new();
    for field in response.all_fields() {
        let name = HeaderName::from_bytes(&field.name).ok()?;
        let is_ours = name == CONTENT_LENGTH
            || CONNECTION_SPECIFIC.contains(&name.as_str())
            || (name == DATE && headers.contains_key(DATE));
        if !is_ours {
            headers.append(name, HeaderValue::from_maybe_shared(field.value.clone()).ok()?);
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
    let mut head = http::Response::new(());
    *head.status_mut() = response.status;
    *head.headers_mut() = headers;
    Some(head)
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
        .all_fields()
        .find(|field| field.is("content-length"))
        .and_then(|field| std::str::from_utf8(&field.value).ok()?.parse().ok())
        .or_else(|| response.body.len().filter(|&length| length > 0))
}

/// Statuses whose responses have neither content nor a length (RFC 9110 6.4.1).
pub(super) fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

#[cfg(test)]
mod tests;
