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
use self::request::Persistence;
use super::decoder::Decoder;
use super::upstream::{Message, Upstream, Wrapping};
use super::{OriginError, OriginRequest, OriginResponse, Switched};
use crate::admission::Admission;
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
    /// A client of the server at `endpoint`; `admission` bounds its requests.
    pub fn new(
        endpoint: Endpoint,
        settings: &Settings,
        admission: Arc<Admission>,
        clock: &Clock,
    ) -> Self {
        let origin = &settings.origin;
        let keep_alive = origin.keep_alive.unwrap_or(KEEP_ALIVE);
        Self {
            upstream: Upstream::new(endpoint, keep_alive, origin, admission, clock),
            head_max_bytes: origin.head_max_bytes,
        }
    }

    /// Sends `request` and reads the head of the response; the content arrives ahead of its reader
    /// by at most `origin.response_memory_max_bytes`.
    pub async fn fetch(&self, request: &OriginRequest) -> Result<OriginResponse, OriginError> {
        let keeps = self.upstream.keeps_connections();
        let persistence = if keeps { Persistence::Keep } else { Persistence::Close };
        let message = message(request, persistence)?;
        let head_request = request.method == Method::HEAD;
        let decoder = || Decoder::Http(Reply::new(head_request, self.head_max_bytes));
        self.upstream.fetch(&message, decoder).await
    }

    /// As [`Client::fetch`], and offers the protocols of `request.beside.upgrade`.
    pub async fn switch(&self, request: &OriginRequest) -> Result<Switched, OriginError> {
        let offered = request.beside.upgrade.clone().unwrap_or_default();
        // What came of a request that was sent is not known: none is sent twice.
        let message =
            Message { repeatable: false, ..message(request, Persistence::Switch(&offered))? };
        let decoder =
            || Decoder::Http(Reply::new(false, self.head_max_bytes).offering(offered.clone()));
        self.upstream.switch(&message, decoder).await
    }

    /// Does the server accept connections?
    pub async fn try_connect(&self) -> Result<(), OriginError> {
        self.upstream.try_connect().await
    }
}

fn message(request: &OriginRequest, persistence: Persistence<'_>) -> Result<Message, OriginError> {
    let head = request::serialise(request, persistence)
        .ok_or(OriginError::Malformed { what: "the request's target is none" })?;
    Ok(Message {
        head,
        body: request.body.clone(),
        wrapping: Wrapping::Plain,
        repeatable: super::is_repeatable(&request.method),
        interim: request.beside.interim.clone(),
        ticket: request.ticket.clone(),
    })
}
