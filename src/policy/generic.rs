//! `policy = "generic"`: RFC 9111, and nothing of Magento.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::exchange::Scheme;
use crate::fields::Fields;
use crate::policy::cache_control::{CacheControl, Extent};
use crate::policy::cache_key::{KeyBuilder, Part};
use crate::policy::targeted::Directions;
use crate::policy::{
    LookupPlan, OriginHead, Plan, Policy, Refusal, Storable, Subject, Vary, freshness, host, path,
};
use crate::reason::Reason;
use crate::settings::AuthorizationRule;

/// The longest time for which a response may ask to be given stale.
const STALE_MAX: Duration = Duration::from_hours(365 * 24);

/// What to do with a GET or HEAD.
pub(super) fn plan(policy: &Policy, subject: &Subject<'_>) -> Plan {
    let host = subject.seen.host;
    match pass_reason(policy, subject) {
        Some(reason) => Plan::Pass(reason),
        None if host.is_empty() => Plan::Refuse(Refusal::MissingHost),
        None if !host::may_be_keyed(host) => Plan::Refuse(Refusal::MisdirectedHost),
        None => Plan::Lookup(lookup(policy, subject)),
    }
}

fn pass_reason(policy: &Policy, subject: &Subject<'_>) -> Option<Reason> {
    let seen = &subject.seen;
    if !policy.store_on {
        Some(Reason::StoreOff)
    } else if seen.has_content {
        Some(Reason::RequestBody)
    } else if path::is_ambiguous(subject.path, subject.query) {
        Some(Reason::AmbiguousPath)
    } else if policy.bypass_paths.iter().any(|run| run.is_within(subject.path)) {
        Some(Reason::BypassPath)
    } else if seen.authorization.is_some() && policy.site.authorization == AuthorizationRule::Pass {
        Some(Reason::Authorization)
    } else if policy.carries_bypass_cookie(subject.request) {
        Some(Reason::BypassCookie)
    } else {
        None
    }
}

fn lookup(policy: &Policy, subject: &Subject<'_>) -> LookupPlan {
    let Subject { request, client, seen, .. } = subject;
    let target = policy.canonical_target(subject.target);
    let scheme = client.scheme.as_str().as_bytes();
    let room = KeyBuilder::room(scheme.len());
    let mut key = KeyBuilder::new(policy.url(seen.host, &target, room));
    key.push(Part::Scheme, scheme);
    // A port that is the scheme's own is the same as none (RFC 9110 4.2.3).
    if let Some(port) = seen.port.filter(|port| *port != default_port_digits(client.scheme)) {
        key.push(Part::Port, port);
    }
    policy.push_configured_parts(&mut key, request, seen);
    let key = key.finish();
    let range = seen.range.filter(|_| request.method == Method::GET).map(|range| {
        let mut key = KeyBuilder::extending(&key);
        key.push(Part::Range, range);
        key.finish()
    });
    LookupPlan {
        key,
        target,
        force: policy.forces(seen, client),
        magento_vary: Bytes::new(),
        graphql_cache_id: None,
        authorized: seen.authorization.is_some(),
        only_if_cached: seen.only_if_cached,
        range,
    }
}

const fn default_port_digits(scheme: Scheme) -> &'static [u8] {
    match scheme {
        Scheme::Http => b"80",
        Scheme::Https => b"443",
    }
}

