//! The rules of a request's headers: one walk over its fields, and one over a value, however many texts are
//! looked for in it.

use regex::bytes::{Regex, RegexBuilder};

use super::set::Set;
use super::table::Table;
use crate::fields::Fields;
use crate::settings::{HEADERS_MAX, HeaderMatch, HeaderWants};

/// Headers that rules ask for.
#[derive(Debug)]
pub struct Headers {
    index: Table<Option<usize>>,
    /// By the length of a name: is there one?
    lengths: [bool; LENGTHS],
    asked: Vec<Header>,
    with: Set,
}

const LENGTHS: usize = 64;

/// What rules ask of one header.
#[derive(Debug, Default)]
struct Header {
    /// All of these rules.
    rules: Set,
    absent: Set,
    present: Set,
    texts: Vec<(Option<Regex>, Set)>,
    /// Finds any of the texts.
    any: Option<Regex>,
}

impl Header {
    /// Rules that take this value.
    fn of(&self, value: &[u8]) -> Set {
        if !self.any.as_ref().is_some_and(|any| any.is_match(value)) {
            return self.present;
        }
        let has = |text: &Option<Regex>| text.as_ref().is_some_and(|text| text.is_match(value));
        let found = self.texts.iter().filter(|(text, _)| has(text));
        found.fold(self.present, |all, (_, rules)| all.or(*rules))
    }
}

impl Headers {
    /// The headers of each rule, in order. `HEADERS_MAX` names at most; rules with others match nothing.
    pub fn new<'a>(rules: impl Iterator<Item = &'a [HeaderMatch]>) -> Self {
        let mut own = Self {
            index: Table::new(true),
            lengths: [false; LENGTHS],
            asked: Vec::new(),
            with: Set::EMPTY,
        };
        let mut texts: Vec<Vec<&str>> = Vec::new();
        for (rule, headers) in rules.enumerate() {
            for HeaderMatch { name, wants } in headers {
                own.with.add(rule);
                let at = *own.index.entry(name).get_or_insert(own.asked.len());
                if at == own.asked.len() {
                    own.asked.push(Header::default());
                    texts.push(Vec::new());
                }
                let (Some(header), Some(texts)) = (own.asked.get_mut(at), texts.get_mut(at)) else {
                    continue;
                };
                own.lengths[name.len().min(LENGTHS - 1)] = true;
                header.rules.add(rule);
                match wants {
                    HeaderWants::Present => header.present.add(rule),
                    HeaderWants::Absent => header.absent.add(rule),
                    HeaderWants::Contains(text) => {
                        texts.push(text);
                        header.texts.push((any_of(&[text]), Set::of(rule)));
                    }
                }
            }
        }
        for (header, texts) in own.asked.iter_mut().zip(texts) {
            header.any = any_of(&texts);
        }
        own
    }

    /// Of these rules those that take these fields.
    pub fn of(&self, fields: &Fields, rules: Set) -> Set {
        if rules.and(self.with).is_empty() {
            return rules;
        }
        let mut found = [Set::EMPTY; HEADERS_MAX];
        let mut seen = 0_u64;
        for field in fields {
            if !self.lengths[field.name.len().min(LENGTHS - 1)] {
                continue;
            }
            let Some(Some(at)) = self.index.named(&field.name) else { continue };
            let (Some(header), Some(found)) = (self.asked.get(*at), found.get_mut(*at)) else {
                continue;
            };
            seen |= 1 << at;
            if !rules.and(header.rules).is_empty() {
                *found = found.or(header.of(&field.value));
            }
        }
        let mut left = rules;
        for (at, header) in self.asked.iter().enumerate() {
            let found = match found.get(at) {
                Some(found) if seen & (1 << at) != 0 => *found,
                Some(_) => header.absent,
                None => Set::EMPTY,
            };
            left = left.without(header.rules.without(found));
        }
        left
    }
}

/// What finds any of these texts, in any case.
fn any_of(texts: &[&str]) -> Option<Regex> {
    if texts.is_empty() {
        return None;
    }
    let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
    // Escaped texts are always a regex, and there is room for as many as the settings take.
    RegexBuilder::new(&texts.join("|"))
        .unicode(false)
        .case_insensitive(true)
        .size_limit(usize::MAX)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(texts: &[&str]) -> Vec<HeaderMatch> {
        let one = |text: &&str| {
            let (name, wants) = match (text.strip_prefix('!'), text.split_once(": ")) {
                (Some(name), _) => (name, HeaderWants::Absent),
                (None, Some((name, text))) => (name, HeaderWants::Contains(text.to_owned())),
                (None, None) => (*text, HeaderWants::Present),
            };
            HeaderMatch { name: name.to_owned(), wants }
        };
        texts.iter().map(one).collect()
    }

    #[test]
    fn of_each_header_one_entry_has_to_hold() {
        let rules = [
            wants(&["user-agent: scrapy", "user-agent: python", "!accept-language"]),
            wants(&["accept-language"]),
            wants(&[]),
            wants(&["x: a", "!x"]),
            wants(&["user-agent: bot"]),
        ];
        let headers = Headers::new(rules.iter().map(Vec::as_slice));
        let found = |fields: &[(&'static str, &str)]| -> Vec<usize> {
            let mut own = Fields::new();
            for (name, value) in fields {
                own.push_static(name, (*value).to_owned());
            }
            headers.of(&own, Set::first(5)).iter().collect()
        };
        assert_eq!(found(&[("User-Agent", "my Python/3")]), [0, 2, 3]);
        assert_eq!(found(&[("User-Agent", "my Python/3"), ("Accept-Language", "de")]), [1, 2, 3]);
        assert_eq!(found(&[("X", "b")]), [2]);
        assert_eq!(found(&[("X", "b"), ("x", "A")]), [2, 3], "one line is enough");
        assert_eq!(found(&[("user-agent", "GoogleBOT")]), [2, 3, 4]);
        assert_eq!(found(&[]), [2, 3]);
    }
}
