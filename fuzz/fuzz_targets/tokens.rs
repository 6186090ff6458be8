//! Tokens of any bytes: what was signed alone is opened, for its purpose alone, in one spelling alone.
//!
//! The first byte chooses how many bytes of the rest are a payload that is signed; what follows them is laid over its
//! token, byte by byte (exclusive or), and what is left of it hangs at the token's end.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use parvis::tokens::{PAYLOAD_MAX_BYTES, Purpose, Signer, TOKEN_MAX_LETTERS, base64url};

static SIGNER: LazyLock<Signer> =
    LazyLock::new(|| Signer::new(b"the newest").also_opens(b"the one before"));

fuzz_target!(|data: &[u8]| {
    let Some((&payload_bytes, rest)) = data.split_first() else { return };
    // Nobody knows the secrets, so nothing that comes from outside is opened.
    for purpose in Purpose::ALL {
        assert_eq!(SIGNER.open(purpose, rest), None);
    }
    if let Some(bytes) = base64url::decode(rest) {
        assert_eq!(base64url::encode(&bytes).as_bytes(), rest);
    }
    let (payload, changes) = rest.split_at(usize::from(payload_bytes).min(rest.len()));
    let token = SIGNER.sign(Purpose::Challenge, payload);
    if payload.len() > PAYLOAD_MAX_BYTES {
        assert!(token.is_empty());
        return;
    }
    assert!(token.len() <= TOKEN_MAX_LETTERS);
    let mut changed = token.clone().into_bytes();
    for (at, change) in changes.iter().enumerate() {
        match changed.get_mut(at) {
            Some(letter) => *letter ^= change,
            None => changed.push(*change),
        }
    }
    // The token itself is compared with nothing: libFuzzer learns what is compared, and would bring it from outside.
    let is_same = changes.len() <= token.len() && changes.iter().all(|change| *change == 0);
    let expected = is_same.then(|| payload.to_vec());
    assert_eq!(SIGNER.open(Purpose::Challenge, &changed), expected);
    assert_eq!(SIGNER.open(Purpose::Admitted, &changed), None);
});
