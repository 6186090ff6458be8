//! Content that arrives once and is read by many, each at its own pace.
//!
//! [`SharedBody::push`] never waits for a reader: what arrived stays until the last holder has
//! gone, so whoever writes must bound the total. Content that turns out larger goes on with
//! [`SharedBody::push_paced`]: what every reader has read is dropped, and the slowest one sets the
//! pace.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::BodyError;

/// The writer's end of shared content; dropping it before [`SharedBody::finish`] truncates it.
pub struct SharedBody {
    state: Arc<Mutex<State>>,
    finished: bool,
}

#[derive(Default)]
struct State {
    /// What is kept; the first is number `dropped` of all pieces.
    pieces: VecDeque<Bytes>,
    dropped: usize,
    kept_bytes: usize,
    bytes: u64,
    length: Option<u64>,
    end: Option<Result<(), BodyError>>,
    waiting: Vec<Waker>,
    /// The piece that each reader takes next, by the reader's number.
    positions: HashMap<u64, usize>,
    readers: u64,
    writer: Option<Waker>,
}

impl State {
    fn drop_what_all_have_read(&mut self) {
        let slowest = self.positions.values().copied().min().unwrap_or(usize::MAX);
        while self.dropped < slowest
            && let Some(piece) = self.pieces.pop_front()
        {
            self.kept_bytes -= piece.len();
            self.dropped += 1;
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        self.kept_bytes += piece.len();
        self.pieces.push_back(piece);
    }
}

impl SharedBody {
    /// Content of `length` bytes, where that is known.
    pub fn new(length: Option<u64>) -> Self {
        let state = State { length, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), finished: false }
    }

    /// Where readers begin.
    pub fn source(&self) -> SharedSource {
        SharedSource { state: Arc::clone(&self.state) }
    }

    /// Appends a piece; everything that came before is kept.
    pub fn push(&self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.push(piece);
        wake(state);
    }

    /// Appends a piece once the readers have left room for it: at most `bytes_max` bytes are kept
    /// (one piece always fits). Readers that begin after this get [`BodyError::Truncated`].
    ///
    /// # Errors
    /// [`BodyError::ConnectionLost`] where no reader is left.
    pub async fn push_paced(&self, piece: Bytes, bytes_max: usize) -> Result<(), BodyError> {
        let mut piece = Some(piece);
        std::future::poll_fn(|context| self.poll_push(context, &mut piece, bytes_max)).await
    }

