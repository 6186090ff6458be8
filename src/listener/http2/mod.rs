//! HTTP/2 (RFC 9113): hyper's server behind our checks, bounds and timeouts.

mod activity;
mod convert;
mod outgoing;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::{Event, Stage};
use super::door::Door;
use super::socket::Transport;
use super::watchdog::Watchdog;
use crate::body::{Body, BodyError, BodySender, channel};
use crate::exchange::{Connection, Handler, Response};
use activity::{Activity, Stream, Verdict};
use outgoing::Outgoing;

/// Bytes of content a client may send ahead of the handler, for a stream and for all of them.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes that h2 takes of a response ahead of the client.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams reset before we saw them, and streams that we had to reset, before h2 says goodbye
/// (CVE-2023-44487, CVE-2025-8671).
const RESETS_MAX: usize = 20;
const OWN_RESETS_MAX: usize = 64;
/// Bytes of content that wait for the handler.
const CHANNEL_MAX_BYTES: usize = 64 << 10;
/// How long a client may take to leave after goodbye while no request is in flight.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// A connection is judged no more often than this.
const JUDGE_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Serves a connection until it ends. `read` is what was read of it while its protocol was found
/// out.
pub(super) async fn serve<S: Transport, H: Handler>(
    io: S,
    read: BytesMut,
    connection: Connection,
    door: Arc<Door<H>>,
) {
    let activity = Activity::new(door.clock.clone());
    let service = service_fn(|request| {
        let stream = activity.begin();
        let door = Arc::clone(&door);
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(answer(request, stream, connection, &door).await) }
    });
    let limits = &door.limits;
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(u32::try_from(limits.head.head_max_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(OWN_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Rewound { read, io }), service);
    let mut served = pin!(served);
    let mut watchdog = Watchdog::new(activity::stall_max(limits).min(limits.header_timeout));
    let mut is_leaving = false;
    poll_fn(|context| {
        if served.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut leave = door.stage() != Stage::Serving;
        let idle_max = |leaving| if leaving { GOODBYE_MAX } else { activity.idle_max(limits) };
        if !is_leaving && activity.is_abused() {
            return cut(&door, "most requests were cancelled");
        }
        while watchdog.poll_expired(context).is_ready() {
            match activity.judge(limits, idle_max(is_leaving)) {
                Verdict::Cut(why) => return cut(&door, why),
                Verdict::Retire if is_leaving => return Poll::Ready(()),
                Verdict::Retire => {
                    leave = true;
                    watchdog.arm(GOODBYE_MAX);
                }
                Verdict::Serve(again) => watchdog.arm(again.max(JUDGE_PAUSE_MIN)),
            }
        }
        if leave && !std::mem::replace(&mut is_leaving, true) {
            served.as_mut().graceful_shutdown();
            watchdog.arm(GOODBYE_MAX);
            // Once more, so that the goodbye is written and the timer watched.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

fn cut<H>(door: &Door<H>, why: &'static str) -> Poll<()> {
    tracing::debug!(why, "HTTP/2 connection cut");
    door.note(Event::Http2Cut);
    Poll::Ready(())
}

/// One request and its response head; the content follows as hyper asks for it.
async fn answer<H: Handler>(
    request: http::Request<Incoming>,
    mut stream: Stream,
    connection: Connection,
    door: &Door<H>,
) -> http::Response<Outgoing> {
    let (head, incoming) = request.into_parts();
    let head_only = head.method == Method::HEAD;
    let limits = &door.limits;
    let (body, feed) = intake(incoming, door.limits.body_max_bytes);
    let response = match convert::request(head, body, connection, &limits.head) {
        Ok(request) => {
            let handling = door.handler.handle(request);
            let feed = feed.map(|(incoming, sender)| {
                pump(incoming, sender, limits.body_timeout, limits.body_max_bytes)
            });
            with_feed(handling, feed).await
        }
        Err(status) => {
            door.note(Event::RequestRefused);
            Response::text(status, format!("{}\n", status.canonical_reason().unwrap_or("")))
        }
    };
    stream.answered();
    reply(response, head_only, stream, door)
}

/// The content as the handler gets it, and what is to be fed into it.
fn intake(incoming: Incoming, limit: u64) -> (Body, Option<(Incoming, BodySender)>) {
    if http_body::Body::is_end_stream(&incoming) {
        return (Body::empty(), None);
    }
    let length = http_body::Body::size_hint(&incoming).exact();
    let (sender, body) = channel(CHANNEL_MAX_BYTES, length);
    if length.is_some_and(|length| length > limit) {
        sender.abort(BodyError::TooLarge { limit });
        return (body, None);
    }
    (body, Some((incoming, sender)))
}

/// Runs the handler while content is fed to it. hyper drops this when the client resets the
/// stream.
async fn with_feed(
    handling: impl Future<Output = Response>,
    feed: Option<impl Future<Output = ()>>,
) -> Response {
    let mut handling = pin!(handling);
    if let Some(feed) = feed {
        let mut feed = pin!(feed);
        let early = poll_fn(|context| {
            if let Poll::Ready(response) = handling.as_mut().poll(context) {
                return Poll::Ready(Some(response));
            }
            feed.as_mut().poll(context).map(|()| None)
        })
        .await;
        if let Some(response) = early {
            return response;
        }
    }
    handling.await
}

/// Feeds content to the handler, at its pace.
async fn pump(mut incoming: Incoming, mut sender: BodySender, pause_max: Duration, limit: u64) {
    let mut bytes = 0_u64;
    let mut watchdog = Watchdog::new(pause_max);
    loop {
        watchdog.arm(pause_max);
        let frame = poll_fn(|context| {
            let frame = http_body::Body::poll_frame(Pin::new(&mut incoming), context);
            match frame {
                Poll::Pending => watchdog.poll_expired(context).map(|()| Err(BodyError::TimedOut)),
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            }
        })
        .await;
        let data = match frame {
            // Trailers are dropped, as with HTTP/1.
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(_))) => return sender.abort(BodyError::ConnectionLost),
            Ok(None) => return sender.finish(),
            Err(error) => return sender.abort(error),
        };
        bytes += data.len() as u64;
        if bytes > limit {
            return sender.abort(BodyError::TooLarge { limit });
        }
        if sender.send(data).await.is_err() {
            return;
        }
    }
}

fn reply<H>(
    response: Response,
    head_only: bool,
    stream: Stream,
    door: &Door<H>,
) -> http::Response<Outgoing> {
    let Some(head) = convert::response_head(&response, head_only, &door.clock) else {
        tracing::error!(status = response.status.as_u16(), "a response was no valid message");
        response.completion.finish(crate::exchange::Delivered::BodyFailed { body_bytes: 0 });
        let refusal = Outgoing::new(
            Body::from(Bytes::from_static(b"Bad Gateway\n")),
            crate::exchange::Completion::default(),
            stream,
        );
        let mut response = http::Response::new(refusal);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return response;
    };
    let Response { status, body, completion, .. } = response;
    let body = if head_only || convert::has_no_content(status) { Body::empty() } else { body };
    head.map(|()| Outgoing::new(body, completion, stream))
}

/// A stream of which something has already been read.
struct Rewound<S> {
    read: BytesMut,
    io: S,
}

impl<S: Transport> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..count]);
        self.read.advance(count);
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
