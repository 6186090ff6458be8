//! The head of a response as it is kept: serialised once, when it is stored.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::is_framing;
use crate::fields::{Field, Fields};

/// Field lines as HTTP/1.1 sends them, each `name: value` and CRLF, without those that only a
/// connection may write ([`is_framing`]). Cheap to clone: the bytes are shared.
///
/// The lines are all that is kept. HTTP/1.1 sends them as they are; whoever needs names and values
/// reads them out of the lines, which takes as long as to walk through a list of them.
#[derive(Clone)]
pub struct StoredHead {
    /// The lines, and perhaps other things around them.
    bytes: Arc<[u8]>,
    start: u32,
    /// With [`DATED`] where there is a Date among them. Heads are far smaller than 2 GiB.
    end: u32,
}

/// A bit of [`StoredHead::end`]: a field of its own would take eight bytes.
const DATED: u32 = 1 << 31;

impl StoredHead {
    /// Serialises the lines.
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Self {
        let (mut lines, mut has_date) = (Vec::with_capacity(1_024), false);
        for field in fields.into_iter().filter(|field| !is_framing(field)) {
            has_date |= field.is("date");
            field.write_http1(&mut lines);
        }
        let range = 0..lines.len();
        Self::within(lines.into(), range, has_date)
    }

    /// Lines that stand in a larger buffer. Nothing but what [`StoredHead::http1`] gave may stand there.
    pub(crate) fn within(bytes: Arc<[u8]>, lines: Range<usize>, has_date: bool) -> Self {
        let dated = if has_date { DATED } else { 0 };
        Self { bytes, start: lines.start as u32, end: lines.end as u32 | dated }
    }

    /// The lines as HTTP/1.1 sends them.
    pub fn http1(&self) -> &[u8] {
        &self.bytes[self.range()]
    }

    /// Is there a Date among them?
    pub fn has_date(&self) -> bool {
        self.end & DATED != 0
    }

    /// Names and values in order.
    pub fn lines(&self) -> Lines<'_> {
        Lines { rest: self.http1() }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        memchr::memchr_iter(b'\n', self.http1()).count()
    }

    /// Are there no lines?
    pub fn is_empty(&self) -> bool {
        self.http1().is_empty()
    }

    /// The value of the first line of that name. Looks at nothing but beginnings and ends of lines.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        let value = |line: &'_ [u8]| is_of(line, name).then_some(name.len() + 2..line.len() - 2);
        self.whole_lines().find_map(|line| value(line).map(|range| &line[range]))
    }

    /// The same without lines of these names, in a buffer of their own.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut lines = Vec::with_capacity(self.http1().len());
        for line in self.whole_lines() {
            if !names.iter().any(|name| is_of(line, name)) {
                lines.extend_from_slice(line);
            }
        }
        let range = 0..lines.len();
        let has_date = self.has_date() && !names.iter().any(|it| it.eq_ignore_ascii_case("date"));
        Self::within(lines.into(), range, has_date)
    }

    /// The lines with their ends.
    fn whole_lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.http1();
        let mut start = 0;
        memchr::memchr_iter(b'\n', lines).map(move |end| {
            let line = &lines[start..=end];
            start = end + 1;
            line
        })
    }

    /// The lines as fields, whose bytes are slices of these.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let shared = Bytes::from_owner(Arc::clone(&self.bytes)).slice(self.range());
        self.lines().map(move |(name, value)| Field {
            name: shared.slice_ref(name),
            value: shared.slice_ref(value),
        })
    }

    /// The lines as a list.
    pub fn to_fields(&self) -> Fields {
        let mut fields = Fields::with_capacity(self.len());
        fields.extend(self.fields());
        fields
    }

    /// The buffer in which the lines stand, with what else there is.
    pub(crate) fn buffer(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Where in the buffer they stand.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start as usize..(self.end & !DATED) as usize
    }
}

impl PartialEq for StoredHead {
    fn eq(&self, other: &Self) -> bool {
        self.http1() == other.http1()
    }
}

impl Eq for StoredHead {}

impl fmt::Debug for StoredHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StoredHead({:?})", String::from_utf8_lossy(self.http1()))
    }
}

/// Is it a line of that name?
fn is_of(line: &[u8], name: &str) -> bool {
    line.get(name.len()) == Some(&b':')
        && line.len() >= name.len() + 4
        && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

/// Names and values of a [`StoredHead`].
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let name_end = memchr::memchr(b':', self.rest)?;
        let (name, rest) = self.rest.split_at(name_end);
        let rest = rest.get(2..)?;
        let (value, rest) = rest.split_at(memchr::memchr(b'\r', rest)?);
        self.rest = rest.get(2..)?;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_only_a_connection_writes_is_left_out() {
        let lines = [("Content-Length", "1"), ("A", "1"), ("Connection", "x"), ("B", "")];
        let head = StoredHead::new(Fields::from(lines));
        assert_eq!(head.http1(), b"A: 1\r\nB: \r\n");
        assert_eq!((head.len(), head.is_empty(), head.has_date()), (2, false, false));
        assert!(StoredHead::new(Fields::from([("date", "now")])).has_date());
        assert!(StoredHead::new(Fields::new()).is_empty());
    }

    #[test]
    fn lines_are_found_by_their_names_wherever_they_stand() {
        let head =
            StoredHead::new(Fields::from([("Vary", "A: b"), ("ETag", "\"1\""), ("vary", "c")]));
        let buffer: Arc<[u8]> = [b"before", head.http1(), b"after"].concat().into();
        let head = StoredHead::within(buffer, 6..6 + head.http1().len(), true);
        assert_eq!(head.first("VARY"), Some(&b"A: b"[..]));
        assert_eq!(head.first("etag"), Some(&b"\"1\""[..]));
        assert_eq!(head.first("var"), None);
        assert_eq!(head.lines().count(), 3);
        assert!(head.has_date());
    }

    #[test]
    fn lines_are_left_out_by_their_names() {
        let lines = [("Date", "x"), ("B", ""), ("date", "y"), ("Bc", "1"), ("b", "2")];
        let head = StoredHead::new(Fields::from(lines));
        let without = head.without(&["b"]);
        assert_eq!(without.http1(), b"Date: x\r\ndate: y\r\nBc: 1\r\n");
        assert!(without.has_date() && !head.without(&["Date"]).has_date());
        assert!(head.without(&["b", "bc", "date"]).is_empty());
    }

    proptest! {
        #[test]
        fn the_lines_are_read_as_they_were_written(
            lines in prop::collection::vec(("[a-zA-Z-]{1,12}", "[ -~]{0,20}"), 0..12),
        ) {
            let fields: Fields = lines
                .into_iter()
                .map(|(name, value)| Field { name: name.into(), value: value.into() })
                .filter(|field| !is_framing(field))
                .collect();
            let head = StoredHead::new(fields.clone());
            prop_assert_eq!(head.to_fields(), fields.clone());
            prop_assert_eq!(head.len(), fields.len());
            for field in &fields {
                let name = std::str::from_utf8(&field.name).expect("ASCII");
                prop_assert_eq!(head.first(name), fields.first(name).map(|value| &value[..]));
            }
        }
    }
}
