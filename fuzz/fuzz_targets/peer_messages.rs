//! What another node says, in any bytes and pieces: it is read or refused, what is read is what
//! would be written, and the pieces it comes in do not matter.
#![no_main]

use std::fmt::Debug;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use parvis::fleet::peer::message::{Arriving, Ask, Lent, Question};
use parvis::fleet::peer::seal::Sealed;
use parvis::fleet::peer::warm_message::{HottestAsk, LeavingAsk, TakeAsk};

/// An answer may be so long.
const ANSWER_MAX_BYTES: usize = 256;

fuzz_target!(|data: &[u8]| {
    let Some((size, content)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(content);
    question::<Ask>(&bytes);
    question::<HottestAsk>(&bytes);
    question::<TakeAsk>(&bytes);
    question::<LeavingAsk>(&bytes);
    if let Some(lent) = Lent::decode(bytes.clone()) {
        assert_eq!(lent.encode(), bytes);
    }
    if let Some(sealed) = Sealed::parse(content) {
        assert_eq!(Sealed::parse(&sealed.to_value()), Some(sealed));
    }
    assert_eq!(arrived(content, usize::from(*size).max(1)), arrived(content, usize::MAX));
});

fn question<Q: Question + PartialEq + Debug>(bytes: &Bytes) {
    if let Some(question) = Q::decode(bytes.clone()) {
        assert_eq!(Q::decode(question.encode()), Some(question));
    }
    drop(Q::answer(bytes.clone()));
}

/// `None`: too long, or no answer.
fn arrived(content: &[u8], piece_bytes: usize) -> Option<([u8; 32], Bytes)> {
    let mut arriving = Arriving::new(ANSWER_MAX_BYTES);
    for piece in content.chunks(piece_bytes.min(content.len().max(1))) {
        arriving.push(piece).ok()?;
    }
    let (seal, whole) = arriving.whole()?;
    assert!(whole.len() <= ANSWER_MAX_BYTES);
    Some((seal, whole))
}
