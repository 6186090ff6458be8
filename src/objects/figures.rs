//! What is to be seen of the object cache from outside: numbers, what takes most, and one key's content.

use std::fmt::Write as _;
use std::io::Read as _;

use parking_lot::MutexGuard;
use serde::{Deserialize, Serialize};

use super::Objects;
use crate::keyspace::{Content, Largest, Look, Sized};

/// Keys that are looked at in one turn, before clients have theirs.
const SURVEYED_AT_ONCE: usize = 1_000;

/// How a value begins that `Cm_Cache_Backend_Redis` has compressed: two letters of the library's name, and
/// this.
const COMPRESSED: &[u8] = b":\x1f\x8b";

/// Memory that taking zstd off may take: 8 MiB, as RFC 8878 3.1.1.1.2 has it.
const WINDOW_LOG_MAX: u32 = 23;

/// The databases and their clients. Counts are since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Keys in all databases.
    pub keys: u64,
    /// Bytes that they take in memory.
    pub bytes: u64,
    /// Of these what sets take, which are the tags of a cache.
    pub sets_bytes: u64,
    /// What all may take (`objects.memory`).
    pub limit_bytes: u64,
    /// Clients that are connected.
    pub clients: u64,
    /// Clients that have connected.
    pub connections: u64,
    /// Connections that were ended for what their client sent.
    pub refused: u64,
    /// Commands that came.
    pub commands: u64,
    /// Keys that were read and there.
    pub hits: u64,
    /// Keys that were read and not there.
    pub misses: u64,
    /// Keys whose time was over.
    pub expired: u64,
    /// Keys that made room for others.
    pub evictions: u64,
    /// Times that a database began anew, since sets alone took half of the memory.
    pub resets: u64,
    /// Those that have keys.
    pub databases: Vec<DatabaseOverview>,
}

/// One database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseOverview {
    /// Its number.
    pub database: u64,
    /// Its keys.
    pub keys: u64,
    /// Of these the sets.
    pub sets: u64,
    /// Keys with an end.
    pub expiring: u64,
    /// Bytes that all of them take in memory.
    pub bytes: u64,
    /// Bytes of that which the sets take.
    pub sets_bytes: u64,
}

/// The keys that take most, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestKeys {
    /// Strings and hashes, by their bytes in memory.
    pub values: Vec<KeyOverview>,
    /// Sets, by their members.
    pub sets: Vec<KeyOverview>,
}

/// One key. Its text is as [`shown`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOverview {
    /// Its database.
    pub database: u64,
    /// The key.
    pub key: String,
    /// `string`, `hash` or `set`.
    pub kind: String,
    /// Bytes that it takes in memory.
    pub bytes: u64,
    /// Bytes of a string, fields of a hash, members of a set.
    pub length: u64,
    /// Seconds until it ends; `None`: it does not.
    pub ttl_seconds: Option<i64>,
}

/// One key with what stands under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyContent {
    /// The key.
    #[serde(flatten)]
    pub overview: KeyOverview,
    /// The string, each field of a hash, or each member of a set.
    pub parts: Vec<Part>,
    /// There is more of it.
    pub is_cut: bool,
}

/// A string, the value of a field, or a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The field.
    pub field: Option<String>,
    /// What it is, as [`shown`] has it; without compression where that is one that is read here.
    pub text: String,
    /// The compression that it has: `gz`, `zs`, or one that is not read here (`sn`, `lz`, `l4`).
    pub compression: Option<String>,
}

/// Why something cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShown {
    /// The settings have fewer databases.
    #[error("there is no database {asked}: objects.databases says 0 to {}", .databases.saturating_sub(1))]
    NoDatabase {
        /// The number that was asked for.
        asked: usize,
        /// How many there are.
        databases: usize,
    },
    /// It is not there, or has ended.
    #[error("there is no key {key} in database {database}{elsewhere}")]
    NoKey {
        /// The key, as [`shown`] has it.
        key: String,
        /// Where it was looked for.
        database: usize,
        /// Where it is instead.
        elsewhere: String,
    },
}

