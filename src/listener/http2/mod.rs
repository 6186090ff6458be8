//! HTTP/2 (RFC 9113): the h2 crate behind our checks, bounds and timeouts.
//!
//! The connection's task begins each exchange itself. One that is answered at once, as a hit is,
//! ends there; one that has to wait goes on as a task of its own.

mod activity;
mod budget;
mod content;
mod convert;
mod exchange;
mod frames;
mod intake;
mod outgoing;
mod wire;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use h2::RecvStream;
use h2::server::{Builder, Handshake, SendResponse};

use super::connections::{Event, Stage};
use super::door::Door;
use super::limits::Limits;
use super::socket::Transport;
use super::watchdog::Watchdog;
use crate::exchange::{Connection, Handler, InterimQueue};
use activity::{Activity, Verdict};
use budget::{Bounds, ENHANCE_YOUR_CALM};
use content::Content;
use exchange::Exchange;
use outgoing::SEND_BUFFER_BYTES;
use wire::Wire;

/// Bytes of content a client may send ahead of the handler, for a stream and for all of them.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Streams that the client resets before we see them (CVE-2023-44487): they hold memory while
/// they wait to be seen, so these are few.
const UNSEEN_RESETS_MAX: usize = 20;
/// Exchanges that begin before other connections have their turn.
const EXCHANGES_PER_TURN: usize = 64;
/// How long a client may take to leave after goodbye while no request is in flight.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// A connection is judged no more often than this.
const JUDGE_PAUSE_MIN: Duration = Duration::from_millis(10);

/// How serving ended.
enum End {
    /// h2 is done with it.
    Over,
    /// h2 is done with it, since the client broke the protocol or a budget of its wire.
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
    let wire = Wire::new(io, read, bounds, Arc::clone(&activity));
    let end = Server::new(&wire, activity, connection, Arc::clone(&door)).run(&wire).await;
    // h2 has been dropped, and its handle on the wire with it.
    let Some(left) = wire.into_left() else { return };
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

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(u32::try_from(limits.head.head_max_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(Some(limits.http2_resets_max as usize))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// How far h2 has come.
enum Protocol<S> {
    Begun(Handshake<Wire<S>, Content>),
    Open(h2::server::Connection<Wire<S>, Content>),
}

/// One connection.
struct Server<S, H> {
    protocol: Protocol<S>,
    activity: Arc<Activity>,
    connection: Connection,
    door: Arc<Door<H>>,
    /// For the next exchange, where the last one needed it no longer.
    hints: Option<Arc<InterimQueue>>,
    watchdog: Watchdog,
    is_leaving: bool,
}

impl<S: Transport, H: Handler> Server<S, H> {
    fn new(
        wire: &Wire<S>,
        activity: Arc<Activity>,
        connection: Connection,
        door: Arc<Door<H>>,
    ) -> Self {
        let limits = &door.limits;
        Self {
            protocol: Protocol::Begun(builder(limits).handshake(wire.share())),
            watchdog: Watchdog::new(activity::judge_pause_max(limits)),
            activity,
            connection,
            door,
            hints: None,
            is_leaving: false,
        }
    }

    async fn run(mut self, wire: &Wire<S>) -> End {
        poll_fn(|context| {
            let served = self.poll_serve(context);
            let sent = wire.poll_send(context);
            if let Poll::Ready(end) = served {
                return Poll::Ready(end);
            }
            if let Poll::Ready(Err(_)) = sent {
                return Poll::Ready(End::Broken);
            }
            self.poll_judge(context)
        })
        .await
    }

    /// Begins the exchanges whose requests have come, and drives those under way.
    fn poll_serve(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let mut begun = 0;
        loop {
            match &mut self.protocol {
                Protocol::Begun(handshake) => match Pin::new(handshake).poll(context) {
                    Poll::Ready(Ok(mut connection)) => {
                        if self.is_leaving {
                            connection.graceful_shutdown();
                        }
                        self.protocol = Protocol::Open(connection);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Broken),
                    Poll::Pending => return Poll::Pending,
                },
                Protocol::Open(_) if begun == EXCHANGES_PER_TURN => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Protocol::Open(connection) => match connection.poll_accept(context) {
                    Poll::Ready(Some(Ok((request, to)))) => {
                        begun += 1;
                        self.begin(request, to, context);
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(End::Broken),
                    Poll::Ready(None) => return Poll::Ready(End::Over),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn begin(
        &mut self,
        request: http::Request<RecvStream>,
        to: SendResponse<Content>,
        context: &mut Context<'_>,
    ) {
        let limits = &self.door.limits;
        let hints = self.hints.take().unwrap_or_else(|| {
            InterimQueue::new(limits.interim_responses_max, limits.head.head_max_bytes)
        });
        let exchange = Exchange {
            request,
            to,
            stream: self.activity.begin(),
            connection: self.connection.clone(),
            hints: Arc::clone(&hints),
            door: Arc::clone(&self.door),
        };
        let mut exchange = exchange.begin();
        if exchange.as_mut().poll(context).is_ready() {
            self.hints = Some(hints);
        } else {
            tokio::spawn(exchange);
        }
    }

    /// Says goodbye when it is time, and ends what only costs.
    fn poll_judge(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let limits = &self.door.limits;
        let mut leave = self.door.stage() != Stage::Serving || self.activity.is_to_close();
        while self.watchdog.poll_expired(context).is_ready() {
            let idle_max =
                if self.is_leaving { GOODBYE_MAX } else { self.activity.idle_max(limits) };
            match self.activity.judge(limits, idle_max) {
                Verdict::Cut(why) => return Poll::Ready(End::Cut(why)),
                Verdict::Retire if self.is_leaving => return Poll::Ready(End::Idle),
                Verdict::Retire => {
                    leave = true;
                    self.watchdog.arm(GOODBYE_MAX);
                }
                Verdict::Serve(again) => self.watchdog.arm(again.max(JUDGE_PAUSE_MIN)),
            }
        }
        if leave && !std::mem::replace(&mut self.is_leaving, true) {
            if let Protocol::Open(connection) = &mut self.protocol {
                connection.graceful_shutdown();
            }
            self.watchdog.arm(GOODBYE_MAX);
            // Once more, so that the goodbye is written and the timer watched.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
