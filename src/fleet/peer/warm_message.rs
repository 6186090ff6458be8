//! What nodes say to each other so that pages are where they will be asked for: a node that joins
//! asks others what is asked for most ([`HottestAsk`]) and takes that in advance ([`TakeAsk`]); a
//! node that leaves says so ([`LeavingAsk`]), and the others take what will be theirs.
//!
//! Numbers are little-endian, texts and lists have their length before them in 32 bits.

use bytes::{Buf as _, Bytes};

use super::message::{Place, Question, Why, put, put_due, put_place, take, take_due, take_place};
use super::owner;
use crate::fleet::Due;

/// Pages that are asked for at once.
pub const TAKE_MAX: usize = 256;

/// Nodes of a fleet that are told apart; a fleet has tens.
const NODES_MAX: usize = 10_000;

/// Asks what is asked for most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HottestAsk {
    /// The release of the shop at the node that asks.
    pub release: Bytes,
    /// What keys mean there ([`crate::policy::Policy::keyspace`]).
    pub keyspace: u64,
    /// Pages that are listed at most.
    pub pages_max: u32,
    /// Of the pages that this node would own alone.
    pub heir: Option<Heir>,
}

/// A node, and those among whom it owns a key or not, as numbers ([`owner::number_of`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Its own number.
    pub number: u64,
    /// The others'.
    pub others: Vec<u64>,
}

/// A page that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    /// Its whole key.
    pub key: Bytes,
    /// How often it was asked for in the last hour, as the store counts that.
    pub weight: u32,
    /// The bytes that it takes, about.
    pub bytes: u32,
}

/// What is asked for most, first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hottest {
    /// The weight of all pages that this node could give, listed or not.
    pub weight: u64,
    /// Those that are listed.
    pub pages: Vec<Hot>,
}

/// Asks for pages by their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeAsk {
    /// Up to where the node that asks has applied the log: what comes back must not be older.
    pub place: Place,
    /// The release of the shop there.
    pub release: Bytes,
    /// What keys mean there.
    pub keyspace: u64,
    /// The keys, at most [`TAKE_MAX`].
    pub keys: Vec<Bytes>,
}

/// A page on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// As [`crate::snapshot::record`] has it.
    pub record: Bytes,
    /// How it will be purged again shortly, in case that it shows what stood before a change.
    pub echo: Due,
}

/// Says that the node of this name leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingAsk {
    /// Its name.
    pub name: Bytes,
}

/// What a node took from one that leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Pages.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Heir {
    /// Is a key this node's, when nobody else is there?
    pub fn owns(&self, key: &[u8]) -> bool {
        let numbers = self.others.iter().copied().chain([self.number]);
        owner::owner(numbers, owner::number_of(key)) == Some(self.others.len())
    }
}

const NOTHING: u8 = 0;
const SOMETHING: u8 = 1;

impl Question for HottestAsk {
    const PATH: &'static str = "/hottest";
    type Answer = Result<Hottest, Why>;

    fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        put(&mut out, &self.release);
        out.extend_from_slice(&self.keyspace.to_le_bytes());
        out.extend_from_slice(&self.pages_max.to_le_bytes());
        out.push(u8::from(self.heir.is_some()));
        if let Some(Heir { number, others }) = &self.heir {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&(others.len() as u32).to_le_bytes());
            out.extend(others.iter().flat_map(|other| other.to_le_bytes()));
        }
        out.into()
    }

    fn decode(mut content: Bytes) -> Option<Self> {
        let (release, keyspace) = (take(&mut content)?, content.try_get_u64_le().ok()?);
        let pages_max = content.try_get_u32_le().ok()?;
        let heir = match content.try_get_u8().ok()? {
            0 => None,
            1 => {
                let number = content.try_get_u64_le().ok()?;
                let length = content.try_get_u32_le().ok()? as usize;
                if length > NODES_MAX {
                    return None;
                }
                let others = (0..length).map(|_| content.try_get_u64_le().ok());
                Some(Heir { number, others: others.collect::<Option<_>>()? })
            }
            _ => return None,
        };
        content.is_empty().then_some(Self { release, keyspace, pages_max, heir })
    }

    fn answer(content: Bytes) -> Option<Self::Answer> {
        something(content, |content| {
            let weight = content.try_get_u64_le().ok()?;
            // The number is not believed: each page takes some of the content, or reading ends.
            let number = content.try_get_u32_le().ok()?;
            let mut pages = Vec::new();
            for _ in 0..number {
                let (weight, bytes) =
                    (content.try_get_u32_le().ok()?, content.try_get_u32_le().ok()?);
                pages.push(Hot { key: take(content)?, weight, bytes });
            }
            Some(Hottest { weight, pages })
        })
    }
}

