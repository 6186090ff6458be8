//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// Longest piece of a wrong value that is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: it is the default.
    Default,
    /// In a file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
    },
    /// In an environment variable of that name.
    Environment(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("(default)"),
            Self::File { path, line: Some(line) } => write!(formatter, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(formatter, "{}", path.display()),
            Self::Environment(variable) => formatter.write_str(variable),
        }
    }
}

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The configuration file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The configuration file is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// There is no such section or key.
    #[error("unknown {what}{}", hint(.nearest.as_deref()))]
    Unknown {
        /// `section`, `key`, or `variable`.
        what: &'static str,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
    /// The value is none that is allowed.
    #[error("{what}; allowed: {allowed}")]
    Refused {
        /// What it is, or is not.
        what: String,
        /// What would do.
        allowed: String,
    },
    /// The value does not go with another setting's.
    #[error("{0}")]
    Conflict(String),
    /// This machine does not have what the value names.
    #[error("{0}")]
    Machine(String),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

/// One mistake in the configuration. Its text never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// Where it was given.
    pub place: Place,
    /// The dotted key, such as `store.memory`; empty where the whole file is meant.
    pub key: String,
    /// The value as it is shown, quoted; `None` where there is none to show.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::Default {
            write!(formatter, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            formatter.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(formatter, " = {value}")?;
            }
            formatter.write_str(": ")?;
        }
        write!(formatter, "{}", self.problem)
    }
}

/// All mistakes of a configuration, in the order of their places; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Fails with the mistakes if there are any.
    pub(super) fn none_in(mut mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by(|left, right| (&left.place, &left.key).cmp(&(&right.place, &right.key)));
        Err(Self(mistakes))
    }

    /// The mistakes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line for each mistake, without a line end after the last.
impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A text as it is shown in a mistake: on one line, quoted, and not longer than is useful.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mistake(place: Place, problem: Problem) -> Mistake {
        Mistake { place, key: "store.memory".to_owned(), value: Some(shown("lots")), problem }
    }

    #[test]
    fn a_mistake_is_one_line_with_place_key_value_and_what_is_allowed() {
        let place = Place::File { path: "parvis.toml".into(), line: Some(3) };
        let refused = Problem::Refused { what: "not a size".into(), allowed: "8MiB".into() };
        assert_eq!(
            mistake(place, refused).to_string(),
            r#"parvis.toml:3: store.memory = "lots": not a size; allowed: 8MiB"#
        );
        let place = Place::Environment("PARVIS__STORE__MEMORY".to_owned());
        let unknown = Problem::Unknown { what: "key", nearest: Some("x.y".to_owned()) };
        assert_eq!(
            mistake(place, unknown).to_string(),
            r#"PARVIS__STORE__MEMORY: store.memory = "lots": unknown key; did you mean x.y?"#
        );
    }

    #[test]
    fn mistakes_are_ordered_by_place() {
        let at = |line| Place::File { path: "parvis.toml".into(), line: Some(line) };
        let conflict = || Problem::Conflict("no".to_owned());
        let mistakes = Mistakes::none_in(vec![
            mistake(Place::Environment("A".to_owned()), conflict()),
            mistake(at(10), conflict()),
            mistake(at(9), conflict()),
        ]);
        let mistakes = mistakes.expect_err("there are three");
        let places: Vec<_> = mistakes.iter().map(|mistake| mistake.place.to_string()).collect();
        assert_eq!(places, ["parvis.toml:9", "parvis.toml:10", "A"]);
        assert_eq!(mistakes.to_string().lines().count(), 3);
    }

    proptest! {
        #[test]
        fn a_shown_value_is_one_bounded_line(text: String) {
            let shown = shown(&text);
            prop_assert_eq!(shown.lines().count(), 1);
            prop_assert!(shown.len() <= SHOWN_CHARACTERS_MAX * 12 + 5);
        }
    }
}
