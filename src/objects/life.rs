//! Where a process' object cache stands between the one before and the one after it, and what was cleaned before
//! its clients are served.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::keyspace::Clean;

/// Bytes of the names that were cleaned before clients were served, each once.
const NOTED_MAX_BYTES: usize = 32 << 20;
/// What such a name takes beside its bytes.
const NOTED_NAME_BYTES: usize = 64;

/// Where a process' object cache stands between the one before and the one after it.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Clients are served.
    pub is_open: bool,
    /// A copy is under way.
    pub is_copied: bool,
    /// Commands by which it was filled.
    pub commands_before: u64,
    /// Cleans that came before clients were served: what is put in place may be older.
    pub noted: Noted,
    /// There were more, or some were missed.
    pub is_outdated: bool,
}

/// Cleans, each once; their order does not matter to what is older than all of them.
#[derive(Debug, Default)]
pub(super) struct Noted {
    keys: HashMap<u32, HashSet<Bytes>>,
    common: HashSet<(u32, Vec<Bytes>)>,
    flushed: BTreeSet<u32>,
    is_everything: bool,
    bytes: usize,
}

impl Noted {
    /// False: there are too many.
    fn add(&mut self, clean: &Clean) -> bool {
        match clean {
            Clean::Everything => self.is_everything = true,
            Clean::Database(database) => drop(self.flushed.insert(*database)),
            Clean::Keys { database, keys } => {
                let own = self.keys.entry(*database).or_default();
                for key in keys.iter().filter(|key| own.insert((*key).clone())) {
                    self.bytes += key.len() + NOTED_NAME_BYTES;
                }
            }
            Clean::Common { database, sets } => {
                if self.common.insert((*database, sets.clone())) {
                    let bytes = sets.iter().map(|set| set.len() + NOTED_NAME_BYTES);
                    self.bytes += bytes.sum::<usize>();
                }
            }
        }
        self.bytes <= NOTED_MAX_BYTES
    }

    pub fn take(&mut self) -> Vec<Clean> {
        let Self { keys, common, flushed, is_everything, .. } = std::mem::take(self);
        let common = common.into_iter().map(|(database, sets)| Clean::Common { database, sets });
        let keys = keys.into_iter().map(|(database, keys)| {
            let keys = keys.into_iter().collect();
            Clean::Keys { database, keys }
        });
        let everything = is_everything.then_some(Clean::Everything).into_iter();
        let flushed = flushed.into_iter().map(Clean::Database);
        everything.chain(flushed).chain(keys).chain(common).collect()
    }
}

impl Life {
    /// Another node, or another process, has cleaned this.
    pub fn note(&mut self, clean: &Clean) {
        if self.is_open || self.is_outdated {
            return;
        }
        if !self.noted.add(clean) {
            (self.is_outdated, self.noted) = (true, Noted::default());
        }
    }
}
