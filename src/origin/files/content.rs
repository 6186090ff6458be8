//! Reads a file piece by piece, as its client takes it, within a bound on memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::FileError;
use super::directory::{Opened, Stamp};
use super::lane::Lane;
use crate::body::{BodyError, BodySender};

/// A file up to this is read in one step, with the look at it.
pub(super) const SMALL_MAX_BYTES: usize = 256 << 10;

/// A larger one is read in pieces of this. A client that takes nothing pins two of them.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The memory that file content may take, over all clients.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    #[cfg(test)]
    pub(super) fn free_bytes(&self) -> usize {
        self.bytes.available_permits()
    }

    /// Room for so many bytes, if there is some now.
    pub(super) fn take_now(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }

    /// Room for so many bytes, once there is some.
    async fn take(&self, bytes: usize, lane: &Lane) -> Result<OwnedSemaphorePermit, FileError> {
        let no_room = FileError::NoMemory { memory_max_bytes: self.bytes_max };
        let Ok(permits) = u32::try_from(bytes) else {
            return Err(no_room);
        };
        let room = Arc::clone(&self.bytes).acquire_many_owned(permits);
        match tokio::time::timeout(lane.deadline(), room).await {
            Ok(permit) => permit.map_err(|_| FileError::Stopped),
            Err(_) => Err(no_room),
        }
    }
}

/// A piece of a file. It gives its room back when the last of its bytes has left.
struct Piece {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is still to be read of an open file.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    stamp: Stamp,
    span: Range<u64>,
}

impl Source {
    pub(super) fn new(opened: Opened, span: Range<u64>) -> Self {
        Self { file: opened.file, stamp: opened.stamp, span }
    }

    /// Bytes still to be read.
    pub(super) fn remaining(&self) -> u64 {
        self.span.end.saturating_sub(self.span.start)
    }

    /// What is read together with the look at the file: all of a small one.
    pub(super) fn first_piece_bytes(&self) -> usize {
        match usize::try_from(self.remaining()) {
            Ok(remaining) if remaining <= SMALL_MAX_BYTES => remaining,
            _ => PIECE_BYTES,
        }
    }

    /// Reads the next `bytes` bytes. It may block: it is for a thread of a lane.
    pub(super) fn read(
        &mut self,
        bytes: usize,
        room: OwnedSemaphorePermit,
    ) -> Result<Bytes, FileError> {
        let mut piece = Piece { bytes: vec![0; bytes], _room: room };
        match self.file.read_exact_at(&mut piece.bytes, self.span.start) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(FileError::Changed);
            }
            Err(source) => return Err(FileError::Failed { source }),
        }
        // Its head names a length and an entity tag, which must hold for all of its bytes.
        let now = Stamp::of(&self.file).map_err(|source| FileError::Failed { source })?;
        if now != self.stamp {
            return Err(FileError::Changed);
        }
        self.span.start += bytes as u64;
        Ok(Bytes::from_owner(piece))
    }

    /// Reads the next piece on a thread of the lane.
    pub(super) async fn next(
        mut self,
        lane: &Lane,
        budget: &Budget,
    ) -> Result<(Self, Bytes), FileError> {
        let remaining = usize::try_from(self.remaining()).unwrap_or(usize::MAX);
        let bytes = remaining.min(PIECE_BYTES);
        let room = budget.take(bytes, lane).await?;
        lane.run(move || self.read(bytes, room).map(|piece| (self, piece))).await?
    }
}

/// Sends the rest. No thread of the lane is held while the client takes its time.
pub(super) async fn send_rest(
    mut source: Source,
    lane: Arc<Lane>,
    budget: Budget,
    mut sender: BodySender,
) {
    while source.remaining() > 0 {
        match source.next(&lane, &budget).await {
            Ok((rest, piece)) => {
                source = rest;
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a file could not be sent to its end");
                sender.abort(match error {
                    FileError::TimedOut => BodyError::TimedOut,
                    _ => BodyError::Truncated,
                });
                return;
            }
        }
    }
    sender.finish();
}
