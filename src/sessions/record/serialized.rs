//! PHP's serialized values, read in one pass without a tree: what nobody asks for is skipped.
//!
//! Source: <https://www.php.net/manual/en/function.serialize.php> and what PHP 8.2 writes.

use super::Bounds;

/// Why a record tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// What is packed is damaged, or packed in an unknown way.
    #[error("packed in an unknown way, or damaged")]
    Packed,
    /// It is no session as PHP writes one.
    #[error("no session as PHP writes one")]
    Malformed,
    /// It has more bytes or values, or goes deeper, than the bounds say.
    #[error("larger or deeper than allowed")]
    TooLarge,
}

/// A value, or the beginning of one that has values in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    Null,
    Integer(i64),
    Text(&'a [u8]),
    /// A boolean, a float, an enum's case, an object that reads itself.
    Other,
    /// Something that stands elsewhere in the record.
    Reference,
    /// So many pairs of key and value follow, and a closing brace.
    Array(usize),
    Object(usize),
}

impl Head<'_> {
    /// The number that an id is, written as a number or as a text; `None`: there is no id.
    pub(super) fn number(&self) -> Result<Option<i64>, Unreadable> {
        match self {
            Head::Null | Head::Text(b"") => Ok(None),
            Head::Integer(number) => Ok(Some(*number)),
            Head::Text(text) => decimal(text).map(Some),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// Is there an id of something?
    pub(super) fn is_id(&self) -> Result<bool, Unreadable> {
        Ok(self.number()?.is_some_and(|id| id > 0))
    }
}

/// Is the whole one array (`session.serialize_handler` is `php_serialize`), and not names with values?
pub(super) fn is_one_array(content: &[u8]) -> bool {
    content.strip_prefix(b"a:").is_some_and(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && rest[digits..].starts_with(b":{")
    })
}

/// A place in serialized values.
pub(super) struct Scanner<'a> {
    content: &'a [u8],
    values_left: usize,
    depth_max: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(content: &'a [u8], bounds: &Bounds) -> Self {
        Self { content, values_left: bounds.values_max, depth_max: bounds.depth_max }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.content.is_empty()
    }

    /// The name before a value of PHP's own session format; `None`: one that has no value.
    pub(super) fn name(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let end = memchr::memchr(b'|', self.content).ok_or(Unreadable::Malformed)?;
        let name = self.take(end)?;
        self.take(1)?;
        self.count()?;
        Ok((!name.starts_with(b"!")).then_some(name))
    }

    /// The head of an array.
    pub(super) fn array(&mut self) -> Result<usize, Unreadable> {
        match self.head()? {
            Head::Array(entries) => Ok(entries),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// The key of a pair; that of a list counts as no text.
    pub(super) fn key(&mut self) -> Result<&'a [u8], Unreadable> {
        match self.head()? {
            Head::Text(key) => Ok(key),
            Head::Integer(_) => Ok(b""),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// The end of an array or object.
    pub(super) fn close(&mut self) -> Result<(), Unreadable> {
        self.expect(b"}")
    }

    /// The next value, or its beginning.
    pub(super) fn head(&mut self) -> Result<Head<'a>, Unreadable> {
        self.count()?;
        match self.take(2)? {
            b"N;" => Ok(Head::Null),
            b"b:" | b"d:" => self.until(b';').map(|_| Head::Other),
            b"i:" => Ok(Head::Integer(decimal(self.until(b';')?)?)),
            b"r:" | b"R:" => self.until(b';').map(|_| Head::Reference),
            b"s:" => {
                let text = self.quoted()?;
                self.expect(b";")?;
                Ok(Head::Text(text))
            }
            b"E:" => {
                self.quoted()?;
                self.expect(b";")?;
                Ok(Head::Other)
            }
            b"a:" => Ok(Head::Array(self.entries()?)),
            b"O:" => {
                self.quoted()?;
                self.expect(b":")?;
                Ok(Head::Object(self.entries()?))
            }
            // An object with a format of its own, whose length is known.
            b"C:" => {
                self.quoted()?;
                self.expect(b":")?;
                let length = self.length(b':')?;
                self.expect(b"{")?;
                self.take(length)?;
                self.close()?;
                Ok(Head::Other)
            }
            _ => Err(Unreadable::Malformed),
        }
    }

    /// A whole value.
    pub(super) fn skip(&mut self) -> Result<(), Unreadable> {
        let head = self.head()?;
        self.skip_rest(&head)
    }

    /// What follows a head that was read. Without recursion: the depth is somebody else's choice.
    pub(super) fn skip_rest(&mut self, head: &Head) -> Result<(), Unreadable> {
        let mut open = Vec::new();
        let (Head::Array(entries) | Head::Object(entries)) = *head else { return Ok(()) };
        open.push(entries);
        while let Some(left) = open.last_mut() {
            if *left == 0 {
                open.pop();
                self.close()?;
                continue;
            }
            *left -= 1;
            self.key()?;
            if let Head::Array(entries) | Head::Object(entries) = self.head()? {
                if open.len() >= self.depth_max {
                    return Err(Unreadable::TooLarge);
                }
                open.push(entries);
            }
        }
        Ok(())
    }

    fn entries(&mut self) -> Result<usize, Unreadable> {
        let entries = self.length(b':')?;
        self.expect(b"{")?;
        // Each takes some bytes; what claims to have more ends here.
        if entries > self.content.len() { Err(Unreadable::Malformed) } else { Ok(entries) }
    }

    /// `LENGTH:"BYTES"`
    fn quoted(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.length(b':')?;
        self.expect(b"\"")?;
        let text = self.take(length)?;
        self.expect(b"\"")?;
        Ok(text)
    }

    fn length(&mut self, end: u8) -> Result<usize, Unreadable> {
        usize::try_from(decimal(self.until(end)?)?).map_err(|_| Unreadable::Malformed)
    }

    /// What comes before the byte `end`, which is taken too. Numbers alone are read so.
    fn until(&mut self, end: u8) -> Result<&'a [u8], Unreadable> {
        const NUMBER_BYTES_MAX: usize = 40;
        let near = &self.content[..self.content.len().min(NUMBER_BYTES_MAX)];
        let at = memchr::memchr(end, near).ok_or(Unreadable::Malformed)?;
        let text = self.take(at)?;
        self.take(1)?;
        Ok(text)
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        self.content = self.content.strip_prefix(bytes).ok_or(Unreadable::Malformed)?;
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.content.split_at_checked(bytes).ok_or(Unreadable::Malformed)?;
        self.content = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<(), Unreadable> {
        self.values_left = self.values_left.checked_sub(1).ok_or(Unreadable::TooLarge)?;
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Result<i64, Unreadable> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Unreadable::Malformed)
}
