//! A single value as file or environment give it.

use std::time::Duration;

use config::{Value, ValueKind};

use super::mistake::shown;
use super::sources::Given;
use super::units::{parse_duration, parse_size};

/// A value that is no list and no table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// A text of the file.
    Text(&'a str),
    /// A variable's text, which may stand for anything.
    Variable(&'a str),
    /// A whole number of the file.
    Number(i64),
    /// `true` or `false` of the file.
    Switch(bool),
    /// Whatever else TOML has.
    Other,
}

impl<'a> Scalar<'a> {
    pub fn of(given: &'a Given) -> Self {
        match &given.value {
            ValueKind::String(text) if given.is_from_environment() => Self::Variable(text),
            ValueKind::String(text) => Self::Text(text),
            ValueKind::I64(number) => Self::Number(*number),
            ValueKind::Boolean(value) => Self::Switch(*value),
            _ => Self::Other,
        }
    }

    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) | Self::Variable(text) => Some(text),
            _ => None,
        }
    }

    /// Zero is the one number that needs no unit.
    pub fn size_bytes(self) -> Option<u64> {
        if self == Self::Number(0) { Some(0) } else { parse_size(self.text()?) }
    }

    /// Zero is the one number that needs no unit.
    pub fn duration(self) -> Option<Duration> {
        if self == Self::Number(0) { Some(Duration::ZERO) } else { parse_duration(self.text()?) }
    }
}

/// The elements of a list; a variable's are separated by commas. `None` if it is no list.
pub(super) fn elements_of(given: &Given) -> Option<Vec<ValueKind>> {
    match &given.value {
        ValueKind::Array(elements) => {
            Some(elements.iter().map(|element| element.kind.clone()).collect())
        }
        ValueKind::String(text) if given.is_from_environment() => {
            let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
            Some(elements.map(|element| ValueKind::String(element.to_owned())).collect())
        }
        _ => None,
    }
}

/// The parts of a variable's text that is written in brackets, as lists of the file are, and whether they have quotes.
pub(super) fn parts_in_brackets(given: &Given) -> Option<(Vec<&str>, bool)> {
    const QUOTES: [char; 2] = ['"', '\''];
    let ValueKind::String(text) = &given.value else { return None };
    let text = given.is_from_environment().then_some(text)?.trim();
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts = inner.split(',').map(|part| part.trim().trim_matches(QUOTES));
    let parts = parts.filter(|part| !part.is_empty()).collect();
    Some((parts, inner.trim_start().starts_with(QUOTES)))
}

/// A value as TOML would write it, on one line and not longer than is useful.
pub(super) fn shown_value(value: &ValueKind) -> String {
    const ELEMENTS_SHOWN_MAX: usize = 3;
    match value {
        ValueKind::String(text) => shown(text),
        ValueKind::Table(_) => "{...}".to_owned(),
        ValueKind::Array(elements) => {
            let shown = |element: &Value| match &element.kind {
                ValueKind::Array(_) => "[...]".to_owned(),
                kind => shown_value(kind),
            };
            let mut parts: Vec<_> = elements.iter().take(ELEMENTS_SHOWN_MAX).map(shown).collect();
            if elements.len() > ELEMENTS_SHOWN_MAX {
                parts.push("...".to_owned());
            }
            format!("[{}]", parts.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shown_in_one_short_line() {
        let elements = ["a", "b\n", "c", "d"].map(|text| Value::new(None, text));
        let list = ValueKind::Array(elements.to_vec());
        assert_eq!(shown_value(&list), r#"["a", "b\n", "c", ...]"#);
        let nested = ValueKind::Array(vec![Value::new(None, list)]);
        assert_eq!(shown_value(&nested), "[[...]]");
    }
}
