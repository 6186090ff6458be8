//! What commands did, as commands which do the same at any time: a journal plays them again.

use bytes::{Bytes, BytesMut};

use crate::resp::write;

/// Commands, with a SELECT before those of another database.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Somebody wants them.
    pub wanted: bool,
    /// They are part of a copy that is under way (see `dump`).
    pub is_copied: bool,
    /// Something was done that cannot be part of it.
    pub is_spoiled: bool,
    database: Option<usize>,
    bytes: BytesMut,
}

impl Effects {
    /// From now on they are part of a copy.
    pub fn begin_copy(&mut self) {
        *self = Self { wanted: true, is_copied: true, ..Self::default() };
    }

    /// They are wanted no more.
    pub fn end_copy(&mut self) {
        *self = Self::default();
    }

    /// Adds a command.
    pub fn push(&mut self, database: usize, command: &[&[u8]]) {
        if self.wanted {
            self.select(database);
            write::command(&mut self.bytes, command);
        }
    }

    /// Adds a packed command.
    pub fn push_raw(&mut self, database: usize, command: &[u8]) {
        if self.wanted {
            self.select(database);
            self.bytes.extend_from_slice(command);
        }
    }

    fn select(&mut self, database: usize) {
        if self.database != Some(database) {
            self.database = Some(database);
            write::command(&mut self.bytes, &[b"SELECT", database.to_string().as_bytes()]);
        }
    }

    /// All since the last time; they say which database they begin in.
    pub fn take(&mut self) -> Bytes {
        self.database = None;
        self.bytes.split().freeze()
    }
}
