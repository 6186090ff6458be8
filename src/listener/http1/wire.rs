//! The bytes of a connection: what has been read and not used, and writing with a deadline.

use std::future::poll_fn;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use crate::listener::copies::Copied;
use crate::listener::pace::Pace;
use crate::listener::socket::Transport;
use crate::listener::watchdog::Watchdog;

/// Bytes that one read takes of a head. They pass over the stack, so that a connection that
/// waits for a request holds no buffer.
const HEAD_READ_BYTES: usize = 8 << 10;
/// Bytes that one read takes of content.
const BODY_READ_BYTES: usize = 16 << 10;

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
    /// What is still to be sent of interim responses.
    interim: Bytes,
    /// Some of them may wait to be flushed.
    interim_unflushed: bool,
    pace: Pace,
}

impl<S: Transport> Wire<S> {
    pub(super) fn new(io: S, first_timeout: Duration, rate_min_bytes: u64) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            watchdog: Watchdog::new(first_timeout),
            interim: Bytes::new(),
            interim_unflushed: false,
            pace: Pace::new(rate_min_bytes),
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
    }

    /// Takes the first bytes of the input. Nothing is counted where these are all there is.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        if length == self.input.len() {
            return std::mem::take(&mut self.input).freeze();
        }
        self.input.split_to(length).freeze()
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
        self.pace.begin();
    }

    /// Reads content once; a pause of more than `limit`, or a slow trickle, expires.
    pub(super) async fn fill_content(&mut self, limit: Duration) -> Filled {
        self.input.reserve(BODY_READ_BYTES);
        let mut since = None;
        let filled = poll_fn(|context| {
            let read = pin!(self.io.read_buf(&mut self.input)).poll(context);
            match read {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.pace.passed(bytes as u64, Duration::ZERO);
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
        self.pace.passed(0, since.map_or(Duration::ZERO, |since| since.elapsed()));
        if filled == Filled::Bytes && self.pace.is_too_slow(limit) {
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

    /// Writes as far as the client takes it at once. Ready: all of it has left, or never will.
    pub(super) fn write_now(
        &mut self,
        slices: &mut [IoSlice<'_>],
        written: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteFailed>> {
        if !self.interim.is_empty() {
            return Poll::Pending;
        }
        let mut rest = slices;
        while !rest.is_empty() {
            let io = Pin::new(&mut self.io);
            let wrote = match &*rest {
                [only] => io.poll_write(context, only),
                several => io.poll_write_vectored(context, several),
            };
            match wrote {
                Poll::Ready(Ok(count)) if count > 0 => {
                    *written += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Poll::Ready(_) => return Poll::Ready(Err(WriteFailed)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.io).poll_flush(context).map_err(|_| WriteFailed)
    }

    /// As [`Wire::write_now`], of what has a copy in a file behind the slices. Not ready: what has not
    /// left is to be written.
    pub(super) fn send_file_now(
        &mut self,
        ahead: &mut [IoSlice<'_>],
        copied: &Copied,
        written: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteFailed>> {
        if !self.interim.is_empty() {
            return Poll::Pending;
        }
        let mut rest = ahead;
        while !rest.is_empty() {
            match self.io.poll_write_ahead(context, rest) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    *written += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Poll::Ready(_) => return Poll::Ready(Err(WriteFailed)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let mut sent = 0;
        while sent < copied.len() {
            let (offset, left) = (copied.offset() + sent as u64, copied.len() - sent);
            match self.io.poll_send_file(context, copied.file(), offset, left) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    *written += count;
                    sent += count;
                }
                // Whatever it is, a write meets it too, or does better.
                Poll::Ready(_) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
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
        self.pace.passed(count as u64, since.map_or(Duration::ZERO, |since| since.elapsed()));
        if since.is_some() && self.pace.is_too_slow(limit) {
            return Err(WriteFailed);
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
        self.queue_interim(CONTINUE);
        self.finish_interim(limit).await
    }

    /// Has an interim response sent before whatever is written next.
    pub(super) fn queue_interim(&mut self, head: &[u8]) {
        self.interim = [&self.interim, head].concat().into();
    }

    /// Sends what waits of interim responses as far as the client takes it. `false`: it is gone.
    pub(super) fn poll_interim(&mut self, context: &mut Context<'_>) -> bool {
        while !self.interim.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, &self.interim) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.interim.advance(count);
                    self.interim_unflushed = true;
                }
                Poll::Ready(_) => return false,
                Poll::Pending => return true,
            }
        }
        if self.interim_unflushed {
            match Pin::new(&mut self.io).poll_flush(context) {
                Poll::Ready(Ok(())) => self.interim_unflushed = false,
                Poll::Ready(Err(_)) => return false,
                Poll::Pending => {}
            }
        }
        true
    }

    /// The stream itself, for a connection that leaves HTTP, and what was read of it.
    pub(super) fn leave_http(&mut self) -> (&mut S, Bytes) {
        (&mut self.io, self.input.split().freeze())
    }

    async fn finish_interim(&mut self, limit: Duration) -> Result<(), WriteFailed> {
        if self.interim.is_empty() {
            return Ok(());
        }
        while !self.interim.is_empty() {
            let interim = self.interim.clone();
            let count = self.write_once(&[IoSlice::new(&interim)], limit).await?;
            self.interim.advance(count);
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
