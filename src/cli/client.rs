//! Speaks to the control endpoint of a server that runs.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Body;
use crate::settings::Endpoint;

/// For connecting and the whole answer together. Purges are answered at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is taken.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// Longest piece of a refusal's text that is shown, in characters.
const REFUSAL_CHARACTERS_MAX: usize = 200;

/// What Parvis answers where it will not.
#[derive(serde::Deserialize)]
struct Refusal {
    error: String,
}

/// A server that runs, seen from the command line.
#[derive(Debug)]
pub(super) struct Server {
    /// Its control address.
    pub endpoint: Endpoint,
    /// Its bearer token; empty: none is sent.
    pub token: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    /// No runtime or no request can be made here.
    #[error("cannot ask {endpoint}: {reason}")]
    Local { endpoint: Endpoint, reason: String },
    /// Nobody listens, or not for us.
    #[error(
        "cannot reach {endpoint}: {source}; is the server running, and is this its listen.control?"
    )]
    Unreachable { endpoint: Endpoint, source: std::io::Error },
    /// It takes too long.
    #[error("{endpoint} has not answered within {} s", TIMEOUT.as_secs())]
    TimedOut { endpoint: Endpoint },
    /// The connection broke, or what came is not HTTP.
    #[error("{endpoint} broke off: {source}")]
    Broken { endpoint: Endpoint, source: hyper::Error },
    /// It answered that it will not.
    #[error("{endpoint} refused ({}){text}", .status.as_u16())]
    Refused { endpoint: Endpoint, status: StatusCode, text: String },
    /// It answered, and then said that it did not come about.
    #[error("{endpoint}: {reason}")]
    Failed { endpoint: Endpoint, reason: String },
    /// It was told to end, and is still there.
    #[error("{endpoint} still answers {} s after it was told to end", .after.as_secs())]
    StillThere { endpoint: Endpoint, after: Duration },
    /// It answered something else than asked for.
    #[error("{endpoint} does not answer as Parvis does: {reason}")]
    Foreign { endpoint: Endpoint, reason: String },
}

impl Server {
    /// Sends one request and takes in its answer, if that is a 2xx.
    pub fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ServerError> {
        let local = |reason: String| ServerError::Local { endpoint: self.endpoint.clone(), reason };
        let request = self.request(method, path, body).map_err(|error| local(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| local(error.to_string()))?;
        let mut content = BytesMut::new();
        let mut take = |piece: &[u8]| {
            content.extend_from_slice(piece);
            if content.len() > ANSWER_MAX_BYTES {
                return Err(self.foreign(&format!("more than {ANSWER_MAX_BYTES} bytes")));
            }
            Ok(())
        };
        runtime.block_on(async {
            let timed = tokio::time::timeout(TIMEOUT, self.exchange(request, &mut take)).await;
            timed.unwrap_or_else(|_| Err(self.timed_out()))
        })?;
        Ok(content.freeze())
    }

    /// Sends one request, and gives its answer: as it came, or as `text` has it.
    pub fn told<T: DeserializeOwned>(
        &self,
        (method, path, body): (Method, &str, &'static str),
        as_json: bool,
        text: impl FnOnce(&T) -> String,
    ) -> Result<String, ServerError> {
        let answer = self.ask(method, path, body.into())?;
        let content = serde_json::from_slice(&answer).map_err(|error| self.foreign(&error))?;
        if as_json {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        Ok(text(&content))
    }

    /// Sends one request, and takes in its answer line by line, as the lines come.
    pub fn follow(
        &self,
        method: Method,
        path: &str,
        line: &mut dyn FnMut(&[u8]) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        let local = |reason: String| ServerError::Local { endpoint: self.endpoint.clone(), reason };
        let request =
            self.request(method, path, Bytes::new()).map_err(|error| local(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| local(error.to_string()))?;
        let mut begun = Vec::new();
        let mut take = |piece: &[u8]| {
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                begun.extend_from_slice(part);
                if begun.len() > ANSWER_MAX_BYTES {
                    return Err(self.foreign(&format!("more than {ANSWER_MAX_BYTES} bytes")));
                }
                if let Some(whole) = begun.strip_suffix(b"\n") {
                    line(whole)?;
                    begun.clear();
                }
            }
            Ok(())
        };
        runtime.block_on(self.exchange(request, &mut take))
    }

    /// The answer is none of ours.
    pub fn foreign(&self, reason: &impl ToString) -> ServerError {
        ServerError::Foreign { endpoint: self.endpoint.clone(), reason: reason.to_string() }
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> http::Result<Request<Body>> {
        let host = match &self.endpoint {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if !self.token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Body::from(body))
    }

    /// One exchange; the answer goes to `take` as it comes, if it is a 2xx.
    async fn exchange(
        &self,
        request: Request<Body>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        let unreachable = |source| self.unreachable(source);
        match &self.endpoint {
            Endpoint::Tcp(address) => {
                let stream = tokio::net::TcpStream::connect(address).await.map_err(unreachable)?;
                self.exchange_over(stream, request, take).await
            }
            Endpoint::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(unreachable)?;
                self.exchange_over(stream, request, take).await
            }
        }
    }

    async fn exchange_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Body>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|source| self.broken(source))?;
        // It ends with this runtime, and its error is the exchange's too.
        drop(tokio::spawn(connection));
        let answer = sender.send_request(request).await.map_err(|source| self.broken(source))?;
        let (head, mut body) = answer.into_parts();
        if head.status.is_success() {
            return self.take_all(&mut body, take).await;
        }
        let mut content = Vec::new();
        let mut collect = |piece: &[u8]| {
            content.extend_from_slice(&piece[..piece.len().min(ANSWER_MAX_BYTES - content.len())]);
            Ok(())
        };
        self.take_all(&mut body, &mut collect).await?;
        Err(self.refused(head.status, &content))
    }

    /// Each piece has the time of an answer of its own.
    async fn take_all(
        &self,
        body: &mut Incoming,
        take: &mut dyn FnMut(&[u8]) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        loop {
            let next =
                std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
            let frame = tokio::time::timeout(TIMEOUT, next).await.map_err(|_| self.timed_out())?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|source| self.broken(source))?;
            if let Ok(data) = frame.into_data() {
                take(&data)?;
            }
        }
    }

    fn timed_out(&self) -> ServerError {
        ServerError::TimedOut { endpoint: self.endpoint.clone() }
    }

    fn refused(&self, status: StatusCode, content: &[u8]) -> ServerError {
        // Parvis says why as JSON; what else listens there says it somehow.
        let text = serde_json::from_slice(content).map_or_else(
            |_| String::from_utf8_lossy(content).into_owned(),
            |Refusal { error }| error,
        );
        let line = text.lines().next().unwrap_or_default().chars();
        let line: String =
            line.filter(|letter| !letter.is_control()).take(REFUSAL_CHARACTERS_MAX).collect();
        let mut text = if line.is_empty() { line } else { format!(": {line}") };
        if status == StatusCode::UNAUTHORIZED {
            text.push_str("; give it by --config FILE, PARVIS__CONTROL__TOKEN, or --token");
        }
        ServerError::Refused { endpoint: self.endpoint.clone(), status, text }
    }

    fn unreachable(&self, source: std::io::Error) -> ServerError {
        ServerError::Unreachable { endpoint: self.endpoint.clone(), source }
    }

    fn broken(&self, source: hyper::Error) -> ServerError {
        ServerError::Broken { endpoint: self.endpoint.clone(), source }
    }
}
