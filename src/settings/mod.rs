//! The configuration: read once from a file and the environment, checked as a whole, then typed.
//!
//! Every setting stands here with its meaning and unit; `config/parvis.toml` shows each with its
//! default, and a test holds the two equal.

mod admission;
mod bots;
mod challenge;
mod covering;
mod cross_checks;
mod default_rules;
mod error_pages;
#[cfg(feature = "faulty")]
pub mod faulty;
mod fleet;
mod listen;
mod load;
mod machine;
mod mistake;
mod nearest;
mod network;
mod objects;
mod origin;
mod peers;
mod reader;
mod scalar;
mod sessions;
mod site;
mod sources;
mod syntax;
mod table_lists;
mod tables;
#[cfg(test)]
mod tests;
mod traffic;
mod traffic_rules;
mod units;
mod waiting_room;
mod warm;
mod words;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use admission::{Admission, AdmissionClass, VisitorKind};
pub use bots::{KnownBots, RangesFile};
pub use challenge::Challenge;
pub use error_pages::{ErrorPages, Maintenance};
pub use fleet::{Fleet, HostPort, Redis, RedisServer, RedisUrl};
pub use listen::{Listen, UnknownMethods};
pub use machine::memory_limit_bytes;
pub use mistake::{Mistake, Mistakes, Place, Problem};
pub use network::{Endpoint, Networks};
pub use objects::{Objects, TagSets};
pub use origin::Origin;
pub use peers::Peers;
pub use sessions::{Bots, FillCookie, Mode, Sessions};
pub use site::{
    AuthorizationRule, BrowserCache, DebugHeader, MalformedAge, PolicyKind, Site, TtlRule,
};
pub use sources::process_environment;
pub use traffic::{
    Action, Beyond, EARLIER_SECRETS_MAX, HeaderMatch, HeaderWants, LimitRule, Per, Rate, Replaced,
    Traffic, TrafficRule, WhoKind,
};
pub use traffic_rules::{
    HEADERS_MAX, RULES_MAX as TRAFFIC_RULES_MAX, TOGETHER_MAX as TRAFFIC_TOGETHER_MAX,
};
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use waiting_room::{RoomMode, Span, WaitingRoom};
pub use warm::Warm;

/// All settings, valid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[site]`
    pub site: Site,
    /// `[origin]`
    pub origin: Origin,
    /// `[admission]`
    pub admission: Admission,
    /// `[traffic]`
    pub traffic: Traffic,
    /// `[bots]`
    pub bots: KnownBots,
    /// `[error_pages]`
    pub error_pages: ErrorPages,
    /// `[maintenance]`
    pub maintenance: Maintenance,
    /// `[challenge]`
    pub challenge: Challenge,
    /// `[waiting_room]`
    pub waiting_room: WaitingRoom,
    /// `[files]`
    pub files: Files,
    /// `[store]`
    pub store: Store,
    /// `[fill]`
    pub fill: Fill,
    /// `[esi]`
    pub esi: Esi,
    /// `[encoding]`
    pub encoding: Encoding,
    /// `[purge]`
    pub purge: Purge,
    /// `[redis]`
    pub redis: Redis,
    /// `[fleet]`
    pub fleet: Fleet,
    /// `[sessions]`
    pub sessions: Sessions,
    /// `[objects]`
    pub objects: Objects,
    /// `[health]`
    pub health: Health,
    /// `[control]`
    pub control: Control,
    /// `[log]`
    pub log: Log,
    /// `[lifecycle]`
    pub lifecycle: Lifecycle,
}

