//! What a client gets of the origin's fields.

use super::{magento, policy};
use crate::fields::Fields;
use crate::policy::{Delivery, Policy};
use crate::reason::Reason;
use crate::settings::{BrowserCache, PolicyKind};

const PUBLIC: &str = "max-age=86400, public";

fn page(control: &str) -> Fields {
    Fields::from([
        ("Content-Type", "text/html"),
        ("Set-Cookie", "X-Magento-Vary=v"),
        ("Pragma", "cache"),
        ("Cache-Control", control),
        ("Expires", "Mon, 23 Nov 2026 19:28:33 GMT"),
        ("X-Magento-Tags", "a"),
        ("X-Magento-Debug", "1"),
        ("X-Magento-Cache-Id", "i"),
        ("X-Pool", "blue"),
        ("X-Powered-By", "PHP"),
        ("Server", "nginx"),
        ("Via", "1.1 x"),
        ("X-Varnish", "1"),
        ("Age", "3"),
    ])
}

/// The lines as text.
fn lines(fields: &Fields) -> Vec<String> {
    let mut text = Vec::new();
    fields.write_http1(&mut text);
    String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
}

fn caching(policy: &Policy, delivery: Delivery, control: &str) -> Vec<String> {
    let mut fields = policy.delivered(delivery, page(control));
    fields.retain(|field| ["pragma", "cache-control", "expires"].iter().any(|name| field.is(name)));
    lines(&fields)
}

#[test]
fn a_stored_page_leaves_without_cookies_and_without_what_was_for_the_cache() {
    assert_eq!(
        lines(&magento().delivered(Delivery::Stored, page(PUBLIC))),
        [
            "Content-Type: text/html",
            "X-Magento-Cache-Id: i",
            "Pragma: no-cache",
            "Expires: -1",
            "Cache-Control: no-store, no-cache, must-revalidate, max-age=0",
        ]
    );
}

#[test]
fn an_uncacheable_answer_still_delivers_the_new_x_magento_vary_cookie() {
    let delivered = magento().delivered(Delivery::Uncached, page(PUBLIC));
    assert_eq!(delivered.first("set-cookie").expect("a cookie"), "X-Magento-Vary=v");
    assert!(!delivered.contains("x-magento-tags") && !delivered.contains("age"));
}

#[test]
fn uncacheable_answers_keep_their_own_cache_control() {
    for own in [
        "no-store",
        "max-age=0, must-revalidate, no-cache, no-store",
        "private, max-age=9",
        "max-age=0",
    ] {
        let kept = caching(&magento(), Delivery::Uncached, own);
        assert_eq!(kept.len(), 3);
        assert!(kept.contains(&format!("Cache-Control: {own}")), "{own}");
    }
}

#[test]
fn an_uncacheable_answer_that_others_could_keep_is_closed_to_them_as_in_the_vcl() {
    for own in [PUBLIC, "s-maxage=9", ""] {
        let rewritten = caching(&magento(), Delivery::Uncached, own);
        let expected = "Cache-Control: no-store, no-cache, must-revalidate, max-age=0";
        assert_eq!(rewritten[2], expected, "{own}");
    }
}

#[test]
fn delivered_cache_control_is_a_setting() {
    let with = |browser_cache| policy(|site| site.browser_cache = browser_cache);
    let revalidate = with(BrowserCache::Revalidate);
    let expected = ["Cache-Control: must-revalidate, max-age=0"];
    assert_eq!(caching(&revalidate, Delivery::Stored, PUBLIC), expected);
    assert_eq!(caching(&revalidate, Delivery::Uncached, PUBLIC), expected);
    let origin = caching(&with(BrowserCache::Origin), Delivery::Stored, PUBLIC);
    assert_eq!(origin[0..2], ["Pragma: cache", "Cache-Control: max-age=86400, public"]);
}

#[test]
fn a_static_file_keeps_its_lifetime_in_browsers() {
    let delivery = Delivery::of_pass(Reason::StaticFile);
    let kept = caching(&magento(), delivery, PUBLIC);
    assert!(kept.contains(&"Cache-Control: max-age=86400, public".to_owned()));
    assert_eq!(Delivery::of_pass(Reason::Method), Delivery::Uncached);
}

#[test]
fn link_leaves_only_where_it_is_a_preload_hint() {
    let link = |value: &str| {
        let fields = magento().delivered(Delivery::Stored, Fields::from([("Link", value)]));
        fields.first_str("link").map(str::to_owned)
    };
    assert_eq!(link("<https://shop.test/a,b.css>; rel=preload; as=style"), None);
    assert_eq!(link("</a>; rel=\"preload\", </b>; REL=Preload"), None);
    let canonical = "</a>; rel=\"canonical\"; title=\"rel=preload, x\"";
    assert_eq!(link(canonical).as_deref(), Some(canonical));
    assert_eq!(link("</a>; rel=preload, </b>; rel=next").as_deref(), Some("</b>; rel=next"));
    assert_eq!(link("<a;rel=preload>; rel=next").as_deref(), Some("<a;rel=preload>; rel=next"));
}

#[test]
fn the_cookies_of_a_stored_response_go_to_its_fetcher_where_a_setting_says_so() {
    let fields = page(PUBLIC);
    assert!(magento().fetcher_cookies(&fields).is_empty());
    let giving = policy(|site| site.cookies_to_fetcher = true);
    assert_eq!(lines(&giving.fetcher_cookies(&fields)), ["Set-Cookie: X-Magento-Vary=v"]);
}

#[test]
fn the_generic_policy_delivers_what_came() {
    let generic = policy(|site| site.policy = PolicyKind::Generic);
    assert_eq!(generic.delivered(Delivery::Uncached, page(PUBLIC)), page(PUBLIC));
    let stored = generic.delivered(Delivery::Stored, page(PUBLIC));
    assert_eq!(stored.len(), page(PUBLIC).len() - 1);
    assert!(!stored.contains("age"));
}
