//! One producer, one reader, and a bound in bytes between them.
//!
//! A sender that is dropped without [`BodySender::finish`] ends the content as
//! [`BodyError::Truncated`]: a lost producer can never pass for the end of the content.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Body, BodyError};
use crate::fields::Fields;

/// The reader has gone; nobody wants the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the content any more")]
pub struct Closed;

/// A pipe that holds up to `bytes_max` bytes (one piece always fits, so that a large piece cannot
/// block for ever). `length` is what will be sent in total, where it is known.
pub fn channel(bytes_max: usize, length: Option<u64>) -> (BodySender, Body) {
    let state = Arc::new(Mutex::new(State {
        queue: VecDeque::new(),
        queued_bytes: 0,
        end: None,
        trailers: Fields::new(),
        reader_gone: false,
        wanted: false,
        reader: None,
        writer: None,
    }));
    let sender = BodySender { state: Arc::clone(&state), bytes_max, finished: false };
    (sender, Body::from(BodyReceiver { state, remaining: length, held: None }))
}

struct State {
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    end: Option<Result<(), BodyError>>,
    trailers: Fields,
    reader_gone: bool,
    wanted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Runs what fills a channel: at once as far as it comes without waiting, so that what is there
/// already can leave together with the head, and the rest as a task of its own. Most responses have
/// come in whole by then, and no task is needed.
///
/// Needs a tokio runtime.
pub fn produce(producer: impl Future<Output = ()> + Send + 'static) {
    let mut producer = Box::pin(producer);
    // Nobody need be woken: what waits is polled again as soon as it is a task.
    let mut context = Context::from_waker(Waker::noop());
    if producer.as_mut().poll(&mut context).is_pending() {
        tokio::spawn(producer);
    }
}

/// The producer's end.
pub struct BodySender {
    state: Arc<Mutex<State>>,
    bytes_max: usize,
    finished: bool,
}

impl BodySender {
    /// Waits until there is room and queues a piece.
    pub async fn send(&mut self, piece: Bytes) -> Result<(), Closed> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut piece = Some(piece);
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.reader_gone {
                return Poll::Ready(Err(Closed));
            }
            let length = piece.as_ref().map_or(0, Bytes::len);
            if state.queued_bytes > 0 && state.queued_bytes + length > self.bytes_max {
                state.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            if let Some(piece) = piece.take() {
                state.queued_bytes += length;
                state.queue.push_back(piece);
            }
            let reader = state.reader.take();
            drop(state);
            wake(reader);
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Resolves when the reader has gone, so that a producer can stop its work early.
    pub async fn closed(&mut self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.reader_gone {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Resolves when the reader has asked for a piece for the first time, or has gone: the moment
    /// at which `100 Continue` is due (RFC 9110 10.1.1).
    pub async fn wanted(&mut self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.wanted || state.reader_gone {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Resolves when the reader has taken all that was sent, or has gone.
    pub async fn taken(&mut self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.queued_bytes == 0 {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Has the reader gone?
    pub fn is_closed(&self) -> bool {
        self.state.lock().reader_gone
    }

    /// Bytes that wait for the reader.
    pub fn queued_bytes(&self) -> usize {
        self.state.lock().queued_bytes
    }

    /// The content is complete.
    pub fn finish(mut self) {
        self.end(Ok(()));
    }

    /// The content is complete, and these fields follow it.
    pub fn finish_with(self, trailers: Fields) {
        if !trailers.is_empty() {
            self.state.lock().trailers = trailers;
        }
        self.finish();
    }

    /// The content is broken: the reader sees `error` after what was queued.
    pub fn abort(mut self, error: BodyError) {
        self.end(Err(error));
    }

    fn end(&mut self, end: Result<(), BodyError>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let mut state = self.state.lock();
        state.end = Some(end);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        self.end(Err(BodyError::Truncated));
    }
}

/// The reader's end; it lives in a [`Body`].
pub struct BodyReceiver {
    state: Arc<Mutex<State>>,
    remaining: Option<u64>,
    /// What is given back when the content has ended.
    held: Option<Box<dyn Send + Sync>>,
}

impl BodyReceiver {
    pub(super) fn hold(&mut self, held: Box<dyn Send + Sync>) {
        self.held = Some(held);
    }

    pub(super) fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    pub(super) fn take_trailers(&mut self) -> Fields {
        std::mem::take(&mut self.state.lock().trailers)
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.state.lock();
        if let Some(piece) = state.queue.pop_front() {
            state.queued_bytes -= piece.len();
            let writer = state.writer.take();
            drop(state);
            wake(writer);
            if let Some(remaining) = &mut self.remaining {
                *remaining = remaining.saturating_sub(piece.len() as u64);
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            Some(Ok(())) => {
                drop(state);
                self.held = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                state.end = Some(Ok(()));
                Poll::Ready(Some(Err(error)))
            }
            None => {
                state.reader = Some(context.waker().clone());
                if !std::mem::replace(&mut state.wanted, true) {
                    let writer = state.writer.take();
                    drop(state);
                    wake(writer);
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for BodyReceiver {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.reader_gone = true;
        state.queue.clear();
        state.queued_bytes = 0;
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_dropped_without_finish_is_a_truncation() {
        let (mut sender, mut body) = channel(10, None);
        sender.send(Bytes::from("ab")).await.expect("open");
        drop(sender);
        assert_eq!(body.next().await, Some(Ok(Bytes::from("ab"))));
        assert_eq!(body.next().await, Some(Err(BodyError::Truncated)));
        assert_eq!(body.next().await, None);
    }

    #[tokio::test]
    async fn what_a_body_holds_is_given_back_at_its_end_and_at_once_where_all_is_there() {
        let right = Arc::new(());
        drop(Body::from(Bytes::from("whole")).holding(Arc::clone(&right)));
        let _whole = Body::from(Bytes::from("whole")).holding(Arc::clone(&right));
        assert_eq!(Arc::strong_count(&right), 1);
        let (sender, body) = channel(10, None);
        let mut body = body.holding(Arc::clone(&right));
        assert_eq!(Arc::strong_count(&right), 2);
        sender.finish();
        assert_eq!(body.next().await, None);
        assert_eq!(Arc::strong_count(&right), 1);
        let (_sender, body) = channel(10, None);
        drop(body.holding(Arc::clone(&right)));
        assert_eq!(Arc::strong_count(&right), 1);
    }

    #[tokio::test]
    async fn a_producer_runs_at_once_up_to_its_first_wait_and_on_as_a_task() {
        let (mut sender, mut body) = channel(10, None);
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        produce(async move {
            sender.send(Bytes::from("a")).await.expect("open");
            released.await.expect("released");
            sender.send(Bytes::from("b")).await.expect("open");
            sender.finish();
        });
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(body.poll_next(&mut context), Poll::Ready(Some(Ok(Bytes::from("a")))));
        assert!(body.poll_next(&mut context).is_pending());
        release.send(()).expect("waited for");
        assert_eq!(body.next().await, Some(Ok(Bytes::from("b"))));
        assert_eq!(body.next().await, None);
    }

    #[tokio::test]
    async fn a_sender_learns_when_its_content_is_first_asked_for() {
        let (mut sender, mut body) = channel(10, None);
        let writer = tokio::spawn(async move {
            sender.wanted().await;
            sender.send(Bytes::from("late")).await
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        assert_eq!(body.next().await, Some(Ok(Bytes::from("late"))));
        assert_eq!(writer.await.expect("joined"), Ok(()));
    }

    #[tokio::test]
    async fn a_sender_learns_when_all_it_sent_was_taken_or_nobody_takes_it() {
        let (mut sender, mut body) = channel(10, None);
        sender.taken().await;
        sender.send(Bytes::from("a")).await.expect("open");
        let writer = tokio::spawn(async move {
            sender.taken().await;
            sender.send(Bytes::from("b")).await.expect("open");
            sender.taken().await;
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        assert_eq!(body.next().await, Some(Ok(Bytes::from("a"))));
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        drop(body);
        writer.await.expect("joined");
    }

    #[tokio::test]
    async fn a_full_channel_makes_the_sender_wait_and_a_lost_reader_ends_it() {
        let (mut sender, mut body) = channel(4, Some(7));
        sender.send(Bytes::from("abcd")).await.expect("open");
        let writer = tokio::spawn(async move {
            sender.send(Bytes::from("efg")).await.expect("open");
            sender.closed().await;
            sender.send(Bytes::from("x")).await
        });
        assert_eq!(body.next().await, Some(Ok(Bytes::from("abcd"))));
        assert_eq!(body.next().await, Some(Ok(Bytes::from("efg"))));
        assert_eq!(body.len(), Some(0));
        drop(body);
        assert_eq!(writer.await.expect("joined"), Err(Closed));
    }
}
