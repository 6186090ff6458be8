//! What people look at: figures of one database, its largest keys, and one key with what stands under it.
//!
//! Nothing here counts as a use, or as a look of a client.

use super::dense::Dense;
use super::value::{Entry, Value};
use super::{Database, Keyspace};

/// Numbers of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFigures {
    /// Keys, those included that have ended and were not removed yet.
    pub keys: usize,
    /// Of these the sets.
    pub sets: usize,
    /// Keys with an end.
    pub expiring: usize,
    /// Bytes that all of them take in memory.
    pub bytes: usize,
    /// Bytes of that which the sets take.
    pub sets_bytes: usize,
}

/// A key, and how large it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sized {
    /// Its database.
    pub database: usize,
    /// The key.
    pub key: Box<[u8]>,
    /// As TYPE says it.
    pub kind: &'static str,
    /// Bytes that it takes in memory.
    pub bytes: usize,
    /// Bytes of a string, fields of a hash, members of a set.
    pub length: usize,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// The largest keys that were seen, in two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    /// Entries of each list at most.
    pub count: usize,
    /// Strings and hashes that take most memory, the largest first.
    pub values: Vec<Sized>,
    /// Sets with most members, the largest first: the tags of a cache.
    pub sets: Vec<Sized>,
}

/// A key with what stands under it, or the beginning of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The key.
    pub sized: Sized,
    /// What stands under it.
    pub content: Content,
    /// There is more of it than was asked for.
    pub is_cut: bool,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A string.
    String(Vec<u8>),
    /// Fields with their values.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// Members.
    Set(Vec<Vec<u8>>),
}

fn sized(database: usize, key: &[u8], entry: &Entry) -> Sized {
    let length = match &entry.value {
        Value::String(text) => text.len(),
        Value::Hash(fields) => fields.len(),
        Value::Set(members) => members.len(),
    };
    Sized {
        database,
        key: key.into(),
        kind: entry.value.kind(),
        bytes: Dense::cost(key, entry),
        length,
        expires_ms: entry.expires_ms,
    }
}

impl Largest {
    /// For so many entries of each list.
    pub fn of(count: usize) -> Self {
        Self { count, ..Self::default() }
    }

    fn take_in(&mut self, database: usize, key: &[u8], entry: &Entry) {
        let (list, weigh): (_, fn(&Sized) -> usize) = match &entry.value {
            Value::Set(_) => (&mut self.sets, |it| it.length),
            _ => (&mut self.values, |it| it.bytes),
        };
        let (smallest, is_full) = (list.last().map_or(0, weigh), list.len() >= self.count);
        let weight = match &entry.value {
            Value::Set(members) => members.len(),
            _ => Dense::cost(key, entry),
        };
        if is_full && weight <= smallest {
            return;
        }
        // What moved towards the front of its row meanwhile comes by twice.
        list.retain(|it| it.database != database || *it.key != *key);
        let place = list.partition_point(|it| weigh(it) >= weight);
        list.insert(place, sized(database, key, entry));
        list.truncate(self.count);
    }
}

/// Takes pieces until there is no room for more.
struct Room {
    left_bytes: usize,
    is_cut: bool,
}

impl Room {
    fn take(&mut self, text: &[u8]) -> Vec<u8> {
        let length = text.len().min(self.left_bytes);
        self.is_cut |= length < text.len();
        self.left_bytes -= length;
        text[..length].to_vec()
    }

    fn is_used_up(&mut self) -> bool {
        self.is_cut |= self.left_bytes == 0;
        self.left_bytes == 0
    }
}

fn content(value: &Value, max_bytes: usize) -> (Content, bool) {
    let mut room = Room { left_bytes: max_bytes, is_cut: false };
    let content = match value {
        Value::String(text) => Content::String(room.take(text)),
        Value::Hash(fields) => {
            let mut taken = Vec::new();
            for (field, text) in fields.iter() {
                if room.is_used_up() {
                    break;
                }
                taken.push((room.take(field), room.take(text)));
            }
            Content::Hash(taken)
        }
        Value::Set(members) => {
            let mut taken = Vec::new();
            for (member, ()) in members.iter() {
                if room.is_used_up() {
                    break;
                }
                taken.push(room.take(member));
            }
            Content::Set(taken)
        }
    };
    (content, room.is_cut)
}

impl Database {
    fn figures(&self) -> DatabaseFigures {
        DatabaseFigures {
            keys: self.entries.len(),
            sets: self.sets.number,
            expiring: self.expiring,
            bytes: self.entries.bytes(),
            sets_bytes: self.sets.bytes,
        }
    }
}

impl Keyspace {
    /// Numbers of each database that has keys, with its number.
    pub fn database_figures(&self) -> Vec<(usize, DatabaseFigures)> {
        let all = self.databases.iter().map(Database::figures).enumerate();
        all.filter(|(_, figures)| figures.keys > 0).collect()
    }

