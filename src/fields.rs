//! Header fields as they came: order, case and duplicates are kept.
//!
//! Values, and names that few send, are slices of the buffer in which the head arrived, so that a head
//! costs one allocation for its bytes and one for the list. Names compare without case (RFC 9110 5.1).

pub mod accept_encoding;
mod names;
pub mod range;
pub mod representation;
pub mod validators;
pub mod weight;

use bytes::Bytes;

pub use names::{Names, well_known};

/// One field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name in its original case.
    pub name: Bytes,
    /// The value without leading and trailing white space.
    pub value: Bytes,
}

impl Field {
    /// Does this field have that name, without regard to case?
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Appends the line as HTTP/1.1 sends it.
    pub fn write_http1(&self, out: &mut Vec<u8>) {
        for part in [&self.name[..], b": ", &self.value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// An ordered list of field lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<Field>);

impl Fields {
    /// An empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty list with room for `lines` lines.
    pub fn with_capacity(lines: usize) -> Self {
        Self(Vec::with_capacity(lines))
    }

    /// Appends a line.
    pub fn push(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.0.push(Field { name: name.into(), value: value.into() });
    }

    /// Appends a line whose name is known at build time.
    pub fn push_static(&mut self, name: &'static str, value: impl Into<Bytes>) {
        self.push(Bytes::from_static(name.as_bytes()), value);
    }

    /// Replaces every line of that name by one.
    pub fn set(&mut self, name: &'static str, value: impl Into<Bytes>) {
        self.remove(name);
        self.push_static(name, value);
    }

    /// The value of the first line of that name.
    pub fn first(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|field| field.is(name)).map(|field| &field.value)
    }

    /// The value of the first line of that name, where it is UTF-8.
    pub fn first_str(&self, name: &str) -> Option<&str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all lines of that name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> + 'a {
        self.0.iter().filter(move |field| field.is(name)).map(|field| &field.value)
    }

    /// Is there a line of that name?
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Removes every line of that name and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.0.len();
        self.0.retain(|field| !field.is(name));
        before - self.0.len()
    }

    /// Keeps the lines for which `keep` says yes.
    pub fn retain(&mut self, keep: impl FnMut(&Field) -> bool) {
        self.0.retain(keep);
    }

    /// The elements of a comma separated list over all lines of that name (RFC 9110 5.6.1),
    /// trimmed, without empty ones. Quoted strings are not taken apart: use it for token lists.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// The lines in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.0.iter()
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Are there no lines?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes the lines take on an HTTP/1.1 wire: `name: value CRLF`.
    pub fn wire_bytes(&self) -> usize {
        self.0.iter().map(|field| field.name.len() + field.value.len() + 4).sum()
    }

    /// Appends the lines as HTTP/1.1 sends them.
    pub fn write_http1(&self, out: &mut Vec<u8>) {
        for field in &self.0 {
            field.write_http1(out);
        }
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Fields {
    type Item = Field;
    type IntoIter = std::vec::IntoIter<Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(lines: I) -> Self {
        Self(lines.into_iter().collect())
    }
}

impl Extend<Field> for Fields {
    fn extend<I: IntoIterator<Item = Field>>(&mut self, lines: I) {
        self.0.extend(lines);
    }
}

impl<const N: usize> From<[(&'static str, &str); N]> for Fields {
    fn from(lines: [(&'static str, &str); N]) -> Self {
        let mut fields = Self::with_capacity(N);
        for (name, value) in lines {
            fields.push_static(name, value.to_owned());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_lines_keep_their_order() {
        let mut fields = Fields::from([("Set-Cookie", "a=1"), ("X-A", "b"), ("set-cookie", "c=2")]);
        let cookies: Vec<_> = fields.all("SET-COOKIE").cloned().collect();
        assert_eq!(cookies, ["a=1", "c=2"]);
        assert_eq!(fields.remove("Set-cookie"), 2);
        assert_eq!(fields.len(), 1);
    }

    #[test]
    fn a_list_spans_lines_and_skips_empty_elements() {
        let fields = Fields::from([("Vary", " a ,, b"), ("vary", "c,")]);
        let names: Vec<_> = fields.list("vary").collect();
        assert_eq!(names, [b"a", b"b", b"c"]);
    }

    #[test]
    fn the_wire_size_is_what_is_written() {
        let fields = Fields::from([("Vary", "a"), ("X-B", "")]);
        let mut out = Vec::new();
        fields.write_http1(&mut out);
        assert_eq!(out, b"Vary: a\r\nX-B: \r\n");
        assert_eq!(out.len(), fields.wire_bytes());
    }
}
