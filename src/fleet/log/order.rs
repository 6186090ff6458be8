//! What an entry of the log asks for, and how it is written: `1 hard tags cat_p_1,cat_c_2`.
//!
//! Version, hardness, kind, and the rest as it is. Text, so that `XRANGE` shows an admin what was
//! purged; a reader of another version that meets a kind it does not know counts that as a gap.

use bytes::Bytes;

use crate::policy::{PurgeScope, parse_pool, parse_tags_regex};

/// The version of what is written.
const VERSION: &str = "1";

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
            Self::Soften => true,
        }
    }

    /// As it is written.
    pub fn encode(&self) -> Vec<u8> {
        let (hardness, kind, rest) = match self {
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
            b"lost" => return Ok(Self::Soften),
            _ => return Err(Unreadable::Unknown),
        };
        Ok(Self::Purge { scope, soft })
    }
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
        let lost = Order::decode(&Order::Soften.encode(), REGEX_MAX_BYTES);
        assert!(matches!(lost, Ok(Order::Soften)));
    }

    #[test]
    fn what_this_version_does_not_know_cannot_be_read() {
        for text in
            ["", "1", "1 hard all", "2 hard all ", "1 firm all ", "1 hard keys a", "1 hard tags "]
        {
            let read = Order::decode(text.as_bytes(), REGEX_MAX_BYTES);
            assert_eq!(read.err(), Some(Unreadable::Unknown), "{text:?}");
        }
        let read = Order::decode(b"1 hard match a(", REGEX_MAX_BYTES);
        assert!(matches!(read, Err(Unreadable::Pattern(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(text: Vec<u8>, kind in "(all|tags|match|pool|url|lost)") {
            let _ = Order::decode(&text, 1 << 16);
            let text = [format!("1 hard {kind} ").into_bytes(), text].concat();
            if let Ok(order) = Order::decode(&text, 1 << 16) {
                let again = Order::decode(&order.encode(), 1 << 16).expect("its own text");
                prop_assert_eq!(again.encode(), order.encode());
            }
        }
    }
}
