//! Which requests share a stored response, which are passed, and what the origin gets of them.

use std::io::Write;
use std::time::Duration;

use super::support::client::{Client, raw};
use super::support::origin::{Origin, Seen, page};
use super::support::process::wait_until;
use super::support::{Parvis, get};

fn numbered() -> Origin {
    Origin::start(|seen: &Seen, stream| {
        let _ = stream.write_all(&page(&format!("render {}", seen.number), "t"));
    })
}

fn store(parvis: &Parvis, target: &str, headers: &[(&str, &str)]) {
    parvis.get(target, headers);
    wait_until(target, Duration::from_secs(5), || parvis.get(target, headers).is_hit());
}

#[test]
fn tracking_parameters_do_not_make_another_page() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p/", &[]);
    for same in [
        "/p/?gclid=",
        "/p/?utm_source=a~b",
        "/p/?fbclid=x&utm_medium=y&",
        "/p/?mc_cid=1",
        "/p/?",
        "/p/?_ga=1.2&gad_source=1",
    ] {
        assert!(parvis.get(same, &[]).is_hit(), "{same}");
    }
    for other in ["/p/?xgclid=1", "/P/", "/p", "/p/?x", "/p/?a=1"] {
        assert!(!parvis.get(other, &[]).is_hit(), "{other}");
    }
}

#[test]
fn the_order_of_parameters_does_not_matter_and_encodings_stay_apart() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p?b=2&a=1", &[]);
    assert!(parvis.get("/p?a=1&b=2", &[]).is_hit());
    store(&parvis, "/al", &[]);
    assert!(!parvis.get("/a%6C", &[]).is_hit());
}

#[test]
fn a_trailing_slash_is_ignored_as_an_option() {
    let origin = numbered();
    let parvis =
        Parvis::before_http(origin.port).with("site.ignore_trailing_slash", "true").start();
    store(&parvis, "/p/", &[]);
    assert!(parvis.get("/p", &[]).is_hit());
}

#[test]
fn the_port_leaves_the_host_in_the_key_and_its_case_does_not_matter() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[("Host", "shop.test")]);
    assert!(parvis.get("/p", &[("Host", "SHOP.test:6081")]).is_hit());
    assert!(!parvis.get("/p", &[("Host", "other.test")]).is_hit());
}

#[test]
fn variants_by_magento_vary_stay_apart_and_an_unknown_one_never_touches_the_guests_page() {
    let origin = Origin::start(|seen, stream| {
        let cookie = seen.header("cookie").unwrap_or("").to_owned();
        let mut response = String::from_utf8(page(&format!("for {cookie}"), "t")).expect("text");
        if cookie.contains("bogus") {
            response = response.replace(
                "X-Magento-Tags",
                "Set-Cookie: X-Magento-Vary=deleted; Max-Age=0\r\nX-Magento-Tags",
            );
        }
        let _ = stream.write_all(response.as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[]);
    let member = [("Cookie", "a=1; X-Magento-Vary=member")];
    store(&parvis, "/p", &member);
    assert_eq!(parvis.get("/p", &member).text(), "for a=1; X-Magento-Vary=member");
    let bogus = [("Cookie", "X-Magento-Vary=bogus")];
    for _ in 0..2 {
        let reply = parvis.get("/p", &bogus);
        assert!(!reply.is_hit());
        assert_eq!(
            reply.all("set-cookie").len(),
            1,
            "an uncacheable answer still delivers the cookie"
        );
    }
    assert_eq!(parvis.get("/p", &[]).text(), "for ");
    assert!(parvis.get("/p", &[]).is_hit());
}

#[test]
fn several_cookie_lines_are_one() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[("Cookie", "a=1"), ("Cookie", "X-Magento-Vary=v")]);
    assert!(parvis.get("/p", &[("Cookie", "X-Magento-Vary=v; b=2")]).is_hit());
    assert!(!parvis.get("/p", &[("Cookie", "b=2")]).is_hit());
}

#[test]
fn a_cookie_of_12_kb_causes_neither_an_error_nor_a_miss_each_time() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    let cookie = format!("junk={}", "x".repeat(12 << 10));
    store(&parvis, "/p", &[("Cookie", &cookie)]);
    assert!(parvis.get("/p", &[]).is_hit());
}

