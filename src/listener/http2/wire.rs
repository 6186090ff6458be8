//! The stream below h2: what passes is counted, what h2 writes is gathered into few writes, and
//! what is left of the stream when h2 has let go can still be told goodbye.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
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
/// Bytes that are gathered for one write. h2 writes each frame of content by itself, and one
/// write for the responses to all requests that came together costs less than copying them.
const GATHER_MAX_BYTES: usize = 32 << 10;
/// Slices that leave with what was gathered.
const SLICES_MAX: usize = 16;

thread_local! {
    /// The room of a connection that has nothing gathered, for the next that has.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream of which something has already been read, and whose frames are counted. h2 has one
/// handle on it, and the connection's task the other.
pub(super) struct Wire<S>(Arc<Mutex<Line<S>>>);

struct Line<S> {
    io: S,
    /// What was read before h2 asked.
    read: BytesMut,
    gathered: Gathered,
    incoming: Scanner,
    outgoing: Scanner,
    budget: Budget,
    fault: Option<Fault>,
    /// Streams whose response has begun and not ended.
    unsent: Vec<u32>,
    activity: Arc<Activity>,
}

/// What is left of a connection when h2 has let go of it.
pub(super) struct Left<S> {
    io: S,
    gathered: Gathered,
    outgoing: Scanner,
    last_stream: u32,
    /// Why it was let go, if the client is to blame.
    pub(super) fault: Option<Fault>,
}

/// Bytes that wait for the next write.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    written: usize,
}

impl Gathered {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn push(&mut self, slices: &[IoSlice<'_>]) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
        }
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.bytes.len() {
            self.written = 0;
            self.bytes.clear();
            SPARE.set(std::mem::take(&mut self.bytes));
        }
    }
}

impl<S: Transport> Wire<S> {
    pub(super) fn new(io: S, read: BytesMut, bounds: Bounds, activity: Arc<Activity>) -> Self {
        Self(Arc::new(Mutex::new(Line {
            io,
            read,
            gathered: Gathered::default(),
            incoming: Scanner::of_client(),
            outgoing: Scanner::of_server(),
            budget: Budget::new(bounds),
            fault: None,
            unsent: Vec::new(),
            activity,
        })))
    }

    /// The handle for h2.
    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Writes what was gathered.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_send(context)
    }

    /// Once h2 has dropped its handle.
    pub(super) fn into_left(self) -> Option<Left<S>> {
        let line = Arc::into_inner(self.0)?.into_inner();
        Some(Left {
            last_stream: line.budget.last_stream(),
            io: line.io,
            gathered: line.gathered,
            outgoing: line.outgoing,
            fault: line.fault,
        })
    }
}

