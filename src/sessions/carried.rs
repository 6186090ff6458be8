//! A client of the sessions as data: what another process has to know of it to go on where this one
//! stopped, when that one takes the store over and the client's connection with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A client between two commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Has it logged in, where that is asked for?
    pub(super) is_in: bool,
    /// What it has sent and nobody has done yet, the command included that it waits for.
    pub(super) input: Octets,
    /// Commands that bring a new session of the store to where this one is.
    pub(super) begun: Vec<Octets>,
    /// Its locks.
    pub(super) locks: CarriedLocks,
}

/// The locks of a client, and the tries for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedLocks {
    pub(super) held: Vec<CarriedLock>,
    pub(super) tries: Option<CarriedTries>,
}

/// A lock that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CarriedLock {
    pub(super) database: u32,
    pub(super) key: Octets,
    pub(super) pid: Option<Octets>,
    pub(super) is_asked_for: bool,
}

/// How long it has tried for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CarriedTries {
    pub(super) database: u32,
    pub(super) key: Octets,
    /// Its place in the line.
    pub(super) turn: i64,
    /// How long earlier tries were held, in milliseconds.
    pub(super) held_ms: u64,
    /// How long the one under way is, in milliseconds; `None`: none is.
    pub(super) waits_ms: Option<u64>,
    /// When that was, in milliseconds since 1970: the way from process to process counts as well.
    pub(super) at_ms: u64,
}

impl CarriedTries {
    /// How long the try under way has been held, at this time.
    pub(super) fn waited(&self, now: SystemTime) -> Option<Duration> {
        let way_ms = milliseconds(now).saturating_sub(self.at_ms);
        self.waits_ms.map(|waits_ms| Duration::from_millis(waits_ms.saturating_add(way_ms)))
    }
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Carried {
    /// As bytes.
    pub fn pack(&self) -> Vec<u8> {
        // There is no map in it whose keys could be no text, which is all that can fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From bytes; `None`: they are none of [`Carried::pack`]'s.
    pub fn unpack(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Bytes; in JSON a text with a letter for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Octets(pub(super) Bytes);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        bytes.map(|bytes| Self(bytes.into())).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets() -> impl Strategy<Value = Octets> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Octets(bytes.into()))
    }

    fn lock() -> impl Strategy<Value = CarriedLock> {
        let all = (any::<u32>(), octets(), proptest::option::of(octets()), any::<bool>());
        all.prop_map(|(database, key, pid, is_asked_for)| CarriedLock {
            database,
            key,
            pid,
            is_asked_for,
        })
    }

    fn tries() -> impl Strategy<Value = CarriedTries> {
        let all = (any::<u32>(), octets(), any::<i64>(), any::<u64>(), any::<Option<u64>>());
        all.prop_map(|(database, key, turn, held_ms, waits_ms)| CarriedTries {
            database,
            key,
            turn,
            held_ms,
            waits_ms,
            at_ms: held_ms,
        })
    }

    proptest! {
        #[test]
        fn a_client_is_the_same_on_the_other_side(
            is_in in any::<bool>(),
            input in octets(),
            begun in proptest::collection::vec(octets(), 0..4),
            held in proptest::collection::vec(lock(), 0..3),
            tries in proptest::option::of(tries()),
        ) {
            let carried = Carried { is_in, input, begun, locks: CarriedLocks { held, tries } };
            prop_assert_eq!(Carried::unpack(&carried.pack()), Some(carried));
        }

        #[test]
        fn other_bytes_are_no_client_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Carried::unpack(&bytes), None);
        }
    }

    #[test]
    fn the_way_from_process_to_process_counts_as_waiting() {
        let tries = CarriedTries {
            database: 2,
            key: Octets::default(),
            turn: 1,
            held_ms: 0,
            waits_ms: Some(300),
            at_ms: 1_000,
        };
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(tries.waited(at(1_200)), Some(Duration::from_millis(500)));
        // Somebody has set the clock back.
        assert_eq!(tries.waited(at(900)), Some(Duration::from_millis(300)));
    }
}
