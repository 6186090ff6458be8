//! `[listen]` and `[tls]`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Endpoint, Networks};

/// `[listen]`: the door.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// Cleartext listeners, HTTP/1.1 and HTTP/2 with prior knowledge.
    pub http: Vec<Endpoint>,
    /// TLS listeners.
    pub https: Vec<Endpoint>,
    /// Health, metrics, purge API.
    pub control: Endpoint,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted: Networks,
    /// How long an idle connection stays open.
    pub keep_alive: Duration,
    /// For a whole request head, from its first byte.
    pub header_timeout: Duration,
    /// The longest pause within a request body.
    pub body_timeout: Duration,
    /// The longest time a client may take nothing of a response.
    pub write_timeout: Duration,
    /// Bytes per second below which a client that sends or reads content is given up.
    pub rate_min_bytes: u64,
    /// Connections at once, over all listeners.
    pub connections_max: usize,
    /// Connections at once from one untrusted address (IPv6: one /64).
    pub connections_per_address_max: usize,
    /// Bytes of a request line.
    pub request_line_max_bytes: usize,
    /// Bytes of one header line.
    pub header_max_bytes: usize,
    /// Bytes of a request head.
    pub head_max_bytes: usize,
    /// Header lines of a request.
    pub headers_max: usize,
    /// Bytes of a request body.
    pub body_max_bytes: u64,
    /// Bytes of a request body that are kept in memory; the rest goes to a file.
    pub body_memory_max_bytes: usize,
    /// Bytes of all request bodies together that are kept in memory.
    pub bodies_memory_max_bytes: usize,
    /// Where request bodies are spooled; empty: the system's temporary directory.
    pub body_directory: PathBuf,
    /// Concurrent streams of an HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Interim responses (103 Early Hints) that are passed on for one request.
    pub interim_responses_max: usize,
    /// Connections at once that have left HTTP (WebSocket); zero: none.
    pub upgrades_max: usize,
    /// How long nothing may move on such a connection.
    pub upgrade_idle_timeout: Duration,
    /// Streams that a client may cancel, or make us reset, while that is most of them.
    pub http2_resets_max: u32,
    /// Frames that are neither requests nor content, beyond those that these explain.
    pub http2_control_max: u32,
    /// Bytes of the header fields of all requests under way on an HTTP/2 connection.
    pub http2_fields_memory_max_bytes: usize,
    /// How long an HTTP/2 client may leave content waiting while nothing moves.
    pub http2_stall_timeout: Duration,
    /// Bytes of memory for copies of large responses that leave often; zero: none.
    pub sendfile_memory_bytes: u64,
    /// What to do with a method that RFC 9110 and PATCH do not define.
    pub unknown_methods: UnknownMethods,
}

/// `listen.unknown_methods`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownMethods {
    /// 501.
    Refuse,
    /// Pass them to the origin.
    Pass,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: vec![Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 6081)))],
            https: Vec::new(),
            control: Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 6082))),
            trusted: Networks::loopback(),
            keep_alive: Duration::from_secs(75),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_mins(1),
            rate_min_bytes: 128,
            connections_max: 16_384,
            connections_per_address_max: 1_000,
            request_line_max_bytes: 16 << 10,
            header_max_bytes: 16 << 10,
            head_max_bytes: 64 << 10,
            headers_max: 100,
            body_max_bytes: 64 << 20,
            body_memory_max_bytes: 64 << 10,
            bodies_memory_max_bytes: 64 << 20,
            body_directory: PathBuf::new(),
            http2_streams_max: 64,
            interim_responses_max: 8,
            upgrades_max: 1_000,
            upgrade_idle_timeout: Duration::from_mins(1),
            http2_resets_max: 100,
            http2_control_max: 1_000,
            http2_fields_memory_max_bytes: 512 << 10,
            http2_stall_timeout: Duration::from_secs(10),
            sendfile_memory_bytes: 32 << 20,
            unknown_methods: UnknownMethods::Refuse,
        }
    }
}

/// `[tls]`: for `listen.https`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}
