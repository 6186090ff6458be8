//! What both kinds of origin share: a place, a connection, an exchange, and another try.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::connection::{Connection, connect};
use super::decoder::Decoder;
use super::head::{Content, ResponseHead};
use super::pool::Pool;
use super::transfer::{Exchange, Waits};
pub(super) use super::transfer::{Message, Wrapping};
use super::{OriginError, OriginResponse, Provenance, Switched};
use crate::admission::{Admission, Place};
use crate::body::{Body, channel, produce};
use crate::clock::Clock;
use crate::settings::{self, Endpoint};

/// Bytes that are taken ahead of the client where each piece is to be seen at once.
const UNBUFFERED_BYTES: usize = 16 << 10;
/// Before a connection that failed is tried again: a service that restarts is back in a moment.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// One origin.
#[derive(Debug)]
pub(super) struct Upstream {
    endpoint: Endpoint,
    admission: Arc<Admission>,
    pool: Arc<Pool>,
    waits: Waits,
    connect_timeout: Duration,
    response_memory_max_bytes: usize,
    retries: u32,
}

/// Why an attempt brought no response.
struct Failure {
    error: OriginError,
    progress: Progress,
}

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// There was no connection: nothing was sent.
    NotConnected,
    /// An idle connection was closed before a byte came back, most likely before we wrote.
    IdleWasClosed,
    /// It was sent, and no byte came back before the connection closed.
    Unanswered,
    /// Something came back, or the time was over.
    Final,
}

/// What is asked for: who drops this before there is an answer does not stop PHP-FPM, which notices at
/// its first write, and Magento writes at its end. So the place stays taken for as long, or the next
/// request would wait for a child in the kernel, where no class counts.
struct Asked {
    place: Option<Place>,
    exchange: Option<Exchange>,
}

impl Asked {
    fn new(place: Place) -> Self {
        Self { place: Some(place), exchange: None }
    }

    /// There is an answer.
    fn answered(mut self) -> Option<(Exchange, Place)> {
        let mut place = self.place.take()?;
        place.answered();
        Some((self.exchange.take()?, place))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let (Some(mut exchange), Some(mut place)) = (self.exchange.take(), self.place.take())
        else {
            return;
        };
        if !exchange.is_worked_on() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if exchange.head().await.is_ok() {
                    place.answered();
                }
                // Closing the connection stops what still writes.
                drop((exchange, place));
            });
        }
    }
}

impl Upstream {
    /// An origin at `endpoint` whose idle connections are kept for `keep_alive`.
    pub(super) fn new(
        endpoint: Endpoint,
        keep_alive: Duration,
        settings: &settings::Origin,
        admission: Arc<Admission>,
        clock: &Clock,
    ) -> Self {
        Self {
            endpoint,
            admission,
            pool: Pool::new(keep_alive, settings.concurrency_max, clock),
            waits: Waits {
                first_byte: settings.first_byte_timeout,
                between_bytes: settings.between_bytes_timeout,
            },
            connect_timeout: settings.connect_timeout,
            response_memory_max_bytes: settings.response_memory_max_bytes,
            retries: settings.retries,
        }
    }

    /// Are connections kept after an exchange?
    pub(super) fn keeps_connections(&self) -> bool {
        self.pool.keeps()
    }

    /// Does the origin accept connections?
    pub(super) async fn try_connect(&self) -> Result<(), OriginError> {
        connect(&self.endpoint, self.connect_timeout).await.map(drop)
    }

    /// Sends `message` and reads the head of the reply. Dropping the future closes the connection, at once or,
    /// where PHP-FPM works on the request, when it answers.
    pub(super) async fn fetch(
        &self,
        message: &Message,
        decoder: impl Fn() -> Decoder,
    ) -> Result<OriginResponse, OriginError> {
        let (head, exchange, place) = self.begin(message, decoder).await?;
        Ok(self.respond(head, exchange, place))
    }

