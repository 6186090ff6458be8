//! HTTP/2 (RFC 9113): hyper's server behind our checks, bounds and timeouts.

mod activity;
mod budget;
mod convert;
mod frames;
mod outgoing;
mod wire;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::connections::{Event, Stage};
use super::door::Door;
use super::limits::Limits;
use super::pace::Pace;
use super::socket::Transport;
use super::watchdog::Watchdog;
use crate::body::{Body, BodyError, BodySender, channel};
use crate::exchange::{Connection, Handler, Response};
use activity::{Activity, Stream, Verdict};
use budget::{Bounds, ENHANCE_YOUR_CALM};
use outgoing::Outgoing;
use wire::Wire;

/// Bytes of content a client may send ahead of the handler, for a stream and for all of them.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes that h2 takes of a response ahead of the client.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams that the client resets before hyper sees them (CVE-2023-44487): they hold memory while
/// they wait to be seen, so these are few.
const UNSEEN_RESETS_MAX: usize = 20;
/// Bytes of content that wait for the handler.
const CHANNEL_MAX_BYTES: usize = 64 << 10;
/// How long a client may take to leave after goodbye while no request is in flight.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// A connection is judged no more often than this.
const JUDGE_PAUSE_MIN: Duration = Duration::from_millis(10);

/// How serving ended.
enum End {
    /// hyper is done with it.
    Over,
    /// hyper is done with it, since the client broke the protocol or a budget of its wire.
    Broken,
    /// It only costs.
    Cut(&'static str),
    /// It was idle, was told so, and has not left.
    Idle,
}

/// Serves a connection until it ends. `read` is what was read of it while its protocol was found
/// out.
pub(super) async fn serve<S: Transport, H: Handler>(
    io: S,
    read: BytesMut,
    connection: Connection,
    door: Arc<Door<H>>,
) {
    let activity = Activity::new(door.clock.clone());
    let limits = &door.limits;
    let bounds =
        Bounds { resets_max: limits.http2_resets_max, control_max: limits.http2_control_max };
    let (wire, remains) = Wire::new(io, read, bounds, Arc::clone(&activity));
    let end = run(wire, &activity, &connection, &door).await;
    // hyper has been dropped, and its wire with it.
    let Some(left) = remains.take() else { return };
    match (end, left.fault) {
        (End::Cut(why), _) => {
            note_cut(&door, why);
            left.say_goodbye(ENHANCE_YOUR_CALM).await;
        }
        (End::Broken, Some(fault)) => {
            note_cut(&door, fault.as_str());
            left.say_goodbye(fault.error()).await;
        }
        (End::Broken, None) => left.close().await,
        (End::Over | End::Idle, _) => {}
    }
}

fn note_cut<H>(door: &Door<H>, why: &'static str) {
    tracing::debug!(why, "HTTP/2 connection cut");
    door.note(Event::Http2Cut);
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(u32::try_from(limits.head.head_max_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(limits.http2_resets_max as usize)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .auto_date_header(false);
    builder
}

async fn run<S: Transport, H: Handler>(
    wire: Wire<S>,
    activity: &Arc<Activity>,
    connection: &Connection,
    door: &Arc<Door<H>>,
) -> End {
    let service = service_fn(|request| {
        let stream = activity.begin();
        let door = Arc::clone(door);
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(answer(request, stream, connection, &door).await) }
    });
    let limits = &door.limits;
    let mut served = pin!(builder(limits).serve_connection(TokioIo::new(wire), service));
    let mut watchdog = Watchdog::new(activity::judge_pause_max(limits));
    let mut is_leaving = false;
    poll_fn(|context| {
        if let Poll::Ready(end) = served.as_mut().poll(context) {
            return Poll::Ready(if end.is_ok() { End::Over } else { End::Broken });
        }
        let mut leave = door.stage() != Stage::Serving || activity.is_to_close();
        let idle_max = |leaving| if leaving { GOODBYE_MAX } else { activity.idle_max(limits) };
        while watchdog.poll_expired(context).is_ready() {
            match activity.judge(limits, idle_max(is_leaving)) {
                Verdict::Cut(why) => return Poll::Ready(End::Cut(why)),
                Verdict::Retire if is_leaving => return Poll::Ready(End::Idle),
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
    .await
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
    let has_room = stream
        .reserve_fields(convert::fields_bytes(&head.headers), limits.http2_fields_memory_max_bytes);
    let request = if has_room {
        convert::request(head, body, connection, &limits.head)
    } else {
        Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    };
    let response = match request {
        Ok(request) => {
            let handling = door.handler.handle(request);
            let feed = feed.map(|(incoming, sender)| pump(incoming, sender, limits));
            with_feed(handling, feed).await
        }
        Err(status) => {
            door.note(Event::RequestRefused);
            Response::text(status, format!("{}\n", status.canonical_reason().unwrap_or("")))
        }
    };
    if response.close {
        stream.close_connection();
    }
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
async fn pump(mut incoming: Incoming, mut sender: BodySender, limits: &Limits) {
    let (pause_max, limit) = (limits.body_timeout, limits.body_max_bytes);
    let mut pace = Pace::new(limits.rate_min_bytes);
    let mut watchdog = Watchdog::new(pause_max);
    loop {
        let mut since = None;
        let frame = poll_fn(|context| {
            let frame = http_body::Body::poll_frame(Pin::new(&mut incoming), context);
            match frame {
                Poll::Pending => {
                    if since.is_none() {
                        since = Some(Instant::now());
                        watchdog.arm(pause_max);
                    }
                    watchdog.poll_expired(context).map(|()| Err(BodyError::TimedOut))
                }
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
        pace.passed(data.len() as u64, since.map_or(Duration::ZERO, |since| since.elapsed()));
        if pace.is_too_slow(pause_max) {
            return sender.abort(BodyError::TimedOut);
        }
        if pace.bytes() > limit {
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
