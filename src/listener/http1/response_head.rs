//! The head of a response as HTTP/1 sends it: status line, field lines and framing (RFC 9112).
//!
//! Framing, Connection and Date are written here and nowhere else.

use http::{StatusCode, Version};

use super::head::is_token_byte;
use crate::clock::Clock;
use crate::exchange::{Delivered, InterimResponse, Response, StoredHead, is_framing};
use crate::fields::Field;
use crate::listener::date::with_date;

/// What a response must know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// HEAD: the fields of a GET without its content.
    pub(super) head_only: bool,
    /// Decides between chunked coding and the end of the connection.
    pub(super) version: Version,
    /// The connection may be used again, as far as the request goes.
    pub(super) keep_alive: bool,
}

/// How the content of a response is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimiter {
    /// There is none, and nothing says so: 204, 304, HEAD without a known length.
    Nothing,
    /// None is sent, but its length is told (HEAD).
    LengthAlone(u64),
    /// By its length.
    Length(u64),
    /// Chunked coding.
    Chunks,
    /// The end of the connection.
    Close,
}

impl Delimiter {
    pub(super) fn of(response: &Response, asked: Asked) -> Self {
        if matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Self::Nothing;
        }
        let length = response.body.len();
        if asked.head_only {
            // A stored head has no such line.
            let told =
                response.fields.first_str("content-length").and_then(|told| told.parse().ok());
            // An empty body here says nothing about the length of a GET's.
            return match told.or(length.filter(|&length| length > 0)) {
                Some(length) => Self::LengthAlone(length),
                None => Self::Nothing,
            };
        }
        match length {
            Some(length) => Self::Length(length),
            None if asked.version == Version::HTTP_11 => Self::Chunks,
            None => Self::Close,
        }
    }

    pub(super) fn has_content(self) -> bool {
        !matches!(self, Self::Nothing | Self::LengthAlone(_))
    }
}

/// Is a response one message? One with an interim or switching status is none, nor is one with a
/// line that holds another line.
pub(super) fn is_message(response: &Response) -> bool {
    !response.status.is_informational() && response.fields.iter().all(is_sound)
}

/// What is sent in place of a response that is no message.
pub(super) fn bad_gateway(response: Response) -> Response {
    tracing::error!(status = response.status.as_u16(), "a response was no valid message");
    let Response { completion, .. } = response;
    completion.finish(Delivered::BodyFailed { body_bytes: 0 });
    Response::text(StatusCode::BAD_GATEWAY, "Bad Gateway\n")
}

pub(super) fn is_sound(field: &Field) -> bool {
    !field.name.is_empty()
        && field.name.iter().copied().all(is_token_byte)
        && memchr::memchr3(b'\r', b'\n', 0, &field.value).is_none()
}

/// An interim response (RFC 9110 15.2) as it goes to the client.
pub(super) fn serialised(interim: &InterimResponse) -> Vec<u8> {
    interim_head(interim.status, interim.fields.iter(), None)
}

/// The head of a 101 to `protocol`.
pub(super) fn switching(response: &Response, protocol: &[u8]) -> Vec<u8> {
    interim_head(StatusCode::SWITCHING_PROTOCOLS, response.fields.iter(), Some(protocol))
}

fn interim_head<'a>(
    status: StatusCode,
    fields: impl Iterator<Item = &'a Field>,
    protocol: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_status_line(&mut out, status);
    for field in fields.filter(|field| is_sound(field) && !is_framing(field)) {
        field.write_http1(&mut out);
    }
    if let Some(protocol) = protocol {
        write_line(&mut out, b"Connection", b"upgrade");
        write_line(&mut out, b"Upgrade", protocol);
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

pub(super) fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let reason = status.canonical_reason().unwrap_or("");
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// All lines but those that leave as they were stored, and a Date where there is none.
pub(super) fn write_lines(out: &mut Vec<u8>, response: &Response, clock: &Clock) {
    let mut has_date = response.stored.as_ref().is_some_and(StoredHead::has_date);
    for field in response.fields.iter().filter(|field| !is_framing(field)) {
        // RFC 9110 6.6.1: one Date, that of the origin where it gave one.
        if field.is("date") && std::mem::replace(&mut has_date, true) {
            continue;
        }
        field.write_http1(out);
    }
    if !has_date {
        with_date(clock, |date| write_line(out, b"Date", date));
    }
}

/// Framing, persistence and the empty line.
pub(super) fn write_end(
    out: &mut Vec<u8>,
    version: Version,
    delimiter: Delimiter,
    keep_alive: bool,
) {
    match delimiter {
        Delimiter::Length(length) | Delimiter::LengthAlone(length) => {
            write_line(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
        }
        Delimiter::Chunks => write_line(out, b"Transfer-Encoding", b"chunked"),
        Delimiter::Nothing | Delimiter::Close => {}
    }
    if !keep_alive {
        write_line(out, b"Connection", b"close");
    } else if version != Version::HTTP_11 {
        write_line(out, b"Connection", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
}
