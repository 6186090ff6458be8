//! The bytes of a connection: what has been read and not used, and writing with a deadline.

use std::future::poll_fn;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use crate::listener::socket::Transport;
use crate::listener::watchdog::Watchdog;

/// Bytes that one read takes of a head. They pass over the stack, so that a connection that
/// waits for a request holds no buffer.
const HEAD_READ_BYTES: usize = 8 << 10;
/// Bytes that one read takes of content.
const BODY_READ_BYTES: usize = 16 << 10;
/// A client slower than this, over all the time we have waited for it, is given up.
const RATE_MIN_BYTES_PER_SECOND: u128 = 128;
/// The room for response heads that an idle connection keeps.
const SCRATCH_IDLE_BYTES: usize = 1 << 10;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a wait for bytes ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Some have come.
    Bytes,
    /// None will come: the client has closed its side, or the connection is lost.
    Gone,
    /// The deadline came first.
    Expired,
}

/// The connection is lost, or the client takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteFailed;

/// A stream, its read buffer and its timer.
#[derive(Debug)]
pub(super) struct Wire<S> {
    io: S,
    /// What has been read and not used.
    pub(super) input: BytesMut,
    pub(super) watchdog: Watchdog,
    /// What is still to be sent of an interim response.
    interim: &'static [u8],
    /// Where response heads are put together.
    pub(super) scratch: Vec<u8>,
    waiting: Waiting,
}

/// How long one message has kept us waiting, and how much of it has passed.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    time: Duration,
    bytes: u64,
}

impl Waiting {
    /// Has the client been slower than the least rate, after a first `allowance`?
    fn is_too_slow(&self, allowance: Duration) -> bool {
        self.time > allowance
            && u128::from(self.bytes) * 1_000 < self.time.as_millis() * RATE_MIN_BYTES_PER_SECOND
    }
}

