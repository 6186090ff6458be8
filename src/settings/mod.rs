//! The configuration: read once from a file and the environment, checked as a whole, then typed.
//!
//! Every setting stands in a file here with its meaning and unit; `config/parvis.toml` shows each with its
//! default, and a test holds the two equal.

mod admission;
mod bots;
mod challenge;
mod covering;
mod cross_checks;
mod default_rules;
mod delivery;
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
mod operation;
mod origin;
mod peers;
mod reader;
mod scalar;
mod sessions;
mod site;
mod sources;
mod store;
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

use std::time::Duration;

pub use admission::{Admission, AdmissionClass, VisitorKind};
pub use bots::{KnownBots, RangesFile};
pub use challenge::Challenge;
pub use delivery::{Encoding, Esi, FragmentError};
pub use error_pages::{ErrorPages, Maintenance};
pub use fleet::{Fleet, HostPort, Redis, RedisServer, RedisUrl};
pub use listen::{Listen, Tls, UnknownMethods};
pub use machine::{memory_limit_bytes, why_not_writable};
pub use mistake::{Mistake, Mistakes, Place, Problem};
pub use network::{Endpoint, Networks};
pub use objects::{Objects, TagSets};
pub use operation::{AccessFormat, AccessLog, Control, Health, Lifecycle, Log};
pub use origin::{Files, Origin};
pub use peers::Peers;
pub use sessions::{Bots, FillCookie, Mode, Sessions};
pub use site::{
    AuthorizationRule, BrowserCache, DebugHeader, MalformedAge, PolicyKind, Site, TtlRule,
};
pub use sources::process_environment;
pub use store::{Fill, Purge, PurgeWithoutPattern, Store};
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
