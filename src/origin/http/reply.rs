//! A reply of an HTTP/1.1 server (RFC 9112): head, framing, content. Fields keep order and case.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::chunked::{Chunk, Chunked};
use crate::fields::Fields;
use crate::origin::decoder::{Fault, Step};
use crate::origin::head::{
    Content, LineEnd, ResponseHead, content_length, head_end, is_field_value, next_line,
    read_fields, read_status, remove_hop_by_hop,
};

/// A reply that is being read.
#[derive(Debug)]
pub(in crate::origin) struct Reply {
    head_request: bool,
    head_max_bytes: usize,
    /// Bytes of 1xx responses so far; with the head they share its bound.
    skipped_bytes: usize,
    reusable: bool,
    /// The protocols to which the request offered to switch; empty: none.
    offered: Bytes,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Head { searched: usize },
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Ended,
}

impl Reply {
    /// A reply to a HEAD request has no content.
    pub(in crate::origin) fn new(head_request: bool, head_max_bytes: usize) -> Self {
        let phase = Phase::Head { searched: 0 };
        let offered = Bytes::new();
        Self { head_request, head_max_bytes, skipped_bytes: 0, reusable: false, offered, phase }
    }

    /// A reply to a request that offers to switch to one of these protocols.
    pub(in crate::origin) fn offering(self, offered: Bytes) -> Self {
        Self { offered, ..self }
    }

    /// Takes the next step's bytes off `input`.
    pub(in crate::origin) fn next(&mut self, input: &mut BytesMut) -> Result<Step, Fault> {
        loop {
            match &mut self.phase {
                Phase::Head { searched } => {
                    let end = head_end(input, searched, LineEnd::Strict);
                    if self.skipped_bytes + end.unwrap_or(input.len()) > self.head_max_bytes {
                        return Err(Fault::Malformed("the head is larger than origin.head_max"));
                    }
                    let Some(end) = end else {
                        return Ok(Step::More);
                    };
                    let step = self.head(&input.split_to(end).freeze())?;
                    if matches!(step, Step::More) {
                        self.skipped_bytes += end;
                        continue;
                    }
                    if matches!(step, Step::Interim { .. }) {
                        self.skipped_bytes += end;
                    }
                    return Ok(step);
                }
                Phase::Length(0) => self.phase = Phase::Ended,
                Phase::Length(remaining) => {
                    if input.is_empty() {
                        return Ok(Step::More);
                    }
                    let allowed = usize::try_from(*remaining).unwrap_or(usize::MAX);
                    let piece = input.split_to(allowed.min(input.len())).freeze();
                    *remaining -= piece.len() as u64;
                    return Ok(Step::Content(piece));
                }
                Phase::Chunked(chunked) => match chunked.next(input)? {
                    Chunk::More => return Ok(Step::More),
                    Chunk::Content(piece) => return Ok(Step::Content(piece)),
                    Chunk::End(trailers) => {
                        self.phase = Phase::Ended;
                        if !trailers.is_empty() {
                            return Ok(Step::Trailers(trailers));
                        }
                    }
                },
                Phase::UntilClose if input.is_empty() => return Ok(Step::More),
                Phase::UntilClose => return Ok(Step::Content(input.split().freeze())),
                Phase::Ended => {
                    return Ok(Step::End { reusable: self.reusable && input.is_empty() });
                }
            }
        }
    }

    /// The end of the connection is the end of the content where nothing else marks it.
    pub(in crate::origin) fn end_of_input(&mut self) -> Result<Step, Fault> {
        match self.phase {
            Phase::UntilClose | Phase::Ended => {
                self.phase = Phase::Ended;
                Ok(Step::End { reusable: false })
            }
            Phase::Head { .. } | Phase::Length(_) | Phase::Chunked(_) => Err(Fault::Cut),
        }
    }

    /// Is all content out?
    pub(in crate::origin) fn content_is_whole(&self) -> bool {
        matches!(self.phase, Phase::Length(0) | Phase::Ended)
    }

