//! The raw path: what it says without being decoded, and when two readers could disagree on it.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Could PHP, the file server and this cache read the target in different ways?
///
/// Such requests are passed, so that no misreading is shared ("Cached and Confused"): an encoded
/// slash or backslash, a dot segment (raw or encoded), a control character (raw or encoded, NUL
/// among them), a broken percent encoding, a backslash or `#`, and a target which does not begin
/// with exactly one slash (`//host/path` is a host to some). Repeated slashes further on are
/// tolerated: the key keeps them, and the rules by segment skip the empty ones.
pub(super) fn is_ambiguous(path: &[u8], query: Option<&[u8]>) -> bool {
    if path.first() != Some(&b'/') || path.get(1) == Some(&b'/') {
        return true;
    }
    // One look decides for nearly all paths: a dot matters at the beginning of a segment alone.
    let mut suspicious = false;
    let mut before = 0;
    for &byte in path {
        suspicious |= byte < 0x20
            || matches!(byte, b'%' | b'\\' | b'#' | 0x7f)
            || (byte == b'.' && before == b'/');
        before = byte;
    }
    let query_is_odd = query
        .is_some_and(|query| query.iter().any(|&byte| byte < 0x20 || byte == 0x7f || byte == b'#'));
    query_is_odd || (suspicious && path_is_ambiguous(path))
}

fn path_is_ambiguous(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let forbidden = match byte {
            b'%' => {
                let Some(decoded) = encoded_byte(after) else { return true };
                rest = &after[2..];
                decoded < 0x20 || matches!(decoded, b'/' | b'\\' | 0x7f)
            }
            _ => byte < 0x20 || matches!(byte, b'\\' | b'#' | 0x7f),
        };
        if forbidden {
            return true;
        }
    }
    segments(path).any(|segment| matches!(&*decoded(segment), b"." | b".."))
}

/// The byte that `HH` after a percent sign stands for.
fn encoded_byte(after: &[u8]) -> Option<u8> {
    let digit = |at: usize| after.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

/// The segments that are not empty.
pub(super) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = path;
    std::iter::from_fn(move || {
        while let Some(b'/') = rest.first() {
            rest = &rest[1..];
        }
        let (segment, after) = rest.split_at(memchr::memchr(b'/', rest).unwrap_or(rest.len()));
        rest = after;
        (!segment.is_empty()).then_some(segment)
    })
}

/// A segment as one sees it who decodes it, so that `/%63ustomer` is `/customer` to the rules that
/// pass. The key never uses this.
fn decoded(segment: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(segment).into()
}

/// Some whole segments in a row, such as `/customer` or `/sales/guest`.
#[derive(Clone, Debug)]
pub(super) struct Run(Vec<Box<[u8]>>);

impl Run {
    /// `None`: the path does not begin with a slash, or has no segment.
    pub(super) fn new(path: &str) -> Option<Self> {
        let run: Vec<Box<[u8]>> = segments(path.as_bytes()).map(Into::into).collect();
        (path.starts_with('/') && !run.is_empty()).then_some(Self(run))
    }

    /// Does the run stand anywhere in the path? A store's code or `index.php` may come before.
    pub(super) fn is_within(&self, path: &[u8]) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let mut from = segments(path);
        while let Some(segment) = from.next() {
            if names(segment, first) && are_next(rest, from.clone()) {
                return true;
            }
        }
        false
    }

    /// Does the path begin with the run?
    pub(super) fn begins(&self, path: &[u8]) -> bool {
        are_next(&self.0, segments(path))
    }
}

fn are_next<'a>(run: &[Box<[u8]>], mut segments: impl Iterator<Item = &'a [u8]>) -> bool {
    run.iter().all(|own| segments.next().is_some_and(|other| names(other, own)))
}

/// Is a raw segment this one, as one sees it who decodes it?
fn names(raw: &[u8], own: &[u8]) -> bool {
    raw == own
        // Decoding makes it shorter, or leaves it as it is.
        || (raw.len() > own.len() && memchr::memchr(b'%', raw).is_some() && *decoded(raw) == *own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::split_target;
    use proptest::prelude::*;

    fn target_is_ambiguous(target: &[u8]) -> bool {
        let (path, query) = split_target(target);
        is_ambiguous(path, query)
    }

    #[test]
    fn a_path_on_which_two_readers_may_disagree_is_ambiguous() {
        let ambiguous = [
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/a\tb",
            "/a\u{7f}",
            "/a/../b",
            "/./a",
            "/a/..",
            "/a/%2e%2e/b",
            "/a/.%2E",
            "/%2e",
            "/100%-cotton",
            "/a%",
            "/a%2",
            "//shop.test/a",
            "",
            "*",
            "a/b",
            "/a#b",
            "/a?b\r\n",
            "/a?b#c",
        ];
        for target in ambiguous {
            assert!(target_is_ambiguous(target.as_bytes()), "{target:?}");
        }
        let clear = [
            "/",
            "/a.html",
            "/.well-known/x",
            "/a/.b",
            "/..a",
            "/a...b",
            "/%C3%A4",
            "/a%20b",
            "/a//b",
            "/a?b=%2f..%00",
            "/page_cache/block/esi/blocks/%5B%22x%22%5D/",
            "/a%252f",
        ];
        for target in clear {
            assert!(!target_is_ambiguous(target.as_bytes()), "{target:?}");
        }
    }

    #[test]
    fn a_run_of_segments_matches_whole_segments_anywhere() {
        let run = Run::new("/sales/guest/").expect("valid");
        for path in [
            "/sales/guest",
            "/fr/sales/guest/form",
            "/index.php/sales/guest",
            "/sales//guest",
            "/s%61les/guest",
        ] {
            assert!(run.is_within(path.as_bytes()), "{path}");
        }
        for path in ["/", "/sales", "/sales/guests", "/presales/guest", "/sales/x/guest"] {
            assert!(!run.is_within(path.as_bytes()), "{path}");
        }
        assert!(Run::new("sales").is_none());
        assert!(Run::new("/").is_none());
    }

    #[test]
    fn a_run_begins_a_path_by_whole_segments() {
        let run = Run::new("/blog").expect("valid");
        assert!(run.begins(b"/blog") && run.begins(b"/blog/a"));
        assert!(!run.begins(b"/blogs") && !run.begins(b"/fr/blog") && !run.begins(b"/"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(target in prop::collection::vec(any::<u8>(), 0..48)) {
            target_is_ambiguous(&target);
            Run(vec![b"a"[..].into()]).is_within(&target);
        }

        #[test]
        fn what_is_clear_decodes_to_the_same_segments(path in "/[a-z.%2eEfF]{1,10}") {
            if !target_is_ambiguous(path.as_bytes()) {
                let decoded: Vec<u8> = percent_decode(path.as_bytes()).collect();
                prop_assert_eq!(segments(&decoded).count(), segments(path.as_bytes()).count());
                prop_assert!(segments(&decoded).all(|segment| segment != b".." && segment != b"."));
            }
        }
    }
}
