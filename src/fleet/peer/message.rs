//! What peers say to each other: what a node asks for, and what comes back.
//!
//! Numbers are little-endian, texts and lists have their length before them in 32 bits.

use std::time::Duration;

use bytes::{Buf as _, Bytes};

use crate::exchange::Scheme;
use crate::fields::Fields;
use crate::fleet::Due;
use crate::fleet::log::{Position, Token};
use crate::reason::Reason;

/// Fields of a request for a page at most; the listener takes no more either.
const FIELDS_MAX: usize = 1_000;

/// A place in the log. Its number alone would not do: after a failover that lost the log's tail two nodes
/// may mean different entries by it.
pub type Place = Position;

/// How urgently a page is wanted. It travels as one more field of the request, which nodes that do not know it take
/// for any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The admission class, by its name at the node that asks; empty: not told.
    pub class: Bytes,
    /// How many wait there besides who asks.
    pub followers: u16,
    /// Does nobody wait, since they have something stale?
    pub is_refresh: bool,
    /// Is it to be told what PHP took? Rules of that node charge its visitor.
    pub asks_php: bool,
}

/// The field's name.
const WANTED: &str = "Parvis-Wanted";
/// Bytes of a class's name at most, as the settings have it.
const CLASS_MAX_BYTES: usize = 40;

impl Wanted {
    /// `pages 3 refresh php`
    fn to_value(&self) -> Vec<u8> {
        let is_refresh = if self.is_refresh { " refresh" } else { "" };
        let asks_php = if self.asks_php { " php" } else { "" };
        [&self.class[..], format!(" {}{is_refresh}{asks_php}", self.followers).as_bytes()].concat()
    }

    /// `None`: it says something else.
    fn from_value(value: &Bytes) -> Option<Self> {
        let mut parts = value.split(|byte| *byte == b' ');
        let class = parts.next().filter(|class| class.len() <= CLASS_MAX_BYTES)?;
        let followers = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let mut wanted = Self { class: value.slice_ref(class), followers, ..Self::default() };
        for part in parts {
            match part {
                b"refresh" => wanted.is_refresh = true,
                b"php" => wanted.asks_php = true,
                // More of them may be said one day.
                _ => {}
            }
        }
        Some(wanted)
    }
}

/// A page that a node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The primary key, as the node that asks makes it.
    pub key: Bytes,
    /// The target of the request.
    pub target: Bytes,
    /// Its host.
    pub authority: Bytes,
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// The port that it used.
    pub server_port: u16,
    /// Is it a fragment of a page?
    pub is_fragment: bool,
    /// May it be rendered for this, or only be taken from what is stored? What PHP renders by a
    /// visitor's session cannot be rendered elsewhere, since cookies stay.
    pub may_render: bool,
    /// Is a stale page, which there would be served, better than none? Who refreshes has one.
    pub takes_stale: bool,
    /// Up to where the node that asks has applied the log: what comes back must not be older.
    pub place: Place,
    /// The release of the shop there.
    pub release: Bytes,
    /// How urgently it is wanted; `None`: the node that asks does not say.
    pub wanted: Option<Wanted>,
    /// The fields of the request that may be sent. None is what [`Ask::wanted`] travels as.
    pub fields: Fields,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The page.
    Page {
        /// As [`crate::snapshot::record`] has it.
        record: Bytes,
        /// How it will be purged again shortly, in case that it shows what stood before a change.
        echo: Due,
    },
    /// Its response is not one to be stored.
    Uncacheable(Reason),
    /// There is nothing to give.
    Nothing(Why),
}

/// What comes back, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The answer.
    pub answer: Answer,
    /// What PHP took for it there, in whole milliseconds. Told to whom [`Wanted::asks_php`] says that it is asked
    /// for, else zero: nodes that do not know of it could not read it.
    pub php: Duration,
}

/// A question between nodes, with the kind of answer that it has.
pub trait Question: Sized {
    /// Where it is asked.
    const PATH: &'static str;
    /// What comes back.
    type Answer;

    /// As it is sent.
    fn encode(&self) -> Bytes;

    /// Reads what [`Question::encode`] writes.
    fn decode(content: Bytes) -> Option<Self>;

    /// Reads an answer to it.
    fn answer(content: Bytes) -> Option<Self::Answer>;
}

impl Question for Ask {
    const PATH: &'static str = "/page";
    type Answer = Lent;

    fn encode(&self) -> Bytes {
        Self::encode(self)
    }

    fn decode(content: Bytes) -> Option<Self> {
        Self::decode(content)
    }

    fn answer(content: Bytes) -> Option<Lent> {
        Lent::decode(content)
    }
}