/// May a shared cache store this response (RFC 9111 3), and for how long? Or why not?
pub(super) fn storable(
    policy: &Policy,
    plan: &LookupPlan,
    head: &OriginHead,
    received_at: SystemTime,
) -> Result<Storable, Reason> {
    let fields = &head.fields;
    let directions = Directions::of(fields);
    let control = &directions.control;
    check_status(plan, head.status, control)?;
    check_directives(plan, head.status, control)?;
    let is_selecting = |name: &[u8]| !policy.is_in_each_key(name);
    let vary = Vary::of(fields, is_selecting)?;
    if head.status == StatusCode::PARTIAL_CONTENT && vary.is_some() {
        return Err(Reason::Partial);
    }
    let lifetime = policy
        .configured_lifetime(&plan.target, head.status)
        .or_else(|| told_lifetime(&directions, head, received_at));
    let age = freshness::age_on_arrival(fields, policy.site.malformed_age, received_at);
    let ttl = match control.no_cache {
        Extent::Whole => Duration::ZERO,
        Extent::Fields | Extent::Nothing => lifetime.unwrap_or(Duration::ZERO).saturating_sub(age),
    };
    let stale = Stale::of(policy, &directions, fields);
    let has_validator = fields.contains("etag") || fields.contains("last-modified");
    if ttl.is_zero() && !has_validator && stale.grace.is_zero() && stale.if_error.is_zero() {
        let no_cache = control.no_cache == Extent::Whole;
        return Err(if no_cache { Reason::NoCache } else { Reason::NoLifetime });
    }
    Ok(Storable {
        ttl,
        age,
        tags: Vec::new(),
        pool: None,
        debug: false,
        vary,
        grace: stale.grace,
        stale_if_error: stale.if_error,
        stale_if_disconnected: stale.if_disconnected,
        keep: stale.keep,
        withheld: CacheControl::named_fields(fields),
    })
}

/// A final status, which must be one that is understood where the response asks for that
/// (RFC 9111 5.2.2.3); 206 where the request's own range was asked for.
fn check_status(
    plan: &LookupPlan,
    status: StatusCode,
    control: &CacheControl,
) -> Result<(), Reason> {
    match status.as_u16() {
        206 if plan.range.is_none() => Err(Reason::Partial),
        // A 304 that answers no condition of ours is no answer; 1xx are no final ones.
        ..200 | 304 => Err(Reason::Status),
        _ if control.must_understand && !is_understood(status) => Err(Reason::Status),
        _ => Ok(()),
    }
}

/// The statuses that RFC 9110 15 defines, as far as they can be stored.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

fn check_directives(
    plan: &LookupPlan,
    status: StatusCode,
    control: &CacheControl,
) -> Result<(), Reason> {
    // Who understands the status leaves no-store aside (RFC 9111 5.2.2.3).
    if control.no_store && !(control.must_understand && is_understood(status)) {
        return Err(Reason::NoStore);
    }
    if control.private == Extent::Whole {
        return Err(Reason::Private);
    }
    let shared = control.public || control.must_revalidate || control.s_maxage.is_some();
    if plan.authorized && !shared {
        return Err(Reason::Authorization);
    }
    Ok(())
}

fn told_lifetime(
    directions: &Directions,
    head: &OriginHead,
    received_at: SystemTime,
) -> Option<Duration> {
    let control = &directions.control;
    if directions.targeted {
        return control.s_maxage.or(control.max_age);
    }
    freshness::explicit_lifetime(control, &head.fields, received_at)
        .or_else(|| freshness::heuristic_lifetime(head.status, control, &head.fields, received_at))
}

/// For how long a stale response is of use.
struct Stale {
    grace: Duration,
    if_error: Duration,
    if_disconnected: bool,
    keep: Duration,
}

impl Stale {
    /// What the response says (RFC 5861), else `store.grace`; nothing where it must be validated
    /// first (RFC 9111 4.2.4; s-maxage says what proxy-revalidate says, 5.2.2.10).
    fn of(policy: &Policy, directions: &Directions, fields: &Fields) -> Self {
        let control = &directions.control;
        let validate = control.must_revalidate
            || control.proxy_revalidate
            || control.s_maxage.is_some()
            || control.no_cache == Extent::Whole;
        let or_grace = |told: Option<Duration>| {
            if validate { Duration::ZERO } else { told.unwrap_or(policy.grace).min(STALE_MAX) }
        };
        let grace = or_grace(control.stale_while_revalidate);
        let if_error = or_grace(control.stale_if_error);
        let has_validator = fields.contains("etag") || fields.contains("last-modified");
        let of_use = has_validator || !validate;
        let keep = if of_use { policy.keep } else { Duration::ZERO };
        Self { grace, if_error, if_disconnected: !validate, keep: keep.max(grace).max(if_error) }
    }
}
