//! A connection that has left HTTP (RFC 9110 7.8): bytes both ways, until one side ends it.
//!
//! It lasts beyond the begin of a drain, since nothing tells its client to come again; what is
//! left at the deadline of the shutdown is cut with all other connections.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

use crate::exchange::{Completion, Delivered, Tunnel};

/// How long the tunnel has been silent, and what went to the client.
#[derive(Debug)]
struct Activity {
    last: Mutex<Instant>,
    to_client_bytes: AtomicU64,
}

impl Activity {
    fn note(&self) {
        *self.last.lock() = Instant::now();
    }

    /// Resolves when nothing has moved for `limit`.
    async fn silent(&self, limit: Duration) {
        loop {
            let deadline = *self.last.lock() + limit;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// Tells the end of a tunnel, also where its connection is cut.
struct Ending<'a> {
    completion: Option<Completion>,
    activity: &'a Activity,
    is_whole: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let body_bytes = self.activity.to_client_bytes.load(Ordering::Relaxed);
        if let Some(completion) = self.completion.take() {
            completion.finish(if self.is_whole {
                Delivered::Whole { body_bytes }
            } else {
                Delivered::ClientGone { body_bytes }
            });
        }
    }
}

/// Moves bytes between the client and the origin. `ahead` is what the client sent before it had
/// the 101. Ends when both sides have ended, one is lost, or nothing moves for `idle_timeout`.
pub(super) async fn relay<S>(
    client: &mut S,
    ahead: Bytes,
    tunnel: Tunnel,
    idle_timeout: Duration,
    completion: Completion,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let activity =
        Activity { last: Mutex::new(Instant::now()), to_client_bytes: AtomicU64::new(0) };
    let mut ending = Ending { completion: Some(completion), activity: &activity, is_whole: false };
    let mut origin =
        Side { io: tunnel.io, ahead: tunnel.ahead, activity: &activity, is_client: false };
    let mut client = Side { io: client, ahead, activity: &activity, is_client: true };
    tokio::select! {
        moved = copy_bidirectional(&mut client, &mut origin) => ending.is_whole = moved.is_ok(),
        () = activity.silent(idle_timeout) => tracing::debug!("an idle tunnel was closed"),
    }
}

/// One end of the tunnel, of which something has been read already.
struct Side<'a, S> {
    io: S,
    ahead: Bytes,
    activity: &'a Activity,
    is_client: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.activity.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.activity.note();
            if self.is_client {
                self.activity.to_client_bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
