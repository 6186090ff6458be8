//! The object cache over a stop and start, and on its way to the process that takes over.
//!
//! It is a stream of commands (`objects::kept`), of which all is used or nothing. What is read was there when
//! the copy ended; so who uses it must know which objects were cleaned since ([`may_restore`]). In a fleet the log
//! says so: a file has the place up to which the log was done before the copy began, and nobody is served what was read before
//! the log was read on from there to its end.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::MutexGuard;

use super::Keeper;
use super::file::{OPENED_WITHIN, release_of};
use crate::objects::Objects;
use crate::objects::kept::{NotCopied, NotLoaded, Transcript};
use crate::settings::Settings;
use crate::snapshot::file::{Beside, Bounds, NotWritten, Pace, Place, Written};
use crate::snapshot::{Fault, Head, Pushed, Reader, Writer};

/// Bytes of a block.
const BLOCK_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// Says that these are commands of an object cache, and how they are to be read. Raised with each change of
/// either.
const FORMAT: u64 = 0x6f_626a_6563_7401;
/// So often what clients did goes to the process that takes over.
const FOLLOWED_EACH: Duration = Duration::from_millis(5);

/// What was kept of the object cache and may be used.
#[derive(Debug)]
pub struct FoundObjects {
    reader: Reader<BufReader<File>>,
}

/// Why what was kept is of no use.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("it is of release {found:?}, and the release is {wanted:?}")]
    Release { found: String, wanted: String },
    #[error("another version of Parvis wrote it")]
    Format,
    #[error("it has no place in the log of this fleet, which says what was cleaned since")]
    NoPlace,
    #[error("it is of a node of a fleet, whose other nodes may have cleaned something since")]
    NoFleet,
    #[error("it was not written at a stop, so something may have been cleaned since")]
    NotLast,
    #[error("it cannot be removed, and must not be used twice: {0}")]
    Stays(io::Error),
}

/// Why reading ends.
#[derive(Debug, thiserror::Error)]
enum NotRead {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    NotLoaded(#[from] NotLoaded),
}

/// May objects be used that were kept with this head? The one place that decides it.
///
/// A node by itself knows of each clean while it serves, and refuses them while it does not: what it kept at
/// the stop is good, once, and what it kept before is not. In a fleet the log and the journal have what
/// was cleaned since the head's place, here and elsewhere, so it does not matter how the process ended; a journal in memory
/// alone has gone with it, unless that was at the stop, when there was nothing more to clean.
fn may_restore(head: &Head, settings: &Settings) -> Result<(), Useless> {
    match (settings.redis.is_set(), head.position.is_empty()) {
        (true, true) => Err(Useless::NoPlace),
        (false, false) => Err(Useless::NoFleet),
        (true, false) if head.is_last || outlives_crashes(settings) => Ok(()),
        (false, true) if head.is_last => Ok(()),
        (true, false) | (false, true) => Err(Useless::NotLast),
    }
}

/// Is what was cleaned known after a crash, too?
fn outlives_crashes(settings: &Settings) -> bool {
    settings.redis.is_set() && !settings.fleet.journal_directory.as_os_str().is_empty()
}

impl Keeper {
    /// Keeps these, too.
    #[must_use]
    pub fn with_objects(self, objects: Option<Arc<Objects>>) -> Self {
        Self { objects, ..self }
    }

    fn objects_and_place(&self) -> Option<(Arc<Objects>, Place)> {
        Some((Arc::clone(self.objects.as_ref()?), self.objects_place.clone()?))
    }

    /// Looks for what was kept of the object cache. To be called before clients are served.
    pub async fn open_objects(self: &Arc<Self>) -> Option<FoundObjects> {
        let place = self.objects_place.clone()?;
        let keeper = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || keeper.find_objects(&place));
        if let Ok(found) = tokio::time::timeout(OPENED_WITHIN, opened).await {
            return found.unwrap_or_default();
        }
        tracing::warn!(
            "what was kept of the object cache cannot be opened in time: it begins empty"
        );
        None
    }

    fn find_objects(&self, place: &Place) -> Option<FoundObjects> {
        let file = place.path();
        let reader = match place.open(BLOCK_BYTES) {
            Ok(reader) => reader?,
            Err(fault) => {
                tell_not_read(place, &fault.into());
                return None;
            }
        };
        // What is cleaned from now on is gone here, and would be there again with a later start.
        let removed = place.remove().map_err(Useless::Stays);
        match self.judge_objects(reader.head()).and(removed) {
            // This server keeps none any more.
            Ok(()) if self.objects.is_none() => None,
            Ok(()) => Some(FoundObjects { reader }),
            Err(useless) => {
                let file = file.display();
                tracing::warn!(%file, "what was kept of the object cache is not used: {useless}");
                None
            }
        }
    }

