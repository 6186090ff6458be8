//! The Cookie header as PHP reads it (`php_default_treat_data`), so that the key and PHP see the
//! same cookies.
//!
//! Pairs are separated by `;` alone; white space before a name is skipped, names are compared
//! exactly, values are raw (quotes stay part of them), and of two cookies with one name the first
//! counts. Several Cookie lines are one list (RFC 9113 8.2.3).

use bytes::Bytes;

use crate::fields::Fields;

/// A cookie of a request: its name and its raw value.
pub(super) type Pair<'a> = (&'a [u8], &'a [u8]);

/// The cookies of a request over all its Cookie lines, in order.
pub(super) fn pairs(fields: &Fields) -> impl Iterator<Item = Pair<'_>> {
    fields.all("cookie").flat_map(|line| line.split(|&byte| byte == b';')).filter_map(pair)
}

/// The raw value of the first cookie of that name in one line, as a slice of the line.
pub(super) fn value_in(line: &Bytes, wanted: &[u8]) -> Option<Bytes> {
    let mut pairs = line.split(|&byte| byte == b';').filter_map(pair);
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| line.slice_ref(value))
}

/// One name and value; nothing where the name is empty.
fn pair(text: &[u8]) -> Option<Pair<'_>> {
    let text = text.trim_ascii_start();
    let (name, value) = match memchr::memchr(b'=', text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &text[text.len()..]),
    };
    (!name.is_empty()).then_some((name, value))
}

/// The value of the first of these cookies that a request has.
pub fn session_of(fields: &Fields, names: &[String]) -> Option<Bytes> {
    names.iter().find_map(|name| {
        let mut lines = fields.all("cookie");
        let value = lines.find_map(|line| value_in(line, name.as_bytes()));
        value.filter(|value| !value.is_empty())
    })
}

/// The Cookie lines joined into one, as HTTP/1.1 has it; `None` where there is none.
pub(super) fn joined(fields: &Fields) -> Option<Bytes> {
    let mut lines = fields.all("cookie");
    let first = lines.next()?;
    let mut all: Option<Vec<u8>> = None;
    for line in lines {
        let all = all.get_or_insert_with(|| first.to_vec());
        all.extend_from_slice(b"; ");
        all.extend_from_slice(line);
    }
    Some(all.map_or_else(|| first.clone(), Bytes::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(fields: &Fields, wanted: &str) -> Option<String> {
        pairs(fields)
            .find(|(name, _)| *name == wanted.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_alone() {
        let fields = Fields::from([("Cookie", "xX-Magento-Vary=bad;  X-Magento-Vary=good; b")]);
        assert_eq!(first(&fields, "X-Magento-Vary").as_deref(), Some("good"));
        assert_eq!(first(&fields, "x-magento-vary"), None);
        assert_eq!(first(&fields, "b").as_deref(), Some(""));
    }

    #[test]
    fn of_two_cookies_with_one_name_the_first_counts_as_in_php() {
        let fields = Fields::from([("Cookie", "a=1; a=2"), ("cookie", "a=3")]);
        assert_eq!(first(&fields, "a").as_deref(), Some("1"));
    }

    #[test]
    fn several_cookie_lines_are_one() {
        let fields = Fields::from([("Cookie", "a=1"), ("X", "y"), ("cookie", "b=2; c=3")]);
        assert_eq!(first(&fields, "c").as_deref(), Some("3"));
        assert_eq!(joined(&fields).expect("cookies"), "a=1; b=2; c=3");
        assert_eq!(joined(&Fields::new()), None);
    }

    #[test]
    fn quotes_and_equals_signs_stay_in_a_value() {
        let fields = Fields::from([("Cookie", r#"a="x=y"; =z;;"#)]);
        assert_eq!(first(&fields, "a").as_deref(), Some(r#""x=y""#));
        assert_eq!(pairs(&fields).count(), 1);
    }

    #[test]
    fn the_session_is_that_of_the_first_cookie_that_is_there() {
        let names = ["admin", "PHPSESSID"].map(str::to_owned);
        let of = |cookies| session_of(&Fields::from([("Cookie", cookies)]), &names);
        assert_eq!(of("PHPSESSID=b; admin=a").as_deref(), Some(&b"a"[..]));
        assert_eq!(of("admin=; PHPSESSID=b").as_deref(), Some(&b"b"[..]));
        assert_eq!(of("xPHPSESSID=b"), None);
    }

    proptest! {
        #[test]
        fn joining_the_lines_changes_no_cookie(lines in prop::collection::vec("[a-c=; ]{0,12}", 0..4)) {
            let mut fields = Fields::new();
            for line in lines {
                fields.push_static("Cookie", line);
            }
            let mut one = Fields::new();
            if let Some(joined) = joined(&fields) {
                one.push_static("Cookie", joined);
            }
            let before: Vec<_> = pairs(&fields).collect();
            prop_assert_eq!(before, pairs(&one).collect::<Vec<_>>());
        }
    }
}
