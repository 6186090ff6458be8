//! The beginning of a response that is stored, and the rest that completes it (RFC 9111 3.4).

use bytes::Bytes;
use http::StatusCode;

use crate::fields::validators::is_strong_tag;
use crate::fields::{Field, Fields};

/// Is it said in a request for a range alone, and must the origin know?
pub fn is_ranged(field: &Field) -> bool {
    field.is("Range") || field.is("If-Range")
}

/// Does a response begin where the whole does, and lack its end?
pub fn is_beginning(status: StatusCode, fields: &Fields) -> bool {
    status == StatusCode::PARTIAL_CONTENT && content_range(fields).is_some_and(|r| r.0 == 0)
}

/// Do these fields describe the first `bytes` bytes of a response?
pub fn is_of_beginning(fields: &Fields, bytes: u64) -> bool {
    content_range(fields).is_some_and(|(first, last, _)| first == 0 && last + 1 == bytes)
}

/// What is asked for where the first `bytes` bytes of a response with these fields are there: the
/// rest, of the same version if that can be told.
pub fn rest_of(stored: &Fields, bytes: u64) -> Fields {
    let mut fields = Fields::new();
    fields.push_static("Range", format!("bytes={bytes}-"));
    if let Some(tag) = strong_tag(stored) {
        fields.push_static("If-Range", tag.clone());
    }
    fields
}

/// The length of the whole, where a 206 with the fields `rest` is what follows the first `bytes`
/// bytes that are stored with the fields `stored`: by the same strong entity tag, up to the end
/// (RFC 9110 15.3.7.3), and not above `bytes_max`. `None`: the two cannot be put together.
pub fn whole_bytes(stored: &Fields, bytes: u64, rest: &Fields, bytes_max: u64) -> Option<u64> {
    let (first, last, length) = content_range(rest)?;
    let tag = strong_tag(rest)?;
    let fits = first == bytes && last + 1 == length && length <= bytes_max;
    (fits && strong_tag(stored) == Some(tag)).then_some(length)
}

/// The fields of the whole, of `bytes` bytes, where the rest came with these.
pub fn whole_fields(mut rest: Fields, bytes: u64) -> Fields {
    rest.remove("Content-Range");
    rest.set("Content-Length", bytes.to_string());
    rest
}

fn strong_tag(fields: &Fields) -> Option<&Bytes> {
    fields.first("ETag").filter(|tag| is_strong_tag(tag))
}

/// First and last byte and whole length of `bytes 0-4/10`; `None` where one is not told.
fn content_range(fields: &Fields) -> Option<(u64, u64, u64)> {
    let value = fields.first_str("Content-Range")?.strip_prefix("bytes ")?;
    let (range, length) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| digits && *number < u64::MAX / 2)
    };
    let (first, last, length) = (number(first)?, number(last)?, number(length)?);
    (first <= last && last < length).then_some((first, last, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, tag: &str) -> Fields {
        Fields::from([("Content-Range", range), ("ETag", tag)])
    }

    #[test]
    fn a_content_range_says_three_numbers() {
        let read = |value: &str| content_range(&Fields::from([("Content-Range", value)]));
        assert_eq!(read("bytes 0-4/10"), Some((0, 4, 10)));
        for value in [
            "bytes 0-4/*",
            "bytes */10",
            "bytes 4-0/10",
            "bytes 0-10/10",
            "bytes +0-4/10",
            "bytes -4/10",
            "items 0-4/10",
            "bytes 0-4/99999999999999999999",
            "",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn a_beginning_is_a_206_from_the_first_byte_on() {
        let (first, later) = (part("bytes 0-4/10", "\"a\""), part("bytes 1-4/10", "\"a\""));
        assert!(is_beginning(StatusCode::PARTIAL_CONTENT, &first));
        assert!(!is_beginning(StatusCode::PARTIAL_CONTENT, &later));
        assert!(!is_beginning(StatusCode::OK, &first));
        assert!(is_of_beginning(&first, 5) && !is_of_beginning(&first, 4));
    }

    #[test]
    fn the_rest_is_asked_for_of_the_same_version_where_that_can_be_told() {
        let asked = rest_of(&part("bytes 0-4/10", "\"a\""), 5);
        assert_eq!(asked, Fields::from([("Range", "bytes=5-"), ("If-Range", "\"a\"")]));
        let asked = rest_of(&part("bytes 0-4/10", "W/\"a\""), 5);
        assert_eq!(asked, Fields::from([("Range", "bytes=5-")]));
    }

    #[test]
    fn two_parts_of_one_version_that_meet_and_reach_the_end_are_the_whole() {
        let stored = part("bytes 0-4/10", "\"a\"");
        let whole = |range, tag| whole_bytes(&stored, 5, &part(range, tag), 10);
        assert_eq!(whole("bytes 5-9/10", "\"a\""), Some(10));
        assert_eq!(whole("bytes 5-9/10", "\"b\""), None, "another version");
        assert_eq!(whole("bytes 5-9/10", "W/\"a\""), None, "a weak tag");
        assert_eq!(whole("bytes 4-9/10", "\"a\""), None, "they overlap");
        assert_eq!(whole("bytes 6-9/10", "\"a\""), None, "a gap");
        assert_eq!(whole("bytes 5-8/10", "\"a\""), None, "not up to the end");
        assert_eq!(whole("bytes 5-10/11", "\"a\""), None, "too large");
        let fields = whole_fields(part("bytes 5-9/10", "\"a\""), 10);
        assert_eq!(fields, Fields::from([("ETag", "\"a\""), ("Content-Length", "10")]));
    }
}
