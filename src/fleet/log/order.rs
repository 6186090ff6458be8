//! What an entry of the log asks for, and how it is written: `1 hard tags cat_p_1,cat_c_2`,
//! `1 hard objects 0 keys zc:ti:ABC`.
//!
//! Version, hardness, kind, and the rest as it is. Text, so that `XRANGE` shows an admin what was
//! purged; a reader of another version that meets a kind it does not know counts that as a gap.

use bytes::Bytes;

use crate::keyspace::Clean;
use crate::policy::{PurgeScope, parse_pool, parse_tags_regex};

/// The version of what is written.
const VERSION: &str = "1";

/// Bytes of the names in one entry that cleans keys; what names more becomes several. An entry is read,
/// kept and appended as a whole.
const KEYS_MAX_BYTES: usize = 16 << 10;

/// What an entry asks for.
#[derive(Clone, Debug)]
pub enum Order {
    /// A purge of one scope.
    Purge {
        /// What.
        scope: PurgeScope,
        /// Mark it stale instead of removing it.
        soft: bool,
    },
    /// A clean of the object cache, for the nodes that keep one. It stands before the purges that were sent
    /// after it, so that no node renders a page again from what was cleaned.
    Objects(Clean),
    /// Purges were lost, nobody knows which: everything tagged is stale.
    Soften,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another version, another kind, or nothing of ours.
    #[error("it is of a kind that this version does not know")]
    Unknown,
    /// A pattern that is no regex, or larger than `purge.regex_max`.
    #[error("its pattern is not accepted: {0}")]
    Pattern(String),
}

impl Order {
    /// Is everything that is stored looked at?
    pub fn is_long(&self) -> bool {
        match self {
            Self::Purge { scope, soft } => match scope {
                PurgeScope::Tags(_) | PurgeScope::Url(_) => false,
                PurgeScope::All => *soft,
                PurgeScope::TagsMatching(_) | PurgeScope::Pool(_) => true,
            },
            // A tag may have a hundred thousand values.
            Self::Objects(_) | Self::Soften => true,
        }
    }

    /// A clean as entries, none of which is too long: a name that alone would make one so has its whole
    /// database cleaned. How much is told of one clean is bounded before (`objects.clean_max`).
    pub fn of_clean(clean: Clean) -> Vec<Self> {
        let cleans = match clean {
            Clean::Keys { database, keys } => {
                if keys.iter().any(|key| key.len() > KEYS_MAX_BYTES) {
                    vec![Clean::Database(database)]
                } else {
                    Clean::of_keys(database, own(&keys), KEYS_MAX_BYTES)
                }
            }
            Clean::Common { database, sets } => {
                if sets.iter().map(Bytes::len).sum::<usize>() <= KEYS_MAX_BYTES / 3 {
                    vec![Clean::Common { database, sets: own(&sets) }]
                } else {
                    // One of the tags has all of it, and more.
                    let keys = sets.into_iter().take(1).collect();
                    return Self::of_clean(Clean::Keys { database, keys });
                }
            }
            flush => vec![flush],
        };
        cleans.into_iter().map(Self::Objects).collect()
    }

