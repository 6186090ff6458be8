//! The content of a response as hyper asks for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::activity::Stream;
use crate::body::{Body, BodyError};
use crate::exchange::{Completion, Delivered};
use crate::fields::Fields;

/// Content is handed over in pieces of this size, so that a client who gives no window makes us
/// hold no more than one of them, and is seen to.
const PIECE_MAX_BYTES: usize = 16 << 10;

/// Content, and who is told of its end.
pub(super) struct Outgoing {
    body: Body,
    /// What is left of a large piece.
    rest: Bytes,
    sent_bytes: u64,
    failed: bool,
    ended: bool,
    completion: Completion,
    stream: Stream,
}

impl Outgoing {
    pub(super) fn new(body: Body, completion: Completion, stream: Stream) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            sent_bytes: 0,
            failed: false,
            ended: false,
            completion,
            stream,
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.stream.asked();
        if this.rest.is_empty() {
            match this.body.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => this.rest = piece,
                Poll::Ready(Some(Err(error))) => {
                    this.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    let trailers = trailers(&this.body.take_trailers());
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_MAX_BYTES));
        this.sent_bytes += piece.len() as u64;
        this.stream.handed();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_empty()
    }
}

/// What follows the content, as hyper takes it; `None` where nothing does.
fn trailers(fields: &Fields) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(&field.name).ok();
        let value = HeaderValue::from_maybe_shared(field.value.clone()).ok();
        if let (Some(name), Some(value)) = (name, value) {
            trailers.append(name, value);
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let body_bytes = self.sent_bytes;
        // hyper does not ask for the end where it knows it.
        let is_whole = self.ended || http_body::Body::is_end_stream(self);
        let delivered = if self.failed {
            Delivered::BodyFailed { body_bytes }
        } else if is_whole {
            Delivered::Whole { body_bytes }
        } else {
            Delivered::ClientGone { body_bytes }
        };
        std::mem::take(&mut self.completion).finish(delivered);
    }
}
