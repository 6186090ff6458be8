//! Which requests share a stored response.

use super::{from_loopback, get, lookup, magento, policy, request, resolve, share, strings};
use crate::fields::Fields;
use crate::policy::PurgeScope;

#[test]
fn an_unknown_x_magento_vary_never_gets_the_guests_page() {
    let policy = magento();
    let guest = get("/", []);
    let unknown = get("/", [("Cookie", "X-Magento-Vary=deadbeef")]);
    assert!(!share(&policy, &guest, &unknown));
    assert_eq!(lookup(&policy, &unknown).magento_vary, "deadbeef");
    // Nobody is anything but a guest by an empty value, or by another cookie.
    for cookie in ["X-Magento-Vary=", "xX-Magento-Vary=a", "PHPSESSID=X-Magento-Vary=a"] {
        assert!(share(&policy, &guest, &get("/", [("Cookie", cookie)])), "{cookie}");
    }
}

#[test]
fn p_with_only_stripped_parameters_equals_p() {
    let policy = magento();
    let plain = get("/p/", []);
    for target in ["/p/?", "/p/?utm_source=x", "/p/?gclid=", "/p/?gclid=a~b&", "/p/?&&"] {
        assert!(share(&policy, &plain, &get(target, [])), "{target}");
        assert_eq!(lookup(&policy, &get(target, [])).target, "/p/", "{target}");
    }
    for target in ["/p/?x", "/p/?xgclid=", "/p/?p=2"] {
        assert!(!share(&policy, &plain, &get(target, [])), "{target}");
    }
}

#[test]
fn the_origin_is_asked_for_the_target_that_is_in_the_key() {
    let plan = lookup(&magento(), &get("/p?b=2&utm_x=1&a=1", []));
    assert_eq!(plan.target, "/p?a=1&b=2");
    assert_eq!(plan.key.url(), b"shop.test/p?a=1&b=2");
}

#[test]
fn a_target_that_does_not_change_is_shared_and_not_copied() {
    let request = get("/p?a=1&b=2", []);
    assert_eq!(lookup(&magento(), &request).target.as_ptr(), request.target.as_ptr());
}

#[test]
fn path_case_is_never_folded() {
    assert!(!share(&magento(), &get("/P", []), &get("/p", [])));
}

#[test]
fn a_slash_at_the_end_counts_unless_a_setting_says_otherwise() {
    let (with, without) = (get("/p/?a=1", []), get("/p?a=1", []));
    assert!(!share(&magento(), &with, &without));
    let ignoring = policy(|site| site.ignore_trailing_slash = true);
    assert!(share(&ignoring, &with, &without));
    assert_eq!(lookup(&ignoring, &with).target, "/p/?a=1");
    assert_eq!(lookup(&ignoring, &get("/", [])).key.url(), b"shop.test/");
}

#[test]
fn an_encoded_letter_and_the_letter_stay_apart() {
    assert!(!share(&magento(), &get("/a%6C", []), &get("/al", [])));
    assert!(!share(&magento(), &get("/?a=%6C", []), &get("/?a=l", [])));
}

#[test]
fn the_port_leaves_host_in_the_key_and_its_case_does_not_count() {
    let policy = magento();
    let plain = get("/", [("Host", "shop.test")]);
    for host in ["shop.test:80", "shop.test:6081", "SHOP.test"] {
        assert!(share(&policy, &plain, &get("/", [("Host", host)])), "{host}");
    }
    assert!(!share(&policy, &plain, &get("/", [("Host", "other.test")])));
}

#[test]
fn the_scheme_is_part_of_the_key_as_a_trusted_hop_says_it_and_not_as_a_stranger_does() {
    let policy = magento();
    let https = || get("/", [("X-Forwarded-Proto", "https")]);
    assert!(share(&policy, &get("/", []), &https()));
    assert!(!share(&policy, &from_loopback(get("/", [])), &from_loopback(https())));
    let mut tls = get("/", []);
    tls.connection.tls = true;
    assert!(share(&policy, &tls, &from_loopback(https())));
}

#[test]
fn several_http1_cookie_lines_are_one() {
    let policy = magento();
    let one = get("/", [("Cookie", "a=1; X-Magento-Vary=v")]);
    let two = get("/", [("Cookie", "a=1"), ("cookie", "X-Magento-Vary=v")]);
    assert!(share(&policy, &one, &two));
    assert_eq!(lookup(&policy, &two).magento_vary, "v");
}

#[test]
fn a_12_kb_cookie_causes_neither_an_error_nor_a_miss_each_time() {
    let policy = magento();
    let large =
        |letter: &str| get("/", [("Cookie", &*format!("a={}; b", letter.repeat(12 << 10)))]);
    assert!(share(&policy, &large("x"), &large("y")));
    assert!(share(&policy, &large("x"), &get("/", [])));
}

#[test]
fn head_and_get_share_a_key() {
    assert!(share(&magento(), &request("HEAD", "/", Fields::new()), &get("/", [])));
}

