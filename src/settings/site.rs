//! `[site]`

use std::time::Duration;

/// `[site]`: what Magento's users edit their VCL for.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The rules.
    pub policy: PolicyKind,
    /// Hosts that are served (`*.example.com` allowed); empty: all. Others get 421.
    pub hosts: Vec<String>,
    /// Paths that are never stored, by whole segments, besides Magento's own.
    pub bypass_paths: Vec<String>,
    /// Match `/customer` and `/checkout` anywhere in the URL, as the VCL does.
    pub bypass_paths_as_vcl: bool,
    /// Requests that carry one of these cookies are passed.
    pub bypass_cookies: Vec<String>,
    /// Cookies whose values are part of the key.
    pub key_cookies: Vec<String>,
    /// Request headers whose values are part of the key.
    pub key_headers: Vec<String>,
    /// Query parameters that are dropped from key and request, besides Magento's own; a `*` at
    /// the end stands for any rest.
    pub strip_parameters: Vec<String>,
    /// Request headers that a cacheable request carries to PHP besides the built-in list.
    pub forward_headers: Vec<String>,
    /// Regexes on User-Agent; the first that matches is part of the key (Magento's design
    /// exceptions).
    pub design_exceptions: Vec<String>,
    /// Lifetimes by path and status, first match wins.
    pub ttl: Vec<TtlRule>,
    /// `/p/` and `/p` share a stored response.
    pub ignore_trailing_slash: bool,
    /// HTML without tags is stored if its lifetime is at most this.
    pub untagged_ttl_max: Duration,
    /// Store 404 as the older VCLs did.
    pub store_not_found: bool,
    /// How long "uncacheable" is remembered, but for `private` (`hit_for_miss_private`).
    pub hit_for_miss: Duration,
    /// How long `private` is remembered.
    pub hit_for_miss_private: Duration,
    /// Requests with Authorization outside GraphQL: pass them, or look them up as the VCL does.
    pub authorization: AuthorizationRule,
    /// Give the Set-Cookie of a stored response to the one client whose request fetched it.
    pub cookies_to_fetcher: bool,
    /// Cache-Control of pages that are delivered.
    pub browser_cache: BrowserCache,
    /// Deliver Age on hits.
    pub age: bool,
    /// What an Age of the origin that is no single number says.
    pub malformed_age: MalformedAge,
    /// When `X-Magento-Cache-Debug` is sent.
    pub debug_header: DebugHeader,
    /// Send Cache-Status (RFC 9211).
    pub cache_status: bool,
}

/// `site.policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Magento's VCL.
    Magento,
    /// RFC 9111 alone.
    Generic,
}

/// One of `[[site.ttl]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TtlRule {
    /// Path prefix by whole segments; empty: every path.
    pub path: String,
    /// Status; `None`: 200.
    pub status: Option<u16>,
    /// The lifetime; zero: not stored.
    pub ttl: Duration,
}

/// `site.authorization`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationRule {
    /// Pass (RFC 9111 3.5).
    Pass,
    /// Look it up as if the header were not there.
    AsVcl,
}

/// `site.browser_cache`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrowserCache {
    /// `no-store, no-cache, must-revalidate, max-age=0`, as the VCL.
    NoStore,
    /// `must-revalidate, max-age=0`: keeps the browser's back-forward cache working.
    Revalidate,
    /// What the origin said.
    Origin,
}

/// `site.malformed_age`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedAge {
    /// Of a list the first counts, and what is no number says nothing (RFC 9111 5.1).
    Ignore,
    /// The response is stale: a cache on the way is not to be trusted.
    Stale,
}

/// `site.debug_header`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugHeader {
    /// Where Magento sent X-Magento-Debug (developer mode), as the VCL.
    Developer,
    /// On each response.
    Always,
    /// Never.
    Never,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            policy: PolicyKind::Magento,
            hosts: Vec::new(),
            bypass_paths: Vec::new(),
            bypass_paths_as_vcl: false,
            bypass_cookies: Vec::new(),
            key_cookies: Vec::new(),
            key_headers: Vec::new(),
            strip_parameters: Vec::new(),
            forward_headers: Vec::new(),
            design_exceptions: Vec::new(),
            ttl: Vec::new(),
            ignore_trailing_slash: false,
            untagged_ttl_max: Duration::from_mins(2),
            store_not_found: false,
            hit_for_miss: Duration::from_mins(2),
            hit_for_miss_private: Duration::from_hours(24),
            authorization: AuthorizationRule::Pass,
            cookies_to_fetcher: false,
            browser_cache: BrowserCache::NoStore,
            age: false,
            malformed_age: MalformedAge::Ignore,
            debug_header: DebugHeader::Developer,
            cache_status: true,
        }
    }
}
