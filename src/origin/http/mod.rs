//! An HTTP/1.1 origin, over TCP and Unix sockets, with a pool of idle connections.
//!
//! Head and framing are read here and not by hyper, so that fields come out in their order and
//! case, with their duplicates, and what is ambiguous is refused.

mod chunked;
pub(super) mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use self::reply::Reply;
use super::decoder::Decoder;
use super::gate::Gate;
use super::upstream::{Message, Upstream, Wrapping};
use super::{OriginError, OriginRequest, OriginResponse};
use crate::clock::Clock;
use crate::settings::{Endpoint, Settings};

/// How long an idle connection is kept where the settings do not say.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// An HTTP origin.
#[derive(Debug)]
pub struct Client {
    upstream: Upstream,
    head_max_bytes: usize,
}

impl Client {
    /// A client of the server at `endpoint`; `gate` bounds its requests.
    pub fn new(endpoint: Endpoint, settings: &Settings, gate: Arc<Gate>, clock: &Clock) -> Self {
        let origin = &settings.origin;
        let keep_alive = origin.keep_alive.unwrap_or(KEEP_ALIVE);
        Self {
            upstream: Upstream::new(endpoint, keep_alive, origin, gate, clock),
            head_max_bytes: origin.head_max_bytes,
        }
    }

    /// Sends `request` and reads the head of the response; the content arrives ahead of its reader
    /// by at most `origin.response_memory_max_bytes`.
    pub async fn fetch(&self, request: &OriginRequest) -> Result<OriginResponse, OriginError> {
        let head = request::serialise(request, self.upstream.keeps_connections())
            .ok_or(OriginError::Malformed { what: "the request's target is none" })?;
        let message = Message {
            head,
            body: request.body.clone(),
            wrapping: Wrapping::Plain,
            repeatable: super::is_repeatable(&request.method),
        };
        let head_request = request.method == Method::HEAD;
        let decoder = || Decoder::Http(Reply::new(head_request, self.head_max_bytes));
        self.upstream.fetch(&message, decoder).await
    }

    /// Does the server accept connections?
    pub async fn try_connect(&self) -> Result<(), OriginError> {
        self.upstream.try_connect().await
    }
}
