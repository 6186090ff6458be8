//! A purge pattern of any bytes: read as exact tags it says what it said as a regex, and several
//! lines purge what any of them names.
//!
//! The input is one line of tags as a response has them, then lines of patterns.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Version};
use libfuzzer_sys::fuzz_target;
use parvis::body::Body;
use parvis::exchange::{Beside, Connection, Peer, Request};
use parvis::fields::Fields;
use parvis::policy::{Policy, PurgeRefusal, PurgeScope, parse_pattern};
use parvis::settings::Settings;
use regex::bytes::RegexBuilder;

const REGEX_MAX_BYTES: usize = 16 << 10;
/// What means more than itself in a regex.
const METACHARACTERS: &[u8] = br"\.+*?()|[]{}^$";
/// Lines of one request; the listener bounds them too.
const LINES_MAX: usize = 8;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let mut settings = Settings::default();
    settings.purge.regex_max_bytes = REGEX_MAX_BYTES;
    Policy::new(&settings).expect("valid settings")
});

/// Does a purge of this scope reach a response with these tags?
fn reaches(scope: &PurgeScope, tags: &[&[u8]]) -> bool {
    match scope {
        PurgeScope::All => true,
        PurgeScope::Tags(named) => named.iter().any(|tag| tags.contains(&&tag[..])),
        PurgeScope::TagsMatching(regex) => regex.is_match(&tags.join(&b',')),
        PurgeScope::Pool(_) | PurgeScope::Url(_) => panic!("the pattern names no pool and no URL"),
    }
}

/// What the pattern does as nothing but a regex; `None` where it is none of the size allowed.
fn regex_reaches(pattern: &[u8], tags: &[&[u8]]) -> Option<bool> {
    let pattern = std::str::from_utf8(pattern.trim_ascii()).ok()?;
    let mut builder = RegexBuilder::new(pattern);
    let regex = builder.unicode(false).size_limit(REGEX_MAX_BYTES).build().ok()?;
    Some(regex.is_match(&tags.join(&b',')))
}

fn request(lines: &[&[u8]]) -> Request {
    let mut fields = Fields::new();
    for line in lines {
        fields.push_static("X-Magento-Tags-Pattern", Bytes::copy_from_slice(line));
    }
    Request {
        method: Method::from_bytes(b"PURGE").expect("a token"),
        target: Bytes::from_static(b"/"),
        authority: Bytes::from_static(b"shop.test"),
        version: Version::HTTP_11,
        fields,
        body: Body::empty(),
        beside: Beside::default(),
        connection: Connection {
            peer: Peer::Ip((Ipv4Addr::LOCALHOST, 5000).into()),
            local: None,
            tls: false,
        },
    }
}

fn assert_one(pattern: &[u8], tags: &[&[u8]]) -> Result<bool, PurgeRefusal> {
    let scope = parse_pattern(pattern, REGEX_MAX_BYTES)?;
    let reached = reaches(&scope, tags);
    if !matches!(scope, PurgeScope::All)
        && let Some(expected) = regex_reaches(pattern, tags)
    {
        assert_eq!(reached, expected, "{scope:?}");
    }
    if let PurgeScope::Tags(named) = &scope {
        assert_exact(pattern.trim_ascii(), named);
    }
    Ok(reached)
}

/// Exact tags give their pattern back, and that gives them back.
fn assert_exact(pattern: &[u8], named: &[Bytes]) {
    assert!(named.iter().all(|tag| !tag.is_empty()));
    assert!(!named.iter().any(|tag| tag.iter().any(|byte| b", \t".contains(byte))));
    let wrap = |tag: &Bytes, before: &[u8], after: &[u8]| -> Vec<u8> {
        let mut wrapped = before.to_vec();
        for &byte in tag {
            if byte.is_ascii_punctuation() && !b"<>_-".contains(&byte) {
                wrapped.push(b'\\');
            }
            wrapped.push(byte);
        }
        wrapped.extend_from_slice(after);
        wrapped
    };
    let plain: Vec<_> = named.iter().map(|tag| wrap(tag, b"(^|,)", b"(,|$)")).collect();
    let outer: Vec<_> = named.iter().map(|tag| wrap(tag, b"((^|,)", b"(,|$))")).collect();
    for rebuilt in [plain.join(&b'|'), outer.join(&b'|')] {
        match parse_pattern(&rebuilt, REGEX_MAX_BYTES) {
            Ok(PurgeScope::Tags(again)) => assert_eq!(again, named),
            other => panic!("{other:?}"),
        }
    }
    // And in the pattern stands nothing else.
    let mut rest = pattern;
    for (number, tag) in named.iter().enumerate() {
        if number > 0 {
            rest = rest.strip_prefix(b"|").expect("wrappers in a row");
        }
        let closing = match rest.strip_prefix(b"((^|,)") {
            Some(inner) => {
                rest = inner;
                &b"(,|$))"[..]
            }
            None => {
                rest = rest.strip_prefix(b"(^|,)").expect("a wrapper");
                b"(,|$)"
            }
        };
        for byte in tag {
            match rest.strip_prefix(b"\\") {
                Some(escaped) => rest = escaped,
                None => assert!(!METACHARACTERS.contains(byte), "it is no literal"),
            }
            rest = rest.strip_prefix(&[*byte]).expect("the tag");
        }
        rest = rest.strip_prefix(closing).expect("the wrapper's end");
    }
    assert_eq!(rest, b"");
}

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == b'\n');
    let tags: Vec<&[u8]> = lines
        .next()
        .unwrap_or_default()
        .split(|byte| b", \t".contains(byte))
        .filter(|tag| !tag.is_empty())
        .collect();
    let patterns: Vec<&[u8]> = lines.take(LINES_MAX).collect();

    let mut all = Ok(false);
    let filled = || patterns.iter().filter(|line| !line.trim_ascii().is_empty());
    for pattern in filled() {
        match (assert_one(pattern, &tags), &mut all) {
            (Ok(reached), Ok(any)) => *any |= reached,
            (Err(refusal), all) => *all = Err(refusal),
            _ => {}
        }
    }
    match (POLICY.purge_request(&request(&patterns)), all) {
        (Ok(purge), Ok(expected)) => {
            let reached = purge.scopes.iter().any(|scope| reaches(scope, &tags));
            assert_eq!(reached, expected, "{:?}", purge.scopes);
        }
        (Err(_), Err(_)) => {}
        // Together they may be too large.
        (Err(refusal), Ok(_)) => assert_ne!(filled().count(), 1, "{refusal}"),
        (Ok(purge), Err(refusal)) => panic!("{:?} from a line with {refusal}", purge.scopes),
    }
});
