//! `multipart/form-data` (RFC 7578), as browsers write it. PHP reads much else as well; all that is unreadable here.

use memchr::memmem;

use super::name::Name;
use super::{FIELDS_MAX, Value};

/// Letters of a boundary (RFC 2046 5.1.1).
const BOUNDARY_MAX: usize = 70;

/// The last value of a field, which is the one that PHP has.
pub(super) fn value(field: &Name, content_type: &[u8], content: &[u8]) -> Value {
    boundary(content_type)
        .and_then(|boundary| last_value(field, &boundary, content))
        .unwrap_or(Value::Unreadable)
}

/// `; boundary=` once, and nothing else.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let (_, parameters) = text.split_once(';')?;
    let (name, value) = parameters.trim().split_once('=')?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_good = name == "boundary"
        && (1..=BOUNDARY_MAX).contains(&value.len())
        && value.bytes().all(is_plain);
    is_good.then(|| value.as_bytes().to_vec())
}

/// `None`: it is not what a browser writes.
fn last_value(field: &Name, boundary: &[u8], content: &[u8]) -> Option<Value> {
    let delimiter = [b"\n--", boundary].concat();
    let delimiter = memmem::Finder::new(&delimiter);
    let mut rest = content.strip_prefix(b"--")?.strip_prefix(boundary)?;
    let mut found = Value::None;
    for _ in 0..=FIELDS_MAX {
        if let Some(end) = rest.strip_prefix(b"--") {
            return matches!(end, b"" | b"\r\n").then_some(found);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let Part { name, is_file, behind } = part(rest)?;
        let end = delimiter.find(behind)?;
        let value = behind[..end].strip_suffix(b"\r")?;
        if Name::of(name).as_ref() == Some(field) {
            // A file is no value, and PHP lets the one before it stand.
            if is_file {
                return None;
            }
            found = Value::Some(value.to_vec());
        }
        rest = &behind[end + delimiter.needle().len()..];
    }
    None
}

struct Part<'a> {
    name: &'a [u8],
    is_file: bool,
    behind: &'a [u8],
}

/// The head of a part: one Content-Disposition, and perhaps a type.
fn part(mut rest: &[u8]) -> Option<Part<'_>> {
    let mut found = None;
    loop {
        let end = memmem::find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line.is_empty() {
            let (name, is_file) = found?;
            return Some(Part { name, is_file, behind: rest });
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        match line[..colon].to_ascii_lowercase().as_slice() {
            b"content-disposition" if found.is_none() => {
                found = Some(disposition(&line[colon + 1..])?);
            }
            b"content-type" | b"content-transfer-encoding" => {}
            _ => return None,
        }
    }
}

/// `form-data; name="NAME"`, and perhaps `; filename="NAME"`.
fn disposition(value: &[u8]) -> Option<(&[u8], bool)> {
    let rest = value.trim_ascii_start().strip_prefix(b"form-data; name=\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    if name.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control()) {
        return None;
    }
    if rest.is_empty() {
        return Some((name, false));
    }
    let file = rest.strip_prefix(b"; filename=\"")?.strip_suffix(b"\"")?;
    let is_plain = !file.iter().any(|byte| b"\\\"".contains(byte) || byte.is_ascii_control());
    is_plain.then_some((name, true))
}
