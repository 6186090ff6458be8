//! `application/x-www-form-urlencoded`, as PHP reads it.

use super::name::Name;
use super::{FIELDS_MAX, Value};

/// The last value of a field, which is the one that PHP has.
pub(super) fn value(field: &Name, content: &[u8]) -> Value {
    let mut found = Value::None;
    for (number, pair) in content.split(|byte| *byte == b'&').enumerate() {
        if number >= FIELDS_MAX {
            return Value::Unreadable;
        }
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        if Name::of(&decoded(name)).as_ref() == Some(field) {
            found = Value::Some(decoded(value));
        }
    }
    found
}

/// `%41` and `+`; a `%` without two digits stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, after) {
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (b'+', _) => b' ',
            _ => *first,
        });
    }
    bytes
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).map(|digit| digit as u8)
}
