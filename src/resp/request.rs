//! Requests, one after the other, off the front of what came.

use bytes::{Buf, Bytes, BytesMut};

use super::{Line, ProtocolError, inline, line_end, number, write};

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a command on a line, and of each line that tells a length.
    pub inline_max_bytes: usize,
    /// Bytes of one argument.
    pub bulk_max_bytes: usize,
    /// Arguments of one command, its name included.
    pub arguments_max: usize,
    /// Bytes of a whole request; at most 4 GiB are taken, whatever this says.
    pub request_max_bytes: usize,
}

/// Places of arguments are kept as 32 bits.
const REQUEST_BYTES_MAX: usize = u32::MAX as usize;
/// Places for arguments that are made before they came: a number costs nothing to send.
const PREPARED_ARGUMENTS_MAX: usize = 32;

/// One command as it came; cheap to clone, the arguments are slices of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    raw: Bytes,
    arguments: Vec<(u32, u32)>,
}

impl Request {
    /// A command of these arguments, the first of which is its name.
    pub fn pack(arguments: &[&[u8]]) -> Self {
        let mut raw = BytesMut::new();
        let mut places = Vec::with_capacity(arguments.len());
        write::array(&mut raw, arguments.len());
        for argument in arguments {
            write::bulk(&mut raw, argument);
            places.push(place(raw.len() - argument.len() - 2, argument.len()));
        }
        Self { raw: raw.freeze(), arguments: places }
    }

    /// All of its bytes, to be forwarded untouched. A command that came on a line is packed as an
    /// array of bulks.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// How many arguments there are, the name included; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a request has a name at least")]
    pub fn len(&self) -> usize {
        self.arguments.len()
    }

    /// An argument; 0 is the command's name.
    pub fn arg(&self, at: usize) -> Option<&[u8]> {
        let (start, length) = *self.arguments.get(at)?;
        self.raw.get(start as usize..start as usize + length as usize)
    }

    /// A copy which keeps nothing alive but its own bytes: those that came with others keep the whole
    /// buffer in which they came.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { raw: Bytes::copy_from_slice(&self.raw), arguments: self.arguments.clone() }
    }

    /// An argument that keeps the whole request's bytes alive.
    pub fn bytes(&self, at: usize) -> Option<Bytes> {
        let (start, length) = *self.arguments.get(at)?;
        Some(self.raw.slice(start as usize..start as usize + length as usize))
    }

    /// All arguments, the name first.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let raw = &self.raw[..];
        let slice = move |(start, length): &(u32, u32)| {
            &raw[*start as usize..*start as usize + *length as usize]
        };
        self.arguments.iter().map(slice)
    }

    /// Is it the beginning of a line of HTTP? A page elsewhere can make a browser, or this server's own PHP,
    /// send such lines anywhere, with lines behind them that would be commands. redis-server looks for the
    /// same two words.
    pub fn is_http(&self) -> bool {
        self.is("post") || self.is("host:")
    }

    /// Is this the command of that name? Case does not count.
    pub fn is(&self, name: &str) -> bool {
        self.arg(0).is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    }
}

fn place(start: usize, length: usize) -> (u32, u32) {
    // Both are below REQUEST_BYTES_MAX, which each reader checks.
    (start as u32, length as u32)
}

/// How far the reading of a request has come that is not whole yet, so that no byte is looked at twice.
#[derive(Clone, Debug, Default)]
pub struct ReadState {
    /// Where the line, or the argument, begins that comes next.
    at: usize,
    /// Up to where it was searched for its end.
    scanned: usize,
    /// Arguments still to come.
    missing: usize,
    /// The length of the argument that comes next, once it is known.
    bulk: Option<usize>,
    arguments: Vec<(u32, u32)>,
}

impl ReadState {
    /// Has a request begun that is not whole?
    pub fn is_amid(&self) -> bool {
        self.scanned > 0 || self.at > 0
    }
}

/// Takes whole requests (arrays of bulks, and commands on a line) off the front of a buffer, which must
/// be the same buffer until one was whole. Empty ones are skipped, as redis-server does. `None`: more
/// bytes are needed.
pub fn read_request(
    buffer: &mut BytesMut,
    limits: &Limits,
    state: &mut ReadState,
) -> Result<Option<Request>, ProtocolError> {
    loop {
        let read = match buffer.first() {
            None => return Ok(None),
            Some(b'*') => read_array(buffer, limits, state)?,
            Some(_) => read_line(buffer, limits, state)?,
        };
        match read {
            Read::Whole(request) => return Ok(Some(request)),
            Read::Empty => {}
            Read::Partial => return Ok(None),
        }
    }
}

enum Read {
    Whole(Request),
    Empty,
    Partial,
}