#[test]
fn a_strangers_no_cache_does_not_reach_php_and_an_allowed_clients_replaces_the_page() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).with("purge.allow", "[\"10.9.9.9\"]").start();
    store(&parvis, "/p", &[]);
    for header in
        [("Cache-Control", "no-cache"), ("Pragma", "no-cache"), ("Cache-Control", "max-age=0")]
    {
        assert!(parvis.get("/p", &[header]).is_hit(), "{header:?}");
    }
    assert_eq!(origin.count(), 1);
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[]);
    let before = parvis.get("/p", &[]).text();
    let forced = parvis.get("/p", &[("Cache-Control", "no-cache")]);
    assert!(!forced.is_hit());
    wait_until("replacing", Duration::from_secs(5), || {
        parvis.get("/p", &[]).text() == forced.text()
    });
    assert_ne!(before, forced.text());
}

#[test]
fn customer_and_checkout_pass_by_segments_or_as_the_vcl_does() {
    let origin = numbered();
    let parvis =
        Parvis::before_http(origin.port).with("site.bypass_paths", "[\"/wishlist\"]").start();
    for passed in
        ["/customer/account/", "/checkout", "/checkout/cart/", "/fr/customer/x", "/wishlist/index"]
    {
        parvis.get(passed, &[]);
        let reply = parvis.get(passed, &[]);
        assert!(reply.cache_status().contains("bypass-path"), "{passed}: {}", reply.cache_status());
    }
    store(&parvis, "/customer-favourites.html", &[]);
    let parvis = Parvis::before_http(origin.port).with("site.bypass_paths_as_vcl", "true").start();
    parvis.get("/customer-favourites.html", &[]);
    assert!(!parvis.get("/customer-favourites.html", &[]).is_hit());
}

#[test]
fn a_cookie_that_a_setting_names_bypasses_the_store() {
    let origin = numbered();
    let parvis =
        Parvis::before_http(origin.port).with("site.bypass_cookies", "[\"preview\"]").start();
    store(&parvis, "/p", &[]);
    let reply = parvis.get("/p", &[("Cookie", "preview=1")]);
    assert!(reply.cache_status().contains("bypass-cookie"), "{}", reply.cache_status());
}

#[test]
fn authorization_outside_graphql_passes() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[]);
    let reply = parvis.get("/p", &[("Authorization", "Bearer x")]);
    assert!(reply.cache_status().contains("authorization"), "{}", reply.cache_status());
    assert!(
        origin.seen().last().is_some_and(|seen| seen.header("authorization") == Some("Bearer x"))
    );
}

#[test]
fn a_cacheable_request_carries_only_keyed_or_allowed_headers_to_php() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    let poison = [
        ("X-Forwarded-Host", "evil.test"),
        ("X-Original-URL", "/admin"),
        ("X-HTTP-Method-Override", "POST"),
        ("X-Rewrite-URL", "/admin"),
        ("Proxy", "http://evil.test"),
        ("X_Forwarded_Host", "evil.test"),
        ("X-Random", "1"),
    ];
    parvis.get("/p", &poison);
    let seen = &origin.seen()[0];
    for (name, _) in poison {
        assert!(seen.header(name).is_none(), "{name} reached a fill");
    }
    assert!(seen.header("accept-encoding").is_none());
}

#[test]
fn forwarding_headers_are_believed_from_trusted_hops_alone_and_rebuilt() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    parvis.get(
        "/a",
        &[("X-Forwarded-For", "203.0.113.9, 198.51.100.7"), ("X-Forwarded-Proto", "https")],
    );
    let seen = origin.seen();
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("https"));
    assert!(seen[0].header("x-forwarded-for").is_some_and(|v| v.contains("198.51.100.7")));
    store(&parvis, "/b", &[("X-Forwarded-Proto", "https")]);
    assert!(!parvis.get("/b", &[]).is_hit(), "http and https are different pages");
    let parvis = Parvis::before_http(origin.port).with("listen.trusted", "[]").start();
    parvis.get("/c", &[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")]);
    let seen = origin.seen();
    let last = seen.last().expect("a request");
    assert_eq!(last.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_ne!(last.header("x-forwarded-proto"), Some("https"));
    parvis.get("/d", &[("X-Forwarded-Proto", "https")]);
    let warnings = parvis.stderr().matches("listen.trusted").count();
    assert_eq!(warnings, 1, "the warning comes once: {}", parvis.stderr());
}

#[test]
fn uncacheable_answers_keep_their_own_cache_control() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store, private\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\n{}",
    );
    let parvis = Parvis::before_http(origin.port).start();
    assert_eq!(
        parvis.get("/customer/section/load/", &[]).header("cache-control"),
        Some("no-store, private")
    );
}

