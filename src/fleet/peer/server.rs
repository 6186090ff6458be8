//! The end of a connection that answers.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Method, Response, StatusCode, request};
use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::asked::Asked;
use super::message::{WORKING, answer_head};
use super::seal::{SEAL_BYTES, Seal, Sealed, Secret, Subject, Used};
use super::{Counts, Lender, PeerError};
use crate::fleet::link::token;
use crate::fleet::log::Token;
use crate::settings;

/// Where a node learns what is to stand in its seals.
pub(super) const CHALLENGE_PATH: &str = "/challenge";
/// The field with the seal of a request.
pub(super) const SEAL_FIELD: &str = "parvis-seal";
/// The field with the challenge.
pub(super) const CHALLENGE_FIELD: &str = "parvis-challenge";

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 1_024;
/// How long somebody who has proven nothing may hold a connection.
const STRANGER_WAIT: Duration = Duration::from_secs(5);
/// Refused requests after which a connection ends.
const REFUSALS_MAX: usize = 8;
/// A request's content: its target and fields, which the public listener has bounded.
const ASK_MAX_BYTES: usize = 1 << 20;
const HEAD_MAX_BYTES: u32 = 4 << 10;
/// When a machine has gone without a word, its connection ends after this and a few tries.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Pieces in which an answer leaves.
const PIECE_BYTES: usize = 64 << 10;

/// Where the other nodes come in.
pub struct PeerDoor {
    address: SocketAddr,
    secret: Option<Secret>,
    acceptor: Option<TlsAcceptor>,
    /// A node that works on an answer says so this often.
    working: Duration,
    connections: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    streams_max: u32,
    counts: Arc<Counts>,
}

/// Somebody at the other end of a connection.
struct Guest {
    address: IpAddr,
    challenge: Token,
    used: Mutex<Used>,
    is_known: AtomicBool,
    refusals: AtomicUsize,
}

impl PeerDoor {
    pub(super) fn new(
        address: SocketAddr,
        settings: &settings::Peers,
        acceptor: Option<TlsAcceptor>,
        counts: Arc<Counts>,
    ) -> Self {
        let secret = &settings.secret;
        Self {
            address,
            secret: (!secret.is_empty()).then(|| Secret::new(secret)),
            acceptor,
            working: settings.owner_silence / 4,
            connections: Arc::new(Semaphore::new(settings.connections_max)),
            requests: Arc::new(Semaphore::new(settings.requests_max)),
            streams_max: u32::try_from(settings.requests_max).unwrap_or(u32::MAX),
            counts,
        }
    }

