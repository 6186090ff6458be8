//! Content in any framing: the same bytes come out however it arrives, never more than the limit,
//! and what follows the content is left where it is.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use parvis::listener::http1::body::{BodyFault, Decoder, Framing, Taken};

/// How decoding ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// At the content's end; so many bytes were left for the next request.
    Whole {
        left_bytes: usize,
    },
    /// More was expected.
    Unfinished,
    Fault(BodyFault),
}

fn decode(framing: Framing, limit: u64, input: &[u8], piece_bytes: usize) -> (Vec<u8>, Ending) {
    let mut decoder = Decoder::new(framing, limit);
    let mut pieces = input.chunks(piece_bytes);
    let mut arrived = BytesMut::new();
    let mut waiting = input.len();
    let mut content = Vec::new();
    loop {
        let announced = decoder.remaining_bytes();
        match decoder.take(&mut arrived) {
            Ok(Taken::Piece(piece)) => {
                assert!(!piece.is_empty());
                if let (Some(before), Some(after)) = (announced, decoder.remaining_bytes())
                    && framing != Framing::Chunked
                {
                    assert_eq!(before - after, piece.len() as u64);
                }
                content.extend_from_slice(&piece);
            }
            Ok(Taken::End) => {
                assert!(decoder.is_complete());
                return (content, Ending::Whole { left_bytes: arrived.len() + waiting });
            }
            Ok(Taken::NeedMore) => {
                assert!(arrived.is_empty() && !decoder.is_complete());
                let Some(piece) = pieces.next() else { return (content, Ending::Unfinished) };
                arrived.extend_from_slice(piece);
                waiting -= piece.len();
            }
            Err(fault) => return (content, Ending::Fault(fault)),
        }
    }
}

/// The chunked coding of `content` in chunks of up to `chunk_bytes`.
fn encode(content: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in content.chunks(chunk_bytes) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

fuzz_target!(|input: &[u8]| {
    let [kind, limit, cut, wire @ ..] = input else { return };
    let framing = match kind {
        0..128 => Framing::Chunked,
        length => Framing::Length(u64::from(length - 127)),
    };
    // Some limits are smaller than most content, and some larger.
    let limit = u64::from(*limit) * 16;
    let piece_bytes = usize::from(*cut) + 1;

    let (content, ending) = decode(framing, limit, wire, wire.len().max(1));
    assert!(content.len() as u64 <= limit);
    match (framing, &ending) {
        (Framing::Length(length), Ending::Whole { left_bytes }) => {
            assert_eq!(content, wire[..length as usize]);
            assert_eq!(wire.len() - left_bytes, length as usize);
        }
        (Framing::Length(length), Ending::Unfinished) => assert!((wire.len() as u64) < length),
        (Framing::Length(length), Ending::Fault(fault)) => {
            assert_eq!(*fault, BodyFault::TooLarge { limit });
            assert!(length > limit);
        }
        (_, Ending::Whole { left_bytes }) => {
            // Its framing alone takes five bytes.
            assert!(wire.len() - left_bytes >= content.len() + 5);
        }
        _ => {}
    }

    let checked = Decoder::new(framing, limit).check(wire);
    assert_eq!(
        checked.err().map(Ending::Fault).as_ref(),
        match &ending {
            fault @ Ending::Fault(_) => Some(fault),
            _ => None,
        }
    );

    for piece_bytes in [1, piece_bytes] {
        let (pieces, other) = decode(framing, limit, wire, piece_bytes);
        assert_eq!(other, ending);
        match ending {
            // How much came before the fault depends on what was there at once.
            Ending::Fault(_) => assert!(pieces.len() as u64 <= limit),
            _ => assert_eq!(pieces, content),
        }
    }

    let mut sent = encode(wire, piece_bytes);
    let next = b"GET / HTTP/1.1\r\n";
    sent.extend_from_slice(next);
    let (back, ending) = decode(Framing::Chunked, wire.len() as u64, &sent, 7);
    assert_eq!((&back[..], ending), (wire, Ending::Whole { left_bytes: next.len() }));
    if let Some(limit) = wire.len().checked_sub(1) {
        let (back, ending) = decode(Framing::Chunked, limit as u64, &sent, 7);
        assert!(back.len() <= limit);
        assert_eq!(ending, Ending::Fault(BodyFault::TooLarge { limit: limit as u64 }));
    }
});
