//! Requests: pass or key.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::VARY_COOKIE;
use crate::exchange::Request;
use crate::policy::cache_key::{KeyBuilder, Part};
use crate::policy::seen::Seen;
use crate::policy::{LookupPlan, Plan, Policy, Refusal, Subject, cookies, host, path, query};
use crate::reason::Reason;
use crate::settings::AuthorizationRule;

static IN_COOKIES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(VARY_COOKIE));

/// Which part of Magento a path belongs to, as far as the key depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Area {
    /// The storefront, the admin: everything else.
    Pages,
    /// `/graphql`
    Graphql,
    /// `/rest`
    Rest,
}

impl Area {
    /// By whole segments; the VCL looks for `/graphql` anywhere.
    pub(in crate::policy) fn of(path: &[u8]) -> Self {
        path::segments(path)
            .find_map(|segment| match segment {
                b"graphql" => Some(Self::Graphql),
                b"rest" => Some(Self::Rest),
                _ => None,
            })
            .unwrap_or(Self::Pages)
    }
}

/// What to do with a GET or HEAD.
pub(in crate::policy) fn plan(policy: &Policy, subject: &Subject<'_>) -> Plan {
    let area = Area::of(subject.path);
    let host = subject.seen.host;
    match pass_reason(policy, subject, area) {
        Some(reason) => Plan::Pass(reason),
        None if host.is_empty() => Plan::Refuse(Refusal::MissingHost),
        None if !host::may_be_keyed(host) => Plan::Refuse(Refusal::MisdirectedHost),
        None => Plan::Lookup(lookup(policy, subject, area)),
    }
}

fn pass_reason(policy: &Policy, subject: &Subject<'_>, area: Area) -> Option<Reason> {
    let (path, seen) = (subject.path, &subject.seen);
    // Ambiguity comes first: a path that can be read in two ways must not choose its rule.
    if path::is_ambiguous(subject.path, subject.query) {
        Some(Reason::AmbiguousPath)
    } else if is_health_check(path) {
        Some(Reason::HealthCheck)
    } else if is_static_file(path) {
        Some(Reason::StaticFile)
    } else if seen.has_content {
        Some(Reason::RequestBody)
    } else if is_bypassed(policy, subject) {
        Some(Reason::BypassPath)
    } else if let Some(reason) = authorization_reason(policy, seen, area) {
        Some(reason)
    } else if subject.query.is_some_and(query::has_session_id) {
        Some(Reason::SessionInUrl)
    } else if policy.carries_bypass_cookie(subject.request) {
        Some(Reason::BypassCookie)
    } else if !policy.store_on {
        Some(Reason::StoreOff)
    } else {
        None
    }
}

/// GraphQL with a token is looked up where a cache id says which answers may be shared; a token
/// anywhere else is passed, unless the setting says as the VCL.
fn authorization_reason(policy: &Policy, seen: &Seen<'_>, area: Area) -> Option<Reason> {
    seen.authorization?;
    if area == Area::Graphql && seen.has_bearer() {
        return seen.cache_id.is_none().then_some(Reason::GraphqlToken);
    }
    match policy.site.authorization {
        AuthorizationRule::Pass => Some(Reason::Authorization),
        AuthorizationRule::AsVcl => None,
    }
}

/// `^/(pub/)?health_check.php$`
fn is_health_check(path: &[u8]) -> bool {
    without_pub(path) == b"/health_check.php"
}

/// `^/(pub/)?(media|static)/`
pub(in crate::policy) fn is_static_file(path: &[u8]) -> bool {
    let path = without_pub(path);
    path.starts_with(b"/media/") || path.starts_with(b"/static/")
}

fn without_pub(path: &[u8]) -> &[u8] {
    match path.strip_prefix(b"/pub") {
        Some(rest) if rest.starts_with(b"/") => rest,
        _ => path,
    }
}

fn is_bypassed(policy: &Policy, subject: &Subject<'_>) -> bool {
    if policy.bypass_paths.iter().any(|run| run.is_within(subject.path)) {
        return true;
    }
    // The VCL's `req.url ~ "/customer"`: anywhere, also in the query.
    policy.site.bypass_paths_as_vcl
        && [&b"/customer"[..], b"/checkout"]
            .iter()
            .any(|word| memchr::memmem::find(subject.target, word).is_some())
}

fn lookup(policy: &Policy, subject: &Subject<'_>, area: Area) -> LookupPlan {
    let Subject { request, client, seen, .. } = subject;
    let target = policy.canonical_target(subject.target);
    let graphql_cache_id = seen.cache_id.filter(|_| area == Area::Graphql).cloned();
    let magento_vary = if seen.has_cookies { magento_vary(request) } else { Bytes::new() };
    let scheme = client.scheme.as_str().as_bytes();
    let mut room = KeyBuilder::room(scheme.len());
    if !magento_vary.is_empty() {
        room += KeyBuilder::room(magento_vary.len()) - 1;
    }
    let mut key = KeyBuilder::new(policy.url(seen.host, &target, room));
    key.push(Part::Scheme, scheme);
    if !magento_vary.is_empty() && graphql_cache_id.is_none() {
        key.push(Part::MagentoVary, &magento_vary);
    }
    if seen.is_ajax() {
        key.push(Part::Ajax, b"");
    }
    push_area_parts(&mut key, seen, area);
    policy.push_configured_parts(&mut key, request, seen);
    LookupPlan {
        key: key.finish(),
        target,
        force: policy.forces(seen, client),
        magento_vary,
        graphql_cache_id,
        authorized: seen.authorization.is_some(),
        only_if_cached: seen.only_if_cached,
        range: None,
    }
}

/// What the APIs add to the key. Whatever PHP gets of these headers is in the key, so that
/// nobody's Origin or Accept shapes what others are given.
fn push_area_parts(key: &mut KeyBuilder, seen: &Seen<'_>, area: Area) {
    let mut push = |part, value: Option<&Bytes>| {
        if let Some(value) = value {
            key.push(part, value);
        }
    };
    match area {
        Area::Pages => {}
        Area::Graphql => {
            push(Part::CacheId, seen.cache_id);
            if seen.cache_id.is_some() && seen.has_bearer() {
                // Who stops to send the token no longer gets what was for customers.
                push(Part::Authorized, Some(&Bytes::new()));
            }
            push(Part::Store, seen.store);
            push(Part::Currency, seen.content_currency);
            push(Part::Origin, seen.origin);
        }
        Area::Rest => {
            push(Part::Origin, seen.origin);
            push(Part::Accept, seen.accept);
        }
    }
}

/// The X-Magento-Vary cookie, raw; empty where there is none.
fn magento_vary(request: &Request) -> Bytes {
    // Most visitors are guests: the lines are taken apart only where the name stands in them.
    let mut lines = request.fields.all("cookie").filter(|line| IN_COOKIES.find(line).is_some());
    lines.find_map(|line| cookies::value_in(line, VARY_COOKIE)).unwrap_or_default()
}
