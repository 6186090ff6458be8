//! `[origin]` and `[files]`

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Endpoint;

/// `[origin]`: where misses go.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// An HTTP origin, `host:port` or `unix:/path`. Exclusive with `fastcgi`; the default where
    /// neither is set.
    pub http: Option<Endpoint>,
    /// PHP-FPM.
    pub fastcgi: Option<Endpoint>,
    /// Magento's `pub/` (with `fastcgi`).
    pub root: PathBuf,
    /// The root as PHP sees it; empty: the same.
    pub php_root: PathBuf,
    /// Directories outside the root to which its symlinks may lead.
    pub links: Vec<PathBuf>,
    /// `FastCGI` parameters per host; the host `*` is for all.
    pub params: BTreeMap<String, BTreeMap<String, String>>,
    /// Requests in the origin at once: PHP-FPM's `pm.max_children`.
    pub concurrency_max: usize,
    /// PHP-FPM's `pm.status_path`; empty: it is not asked.
    pub status: String,
    /// PHP-FPM's `pm.status_listen`; `None`: it is asked where requests go.
    pub status_listen: Option<Endpoint>,
    /// Between two looks at it.
    pub status_interval: Duration,
    /// Requests that wait for a place.
    pub queue_max: usize,
    /// How long a request waits for a place.
    pub queue_timeout: Duration,
    /// How long an idle connection is kept; zero: closed after each exchange. `None`: the
    /// default, 30 s with `http`, zero with `fastcgi` (an idle connection pins a PHP child).
    pub keep_alive: Option<Duration>,
    /// To connect.
    pub connect_timeout: Duration,
    /// To the first byte of the response.
    pub first_byte_timeout: Duration,
    /// Between two reads or writes.
    pub between_bytes_timeout: Duration,
    /// Bytes of a response head.
    pub head_max_bytes: usize,
    /// Bytes of a response that are taken from the origin ahead of the client.
    pub response_memory_max_bytes: usize,
    /// Further tries where nothing of the request can have been seen.
    pub retries: u32,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            http: None,
            fastcgi: None,
            root: PathBuf::new(),
            php_root: PathBuf::new(),
            links: Vec::new(),
            params: BTreeMap::new(),
            concurrency_max: 32,
            status: String::new(),
            status_listen: None,
            status_interval: Duration::from_secs(1),
            queue_max: 1_000,
            queue_timeout: Duration::from_secs(30),
            keep_alive: None,
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_mins(10),
            between_bytes_timeout: Duration::from_mins(1),
            head_max_bytes: 256 << 10,
            response_memory_max_bytes: 16 << 20,
            retries: 1,
        }
    }
}

impl Origin {
    /// The HTTP origin where neither `http` nor `fastcgi` is set.
    pub fn default_http() -> Endpoint {
        Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))
    }
}

/// `[files]`: static and media files from `origin.root`.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Threads that may block on the file system, in each of three groups: those that look
    /// whether a page's path is a file, those for static files and those for media. So a file
    /// system that hangs below `media/` leaves the others alone. At least 1.
    pub threads: usize,
    /// Steps of file work that wait for a thread of their group; beyond it the client gets 503.
    pub queue_max: usize,
    /// For one step of file work; beyond it the client gets 504.
    pub deadline: Duration,
    /// For the look whether a page's path is a file; beyond it the page goes to PHP.
    pub page_deadline: Duration,
    /// Bytes of files that are in memory on their way to clients; what exceeds it waits for
    /// `deadline`, then gets 503. At least 256 KiB.
    pub memory_max_bytes: usize,
    /// Serve `.br` and `.gz` neighbours.
    pub precompressed: bool,
    /// Lifetime sent for versioned static files, with `immutable`.
    pub static_max_age: Duration,
    /// Lifetime sent for media files.
    pub media_max_age: Duration,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            threads: 8,
            queue_max: 1_000,
            deadline: Duration::from_secs(2),
            page_deadline: Duration::from_millis(250),
            memory_max_bytes: 256 << 20,
            precompressed: true,
            static_max_age: Duration::from_hours(365 * 24),
            media_max_age: Duration::from_hours(365 * 24),
        }
    }
}
