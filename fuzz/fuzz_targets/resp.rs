//! Any bytes as requests, or as replies, in any pieces: each split gives the same, nothing is larger than
//! its limit, and what is decoded is written back as what it was.
//!
//! The input's first byte says which of both, the second where to cut; the rest are the bytes.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use parvis::resp::{
    Limits, Protocol, ProtocolError, RawReply, ReadState, ReplyKind, ReplyLimits, ReplyState,
    Request, Value, decode, read_reply, read_request, write,
};

const LIMITS: Limits =
    Limits { inline_max_bytes: 64, bulk_max_bytes: 200, arguments_max: 20, request_max_bytes: 600 };
const REPLIES: ReplyLimits =
    ReplyLimits { line_max_bytes: 64, bulk_max_bytes: 200, elements_max: 40, reply_max_bytes: 600 };

type Outcome<T> = (Vec<T>, Result<Bytes, ProtocolError>);

/// What comes out of pieces, and what is left of them.
fn all<'a, T, S: Default>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    read: impl Fn(&mut BytesMut, &mut S) -> Result<Option<T>, ProtocolError>,
) -> Outcome<T> {
    let (mut buffer, mut state, mut found) = (BytesMut::new(), S::default(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match read(&mut buffer, &mut state) {
                Ok(Some(one)) => found.push(one),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(buffer.freeze()))
}

fn requests<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome<Request> {
    all(pieces, |buffer, state: &mut ReadState| read_request(buffer, &LIMITS, state))
}

fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome<RawReply> {
    all(pieces, |buffer, state: &mut ReplyState| read_reply(buffer, &REPLIES, state))
}

fn assert_request(request: &Request) {
    // A line is packed, and then longer than it was.
    assert!(request.raw().len() <= LIMITS.request_max_bytes.max(LIMITS.inline_max_bytes * 8));
    assert!((1..=LIMITS.arguments_max).contains(&request.len()));
    let arguments: Vec<&[u8]> = request.args().collect();
    let again = Request::pack(&arguments);
    assert!(again.args().eq(request.args()));
    assert_eq!(requests([&request.raw()[..]]).0, [request.clone()]);
}

fn assert_reply(reply: &RawReply) {
    assert!(reply.bytes.len() <= REPLIES.reply_max_bytes);
    let Ok(value) = decode(&reply.bytes) else {
        // It nests deep, or it is a verbatim text without a format.
        return;
    };
    let agrees = match &value {
        Value::Error(_) => reply.kind == ReplyKind::Error,
        Value::Null => reply.kind == ReplyKind::Null,
        Value::Push(_) => reply.kind == ReplyKind::Push,
        Value::Map(_) => reply.kind == ReplyKind::Map,
        _ => !matches!(reply.kind, ReplyKind::Error | ReplyKind::Null | ReplyKind::Push),
    };
    assert!(agrees, "{:?} {value:?}", reply.kind);
    let mut written = BytesMut::new();
    write::value(&mut written, Protocol::Resp3, &value);
    let mut twice = BytesMut::new();
    write::value(&mut twice, Protocol::Resp3, &decode(&written).expect("our own"));
    assert_eq!(written, twice);
}

fuzz_target!(|input: &[u8]| {
    let [which, cut, bytes @ ..] = input else { return };
    let at = usize::from(*cut).min(bytes.len());
    let halves = [&bytes[..at], &bytes[at..]];
    if which % 2 == 0 {
        let (found, end) = requests([bytes]);
        found.iter().for_each(assert_request);
        assert_eq!(requests(halves), (found.clone(), end.clone()));
        assert_eq!(requests(bytes.chunks(1)), (found, end));
    } else {
        let (found, end) = replies([bytes]);
        found.iter().for_each(assert_reply);
        assert_eq!(replies(halves), (found.clone(), end.clone()));
        assert_eq!(replies(bytes.chunks(1)), (found, end));
    }
});
