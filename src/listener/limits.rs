//! The bounds of the door, taken from `[listen]`.

use std::time::Duration;

use crate::settings::{Listen, Networks};

/// Bounds and timeouts of listeners and their connections.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long an idle connection stays open.
    pub keep_alive: Duration,
    /// For a whole request head from its first byte, for the first one from the connection's
    /// begin; for a TLS handshake too.
    pub header_timeout: Duration,
    /// The longest pause within a request's content.
    pub body_timeout: Duration,
    /// The longest time a client may take nothing of a response.
    pub write_timeout: Duration,
    /// Connections at once, over all listeners.
    pub connections_max: usize,
    /// Connections at once from one untrusted address (IPv6: one /64).
    pub connections_per_address_max: usize,
    /// Sizes of a request head.
    pub head: HeadLimits,
    /// Bytes of a request's content.
    pub body_max_bytes: u64,
    /// Concurrent streams of an HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Peers to which `connections_per_address_max` does not apply.
    pub trusted: Networks,
}

/// Sizes of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the request line, without its CRLF.
    pub request_line_max_bytes: usize,
    /// Bytes of one field line, without its CRLF.
    pub field_max_bytes: usize,
    /// Bytes of the whole head, with its empty line.
    pub head_max_bytes: usize,
    /// Field lines.
    pub fields_max: usize,
}

impl From<&Listen> for Limits {
    fn from(listen: &Listen) -> Self {
        Self {
            keep_alive: listen.keep_alive,
            header_timeout: listen.header_timeout,
            body_timeout: listen.body_timeout,
            write_timeout: listen.write_timeout,
            connections_max: listen.connections_max,
            connections_per_address_max: listen.connections_per_address_max,
            head: HeadLimits {
                request_line_max_bytes: listen.request_line_max_bytes,
                field_max_bytes: listen.header_max_bytes,
                head_max_bytes: listen.head_max_bytes,
                fields_max: listen.headers_max,
            },
            body_max_bytes: listen.body_max_bytes,
            http2_streams_max: listen.http2_streams_max,
            trusted: listen.trusted.clone(),
        }
    }
}
