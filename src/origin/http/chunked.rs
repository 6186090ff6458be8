//! The chunked coding (RFC 9112 7.1), strictly: CRLF alone, bounded sizes, extensions, trailers.

use bytes::{Buf, Bytes, BytesMut};

use crate::fields::Fields;
use crate::origin::decoder::Fault;
use crate::origin::head::{is_field_value, may_be_trailer, read_field};

/// Bytes of a line with a chunk's size and extensions.
const SIZE_LINE_BYTES_MAX: usize = 256;
/// Digits of a chunk's size: more than any number of bytes needs on this planet, and no overflow.
const SIZE_DIGITS_MAX: usize = 15;

/// Takes the chunked coding apart.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    trailers: Fields,
    trailer_bytes: usize,
    trailers_max_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Content(u64),
    ContentEnd,
    Trailers,
    End,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    More,
    Content(Bytes),
    /// With the trailers that may travel on.
    End(Fields),
}

impl Chunked {
    /// A decoder that allows `trailers_max_bytes` of trailers.
    pub(super) fn new(trailers_max_bytes: usize) -> Self {
        Self { state: State::Size, trailers: Fields::new(), trailer_bytes: 0, trailers_max_bytes }
    }

    /// Takes the next piece off `input`.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Chunk, Fault> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(input, SIZE_LINE_BYTES_MAX)? else {
                        return Ok(Chunk::More);
                    };
                    self.state = match read_size(&line)? {
                        0 => State::Trailers,
                        size => State::Content(size),
                    };
                }
                State::Content(remaining) => {
                    if input.is_empty() {
                        return Ok(Chunk::More);
                    }
                    let allowed = usize::try_from(remaining).unwrap_or(usize::MAX);
                    let piece = input.split_to(allowed.min(input.len())).freeze();
                    let remaining = remaining - piece.len() as u64;
                    self.state =
                        if remaining == 0 { State::ContentEnd } else { State::Content(remaining) };
                    return Ok(Chunk::Content(piece));
                }
                State::ContentEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Chunk::More),
                    _ => return Err(Fault::Malformed("a chunk does not end with CRLF")),
                },
                State::Trailers => {
                    let room = self.trailers_max_bytes - self.trailer_bytes;
                    let Some(line) = take_line(input, room)? else {
                        return Ok(Chunk::More);
                    };
                    if line.is_empty() {
                        self.state = State::End;
                        continue;
                    }
                    self.trailer_bytes += line.len();
                    let field = read_field(&line.freeze())?;
                    if may_be_trailer(&field) {
                        self.trailers.extend([field]);
                    }
                }
                State::End => return Ok(Chunk::End(std::mem::take(&mut self.trailers))),
            }
        }
    }
}

/// A line without its CRLF, once it is there.
fn take_line(input: &mut BytesMut, bytes_max: usize) -> Result<Option<BytesMut>, Fault> {
    let searched = &input[..input.len().min(bytes_max + 2)];
    let Some(at) = memchr::memchr(b'\n', searched) else {
        if searched.len() == bytes_max + 2 {
            return Err(Fault::Malformed("a line of the chunked coding is too long"));
        }
        return Ok(None);
    };
    let mut line = input.split_to(at + 1);
    line.truncate(at);
    let Some(length) = line.strip_suffix(b"\r").map(<[u8]>::len) else {
        return Err(Fault::Malformed("a line of the chunked coding ends without CR"));
    };
    line.truncate(length);
    if !is_field_value(&line) {
        return Err(Fault::Malformed("a line of the chunked coding has a control character"));
    }
    Ok(Some(line))
}

fn read_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    let proper = (1..=SIZE_DIGITS_MAX).contains(&digits) && (rest.is_empty() || rest[0] == b';');
    let size = std::str::from_utf8(&line[..digits]).ok().filter(|_| proper);
    size.and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or(Fault::Malformed("a chunk's size is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, usize), Fault> {
        let mut chunked = Chunked::new(100);
        let (mut input, mut content) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match chunked.next(&mut input)? {
                    Chunk::More => break,
                    Chunk::Content(piece) => content.extend_from_slice(&piece),
                    Chunk::End(_) => return Ok((content, input.len())),
                }
            }
        }
        Err(Fault::Cut)
    }

    #[test]
    fn chunks_extensions_and_trailers_are_taken_apart() {
        let stream = b"3;a=\"b\"\r\nabc\r\n00A \r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nrest";
        assert_eq!(decode([&stream[..]]), Ok((b"abc0123456789".to_vec(), 4)));
    }

    #[test]
    fn what_is_not_exactly_chunked_is_malformed() {
        for stream in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1\na\r\n0\r\n\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na\r0",
            "1 a\r\n",
            "1\r\ra\r\n",
            "1000000000000000\r\n",
            "0\r\nX\n\r\n",
            "0\r\nX: \0\r\n\r\n",
        ] {
            let result = decode([stream.as_bytes()]);
            assert!(matches!(result, Err(Fault::Malformed(_))), "{stream:?} {result:?}");
        }
        let extension = format!("1;{}\r\n", "e".repeat(300));
        assert!(matches!(decode([extension.as_bytes()]), Err(Fault::Malformed(_))));
        let trailers = format!("0\r\n{}\r\n\r\n", "t: 1\r\n".repeat(40));
        assert!(matches!(decode([trailers.as_bytes()]), Err(Fault::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_content(
            contents in proptest::collection::vec("[a-z]{1,40}", 0..6),
            cut in 1_usize..9,
        ) {
            let chunk = |content: &String| format!("{:x}\r\n{content}\r\n", content.len());
            let stream: String = contents.iter().map(chunk).chain(["0\r\n\r\n".into()]).collect();
            let expected = Ok((contents.concat().into_bytes(), 0));
            prop_assert_eq!(decode(stream.as_bytes().chunks(cut)), expected);
        }
    }
}
