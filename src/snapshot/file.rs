//! A snapshot in a file, which is there in whole or not at all.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;

use super::{Fault, Head, Pushed, Reader, StoredResponse, Writer};
use crate::clock::{Clock, Moment};

const BUFFER_BYTES: usize = 256 << 10;
/// Shorter pauses are put together: a sleep is no shorter than that anyway.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// When so many responses in a row found no room, the snapshot is full.
const FULL_IN_A_ROW_MAX: u32 = 100;

/// Of what a snapshot is; files are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Stored responses.
    Pages,
    /// The object cache.
    Objects,
}

impl Kept {
    const fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Objects => "objects",
        }
    }
}

/// What a snapshot may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file.
    pub bytes_max: u64,
    /// Bytes of one response.
    pub record_max_bytes: usize,
    /// Bytes to write in a second; 0: as fast as it goes.
    pub bytes_per_second: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Responses.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Responses that found no room; where many in a row did not, the rest was not looked at.
    pub left_out: u64,
}

/// Why there is no new snapshot. The one that was there stays.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// What the system said.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Two processes share the directory.
    #[error("another process writes a snapshot there")]
    Taken,
    /// Who wanted it does not want it any more.
    #[error("it was given up")]
    GivenUp,
    /// A part of it would be of no use.
    #[error("it is larger than store.snapshot_max ({0} bytes)")]
    TooLarge(u64),
    /// What is kept changed in a way that it cannot have.
    #[error("{0}")]
    Spoiled(String),
}

/// Where a snapshot is kept: a directory of one server's own.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
    kept: Kept,
}

/// A snapshot that is being written.
pub type Beside = Writer<BufWriter<tempfile::NamedTempFile>>;

/// Holds who writes to a rate.
#[derive(Debug)]
pub struct Pace<'a> {
    clock: &'a Clock,
    began: Moment,
    bytes_per_second: u64,
}

impl Pace<'_> {
    /// So many bytes were written: sleeps where that was too fast.
    pub fn keep(&self, bytes: u64) {
        let pause = pause(bytes, self.clock.now().since(self.began), self.bytes_per_second);
        if pause >= PAUSE_MIN {
            std::thread::sleep(pause);
        }
    }
}

