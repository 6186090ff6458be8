//! What is to be told to other nodes: what clients have cleaned since the last time, within a bound.

use bytes::Bytes;

use super::clean::Clean;

/// One clean has so many bytes as text, but for a key that alone has more.
const AT_ONCE_MAX_BYTES: usize = 64 << 10;

/// Cleans in their order.
#[derive(Debug)]
pub(super) struct Told {
    cleans: Vec<Clean>,
    bytes: usize,
    /// Beyond it a database is told as a whole.
    max_bytes: usize,
}

impl Told {
    pub fn new(max_bytes: usize) -> Self {
        Self { cleans: Vec::new(), bytes: 0, max_bytes }
    }

    pub fn take(&mut self) -> Vec<Clean> {
        self.bytes = 0;
        std::mem::take(&mut self.cleans)
    }

    /// Tells that all databases were cleaned.
    pub fn everything(&mut self) {
        self.cleans = vec![Clean::Everything];
    }

    /// Is it told already that a database was cleaned?
    fn is_whole(&self, database: u32) -> bool {
        let covers =
            |told: &Clean| *told == Clean::Everything || *told == Clean::Database(database);
        self.cleans.iter().any(covers)
    }

    /// Tells what sets of a database have in common.
    pub fn common(&mut self, database: usize, sets: &[&[u8]]) {
        let Ok(database) = u32::try_from(database) else { return };
        let mut sets: Vec<Bytes> = sets.iter().map(|set| Bytes::copy_from_slice(set)).collect();
        sets.sort();
        sets.dedup();
        let clean = Clean::Common { database, sets };
        if !self.is_whole(database) && !self.cleans.contains(&clean) {
            self.tell(database, clean);
        }
    }

    fn tell(&mut self, database: u32, clean: Clean) {
        self.bytes = self.bytes.saturating_add(clean.bytes());
        self.cleans.push(clean);
        if self.bytes > self.max_bytes {
            self.database(database);
        }
    }

    /// Tells that keys of a database were cleaned.
    pub fn keys<'k>(&mut self, database: usize, keys: impl Iterator<Item = &'k [u8]>) {
        let Ok(database) = u32::try_from(database) else { return };
        if self.is_whole(database) {
            return;
        }
        let keys = keys.map(Bytes::copy_from_slice).collect();
        for clean in Clean::of_keys(database, keys, AT_ONCE_MAX_BYTES) {
            self.tell(database, clean);
        }
    }

    pub fn database(&mut self, database: u32) {
        let is_covered = |told: &Clean| match told {
            Clean::Keys { database: own, .. }
            | Clean::Common { database: own, .. }
            | Clean::Database(own) => *own == database,
            Clean::Everything => false,
        };
        self.cleans.retain(|told| !is_covered(told));
        if !self.cleans.contains(&Clean::Everything) {
            self.cleans.push(Clean::Database(database));
        }
    }
}
