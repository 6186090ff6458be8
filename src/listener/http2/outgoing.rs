//! A response on its way to an HTTP/2 client.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};

use super::activity::Stream;
use super::content::Content;
use super::convert;
use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::exchange::{Completion, Delivered, Response};
use http::StatusCode;

/// Content is handed over in pieces of this size, so that a client who gives no window makes us
/// hold no more than one of them, and is seen to.
const PIECE_MAX_BYTES: usize = 16 << 10;
/// Bytes of a response that h2 takes ahead of the client.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Why a response was not sent in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The client has gone, or has reset the stream.
    Client,
    /// The content broke off, or was not as long as was said.
    Content,
}

impl From<h2::Error> for Failure {
    fn from(_: h2::Error) -> Self {
        Self::Client
    }
}

/// Sends a response and tells its completion, and us, how that went. A client that cannot be sent to any more is told
/// nothing.
pub(super) async fn send(
    response: Response,
    head_only: bool,
    to: &mut SendResponse<Content>,
    stream: &mut Stream,
    clock: &Clock,
) -> Delivered {
    let (response, head) = match convert::response_head(&response, head_only, clock) {
        Some(head) => (response, head),
        None => bad_gateway(response),
    };
    let Response { status, mut body, completion, .. } = response;
    let has_content = !head_only && !convert::has_no_content(status) && !body.is_empty();
    let mut sender = match to.send_response(head, !has_content) {
        Ok(sender) => sender,
        Err(error) => {
            // The client has reset the stream, or h2 finds fault with the head.
            tracing::debug!(%error, "no response can be sent");
            to.send_reset(Reason::INTERNAL_ERROR);
            let gone = Delivered::ClientGone { body_bytes: 0 };
            completion.finish(gone);
            return gone;
        }
    };
    let mut outgoing = Outgoing { completion, sent_bytes: 0 };
    if !has_content {
        return outgoing.finish(Ok(()));
    }
    let end = outgoing.content(&mut body, &mut sender, stream).await;
    if end == Err(Failure::Content) {
        sender.send_reset(Reason::INTERNAL_ERROR);
    }
    outgoing.finish(end)
}

/// What is sent instead of a response that is no valid message.
fn bad_gateway(response: Response) -> (Response, http::Response<()>) {
    tracing::error!(status = response.status.as_u16(), "a response was no valid message");
    response.completion.finish(Delivered::BodyFailed { body_bytes: 0 });
    let mut head = http::Response::new(());
    *head.status_mut() = StatusCode::BAD_GATEWAY;
    (Response::text(StatusCode::BAD_GATEWAY, "Bad Gateway\n"), head)
}

/// How much has been handed to h2, and who is told at the end; dropped before that, the client has
/// gone.
struct Outgoing {
    completion: Completion,
    sent_bytes: u64,
}

impl Outgoing {
    fn finish(mut self, end: Result<(), Failure>) -> Delivered {
        let body_bytes = self.sent_bytes;
        let delivered = match end {
            Ok(()) => Delivered::Whole { body_bytes },
            Err(Failure::Client) => Delivered::ClientGone { body_bytes },
            Err(Failure::Content) => Delivered::BodyFailed { body_bytes },
        };
        std::mem::take(&mut self.completion).finish(delivered);
        delivered
    }

    async fn content(
        &mut self,
        body: &mut Body,
        sender: &mut SendStream<Content>,
        stream: &mut Stream,
    ) -> Result<(), Failure> {
        if let Some(parts) = body.ready_parts()
            && self.send_at_once(parts, sender)?
        {
            return Ok(());
        }
        let promised = body.len();
        while let Some(mut rest) = next(body, sender).await? {
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE_MAX_BYTES));
                let total = self.sent_bytes + piece.len() as u64;
                // A length that was promised is kept to the byte, or the stream is reset.
                if promised.is_some_and(|promised| total > promised) {
                    return Err(Failure::Content);
                }
                wait_for_window(sender, stream).await?;
                let is_last = promised == Some(total);
                sender.send_data(piece.into(), is_last)?;
                self.sent_bytes = total;
                if is_last {
                    return Ok(());
                }
            }
        }
        if promised.is_some() {
            return Err(Failure::Content);
        }
        // What was asked for ahead is given back to other streams.
        sender.reserve_capacity(0);
        let trailers = convert::trailers(&body.take_trailers());
        if trailers.is_empty() {
            sender.send_data(Content::from(Bytes::new()), true)?;
        } else {
            sender.send_trailers(trailers)?;
        }
        Ok(())
    }

    /// Sends what is in memory where the client has a window for all of it.
    fn send_at_once(
        &mut self,
        parts: &[Bytes],
        sender: &mut SendStream<Content>,
    ) -> Result<bool, Failure> {
        let length = parts.iter().map(Bytes::len).sum();
        if length > SEND_BUFFER_BYTES {
            return Ok(false);
        }
        sender.reserve_capacity(length);
        if sender.capacity() < length {
            return Ok(false);
        }
        sender.send_data(Content::of(parts), true)?;
        self.sent_bytes = length as u64;
        Ok(true)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let body_bytes = self.sent_bytes;
        std::mem::take(&mut self.completion).finish(Delivered::ClientGone { body_bytes });
    }
}

/// The next piece of content, unless the client resets the stream first.
async fn next(body: &mut Body, sender: &mut SendStream<Content>) -> Result<Option<Bytes>, Failure> {
    poll_fn(|context| {
        if let Poll::Ready(piece) = body.poll_next(context) {
            let failed = |_: BodyError| Failure::Content;
            return Poll::Ready(piece.transpose().map_err(failed));
        }
        sender.poll_reset(context).map(|_| Err(Failure::Client))
    })
    .await
}

/// Waits until a piece finds a window, if only for its first byte: h2 sends the rest as the window
/// opens. More is not asked for ahead, so that streams which wait keep nothing from each other.
async fn wait_for_window(
    sender: &mut SendStream<Content>,
    stream: &mut Stream,
) -> Result<(), Failure> {
    sender.reserve_capacity(1);
    if sender.capacity() > 0 {
        return Ok(());
    }
    stream.waits();
    let opened = poll_fn(|context| {
        while sender.capacity() == 0 {
            match std::task::ready!(sender.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Failure::Client)),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await;
    stream.goes_on();
    opened
}
