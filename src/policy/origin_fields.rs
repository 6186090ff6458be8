//! The fields that the origin gets.
//!
//! A **fill** is a request on behalf of everybody. In the Magento policy it carries only what is in
//! the key, or what is on this list (each from the first line of its name):
//!
//! | header | why it may pass without being in the key |
//! | --- | --- |
//! | Host | the host is keyed; its port is kept only where it is the port the client is known to have used |
//! | X-Forwarded-For, -Proto, -Port | rebuilt from what trusted hops say; the scheme is keyed |
//! | Cookie | PHP needs the session to render the variant that the keyed X-Magento-Vary names; a response that belongs to another variant is not stored; a guest's fill goes without the session ([`super::session`]) |
//! | User-Agent | sessions may be bound to it, bots get short ones, design exceptions read it (and those are keyed) |
//! | Referer of this host | uncacheable redirects lead back to it |
//! | `X-Requested-With: XMLHttpRequest` | keyed; some answers exist for scripts alone |
//! | Authorization | where the rules look such a request up at all |
//! | GraphQL: X-Magento-Cache-Id, Store, Content-Currency, Origin | keyed |
//! | GraphQL: Content-Type: application/json | older versions ask for it; any other value is left out |
//! | REST: Accept, Origin | keyed |
//! | `site.key_headers` | keyed |
//! | `site.forward_headers` | the administrator says so |
//!
//! In the generic policy a fill carries what came, without conditions, Range and the headers by
//! which frameworks let a client override host, URL or method; without Accept-Encoding where we
//! compress ourselves.
//!
//! A **pass** carries what came. In both cases hop-by-hop fields end here, forwarding headers are
//! rebuilt, and names with `_` are dropped: PHP could not tell them from those with `-`.

use bytes::Bytes;

use crate::exchange::{ADDRESS_MAX_BYTES, Client, Request, Scheme, split_target, write_address};
use crate::fields::{Field, Fields, Names};
use crate::policy::client::default_port;
use crate::policy::magento::{Area, is_static_file};
use crate::policy::plan::Purpose;
use crate::policy::seen::{AJAX, Seen};
use crate::policy::{Policy, cookies, host};
use crate::settings::PolicyKind;

/// Options of Connection that are looked at; a request has two at most.
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Fields that end here (RFC 9110 7.6.1), with Expect, which each connection does anew, and `Proxy`,
/// which CGI would turn into `HTTP_PROXY`. Host has a rule of its own.
const ENDING_HERE: Names = Names::new(&[
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "proxy",
    "host",
]);

/// Headers by which a proxy or a framework names another client, host, URL or method.
const OVERRIDING: Names = Names::new(&[
    "forwarded",
    "front-end-https",
    "ssl-offloaded",
    "x-forwarded-by",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-url-scheme",
]);

/// Of them those that no hop has a reason to send: a URL other than the one the rules looked at.
const OVERRIDING_URL: Names = Names::new(&["x-original-url", "x-rewrite-url"]);

/// Of them those that a client may send on a request of its own.
const OVERRIDING_METHOD: Names =
    Names::new(&["x-http-method", "x-http-method-override", "x-method-override"]);

/// What a fill never carries: it wants the whole response in identity, and has no content.
const NOT_FOR_FILLS: Names = Names::new(&[
    "accept-encoding",
    "cache-control",
    "content-length",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
]);

/// Fields that Connection may not name, besides those that begin as in [`PROTECTED_PREFIXES`]: they
/// are meant for the origin (RFC 9110 7.6.1 forbids to name them), and the rules have read them.
const PROTECTED: Names = Names::new(&[
    "authorization",
    "cache-control",
    "cookie",
    "forwarded",
    "origin",
    "pragma",
    "range",
    "referer",
    "ssl-offloaded",
    "store",
    "user-agent",
    "x-real-ip",
]);
const PROTECTED_PREFIXES: [&str; 6] =
    ["accept", "content-", "if-", "x-forwarded-", "x-magento-", "x-requested-"];

