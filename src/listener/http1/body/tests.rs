//! Properties of the content reader; single cases are tried over sockets.

use proptest::prelude::*;

use super::*;

/// Content, and what follows it; `None`: it is not complete.
type Decoded = Result<Option<(Vec<u8>, Vec<u8>)>, BodyFault>;

/// Takes everything out of `pieces`, each appended when nothing more can be taken. Content, and
/// what is left behind its end.
fn decode(framing: Framing, limit: u64, pieces: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::new(framing, limit);
    let (mut input, mut content) = (BytesMut::new(), Vec::new());
    let mut pieces = pieces.iter();
    loop {
        match decoder.take(&mut input)? {
            Taken::Piece(piece) => content.extend_from_slice(&piece),
            Taken::End => {
                pieces.for_each(|piece| input.extend_from_slice(piece));
                return Ok(Some((content, input.to_vec())));
            }
            Taken::NeedMore => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return Ok(None),
            },
        }
    }
}

fn split<'a>(input: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = ends.iter().map(|end| end % (input.len() + 1)).collect();
    ends.sort_unstable();
    let mut start = 0;
    let mut pieces = Vec::new();
    for end in ends.into_iter().chain([input.len()]) {
        pieces.push(&input[start..end]);
        start = end;
    }
    pieces
}

fn encode(chunks: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("00{extension}\r\n{trailer}\r\n").as_bytes());
    out
}

proptest! {
    #[test]
    fn chunks_come_back_whole_however_they_are_split(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5_000), 0..6),
        extension in prop_oneof![Just(String::new()), Just(";a=\"b c\"".to_owned())],
        trailer in prop_oneof![Just(String::new()), Just("X: y\r\nZ:\r\n".to_owned())],
        ends in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let content = chunks.concat();
        let mut wire = encode(&chunks, &extension, &trailer);
        wire.extend_from_slice(b"GET / ");
        let decoded = decode(Framing::Chunked, 1 << 20, &split(&wire, &ends));
        prop_assert_eq!(decoded, Ok(Some((content, b"GET / ".to_vec()))));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_every_split_reads_the_same(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "([0-3a]{1,2}(;[ -~]{0,5})?\r\n[ -~]{0,12}(\r\n|\n)){0,4}(0\r\n)?([a-z]{0,2}:?[ -~]{0,3}\r\n){0,2}"
                .prop_map(String::into_bytes),
        ],
        ends in prop::collection::vec(any::<usize>(), 0..8),
        limit in 0_u64..40,
    ) {
        let whole = decode(Framing::Chunked, limit, &[&input]);
        let split_up = decode(Framing::Chunked, limit, &split(&input, &ends));
        let single: Vec<_> = input.chunks(1).collect();
        prop_assert_eq!(&whole, &split_up);
        prop_assert_eq!(&whole, &decode(Framing::Chunked, limit, &single));
        if let Ok(Some((content, _))) = whole {
            prop_assert!(content.len() as u64 <= limit);
        }
    }

    #[test]
    fn a_check_finds_what_taking_would_find(input in "([0-9a]{1,2}\r\n[ -~]{0,9}\r?\n){0,3}") {
        let decoder = Decoder::new(Framing::Chunked, 100);
        let taken = decode(Framing::Chunked, 100, &[input.as_bytes()]);
        prop_assert_eq!(decoder.check(input.as_bytes()).err(), taken.err());
    }
}

#[test]
fn content_by_length_ends_where_it_was_said_to() {
    let decoded = decode(Framing::Length(3), 3, &[b"a", b"bcd", b"e"]);
    assert_eq!(decoded, Ok(Some((b"abc".to_vec(), b"de".to_vec()))));
    assert_eq!(decode(Framing::Length(3), 3, &[b"ab"]), Ok(None));
    let too_large = Err(BodyFault::TooLarge { limit: 2 });
    assert_eq!(decode(Framing::Length(3), 2, &[b"abc"]), too_large);
}

#[test]
fn sizes_that_do_not_fit_are_told_before_anything_is_added_up() {
    let huge = decode(Framing::Chunked, u64::MAX, &[b"1\r\na\r\nffffffffffffffff\r\n"]);
    assert_eq!(huge, Ok(None), "the total saturates at the limit");
    let huge = decode(Framing::Chunked, 100, &[b"1\r\na\r\nffffffffffffffff\r\n"]);
    assert_eq!(huge, Err(BodyFault::TooLarge { limit: 100 }));
    let digits = decode(Framing::Chunked, 100, &[b"00000000000000001\r\n"]);
    assert_eq!(digits, Err(BodyFault::Malformed));
}

#[test]
fn tiny_chunks_are_gathered_into_few_pieces() {
    let mut input = BytesMut::from(&b"1\r\nx\r\n".repeat(10_000)[..]);
    let mut decoder = Decoder::new(Framing::Chunked, 1 << 20);
    let mut pieces = 0;
    while let Taken::Piece(_) = decoder.take(&mut input).expect("valid") {
        pieces += 1;
    }
    assert!(pieces <= 10_000 / PIECE_MIN_BYTES + 1, "{pieces}");
}

#[test]
fn extensions_are_bounded_over_all_chunks_together() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(999));
    let four = chunk.repeat(4);
    assert_eq!(decode(Framing::Chunked, 100, &[four.as_bytes()]), Ok(None));
    let five = chunk.repeat(5);
    let malformed = Err(BodyFault::Malformed);
    assert_eq!(decode(Framing::Chunked, 100, &[five.as_bytes()]), malformed);
}
