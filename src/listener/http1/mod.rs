//! An HTTP/1.1 server connection (RFC 9112): one task reads requests, runs the handler, and
//! writes responses.
//!
//! A client that closes its sending side while it waits for a response counts as gone, as with
//! nginx. Full duplex is not offered: once a handler has answered, the rest of the request's
//! content is dropped.

mod at_once;
pub mod body;
pub mod head;
mod intake;
mod respond;
mod response_head;
mod tunnel;
mod wire;

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Version};

use super::connections::Stage;
use super::door::{Door, Unsettled};
use super::limits::Limits;
pub use super::refused::Refused;
use super::socket::Transport;
use crate::body::{Body, BodySender};
use crate::exchange::{
    Begun, Beside, Connection, Handler, Interim, InterimQueue, Request, Response, Tunnel,
};
use at_once::{AtOnce, answer_at_once};
use head::{Head, Scanner};
use intake::Intake;
use respond::{Sent, respond};
use response_head::Asked;
use wire::{Filled, Wire};

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client may take to read a last response, and how much it may still send.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_MAX_BYTES: usize = 8 << 20;

/// How serving ended.
pub(super) enum Served<S> {
    /// The connection is to be dropped.
    Done,
    /// The client speaks HTTP/2: the stream, and what has been read of it.
    Http2(S, BytesMut),
}

/// What follows on a connection.
enum Next {
    Request,
    /// Close; the client has been told.
    Close,
    /// Close; the client may still be sending, and is to see the last response.
    Linger,
    /// Drop at once.
    Cut,
}

impl Next {
    /// After the response to a request of which everything was read.
    fn after<S>(sent: Sent, wire: &Wire<S>) -> Self {
        match sent {
            Sent::Cut => Self::Cut,
            Sent::KeepAlive => Self::Request,
            Sent::Close if wire.input.is_empty() => Self::Close,
            Sent::Close => Self::Linger,
        }
    }
}

/// Serves requests until the connection ends. `sniff`: the client may turn out to speak HTTP/2.
pub(super) async fn serve<S: Transport, H: Handler>(
    io: S,
    connection: &Connection,
    door: &Door<H>,
    sniff: bool,
) -> Served<S> {
    let mut wire = Wire::new(io, door.limits.header_timeout, door.limits.rate_min_bytes);
    let mut hints = None;
    let mut first = Some(First { may_be_http2: sniff });
    loop {
        let next = match receive(&mut wire, door, first.take()).await {
            Received::Head(length) => {
                match answer_at_once(&mut wire, length, connection, door).await {
                    AtOnce::Done(next) => next,
                    // On the heap, so that an idle connection is not as large as a busy one.
                    AtOnce::Rest(rest) => Box::pin(rest.finish(&mut wire, door)).await,
                    AtOnce::Open(open) => {
                        let hints = hints.get_or_insert_with(|| interim_queue(&door.limits));
                        Box::pin(conclude(&mut wire, *open, hints, door)).await
                    }
                    AtOnce::Not(head) => {
                        let hints = hints.get_or_insert_with(|| interim_queue(&door.limits));
                        Box::pin(exchange(&mut wire, *head, connection, hints, door)).await
                    }
                    AtOnce::Refused(refused) => {
                        let (refused, named) = *refused;
                        Box::pin(refuse(&mut wire, refused, named, connection, door)).await
                    }
                }
            }
            Received::Http2 => {
                let (io, read) = wire.into_parts();
                return Served::Http2(io, read);
            }
            Received::Refused(refused, named) => {
                Box::pin(refuse(&mut wire, refused, named, connection, door)).await
            }
            Received::Nothing => Next::Close,
        };
        match next {
            Next::Request => wire.watchdog.arm(door.limits.keep_alive),
            Next::Close => {
                wire.watchdog.arm(LINGER_MAX);
                wire.close().await;
                return Served::Done;
            }
            Next::Linger => {
                wire.linger(LINGER_MAX, LINGER_MAX_BYTES).await;
                return Served::Done;
            }
            Next::Cut => return Served::Done,
        }
    }
}

/// What is special about the first request of a connection: it may be the preface of HTTP/2, and
/// its time runs from the connection's begin.
struct First {
    may_be_http2: bool,
}

