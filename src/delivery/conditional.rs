//! Conditional requests (RFC 9110 13).

use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::fields::validators::{any_tag, date, is_strong_tag, opaque_tag};

/// What conditions are held against: the fields of a response, however they are kept.
pub trait Described {
    /// The value of the first field of that name.
    fn value(&self, name: &str) -> Option<&[u8]>;
}

impl Described for Fields {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.first(name).map(|value| &value[..])
    }
}

impl Described for StoredHead {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.first(name)
    }
}

/// What the conditions of a request make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Answer as if there were none.
    Holds,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wants another version, or none.
    Failed,
}

/// Evaluates the conditions in the order of RFC 9110 13.2.2, for GET and HEAD. To be asked only
/// where the answer would be a success.
///
/// A cache may ignore If-Match and If-Unmodified-Since (RFC 9110 13.1.1). But who sends them with a
/// Range must not get a part of another version, and 412 is what the origin would say of what is
/// stored.
pub(super) fn evaluate(request: &Fields, response: &impl Described) -> Precondition {
    if fails(request, response) {
        Precondition::Failed
    } else if not_modified(request, response) {
        Precondition::NotModified
    } else {
        Precondition::Holds
    }
}

fn fails(request: &Fields, response: &impl Described) -> bool {
    if request.contains("if-match") {
        let tag = response.value("etag");
        // Strong comparison: two equal tags, neither weak (RFC 9110 8.8.3.2).
        let is = |candidate: &[u8]| is_strong_tag(candidate) && tag == Some(candidate);
        return !any_tag(request.all("if-match"), is);
    }
    let Some(since) = request.first("if-unmodified-since").and_then(|value| date(value)) else {
        return false;
    };
    response.value("last-modified").and_then(date).is_some_and(|modified| modified > since)
}

/// Does the client have what `response` describes (RFC 9110 13.2.2, for GET and HEAD)?
/// If-None-Match counts where it is there, else If-Modified-Since. To be asked only where the
/// answer would be a success.
pub fn not_modified(request: &Fields, response: &impl Described) -> bool {
    if request.contains("if-none-match") {
        let tag = response.value("etag").map(opaque_tag);
        // Weak comparison (RFC 9110 8.8.3.2).
        return any_tag(request.all("if-none-match"), |candidate| {
            tag == Some(opaque_tag(candidate))
        });
    }
    let Some(since) = request.first("if-modified-since") else { return false };
    // Without Last-Modified the time at which the response was made stands in (RFC 9111 4.3.2).
    let modified = response.value("last-modified").or_else(|| response.value("date"));
    let Some(modified) = modified else { return false };
    if since == modified {
        return true;
    }
    match (date(modified), date(since)) {
        (Some(modified), Some(since)) => modified <= since,
        _ => false,
    }
}

