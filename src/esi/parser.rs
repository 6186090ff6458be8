//! An incremental scanner: content in any pieces -> literals and includes.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use memchr::{memchr, memchr2, memrchr};

use super::Limits;
use super::mistakes::{Mistake, Mistakes};
use super::tag::{attributes, well_formed_bytes};
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

/// The scanner. It looks at each byte once (at what turns out to be no tag, or not removed, twice),
/// holds back at most one tag and the content of one `<esi:remove>`, and finds the same however its
/// input is cut into pieces.
///
/// A tag begins with `<esi:` or `</esi:`, a name, and then white space, `/` or `>`; what begins
/// otherwise (`a<esi:b)` in a script) is text. A tag that is well-formed ends at the `>` outside of
/// its quotes. One that is not, or is no ESI, is a [`Mistake`] and left out:
/// - up to its first `>`, in quotes or not, as Varnish does;
/// - where a `<`, a `-->` or the end comes before that, the name and the well-formed attributes
///   alone: what follows is text, so that no markup and no script is lost;
/// - where it is longer than its bound, up to the first of `>`, `<` and `-->`.
///
/// An `<esi:remove>` that is not ended within its bound is left out as a tag, its content is shown,
/// and no further one is believed.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    /// The bytes of a tag so far.
    held: Vec<u8>,
    state: State,
    /// Within `<esi:remove>`: nothing goes out, it is held back here.
    removed: Option<Vec<u8>>,
    /// An `<esi:remove>` had no end.
    shows_removed: bool,
    /// Within `<!--esi`: the next `-->` is removed.
    in_comment: bool,
    /// The element whose tag did not end itself last.
    expected_end: Option<Element>,
    includes: usize,
    mistakes: Mistakes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// `held` is the beginning of one or more openers.
    Opener,
    /// `held` begins with `<esi:` or `</esi:`, and a part of a name.
    Name(Open),
    /// `held` begins with a tag's name; looking for the `>` that ends it.
    Tag(Open),
    /// Within a tag that is too long; so many hyphens came last.
    Skip {
        hyphens: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    is_end: bool,
    /// Bytes up to the name, then with it.
    name_end: usize,
    /// Within a value that this byte ends.
    quote: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Include,
    Remove,
    Comment,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    Start,
    End,
    Unwrap,
    UnwrapEnd,
}

const OPENERS: [(Opener, &[u8]); 4] = [
    (Opener::Start, b"<esi:"),
    (Opener::End, b"</esi:"),
    (Opener::Unwrap, b"<!--esi"),
    (Opener::UnwrapEnd, b"-->"),
];
/// What all openers but the end of a comment have in them, and what may stand before it there.
static IN_OPENERS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"esi"));
const BEFORE: [&[u8]; 3] = [b"<", b"</", b"<!--"];
/// The longest beginning of these openers that does not have it in whole.
const BEFORE_MAX_BYTES: usize = b"<!--es".len();