impl Objects {
    /// Numbers of the whole and of each database.
    pub fn overview(&self) -> Overview {
        let figures = self.figures();
        let kept = figures.keyspace;
        let databases = self.keyspace.lock().database_figures();
        let databases = databases.into_iter().map(|(database, figures)| DatabaseOverview {
            database: database as u64,
            keys: figures.keys as u64,
            sets: figures.sets as u64,
            expiring: figures.expiring as u64,
            bytes: figures.bytes as u64,
            sets_bytes: figures.sets_bytes as u64,
        });
        Overview {
            keys: kept.keys as u64,
            bytes: kept.memory_bytes as u64,
            sets_bytes: kept.sets_bytes as u64,
            limit_bytes: figures.memory_max_bytes,
            clients: figures.clients as u64,
            connections: figures.clients_seen,
            refused: figures.refused,
            commands: kept.commands,
            hits: kept.hits,
            misses: kept.misses,
            expired: kept.expired,
            evictions: kept.evicted,
            resets: kept.resets,
            databases: databases.collect(),
        }
    }

    /// The keys that take most, in one database or all, `count` of each kind. Blocks, and looks at all keys
    /// in turns.
    pub fn largest(&self, database: Option<usize>, count: usize) -> Result<LargestKeys, NotShown> {
        let databases = self.keyspace.lock().databases();
        let wanted = match database {
            Some(asked) if asked >= databases => {
                return Err(NotShown::NoDatabase { asked, databases });
            }
            Some(asked) => asked..asked + 1,
            None => 0..databases,
        };
        let (now_ms, mut largest) = (self.now_ms(), Largest::of(count));
        for database in wanted {
            let mut left = self.keyspace.lock().len(database);
            while left > 0 {
                let keyspace = self.keyspace.lock();
                left = keyspace.survey(database, left, SURVEYED_AT_ONCE, now_ms, &mut largest);
                MutexGuard::unlock_fair(keyspace);
            }
        }
        let shown =
            |list: Vec<Sized>| list.into_iter().map(|it| overview_of(&it, now_ms)).collect();
        Ok(LargestKeys { values: shown(largest.values), sets: shown(largest.sets) })
    }

    /// One key with up to `max_bytes` of what stands under it.
    pub fn key(
        &self,
        database: usize,
        key: &[u8],
        max_bytes: usize,
    ) -> Result<KeyContent, NotShown> {
        let now_ms = self.now_ms();
        let look = {
            let keyspace = self.keyspace.lock();
            let databases = keyspace.databases();
            if database >= databases {
                return Err(NotShown::NoDatabase { asked: database, databases });
            }
            let Some(look) = keyspace.look(database, key, now_ms, max_bytes) else {
                let other = (0..databases).find(|at| keyspace.look(*at, key, now_ms, 0).is_some());
                let elsewhere =
                    other.map(|at| format!("; there is one in database {at}")).unwrap_or_default();
                return Err(NotShown::NoKey { key: shown(key), database, elsewhere });
            };
            look
        };
        Ok(content_of(&look, now_ms, max_bytes))
    }
}

fn overview_of(it: &Sized, now_ms: i64) -> KeyOverview {
    KeyOverview {
        database: it.database as u64,
        key: shown(&it.key),
        kind: it.kind.to_owned(),
        bytes: it.bytes as u64,
        length: it.length as u64,
        ttl_seconds: it.expires_ms.map(|end| end.saturating_sub(now_ms).max(0) / 1_000),
    }
}

fn content_of(look: &Look, now_ms: i64, max_bytes: usize) -> KeyContent {
    let (mut left_bytes, mut is_cut) = (max_bytes, look.is_cut);
    let mut part = |field: Option<&[u8]>, text: &[u8]| {
        let (compression, plain) = unpacked(text, left_bytes);
        let plain = plain.as_deref().unwrap_or(text);
        let length = plain.len().min(left_bytes);
        is_cut |= length < plain.len();
        left_bytes -= length;
        Part { field: field.map(shown), text: shown(&plain[..length]), compression }
    };
    let parts = match &look.content {
        Content::String(text) => vec![part(None, text)],
        Content::Hash(fields) => {
            fields.iter().map(|(field, text)| part(Some(field), text)).collect()
        }
        Content::Set(members) => members.iter().map(|member| part(None, member)).collect(),
    };
    KeyContent { overview: overview_of(&look.sized, now_ms), parts, is_cut }
}

