//! Writes a request for an HTTP/1.1 origin; nothing of the client's own bytes frames it.

use bytes::Bytes;
use http::Method;

use crate::fields::{Field, Names};
use crate::origin::OriginRequest;
use crate::origin::head::{is_field_value, is_token};

/// Fields that frame a message or belong to one connection: ours are written anew.
const OURS: Names = Names::new(&[
    "host",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
]);

/// What the connection is to become after the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence<'a> {
    /// Used again.
    Keep,
    /// Closed.
    Close,
    /// One of another protocol, of this list.
    Switch(&'a [u8]),
}

/// The head; `None` for a target that would not stay within its line.
pub(super) fn serialise(request: &OriginRequest, persistence: Persistence<'_>) -> Option<Bytes> {
    let is_visible = |byte: &u8| *byte > 0x20 && *byte != 0x7f;
    if request.target.is_empty() || !request.target.iter().all(is_visible) {
        return None;
    }
    let mut out = Vec::with_capacity(256 + request.target.len() + request.fields.wire_bytes());
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&request.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = request.fields.first("host").unwrap_or(&request.authority);
    write_line(&mut out, b"Host", host);
    for field in request.fields.iter().filter(|field| is_passed(field)) {
        write_line(&mut out, &field.name, &field.value);
    }
    if let Some(length) = content_length(request) {
        write_line(&mut out, b"Content-Length", length.to_string().as_bytes());
    }
    match persistence {
        Persistence::Keep => {}
        Persistence::Close => write_line(&mut out, b"Connection", b"close"),
        Persistence::Switch(protocols) => {
            write_line(&mut out, b"Connection", b"upgrade");
            write_line(&mut out, b"Upgrade", protocols);
        }
    }
    out.extend_from_slice(b"\r\n");
    Some(Bytes::from(out))
}

fn is_passed(field: &Field) -> bool {
    !OURS.have(&field.name)
        && !field.name.is_empty()
        && field.name.iter().all(|&byte| is_token(byte))
}

/// A value with a control character has no business here; its line is left out.
fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if is_field_value(value) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The content was taken in whole, so its length is known (RFC 9110 8.6).
fn content_length(request: &OriginRequest) -> Option<u64> {
    let bytes = request.body.bytes();
    let expected = request.fields.contains("content-length")
        || [Method::POST, Method::PUT, Method::PATCH].contains(&request.method);
    (bytes > 0 || expected).then_some(bytes)
}
