//! The listener: what goes in and out at the door, over real sockets.

#![allow(clippy::expect_used, clippy::panic, reason = "these are tests")]

mod connection;
mod content;
mod http2;
mod idle;
mod malformed;
mod raw;
mod requests;
mod responses;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use parvis::body::{Body, BodyError, channel};
use parvis::exchange::{Completion, Delivered, Request, Responder, Response, StoredHead};
use parvis::fields::Fields;
use parvis::listener::{Limits, Shutdown, TlsServer, bind, serve};
use parvis::settings::{Endpoint, Listen};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener on a free port with a handler that tells what it was given.
pub struct Door {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub teller: Arc<Teller>,
}

impl Door {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    #[expect(clippy::unused_async, reason = "opening needs a runtime")]
    pub async fn open_with(change: impl FnOnce(&mut Listen)) -> Self {
        Self::open_tls(None, change)
    }

    pub fn open_tls(tls: Option<Arc<TlsServer>>, change: impl FnOnce(&mut Listen)) -> Self {
        let mut listen = Listen::default();
        change(&mut listen);
        let endpoint = Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = bind("listen.http", &[endpoint]).expect("a free port").remove(0);
        let Endpoint::Tcp(address) = *listener.endpoint() else { panic!("TCP was asked for") };
        let (shutdown, teller) = (Shutdown::new(), Arc::new(Teller::default()));
        let limits = Arc::new(Limits::from(&listen));
        tokio::spawn(serve(listener, tls, Arc::clone(&teller), limits, shutdown.clone()));
        Self { address, shutdown, teller }
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.expect("connected"))
    }

    /// Sends bytes on a connection of their own and reads until the server closes.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut client = self.client().await;
        client.write(bytes).await;
        client.rest().await
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shutdown.abort();
    }
}

/// Answers by the path; everything it does not know is told back as text:
/// `method target authority version content`.
#[derive(Default)]
pub struct Teller {
    pub started: AtomicUsize,
    pub dropped: AtomicUsize,
    pub go: Notify,
    pub delivered: Arc<Mutex<Vec<Delivered>>>,
}

struct Running<'a>(&'a Teller, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Teller {
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Waits until a delivery has ended.
    pub async fn delivery(&self) -> Delivered {
        let ended = || self.delivered.lock().first().copied();
        until("a delivery", || ended().is_some()).await;
        self.delivered.lock().remove(0)
    }

    async fn answer(&self, request: Request) -> Response {
        match request.path() {
            b"/wait" => {
                self.go.notified().await;
                Response::text(StatusCode::OK, "waited\n")
            }
            b"/early" => Response::text(StatusCode::OK, "early\n"),
            b"/stream" => Response::new(StatusCode::OK, stream(None, None)),
            b"/stream-of-six" => Response::new(StatusCode::OK, stream(Some(6), None)),
            b"/stream-of-seven" => Response::new(StatusCode::OK, stream(Some(7), None)),
            b"/stream-of-five" => Response::new(StatusCode::OK, stream(Some(5), None)),
            b"/broken" => Response::new(StatusCode::OK, stream(None, Some(BodyError::Truncated))),
            b"/endless" => Response::new(StatusCode::OK, endless()),
            b"/large" => Response::new(StatusCode::OK, Body::from(large())),
            b"/parts" => {
                let parts: Vec<_> = (0..100).map(|at| Bytes::from(format!("{at},"))).collect();
                Response::new(StatusCode::OK, Body::parts(parts))
            }
            b"/stored" => {
                let mut response = Response::new(StatusCode::OK, Body::from(Bytes::from("page")));
                let fields = Fields::from([("X-First", "1"), ("x-SECOND", "2")]);
                response.stored = Some(StoredHead::new(fields));
                response.fields.push_static("Age", "7");
                response
            }
            b"/stored-framing" => {
                let mut response = Response::new(StatusCode::OK, Body::from(Bytes::from("page")));
                let fields =
                    Fields::from([("Content-Length", "99"), ("X-A", "1"), ("Date", "then")]);
                response.stored = Some(StoredHead::new(fields));
                response
            }
            b"/no-content" => Response::text(StatusCode::NO_CONTENT, "never sent"),
            b"/not-modified" => Response::text(StatusCode::NOT_MODIFIED, "never sent"),
            b"/interim" => Response::new(StatusCode::SWITCHING_PROTOCOLS, Body::empty()),
            b"/split" => {
                let mut response = Response::text(StatusCode::OK, "");
                response.fields.push_static("X-A", "a\r\nSet-Cookie: b");
                response
            }
            b"/told-length" => {
                let mut response = Response::new(StatusCode::OK, Body::empty());
                response.fields.push_static("Content-Length", "1234");
                response
            }
            b"/close" => {
                let mut response = Response::text(StatusCode::OK, "bye\n");
                response.close = true;
                response
            }
            _ => tell(request).await,
        }
    }
}

