//! Accepts connections and gives each its protocol.

use std::fs::File;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::DuplexStream;

use super::connections::{Event, Shutdown, Slot};
use super::door::Door;
use super::http1::{self, Served};
use super::http2;
use super::limits::Limits;
use super::socket::{Accepted, Acceptor, BoundListener, ListenError, Transport};
use super::tls::TlsServer;
use crate::clock::{Clock, Moment};
use crate::exchange::{Connection, Handler, Peer};

/// Descriptors that connections leave to the origin, files and logs.
const DESCRIPTORS_RESERVED: u64 = 256;
/// How long accepting pauses when the system has no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often such a failure is logged at most.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Accepts on one socket until `shutdown` says otherwise. Returns when no further connection is
/// taken; those that are open go on, see [`Shutdown::all_gone`].
pub async fn serve<H: Handler>(
    listener: BoundListener,
    tls: Option<Arc<TlsServer>>,
    handler: Arc<H>,
    limits: Arc<Limits>,
    shutdown: Shutdown,
) -> Result<(), ListenError> {
    let connections_max = connections_max(&limits);
    let acceptor = listener.register()?;
    let door = Arc::new(Door { handler, limits, clock: Clock::system(), shutdown });
    let mut reserve = Reserve::new(door.clock.clone());
    let connections = Arc::clone(door.shutdown.connections());
    let _accepting = connections.accept();
    let mut stopping = pin!(connections.stopping());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return Ok(()),
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                // Whoever gets no place is let go at once: a load balancer then tries another
                // server, while one who waits in the backlog only times out.
                if let Ok(slot) = connections.admit(accepted.peer(), connections_max, &door.limits)
                {
                    start(slot, accepted, tls.as_deref(), &door);
                }
            }
            Err(error) if is_shortage(&error) => {
                connections.note(Event::AcceptError);
                reserve.shed(&acceptor, &error).await;
            }
            // The client has gone while it waited.
            Err(_) => {}
        }
    }
}

/// Serves one cleartext connection that comes from within this process: for fuzzing and for tests.
pub async fn serve_pipe<H: Handler>(pipe: DuplexStream, handler: Arc<H>, limits: Arc<Limits>) {
    let door = Door { handler, limits, clock: Clock::system(), shutdown: Shutdown::new() };
    let connection = Connection { peer: Peer::Unix, local: None, tls: false };
    serve_clear(pipe, connection, Arc::new(door)).await;
}

/// What the limits allow, or less where this process may not open so many descriptors.
fn connections_max(limits: &Limits) -> usize {
    let wanted = (limits.connections_max as u64).saturating_add(DESCRIPTORS_RESERVED);
    let Some(descriptors) = raised_descriptors(wanted) else {
        return limits.connections_max;
    };
    // A very low limit is shared evenly.
    let reserved = DESCRIPTORS_RESERVED.min(descriptors / 2);
    let possible = usize::try_from(descriptors - reserved).unwrap_or(usize::MAX);
    if possible < limits.connections_max {
        tracing::warn!(
            connections_max = limits.connections_max,
            possible,
            descriptors,
            "listen.connections_max is more than this process may open; raise LimitNOFILE"
        );
    }
    limits.connections_max.min(possible)
}

/// The descriptors that this process may open, if that is bounded. Of what the system allows, it
/// takes as many as are wanted: shells and service managers give 1,024 to who does not ask, for
/// the sake of programs that know no more.
fn raised_descriptors(wanted: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current?;
    let possible = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if possible <= current {
        return Some(current);
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum });
    Some(if raised.is_ok() { possible } else { current })
}

pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.iter().any(|no| no.raw_os_error() == code))
}

/// A descriptor that is given up when there are no others, so that a waiting client can be taken
/// and let go instead of waking us again and again.
pub(super) struct Reserve {
    spare: Option<File>,
    clock: Clock,
    logged: Option<Moment>,
}

impl Reserve {
    pub(super) fn new(clock: Clock) -> Self {
        Self { spare: File::open("/dev/null").ok(), clock, logged: None }
    }

    pub(super) async fn shed(&mut self, acceptor: &Acceptor, error: &io::Error) {
        let now = self.clock.now();
        if self.logged.is_none_or(|logged| now.since(logged) >= LOG_PAUSE) {
            self.logged = Some(now);
            tracing::error!(%error, "cannot accept connections");
        }
        if self.spare.take().is_some() {
            // Somebody waits, or accepting would not have failed; but nobody may wait for ever.
            let _ = tokio::time::timeout(ACCEPT_PAUSE, acceptor.accept()).await;
        }
        self.spare = File::open("/dev/null").ok();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn start<H: Handler>(slot: Slot, accepted: Accepted, tls: Option<&TlsServer>, door: &Arc<Door<H>>) {
    match accepted {
        Accepted::Tcp { stream, peer, local } => {
            let connection = Connection { peer: Peer::Ip(peer), local, tls: tls.is_some() };
            spawn(slot, stream, connection, tls, door);
        }
        Accepted::Unix(stream) => {
            let connection = Connection { peer: Peer::Unix, local: None, tls: tls.is_some() };
            spawn(slot, stream, connection, tls, door);
        }
    }
}

fn spawn<S: Transport, H: Handler>(
    slot: Slot,
    stream: S,
    connection: Connection,
    tls: Option<&TlsServer>,
    door: &Arc<Door<H>>,
) {
    let door = Arc::clone(door);
    match tls.map(TlsServer::acceptor) {
        None => tokio::spawn(slot.run(Box::pin(serve_clear(stream, connection, door)))),
        Some(acceptor) => {
            tokio::spawn(slot.run(Box::pin(serve_tls(acceptor, stream, connection, door))))
        }
    };
}

async fn serve_clear<S: Transport, H: Handler>(
    stream: S,
    connection: Connection,
    door: Arc<Door<H>>,
) {
    if let Served::Http2(stream, read) = http1::serve(stream, &connection, &door, true).await {
        // On the heap, so that HTTP/1 connections are not as large as these.
        Box::pin(http2::serve(stream, read, connection, door)).await;
    }
}

async fn serve_tls<S: Transport, H: Handler>(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: S,
    connection: Connection,
    door: Arc<Door<H>>,
) {
    let handshake =
        Box::pin(tokio::time::timeout(door.limits.header_timeout, acceptor.accept(stream)));
    let Ok(Ok(stream)) = handshake.await else {
        door.note(Event::TlsHandshakeFailed);
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(http2::serve(stream, BytesMut::new(), connection, door)).await;
        return;
    }
    // Without ALPN the client may still speak HTTP/2 at once.
    let sniff = stream.get_ref().1.alpn_protocol().is_none();
    if let Served::Http2(stream, read) = http1::serve(stream, &connection, &door, sniff).await {
        Box::pin(http2::serve(stream, read, connection, door)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_want_of_descriptors_or_memory_makes_accepting_pause() {
        for code in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(is_shortage(&io::Error::from(code)));
        }
        assert!(!is_shortage(&io::ErrorKind::ConnectionAborted.into()));
    }

    #[test]
    fn connections_leave_descriptors_to_others() {
        let mut limits = Limits::from(&crate::settings::Listen::default());
        limits.connections_max = usize::MAX;
        let possible = connections_max(&limits) as u64;
        let descriptors = getrlimit(Resource::Nofile).current;
        assert!(descriptors.is_none_or(|descriptors| possible < descriptors));
        limits.connections_max = 1;
        assert_eq!(connections_max(&limits), 1);
    }
}