/// Does If-Range allow to send a part (RFC 9110 13.1.5)? It does where it is not there, and where it
/// has the strong entity tag of what is stored, or its very date where that is as good: at least a
/// second before the Date of the response (RFC 9110 8.8.2.2).
pub(super) fn allows_range(request: &Fields, response: &impl Described) -> bool {
    let mut lines = request.all("if-range");
    let validator = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(validator), None) => validator,
        (Some(_), Some(_)) => return false,
    };
    if is_strong_tag(validator) {
        return response.value("etag") == Some(validator);
    }
    let [modified, sent] =
        ["last-modified", "date"].map(|name| response.value(name).and_then(date));
    match (date(validator), modified, sent) {
        (Some(wanted), Some(modified), Some(sent)) => wanted == modified && modified < sent,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    #[test]
    fn if_none_match_compares_weakly() {
        for (list, tag, expected) in [
            (r#""a""#, r#""a""#, true),
            (r#"W/"a""#, r#""a""#, true),
            (r#""a""#, r#"W/"a""#, true),
            (r#""b", W/"a" ,"c""#, r#""a""#, true),
            (r#""x,y""#, r#""x,y""#, true),
            (r#""""#, r#""""#, true),
            ("*", r#""a""#, true),
            (r#""A""#, r#""a""#, false),
            (r#""b""#, r#""a""#, false),
            (r#""ab""#, r#""a""#, false),
            ("a", r#""a""#, false),
            (r#""a"#, r#""a""#, false),
            ("", r#""a""#, false),
            (r#""x", y""#, r#"", y""#, false),
            (r#""a""#, "a", false),
        ] {
            let request = Fields::from([("If-None-Match", list)]);
            let response = Fields::from([("ETag", tag)]);
            assert_eq!(not_modified(&request, &response), expected, "{list} {tag}");
        }
    }

    #[test]
    fn a_star_matches_what_has_no_tag_and_a_list_does_not() {
        let response = Fields::from([("Last-Modified", DATE)]);
        assert!(not_modified(&Fields::from([("If-None-Match", "*")]), &response));
        assert!(!not_modified(&Fields::from([("If-None-Match", "\"a\"")]), &response));
    }

    #[test]
    fn if_none_match_may_span_lines() {
        let request = Fields::from([("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")]);
        assert!(not_modified(&request, &Fields::from([("ETag", "\"a\"")])));
    }

    #[test]
    fn if_modified_since_compares_dates() {
        for (since, modified, expected) in [
            (DATE, DATE, true),
            (LATER, DATE, true),
            (EARLIER, DATE, false),
            ("Sunday, 06-Nov-94 08:49:37 GMT", DATE, true),
            ("Sun Nov  6 08:49:37 1994", DATE, true),
            ("yesterday", DATE, false),
            (DATE, "yesterday", false),
        ] {
            let request = Fields::from([("If-Modified-Since", since)]);
            let response = Fields::from([("Last-Modified", modified)]);
            assert_eq!(not_modified(&request, &response), expected, "{since} {modified}");
        }
        assert!(!not_modified(&Fields::from([("If-Modified-Since", DATE)]), &Fields::new()));
    }

    #[test]
    fn if_none_match_beats_if_modified_since() {
        let response = Fields::from([("ETag", "\"a\""), ("Last-Modified", DATE)]);
        let request = Fields::from([("If-None-Match", "\"b\""), ("If-Modified-Since", LATER)]);
        assert!(!not_modified(&request, &response));
        let request = Fields::from([("If-None-Match", "\"a\""), ("If-Modified-Since", EARLIER)]);
        assert!(not_modified(&request, &response));
    }

    #[test]
    fn if_match_compares_strongly_and_beats_if_unmodified_since() {
        for (list, tag, expected) in [
            (r#""a""#, Some(r#""a""#), Precondition::Holds),
            (r#""b", "a""#, Some(r#""a""#), Precondition::Holds),
            ("*", Some(r#""a""#), Precondition::Holds),
            ("*", None, Precondition::Holds),
            (r#""b""#, Some(r#""a""#), Precondition::Failed),
            (r#"W/"a""#, Some(r#""a""#), Precondition::Failed),
            (r#""a""#, Some(r#"W/"a""#), Precondition::Failed),
            (r#"W/"a""#, Some(r#"W/"a""#), Precondition::Failed),
            (r#""a""#, None, Precondition::Failed),
            ("a", Some("a"), Precondition::Failed),
        ] {
            let mut response = Fields::from([("Last-Modified", DATE)]);
            if let Some(tag) = tag {
                response.push_static("ETag", tag.to_owned());
            }
            let request = Fields::from([("If-Match", list), ("If-Unmodified-Since", EARLIER)]);
            assert_eq!(evaluate(&request, &response), expected, "{list} {tag:?}");
        }
    }

    #[test]
    fn if_unmodified_since_counts_where_there_is_a_date() {
        let dated = Fields::from([("Last-Modified", DATE)]);
        for (since, expected) in [
            (DATE, Precondition::Holds),
            (LATER, Precondition::Holds),
            (EARLIER, Precondition::Failed),
            ("yesterday", Precondition::Holds),
        ] {
            let request = Fields::from([("If-Unmodified-Since", since)]);
            assert_eq!(evaluate(&request, &dated), expected, "{since}");
            assert_eq!(evaluate(&request, &Fields::new()), Precondition::Holds);
        }
    }

    #[test]
    fn what_fails_beats_what_is_not_modified() {
        let response = Fields::from([("ETag", "\"a\"")]);
        let request = Fields::from([("If-None-Match", "\"a\""), ("If-Match", "\"b\"")]);
        assert_eq!(evaluate(&request, &response), Precondition::Failed);
        let request = Fields::from([("If-None-Match", "\"a\""), ("If-Match", "\"a\"")]);
        assert_eq!(evaluate(&request, &response), Precondition::NotModified);
    }

    #[test]
    fn a_range_is_sent_of_the_very_version_alone() {
        let strong = [("ETag", "\"a\""), ("Last-Modified", EARLIER), ("Date", DATE)];
        let weak = [("ETag", "W/\"a\""), ("Last-Modified", DATE), ("Date", DATE)];
        for (if_range, response, expected) in [
            ("\"a\"", strong, true),
            (EARLIER, strong, true),
            ("Sun Nov  6 08:49:36 1994", strong, true),
            ("\"b\"", strong, false),
            ("W/\"a\"", strong, false),
            (DATE, strong, false),
            (LATER, strong, false),
            ("", strong, false),
            ("*", strong, false),
            ("\"a\", \"b\"", strong, false),
            ("\"a\"", weak, false),
            ("W/\"a\"", weak, false),
            (DATE, weak, false),
        ] {
            let request = Fields::from([("If-Range", if_range)]);
            assert_eq!(allows_range(&request, &Fields::from(response)), expected, "{if_range}");
        }
        assert!(allows_range(&Fields::new(), &Fields::new()));
        let undated = Fields::from([("Last-Modified", DATE)]);
        assert!(!allows_range(&Fields::from([("If-Range", DATE)]), &undated));
        let twice = Fields::from([("If-Range", "\"a\""), ("If-Range", "\"a\"")]);
        assert!(!allows_range(&twice, &Fields::from(strong)));
    }

    #[test]
    fn a_request_without_conditions_gets_the_content() {
        let response = Fields::from([("ETag", "\"a\""), ("Last-Modified", DATE)]);
        assert!(!not_modified(&Fields::new(), &response));
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_a_panic(list in "[\"W/,a* ]{0,20}", tag in "[\"W/a]{0,6}") {
            let request = Fields::from([("If-None-Match", &*list)]);
            not_modified(&request, &Fields::from([("ETag", &*tag)]));
            let request = Fields::from([("If-Match", &*list), ("If-Range", &*list)]);
            evaluate(&request, &Fields::from([("ETag", &*tag)]));
            allows_range(&request, &Fields::from([("ETag", &*tag)]));
        }
    }
}