    /// Opens the socket; connections queue up from here on. While a new process takes over from an
    /// old one both may have it.
    ///
    /// # Errors
    /// [`PeerError::Listen`]
    pub fn bind(&self) -> Result<TcpListener, PeerError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&self.address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        };
        bind().map_err(|source| PeerError::Listen { address: self.address, source })
    }

    /// Answers for as long as the process lives.
    pub async fn serve<L: Lender>(self: Arc<Self>, listener: TcpListener, lender: Arc<L>) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "fleet.listen cannot be served");
                return;
            }
        };
        tracing::info!(address = %self.address, "listening for other nodes");
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                // No descriptor is left, most likely: others will end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() else { continue };
            let (door, lender) = (Arc::clone(&self), Arc::clone(&lender));
            tokio::spawn(async move {
                door.welcome(stream, from.ip().to_canonical(), lender).await;
                drop(place);
            });
        }
    }

    async fn welcome<L: Lender>(self: &Arc<Self>, stream: TcpStream, from: IpAddr, lender: Arc<L>) {
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        let set = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        if set.and_then(|()| stream.set_nodelay(true)).is_err() {
            return;
        }
        match &self.acceptor {
            Some(acceptor) => match timeout(STRANGER_WAIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.speak(stream, from, lender).await,
                Ok(Err(error)) => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%from, %error, "not a node of this fleet");
                }
                Err(_) => {}
            },
            None => self.speak(stream, from, lender).await,
        }
    }

    async fn speak<S, L>(self: &Arc<Self>, stream: S, from: IpAddr, lender: Arc<L>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
        L: Lender,
    {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(self.streams_max).max_header_list_size(HEAD_MAX_BYTES);
        let begun = timeout(STRANGER_WAIT, builder.handshake::<_, Bytes>(stream)).await;
        let Ok(Ok(mut connection)) = begun else { return };
        let guest = Arc::new(Guest {
            address: from,
            challenge: token(),
            used: Mutex::default(),
            is_known: AtomicBool::new(self.secret.is_none()),
            refusals: AtomicUsize::new(0),
        });
        loop {
            let is_known = || guest.is_known.load(Ordering::Relaxed);
            let next = if is_known() {
                connection.accept().await
            } else {
                match timeout(STRANGER_WAIT, connection.accept()).await {
                    Ok(next) => next,
                    Err(_) if is_known() => continue,
                    Err(_) => return,
                }
            };
            let Some(Ok((request, respond))) = next else { return };
            if guest.refusals.load(Ordering::Relaxed) >= REFUSALS_MAX {
                return;
            }
            let (door, guest, lender) = (Arc::clone(self), Arc::clone(&guest), Arc::clone(&lender));
            tokio::spawn(async move { door.exchange(request, respond, &guest, &*lender).await });
        }
    }

    /// One request. Nothing happens before its seal is found right.
    async fn exchange<L: Lender>(
        &self,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        guest: &Guest,
        lender: &L,
    ) {
        let (head, body) = request.into_parts();
        if head.method == Method::GET && head.uri.path() == CHALLENGE_PATH {
            return refuse(&mut respond, StatusCode::UNAUTHORIZED, Some(guest.challenge));
        }
        let Ok(Some(content)) = timeout(STRANGER_WAIT, collect(body)).await else {
            return refuse(&mut respond, StatusCode::BAD_REQUEST, None);
        };
        let Some(seal) = self.admit(&head, &content, guest) else {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            guest.refusals.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(from = %guest.address, "a request of no node of this fleet");
            return refuse(&mut respond, StatusCode::FORBIDDEN, None);
        };
        if head.method != Method::POST {
            return refuse(&mut respond, StatusCode::NOT_FOUND, None);
        }
        let asked = match Asked::read(head.uri.path(), content) {
            Ok(asked) => asked,
            Err(status) => return refuse(&mut respond, status, None),
        };
        let Ok(_place) = self.requests.try_acquire() else {
            return refuse(&mut respond, StatusCode::SERVICE_UNAVAILABLE, None);
        };
        let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
        let answer = asked.answered_by(lender, guest.address);
        let Some((content, is_page)) = self.work(&mut send, answer).await else { return };
        let answer_seal = match &self.secret {
            Some(secret) => secret.answer(&seal, &content),
            None => [0; SEAL_BYTES],
        };
        let head = answer_head(&content, &answer_seal);
        if deliver(&mut send, head, content).await.is_some() && is_page {
            self.counts.lent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The seal of a request, if it is from a node of this fleet and is new.
    fn admit(&self, head: &request::Parts, content: &[u8], guest: &Guest) -> Option<Seal> {
        let Some(secret) = &self.secret else { return Some([0; SEAL_BYTES]) };
        let sealed = Sealed::parse(head.headers.get(SEAL_FIELD)?.as_bytes())?;
        let (method, path) = (head.method.as_str(), head.uri.path());
        let subject = Subject { challenge: guest.challenge, method, path, content };
        if !secret.holds(subject, &sealed) || !guest.used.lock().take(sealed.number) {
            return None;
        }
        guest.is_known.store(true, Ordering::Relaxed);
        Some(sealed.seal)
    }

    /// Says now and then that there will be an answer. `None`: nobody waits for it any more.
    async fn work(
        &self,
        send: &mut SendStream<Bytes>,
        answer: impl Future<Output = (Bytes, bool)>,
    ) -> Option<(Bytes, bool)> {
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return Some(answer),
                _ = poll_fn(|context| send.poll_reset(context)) => return None,
                () = tokio::time::sleep(self.working) => {
                    send.send_data(Bytes::from_static(&[WORKING]), false).ok()?;
                }
            }
        }
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode, challenge: Option<Token>) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let value = challenge.map(|challenge| HeaderValue::from_maybe_shared(challenge.to_string()));
    if let Some(Ok(value)) = value {
        response.headers_mut().insert(CHALLENGE_FIELD, value);
    }
    // It may be gone by now.
    drop(respond.send_response(response, true));
}

/// A request's content; `None`: it is too long, or broke.
async fn collect(mut body: RecvStream) -> Option<Bytes> {
    let mut content = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        if content.len() + piece.len() > ASK_MAX_BYTES {
            return None;
        }
        content.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len()).ok()?;
    }
    Some(content.freeze())
}

/// Sends as the other end takes it. `None`: it has gone.
async fn deliver(send: &mut SendStream<Bytes>, head: Bytes, mut content: Bytes) -> Option<()> {
    send.send_data(head, false).ok()?;
    while !content.is_empty() {
        send.reserve_capacity(content.len().min(PIECE_BYTES));
        let room = poll_fn(|context| send.poll_capacity(context)).await?.ok()?;
        let piece = content.split_to(room.min(content.len()));
        send.send_data(piece, false).ok()?;
    }
    send.send_data(Bytes::new(), true).ok()
}
