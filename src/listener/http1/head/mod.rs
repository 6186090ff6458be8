//! The head of a request, read strictly.
//!
//! Two readers who disagree on where a request ends are how one visitor's request becomes part of
//! another's (request smuggling). So nothing is repaired here: what RFC 9112 lets a server either
//! refuse or mend is refused.
//!
//! Decisions where the RFCs leave a choice:
//! - Lines end with CRLF alone. One empty line before the request line is skipped (RFC 9112 2.2).
//! - A target may hold bytes from 0x80 up, as nginx takes them, but no `#`, space or control byte.
//! - Versions are 1.1 and 1.0; every other `HTTP/n.n` is 505.
//! - A Content-Length is refused when it is repeated, even with the same value.
//! - A `Host` is `name`, `IPv4` or `[IPv6]`, with a port from 1 to 65535 or none; never empty.

mod scan;
mod target;
mod upgrade;

use bytes::Bytes;
use http::{Method, Version};

pub use scan::Scanner;
pub use target::is_authority;
pub(in crate::listener) use target::is_target_byte;

use super::Refused;
use super::body::Framing;
use crate::fields::{Fields, well_known};

/// Options of Connection: a request has two or three, and each is looked for among all fields.
const CONNECTION_OPTIONS_MAX: usize = 32;
/// Bytes of a method and of a target that are logged of a head that was refused.
const LOGGED_METHOD_MAX: usize = 32;
const LOGGED_TARGET_MAX: usize = 2 << 10;

/// A request head that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method, a token.
    pub method: Method,
    /// Path and query in origin form; `*` for `OPTIONS *`; `host:port` for CONNECT.
    pub target: Bytes,
    /// Host and port as the client named them; empty for HTTP/1.0 without Host.
    pub authority: Bytes,
    /// HTTP/1.1 or HTTP/1.0.
    pub version: Version,
    /// The field lines as they came.
    pub fields: Fields,
    /// How the content is delimited.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the content.
    pub expects_continue: bool,
    /// The protocols to which the client would switch: those of its Upgrade fields, where it may
    /// ask for that (RFC 9110 7.8).
    pub upgrade: Option<Bytes>,
    /// It has an Upgrade field, honoured or not.
    pub names_upgrade: bool,
    /// The client will take another response on this connection (RFC 9112 9.3).
    pub keep_alive: bool,
}

/// Reads a head whose end a [`Scanner`] has found. `bytes` are the head and nothing more; the
/// fields are slices of it.
pub fn parse(bytes: &Bytes) -> Result<Head, Refused> {
    let mut lines = Lines { bytes, next: 0 };
    let request_line = lines.next().ok_or(Refused::RequestLine)?;
    let (method, target, version) = split_request_line(&bytes[request_line.clone()])?;
    let line_start = request_line.start;
    let target = line_start + target.start..line_start + target.end;

    let line_ends = memchr::memchr_iter(b'\n', bytes).count();
    // The CRLF of each line, if each has one, and nothing else.
    let is_text = control_characters(bytes) == 2 * line_ends;
    let mut fields = Fields::with_capacity(line_ends.saturating_sub(2));
    let mut special = Special::default();
    for line in lines {
        let (name, value) = split_field(&bytes[line.clone()], is_text)?;
        let value = line.start + value.start..line.start + value.end;
        let name = line.start..line.start + name;
        let name = well_known(&bytes[name.clone()]).unwrap_or_else(|| bytes.slice(name));
        let value = bytes.slice(value);
        special.note(&name, &value)?;
        fields.push(name, value);
    }

    let (framing, expects_continue) = special.framing(version)?;
    let (target, authority) =
        target::resolve(&method, bytes.slice(target), special.host.as_ref(), version)?;
    let keep_alive = match special.persistence {
        Persistence::Unsaid => version == Version::HTTP_11,
        Persistence::KeepAlive => true,
        Persistence::Close => false,
    };
    let names_upgrade = special.upgrade;
    let upgrade = (names_upgrade && method == Method::GET && version == Version::HTTP_11)
        .then(|| upgrade::offered(&fields))
        .flatten();
    Ok(Head {
        method,
        target,
        authority,
        version,
        fields,
        framing,
        expects_continue,
        upgrade,
        names_upgrade,
        keep_alive,
    })
}

/// What a head that is refused says of its method and target, for the log; `-` where that cannot be
/// told, or is more than is logged.
pub fn named(bytes: &[u8]) -> (Method, Bytes) {
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    let mut words = bytes[..end].splitn(3, |&byte| byte == b' ');
    let mut word = || words.next().unwrap_or_default();
    nameable(word(), word())
}

/// Method and target as they may be logged.
pub fn nameable(method: &[u8], target: &[u8]) -> (Method, Bytes) {
    let is_method = !method.is_empty()
        && method.len() <= LOGGED_METHOD_MAX
        && method.iter().copied().all(is_token_byte);
    let is_target = !target.is_empty()
        && target.len() <= LOGGED_TARGET_MAX
        && target.iter().copied().all(target::is_target_byte);
    let method = if is_method { method } else { b"-" };
    let target = if is_target { target } else { b"-" };
    (Method::from_bytes(method).unwrap_or_default(), Bytes::copy_from_slice(target))
}

