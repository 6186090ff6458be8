//! Takes out of a URL what must not stand in a log: session ids, tokens and what names a person.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Query parameters whose values are dropped, in lower case. Magento puts session ids into `SID`
/// and `___SID`, the token of a forgotten password into `token` and admins' form keys into
/// `form_key`.
const PARAMETERS: &[&[u8]] = &[
    b"sid",
    b"___sid",
    b"phpsessid",
    b"token",
    b"access_token",
    b"form_key",
    b"password",
    b"email",
];

/// Magento also takes parameters as pairs of path segments: `/name/value/`. These names cannot be
/// mistaken for a part of a product's URL.
const SEGMENTS: &[&[u8]] = &[b"sid", b"phpsessid", b"form_key"];

/// The admin's URLs end in `/key/` and a token of this many hexadecimal digits at least.
const ADMIN_KEY_DIGITS_MIN: usize = 32;

/// The URL or target without the values; borrowed where there was nothing to drop.
pub fn redact(url: &[u8]) -> Cow<'_, [u8]> {
    let path_end = memchr::memchr2(b'?', b'#', url).unwrap_or(url.len());
    let (path, query) = url.split_at(path_end);
    let path_cut = cut_segments(path);
    let query_cut = cut_parameters(query);
    if path_cut.is_none() && query_cut.is_none() {
        return Cow::Borrowed(url);
    }
    let mut whole = path_cut.unwrap_or_else(|| path.to_vec());
    whole.extend_from_slice(query_cut.as_deref().unwrap_or(query));
    Cow::Owned(whole)
}

fn cut_segments(path: &[u8]) -> Option<Vec<u8>> {
    let secret = |name: &[u8], value: &[u8]| {
        names_one(name, SEGMENTS)
            || (name == b"key"
                && value.len() >= ADMIN_KEY_DIGITS_MIN
                && value.iter().all(u8::is_ascii_hexdigit))
    };
    let segments = || path.split(|&byte| byte == b'/');
    // Nearly all paths have none, and are looked at for each line of the log.
    if !segments().zip(segments().skip(1)).any(|(name, value)| secret(name, value)) {
        return None;
    }
    let segments: Vec<_> = segments().collect();
    let is_secret = |place: usize| place > 0 && secret(segments[place - 1], segments[place]);
    let kept: Vec<&[u8]> = (0..segments.len())
        .map(|place| if is_secret(place) { &b""[..] } else { segments[place] })
        .collect();
    Some(kept.join(&b'/'))
}

fn cut_parameters(query: &[u8]) -> Option<Vec<u8>> {
    let separator = |byte: &u8| matches!(byte, b'?' | b'&' | b';' | b'#');
    let secret = |parameter: &[u8]| {
        let name_end = memchr::memchr(b'=', parameter)?;
        names_one(&parameter[..name_end], PARAMETERS).then_some(name_end + 1)
    };
    if !query.split(separator).any(|parameter| secret(parameter).is_some()) {
        return None;
    }
    let mut kept = Vec::with_capacity(query.len());
    for parameter in query.split_inclusive(separator) {
        match secret(parameter) {
            Some(value) => {
                kept.extend_from_slice(&parameter[..value]);
                kept.extend(parameter.last().copied().filter(|last| separator(last)));
            }
            None => kept.extend_from_slice(parameter),
        }
    }
    Some(kept)
}

/// Is the name one of these, however it is encoded? PHP reads a space or a dot as an underscore,
/// and `name[]` as `name`.
fn names_one(name: &[u8], names: &[&[u8]]) -> bool {
    let decoded = percent_decode(name)
        .skip_while(|byte| matches!(byte, b' ' | b'+'))
        .take_while(|byte| *byte != b'[' && *byte != 0)
        .map(
            |byte| {
                if matches!(byte, b' ' | b'.' | b'+') { b'_' } else { byte.to_ascii_lowercase() }
            },
        );
    // Nearly all names differ in the first byte.
    names.iter().any(|one| decoded.clone().eq(one.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(url: &str) -> String {
        String::from_utf8(redact(url.as_bytes()).into_owned()).expect("text")
    }

    #[test]
    fn values_of_session_ids_and_tokens_are_dropped() {
        for (url, want) in [
            ("/p?a=1&SID=abc&b=2", "/p?a=1&SID=&b=2"),
            ("/p?SID=abc", "/p?SID="),
            ("/p?PHPSESSID=abc;x=1#f", "/p?PHPSESSID=;x=1#f"),
            ("/p?%53id=abc&form.key=1", "/p?%53id=&form.key="),
            ("/p?token[]=1&TOKEN%5B%5D=2", "/p?token[]=&TOKEN%5B%5D="),
            ("https://a.example/?email=x%40y#SID=1", "https://a.example/?email=#SID="),
            ("/checkout/cart/SID/abc/x/1/", "/checkout/cart/SID//x/1/"),
            ("/admin/x/key/0123456789abcdef0123456789abcdef/?a", "/admin/x/key//?a"),
        ] {
            assert_eq!(redacted(url), want, "{url}");
        }
    }

    #[test]
    fn everything_else_stays_and_costs_no_copy() {
        for url in ["/", "/p?sida=1&xSID=2", "/key/blade", "/p?SID", "*", "", "/token/shoe?q=sid"] {
            assert!(matches!(redact(url.as_bytes()), Cow::Borrowed(_)), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_session_id_never_survives_among_any_other_parameters(
            before in "[ -~]{0,20}", after in "[ -~]{0,20}"
        ) {
            let url = format!("/p?{before}&SID=s3cr3ts3cr3t&{after}");
            prop_assert!(!redacted(&url).contains("s3cr3ts3cr3t"));
        }

        #[test]
        fn redacting_twice_is_redacting_once(url in proptest::collection::vec(any::<u8>(), 0..60)) {
            let once = redact(&url).into_owned();
            prop_assert_eq!(redact(&once).into_owned(), once);
        }
    }
}
