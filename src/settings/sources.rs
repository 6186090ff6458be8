//! Where settings come from: one TOML file, then the environment.
//!
//! The `config` crate reads the TOML. Its merging is not used: it takes a key's text for a path
//! with indexes, and forgets which variable a value came from, which a mistake has to name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use config::{ConfigError, File, FileFormat, Source, Value, ValueKind};

use super::mistake::{Mistake, Place, Problem};

/// What the variables of Parvis begin with.
const PREFIX: &str = "PARVIS__";

/// What those may begin with that are meant for it, and are not named as its own are.
const ALMOST: &str = "PARVIS_";

/// Between section and key in a variable.
const SEPARATOR: &str = "__";

/// Largest configuration file that is read.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A value as it was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub value: ValueKind,
    pub place: Place,
}

impl Given {
    /// Variables are text alone, so numbers, switches and lists are read from their text.
    pub fn is_from_environment(&self) -> bool {
        matches!(self.place, Place::Environment(_))
    }
}

/// What file and environment say, by dotted key.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By `section.key`; the environment's value where both have one.
    pub given: BTreeMap<String, Given>,
    /// The sections of the file, empty ones too.
    pub sections: BTreeSet<String>,
    /// Variables with fewer underscores than Parvis' own, which may be meant for a key.
    pub almost: Vec<String>,
    file: Option<PathBuf>,
    lines: HashMap<String, usize>,
}

impl Sources {
    /// Reads both. What cannot be read at all is added to `mistakes`.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let mut sources = Self::default();
        if let Some(path) = file {
            sources.file = Some(path.to_owned());
            match read_bounded(path) {
                Ok(text) => sources.add_file(&text, mistakes),
                Err(problem) => mistakes.push(sources.whole_file(None, problem)),
            }
        }
        sources.add_environment(environment, mistakes);
        sources
    }

    /// The place of a key in the file, with its line where that is known.
    pub fn place_in_file(&self, key: &str) -> Place {
        match &self.file {
            Some(path) => {
                Place::File { path: path.clone(), line: self.lines.get(&bare(key)).copied() }
            }
            None => Place::Default,
        }
    }

    fn add_file(&mut self, text: &str, mistakes: &mut Vec<Mistake>) {
        let tables = match File::from_str(text, FileFormat::Toml).collect() {
            Ok(tables) => tables,
            Err(error) => {
                let (line, problem) = syntax_problem(&error);
                mistakes.push(self.whole_file(line, problem));
                return;
            }
        };
        self.lines = lines_of_keys(text);
        for (section, value) in tables {
            let ValueKind::Table(keys) = value.kind else {
                // A key outside of every section; the reader finds that it knows none such.
                self.add_given(section, value);
                continue;
            };
            for (key, value) in keys {
                self.add_given(format!("{section}.{key}"), value);
            }
            self.sections.insert(section);
        }
    }

    fn add_given(&mut self, key: String, value: Value) {
        let place = self.place_in_file(&key);
        self.given.insert(key, Given { value: value.kind, place });
    }

    fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
        mistakes: &mut Vec<Mistake>,
    ) {
        for (variable, value) in environment {
            let Some(path) = variable.strip_prefix(PREFIX) else {
                self.almost.push(variable);
                continue;
            };
            let key = path.to_lowercase().replace(SEPARATOR, ".");
            let place = Place::Environment(variable.clone());
            let given = Given { value: ValueKind::String(value), place: place.clone() };
            let before = self.given.insert(key.clone(), given);
            if let Some(Given { place: Place::Environment(other), .. }) = before {
                let problem = Problem::Conflict(format!("{other} sets the same key"));
                mistakes.push(Mistake { place, key, value: None, problem });
            }
        }
    }

    fn whole_file(&self, line: Option<usize>, problem: Problem) -> Mistake {
        let path = self.file.clone().unwrap_or_default();
        let place = Place::File { path, line };
        Mistake { place, key: String::new(), value: None, problem }
    }
}

/// The name of the variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', SEPARATOR))
}

