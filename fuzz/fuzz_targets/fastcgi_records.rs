//! A FastCGI reply of any bytes: the same outcome however the bytes arrive and whatever records
//! they are cut into, a head that can be sent on, and no more content than was sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parvis::origin::fastcgi::{Decoded, decode_pieces, decode_response};

const END_REQUEST: u8 = 3;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

fn record(kind: u8, content: &[u8], padding: u8, out: &mut Vec<u8>) {
    let length = u16::try_from(content.len()).expect("a record's content").to_be_bytes();
    out.extend_from_slice(&[1, kind, 0, 1, length[0], length[1], padding, 0]);
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0xaa);
}

/// What a script writes as a stream of records; with an error message behind each where `noisy`.
fn reply(output: &[u8], content_bytes: usize, padding: u8, noisy: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    for content in output.chunks(content_bytes) {
        record(STDOUT, content, padding, &mut stream);
        if noisy {
            record(STDERR, b"PHP Notice\n", 5, &mut stream);
        }
    }
    record(STDOUT, b"", 0, &mut stream);
    record(END_REQUEST, &[0; 8], padding, &mut stream);
    stream
}

fn assert_may_be_sent_on(decoded: &Decoded, sent_bytes: usize) {
    assert!((200..1000).contains(&decoded.status.as_u16()));
    assert!(decoded.content.len() <= sent_bytes);
    for field in &decoded.fields {
        assert!(!field.name.is_empty());
        assert!(field.name.iter().all(|byte| byte.is_ascii_graphic() && !b":,;()".contains(byte)));
        assert!(field.value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f));
    }
    for ending_here in
        ["connection", "transfer-encoding", "keep-alive", "status", "x-accel-redirect"]
    {
        assert!(!decoded.fields.contains(ending_here));
    }
    if decoded.broken.is_none()
        && let Some(length) = decoded.fields.first_str("content-length")
        && ![204, 304].contains(&decoded.status.as_u16())
    {
        assert_eq!(
            length.parse(),
            Ok(decoded.content.len()),
            "a whole reply is as long as it says"
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let [first, second, stream @ ..] = input else { return };
    let whole = decode_response(stream);
    for piece_bytes in [1, usize::from(*first) + 1] {
        assert_eq!(decode_pieces(stream.chunks(piece_bytes)), whole);
    }
    if let Ok(decoded) = &whole {
        assert_may_be_sent_on(decoded, stream.len());
    }

    // The same bytes as what a script writes.
    let whole = decode_response(&reply(stream, 65_535, 0, false));
    let (content_bytes, padding) = (usize::from(*first) + 1, *second);
    for noisy in [false, true] {
        let cut = reply(stream, content_bytes, padding, noisy);
        assert_eq!(decode_response(&cut), whole);
        assert_eq!(decode_pieces(cut.chunks(usize::from(*second) + 1)), whole);
    }
    if let Ok(decoded) = &whole {
        assert_may_be_sent_on(decoded, stream.len());
    }
});
