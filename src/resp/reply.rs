//! Whole replies off the front of what came, as bytes: what is passed on need not be decoded.

use bytes::{Bytes, BytesMut};

use super::{Line, ProtocolError, line_end, number};

/// What one reply may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Bytes of a line: a status, an error, a number.
    pub line_max_bytes: usize,
    /// Bytes of one string.
    pub bulk_max_bytes: usize,
    /// Elements at all depths together; a map's keys and values count each.
    pub elements_max: usize,
    /// Bytes of a whole reply.
    pub reply_max_bytes: usize,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyKind {
    /// `+`
    Simple,
    /// `-`, and `!` of RESP3.
    Error,
    /// `:`
    Integer,
    /// `$`
    Bulk,
    /// `_` of RESP3, `$-1` and `*-1` of RESP2.
    Null,
    /// `*`
    Array,
    /// `%`
    Map,
    /// `~`
    Set,
    /// `,`
    Double,
    /// `#`
    Boolean,
    /// `(`
    BigNumber,
    /// `=`
    Verbatim,
    /// `>`: no answer to a request, but news.
    Push,
}

/// One whole reply, with the attributes (`|`) that came before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    /// As it came.
    pub bytes: Bytes,
    /// What it is.
    pub kind: ReplyKind,
}

/// How far the reading of a reply has come that is not whole yet.
#[derive(Clone, Debug, Default)]
pub struct ReplyState {
    /// Where the element begins that comes next.
    at: usize,
    /// Up to where its line was searched for its end.
    scanned: usize,
    /// Elements that are still to come, once the reply has begun.
    missing: usize,
    /// Elements so far, those to come included.
    elements: usize,
    /// Of attributes, elements that come before the reply itself.
    attributes: usize,
    kind: Option<ReplyKind>,
}

impl ReplyState {
    /// Has a reply begun that is not whole?
    pub fn is_amid(&self) -> bool {
        self.scanned > 0 || self.at > 0
    }
}

/// What the line at an element's beginning says.
pub(super) struct Head {
    pub kind: Heading,
    /// Where what follows the line begins.
    pub after: usize,
}

pub(super) enum Heading {
    /// The line is all of it.
    Line(ReplyKind),
    /// So many bytes and a CR LF follow.
    Bulk(ReplyKind, usize),
    /// So many elements follow.
    Elements(ReplyKind, usize),
    /// So many elements follow, and then what they belong to.
    Attributes(usize),
}

/// Takes one whole reply (RESP2 or RESP3, nested, with its attributes) off the front of a buffer, which
/// must be the same buffer until one was whole. `None`: more bytes are needed.
pub fn read_reply(
    buffer: &mut BytesMut,
    limits: &ReplyLimits,
    state: &mut ReplyState,
) -> Result<Option<RawReply>, ProtocolError> {
    if buffer.is_empty() {
        return Ok(None);
    }
    if state.missing == 0 {
        (state.missing, state.elements) = (1, 1);
    }
    while state.missing > 0 {
        if !read_element(buffer, limits, state)? {
            return Ok(None);
        }
    }
    let state = std::mem::take(state);
    let kind = state.kind.ok_or(ProtocolError::MalformedReply)?;
    Ok(Some(RawReply { bytes: buffer.split_to(state.at).freeze(), kind }))
}

/// Reads the head of an element, and its bytes; false: it is not whole.
fn read_element(
    buffer: &[u8],
    limits: &ReplyLimits,
    state: &mut ReplyState,
) -> Result<bool, ProtocolError> {
    let line = line_end(buffer, state.scanned.max(state.at));
    let (Line::Ends(end) | Line::Partial(end) | Line::Broken(end)) = line;
    if end - state.at > limits.line_max_bytes || end > limits.reply_max_bytes {
        return Err(ProtocolError::ReplyTooLarge);
    }
    let head = match line {
        Line::Broken(_) => return Err(ProtocolError::MalformedReply),
        Line::Partial(scanned) => {
            state.scanned = scanned;
            return Ok(false);
        }
        Line::Ends(end) => head(buffer, state.at, end)?,
    };
    let mut end = head.after;
    if let Heading::Bulk(_, bytes) = head.kind {
        end = end.saturating_add(bytes).saturating_add(2);
        if bytes > limits.bulk_max_bytes {
            return Err(ProtocolError::ReplyTooLarge);
        }
    }
    if end > limits.reply_max_bytes {
        return Err(ProtocolError::ReplyTooLarge);
    }
    if end > buffer.len() {
        // The next look reads the line once more, which is short, and nothing of what follows it.
        state.scanned = head.after - 2;
        return Ok(false);
    }
    if matches!(head.kind, Heading::Bulk(..)) && buffer[end - 2..end] != *b"\r\n" {
        return Err(ProtocolError::MalformedReply);
    }
    (state.at, state.scanned) = (end, end);
    count(&head.kind, limits, state)?;
    Ok(true)
}