impl Hottest {
    /// Bytes that a page takes in the list, besides its key.
    pub const PAGE_BYTES: usize = 12;

    /// As it is sent.
    pub fn encode(answer: &Result<Self, Why>) -> Bytes {
        written(answer, |Self { weight, pages }, out| {
            out.extend_from_slice(&weight.to_le_bytes());
            out.extend_from_slice(&(pages.len() as u32).to_le_bytes());
            for Hot { key, weight, bytes } in pages {
                out.extend_from_slice(&weight.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
                put(out, key);
            }
        })
    }
}

impl Question for TakeAsk {
    const PATH: &'static str = "/take";
    /// One for each key; `None`: it is not there, or not fresh.
    type Answer = Result<Vec<Option<Parcel>>, Why>;

    fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(1 << 10);
        put_place(&mut out, self.place);
        put(&mut out, &self.release);
        out.extend_from_slice(&self.keyspace.to_le_bytes());
        out.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        self.keys.iter().for_each(|key| put(&mut out, key));
        out.into()
    }

    fn decode(mut content: Bytes) -> Option<Self> {
        let place = take_place(&mut content)?;
        let (release, keyspace) = (take(&mut content)?, content.try_get_u64_le().ok()?);
        let number = content.try_get_u32_le().ok()? as usize;
        if number > TAKE_MAX {
            return None;
        }
        let keys = (0..number).map(|_| take(&mut content)).collect::<Option<_>>()?;
        content.is_empty().then_some(Self { place, release, keyspace, keys })
    }

    fn answer(content: Bytes) -> Option<Self::Answer> {
        something(content, |content| {
            let number = content.try_get_u32_le().ok()? as usize;
            if number > TAKE_MAX {
                return None;
            }
            let parcel = |content: &mut Bytes| match content.try_get_u8().ok()? {
                0 => Some(None),
                1 => {
                    let echo = take_due(content)?;
                    Some(Some(Parcel { record: take(content)?, echo }))
                }
                _ => None,
            };
            (0..number).map(|_| parcel(content)).collect()
        })
    }
}

/// Pages as they are sent.
pub fn encode_parcels(answer: &Result<Vec<Option<Parcel>>, Why>) -> Bytes {
    written(answer, |parcels, out| {
        out.extend_from_slice(&(parcels.len() as u32).to_le_bytes());
        for parcel in parcels {
            match parcel {
                None => out.push(0),
                Some(Parcel { record, echo }) => {
                    out.push(1);
                    put_due(out, *echo);
                    put(out, record);
                }
            }
        }
    })
}

impl Question for LeavingAsk {
    const PATH: &'static str = "/leaving";
    type Answer = Result<Inherited, Why>;

    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        put(&mut out, &self.name);
        out.into()
    }

    fn decode(mut content: Bytes) -> Option<Self> {
        let name = take(&mut content)?;
        content.is_empty().then_some(Self { name })
    }

    fn answer(content: Bytes) -> Option<Self::Answer> {
        something(content, |content| {
            let (pages, bytes) = (content.try_get_u64_le().ok()?, content.try_get_u64_le().ok()?);
            Some(Inherited { pages, bytes })
        })
    }
}