#[test]
fn headers_outside_the_key_do_not_tell_requests_apart() {
    let other = get(
        "/",
        [
            ("User-Agent", "x"),
            ("Accept", "image/webp"),
            ("Accept-Language", "de"),
            ("Accept-Encoding", "br"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Original-URL", "/admin"),
            ("Origin", "http://evil.test"),
            ("X-Magento-Cache-Id", "a"),
            ("Store", "fr"),
            ("Range", "bytes=0-1"),
        ],
    );
    assert!(share(&magento(), &get("/", []), &other));
}

#[test]
fn a_script_and_a_visitor_do_not_share_a_response() {
    let script = get("/a", [("X-Requested-With", "XMLHttpRequest")]);
    assert!(!share(&magento(), &get("/a", []), &script));
    assert!(share(&magento(), &get("/a", []), &get("/a", [("X-Requested-With", "app.test")])));
}

#[test]
fn graphql_adds_cache_id_token_store_currency_and_origin() {
    let policy = magento();
    let plain = get("/graphql?query=a", []);
    let different = [
        get("/graphql?query=a", [("X-Magento-Cache-Id", "i")]),
        get("/graphql?query=a", [("X-Magento-Cache-Id", "i"), ("Authorization", "Bearer t")]),
        get("/graphql?query=a", [("Store", "i")]),
        get("/graphql?query=a", [("Content-Currency", "i")]),
        get("/graphql?query=a", [("Origin", "i")]),
        get("/graphql?query=a", [("Cookie", "X-Magento-Vary=i")]),
    ];
    for (at, one) in different.iter().enumerate() {
        assert!(!share(&policy, &plain, one), "{at}");
        for two in &different[at + 1..] {
            assert!(!share(&policy, one, two), "{at}");
        }
    }
}

#[test]
fn with_a_cache_id_the_vary_cookie_and_whose_token_it_is_do_not_count() {
    let id = ("X-Magento-Cache-Id", "i");
    let one = get("/graphql", [id, ("Authorization", "Bearer a")]);
    let two = get("/graphql", [id, ("authorization", "bearer b"), ("Cookie", "X-Magento-Vary=v")]);
    assert!(share(&magento(), &one, &two));
    let plan = lookup(&magento(), &one);
    assert_eq!(plan.graphql_cache_id.as_deref(), Some(&b"i"[..]));
    assert!(plan.authorized);
}

#[test]
fn rest_adds_accept_and_origin() {
    let rest = |accept| get("/rest/V1/x", [("Accept", accept)]);
    assert!(!share(&magento(), &rest("application/json"), &rest("application/xml")));
}

#[test]
fn the_first_design_exception_that_matches_is_part_of_the_key() {
    let policy = policy(|site| site.design_exceptions = strings(&["(?i)iphone|ipad", "Mobile"]));
    let agent = |agent| get("/", [("User-Agent", agent)]);
    assert!(share(&policy, &agent("iPhone Mobile"), &agent("IPAD")));
    assert!(!share(&policy, &agent("iPhone Mobile"), &agent("Mobile")));
    assert!(!share(&policy, &agent("Mobile"), &agent("Desktop")));
    assert!(share(&policy, &agent("Desktop"), &get("/", [])));
}

#[test]
fn configured_cookies_and_headers_are_part_of_the_key() {
    let policy = policy(|site| {
        site.key_cookies = strings(&["a", "b"]);
        site.key_headers = strings(&["X-Country"]);
    });
    let cookie = |cookie| get("/", [("Cookie", cookie)]);
    assert!(!share(&policy, &cookie("a=1"), &cookie("a=2")));
    assert!(!share(&policy, &cookie("a=1"), &cookie("b=1")));
    assert!(!share(&policy, &cookie("a="), &cookie("")));
    assert!(share(&policy, &cookie("a=1; c=3"), &cookie("c=4; a=1")));
    let country = |country| get("/", [("x-country", country)]);
    assert!(!share(&policy, &country("de"), &country("fr")));
    assert!(!share(&policy, &country(""), &get("/", [])));
}

#[test]
fn a_strangers_no_cache_or_pragma_forces_nothing_and_an_allowed_clients_does() {
    let policy = magento();
    let asks = [("Cache-Control", "max-age=0, No-Cache"), ("Pragma", "no-cache")];
    for (name, value) in asks {
        assert!(!lookup(&policy, &get("/", [(name, value)])).force, "{name}");
        assert!(lookup(&policy, &from_loopback(get("/", [(name, value)]))).force, "{name}");
        // Whoever comes through a trusted hop counts, and not the hop.
        let forwarded = get("/", [(name, value), ("X-Forwarded-For", "192.0.2.7")]);
        assert!(!lookup(&policy, &from_loopback(forwarded)).force, "{name}");
    }
    assert!(!lookup(&policy, &from_loopback(get("/", [("Cache-Control", "max-age=0")]))).force);
}

#[test]
fn forged_forwarding_headers_give_no_right_to_force() {
    let request = get("/", [("Pragma", "no-cache"), ("X-Forwarded-For", "127.0.0.1")]);
    assert!(resolve(&request).forged);
    assert!(!lookup(&magento(), &request).force);
}

#[test]
fn a_url_that_is_purged_is_normalised_as_a_request_is() {
    let policy = magento();
    let PurgeScope::Url(url) = policy.url_scope(b"Shop.test:80", b"/p?b=1&a=2&utm_x=3") else {
        panic!("a URL");
    };
    let of_guest = lookup(&policy, &get("/p?a=2&b=1", []));
    let of_customer = lookup(&policy, &get("/p?a=2&b=1", [("Cookie", "X-Magento-Vary=v")]));
    assert_eq!(url, of_guest.key.url());
    assert_eq!(url, of_customer.key.url());
    assert_ne!(of_guest.key, of_customer.key);
}
