//! Range and If-Range of any bytes, against a reader that marks each byte of the content.
//!
//! The first byte of the input gives the length of the content; then come the two fields, a line
//! each. Without a second line there is no If-Range.
#![no_main]

use bytes::Bytes;
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use parvis::delivery::{RequestFacts, Stored, prepare, respond};
use parvis::exchange::{Response, StoredHead};
use parvis::fields::Fields;
use parvis::store::{Encoded, Segment, StoredBody};

const RANGES_MAX: usize = 5;
const TAG: &[u8] = b"\"a\"";
/// One date in the three forms of RFC 9110 5.6.7.
const MODIFIED: [&str; 3] =
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];

/// What the simple reader expects.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Whole,
    Unsatisfiable,
    /// These bytes, each once.
    Bytes(Vec<bool>),
}

/// Saturating, as nobody has content of 2^64 bytes.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn expected(line: &[u8], length: u64) -> Expected {
    let Ok(line) = std::str::from_utf8(line) else { return Expected::Whole };
    let Some((unit, set)) = line.split_once('=') else { return Expected::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Expected::Whole;
    }
    let elements = set.split(',').map(|one| one.trim_matches([' ', '\t']));
    let elements: Vec<&str> = elements.filter(|one| !one.is_empty()).collect();
    if elements.is_empty() || elements.len() > RANGES_MAX {
        return Expected::Whole;
    }
    let mut wanted = vec![false; length as usize];
    for element in elements {
        let Some((first, last)) = element.split_once('-') else { return Expected::Whole };
        let (from, to) = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1)),
            (Some(first), None) if last.is_empty() => (first, length),
            (None, Some(0)) if first.is_empty() => (0, 0),
            // No Content-Range names a part of nothing.
            (None, Some(_)) if first.is_empty() && length == 0 => return Expected::Whole,
            (None, Some(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
            _ => return Expected::Whole,
        };
        for (at, byte) in wanted.iter_mut().enumerate() {
            *byte |= (from..to).contains(&(at as u64));
        }
    }
    if wanted.contains(&true) { Expected::Bytes(wanted) } else { Expected::Unsatisfiable }
}

/// `None`: the simple reader cannot tell.
fn allows(if_range: Option<&[u8]>) -> Option<bool> {
    match if_range {
        None => Some(true),
        Some(value) if value == TAG || MODIFIED.iter().any(|date| date.as_bytes() == value) => {
            Some(true)
        }
        // Another way to write the date.
        Some(value) if value.windows(2).any(|two| two == b"94") => None,
        Some(_) => Some(false),
    }
}

/// Marks the bytes of one part by its Content-Range, and compares them.
fn mark(content_range: &str, bytes: &[u8], content: &[u8], sent: &mut [bool]) {
    let range = content_range.strip_prefix("bytes ").expect("the unit");
    let (range, length) = range.split_once('/').expect("a length");
    assert_eq!(length, content.len().to_string());
    let (first, last) = range.split_once('-').expect("a range");
    let (first, last): (usize, usize) =
        (first.parse().expect("a number"), last.parse().expect("a number"));
    assert_eq!(bytes, &content[first..=last]);
    for byte in &mut sent[first..=last] {
        assert!(!*byte, "no byte is sent twice");
        *byte = true;
    }
}

fn sent(response: &Response, content: &[u8]) -> Vec<bool> {
    let body = response.body.ready_parts().expect("it is in memory").concat();
    let mut sent = vec![false; content.len()];
    if let Some(range) = response.fields.first_str("content-range") {
        mark(range, &body, content, &mut sent);
        return sent;
    }
    let content_type = response.fields.first_str("content-type").expect("a type");
    let boundary = content_type.split("boundary=").nth(1).expect("a boundary");
    let body = String::from_utf8(body).expect("the content is text");
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = body.split(&delimiter);
    assert_eq!(parts.next(), Some(""));
    let mut parts: Vec<&str> = parts.collect();
    assert_eq!(parts.pop(), Some("--\r\n"));
    assert!(parts.len() > 1, "one part is sent as it is");
    for part in parts {
        let (head, bytes) = part.split_once("\r\n\r\n").expect("a head");
        let range = head.split("Content-Range: ").nth(1).expect("a range");
        mark(range, bytes.as_bytes(), content, &mut sent);
    }
    sent
}

fuzz_target!(|input: &[u8]| {
    let Some((length, lines)) = input.split_first() else { return };
    // The listener's reader lets no control characters through, and trims values.
    if lines.iter().any(|&byte| (byte < b' ' && !b"\t\n".contains(&byte)) || byte == 0x7f) {
        return;
    }
    let mut lines = lines.splitn(2, |&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let (range, if_range) = (lines.next().unwrap_or_default(), lines.next());
    if if_range.is_some_and(|value| value.contains(&b'\n')) {
        return;
    }
    let content: Vec<u8> = (b'0'..b'z').cycle().take(usize::from(*length) % 80).collect();
    let mut fields = Fields::from([
        ("Content-Type", "text/plain"),
        ("ETag", "\"a\""),
        ("Last-Modified", MODIFIED[0]),
        ("Date", "Mon, 07 Nov 1994 08:49:37 GMT"),
    ]);
    let literal = Segment::Literal(Encoded::plain(content.clone().into()));
    let body = StoredBody::new([literal]);
    prepare(&mut fields, &body);
    let head = StoredHead::new(fields);
    let mut request = Fields::new();
    request.push_static("Range", Bytes::copy_from_slice(range));
    if let Some(value) = if_range {
        request.push_static("If-Range", Bytes::copy_from_slice(value));
    }
    let request = RequestFacts { method: &Method::GET, fields: &request, ranges_max: RANGES_MAX };
    let stored = Stored { status: StatusCode::OK, head: &head, body: &body };
    let response = respond(stored, request, [], |_| None).expect("it is kept plain");
    let found = match response.status {
        StatusCode::PARTIAL_CONTENT => Expected::Bytes(sent(&response, &content)),
        StatusCode::RANGE_NOT_SATISFIABLE => Expected::Unsatisfiable,
        _ => Expected::Whole,
    };
    match allows(if_range) {
        Some(true) => assert_eq!(found, expected(range, content.len() as u64)),
        Some(false) => assert_eq!(found, Expected::Whole),
        None => {}
    }
});