impl Parser {
    /// A scanner at the beginning of some content.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: Vec::new(),
            state: State::Text,
            removed: None,
            shows_removed: false,
            in_comment: false,
            expected_end: None,
            includes: 0,
            mistakes: Mistakes::default(),
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
                State::Name(open) => at = self.name(open, piece[at], at, events),
                State::Tag(open) => at = self.tag(open, piece[at], at, events),
                State::Skip { hyphens } => at = self.skip(hyphens, piece[at], at, events),
            }
            if self.removed.as_ref().is_some_and(|it| it.len() > self.limits.remove_max_bytes) {
                self.show_removed(events);
            }
        }
    }

    /// The content has ended: what was held back is text, but for a tag that is not closed.
    pub fn end(&mut self, events: &mut Vec<Event>) {
        loop {
            match self.state {
                State::Tag(open) => self.leave_out(open, Mistake::Unclosed, events),
                State::Opener | State::Name(_) => self.give_up(events),
                State::Text | State::Skip { .. } if self.removed.is_some() => {
                    self.show_removed(events);
                }
                State::Text | State::Skip { .. } => break,
            }
        }
        if std::mem::take(&mut self.in_comment) {
            self.mistakes.push(Mistake::Unclosed);
        }
    }

    /// What was wrong so far.
    pub fn mistakes(&self) -> Mistakes {
        self.mistakes
    }

    /// Text up to the next byte that may begin something.
    fn text(&mut self, piece: &Bytes, from: usize, events: &mut Vec<Event>) -> usize {
        let rest = &piece[from..];
        let ends_comment = self.counts(Opener::UnwrapEnd);
        let found = if ends_comment { self.opener_in_comment(rest) } else { self.opener_in(rest) };
        let Some(found) = found else {
            self.literal(piece.slice(from..), events);
            return piece.len();
        };
        let at = from + found;
        self.literal(piece.slice(from..at), events);
        self.held.push(piece[at]);
        self.state = State::Opener;
        at + 1
    }

    /// Where an opener begins that is no end of a comment. A page has a `<` every few bytes, and
    /// `esi` hardly ever, so it is the latter that is looked for; the end of the piece may cut it.
    fn opener_in(&self, rest: &[u8]) -> Option<usize> {
        for found in IN_OPENERS.find_iter(rest) {
            let before = &rest[..found];
            let begins = |opener: &&[u8]| before.ends_with(opener);
            let at = BEFORE.iter().find(|opener| begins(opener)).map(|opener| found - opener.len());
            if at.is_some_and(|at| self.may_begin(&rest[at..])) {
                return at;
            }
        }
        let last = rest.len().saturating_sub(BEFORE_MAX_BYTES);
        let at = last + memrchr(b'<', &rest[last..])?;
        self.may_begin(&rest[at..]).then_some(at)
    }

    /// As [`Parser::opener_in`], or where the end of the comment begins.
    fn opener_in_comment(&self, rest: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            at += memchr2(b'<', b'-', &rest[at..])?;
            if self.may_begin(&rest[at..]) {
                return Some(at);
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

    /// Does this opener mean something in the present state?
    fn counts(&self, opener: Opener) -> bool {
        match opener {
            Opener::End => true,
            Opener::Start | Opener::Unwrap => self.removed.is_none(),
            Opener::UnwrapEnd => self.in_comment && self.removed.is_none(),
        }
    }

    fn opener(&mut self, byte: u8, at: usize, events: &mut Vec<Event>) -> usize {
        if self.held == b"<!--esi" {
            // What follows is looked at as text; `<!--esix` is an ordinary comment.
            if byte.is_ascii_whitespace() || byte == b'<' {
                self.in_comment = true;
                self.reset();
            } else {
                self.give_up(events);
            }
            return at;
        }
        self.held.push(byte);
        let known = OPENERS
            .iter()
            .find(|(opener, text)| self.counts(*opener) && text.starts_with(&self.held))
            .copied();
        let Some((opener, text)) = known else {
            // The byte itself may begin something: it is looked at again.
            self.held.pop();
            self.give_up(events);
            return at;
        };
        if text.len() == self.held.len() {
            let is_end = opener == Opener::End;
            match opener {
                Opener::Start | Opener::End => {
                    self.state = State::Name(Open { is_end, name_end: text.len(), quote: None });
                }
                Opener::Unwrap => {}
                Opener::UnwrapEnd => {
                    self.in_comment = false;
                    self.reset();
                }
            }
        }
        at + 1
    }

    fn name(&mut self, open: Open, byte: u8, at: usize, events: &mut Vec<Event>) -> usize {
        let name_end = self.held.len();
        let is_first = name_end == open.name_end;
        // Hyphens, which XML allows here, would take in the end of a comment.
        let goes_on =
            if is_first { byte.is_ascii_alphabetic() } else { byte.is_ascii_alphanumeric() };
        if goes_on && name_end < self.limits.tag_max_bytes {
            self.held.push(byte);
            return at + 1;
        }
        let ends = !is_first && (byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'));
        // Within what is removed its end alone means something.
        let passes = self.removed.is_some() && !(open.is_end && self.held.ends_with(b":remove"));
        if ends && !passes {
            self.state = State::Tag(Open { name_end, ..open });
        } else {
            self.give_up(events);
        }
        at
    }

    fn tag(&mut self, open: Open, byte: u8, at: usize, events: &mut Vec<Event>) -> usize {
        if byte == b'<' {
            self.leave_out(open, Mistake::Unclosed, events);
            return at;
        }
        if self.held.len() >= self.limits.tag_max_bytes {
            self.leave_out(open, Mistake::TooLong, events);
            return at;
        }
        self.held.push(byte);
        if byte == b'>' && open.quote.is_none() {
            if !self.complete(open, events) {
                self.leave_out(open, Mistake::Malformed, events);
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
        let inside = &self.held[open.name_end..self.held.len() - 1];
        let element = element(&self.held[..open.name_end]);
        if open.is_end {
            if !inside.trim_ascii().is_empty() {
                return false;
            }
            self.end_tag(element);
            self.reset();
            return true;
        }
        let Some(attributes) = attributes(inside) else { return false };
        let has_content = !attributes.empty;
        match element {
            Element::Include => {
                self.expected_end = has_content.then_some(element);
                let mut include = Include::new(attributes.source.unwrap_or_default());
                include.alternative = attributes.alternative.filter(|it| !it.is_empty());
                include.continues = attributes.continues;
                self.include(include, events);
            }
            Element::Remove if self.shows_removed => self.mistakes.push(Mistake::Unclosed),
            Element::Remove => self.removed = has_content.then(Vec::new),
            Element::Comment => self.expected_end = has_content.then_some(element),
            Element::Unknown => self.mistakes.push(Mistake::UnknownElement),
        }
        self.reset();
        true
    }

    fn include(&mut self, include: Include, events: &mut Vec<Event>) {
        if include.source.is_empty() {
            self.mistakes.push(Mistake::NoSource);
        } else if self.includes >= self.limits.includes_max {
            self.mistakes.push(Mistake::TooManyIncludes);
        } else {
            self.includes += 1;
            events.push(Event::Include(include));
        }
    }

    fn end_tag(&mut self, element: Element) {
        if self.removed.take().is_some() {
            return;
        }
        if element == Element::Unknown {
            self.mistakes.push(Mistake::UnknownElement);
        } else if self.expected_end == Some(element) {
            self.expected_end = None;
        } else {
            self.mistakes.push(Mistake::UnexpectedEnd);
        }
    }

    /// The tag that is held is wrong. There is no `<` behind its first byte.
    fn leave_out(&mut self, open: Open, mistake: Mistake, events: &mut Vec<Event>) {
        let held = Bytes::from(std::mem::take(&mut self.held));
        self.reset();
        if self.removed.is_some() {
            // A wrong end of what is removed ends nothing.
            return self.literal(held, events);
        }
        let inside = &held[open.name_end..];
        let close = memchr(b'>', inside).filter(|&close| !inside[..close].ends_with(b"--"));
        let is_closed = close.is_some() && mistake == Mistake::Unclosed;
        self.mistakes.push(if is_closed { Mistake::Malformed } else { mistake });
        let left_out = match close {
            Some(close) => close + 1,
            None if mistake == Mistake::TooLong && memchr(b'>', inside).is_none() => {
                let hyphens = inside.iter().rev().take(2).take_while(|&&byte| byte == b'-');
                self.state = State::Skip { hyphens: hyphens.count() as u8 };
                return;
            }
            None => well_formed_bytes(inside),
        };
        // The end of a wrapping comment may be in it.
        self.feed(&held.slice(open.name_end + left_out..), events);
    }

    /// The rest of a tag that is too long.
    fn skip(&mut self, hyphens: u8, byte: u8, at: usize, events: &mut Vec<Event>) -> usize {
        match byte {
            b'<' => self.reset(),
            b'>' => {
                self.reset();
                if hyphens >= 2 {
                    self.feed(&Bytes::from_static(b"-->"), events);
                }
                return at + 1;
            }
            _ => {
                let hyphens = if byte == b'-' { (hyphens + 1).min(2) } else { 0 };
                self.state = State::Skip { hyphens };
                return at + 1;
            }
        }
        at
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

    /// What was taken for removed has no end: it is looked at once more, as what follows its tag.
    fn show_removed(&mut self, events: &mut Vec<Event>) {
        let Some(removed) = self.removed.take() else { return };
        self.mistakes.push(Mistake::Unclosed);
        self.shows_removed = true;
        let held = Bytes::from(std::mem::take(&mut self.held));
        self.reset();
        self.feed(&removed.into(), events);
        self.feed(&held, events);
    }

    fn reset(&mut self) {
        self.held.clear();
        self.state = State::Text;
    }

    fn literal(&mut self, bytes: Bytes, events: &mut Vec<Event>) {
        match &mut self.removed {
            Some(removed) => removed.extend_from_slice(&bytes),
            None if bytes.is_empty() => {}
            None => events.push(Event::Literal(bytes)),
        }
    }
}

/// The element of a tag's beginning, `<esi:NAME` or `</esi:NAME`.
fn element(opening: &[u8]) -> Element {
    let colon = memchr(b':', opening).map_or(0, |colon| colon + 1);
    match &opening[colon..] {
        b"include" => Element::Include,
        b"remove" => Element::Remove,
        b"comment" => Element::Comment,
        _ => Element::Unknown,
    }
}

#[cfg(test)]
mod tests;
