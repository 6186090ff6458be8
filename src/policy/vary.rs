//! Selecting headers: which of several stored responses answers a request (RFC 9111 4.1).

use std::sync::Arc;

use bytes::Bytes;

use crate::fields::Fields;
use crate::fields::weight::{WEIGHT_MAX, weight};
use crate::policy::CacheKey;
use crate::policy::cache_key::{KeyBuilder, Part};
use crate::reason::Reason;

/// More selecting headers than that are as good as `*`: hardly two requests would agree.
const NAMES_MAX: usize = 16;

/// Elements of Accept-Language or Accept-Encoding that are put in order; longer lists stay as they
/// are.
const ELEMENTS_MAX: usize = 32;

const LANGUAGE: &[u8] = b"accept-language";

/// The headers by which a response was selected: what its Vary names, besides what is in each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vary(Arc<[Box<[u8]>]>);

impl Vary {
    /// The selecting headers of a response; `None`: there are none for which `is_selecting` says
    /// yes.
    ///
    /// # Errors
    /// [`Reason::VaryAny`] for `*`, [`Reason::Vary`] for too many names.
    pub(super) fn of(
        fields: &Fields,
        is_selecting: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Self>, Reason> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for name in fields.list("vary") {
            if name == b"*" {
                return Err(Reason::VaryAny);
            }
            if is_selecting(name) {
                names.push(name.to_ascii_lowercase().into());
            }
        }
        names.sort_unstable();
        names.dedup();
        match names.len() {
            0 => Ok(None),
            1..=NAMES_MAX => Ok(Some(Self(names.into()))),
            _ => Err(Reason::Vary),
        }
    }

    /// From names as [`Vary::names`] gives them; `None`: it never gave them.
    pub fn of_names(names: &[Bytes]) -> Option<Self> {
        let is_name = |name: &Bytes| {
            !name.is_empty()
                && name.iter().all(u8::is_ascii_graphic)
                && name == &name.to_ascii_lowercase()
        };
        let is_right = (1..=NAMES_MAX).contains(&names.len())
            && names.iter().all(is_name)
            && names.is_sorted_by(|one, next| one < next);
        is_right.then(|| Self(names.iter().map(|name| name.to_vec().into()).collect()))
    }

    /// The names in lower case, sorted.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|name| &**name)
    }

    /// The key of the variant that a request with these fields selects. `primary` is the key
    /// without regard to Vary.
    pub fn key(&self, primary: &CacheKey, request: &Fields) -> CacheKey {
        self.build(primary, request, None)
    }

    /// The key under which a variant in this language is found by those who like it best. `None`:
    /// it does not vary by Accept-Language.
    pub fn key_by_language(
        &self,
        primary: &CacheKey,
        request: &Fields,
        language: &[u8],
    ) -> Option<CacheKey> {
        let varies = self.names().any(|name| name == LANGUAGE);
        varies.then(|| self.build(primary, request, Some(language)))
    }

    /// What selected the response under a key that [`Vary::key`] gave, and the primary key; `None`: it
    /// is itself a primary one.
    pub fn of_key(key: &CacheKey) -> Option<(CacheKey, Self)> {
        let is_of_vary = |part| matches!(part, Part::VaryName | Part::VaryValue);
        let parts = key.parts()?.into_iter();
        let mut of_vary = parts.skip_while(|(_, part, _)| !is_of_vary(*part)).peekable();
        let primary = KeyBuilder::extending_from(key, of_vary.peek()?.0).finish();
        let names: Option<Vec<_>> = of_vary
            .filter(|(_, part, _)| *part != Part::VaryValue)
            .map(|(_, part, value)| (part == Part::VaryName).then(|| Bytes::copy_from_slice(value)))
            .collect();
        Some((primary, Self::of_names(&names?)?))
    }

    /// From the key of a variant, another one under which it is found by those who like its language
    /// best. `None`: it does not vary by Accept-Language.
    pub fn language_key_of(key: &CacheKey, language: &[u8]) -> Option<CacheKey> {
        let (primary, vary) = Self::of_key(key)?;
        let of_vary = key.parts()?.into_iter().filter(|(at, ..)| *at >= primary.as_bytes().len());
        let (mut built, mut name) = (KeyBuilder::extending(&primary), &b""[..]);
        for (_, part, value) in of_vary {
            if part == Part::VaryName {
                built.push(part, value);
                name = value;
                if name == LANGUAGE {
                    built.push(Part::Language, &language.to_ascii_lowercase());
                }
            } else if name != LANGUAGE {
                built.push(part, value);
            }
        }
        vary.names().any(|name| name == LANGUAGE).then(|| built.finish())
    }

    fn build(&self, primary: &CacheKey, request: &Fields, language: Option<&[u8]>) -> CacheKey {
        let mut key = KeyBuilder::extending(primary);
        for name in self.names() {
            key.push(Part::VaryName, name);
            if let Some(language) = language.filter(|_| name == LANGUAGE) {
                key.push(Part::Language, &language.to_ascii_lowercase());
            } else if let Some(value) = normalised(name, request) {
                key.push(Part::VaryValue, &value);
            }
        }
        key.finish()
    }
}

