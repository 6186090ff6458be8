//! The outcomes of the rules.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::fields::Fields;
use crate::policy::CacheKey;
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
    /// Refuse it.
    Refuse(Refusal),
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
    pub(super) must_revalidate: bool,
}

impl Storable {
    /// A response to be stored, for tests of what knows no rules.
    #[doc(hidden)]
    pub fn for_tests(ttl: Duration) -> Self {
        Self {
            ttl,
            age: Duration::ZERO,
            tags: Vec::new(),
            pool: None,
            debug: false,
            must_revalidate: false,
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

    /// May it never be served stale (`must-revalidate`, `proxy-revalidate`, generic policy)?
    pub fn must_revalidate(&self) -> bool {
        self.must_revalidate
    }
}