/// Would the variable be that of the key, if it had more underscores?
pub(super) fn is_almost_of(variable: &str, key: &str) -> bool {
    let single = |name: &str| name.to_uppercase().replace(SEPARATOR, "_");
    single(variable) == single(&variable_of(key))
}

/// The variables of this process which are meant for Parvis, or may be. One that is not UTF-8 is taken with
/// replacement characters, which no setting accepts where it matters.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(ALMOST))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

fn read_bounded(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(Problem::Unreadable(format!("larger than {FILE_MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Problem::Unreadable("not UTF-8 text".to_owned()))
}

/// Line and message of a TOML error. Its full text also quotes the line, which may hold a secret.
fn syntax_problem(error: &ConfigError) -> (Option<usize>, Problem) {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let message = lines.next_back().unwrap_or(first).trim().to_owned();
    let line = first
        .strip_prefix("TOML parse error at line ")
        .and_then(|rest| rest.split(',').next())
        .and_then(|number| number.parse().ok());
    (line, Problem::Syntax(message))
}

/// The line of each key that stands alone on one, which is how nearly everybody writes TOML. It
/// only helps to find a mistake: a key it does not see is reported without its line. Keys of the
/// nth `[[table]]` have `#n` in their name.
fn lines_of_keys(text: &str) -> HashMap<String, usize> {
    let mut lines = HashMap::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut section = String::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("[[") {
            let name = bare(rest.split("]]").next().unwrap_or_default());
            lines.entry(name.clone()).or_insert(at + 1);
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            section = format!("{name}#{count}");
            lines.entry(section.clone()).or_insert(at + 1);
        } else if let Some(rest) = line.strip_prefix('[') {
            section = bare(rest.split(']').next().unwrap_or_default());
            lines.entry(section.clone()).or_insert(at + 1);
        } else if let Some((key, _)) = line.split_once('=') {
            let key = bare(key);
            let dotted = if section.is_empty() { key } else { format!("{section}.{key}") };
            lines.entry(dotted).or_insert(at + 1);
        }
    }
    lines
}

/// A key as it is written, without quotes and white space.
fn bare(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '"' | '\'' | ' ' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_on_their_lines() {
        let text = "[a]\nb = 1\n\n[[a.c]]\nd = 2\n[[a.c]]\n d=3\n[a.\"x.y\"] # more\nE = 5\n";
        let lines = lines_of_keys(text);
        let line = |key: &str| lines.get(key).copied();
        assert_eq!(line("a.b"), Some(2));
        assert_eq!(line("a.c"), Some(4));
        assert_eq!(line("a.c#2.d"), Some(7));
        assert_eq!(line("a.x.y.E"), Some(9));
    }

    #[test]
    fn a_variable_is_named_after_its_key() {
        assert_eq!(variable_of("listen.head_max"), "PARVIS__LISTEN__HEAD_MAX");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_other_variables_are_ignored() {
        let environment = [
            ("PARVIS__STORE__MEMORY", "1GiB"),
            ("PARVIS_PORT", "tcp://10.0.0.1:6081"),
            ("HOME", "/root"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut sources = Sources::default();
        let mut mistakes = Vec::new();
        sources.add_file("[store]\nmemory = '2GiB'\ngrace = '1s'\n", &mut mistakes);
        sources.add_environment(environment, &mut mistakes);
        assert_eq!(mistakes, []);
        assert_eq!(sources.given.len(), 2);
        assert_eq!(sources.given["store.memory"].value, ValueKind::String("1GiB".to_owned()));
        assert!(sources.given["store.memory"].is_from_environment());
        assert!(!sources.given["store.grace"].is_from_environment());
    }

    #[test]
    fn a_key_whose_text_looks_like_an_index_is_only_a_key() {
        let mut sources = Sources::default();
        let mut mistakes = Vec::new();
        sources.add_file("'a[99999999999]' = 1\n", &mut mistakes);
        let variable = ("PARVIS__A[99999999999]".to_owned(), String::new());
        sources.add_environment([variable], &mut mistakes);
        assert_eq!(sources.given.len(), 1);
    }
}