    /// Reads a head; [`Step::More`] for a 100, which each connection has for itself.
    fn head(&mut self, head: &Bytes) -> Result<Step, Fault> {
        let mut rest = &head[..];
        let (version, status) = read_status_line(next_line(&mut rest, LineEnd::Strict)?)?;
        let mut fields = read_fields(head, rest, LineEnd::Strict)?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switched(version, fields).map(Step::Head);
        }
        if status.is_informational() {
            self.phase = Phase::Head { searched: 0 };
            if status == StatusCode::CONTINUE {
                return Ok(Step::More);
            }
            remove_hop_by_hop(&mut fields);
            fields.remove("content-length");
            return Ok(Step::Interim { status, fields });
        }
        let content = self.frame(version, status, &fields)?;
        self.reusable = stays_open(version, &fields) && !matches!(self.phase, Phase::UntilClose);
        let unbuffered = fields
            .first("x-accel-buffering")
            .is_some_and(|value| value.eq_ignore_ascii_case(b"no"));
        remove_hop_by_hop(&mut fields);
        if status == StatusCode::NO_CONTENT {
            fields.remove("content-length");
        }
        Ok(Step::Head(ResponseHead { status, fields, content, unbuffered }))
    }

    /// A 101: what follows is no HTTP any more. It must name protocols that were offered.
    fn switched(&mut self, version: Version, mut fields: Fields) -> Result<ResponseHead, Fault> {
        let protocols: Vec<&[u8]> = fields.list("upgrade").collect();
        let is_offered = |protocol: &&[u8]| {
            let mut offered = self.offered.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            offered.any(|one| one.eq_ignore_ascii_case(protocol))
        };
        let says_so =
            fields.list("connection").any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        let is_proper = version == Version::Http11
            && says_so
            && !protocols.is_empty()
            && protocols.iter().all(is_offered)
            && !fields.contains("transfer-encoding");
        if !is_proper {
            return Err(Fault::Malformed("101 to what was not offered"));
        }
        let protocols = Bytes::from(protocols.join(&b", "[..]));
        remove_hop_by_hop(&mut fields);
        fields.remove("content-length");
        fields.push_static("Upgrade", protocols);
        self.phase = Phase::Ended;
        let (status, content) = (StatusCode::SWITCHING_PROTOCOLS, Content::Never);
        Ok(ResponseHead { status, fields, content, unbuffered: true })
    }

    /// How the content ends (RFC 9112 6.3). Whatever two readers could understand in two ways is
    /// malformed.
    fn frame(
        &mut self,
        version: Version,
        status: StatusCode,
        fields: &Fields,
    ) -> Result<Content, Fault> {
        let length = content_length(fields)?;
        let mut codings = fields.all("transfer-encoding");
        let coding = codings.next();
        let chunked = match (coding, codings.next()) {
            (None, _) => false,
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => true,
            (Some(coding), None) if is_meaningless(coding) && length.is_none() => false,
            _ => return Err(Fault::Malformed("Transfer-Encoding is not exactly chunked")),
        };
        if chunked && length.is_some() {
            return Err(Fault::Malformed("Content-Length together with Transfer-Encoding"));
        }
        if coding.is_some() && version == Version::Http10 {
            return Err(Fault::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        let content = Content::of(self.head_request, status, length);
        self.phase = match content {
            Content::Never => Phase::Ended,
            Content::Bytes(length) => Phase::Length(length),
            Content::Unknown if chunked => Phase::Chunked(Chunked::new(self.head_max_bytes)),
            Content::Unknown => Phase::UntilClose,
        };
        Ok(content)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn read_status_line(line: &[u8]) -> Result<(Version, StatusCode), Fault> {
    let (version, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', rest @ ..] => {
            (Version::Http11, rest)
        }
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', rest @ ..] => {
            (Version::Http10, rest)
        }
        _ => return Err(Fault::Malformed("no status line of HTTP/1")),
    };
    let (digits, reason) = rest.split_at_checked(3).unwrap_or((rest, b""));
    let proper = reason.is_empty() || reason[0] == b' ';
    if !proper || !is_field_value(reason) {
        return Err(Fault::Malformed("the status line is malformed"));
    }
    Ok((version, read_status(digits)?))
}

/// RFC 9112 9.3.
fn stays_open(version: Version, fields: &Fields) -> bool {
    let says = |word: &[u8]| fields.list("connection").any(|one| one.eq_ignore_ascii_case(word));
    match version {
        Version::Http11 => !says(b"close"),
        Version::Http10 => says(b"keep-alive") && !says(b"close"),
    }
}

/// A word that is no transfer coding anybody knows: the content ends with the connection
/// (RFC 9112 6.3). A known one was never asked for, and what we cannot decode must not be handed on.
fn is_meaningless(coding: &[u8]) -> bool {
    const KNOWN: [&[u8]; 7] =
        [b"chunked", b"compress", b"deflate", b"gzip", b"identity", b"x-compress", b"x-gzip"];
    let contains = |known: &&[u8]| {
        coding.windows(known.len()).any(|window| window.eq_ignore_ascii_case(known))
    };
    !coding.is_empty()
        && coding.iter().all(u8::is_ascii_alphanumeric)
        && !KNOWN.iter().any(contains)
}
