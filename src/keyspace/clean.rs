//! What was cleaned, as a value that other nodes can do, too.
//!
//! Its text is one line that people read: `all flush`, `0 flush`, `0 keys zc:ti:ABC,zc:k:x`,
//! `0 common zc:ti:ABC,zc:ti:D`. Bytes that do not print, spaces, commas and `%` are `%XX`; a key without a byte is a lone `%`.

use std::str;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

/// What a command took away that other nodes may have a copy of, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clean {
    /// All databases.
    Everything,
    /// FLUSHDB, and what stands for it.
    Database(u32),
    /// Keys that were deleted by a client (never by expiry or eviction). Where one of them is a set of a
    /// tag (settings: `objects.tag_sets`), what it names on each node goes, too.
    Keys {
        /// In which database.
        database: u32,
        /// Their names.
        keys: Vec<Bytes>,
    },
    /// What the sets of all these tags name.
    Common {
        /// In which database.
        database: u32,
        /// The sets, one or more.
        sets: Vec<Bytes>,
    },
}

/// What stands for something else within a key.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%');
/// A key without a byte: two of them and none at all are told apart.
const EMPTY: &[u8] = b"%";

impl Clean {
    /// Its text, in ASCII without a line's end.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Everything => b"all flush".to_vec(),
            Self::Database(database) => format!("{database} flush").into_bytes(),
            Self::Keys { database, keys } => list(&format!("{database} keys"), keys),
            Self::Common { database, sets } => list(&format!("{database} common"), sets),
        }
    }

    /// What a text says; `None`: it is none of ours.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let mut words = text.splitn(3, |byte| *byte == b' ');
        let (place, what, keys) = (words.next()?, words.next()?, words.next());
        if place == b"all" {
            return (what == b"flush" && keys.is_none()).then_some(Self::Everything);
        }
        let is_number = place.iter().all(u8::is_ascii_digit);
        let database = str::from_utf8(place).ok().filter(|_| is_number)?.parse().ok()?;
        match (what, keys) {
            (b"flush", None) => Some(Self::Database(database)),
            (b"keys", None) => Some(Self::Keys { database, keys: Vec::new() }),
            (b"keys", Some(keys)) => Some(Self::Keys { database, keys: listed(keys)? }),
            (b"common", Some(sets)) => Some(Self::Common { database, sets: listed(sets)? }),
            _ => None,
        }
    }

    /// Bytes of its text, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Keys { keys: names, .. } | Self::Common { sets: names, .. } => {
                names.iter().map(text_bytes).sum()
            }
            Self::Everything | Self::Database(_) => "all flush".len(),
        }
    }

    /// Cleans of these keys, each of at most `max_bytes` as text, but for a key that alone has more.
    pub fn of_keys(database: u32, keys: Vec<Bytes>, max_bytes: usize) -> Vec<Self> {
        let (mut cleans, mut some, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        for key in keys {
            let more = text_bytes(&key);
            if !some.is_empty() && bytes.saturating_add(more) > max_bytes {
                cleans.push(Self::Keys { database, keys: std::mem::take(&mut some) });
                bytes = 0;
            }
            bytes = bytes.saturating_add(more);
            some.push(key);
        }
        if !some.is_empty() {
            cleans.push(Self::Keys { database, keys: some });
        }
        cleans
    }
}

fn list(before: &str, keys: &[Bytes]) -> Vec<u8> {
    let mut text = before.as_bytes().to_vec();
    for (at, key) in keys.iter().enumerate() {
        text.push(if at == 0 { b' ' } else { b',' });
        if key.is_empty() {
            text.extend_from_slice(EMPTY);
        }
        for part in percent_encode(key, ESCAPED) {
            text.extend_from_slice(part.as_bytes());
        }
    }
    text
}

fn listed(text: &[u8]) -> Option<Vec<Bytes>> {
    text.split(|byte| *byte == b',').map(key).collect()
}

/// Bytes of a key as text, with what is between two.
fn text_bytes(key: &Bytes) -> usize {
    percent_encode(key, ESCAPED).map(str::len).sum::<usize>().max(1) + 1
}

