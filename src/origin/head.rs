//! Field lines of a response head, and what they say about the content's length.
//!
//! CGI and HTTP/1.1 write the same lines (RFC 3875 6.3, RFC 9112 5); CGI may end them with a bare
//! LF. Names and values come out as slices of the head's one buffer.

use bytes::Bytes;
use http::StatusCode;

use super::decoder::Fault;
use crate::fields::{Field, Fields, Names, well_known};

/// Fields that belong to one connection (RFC 9110 7.6.1) and never travel on.
const HOP_BY_HOP: Names = Names::new(&[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
]);

/// Fields that mean nothing, or something else, after the content (RFC 9110 6.5.1): they frame or
/// route a message, steer what is done with it, authenticate, or belong to one connection.
/// Besides these all that begin with `content-`, `if-`, `proxy-`, `x-forwarded-` or `x-magento-`.
const NEVER_TRAILERS: Names = Names::new(&[
    "accept-ranges",
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "clear-site-data",
    "connection",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
]);
const NEVER_TRAILERS_PREFIXES: [&str; 5] =
    ["content-", "if-", "proxy-", "x-forwarded-", "x-magento-"];

/// Fields that `Connection` cannot name: without them a response would mean something else.
const NOT_TO_BE_NAMED: Names = Names::new(&[
    "age",
    "cdn-cache-control",
    "clear-site-data",
    "content-length",
    "content-type",
    "content-encoding",
    "cache-control",
    "content-range",
    "content-security-policy",
    "etag",
    "expires",
    "pragma",
    "strict-transport-security",
    "surrogate-control",
    "set-cookie",
    "vary",
    "location",
    "www-authenticate",
    "x-magento-tags",
]);

/// Options of Connection that are looked for among the fields; a response has two at most.
const CONNECTION_OPTIONS_MAX: usize = 100;

/// Fields for which there is room before they are read: PHP sends a dozen.
const FIELDS_AT_ONCE: usize = 24;

/// How lines may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// CRLF alone.
    Strict,
    /// CRLF or LF, as CGI scripts write them (RFC 3875 6.3: NL is the system's own).
    CgiTolerant,
}

/// How much content follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// None, by the method or the status, whatever the fields say (RFC 9112 6.3).
    Never,
    /// So many bytes.
    Bytes(u64),
    /// Up to the end of the reply.
    Unknown,
}

impl Content {
    /// Reads it off a head.
    pub(super) fn of(head_request: bool, status: StatusCode, length: Option<u64>) -> Self {
        let never = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        match length {
            _ if head_request || never => Self::Never,
            Some(length) => Self::Bytes(length),
            None => Self::Unknown,
        }
    }

    /// Its length, where that is known.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Never => Some(0),
            Self::Bytes(length) => Some(length),
            Self::Unknown => None,
        }
    }
}

/// The head of a response, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields that travel on.
    pub fields: Fields,
    /// How much content will come.
    pub content: Content,
    /// Is the client to see each piece at once (`X-Accel-Buffering: no`)?
    pub unbuffered: bool,
}

/// Where the head ends in `bytes`: the number of bytes with its empty line. `searched` is how far
/// earlier calls came, so that a head in many small pieces costs one pass.
pub(super) fn head_end(bytes: &[u8], searched: &mut usize, line_end: LineEnd) -> Option<usize> {
    let mut from = *searched;
    while let Some(found) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        let before = &bytes[..at];
        let ends = match line_end {
            LineEnd::Strict => before == b"\r" || before.ends_with(b"\r\n\r"),
            LineEnd::CgiTolerant => {
                let line = before.strip_suffix(b"\r").unwrap_or(before);
                line.is_empty() || line.ends_with(b"\n")
            }
        };
        if ends {
            return Some(at + 1);
        }
        from = at + 1;
        *searched = from;
    }
    None
}

/// Splits the first line off `rest`, without its end.
pub(super) fn next_line<'a>(rest: &mut &'a [u8], line_end: LineEnd) -> Result<&'a [u8], Fault> {
    let at = memchr::memchr(b'\n', rest).ok_or(Fault::Malformed("a head line has no end"))?;
    let line = &rest[..at];
    *rest = &rest[at + 1..];
    match line.strip_suffix(b"\r") {
        Some(line) => Ok(line),
        None if line_end == LineEnd::Strict => Err(Fault::Malformed("a head line ends without CR")),
        None => Ok(line),
    }
}

/// Reads the field lines of `head`, from `rest` on, up to the empty line.
pub(super) fn read_fields(
    head: &Bytes,
    mut rest: &[u8],
    line_end: LineEnd,
) -> Result<Fields, Fault> {
    let mut fields = Fields::with_capacity(FIELDS_AT_ONCE);
    loop {
        let line = next_line(&mut rest, line_end)?;
        if line.is_empty() {
            return Ok(fields);
        }
        fields.extend([field_of(head, line)?]);
    }
}

/// One field line, without its end.
pub(super) fn read_field(line: &Bytes) -> Result<Field, Fault> {
    field_of(line, line)
}

/// The field of a line of `head`, as slices of that.
fn field_of(head: &Bytes, line: &[u8]) -> Result<Field, Fault> {
    let colon =
        memchr::memchr(b':', line).ok_or(Fault::Malformed("a head line has no colon in it"))?;
    let name = &line[..colon];
    let name = match well_known(name) {
        Some(name) => name,
        None if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) => {
            return Err(Fault::Malformed("a field name has a character that it may not have"));
        }
        None => head.slice_ref(name),
    };
    let value = without_white_space(&line[colon + 1..]);
    if !is_field_value(value) {
        return Err(Fault::Malformed("a field value has a control character"));
    }
    Ok(Field { name, value: head.slice_ref(value) })
}

