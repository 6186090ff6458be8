//! The rules of a query, by the names of its parameters. Names are raw, as for the key.

use super::set::Set;
use super::table::Table;

/// The names and values of a query's parameters, raw.
pub fn names(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &pair[pair.len()..]),
    })
}

/// Names that do not count.
#[derive(Debug)]
pub struct Besides(Table<()>);

impl Besides {
    /// These, each perhaps with a `*` at its end.
    pub fn new(patterns: &[String]) -> Self {
        let mut table = Table::new(false);
        for pattern in patterns {
            let () = table.entry(pattern);
        }
        Self(table)
    }

    /// Is the name one of them?
    pub fn has(&self, name: &[u8]) -> bool {
        self.0.has(name)
    }
}

/// Parameters that rules ask for.
#[derive(Debug)]
pub struct Parameters {
    /// Rules which one of these names satisfies.
    there: Table<Set>,
    with: Set,
    /// Lists of `query_besides`, each with the rules that have it.
    besides: Vec<(Besides, Set)>,
    with_besides: Set,
}

impl Parameters {
    /// `query` and `query_besides` of each rule, in order.
    pub fn new<'a>(rules: impl Iterator<Item = (&'a [String], &'a [String])>) -> Self {
        let mut there: Table<Set> = Table::new(false);
        let mut lists: Vec<(&[String], Set)> = Vec::new();
        let (mut with, mut with_besides) = (Set::EMPTY, Set::EMPTY);
        for (rule, (query, besides)) in rules.enumerate() {
            for pattern in query {
                there.entry(pattern).add(rule);
                with.add(rule);
            }
            if besides.is_empty() {
                continue;
            }
            with_besides.add(rule);
            match lists.iter_mut().find(|(list, _)| *list == besides) {
                Some((_, rules)) => rules.add(rule),
                None => lists.push((besides, Set::of(rule))),
            }
        }
        let besides = lists.into_iter().map(|(list, rules)| (Besides::new(list), rules)).collect();
        Self { there, with, besides, with_besides }
    }

    /// Rules that ask for parameters; none of them takes a request without a query.
    pub fn with(&self) -> Set {
        self.with.or(self.with_besides)
    }

    /// Of these rules those that take the query.
    pub fn of(&self, query: &[u8], rules: Set) -> Set {
        let asked = rules.and(self.with);
        let mut left = rules;
        if !asked.is_empty() {
            let mut found = Set::EMPTY;
            for (name, _) in names(query) {
                found = self.there.all(name).fold(found, |found, own| found.or(*own));
            }
            left = left.without(asked.without(found));
        }
        for (besides, own) in &self.besides {
            let asked = left.and(*own);
            if !asked.is_empty() && names(query).all(|(name, _)| besides.has(name)) {
                left = left.without(asked);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name_and_by_what_they_are_not() {
        let of = |names: &[&str]| names.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let rules = [
            (of(&["color", "size*"]), of(&[])),
            (of(&[]), of(&["p", "utm_*"])),
            (of(&["color"]), of(&["color"])),
            (of(&[]), of(&[])),
        ];
        let parameters = Parameters::new(rules.iter().map(|(one, two)| (&one[..], &two[..])));
        let found = |query: &str| -> Vec<usize> {
            parameters.of(query.as_bytes(), Set::first(4)).iter().collect()
        };
        assert_eq!(found("color=1"), [0, 1, 3]);
        assert_eq!(found("size_eu=1&&p=2"), [0, 1, 3]);
        assert_eq!(found("p=2&utm_x"), [3]);
        assert_eq!(found("p=2&color"), [0, 1, 2, 3]);
        assert_eq!(found(""), [3]);
        assert_eq!(parameters.with().iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
