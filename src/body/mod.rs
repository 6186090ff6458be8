//! Content on its way: whole, in parts, from one producer, or shared by many readers.

mod channel;
mod shared;
mod spool;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

pub use channel::{BodySender, Closed, channel, produce};
pub use shared::{SharedBody, SharedReader, SharedSource};
pub use spool::{SpoolError, SpoolMemory, Spooled};

use crate::fields::Fields;
use crate::fields::representation::describes_bytes;

/// Why content ended before its end. What was sent up to there must not pass for a whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The producer stopped before the end, without a word.
    #[error("the content was cut off")]
    Truncated,
    /// The producer took too long.
    #[error("the content stalled")]
    TimedOut,
    /// More than a bound allows.
    #[error("the content is larger than {limit} bytes")]
    TooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// The framing or coding was broken.
    #[error("the content is malformed")]
    Malformed,
    /// The other end went away.
    #[error("the connection was lost")]
    ConnectionLost,
}

/// The content of a message.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Parts {
        parts: Arc<[Bytes]>,
        next: usize,
    },
    Channel(channel::BodyReceiver),
    Shared(SharedReader),
}

impl Body {
    /// No content.
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Content in parts that are sent in order, with one vectored write where that is possible.
    pub fn parts(parts: impl Into<Arc<[Bytes]>>) -> Self {
        Self(Kind::Parts { parts: parts.into(), next: 0 })
    }

    /// Content in these pieces, however few they are.
    pub fn of_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut pieces = pieces.into_iter();
        let Some(first) = pieces.next() else { return Self::empty() };
        match pieces.next() {
            None => Self::from(first),
            Some(second) => {
                Self::parts([first, second].into_iter().chain(pieces).collect::<Arc<[Bytes]>>())
            }
        }
    }

    /// The bytes that are still to come, where that is known.
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Parts { parts, next } => {
                Some(parts[*next..].iter().map(|part| part.len() as u64).sum())
            }
            Kind::Channel(receiver) => receiver.remaining(),
            Kind::Shared(reader) => reader.remaining(),
        }
    }

    /// Is it known that nothing is to come?
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// What is in memory in whole, so that it can leave with the head in one write. `None`: it is
    /// (also) still arriving, use [`Body::next`].
    pub fn ready_parts(&self) -> Option<&[Bytes]> {
        match &self.0 {
            Kind::Empty => Some(&[]),
            Kind::Full(bytes) => Some(std::slice::from_ref(bytes)),
            Kind::Parts { parts, next } => Some(&parts[*next..]),
            Kind::Channel(_) | Kind::Shared(_) => None,
        }
    }

    /// The next piece; `None` at the proper end.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Body::next`], for hand-written futures.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Kind::Parts { parts, next } => {
                while let Some(part) = parts.get(*next) {
                    *next += 1;
                    if !part.is_empty() {
                        return Poll::Ready(Some(Ok(part.clone())));
                    }
                }
                Poll::Ready(None)
            }
            Kind::Channel(receiver) => receiver.poll_next(context),
            Kind::Shared(reader) => reader.poll_next(context),
        }
    }

    /// Keeps `held` until all of the content has been read or nobody reads it any more. Where all of it
    /// is here already, that is now.
    #[must_use]
    pub fn holding(mut self, held: impl Send + Sync + 'static) -> Self {
        if let Kind::Channel(receiver) = &mut self.0 {
            receiver.hold(Box::new(held));
        }
        self
    }

    /// The fields that follow the content (RFC 9110 6.5), once [`Body::next`] has come to the
    /// proper end. Only what one producer sends to one reader has any: what is shared or stored is
    /// without (RFC 9111 3).
    pub fn take_trailers(&mut self) -> Fields {
        match &mut self.0 {
            Kind::Channel(receiver) => receiver.take_trailers(),
            Kind::Empty | Kind::Full(_) | Kind::Parts { .. } | Kind::Shared(_) => Fields::new(),
        }
    }

    /// As [`Body::take_trailers`], where other bytes were sent on than came: a search for includes
    /// or another coding. What holds for just the bytes that came is left out.
    pub fn take_trailers_for_other_bytes(&mut self) -> Fields {
        let mut trailers = self.take_trailers();
        trailers.retain(|field| !describes_bytes(field) && !field.is("etag"));
        trailers
    }

    /// Takes in everything, up to `limit` bytes.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, BodyError> {
        if self.len().is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge { limit });
        }
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.next().await.transpose()? else {
            return within(first.len(), limit).map(|()| first);
        };
        let mut all = BytesMut::from(&first[..]);
        all.extend_from_slice(&second);
        within(all.len(), limit)?;
        while let Some(piece) = self.next().await.transpose()? {
            within(all.len() + piece.len(), limit)?;
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

fn within(length: usize, limit: u64) -> Result<(), BodyError> {
    if length as u64 > limit { Err(BodyError::TooLarge { limit }) } else { Ok(()) }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
    }
}

impl From<SharedReader> for Body {
    fn from(reader: SharedReader) -> Self {
        Self(Kind::Shared(reader))
    }
}

impl From<channel::BodyReceiver> for Body {
    fn from(receiver: channel::BodyReceiver) -> Self {
        Self(Kind::Channel(receiver))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Empty => "Empty",
            Kind::Full(_) => "Full",
            Kind::Parts { .. } => "Parts",
            Kind::Channel(_) => "Channel",
            Kind::Shared(_) => "Shared",
        };
        write!(formatter, "Body::{kind}({:?} bytes)", self.len())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        self.poll_next(context).map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.len().map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_come_in_order_and_know_their_length() {
        let mut body = Body::parts(vec![Bytes::from("a"), Bytes::new(), Bytes::from("bc")]);
        assert_eq!(body.len(), Some(3));
        assert_eq!(body.next().await, Some(Ok(Bytes::from("a"))));
        assert_eq!(body.len(), Some(2));
        assert_eq!(body.next().await, Some(Ok(Bytes::from("bc"))));
        assert_eq!(body.next().await, None);
    }

    #[tokio::test]
    async fn collect_refuses_what_is_larger_than_its_limit() {
        let body = Body::from(Bytes::from("abcd"));
        assert_eq!(body.collect(3).await, Err(BodyError::TooLarge { limit: 3 }));
        let body = Body::parts(vec![Bytes::from("ab"), Bytes::from("cd")]);
        assert_eq!(body.collect(4).await, Ok(Bytes::from("abcd")));
    }
}