impl Settings {
    /// What holds where nothing is set. The generic policy is RFC 9111 alone, so it tells the age,
    /// gives nothing stale that the response does not allow, asks the store for requests with
    /// Authorization (RFC 9111 3.5 decides what is stored for them), passes methods it does not
    /// know, and leaves the bytes as they are.
    pub fn defaults_of(policy: PolicyKind) -> Self {
        let mut settings = Self::default();
        settings.site.policy = policy;
        if policy == PolicyKind::Generic {
            settings.listen.unknown_methods = UnknownMethods::Pass;
            settings.site.age = true;
            settings.site.authorization = AuthorizationRule::AsVcl;
            settings.store.grace = Duration::ZERO;
            settings.encoding.gzip = false;
            settings.encoding.brotli = false;
        }
        settings
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

/// `[store]`: stored responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Bytes for everything that is stored; zero switches storing off.
    pub memory_bytes: u64,
    /// Bytes of the largest response that is stored.
    pub object_max_bytes: u64,
    /// How long past its lifetime a response is served while one fetch refreshes it.
    pub grace: Duration,
    /// How long past its lifetime a response is kept, to be served while the origin is sick.
    pub keep: Duration,
    /// Tags of one response.
    pub tags_max: usize,
    /// Purged tags that are remembered for the fence.
    pub purged_tags_max: usize,
    /// Purges by regex that are remembered for the fence.
    pub purged_patterns_max: usize,
    /// Ranges of one request that are cut from a stored response; zero: none.
    pub ranges_max: usize,
    /// Where snapshots are kept over a stop and start; empty: none are.
    pub snapshot_directory: PathBuf,
    /// Between two snapshots; zero: one is written at the stop alone.
    pub snapshot_interval: Duration,
    /// Bytes of a snapshot.
    pub snapshot_max_bytes: u64,
    /// Bytes that are written in a second while the server serves.
    pub snapshot_rate_bytes: u64,
    /// How long the snapshot at the stop may take.
    pub snapshot_timeout: Duration,
}

impl Store {
    /// Bytes that the content of a stored response takes at most, in all the forms that are kept of it.
    pub fn forms_max_bytes(&self) -> u64 {
        const FORMS: u64 = 3;
        self.object_max_bytes.saturating_mul(FORMS)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            object_max_bytes: 8 << 20,
            grace: Duration::from_mins(5),
            keep: Duration::from_hours(72),
            tags_max: 10_000,
            purged_tags_max: 100_000,
            purged_patterns_max: 16,
            ranges_max: 16,
            snapshot_directory: PathBuf::new(),
            snapshot_interval: Duration::from_mins(10),
            snapshot_max_bytes: 1 << 30,
            snapshot_rate_bytes: 32 << 20,
            snapshot_timeout: Duration::from_secs(10),
        }
    }
}

/// `[fill]`: one fetch per key.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    /// After this a leader that has not answered is superseded by the next request.
    pub leader_timeout: Duration,
    /// After this a waiter fetches for itself, unstored.
    pub wait_timeout: Duration,
    /// After this a request for which something stale is stored gets that; the fetch goes on.
    pub stale_after: Duration,
    /// Requests that wait for one fetch.
    pub waiters_max: usize,
    /// Background refreshes at once.
    pub refreshes_max: usize,
    /// After one that failed its page is not refreshed in the background for so long.
    pub refresh_pause: Duration,
}

impl Default for Fill {
    fn default() -> Self {
        Self {
            leader_timeout: Duration::from_secs(30),
            wait_timeout: Duration::from_mins(1),
            stale_after: Duration::from_secs(5),
            waiters_max: 10_000,
            refreshes_max: 8,
            refresh_pause: Duration::from_secs(5),
        }
    }
}

/// `[esi]`
#[derive(Clone, Debug, PartialEq)]
pub struct Esi {
    /// Take includes apart and join them.
    pub enabled: bool,
    /// Fragments within fragments.
    pub depth_max: usize,
    /// Includes of one response.
    pub includes_max: usize,
    /// Includes of one page and of all fragments within it.
    pub total_max: usize,
    /// Fragments of one response that are fetched at the same time.
    pub concurrency_max: usize,
    /// For one source of a fragment, content included; beyond it the source has failed.
    pub timeout: Duration,
    /// What becomes of a page when a fragment fails.
    pub on_error: FragmentError,
    /// Bytes of one ESI tag; what is longer is left out.
    pub tag_max_bytes: usize,
    /// Bytes within one `<esi:remove>`; a longer one counts as never ended.
    pub remove_max_bytes: usize,
}

/// `esi.on_error`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentError {
    /// The page goes on without the fragment.
    Continue,
    /// The page fails.
    Fail,
}

impl Default for Esi {
    fn default() -> Self {
        Self {
            enabled: true,
            depth_max: 3,
            includes_max: 32,
            total_max: 64,
            concurrency_max: 8,
            timeout: Duration::from_secs(30),
            on_error: FragmentError::Continue,
            tag_max_bytes: 8 << 10,
            remove_max_bytes: 64 << 10,
        }
    }
}