impl Place {
    /// In this directory, which need not be there yet.
    pub fn new(directory: &Path, kept: Kept) -> Self {
        Self { directory: directory.to_owned(), kept }
    }

    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.snapshot", self.kept.name()))
    }

    /// Can snapshots be written there, by all that can be known before? To be told before one is lost.
    pub fn check(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        rustix::fs::access(&self.directory, Access::WRITE_OK | Access::EXEC_OK)?;
        self.open_lock().map(drop)
    }

    /// Writes a snapshot of responses; see [`Place::write_by`].
    pub fn write(
        &self,
        head: &Head,
        bounds: Bounds,
        clock: &Clock,
        responses: impl Iterator<Item = StoredResponse>,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<Written, NotWritten> {
        self.write_by(head, bounds, clock, is_wanted, |writer, pace| {
            let (mut left_out, mut full_in_a_row) = (0, 0);
            for response in responses {
                let pushed = writer.push(&response)?;
                left_out += u64::from(pushed != Pushed::Written);
                full_in_a_row = if pushed == Pushed::Full { full_in_a_row + 1 } else { 0 };
                if full_in_a_row == FULL_IN_A_ROW_MAX {
                    break;
                }
                pace.keep(writer.bytes());
            }
            Ok(left_out)
        })
    }

    /// Writes a snapshot: into a file beside, which then takes the place of what is there, if
    /// `is_wanted` says so at last. Where that fails, what was there stays. Blocks, and pauses to keep
    /// to the rate. No two processes write at once.
    pub fn write_by(
        &self,
        head: &Head,
        bounds: Bounds,
        clock: &Clock,
        is_wanted: impl FnOnce() -> bool,
        fill: impl FnOnce(&mut Beside, &Pace<'_>) -> Result<u64, NotWritten>,
    ) -> Result<Written, NotWritten> {
        std::fs::create_dir_all(&self.directory)?;
        let _lock = self.lock()?;
        self.remove_left_over();
        // Its rights are its owner's alone: pages of a shop behind a login may be in it.
        let beside =
            tempfile::Builder::new().prefix(&self.beside()).tempfile_in(&self.directory)?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, beside);
        let mut writer = Writer::begin(out, head, bounds.bytes_max, bounds.record_max_bytes)?;
        let bytes_per_second = bounds.bytes_per_second;
        let left_out = fill(&mut writer, &Pace { clock, began: clock.now(), bytes_per_second })?;
        let records = writer.records();
        let beside = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        beside.as_file().sync_all()?;
        let bytes = beside.as_file().metadata()?.len();
        if !is_wanted() {
            return Err(NotWritten::GivenUp);
        }
        beside.persist(self.path()).map_err(|error| error.error)?;
        self.sync_names()?;
        Ok(Written { records, bytes, left_out })
    }

    /// A new name, or that one has gone, is to outlive a loss of power, too.
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Removes the file: what was read of it may not be read again.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(self.path())?;
        self.sync_names()
    }

    /// How the name of a file begins that is being written, or was left over by a process that was killed.
    fn beside(&self) -> String {
        format!(".{}-", self.kept.name())
    }

    /// Opens what [`Place::write`] wrote. `None`: there is none.
    pub fn open(&self, record_max_bytes: usize) -> Result<Option<Reader<BufReader<File>>>, Fault> {
        match File::open(self.path()) {
            Ok(file) => {
                let from = BufReader::with_capacity(BUFFER_BYTES, file);
                Reader::open(from, record_max_bytes).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::Io(error)),
        }
    }

    /// Puts a file that is not whole out of the way, so that it is not read again; its new path.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let path = self.directory.join(format!("{}.corrupt", self.kept.name()));
        std::fs::rename(self.path(), &path)?;
        Ok(path)
    }

    /// Held until it is dropped, or the process ends in whatever way.
    fn lock(&self) -> Result<File, NotWritten> {
        let file = self.open_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(NotWritten::Taken),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn open_lock(&self) -> io::Result<File> {
        let path = self.directory.join(format!("{}.lock", self.kept.name()));
        File::options().write(true).create(true).truncate(false).open(path)
    }

    /// Removes what killed processes had begun to write.
    fn remove_left_over(&self) {
        let files = std::fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        let beside = self.beside();
        for file in files.filter(|it| it.file_name().to_string_lossy().starts_with(&beside)) {
            // What cannot be removed takes room, and harms nothing else.
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// How long to wait so that so many bytes have not come faster than the rate allows.
fn pause(bytes: u64, elapsed: Duration, bytes_per_second: u64) -> Duration {
    let milliseconds = bytes.saturating_mul(1_000).checked_div(bytes_per_second);
    Duration::from_millis(milliseconds.unwrap_or(0)).saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const BOUNDS: Bounds =
        Bounds { bytes_max: 1 << 20, record_max_bytes: 1 << 10, bytes_per_second: 0 };

    fn responses(number: u8) -> impl Iterator<Item = StoredResponse> {
        (0..number).map(|key| StoredResponse {
            key: Bytes::from(vec![key; 40]),
            keep: Duration::from_secs(1),
            ..StoredResponse::default()
        })
    }

    fn place() -> (Place, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        (Place::new(&directory.path().join("new"), Kept::Pages), directory)
    }

    fn write(
        place: &Place,
        head: &Head,
        bounds: Bounds,
        number: u8,
    ) -> Result<Written, NotWritten> {
        place.write(head, bounds, &Clock::system(), responses(number), || true)
    }

    fn read(place: &Place) -> Vec<StoredResponse> {
        let reader = place.open(BOUNDS.record_max_bytes).expect("opened").expect("there");
        reader.collect::<Result<_, _>>().expect("whole")
    }

    #[test]
    fn what_was_there_is_replaced_in_one_step_and_stays_where_writing_fails() {
        let (place, _directory) = place();
        assert!(place.open(1).expect("no fault").is_none());
        let written = write(&place, &Head::default(), BOUNDS, 3).expect("written");
        assert_eq!((written.records, written.left_out), (3, 0));
        assert_eq!(written.bytes, std::fs::metadata(place.path()).expect("there").len());
        assert_eq!(read(&place), responses(3).collect::<Vec<_>>());
        let head = Head { release: "x".repeat(1 << 20), ..Head::default() };
        write(&place, &head, BOUNDS, 9).expect_err("too long a release");
        let clock = Clock::system();
        let given_up = place.write(&Head::default(), BOUNDS, &clock, responses(9), || false);
        assert!(matches!(given_up, Err(NotWritten::GivenUp)));
        assert_eq!(read(&place).len(), 3);
        std::fs::write(place.directory.join(".pages-left-over"), "x").expect("written");
        write(&place, &Head::default(), BOUNDS, 9).expect("written");
        assert_eq!(read(&place).len(), 9);
        let mut files: Vec<_> = std::fs::read_dir(&place.directory)
            .expect("readable")
            .map(|file| file.expect("a file").file_name())
            .collect();
        files.sort();
        assert_eq!(files, ["pages.lock", "pages.snapshot"], "nothing is left beside");
    }

    #[test]
    fn two_never_write_at_once() {
        let (place, _directory) = place();
        write(&place, &Head::default(), BOUNDS, 1).expect("written");
        let lock = place.lock().expect("free");
        let refused = write(&place, &Head::default(), BOUNDS, 2);
        assert!(matches!(refused, Err(NotWritten::Taken)), "{refused:?}");
        drop(lock);
        write(&place, &Head::default(), BOUNDS, 2).expect("written");
    }

    #[test]
    fn a_place_is_known_to_be_of_use_before_anything_is_written() {
        let (place, directory) = place();
        place.check().expect("made");
        let lock = place.lock().expect("free");
        place.check().expect("another writes at this moment");
        drop(lock);
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("written");
        Place::new(&file, Kept::Pages).check().expect_err("a file is no directory");
        std::fs::remove_file(place.directory.join("pages.lock")).expect("removed");
        std::fs::create_dir(place.directory.join("pages.lock")).expect("made");
        place.check().expect_err("its lock cannot be opened");
    }

    #[test]
    fn what_is_not_whole_is_set_aside() {
        let (place, _directory) = place();
        write(&place, &Head::default(), BOUNDS, 1).expect("written");
        let aside = place.set_aside().expect("moved");
        assert!(aside.is_file() && place.open(1).expect("no fault").is_none());
    }

    #[test]
    fn the_file_is_no_larger_than_its_bound_and_keeps_what_came_first() {
        let (place, _directory) = place();
        let bounds = Bounds { bytes_max: 1_000, ..BOUNDS };
        let written = write(&place, &Head::default(), bounds, 100).expect("written");
        assert!(written.bytes <= 1_000 && written.bytes > 800, "{written:?}");
        assert!(written.left_out > 0);
        let kept: Vec<_> = responses(100).take(read(&place).len()).collect();
        assert_eq!(read(&place), kept);
    }

    #[test]
    fn the_pauses_keep_to_the_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(3_000, second, 1_000), second * 2);
        assert_eq!(pause(3_000, second * 5, 1_000), Duration::ZERO);
        assert_eq!(pause(u64::MAX, second, 0), Duration::ZERO, "no rate");
    }
}
