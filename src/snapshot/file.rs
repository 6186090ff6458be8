//! A snapshot in a file, which is there in whole or not at all.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::{Fault, Head, Pushed, Reader, StoredResponse, Writer};
use crate::clock::Clock;

const BUFFER_BYTES: usize = 256 << 10;
/// Shorter pauses are put together: a sleep is no shorter than that anyway.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// When so many responses in a row found no room, the snapshot is full.
const FULL_IN_A_ROW_MAX: u32 = 100;

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

/// Writes a snapshot: into a file beside, which then takes the place of what is at the path. Where
/// that fails, what was there stays. Blocks, and pauses to keep to the rate.
pub fn write(
    path: &Path,
    head: &Head,
    bounds: Bounds,
    clock: &Clock,
    responses: impl Iterator<Item = StoredResponse>,
) -> io::Result<Written> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Its rights are its owner's alone: pages of a shop behind a login may be in it.
    let beside = NamedTempFile::new_in(directory)?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, beside);
    let mut writer = Writer::begin(out, head, bounds.bytes_max, bounds.record_max_bytes)?;
    let began = clock.now();
    let (mut left_out, mut full_in_a_row) = (0, 0);
    for response in responses {
        let pushed = writer.push(&response)?;
        if pushed != Pushed::Written {
            left_out += 1;
        }
        full_in_a_row = if pushed == Pushed::Full { full_in_a_row + 1 } else { 0 };
        if full_in_a_row == FULL_IN_A_ROW_MAX {
            break;
        }
        let pause = pause(writer.bytes(), clock.now().since(began), bounds.bytes_per_second);
        if pause >= PAUSE_MIN {
            std::thread::sleep(pause);
        }
    }
    let records = writer.records();
    let beside = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    beside.as_file().sync_all()?;
    let bytes = beside.as_file().metadata()?.len();
    beside.persist(path).map_err(|error| error.error)?;
    // The new name, too, is to outlive a loss of power.
    File::open(directory)?.sync_all()?;
    Ok(Written { records, bytes, left_out })
}

/// Opens what [`write()`] wrote. `None`: there is none.
pub fn open(
    path: &Path,
    release: Option<&str>,
    record_max_bytes: usize,
) -> Result<Option<Reader<BufReader<File>>>, Fault> {
    match File::open(path) {
        Ok(file) => {
            let from = BufReader::with_capacity(BUFFER_BYTES, file);
            Reader::open(from, release, record_max_bytes).map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::Io(error)),
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

    fn read(path: &Path) -> Vec<StoredResponse> {
        let reader = open(path, None, BOUNDS.record_max_bytes).expect("opened").expect("there");
        reader.collect::<Result<_, _>>().expect("whole")
    }

    #[test]
    fn what_was_there_is_replaced_in_one_step_and_stays_where_writing_fails() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        assert!(open(&path, None, 1).expect("no fault").is_none());
        let clock = Clock::system();
        let written =
            write(&path, &Head::default(), BOUNDS, &clock, responses(3)).expect("written");
        assert_eq!((written.records, written.left_out), (3, 0));
        assert_eq!(written.bytes, std::fs::metadata(&path).expect("there").len());
        assert_eq!(read(&path), responses(3).collect::<Vec<_>>());
        let head = Head { release: "x".repeat(1 << 20), ..Head::default() };
        write(&path, &head, BOUNDS, &clock, responses(9)).expect_err("too long a release");
        assert_eq!(read(&path).len(), 3);
        write(&path, &Head::default(), BOUNDS, &clock, responses(9)).expect("written");
        assert_eq!(read(&path).len(), 9);
        let files = std::fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing is left beside");
    }

    #[test]
    fn the_file_is_no_larger_than_its_bound_and_keeps_what_came_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        let bounds = Bounds { bytes_max: 1_000, ..BOUNDS };
        let clock = Clock::system();
        let written =
            write(&path, &Head::default(), bounds, &clock, responses(100)).expect("written");
        assert!(written.bytes <= 1_000 && written.bytes > 800, "{written:?}");
        assert!(written.left_out > 0);
        let kept: Vec<_> = responses(100).take(read(&path).len()).collect();
        assert_eq!(read(&path), kept);
    }

    #[test]
    fn the_pauses_keep_to_the_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(3_000, second, 1_000), second * 2);
        assert_eq!(pause(3_000, second * 5, 1_000), Duration::ZERO);
        assert_eq!(pause(u64::MAX, second, 0), Duration::ZERO, "no rate");
    }
}
