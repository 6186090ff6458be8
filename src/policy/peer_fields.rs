//! The fields that another node gets, which renders a page for this one.
//!
//! It gets less than the origin does: what a fill carries, without what belongs to one visitor. Of
//! cookies only keyed ones leave this node, never a session; a credential never does, and neither
//! do the visitor's address and where he came from. So what PHP renders by the session (another
//! X-Magento-Vary than the guest's) cannot be rendered elsewhere, though it may be stored there.

use bytes::Bytes;

use crate::exchange::{Client, Request};
use crate::fields::{Field, Fields};
use crate::policy::plan::Purpose;
use crate::policy::{Policy, cookies, magento, origin_fields};
use crate::settings::PolicyKind;

/// What the origin gets and another node does not: it has rules of its own for the host and the
/// way that a request took.
const STAYING: [&str; 11] = [
    "cookie",
    "forwarded",
    "host",
    "proxy-authorization",
    "referer",
    "ssl-offloaded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// A request as another node gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRequest {
    /// Its fields.
    pub fields: Fields,
    /// Its host, with a port only where that is keyed.
    pub authority: Bytes,
    /// May it be rendered there?
    pub may_render: bool,
}

/// `None`: the request cannot be asked for elsewhere, since it is authorised by a credential.
pub(super) fn build(
    policy: &Policy,
    request: &Request,
    client: &Client,
    target: &Bytes,
) -> Option<PeerRequest> {
    let mut fields = origin_fields::build(policy, request, client, target, Purpose::Fill);
    if fields.contains("authorization") || request.fields.contains("authorization") {
        return None;
    }
    let authority = fields.first("host").unwrap_or(&request.authority).clone();
    fields.retain(|field: &Field| !STAYING.iter().any(|name| field.is(name)));
    let by_vary = policy.site.policy == PolicyKind::Magento;
    let vary_cookie = by_vary.then_some(magento::VARY_COOKIE);
    let keyed = policy.site.key_cookies.iter().map(String::as_bytes).chain(vary_cookie);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut may_render = true;
    for wanted in keyed {
        let mut pairs = cookies::pairs(&request.fields);
        if let Some((name, value)) = pairs.find(|(name, _)| *name == wanted) {
            kept.push([name, b"=", value].concat());
            may_render &= !(by_vary && wanted == magento::VARY_COOKIE);
        }
    }
    if !kept.is_empty() {
        fields.push_static("Cookie", kept.join(&b"; "[..]));
    }
    Some(PeerRequest { fields, authority, may_render })
}
