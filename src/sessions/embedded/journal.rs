//! The journal: a file of records, each with what one command or transaction did.
//!
//! A record is the length of its content and the CRC-32 of it (each 32 bits, little-endian), then the
//! content: packed commands. The first that is not whole, or whose sum is wrong, is where writing ended when the
//! power went or the disk was full; what follows it is cut off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use tempfile::NamedTempFile;

/// What a journal begins with.
pub(super) const MAGIC: &[u8] = b"parvis sessions 1\n";
/// Length and sum.
pub(super) const HEAD_BYTES: usize = 8;
/// What is being written in place of a journal; left over by a process that was killed.
const BESIDE: &str = ".sessions-";
/// Its owner's alone: what visitors do is in it.
const MODE: u32 = 0o600;

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the system said.
    #[error("{}: {source}", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process owns it; while one process takes over from another, that one does for a moment.
    #[error("{}: another process has it open", .0.display())]
    Taken(PathBuf),
    /// The file is something else, and stays as it is.
    #[error("{}: it is no journal of sessions", .0.display())]
    Foreign(PathBuf),
}

/// Appends a record to bytes.
pub(super) fn frame(content: &[u8], out: &mut BytesMut) {
    // A command is no longer than 32 bits can say (`resp`), and what a transaction may take is less.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
    out.extend_from_slice(content);
}

/// The file, and the right to it.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    record: BytesMut,
    _lock: File,
}

impl Journal {
    /// Opens or begins a journal, gives the content of each record to `replay`, and cuts off what is not
    /// whole. How many bytes that was comes with it.
    pub fn open(path: &Path, mut replay: impl FnMut(&[u8])) -> Result<(Self, u64), OpenError> {
        let failed = |source| OpenError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let lock = lock(path)?;
        remove_left_over(path);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(MODE);
        let file = options.open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut records = Records::new(BufReader::new(&file), length);
        let begins = records.begins().map_err(failed)?;
        if !begins && records.is_foreign {
            return Err(OpenError::Foreign(path.to_owned()));
        }
        if begins {
            while let Some(content) = records.next().map_err(failed)? {
                replay(content);
            }
        }
        let whole = records.whole;
        let cut = length - whole;
        if cut > 0 {
            file.set_len(whole).map_err(failed)?;
        }
        let mut journal = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            bytes: whole,
            record: BytesMut::new(),
            _lock: lock,
        };
        if whole == 0 {
            (&*journal.file).write_all(MAGIC).map_err(failed)?;
            journal.bytes = MAGIC.len() as u64;
            sync_directory(path).map_err(failed)?;
        }
        if cut > 0 || whole == 0 {
            journal.file.sync_data().map_err(failed)?;
        }
        Ok((journal, cut))
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, to be synced while others write.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends a record: when this returns, it outlives this process. Where it fails nothing of it is left,
    /// if the system lets that be.
    pub fn append(&mut self, content: &[u8]) -> io::Result<()> {
        self.record.clear();
        frame(content, &mut self.record);
        match (&*self.file).write_all(&self.record) {
            Ok(()) => {
                self.bytes += self.record.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What stays after all is cut off when the file is read.
                let _ = self.file.set_len(self.bytes);
                Err(error)
            }
        }
    }

    /// Puts another file, which holds all there is, into this one's place.
    pub fn replace(&mut self, beside: NamedTempFile, bytes: u64) -> io::Result<()> {
        let file = beside.persist(&self.path).map_err(|error| error.error)?;
        self.file = Arc::new(file);
        self.bytes = bytes;
        Ok(())
    }

    /// A file beside, that may take this one's place; it has begun as a journal.
    pub fn beside(path: &Path) -> io::Result<NamedTempFile> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(MODE);
        let mut builder = tempfile::Builder::new();
        let mut file = builder.prefix(BESIDE).make_in(directory, |path| options.open(path))?;
        file.write_all(MAGIC)?;
        // As a file of that type it is what a journal's file is.
        Ok(file)
    }
}

/// The new name, too, is to outlive a loss of power.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Held until it is dropped, or the process ends in whatever way.
fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE);
    let file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Taken(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Removes what killed processes had begun to write.
fn remove_left_over(path: &Path) {
    let directory = path.parent().unwrap_or(Path::new("."));
    let files = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    for file in files.filter(|it| it.file_name().to_string_lossy().starts_with(BESIDE)) {
        // What cannot be removed takes room, and harms nothing else.
        let _ = std::fs::remove_file(file.path());
    }
}

/// The records of a file, up to the first that is not whole.
struct Records<R> {
    from: R,
    left: u64,
    /// Bytes that are whole.
    whole: u64,
    is_foreign: bool,
    content: Vec<u8>,
}

impl<R: Read> Records<R> {
    fn new(from: R, length: u64) -> Self {
        Self { from, left: length, whole: 0, is_foreign: false, content: Vec::new() }
    }

    /// Reads what a journal begins with. False: it is empty, or was cut off there, or is no journal.
    fn begins(&mut self) -> io::Result<bool> {
        let length = self.left.min(MAGIC.len() as u64) as usize;
        let mut magic = vec![0; length];
        self.from.read_exact(&mut magic)?;
        self.left -= length as u64;
        self.is_foreign = magic != MAGIC[..length];
        if self.is_foreign || length < MAGIC.len() {
            return Ok(false);
        }
        self.whole = MAGIC.len() as u64;
        Ok(true)
    }

    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.left < HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.from.read_exact(&mut head)?;
        self.left -= HEAD_BYTES as u64;
        let [a, b, c, d, sum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        // An empty one is nothing that was written: files end in zeros where the power went.
        if length == 0 || u64::from(length) > self.left {
            return Ok(None);
        }
        self.content.resize(length as usize, 0);
        self.from.read_exact(&mut self.content)?;
        self.left -= u64::from(length);
        if crc32fast::hash(&self.content) != u32::from_le_bytes(sum) {
            return Ok(None);
        }
        self.whole += HEAD_BYTES as u64 + u64::from(length);
        Ok(Some(&self.content))
    }
}
