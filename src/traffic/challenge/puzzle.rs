//! What a puzzle says, and what counts as its solution.
//!
//! A puzzle is a signed token: for which network, when, and how much work. A **pass** is `PUZZLE.NONCE`, a text whose
//! SHA-256 begins with as many zero bits as the puzzle asks for. So the work is over the signature: it cannot be done before
//! the puzzle was given, and nothing has to be remembered of puzzles that were given.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};

use crate::tokens::{SEAL_BYTES, base64url};

/// Bytes before the network: the difficulty, and seconds of the clock.
const HEAD_BYTES: usize = 5;

/// Bytes of the longest network: its length, and the half of an IPv6 address that is the network's.
const NETWORK_MAX_BYTES: usize = 9;

/// Letters of the longest puzzle.
const PUZZLE_MAX_LETTERS: usize = base64url::letters(HEAD_BYTES + NETWORK_MAX_BYTES + SEAL_BYTES);

/// Digits of a nonce; JavaScript counts no further.
const NONCE_MAX_DIGITS: usize = 16;

/// Set in the length of a network of IPv6, since `10.0.0.0/24` and `a00::/24` begin with the same bytes.
const IPV6: u8 = 0x80;

/// Leading bits of an address that stay the same for whom the pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Of IPv4, at most 32.
    pub ipv4: u8,
    /// Of IPv6, at most 64.
    pub ipv6: u8,
}

/// The network of a client, as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    bytes: [u8; NETWORK_MAX_BYTES],
    length: usize,
}

impl Network {
    /// That of an address; one of IPv4 that is written as IPv6 is one of IPv4.
    pub fn of(address: IpAddr, prefixes: Prefixes) -> Self {
        let mut network = Self { bytes: [0; NETWORK_MAX_BYTES], length: 0 };
        match address.to_canonical() {
            IpAddr::V4(address) => network.push(prefixes.ipv4, prefixes.ipv4, &address.octets()),
            IpAddr::V6(address) => {
                network.push(prefixes.ipv6 | IPV6, prefixes.ipv6, &address.octets());
            }
        }
        network
    }

    fn push(&mut self, mark: u8, bits: u8, octets: &[u8]) {
        self.bytes[0] = mark;
        let places = self.bytes[1..].iter_mut().zip(octets);
        self.length = 1 + places.len();
        for (at, (byte, octet)) in places.enumerate() {
            let kept = usize::from(bits).saturating_sub(at * 8).min(8);
            *byte = octet & !(0xff_u8.checked_shr(kept as u32).unwrap_or(0));
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A puzzle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// Zero bits that are asked for.
    pub difficulty: u8,
    /// When it was given, by the wall clock.
    pub unix_seconds: u32,
    /// For whom.
    pub network: Network,
}

/// What a puzzle must say to count.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Zero bits at least.
    pub difficulty: u8,
    /// The network that asks.
    pub network: Network,
    /// Not given before.
    pub since_unix_seconds: u64,
    /// Not given after: nobody's clock is that far ahead.
    pub until_unix_seconds: u64,
}

impl Puzzle {
    /// What is signed.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(HEAD_BYTES + NETWORK_MAX_BYTES);
        payload.push(self.difficulty);
        payload.extend_from_slice(&self.unix_seconds.to_be_bytes());
        payload.extend_from_slice(self.network.as_bytes());
        payload
    }
}

/// A pass, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass<'a> {
    text: &'a [u8],
    /// The token.
    pub puzzle: &'a [u8],
}

impl<'a> Pass<'a> {
    /// Takes `PUZZLE.NONCE` apart; nothing for anything else.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let at = memchr::memchr(b'.', text)?;
        let (puzzle, nonce) = (&text[..at], &text[at + 1..]);
        let is_number =
            (1..=NONCE_MAX_DIGITS).contains(&nonce.len()) && nonce.iter().all(u8::is_ascii_digit);
        is_number.then_some(Self { text, puzzle })
    }

    /// Does it say what is asked for, and was the work done? Whether the puzzle is ours only its signature says. All can read what
    /// it says, so it is looked at first, and costs no HMAC.
    pub fn meets(&self, demand: &Demand) -> bool {
        if self.puzzle.len() > PUZZLE_MAX_LETTERS {
            return false;
        }
        let Some(token) = base64url::decode(self.puzzle) else { return false };
        let Some((&[difficulty, a, b, c, d], rest)) = token.split_first_chunk::<HEAD_BYTES>()
        else {
            return false;
        };
        let given = u64::from(u32::from_be_bytes([a, b, c, d]));
        rest.len() == demand.network.length + SEAL_BYTES
            && rest.starts_with(demand.network.as_bytes())
            && difficulty >= demand.difficulty
            && (demand.since_unix_seconds..=demand.until_unix_seconds).contains(&given)
            && zero_bits(self.text) >= u32::from(difficulty)
    }
}

