//! An incremental scanner: content in any pieces -> literals and includes.

use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::Limits;
use super::tag::attributes;
use crate::store::Include;

/// What was found, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Content that goes out as it is.
    Literal(Bytes),
    /// A place where another response goes in.
    Include(Include),
}

impl Event {
    /// The bytes of a literal.
    pub fn literal(self) -> Option<Bytes> {
        match self {
            Self::Literal(bytes) => Some(bytes),
            Self::Include(_) => None,
        }
    }
}

/// The scanner. It looks at each byte once (a malformed tag twice), holds back at most one tag,
/// and finds the same however its input is cut into pieces.
///
/// What is malformed is text: a tag longer than its bound, with a `<` inside (as XML forbids), or
/// with attributes that are not well-formed. An `<esi:remove>` that is never ended removes the
/// rest.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    /// The bytes of a tag so far.
    held: Vec<u8>,
    state: State,
    /// Within `<esi:remove>`: nothing goes out.
    removing: bool,
    /// Within `<!--esi`: the next `-->` is removed.
    in_comment: bool,
    /// The end tag of the last element that did not end itself.
    expected_end: Option<Tag>,
    includes: usize,
    includes_dropped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// `held` is the beginning of one or more openers.
    Opener,
    /// `held` begins with an opener; looking for the `>` that ends the tag.
    Tag(Open),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    tag: Tag,
    opener_bytes: usize,
    /// Within a value that this byte ends.
    quote: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Include,
    IncludeEnd,
    Remove,
    RemoveEnd,
    Comment,
    CommentEnd,
    Unwrap,
    UnwrapEnd,
}

const OPENERS: [(Tag, &[u8]); 8] = [
    (Tag::Include, b"<esi:include"),
    (Tag::IncludeEnd, b"</esi:include"),
    (Tag::Remove, b"<esi:remove"),
    (Tag::RemoveEnd, b"</esi:remove"),
    (Tag::Comment, b"<esi:comment"),
    (Tag::CommentEnd, b"</esi:comment"),
    (Tag::Unwrap, b"<!--esi"),
    (Tag::UnwrapEnd, b"-->"),
];