/// Why a node gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// It has too much to do.
    Busy = 1,
    /// It has not read the log so far, or cannot prove that it has.
    Behind = 2,
    /// It is of another release.
    Release = 3,
    /// By its settings the request has another key, or is not one to look up.
    Key = 4,
    /// It is not stored there.
    NotStored = 5,
    /// It could not be fetched there.
    Failed = 6,
}

const PAGE: u8 = 1;
const UNCACHEABLE: u8 = 2;
const NOTHING: u8 = 3;
/// Stands before one of these: what PHP took for it.
const TOOK: u8 = 4;
/// Bytes of that.
const TOOK_BYTES: usize = 5;

const HTTPS: u8 = 1;
const FRAGMENT: u8 = 2;
const MAY_RENDER: u8 = 4;
const TAKES_STALE: u8 = 8;

impl Ask {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(512);
        let flags = [
            (HTTPS, self.scheme == Scheme::Https),
            (FRAGMENT, self.is_fragment),
            (MAY_RENDER, self.may_render),
            (TAKES_STALE, self.takes_stale),
        ];
        out.push(flags.iter().filter(|flag| flag.1).map(|flag| flag.0).sum());
        out.extend_from_slice(&self.server_port.to_le_bytes());
        put_place(&mut out, self.place);
        for text in [&self.key, &self.target, &self.authority, &self.release] {
            put(&mut out, text);
        }
        let wanted = self.wanted.as_ref().map(Wanted::to_value);
        let number = self.fields.len() + usize::from(wanted.is_some());
        out.extend_from_slice(&(number as u32).to_le_bytes());
        for field in &self.fields {
            put(&mut out, &field.name);
            put(&mut out, &field.value);
        }
        if let Some(wanted) = wanted {
            put(&mut out, WANTED.as_bytes());
            put(&mut out, &wanted);
        }
        out.into()
    }

    /// Reads what [`Ask::encode`] writes.
    pub fn decode(mut content: Bytes) -> Option<Self> {
        let flags = content.try_get_u8().ok()?;
        let server_port = content.try_get_u16_le().ok()?;
        let place = take_place(&mut content)?;
        let mut text = || take(&mut content);
        let (key, target, authority, release) = (text()?, text()?, text()?, text()?);
        let number = content.try_get_u32_le().ok()? as usize;
        if number > FIELDS_MAX {
            return None;
        }
        let mut fields = Fields::with_capacity(number);
        for _ in 0..number {
            fields.push(take(&mut content)?, take(&mut content)?);
        }
        let wanted = fields.first(WANTED).and_then(Wanted::from_value);
        fields.remove(WANTED);
        content.is_empty().then_some(Self {
            key,
            target,
            authority,
            scheme: if flags & HTTPS != 0 { Scheme::Https } else { Scheme::Http },
            server_port,
            is_fragment: flags & FRAGMENT != 0,
            may_render: flags & MAY_RENDER != 0,
            takes_stale: flags & TAKES_STALE != 0,
            place,
            release,
            wanted,
            fields,
        })
    }
}

impl Lent {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        let record_bytes = match &self.answer {
            Answer::Page { record, .. } => record.len(),
            Answer::Uncacheable(_) | Answer::Nothing(_) => 0,
        };
        let mut out = Vec::with_capacity(TOOK_BYTES + WORDS_MAX_BYTES + record_bytes);
        if !self.php.is_zero() {
            out.push(TOOK);
            let milliseconds = u32::try_from(self.php.as_millis()).unwrap_or(u32::MAX);
            out.extend_from_slice(&milliseconds.to_le_bytes());
        }
        self.answer.put(&mut out);
        out.into()
    }

    /// Reads what [`Lent::encode`] writes.
    pub fn decode(mut content: Bytes) -> Option<Self> {
        let mut php = Duration::ZERO;
        if content.first() == Some(&TOOK) {
            content.advance(1);
            let milliseconds = content.try_get_u32_le().ok().filter(|number| *number > 0)?;
            php = Duration::from_millis(milliseconds.into());
        }
        Some(Self { answer: Answer::decode(content)?, php })
    }
}

/// Bytes of an answer without its record.
const WORDS_MAX_BYTES: usize = 64;

