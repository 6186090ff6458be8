//! The fields that the origin gets.

use super::{from_loopback, get, magento, policy, request, resolve, strings};
use crate::exchange::Request;
use crate::fields::Fields;
use crate::policy::{Policy, Purpose};
use crate::settings::{AuthorizationRule, PolicyKind, Settings};

/// The lines as text.
fn sent(policy: &Policy, request: &Request, purpose: Purpose) -> Vec<String> {
    let client = resolve(request);
    let fields = policy.origin_request(request, &client, &request.target, purpose);
    let mut text = Vec::new();
    fields.write_http1(&mut text);
    String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
}

fn fill(request: &Request) -> Vec<String> {
    sent(&magento(), request, Purpose::Fill)
}

fn pass(request: &Request) -> Vec<String> {
    sent(&magento(), request, Purpose::Pass)
}

const FORWARDED: [&str; 3] =
    ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Port: 80"];

fn with_forwarded(lines: &[&str]) -> Vec<String> {
    strings(&[lines, &FORWARDED].concat())
}

/// What browsers, attackers and proxies may send along.
fn everything() -> Request {
    get(
        "/p",
        [
            ("Host", "shop.test"),
            ("User-Agent", "browser"),
            ("Accept", "text/html"),
            ("Accept-Language", "de"),
            ("Accept-Encoding", "gzip"),
            ("Referer", "https://shop.test/a"),
            ("Cookie", "a=1"),
            ("Origin", "http://evil.test"),
            ("Range", "bytes=0-1"),
            ("If-None-Match", "\"a\""),
            ("If-Modified-Since", "Sun, 22 Nov 2026 19:28:33 GMT"),
            ("If-Unmodified-Since", "Sun, 22 Nov 2026 19:28:33 GMT"),
            ("If-Range", "\"a\""),
            ("Cache-Control", "no-cache"),
            ("Pragma", "no-cache"),
            ("X-Original-URL", "/admin"),
            ("X-Rewrite-URL", "/admin"),
            ("X-HTTP-Method-Override", "POST"),
            ("X-Host", "evil.test"),
            ("Store", "fr"),
            ("X-Anything", "b"),
            ("Proxy", "http://evil.test"),
            ("X_Magento_Vary", "c"),
            ("Cookie", "d=2"),
        ],
    )
}

#[test]
fn a_fill_carries_only_headers_that_are_keyed_or_on_the_list() {
    assert_eq!(
        fill(&everything()),
        with_forwarded(&[
            "Host: shop.test",
            "User-Agent: browser",
            "Referer: https://shop.test/a",
            "Cookie: a=1; d=2",
        ])
    );
}

#[test]
fn if_modified_since_and_if_unmodified_since_are_dropped_on_fills_and_kept_on_passes() {
    let passed = pass(&everything());
    for name in ["If-Modified-Since", "If-Unmodified-Since", "If-None-Match", "If-Range", "Range"] {
        let has = |lines: &[String]| lines.iter().any(|line| line.starts_with(&format!("{name}:")));
        assert!(has(&passed), "{name}");
        assert!(!has(&fill(&everything())), "{name}");
        let generic = Policy::new(&Settings::defaults_of(PolicyKind::Generic)).expect("valid");
        assert!(!has(&sent(&generic, &everything(), Purpose::Fill)), "{name}");
    }
}

#[test]
fn a_pass_loses_what_ends_here_what_overrides_the_url_and_what_php_could_mistake() {
    let passed = pass(&everything());
    for gone in ["Accept-Encoding", "X-Original-URL", "X-Rewrite-URL", "X-Host", "Proxy", "X_Mag"] {
        assert!(!passed.iter().any(|line| line.starts_with(gone)), "{gone}");
    }
    assert!(passed.contains(&"X-HTTP-Method-Override: POST".to_owned()));
    assert!(passed.contains(&"X-Anything: b".to_owned()));
    assert_eq!(passed[0], "Host: shop.test");
}

#[test]
fn a_static_file_may_come_encoded_and_a_page_where_nothing_is_done_to_it() {
    let encoded = |policy: &Policy, target| {
        let request = get(target, [("Accept-Encoding", "gzip")]);
        sent(policy, &request, Purpose::Pass).contains(&"Accept-Encoding: gzip".to_owned())
    };
    assert!(encoded(&magento(), "/static/a.css"));
    assert!(!encoded(&magento(), "/customer/"));
    let mut settings = Settings::default();
    settings.esi.enabled = false;
    settings.encoding.gzip = false;
    settings.encoding.brotli = false;
    assert!(encoded(&Policy::new(&settings).expect("valid"), "/customer/"));
}

