//! The journal is written anew, while commands go on, when it has grown beyond what there is.
//!
//! A walk over all keys says of each what it is, in pieces under the lock. What is changed meanwhile goes to
//! the old journal as ever, and into the new one as what the changed keys are then: a command would need
//! others' keys, which the walk may not have come to yet. Renamed at last, under the lock, the new one takes
//! the old one's place in one step; whenever the process dies, one of both is whole.

use std::io::{self, Write};

use bytes::BytesMut;
use parking_lot::MutexGuard;
use tempfile::NamedTempFile;

use super::journal::{self, Journal};
use super::{Embedded, Inner};
use crate::keyspace::Touched;

/// Bytes that a piece of the walk takes under the lock, more or less.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of what was changed that wait for the disk; one that is so slow is given up on.
const PENDING_MAX_BYTES: usize = 64 << 20;
/// How often the rest is written without the lock, before it is with it.
const ROUNDS: usize = 8;

/// What has to go into the new journal, in its order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: BytesMut,
    /// What was written so far does not hold.
    is_spoiled: bool,
}

impl Pending {
    /// Takes in what a command has changed.
    pub fn take_in(&mut self, touched: &Touched, portrait: impl Fn(usize, &[u8], &mut BytesMut)) {
        let mut content = BytesMut::new();
        for (database, key) in &touched.keys {
            portrait(*database, key, &mut content);
        }
        if !content.is_empty() {
            journal::frame(&content, &mut self.bytes);
        }
        self.is_spoiled |= touched.everything || self.bytes.len() > PENDING_MAX_BYTES;
    }
}

/// How far a rewriting is.
#[derive(Debug)]
pub(super) struct Rewrite<'a> {
    embedded: &'a Embedded,
    beside: Option<NamedTempFile>,
    bytes: u64,
    database: usize,
    /// Keys of that database's row that the walk has not come to yet.
    left: usize,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// All keys are written.
    Walked,
}

impl<'a> Rewrite<'a> {
    /// Begins; `None`: there is no journal, or it is closed.
    pub fn begin(embedded: &'a Embedded) -> io::Result<Option<Self>> {
        if embedded.inner.lock().journal.is_none() {
            return Ok(None);
        }
        let beside = Journal::beside(&embedded.path)?;
        let mut inner = embedded.inner.lock();
        inner.keyspace.keep_touched(true);
        inner.rewrite = Some(Pending::default());
        drop(inner);
        let bytes = journal::MAGIC.len() as u64;
        Ok(Some(Self { embedded, beside: Some(beside), bytes, database: 0, left: usize::MAX }))
    }

    /// Writes a piece of what there is, and what was changed before it.
    pub fn step(&mut self) -> io::Result<Step> {
        let mut inner = self.embedded.inner.lock();
        let Inner { keyspace, rewrite, .. } = &mut *inner;
        let pending = usable(rewrite)?;
        let mut content = BytesMut::new();
        let mut step = Step::Walked;
        while self.database < keyspace.databases() {
            if content.len() >= PIECE_BYTES {
                step = Step::More;
                break;
            }
            self.left = self.left.min(keyspace.len(self.database));
            if let Some(place) = self.left.checked_sub(1) {
                self.left = place;
                keyspace.portrait(self.database, place, &mut content);
            } else {
                (self.database, self.left) = (self.database + 1, usize::MAX);
            }
        }
        if !content.is_empty() {
            journal::frame(&content, &mut pending.bytes);
        }
        let bytes = pending.bytes.split();
        drop(inner);
        self.write(&bytes)?;
        Ok(step)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let beside = self.beside.as_mut().ok_or(io::ErrorKind::NotFound)?;
        beside.as_file_mut().write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts the new journal into the old one's place.
    pub fn finish(mut self) -> io::Result<()> {
        for _ in 0..ROUNDS {
            let mut inner = self.embedded.inner.lock();
            let bytes = usable(&mut inner.rewrite)?.bytes.split();
            drop(inner);
            self.write(&bytes)?;
            if bytes.len() < PIECE_BYTES {
                break;
            }
        }
        let beside = self.beside.as_ref().ok_or(io::ErrorKind::NotFound)?;
        beside.as_file().sync_data()?;
        let mut inner = self.embedded.inner.lock();
        let bytes = usable(&mut inner.rewrite)?.bytes.split();
        self.write(&bytes)?;
        let Some(beside) = self.beside.take() else { return Err(io::ErrorKind::NotFound.into()) };
        let Some(journal) = &mut inner.journal else { return Err(given_up()) };
        journal.replace(beside, self.bytes)?;
        let file = journal.file();
        inner.is_behind = false;
        inner.is_unsynced = true;
        inner.rewrites += 1;
        stop(inner);
        // What the old file had of the last second is in the new one, and that is soon on the disk, too.
        file.sync_data()?;
        journal::sync_directory(&self.embedded.path)
    }
}

impl Drop for Rewrite<'_> {
    fn drop(&mut self) {
        let inner = self.embedded.inner.lock();
        if inner.rewrite.is_some() {
            stop(inner);
        }
    }
}

/// From now on nothing is kept for a new journal.
fn stop(mut inner: MutexGuard<'_, Inner>) {
    inner.rewrite = None;
    inner.keyspace.keep_touched(false);
}

fn usable(pending: &mut Option<Pending>) -> io::Result<&mut Pending> {
    pending.as_mut().filter(|pending| !pending.is_spoiled).ok_or_else(given_up)
}

/// Databases were emptied or swapped meanwhile, or the journal was closed: it is begun again later.
fn given_up() -> io::Error {
    io::Error::from(io::ErrorKind::Interrupted)
}