/// A request, or what came instead of one.
enum Received {
    /// All of a head, as the first bytes of the input; so many.
    Head(usize),
    /// Why, and what it said of its method and target.
    Refused(Refused, Named),
    Http2,
    /// The client has gone or was idle for too long, or the door is closing.
    Nothing,
}

/// Method and target of a request, as far as they can be told.
type Named = (Method, Bytes);

/// Waits for a request head. The watchdog is armed for the wait for its first byte.
async fn receive<S: Transport, H: Handler>(
    wire: &mut Wire<S>,
    door: &Door<H>,
    first: Option<First>,
) -> Received {
    let mut may_be_http2 = first.as_ref().is_some_and(|first| first.may_be_http2);
    let mut may_skip_line = true;
    loop {
        if wire.input.is_empty() && !wait_for_request(wire, door).await {
            return Received::Nothing;
        }
        // RFC 9112 2.2: empty lines before a request are skipped; here, one.
        if may_skip_line && wire.input[..] == b"\r"[..] {
            wire.watchdog.arm(door.limits.header_timeout);
            if wire.fill().await != Filled::Bytes {
                return Received::Nothing;
            }
        }
        if !may_skip_line || !wire.input.starts_with(b"\r\n") {
            break;
        }
        wire.input.advance(2);
        may_skip_line = false;
        may_be_http2 = false;
    }
    if first.is_none() {
        wire.watchdog.arm(door.limits.header_timeout);
    }
    let mut scanner = Scanner::default();
    loop {
        let seen = wire.input.len().min(PREFACE.len());
        may_be_http2 = may_be_http2 && wire.input[..seen] == PREFACE[..seen];
        if !may_be_http2 {
            match scanner.advance(&wire.input, &door.limits.head) {
                Ok(Some(length)) => return Received::Head(length),
                Ok(None) => {}
                Err(refused) => return Received::Refused(refused, head::named(&wire.input)),
            }
        } else if seen == PREFACE.len() {
            return Received::Http2;
        }
        match wire.fill().await {
            Filled::Bytes => {}
            Filled::Gone => return Received::Nothing,
            Filled::Expired => {
                return Received::Refused(Refused::HeadTimedOut, head::named(&wire.input));
            }
        }
    }
}

/// Waits, idle, for the first byte. `false`: there will be no request.
async fn wait_for_request<S: Transport, H: Handler>(wire: &mut Wire<S>, door: &Door<H>) -> bool {
    wire.release();
    poll_fn(|context| match wire.poll_fill(context) {
        Poll::Ready(filled) => Poll::Ready(filled == Filled::Bytes),
        Poll::Pending if door.stage() >= Stage::Draining => Poll::Ready(false),
        Poll::Pending => wire.watchdog.poll_expired(context).map(|()| false),
    })
    .await
}

fn interim_queue(limits: &Limits) -> Arc<InterimQueue> {
    InterimQueue::new(limits.interim_responses_max, limits.head.head_max_bytes)
}

/// A request with content, or one that may leave HTTP, and its response.
async fn exchange<S: Transport, H: Handler>(
    wire: &mut Wire<S>,
    head: Head,
    connection: &Connection,
    hints: &Arc<InterimQueue>,
    door: &Door<H>,
) -> Next {
    let limits = &*door.limits;
    let (intake, body, sender) = match Intake::begin(wire, &head, limits) {
        Ok(begun) => begun,
        Err(refused) => {
            return refuse(wire, refused, (head.method, head.target), connection, door).await;
        }
    };
    // Where there is no place for another tunnel, Upgrade is ignored (RFC 9110 7.8).
    let place =
        head.upgrade.as_ref().and_then(|_| limits.upgrades.clone().try_acquire_owned().ok());
    let (mut request, asked, names_upgrade) = request_of(head, connection, body);
    request.beside.upgrade = request.beside.upgrade.filter(|_| place.is_some());
    let offers_switch = request.beside.upgrade.is_some();
    let begun = door.handler.begin(&request);
    let open = Open { request, asked, begun, intake, sender, offers_switch, names_upgrade };
    conclude(wire, open, hints, door).await
}

