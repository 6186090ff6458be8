//! Conditional requests (RFC 9110 13).

use bytes::Bytes;
use memchr::memchr;

use crate::fields::Fields;

/// Does the client have what `response` describes (RFC 9110 13.2.2, for GET and HEAD)?
/// If-None-Match counts where it is there, else If-Modified-Since. To be asked only where the
/// answer would be a success.
pub fn not_modified(request: &Fields, response: &Fields) -> bool {
    if request.contains("if-none-match") {
        let tag = response.first("etag").map(Bytes::as_ref);
        return request.all("if-none-match").any(|list| matches(list, tag));
    }
    let Some(since) = request.first("if-modified-since") else { return false };
    let Some(modified) = response.first("last-modified") else { return false };
    if since == modified {
        return true;
    }
    match (date(modified), date(since)) {
        (Some(modified), Some(since)) => modified <= since,
        _ => false,
    }
}

/// Is `tag` in the list? Weak comparison (RFC 9110 8.8.3.2), `*` matches whatever there is.
fn matches(list: &[u8], tag: Option<&[u8]>) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    let Some(opaque) = tag.and_then(opaque) else { return false };
    // An entity tag holds no quotes, but may hold commas: go from quote to quote.
    while let Some(open) = memchr(b'"', rest) {
        let Some(length) = memchr(b'"', &rest[open + 1..]) else { return false };
        if rest[open + 1..][..length] == *opaque {
            return true;
        }
        rest = &rest[open + 1 + length + 1..];
    }
    false
}

/// What stands between the quotes of an entity tag.
fn opaque(tag: &[u8]) -> Option<&[u8]> {
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    tag.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn date(value: &[u8]) -> Option<std::time::SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
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
    fn a_request_without_conditions_gets_the_content() {
        let response = Fields::from([("ETag", "\"a\""), ("Last-Modified", DATE)]);
        assert!(!not_modified(&Fields::new(), &response));
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_a_panic(list in "[\"W/,a* ]{0,20}", tag in "[\"W/a]{0,6}") {
            let request = Fields::from([("If-None-Match", &*list)]);
            not_modified(&request, &Fields::from([("ETag", &*tag)]));
        }
    }
}
