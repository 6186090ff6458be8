//! Sessions that PHP is given for a response which is nobody's: a page that all visitors share, or one
//! for a declared bot. They read as empty, their lock is free, and what is written into them is forgotten.
//!
//! Such a session's id carries a seal over its random part, so nobody can make one, and no visitor's
//! own id is taken for one. Whoever finds out an id of this kind gains a session that keeps nothing.
//!
//! Where PHP has `session.use_strict_mode` on and a handler that can tell which ids exist, it makes an id of
//! its own instead, and has an ordinary session.

mod answers;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

pub use answers::Answers;

/// Letters of an id: those of PHP's own with `session.sid_bits_per_character` 5.
const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const RANDOM_BYTES: usize = 10;
const SEAL_BYTES: usize = 15;
const RANDOM_LETTERS: usize = RANDOM_BYTES * 8 / 5;
/// Letters of an id. Magento keeps ids in columns of 64.
pub const ID_LETTERS: usize = (RANDOM_BYTES + SEAL_BYTES) * 8 / 5;

const PURPOSE: &[u8] = b"parvis throwaway session 1";

/// Makes ids of throwaway sessions, and knows its own.
pub struct Mint(hmac::Key);

impl Mint {
    /// With the fleet's secret, so that each node, and the process after a restart, knows the ids of
    /// all. With an empty one a key of this process is made: an id from before a restart is then an
    /// ordinary session's.
    pub fn new(secret: &str) -> Self {
        if secret.is_empty() {
            return Self(hmac::Key::new(hmac::HMAC_SHA256, &crate::random::bytes::<32>()));
        }
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, PURPOSE).as_ref()))
    }

    /// An id that was never given out.
    pub fn id(&self) -> String {
        self.id_of(crate::random::bytes())
    }

    fn id_of(&self, random: [u8; RANDOM_BYTES]) -> String {
        let mut id = String::with_capacity(ID_LETTERS);
        push_letters(&random, &mut id);
        let seal = self.seal(id.as_bytes());
        push_letters(&seal, &mut id);
        id
    }

    /// Is this the id of a throwaway session?
    pub fn is_throwaway(&self, id: &[u8]) -> bool {
        if id.len() != ID_LETTERS {
            return false;
        }
        let (random, seal) = id.split_at(RANDOM_LETTERS);
        let mut expected = String::with_capacity(ID_LETTERS - RANDOM_LETTERS);
        push_letters(&self.seal(random), &mut expected);
        bool::from(seal.ct_eq(expected.as_bytes()))
    }

    fn seal(&self, letters: &[u8]) -> [u8; SEAL_BYTES] {
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&hmac::sign(&self.0, letters).as_ref()[..SEAL_BYTES]);
        seal
    }
}

/// Five bits a letter; the bytes are a multiple of five.
fn push_letters(bytes: &[u8], out: &mut String) {
    for five in bytes.chunks_exact(5) {
        let bits = five.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let letters = (0..8).rev().map(|at| LETTERS[(bits >> (at * 5)) as usize & 31]);
        out.extend(letters.map(char::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_that_php_and_magento_take() {
        let id = Mint::new("").id();
        assert_eq!(id.len(), 40);
        assert!(id.bytes().all(|letter| LETTERS.contains(&letter)), "{id}");
        assert_ne!(id, Mint::new("").id());
        assert_eq!(Mint::new("x").id_of([0xff; RANDOM_BYTES])[..16], *"vvvvvvvvvvvvvvvv");
    }

    #[test]
    fn a_mint_knows_its_own_and_no_other() {
        let (mint, other) = (Mint::new(""), Mint::new(""));
        let id = mint.id();
        assert!(mint.is_throwaway(id.as_bytes()));
        assert!(!other.is_throwaway(id.as_bytes()));
        for at in 0..id.len() {
            let mut changed = id.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            assert!(!mint.is_throwaway(&changed), "{at}");
        }
        for foreign in ["", "im2tov5730esfpirp7tijom7dv", &id[1..], &format!("{id}0")] {
            assert!(!mint.is_throwaway(foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn nodes_with_one_secret_know_each_others() {
        let id = Mint::new("secret").id();
        assert!(Mint::new("secret").is_throwaway(id.as_bytes()));
        assert!(!Mint::new("another").is_throwaway(id.as_bytes()));
    }
}
