//! Which requests are passed or refused in the Magento policy, and for which reason.

use bytes::Bytes;

use super::{from_loopback, get, lookup, magento, pass_reason, plan, policy, request, strings};
use crate::body::Body;
use crate::fields::Fields;
use crate::policy::{Plan, Policy, Refusal};
use crate::reason::Reason;
use crate::settings::{AuthorizationRule, Settings, UnknownMethods};

fn with_method(method: &str) -> Plan {
    plan(&magento(), &request(method, "/", Fields::new()))
}

#[test]
fn every_method_but_get_and_head_passes() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(with_method(method), Plan::Pass(Reason::Method), "{method}");
    }
    let asterisk = request("OPTIONS", "*", Fields::new());
    assert_eq!(pass_reason(&magento(), &asterisk), Some(Reason::Method));
}

#[test]
fn an_unknown_method_is_refused_or_passed_as_configured_and_a_tunnel_never_opened() {
    assert_eq!(with_method("BREW"), Plan::Refuse(Refusal::UnknownMethod));
    assert_eq!(with_method("CONNECT"), Plan::Refuse(Refusal::MethodNotAllowed));
    assert_eq!(with_method("TRACE"), Plan::Refuse(Refusal::MethodNotAllowed));
    let mut settings = Settings::default();
    settings.listen.unknown_methods = UnknownMethods::Pass;
    let passing = Policy::new(&settings).expect("valid");
    let brew = request("BREW", "/", Fields::new());
    assert_eq!(pass_reason(&passing, &brew), Some(Reason::Method));
}

#[test]
fn a_purge_and_the_load_balancers_check_come_with_any_host() {
    let policy = policy(|site| site.hosts = strings(&["shop.test"]));
    let host = || Fields::from([("Host", "10.0.0.1")]);
    assert_eq!(plan(&policy, &request("PURGE", "/", host())), Plan::Purge);
    let ready = "/.parvis/ready?x";
    assert_eq!(plan(&policy, &request("GET", ready, host())), Plan::Health);
    assert_eq!(plan(&policy, &request("HEAD", ready, host())), Plan::Health);
    let refused = Plan::Refuse(Refusal::MisdirectedHost);
    assert_eq!(plan(&policy, &request("POST", ready, host())), refused);
    assert_eq!(plan(&policy, &request("GET", "/", host())), refused);
    assert_eq!(lookup(&policy, &get("/", [("Host", "Shop.test:8080")])).key.url(), b"shop.test/");
}

#[test]
fn a_key_needs_a_host() {
    let mut old = get("/", []);
    old.authority = Bytes::new();
    assert_eq!(plan(&magento(), &old), Plan::Refuse(Refusal::MissingHost));
    old.authority = Bytes::from_static(b"shop.test/x");
    assert_eq!(plan(&magento(), &old), Plan::Refuse(Refusal::MisdirectedHost));
}

#[test]
fn customer_and_checkout_pass_as_whole_segments() {
    let policy = magento();
    for target in [
        "/customer",
        "/customer/account/x.css",
        "/fr/checkout/cart/?a",
        "/index.php/customer/section/load/",
        "/multishipping/checkout",
        "/x//customer/account",
        "/%63ustomer/account",
    ] {
        assert_eq!(pass_reason(&policy, &get(target, [])), Some(Reason::BypassPath), "{target}");
    }
    for target in ["/customer-favourites.html", "/customers", "/mycheckout", "/a?b=/checkout/"] {
        assert_eq!(pass_reason(&policy, &get(target, [])), None, "{target}");
    }
}

#[test]
fn the_vcls_way_finds_customer_and_checkout_anywhere() {
    let as_vcl = policy(|site| site.bypass_paths_as_vcl = true);
    for target in ["/customer-favourites.html", "/a/customers", "/a?b=/checkout/"] {
        assert_eq!(pass_reason(&as_vcl, &get(target, [])), Some(Reason::BypassPath), "{target}");
    }
}

#[test]
fn bypass_by_cookie_as_well_as_by_path_is_a_setting() {
    let policy = policy(|site| {
        site.bypass_paths = strings(&["/sales/guest"]);
        site.bypass_cookies = strings(&["preview"]);
    });
    let guest = get("/fr/sales/guest/form", []);
    assert_eq!(pass_reason(&policy, &guest), Some(Reason::BypassPath));
    let preview = get("/", [("Cookie", "a=1; preview")]);
    assert_eq!(pass_reason(&policy, &preview), Some(Reason::BypassCookie));
    assert_eq!(pass_reason(&policy, &get("/", [("Cookie", "xpreview=1")])), None);
    assert_eq!(pass_reason(&policy, &get("/sales/order", [])), None);
}

