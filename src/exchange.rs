//! One request and its response, whatever protocol carried them.

mod beside;
mod stored_head;

use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{Method, StatusCode, Version};

pub use beside::{Beside, Interim, InterimQueue, InterimResponse, Stream, Tunnel};
pub use stored_head::{Lines, StoredHead};

use crate::body::Body;
use crate::fields::{Field, Fields};
use crate::reason::Reason;

/// A request as it came in: nothing is decoded, folded, sorted or removed yet.
#[derive(Debug)]
pub struct Request {
    /// The method; extension methods such as PURGE included.
    pub method: Method,
    /// Path and query in origin form, raw. An absolute form has been split into this and
    /// `authority`; `*` for `OPTIONS *`.
    pub target: Bytes,
    /// Host and optional port: HTTP/1's one Host line, HTTP/2's `:authority`. Checked for its
    /// syntax; empty where HTTP/1.0 came without Host.
    pub authority: Bytes,
    /// The protocol version of the request.
    pub version: Version,
    /// The fields as they came. In HTTP/2 cookie crumbs are joined (RFC 9113 8.2.3).
    pub fields: Fields,
    /// The content; read as it arrives.
    pub body: Body,
    /// The connection it came on.
    pub connection: Connection,
    /// What that connection takes besides the response.
    pub beside: Beside,
}

impl Request {
    /// The raw path, without the query.
    pub fn path(&self) -> &[u8] {
        split_target(&self.target).0
    }

    /// The raw query without its question mark, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        split_target(&self.target).1
    }
}

/// Splits a raw target at its first question mark.
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The connection a request came on, before any forwarding header is looked at.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// Our end, where it has an address.
    pub local: Option<SocketAddr>,
    /// Did we end its TLS?
    pub tls: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Ip(SocketAddr),
    /// Over a Unix socket: somebody on this machine.
    Unix,
}

impl Peer {
    /// The address; a Unix socket counts as loopback.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Ip(address) => address.ip().to_canonical(),
            Self::Unix => IpAddr::from([127, 0, 0, 1]),
        }
    }
}

/// A response on its way to a client.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The head of a stored response, serialised when it was stored; it is sent before `fields`.
    pub stored: Option<StoredHead>,
    /// The fields of this one delivery. Framing (Content-Length, Transfer-Encoding), Connection
    /// and Date are the listener's; a Content-Length here (an answer to HEAD) is sent as it is.
    pub fields: Fields,
    /// The content.
    pub body: Body,
    /// Told when the last byte has gone, or the client has.
    pub completion: Completion,
    /// End the connection after this response.
    pub close: bool,
    /// With 101, and where the request offered it: what the connection becomes.
    pub tunnel: Option<Tunnel>,
}

impl Response {
    /// A response with no fields.
    pub fn new(status: StatusCode, body: Body) -> Self {
        Self {
            status,
            stored: None,
            fields: Fields::new(),
            body,
            completion: Completion::default(),
            close: false,
            tunnel: None,
        }
    }

    /// A short plain text of our own.
    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let mut response = Self::new(status, Body::from(text.into()));
        response.fields.push_static("Content-Type", "text/plain; charset=utf-8");
        response
    }

    /// All fields in the order in which they are sent.
    pub fn all_fields(&self) -> impl Iterator<Item = Field> + '_ {
        let stored = self.stored.iter().flat_map(StoredHead::fields);
        stored.chain(self.fields.iter().cloned())
    }
}

/// Does a response of this status carry content, and all of it? Only such content can be taken
/// apart or coded anew.
pub fn has_whole_content(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        )
}

/// Does the field say how the message is delimited, or speak of the connection? Each connection
/// writes these itself.
pub fn is_framing(field: &Field) -> bool {
    let names: &[&str] = match field.name.len() {
        10 => &["connection", "keep-alive"],
        14 => &["content-length"],
        17 => &["transfer-encoding"],
        _ => return false,
    };
    names.iter().any(|name| field.is(name))
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The last byte went out; content bytes sent.
    Whole {
        /// Content bytes sent, without head and framing.
        body_bytes: u64,
    },
    /// The client went away or was too slow.
    ClientGone {
        /// Content bytes sent before.
        body_bytes: u64,
    },
    /// The content ended with an error; the client saw a broken message.
    BodyFailed {
        /// Content bytes sent before.
        body_bytes: u64,
    },
}

impl Delivered {
    /// Content bytes that were sent.
    pub const fn body_bytes(self) -> u64 {
        match self {
            Self::Whole { body_bytes }
            | Self::ClientGone { body_bytes }
            | Self::BodyFailed { body_bytes } => body_bytes,
        }
    }
}

