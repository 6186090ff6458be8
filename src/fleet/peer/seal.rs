//! How peers know each other by a shared secret: each message carries an HMAC-SHA-256.
//!
//! A request is sealed over its method, path and content, over a **challenge** which the node that
//! answers has made for this very connection, over a number that is used once on it, and over random
//! bytes of the node that asks. So a request that was written down is worth nothing on any other
//! connection or at another node, and the number catches it on its own. No clock takes part: with
//! times in it a node whose clock is wrong would be locked out, or what was written down would be good
//! again (design.md P8); the challenge proves more than a time could. An answer is sealed over
//! the seal of its request, so that none can be put in its place.

use std::fmt;

use aws_lc_rs::hmac;
use bytes::Bytes;
use subtle::ConstantTimeEq as _;

use crate::fleet::log::Token;

/// Bytes of a seal.
pub const SEAL_BYTES: usize = 32;

const REQUEST: &[u8] = b"parvis peer request 1";
const ANSWER: &[u8] = b"parvis peer answer 1";

/// A seal.
pub type Seal = [u8; SEAL_BYTES];

/// `fleet.secret`, ready for use.
pub struct Secret(hmac::Key);

/// What a request says of its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Used once on a connection, from 1.
    pub number: u64,
    /// Random, of the node that asks.
    pub nonce: Token,
    /// The seal.
    pub seal: Seal,
}

/// What a request's seal is over, besides number and nonce.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Of the connection.
    pub challenge: Token,
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The content.
    pub content: &'a [u8],
}

impl Secret {
    /// From the setting.
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Seals a request.
    pub fn seal(&self, subject: Subject<'_>, number: u64, nonce: Token) -> Sealed {
        let number_bytes = number.to_le_bytes();
        let seal = self.over(&[
            REQUEST,
            &subject.challenge.bytes(),
            &number_bytes,
            &nonce.bytes(),
            subject.method.as_bytes(),
            subject.path.as_bytes(),
            subject.content,
        ]);
        Sealed { number, nonce, seal }
    }

    /// Was it sealed by somebody who knows the secret?
    pub fn holds(&self, subject: Subject<'_>, sealed: &Sealed) -> bool {
        let right = self.seal(subject, sealed.number, sealed.nonce);
        right.seal.ct_eq(&sealed.seal).into()
    }

    /// Seals the answer to a request.
    pub fn answer(&self, request: &Seal, content: &[u8]) -> Seal {
        self.over(&[ANSWER, request, content])
    }

    /// Is it the answer to that request, by somebody who knows the secret?
    pub fn is_answer(&self, request: &Seal, content: &[u8], seal: &[u8]) -> bool {
        self.answer(request, content)[..].ct_eq(seal).into()
    }

    /// Each part with its length before it, so that none can pass for the beginning of the next.
    fn over(&self, parts: &[&[u8]]) -> Seal {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(context.sign().as_ref());
        seal
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Sealed {
    /// The value of the field.
    pub fn to_value(self) -> Bytes {
        let mut text = format!("{} {} ", self.number, self.nonce);
        text.extend(self.seal.iter().map(|byte| format!("{byte:02x}")));
        text.into()
    }

    /// Reads what [`Sealed::to_value`] writes.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(' ');
        let (number, nonce, hex) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || hex.len() != 2 * SEAL_BYTES {
            return None;
        }
        let (one, other) = hex.as_bytes().split_at(SEAL_BYTES);
        let (one, other) = (Token::parse(one)?, Token::parse(other)?);
        let mut seal = [0; SEAL_BYTES];
        seal[..SEAL_BYTES / 2].copy_from_slice(&one.bytes());
        seal[SEAL_BYTES / 2..].copy_from_slice(&other.bytes());
        Some(Self { number: number.parse().ok()?, nonce: Token::parse(nonce.as_bytes())?, seal })
    }
}

/// Numbers that may be late: requests of one connection overtake each other.
const WINDOW: u64 = 1_024;

/// Which numbers of a connection were used. It takes 128 bytes, however many there were.
#[derive(Debug)]
pub struct Used {
    highest: u64,
    /// A bit for each of the last [`WINDOW`] numbers, at its place modulo that.
    bits: [u64; (WINDOW / 64) as usize],
}

impl Default for Used {
    fn default() -> Self {
        Self { highest: 0, bits: [0; (WINDOW / 64) as usize] }
    }
}

impl Used {
    /// Uses a number; false: it was used already, or is too late to know.
    pub fn take(&mut self, number: u64) -> bool {
        if number == 0 || self.highest.saturating_sub(number) >= WINDOW {
            return false;
        }
        if number > self.highest {
            let skipped = (number - self.highest).min(WINDOW);
            (0..skipped).for_each(|back| self.set(number - back, false));
            self.highest = number;
        }
        let is_new = !self.is_set(number);
        self.set(number, true);
        is_new
    }

