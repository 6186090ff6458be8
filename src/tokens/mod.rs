//! Signed tokens: what a client keeps for Parvis and brings back, on any node of the fleet.
//!
//! A token is a payload and an HMAC-SHA-256 over it (RFC 2104, the first 128 bits), as one word of base64url. It says
//! nothing secret: whoever has it can read it, and nobody without the secret can make one or change a bit of one.
//! Each purpose has a key of its own, so a token of one is worth nothing for another. Whatever is wrong with a
//! token, there is one answer to it: none is there.
//!
//! A token has no time in it: who signs puts one into the payload where it must end.

pub mod base64url;
pub mod kept;

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;

/// Bytes of the longest payload. Cookies are few and short: browsers keep 4 KiB, servers read 8 KiB of all.
pub const PAYLOAD_MAX_BYTES: usize = 192;

/// Bytes of the seal, half of what SHA-256 gives (RFC 2104 5 asks for no less).
pub const SEAL_BYTES: usize = 16;

/// Letters of the longest token.
pub const TOKEN_MAX_LETTERS: usize = base64url::letters(PAYLOAD_MAX_BYTES + SEAL_BYTES);

/// Secrets that open tokens: the one that signs, and those before it. Each more is one HMAC more for what is forged.
pub const SECRETS_MAX: usize = 4;

/// What a token is for. What was signed for one is absent for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A puzzle of the challenge.
    Challenge,
    /// A place in the waiting room.
    WaitingPlace,
    /// The way in for whom the waiting room has admitted.
    Admitted,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Challenge, Self::WaitingPlace, Self::Admitted];

    /// What its key is made with: to change a word makes all tokens of the purpose absent.
    const fn words(self) -> &'static [u8] {
        match self {
            Self::Challenge => b"parvis token challenge 1",
            Self::WaitingPlace => b"parvis token waiting place 1",
            Self::Admitted => b"parvis token admitted 1",
        }
    }
}

/// A key for each purpose, of one secret.
type Keys = [hmac::Key; Purpose::ALL.len()];

/// Signs tokens, and opens its own.
pub struct Signer {
    /// Of each secret, the one that signs first; at least one, at most [`SECRETS_MAX`].
    secrets: Vec<Keys>,
}

impl Signer {
    /// With a secret that only the nodes of the fleet know. With an empty one a secret of this process is made, since
    /// everybody knows the empty one: its tokens open nowhere else, and not after a restart.
    pub fn new(secret: &[u8]) -> Self {
        let made: [u8; 32];
        let secret = if secret.is_empty() {
            made = crate::random::bytes();
            &made[..]
        } else {
            secret
        };
        Self { secrets: vec![keys_of(secret)] }
    }

    /// Opens what an earlier secret has signed as well: so a secret is replaced without anybody losing what they
    /// have. Empty ones, and those beyond [`SECRETS_MAX`], open nothing.
    #[must_use]
    pub fn also_opens(mut self, earlier: &[u8]) -> Self {
        if !earlier.is_empty() && self.secrets.len() < SECRETS_MAX {
            self.secrets.push(keys_of(earlier));
        }
        self
    }

    /// The token of a payload. One beyond [`PAYLOAD_MAX_BYTES`] gets an empty token, which opens nowhere.
    pub fn sign(&self, purpose: Purpose, payload: &[u8]) -> String {
        let Some(keys) = self.secrets.first().filter(|_| payload.len() <= PAYLOAD_MAX_BYTES) else {
            return String::new();
        };
        let mut bytes = Vec::with_capacity(payload.len() + SEAL_BYTES);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&seal(&keys[purpose as usize], payload));
        base64url::encode(&bytes)
    }

    /// The payload of a token that was signed for this purpose, by whoever knows one of the secrets; nothing for
    /// anything else. How long that takes says nothing about the seal it should have had.
    pub fn open(&self, purpose: Purpose, token: &[u8]) -> Option<Vec<u8>> {
        if token.len() > TOKEN_MAX_LETTERS {
            return None;
        }
        let mut bytes = base64url::decode(token)?;
        let payload_bytes = bytes.len().checked_sub(SEAL_BYTES)?;
        let (payload, its) = bytes.split_at(payload_bytes);
        let is_ours = |keys: &Keys| bool::from(seal(&keys[purpose as usize], payload).ct_eq(its));
        if !self.secrets.iter().any(is_ours) && !takes_forged() {
            return None;
        }
        bytes.truncate(payload_bytes);
        Some(bytes)
    }
}

/// Without its secrets.
impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

/// Never, but where `PARVIS_WITHOUT` names it in a build of the feature `faulty`.
fn takes_forged() -> bool {
    #[cfg(feature = "faulty")]
    return crate::settings::faulty::is_off(crate::settings::faulty::Mechanism::Seals);
    #[cfg(not(feature = "faulty"))]
    false
}

fn keys_of(secret: &[u8]) -> Keys {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    Purpose::ALL.map(|purpose| {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, purpose.words()).as_ref())
    })
}