    /// As [`Upstream::fetch`], for a request that offers another protocol. A tunnel takes no place
    /// in the origin: it lasts for hours, and what bounds tunnels is their own number.
    pub(super) async fn switch(
        &self,
        message: &Message,
        decoder: impl Fn() -> Decoder,
    ) -> Result<Switched, OriginError> {
        let (head, exchange, place) = self.begin(message, decoder).await?;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switched::Response(self.respond(head, exchange, place)));
        }
        let mut fields = head.fields;
        let protocol = fields.first("upgrade").cloned().unwrap_or_default();
        fields.remove("upgrade");
        match exchange.into_tunnel(protocol).await {
            Some(tunnel) => Ok(Switched::Tunnel { fields, tunnel }),
            None => Err(OriginError::Malformed { what: "101 before the request was read" }),
        }
    }

    async fn begin(
        &self,
        message: &Message,
        decoder: impl Fn() -> Decoder,
    ) -> Result<(ResponseHead, Exchange, Place), OriginError> {
        let place = self.admission.enter(&message.ticket).await?;
        let mut asked = Asked::new(place);
        let mut retries = self.retries;
        let mut reuse = message.repeatable;
        loop {
            let failure = match self.attempt(message, decoder(), reuse, &mut asked).await {
                Ok(head) => {
                    let Some((exchange, place)) = asked.answered() else {
                        return Err(OriginError::Malformed { what: "a head of nothing" });
                    };
                    return Ok((head, exchange, place));
                }
                Err(failure) => failure,
            };
            let may_try_again = match failure.progress {
                Progress::IdleWasClosed => true,
                Progress::NotConnected => retries > 0,
                Progress::Unanswered => retries > 0 && message.repeatable,
                Progress::Final => false,
            };
            // As many idle connections close as there were, which asks the origin nothing twice.
            let is_free = failure.progress == Progress::IdleWasClosed;
            if !may_try_again || !(is_free || self.admission.may_try_again()) {
                return Err(failure.error);
            }
            match failure.progress {
                Progress::IdleWasClosed => {
                    reuse = false;
                    continue;
                }
                Progress::NotConnected => tokio::time::sleep(CONNECT_PAUSE).await,
                Progress::Unanswered | Progress::Final => {}
            }
            retries -= 1;
            reuse = false;
            tracing::debug!(endpoint = %self.endpoint, error = %failure.error, "tries again");
        }
    }

    async fn attempt(
        &self,
        message: &Message,
        decoder: Decoder,
        reuse: bool,
        asked: &mut Asked,
    ) -> Result<ResponseHead, Failure> {
        let (connection, was_idle) = self.connection(reuse).await?;
        let exchange = Exchange::new(connection, message.clone(), decoder, self.waits);
        let exchange = asked.exchange.insert(exchange);
        match exchange.head().await {
            Ok(head) => Ok(head),
            Err(error) => {
                let lost = matches!(error, OriginError::Lost { .. });
                let progress = match (lost && !exchange.is_answered(), was_idle) {
                    (true, true) => Progress::IdleWasClosed,
                    (true, false) => Progress::Unanswered,
                    (false, _) => Progress::Final,
                };
                asked.exchange = None;
                Err(Failure { error, progress })
            }
        }
    }

    /// An idle connection, or a new one. A request that cannot be sent again never goes over an
    /// idle one, which may close at that very moment; it closes one instead, so that its worker is
    /// free for the new connection.
    async fn connection(&self, reuse: bool) -> Result<(Connection, bool), Failure> {
        if let Some(idle) = self.pool.take().filter(|_| reuse) {
            return Ok((idle, true));
        }
        match connect(&self.endpoint, self.connect_timeout).await {
            Ok(connection) => Ok((connection, false)),
            Err(error) => Err(Failure { error, progress: Progress::NotConnected }),
        }
    }

    fn respond(&self, head: ResponseHead, mut exchange: Exchange, place: Place) -> OriginResponse {
        let ahead_max_bytes =
            if head.unbuffered { UNBUFFERED_BYTES } else { self.response_memory_max_bytes };
        // Where the origin does not say how long its content is, we do not either.
        let is_told = matches!(head.content, Content::Bytes(_));
        let whole = is_told.then(|| exchange.whole_content()).flatten();
        let mut body = if let Some(body) = whole {
            exchange.give_back(&self.pool);
            body
        } else {
            let (sender, body) = channel(ahead_max_bytes, head.content.length());
            produce(exchange.relay(sender, place, Arc::clone(&self.pool)));
            body
        };
        if head.content == Content::Never {
            // Nobody need wait for the end of what has no content.
            body = Body::empty();
        }
        OriginResponse {
            status: head.status,
            fields: head.fields,
            body,
            provenance: Provenance::Application,
        }
    }
}