/// Our request of a head, what its response must know of it, and whether it has an Upgrade field.
fn request_of(head: Head, connection: &Connection, body: Body) -> (Request, Asked, bool) {
    let Head { method, target, authority, version, fields, upgrade, names_upgrade, .. } = head;
    // Whatever is answered to CONNECT, the client may take what follows for a tunnel.
    let keep_alive = head.keep_alive && method != Method::CONNECT;
    let asked = Asked { head_only: method == Method::HEAD, version, keep_alive };
    let connection = connection.clone();
    let beside = Beside { interim: Interim::default(), upgrade };
    let request = Request { method, target, authority, version, fields, body, connection, beside };
    (request, asked, names_upgrade)
}

/// A request with which the handler has begun.
struct Open<H: Handler> {
    request: Request,
    asked: Asked,
    begun: Begun<H::Receipt, H::Open>,
    intake: Intake,
    sender: Option<BodySender>,
    offers_switch: bool,
    names_upgrade: bool,
}

/// Waits for the response to a request, and sends it.
async fn conclude<S: Transport, H: Handler>(
    wire: &mut Wire<S>,
    open: Open<H>,
    hints: &Arc<InterimQueue>,
    door: &Door<H>,
) -> Next {
    let limits = &*door.limits;
    let Open { mut request, mut asked, begun, mut intake, sender, offers_switch, names_upgrade } =
        open;
    // Bytes that a client sent before it had the answer to its Upgrade may be of the other
    // protocol: they are never read as a request.
    let may_go_on = |wire: &Wire<S>, intake: &Intake| {
        let may_be_misread = offers_switch || names_upgrade && !wire.input.is_empty();
        intake.can_be_reused() && !may_be_misread && door.stage() == Stage::Serving
    };
    let open = match begun {
        Begun::Open(open) => open,
        Begun::Answered(response, receipt) => {
            asked.keep_alive &= may_go_on(wire, &intake);
            let unsettled = Unsettled::new(&*door.handler, request, receipt);
            let (sent, delivered) = respond(wire, response, asked, limits, &door.clock).await;
            unsettled.settle(delivered);
            return intake.next(wire, sent, limits).await;
        }
    };
    // HTTP/1.0 knows no interim responses (RFC 9110 15.2).
    if asked.version == Version::HTTP_11 {
        request.beside.interim = hints.open();
    }
    let answered = {
        // Here and not handed on by value, or this future would have room for it three times.
        let handling = pin!(door.handler.handle(request, open));
        intake.answer(wire, sender, limits, hints, handling).await
    };
    let late = hints.close();
    let Some(mut response) = answered else {
        return Next::Cut;
    };
    for hint in late {
        wire.queue_interim(&response_head::serialised(&hint));
    }
    if let Some(tunnel) = response.tunnel.take_if(|_| offers_switch) {
        // On the heap, so that a request which stays with HTTP does not carry a tunnel's room.
        return Box::pin(switch(wire, response, tunnel, limits)).await;
    }
    asked.keep_alive &= may_go_on(wire, &intake);
    let (sent, _) = respond(wire, response, asked, limits, &door.clock).await;
    intake.next(wire, sent, limits).await
}

/// Sends the 101 and leaves HTTP.
async fn switch<S: Transport>(
    wire: &mut Wire<S>,
    response: Response,
    tunnel: Tunnel,
    limits: &Limits,
) -> Next {
    let head = response_head::switching(&response, &tunnel.protocol);
    let Response { completion, .. } = response;
    let mut written = 0;
    wire.begin_message();
    let sent = wire.write(&mut [IoSlice::new(&head)], limits.write_timeout, &mut written).await;
    if sent.is_ok() {
        let (client, ahead) = wire.leave_http();
        tunnel::relay(client, ahead, tunnel, limits.upgrade_idle_timeout, completion).await;
    }
    Next::Cut
}

/// Answers a request that no handler is to see, and ends the connection: where the next request
/// would begin is not known.
async fn refuse<S: Transport, H: Handler>(
    wire: &mut Wire<S>,
    refused: Refused,
    named: Named,
    connection: &Connection,
    door: &Door<H>,
) -> Next {
    let response = door.refuse(refused, connection, Version::HTTP_11, named);
    let asked = Asked { head_only: false, version: Version::HTTP_11, keep_alive: false };
    match respond(wire, response, asked, &door.limits, &door.clock).await.0 {
        Sent::Cut => Next::Cut,
        Sent::KeepAlive | Sent::Close => Next::Linger,
    }
}