    fn poll_push(
        &self,
        context: &Context<'_>,
        piece: &mut Option<Bytes>,
        bytes_max: usize,
    ) -> Poll<Result<(), BodyError>> {
        let mut state = self.state.lock();
        if state.positions.is_empty() {
            return Poll::Ready(Err(BodyError::ConnectionLost));
        }
        state.drop_what_all_have_read();
        let more_bytes = piece.as_ref().map_or(0, Bytes::len);
        if !state.pieces.is_empty() && state.kept_bytes + more_bytes > bytes_max {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if let Some(piece) = piece.take().filter(|piece| !piece.is_empty()) {
            state.push(piece);
        }
        wake(state);
        Poll::Ready(Ok(()))
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// The content is complete.
    pub fn finish(mut self) {
        self.end(Ok(()));
    }

    /// The content is broken.
    pub fn abort(mut self, error: BodyError) {
        self.end(Err(error));
    }

    fn end(&mut self, end: Result<(), BodyError>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let mut state = self.state.lock();
        state.end = Some(end);
        wake(state);
    }
}

impl Drop for SharedBody {
    fn drop(&mut self) {
        self.end(Err(BodyError::Truncated));
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_iter().for_each(Waker::wake);
}

fn wake_writer(mut state: MutexGuard<'_, State>) {
    let writer = state.writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
}

/// Where readers of shared content begin.
#[derive(Clone)]
pub struct SharedSource {
    state: Arc<Mutex<State>>,
}

impl SharedSource {
    /// A reader from the beginning.
    pub fn reader(&self) -> SharedReader {
        let mut state = self.state.lock();
        let number = state.readers;
        state.readers += 1;
        // One that is too late must not hold the writer.
        if state.dropped == 0 {
            state.positions.insert(number, 0);
        }
        drop(state);
        SharedReader {
            state: Arc::clone(&self.state),
            number,
            next: 0,
            read_bytes: 0,
            ended: false,
        }
    }
}

/// A reader of shared content.
pub struct SharedReader {
    state: Arc<Mutex<State>>,
    number: u64,
    next: usize,
    read_bytes: u64,
    ended: bool,
}

impl SharedReader {
    pub(super) fn remaining(&self) -> Option<u64> {
        let state = self.state.lock();
        let total = match state.end {
            Some(Ok(())) => Some(state.bytes),
            _ => state.length,
        };
        total.map(|total| total.saturating_sub(self.read_bytes))
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.state.lock();
        let Some(place) = self.next.checked_sub(state.dropped) else {
            let first = !std::mem::replace(&mut self.ended, true);
            return Poll::Ready(first.then_some(Err(BodyError::Truncated)));
        };
        if let Some(piece) = state.pieces.get(place) {
            let piece = piece.clone();
            self.next += 1;
            self.read_bytes += piece.len() as u64;
            state.positions.insert(self.number, self.next);
            wake_writer(state);
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            Some(Err(error)) if !self.ended => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(_) => Poll::Ready(None),
            None => {
                state.waiting.retain(|waiting| !waiting.will_wake(context.waker()));
                state.waiting.push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.positions.remove(&self.number);
        wake_writer(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    fn reader(shared: &SharedBody) -> Body {
        Body::from(shared.source().reader())
    }

    #[tokio::test]
    async fn each_reader_sees_everything_whenever_it_joined() {
        let shared = SharedBody::new(None);
        shared.push(Bytes::from("a"));
        let early = tokio::spawn(reader(&shared).collect(10));
        tokio::task::yield_now().await;
        shared.push(Bytes::from("b"));
        let late = reader(&shared);
        shared.finish();
        assert_eq!(late.len(), Some(2));
        assert_eq!(late.collect(10).await, Ok(Bytes::from("ab")));
        assert_eq!(early.await.expect("joined"), Ok(Bytes::from("ab")));
    }

    #[tokio::test]
    async fn a_lost_writer_is_a_truncation_for_every_reader() {
        let shared = SharedBody::new(Some(2));
        let readers = [reader(&shared), reader(&shared)];
        shared.push(Bytes::from("a"));
        drop(shared);
        for reader in readers {
            assert_eq!(reader.collect(9).await, Err(BodyError::Truncated));
        }
    }

    #[tokio::test]
    async fn beyond_the_bound_the_slowest_reader_sets_the_pace_and_all_get_everything() {
        let shared = SharedBody::new(None);
        let mut slow = reader(&shared);
        let quick = tokio::spawn(reader(&shared).collect(10_000));
        shared.push(Bytes::from_static(&[b'x'; 100]));
        let state = Arc::clone(&shared.state);
        let writing = tokio::spawn(async move {
            for _ in 0..50 {
                shared.push_paced(Bytes::from_static(&[b'x'; 10]), 100).await?;
            }
            shared.finish();
            Ok::<_, BodyError>(())
        });
        let mut read_bytes = 0;
        while let Some(piece) = slow.next().await {
            read_bytes += piece.expect("a piece").len();
            tokio::task::yield_now().await;
            assert!(state.lock().kept_bytes <= 100, "more was kept than the bound");
        }
        assert_eq!((read_bytes, writing.await.expect("no panic")), (600, Ok(())));
        assert_eq!(quick.await.expect("no panic").map(|all| all.len()), Ok(600));
    }

    #[tokio::test]
    async fn a_reader_that_leaves_frees_the_writer_and_without_any_it_ends() {
        let shared = SharedBody::new(None);
        let (stalled, mut other) = (reader(&shared), reader(&shared));
        shared.push(Bytes::from_static(b"12345"));
        other.next().await.expect("a piece").expect("a piece");
        let pushed = tokio::spawn(async move {
            let first = shared.push_paced(Bytes::from_static(b"6"), 5).await;
            (shared, first)
        });
        tokio::task::yield_now().await;
        assert!(!pushed.is_finished(), "the stalled reader has everything before it");
        drop(stalled);
        let (shared, first) = pushed.await.expect("no panic");
        assert_eq!(first, Ok(()));
        let late = reader(&shared);
        assert_eq!(late.collect(10).await, Err(BodyError::Truncated), "too late for the start");
        assert_eq!(other.next().await, Some(Ok(Bytes::from_static(b"6"))));
        drop(other);
        let lost = shared.push_paced(Bytes::from_static(b"7"), 5).await;
        assert_eq!(lost, Err(BodyError::ConnectionLost));
    }
}
