//! The heads of HTTP/2 frames in a byte stream (RFC 9113 4.1).
//!
//! This knows types, flags, streams and lengths, and nothing else: enough to count what passes on
//! a connection, whatever h2 makes of it.

/// Bytes that a client sends before its first frame.
const PREFACE_BYTES: u32 = 24;
/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the head of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes that follow the head.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    fn read(head: [u8; HEAD_BYTES]) -> Self {
        let [high, middle, low, kind, flags, stream @ ..] = head;
        Self {
            length: u32::from_be_bytes([0, high, middle, low]),
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Is it the last that its sender sends on the stream?
    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Does it begin or go on with a list of fields that another frame has to end?
    fn leaves_fields_open(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS == 0
    }
}

/// A GOAWAY frame.
pub(super) fn goaway(last_stream: u32, error: u32) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8;
    frame[3] = GOAWAY;
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame[13..].copy_from_slice(&error.to_be_bytes());
    frame
}

/// Finds the heads in bytes that come in any pieces.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Bytes to pass over before the next head.
    skip: u32,
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// The frame whose content is passed over, and whether fields are open.
    kind: u8,
    fields_are_open: bool,
}

impl Scanner {
    /// For what a client sends.
    pub(super) const fn of_client() -> Self {
        Self { skip: PREFACE_BYTES, ..Self::of_server() }
    }

    /// For what a server sends.
    pub(super) const fn of_server() -> Self {
        Self { skip: 0, head: [0; HEAD_BYTES], filled: 0, kind: DATA, fields_are_open: false }
    }

    /// Tells `each` the heads that become complete with `bytes`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = bytes.len().min(HEAD_BYTES - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                let head = FrameHead::read(self.head);
                self.skip = head.length;
                self.kind = head.kind;
                self.fields_are_open = head.leaves_fields_open();
                each(head);
            }
        }
    }

    /// Is nothing begun? Here a frame of our own could be put in.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    /// Is something begun that is sent at once by who means well: a frame other than DATA, or a
    /// list of fields?
    pub(super) const fn is_owed_more(&self) -> bool {
        self.fields_are_open || self.filled > 0 || (self.skip > 0 && self.kind != DATA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend(std::iter::repeat_n(0xff, usize::from(length)));
        frame
    }

    fn heads(scanner: &mut Scanner, bytes: &[u8], piece: usize) -> Vec<FrameHead> {
        let mut heads = Vec::new();
        bytes.chunks(piece).for_each(|piece| scanner.feed(piece, |head| heads.push(head)));
        heads
    }

    #[test]
    fn the_reserved_bit_is_no_part_of_the_stream() {
        let found = heads(&mut Scanner::of_server(), &frame(DATA, 1, 0x8000_0003, 2), 1);
        assert_eq!(found, [FrameHead { length: 2, kind: DATA, flags: 1, stream: 3 }]);
        assert!(found[0].ends_stream());
    }

    #[test]
    fn what_is_begun_is_owed_unless_it_is_content() {
        let mut scanner = Scanner::of_server();
        let mut is_owed = |bytes: &[u8]| {
            scanner.feed(bytes, |_| {});
            scanner.is_owed_more()
        };
        let [data, ping] = [frame(DATA, 0, 1, 8), frame(6, 0, 0, 8)];
        assert!(is_owed(&data[..3]));
        assert!(!is_owed(&data[3..12]));
        assert!(!is_owed(&data[12..]));
        assert!(is_owed(&ping[..12]));
        assert!(!is_owed(&ping[12..]));
        assert!(is_owed(&frame(HEADERS, 0, 1, 8)));
        assert!(!is_owed(&frame(CONTINUATION, END_HEADERS, 1, 0)));
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_heads(
            frames in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>(), any::<u8>()), 0..20),
            piece in 1..40_usize,
        ) {
            let mut bytes = vec![b'x'; PREFACE_BYTES as usize];
            for (kind, flags, stream, length) in &frames {
                bytes.extend(frame(*kind, *flags, *stream, *length));
            }
            let mut scanner = Scanner::of_client();
            let found = heads(&mut scanner, &bytes, piece);
            prop_assert!(scanner.is_between_frames());
            let kinds: Vec<_> = found.iter().map(|head| (head.kind, head.flags)).collect();
            let expected: Vec<_> = frames.iter().map(|frame| (frame.0, frame.1)).collect();
            prop_assert_eq!(kinds, expected);
        }
    }
}