/// Zero bits at the beginning of a text's SHA-256.
pub fn zero_bits(text: &[u8]) -> u32 {
    let hash = digest(&SHA256, text);
    let mut zeros = 0;
    for byte in hash.as_ref() {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIXES: Prefixes = Prefixes { ipv4: 24, ipv6: 48 };

    fn network(address: &str, prefixes: Prefixes) -> Network {
        Network::of(address.parse().expect("an address"), prefixes)
    }

    #[test]
    fn a_network_is_the_leading_bits_of_an_address() {
        let of = |address| network(address, PREFIXES);
        assert_eq!(of("192.0.2.7"), of("192.0.2.200"));
        assert_ne!(of("192.0.2.7"), of("192.0.3.7"));
        assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.9"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:ffff::1"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:2:2::3"));
        assert_eq!(of("192.0.2.7").as_bytes(), [24, 192, 0, 2, 0]);
        let odd = Prefixes { ipv4: 21, ipv6: 61 };
        assert_eq!(network("10.255.255.255", odd).as_bytes(), [21, 10, 255, 248, 0]);
        assert_eq!(
            network("ffff:ffff:ffff:ffff::", odd).as_bytes(),
            [189, 255, 255, 255, 255, 255, 255, 255, 248]
        );
        let whole = Prefixes { ipv4: 32, ipv6: 64 };
        assert_eq!(network("10.1.2.3", whole).as_bytes(), [32, 10, 1, 2, 3]);
    }

    #[test]
    fn networks_of_the_two_families_are_never_the_same() {
        let prefixes = Prefixes { ipv4: 24, ipv6: 24 };
        let (four, six) = (network("10.0.0.1", prefixes), network("a00::1", prefixes));
        assert_ne!(four.as_bytes()[0], six.as_bytes()[0]);
    }

    #[test]
    fn only_a_puzzle_with_a_number_is_a_pass() {
        assert!(Pass::parse(b"abc.0").is_some() && Pass::parse(b"abc.1234567890123456").is_some());
        for wrong in ["", "abc", "abc.", "abc.-1", "abc.1e3", "abc.1.2", "abc.12345678901234567"] {
            assert_eq!(Pass::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn zero_bits_are_counted_from_the_beginning() {
        // FIPS 180-4's own example, which begins with ba7816bf.
        assert_eq!(zero_bits(b"abc"), 0);
        let found = (0..1_000_000)
            .map(|nonce| format!("x.{nonce}"))
            .find(|text| zero_bits(text.as_bytes()) >= 12);
        let found = found.expect("there is one");
        let hash = digest(&SHA256, found.as_bytes());
        assert!(hash.as_ref()[0] == 0 && hash.as_ref()[1] < 16, "{found}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_meets(text: Vec<u8>) {
            let demand = Demand {
                difficulty: 1,
                network: network("192.0.2.7", PREFIXES),
                since_unix_seconds: 0,
                until_unix_seconds: u64::MAX,
            };
            if let Some(pass) = Pass::parse(&text) {
                prop_assert!(!pass.meets(&demand));
            }
        }

        #[test]
        fn addresses_share_a_network_exactly_where_their_leading_bits_agree(a: [u8; 4], b: [u8; 4], bits in 0..=32_u8) {
            let prefixes = Prefixes { ipv4: bits, ipv6: 0 };
            let shift = 32 - u32::from(bits);
            let leading = |octets| u32::from_be_bytes(octets).checked_shr(shift).unwrap_or(0);
            let is_same = Network::of(a.into(), prefixes) == Network::of(b.into(), prefixes);
            prop_assert_eq!(is_same, leading(a) == leading(b));
        }
    }
}