/// See the module's text.
pub(super) fn build(
    policy: &Policy,
    request: &Request,
    client: &Client,
    target: &Bytes,
    purpose: Purpose,
) -> Fields {
    let magento = policy.site.policy == PolicyKind::Magento;
    let mut fields = Fields::with_capacity(request.fields.len() + 4);
    match purpose {
        Purpose::Fill if magento => {
            fill_for_magento(policy, request, client, target, &mut fields);
        }
        Purpose::Fill => {
            let keeps = |field: &Field| {
                let codes = field.is("accept-encoding") && !policy.identity_pages;
                codes || (!is_one_of(field, &OVERRIDING) && !is_one_of(field, &NOT_FOR_FILLS))
            };
            push_end_to_end(request, client, keeps, &mut fields);
        }
        Purpose::Pass => {
            let (path, _) = split_target(target);
            let identity = policy.identity_pages && !is_static_file(path);
            let keeps = |field: &Field| {
                !(identity && field.is("accept-encoding")) && may_override(field, client)
            };
            push_end_to_end(request, client, keeps, &mut fields);
        }
    }
    // With the generic policy and storing off this is a transparent proxy: nothing is added.
    if magento || policy.store_on {
        push_missing_forwarding(client, &mut fields);
    }
    fields
}

fn fill_for_magento(
    policy: &Policy,
    request: &Request,
    client: &Client,
    target: &Bytes,
    fields: &mut Fields,
) {
    let seen = Seen::of(request);
    let area = Area::of(split_target(target).0);
    if !request.authority.is_empty() {
        fields.push_static("Host", keyed_authority(request, client));
    }
    let mut push = |name: &'static str, value: Option<&Bytes>| {
        if let Some(value) = value {
            fields.push_static(name, value.clone());
        }
    };
    push("User-Agent", seen.user_agent);
    push("Authorization", seen.authorization);
    if seen.is_ajax() {
        push("X-Requested-With", Some(&Bytes::from_static(AJAX.as_bytes())));
    }
    push("Referer", request.fields.first("referer").filter(|url| is_of_host(url, seen.host)));
    match area {
        Area::Pages => {}
        Area::Graphql => {
            push("X-Magento-Cache-Id", seen.cache_id);
            push("Store", seen.store);
            push("Content-Currency", seen.content_currency);
            push("Origin", seen.origin);
            push(
                "Content-Type",
                request.fields.first("content-type").filter(|value| is_json(value)),
            );
        }
        Area::Rest => {
            push("Accept", seen.accept);
            push("Origin", seen.origin);
        }
    }
    let https = client.trusted_peer && client.scheme == Scheme::Https;
    push("Ssl-Offloaded", request.fields.first("ssl-offloaded").filter(|_| https));
    push("Cookie", cookies::joined(&request.fields).as_ref());
    for name in policy.site.key_headers.iter().chain(&policy.site.forward_headers) {
        let known = fields.contains(name);
        fields.extend(request.fields.iter().filter(|field| !known && field.is(name)).cloned());
    }
}

/// The host that is in the key, with a port only where the client is known to have used that port:
/// a port that Host alone names would end up in the links of a page that others are given.
fn keyed_authority(request: &Request, client: &Client) -> Bytes {
    let (host, port) = host::split_authority(&request.authority);
    let known = client.server_port != default_port(client.scheme)
        && port.is_some_and(|port| port == client.server_port.to_string().as_bytes());
    let authority = if known { &request.authority[..] } else { host };
    if authority.iter().any(u8::is_ascii_uppercase) {
        return authority.to_ascii_lowercase().into();
    }
    request.authority.slice_ref(authority)
}

