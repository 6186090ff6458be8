//! A blocking HTTP/2 client, with prior knowledge in clear or over TLS.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parvis::body::{Body, channel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::client::Reply;

/// Fields that HTTP/1.1 alone has (RFC 9113 8.2.2), and Host, which becomes the authority.
const NOT_IN_HTTP2: [&str; 5] =
    ["host", "connection", "keep-alive", "transfer-encoding", "content-length"];

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a request's content is framed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// With a Content-Length.
    Told,
    /// Up to the end of the stream.
    Untold,
}

/// A connection that is kept.
pub struct H2 {
    sender: SendRequest<Body>,
    runtime: Runtime,
}

impl H2 {
    /// With prior knowledge.
    pub fn connect(port: u16) -> Self {
        let runtime = runtime();
        let stream = runtime.block_on(TcpStream::connect(("127.0.0.1", port)));
        Self::on(runtime, stream.expect("a listener"))
    }

    /// On a stream that was opened on this runtime.
    pub fn on<S>(runtime: Runtime, stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let sender = runtime.block_on(async move {
            let shaken = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, connection) = shaken.expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Self { sender, runtime }
    }

    /// Sends a request and reads the whole response; Host is `shop.test` where none is named.
    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        length: Length,
    ) -> Reply {
        self.try_ask(method, target, headers, body, length).expect("a whole response")
    }

    /// As [`H2::ask`]; an error where the stream was reset.
    pub fn try_ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        length: Length,
    ) -> Result<Reply, hyper::Error> {
        let request = request_head(method, target, headers);
        let (content, pieces) = match length {
            _ if body.is_empty() => (Body::empty(), None),
            Length::Told => (Body::from(Bytes::copy_from_slice(body)), None),
            Length::Untold => {
                let (sender, content) = channel(16 << 10, None);
                (content, Some((sender, Bytes::copy_from_slice(body))))
            }
        };
        let request = request.body(content).expect("a request");
        let sender = &mut self.sender;
        self.runtime.block_on(async move {
            if let Some((mut sender, body)) = pieces {
                tokio::spawn(async move {
                    for at in (0..body.len()).step_by(7_000) {
                        let end = body.len().min(at + 7_000);
                        if sender.send(body.slice(at..end)).await.is_err() {
                            return;
                        }
                    }
                    sender.finish();
                });
            }
            let exchange = async { reply(sender.send_request(request).await?).await };
            tokio::time::timeout(PATIENCE, exchange).await.expect("in time")
        })
    }

    /// Sends a request and resets its stream after a while.
    pub fn cancel(&mut self, target: &str, headers: &[(&str, &str)], after: Duration) {
        let request = request_head("GET", target, headers).body(Body::empty()).expect("a request");
        let answer = self.sender.send_request(request);
        self.runtime.block_on(async {
            drop(tokio::time::timeout(after, answer).await);
            // The reset leaves with the next turn of the connection.
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
    }
}

/// A runtime for one connection.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn request_head(method: &str, target: &str, headers: &[(&str, &str)]) -> http::request::Builder {
    let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map_or("shop.test", |(_, value)| value);
    let mut request = Request::builder().method(method).uri(format!("http://{host}{target}"));
    for (name, value) in headers {
        if !NOT_IN_HTTP2.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            let name: HeaderName = name.to_ascii_lowercase().parse().expect("a name");
            request = request.header(name, HeaderValue::from_str(value).expect("a value"));
        }
    }
    request
}

async fn reply(response: Response<Incoming>) -> Result<Reply, hyper::Error> {
    let (head, mut incoming) = response.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut body = Vec::new();
    loop {
        let frame = std::future::poll_fn(|context| {
            http_body::Body::poll_frame(std::pin::Pin::new(&mut incoming), context)
        });
        let Some(frame) = frame.await else { break };
        match frame?.into_data() {
            Ok(data) => body.extend(data),
            // `trailer NAME`, so that none passes for a field of the head.
            Err(frame) => headers.extend(
                frame
                    .trailers_ref()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (format!("trailer {name}"), text(value))),
            ),
        }
    }
    Ok(Reply { status: head.status.as_u16(), headers, body })
}

/// One request on a connection of its own.
pub fn request(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    H2::connect(port).ask(method, target, headers, body, Length::Told)
}