    /// Where it may be used, the log is read on from its place.
    fn judge_objects(&self, head: &Head) -> Result<(), Useless> {
        let settings = self.settings();
        let wanted = release_of(&settings);
        if head.release != wanted {
            return Err(Useless::Release { found: head.release.clone(), wanted });
        }
        if head.keyspace != FORMAT {
            return Err(Useless::Format);
        }
        may_restore(head, &settings)?;
        let has_place = self.resume(head) || head.position.is_empty();
        if has_place { Ok(()) } else { Err(Useless::NoPlace) }
    }

    /// Reads in what was found, on a thread that may block, before clients are served. False: there is nothing.
    pub fn read_objects_in(&self, found: FoundObjects) -> bool {
        let Some((objects, place)) = self.objects_and_place() else { return false };
        let FoundObjects { mut reader } = found;
        let began = self.node.parts().clock.now();
        match load(&objects, &mut reader) {
            Ok(keys) => {
                let seconds = self.node.parts().clock.now().since(began).as_secs_f64();
                tracing::info!(keys, seconds, "the object cache has what it had");
                true
            }
            Err(error) => {
                tell_not_read(&place, &error);
                false
            }
        }
    }

    /// Writes what the object cache has, within `store.snapshot_timeout`; its clients are told to go after
    /// that. A disk that hangs is waited for as long as `patience` says.
    pub(super) async fn write_objects_at_stop(self: &Arc<Self>, patience: Duration) {
        let writing = self.write_objects(true);
        if tokio::time::timeout(patience, writing).await.is_err() {
            tracing::warn!("the disk does not take the object cache in time");
        }
    }

    /// Writes it while its clients are served, if it could be used after a crash, and has changed since
    /// `before`.
    pub(super) async fn write_objects_again(self: &Arc<Self>, before: &mut Option<u64>) {
        let Some(objects) = &self.objects else { return };
        let now = Some(objects.changes());
        if *before != now && outlives_crashes(&self.settings()) && self.write_objects(false).await {
            *before = now;
        }
    }

    async fn write_objects(self: &Arc<Self>, is_last: bool) -> bool {
        let Some((objects, place)) = self.objects_and_place() else { return false };
        let keeper = Arc::clone(self);
        let writing = move || keeper.write_objects_now(&objects, &place, is_last);
        match tokio::task::spawn_blocking(writing).await {
            Ok(Ok(Written { bytes, .. })) => {
                tracing::info!(bytes, "the object cache was written");
                true
            }
            Ok(Err(NotWritten::GivenUp)) | Err(_) if !is_last => false,
            Ok(Err(error)) => {
                let settings = self.settings();
                let directory = settings.store.snapshot_directory.display();
                tracing::warn!(%error, %directory, "the object cache was not written");
                false
            }
            Err(_) => false,
        }
    }

