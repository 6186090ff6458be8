//! Whose account a form is about: the value of one field, read out of a request's content.
//!
//! The content was taken in whole before, is read here up to a bound, and nothing of it is kept or logged. PHP reads it,
//! too, and must not see another account than was counted: names of fields are those that PHP makes of them, and what PHP might
//! read in another way, or a database might take for another's name, is [`Named::Unreadable`]. All that is so shares one account.

mod contents;
mod graphql;
mod json;
mod multipart;
mod name;
mod urlencoded;

pub use contents::{Contents, Reading};
use name::Name;

/// Bytes of content that are read: a hundred times what a login takes.
pub const CONTENT_MAX_BYTES: usize = 64 << 10;

/// Fields that are read, `max_input_vars` of PHP as it comes.
const FIELDS_MAX: usize = 1_000;

/// What the content names.
#[derive(Clone, PartialEq, Eq)]
pub enum Named {
    /// No such field, or an empty one: PHP has nobody to look for either.
    Nobody,
    /// This one, trimmed and in lower case.
    Account(String),
    /// It cannot be said for sure.
    Unreadable,
}

/// Without the name, which is somebody's address.
impl std::fmt::Debug for Named {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Account(_) => "Account",
            Self::Unreadable => "Unreadable",
        })
    }
}

/// The account that a field of the content names: `login[username]`, or in JSON the member `username` of `login`.
/// `content`: all of it; more than [`CONTENT_MAX_BYTES`] are unreadable.
pub fn account(field: &str, content_type: Option<&[u8]>, content: &[u8]) -> Named {
    if content.is_empty() {
        return Named::Nobody;
    }
    let (Some(field), true) = (Name::of(field.as_bytes()), content.len() <= CONTENT_MAX_BYTES)
    else {
        return Named::Unreadable;
    };
    let value = match essence(content_type).as_slice() {
        b"application/x-www-form-urlencoded" => urlencoded::value(&field, content),
        b"multipart/form-data" => {
            multipart::value(&field, content_type.unwrap_or_default(), content)
        }
        b"application/json" => json::value(&field, content),
        _ => Value::Unreadable,
    };
    match value {
        Value::None => Named::Nobody,
        Value::Some(value) => normal(&value),
        Value::Unreadable => Named::Unreadable,
    }
}

/// What a Content-Type says before its parameters, as PHP cuts these off.
fn essence(content_type: Option<&[u8]>) -> Vec<u8> {
    let content_type = content_type.unwrap_or_default();
    let essence = content_type.split(|byte| b";, ".contains(byte)).next().unwrap_or_default();
    essence.to_ascii_lowercase()
}

/// The value of a field, as it came.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    None,
    Some(Vec<u8>),
    Unreadable,
}

/// One name for all ways to write it. Databases take letters with accents for those without, and PHP's `trim` knows six
/// blanks, so what is not ASCII or has controls within counts as unreadable.
fn normal(value: &[u8]) -> Named {
    let is_blank = |byte: &u8| b" \t\n\r\0\x0b".contains(byte);
    let Some(first) = value.iter().position(|byte| !is_blank(byte)) else { return Named::Nobody };
    let last = value.iter().rposition(|byte| !is_blank(byte)).unwrap_or(first);
    let value = &value[first..=last];
    match std::str::from_utf8(value) {
        Ok(text) if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) => {
            Named::Account(text.to_ascii_lowercase())
        }
        _ => Named::Unreadable,
    }
}

#[cfg(test)]
mod tests;
