//! Requests and replies onto a buffer, in the shapes of the protocol that is spoken.

use bytes::{BufMut, BytesMut};

use super::{Protocol, Value};

fn head(out: &mut BytesMut, sign: u8, number: usize) {
    out.reserve(24);
    out.put_u8(sign);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut BytesMut, sign: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.put_u8(sign);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn text(out: &mut BytesMut, sign: u8, text: &[u8]) {
    head(out, sign, text.len());
    out.reserve(text.len() + 2);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// A command: its name and its arguments.
pub fn command(out: &mut BytesMut, arguments: &[&[u8]]) {
    array(out, arguments.len());
    for argument in arguments {
        bulk(out, argument);
    }
}

/// A status. It must have no line ends.
pub fn simple(out: &mut BytesMut, status: &str) {
    line(out, b'+', status.as_bytes());
}

/// An error with its code. Line ends become spaces, as redis-server has it: what a client sent may be in
/// it, and must not end it.
pub fn error(out: &mut BytesMut, text: &[u8]) {
    let trimmed = text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |at| at + 1);
    out.reserve(trimmed + 3);
    out.put_u8(b'-');
    let visible = |byte: &u8| if b"\r\n".contains(byte) { b' ' } else { *byte };
    out.extend(text[..trimmed].iter().map(visible));
    out.extend_from_slice(b"\r\n");
}

/// A number.
pub fn integer(out: &mut BytesMut, number: i64) {
    line(out, b':', itoa::Buffer::new().format(number).as_bytes());
}

/// A string.
pub fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    text(out, b'$', bytes);
}

/// Nothing, where a string could be.
pub fn null(out: &mut BytesMut, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Nothing, where a list could be.
pub fn null_array(out: &mut BytesMut, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// The head of a list; its elements follow.
pub fn array(out: &mut BytesMut, elements: usize) {
    head(out, b'*', elements);
}

/// The head of a map; keys and values follow by turns.
pub fn map(out: &mut BytesMut, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', pairs * 2),
        Protocol::Resp3 => head(out, b'%', pairs),
    }
}

/// The head of a set; its members follow.
pub fn set(out: &mut BytesMut, protocol: Protocol, members: usize) {
    head(out, if protocol == Protocol::Resp2 { b'*' } else { b'~' }, members);
}

/// The head of news; RESP2 has lists for them.
pub fn push(out: &mut BytesMut, protocol: Protocol, elements: usize) {
    head(out, if protocol == Protocol::Resp2 { b'*' } else { b'>' }, elements);
}

/// A number with a fraction; a string in RESP2.
pub fn double(out: &mut BytesMut, protocol: Protocol, number: f64) {
    let number = if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "inf".to_owned() } else { "-inf".to_owned() }
    } else {
        number.to_string()
    };
    match protocol {
        Protocol::Resp2 => bulk(out, number.as_bytes()),
        Protocol::Resp3 => line(out, b',', number.as_bytes()),
    }
}

/// Yes or no; a number in RESP2.
pub fn boolean(out: &mut BytesMut, protocol: Protocol, yes: bool) {
    match protocol {
        Protocol::Resp2 => integer(out, i64::from(yes)),
        Protocol::Resp3 => line(out, b'#', if yes { b"t" } else { b"f" }),
    }
}

/// A text which says its format in three letters; a string in RESP2.
pub fn verbatim(out: &mut BytesMut, protocol: Protocol, format: [u8; 3], bytes: &[u8]) {
    match protocol {
        Protocol::Resp2 => bulk(out, bytes),
        Protocol::Resp3 => {
            head(out, b'=', bytes.len() + 4);
            out.extend_from_slice(&format);
            out.put_u8(b':');
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Any reply.
pub fn value(out: &mut BytesMut, protocol: Protocol, it: &Value) {
    match it {
        Value::Simple(status) => line(out, b'+', status),
        Value::Error(text) => error(out, text),
        Value::Integer(number) => integer(out, *number),
        Value::Bulk(bytes) => bulk(out, bytes),
        Value::Null => null(out, protocol),
        Value::Double(number) => double(out, protocol, *number),
        Value::Boolean(yes) => boolean(out, protocol, *yes),
        Value::BigNumber(digits) if protocol == Protocol::Resp2 => bulk(out, digits),
        Value::BigNumber(digits) => line(out, b'(', digits),
        Value::Verbatim { format, text } => verbatim(out, protocol, *format, text),
        Value::Map(pairs) => {
            map(out, protocol, pairs.len());
            for (key, held) in pairs {
                value(out, protocol, key);
                value(out, protocol, held);
            }
        }
        Value::Array(elements) => {
            array(out, elements.len());
            for element in elements {
                value(out, protocol, element);
            }
        }
        Value::Set(members) => {
            set(out, protocol, members.len());
            for member in members {
                value(out, protocol, member);
            }
        }
        Value::Push(elements) => {
            push(out, protocol, elements.len());
            for element in elements {
                value(out, protocol, element);
            }
        }
    }
}