impl Inherited {
    /// As it is sent.
    pub fn encode(answer: &Result<Self, Why>) -> Bytes {
        written(answer, |Self { pages, bytes }, out| {
            out.extend_from_slice(&pages.to_le_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
        })
    }
}

fn written<T>(answer: &Result<T, Why>, write: impl FnOnce(&T, &mut Vec<u8>)) -> Bytes {
    match answer {
        Err(why) => Bytes::copy_from_slice(&[NOTHING, *why as u8]),
        Ok(answer) => {
            let mut out = vec![SOMETHING];
            write(answer, &mut out);
            out.into()
        }
    }
}

/// Reads an answer to its end.
fn something<T>(
    mut content: Bytes,
    read: impl FnOnce(&mut Bytes) -> Option<T>,
) -> Option<Result<T, Why>> {
    let answer = match content.try_get_u8().ok()? {
        NOTHING => Err(Why::of_number(content.try_get_u8().ok()?)?),
        SOMETHING => Ok(read(&mut content)?),
        _ => return None,
    };
    content.is_empty().then_some(answer)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;
    use crate::fleet::log::Token;

    fn text() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn why<T: std::fmt::Debug>(
        answer: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Result<T, Why>> {
        let why = prop::sample::select(Why::ALL.to_vec());
        (answer, option::of(why)).prop_map(|(answer, why)| why.map_or(Ok(answer), Err))
    }

    fn hottest() -> impl Strategy<Value = Hottest> {
        let page = (text(), any::<u32>(), any::<u32>()).prop_map(|(key, weight, bytes)| Hot {
            key,
            weight,
            bytes,
        });
        (any::<u64>(), vec(page, 0..5)).prop_map(|(weight, pages)| Hottest { weight, pages })
    }

    fn parcels() -> impl Strategy<Value = Vec<Option<Parcel>>> {
        let echo = prop_oneof![
            Just(Due::Nothing),
            any::<u32>().prop_map(|after| Due::Soft(Duration::from_millis(after.into()))),
            any::<u32>().prop_map(|after| Due::Hard(Duration::from_millis(after.into()))),
        ];
        let parcel = (text(), echo).prop_map(|(record, echo)| Parcel { record, echo });
        vec(option::of(parcel), 0..5)
    }

    proptest! {
        #[test]
        fn questions_read_back_as_they_were_written(
            release in text(), keyspace: u64, pages_max: u32, keys in vec(text(), 0..5), sequence: u64,
            heir in option::of((any::<u64>(), vec(any::<u64>(), 0..5))),
        ) {
            let heir = heir.map(|(number, others)| Heir { number, others });
            let hottest = HottestAsk { release: release.clone(), keyspace, pages_max, heir };
            prop_assert_eq!(HottestAsk::decode(hottest.encode()), Some(hottest));
            let leaving = LeavingAsk { name: release.clone() };
            prop_assert_eq!(LeavingAsk::decode(leaving.encode()), Some(leaving));
            let place = Place { epoch: Token::new([7; 16]), sequence, entry: None };
            let take = TakeAsk { place, release, keyspace, keys };
            prop_assert_eq!(TakeAsk::decode(take.encode()), Some(take));
        }

        #[test]
        fn answers_read_back_as_they_were_written(
            hottest in why(hottest()), parcels in why(parcels()),
            inherited in why((any::<u64>(), any::<u64>())
                .prop_map(|(pages, bytes)| Inherited { pages, bytes })),
        ) {
            prop_assert_eq!(HottestAsk::answer(Hottest::encode(&hottest)), Some(hottest));
            prop_assert_eq!(TakeAsk::answer(encode_parcels(&parcels)), Some(parcels));
            prop_assert_eq!(LeavingAsk::answer(Inherited::encode(&inherited)), Some(inherited));
        }

        #[test]
        fn what_is_cut_off_is_no_answer(
            hottest in hottest(), parcels in parcels(), at in any::<prop::sample::Index>(),
        ) {
            let whole = Hottest::encode(&Ok(hottest));
            prop_assert_eq!(HottestAsk::answer(whole.slice(..at.index(whole.len()))), None);
            let whole = encode_parcels(&Ok(parcels));
            prop_assert_eq!(TakeAsk::answer(whole.slice(..at.index(whole.len()))), None);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(content: Vec<u8>) {
            let content = Bytes::from(content);
            let _ = (HottestAsk::decode(content.clone()), HottestAsk::answer(content.clone()));
            let _ = (TakeAsk::decode(content.clone()), TakeAsk::answer(content.clone()));
            let _ = (LeavingAsk::decode(content.clone()), LeavingAsk::answer(content));
        }

        #[test]
        fn each_key_has_one_heir(numbers in prop::collection::btree_set(any::<u64>(), 1..9), key: Vec<u8>) {
            let numbers: Vec<_> = numbers.into_iter().collect();
            let heirs = numbers.iter().filter(|number| {
                let others = numbers.iter().copied().filter(|other| other != *number).collect();
                Heir { number: **number, others }.owns(&key)
            });
            prop_assert_eq!(heirs.count(), 1);
        }
    }

    #[test]
    fn too_many_keys_or_nodes_are_refused() {
        let keys = vec![Bytes::new(); TAKE_MAX + 1];
        let place = Place { epoch: Token::new([7; 16]), sequence: 1, entry: None };
        let release = Bytes::new();
        let take = TakeAsk { place, release: release.clone(), keyspace: 1, keys };
        assert_eq!(TakeAsk::decode(take.encode()), None);
        let heir = Some(Heir { number: 1, others: vec![2; NODES_MAX + 1] });
        let hottest = HottestAsk { release, keyspace: 1, pages_max: 1, heir };
        assert_eq!(HottestAsk::decode(hottest.encode()), None);
    }
}
