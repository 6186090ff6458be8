//! Where tags and values stand among the keys: which key is the set of a tag, and which value each of its
//! members names.

use bytes::Bytes;

use super::value::{Entry, Value};

/// The field in which `Cm_Cache_Backend_Redis` keeps the tags of a value, with commas between them.
pub(super) const TAGS: &[u8] = b"t";

/// The tags that stand in a value.
pub(super) fn tags_of(entry: &Entry) -> Option<&[u8]> {
    match &entry.value {
        Value::Hash(fields) => fields.get(TAGS).map(|tags| &**tags),
        Value::String(_) | Value::Set(_) => None,
    }
}

/// Sets of tags, and the keys of what they name. A pattern has one `*`, which is the tag or the member; each
/// `?` before it is a byte that is the same in both keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSets {
    set: Pattern,
    value: Pattern,
    /// The set of all tags.
    list: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

/// What the placeholders of a pattern stand for in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    shared: Vec<u8>,
    pub name: &'a [u8],
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (before, after) = text.split_once('*').ok_or("a pattern has one *")?;
        if after.contains(['*', '?']) {
            return Err("a pattern has one *, and ? before it alone");
        }
        Ok(Self { before: before.as_bytes().into(), after: after.as_bytes().into() })
    }

    fn shared(&self) -> usize {
        memchr::memchr_iter(b'?', &self.before).count()
    }

    fn is_match(&self, key: &[u8]) -> bool {
        let (before, after) = (&*self.before, &*self.after);
        key.len() >= before.len() + after.len()
            && before.iter().zip(key).all(|(own, byte)| own == byte || *own == b'?')
            && key.ends_with(after)
    }

    fn parts<'a>(&self, key: &'a [u8]) -> Option<Parts<'a>> {
        self.is_match(key).then(|| {
            let pairs = self.before.iter().zip(key);
            let shared = pairs.filter(|(own, _)| **own == b'?').map(|(_, byte)| *byte).collect();
            Parts { shared, name: &key[self.before.len()..key.len() - self.after.len()] }
        })
    }

    fn key(&self, shared: &[u8], name: &[u8]) -> Vec<u8> {
        let mut shared = shared.iter();
        let before = self.before.iter();
        let mut key: Vec<u8> = before
            .map(|byte| if *byte == b'?' { *shared.next().unwrap_or(byte) } else { *byte })
            .collect();
        key.extend_from_slice(name);
        key.extend_from_slice(&self.after);
        key
    }
}

impl TagSets {
    /// Reads the patterns of both keys. `list` is the set that has all tags, where there is one: a tag that
    /// is cleaned leaves it.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn parse(set: &str, value: &str, list: Option<&str>) -> Result<Self, &'static str> {
        let (set, value) = (Pattern::parse(set)?, Pattern::parse(value)?);
        if set.before.is_empty() && set.after.is_empty() {
            return Err("any key would be a tag's set");
        }
        if set.shared() != value.shared() {
            return Err("both patterns have the same number of ?");
        }
        let list = list.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        Ok(Self { set, value, list })
    }

    /// The tag whose set a key is.
    pub(super) fn of_set<'a>(&self, key: &'a [u8]) -> Option<Parts<'a>> {
        self.set.parts(key)
    }

    /// Is it the key of a tag's set?
    pub(super) fn is_set(&self, key: &[u8]) -> bool {
        self.set.is_match(key)
    }

    /// Is it the key of what such a set may name?
    pub(super) fn is_value(&self, key: &[u8]) -> bool {
        self.value.is_match(key)
    }

    /// The member of the tags' sets that a value is.
    pub(super) fn of_value<'a>(&self, key: &'a [u8]) -> Option<Parts<'a>> {
        self.value.parts(key)
    }

    /// The key that a member of a tag's set names.
    pub(super) fn value(&self, of_set: &Parts<'_>, member: &[u8]) -> Vec<u8> {
        self.value.key(&of_set.shared, member)
    }

    /// The key of the set of a value's tag.
    pub(super) fn set(&self, of_value: &Parts<'_>, tag: &[u8]) -> Vec<u8> {
        self.set.key(&of_value.shared, tag)
    }

    /// Do both keys belong to the same cache?
    pub(super) fn are_of_one(of_set: &Parts<'_>, of_value: &Parts<'_>) -> bool {
        of_set.shared == of_value.shared
    }

    /// The set of all tags.
    pub(super) fn list(&self) -> Option<&Bytes> {
        self.list.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_leads_to_its_values_and_a_value_to_its_sets() {
        let cases = [
            ("zc:ti:*", "zc:k:*", "zc:ti:982_CONFIG", "982_X", "zc:k:982_X"),
            ("cache:tags:???_*", "???_:*", "cache:tags:4e0_A_B", "ID", "4e0_:ID"),
            ("ns\0tags\0*", "*", "ns\0tags\0x", "ns:a", "ns:a"),
            ("{*}:tags", "v:*:1", "{x}:tags", "m", "v:m:1"),
        ];
        for (set, value, set_key, member, value_key) in cases {
            let sets = TagSets::parse(set, value, None).unwrap();
            let of_set = sets.of_set(set_key.as_bytes()).unwrap();
            let found = sets.value(&of_set, member.as_bytes());
            assert_eq!(found, value_key.as_bytes());
            let of_value = sets.of_value(&found).unwrap();
            assert_eq!(of_value.name, member.as_bytes());
            assert!(TagSets::are_of_one(&of_set, &of_value));
            assert_eq!(sets.set(&of_value, of_set.name), set_key.as_bytes());
        }
        let sets = TagSets::parse("cache:tags:???_*", "???_:*", None).unwrap();
        assert!(!sets.is_value(b"zc:k:982_X") && !sets.is_set(b"cache:tags:4e0"));
    }

    #[test]
    fn patterns_that_lead_nowhere_are_refused() {
        let wrong =
            [("a", "b*"), ("a*", "b"), ("a**", "b*"), ("*", "b*"), ("a?*", "b*"), ("a*?", "b?*")];
        for (set, value) in wrong {
            assert!(TagSets::parse(set, value, None).is_err(), "{set} {value}");
        }
    }
}
