//! FastCGI records (specification 1.0, section 3.3): eight bytes of head, content, padding.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::origin::decoder::Fault;

/// Bytes of a record's head.
const HEAD_BYTES: usize = 8;
/// Content bytes of one record.
const CONTENT_BYTES_MAX: usize = 65_535;
/// Content bytes of the records we send: the most that needs no padding.
const CHUNK_BYTES: usize = CONTENT_BYTES_MAX / 8 * 8;
/// There is one request on a connection at a time, so its id is always the same.
const REQUEST_ID: u16 = 1;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

const ROLE_RESPONDER: u16 = 1;
const KEEP_CONNECTION: u8 = 1;

/// What a record brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A piece of the response.
    Stdout(Bytes),
    /// A piece of the error log.
    Stderr(Bytes),
    /// The request has ended.
    End(Ending),
}

/// What `FCGI_END_REQUEST`'s two statuses say (specification 1.0, 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The reply is complete.
    Complete,
    /// The application ended with a status of its own that is none of success, as the program
    /// behind it did: what it wrote up to there is no whole reply.
    Failed,
    /// The application takes one request per connection, and believes to have one.
    CannotMultiplex,
    /// It is out of some resource.
    Overloaded,
    /// It is no responder.
    UnknownRole,
}

/// Takes records apart, whole or in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Records {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Content {
        kind: Kind,
        remaining: usize,
        padding: usize,
    },
    Padding {
        remaining: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stdout,
    Stderr,
    End,
}

impl Records {
    /// The next event, `None` until more bytes are there. Content of the two streams comes out as
    /// it arrives, without waiting for the end of its record.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        loop {
            match self.state {
                State::Head => {
                    if input.len() < HEAD_BYTES {
                        return Ok(None);
                    }
                    self.state = read_head(input)?;
                }
                State::Content { kind: _, remaining: 0, padding } => {
                    self.state = State::Padding { remaining: padding };
                }
                State::Content { kind: Kind::End, remaining, padding } => {
                    if input.len() < remaining {
                        return Ok(None);
                    }
                    self.state = State::Padding { remaining: padding };
                    return read_end(&input.split_to(remaining)).map(|end| Some(Event::End(end)));
                }
                State::Content { kind, remaining, padding } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let piece = input.split_to(remaining.min(input.len())).freeze();
                    let remaining = remaining - piece.len();
                    self.state = State::Content { kind, remaining, padding };
                    let is_output = kind == Kind::Stdout;
                    let event = if is_output { Event::Stdout(piece) } else { Event::Stderr(piece) };
                    return Ok(Some(event));
                }
                State::Padding { remaining: 0 } => self.state = State::Head,
                State::Padding { remaining } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let skipped = remaining.min(input.len());
                    input.advance(skipped);
                    self.state = State::Padding { remaining: remaining - skipped };
                }
            }
        }
    }

    /// Nothing of a record is left over, its padding included.
    pub(super) fn is_between_records(&self) -> bool {
        matches!(self.state, State::Head | State::Padding { remaining: 0 })
    }
}

/// Everything but the three types that answer a request of ours is an error: after it nothing on
/// the connection can be trusted.
fn read_head(input: &mut BytesMut) -> Result<State, Fault> {
    let mut head = input.split_to(HEAD_BYTES);
    let (version, kind, id) = (head.get_u8(), head.get_u8(), head.get_u16());
    let (remaining, padding) = (usize::from(head.get_u16()), usize::from(head.get_u8()));
    if version != VERSION {
        return Err(Fault::Malformed("a record has another version than 1"));
    }
    if id != REQUEST_ID {
        return Err(Fault::Malformed("a record has an id that is not the request's"));
    }
    let kind = match kind {
        STDOUT => Kind::Stdout,
        STDERR => Kind::Stderr,
        END_REQUEST if remaining == 8 => Kind::End,
        END_REQUEST => return Err(Fault::Malformed("END_REQUEST is not 8 bytes long")),
        _ => return Err(Fault::Malformed("a record has a type that answers nothing")),
    };
    Ok(State::Content { kind, remaining, padding })
}

/// The application's own status comes first, as the exit status of a CGI program. PHP-FPM says 0
/// whatever its script came to.
fn read_end(content: &[u8]) -> Result<Ending, Fault> {
    match content.get(4) {
        Some(0) if content.starts_with(&[0; 4]) => Ok(Ending::Complete),
        Some(0) => Ok(Ending::Failed),
        Some(1) => Ok(Ending::CannotMultiplex),
        Some(2) => Ok(Ending::Overloaded),
        Some(3) => Ok(Ending::UnknownRole),
        _ => Err(Fault::Malformed("END_REQUEST has an unknown protocol status")),
    }
}

