//! The content of a request on its way from h2 to whoever handles the request.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONTENT_LENGTH, HeaderMap};
use tokio::time::Instant;

use crate::body::{Body, BodyError, BodySender, channel};
use crate::listener::limits::Limits;
use crate::listener::pace::Pace;
use crate::listener::watchdog::Watchdog;

/// Bytes of content that wait for the handler beside a piece, which always may: a client's window
/// opens only when the handler has taken what was sent, so h2 bounds what we hold.
const CHANNEL_MAX_BYTES: usize = 1;

/// Content that is to be fed to the handler.
pub(super) struct Feed {
    incoming: RecvStream,
    sender: BodySender,
    /// The client waits for `100 Continue` before it sends.
    is_announced: bool,
}

/// The content as the handler gets it, and what is to be fed into it.
pub(super) fn begin(
    incoming: RecvStream,
    headers: &HeaderMap,
    is_announced: bool,
    limits: &Limits,
) -> (Body, Option<Feed>) {
    if incoming.is_end_stream() {
        return (Body::empty(), None);
    }
    // h2 has checked that it is a number, and checks that the content is as long.
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let (sender, body) = channel(CHANNEL_MAX_BYTES, length);
    let limit = limits.body_max_bytes;
    if length.is_some_and(|length| length > limit) {
        sender.abort(BodyError::TooLarge { limit });
        return (body, None);
    }
    (body, Some(Feed { incoming, sender, is_announced }))
}

impl Feed {
    /// Feeds content to the handler, at its pace. `is_invited` becomes true when the client is to
    /// be told to go on.
    pub(super) async fn run(mut self, is_invited: &AtomicBool, limits: &Limits) {
        if self.is_announced {
            self.sender.wanted().await;
            if self.sender.is_closed() {
                return;
            }
            is_invited.store(true, Ordering::Relaxed);
        }
        let (pause_max, limit) = (limits.body_timeout, limits.body_max_bytes);
        let mut pace = Pace::new(limits.rate_min_bytes);
        let mut watchdog = Watchdog::new(pause_max);
        loop {
            let (piece, waited) = match next(&mut self.incoming, &mut watchdog, pause_max).await {
                Ok((Some(piece), waited)) => (piece, waited),
                // Trailers are dropped, as with HTTP/1.
                Ok((None, _)) => return self.sender.finish(),
                Err(error) => return self.sender.abort(error),
            };
            let length = piece.len();
            pace.passed(length as u64, waited);
            if pace.is_too_slow(pause_max) {
                return self.sender.abort(BodyError::TimedOut);
            }
            if pace.bytes() > limit {
                return self.sender.abort(BodyError::TooLarge { limit });
            }
            if self.sender.send(piece).await.is_err() {
                return;
            }
            self.sender.taken().await;
            if self.incoming.flow_control().release_capacity(length).is_err() {
                return self.sender.abort(BodyError::ConnectionLost);
            }
        }
    }
}

/// The next piece, and how long the client made us wait for it; `None` at the proper end.
async fn next(
    incoming: &mut RecvStream,
    watchdog: &mut Watchdog,
    pause_max: Duration,
) -> Result<(Option<Bytes>, Duration), BodyError> {
    let mut since = None;
    let piece = poll_fn(|context| match incoming.poll_data(context) {
        Poll::Pending => {
            if since.is_none() {
                since = Some(Instant::now());
                watchdog.arm(pause_max);
            }
            watchdog.poll_expired(context).map(|()| Err(BodyError::TimedOut))
        }
        Poll::Ready(piece) => Poll::Ready(Ok(piece)),
    })
    .await?;
    let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
    match piece {
        Some(Ok(piece)) => Ok((Some(piece), waited)),
        Some(Err(_)) => Err(BodyError::ConnectionLost),
        None => Ok((None, waited)),
    }
}
