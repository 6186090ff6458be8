//! What a client's conditions and ranges make of a file (RFC 9110 13 and 14), as pure functions.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;

use crate::fields::Fields;

/// What a request says about the file it wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_unmodified_since: Option<SystemTime>,
    if_none_match: Option<Tags>,
    if_modified_since: Option<SystemTime>,
    range: Option<Bytes>,
    if_range: Option<Bytes>,
}

/// The field lines of `If-Match` or `If-None-Match`.
type Tags = Vec<Bytes>;

/// What a file is to be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// The strong entity tag, with its quotes.
    pub(super) entity_tag: String,
    /// When it was modified, in seconds since 1970.
    pub(super) modified_seconds: u64,
}

impl Validators {
    pub(super) fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.modified_seconds)
    }
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// 200: all of it.
    Whole,
    /// 206: these bytes.
    Part(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

impl Conditions {
    /// Takes the conditions from a request. Ranges are defined for GET alone (RFC 9110 14.2).
    pub(super) fn from_request(method: &Method, fields: &Fields) -> Self {
        let tags = |name: &'static str| {
            let lines: Tags = fields.all(name).cloned().collect();
            Some(lines).filter(|lines| !lines.is_empty())
        };
        let date = |name: &str| fields.first_str(name).and_then(date);
        let is_get = *method == Method::GET;
        // Two lines of a field that allows one say nothing that could be relied on.
        let once = |name: &str| {
            let is_once = fields.all(name).count() == 1;
            fields.first(name).filter(|_| is_get && is_once).cloned()
        };
        Self {
            if_match: tags("if-match"),
            if_unmodified_since: date("if-unmodified-since"),
            if_none_match: tags("if-none-match"),
            if_modified_since: date("if-modified-since"),
            range: once("range"),
            if_range: fields.first("if-range").cloned(),
        }
    }

    /// The order is that of RFC 9110 13.2.2.
    pub(super) fn select(&self, validators: &Validators, length: u64) -> Selection {
        let modified = validators.modified();
        let tag = validators.entity_tag.as_bytes();
        let fails = match &self.if_match {
            Some(tags) => !any_tag(tags, |candidate| candidate == tag),
            None => self.if_unmodified_since.is_some_and(|since| modified > since),
        };
        if fails {
            return Selection::PreconditionFailed;
        }
        let unchanged = match &self.if_none_match {
            Some(tags) => any_tag(tags, |candidate| weak(candidate) == tag),
            None => self.if_modified_since.is_some_and(|since| modified <= since),
        };
        if unchanged {
            return Selection::NotModified;
        }
        match &self.range {
            Some(range) if self.range_applies(validators) => part(range, length),
            _ => Selection::Whole,
        }
    }

    /// `If-Range`: the same strong tag or the very date, else all of it (RFC 9110 13.1.5).
    fn range_applies(&self, validators: &Validators) -> bool {
        let Some(if_range) = &self.if_range else {
            return true;
        };
        let stands_for = std::str::from_utf8(if_range).ok().and_then(date);
        match stands_for {
            Some(date) => date == validators.modified(),
            None => if_range[..] == *validators.entity_tag.as_bytes(),
        }
    }
}

fn date(value: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(value).ok()
}

/// Is one of the listed tags such a one? `*` is each. What is no tag ends its line.
fn any_tag(lines: &[Bytes], mut is: impl FnMut(&[u8]) -> bool) -> bool {
    lines.iter().any(|line| {
        let mut rest = line.trim_ascii();
        if rest == b"*" {
            return true;
        }
        while let Some((tag, after)) = next_tag(rest) {
            if is(tag) {
                return true;
            }
            rest = after;
        }
        false
    })
}

/// The first entity tag of a list with its quotes and `W/`, and what follows its comma.
fn next_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let skipped = list.iter().take_while(|byte| b" \t,".contains(byte)).count();
    let list = &list[skipped..];
    let opening = if list.starts_with(b"W/") { 2 } else { 0 };
    let opaque = list.get(opening..)?.strip_prefix(b"\"")?;
    let closing = opening + 1 + memchr::memchr(b'"', opaque)?;
    Some((&list[..=closing], &list[closing + 1..]))
}