impl<S: Transport> Line<S> {
    fn check(&self) -> io::Result<()> {
        if self.fault.is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let before = buffer.filled().len();
        if self.read.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        } else {
            let count = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read[..count]);
            self.read.advance(count);
            if self.read.is_empty() {
                self.read = BytesMut::new();
            }
        }
        self.note_received(&buffer.filled()[before..]);
        Poll::Ready(self.check())
    }

    fn note_received(&mut self, bytes: &[u8]) {
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
    }

    /// Takes bytes of h2: all of them where there is room to gather them, else as many as the
    /// client takes.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        loop {
            let waiting = self.gathered.rest().len();
            if waiting + length <= GATHER_MAX_BYTES {
                self.gathered.push(slices);
                return Poll::Ready(Ok(length));
            }
            let written = ready!(self.poll_write_with(context, slices))?;
            if written > 0 {
                return Poll::Ready(Ok(written));
            }
        }
    }

    /// Writes what was gathered and these, and says how many of these left.
    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = [IoSlice::new(&[]); SLICES_MAX];
        all[0] = IoSlice::new(self.gathered.rest());
        let mut used = 1;
        for (slot, slice) in all[1..].iter_mut().zip(slices) {
            *slot = *slice;
            used += 1;
        }
        let all = if self.gathered.rest().is_empty() { &all[1..used] } else { &all[..used] };
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, all))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_gathered = written.min(self.gathered.rest().len());
        self.note_gathered_sent(of_gathered);
        let mut rest = written - of_gathered;
        for slice in slices {
            let taken = rest.min(slice.len());
            self.note_sent(&slice[..taken]);
            rest -= taken;
        }
        Poll::Ready(Ok(written - of_gathered))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.rest().is_empty() {
            self.check()?;
            let written = Pin::new(&mut self.io).poll_write(context, self.gathered.rest());
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.note_gathered_sent(count),
            }
        }
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        Poll::Ready(self.check())
    }

    fn note_gathered_sent(&mut self, count: usize) {
        let gathered = std::mem::take(&mut self.gathered);
        self.note_sent(&gathered.rest()[..count]);
        self.gathered = gathered;
        self.gathered.advance(count);
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

impl<S: Transport> Left<S> {
    /// Tells the client why, where a frame can still be put in, and closes.
    pub(super) async fn say_goodbye(mut self, error: u32) {
        let Self { io, gathered, outgoing, last_stream, .. } = &mut self;
        // What h2 had said already comes first.
        outgoing.feed(gathered.rest(), |_| {});
        let goodbye = goaway(*last_stream, error);
        let goodbye = if outgoing.is_between_frames() { &goodbye[..] } else { &[] };
        let telling = async {
            io.write_all(gathered.rest()).await?;
            io.write_all(goodbye).await?;
            io.flush().await
        };
        let _ = timeout(LINGER_MAX, telling).await;
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
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(context, buffer)
    }
}

impl<S: Transport> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The connection's task writes what was gathered once h2 has nothing more to do.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.0.lock();
        ready!(line.poll_send(context))?;
        Pin::new(&mut line.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::future::poll_fn;
    use tokio::io::{DuplexStream, duplex};

    const BOUNDS: Bounds = Bounds { resets_max: 10, control_max: 100 };

    fn pair(room: usize) -> (Wire<DuplexStream>, DuplexStream) {
        let (ours, client) = duplex(room);
        let activity = Activity::new(Clock::manual());
        (Wire::new(ours, BytesMut::new(), BOUNDS, activity), client)
    }

    fn data(stream: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, DATA, 0, 0, 0, 0, stream];
        frame.extend(std::iter::repeat_n(stream, usize::from(length)));
        frame
    }

    async fn is_silent(client: &mut DuplexStream) -> bool {
        let mut buffer = [0; 1];
        let mut buffer = ReadBuf::new(&mut buffer);
        let read = poll_fn(|context| {
            Poll::Ready(Pin::new(&mut *client).poll_read(context, &mut buffer).is_pending())
        });
        read.await
    }

    #[tokio::test]
    async fn what_h2_writes_leaves_together_when_it_is_sent() {
        let (wire, mut client) = pair(1 << 20);
        let mut handle = wire.share();
        for stream in [1, 3] {
            handle.write_all(&data(stream, 9)).await.expect("room");
            handle.flush().await.expect("nothing to do");
        }
        assert!(is_silent(&mut client).await);
        poll_fn(|context| wire.poll_send(context)).await.expect("sent");
        let mut told = [0; 36];
        client.read_exact(&mut told).await.expect("two frames");
        assert_eq!(told[..], [data(1, 9), data(3, 9)].concat());
    }

    #[tokio::test]
    async fn more_than_is_gathered_leaves_in_order_at_the_clients_pace() {
        let (wire, mut client) = pair(1_000);
        let all: Vec<u8> = (0..=255).cycle().take(2_000).flat_map(|at| data(at, at)).collect();
        assert!(all.len() > 4 * GATHER_MAX_BYTES);
        let mut handle = wire.share();
        let expected = all.clone();
        let writer = tokio::spawn(async move {
            for (at, piece) in all.chunks(777).enumerate() {
                if at % 2 == 0 {
                    handle.write_all(piece).await.expect("a client");
                } else {
                    let (first, second) = piece.split_at(piece.len() / 2);
                    let mut slices = [IoSlice::new(first), IoSlice::new(second)];
                    let mut rest = &mut slices[..];
                    while !rest.is_empty() {
                        let count = handle.write_vectored(rest).await.expect("a client");
                        IoSlice::advance_slices(&mut rest, count);
                    }
                }
                assert!(handle.0.lock().gathered.rest().len() <= GATHER_MAX_BYTES);
            }
            handle.shutdown().await.expect("a client");
        });
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.expect("all");
        writer.await.expect("written");
        assert!(told == expected);
        assert!(wire.0.lock().outgoing.is_between_frames());
    }

    #[tokio::test]
    async fn goodbye_comes_after_what_was_gathered_and_between_frames_alone() {
        for (written, is_told) in [(18, true), (12, false)] {
            let (wire, mut client) = pair(1 << 20);
            wire.share().write_all(&data(1, 9)[..written]).await.expect("room");
            let left = wire.into_left().expect("the last handle");
            tokio::spawn(left.say_goodbye(0xb));
            let mut told = Vec::new();
            client.read_to_end(&mut told).await.expect("all");
            let goodbye = if is_told { goaway(0, 0xb).to_vec() } else { Vec::new() };
            assert_eq!(told, [&data(1, 9)[..written], &goodbye].concat());
        }
    }
}