/// Counts what an element brings, and what it leaves to come.
fn count(
    heading: &Heading,
    limits: &ReplyLimits,
    state: &mut ReplyState,
) -> Result<(), ProtocolError> {
    let (kind, more, done) = match *heading {
        Heading::Line(kind) | Heading::Bulk(kind, _) => (Some(kind), 0, 1),
        Heading::Elements(kind, more) => (Some(kind), more, 1),
        Heading::Attributes(more) => (None, more, 0),
    };
    state.elements = state.elements.saturating_add(more);
    if state.elements > limits.elements_max.max(1) {
        return Err(ProtocolError::ReplyTooLarge);
    }
    if state.kind.is_none() {
        // The reply itself is the first element that belongs to no attribute.
        match kind {
            Some(kind) if state.attributes == 0 => state.kind = Some(kind),
            Some(_) => state.attributes = state.attributes - 1 + more,
            None => state.attributes += more,
        }
    }
    state.missing = state.missing - done + more;
    Ok(())
}

/// Reads the line of an element, which is `buffer[at..end]`.
pub(super) fn head(buffer: &[u8], at: usize, end: usize) -> Result<Head, ProtocolError> {
    use ProtocolError::MalformedReply;
    let Some((&sign, text)) = buffer[at..end].split_first() else {
        return Err(MalformedReply);
    };
    if memchr::memchr(b'\n', text).is_some() {
        return Err(MalformedReply);
    }
    let kind = match sign {
        b'+' => Heading::Line(ReplyKind::Simple),
        b'-' => Heading::Line(ReplyKind::Error),
        b':' if number::integer(text.strip_prefix(b"+").unwrap_or(text)).is_some() => {
            Heading::Line(ReplyKind::Integer)
        }
        b'_' if text.is_empty() => Heading::Line(ReplyKind::Null),
        b'#' if matches!(text, b"t" | b"f") => Heading::Line(ReplyKind::Boolean),
        b',' if double(text).is_some() => Heading::Line(ReplyKind::Double),
        b'(' if is_big_number(text) => Heading::Line(ReplyKind::BigNumber),
        b'$' | b'*' if text == b"-1" => Heading::Line(ReplyKind::Null),
        b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|' if text == b"?" => {
            return Err(ProtocolError::Streamed);
        }
        b'$' => Heading::Bulk(ReplyKind::Bulk, size(text)?),
        b'!' => Heading::Bulk(ReplyKind::Error, size(text)?),
        b'=' => Heading::Bulk(ReplyKind::Verbatim, size(text)?),
        b'*' => Heading::Elements(ReplyKind::Array, size(text)?),
        b'~' => Heading::Elements(ReplyKind::Set, size(text)?),
        b'>' => Heading::Elements(ReplyKind::Push, size(text)?),
        b'%' => Heading::Elements(ReplyKind::Map, size(text)?.saturating_mul(2)),
        b'|' => Heading::Attributes(size(text)?.saturating_mul(2)),
        _ => return Err(MalformedReply),
    };
    Ok(Head { kind, after: end + 2 })
}

fn size(text: &[u8]) -> Result<usize, ProtocolError> {
    let number = number::integer(text).and_then(|number| usize::try_from(number).ok());
    number.ok_or(ProtocolError::MalformedReply)
}

/// A number with a fraction, `inf`, `-inf` or `nan`.
pub(super) fn double(text: &[u8]) -> Option<f64> {
    let first = *text.strip_prefix(b"-").unwrap_or(text).first()?;
    let named = matches!(text, b"inf" | b"-inf" | b"nan" | b"-nan");
    if !named && !first.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