    /// Takes in a clean that was told right after this one, so that both are one entry; false: it stays
    /// what it is.
    pub fn take_in(&mut self, later: &Self) -> bool {
        let (
            Self::Objects(Clean::Keys { database, keys }),
            Self::Objects(Clean::Keys { database: its_database, keys: more }),
        ) = (self, later)
        else {
            return false;
        };
        let bytes: usize = keys.iter().chain(more).map(|key| key.len() + 1).sum();
        // At worst each byte of a name is written as three.
        if database != its_database || bytes > KEYS_MAX_BYTES / 3 {
            return false;
        }
        for key in more {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        true
    }

    /// As it is written.
    pub fn encode(&self) -> Vec<u8> {
        let (hardness, kind, rest) = match self {
            Self::Objects(clean) => ("hard", "objects", clean.encode()),
            Self::Purge { scope, soft } => {
                let hardness = if *soft { "soft" } else { "hard" };
                let (kind, rest) = match scope {
                    PurgeScope::All => ("all", Vec::new()),
                    PurgeScope::Tags(tags) => ("tags", tags.join(&b","[..])),
                    PurgeScope::TagsMatching(regex) => ("match", regex.as_str().into()),
                    PurgeScope::Pool(regex) => ("pool", regex.as_str().into()),
                    PurgeScope::Url(url) => ("url", url.clone()),
                };
                (hardness, kind, rest)
            }
            Self::Soften => ("soft", "lost", Vec::new()),
        };
        let mut text = format!("{VERSION} {hardness} {kind} ").into_bytes();
        text.extend_from_slice(&rest);
        text
    }

    /// Reads it. `regex_max_bytes`: `purge.regex_max`.
    pub fn decode(text: &[u8], regex_max_bytes: usize) -> Result<Self, Unreadable> {
        let mut parts = text.splitn(4, |byte| *byte == b' ');
        let mut next = || parts.next().ok_or(Unreadable::Unknown);
        let (version, hardness, kind, rest) = (next()?, next()?, next()?, next()?);
        if version != VERSION.as_bytes() {
            return Err(Unreadable::Unknown);
        }
        let soft = match hardness {
            b"soft" => true,
            b"hard" => false,
            _ => return Err(Unreadable::Unknown),
        };
        let refused =
            |refusal: crate::policy::PurgeRefusal| Unreadable::Pattern(refusal.to_string());
        let scope = match kind {
            b"all" => PurgeScope::All,
            b"tags" if !rest.is_empty() => {
                let tags = rest.split(|byte| *byte == b',');
                PurgeScope::Tags(tags.map(Bytes::copy_from_slice).collect())
            }
            b"match" => parse_tags_regex(rest, regex_max_bytes).map_err(refused)?,
            b"pool" => parse_pool(rest, regex_max_bytes).map_err(refused)?,
            b"url" => PurgeScope::Url(rest.to_vec()),
            b"objects" if !soft => {
                return Clean::decode(rest).map(Self::Objects).ok_or(Unreadable::Unknown);
            }
            b"lost" => return Ok(Self::Soften),
            _ => return Err(Unreadable::Unknown),
        };
        Ok(Self::Purge { scope, soft })
    }
}

/// Names in one buffer of their own: they wait here for longer than what their client sent.
fn own(keys: &[Bytes]) -> Vec<Bytes> {
    let mut all = Bytes::from(keys.concat());
    keys.iter().map(|key| all.split_to(key.len())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REGEX_MAX_BYTES: usize = 1 << 20;

    fn text_of(order: &Order) -> String {
        String::from_utf8(order.encode()).expect("text")
    }

    #[test]
    fn each_kind_reads_back_as_it_was_written() {
        let tags = PurgeScope::Tags(vec!["cat_p_1".into(), "cat_c_2".into()]);
        let regex = parse_tags_regex(b"cat_p_(1|2) x", REGEX_MAX_BYTES).expect("a regex");
        let pool = parse_pool(b"^blue$", REGEX_MAX_BYTES).expect("a regex");
        let url = PurgeScope::Url(b"shop.example/a b?c=1,2".to_vec());
        for (scope, soft, text) in [
            (PurgeScope::All, false, "1 hard all "),
            (tags, true, "1 soft tags cat_p_1,cat_c_2"),
            (regex, false, "1 hard match cat_p_(1|2) x"),
            (pool, false, "1 hard pool ^blue$"),
            (url, true, "1 soft url shop.example/a b?c=1,2"),
        ] {
            let order = Order::Purge { scope, soft };
            assert_eq!(text_of(&order), text);
            let again = Order::decode(text.as_bytes(), REGEX_MAX_BYTES).expect("readable");
            assert_eq!(text_of(&again), text);
        }
        let keys = Clean::Keys { database: 2, keys: vec!["zc:ti:A".into(), "zc:k:b c".into()] };
        for (clean, text) in [
            (keys, "1 hard objects 2 keys zc:ti:A,zc:k:b%20c"),
            (Clean::Database(0), "1 hard objects 0 flush"),
            (Clean::Everything, "1 hard objects all flush"),
        ] {
            assert_eq!(text_of(&Order::Objects(clean)), text);
            let again = Order::decode(text.as_bytes(), REGEX_MAX_BYTES).expect("readable");
            assert_eq!(text_of(&again), text);
        }
        let lost = Order::decode(&Order::Soften.encode(), REGEX_MAX_BYTES);
        assert!(matches!(lost, Ok(Order::Soften)));
    }

    #[test]
    fn what_this_version_does_not_know_cannot_be_read() {
        for text in [
            "",
            "1",
            "1 hard all",
            "2 hard all ",
            "1 firm all ",
            "1 hard keys a",
            "1 hard tags ",
            "1 hard objects 0 keys ",
            "1 soft objects 0 flush",
            "1 hard objects 0 sort",
        ] {
            let read = Order::decode(text.as_bytes(), REGEX_MAX_BYTES);
            assert_eq!(read.err(), Some(Unreadable::Unknown), "{text:?}");
        }
        let read = Order::decode(b"1 hard match a(", REGEX_MAX_BYTES);
        assert!(matches!(read, Err(Unreadable::Pattern(_))));
    }

    fn keys(keys: &[&str]) -> Order {
        let keys = keys.iter().map(|key| Bytes::from((*key).to_owned())).collect();
        Order::Objects(Clean::Keys { database: 0, keys })
    }

    #[test]
    fn cleans_that_were_told_one_after_the_other_are_one_entry_within_its_bound() {
        let mut order = keys(&["a", "b"]);
        assert!(order.take_in(&keys(&["b", "c"])));
        assert_eq!(text_of(&order), "1 hard objects 0 keys a,b,c");
        let other = Order::Objects(Clean::Keys { database: 1, keys: vec!["a".into()] });
        assert!(!order.take_in(&other) && !order.take_in(&Order::Soften));
        assert!(!order.take_in(&Order::Objects(Clean::Database(0))));
        let sets = vec!["a".into(), "b".into()];
        assert!(!order.take_in(&Order::Objects(Clean::Common { database: 0, sets })));
        let mut taken = 0;
        while order.take_in(&keys(&[&format!("\n{taken:0>100}")])) {
            taken += 1;
        }
        assert!(taken > 10 && order.encode().len() <= KEYS_MAX_BYTES + 100, "{taken}");
    }

    #[test]
    fn a_clean_of_many_keys_is_several_entries_and_one_of_too_long_a_key_a_flush() {
        let keys = (0..1_000).map(|number| format!("zc:k:{number:0>90}").into()).collect();
        let orders = Order::of_clean(Clean::Keys { database: 3, keys });
        assert!(orders.len() > 5);
        assert!(orders.iter().all(|order| order.encode().len() <= KEYS_MAX_BYTES + 100));
        let long = vec![vec![b'x'; KEYS_MAX_BYTES + 1].into()];
        let long = Order::of_clean(Clean::Keys { database: 0, keys: long });
        assert_eq!(long.iter().map(text_of).collect::<Vec<_>>(), ["1 hard objects 0 flush"]);
        assert!(Order::of_clean(Clean::Keys { database: 0, keys: Vec::new() }).is_empty());
    }

    #[test]
    fn a_clean_of_what_sets_have_in_common_is_one_entry_and_of_too_many_that_of_one_of_them() {
        let common = |number: usize| {
            let sets = (0..number).map(|at| format!("zc:ti:{at:0>90}").into()).collect();
            Order::of_clean(Clean::Common { database: 3, sets })
        };
        assert_eq!(text_of(&common(2)[0]).split(' ').nth(4), Some("common"));
        let many = common(1_000).iter().map(text_of).collect::<Vec<_>>();
        assert_eq!(many, [format!("1 hard objects 3 keys zc:ti:{:0>90}", 0)]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            text: Vec<u8>,
            kind in "(all|tags|match|pool|url|objects 0 keys|objects|lost)",
        ) {
            let _ = Order::decode(&text, 1 << 16);
            let text = [format!("1 hard {kind} ").into_bytes(), text].concat();
            if let Ok(order) = Order::decode(&text, 1 << 16) {
                let again = Order::decode(&order.encode(), 1 << 16).expect("its own text");
                prop_assert_eq!(again.encode(), order.encode());
            }
        }
    }
}
