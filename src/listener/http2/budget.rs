//! What a client may cost on one HTTP/2 connection beside its requests and their content.
//!
//! Each frame that brings nothing forward is counted, and each that does makes up for some. A
//! proper client stays far below every bound, for as long as it likes; one that floods is told to
//! calm down (GOAWAY) and let go.

use super::frames::{DATA, FrameHead, HEADERS, PUSH_PROMISE, RST_STREAM, SETTINGS};

/// Frames beside the request that each request explains: a window for its content, a priority, a
/// ping, trailers.
const FREE_PER_REQUEST: u32 = 8;
/// Frames that each piece of content sent explains: a window for its stream, and one for the
/// connection, each perhaps in two parts.
const FREE_PER_PIECE: u32 = 4;
/// A piece of content that is shorter explains none: a client that opens its window by a byte at
/// a time makes us send such pieces (CVE-2019-9511).
const PIECE_MIN_BYTES: u32 = 64;
/// After so many requests all counts are halved, so that a long good past pays for no flood.
const REQUESTS_REMEMBERED: u32 = 1_000;

/// The bounds, from `[listen]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Streams that are cancelled, or have to be reset, while that is more than half of them.
    pub(super) resets_max: u32,
    /// Frames that are neither requests nor content, beyond those that are explained.
    pub(super) control_max: u32,
}

/// `PROTOCOL_ERROR` and `ENHANCE_YOUR_CALM` (RFC 9113 7).
const PROTOCOL_ERROR: u32 = 1;
pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// What a client does too much of, or does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its first frame is not SETTINGS (RFC 9113 3.4), which h2 does not mind.
    NoSettings,
    /// `PUSH_PROMISE`, which a client may not send (RFC 9113 8.4). h2 looks at the state of its
    /// stream first, and is not prepared for all of them.
    Push,
    /// It cancels most of its requests (CVE-2023-44487).
    Cancelled,
    /// It makes us reset most of its streams (CVE-2025-8671).
    Provoked,
    /// PING, SETTINGS, PRIORITY, `WINDOW_UPDATE`, CONTINUATION, empty DATA, and frames of unknown
    /// types (CVE-2019-9512 to 9518, CVE-2024-27316).
    Control,
}

impl Fault {
    /// For messages.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoSettings => "the first frame was not SETTINGS",
            Self::Push => "a client cannot push",
            Self::Cancelled => "most requests were cancelled",
            Self::Provoked => "most streams had to be reset",
            Self::Control => "frames that bring nothing forward",
        }
    }

    /// The error for GOAWAY.
    pub(super) const fn error(self) -> u32 {
        match self {
            Self::NoSettings | Self::Push => PROTOCOL_ERROR,
            Self::Cancelled | Self::Provoked | Self::Control => ENHANCE_YOUR_CALM,
        }
    }
}

/// The counts of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    bounds: Bounds,
    requests: u32,
    cancelled: u32,
    provoked: u32,
    control: u32,
    last_stream: u32,
    has_begun: bool,
}

