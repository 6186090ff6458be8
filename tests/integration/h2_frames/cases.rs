//! What a case is made of.

use std::ops::RangeInclusive;

use super::{Answer, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame};
use crate::support::frames::{CONTINUATION, setting};

const FRAME_MAX_BYTES: usize = 16_384;

/// Bytes on a connection of their own, and what is to come of them.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// The stream that is looked at.
    pub stream: u32,
    pub answer: Answer,
    /// Requests that reach the origin, where that is not one for 200 and none for all else.
    requests: Option<RangeInclusive<usize>>,
    /// The client closes its side after the last byte.
    pub finishes: bool,
}

impl Case {
    /// Bytes instead of a preface.
    pub fn raw(name: &'static str, bytes: &[u8]) -> Self {
        let answer = Answer::Status(200);
        Self { name, bytes: bytes.to_vec(), stream: 1, answer, requests: None, finishes: false }
    }

    /// Frames after the preface and proper settings.
    pub fn frames(name: &'static str, frames: &[Vec<u8>]) -> Self {
        let settings = frame(SETTINGS, 0, 0, &setting(1, 0));
        Self::raw(name, &[PREFACE, &settings, &frames.concat()].concat())
    }

    /// A request without content. A block that does not fit one frame goes on in others.
    pub fn request(name: &'static str, block: &[u8]) -> Self {
        let pieces: Vec<_> = block.chunks(FRAME_MAX_BYTES).collect();
        Self::pieces(name, &pieces)
    }

    /// A request without content whose block comes in these pieces.
    pub fn pieces(name: &'static str, pieces: &[&[u8]]) -> Self {
        let last = pieces.len().saturating_sub(1);
        let frames: Vec<_> = (0..=last)
            .map(|number| {
                let piece = pieces.get(number).copied().unwrap_or_default();
                let end = if number == last { END_HEADERS } else { 0 };
                let (kind, flags) =
                    if number == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
                frame(kind, flags | end, 1, piece)
            })
            .collect();
        Self::frames(name, &frames)
    }

    /// A request with content in one frame.
    pub fn post(name: &'static str, block: &[u8], content: &[u8]) -> Self {
        let head = frame(HEADERS, END_HEADERS, 1, block);
        Self::frames(name, &[head, frame(DATA, END_STREAM, 1, content)])
    }

    pub fn on(mut self, stream: u32) -> Self {
        self.stream = stream;
        self
    }

    pub fn finished(mut self) -> Self {
        self.finishes = true;
        self
    }

    /// How many requests reach the origin.
    pub fn at_origin(&self) -> RangeInclusive<usize> {
        let answered = usize::from(self.answer == Answer::Status(200));
        self.requests.clone().unwrap_or(answered..=answered)
    }

    /// So many requests reach the origin.
    pub fn reaching_origin(mut self, requests: usize) -> Self {
        self.requests = Some(requests..=requests);
        self
    }

    /// A legal request came before what ends the connection; it may have got through.
    pub fn perhaps_seen(mut self) -> Self {
        self.requests = Some(0..=1);
        self
    }

    fn is(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Refused with a status.
    pub fn status(self, status: u16) -> Self {
        self.is(Answer::Status(status))
    }

    /// A stream error.
    pub fn reset(self, error: u32) -> Self {
        self.is(Answer::Reset(error))
    }

    /// A connection error.
    pub fn goaway(self, error: u32) -> Self {
        self.is(Answer::Goaway(error))
    }

    /// The connection ends without a word.
    pub fn closed(self) -> Self {
        self.is(Answer::Closed)
    }
}
