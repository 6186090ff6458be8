//! What an origin's bytes mean, without I/O: one interface over FastCGI and HTTP/1.1.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::fastcgi::reply::Reply as FastCgiReply;
use super::head::ResponseHead;
use super::http::reply::Reply as HttpReply;
use crate::fields::Fields;

/// What comes next in a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until more bytes are read.
    More,
    /// An interim response (1xx) other than 100, before the head.
    Interim {
        /// Its status.
        status: StatusCode,
        /// Its end-to-end fields.
        fields: Fields,
    },
    /// The head; once. 101 only where a switch was offered, and then nothing follows.
    Head(ResponseHead),
    /// A piece of the content, never empty.
    Content(Bytes),
    /// What follows the content: those fields that may be trailers. Once at most.
    Trailers(Fields),
    /// The proper end.
    End {
        /// May the connection carry another exchange, as far as the reply goes?
        reusable: bool,
    },
}

/// Why a reply is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It breaks the protocol.
    Malformed(&'static str),
    /// It ended early: the connection closed, or the content is shorter than announced.
    Cut,
    /// The application has no room for this request.
    Overloaded,
}

/// A reply that is being read.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Of a FastCGI application.
    FastCgi(FastCgiReply),
    /// Of an HTTP/1.1 server.
    Http(HttpReply),
}

impl Decoder {
    /// Takes the next step's bytes off `input`.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Step, Fault> {
        match self {
            Self::FastCgi(reply) => reply.next(input),
            Self::Http(reply) => reply.next(input),
        }
    }

    /// The connection was closed: what does that make of the reply?
    pub(super) fn end_of_input(&mut self) -> Result<Step, Fault> {
        match self {
            Self::FastCgi(_) => Err(Fault::Cut),
            Self::Http(reply) => reply.end_of_input(),
        }
    }

    /// Is all content out, so that only the reply's end is missing?
    pub(super) fn content_is_whole(&self) -> bool {
        match self {
            Self::FastCgi(reply) => reply.content_is_whole(),
            Self::Http(reply) => reply.content_is_whole(),
        }
    }
}