#[test]
fn files_and_magentos_own_check_pass() {
    let cases = [
        ("/static/version1/a.css", Some(Reason::StaticFile)),
        ("/pub/media/a.jpg", Some(Reason::StaticFile)),
        ("/media", None),
        ("/statics/a", None),
        ("/a/static/b", None),
        ("/public/static/b", None),
        ("/health_check.php", Some(Reason::HealthCheck)),
        ("/pub/health_check.php?a", Some(Reason::HealthCheck)),
        ("/a/health_check.php", None),
    ];
    for (target, expected) in cases {
        assert_eq!(pass_reason(&magento(), &get(target, [])), expected, "{target}");
    }
}

#[test]
fn a_get_with_content_passes() {
    let policy = magento();
    let mut fat = get("/", []);
    fat.body = Body::from(Bytes::from_static(b"a=1"));
    assert_eq!(pass_reason(&policy, &fat), Some(Reason::RequestBody));
    for fields in [[("Content-Length", "1")], [("Transfer-Encoding", "chunked")]] {
        assert_eq!(pass_reason(&policy, &get("/", fields)), Some(Reason::RequestBody));
    }
    assert_eq!(pass_reason(&policy, &get("/", [("Content-Length", "0")])), None);
}

#[test]
fn paths_on_which_readers_may_disagree_pass_before_any_other_rule() {
    for target in ["/static/..%2fcustomer/account", "/a%00", "/a/../b", "/static/%2e%2e/x", "//a"] {
        let reason = pass_reason(&magento(), &get(target, []));
        assert_eq!(reason, Some(Reason::AmbiguousPath), "{target}");
    }
}

#[test]
fn a_session_id_in_the_url_passes() {
    for target in ["/?SID=a", "/p?b=1&PHPSESSID=a", "/?___SID=U"] {
        let reason = pass_reason(&magento(), &get(target, []));
        assert_eq!(reason, Some(Reason::SessionInUrl), "{target}");
    }
}

#[test]
fn a_token_passes_outside_graphql_and_within_it_without_a_cache_id() {
    let policy = magento();
    let bearer = ("Authorization", "Bearer t");
    let basic = ("Authorization", "Basic t");
    let id = ("X-Magento-Cache-Id", "i");
    let cases = [
        (get("/rest/V1/x", [bearer]), Some(Reason::Authorization)),
        (get("/", [basic]), Some(Reason::Authorization)),
        (get("/graphql", [bearer]), Some(Reason::GraphqlToken)),
        (get("/graphql", [("Authorization", "bearer t")]), Some(Reason::GraphqlToken)),
        (get("/graphql", [basic]), Some(Reason::Authorization)),
        (get("/graphql", [bearer, id]), None),
        (get("/graphqlx", [bearer, id]), Some(Reason::Authorization)),
    ];
    for (request, expected) in cases {
        assert_eq!(pass_reason(&policy, &request), expected, "{:?}", request.target);
    }
}

#[test]
fn the_vcls_way_looks_authorization_up_as_if_it_were_not_there() {
    let as_vcl = policy(|site| site.authorization = AuthorizationRule::AsVcl);
    let with = lookup(&as_vcl, &get("/", [("Authorization", "Basic t")]));
    assert_eq!(with.key, lookup(&as_vcl, &get("/", [])).key);
    let token = get("/graphql", [("Authorization", "Bearer t")]);
    assert_eq!(pass_reason(&as_vcl, &token), Some(Reason::GraphqlToken));
}

#[test]
fn with_storing_off_everything_passes() {
    let mut settings = Settings::default();
    settings.store.memory_bytes = 0;
    let policy = Policy::new(&settings).expect("valid");
    assert_eq!(pass_reason(&policy, &get("/", [])), Some(Reason::StoreOff));
    assert_eq!(pass_reason(&policy, &get("/static/a", [])), Some(Reason::StaticFile));
    assert_eq!(plan(&policy, &from_loopback(request("PURGE", "/", Fields::new()))), Plan::Purge);
}