impl Parser {
    /// A scanner at the beginning of some content.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: Vec::new(),
            state: State::Text,
            removing: false,
            in_comment: false,
            expected_end: None,
            includes: 0,
            includes_dropped: 0,
        }
    }

    /// Takes the next piece in and appends what is certain by now to `events`. Literals are slices
    /// of `piece`; neighbouring ones are not merged.
    pub fn feed(&mut self, piece: &Bytes, events: &mut Vec<Event>) {
        let mut at = 0;
        while at < piece.len() {
            match self.state {
                State::Text => at = self.text(piece, at, events),
                State::Opener => at = self.opener(piece[at], at, events),
                State::Tag(open) => at = self.tag(open, piece[at], at, events),
            }
        }
    }

    /// The content has ended: what was held back is text.
    pub fn end(&mut self, events: &mut Vec<Event>) {
        while !self.held.is_empty() {
            self.give_up(events);
        }
    }

    /// Includes beyond the bound, which were dropped.
    pub fn includes_dropped(&self) -> usize {
        self.includes_dropped
    }

    /// Text up to the next byte that may begin something.
    fn text(&mut self, piece: &Bytes, from: usize, events: &mut Vec<Event>) -> usize {
        let mut at = from;
        loop {
            let rest = &piece[at..];
            let found = if self.in_comment && !self.removing {
                memchr2(b'<', b'-', rest)
            } else {
                memchr(b'<', rest)
            };
            let Some(found) = found else {
                self.literal(piece.slice(from..), events);
                return piece.len();
            };
            at += found;
            // Almost every `<` is HTML's, which the bytes behind it show at once.
            if self.may_begin(&piece[at..]) {
                self.literal(piece.slice(from..at), events);
                self.held.push(piece[at]);
                self.state = State::Opener;
                return at + 1;
            }
            at += 1;
        }
    }

    /// Does `rest` begin with an opener, as far as it goes?
    fn may_begin(&self, rest: &[u8]) -> bool {
        // Two bytes tell almost every tag of HTML from every opener.
        if let [_, second, third, ..] = rest
            && !matches!((second, third), (b'e', b's') | (b'/', b'e') | (b'!' | b'-', b'-' | b'>'))
        {
            return false;
        }
        OPENERS.iter().any(|&(tag, opener)| {
            let known = opener.len().min(rest.len());
            self.counts(tag) && opener[..known] == rest[..known]
        })
    }

    /// Does this tag mean something in the present state?
    fn counts(&self, tag: Tag) -> bool {
        match tag {
            Tag::RemoveEnd => self.removing,
            Tag::UnwrapEnd => self.in_comment && !self.removing,
            Tag::IncludeEnd | Tag::CommentEnd => self.expected_end == Some(tag) && !self.removing,
            Tag::Include | Tag::Remove | Tag::Comment | Tag::Unwrap => !self.removing,
        }
    }

    fn opener(&mut self, byte: u8, at: usize, events: &mut Vec<Event>) -> usize {
        self.held.push(byte);
        let known = OPENERS
            .iter()
            .find(|(tag, opener)| self.counts(*tag) && opener.starts_with(&self.held))
            .copied();
        let Some((tag, opener)) = known else {
            // The byte itself may begin something: it is looked at again.
            self.held.pop();
            self.give_up(events);
            return at;
        };
        if opener.len() == self.held.len() {
            self.state = State::Tag(Open { tag, opener_bytes: opener.len(), quote: None });
            if tag == Tag::UnwrapEnd {
                self.in_comment = false;
                self.reset();
            }
        }
        at + 1
    }

    fn tag(&mut self, open: Open, byte: u8, at: usize, events: &mut Vec<Event>) -> usize {
        if open.tag == Tag::Unwrap {
            // What follows is looked at as text; `<!--esix` is an ordinary comment.
            if byte.is_ascii_whitespace() || byte == b'<' {
                self.in_comment = true;
                self.reset();
            } else {
                self.give_up(events);
            }
            return at;
        }
        let named = self.held.len() > open.opener_bytes
            || byte.is_ascii_whitespace()
            || matches!(byte, b'/' | b'>');
        if byte == b'<' || !named || self.held.len() >= self.limits.tag_max_bytes {
            self.give_up(events);
            return at;
        }
        self.held.push(byte);
        if byte == b'>' && open.quote.is_none() {
            if !self.complete(open, events) {
                self.give_up(events);
            }
            return at + 1;
        }
        let quote = match (open.quote, byte) {
            (None, b'"' | b'\'') => Some(byte),
            (Some(quote), _) if quote == byte => None,
            (quote, _) => quote,
        };
        self.state = State::Tag(Open { quote, ..open });
        at + 1
    }

    /// A tag has ended; false: it is malformed.
    fn complete(&mut self, open: Open, events: &mut Vec<Event>) -> bool {
        let tag = open.tag;
        let inside = &self.held[open.opener_bytes..self.held.len() - 1];
        if matches!(tag, Tag::IncludeEnd | Tag::RemoveEnd | Tag::CommentEnd) {
            if !inside.trim_ascii().is_empty() {
                return false;
            }
            if tag == Tag::RemoveEnd {
                self.removing = false;
            } else {
                self.expected_end = None;
            }
            self.reset();
            return true;
        }
        let Some(attributes) = attributes(inside) else { return false };
        match (tag, attributes.source) {
            (Tag::Include, Some(source)) if !source.is_empty() => {
                self.expected_end = (!attributes.empty).then_some(Tag::IncludeEnd);
                if self.includes < self.limits.includes_max {
                    self.includes += 1;
                    events.push(Event::Include(Include { source }));
                } else {
                    self.includes_dropped += 1;
                }
            }
            (Tag::Include, _) => return false,
            (Tag::Remove, _) => self.removing = !attributes.empty,
            _ => self.expected_end = (!attributes.empty).then_some(Tag::CommentEnd),
        }
        self.reset();
        true
    }

    /// What is held is no tag, so it is text. There is no `<` behind its first byte, so that only
    /// the end of a wrapping comment can be in it; looking for that goes no deeper than the few
    /// bytes of `-->`.
    fn give_up(&mut self, events: &mut Vec<Event>) {
        let held = Bytes::from(std::mem::take(&mut self.held));
        self.reset();
        let text_bytes = if self.in_comment { 1 } else { held.len() };
        self.literal(held.slice(..text_bytes), events);
        self.feed(&held.slice(text_bytes..), events);
    }

    fn reset(&mut self) {
        self.held.clear();
        self.state = State::Text;
    }

    fn literal(&self, bytes: Bytes, events: &mut Vec<Event>) {
        if !bytes.is_empty() && !self.removing {
            events.push(Event::Literal(bytes));
        }
    }
}

#[cfg(test)]
mod tests;