#[test]
fn delivered_cache_control_and_age_are_settings() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[]);
    let reply = parvis.get("/p", &[]);
    assert_eq!(
        reply.header("cache-control"),
        Some("no-store, no-cache, must-revalidate, max-age=0")
    );
    assert_eq!((reply.header("pragma"), reply.header("expires")), (Some("no-cache"), Some("-1")));
    assert!(reply.header("age").is_none());
    let parvis = Parvis::before_http(origin.port)
        .with("site.browser_cache", "\"revalidate\"")
        .with("site.age", "true")
        .start();
    store(&parvis, "/p", &[]);
    let reply = parvis.get("/p", &[]);
    assert_eq!(reply.header("cache-control"), Some("must-revalidate, max-age=0"));
    assert!(reply.header("age").is_some());
}

#[test]
fn redirects_are_stored_only_when_their_own_headers_allow_it() {
    let origin = Origin::start(|seen, stream| {
        let control = if seen.target == "/kept" {
            "Cache-Control: public, s-maxage=60\r\nX-Magento-Tags: t\r\n"
        } else {
            ""
        };
        let _ = write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /x\r\n{control}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
    });
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/kept", &[]);
    parvis.get("/plain", &[]);
    assert!(!parvis.get("/plain", &[]).is_hit());
}

#[test]
fn error_statuses_are_never_stored() {
    let origin = Origin::start(|seen, stream| {
        let status = seen.target.trim_start_matches('/').to_owned();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nCache-Control: public, s-maxage=600\r\nX-Magento-Tags: t\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
        );
    });
    let parvis = Parvis::before_http(origin.port).start();
    for status in ["400", "403", "404", "405", "410", "414", "431", "500", "501", "503"] {
        for _ in 0..2 {
            let reply = parvis.get(&format!("/{status}"), &[]);
            assert_eq!(reply.status.to_string(), status);
            assert!(!reply.is_hit(), "{status} was stored");
        }
    }
}