impl Budget {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            requests: 0,
            cancelled: 0,
            provoked: 0,
            control: 0,
            last_stream: 0,
            has_begun: false,
        }
    }

    /// The client's latest stream.
    pub(super) const fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// A frame has come.
    pub(super) fn received(&mut self, head: FrameHead) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.has_begun, true) && head.kind != SETTINGS {
            return Err(Fault::NoSettings);
        }
        match head.kind {
            HEADERS if head.stream > self.last_stream => {
                self.last_stream = head.stream;
                self.request();
                Ok(())
            }
            DATA if head.length > 0 || head.ends_stream() => Ok(()),
            PUSH_PROMISE => Err(Fault::Push),
            RST_STREAM => {
                self.cancelled += 1;
                self.check_share(self.cancelled, Fault::Cancelled)
            }
            _ => {
                self.control += 1;
                if self.control > self.bounds.control_max { Err(Fault::Control) } else { Ok(()) }
            }
        }
    }

    /// A frame has gone out.
    pub(super) fn sent(&mut self, head: FrameHead) -> Result<(), Fault> {
        match head.kind {
            DATA if head.length >= PIECE_MIN_BYTES => {
                self.control = self.control.saturating_sub(FREE_PER_PIECE);
                Ok(())
            }
            RST_STREAM => {
                self.provoked += 1;
                self.check_share(self.provoked, Fault::Provoked)
            }
            _ => Ok(()),
        }
    }

    fn request(&mut self) {
        self.control = self.control.saturating_sub(FREE_PER_REQUEST);
        self.requests += 1;
        if self.requests >= REQUESTS_REMEMBERED {
            self.requests /= 2;
            self.cancelled /= 2;
            self.provoked /= 2;
        }
    }

    fn check_share(&self, resets: u32, flood: Fault) -> Result<(), Fault> {
        let is_most = resets > self.requests / 2;
        if resets > self.bounds.resets_max && is_most { Err(flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const BOUNDS: Bounds = Bounds { resets_max: 10, control_max: 100 };

    /// After the first settings.
    fn begun() -> Budget {
        Budget { has_begun: true, ..Budget::new(BOUNDS) }
    }

    fn head(kind: u8, stream: u32, length: u32) -> FrameHead {
        FrameHead { length, kind, flags: 0, stream }
    }

    /// How many of such frames pass before one is too many.
    fn passing(mut pass: impl FnMut(u32) -> Result<(), Fault>) -> (u32, Fault) {
        (0..).find_map(|at| pass(at).err().map(|flood| (at, flood))).expect("an end")
    }

    #[test]
    fn settings_come_first() {
        let first = |kind| Budget::new(BOUNDS).received(head(kind, 0, 8));
        assert_eq!(first(SETTINGS), Ok(()));
        assert_eq!(first(PING), Err(Fault::NoSettings));
        assert_eq!(first(HEADERS), Err(Fault::NoSettings));
        assert_eq!(begun().received(head(PUSH_PROMISE, 1, 8)), Err(Fault::Push));
    }

    #[test]
    fn control_frames_alone_are_bounded() {
        for kind in [2, 4, PING, WINDOW_UPDATE, 9, 0x10, 0xff] {
            let mut budget = begun();
            let (passed, flood) = passing(|_| budget.received(head(kind, 0, 4)));
            assert_eq!((passed, flood), (100, Fault::Control), "{kind}");
        }
        let mut budget = begun();
        assert_eq!(passing(|_| budget.received(head(DATA, 1, 0))), (100, Fault::Control));
        // Trailers are few: one for each request.
        let mut budget = begun();
        budget.received(head(HEADERS, 9, 4)).expect("a request");
        assert_eq!(passing(|_| budget.received(head(HEADERS, 9, 4))), (100, Fault::Control));
    }

    #[test]
    fn resets_are_bounded_both_ways_while_they_are_most() {
        let mut budget = begun();
        let (passed, flood) = passing(|at| {
            budget.received(head(HEADERS, at * 2 + 1, 4))?;
            budget.received(head(RST_STREAM, at * 2 + 1, 4))
        });
        assert_eq!((passed, flood), (10, Fault::Cancelled));
        let mut budget = begun();
        let (passed, flood) = passing(|at| {
            budget.received(head(HEADERS, at * 2 + 1, 4))?;
            budget.sent(head(RST_STREAM, at * 2 + 1, 4))
        });
        assert_eq!((passed, flood), (10, Fault::Provoked));
    }

    #[test]
    fn a_proper_client_stays_within_its_budget_for_ever() {
        let mut budget = begun();
        let mut pass = |at: u32| {
            budget.received(head(HEADERS, at * 2 + 1, 40))?;
            for _ in 0..3 {
                budget.sent(head(DATA, at * 2 + 1, 16_384))?;
                budget.received(head(WINDOW_UPDATE, 0, 4))?;
                budget.received(head(WINDOW_UPDATE, at * 2 + 1, 4))?;
            }
            if at.is_multiple_of(3) {
                budget.received(head(RST_STREAM, at * 2 + 1, 4))?;
            }
            budget.received(head(PING, 0, 8))
        };
        (0..100_000).try_for_each(&mut pass).expect("no flood");
    }

    #[test]
    fn a_long_good_past_pays_for_no_flood() {
        let mut budget = begun();
        for at in 0..100_000 {
            budget.received(head(HEADERS, at * 2 + 1, 4)).expect("a request");
        }
        let (passed, _) = passing(|at| {
            budget.received(head(HEADERS, (100_000 + at) * 2 + 1, 4))?;
            budget.received(head(RST_STREAM, (100_000 + at) * 2 + 1, 4))
        });
        assert!(passed < 2 * REQUESTS_REMEMBERED, "{passed}");
    }

    #[test]
    fn content_in_tiny_pieces_explains_no_windows() {
        let mut budget = begun();
        let (passed, flood) = passing(|_| {
            budget.sent(head(DATA, 1, 1))?;
            budget.received(head(WINDOW_UPDATE, 1, 4))
        });
        assert_eq!((passed, flood), (100, Fault::Control));
    }
}
