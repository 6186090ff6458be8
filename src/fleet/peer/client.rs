//! The end of a connection that asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderValue, Method, Request, StatusCode};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::message::{Arriving, Ask, Lent, Question};
use super::seal::{SEAL_BYTES, Seal, Secret, Subject};
use super::server::{CHALLENGE_FIELD, CHALLENGE_PATH, SEAL_FIELD};
use crate::fleet::link::token;
use crate::fleet::log::Token;
use crate::settings;

/// Bytes that the other end may send ahead of this one, of one page and of all.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Bytes of the heads that come.
const HEAD_MAX_BYTES: u32 = 4 << 10;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It cannot be reached, or the connection broke.
    Away,
    /// It said nothing in time.
    Slow,
    /// It refuses: this node does not count as one of the fleet there, or it is full.
    Refused(StatusCode),
    /// What it says makes no sense, or is not from a node of the fleet.
    Wrong,
}

impl From<h2::Error> for Failure {
    fn from(_: h2::Error) -> Self {
        Self::Away
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Away
    }
}

/// Connections to the other nodes, one to each.
pub(super) struct Client {
    lines: Mutex<HashMap<SocketAddr, Arc<Slot>>>,
    secret: Option<Secret>,
    connector: Option<TlsConnector>,
    wait: Duration,
    silence: Duration,
    answer_max_bytes: usize,
}

/// Locked while somebody connects; the others wait for that connection.
type Slot = tokio::sync::Mutex<Option<Arc<Line>>>;

/// A connection.
struct Line {
    sender: SendRequest<Bytes>,
    /// What the other end wants to see in each seal.
    challenge: Token,
    number: AtomicU64,
    is_over: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn new(
        settings: &settings::Peers,
        connector: Option<TlsConnector>,
        answer_max_bytes: usize,
    ) -> Self {
        let secret = &settings.secret;
        Self {
            lines: Mutex::default(),
            secret: (!secret.is_empty()).then(|| Secret::new(secret)),
            connector,
            wait: settings.owner_wait,
            silence: settings.owner_silence,
            answer_max_bytes,
        }
    }

    /// Ends the connections to who is not there any more.
    pub(super) fn keep(&self, is_there: impl Fn(SocketAddr) -> bool) {
        self.lines.lock().retain(|address, _| is_there(*address));
    }

    /// Asks for a page: a visitor waits for it. The head of an answer is the promise that there will
    /// be one; it comes within `fleet.owner_wait`. After that something comes each
    /// `fleet.owner_silence`.
    pub(super) async fn ask(&self, to: SocketAddr, ask: &Ask) -> Result<Lent, Failure> {
        self.exchange(to, ask, self.wait).await
    }

    /// Asks what no visitor waits for: the answer may begin as late as it may go on.
    pub(super) async fn ask_beside<Q: Question>(
        &self,
        to: SocketAddr,
        question: &Q,
    ) -> Result<Q::Answer, Failure> {
        self.exchange(to, question, self.wait.max(self.silence)).await
    }

    async fn exchange<Q: Question>(
        &self,
        to: SocketAddr,
        question: &Q,
        wait: Duration,
    ) -> Result<Q::Answer, Failure> {
        let begun = timeout(wait, self.begin(to, Q::PATH, question.encode())).await;
        let (mut body, seal) = begun.map_err(|_| Failure::Slow)??;
        let mut arriving = Arriving::new(self.answer_max_bytes);
        loop {
            let piece = timeout(self.silence, body.data()).await.map_err(|_| Failure::Slow)?;
            let Some(piece) = piece.transpose()? else { break };
            body.flow_control().release_capacity(piece.len())?;
            arriving.push(&piece).map_err(|_| Failure::Wrong)?;
        }
        let (answer_seal, content) = arriving.whole().ok_or(Failure::Away)?;
        if let Some(secret) = &self.secret
            && !secret.is_answer(&seal, &content, &answer_seal)
        {
            return Err(Failure::Wrong);
        }
        Q::answer(content).ok_or(Failure::Wrong)
    }

    async fn begin(
        &self,
        to: SocketAddr,
        path: &'static str,
        content: Bytes,
    ) -> Result<(RecvStream, Seal), Failure> {
        let line = self.line(to).await?;
        let (response, seal) = match self.send(&line, path, content.clone()).await {
            Ok(sent) => sent,
            // The other end has closed what was kept; what was not sent may be sent again.
            Err(_) => self.send(&*self.line(to).await?, path, content).await?,
        };
        let response = response.await?;
        match response.status() {
            StatusCode::OK => Ok((response.into_body(), seal)),
            status => Err(Failure::Refused(status)),
        }
    }

    async fn send(
        &self,
        line: &Line,
        path: &'static str,
        content: Bytes,
    ) -> Result<(ResponseFuture, Seal), Failure> {
        let ready = line.sender.clone().ready().await;
        let mut sender = ready.inspect_err(|_| line.is_over.store(true, Ordering::Relaxed))?;
        let mut request = request(Method::POST, path);
        let mut seal = [0; SEAL_BYTES];
        if let Some(secret) = &self.secret {
            let challenge = line.challenge;
            let subject = Subject { challenge, method: "POST", path, content: &content };
            let number = line.number.fetch_add(1, Ordering::Relaxed) + 1;
            let sealed = secret.seal(subject, number, token());
            seal = sealed.seal;
            if let Ok(value) = HeaderValue::from_maybe_shared(sealed.to_value()) {
                request.headers_mut().insert(SEAL_FIELD, value);
            }
        }
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(content, true)?;
        Ok((response, seal))
    }

    async fn line(&self, to: SocketAddr) -> Result<Arc<Line>, Failure> {
        let slot = Arc::clone(self.lines.lock().entry(to).or_default());
        let mut slot = slot.lock().await;
        if let Some(line) = slot.as_ref().filter(|line| !line.is_over.load(Ordering::Relaxed)) {
            return Ok(Arc::clone(line));
        }
        let line = Arc::new(self.connect(to).await?);
        *slot = Some(Arc::clone(&line));
        Ok(line)
    }

    async fn connect(&self, to: SocketAddr) -> Result<Line, Failure> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        match &self.connector {
            Some(connector) => {
                let name = ServerName::IpAddress(to.ip().into());
                self.speak(connector.connect(name, stream).await?).await
            }
            None => self.speak(stream).await,
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<Line, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_MAX_BYTES);
        let (sender, connection) = builder.handshake::<_, Bytes>(stream).await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        tokio::spawn(async move {
            drop(connection.await);
            over.store(true, Ordering::Relaxed);
        });
        let challenge = if self.secret.is_some() { challenge_of(&sender).await? } else { token() };
        Ok(Line { sender, challenge, number: AtomicU64::new(0), is_over })
    }
}

/// Asks for what the other end wants to see in each seal on this connection.
async fn challenge_of(sender: &SendRequest<Bytes>) -> Result<Token, Failure> {
    let mut sender = sender.clone().ready().await?;
    let (response, _) = sender.send_request(request(Method::GET, CHALLENGE_PATH), true)?;
    let response = response.await?;
    let challenge = response.headers().get(CHALLENGE_FIELD);
    challenge.and_then(|value| Token::parse(value.as_bytes())).ok_or(Failure::Wrong)
}

fn request(method: Method, path: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    // The host says nothing here: a node is known by its address.
    let uri = http::Uri::builder().scheme("http").authority("parvis").path_and_query(path);
    if let Ok(uri) = uri.build() {
        *request.uri_mut() = uri;
    }
    request
}
