//! The bounds of the door, taken from `[listen]`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::copies::Copies;
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
    /// Bytes per second below which a client is given up: over all the time that a request's
    /// content or a response was waited for, once that exceeds the timeout.
    pub rate_min_bytes: u64,
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
    /// Interim responses that are passed on for one request.
    pub interim_responses_max: usize,
    /// Places for connections that have left HTTP; clones share them.
    pub upgrades: Arc<Semaphore>,
    /// How many these are when none is taken.
    pub upgrades_max: usize,
    /// How long nothing may move on such a connection.
    pub upgrade_idle_timeout: Duration,
    /// Streams that an HTTP/2 client may cancel, or make us reset, while that is most of them.
    pub http2_resets_max: u32,
    /// HTTP/2 frames that are neither requests nor content, beyond those that these explain.
    pub http2_control_max: u32,
    /// Bytes of the fields of all requests under way on an HTTP/2 connection.
    pub http2_fields_memory_max_bytes: usize,
    /// How long an HTTP/2 client may leave content waiting while nothing moves.
    pub http2_stall_timeout: Duration,
    /// Copies of what leaves often; clones share them.
    pub copies: Arc<Copies>,
    /// Peers to which `connections_per_address_max` does not apply.
    pub trusted: Networks,
}

impl Limits {
    /// Connections that have left HTTP, or whose offer to do so waits for its answer.
    pub fn upgrades_in_use(&self) -> usize {
        self.upgrades_max.saturating_sub(self.upgrades.available_permits())
    }
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
            rate_min_bytes: listen.rate_min_bytes,
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
            interim_responses_max: listen.interim_responses_max,
            upgrades: Arc::new(Semaphore::new(listen.upgrades_max)),
            upgrades_max: listen.upgrades_max,
            upgrade_idle_timeout: listen.upgrade_idle_timeout,
            http2_resets_max: listen.http2_resets_max,
            http2_control_max: listen.http2_control_max,
            http2_fields_memory_max_bytes: listen.http2_fields_memory_max_bytes,
            http2_stall_timeout: listen.http2_stall_timeout,
            copies: Arc::new(Copies::new(listen.sendfile_memory_bytes)),
            trusted: listen.trusted.clone(),
        }
    }
}