/// Spaces and tabs around a value are not part of it (RFC 9110 5.5). Other white space is a control
/// character, which must be seen as one.
fn without_white_space(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A character of a token (RFC 9110 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    const IS_TOKEN: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0_u8);
        while byte < 0x7f {
            let is_mark = matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.');
            let is_mark = is_mark || matches!(byte, b'^'..=b'`' | b'|' | b'~');
            table[byte as usize] = byte.is_ascii_alphanumeric() || is_mark;
            byte += 1;
        }
        table
    };
    IS_TOKEN[byte as usize]
}

/// Has a field value no control character but the tab? Looking at all bytes, whatever they are, is
/// done many at a time: heads have policies of some thousand bytes.
pub(super) fn is_field_value(value: &[u8]) -> bool {
    value.iter().fold(true, |is_text, &byte| is_text & is_field_text(byte))
}

/// A character of a field value (RFC 9110 5.5): no control character but the tab.
fn is_field_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

/// Reads a status of three digits. 1xx is none that ends an exchange.
pub(super) fn read_status(digits: &[u8]) -> Result<StatusCode, Fault> {
    StatusCode::from_bytes(digits).map_err(|_| Fault::Malformed("the status is no number"))
}

/// The one Content-Length; a repeated, listed or signed one is malformed (RFC 9112 6.3), since two
/// readers could disagree about it.
pub(super) fn content_length(fields: &Fields) -> Result<Option<u64>, Fault> {
    let mut lines = fields.all("content-length");
    let Some(value) = lines.next() else {
        return Ok(None);
    };
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match (digits, number, lines.next()) {
        (true, Some(length), None) => Ok(Some(length)),
        _ => Err(Fault::Malformed("Content-Length is repeated or no number")),
    }
}

/// May this field follow the content on its way to a client?
pub(super) fn may_be_trailer(field: &Field) -> bool {
    let begins = |prefix: &&str| {
        let start = field.name.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    !NEVER_TRAILERS.have(&field.name) && !NEVER_TRAILERS_PREFIXES.iter().any(begins)
}

/// Takes out what belongs to the connection, with what `Connection` names.
pub(super) fn remove_hop_by_hop(fields: &mut Fields) {
    let named = fields.list("connection").take(CONNECTION_OPTIONS_MAX);
    let named: Vec<Vec<u8>> = named.map(<[u8]>::to_ascii_lowercase).collect();
    fields.retain(|field| {
        let is_named = named.iter().any(|name| field.name.eq_ignore_ascii_case(name));
        !HOP_BY_HOP.have(&field.name) && (!is_named || NOT_TO_BE_NAMED.have(&field.name))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(head: &'static str, line_end: LineEnd) -> Result<Fields, Fault> {
        let head = Bytes::from(head);
        read_fields(&head, &head, line_end)
    }

    #[test]
    fn lines_keep_order_case_and_duplicates() {
        let read = fields("Set-Cookie: a\r\nX-a:\t b \r\nset-cookie:\r\n\r\n", LineEnd::Strict);
        let expected = Fields::from([("Set-Cookie", "a"), ("X-a", "b"), ("set-cookie", "")]);
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_bare_lf_ends_a_line_in_cgi_alone() {
        assert!(fields("a: b\n\n", LineEnd::CgiTolerant).is_ok());
        assert!(fields("a: b\n\r\n", LineEnd::Strict).is_err());
    }

    #[test]
    fn control_characters_folding_and_odd_names_are_malformed() {
        for head in [
            "a: b\rc\r\n\r\n",
            "a: b\0\r\n\r\n",
            "a: \x7f\r\n\r\n",
            "Content-Length: 5\x0c\r\n\r\n",
            "a: b\r\r\n\r\n",
            "a: b\r\n c\r\n\r\n",
            "a : b\r\n\r\n",
            ": b\r\n\r\n",
            "a\r\n\r\n",
            "a\x01: b\r\n\r\n",
        ] {
            assert!(fields(head, LineEnd::CgiTolerant).is_err(), "{head:?}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_in_one_pass_whatever_the_pieces() {
        let head = b"a: b\r\nc: d\n\r\nbody\n\n";
        for first in 0..head.len() {
            let mut searched = 0;
            let found = head_end(&head[..first], &mut searched, LineEnd::CgiTolerant)
                .or_else(|| head_end(head, &mut searched, LineEnd::CgiTolerant));
            assert_eq!(found, Some(13), "split at {first}");
        }
        assert_eq!(head_end(b"\r\nx", &mut 0, LineEnd::Strict), Some(2));
        assert_eq!(head_end(b"a: b\n\n", &mut 0, LineEnd::Strict), None);
    }

    #[test]
    fn a_repeated_listed_or_signed_content_length_is_malformed() {
        for value in ["", "+1", "-1", "1, 1", "0x1", "99999999999999999999", "1 "] {
            assert!(content_length(&Fields::from([("Content-Length", value)])).is_err(), "{value}");
        }
        let twice = Fields::from([("Content-Length", "1"), ("content-length", "1")]);
        assert!(content_length(&twice).is_err());
        let once = Fields::from([("content-length", "0012")]);
        assert_eq!(content_length(&once), Ok(Some(12)));
    }

    #[test]
    fn connection_names_what_goes_but_never_what_the_message_means() {
        let mut fields = Fields::from([
            ("Connection", "X-Trace, Cache-Control"),
            ("X-Trace", "1"),
            ("Cache-Control", "private"),
            ("Transfer-Encoding", "chunked"),
        ]);
        remove_hop_by_hop(&mut fields);
        assert_eq!(fields, Fields::from([("Cache-Control", "private")]));
    }
}
