//! Responses: store or not.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{Area, vary_cookie};
use crate::exchange::split_target;
use crate::fields::Fields;
use crate::policy::cache_control::CacheControl;
use crate::policy::{
    LookupPlan, OriginHead, Policy, Storable, Vary, check_coding, freshness, tags,
};
use crate::reason::Reason;

/// Does a response say something of the one visitor who asked, so that the key is not remembered as
/// uncacheable for all?
///
/// A changed X-Magento-Vary under a guest's key does: it tells about the one visitor whose
/// session and cookie disagree, and the key is that of all guests, who must go on to share one
/// fetch. Under a value of X-Magento-Vary it does not: whoever holds that value (bogus, or outdated
/// for a whole customer group) would queue behind a fetch that nobody can share. A mismatched cache
/// id does, as in the VCL: the client sends the new one next.
pub(in crate::policy) fn is_of_one_visitor(plan: &LookupPlan, reason: Reason) -> bool {
    match reason {
        Reason::MagentoVary => plan.magento_vary.is_empty(),
        Reason::GraphqlCacheId => true,
        _ => false,
    }
}

/// May the response be stored, or why not?
pub(in crate::policy) fn storable(
    policy: &Policy,
    plan: &LookupPlan,
    head: &OriginHead,
    received_at: SystemTime,
) -> Result<Storable, Reason> {
    let fields = &head.fields;
    let configured = policy.configured_lifetime(&plan.target, head.status);
    check_status(policy, head.status, configured.is_some())?;
    let lifetime = match (lifetime(fields, received_at)?, configured) {
        (_, Some(configured)) => configured,
        (told, None) => told.ok_or(Reason::NoLifetime)?,
    };
    let age = freshness::stated_age(fields, policy.site.malformed_age);
    let ttl = lifetime.saturating_sub(age);
    if ttl.is_zero() {
        return Err(Reason::NoLifetime);
    }
    let (path, _) = split_target(&plan.target);
    let vary = selecting(policy, fields, Area::of(path))?;
    check_coding(fields)?;
    check_variant(plan, fields, received_at)?;
    let tags = tags::of(fields);
    if tags.is_empty() && is_page(head) && lifetime > policy.site.untagged_ttl_max {
        return Err(Reason::Untagged);
    }
    if tags.len() > policy.tags_max {
        // With some of its tags left out a purge would miss it.
        return Err(Reason::TooLarge);
    }
    Ok(Storable {
        ttl,
        age,
        tags,
        pool: fields.first("x-pool").cloned(),
        debug: fields.contains("x-magento-debug"),
        vary,
        grace: policy.grace,
        stale_if_error: policy.keep,
        stale_if_disconnected: true,
        keep: policy.keep,
        withheld: Vec::new(),
    })
}

/// Success and redirects; 404 where the settings say so. No error status is stored by itself, so
/// that no malformed request can leave an error behind for others.
fn check_status(policy: &Policy, status: StatusCode, configured: bool) -> Result<(), Reason> {
    match status.as_u16() {
        206 => Err(Reason::Partial),
        200 | 203 | 204 | 300 | 301 | 302 | 307 | 308 => Ok(()),
        404 if policy.site.store_not_found => Ok(()),
        _ if configured => Ok(()),
        _ => Err(Reason::Status),
    }
}

/// What the response says about its lifetime: Surrogate-Control before Cache-Control, but for
/// `private`, which nothing overrides. No setting overrides "do not store" either; a response that
/// says nothing at all has no lifetime (Varnish would give it its default of 120 s).
fn lifetime(fields: &Fields, received_at: SystemTime) -> Result<Option<Duration>, Reason> {
    let control = CacheControl::of(fields);
    let surrogate = CacheControl::of_surrogate(fields);
    if control.private.is_there() {
        return Err(Reason::Private);
    }
    let strictest = surrogate.unwrap_or(control);
    if strictest.no_store {
        return Err(Reason::NoStore);
    }
    if strictest.no_cache.is_there() {
        return Err(Reason::NoCache);
    }
    let told = surrogate.and_then(|surrogate| surrogate.max_age);
    Ok(told.or_else(|| freshness::explicit_lifetime(&control, fields, received_at)))
}

/// By which headers that are not in the key the response varies. Only those that PHP got can
/// tell variants apart.
fn selecting(policy: &Policy, fields: &Fields, area: Area) -> Result<Option<Vary>, Reason> {
    let is_selecting =
        |name: &[u8]| !policy.is_in_each_key(name) && !is_keyed(area, name) && !is(name, CODING);
    let vary = Vary::of(fields, is_selecting)?;
    let is_forwarded = |name: &[u8]| {
        is(name, "user-agent") || policy.site.forward_headers.iter().any(|own| is(name, own))
    };
    match vary {
        Some(vary) if !vary.names().all(is_forwarded) => Err(Reason::Vary),
        vary => Ok(vary),
    }
}

/// Fills ask for identity, and the coding is chosen at delivery.
const CODING: &str = "accept-encoding";

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

/// What an area adds to the key, and PHP may so vary by.
fn is_keyed(area: Area, name: &[u8]) -> bool {
    let by_area: &[&str] = match area {
        Area::Pages => &[],
        Area::Graphql => &["x-magento-cache-id", "store", "content-currency", "origin"],
        Area::Rest => &["origin", "accept"],
    };
    is(name, "x-requested-with") || by_area.iter().any(|own| is(name, own))
}

/// Is it the response of the variant that was asked for?
fn check_variant(
    plan: &LookupPlan,
    fields: &Fields,
    received_at: SystemTime,
) -> Result<(), Reason> {
    if let Some(asked) = &plan.graphql_cache_id {
        let answered = fields.first("x-magento-cache-id");
        return if answered == Some(asked) { Ok(()) } else { Err(Reason::GraphqlCacheId) };
    }
    let changed = vary_cookie::is_changed(&plan.magento_vary, fields, received_at);
    if changed { Err(Reason::MagentoVary) } else { Ok(()) }
}

/// HTML that a visitor looks at; what says no type may be sniffed to be that. A redirect has
/// nothing that a purge could be for.
fn is_page(head: &OriginHead) -> bool {
    if !head.status.is_success() && !head.status.is_client_error() {
        return false;
    }
    let Some(content_type) = head.fields.first("content-type") else {
        return true;
    };
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    let media_type = media_type.trim_ascii();
    media_type.eq_ignore_ascii_case(b"text/html")
        || media_type.eq_ignore_ascii_case(b"application/xhtml+xml")
}