/// The compression that a value has, and what it is without: up to a byte more than `max_bytes` of that, or
/// as far as it goes where the value was cut.
fn unpacked(text: &[u8], max_bytes: usize) -> (Option<String>, Option<Vec<u8>>) {
    let Some((name, rest)) = text.split_at_checked(2) else { return (None, None) };
    let Some(packed) = rest.strip_prefix(COMPRESSED) else { return (None, None) };
    let mut plain = Vec::new();
    let limit = max_bytes as u64 + 1;
    // An error in the midst leaves what came before.
    let read = match name {
        b"gz" => flate2::read::ZlibDecoder::new(packed).take(limit).read_to_end(&mut plain),
        b"zs" => match zstd::stream::read::Decoder::with_buffer(packed) {
            Ok(mut decoder) => decoder
                .window_log_max(WINDOW_LOG_MAX)
                .and_then(|()| decoder.take(limit).read_to_end(&mut plain)),
            Err(error) => Err(error),
        },
        _ => return (Some(shown(name)), None),
    };
    let is_readable = read.is_ok() || !plain.is_empty();
    (Some(shown(name)), is_readable.then_some(plain))
}

/// Bytes as text that can do nothing to a terminal, and says each byte: what is no letter or sign of UTF-8
/// becomes `\xNN`, what is not printed `\n` or `\u{N}`, a backslash two.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\'' | '"' => text.push(letter),
                _ => text.extend(letter.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The bytes that [`shown`] made the text of. A backslash that begins nothing stands for itself.
pub fn meant(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let length = escape(rest, &mut bytes);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What an escape stands for; how long it is.
fn escape(text: &str, bytes: &mut Vec<u8>) -> usize {
    let number = |digits: Option<&str>| {
        let digits = digits.filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    match text.as_bytes().get(1) {
        Some(b'n') => bytes.push(b'\n'),
        Some(b'r') => bytes.push(b'\r'),
        Some(b't') => bytes.push(b'\t'),
        Some(b'0') => bytes.push(0),
        Some(b'\\') => bytes.push(b'\\'),
        Some(b'x') => {
            if let Some(byte) = number(text.get(2..4)).and_then(|it| u8::try_from(it).ok()) {
                bytes.push(byte);
                return 4;
            }
            bytes.push(b'\\');
            return 1;
        }
        Some(b'u') => {
            let digits = text[2..].strip_prefix('{').and_then(|rest| Some(rest.split_once('}')?.0));
            if let Some(letter) = number(digits).and_then(char::from_u32) {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return 4 + digits.map_or(0, str::len);
            }
            bytes.push(b'\\');
            return 1;
        }
        _ => {
            bytes.push(b'\\');
            return 1;
        }
    }
    2
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use proptest::prelude::*;

    const RIGHT_TO_LEFT: char = '\u{202e}';

    proptest! {
        #[test]
        fn what_is_shown_is_printable_and_means_the_same_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            text in "\\PC{0,20}|[\\\\xu{}0-9n\u{202e}\u{1b}]{0,20}",
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let shown = shown(bytes);
                let is_odd = |it: char| it.is_control() || it == RIGHT_TO_LEFT;
                prop_assert!(!shown.chars().any(is_odd), "{}", shown);
                prop_assert_eq!(&meant(&shown)[..], bytes);
            }
        }
    }

    #[test]
    fn a_text_that_nobody_escaped_is_taken_as_it_is() {
        for text in [r"a\b", r"\", r"\x4", r"\xzz", r"\u", r"\u{}", r"\u{110000}", "zc:k:A\"'"] {
            assert_eq!(meant(text), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn compressed_values_are_shown_as_what_they_are_within_the_bound() {
        let text = b"<div>lorem</div>".repeat(1_000);
        let mut gz = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).expect("written");
        let gz = [&b"gz:\x1f\x8b"[..], &gz.finish().expect("packed")].concat();
        let zs = [&b"zs:\x1f\x8b"[..], &zstd::bulk::compress(&text, 1).expect("packed")].concat();
        for (name, packed) in [("gz", &gz), ("zs", &zs)] {
            let (compression, plain) = unpacked(packed, 1 << 20);
            assert_eq!((compression.as_deref(), plain), (Some(name), Some(text.clone())));
            assert_eq!(unpacked(packed, 99).1.map(|it| it.len()), Some(100), "bounded");
        }
        // What was cut is shown as far as it goes.
        let cut = unpacked(&gz[..gz.len() / 2], 1 << 20).1.expect("something");
        assert!(text.starts_with(&cut));
        assert_eq!(unpacked(b"l4:\x1f\x8bxx", 9), (Some("l4".to_owned()), None));
        assert_eq!(unpacked(b"gz:\x1f\x8bno zlib", 9), (Some("gz".to_owned()), None));
        assert_eq!(unpacked(b"gz: text", 9), (None, None));
    }
}