async fn tell(request: Request) -> Response {
    let told = format!(
        "{} {} {} {:?} ",
        request.method,
        String::from_utf8_lossy(&request.target),
        String::from_utf8_lossy(&request.authority),
        request.version
    );
    let lines: Vec<String> = request
        .fields
        .iter()
        .map(|field| String::from_utf8_lossy(&[&field.name[..], &field.value].join(&b'=')).into())
        .collect();
    match request.body.collect(u64::MAX).await {
        Ok(content) => {
            let mut response = Response::text(StatusCode::OK, [told.as_bytes(), &content].concat());
            response.fields.push_static("X-Lines", lines.join("|").into_bytes());
            response
        }
        Err(BodyError::TooLarge { .. }) => Response::text(StatusCode::PAYLOAD_TOO_LARGE, ""),
        Err(BodyError::TimedOut) => Response::text(StatusCode::REQUEST_TIMEOUT, ""),
        Err(_) => Response::text(StatusCode::BAD_REQUEST, ""),
    }
}

impl Responder for Teller {
    async fn respond(&self, request: Request) -> Response {
        self.started.fetch_add(1, Ordering::SeqCst);
        let mut running = Running(self, false);
        let mut response = self.answer(request).await;
        let delivered = Arc::clone(&self.delivered);
        response.completion = Completion::new(move |how| delivered.lock().push(how));
        running.1 = true;
        response
    }
}

pub fn large() -> Bytes {
    (0..8 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>().into()
}

/// `one`, a pause, `two`, and an end.
fn stream(length: Option<u64>, error: Option<BodyError>) -> Body {
    let (mut sender, body) = channel(1_000, length);
    tokio::spawn(async move {
        let _ = sender.send(Bytes::from("one")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = sender.send(Bytes::from("two")).await;
        match error {
            None => sender.finish(),
            Some(error) => sender.abort(error),
        }
    });
    body
}

/// `one`, and then nothing for ever.
fn endless() -> Body {
    let (mut sender, body) = channel(1_000, None);
    tokio::spawn(async move {
        let _ = sender.send(Bytes::from("one")).await;
        sender.closed().await;
    });
    body
}

/// `count` texts one after the other.
pub fn numbered(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(text).collect::<Vec<_>>().concat()
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no {what}"));
}

/// A raw HTTP/1 client.
pub struct Client<S> {
    pub io: S,
    read: Vec<u8>,
}

/// A response as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub content: String,
}

impl Reply {
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.fields(name);
        let first = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        first
    }

    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(io: S) -> Self {
        Self { io, read: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.expect("written");
        self.io.flush().await.expect("flushed");
    }

    /// Everything until the server closes. A reset counts as an end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        let reading = async {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = self.io.read(&mut buffer).await {
                rest.extend_from_slice(&buffer[..count]);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the server closes");
        rest
    }

    async fn more(&mut self) {
        let count = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.read)).await;
        assert_ne!(count.expect("an answer").expect("read"), 0, "closed after {:?}", self.read);
    }

    /// Reads up to and with `end`.
    pub async fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let after = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, after)).expect("UTF-8");
            }
            self.more().await;
        }
    }

    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            self.more().await;
        }
        let after = self.read.split_off(count);
        std::mem::replace(&mut self.read, after)
    }

    /// One response with a length or in chunks; `with_content` is false for HEAD.
    pub async fn reply_to(&mut self, with_content: bool) -> Reply {
        let head = self.read_until("\r\n\r\n").await;
        let status = head[9..12].parse().expect("a status");
        let mut reply = Reply { status, head, content: String::new() };
        if !with_content || matches!(status, 204 | 304) || status < 200 {
            return reply;
        }
        let mut content = Vec::new();
        if reply.field("transfer-encoding").is_some() {
            loop {
                let line = self.read_until("\r\n").await;
                let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
                content.extend(self.take(size).await);
                assert_eq!(self.take(2).await, b"\r\n");
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = reply.field("content-length").expect("a length");
            content = self.take(length.parse().expect("a number")).await;
        }
        reply.content = String::from_utf8(content).expect("UTF-8");
        reply
    }

    pub async fn reply(&mut self) -> Reply {
        self.reply_to(true).await
    }

    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.write(bytes).await;
        self.reply().await
    }
}
