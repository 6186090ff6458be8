//! A FastCGI client for PHP-FPM (FastCGI specification 1.0), over Unix sockets and TCP.
//!
//! By default each request has a connection of its own: an idle one would pin a PHP child.

pub(super) mod errors;
mod params;
pub(super) mod record;
pub(super) mod reply;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use params::Script;

use self::errors::{ErrorLog, ErrorText};
use self::params::ParamRules;
use super::connection::connect;
use super::decoder::{Decoder, Fault, Step};
use super::upstream::{Message, Upstream, Wrapping};
use super::{OriginError, OriginRequest, OriginResponse};
use crate::admission::Admission;
use crate::clock::Clock;
use crate::exchange::Interim;
use crate::fields::Fields;
use crate::settings::{Endpoint, Settings};

/// A FastCGI application.
#[derive(Debug)]
pub struct Client {
    upstream: Upstream,
    rules: ParamRules,
    errors: Arc<ErrorLog>,
    head_max_bytes: usize,
}

impl Client {
    /// A client of the application at `endpoint`; `admission` bounds its requests, and those of whoever
    /// else uses the same PHP.
    pub fn new(
        endpoint: Endpoint,
        settings: &Settings,
        admission: Arc<Admission>,
        clock: &Clock,
    ) -> Self {
        let origin = &settings.origin;
        let keep_alive = origin.keep_alive.unwrap_or(Duration::ZERO);
        Self {
            upstream: Upstream::new(endpoint, keep_alive, origin, admission, clock),
            rules: ParamRules::new(settings),
            errors: ErrorLog::new(clock.clone(), settings.probe()),
            head_max_bytes: origin.head_max_bytes,
        }
    }

    /// Lets `script` answer `request`. The content of the response arrives at PHP's pace, up to
    /// `origin.response_memory_max_bytes` ahead of its reader; when its reader goes, the
    /// connection is closed.
    pub async fn fetch(
        &self,
        request: &OriginRequest,
        script: &Script,
    ) -> Result<OriginResponse, OriginError> {
        let mut head = Vec::with_capacity(4_096);
        record::write_begin(&mut head, self.upstream.keeps_connections());
        record::write_params(&mut head, &self.rules.build(request, script));
        let message = Message {
            head: Bytes::from(head),
            body: request.body.clone(),
            wrapping: Wrapping::Stdin,
            repeatable: super::is_repeatable(&request.method),
            interim: Interim::default(),
            ticket: request.ticket.clone(),
        };
        let head_request = request.method == Method::HEAD;
        let decoder = || {
            let errors = ErrorText::new(&self.errors, &message.head);
            Decoder::FastCgi(reply::Reply::new(head_request, self.head_max_bytes, errors))
        };
        self.upstream.fetch(&message, decoder).await
    }

    /// Does the application accept connections?
    pub async fn try_connect(&self) -> Result<(), OriginError> {
        self.upstream.try_connect().await
    }
}

/// Bytes of the answer to [`get`].
const ANSWER_MAX_BYTES: u64 = 64 << 10;

/// Asks for a path that PHP-FPM itself answers (`pm.status_path`), over a connection of its own.
///
/// # Errors
/// [`OriginError`]
pub(super) async fn get(
    endpoint: &Endpoint,
    path: &str,
    query: &[u8],
    timeout: Duration,
) -> Result<(StatusCode, Bytes), OriginError> {
    let late = |_| OriginError::TimedOut { stage: "waiting for PHP-FPM's status" };
    let params: [(&str, &[u8]); 8] = [
        ("SCRIPT_FILENAME", path.as_bytes()),
        ("SCRIPT_NAME", path.as_bytes()),
        ("REQUEST_URI", path.as_bytes()),
        ("QUERY_STRING", query),
        ("REQUEST_METHOD", b"GET"),
        ("SERVER_PROTOCOL", b"HTTP/1.1"),
        ("GATEWAY_INTERFACE", b"CGI/1.1"),
        ("REMOTE_ADDR", b"127.0.0.1"),
    ];
    let mut request = Vec::with_capacity(512);
    record::write_begin(&mut request, false);
    record::write_params(&mut request, &params);
    record::write_stdin_end(&mut request);
    let exchange = async {
        let mut connection = connect(endpoint, timeout).await?;
        let lost = |source| OriginError::Lost { source };
        connection.write_all(&request).await.map_err(lost)?;
        let mut answer = Vec::new();
        connection.take(ANSWER_MAX_BYTES).read_to_end(&mut answer).await.map_err(lost)?;
        Ok::<_, OriginError>(answer)
    };
    let answer = tokio::time::timeout(timeout, exchange).await.map_err(late)??;
    let decoded = decode_response(&answer).map_err(|what| OriginError::Malformed { what })?;
    match decoded.broken {
        Some(what) => Err(OriginError::Malformed { what }),
        None => Ok((decoded.status, decoded.content.into())),
    }
}

/// A reply that was read from memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The status.
    pub status: StatusCode,
    /// The fields that travel on.
    pub fields: Fields,
    /// The content that is there.
    pub content: Vec<u8>,
    /// Why the reply is not whole, if it is not.
    pub broken: Option<&'static str>,
}

/// Reads a whole reply to a GET from memory, for fuzzing and for tests: what a socket would have
/// brought in one piece. `Err` says why there is no head.
pub fn decode_response(stream: &[u8]) -> Result<Decoded, &'static str> {
    decode_pieces([stream])
}

/// As [`decode_response`], in pieces as they might arrive.
pub fn decode_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Decoded, &'static str> {
    let mut reply = reply::Reply::new(false, 256 << 10, ErrorText::default());
    let mut input = BytesMut::new();
    let mut decoded: Option<Decoded> = None;
    let fault = 'reading: {
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match reply.next(&mut input) {
                    Ok(Step::More) => break,
                    Ok(Step::End { .. } | Step::Interim { .. } | Step::Trailers(_)) => {
                        break 'reading None;
                    }
                    Err(fault) => break 'reading Some(fault),
                    Ok(Step::Head(head)) => {
                        let (status, fields) = (head.status, head.fields);
                        let content = Vec::new();
                        decoded = Some(Decoded { status, fields, content, broken: None });
                    }
                    Ok(Step::Content(piece)) => {
                        if let Some(all) = &mut decoded {
                            all.content.extend_from_slice(&piece);
                        }
                    }
                }
            }
        }
        Some(Fault::Cut)
    };
    let broken = fault.map(|fault| match fault {
        Fault::Malformed(what) => what,
        Fault::Cut => "the reply is cut",
        Fault::Overloaded => "the application is overloaded",
    });
    match decoded {
        Some(decoded) => Ok(Decoded { broken, ..decoded }),
        None => Err(broken.unwrap_or("the reply has no head")),
    }
}
