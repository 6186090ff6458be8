//! Does a response put its visitor into another variant than the request was in?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::VARY_COOKIE;
use crate::fields::Fields;
use crate::policy::freshness;

/// Does a Set-Cookie give X-Magento-Vary another value than `requested` (empty: none), or delete
/// the one that came? Then the page is not the one of the request's variant. Magento sends the same
/// value again on most pages, and deletes a value it does not know ("bogus").
pub(super) fn is_changed(requested: &[u8], fields: &Fields, received_at: SystemTime) -> bool {
    fields.all("set-cookie").any(|line| {
        let (pair, attributes) = split_at(line, b';');
        let (name, value) = split_at(pair, b'=');
        if name.trim_ascii() != VARY_COOKIE {
            return false;
        }
        let value = value.trim_ascii();
        let kept = if is_deleted(value, attributes, fields, received_at) { b"" } else { value };
        kept != requested
    })
}

/// PHP deletes a cookie by the value `deleted`, a Max-Age of zero and a date in 1970.
fn is_deleted(value: &[u8], attributes: &[u8], fields: &Fields, received_at: SystemTime) -> bool {
    let now = freshness::generated_at(fields, received_at);
    value.is_empty()
        || value == b"deleted"
        || attributes.split(|&byte| byte == b';').any(|attribute| {
            let (name, argument) = split_at(attribute, b'=');
            let argument = argument.trim_ascii();
            match name.trim_ascii() {
                name if name.eq_ignore_ascii_case(b"max-age") => {
                    let digits = argument.strip_prefix(b"-").unwrap_or(argument);
                    let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
                    let negative = digits.len() < argument.len();
                    number && (negative || digits.iter().all(|&digit| digit == b'0'))
                }
                name if name.eq_ignore_ascii_case(b"expires") => {
                    expires(argument).is_some_and(|at| at <= now)
                }
                _ => false,
            }
        })
}

/// A cookie's date: PHP before 8.2 writes dashes in it (`Thu, 01-Jan-1970 00:00:01 GMT`).
fn expires(argument: &[u8]) -> Option<SystemTime> {
    let spaced: Vec<u8> =
        argument.iter().map(|&byte| if byte == b'-' { b' ' } else { byte }).collect();
    let in_1970 = spaced.windows(6).any(|window| window == b" 1970 ");
    freshness::date(&spaced).or(in_1970.then_some(UNIX_EPOCH + Duration::from_secs(1)))
}

fn split_at(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(separator, text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(requested: &str, set_cookie: &str) -> bool {
        let fields = Fields::from([
            ("Date", "Sun, 22 Nov 2026 19:28:33 GMT"),
            ("Set-Cookie", "PHPSESSID=a; path=/"),
            ("Set-Cookie", set_cookie),
        ]);
        is_changed(requested.as_bytes(), &fields, UNIX_EPOCH)
    }

    #[test]
    fn the_same_value_again_is_no_change() {
        assert!(!changed("abc", "X-Magento-Vary=abc; Max-Age=3600; path=/; HttpOnly"));
        assert!(!changed("abc", "X-Magento-Vary=abc; expires=Sun, 22 Nov 2026 20:28:33 GMT"));
        assert!(!changed("abc", "form_key=x"));
        assert!(!changed("", "xX-Magento-Vary=abc"));
    }

    #[test]
    fn another_value_a_first_value_and_a_deletion_are_changes() {
        assert!(changed("abc", "X-Magento-Vary=abd; path=/"));
        assert!(changed("", "X-Magento-Vary=abc; path=/"));
        assert!(changed(
            "abc",
            "X-Magento-Vary=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
        ));
        for gone in [
            "X-Magento-Vary=; path=/",
            "X-Magento-Vary=abc; Max-Age=0",
            "X-Magento-Vary=abc; max-age=-1",
            "X-Magento-Vary=abc; Expires=Thu, 01-Jan-1970 00:00:01 GMT",
            "X-Magento-Vary=abc; expires=Sun, 22 Nov 2026 19:28:33 GMT",
            "X-Magento-Vary",
        ] {
            assert!(changed("abc", gone), "{gone}");
            assert!(!changed("", gone), "{gone}: a guest stays a guest");
        }
    }
}
