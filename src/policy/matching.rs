//! What settings tell requests apart by: names, paths, parameters and texts, prepared once, since each
//! request to PHP is compared with many of them.

use regex::bytes::{Regex, RegexBuilder};

/// Segments of a path that are looked at; no setting needs more.
const SEGMENTS_MAX: usize = 16;

/// A name, or what names begin with (`product_list_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    text: Box<[u8]>,
    is_beginning: bool,
}

impl Name {
    /// As the setting has it: a `*` at its end stands for any rest.
    pub fn new(pattern: &str) -> Self {
        let beginning = pattern.strip_suffix('*');
        let text = beginning.unwrap_or(pattern).as_bytes().into();
        Self { text, is_beginning: beginning.is_some() }
    }

    /// Those of a list.
    pub fn all(patterns: &[String]) -> Vec<Self> {
        patterns.iter().map(|pattern| Self::new(pattern)).collect()
    }

    /// Is it this name?
    pub fn is(&self, name: &[u8]) -> bool {
        if self.is_beginning { name.starts_with(&self.text) } else { *self.text == *name }
    }

    /// Is it one of these?
    pub fn is_one(names: &[Self], name: &[u8]) -> bool {
        names.iter().any(|own| own.is(name))
    }
}

/// A path by whole segments, and all below it (`/rest/*/V1/carts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Vec<Name>);

impl PathPattern {
    /// As the setting has it.
    pub fn new(path: &str) -> Self {
        Self(path.split('/').filter(|one| !one.is_empty()).map(Name::new).collect())
    }

    /// Those of a list.
    pub fn all(paths: &[String]) -> Vec<Self> {
        paths.iter().map(|path| Self::new(path)).collect()
    }
}

/// The segments of a request's path, without `index.php` in front, which some shops have.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    all: [&'a [u8]; SEGMENTS_MAX],
    count: usize,
}

impl<'a> Segments<'a> {
    /// Of a path as it came.
    pub fn of(path: &'a [u8]) -> Self {
        let segments = path.split(|byte| *byte == b'/').filter(|one| !one.is_empty());
        let mut all: [&[u8]; SEGMENTS_MAX] = [&[]; SEGMENTS_MAX];
        let mut count = 0;
        for (at, segment) in segments.enumerate() {
            if at == 0 && segment == b"index.php" {
                continue;
            }
            let Some(place) = all.get_mut(count) else { break };
            *place = segment;
            count += 1;
        }
        Self { all, count }
    }

    /// Is it this path, or below it?
    pub fn are_within(&self, path: &PathPattern) -> bool {
        let segments = self.all.get(..self.count).unwrap_or_default();
        path.0.len() <= segments.len()
            && path.0.iter().zip(segments).all(|(name, segment)| name.is(segment))
    }
}

/// The names of a query's parameters, raw.
pub fn parameters(query: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    let pairs = query.unwrap_or_default().split(|byte| *byte == b'&');
    let name = |pair: &'_ [u8]| pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    pairs.filter(|pair| !pair.is_empty()).map(move |pair| &pair[..name(pair)])
}

/// Finds any of several texts, in one walk.
#[derive(Clone, Debug)]
pub struct AnyText(Option<Regex>);

impl AnyText {
    /// In any case, and within words.
    pub fn new(texts: &[String]) -> Self {
        Self::of(texts, |any| format!("(?i:{any})"))
    }

    /// As whole words of JSON: letters, digits and `_` end where they do, and the `n` of an escaped line break is none of
    /// them.
    pub fn words(texts: &[String]) -> Self {
        Self::of(texts, |any| format!(r"(?:\b|\\[bfnrt]|\\u[0-9A-Fa-f]{{4}})(?:{any})\b"))
    }

    fn of(texts: &[String], pattern: impl FnOnce(String) -> String) -> Self {
        if texts.is_empty() {
            return Self(None);
        }
        let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
        // Escaped texts are always a regex, and there is room for as many as the settings take.
        let mut regex = RegexBuilder::new(&pattern(texts.join("|")));
        Self(regex.unicode(false).size_limit(usize::MAX).build().ok())
    }

    /// Are there none?
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// How often one of them is there.
    pub fn count(&self, text: &[u8]) -> usize {
        self.0.as_ref().map_or(0, |regex| regex.find_iter(text).count())
    }

    /// Is one of them there? Never, where there are none.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(pattern: &str, path: &[u8]) -> bool {
        Segments::of(path).are_within(&PathPattern::new(pattern))
    }

    #[test]
    fn paths_match_by_whole_segments() {
        assert!(is_within("/rest/*/V1/carts", b"/rest/de/V1/carts/mine"));
        assert!(!is_within("/rest/*/V1/carts", b"/rest/V1/carts"));
        assert!(!is_within("/checkout", b"/checkouts"));
        assert!(is_within("/check*", b"//checkouts/x"));
        assert!(is_within("/checkout", b"/checkout"));
        assert!(is_within("/checkout", b"/index.php/checkout"));
        assert!(!is_within("/a/b", "/x".repeat(100).as_bytes()));
    }

    #[test]
    fn parameters_are_told_by_their_names() {
        let names: Vec<&[u8]> = parameters(Some(b"p=2&&product_list_order=price&q")).collect();
        assert_eq!(names, [&b"p"[..], b"product_list_order", b"q"]);
        assert_eq!(parameters(None).count(), 0);
        let patterns = ["p".to_owned(), "product_list_*".to_owned()];
        let is_one = |name: &[u8]| Name::is_one(&Name::all(&patterns), name);
        assert!(is_one(b"p") && is_one(b"product_list_mode"));
        assert!(!is_one(b"price") && !is_one(b"product_lis"));
    }

    #[test]
    fn texts_are_found_in_any_case_and_words_as_they_stand() {
        let texts = ["bot".to_owned(), "a.b".to_owned()];
        assert!(AnyText::new(&texts).is_in(b"GoogleBOT/2"));
        assert!(!AnyText::new(&texts).is_in(b"axb"));
        let words = AnyText::words(&["placeOrder".to_owned()]);
        assert!(words.is_in(b"mutation{placeOrder(input:{})}"));
        for escape in [r"\n", r"\t", r"\u000a"] {
            assert!(words.is_in(format!("mutation{{{escape}placeOrder}}").as_bytes()), "{escape}");
        }
        for other in [&b"mutation{placeorder()}"[..], b"placeOrders", b"replaceOrder", b""] {
            assert!(!words.is_in(other), "{other:?}");
        }
        assert!(!AnyText::new(&[]).is_in(b"") && !AnyText::words(&[]).is_in(b"x"));
    }
}
