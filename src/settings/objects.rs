//! `[objects]`: the object cache of the shop, which PHP asks for in the protocol of Redis.

use std::time::Duration;

use super::Endpoint;
use super::sessions::Mode;
use super::syntax::{self, Syntax};

/// `[objects]`: what this server keeps for PHP's object cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// Where PHP connects to; `None`: this server keeps no objects.
    pub listen: Option<Endpoint>,
    /// The access mode of a Unix socket in `listen`.
    pub mode: Mode,
    /// Bytes that all databases may take together.
    pub memory_bytes: u64,
    /// Databases that clients may select.
    pub databases: u32,
    /// Clients at once.
    pub clients_max: usize,
    /// How long a client may say nothing; zero: for ever.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its replies.
    pub write_timeout: Duration,
    /// Bytes of one command.
    pub request_max_bytes: usize,
    /// Arguments of one command.
    pub arguments_max: usize,
    /// Bytes of commands that have not come whole, of all clients together.
    pub buffers_max_bytes: usize,
    /// Where the sets of tags stand, and what they name.
    pub tag_sets: Vec<TagSets>,
    /// Patterns of keys, in any case, that are this server's alone.
    pub local: Vec<String>,
    /// Patterns of keys, in any case, that are lists of all values: who deletes one has emptied the cache.
    pub indexes: Vec<String>,
    /// Patterns of keys, in any case, that go through the Redis of `[redis]`.
    pub messages: Vec<String>,
    /// How long a command waits for that.
    pub messages_timeout: Duration,
    /// A client that says nothing for so long begins anew: what it writes then was made since.
    pub pause: Duration,
    /// A client that never pauses does after this, or up to twice this.
    pub work_max: Duration,
    /// Keys and tags whose last clean is remembered.
    pub cleans_max: usize,
    /// Bytes that are told of the keys cleaned in one turn; beyond it the whole database is.
    pub clean_max_bytes: usize,
}

/// Sets of tags: a pattern of their keys, one of the keys of what they name, and the set of all tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSets {
    /// With one `*`, the tag, and a `?` for each byte before it that both keys share.
    pub set: String,
    /// With one `*`, the member.
    pub value: String,
    /// The key of the set that has all tags.
    pub list: Option<String>,
}

impl TagSets {
    fn of(set: &str, value: &str, list: Option<&str>) -> Self {
        Self { set: set.to_owned(), value: value.to_owned(), list: list.map(str::to_owned) }
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            listen: None,
            mode: Mode(0o660),
            memory_bytes: 256 << 20,
            databases: 16,
            clients_max: 2_000,
            idle_timeout: Duration::ZERO,
            write_timeout: Duration::from_mins(1),
            request_max_bytes: 64 << 20,
            arguments_max: 1_048_576,
            buffers_max_bytes: 256 << 20,
            tag_sets: vec![
                TagSets::of("zc:ti:*", "zc:k:*", Some("zc:tags")),
                TagSets::of("cache:tags:???_*", "???_:*", None),
            ],
            local: ["*locked_record_info_*", "cache:id_tags:*", "cache:all_ids*"]
                .map(str::to_owned)
                .to_vec(),
            indexes: vec!["cache:all_ids*".to_owned()],
            messages: ["*notification_update_customer_session_*", "*jwt_user_token_revoked_*"]
                .map(str::to_owned)
                .to_vec(),
            messages_timeout: Duration::from_millis(250),
            pause: Duration::from_secs(30),
            work_max: Duration::from_mins(2),
            cleans_max: 100_000,
            clean_max_bytes: 1 << 20,
        }
    }
}

/// `objects.listen`. Who reaches it decides what PHP renders, so it is for this machine.
pub(super) const LISTEN: Syntax<Endpoint> = Syntax {
    allowed: "unix:/path, or an address of this machine alone with a port, such as 127.0.0.1:6380",
    parse: |text| match (syntax::LISTENER.parse)(text)? {
        Endpoint::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            Err("other machines reach this address, and objects are for PHP on this one".to_owned())
        }
        endpoint => Ok(endpoint),
    },
};

/// `objects.tag_sets`
pub(super) const TAG_SETS: Syntax<TagSets> = Syntax {
    allowed: "SET -> VALUE, or SET -> VALUE in LIST: keys with one * in SET and VALUE, and as many ? before it",
    parse: |text| {
        let (set, rest) = text.split_once(" -> ").ok_or("it has no ->")?;
        let (value, list) = match rest.split_once(" in ") {
            Some((value, list)) => (value, Some(list)),
            None => (rest, None),
        };
        let shared = |pattern: &str| {
            let (before, after) = pattern.split_once('*').ok_or("a key has no *")?;
            if after.contains(['*', '?']) {
                return Err("a key has several *, or ? behind it");
            }
            Ok((before.matches('?').count(), before.len() + after.len()))
        };
        let ((of_set, fixed), (of_value, _)) = (shared(set)?, shared(value)?);
        if of_set != of_value {
            return Err("the keys have not the same number of ?".to_owned());
        }
        if fixed == of_set || list.is_some_and(str::is_empty) {
            return Err("any key would be a tag's set, or the list has no name".to_owned());
        }
        Ok(TagSets::of(set, value, list))
    },
};

/// A pattern of keys.
pub(super) const KEYS: Syntax<String> = Syntax {
    allowed: "a key with *, ? and [a-z] for what differs (1 to 500 bytes, and not * alone)",
    parse: |text| {
        if text.is_empty() || text.len() > 500 || text.bytes().all(|byte| byte == b'*') {
            return Err("empty, too long, or any key".to_owned());
        }
        Ok(text.to_owned())
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_sets_lead_from_a_set_to_its_values() {
        let good = ["zc:ti:* -> zc:k:* in zc:tags", "a:??* -> ??*", "ns\0tags\0* -> *"];
        for text in good {
            assert!((TAG_SETS.parse)(text).is_ok(), "{text}");
        }
        let wrong =
            ["", "a:*", "a:* -> b", "a -> b*", "* -> b*", "a?* -> b*", "a** -> b*", "a* -> b* in "];
        for text in wrong {
            assert!((TAG_SETS.parse)(text).is_err(), "{text}");
        }
        assert!((KEYS.parse)("*lock*").is_ok() && (KEYS.parse)("**").is_err());
    }

    #[test]
    fn objects_are_for_this_machine_alone() {
        for good in ["unix:/run/parvis/objects.sock", "127.0.0.1:6380", "[::1]:6380"] {
            assert!((LISTEN.parse)(good).is_ok(), "{good}");
        }
        for wrong in ["0.0.0.0:6380", "[::]:6380", "10.0.0.7:6380", "unix:run", "localhost:6380"] {
            assert!((LISTEN.parse)(wrong).is_err(), "{wrong}");
        }
    }
}
