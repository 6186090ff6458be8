//! `policy = "generic"`: RFC 9111, and nothing of Magento.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::exchange::{Client, Request, Scheme};
use crate::policy::cache_control::CacheControl;
use crate::policy::cache_key::{KeyBuilder, Part};
use crate::policy::seen::Seen;
use crate::policy::{
    Judgement, LookupPlan, OriginHead, Plan, Policy, Refusal, Storable, check_coding, freshness,
    host, path,
};
use crate::reason::Reason;
use crate::settings::AuthorizationRule;

/// What to do with a GET or HEAD.
pub(super) fn plan(policy: &Policy, request: &Request, client: &Client, seen: &Seen<'_>) -> Plan {
    match pass_reason(policy, request, seen) {
        Some(reason) => Plan::Pass(reason),
        None if seen.host.is_empty() => Plan::Refuse(Refusal::MissingHost),
        None if !host::may_be_keyed(seen.host) => Plan::Refuse(Refusal::MisdirectedHost),
        None => Plan::Lookup(lookup(policy, request, client, seen)),
    }
}

fn pass_reason(policy: &Policy, request: &Request, seen: &Seen<'_>) -> Option<Reason> {
    if !policy.store_on {
        Some(Reason::StoreOff)
    } else if seen.has_content {
        Some(Reason::RequestBody)
    } else if path::is_ambiguous(&request.target) {
        Some(Reason::AmbiguousPath)
    } else if policy.bypass_paths.iter().any(|run| run.is_within(request.path())) {
        Some(Reason::BypassPath)
    } else if seen.authorization.is_some() && policy.site.authorization == AuthorizationRule::Pass {
        Some(Reason::Authorization)
    } else if policy.carries_bypass_cookie(request) {
        Some(Reason::BypassCookie)
    } else {
        None
    }
}

fn lookup(policy: &Policy, request: &Request, client: &Client, seen: &Seen<'_>) -> LookupPlan {
    let target = policy.canonical_target(&request.target);
    let mut key = KeyBuilder::new(policy.url(seen.host, &target, 64));
    key.push(Part::Scheme, client.scheme.as_str().as_bytes());
    // A port that is the scheme's own is the same as none (RFC 9110 4.2.3).
    if let Some(port) = seen.port.filter(|port| *port != default_port_digits(client.scheme)) {
        key.push(Part::Port, port);
    }
    policy.push_configured_parts(&mut key, request, seen);
    LookupPlan {
        key: key.finish(),
        target,
        force: policy.forces(seen, client),
        magento_vary: Bytes::new(),
        graphql_cache_id: None,
        authorized: seen.authorization.is_some(),
    }
}

const fn default_port_digits(scheme: Scheme) -> &'static [u8] {
    match scheme {
        Scheme::Http => b"80",
        Scheme::Https => b"443",
    }
}

/// May a shared cache store this response (RFC 9111 3), and for how long?
pub(super) fn judge(
    policy: &Policy,
    plan: &LookupPlan,
    head: &OriginHead,
    received_at: SystemTime,
) -> Judgement {
    match storable(policy, plan, head, received_at) {
        Ok(storable) => Judgement::Store(storable),
        Err(reason) => Judgement::Uncacheable { reason, remember: policy.remembered(reason) },
    }
}

fn storable(
    policy: &Policy,
    plan: &LookupPlan,
    head: &OriginHead,
    received_at: SystemTime,
) -> Result<Storable, Reason> {
    let control = CacheControl::of(&head.fields);
    let status = head.status.as_u16();
    match status {
        206 => return Err(Reason::Partial),
        // A fill is not conditional, so a 304 to it is no answer; 1xx are no final ones.
        ..200 | 304 => return Err(Reason::Status),
        _ => {}
    }
    if control.no_store {
        return Err(Reason::NoStore);
    }
    if control.private {
        return Err(Reason::Private);
    }
    if control.no_cache {
        return Err(Reason::NoCache);
    }
    let shared = control.public || control.must_revalidate || control.s_maxage.is_some();
    if plan.authorized && !shared {
        return Err(Reason::Authorization);
    }
    if head.fields.contains("set-cookie") {
        return Err(Reason::SetCookie);
    }
    check_coding(&head.fields)?;
    policy.check_vary(&head.fields, |_| false)?;
    let lifetime = policy
        .configured_lifetime(&plan.target, head.status)
        .or_else(|| freshness::explicit_lifetime(&control, &head.fields, received_at))
        .or_else(|| {
            freshness::heuristic_lifetime(head.status, &control, &head.fields, received_at)
        });
    let age = freshness::age_on_arrival(&head.fields, received_at);
    let ttl = lifetime.unwrap_or(Duration::ZERO).saturating_sub(age);
    if ttl.is_zero() {
        return Err(Reason::NoLifetime);
    }
    Ok(Storable {
        ttl,
        age,
        tags: Vec::new(),
        pool: None,
        debug: false,
        // s-maxage says what proxy-revalidate says (RFC 9111 5.2.2.10).
        must_revalidate: control.must_revalidate
            || control.proxy_revalidate
            || control.s_maxage.is_some(),
    })
}