    fn set(&mut self, number: u64, to: bool) {
        let (word, bit) = Self::place(number);
        self.bits[word] = self.bits[word] & !bit | if to { bit } else { 0 };
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.bits[word] & bit != 0
    }

    fn place(number: u64) -> (usize, u64) {
        let place = number % WINDOW;
        ((place / 64) as usize, 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const CHALLENGE: Token = Token::new([1; 16]);

    fn subject(content: &[u8]) -> Subject<'_> {
        Subject { challenge: CHALLENGE, method: "POST", path: "/page", content }
    }

    #[test]
    fn a_seal_holds_for_its_own_request_alone() {
        let secret = Secret::new("a secret of the fleet");
        let sealed = secret.seal(subject(b"page"), 7, Token::new([2; 16]));
        assert!(secret.holds(subject(b"page"), &sealed));
        assert!(!secret.holds(subject(b"pagE"), &sealed));
        assert!(!secret.holds(Subject { path: "/pag", ..subject(b"epage") }, &sealed));
        assert!(!secret.holds(Subject { method: "GET", ..subject(b"page") }, &sealed));
        let elsewhere = Subject { challenge: Token::new([3; 16]), ..subject(b"page") };
        assert!(!secret.holds(elsewhere, &sealed));
        assert!(!secret.holds(subject(b"page"), &Sealed { number: 8, ..sealed }));
        assert!(!Secret::new("another secret").holds(subject(b"page"), &sealed));
        let answer = secret.answer(&sealed.seal, b"content");
        assert!(secret.is_answer(&sealed.seal, b"content", &answer));
        assert!(!secret.is_answer(&sealed.seal, b"contenT", &answer));
        assert!(!secret.is_answer(&answer, b"content", &answer));
        assert!(!secret.is_answer(&sealed.seal, b"content", &answer[1..]));
    }

    proptest! {
        #[test]
        fn a_seal_reads_back_as_it_was_written(number: u64, nonce: [u8; 16], seal: [u8; 32]) {
            let sealed = Sealed { number, nonce: Token::new(nonce), seal };
            prop_assert_eq!(Sealed::parse(&sealed.to_value()), Some(sealed));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(value: Vec<u8>) {
            let _ = Sealed::parse(&value);
        }

        #[test]
        fn no_number_is_used_twice(numbers in prop::collection::vec(0..4_000_u64, 1..400)) {
            let (mut used, mut model) = (Used::default(), HashSet::new());
            let mut highest = 0;
            for number in numbers {
                let in_window = number > 0 && number + WINDOW > highest;
                let is_new = in_window && model.insert(number);
                prop_assert_eq!(used.take(number), is_new);
                highest = highest.max(number);
            }
        }
    }

    #[test]
    fn the_last_number_there_is_can_be_used() {
        let mut used = Used::default();
        assert!(used.take(u64::MAX) && !used.take(u64::MAX));
        assert!(used.take(u64::MAX - 1) && !used.take(1));
    }
}
