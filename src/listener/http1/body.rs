//! The content of a request, taken out of its framing strictly, without I/O.
//!
//! RFC 9112 7.1: `size [extensions] CRLF data CRLF ... 0 CRLF [trailers] CRLF`. White space
//! around sizes, bare LF and line folding are refused; extensions and trailers are bounded, read
//! for their syntax and dropped.

use bytes::{Buf, Bytes, BytesMut};

use super::head::{is_forbidden_in_value, is_token_byte};
use crate::body::BodyError;

/// Hexadecimal digits of a chunk size; 16 of them fill 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of all chunk extensions of a message together.
const EXTENSIONS_MAX_BYTES: u32 = 4 << 10;
/// Bytes of all trailer lines together.
const TRAILERS_MAX_BYTES: u32 = 8 << 10;
/// Pieces smaller than this are copied together, so that a client who sends tiny chunks does not
/// make us keep a list entry for each.
const PIECE_MIN_BYTES: usize = 2 << 10;

/// How the content of a request is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes, not zero.
    Length(u64),
    /// By the chunked coding.
    Chunked,
}

/// What is wrong with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The chunked coding is broken.
    #[error("malformed chunked content")]
    Malformed,
    /// It is larger than allowed.
    #[error("content larger than {limit} bytes")]
    TooLarge {
        /// The bound in bytes.
        limit: u64,
    },
}

impl From<BodyFault> for BodyError {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Malformed => Self::Malformed,
            BodyFault::TooLarge { limit } => Self::TooLarge { limit },
        }
    }
}

/// What the next bytes of the input are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// So many bytes of framing come first.
    pub framing_bytes: usize,
    /// Then so many of content.
    pub content_bytes: usize,
}

/// What there was to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Content.
    Piece(Bytes),
    /// Nothing until more arrives.
    NeedMore,
    /// The content is complete.
    End,
}

/// Takes content out of its framing.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    state: State,
    content_bytes: u64,
    content_max_bytes: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain { left: u64 },
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLineFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    End,
}

impl Decoder {
    /// For content with that framing, of at most `content_max_bytes`.
    pub fn new(framing: Framing, content_max_bytes: u64) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(left) => State::Plain { left },
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self { state, content_bytes: 0, content_max_bytes, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// Has the end been seen?
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// The bytes of content that are still to come, where they are known.
    pub fn remaining_bytes(&self) -> Option<u64> {
        match self.state {
            State::Plain { left } => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Reads on. Everything up to the returned step's end counts as read; a step without any
    /// bytes means that the input is used up or the content is complete.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyFault> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            let available = (input.len() - at) as u64;
            match self.state {
                State::End => break,
                State::Plain { left } => {
                    if self.content_bytes.saturating_add(left) > self.content_max_bytes {
                        return Err(BodyFault::TooLarge { limit: self.content_max_bytes });
                    }
                    let taken = left.min(available);
                    self.content_bytes += taken;
                    self.state = match left - taken {
                        0 => State::End,
                        left => State::Plain { left },
                    };
                    return Ok(Step { framing_bytes: at, content_bytes: taken as usize });
                }
                State::Data { left } => {
                    let taken = left.min(available);
                    self.state = match left - taken {
                        0 => State::DataReturn,
                        left => State::Data { left },
                    };
                    return Ok(Step { framing_bytes: at, content_bytes: taken as usize });
                }
                _ => self.state = self.framing_byte(byte)?,
            }
            at += 1;
        }
        Ok(Step { framing_bytes: at, content_bytes: 0 })
    }

    /// The state after one byte of framing.
    fn framing_byte(&mut self, byte: u8) -> Result<State, BodyFault> {
        let next = match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(BodyFault::Malformed);
                }
                State::Size { size: size << 4 | hexadecimal(byte), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BodyFault::Malformed),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => {
                State::SizeLineFeed { size }
            }
            (State::Size { size, .. }, b';') => self.extension(size)?,
            (State::Extension { size }, _) if !is_forbidden_in_value(byte) => {
                self.extension(size)?
            }
            (State::SizeLineFeed { size: 0 } | State::TrailerLineFeed, b'\n') => {
                State::TrailerStart
            }
            (State::SizeLineFeed { size }, b'\n') => self.data(size)?,
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::LastLineFeed, b'\n') => State::End,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.trailer(State::TrailerName)?
            }
            (State::TrailerName, b':') => self.trailer(State::TrailerValue)?,
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if !is_forbidden_in_value(byte) => {
                self.trailer(State::TrailerValue)?
            }
            _ => return Err(BodyFault::Malformed),
        };
        Ok(next)
    }

    fn extension(&mut self, size: u64) -> Result<State, BodyFault> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSIONS_MAX_BYTES {
            return Err(BodyFault::Malformed);
        }
        Ok(State::Extension { size })
    }

    fn trailer(&mut self, next: State) -> Result<State, BodyFault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILERS_MAX_BYTES {
            return Err(BodyFault::Malformed);
        }
        Ok(next)
    }

    fn data(&mut self, size: u64) -> Result<State, BodyFault> {
        let total = self.content_bytes.saturating_add(size);
        if total > self.content_max_bytes {
            return Err(BodyFault::TooLarge { limit: self.content_max_bytes });
        }
        self.content_bytes = total;
        Ok(State::Data { left: size })
    }

    /// Takes the next content out of `input`.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Taken, BodyFault> {
        let mut gathered = BytesMut::new();
        loop {
            let step = self.step(input)?;
            input.advance(step.framing_bytes);
            if step.content_bytes == 0 {
                return Ok(match (gathered.is_empty(), self.is_complete()) {
                    (false, _) => Taken::Piece(gathered.freeze()),
                    (true, true) => Taken::End,
                    (true, false) => Taken::NeedMore,
                });
            }
            if gathered.is_empty() && step.content_bytes >= PIECE_MIN_BYTES {
                return Ok(Taken::Piece(input.split_to(step.content_bytes).freeze()));
            }
            gathered.extend_from_slice(&input[..step.content_bytes]);
            input.advance(step.content_bytes);
            if gathered.len() >= PIECE_MIN_BYTES {
                return Ok(Taken::Piece(gathered.freeze()));
            }
        }
    }

    /// Is what has arrived so far well-formed? Changes nothing.
    pub fn check(mut self, mut input: &[u8]) -> Result<(), BodyFault> {
        loop {
            let step = self.step(input)?;
            input = &input[step.framing_bytes + step.content_bytes..];
            if step.content_bytes == 0 {
                return Ok(());
            }
        }
    }
}

fn hexadecimal(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    })
}

#[cfg(test)]
mod tests;
