//! What a client gets of the fields that the origin sent.

use crate::fields::{Field, Fields, Names};
use crate::policy::cache_control::CacheControl;
use crate::policy::plan::Delivery;
use crate::settings::{BrowserCache, Site};

/// What Magento and its servers say to the cache, or about themselves.
pub(super) const REMOVED: Names = Names::new(&[
    "x-magento-tags",
    "x-magento-debug",
    "x-magento-cache-debug",
    "x-powered-by",
    "x-pool",
    "x-varnish",
    "server",
    "via",
    "age",
]);

/// What says to browsers how long a response may be kept.
const CACHING: Names = Names::new(&["cache-control", "pragma", "expires"]);

/// The generic policy: the fields as they are. Of a stored response its Age goes, since each
/// delivery has another.
pub(super) fn generic(delivery: Delivery, mut fields: Fields) -> Fields {
    if delivery == Delivery::Stored {
        fields.remove("age");
    }
    fields
}

/// The Magento policy, after the VCL's `vcl_deliver`.
pub(super) fn magento(site: &Site, delivery: Delivery, fields: Fields) -> Fields {
    let rewritten = rewrites_caching(site, delivery, &fields);
    let no_transform =
        fields.list("cache-control").any(|word| word.eq_ignore_ascii_case(b"no-transform"));
    let mut kept = Fields::with_capacity(fields.len() + 2);
    for field in fields {
        let dropped = REMOVED.have(&field.name)
            || (delivery == Delivery::Stored && field.is("set-cookie"))
            || (rewritten && CACHING.have(&field.name));
        if dropped {
            continue;
        }
        if field.is("link") {
            kept.extend(without_preload(&field));
        } else {
            kept.extend([field]);
        }
    }
    if rewritten {
        push_caching(site.browser_cache, &mut kept);
        if no_transform {
            // It is no rule of caching, and holds here and for all behind (RFC 9111 5.2.2.6).
            kept.push_static("Cache-Control", "no-transform");
        }
    }
    kept
}

/// Are Cache-Control, Pragma and Expires replaced?
///
/// A stored page's always, since the browser must not keep what is purged here. An uncacheable
/// answer keeps its own where they already forbid to reuse it; where they do not (Magento answers
/// `public, max-age=86400` to a PUT, and to the page after a logout), they are replaced as in the
/// VCL, or the next cache would keep what was for one visitor.
fn rewrites_caching(site: &Site, delivery: Delivery, fields: &Fields) -> bool {
    if delivery == Delivery::StaticFile || site.browser_cache == BrowserCache::Origin {
        return false;
    }
    let control = CacheControl::of(fields);
    let forbids = control.private.is_there()
        || control.no_store
        || control.no_cache.is_there()
        || control.max_age.is_some_and(|age| age.is_zero());
    delivery == Delivery::Stored || !forbids
}

fn push_caching(browser_cache: BrowserCache, fields: &mut Fields) {
    match browser_cache {
        BrowserCache::NoStore => {
            fields.push_static("Pragma", "no-cache");
            fields.push_static("Expires", "-1");
            let value = "no-store, no-cache, must-revalidate, max-age=0";
            fields.push_static("Cache-Control", value);
        }
        BrowserCache::Revalidate => {
            fields.push_static("Cache-Control", "must-revalidate, max-age=0");
        }
        BrowserCache::Origin => {}
    }
}

/// A Link line without its preload hints; nothing where there was nothing else in it.
fn without_preload(field: &Field) -> Option<Field> {
    let links = split_links(&field.value);
    if !links.iter().any(|link| is_preload(link)) {
        return Some(field.clone());
    }
    let kept: Vec<&[u8]> = links.into_iter().filter(|link| !is_preload(link)).collect();
    (!kept.is_empty())
        .then(|| Field { name: field.name.clone(), value: kept.join(&b", "[..]).into() })
}

/// The links of a line (RFC 8288 3): commas separate them outside of `<...>` and quotes.
fn split_links(value: &[u8]) -> Vec<&[u8]> {
    let (mut in_target, mut in_quotes, mut start) = (false, false, 0);
    let mut links = Vec::new();
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            b'<' if !in_quotes => in_target = true,
            b'>' if !in_quotes => in_target = false,
            b'"' if !in_target => in_quotes = !in_quotes,
            b',' if !in_target && !in_quotes => {
                links.push(value[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    links.push(value[start..].trim_ascii());
    links.retain(|link| !link.is_empty());
    links
}

/// Does one of the link's relations say `preload`?
fn is_preload(link: &[u8]) -> bool {
    let parameters = memchr::memchr(b'>', link).map_or(link, |at| &link[at + 1..]);
    parameters.split(|&byte| byte == b';').any(|parameter| {
        let mut sides = parameter.splitn(2, |&byte| byte == b'=');
        let name = sides.next().unwrap_or_default().trim_ascii();
        let value = sides.next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"rel")
            && value
                .split(|byte| b"\" \t".contains(byte))
                .any(|relation| relation.eq_ignore_ascii_case(b"preload"))
    })
}
