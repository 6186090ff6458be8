//! The outcomes of the rules.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::fields::{Field, Fields};
use crate::policy::{CacheKey, Vary};
use crate::reason::Reason;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Ask the store.
    Lookup(LookupPlan),
    /// Send it to the origin as it is.
    Pass(Reason),
    /// It is a purge.
    Purge,
    /// The load balancer asks whether this server is ready.
    Health,
    /// The shop is being worked on.
    Maintenance,
    /// Refuse it.
    Refuse(Refusal),
}

impl Plan {
    /// Do the rules of `[traffic]` judge such a request? Not what the balancer, an operator or Magento asks.
    pub fn is_judged(&self) -> bool {
        match self {
            Self::Lookup(_) => true,
            Self::Pass(reason) => *reason != Reason::HealthCheck,
            Self::Purge | Self::Health | Self::Maintenance | Self::Refuse(_) => false,
        }
    }
}

/// A request that may be answered from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupPlan {
    /// The key.
    pub key: CacheKey,
    /// The target as the origin gets it: sorted query, without marketing parameters.
    pub target: Bytes,
    /// An allowed client asked for a fetch which replaces what is stored.
    pub force: bool,
    /// The request's X-Magento-Vary, empty where it has none.
    pub magento_vary: Bytes,
    /// For GraphQL: the request's X-Magento-Cache-Id, if it has one.
    pub graphql_cache_id: Option<Bytes>,
    /// The request carries Authorization, so only some responses may be shared (RFC 9111 3.5).
    pub authorized: bool,
    /// `Cache-Control: only-if-cached`: 504 where nothing is stored (RFC 9111 5.2.1.7).
    pub only_if_cached: bool,
    /// Generic policy: the key under which a 206 to this request's Range is kept, as long as the
    /// whole is not.
    pub range: Option<CacheKey>,
}

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 421: the host is none of `site.hosts`.
    MisdirectedHost,
    /// 501: a method we do not know.
    UnknownMethod,
    /// 405: CONNECT or TRACE.
    MethodNotAllowed,
    /// 400: no Host where the key needs one.
    MissingHost,
}

/// Why the origin is asked; decides which of the client's fields it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For the store, on behalf of everybody: only keyed and allowed fields, no Range, no
    /// conditions, no Accept-Encoding.
    Fill,
    /// For one client.
    Pass,
}

/// Whose response it is that is delivered; decides which fields the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// One that is stored, for everybody.
    Stored,
    /// One for a single client: passed, or found uncacheable.
    Uncached,
    /// A static or media file, which browsers may keep.
    StaticFile,
}

impl Delivery {
    /// How the response to a pass is delivered.
    pub fn of_pass(reason: Reason) -> Self {
        match reason {
            Reason::StaticFile => Self::StaticFile,
            _ => Self::Uncached,
        }
    }
}

/// The head of a response from the origin.
#[derive(Clone, Debug)]
pub struct OriginHead {
    /// Its status.
    pub status: StatusCode,
    /// Its fields as they came.
    pub fields: Fields,
}

/// What a response to a [`LookupPlan`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Keep it.
    Store(Storable),
    /// Give it to the client who asked, and remember for `remember` that requests for this key
    /// need not wait for each other.
    Uncacheable {
        /// Why.
        reason: Reason,
        /// How long this is remembered; zero: not at all.
        remember: Duration,
    },
}

/// A response that may be stored; only the rules build it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storable {
    pub(super) ttl: Duration,
    pub(super) age: Duration,
    pub(super) tags: Vec<Bytes>,
    pub(super) pool: Option<Bytes>,
    pub(super) debug: bool,
    pub(super) vary: Option<Vary>,
    pub(super) grace: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) stale_if_disconnected: bool,
    pub(super) keep: Duration,
    pub(super) withheld: Vec<Vec<u8>>,
}

impl Storable {
    /// A response to be stored, for tests of what knows no rules.
    #[doc(hidden)]
    pub fn for_tests(ttl: Duration) -> Self {
        Self { ttl, ..Self::never() }
    }

    /// A response that is delivered once and not stored.
    pub fn never() -> Self {
        Self {
            ttl: Duration::ZERO,
            age: Duration::ZERO,
            tags: Vec::new(),
            pool: None,
            debug: false,
            vary: None,
            grace: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_disconnected: false,
            keep: Duration::ZERO,
            withheld: Vec::new(),
        }
    }

    /// The lifetime, counted from now.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The age it had on arrival (RFC 9111 4.2.3).
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Its tags in order, without empty and repeated ones.
    pub fn tags(&self) -> &[Bytes] {
        &self.tags
    }

    /// Its `X-Pool`.
    pub fn pool(&self) -> Option<&Bytes> {
        self.pool.as_ref()
    }

    /// Did Magento send `X-Magento-Debug` (developer mode)?
    pub fn debug(&self) -> bool {
        self.debug
    }

    /// By which headers of the request it was selected, besides those that are in its key.
    pub fn vary(&self) -> Option<&Vary> {
        self.vary.as_ref()
    }

    /// How long past its lifetime it may be served while one fetch refreshes it.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// How long past its lifetime it may be served where the origin answers with an error.
    pub fn stale_if_error(&self) -> Duration {
        self.stale_if_error
    }

    /// May it be served stale where the origin cannot be reached (RFC 9111 4.2.4)?
    pub fn stale_if_disconnected(&self) -> bool {
        self.stale_if_disconnected
    }

    /// How long past its lifetime it is worth keeping: for grace, and to be validated.
    pub fn keep(&self) -> Duration {
        self.keep
    }

    /// Is this field for nobody but the client whose request fetched the response?
    pub fn withholds(&self, field: &Field) -> bool {
        self.withheld.iter().any(|name| field.name.eq_ignore_ascii_case(name))
    }
}
