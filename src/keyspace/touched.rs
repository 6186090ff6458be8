//! Which keys were changed, for who copies a keyspace while it is in use.

/// Keys that were changed, in the order in which they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// In which database, which key. A key may be there several times.
    pub keys: Vec<(usize, Box<[u8]>)>,
    /// Whole databases were emptied or swapped: nothing that was copied before holds.
    pub everything: bool,
}

impl Touched {
    pub(super) fn add(&mut self, database: usize, key: &[u8]) {
        self.keys.push((database, key.into()));
    }
}