/// The tag without its `W/`: for GET the weak comparison suffices (RFC 9110 8.8.3.2).
fn weak(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// What one range asks for.
enum ByteRange {
    From { first: u64, last: Option<u64> },
    Suffix { bytes: u64 },
}

fn part(range: &[u8], length: u64) -> Selection {
    match parse_range(range) {
        Some(ByteRange::From { first, last }) if first < length => {
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            Selection::Part(first..end)
        }
        Some(ByteRange::From { .. } | ByteRange::Suffix { bytes: 0 }) => Selection::Unsatisfiable,
        Some(ByteRange::Suffix { bytes }) if length > 0 => {
            Selection::Part(length.saturating_sub(bytes)..length)
        }
        // An empty file has no part that Content-Range could name.
        Some(ByteRange::Suffix { .. }) | None => Selection::Whole,
    }
}

/// `None` for several ranges, another unit or a malformed one: the field is then ignored, as
/// RFC 9110 14.2 allows.
fn parse_range(range: &[u8]) -> Option<ByteRange> {
    let (unit, specifier) = range.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let specifier = specifier.trim_ascii();
    let dash = memchr::memchr(b'-', specifier)?;
    let (first, last) = (&specifier[..dash], &specifier[dash + 1..]);
    if first.is_empty() {
        return number(last).map(|bytes| ByteRange::Suffix { bytes });
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(ByteRange::From { first, last: None });
    }
    let last = number(last)?;
    (first <= last).then_some(ByteRange::From { first, last: Some(last) })
}

/// Digits alone; more than fit count as the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add =
        |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAST_MODIFIED: &str = "Sun, 22 Nov 2026 18:54:45 GMT";
    const EARLIER: &str = "Sun, 22 Nov 2026 18:54:44 GMT";
    const LATER: &str = "Sun, 22 Nov 2026 18:54:46 GMT";
    const TAG: &str = "\"6b033a75-18ac\"";

    fn select(lines: &[(&'static str, &str)]) -> Selection {
        select_as(&Method::GET, lines)
    }

    fn select_as(method: &Method, lines: &[(&'static str, &str)]) -> Selection {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push_static(name, (*value).to_owned());
        }
        let validators = Validators { entity_tag: TAG.to_owned(), modified_seconds: 1_795_373_685 };
        assert_eq!(date(LAST_MODIFIED), Some(validators.modified()));
        Conditions::from_request(method, &fields).select(&validators, 1_000)
    }

    #[test]
    fn if_none_match_compares_weakly_and_beats_the_date() {
        for matching in [
            TAG,
            "W/\"6b033a75-18ac\"",
            "*",
            "\"x\", W/\"y\" ,\"6b033a75-18ac\"",
            "\"a,b\",\"6b033a75-18ac\"",
        ] {
            assert_eq!(
                select(&[("If-None-Match", matching)]),
                Selection::NotModified,
                "{matching}"
            );
        }
        for other in [
            "\"x\"",
            "6b033a75-18ac",
            "",
            "\"",
            "W/",
            "\"6b033a75-18ac",
            "\"x\" garbage \"6b033a75-18ac\"",
        ] {
            let lines = [("If-None-Match", other), ("If-Modified-Since", LAST_MODIFIED)];
            assert_eq!(select(&lines), Selection::Whole, "{other}");
        }
        let lines = [("If-None-Match", "\"x\""), ("If-None-Match", TAG)];
        assert_eq!(select(&lines), Selection::NotModified);
    }

    #[test]
    fn if_modified_since_is_not_modified_up_to_the_date_itself() {
        assert_eq!(select(&[("If-Modified-Since", LAST_MODIFIED)]), Selection::NotModified);
        assert_eq!(select(&[("If-Modified-Since", LATER)]), Selection::NotModified);
        assert_eq!(select(&[("If-Modified-Since", EARLIER)]), Selection::Whole);
        assert_eq!(select(&[("If-Modified-Since", "yesterday")]), Selection::Whole);
    }

    #[test]
    fn if_match_compares_strongly_and_beats_if_unmodified_since() {
        assert_eq!(select(&[("If-Match", TAG)]), Selection::Whole);
        assert_eq!(select(&[("If-Match", "*")]), Selection::Whole);
        assert_eq!(select(&[("If-Match", "W/\"6b033a75-18ac\"")]), Selection::PreconditionFailed);
        assert_eq!(select(&[("If-Unmodified-Since", EARLIER)]), Selection::PreconditionFailed);
        assert_eq!(select(&[("If-Unmodified-Since", LAST_MODIFIED)]), Selection::Whole);
        let lines = [("If-Match", TAG), ("If-Unmodified-Since", EARLIER)];
        assert_eq!(select(&lines), Selection::Whole);
    }

    #[test]
    fn one_range_of_bytes_is_a_part() {
        for (range, selection) in [
            ("bytes=0-99", Selection::Part(0..100)),
            ("Bytes=0-0", Selection::Part(0..1)),
            ("bytes=999-", Selection::Part(999..1_000)),
            ("bytes=500-99999999999999999999999", Selection::Part(500..1_000)),
            ("bytes=-1", Selection::Part(999..1_000)),
            ("bytes=-5000", Selection::Part(0..1_000)),
            ("bytes=1000-", Selection::Unsatisfiable),
            ("bytes=1000-1001", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
        ] {
            assert_eq!(select(&[("Range", range)]), selection, "{range}");
        }
    }

    #[test]
    fn several_ranges_other_units_and_nonsense_get_the_whole() {
        for range in [
            "bytes=0-1,3-4",
            "bytes=5-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "items=0-1",
            "bytes",
            "",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "bytes 0-1",
        ] {
            assert_eq!(select(&[("Range", range)]), Selection::Whole, "{range}");
        }
        assert_eq!(select(&[("Range", "bytes=0-1"), ("Range", "bytes=2-3")]), Selection::Whole);
        assert_eq!(select_as(&Method::HEAD, &[("Range", "bytes=0-1")]), Selection::Whole);
    }

    #[test]
    fn a_range_of_another_version_gets_the_whole() {
        let with = |if_range| select(&[("Range", "bytes=0-9"), ("If-Range", if_range)]);
        assert_eq!(with(TAG), Selection::Part(0..10));
        assert_eq!(with(LAST_MODIFIED), Selection::Part(0..10));
        for other in ["\"x\"", "W/\"6b033a75-18ac\"", EARLIER, LATER, ""] {
            assert_eq!(with(other), Selection::Whole, "{other}");
        }
    }

    #[test]
    fn an_empty_file_is_sent_whole_or_not_at_all() {
        assert_eq!(part(b"bytes=-5", 0), Selection::Whole);
        assert_eq!(part(b"bytes=0-", 0), Selection::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_past_the_end(range in "bytes=[0-9]{0,22}-[0-9]{0,22}", length: u64) {
            if let Selection::Part(part) = part(range.as_bytes(), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }

        #[test]
        fn no_list_of_tags_makes_it_panic(list in prop::collection::vec(any::<u8>(), 0..60)) {
            any_tag(&[Bytes::from(list)], |tag| tag.ends_with(b"x\""));
        }
    }
}