/// The lines that do not end here, in order and case; Host with what was checked as its value.
fn push_end_to_end(
    request: &Request,
    client: &Client,
    keeps: impl Fn(&Field) -> bool,
    fields: &mut Fields,
) {
    let authority = &request.authority;
    // HTTP/2 names the host in a field of its own.
    if !authority.is_empty() && !request.fields.contains("host") {
        fields.push_static("Host", authority.clone());
    }
    let options: Vec<&[u8]> =
        request.fields.list("connection").take(CONNECTION_OPTIONS_MAX).collect();
    for field in &request.fields {
        if field.is("host") {
            if !fields.contains("host") {
                fields.push(field.name.clone(), authority.clone());
            }
        } else if let Some(rebuilt) = rebuilt(field, client) {
            // What a stranger sends ends here; so does a second line.
            let name = std::str::from_utf8(&field.name).unwrap_or_default();
            if client.trusted_peer && !fields.contains(name) {
                fields.push(field.name.clone(), rebuilt);
            }
        } else if !ends_here(field, &options) && keeps(field) {
            fields.extend([field.clone()]);
        }
    }
}

/// The value that a forwarding header has for the origin; `None` for any other field.
fn rebuilt(field: &Field, client: &Client) -> Option<Bytes> {
    if field.is("x-forwarded-for") {
        Some(client.forwarded_for())
    } else if field.is("x-forwarded-proto") {
        Some(Bytes::from_static(client.scheme.as_str().as_bytes()))
    } else if field.is("x-forwarded-port") {
        Some(port(client))
    } else if field.is("x-real-ip") {
        let mut address = Vec::with_capacity(ADDRESS_MAX_BYTES);
        write_address(&mut address, client.address);
        Some(address.into())
    } else {
        None
    }
}

fn push_missing_forwarding(client: &Client, fields: &mut Fields) {
    if !fields.contains("x-forwarded-for") {
        fields.push_static("X-Forwarded-For", client.forwarded_for());
    }
    if !fields.contains("x-forwarded-proto") {
        fields.push_static("X-Forwarded-Proto", client.scheme.as_str());
    }
    if !fields.contains("x-forwarded-port") {
        fields.push_static("X-Forwarded-Port", port(client));
    }
}

fn port(client: &Client) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(client.server_port).as_bytes())
}

fn ends_here(field: &Field, connection_options: &[&[u8]]) -> bool {
    is_one_of(field, &ENDING_HERE)
        || field.name.contains(&b'_')
        || (connection_options.iter().any(|option| field.name.eq_ignore_ascii_case(option))
            && !is_protected(field))
}

fn is_protected(field: &Field) -> bool {
    is_one_of(field, &PROTECTED)
        || PROTECTED_PREFIXES.iter().any(|prefix| {
            field
                .name
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        })
}

/// May this field of a pass go on? Overriding headers come from trusted hops alone, but for the
/// method, which a client may choose for itself.
fn may_override(field: &Field, client: &Client) -> bool {
    if !is_one_of(field, &OVERRIDING) || is_one_of(field, &OVERRIDING_METHOD) {
        return true;
    }
    client.trusted_peer && !is_one_of(field, &OVERRIDING_URL)
}

/// May the configuration name this header for fills? Not what ends here, what makes a response
/// partial or conditional, nor what is rebuilt.
pub(super) fn is_configurable(name: &str) -> bool {
    let rebuilt = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-real-ip"];
    !name.contains('_')
        && !rebuilt.iter().any(|own| name.eq_ignore_ascii_case(own))
        && ![ENDING_HERE, NOT_FOR_FILLS, OVERRIDING_URL]
            .iter()
            .any(|list| list.have(name.as_bytes()))
}

fn is_one_of(field: &Field, names: &Names) -> bool {
    names.have(&field.name)
}

/// Is it a URL of this host, so that a redirect to it leads nobody away?
fn is_of_host(url: &[u8], host: &[u8]) -> bool {
    let Some(rest) = url.strip_prefix(b"https://").or_else(|| url.strip_prefix(b"http://")) else {
        return false;
    };
    let end = rest.iter().position(|&byte| b"/?#\\".contains(&byte)).unwrap_or(rest.len());
    let authority = &rest[..end];
    let (named, _) = host::split_authority(authority);
    // `https://shop.test:x@evil.test/` names evil.test.
    !authority.contains(&b'@') && !host.is_empty() && named.eq_ignore_ascii_case(host)
}

fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}