/// `[encoding]`
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// Compress text with gzip. Unless it is set: in the Magento policy, not in the generic one.
    pub gzip: bool,
    /// 1 to 9.
    pub gzip_level: u32,
    /// Keep stored text in brotli as well. Unless it is set: as `gzip`.
    pub brotli: bool,
    /// 2 to 11.
    pub brotli_level: u32,
    /// Keep stored text without includes in zstd as well.
    pub zstd: bool,
    /// 1 to 19.
    pub zstd_level: u32,
    /// Bytes below which nothing is compressed.
    pub min_bytes: u64,
    /// Largest ratio of decoded to encoded bytes that is accepted from an origin.
    pub ratio_max: u64,
    /// Bytes of a streamed response that may wait between joining or coding it and its client.
    pub buffer_max_bytes: usize,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            gzip: true,
            gzip_level: 6,
            brotli: true,
            brotli_level: 5,
            zstd: false,
            zstd_level: 6,
            min_bytes: 1_024,
            ratio_max: 100,
            buffer_max_bytes: 64 << 10,
        }
    }
}

/// `[purge]`
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// Who may send PURGE to a public listener.
    pub allow: Networks,
    /// A PURGE without a pattern.
    pub without_pattern: PurgeWithoutPattern,
    /// Bytes of a pattern that is a real regex once compiled.
    pub regex_max_bytes: usize,
    /// A purge is applied again after so long, since Magento may send it before its transaction
    /// is visible; zero: it is not.
    pub echo: Duration,
    /// Tags and other scopes that wait to be applied again; beyond it everything tagged is marked
    /// stale then.
    pub echoes_max: usize,
}

/// `purge.without_pattern`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeWithoutPattern {
    /// 400, as the VCL.
    Refuse,
    /// Purge the URL with all its variants.
    Url,
}

impl Default for Purge {
    fn default() -> Self {
        Self {
            allow: Networks::loopback(),
            without_pattern: PurgeWithoutPattern::Refuse,
            regex_max_bytes: 1 << 20,
            echo: Duration::from_secs(2),
            echoes_max: 100_000,
        }
    }
}

/// `[health]`
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Answered on the public listener, for the load balancer.
    pub path: String,
    /// The origin's check; `None`: `/health_check.php` in the Magento policy, none in the
    /// generic one. Empty: none.
    pub probe: Option<String>,
    /// Between two probes.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Probes that are looked at.
    pub window: usize,
    /// Of them, how many must have passed.
    pub threshold: usize,
    /// The origin's socket refusing for this long makes this server not ready.
    pub refused: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: "/.parvis/ready".to_owned(),
            probe: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            window: 10,
            threshold: 5,
            refused: Duration::from_secs(10),
        }
    }
}

/// `[control]`
#[derive(Clone, Default, PartialEq)]
pub struct Control {
    /// Bearer token of the purge API; empty: only `purge.allow` may use it.
    pub token: String,
}

/// Without the token.
impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_empty() { "unset" } else { "hidden" };
        formatter.debug_struct("Control").field("token", &format_args!("{token}")).finish()
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Least level of the messages on stderr, as `tracing` filters take it.
    pub level: String,
    /// Where the access log goes.
    pub access: AccessLog,
    /// Its format.
    pub format: AccessFormat,
    /// Lines that may wait to be written; more are dropped and counted.
    pub queue_max: usize,
    /// Log IPv4 addresses as /24 and IPv6 as /48.
    pub shorten_addresses: bool,
}

/// `log.access`
#[derive(Clone, Debug, PartialEq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Standard output.
    Stdout,
    /// A file, opened again at SIGHUP.
    File(PathBuf),
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// The combined log format.
    Combined,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            access: AccessLog::Stdout,
            format: AccessFormat::Json,
            queue_max: 65_536,
            shorten_addresses: false,
        }
    }
}

/// `[lifecycle]`
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    /// Worker threads; 0: one per core this process may use.
    pub threads: usize,
    /// After SIGTERM: how long to go on serving while reporting "not ready" (the load balancer's
    /// deregistration delay).
    pub drain: Duration,
    /// Then: how long requests in flight may take.
    pub deadline: Duration,
    /// How long a new process may take until it serves in place of this one.
    pub restart_timeout: Duration,
    /// How much of that it may wait for what this one has stored.
    pub restart_fill: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            threads: 0,
            drain: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            restart_timeout: Duration::from_secs(60),
            restart_fill: Duration::from_secs(15),
        }
    }
}
