//! A reply, decoded.

use bytes::Bytes;

use super::reply::{Heading, double, head};
use super::{Line, ProtocolError, ReplyKind, line_end, number};

/// How deep replies may nest that are decoded. Redis' own go to five.
pub const DEPTH_MAX: usize = 32;

/// Places for elements that are made before they were read.
const PREPARED_ELEMENTS_MAX: usize = 64;

/// A reply, without its attributes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A status such as `OK`.
    Simple(Bytes),
    /// An error, with its code (`ERR ...`).
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// A string.
    Bulk(Bytes),
    /// Nothing.
    Null,
    /// A list.
    Array(Vec<Value>),
    /// Keys and values, in the order in which they came.
    Map(Vec<(Value, Value)>),
    /// A set.
    Set(Vec<Value>),
    /// A number with a fraction.
    Double(f64),
    /// Yes or no.
    Boolean(bool),
    /// A number of any length.
    BigNumber(Bytes),
    /// A text that says its format in three letters (`txt`).
    Verbatim {
        /// The letters.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// News.
    Push(Vec<Value>),
}

/// Decodes the bytes of one whole reply, as [`super::read_reply`] gives them. What it takes is bounded by
/// the bytes there are; nesting by [`DEPTH_MAX`].
pub fn decode(bytes: &[u8]) -> Result<Value, ProtocolError> {
    let mut at = 0;
    let value = element(bytes, &mut at, DEPTH_MAX)?;
    if at == bytes.len() { Ok(value) } else { Err(ProtocolError::MalformedReply) }
}

fn element(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Value, ProtocolError> {
    use ProtocolError::MalformedReply;
    if depth == 0 {
        return Err(ProtocolError::ReplyTooDeep);
    }
    loop {
        let Line::Ends(end) = line_end(bytes, *at) else {
            return Err(MalformedReply);
        };
        let head = head(bytes, *at, end)?;
        let text = &bytes[*at + 1..end];
        *at = head.after;
        match head.kind {
            Heading::Line(kind) => return line(kind, text),
            Heading::Bulk(kind, length) => {
                let end = at.checked_add(length).ok_or(MalformedReply)?;
                let text = bytes.get(*at..end).ok_or(MalformedReply)?;
                if bytes.get(end..end + 2) != Some(b"\r\n") {
                    return Err(MalformedReply);
                }
                *at = end + 2;
                return bulk(kind, text);
            }
            Heading::Elements(kind, number) => {
                let elements = elements(bytes, at, depth, number)?;
                return Ok(match kind {
                    ReplyKind::Map => Value::Map(pairs(elements)),
                    ReplyKind::Set => Value::Set(elements),
                    ReplyKind::Push => Value::Push(elements),
                    _ => Value::Array(elements),
                });
            }
            // Nobody asked for them; what they belong to follows.
            Heading::Attributes(number) => drop(elements(bytes, at, depth, number)?),
        }
    }
}

fn elements(
    bytes: &[u8],
    at: &mut usize,
    depth: usize,
    number: usize,
) -> Result<Vec<Value>, ProtocolError> {
    // A number alone makes no room.
    let mut elements = Vec::with_capacity(number.min(PREPARED_ELEMENTS_MAX));
    for _ in 0..number {
        elements.push(element(bytes, at, depth - 1)?);
    }
    Ok(elements)
}

fn pairs(elements: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(elements.len() / 2);
    let mut elements = elements.into_iter();
    while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn line(kind: ReplyKind, text: &[u8]) -> Result<Value, ProtocolError> {
    let copy = || Bytes::copy_from_slice(text);
    Ok(match kind {
        ReplyKind::Simple => Value::Simple(copy()),
        ReplyKind::Error => Value::Error(copy()),
        ReplyKind::Integer => {
            let text = text.strip_prefix(b"+").unwrap_or(text);
            Value::Integer(number::integer(text).ok_or(ProtocolError::MalformedReply)?)
        }
        ReplyKind::Double => Value::Double(double(text).ok_or(ProtocolError::MalformedReply)?),
        ReplyKind::Boolean => Value::Boolean(text == b"t"),
        ReplyKind::BigNumber => Value::BigNumber(copy()),
        _ => Value::Null,
    })
}

fn bulk(kind: ReplyKind, text: &[u8]) -> Result<Value, ProtocolError> {
    let copy = Bytes::copy_from_slice;
    Ok(match (kind, text) {
        (ReplyKind::Error, _) => Value::Error(copy(text)),
        (ReplyKind::Verbatim, [a, b, c, b':', text @ ..]) => {
            Value::Verbatim { format: [*a, *b, *c], text: copy(text) }
        }
        (ReplyKind::Verbatim, _) => return Err(ProtocolError::MalformedReply),
        _ => Value::Bulk(copy(text)),
    })
}
