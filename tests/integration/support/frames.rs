//! An HTTP/2 client made of frames: it sends what it is told, right or wrong, and says what came.
//!
//! Field blocks are written by hand, without Huffman coding; the server is told to use no table,
//! so that its blocks can be read without one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITISED: u8 = 0x20;
/// A request without content, in one frame.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A frame; the length is that of the payload, whatever its type asks for.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub fn reset(stream: u32, error: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &error.to_be_bytes())
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// An integer of HPACK (RFC 7541 5.1) behind the bits of `first`.
pub fn integer(first: u8, prefix_bits: u8, mut value: usize) -> Vec<u8> {
    let most = (1 << prefix_bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    value -= most;
    let mut bytes = vec![first | most as u8];
    while value >= 128 {
        bytes.push((value % 128) as u8 | 0x80);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// A field, not indexed.
pub fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A field that enters the table.
pub fn indexed(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// What is in the table at that place; 62 is the latest that entered.
pub fn at(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// The four pseudo-fields of a request for `shop.test`.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "http"),
        field(":authority", "shop.test"),
        field(":path", path),
    ]
    .concat()
}

pub fn get(path: &str) -> Vec<u8> {
    request("GET", path)
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error of `RST_STREAM` and GOAWAY.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The last stream that a GOAWAY lets finish.
    pub fn last_stream(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("four bytes"))
    }

    fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status at the begin of a block.
    fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        // The table's size was changed.
        while let [first, rest @ ..] = block
            && first >> 5 == 1
        {
            block = rest;
        }
        match block {
            [first @ 0x88..=0x8e, ..] => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)]
            }
            [0x08 | 0x48 | 0x18, length, text @ ..] if length & 0x80 != 0 => {
                digits(&text[..usize::from(length & 0x7f)])
            }
            [0x08 | 0x48 | 0x18, 3, a, b, c, ..] => {
                [a, b, c].iter().fold(0, |number, digit| number * 10 + u16::from(**digit - b'0'))
            }
            other => panic!("no status: {other:x?}"),
        }
    }
}

/// Digits in Huffman coding (RFC 7541 B): three of five bits, seven of six.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let code = |bits: &[u8]| bits.iter().fold(0_u16, |code, bit| code * 2 + u16::from(*bit));
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let short = code(&bits[at..at + 5]);
        let (digit, length) =
            if short <= 2 { (short, 5) } else { (code(&bits[at..at + 6]) - 0x19 + 3, 6) };
        number = number * 10 + digit;
        at += length;
    }
    number
}

/// How a stream, or the whole connection, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A whole response.
    Status(u16),
    /// `RST_STREAM` with that error, without a whole response before.
    Reset(u32),
    /// GOAWAY with that error.
    Goaway(u32),
    /// An end without a word.
    Closed,
    /// Nothing while it was waited for.
    Silence,
}

/// A connection.
pub struct Frames {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Frames {
    /// Says nothing.
    pub fn silent(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream, read: Vec::new() }
    }

    /// Says the preface and these settings, and that the server is to use no table.
    pub fn with_settings(port: u16, settings: &[u8]) -> Self {
        let mut client = Self::silent(port);
        let settings = [&setting(1, 0)[..], settings].concat();
        client.send([PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat());
        client
    }

    /// A client with large windows that has agreed on the server's settings.
    pub fn connect(port: u16) -> Self {
        let mut client = Self::with_settings(port, &setting(4, 1 << 24));
        client.send([window(0, 1 << 24), frame(SETTINGS, ACK, 0, &[])].concat());
        client
    }

    /// `false`: the server has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Ends what is sent; the server may still answer.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends the same again and again while the server listens, and takes what it says. The number
    /// of times that it listened.
    pub fn flood(&mut self, times: usize, mut bytes: impl FnMut(usize) -> Vec<u8>) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        for at in 0..times {
            let bytes = bytes(at);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                match self.stream.write(rest) {
                    Ok(written) => rest = &rest[written..],
                    // Its answers may fill both buffers.
                    Err(error) if is_timeout(&error) => {
                        if !self.read_more(Duration::from_millis(1)) {
                            return at;
                        }
                    }
                    Err(_) => return at,
                }
            }
        }
        times
    }

    /// The next frame; `None`: the connection has ended.
    pub fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE).expect("in time")
    }

    /// The next frame; an error where none comes.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<Frame>, ErrorKind> {
        let end = Instant::now() + patience;
        loop {
            if let Some(frame) = self.parse() {
                return Ok(Some(frame));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut);
            }
            if !self.read_more(left) {
                return Ok(None);
            }
        }
    }

    /// `false`: there is no more.
    fn read_more(&mut self, patience: Duration) -> bool {
        let patience = patience.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) => is_timeout(&error),
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let &[high, middle, low, kind, flags, ref stream @ ..] = self.read.first_chunk::<9>()?;
        let stream = u32::from_be_bytes(*stream);
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if self.read.len() < 9 + length {
            return None;
        }
        let after = self.read.split_off(9 + length);
        let payload = std::mem::replace(&mut self.read, after).split_off(9);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Waits for the end of a stream, or of all.
    pub fn answer(&mut self, stream: u32) -> Answer {
        self.answer_within(stream, PATIENCE)
    }

    /// Waits for so long between two frames.
    pub fn answer_within(&mut self, stream: u32, patience: Duration) -> Answer {
        let mut status = None;
        loop {
            let frame = match self.next_within(patience) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Answer::Closed,
                Err(_) => return Answer::Silence,
            };
            if frame.kind == GOAWAY {
                // A goodbye that is gentle lets streams before it finish.
                if frame.error() == NO_ERROR && frame.last_stream() >= stream {
                    continue;
                }
                return Answer::Goaway(frame.error());
            }
            if frame.stream != stream {
                continue;
            }
            if frame.kind == RST_STREAM {
                return Answer::Reset(frame.error());
            }
            if frame.kind == HEADERS && status.is_none() {
                status = Some(frame.status());
            }
            if frame.ends_stream() {
                return Answer::Status(status.expect("a head"));
            }
        }
    }

    /// Asks and takes the answer.
    pub fn ask(&mut self, stream: u32, block: &[u8]) -> Answer {
        self.send(frame(HEADERS, WHOLE, stream, block));
        self.answer(stream)
    }

    /// Everything until the connection ends; the last GOAWAY's error, if there was one.
    pub fn end(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                error = Some(frame.error());
            }
        }
        error
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