/// Writes `FCGI_BEGIN_REQUEST` for a responder.
pub(super) fn write_begin(out: &mut Vec<u8>, keep_connection: bool) {
    write_head(out, BEGIN_REQUEST, 8);
    out.put_u16(ROLE_RESPONDER);
    out.put_u8(if keep_connection { KEEP_CONNECTION } else { 0 });
    out.put_bytes(0, 5);
}

/// Writes parameters and the empty record that ends them.
///
/// A pair is never spread over two records as long as it fits into one: PHP reads the pairs of
/// each record by itself.
pub(super) fn write_params(out: &mut Vec<u8>, params: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) {
    let mut start = begin_params(out);
    for (name, value) in params {
        let (name, value) = (name.as_ref(), value.as_ref());
        let pair_bytes = 8 + name.len() + value.len();
        if out.len() > start && out.len() - start + pair_bytes > CHUNK_BYTES {
            end_params(out, start);
            start = begin_params(out);
        }
        write_length(out, name.len());
        write_length(out, value.len());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
    end_params(out, start);
    if out.len() > start {
        write_head(out, PARAMS, 0);
    }
}

/// Begins a record whose length is not known yet, and says where its content begins.
fn begin_params(out: &mut Vec<u8>) -> usize {
    write_head(out, PARAMS, 0);
    out.len()
}

/// Ends it. Content that one record cannot hold is spread over several; none is left as it is, the
/// empty record.
fn end_params(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if length > CHUNK_BYTES {
        let content = out.split_off(start);
        out.truncate(start - HEAD_BYTES);
        return write_stream(out, PARAMS, &content);
    }
    out[start - 4..start - 2].copy_from_slice(&(length as u16).to_be_bytes());
    out[start - 2] = padding(length) as u8;
    out.put_bytes(0, padding(length));
}

/// The value of a parameter, as it stands in a request that was written here.
pub(super) fn read_param<'a>(mut request: &'a [u8], name: &str) -> Option<&'a [u8]> {
    while let [_, kind, _, _, high, low, padding, _, rest @ ..] = request {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (content, after) = rest.split_at_checked(length)?;
        if *kind == PARAMS
            && let Some(value) = read_pair(content, name.as_bytes())
        {
            return Some(value);
        }
        request = after.get(usize::from(*padding)..)?;
    }
    None
}

fn read_pair<'a>(mut pairs: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    while !pairs.is_empty() {
        let (name_bytes, value_bytes) = (read_length(&mut pairs)?, read_length(&mut pairs)?);
        let (name, rest) = pairs.split_at_checked(name_bytes)?;
        let (value, rest) = rest.split_at_checked(value_bytes)?;
        if name == wanted {
            return Some(value);
        }
        pairs = rest;
    }
    None
}

fn read_length(pairs: &mut &[u8]) -> Option<usize> {
    let (length, rest) = match *pairs {
        [length @ 0..=127, rest @ ..] => (usize::from(*length), rest),
        [a, b, c, d, rest @ ..] => (u32::from_be_bytes([a & 0x7f, *b, *c, *d]) as usize, rest),
        _ => return None,
    };
    *pairs = rest;
    Some(length)
}

/// Writes a piece of the request's content.
pub(in crate::origin) fn write_stdin(out: &mut Vec<u8>, piece: &[u8]) {
    write_stream(out, STDIN, piece);
}

/// Writes the empty record that ends the request's content.
pub(in crate::origin) fn write_stdin_end(out: &mut Vec<u8>) {
    write_head(out, STDIN, 0);
}

/// Lengths up to 127 take one byte, others four with the highest bit set (3.4).
fn write_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..=127) => out.put_u8(short),
        _ => out.put_u32(u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31),
    }
}

/// Writes `content` as records; none for empty content, because an empty record ends a stream.
fn write_stream(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    for chunk in content.chunks(CHUNK_BYTES) {
        write_head(out, kind, chunk.len());
        out.extend_from_slice(chunk);
        out.put_bytes(0, padding(chunk.len()));
    }
}

fn write_head(out: &mut Vec<u8>, kind: u8, content_bytes: usize) {
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16(REQUEST_ID);
    out.put_u16(content_bytes as u16);
    out.put_u8(padding(content_bytes) as u8);
    out.put_u8(0);
}

/// Bytes that fill up to a multiple of eight, as the specification advises.
const fn padding(content_bytes: usize) -> usize {
    content_bytes.next_multiple_of(8) - content_bytes
}
