//! Content that was taken in whole: memory first, then a file.
//!
//! The file has no name, so nothing is left behind however the process ends. It is read and
//! written on the runtime's threads for blocking work, at explicit offsets, so that one file serves
//! any number of readers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::{Body, BodyError, BodySender, channel};

/// Bytes of one read or write of the file.
const BLOCK_BYTES: usize = 64 << 10;

/// Memory for the content of all requests together; clones share it. A client with many streams on
/// many connections gets no more of it than there is, and the rest of what it sends goes to files.
#[derive(Clone, Debug)]
pub struct SpoolMemory {
    free_bytes: Arc<AtomicUsize>,
}

impl SpoolMemory {
    /// So much memory.
    pub fn new(bytes_max: usize) -> Self {
        Self { free_bytes: Arc::new(AtomicUsize::new(bytes_max)) }
    }

    /// Takes up to `bytes`, and says how many.
    fn take(&self, bytes: usize) -> usize {
        let mut taken = 0;
        let take = |free: usize| {
            taken = free.min(bytes);
            Some(free - taken)
        };
        // It always says how many are left.
        let _ = self.free_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken
    }
}

/// Content in the memory for all, which gets its room back when the last reader has gone.
struct Kept {
    memory: SpoolMemory,
    bytes: BytesMut,
}

