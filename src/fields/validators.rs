//! Entity tags and dates in conditions (RFC 9110 8.8 and 13.1).

use std::time::SystemTime;

use bytes::Bytes;

/// Is one of the tags in these lines (If-Match, If-None-Match) such a one? `*` is each. What is no
/// tag ends its line. `is` gets a tag with its quotes and its `W/`.
pub fn any_tag<'a>(
    lines: impl IntoIterator<Item = &'a Bytes>,
    mut is: impl FnMut(&[u8]) -> bool,
) -> bool {
    lines.into_iter().any(|line| {
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

/// The first entity tag of a list with its quotes and `W/`, and what follows it. It may hold
/// commas, and no quotes.
fn next_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let skipped = list.iter().take_while(|byte| b" \t,".contains(byte)).count();
    let list = &list[skipped..];
    let opening = if list.starts_with(b"W/") { 2 } else { 0 };
    let opaque = list.get(opening..)?.strip_prefix(b"\"")?;
    let closing = opening + 1 + memchr::memchr(b'"', opaque)?;
    Some((&list[..=closing], &list[closing + 1..]))
}

/// The tag without its `W/`, for the weak comparison (RFC 9110 8.8.3.2).
pub fn opaque_tag(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Is it a strong entity tag, in quotes?
pub fn is_strong_tag(tag: &[u8]) -> bool {
    tag.len() >= 2 && tag.starts_with(b"\"") && tag.ends_with(b"\"")
}

/// An HTTP date in any of its forms (RFC 9110 5.6.7).
pub fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(line: &'static str) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        any_tag(&[Bytes::from_static(line.as_bytes())], |tag| {
            found.push(tag.to_vec());
            false
        });
        found
    }

    #[test]
    fn a_list_is_read_up_to_what_is_no_tag() {
        assert_eq!(tags(r#" "a", W/"b" ,,"c,d""#), [&b"\"a\""[..], b"W/\"b\"", b"\"c,d\""]);
        assert_eq!(tags(r#""a" b "c""#), [b"\"a\""]);
        for none in ["", "a", "\"", "W/", "w/\"a\"", "\"a"] {
            assert!(tags(none).is_empty(), "{none}");
        }
        assert!(any_tag(&[Bytes::from_static(b" * ")], |_| false));
    }

    #[test]
    fn strong_tags_are_told_from_weak_ones() {
        assert!(is_strong_tag(b"\"\"") && is_strong_tag(b"\"a\""));
        assert!(!is_strong_tag(b"W/\"a\"") && !is_strong_tag(b"\"") && !is_strong_tag(b"a"));
        assert_eq!(opaque_tag(b"W/\"a\""), b"\"a\"");
    }

    proptest! {
        #[test]
        fn no_list_of_tags_makes_it_panic(list in prop::collection::vec(any::<u8>(), 0..60)) {
            any_tag(&[Bytes::from(list)], |tag| tag.ends_with(b"x\""));
        }
    }
}