/// The lines of a head without their CRLF, up to the empty one.
struct Lines<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl Iterator for Lines<'_> {
    type Item = std::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next;
        let line_feed = start + memchr::memchr(b'\n', self.bytes.get(start..)?)?;
        self.next = line_feed + 1;
        // A line without CR keeps its LF, which no later check lets pass.
        let end = match self.bytes[start..line_feed].last() {
            Some(b'\r') => line_feed - 1,
            _ => line_feed + 1,
        };
        (end > start).then_some(start..end)
    }
}

fn split_request_line(line: &[u8]) -> Result<(Method, std::ops::Range<usize>, Version), Refused> {
    let method_end = memchr::memchr(b' ', line).ok_or(Refused::RequestLine)?;
    let method = &line[..method_end];
    if method.is_empty() || !method.iter().copied().all(is_token_byte) {
        return Err(Refused::Method);
    }
    let method = Method::from_bytes(method).map_err(|_| Refused::Method)?;
    let target_start = method_end + 1;
    let target_length = memchr::memchr(b' ', &line[target_start..]).ok_or(Refused::RequestLine)?;
    let target = target_start..target_start + target_length;
    if target.is_empty() || !line[target.clone()].iter().copied().all(target::is_target_byte) {
        return Err(Refused::Target);
    }
    let version = match &line[target.end + 1..] {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refused::Version);
        }
        _ => return Err(Refused::RequestLine),
    };
    Ok((method, target, version))
}

/// How many bytes no value may have. One pass over the whole head without a branch, which the compiler
/// makes into wide instructions; values are too short for them.
fn control_characters(head: &[u8]) -> usize {
    // As many as a byte can count.
    let counted = head.chunks(128).map(|chunk| {
        chunk.iter().fold(0_u8, |count, &byte| count + u8::from(is_forbidden_in_value(byte)))
    });
    counted.map(usize::from).sum()
}

/// The end of the name, and where the value is. `is_text`: the head has no more control characters
/// than its line ends, so only a line that has kept its LF can have another.
fn split_field(line: &[u8], is_text: bool) -> Result<(usize, std::ops::Range<usize>), Refused> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refused::Folded);
    }
    let colon = line
        .iter()
        .position(|&byte| !is_token_byte(byte))
        .filter(|&at| at > 0 && line[at] == b':')
        .ok_or(Refused::FieldName)?;
    let value = &line[colon + 1..];
    if (!is_text || line.ends_with(b"\n")) && value.iter().copied().any(is_forbidden_in_value) {
        return Err(Refused::FieldValue);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1);
    let start = value[..end].iter().take_while(|byte| blank(byte)).count();
    Ok((colon, colon + 1 + start..colon + 1 + end))
}

/// The fields that decide framing, host and persistence.
#[derive(Default)]
struct Special {
    host: Option<Bytes>,
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    upgrade: bool,
    /// Elements of Connection so far.
    options: usize,
    persistence: Persistence,
}

/// What `Connection` says about another request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Persistence {
    /// Nothing: the version decides.
    #[default]
    Unsaid,
    KeepAlive,
    /// Wins over `keep-alive`.
    Close,
}

impl Special {
    fn note(&mut self, name: &[u8], value: &Bytes) -> Result<(), Refused> {
        // The length tells most names apart without a look at them.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.note_host(value)?,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refused::Expectation);
                }
                self.expects_continue = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    self.options += 1;
                    if self.options > CONNECTION_OPTIONS_MAX {
                        return Err(Refused::TooManyOptions);
                    }
                    if option.eq_ignore_ascii_case(b"close") {
                        self.persistence = Persistence::Close;
                    } else if option.eq_ignore_ascii_case(b"keep-alive")
                        && self.persistence == Persistence::Unsaid
                    {
                        self.persistence = Persistence::KeepAlive;
                    }
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refused::LengthRepeated);
                }
                self.length = Some(parse_length(value).ok_or(Refused::LengthMalformed)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refused::CodingUnknown);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn note_host(&mut self, value: &Bytes) -> Result<(), Refused> {
        match self.host.replace(value.clone()) {
            Some(_) => Err(Refused::HostRepeated),
            None => Ok(()),
        }
    }

    /// The framing, and whether the client waits for `100 Continue`.
    fn framing(&self, version: Version) -> Result<(Framing, bool), Refused> {
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Refused::CodingAndLength),
            (true, None) if version != Version::HTTP_11 => {
                return Err(Refused::CodingInOldVersion);
            }
            (true, None) => Framing::Chunked,
            (false, None | Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        if self.upgrade && framing != Framing::None {
            return Err(Refused::UpgradeWithContent);
        }
        // HTTP/1.0 knows no interim responses, and without content there is nothing to wait for.
        let expects_continue =
            self.expects_continue && version == Version::HTTP_11 && framing != Framing::None;
        Ok((framing, expects_continue))
    }
}

/// `1*DIGIT` that fits 64 bits: no sign, no list, no white space.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// RFC 9110 5.6.2 `tchar`.
pub(in crate::listener) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Control characters but for the tab (RFC 9110 5.5); bytes from 0x80 up are opaque and pass.
pub(in crate::listener) const fn is_forbidden_in_value(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