/// The language that a response says it is in, where it is one alone.
pub fn language_of(response: &Fields) -> Option<Bytes> {
    let mut languages = response.list("content-language");
    let language = languages.next().filter(|_| languages.next().is_none())?;
    Some(Bytes::copy_from_slice(language))
}

/// The one language that a client likes best: no response could suit it better.
pub fn favourite_language(request: &Fields) -> Option<Vec<u8>> {
    let value = joined(LANGUAGE, request)?;
    let elements = weighted(&value)?;
    let (best, weight) = elements.first()?;
    let alone = elements.get(1).is_none_or(|(_, next)| next < weight);
    (alone && *weight > 0 && best != b"*").then(|| best.clone())
}

/// The value of a selecting header, such that requests which mean the same have the same
/// (RFC 9111 4.1): lines are one list, white space around commas does not count; in Accept-Language
/// and Accept-Encoding the order of equals and the case do not either. `None`: it is not there.
fn normalised(name: &[u8], request: &Fields) -> Option<Vec<u8>> {
    let value = joined(name, request)?;
    if name != LANGUAGE && name != b"accept-encoding" {
        return Some(value);
    }
    let Some(elements) = weighted(&value) else { return Some(value) };
    let mut out = Vec::with_capacity(value.len());
    for (word, weight) in elements {
        out.extend_from_slice(&word);
        out.push(b';');
        out.extend_from_slice(weight.to_string().as_bytes());
        out.push(b',');
    }
    Some(out)
}

/// The lines of a header as one, without white space beside commas that stand outside of quotes.
fn joined(name: &[u8], request: &Fields) -> Option<Vec<u8>> {
    let mut lines = request.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let mut value = compact(&lines.next()?.value);
    for line in lines {
        value.push(b',');
        value.extend_from_slice(&compact(&line.value));
    }
    Some(value)
}

fn compact(line: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(line.len());
    let (mut quoted, mut escaped) = (false, false);
    for &byte in line {
        let blank = matches!(byte, b' ' | b'\t');
        if !quoted && blank && matches!(out.last(), None | Some(b',')) {
            continue;
        }
        if !quoted && byte == b',' {
            truncate_blanks(&mut out);
        }
        if byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && byte == b'\\' && !escaped;
        out.push(byte);
    }
    truncate_blanks(&mut out);
    out
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_word = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.iter().position(is_word).unwrap_or(text.len());
    let end = text.iter().rposition(is_word).map_or(start, |last| last + 1);
    &text[start..end]
}

/// White space is spaces and tabs (RFC 9110 5.6.3).
fn truncate_blanks(text: &mut Vec<u8>) {
    while matches!(text.last(), Some(b' ' | b'\t')) {
        text.pop();
    }
}