    /// Looks at `count` keys of a database that stand before the place `from`, from the back; what is left to
    /// look at. A walk over all begins with [`Keyspace::len`], and ends where 0 is left.
    pub fn survey(
        &self,
        database: usize,
        from: usize,
        count: usize,
        now_ms: i64,
        largest: &mut Largest,
    ) -> usize {
        let Some(entries) = self.databases.get(database).map(|it| &it.entries) else { return 0 };
        let from = from.min(entries.len());
        let to = from.saturating_sub(count);
        for (key, entry) in (to..from).rev().filter_map(|place| entries.at(place)) {
            if !entry.is_expired(now_ms) {
                largest.take_in(database, key, entry);
            }
        }
        to
    }

    /// A key with up to `max_bytes` of what stands under it. `None`: it is not there.
    pub fn look(&self, database: usize, key: &[u8], now_ms: i64, max_bytes: usize) -> Option<Look> {
        let entry = self.databases.get(database)?.entries.get(key)?;
        if entry.is_expired(now_ms) {
            return None;
        }
        let (content, is_cut) = content(&entry.value, max_bytes);
        Some(Look { sized: sized(database, key, entry), content, is_cut })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::keyspace::{Bounds, Session};
    use crate::resp::Request;

    fn say(keyspace: &mut Keyspace, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        Session::new(1).execute(keyspace, &Request::pack(&words), 1_000, &mut out);
    }

    fn filled() -> Keyspace {
        let mut keyspace = Keyspace::new(Bounds::default(), 1);
        for at in 0..300 {
            say(&mut keyspace, &format!("SET v{at} {}", "x".repeat(at * 7 % 300)));
            say(&mut keyspace, &format!("SADD s{} m{at}", at % 17));
            say(&mut keyspace, &format!("SADD first m{at}"));
        }
        say(&mut keyspace, &format!("SET ended {} PXAT 1001", "x".repeat(9_000)));
        say(&mut keyspace, "HSET h d some-data t A,B");
        keyspace
    }

    #[test]
    fn the_largest_of_each_kind_are_found_in_turns_of_any_length() {
        let keyspace = filled();
        let mut known = None;
        for count in [1, 7, 1_000] {
            let (mut largest, mut left) = (Largest::of(5), keyspace.len(0));
            while left > 0 {
                left = keyspace.survey(0, left, count, 5_000, &mut largest);
            }
            assert_eq!((largest.values.len(), largest.sets.len()), (5, 5));
            assert_eq!((&*largest.sets[0].key, largest.sets[0].length), (&b"first"[..], 300));
            assert!(largest.values.is_sorted_by(|a, b| a.bytes >= b.bytes));
            assert!(largest.values.iter().all(|it| &*it.key != b"ended"));
            // What the allocator rounds up to the same takes the same.
            assert!((257..300).contains(&largest.values[0].length), "{:?}", largest.values[0]);
            let sizes: Vec<_> = largest.values.iter().map(|it| it.bytes).collect();
            assert_eq!(known.get_or_insert_with(|| sizes.clone()), &sizes);
        }
    }

    #[test]
    fn a_key_that_moves_between_two_turns_is_listed_once() {
        let mut keyspace = Keyspace::new(Bounds::default(), 1);
        for at in 0..10 {
            say(&mut keyspace, &format!("SET v{at} x"));
        }
        let mut largest = Largest::of(100);
        let left = keyspace.survey(0, keyspace.len(0), 5, 0, &mut largest);
        // v9, which was seen, takes its place.
        say(&mut keyspace, "DEL v0");
        assert_eq!(keyspace.survey(0, left, 100, 0, &mut largest), 0);
        assert_eq!(largest.values.len(), 9);
    }

    #[test]
    fn a_look_shows_as_much_as_is_asked_for_and_counts_as_no_use() {
        let keyspace = filled();
        let before = keyspace.figures();
        let look = keyspace.look(0, b"h", 1_000, 1_000).expect("there");
        let pair = |field: &str, text: &str| (field.into(), text.into());
        assert_eq!(look.content, Content::Hash(vec![pair("d", "some-data"), pair("t", "A,B")]));
        assert!(!look.is_cut && look.sized.kind == "hash" && look.sized.length == 2);
        let look = keyspace.look(0, b"h", 1_000, 5).expect("there");
        assert_eq!((look.content, look.is_cut), (Content::Hash(vec![pair("d", "some")]), true));
        let look = keyspace.look(0, b"first", 1_000, 20).expect("there");
        let Content::Set(members) = look.content else { panic!("a set") };
        assert!(look.is_cut && members.concat().len() == 20);
        let look = keyspace.look(0, b"v1", 1_000, 7).expect("there");
        assert_eq!((look.content, look.is_cut), (Content::String(vec![b'x'; 7]), false));
        assert!(keyspace.look(0, b"none", 1_000, 7).is_none());
        assert!(keyspace.look(99, b"h", 1_000, 7).is_none());
        assert!(keyspace.look(0, b"ended", 1_002, 7).is_none());
        assert_eq!(keyspace.figures(), before);
    }

    #[test]
    fn each_database_has_figures_of_its_own() {
        let keyspace = filled();
        let figures = keyspace.database_figures();
        let [(0, figures)] = figures[..] else { panic!("{figures:?}") };
        assert_eq!((figures.keys, figures.sets, figures.expiring), (320, 18, 1));
        assert_eq!(figures.bytes, keyspace.memory_bytes());
        assert!(figures.sets_bytes > 0 && figures.sets_bytes < figures.bytes);
    }
}