fn read_line(
    buffer: &mut BytesMut,
    limits: &Limits,
    state: &mut ReadState,
) -> Result<Read, ProtocolError> {
    // As redis-server, which looks for the line's end as C does: behind a NUL it finds none.
    let searched = &buffer[state.scanned..];
    let found = memchr::memchr2(b'\n', 0, searched).map(|at| state.scanned + at);
    let Some(end) = found.filter(|end| buffer[*end] == b'\n') else {
        if buffer.len() > limits.inline_max_bytes {
            return Err(ProtocolError::InlineTooLong);
        }
        state.scanned = found.unwrap_or(buffer.len());
        return Ok(Read::Partial);
    };
    if end > limits.inline_max_bytes {
        return Err(ProtocolError::InlineTooLong);
    }
    let line = &buffer[..end];
    let words = inline::words(line.strip_suffix(b"\r").unwrap_or(line))?;
    if words.len() > limits.arguments_max {
        return Err(ProtocolError::InvalidMultibulkLength);
    }
    buffer.advance(end + 1);
    *state = ReadState::default();
    if words.is_empty() {
        return Ok(Read::Empty);
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    Ok(Read::Whole(Request::pack(&words)))
}

fn read_array(
    buffer: &mut BytesMut,
    limits: &Limits,
    state: &mut ReadState,
) -> Result<Read, ProtocolError> {
    if state.at == 0 {
        let errors = (ProtocolError::InvalidMultibulkLength, ProtocolError::MultibulkCountTooLong);
        let Some((number, after)) = length(buffer, limits, state, errors)? else {
            return Ok(Read::Partial);
        };
        let number = number.ok_or(ProtocolError::InvalidMultibulkLength)?;
        if number <= 0 {
            buffer.advance(after);
            *state = ReadState::default();
            return Ok(Read::Empty);
        }
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number > limits.arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        (state.at, state.scanned, state.missing) = (after, after, number);
        state.arguments = Vec::with_capacity(number.min(PREPARED_ARGUMENTS_MAX));
    }
    while state.missing > 0 {
        if !read_argument(buffer, limits, state)? {
            return Ok(Read::Partial);
        }
    }
    let raw = buffer.split_to(state.at).freeze();
    let arguments = std::mem::take(state).arguments;
    Ok(Read::Whole(Request { raw, arguments }))
}

/// Reads one argument; false: it is not whole.
fn read_argument(
    buffer: &[u8],
    limits: &Limits,
    state: &mut ReadState,
) -> Result<bool, ProtocolError> {
    let bulk = if let Some(bulk) = state.bulk {
        bulk
    } else {
        let broken = match buffer.get(state.at) {
            Some(b'$') | None => ProtocolError::InvalidBulkLength,
            Some(other) => ProtocolError::ExpectedBulk(*other),
        };
        let errors = (broken, ProtocolError::BulkCountTooLong);
        let Some((number, after)) = length(buffer, limits, state, errors)? else {
            return Ok(false);
        };
        if buffer[state.at] != b'$' {
            return Err(broken);
        }
        let bulk = number.and_then(|number| usize::try_from(number).ok());
        let bulk = bulk.filter(|bulk| *bulk <= limits.bulk_max_bytes);
        let bulk = bulk.ok_or(ProtocolError::InvalidBulkLength)?;
        // Told before it comes: nobody waits for what will not be taken.
        let whole = after.saturating_add(bulk).saturating_add(2);
        if whole > limits.request_max_bytes.min(REQUEST_BYTES_MAX) {
            return Err(ProtocolError::RequestTooLarge);
        }
        (state.at, state.scanned) = (after, after);
        *state.bulk.insert(bulk)
    };
    let end = state.at + bulk;
    let Some(closing) = buffer.get(end..end + 2) else {
        return Ok(false);
    };
    if closing != b"\r\n" {
        return Err(ProtocolError::InvalidBulkLength);
    }
    state.arguments.push(place(state.at, bulk));
    (state.at, state.scanned, state.bulk) = (end + 2, end + 2, None);
    state.missing -= 1;
    Ok(true)
}

/// The number on the line at a place, and where the line ends, if it is one as nearly all are: of up to four digits, and
/// whole.
fn short_length(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    const DIGITS_MAX: usize = 4;
    let digits = buffer.get(at + 1..)?;
    let mut number = usize::from(digits.first()?.wrapping_sub(b'0'));
    if number > 9 || number == 0 {
        return None;
    }
    for length in 1..=DIGITS_MAX {
        match digits.get(length)? {
            digit @ b'0'..=b'9' if length < DIGITS_MAX => {
                number = number * 10 + usize::from(digit - b'0');
            }
            b'\r' if digits.get(length + 1) == Some(&b'\n') => {
                return Some((number, at + 1 + length + 2));
            }
            _ => return None,
        }
    }
    None
}

/// The number on the line at `state.at`, behind its first byte, if it is one, and where the line ends;
/// `None`: the line is not whole. `errors`: for a line that is broken, and one that is too long.
fn length(
    buffer: &[u8],
    limits: &Limits,
    state: &mut ReadState,
    (broken, too_long): (ProtocolError, ProtocolError),
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let start = state.at;
    if let Some((number, after)) = short_length(buffer, start)
        && after - start <= limits.inline_max_bytes
    {
        return Ok(Some((i64::try_from(number).ok(), after)));
    }
    let line = line_end(buffer, state.scanned.max(start));
    let (Line::Ends(end) | Line::Partial(end) | Line::Broken(end)) = line;
    if end - start > limits.inline_max_bytes {
        return Err(too_long);
    }
    match line {
        Line::Broken(_) => Err(broken),
        Line::Partial(scanned) => {
            state.scanned = scanned;
            Ok(None)
        }
        // An empty line has no first byte; who asks looks at what stands there.
        Line::Ends(end) => {
            let text = buffer.get(start + 1..end).unwrap_or_default();
            Ok(Some((number::integer(text), end + 2)))
        }
    }
}
