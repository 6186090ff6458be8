//! Which responses are stored in the Magento policy, for how long, and why others are not.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::{get, head, lookup, magento, policy, strings};
use crate::exchange::Request;
use crate::policy::{Judgement, OriginHead, Policy, Storable};
use crate::reason::Reason;
use crate::settings::TtlRule;

const PUBLIC: (&str, &str) = ("Cache-Control", "max-age=86400, public, s-maxage=86400");
const TAGS: (&str, &str) = ("X-Magento-Tags", "store,cms_b");
const HOUR: Duration = Duration::from_hours(1);

fn judge(policy: &Policy, request: &Request, head: &OriginHead) -> Judgement {
    policy.judge(&lookup(policy, request), head, UNIX_EPOCH)
}

fn judged<const N: usize>(
    policy: &Policy,
    status: u16,
    fields: [(&'static str, &str); N],
) -> Result<Storable, (Reason, u64)> {
    of(judge(policy, &get("/p", []), &head(status, fields)))
}

fn of(judgement: Judgement) -> Result<Storable, (Reason, u64)> {
    match judgement {
        Judgement::Store(storable) => Ok(storable),
        Judgement::Uncacheable { reason, remember } => Err((reason, remember.as_secs())),
    }
}

fn ttl<const N: usize>(policy: &Policy, fields: [(&'static str, &str); N]) -> Option<u64> {
    judged(policy, 200, fields).ok().map(|storable| storable.ttl().as_secs())
}

fn rule(path: &str, status: Option<u16>, ttl: Duration) -> TtlRule {
    TtlRule { path: path.to_owned(), status, ttl }
}

#[test]
fn a_public_page_is_stored_with_its_lifetime_tags_pool_and_debug_mark() {
    let fields = [PUBLIC, TAGS, ("X-Pool", "blue"), ("X-Magento-Debug", "1"), ("Age", "400")];
    let storable = judged(&magento(), 200, fields).expect("stored");
    assert_eq!(storable.ttl(), Duration::from_secs(86_000));
    assert_eq!(storable.age(), Duration::from_secs(400));
    assert_eq!(storable.tags(), ["store", "cms_b"]);
    assert_eq!(storable.pool().expect("a pool"), "blue");
    assert!(storable.debug());
}

#[test]
fn s_maxage_comes_before_max_age_and_surrogate_control_before_both() {
    let policy = magento();
    assert_eq!(ttl(&policy, [TAGS, ("Cache-Control", "max-age=9, s-maxage=5")]), Some(5));
    assert_eq!(ttl(&policy, [TAGS, ("Cache-Control", "s-maxage=0, max-age=9")]), None);
    let surrogate = ("Surrogate-Control", "max-age=7, content=\"ESI/1.0\"");
    assert_eq!(ttl(&policy, [TAGS, ("Cache-Control", "max-age=9, no-store"), surrogate]), Some(7));
    let expires = [
        TAGS,
        ("Date", "Sun, 22 Nov 2026 19:28:33 GMT"),
        ("Expires", "Sun, 22 Nov 2026 19:28:43 GMT"),
    ];
    assert_eq!(ttl(&policy, expires), Some(10));
}

#[test]
fn what_is_not_stored_is_remembered_for_a_day_if_private_else_for_two_minutes() {
    let policy = magento();
    let cases: [(u16, &str, Reason, u64); 14] = [
        (403, PUBLIC.1, Reason::Status, 120),
        (404, PUBLIC.1, Reason::Status, 120),
        (410, PUBLIC.1, Reason::Status, 120),
        (500, PUBLIC.1, Reason::Status, 120),
        (503, PUBLIC.1, Reason::Status, 120),
        (304, PUBLIC.1, Reason::Status, 120),
        (206, PUBLIC.1, Reason::Partial, 120),
        (200, "max-age=31536000, private", Reason::Private, 86_400),
        (200, "private=\"set-cookie\", max-age=9", Reason::Private, 86_400),
        (200, "max-age=0, must-revalidate, no-cache, no-store", Reason::NoStore, 120),
        (200, "no-cache, max-age=9", Reason::NoCache, 120),
        (200, "max-age=0", Reason::NoLifetime, 120),
        (200, "max-age=-9", Reason::NoLifetime, 120),
        (200, "public", Reason::NoLifetime, 120),
    ];
    for (status, control, reason, seconds) in cases {
        let found = judged(&policy, status, [TAGS, ("Cache-Control", control)]);
        assert_eq!(found.err(), Some((reason, seconds)), "{status} {control}");
    }
    let surrogate = [TAGS, PUBLIC, ("Surrogate-Control", "no-store")];
    assert_eq!(judged(&policy, 200, surrogate).err(), Some((Reason::NoStore, 120)));
    let old = [TAGS, PUBLIC, ("Age", "86400")];
    assert_eq!(judged(&policy, 200, old).err(), Some((Reason::NoLifetime, 120)));
    assert_eq!(judged(&policy, 200, [TAGS]).err(), Some((Reason::NoLifetime, 120)));
}

#[test]
fn how_long_uncacheable_is_remembered_is_a_setting() {
    let policy = policy(|site| {
        site.hit_for_miss = Duration::from_secs(1);
        site.hit_for_miss_private = Duration::from_secs(2);
    });
    let private = judged(&policy, 200, [("Cache-Control", "private")]);
    assert_eq!(private.err(), Some((Reason::Private, 2)));
    assert_eq!(judged(&policy, 500, []).err(), Some((Reason::Status, 1)));
}

#[test]
fn redirects_are_stored_only_when_their_own_headers_allow_it() {
    let policy = magento();
    for status in [301, 302, 307, 308] {
        assert!(judged(&policy, status, [PUBLIC]).is_ok(), "{status}");
        assert!(judged(&policy, status, []).is_err(), "{status}");
        assert!(judged(&policy, status, [("Cache-Control", "no-store")]).is_err(), "{status}");
    }
}

#[test]
fn a_404_is_stored_where_a_setting_says_so_and_its_headers_allow_it() {
    let storing = policy(|site| site.store_not_found = true);
    assert!(judged(&storing, 404, [PUBLIC, TAGS]).is_ok());
    assert!(judged(&storing, 404, [("Cache-Control", "no-store"), TAGS]).is_err());
    assert!(judged(&storing, 410, [PUBLIC, TAGS]).is_err());
}

#[test]
fn a_rule_gives_a_path_and_status_its_lifetime() {
    let policy = policy(|site| {
        site.ttl = vec![
            rule("/p/never", None, Duration::ZERO),
            rule("/p", None, HOUR),
            rule("", Some(404), Duration::from_mins(1)),
        ];
    });
    assert_eq!(ttl(&policy, [PUBLIC, TAGS]), Some(3_600));
    assert_eq!(ttl(&policy, [TAGS]), Some(3_600));
    let gone = judged(&policy, 404, [TAGS]).expect("stored");
    assert_eq!(gone.ttl(), Duration::from_mins(1));
    let of_path = |target| {
        of(judge(&policy, &get(target, []), &head(200, [PUBLIC, TAGS])))
            .map(|storable| storable.ttl().as_secs())
    };
    assert_eq!(of_path("/p/never?a=1"), Err((Reason::NoLifetime, 120)));
    assert_eq!(of_path("/px"), Ok(86_400));
}

#[test]
fn no_rule_makes_public_what_the_origin_holds_back() {
    let policy = policy(|site| site.ttl = vec![rule("", None, HOUR)]);
    for (control, reason) in
        [("private", Reason::Private), ("no-store", Reason::NoStore), ("no-cache", Reason::NoCache)]
    {
        let found = judged(&policy, 200, [TAGS, ("Cache-Control", control)]);
        assert_eq!(found.map_err(|(reason, _)| reason).err(), Some(reason));
    }
}

#[test]
fn a_page_of_another_x_magento_vary_is_not_stored_under_the_requests_value() {
    let policy = magento();
    let page = |cookie: &str, set_cookie: &str| {
        let fields = [PUBLIC, TAGS, ("Set-Cookie", "PHPSESSID=a"), ("Set-Cookie", set_cookie)];
        of(judge(&policy, &get("/", [("Cookie", cookie)]), &head(200, fields))).err()
    };
    let deleted = "X-Magento-Vary=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0";
    let changed = |remember| Some((Reason::MagentoVary, remember));
    // The guests' key goes on to be fetched once for all; a value of its own need not queue.
    assert_eq!(page("a=1", "X-Magento-Vary=v; path=/"), changed(0));
    assert_eq!(page("X-Magento-Vary=deadbeef", deleted), changed(120));
    assert_eq!(page("X-Magento-Vary=v", "X-Magento-Vary=w"), changed(120));
    assert_eq!(page("X-Magento-Vary=v", "X-Magento-Vary=v; path=/"), None);
    assert_eq!(page("X-Magento-Vary=v", "form_key=a"), None);
    assert_eq!(page("a=1", deleted), None);
}

#[test]
fn a_graphql_answer_with_another_cache_id_is_not_stored_under_the_requests() {
    let policy = magento();
    let answer = |asked: &str, answered: &str| {
        let request = get("/graphql", [("X-Magento-Cache-Id", asked)]);
        let fields = [
            PUBLIC,
            TAGS,
            ("Content-Type", "application/json"),
            ("X-Magento-Cache-Id", answered),
            ("Set-Cookie", "X-Magento-Vary=v"),
        ];
        of(judge(&policy, &request, &head(200, fields))).err()
    };
    assert_eq!(answer("a", "a"), None);
    assert_eq!(answer("a", "b"), Some((Reason::GraphqlCacheId, 0)));
    let request = get("/graphql", [("X-Magento-Cache-Id", "a")]);
    let missing = of(judge(&policy, &request, &head(200, [PUBLIC, TAGS])));
    assert_eq!(missing.err(), Some((Reason::GraphqlCacheId, 0)));
}

#[test]
fn html_without_tags_is_stored_for_a_short_lifetime_alone() {
    let policy = magento();
    let page = |content_type: &str, control: &str| {
        let fields = [("Content-Type", content_type), ("Cache-Control", control)];
        judged(&policy, 200, fields).err().map(|(reason, _)| reason)
    };
    assert_eq!(page("text/html; charset=UTF-8", "max-age=121"), Some(Reason::Untagged));
    assert_eq!(page("TEXT/HTML", "max-age=121"), Some(Reason::Untagged));
    assert_eq!(page("application/xhtml+xml", "max-age=121"), Some(Reason::Untagged));
    assert_eq!(page("text/html", "max-age=120"), None);
    assert_eq!(page("application/json", "max-age=86400"), None);
    let sniffed = judged(&policy, 200, [PUBLIC]).err();
    assert_eq!(sniffed, Some((Reason::Untagged, 120)));
    let empty_tags = judged(&policy, 200, [PUBLIC, ("X-Magento-Tags", " , ")]).err();
    assert_eq!(empty_tags, Some((Reason::Untagged, 120)));
}

#[test]
fn a_response_with_more_tags_than_are_kept_is_not_stored() {
    let tags: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    let many = judged(&magento(), 200, [PUBLIC, ("X-Magento-Tags", &tags.join(","))]);
    assert_eq!(many.err(), Some((Reason::TooLarge, 120)));
}

#[test]
fn vary_may_name_what_is_in_the_key_and_the_encoding() {
    let reason = |policy: &Policy, target, vary| {
        let head = head(200, [PUBLIC, TAGS, ("Vary", vary)]);
        of(judge(policy, &get(target, []), &head)).err().map(|(reason, _)| reason)
    };
    let plain = magento();
    for vary in [
        "User-Agent",
        "Accept-Encoding",
        "accept-encoding, X-Requested-With",
        ",, X-Forwarded-Proto ,",
    ] {
        assert_eq!(reason(&plain, "/p", vary), None, "{vary}");
    }
    for vary in ["Cookie", "Accept-Encoding, Origin", "Store", "X-Country"] {
        assert_eq!(reason(&plain, "/p", vary), Some(Reason::Vary), "{vary}");
    }
    assert_eq!(reason(&plain, "/p", "*"), Some(Reason::VaryAny));
    assert_eq!(reason(&plain, "/graphql", "Store, Content-Currency, Origin"), None);
    let keyed = policy(|site| {
        site.key_headers = strings(&["X-Country"]);
        site.design_exceptions = strings(&["Mobile"]);
    });
    assert_eq!(reason(&keyed, "/p", "x-country, User-Agent"), None);
}

#[test]
fn a_coding_that_cannot_be_taken_apart_is_not_stored() {
    let reason = |coding| {
        let fields = [PUBLIC, TAGS, ("Content-Encoding", coding)];
        judged(&magento(), 200, fields).err().map(|(reason, _)| reason)
    };
    for known in ["gzip", "GZIP", "x-gzip", "br", "Deflate", "zstd", "identity", ""] {
        assert_eq!(reason(known), None, "{known}");
    }
    for unknown in ["gzip, gzip", "gzip, br", "compress"] {
        assert_eq!(reason(unknown), Some(Reason::ContentEncoding), "{unknown}");
    }
    let fixed = [TAGS, ("Content-Encoding", "gzip"), ("Cache-Control", "max-age=9, No-Transform")];
    let judged = judged(&magento(), 200, fixed).err().map(|(reason, _)| reason);
    assert_eq!(judged, Some(Reason::ContentEncoding), "it may not be taken off");
}

#[test]
fn a_graphql_route_is_stored_with_the_tags_by_which_a_rewrite_purges_it() {
    let policy = magento();
    let fields =
        [PUBLIC, ("X-Magento-Tags", "cat_c,cat_c_3"), ("Content-Type", "application/json")];
    let request = get("/graphql?query=%7Broute%28url%3A%22a.html%22%29%7Btype%7D%7D", []);
    let storable = of(judge(&policy, &request, &head(200, fields))).expect("stored");
    assert_eq!(storable.tags(), [Bytes::from_static(b"cat_c"), Bytes::from_static(b"cat_c_3")]);
}
