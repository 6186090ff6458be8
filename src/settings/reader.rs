//! Reads settings one by one, and remembers which keys it was asked for and what was wrong.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use config::ValueKind;

use super::mistake::{Mistake, Mistakes, Place, Problem, shown};
use super::nearest::nearest;
use super::scalar::{Scalar, elements_of, parts_in_brackets, shown_value};
use super::sources::{Given, Sources, is_almost_of, variable_of};
use super::syntax::Syntax;
use super::units::{DURATION_ALLOWED, SIZE_ALLOWED, format_duration, format_size};
use super::words::{Word, from_word, words_allowed};

/// Elements of a list that are taken.
pub(super) const LIST_MAX: usize = 1_000;

/// The settings that were given, and the mistakes found in them so far.
///
/// Each method takes a key and the field it sets, which holds the default; a field whose value is
/// wrong keeps it, so that the other settings are still checked.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) sources: Sources,
    known: Vec<&'static str>,
    pub(super) secret: BTreeSet<&'static str>,
    pub(super) file_only: BTreeSet<&'static str>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader {
    pub fn new(sources: Sources, mistakes: Vec<Mistake>) -> Self {
        Self { sources, mistakes, ..Self::default() }
    }

    /// The keys that were read so far.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// `true` or `false`.
    pub fn switch(&mut self, key: &'static str, field: &mut bool) {
        self.one(key, field, "true or false", |scalar| match scalar {
            Scalar::Switch(value) => Ok(value),
            Scalar::Variable("true") => Ok(true),
            Scalar::Variable("false") => Ok(false),
            _ => Err("neither".to_owned()),
        });
    }

    /// A whole number.
    pub fn number<N>(&mut self, key: &'static str, field: &mut N, bounds: RangeInclusive<N>)
    where
        N: Copy + PartialOrd + Display + FromStr + TryFrom<i64>,
    {
        let allowed = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.one(key, field, &allowed, |scalar| {
            let number = match scalar {
                Scalar::Number(number) => N::try_from(number).ok(),
                Scalar::Variable(text) => text.parse().ok(),
                _ => return Err("not a whole number".to_owned()),
            };
            number.filter(|number| bounds.contains(number)).ok_or_else(|| "out of range".to_owned())
        });
    }

    /// A size such as `512MiB`.
    pub fn size<N>(&mut self, key: &'static str, field: &mut N, bounds: RangeInclusive<u64>)
    where
        N: TryFrom<u64>,
    {
        let (least, most) = (format_size(*bounds.start()), format_size(*bounds.end()));
        let allowed = format!("{SIZE_ALLOWED}, from {least} to {most}");
        self.one(key, field, &allowed, |scalar| {
            let bytes = scalar.size_bytes().ok_or("not a size")?;
            let bytes = Some(bytes).filter(|bytes| bounds.contains(bytes));
            let value = bytes.and_then(|bytes| N::try_from(bytes).ok());
            value.ok_or_else(|| "out of range".to_owned())
        });
    }

    /// A duration such as `75s`.
    pub fn duration(
        &mut self,
        key: &'static str,
        field: &mut Duration,
        bounds: RangeInclusive<Duration>,
    ) {
        let allowed = duration_allowed(&bounds);
        self.one(key, field, &allowed, |scalar| duration_within(scalar, &bounds));
    }

    /// A duration whose default depends on other settings; an empty text leaves it to them.
    pub fn optional_duration(
        &mut self,
        key: &'static str,
        field: &mut Option<Duration>,
        bounds: RangeInclusive<Duration>,
    ) {
        let allowed = format!("{}, or nothing", duration_allowed(&bounds));
        self.one(key, field, &allowed, |scalar| match scalar.text() {
            Some("") => Ok(None),
            _ => duration_within(scalar, &bounds).map(Some),
        });
    }

    /// One of a few words.
    pub fn word<T: Word>(&mut self, key: &'static str, field: &mut T) {
        self.one(key, field, &words_allowed::<T>(), |scalar| {
            scalar.text().and_then(from_word).ok_or_else(|| "none of these words".to_owned())
        });
    }

    /// A text.
    pub fn text<T>(&mut self, key: &'static str, field: &mut T, syntax: &Syntax<T>) {
        self.one(key, field, syntax.allowed, |scalar| {
            (syntax.parse)(scalar.text().ok_or("not a text")?)
        });
    }

    /// A text that no mistake shows.
    pub fn secret(&mut self, key: &'static str, field: &mut String, syntax: &Syntax<String>) {
        self.secret.insert(key);
        self.text(key, field, syntax);
    }

    /// A list of texts that no mistake shows.
    pub fn secrets(&mut self, key: &'static str, field: &mut Vec<String>, syntax: &Syntax<String>) {
        self.secret.insert(key);
        self.list(key, field, syntax);
    }

    /// A text that may be unset; an empty one unsets it, so that the environment can take back
    /// what the file says.
    pub fn unset_if_empty<T>(
        &mut self,
        key: &'static str,
        field: &mut Option<T>,
        syntax: &Syntax<T>,
    ) {
        self.one(key, field, &format!("{}, or nothing", syntax.allowed), |scalar| {
            match scalar.text().ok_or("not a text")? {
                "" => Ok(None),
                text => (syntax.parse)(text).map(Some),
            }
        });
    }

    /// The same for a value that no mistake shows.
    pub fn secret_unset_if_empty<T>(
        &mut self,
        key: &'static str,
        field: &mut Option<T>,
        syntax: &Syntax<T>,
    ) {
        self.secret.insert(key);
        self.unset_if_empty(key, field, syntax);
    }

    /// A text that may be unset, and may be empty, which is something else.
    pub fn optional_text<T>(
        &mut self,
        key: &'static str,
        field: &mut Option<T>,
        syntax: &Syntax<T>,
    ) {
        self.one(key, field, syntax.allowed, |scalar| {
            (syntax.parse)(scalar.text().ok_or("not a text")?).map(Some)
        });
    }

    /// A list of texts; in a variable they are separated by commas.
    pub fn list<T, L>(&mut self, key: &'static str, field: &mut L, syntax: &Syntax<T>)
    where
        L: FromIterator<T>,
    {
        let Some(given) = self.take(key) else { return };
        let allowed = format!("a list of at most {LIST_MAX}, each {}", syntax.allowed);
        let Some(elements) = elements_of(&given) else {
            self.refuse(key, &given.place, &given.value, "not a list", &allowed);
            return;
        };
        let count = elements.len();
        if count > LIST_MAX {
            self.refuse(key, &given.place, &ValueKind::Nil, &format!("has {count}"), &allowed);
            return;
        }
        let mut values = Vec::with_capacity(count);
        for element in elements {
            let text = if let ValueKind::String(text) = &element { Some(text) } else { None };
            match text.ok_or_else(|| "not a text".to_owned()).and_then(|text| (syntax.parse)(text))
            {
                Ok(value) => values.push(value),
                Err(what) => match self.written_as_in_the_file(key, &given, syntax) {
                    None => self.refuse(key, &given.place, &element, &what, syntax.allowed),
                    Some(what) => {
                        self.refuse(key, &given.place, &given.value, &what, syntax.allowed);
                        return;
                    }
                },
            }
        }
        if values.len() == count {
            *field = values.into_iter().collect();
        }
    }

    /// What is wrong with a variable whose text is a list as the file has them, with what would do instead. `None`: it
    /// is none, since an address may be in brackets, too.
    fn written_as_in_the_file<T>(
        &self,
        key: &str,
        given: &Given,
        syntax: &Syntax<T>,
    ) -> Option<String> {
        let (parts, is_quoted) = parts_in_brackets(given)?;
        let mut right = parts.clone();
        right.retain(|part| (syntax.parse)(part).is_ok());
        if !is_quoted && right.len() < parts.len() {
            return None;
        }
        right.truncate(2);
        let example = if self.secret.contains(key) || right.is_empty() {
            "one,another".to_owned()
        } else {
            shown(&right.join(","))
        };
        let (variable, example) = (variable_of(key), example.trim_matches('"'));
        Some(format!(
            "in a variable commas alone separate the parts of a list: {variable}={example}"
        ))
    }

    /// A list that only the file can set, since its elements may hold commas.
    pub fn list_in_file<T, L>(&mut self, key: &'static str, field: &mut L, syntax: &Syntax<T>)
    where
        L: FromIterator<T>,
    {
        self.file_only.insert(key);
        self.list(key, field, syntax);
    }

    /// Reads one value with `parse`.
    fn one<T>(
        &mut self,
        key: &'static str,
        field: &mut T,
        allowed: &str,
        parse: impl FnOnce(Scalar<'_>) -> Result<T, String>,
    ) {
        let Some(given) = self.take(key) else { return };
        match parse(Scalar::of(&given)) {
            Ok(value) => *field = value,
            Err(what) => self.refuse(key, &given.place, &given.value, &what, allowed),
        }
    }

    /// The value of a key, which is known from here on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Given> {
        self.known.push(key);
        let given = self.sources.given.get(key)?.clone();
        if given.is_from_environment() && self.file_only.contains(key) {
            let problem = Problem::Conflict("can be set in the file alone".to_owned());
            self.mistakes.push(Mistake {
                place: given.place,
                key: key.to_owned(),
                value: None,
                problem,
            });
            return None;
        }
        Some(given)
    }

    /// Notes a value that is not allowed; `Nil` where there is none worth showing.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        place: &Place,
        value: &ValueKind,
        what: &str,
        allowed: &str,
    ) {
        let is_secret = self.secret.contains(key) || matches!(value, ValueKind::Nil);
        let mistake = Mistake {
            place: place.clone(),
            key: key.to_owned(),
            value: (!is_secret).then(|| shown_value(value)),
            problem: Problem::Refused { what: what.to_owned(), allowed: allowed.to_owned() },
        };
        self.mistakes.push(mistake);
    }

    /// Notes that the values of these keys do not go together. The first of them that was given
    /// is named. Where one of them is wrong by itself, its default took its place, and there is
    /// nothing to compare.
    pub fn conflict(&mut self, keys: &[&str], text: String) {
        if keys.iter().any(|key| self.is_refused(key)) {
            return;
        }
        let given = keys.iter().find(|key| self.sources.given.contains_key(**key));
        if let Some(key) = given.or(keys.first()) {
            self.blame(key, Problem::Conflict(text));
        }
    }

    /// Was the key's value found wrong by itself?
    pub fn is_refused(&self, key: &str) -> bool {
        let refused = |problem: &Problem| matches!(problem, Problem::Refused { .. });
        self.mistakes.iter().any(|mistake| mistake.key == key && refused(&mistake.problem))
    }

    /// Notes a problem of a key's value, where the value was given.
    pub fn blame(&mut self, key: &str, problem: Problem) {
        let given = self.sources.given.get(key);
        let place =
            given.map_or_else(|| self.sources.place_in_file(key), |given| given.place.clone());
        let value =
            given.filter(|_| !self.secret.contains(key)).map(|given| shown_value(&given.value));
        self.mistakes.push(Mistake { place, key: key.to_owned(), value, problem });
    }

    /// Notes each section and key that was given and never asked for. Their values are not
    /// shown: a mistyped key may be that of a secret.
    pub fn refuse_unknown(&mut self) {
        let sections: BTreeSet<&str> = self
            .known
            .iter()
            .filter_map(|key| key.split_once('.'))
            .map(|(section, _)| section)
            .collect();
        let strange = self.sources.sections.iter().filter(|name| !sections.contains(name.as_str()));
        for section in strange {
            let nearest =
                nearest(section, sections.iter().copied()).map(|name| format!("[{name}]"));
            self.mistakes.push(Mistake {
                place: self.sources.place_in_file(section),
                key: format!("[{section}]"),
                value: None,
                problem: Problem::Unknown { what: "section", nearest },
            });
        }
        for (key, given) in &self.sources.given {
            let in_strange_section = !given.is_from_environment()
                && key.split_once('.').is_some_and(|(section, _)| !sections.contains(section));
            if in_strange_section || self.known.contains(&key.as_str()) {
                continue;
            }
            let problem = if sections.contains(key.as_str()) {
                Problem::Conflict("is a section; its keys are to be set, one by one".to_owned())
            } else if self.file_only.iter().any(|known| is_within(key, known)) {
                Problem::Conflict("can be set in the file alone".to_owned())
            } else {
                self.unknown_key(key, given)
            };
            self.mistakes.push(Mistake {
                place: given.place.clone(),
                key: key.clone(),
                value: None,
                problem,
            });
        }
        self.refuse_almost_named();
    }

    /// Notes each variable that would set a key if it had more underscores. Others have such names, too: a
    /// container's links, say.
    fn refuse_almost_named(&mut self) {
        for variable in &self.sources.almost {
            let Some(key) = self.known.iter().find(|key| is_almost_of(variable, key)) else {
                continue;
            };
            let nearest = Some(variable_of(key));
            self.mistakes.push(Mistake {
                place: Place::Environment(variable.clone()),
                key: (*key).to_owned(),
                value: None,
                problem: Problem::Unknown { what: "variable", nearest },
            });
        }
    }

    fn unknown_key(&self, key: &str, given: &Given) -> Problem {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
        let namesake = self.known.iter().copied().find(|known| last(known) == last(key));
        let nearest = namesake.or_else(|| nearest(key, self.known.iter().copied()));
        if given.is_from_environment() {
            return Problem::Unknown { what: "variable", nearest: nearest.map(variable_of) };
        }
        Problem::Unknown { what: "key", nearest: nearest.map(str::to_owned) }
    }

    /// Ends the reading.
    pub fn finish(self) -> Result<(), Mistakes> {
        Mistakes::none_in(self.mistakes)
    }
}

/// Is the key one of a table's?
fn is_within(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

fn duration_allowed(bounds: &RangeInclusive<Duration>) -> String {
    let (least, most) = (format_duration(*bounds.start()), format_duration(*bounds.end()));
    format!("{DURATION_ALLOWED}, from {least} to {most}")
}

fn duration_within(
    scalar: Scalar<'_>,
    bounds: &RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let duration = scalar.duration().ok_or("not a duration")?;
    if bounds.contains(&duration) { Ok(duration) } else { Err("out of range".to_owned()) }
}