#[test]
fn what_a_fill_carries_of_an_api_is_in_its_key() {
    let fields = || {
        [
            ("Accept", "application/xml"),
            ("Origin", "http://pwa.test"),
            ("Store", "fr"),
            ("Content-Currency", "EUR"),
            ("X-Magento-Cache-Id", "i"),
            ("Content-Type", "application/json; charset=utf-8"),
            ("X-Requested-With", "XMLHttpRequest"),
            ("Authorization", "Bearer t"),
        ]
    };
    assert_eq!(
        fill(&get("/graphql?query=a", fields())),
        with_forwarded(&[
            "Host: shop.test",
            "Authorization: Bearer t",
            "X-Requested-With: XMLHttpRequest",
            "X-Magento-Cache-Id: i",
            "Store: fr",
            "Content-Currency: EUR",
            "Origin: http://pwa.test",
            "Content-Type: application/json; charset=utf-8",
        ])
    );
    assert_eq!(
        fill(&get("/rest/V1/x", fields())),
        with_forwarded(&[
            "Host: shop.test",
            "Authorization: Bearer t",
            "X-Requested-With: XMLHttpRequest",
            "Accept: application/xml",
            "Origin: http://pwa.test",
        ])
    );
}

#[test]
fn of_a_repeated_header_a_fill_carries_the_line_that_is_in_the_key() {
    let request = get(
        "/graphql",
        [
            ("Store", "default"),
            ("Store", "fr"),
            ("User-Agent", "a"),
            ("user-agent", "iPhone"),
            ("Content-Type", "text/plain"),
        ],
    );
    assert_eq!(
        fill(&request),
        with_forwarded(&["Host: shop.test", "User-Agent: a", "Store: default",])
    );
}

#[test]
fn a_port_that_host_alone_names_is_not_given_to_everybody() {
    let host = |host: &str, port: u16| {
        let mut request = get("/", [("Host", host)]);
        request.connection.local = Some(([192, 0, 2, 9], port).into());
        fill(&request).remove(0)
    };
    assert_eq!(host("Shop.test:1337", 80), "Host: shop.test");
    assert_eq!(host("shop.test:80", 80), "Host: shop.test");
    assert_eq!(host("shop.test:6081", 6081), "Host: shop.test:6081");
    assert_eq!(host("shop.test", 6081), "Host: shop.test");
    let passed = pass(&get("/", [("host", "Shop.test:1337"), ("X-A", "b")]));
    assert_eq!(passed[0], "host: Shop.test:1337");
}

#[test]
fn referer_is_passed_to_all_only_where_it_names_this_host() {
    let referer = |referer: &str| fill(&get("/", [("Referer", referer)])).len() == 5;
    for own in ["http://shop.test/", "https://SHOP.test:8080/a", "https://shop.test"] {
        assert!(referer(own), "{own}");
    }
    for other in [
        "https://evil.test/shop.test",
        "https://shop.test.evil/",
        "//shop.test/",
        "",
        "https://shop.test@evil.test/",
        "https://shop.test:x@evil.test/",
        "javascript:a",
    ] {
        assert!(!referer(other), "{other}");
    }
}

#[test]
fn configured_headers_go_with_a_fill() {
    let policy = policy(|site| {
        site.key_headers = strings(&["X-Country", "Accept-Language", "User-Agent"]);
        site.forward_headers = strings(&["X-Anything"]);
    });
    let lines = sent(&policy, &everything(), Purpose::Fill);
    for line in ["Accept-Language: de", "X-Anything: b"] {
        assert!(lines.contains(&line.to_owned()), "{line}");
    }
    assert_eq!(lines.iter().filter(|line| line.starts_with("User-Agent")).count(), 1);
}

#[test]
fn authorization_goes_with_a_fill_where_it_is_looked_up() {
    let as_vcl = policy(|site| site.authorization = AuthorizationRule::AsVcl);
    let request = get("/", [("Authorization", "Basic x")]);
    let lines = sent(&as_vcl, &request, Purpose::Fill);
    assert!(lines.contains(&"Authorization: Basic x".to_owned()));
}

