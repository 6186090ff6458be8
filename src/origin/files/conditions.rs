//! What a client's conditions and ranges make of a file (RFC 9110 13 and 14), as pure functions.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;

use crate::fields::Fields;
use crate::fields::range::{self, Ranges};
use crate::fields::validators::{any_tag, date, opaque_tag};

/// One range is served; for several the whole is sent, as RFC 9110 14.2 allows.
const RANGES_MAX: usize = 1;

/// What a request says about the file it wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_unmodified_since: Option<SystemTime>,
    if_none_match: Option<Tags>,
    if_modified_since: Option<SystemTime>,
    /// The lines of `Range`, where they count.
    range: Fields,
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
        let date = |name: &str| fields.first(name).and_then(|value| date(value));
        let is_get = *method == Method::GET;
        Self {
            if_match: tags("if-match"),
            if_unmodified_since: date("if-unmodified-since"),
            if_none_match: tags("if-none-match"),
            if_modified_since: date("if-modified-since"),
            range: fields.iter().filter(|field| is_get && field.is("range")).cloned().collect(),
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
            Some(tags) => any_tag(tags, |candidate| opaque_tag(candidate) == tag),
            None => self.if_modified_since.is_some_and(|since| modified <= since),
        };
        if unchanged {
            return Selection::NotModified;
        }
        if !self.range_applies(validators) {
            return Selection::Whole;
        }
        match range::requested(&self.range, length, RANGES_MAX) {
            Ranges::Parts(parts) => {
                parts.into_iter().next().map_or(Selection::Whole, Selection::Part)
            }
            Ranges::Unsatisfiable => Selection::Unsatisfiable,
            Ranges::Whole => Selection::Whole,
        }
    }

    /// `If-Range`: the same strong tag or the very date, else all of it (RFC 9110 13.1.5).
    fn range_applies(&self, validators: &Validators) -> bool {
        let Some(if_range) = &self.if_range else {
            return true;
        };
        match date(if_range) {
            Some(date) => date == validators.modified(),
            None => if_range[..] == *validators.entity_tag.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(date(LAST_MODIFIED.as_bytes()), Some(validators.modified()));
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
}