    /// To be held while a copy is made, of which there is one at a time. The last one, and one for another process,
    /// do not wait for one of the moment, which is given up. `None`: it does not end.
    fn copying(&self, patience: Duration) -> Option<MutexGuard<'_, ()>> {
        self.is_copy_wanted.store(true, Ordering::SeqCst);
        let copying = self.copying.try_lock_for(patience);
        self.is_copy_wanted.store(false, Ordering::SeqCst);
        copying
    }

    fn write_objects_now(
        &self,
        objects: &Objects,
        place: &Place,
        is_last: bool,
    ) -> Result<Written, NotWritten> {
        let (settings, clock) = (self.settings(), &self.node.parts().clock);
        let patience = settings.store.snapshot_timeout;
        let copying = if is_last { self.copying(patience) } else { self.copying.try_lock() };
        let _copying = copying.ok_or(NotWritten::Taken)?;
        // The place in the log first: what is cleaned from here on stands behind it.
        let head = self.head(FORMAT, release_of(&settings), is_last);
        if settings.redis.is_set() && head.position.is_empty() {
            return Err(NotWritten::GivenUp);
        }
        let bounds = Bounds {
            bytes_max: settings.store.snapshot_max_bytes,
            record_max_bytes: BLOCK_BYTES,
            bytes_per_second: if is_last { 0 } else { settings.store.snapshot_rate_bytes },
        };
        let until = clock.now().plus(patience);
        let is_free =
            || !self.is_copy_wanted.load(Ordering::SeqCst) && !self.is_over.load(Ordering::SeqCst);
        let goes_on = || if is_last { clock.now() < until } else { is_free() };
        let is_wanted = || (is_last || goes_on()) && release_of(&settings) == head.release;
        place.write_by(&head, bounds, clock, is_wanted, |writer, pace| {
            let copy = objects.copy().ok_or(NotWritten::Taken)?;
            write_copy(copy, writer, pace, (bounds.bytes_max, is_last), goes_on)?;
            Ok(0)
        })
    }

    /// Gives the object cache to another process: a copy, then what clients do meanwhile, until `end` says
    /// that no more is to be done here. `copied` is called when the copy is there. Blocks; where the other does not
    /// read on for so long, or `end` has no sender any more, it ends, and the other has nothing of it.
    pub fn send_objects(
        &self,
        socket: UnixStream,
        patience: Duration,
        copied: impl FnOnce(),
        end: &Receiver<()>,
    ) -> io::Result<()> {
        let Some(objects) = &self.objects else { return Ok(()) };
        socket.set_write_timeout(Some(patience))?;
        let _copying = self.copying(patience).ok_or(io::ErrorKind::ResourceBusy)?;
        let head = self.head(FORMAT, String::new(), true);
        let out = BufWriter::with_capacity(BUFFER_BYTES, socket);
        let mut writer = Writer::begin(out, &head, u64::MAX, BLOCK_BYTES)?;
        let mut copy = objects.copy().ok_or(io::ErrorKind::ResourceBusy)?;
        let mut copied = Some(copied);
        loop {
            let part = copy.part().map_err(io::Error::other)?;
            writer.push_commands(&part.done)?;
            writer.push_commands(&part.copied)?;
            if !copy.is_over() {
                continue;
            }
            writer.flush()?;
            if let Some(copied) = copied.take() {
                copied();
            }
            match end.recv_timeout(FOLLOWED_EACH) {
                Ok(()) => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("it is not wanted any more"));
                }
            }
        }
        let part = copy.give_away().map_err(io::Error::other)?;
        writer.push_commands(&part.done)?;
        writer.push_commands(&part.copied)?;
        writer.finish()?.flush()
    }

    /// Takes in what the process before has of objects, until that says that it does nothing more; blocks.
    /// To be called before clients are served.
    pub fn receive_objects(&self, socket: UnixStream, patience: Duration) {
        let Some(objects) = &self.objects else { return };
        let received = (|| -> Result<usize, NotRead> {
            socket.set_read_timeout(Some(patience)).map_err(Fault::Io)?;
            let from = BufReader::with_capacity(BUFFER_BYTES, socket);
            let mut reader = Reader::open(from, BLOCK_BYTES)?;
            if reader.head().keyspace != FORMAT {
                return Err(Fault::NoSnapshot.into());
            }
            load(objects, &mut reader)
        })();
        match received {
            Ok(keys) => tracing::info!(keys, "the objects of the process before are here"),
            Err(error) => {
                tracing::warn!(
                    "the object cache begins empty, since it did not come over: {error}"
                );
            }
        }
    }
}

/// Loads all commands, and puts what they make in place; how many keys that are.
fn load<R: Read>(objects: &Objects, reader: &mut Reader<R>) -> Result<usize, NotRead> {
    let mut loading = objects.loading();
    if !reader.head().is_last {
        loading.leave_out_own();
    }
    while let Some(commands) = reader.commands()? {
        loading.take_in(&commands)?;
    }
    Ok(objects.put_in_place(loading)?)
}

/// Writes a copy to its end, after which no command is done here, if it is the last one.
fn write_copy(
    mut copy: Transcript<'_>,
    writer: &mut Beside,
    pace: &Pace<'_>,
    (bytes_max, is_last): (u64, bool),
    goes_on: impl Fn() -> bool,
) -> Result<(), NotWritten> {
    let spoiled = |error: NotCopied| NotWritten::Spoiled(error.to_string());
    loop {
        let is_over = copy.is_over();
        let part = match (is_over, is_last) {
            (false, _) => copy.part(),
            // A clean that came later would not be in it.
            (true, true) => copy.give_away(),
            (true, false) => copy.end(),
        };
        let part = part.map_err(spoiled)?;
        for commands in [&part.done, &part.copied] {
            if writer.push_commands(commands)? == Pushed::Full {
                return Err(NotWritten::TooLarge(bytes_max));
            }
        }
        if is_over {
            return Ok(());
        }
        if !goes_on() {
            return Err(NotWritten::GivenUp);
        }
        pace.keep(writer.bytes());
    }
}

/// What is corrupt is not read again.
fn tell_not_read(place: &Place, error: &NotRead) {
    let file = place.path();
    let file = file.display();
    // It may be gone already.
    let _ = place.remove();
    tracing::warn!(%file, "the object cache begins empty, since what was kept cannot be used: {error}");
}
