//! The stream below hyper: what passes is counted, and what is left of it when hyper has let go
//! can still be told goodbye.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::activity::Activity;
use super::budget::{Bounds, Budget, Fault};
use super::frames::{DATA, FrameHead, HEADERS, RST_STREAM, Scanner, goaway};
use crate::listener::socket::Transport;

/// DATA frames of fewer bytes are no movement: they come from windows opened by bytes.
const MOVEMENT_MIN_BYTES: u32 = 64;
/// How long a client may take to read a goodbye, and how much it may still send: closing with
/// something unread resets the connection, and the goodbye with it.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_MAX_BYTES: usize = 1 << 20;
const LINGER_READ_BYTES: usize = 4 << 10;

/// A stream of which something has already been read, and whose frames are counted.
pub(super) struct Wire<S: Transport> {
    /// Until it is handed back.
    io: Option<S>,
    read: BytesMut,
    incoming: Scanner,
    outgoing: Scanner,
    budget: Budget,
    fault: Option<Fault>,
    /// Streams whose response has begun and not ended.
    unsent: Vec<u32>,
    activity: Arc<Activity>,
    left: Arc<Mutex<Option<Left<S>>>>,
}

/// What is left of a connection when hyper has let go of it.
pub(super) struct Left<S> {
    io: S,
    can_say_goodbye: bool,
    last_stream: u32,
    /// Why it was let go, if the client is to blame.
    pub(super) fault: Option<Fault>,
}

/// Where to find what is left.
pub(super) struct Remains<S>(Arc<Mutex<Option<Left<S>>>>);

impl<S> Remains<S> {
    /// Once the wire has been dropped.
    pub(super) fn take(&self) -> Option<Left<S>> {
        self.0.lock().take()
    }
}

impl<S: Transport> Wire<S> {
    pub(super) fn new(
        io: S,
        read: BytesMut,
        bounds: Bounds,
        activity: Arc<Activity>,
    ) -> (Self, Remains<S>) {
        let left = Arc::new(Mutex::new(None));
        let wire = Self {
            io: Some(io),
            read,
            incoming: Scanner::of_client(),
            outgoing: Scanner::of_server(),
            budget: Budget::new(bounds),
            fault: None,
            unsent: Vec::new(),
            activity,
            left: Arc::clone(&left),
        };
        (wire, Remains(left))
    }

    fn io(&mut self) -> io::Result<Pin<&mut S>> {
        if self.fault.is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn note_received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { incoming, budget, fault, unsent, .. } = self;
        let before = unsent.len();
        incoming.feed(bytes, |head| {
            if head.kind == RST_STREAM {
                unsent.retain(|stream| *stream != head.stream);
            }
            if let Err(found) = budget.received(head) {
                fault.get_or_insert(found);
            }
        });
        if self.unsent.len() != before {
            self.activity.note_unsent(self.unsent.len());
        }
        self.activity.note_owed(self.incoming.is_owed_more());
        self.io().map(|_| ())
    }

    fn note_sent(&mut self, bytes: &[u8]) {
        let Self { outgoing, budget, fault, unsent, activity, .. } = self;
        let before = unsent.len();
        let mut has_moved = false;
        outgoing.feed(bytes, |head| {
            note_response(unsent, head);
            has_moved |= head.kind == DATA && head.length >= MOVEMENT_MIN_BYTES;
            if let Err(found) = budget.sent(head) {
                fault.get_or_insert(found);
            }
        });
        if unsent.len() != before {
            activity.note_unsent(unsent.len());
        }
        if has_moved {
            activity.note_movement();
        }
    }
}

/// Keeps the list of responses that have begun and not ended; h2 bounds how many there are.
fn note_response(unsent: &mut Vec<u32>, head: FrameHead) {
    if head.ends_stream() || head.kind == RST_STREAM {
        unsent.retain(|stream| *stream != head.stream);
    } else if head.kind == HEADERS && !unsent.contains(&head.stream) {
        unsent.push(head.stream);
    }
}

impl<S: Transport> Drop for Wire<S> {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            *self.left.lock() = Some(Left {
                io,
                can_say_goodbye: self.outgoing.is_between_frames(),
                last_stream: self.budget.last_stream(),
                fault: self.fault,
            });
        }
    }
}

impl<S: Transport> Left<S> {
    /// Tells the client why, where a frame can still be put in, and closes.
    pub(super) async fn say_goodbye(mut self, error: u32) {
        if self.can_say_goodbye {
            let goodbye = goaway(self.last_stream, error);
            let _ = timeout(LINGER_MAX, self.io.write_all(&goodbye)).await;
        }
        self.close().await;
    }

    /// Closes, once the client has read what it was told.
    pub(super) async fn close(mut self) {
        let closing = async {
            if self.io.shutdown().await.is_err() {
                return;
            }
            let mut buffer = [0; LINGER_READ_BYTES];
            let mut dropped = 0;
            while let Ok(count @ 1..) = self.io.read(&mut buffer).await {
                dropped += count;
                if dropped > LINGER_MAX_BYTES {
                    return;
                }
            }
        };
        let _ = timeout(LINGER_MAX, closing).await;
    }
}

impl<S: Transport> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.read.is_empty() {
            match self.io()?.poll_read(context, buffer) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        } else {
            let count = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read[..count]);
            self.read.advance(count);
            if self.read.is_empty() {
                self.read = BytesMut::new();
            }
        }
        Poll::Ready(self.note_received(&buffer.filled()[before..]))
    }
}

impl<S: Transport> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.io()?.poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.note_sent(&bytes[..count]);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.io()?.poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(count)) = written {
            let mut rest = count;
            for slice in slices {
                let taken = rest.min(slice.len());
                self.note_sent(&slice[..taken]);
                rest -= taken;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(context)
    }
}