/// Runs once, when the response has left or cannot leave; dropping it counts as
/// [`Delivered::ClientGone`] with no bytes.
#[derive(Default)]
pub struct Completion(Option<Box<dyn FnOnce(Delivered) + Send>>);

impl Completion {
    /// Calls `then` at the end.
    pub fn new(then: impl FnOnce(Delivered) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    /// The end has come.
    pub fn finish(mut self, delivered: Delivered) {
        if let Some(then) = self.0.take() {
            then(delivered);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Delivered::ClientGone { body_bytes: 0 });
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Completion")
    }
}

/// A request that a listener refuses: there is none that could be handled.
#[derive(Debug)]
pub struct RefusedRequest<'a> {
    /// The connection it came on.
    pub connection: &'a Connection,
    /// The protocol version in which it is answered.
    pub version: Version,
    /// Its method; `-` where that cannot be told.
    pub method: Method,
    /// Its target as it came; `-` where that cannot be told.
    pub target: Bytes,
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong with it.
    pub reason: Reason,
}

/// How a handler begins with a request.
pub enum Begun<R, O> {
    /// It is answered from memory. The receipt is what the handler wants to have back when the
    /// response has left.
    Answered(Response, R),
    /// There is something to wait for: what the handler knows by now.
    Open(O),
}

/// What a listener hands its requests to.
pub trait Handler: Send + Sync + 'static {
    /// What is kept of a request that was answered at once, until its response has left.
    type Receipt: Send + 'static;
    /// What is known of a request for whose answer something must be waited for.
    type Open: Send;

    /// Answers from memory, where that takes no wait; nothing of the request needs to be kept
    /// for it. The content has not been read.
    fn begin(&self, request: &Request) -> Begun<Self::Receipt, Self::Open>;

    /// The response to a request that was answered at once has left, or cannot leave.
    fn settle(&self, request: &Request, receipt: Self::Receipt, delivered: Delivered);

    /// Learns of a request that the listener answers itself; told of the answer's end by what it
    /// returns.
    fn refused(&self, _request: RefusedRequest<'_>) -> Completion {
        Completion::default()
    }

    /// Answers a request with which it has begun. Dropping the future means that the client has
    /// gone.
    fn handle(&self, request: Request, open: Self::Open) -> impl Future<Output = Response> + Send;
}

/// A handler that has nothing in memory to answer from.
pub trait Responder: Send + Sync + 'static {
    /// As [`Handler::handle`].
    fn respond(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl<R: Responder> Handler for R {
    type Receipt = Infallible;
    type Open = ();

    fn begin(&self, _: &Request) -> Begun<Infallible, ()> {
        Begun::Open(())
    }

    fn settle(&self, _: &Request, receipt: Infallible, _: Delivered) {
        match receipt {}
    }

    fn handle(&self, request: Request, (): ()) -> impl Future<Output = Response> + Send {
        self.respond(request)
    }
}

/// Who sent a request, after the forwarding headers of trusted hops were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address of the client itself.
    pub address: IpAddr,
    /// Its port where it is the peer, else 0.
    pub port: u16,
    /// The scheme the client used.
    pub scheme: Scheme,
    /// The port the client connected to, as far as known: 443 behind a trusted
    /// `X-Forwarded-Proto: https`.
    pub server_port: u16,
    /// Is the direct peer one of `listen.trusted`?
    pub trusted_peer: bool,
    /// Forwarding headers came from a peer that is not trusted, and were dropped.
    pub forged: bool,
    /// The trusted hops that the request took after the client, in that order.
    pub hops: Vec<IpAddr>,
}

impl Client {
    /// `X-Forwarded-For` as it is rebuilt for the origin: the client, then the hops.
    pub fn forwarded_for(&self) -> Bytes {
        let mut text = Vec::with_capacity(ADDRESS_MAX_BYTES);
        write_address(&mut text, self.address);
        for hop in &self.hops {
            text.extend_from_slice(b", ");
            write_address(&mut text, *hop);
        }
        text.into()
    }
}

/// Bytes of the longest address as text, of IPv6.
pub const ADDRESS_MAX_BYTES: usize = 45;

/// Appends an address as text. Each request needs several, and the formatting of `std` takes a
/// thousand instructions for one of IPv4.
pub fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (place, part) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(part).as_bytes());
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS, ended here or at a trusted hop.
    Https,
}

impl Scheme {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