#[test]
fn forwarding_headers_are_rebuilt_and_those_of_strangers_dropped() {
    let fields = || {
        [
            ("X-Forwarded-For", "6.6.6.6, 192.0.2.7"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Real-IP", "6.6.6.6"),
            ("Forwarded", "for=6.6.6.6"),
            ("Ssl-Offloaded", "1"),
        ]
    };
    for purpose in [Purpose::Fill, Purpose::Pass] {
        let stranger = sent(&magento(), &get("/", fields()), purpose);
        assert_eq!(stranger, with_forwarded(&["Host: shop.test"]), "{purpose:?}");
    }
    assert_eq!(
        sent(&magento(), &from_loopback(get("/", fields())), Purpose::Fill),
        [
            "Host: shop.test",
            "Ssl-Offloaded: 1",
            "X-Forwarded-For: 192.0.2.7, 127.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Port: 443",
        ]
    );
    assert_eq!(
        sent(&magento(), &from_loopback(get("/", fields())), Purpose::Pass),
        [
            "Host: shop.test",
            "X-Forwarded-For: 192.0.2.7, 127.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.test",
            "X-Real-IP: 192.0.2.7",
            "Forwarded: for=6.6.6.6",
            "Ssl-Offloaded: 1",
            "X-Forwarded-Port: 443",
        ]
    );
}

#[test]
fn hop_by_hop_fields_end_here_and_connection_cannot_name_what_is_meant_for_the_origin() {
    let request = request(
        "POST",
        "/customer/",
        Fields::from([
            ("Host", "shop.test"),
            ("Connection", "keep-alive, X-Hop, Cookie, Host, Authorization, X-Forwarded-For"),
            ("connection", "Content-Length, Range, X-Magento-Cache-Id, store, Accept"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "X-T"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "a"),
            ("Proxy-Connection", "keep-alive"),
            ("Expect", "100-continue"),
            ("X-Hop", "gone"),
            ("Cookie", "a=1"),
            ("Authorization", "Bearer t"),
            ("Content-Length", "3"),
            ("Range", "bytes=0-1"),
            ("X-Magento-Cache-Id", "i"),
            ("Store", "fr"),
            ("Accept", "a"),
        ]),
    );
    assert_eq!(
        pass(&request),
        with_forwarded(&[
            "Host: shop.test",
            "Cookie: a=1",
            "Authorization: Bearer t",
            "Content-Length: 3",
            "Range: bytes=0-1",
            "X-Magento-Cache-Id: i",
            "Store: fr",
            "Accept: a",
        ])
    );
}

#[test]
fn a_key_header_that_connection_names_still_goes_with_the_fill() {
    let keyed = policy(|site| site.key_headers = strings(&["X-Country"]));
    let request = get("/", [("Connection", "X-Country"), ("X-Country", "de")]);
    assert!(sent(&keyed, &request, Purpose::Fill).contains(&"X-Country: de".to_owned()));
}

#[test]
fn the_generic_policy_with_storing_off_is_transparent() {
    let mut settings = Settings::defaults_of(PolicyKind::Generic);
    settings.store.memory_bytes = 0;
    let policy = Policy::new(&settings).expect("valid");
    let request = get(
        "/p",
        [
            ("uSer-agent", "browser"),
            ("HOST", "Shop.test:81"),
            ("Accept-Encoding", "gzip, br"),
            ("Connection", "keep-alive"),
            ("Cookie", "a=1"),
            ("X-B", "2"),
            ("Cookie", "b=2"),
            ("Cache-Control", "no-cache"),
            ("Range", "bytes=0-1"),
        ],
    );
    assert_eq!(
        sent(&policy, &request, Purpose::Pass),
        [
            "uSer-agent: browser",
            "HOST: Shop.test:81",
            "Accept-Encoding: gzip, br",
            "Cookie: a=1",
            "X-B: 2",
            "Cookie: b=2",
            "Cache-Control: no-cache",
            "Range: bytes=0-1",
        ]
    );
}

#[test]
fn a_generic_fill_carries_what_came_without_overrides() {
    let generic = Policy::new(&Settings::defaults_of(PolicyKind::Generic)).expect("valid");
    assert_eq!(
        sent(&generic, &everything(), Purpose::Fill),
        with_forwarded(&[
            "Host: shop.test",
            "User-Agent: browser",
            "Accept: text/html",
            "Accept-Language: de",
            "Accept-Encoding: gzip",
            "Referer: https://shop.test/a",
            "Cookie: a=1",
            "Origin: http://evil.test",
            "Store: fr",
            "X-Anything: b",
            "Cookie: d=2",
        ])
    );
}

#[test]
fn a_generic_fill_asks_for_identity_where_we_compress() {
    let mut settings = Settings::defaults_of(PolicyKind::Generic);
    settings.encoding.gzip = true;
    let policy = Policy::new(&settings).expect("valid");
    let sent = sent(&policy, &everything(), Purpose::Fill);
    assert!(!sent.iter().any(|line| line.starts_with("Accept-Encoding")));
}

#[test]
fn a_request_whose_host_came_beside_its_fields_gets_one() {
    let request = get("/", [("a", "b")]);
    assert_eq!(pass(&request), with_forwarded(&["Host: shop.test", "a: b"]));
}