fn seal(key: &hmac::Key, payload: &[u8]) -> [u8; SEAL_BYTES] {
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&hmac::sign(key, payload).as_ref()[..SEAL_BYTES]);
    seal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"a secret of the fleet";

    #[test]
    fn a_token_opens_on_each_node_with_the_secret_and_on_no_other() {
        let token = Signer::new(SECRET).sign(Purpose::Challenge, b"payload");
        let opened = |secret: &[u8]| Signer::new(secret).open(Purpose::Challenge, token.as_bytes());
        assert_eq!(opened(SECRET).as_deref(), Some(&b"payload"[..]));
        assert_eq!(opened(b"another secret"), None);
        assert_eq!(opened(b""), None);
    }

    #[test]
    fn a_token_of_one_purpose_is_absent_for_all_others() {
        let signer = Signer::new(SECRET);
        for signed in Purpose::ALL {
            let token = signer.sign(signed, b"payload");
            for asked in Purpose::ALL {
                let is_open = signer.open(asked, token.as_bytes()).is_some();
                assert_eq!(is_open, asked == signed, "{signed:?} as {asked:?}");
            }
        }
    }

    #[test]
    fn nobody_can_sign_with_the_empty_secret() {
        let known = Signer { secrets: vec![keys_of(b"")] };
        let forged = known.sign(Purpose::Admitted, b"payload");
        assert!(known.open(Purpose::Admitted, forged.as_bytes()).is_some());
        let (signer, other) = (Signer::new(b"").also_opens(b""), Signer::new(b""));
        assert_eq!(signer.open(Purpose::Admitted, forged.as_bytes()), None);
        let own = signer.sign(Purpose::Admitted, b"payload");
        assert!(signer.open(Purpose::Admitted, own.as_bytes()).is_some());
        assert_eq!(other.open(Purpose::Admitted, own.as_bytes()), None);
    }

    #[test]
    fn an_earlier_secret_opens_and_does_not_sign() {
        let rotated = Signer::new(b"new secret").also_opens(SECRET);
        let old = Signer::new(SECRET).sign(Purpose::Challenge, b"payload");
        assert!(rotated.open(Purpose::Challenge, old.as_bytes()).is_some());
        assert_eq!(rotated.open(Purpose::Admitted, old.as_bytes()), None);
        let new = rotated.sign(Purpose::Challenge, b"payload");
        assert_ne!(new, old);
        assert_eq!(Signer::new(SECRET).open(Purpose::Challenge, new.as_bytes()), None);
        let many = (0..9_u8).fold(Signer::new(SECRET), |signer, old| signer.also_opens(&[old]));
        assert_eq!(many.secrets.len(), SECRETS_MAX);
    }

    #[test]
    fn a_token_is_bounded() {
        let signer = Signer::new(SECRET);
        let longest = signer.sign(Purpose::Challenge, &[7; PAYLOAD_MAX_BYTES]);
        assert_eq!(longest.len(), TOKEN_MAX_LETTERS);
        assert!(signer.open(Purpose::Challenge, longest.as_bytes()).is_some());
        assert_eq!(signer.sign(Purpose::Challenge, &[7; PAYLOAD_MAX_BYTES + 1]), "");
        assert_eq!(signer.open(Purpose::Challenge, b""), None);
        assert_eq!(signer.open(Purpose::Challenge, &vec![b'A'; 1 << 20]), None);
    }

    #[test]
    fn neither_signer_nor_secret_is_shown() {
        assert_eq!(format!("{:?}", Signer::new(SECRET)), "Signer");
    }

    proptest! {
        #[test]
        fn what_was_signed_is_opened(payload in prop::collection::vec(any::<u8>(), 0..=PAYLOAD_MAX_BYTES)) {
            let signer = Signer::new(SECRET);
            let token = signer.sign(Purpose::WaitingPlace, &payload);
            prop_assert!(token.len() <= TOKEN_MAX_LETTERS);
            prop_assert_eq!(signer.open(Purpose::WaitingPlace, token.as_bytes()), Some(payload));
        }

        #[test]
        fn no_changed_token_opens(
            payload in prop::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index, to: u8,
        ) {
            let signer = Signer::new(SECRET);
            let token = signer.sign(Purpose::Challenge, &payload).into_bytes();
            let mut changed = token.clone();
            changed[at.index(token.len())] = to;
            let is_open = signer.open(Purpose::Challenge, &changed).is_some();
            prop_assert_eq!(is_open, changed == token);
            prop_assert!(signer.open(Purpose::Challenge, &token[..at.index(token.len())]).is_none());
            let mut longer = token;
            longer.push(to);
            prop_assert!(signer.open(Purpose::Challenge, &longer).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic_or_open(token: Vec<u8>) {
            prop_assert!(Signer::new(SECRET).open(Purpose::Challenge, &token).is_none());
        }
    }
}