#[test]
fn graphql_is_keyed_by_cache_id_store_and_currency_and_a_mismatched_cache_id_is_not_stored() {
    let origin = Origin::start(|seen, stream| {
        let id = seen.header("x-magento-cache-id").unwrap_or("none").to_owned();
        let answered = if id == "wrong" { "other" } else { &id };
        let text = String::from_utf8(page("{}", "gql")).expect("text");
        let text = text.replace("text/html; charset=UTF-8", "application/json").replace(
            "X-Magento-Tags",
            &format!("X-Magento-Cache-Id: {answered}\r\nX-Magento-Tags"),
        );
        let _ = stream.write_all(text.as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    let query = "/graphql?query=%7Ba%7D";
    let first = [("X-Magento-Cache-Id", "one"), ("Store", "default")];
    store(&parvis, query, &first);
    assert!(!parvis.get(query, &[("X-Magento-Cache-Id", "two"), ("Store", "default")]).is_hit());
    assert!(!parvis.get(query, &[("X-Magento-Cache-Id", "one"), ("Store", "fr")]).is_hit());
    assert!(
        !parvis
            .get(
                query,
                &[("X-Magento-Cache-Id", "one"), ("Store", "default"), ("Content-Currency", "EUR")]
            )
            .is_hit()
    );
    let wrong = [("X-Magento-Cache-Id", "wrong")];
    parvis.get(query, &wrong);
    assert!(!parvis.get(query, &wrong).is_hit());
    let token = parvis.get(query, &[("Authorization", "Bearer t")]);
    assert!(token.cache_status().contains("graphql-token"), "{}", token.cache_status());
}

#[test]
fn graphql_route_is_a_hit_then_a_miss_after_a_rewrite_is_saved() {
    let origin = Origin::start(|seen, stream| {
        let _ = stream
            .write_all(&page(&format!("{{\"version\":{}}}", seen.number), "cat_c_3,rewrite_7"));
    });
    let parvis = Parvis::before_http(origin.port).start();
    let query = "/graphql?query=%7Broute%28url%3A%22category-1.html%22%29%7Bid%7D%7D";
    store(&parvis, query, &[]);
    parvis.purge_tag("rewrite_7");
    assert!(!parvis.get(query, &[]).is_hit());
}

#[test]
fn a_get_with_content_passes_and_is_not_stored() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    for _ in 0..2 {
        let reply = parvis.ask("GET", "/p", &[], b"fat");
        assert!(reply.cache_status().contains("request-body"), "{}", reply.cache_status());
    }
    assert!(!parvis.get("/p", &[]).is_hit());
}

#[test]
fn paths_that_two_readers_may_read_differently_pass() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    for target in ["/a%2Fb", "/a/%2e%2e/b", "/a%00b", "/account%5Cx.css", "/a/../b"] {
        parvis.get(target, &[]);
        let reply = parvis.get(target, &[]);
        assert!(!reply.is_hit(), "{target}");
    }
}

#[test]
fn hosts_that_are_not_served_get_421_and_unknown_methods_501() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port)
        .with("site.hosts", "[\"shop.test\", \"*.shop.test\"]")
        .start();
    assert_eq!(parvis.get("/p", &[("Host", "www.shop.test")]).status, 200);
    assert_eq!(parvis.get("/p", &[("Host", "evil.test")]).status, 421);
    assert_eq!(parvis.ask("BREW", "/p", &[], b"").status, 501);
    assert_eq!(parvis.ask("TRACE", "/p", &[], b"").status, 405);
    let parvis =
        Parvis::before_http(origin.port).with("listen.unknown_methods", "\"pass\"").start();
    assert_eq!(parvis.ask("BREW", "/p", &[], b"").status, 200);
}

#[test]
fn what_is_too_large_or_malformed_is_refused_with_its_own_status() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).with("listen.body_max", "\"1KiB\"").start();
    let long = format!("/{}", "x".repeat(17 << 10));
    assert_eq!(parvis.get(&long, &[]).status, 414);
    let large = "x".repeat(17 << 10);
    assert_eq!(parvis.get("/", &[("X-Large", &large)]).status, 431);
    assert_eq!(parvis.ask("POST", "/", &[], &[b'x'; 2000]).status, 413);
    let answer = raw(parvis.port, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(origin.count(), 0, "nothing of this reached the origin");
}

#[test]
fn ttl_overrides_by_path_and_status_are_applied() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port)
        .with_toml("[[site.ttl]]\npath = \"/never\"\nttl = \"0s\"\n[[site.ttl]]\npath = \"/short\"\nttl = \"1s\"\n")
        .start();
    parvis.get("/never/x", &[]);
    assert!(!parvis.get("/never/x", &[]).is_hit());
    store(&parvis, "/neverland", &[]);
    store(&parvis, "/short", &[]);
    std::thread::sleep(Duration::from_millis(1200));
    assert!(!parvis.get("/short", &[]).cache_status().contains("ttl=8"));
}

#[test]
fn one_keep_alive_connection_serves_hits_misses_and_passes_in_turn() {
    let origin = numbered();
    let parvis = Parvis::before_http(origin.port).start();
    store(&parvis, "/p", &[]);
    let mut client = Client::connect(parvis.port);
    for _ in 0..20 {
        assert!(client.ask("GET", "/p", &[], b"").is_hit());
        assert_eq!(client.ask("POST", "/customer/x", &[], b"a=1").status, 200);
        assert_eq!(client.ask("HEAD", "/p", &[], b"").status, 200);
    }
    assert_eq!(get(parvis.port, "/.parvis/ready", &[]).status, 200);
}