/// The key that a text stands for. It is written in one way alone, so that what is read is written again as
/// the same bytes.
fn key(text: &[u8]) -> Option<Bytes> {
    if text == EMPTY {
        return Some(Bytes::new());
    }
    let key: Vec<u8> = percent_decode(text).collect();
    let is_ours = !key.is_empty()
        && percent_encode(&key, ESCAPED).flat_map(str::bytes).eq(text.iter().copied());
    is_ours.then(|| key.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(database: u32, keys: &[&'static [u8]]) -> Clean {
        Clean::Keys { database, keys: keys.iter().map(|key| Bytes::from_static(key)).collect() }
    }

    #[test]
    fn the_text_is_read_by_people_and_says_the_same() {
        let cases: [(Clean, &str); 8] = [
            (Clean::Everything, "all flush"),
            (Clean::Database(0), "0 flush"),
            (Clean::Database(u32::MAX), "4294967295 flush"),
            (keys(0, &[b"zc:ti:ABC", b"zc:k:x"]), "0 keys zc:ti:ABC,zc:k:x"),
            (keys(3, &[b"a b,c%\n\xff"]), "3 keys a%20b%2Cc%25%0A%FF"),
            (keys(1, &[]), "1 keys"),
            (keys(1, &[b""]), "1 keys %"),
            (keys(1, &[b"", b"%"]), "1 keys %,%25"),
        ];
        for (clean, text) in cases {
            assert_eq!(String::from_utf8(clean.encode()).unwrap(), text);
            assert_eq!(Clean::decode(text.as_bytes()), Some(clean));
        }
    }

    #[test]
    fn what_nobody_here_wrote_is_no_clean() {
        let wrong = [
            "",
            "flush",
            "all",
            "all keys a",
            "all flush ",
            "0 flush 1",
            "-1 flush",
            "+1 flush",
            "4294967296 flush",
            "0 clean",
            "0 common",
            "0 common ",
            "all common a",
            "0 keys ",
            "0 keys a,",
            "0 keys ,a",
            "0 keys %2c",
            "0 keys %4",
            "0 keys %41",
            "0 keys a b",
            " 0 flush",
            "0  flush",
        ];
        for text in wrong {
            assert_eq!(Clean::decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn many_keys_are_several_cleans_of_bounded_length() {
        let many: Vec<Bytes> = (0..1_000).map(|at| Bytes::from(format!("zc:k:{at}"))).collect();
        let cleans = Clean::of_keys(2, many.clone(), 1_000);
        assert!(cleans.len() > 5);
        let mut back = Vec::new();
        for clean in cleans {
            assert!(clean.encode().len() <= 1_000 + "2 keys".len());
            let Clean::Keys { database: 2, keys } = clean else { panic!("keys") };
            back.extend(keys);
        }
        assert_eq!(back, many);
        assert_eq!(Clean::of_keys(0, vec![Bytes::from(vec![b'x'; 5_000])], 1_000).len(), 1);
        assert!(Clean::of_keys(0, Vec::new(), 1_000).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            database in any::<u32>(),
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..6),
        ) {
            let keys: Vec<Bytes> = keys.into_iter().map(Bytes::from).collect();
            if !keys.is_empty() {
                let clean = Clean::Common { database, sets: keys.clone() };
                prop_assert_eq!(Clean::decode(&clean.encode()), Some(clean));
            }
            let clean = Clean::Keys { database, keys };
            prop_assert_eq!(Clean::decode(&clean.encode()), Some(clean));
        }

        #[test]
        fn what_is_read_is_written_as_the_same_bytes(
            text in "(0|7|all|01)( )(keys|common|flush)( [%ab,0-9A-F]{0,12})?",
        ) {
            if let Some(clean) = Clean::decode(text.as_bytes()) {
                let again = clean.encode();
                prop_assert_eq!(Clean::decode(&again), Some(clean));
                if !text.starts_with("01") {
                    prop_assert_eq!(String::from_utf8(again).unwrap(), text);
                }
            }
        }
    }
}
