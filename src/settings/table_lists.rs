//! Reads arrays of tables, such as `[[traffic.rule]]`, which stand in the file alone.

use std::ops::RangeInclusive;

use config::ValueKind;

use super::mistake::{Mistake, Problem};
use super::reader::Reader;
use super::sources::Given;

/// One table, opened: its keys are read from `inner`.
pub(super) struct OpenTable {
    pub inner: Reader,
    missing: Vec<&'static str>,
}

impl Reader {
    /// The tables headed `[[key]]`, each read by `read`, which is told where it stands (`key#1`). `None`: there are none, or
    /// a mistake is in them.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        count: RangeInclusive<usize>,
        read: fn(&mut Self, &str, ValueKind) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.file_only.insert(key);
        let given = self.take(key)?;
        let most = count.end();
        let allowed = match count.start() {
            0 => format!("at most {most} tables headed [[{key}]]"),
            least => format!("{least} to {most} tables headed [[{key}]]"),
        };
        let ValueKind::Array(elements) = given.value else {
            self.refuse(key, &given.place, &given.value, "not a list of tables", &allowed);
            return None;
        };
        if !count.contains(&elements.len()) {
            let what = format!("has {}", elements.len());
            self.refuse(key, &given.place, &ValueKind::Nil, &what, &allowed);
            return None;
        }
        let tables = elements.into_iter().map(|element| element.kind).enumerate();
        // All are read, so that each mistake is found.
        let read: Vec<_> =
            tables.map(|(at, table)| read(self, &format!("{key}#{}", at + 1), table)).collect();
        read.into_iter().collect()
    }

    /// Opens a table that has to have these keys.
    pub fn table(
        &mut self,
        at: &str,
        table: ValueKind,
        needed: [&'static str; 2],
    ) -> Option<OpenTable> {
        let ValueKind::Table(table) = table else {
            let place = self.sources.place_in_file(at);
            let allowed = format!("a table with {}", needed.join(" and "));
            self.refuse(at, &place, &table, "not a table", &allowed);
            return None;
        };
        let missing = needed.into_iter().filter(|key| !table.contains_key(*key)).collect();
        let mut inner = Self::default();
        for (key, value) in table {
            let place = self.sources.place_in_file(&format!("{at}.{key}"));
            inner.sources.given.insert(key, Given { value: value.kind, place });
        }
        Some(OpenTable { inner, missing })
    }

    /// Ends a table whose keys were all read, and takes its mistakes over. Was it right?
    pub fn close(&mut self, at: &str, table: OpenTable) -> bool {
        let OpenTable { mut inner, missing } = table;
        inner.refuse_unknown();
        let is_right = inner.mistakes.is_empty() && missing.is_empty();
        for mut mistake in inner.mistakes {
            mistake.key = format!("{at}.{}", mistake.key);
            self.mistakes.push(mistake);
        }
        if !missing.is_empty() {
            self.blame_table(at, format!("has no {}", missing.join(" and no ")));
        }
        is_right
    }

    /// What is wrong with a table as a whole.
    pub fn blame_table(&mut self, at: &str, text: String) {
        let place = self.sources.place_in_file(at);
        let problem = Problem::Conflict(text);
        self.mistakes.push(Mistake { place, key: at.to_owned(), value: None, problem });
    }
}