impl<S: Transport> Wire<S> {
    pub(super) fn new(io: S, first_timeout: Duration) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            watchdog: Watchdog::new(first_timeout),
            interim: &[],
            scratch: Vec::new(),
            waiting: Waiting::default(),
        }
    }

    /// The stream and what has been read of it.
    pub(super) fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.input)
    }

    /// Gives back the memory that an idle connection does not need.
    pub(super) fn release(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.scratch.capacity() > SCRATCH_IDLE_BYTES {
            self.scratch = Vec::new();
        }
    }

    /// Reads once into the input.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Filled> {
        let mut stack = [MaybeUninit::uninit(); HEAD_READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut stack);
        match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.input.extend_from_slice(buffer.filled());
                Poll::Ready(Filled::Bytes)
            }
            Poll::Ready(_) => Poll::Ready(Filled::Gone),
        }
    }

    /// Reads once, at the latest until the watchdog's deadline.
    pub(super) async fn fill(&mut self) -> Filled {
        poll_fn(|context| match self.poll_fill(context) {
            Poll::Pending => self.watchdog.poll_expired(context).map(|()| Filled::Expired),
            filled @ Poll::Ready(_) => filled,
        })
        .await
    }

    /// Begins to count how slow the client is with a message.
    pub(super) fn begin_message(&mut self) {
        self.waiting = Waiting::default();
    }

    /// Reads content once; a pause of more than `limit`, or a slow trickle, expires.
    pub(super) async fn fill_content(&mut self, limit: Duration) -> Filled {
        self.input.reserve(BODY_READ_BYTES);
        let mut since = None;
        let filled = poll_fn(|context| {
            let read = pin!(self.io.read_buf(&mut self.input)).poll(context);
            match read {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.waiting.bytes += bytes as u64;
                    Poll::Ready(Filled::Bytes)
                }
                Poll::Ready(_) => Poll::Ready(Filled::Gone),
                Poll::Pending => {
                    if since.is_none() {
                        since = Some(Instant::now());
                        self.watchdog.arm(limit);
                    }
                    self.watchdog.poll_expired(context).map(|()| Filled::Expired)
                }
            }
        })
        .await;
        self.waiting.time += since.map_or(Duration::ZERO, |since| since.elapsed());
        if filled == Filled::Bytes && self.waiting.is_too_slow(limit) {
            return Filled::Expired;
        }
        filled
    }

    /// Writes all of `slices`, and what is left of an interim response before them. `written`
    /// counts the bytes of `slices` that were taken; no progress for `limit`, or a slow trickle,
    /// fails.
    pub(super) async fn write(
        &mut self,
        slices: &mut [IoSlice<'_>],
        limit: Duration,
        written: &mut u64,
    ) -> Result<(), WriteFailed> {
        self.finish_interim(limit).await?;
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = self.write_once(rest, limit).await?;
            *written += count as u64;
            IoSlice::advance_slices(&mut rest, count);
        }
        self.flush(limit).await
    }

    async fn write_once(
        &mut self,
        slices: &[IoSlice<'_>],
        limit: Duration,
    ) -> Result<usize, WriteFailed> {
        let mut since = None;
        let count =
            poll_fn(|context| match Pin::new(&mut self.io).poll_write_vectored(context, slices) {
                Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(count)),
                Poll::Ready(_) => Poll::Ready(Err(WriteFailed)),
                Poll::Pending => {
                    if since.is_none() {
                        since = Some(Instant::now());
                        self.watchdog.arm(limit);
                    }
                    self.watchdog.poll_expired(context).map(|()| Err(WriteFailed))
                }
            })
            .await?;
        self.waiting.bytes += count as u64;
        if let Some(since) = since {
            self.waiting.time += since.elapsed();
            if self.waiting.is_too_slow(limit) {
                return Err(WriteFailed);
            }
        }
        Ok(count)
    }

    /// TLS holds bytes back until it is told; sockets have nothing to flush. How far it gets
    /// cannot be seen, so a slow client has twice the time.
    async fn flush(&mut self, limit: Duration) -> Result<(), WriteFailed> {
        let limit = limit.saturating_mul(2);
        let mut is_armed = false;
        poll_fn(|context| match Pin::new(&mut self.io).poll_flush(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(WriteFailed)),
            Poll::Pending => {
                if !std::mem::replace(&mut is_armed, true) {
                    self.watchdog.arm(limit);
                }
                self.watchdog.poll_expired(context).map(|()| Err(WriteFailed))
            }
        })
        .await
    }

    /// Sends `100 Continue`. A caller may stop waiting in the middle: the rest goes out with the
    /// next write.
    pub(super) async fn send_continue(&mut self, limit: Duration) -> Result<(), WriteFailed> {
        self.interim = CONTINUE;
        self.finish_interim(limit).await
    }

    async fn finish_interim(&mut self, limit: Duration) -> Result<(), WriteFailed> {
        if self.interim.is_empty() {
            return Ok(());
        }
        while !self.interim.is_empty() {
            let slice = [IoSlice::new(self.interim)];
            let count = self.write_once(&slice, limit).await?;
            self.interim = &self.interim[count..];
        }
        self.flush(limit).await
    }

    /// Closes our side, then takes and drops what the client still sends, within bounds. A socket
    /// closed with unread bytes sends a reset, which can destroy the response before the client
    /// has read it (RFC 9112 9.6).
    pub(super) async fn linger(&mut self, limit: Duration, bytes_max: usize) {
        self.watchdog.arm(limit);
        self.close().await;
        self.watchdog.arm(limit);
        let mut discarded = 0;
        while discarded <= bytes_max {
            self.input.clear();
            if self.fill().await != Filled::Bytes {
                return;
            }
            discarded += self.input.len();
        }
    }

    /// Closes our side, at the latest by the watchdog's deadline.
    pub(super) async fn close(&mut self) {
        poll_fn(|context| {
            if pin!(self.io.shutdown()).poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.watchdog.poll_expired(context)
        })
        .await;
    }

    /// Lets the other end know that what it got is not whole.
    pub(super) fn close_as_broken(&self) {
        self.io.close_as_broken();
    }
}