/// The elements of a list with weights in thousandths (RFC 9110 12.4.2), best first, equals in
/// alphabetical order; `None` where it is no such list, or too long.
fn weighted(list: &[u8]) -> Option<Vec<(Vec<u8>, u16)>> {
    let mut elements = Vec::new();
    for element in list.split(|&byte| byte == b',') {
        if element.is_empty() {
            continue;
        }
        let mut parts = element.splitn(2, |&byte| byte == b';');
        let word = trimmed(parts.next().unwrap_or_default()).to_ascii_lowercase();
        let weight = parts.next().map_or(Some(WEIGHT_MAX), weight)?;
        elements.push((word, weight));
        if elements.len() > ELEMENTS_MAX {
            return None;
        }
    }
    elements.sort_unstable_by(|(one, left), (other, right)| right.cmp(left).then(one.cmp(other)));
    elements.dedup();
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vary(value: &str) -> Result<Option<Vary>, Reason> {
        Vary::of(&Fields::from([("Vary", value)]), |_| true)
    }

    fn primary() -> CacheKey {
        CacheKey::for_tests(b"shop/", b"")
    }

    fn same(vary_by: &str, one: &[(&'static str, &str)], other: &[(&'static str, &str)]) -> bool {
        let vary = vary(vary_by).expect("not any").expect("selecting");
        let fields = |lines: &[(&'static str, &str)]| {
            let mut fields = Fields::new();
            for (name, value) in lines {
                fields.push_static(name, (*value).to_owned());
            }
            fields
        };
        vary.key(&primary(), &fields(one)) == vary.key(&primary(), &fields(other))
    }

    #[test]
    fn names_are_a_list_without_empty_ones_case_and_order() {
        let names = |fields: &Fields| {
            let vary = Vary::of(fields, |_| true).expect("not any").expect("selecting");
            vary.names().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(names(&Fields::from([("Vary", ",, X ,")])), [b"x"]);
        assert_eq!(names(&Fields::from([("Vary", "b, A"), ("vary", "B")])), [b"a", b"b"]);
        assert_eq!(vary(", ,"), Ok(None));
        assert_eq!(vary("a, *"), Err(Reason::VaryAny));
        let many: Vec<_> = (0..=NAMES_MAX).map(|number| format!("x{number}")).collect();
        assert_eq!(vary(&many.join(",")), Err(Reason::Vary));
    }

    #[test]
    fn a_header_that_is_not_there_is_not_an_empty_one() {
        assert!(!same("a", &[], &[("A", "")]));
        assert!(same("a", &[("B", "1")], &[]));
    }

    #[test]
    fn lines_and_white_space_make_no_difference() {
        assert!(same("foo", &[("Foo", "1, 2")], &[("Foo", "1"), ("foo", "2")]));
        assert!(same("foo", &[("Foo", "1 ,\t2 ")], &[("Foo", "1,2")]));
        assert!(!same("foo", &[("Foo", "1 2")], &[("Foo", "12")]));
        assert!(!same("foo", &[("Foo", "1\x0c, 2")], &[("Foo", "1, 2")]));
        assert!(!same("foo", &[("Foo", "\"a, b\"")], &[("Foo", "\"a,b\"")]));
        assert!(!same("foo", &[("Foo", "A")], &[("Foo", "a")]));
    }

    #[test]
    fn languages_and_codings_are_compared_by_weight() {
        let language = |one, other| {
            same("Accept-Language", &[("Accept-Language", one)], &[("Accept-Language", other)])
        };
        assert!(language("en, de", "De,eN"));
        assert!(language("fr;q=0.5, de", "de;q=1.0,fr;Q=0.500"));
        assert!(!language("fr;q=0.5, de", "fr, de;q=0.5"));
        assert!(!language("fr;x=1", "fr"));
        assert!(same(
            "accept-encoding",
            &[("Accept-Encoding", "gzip, br")],
            &[("Accept-Encoding", "br,gzip")]
        ));
    }

    #[test]
    fn the_favourite_language_is_one_alone() {
        let favourite = |value: &str| {
            favourite_language(&Fields::from([("Accept-Language", value)]))
                .map(|language| String::from_utf8_lossy(&language).into_owned())
        };
        assert_eq!(favourite("fr;q=0.5, DE;q=1.0").as_deref(), Some("de"));
        assert_eq!(favourite("de, fr"), None);
        assert_eq!(favourite("*"), None);
        assert_eq!(favourite("de;q=0"), None);
        assert_eq!(favourite(""), None);
    }

    #[test]
    fn a_variant_is_found_by_its_language_where_it_varies_by_that() {
        let by = |names: &str| vary(names).expect("not any").expect("selecting");
        let (french, german) = (
            Fields::from([("Accept-Language", "fr"), ("X", "1")]),
            Fields::from([("Accept-Language", "de"), ("X", "1")]),
        );
        let key = |vary: &Vary, request| vary.key_by_language(&primary(), request, b"DE");
        let vary = by("accept-language, x");
        assert_eq!(key(&vary, &french), key(&vary, &german));
        assert_ne!(key(&vary, &german), Some(vary.key(&primary(), &german)));
        assert_eq!(key(&by("x"), &german), None);
    }

    #[test]
    fn the_key_of_a_variant_tells_what_selected_it() {
        let mut builder = KeyBuilder::new(b"shop/".to_vec());
        builder.push(Part::Scheme, b"https");
        let primary = builder.finish();
        let vary = vary("x, accept-language, y").expect("not any").expect("selecting");
        let request = Fields::from([("Accept-Language", "fr"), ("X", "1")]);
        let key = vary.key(&primary, &request);
        assert_eq!(Vary::of_key(&key), Some((primary.clone(), vary.clone())));
        assert_eq!(Vary::of_key(&primary), None);
        let by_language = vary.key_by_language(&primary, &request, b"DE");
        assert_eq!(Vary::language_key_of(&key, b"DE"), by_language);
        let key = by_x(&primary);
        assert_eq!(Vary::language_key_of(&key, b"DE"), None);
    }

    fn by_x(primary: &CacheKey) -> CacheKey {
        let vary = vary("x").expect("not any").expect("selecting");
        vary.key(primary, &Fields::new())
    }

    proptest! {
        #[test]
        fn keys_are_equal_only_where_a_plain_reading_of_the_values_is(
            one in prop::option::of("[a ,\"]{0,6}"), other in prop::option::of("[a ,\"]{0,6}"),
        ) {
            let fields = |value: &Option<String>| {
                value.iter().map(|value| crate::fields::Field {
                    name: Bytes::from_static(b"x"), value: Bytes::from(value.clone()),
                }).collect::<Fields>()
            };
            let plain = |value: &Option<String>| {
                value.as_ref().map(|value| value.replace(' ', ""))
            };
            let vary = vary("x").expect("not any").expect("selecting");
            let equal = vary.key(&primary(), &fields(&one)) == vary.key(&primary(), &fields(&other));
            prop_assert!(!equal || plain(&one) == plain(&other));
            prop_assert!(equal || one != other);
        }

        #[test]
        fn any_bytes_make_a_key(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let vary = vary("accept-language").expect("not any").expect("selecting");
            let mut request = Fields::new();
            request.push_static("Accept-Language", value);
            vary.key(&primary(), &request);
            favourite_language(&request);
        }
    }
}