impl Kept {
    /// Moves what finds room from the beginning of a piece, up to `bytes_max` in all.
    fn take_from(&mut self, piece: &mut Bytes, bytes_max: usize) {
        let wanted = (bytes_max - self.bytes.len()).min(piece.len());
        self.bytes.extend_from_slice(&piece.split_to(self.memory.take(wanted)));
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.memory.free_bytes.fetch_add(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Content that can be read again and again.
#[derive(Clone, Debug, Default)]
pub struct Spooled {
    /// The beginning.
    memory: Bytes,
    /// What follows, from the file's offset 0.
    file: Option<Arc<File>>,
    bytes: u64,
}

/// Why content could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// More than a bound allows: 413.
    #[error("the content is larger than {limit} bytes")]
    TooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// The sender stalled, broke off or sent what cannot be read.
    #[error("the content did not arrive: {0}")]
    Sender(BodyError),
    /// The file could not be written.
    #[error("the content could not be kept: {0}")]
    Storage(#[from] io::Error),
}

impl SpoolError {
    /// The status for the client; one who has gone does not see it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Sender(BodyError::TimedOut) => StatusCode::REQUEST_TIMEOUT,
            Self::Sender(_) => StatusCode::BAD_REQUEST,
            Self::Storage(error) if is_full(error) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<BodyError> for SpoolError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::TooLarge { limit },
            other => Self::Sender(other),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Spooled {
    /// Takes in all of `body`, at most `max_bytes`: up to `memory_max_bytes` in memory, as far as
    /// `memory` has room, and the rest in a file in `directory` (empty: the system's temporary
    /// directory).
    pub async fn take_in(
        mut body: Body,
        memory: &SpoolMemory,
        memory_max_bytes: usize,
        max_bytes: u64,
        directory: &Path,
    ) -> Result<Self, SpoolError> {
        if body.len().is_some_and(|length| length > max_bytes) {
            return Err(SpoolError::TooLarge { limit: max_bytes });
        }
        if body.ready_parts().is_some_and(<[Bytes]>::is_empty) {
            return Ok(Self::default());
        }
        let mut kept = Kept { memory: memory.clone(), bytes: BytesMut::new() };
        let mut file: Option<Writer> = None;
        let mut bytes = 0_u64;
        while let Some(mut piece) = body.next().await.transpose()? {
            bytes = bytes.saturating_add(piece.len() as u64);
            if bytes > max_bytes {
                return Err(SpoolError::TooLarge { limit: max_bytes });
            }
            if file.is_none() {
                kept.take_from(&mut piece, memory_max_bytes);
            }
            if piece.is_empty() {
                continue;
            }
            let mut writer = match file.take() {
                Some(writer) => writer,
                None => Writer::create(directory).await?,
            };
            writer.append(&piece).await?;
            file = Some(writer);
        }
        let file = match file {
            Some(writer) => Some(Arc::new(writer.finish().await?)),
            None => None,
        };
        Ok(Self { memory: Bytes::from_owner(kept), file, bytes })
    }

    /// What of it is in memory: its beginning, or nothing while there is no room.
    pub fn beginning(&self) -> &[u8] {
        &self.memory
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of it in memory; `None` where it is more than `max_bytes`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn whole(&self, max_bytes: usize) -> io::Result<Option<Bytes>> {
        if self.bytes > max_bytes as u64 {
            return Ok(None);
        }
        let Some(file) = &self.file else { return Ok(Some(self.memory.clone())) };
        let length = self.bytes as usize - self.memory.len();
        let rest = read_block(Arc::clone(file), 0, length).await?;
        Ok(Some([self.memory.as_ref(), &rest].concat().into()))
    }
}

impl From<Bytes> for Spooled {
    fn from(memory: Bytes) -> Self {
        Self { bytes: memory.len() as u64, memory, file: None }
    }
}

impl From<Spooled> for Body {
    /// A reader from the beginning. Content in a file is read ahead by two blocks in a task of its
    /// own; without a runtime to run it the content ends as truncated.
    fn from(spooled: Spooled) -> Self {
        let Some(file) = spooled.file else {
            return Self::from(spooled.memory);
        };
        let (sender, body) = channel(2 * BLOCK_BYTES, Some(spooled.bytes));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(replay(spooled.memory, file, spooled.bytes, sender));
        }
        body
    }
}

/// Sends the beginning, then the file; a sender that is dropped here truncates the content.
async fn replay(memory: Bytes, file: Arc<File>, bytes: u64, mut sender: BodySender) {
    let mut file_bytes = bytes - memory.len() as u64;
    if sender.send(memory).await.is_err() {
        return;
    }
    let mut offset = 0_u64;
    while file_bytes > 0 {
        let block = file_bytes.min(BLOCK_BYTES as u64);
        match read_block(Arc::clone(&file), offset, block as usize).await {
            Ok(piece) => {
                offset += block;
                file_bytes -= block;
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "a spooled request body cannot be read back");
                return;
            }
        }
    }
    sender.finish();
}

async fn read_block(file: Arc<File>, offset: u64, length: usize) -> io::Result<Bytes> {
    blocking(move || {
        let mut block = vec![0; length];
        file.read_exact_at(&mut block, offset)?;
        Ok(Bytes::from(block))
    })
    .await
}

/// Gathers pieces to blocks and writes those.
struct Writer {
    file: File,
    offset: u64,
    pending: BytesMut,
}

impl Writer {
    async fn create(directory: &Path) -> io::Result<Self> {
        let directory = if directory.as_os_str().is_empty() {
            std::env::temp_dir()
        } else {
            PathBuf::from(directory)
        };
        let file = blocking(move || tempfile::tempfile_in(directory)).await?;
        Ok(Self { file, offset: 0, pending: BytesMut::new() })
    }

    async fn append(&mut self, piece: &Bytes) -> io::Result<()> {
        self.pending.extend_from_slice(piece);
        if self.pending.len() >= BLOCK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let block = self.pending.split().freeze();
        let (offset, length) = (self.offset, block.len() as u64);
        let file = self.file.try_clone()?;
        blocking(move || file.write_all_at(&block, offset)).await?;
        self.offset += length;
        Ok(())
    }

    async fn finish(mut self) -> io::Result<File> {
        self.flush().await?;
        Ok(self.file)
    }
}

/// Runs file work off the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nowhere() -> &'static Path {
        Path::new("/nonexistent/directory")
    }

    /// With memory for any number.
    async fn take_in(
        body: Body,
        memory_max_bytes: usize,
        max_bytes: u64,
        directory: &Path,
    ) -> Result<Spooled, SpoolError> {
        let memory = SpoolMemory::new(usize::MAX);
        Spooled::take_in(body, &memory, memory_max_bytes, max_bytes, directory).await
    }

    fn pattern(length: usize) -> Bytes {
        (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
    }

    #[tokio::test]
    async fn small_content_stays_in_memory_and_touches_no_file() {
        let spooled = take_in(Body::from(pattern(100)), 100, 1_000, nowhere());
        let spooled = spooled.await.expect("fits in memory");
        assert_eq!(spooled.bytes(), 100);
        assert!(Body::from(spooled).ready_parts().is_some());
    }

    #[tokio::test]
    async fn what_finds_no_room_in_the_memory_for_all_goes_to_a_file() {
        let memory = SpoolMemory::new(250);
        let take_in = async |parts: Vec<Bytes>| {
            let body = Body::parts(parts);
            Spooled::take_in(body, &memory, 100, 1_000, Path::new("")).await.expect("spooled")
        };
        let whole = async || take_in(vec![pattern(60), pattern(40)]).await;
        let (first, second, third) = (whole().await, whole().await, whole().await);
        assert!(first.file.is_none() && second.file.is_none());
        assert_eq!((third.memory.len(), third.file.is_some()), (50, true));
        assert_eq!(whole().await.memory.len(), 0);
        let all = Bytes::from([pattern(60), pattern(40)].concat());
        assert_eq!(Body::from(third.clone()).collect(100).await, Ok(all));
        // A clone shares the room; the last one gives it back.
        drop(first.clone());
        assert_eq!(whole().await.memory.len(), 0);
        drop((first, third));
        assert!(whole().await.file.is_none());
        // Who reads it still has it.
        let reader = Body::from(second);
        assert_eq!(memory.free_bytes.load(Ordering::Relaxed), 150);
        drop(reader);
        assert_eq!(memory.free_bytes.load(Ordering::Relaxed), 250);
    }

    #[tokio::test]
    async fn large_content_goes_on_in_a_file_and_can_be_read_again() {
        let directory = tempfile::tempdir().expect("directory");
        let all = pattern(300_000);
        let parts: Vec<Bytes> = all.chunks(7_001).map(Bytes::copy_from_slice).collect();
        let spooled = take_in(Body::parts(parts), 10_000, 300_000, directory.path());
        let spooled = spooled.await.expect("spooled");
        for _ in 0..2 {
            let body = Body::from(spooled.clone());
            assert_eq!(body.len(), Some(300_000));
            assert_eq!(body.collect(300_000).await, Ok(all.clone()));
        }
        let left = std::fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(left, 0, "the file has no name");
    }

    #[tokio::test]
    async fn small_content_can_be_had_in_whole_wherever_it_is() {
        let all = pattern(1_000);
        for memory_max_bytes in [0, 10, 1_000] {
            let spooled = take_in(Body::from(all.clone()), memory_max_bytes, 1_000, Path::new(""));
            let spooled = spooled.await.expect("spooled");
            assert_eq!(spooled.whole(1_000).await.expect("readable"), Some(all.clone()));
            assert_eq!(spooled.whole(999).await.expect("readable"), None);
        }
    }

    #[tokio::test]
    async fn two_readers_of_one_file_do_not_disturb_each_other() {
        let all = pattern(200_000);
        let spooled = take_in(Body::from(all.clone()), 0, 1 << 20, Path::new(""));
        let spooled = spooled.await.expect("spooled");
        let (mut slow, fast) = (Body::from(spooled.clone()), Body::from(spooled));
        let first = slow.next().await.expect("some").expect("good");
        assert_eq!(fast.collect(1 << 20).await, Ok(all.clone()));
        let rest = slow.collect(1 << 20).await.expect("good");
        assert_eq!([first, rest].concat(), all);
    }

    #[tokio::test]
    async fn content_over_its_bound_is_413_with_and_without_a_length() {
        let known = take_in(Body::from(pattern(11)), 100, 10, nowhere()).await;
        assert_eq!(known.expect_err("too large").status(), StatusCode::PAYLOAD_TOO_LARGE);
        let (mut sender, body) = channel(100, None);
        sender.send(pattern(11)).await.expect("open");
        let unknown = take_in(body, 100, 10, nowhere()).await;
        assert_eq!(unknown.expect_err("too large").status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_sender_that_stalls_is_408_and_one_that_breaks_off_is_400() {
        for (error, status) in [
            (BodyError::TimedOut, StatusCode::REQUEST_TIMEOUT),
            (BodyError::ConnectionLost, StatusCode::BAD_REQUEST),
        ] {
            let (sender, body) = channel(100, None);
            sender.abort(error);
            let result = take_in(body, 100, 100, nowhere()).await;
            assert_eq!(result.expect_err("broken").status(), status);
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_a_fault_of_this_server() {
        let result = take_in(Body::from(pattern(11)), 10, 100, nowhere()).await;
        assert_eq!(result.expect_err("no file").status(), StatusCode::INTERNAL_SERVER_ERROR);
        let full = SpoolError::Storage(io::ErrorKind::StorageFull.into());
        assert_eq!(full.status(), StatusCode::INSUFFICIENT_STORAGE);
    }

    #[test]
    fn without_a_runtime_content_in_a_file_is_truncated_and_nothing_panics() {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let spooled = take_in(Body::from(pattern(9)), 1, 100, Path::new(""));
        let spooled = runtime.block_on(spooled).expect("spooled");
        let body = Body::from(spooled);
        assert_eq!(runtime.block_on(body.collect(100)), Err(BodyError::Truncated));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_taken_in_comes_out_whatever_the_pieces(
            lengths in proptest::collection::vec(0_usize..90_000, 0..5),
            memory_max_bytes in 0_usize..100_000,
        ) {
            let runtime = tokio::runtime::Runtime::new().expect("runtime");
            runtime.block_on(async {
                let all = pattern(lengths.iter().sum());
                let mut rest = all.clone();
                let parts: Vec<_> = lengths.iter().map(|&at| rest.split_to(at)).collect();
                let spooled =
                    take_in(Body::parts(parts), memory_max_bytes, 1 << 20, Path::new(""));
                let spooled = spooled.await.expect("spooled");
                assert_eq!(spooled.bytes(), all.len() as u64);
                assert_eq!(Body::from(spooled).collect(1 << 20).await, Ok(all));
            });
        }
    }
}