impl Answer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Page { record, echo } => {
                out.push(PAGE);
                put_due(out, *echo);
                out.extend_from_slice(record);
            }
            Self::Uncacheable(reason) => {
                out.push(UNCACHEABLE);
                out.extend_from_slice(reason.as_str().as_bytes());
            }
            Self::Nothing(why) => out.extend_from_slice(&[NOTHING, *why as u8]),
        }
    }

    fn decode(mut content: Bytes) -> Option<Self> {
        match content.try_get_u8().ok()? {
            PAGE => {
                let echo = take_due(&mut content)?;
                Some(Self::Page { record: content, echo })
            }
            UNCACHEABLE => {
                let word = std::str::from_utf8(&content).ok()?;
                let reason = Reason::ALL.iter().find(|reason| reason.as_str() == word);
                reason.copied().map(Self::Uncacheable)
            }
            NOTHING => {
                let why = Why::of_number(content.try_get_u8().ok()?)?;
                content.is_empty().then_some(Self::Nothing(why))
            }
            _ => None,
        }
    }
}

impl Why {
    pub(super) const ALL: [Self; 6] =
        [Self::Busy, Self::Behind, Self::Release, Self::Key, Self::NotStored, Self::Failed];

    pub(super) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|why| *why as u8 == number)
    }
}

/// What of an answer has arrived: it comes as pieces of any size. While a page is being made a byte
/// comes now and then, so that a node that hangs is told from one that works.
#[derive(Debug)]
pub struct Arriving {
    bytes: Vec<u8>,
    bytes_max: usize,
}

/// Comes while there is no answer yet.
pub const WORKING: u8 = 0;
/// Comes before the answer: then its length, its seal, its content.
const FINAL: u8 = 1;

/// An answer too long to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Arriving {
    /// Nothing yet.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Another piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        let rest = if self.bytes.is_empty() {
            let working = piece.iter().take_while(|byte| **byte == WORKING).count();
            &piece[working..]
        } else {
            piece
        };
        if self.bytes.len() + rest.len() > self.bytes_max.saturating_add(HEAD_BYTES) {
            return Err(TooLong);
        }
        self.bytes.extend_from_slice(rest);
        Ok(())
    }

    /// Seal and content, where it is there in whole.
    pub fn whole(self) -> Option<([u8; super::seal::SEAL_BYTES], Bytes)> {
        let mut bytes = Bytes::from(self.bytes);
        if bytes.try_get_u8().ok()? != FINAL {
            return None;
        }
        let length = bytes.try_get_u32_le().ok()? as usize;
        let mut seal = [0; super::seal::SEAL_BYTES];
        bytes.try_copy_to_slice(&mut seal).ok()?;
        (bytes.len() == length).then_some((seal, bytes))
    }
}

const HEAD_BYTES: usize = 1 + 4 + super::seal::SEAL_BYTES;

/// What stands before an answer's content.
pub fn answer_head(content: &[u8], seal: &[u8; super::seal::SEAL_BYTES]) -> Bytes {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.push(FINAL);
    head.extend_from_slice(&(content.len() as u32).to_le_bytes());
    head.extend_from_slice(seal);
    head.into()
}

pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32_le().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}

pub(super) fn put_due(out: &mut Vec<u8>, due: Due) {
    let (kind, after) = match due {
        Due::Nothing => (0, Duration::ZERO),
        Due::Soft(after) => (1, after),
        Due::Hard(after) => (2, after),
    };
    out.push(kind);
    let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    out.extend_from_slice(&after.to_le_bytes());
}

pub(super) fn take_due(from: &mut Bytes) -> Option<Due> {
    let kind = from.try_get_u8().ok()?;
    let after = Duration::from_millis(from.try_get_u32_le().ok()?.into());
    match kind {
        0 if after.is_zero() => Some(Due::Nothing),
        1 => Some(Due::Soft(after)),
        2 => Some(Due::Hard(after)),
        _ => None,
    }
}

pub(super) fn put_place(out: &mut Vec<u8>, place: Place) {
    out.extend_from_slice(&place.epoch.bytes());
    out.extend_from_slice(&place.sequence.to_le_bytes());
    out.push(u8::from(place.entry.is_some()));
    out.extend_from_slice(&place.entry.map_or([0; 16], Token::bytes));
}

pub(super) fn take_place(from: &mut Bytes) -> Option<Place> {
    let (mut epoch, mut entry) = ([0; 16], [0; 16]);
    from.try_copy_to_slice(&mut epoch).ok()?;
    let sequence = from.try_get_u64_le().ok()?;
    let has_entry = from.try_get_u8().ok()?;
    from.try_copy_to_slice(&mut entry).ok()?;
    let entry = match has_entry {
        0 if entry == [0; 16] => None,
        1 => Some(Token::new(entry)),
        _ => return None,
    };
    Some(Position { epoch: Token::new(epoch), sequence, entry })
}

#[cfg(test)]
mod tests;
