//! Cache-Control of any bytes: what forbids to store is never lost, and of what has no quotes a
//! simple reader makes the same.
//!
//! Each line of the input is a line of the field.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use parvis::fields::Fields;
use parvis::policy::cache_control::{CacheControl, Extent, parse};

/// The greatest delta-seconds (RFC 9111 1.2.2).
const GREATEST: Duration = Duration::from_secs(1 << 31);

fn lines(name: &'static str, lines: &[&[u8]]) -> Fields {
    let mut fields = Fields::new();
    for line in lines {
        fields.push_static(name, Bytes::copy_from_slice(line));
    }
    fields
}

/// A reader that knows no quotes.
fn simple(line: &[u8]) -> CacheControl {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut control = CacheControl::default();
    for directive in line.split(|&byte| byte == b',') {
        let start = directive.iter().take_while(|byte| blank(byte)).count();
        let end = directive.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        let directive = String::from_utf8_lossy(&directive[start..end]).to_ascii_lowercase();
        let name = directive.split(['=', ' ', '\t']).next().unwrap_or_default();
        let seconds = || {
            let digits = directive[name.len()..].strip_prefix('=').unwrap_or_default();
            let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = digits.parse().map_or(GREATEST, Duration::from_secs);
            if number { seconds.min(GREATEST) } else { Duration::ZERO }
        };
        // A token that may name a field.
        let extent = || {
            let argument = directive[name.len()..].strip_prefix('=').unwrap_or_default();
            let is_token = !argument.is_empty() && !argument.contains([' ', '\t']);
            if is_token { Extent::Fields } else { Extent::Whole }
        };
        match name {
            "max-age" => control.max_age = control.max_age.or_else(|| Some(seconds())),
            "s-maxage" => control.s_maxage = control.s_maxage.or_else(|| Some(seconds())),
            "no-store" => control.no_store = true,
            "no-cache" => control.no_cache = control.no_cache.max(extent()),
            "private" => control.private = control.private.max(extent()),
            "public" => control.public = true,
            "must-revalidate" => control.must_revalidate = true,
            "proxy-revalidate" => control.proxy_revalidate = true,
            "must-understand" => control.must_understand = true,
            "stale-while-revalidate" => {
                control.stale_while_revalidate =
                    control.stale_while_revalidate.or_else(|| Some(seconds()));
            }
            "stale-if-error" => {
                control.stale_if_error = control.stale_if_error.or_else(|| Some(seconds()));
            }
            _ => {}
        }
    }
    control
}

/// Is all of `less` in `more`?
fn is_within(less: CacheControl, more: CacheControl) -> bool {
    let flags = |control: CacheControl| {
        let CacheControl { no_store, public, must_revalidate, proxy_revalidate, .. } = control;
        let CacheControl { must_understand, .. } = control;
        [no_store, public, must_revalidate, proxy_revalidate, must_understand]
    };
    let lifetime = |less: Option<Duration>, more| less.is_none() || less == more;
    flags(less).iter().zip(flags(more)).all(|(less, more)| !less || more)
        && less.no_cache <= more.no_cache
        && less.private <= more.private
        && lifetime(less.stale_while_revalidate, more.stale_while_revalidate)
        && lifetime(less.stale_if_error, more.stale_if_error)
        && lifetime(less.max_age, more.max_age)
        && lifetime(less.s_maxage, more.s_maxage)
}

fn assert_line(line: &[u8]) {
    let control = parse(line);
    for lifetime in [control.max_age, control.s_maxage].into_iter().flatten() {
        assert!(lifetime <= GREATEST);
    }
    assert_eq!(parse(&line.to_ascii_uppercase()), control, "names have no case");
    if !line.contains(&b'"') {
        assert_eq!(control, simple(line));
        let spaced: Vec<&[u8]> = line.split(|&byte| byte == b',').collect();
        assert_eq!(parse(&spaced.join(&b"\t, ,"[..])), control, "white space around commas");
    }
    // What a broken line says before it breaks still counts, and so does what follows it.
    let mut longer = line.to_vec();
    longer.extend_from_slice(b" ,no-store");
    let longer = parse(&longer);
    assert!(longer.no_store && is_within(control, longer));
    let before = parse(&[b"no-store, private=\"x, y\", max-age=7, ", line].concat());
    assert!(before.no_store && before.private.is_there());
    assert_eq!(before.max_age, Some(Duration::from_secs(7)), "the first lifetime counts");
    assert!(is_within(CacheControl { max_age: None, ..control }, before));
}

fuzz_target!(|input: &[u8]| {
    // The listener's and the origin's readers let no control characters through.
    if input.iter().any(|&byte| byte < b' ' && !b"\t\n".contains(&byte)) {
        return;
    }
    let all: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    for line in &all {
        assert_line(line);
    }
    let control = CacheControl::of(&lines("cAche-Control", &all));
    for line in &all {
        let CacheControl { max_age, s_maxage, .. } = control;
        let CacheControl { stale_while_revalidate, stale_if_error, .. } = control;
        let line = parse(line);
        // Of a time that several lines say the first counts.
        let flags =
            CacheControl { max_age, s_maxage, stale_while_revalidate, stale_if_error, ..line };
        assert!(is_within(flags, control));
        assert!(line.max_age.is_none() || max_age.is_some());
        assert!(line.s_maxage.is_none() || s_maxage.is_some());
    }
    if !input.contains(&b'"') {
        assert_eq!(control, parse(&all.join(&b", "[..])), "several lines are one list");
    }
    if !input.contains(&b'+') {
        let surrogate = CacheControl::of_surrogate(&lines("Surrogate-Control", &all));
        assert_eq!(surrogate, Some(control));
    }
});
