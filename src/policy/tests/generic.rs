//! The generic policy: RFC 9111 alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    from_loopback, get, head, lookup, pass_reason, plan, request, resolve, share, strings,
};
use crate::exchange::Request;
use crate::fields::Fields;
use crate::policy::{Judgement, Plan, Policy, Refusal, Storable};
use crate::reason::Reason;
use crate::settings::{AuthorizationRule, PolicyKind, Settings, Site};

fn generic(change: impl FnOnce(&mut Site)) -> Policy {
    let mut settings = Settings::defaults_of(PolicyKind::Generic);
    change(&mut settings.site);
    Policy::new(&settings).expect("valid settings")
}

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

fn judged<const N: usize>(
    policy: &Policy,
    request: &Request,
    status: u16,
    fields: [(&'static str, &str); N],
) -> Result<Storable, Reason> {
    match policy.judge(&lookup(policy, request), &head(status, fields), noon()) {
        Judgement::Store(storable) => Ok(storable),
        Judgement::Uncacheable { reason, .. } => Err(reason),
    }
}

fn page<const N: usize>(status: u16, fields: [(&'static str, &str); N]) -> Result<u64, Reason> {
    let judged = judged(&generic(|_| {}), &get("/", []), status, fields);
    judged.map(|storable| storable.ttl().as_secs())
}

#[test]
fn the_key_is_the_url_as_it_came() {
    let policy = generic(|_| {});
    let same = |one, two| share(&policy, &get(one, []), &get(two, []));
    assert!(!same("/p?a=1&b=2", "/p?b=2&a=1"));
    assert!(!same("/p", "/p?"));
    assert!(!same("/p?gclid=1", "/p"));
    assert!(same("/customer?x", "/customer?x"));
    assert_eq!(lookup(&policy, &get("/p?b&&a", [])).target, "/p?b&&a");
}

#[test]
fn the_port_counts_but_for_the_schemes_own() {
    let policy = generic(|_| {});
    let host = |host| get("/", [("Host", host)]);
    assert!(share(&policy, &host("a"), &host("A:80")));
    assert!(!share(&policy, &host("a"), &host("a:443")));
    assert!(!share(&policy, &host("a:81"), &host("a:82")));
    assert_eq!(lookup(&policy, &host("a:81")).key.url(), b"a/");
}

#[test]
fn nothing_of_magento_counts() {
    let policy = generic(|_| {});
    let odd = get("/", [("Cookie", "X-Magento-Vary=v"), ("X-Requested-With", "XMLHttpRequest")]);
    assert!(share(&policy, &get("/", []), &odd));
    for target in ["/customer/", "/static/a", "/?SID=1", "/health_check.php"] {
        assert_eq!(pass_reason(&policy, &get(target, [])), None, "{target}");
    }
    let tags = judged(
        &policy,
        &get("/", []),
        200,
        [("Cache-Control", "max-age=9"), ("X-Magento-Tags", "a")],
    );
    assert!(tags.expect("stored").tags().is_empty());
}

#[test]
fn configured_parameters_leave_and_configured_paths_pass() {
    let policy = generic(|site| {
        site.strip_parameters = strings(&["utm_*"]);
        site.bypass_paths = strings(&["/api"]);
        site.bypass_cookies = strings(&["c"]);
    });
    assert!(share(&policy, &get("/p?b&utm_x=1&a", []), &get("/p?b&a", [])));
    assert_eq!(pass_reason(&policy, &get("/api/x", [])), Some(Reason::BypassPath));
    let cookie = get("/", [("Cookie", "c=1")]);
    assert_eq!(pass_reason(&policy, &cookie), Some(Reason::BypassCookie));
}

#[test]
fn other_methods_content_ambiguity_and_missing_hosts_are_as_in_the_magento_policy() {
    let policy = generic(|_| {});
    assert_eq!(pass_reason(&policy, &request("POST", "/", Fields::new())), Some(Reason::Method));
    let fat = get("/", [("Content-Length", "1")]);
    assert_eq!(pass_reason(&policy, &fat), Some(Reason::RequestBody));
    assert_eq!(pass_reason(&policy, &get("/a%2fb", [])), Some(Reason::AmbiguousPath));
    let mut old = get("/", []);
    old.authority = bytes::Bytes::new();
    assert_eq!(plan(&policy, &old), Plan::Refuse(Refusal::MissingHost));
}

#[test]
fn with_storing_off_everything_passes() {
    let mut settings = Settings::defaults_of(PolicyKind::Generic);
    settings.store.memory_bytes = 0;
    let policy = Policy::new(&settings).expect("valid");
    assert_eq!(pass_reason(&policy, &get("/a/../b", [])), Some(Reason::StoreOff));
}

#[test]
fn an_allowed_client_forces_a_fetch() {
    let policy = generic(|_| {});
    let asks = || get("/", [("Cache-Control", "no-cache")]);
    assert!(lookup(&policy, &from_loopback(asks())).force);
    assert!(!lookup(&policy, &asks()).force);
}

#[test]
fn freshness_is_what_the_response_says_less_its_age() {
    assert_eq!(page(200, [("Cache-Control", "max-age=9, s-maxage=5")]), Ok(5));
    assert_eq!(page(200, [("Cache-Control", "max-age=9"), ("Age", "4")]), Ok(5));
    assert_eq!(page(200, [("Cache-Control", "max-age=9"), ("Age", "9")]), Err(Reason::NoLifetime));
    let minute_ago = httpdate::fmt_http_date(noon() - Duration::from_mins(1));
    assert_eq!(page(200, [("Cache-Control", "max-age=90"), ("Date", &minute_ago)]), Ok(30));
    let later = httpdate::fmt_http_date(noon() + Duration::from_mins(1));
    assert_eq!(page(200, [("Expires", &later)]), Ok(60));
    assert_eq!(page(200, [("Expires", "0")]), Err(Reason::NoLifetime));
    let hour_ago = httpdate::fmt_http_date(noon() - Duration::from_hours(1));
    assert_eq!(page(200, [("Last-Modified", &hour_ago)]), Ok(360));
    assert_eq!(page(302, [("Expires", "0")]), Err(Reason::NoLifetime));
    assert_eq!(page(200, []), Err(Reason::NoLifetime));
}

#[test]
fn statuses_are_stored_with_a_lifetime_of_their_own() {
    let fresh = ("Cache-Control", "max-age=9");
    for status in [200, 302, 404, 410, 500] {
        assert_eq!(page(status, [fresh]), Ok(9), "{status}");
    }
    assert_eq!(page(206, [fresh]), Err(Reason::Partial));
    assert_eq!(page(304, [fresh]), Err(Reason::Status));
    assert_eq!(page(103, [fresh]), Err(Reason::Status));
}

#[test]
fn a_shared_cache_keeps_nothing_that_is_held_back() {
    let cases: [(&str, Reason); 4] = [
        ("max-age=9, private", Reason::Private),
        ("max-age=9, no-store", Reason::NoStore),
        ("max-age=9, no-cache", Reason::NoCache),
        ("max-age=9, private=\"a\", private", Reason::Private),
    ];
    for (control, reason) in cases {
        assert_eq!(page(200, [("Cache-Control", control)]), Err(reason), "{control}");
    }
    let fresh = ("Cache-Control", "max-age=9");
    assert_eq!(page(200, [fresh, ("Vary", "*")]), Err(Reason::VaryAny));
    // RFC 9111 allows these, and Magento's policy does not.
    assert_eq!(page(200, [fresh, ("Set-Cookie", "a=b")]), Ok(9));
    assert_eq!(page(200, [fresh, ("Vary", "Accept")]), Ok(9));
    assert_eq!(page(200, [fresh, ("Content-Encoding", "br")]), Ok(9));
}

#[test]
fn fields_that_are_held_back_are_for_the_one_client_alone() {
    let control = [("Cache-Control", "max-age=9, private=\"X-A, set-cookie\", no-cache=x-b")];
    let storable = judged(&generic(|_| {}), &get("/", []), 200, control).expect("stored");
    let fields = Fields::from([("x-a", "1"), ("Set-Cookie", "a=b"), ("X-B", "2"), ("X-C", "3")]);
    let held_back: Vec<_> = fields.iter().map(|field| storable.withholds(field)).collect();
    assert_eq!(held_back, [true, true, true, false]);
}

#[test]
fn what_can_be_validated_is_kept_without_a_lifetime() {
    for control in ["no-cache", "max-age=0", "must-revalidate, max-age=0"] {
        let fields = [("Cache-Control", control), ("ETag", "\"a\"")];
        let storable = judged(&generic(|_| {}), &get("/", []), 200, fields).expect("stored");
        assert_eq!(storable.ttl(), Duration::ZERO, "{control}");
        assert!(storable.keep() > Duration::ZERO && storable.grace().is_zero(), "{control}");
    }
    assert_eq!(page(200, [("Cache-Control", "no-store"), ("ETag", "a")]), Err(Reason::NoStore));
}

#[test]
fn a_status_that_is_not_understood_is_stored_unless_that_is_asked_for() {
    assert_eq!(page(599, [("Cache-Control", "max-age=9")]), Ok(9));
    let control = [("Cache-Control", "max-age=9, must-understand, no-store")];
    assert_eq!(page(599, control), Err(Reason::Status));
    assert_eq!(page(200, control), Ok(9));
}

#[test]
fn a_part_is_kept_for_requests_of_the_same_range() {
    let policy = generic(|_| {});
    let ranged = |range| get("/", [("Range", range)]);
    let key = |range| lookup(&policy, &ranged(range)).range.expect("ranged");
    assert_ne!(key("bytes=0-1"), key("bytes=0-2"));
    assert_eq!(key("bytes=0-1"), key("bytes=0-1"));
    assert_eq!(lookup(&policy, &get("/", [])).range, None);
    let fields = [("Cache-Control", "max-age=9"), ("Content-Range", "bytes 0-1/9")];
    assert!(judged(&policy, &ranged("bytes=0-1"), 206, fields).is_ok());
    let fields = [("Cache-Control", "max-age=9"), ("Vary", "a")];
    assert_eq!(judged(&policy, &ranged("bytes=0-1"), 206, fields).err(), Some(Reason::Partial));
}

#[test]
fn a_change_ends_what_it_names_of_the_same_origin() {
    let policy = generic(|_| {});
    let ends = |method: &str, status: u16, fields: Fields| {
        let request = request(method, "/a/b?c", Fields::new());
        let status = http::StatusCode::from_u16(status).expect("a status");
        let scopes = policy.invalidated(&request, &resolve(&request), status, &fields);
        scopes.iter().map(|scope| format!("{scope:?}")).collect::<Vec<_>>()
    };
    let named = || Fields::from([("Location", "/x"), ("Content-Location", "http://shop.test/y")]);
    assert_eq!(ends("POST", 200, named()).len(), 3);
    assert_eq!(ends("M-SEARCH", 302, Fields::new()).len(), 1);
    assert_eq!(ends("POST", 500, named()), [""; 0]);
    assert_eq!(ends("OPTIONS", 200, named()), [""; 0]);
    let elsewhere = Fields::from([("Location", "http://other.test/x")]);
    assert_eq!(ends("PUT", 201, elsewhere).len(), 1);
    let request = request("POST", "/", Fields::new());
    let magento = super::magento();
    let client = resolve(&request);
    assert!(magento.invalidated(&request, &client, http::StatusCode::OK, &named()).is_empty());
}

#[test]
fn the_content_of_a_post_that_says_so_answers_a_get() {
    let policy = generic(|_| {});
    let post = request("POST", "/a", Fields::new());
    let kept = |fields: [(&'static str, &str); 2]| {
        policy.content_of_post(&post, &resolve(&post), &head(200, fields), noon()).is_some()
    };
    assert!(kept([("Cache-Control", "max-age=9"), ("Content-Location", "/a")]));
    assert!(!kept([("Cache-Control", "max-age=9"), ("Content-Location", "/b")]));
    assert!(!kept([("Cache-Control", "max-age=0"), ("Content-Location", "/a")]));
    assert!(!kept([("Cache-Control", "max-age=9"), ("Location", "/a")]));
}

#[test]
fn authorization_passes_or_needs_a_response_that_allows_it() {
    let with = get("/", [("Authorization", "Basic x")]);
    let passing = generic(|site| site.authorization = AuthorizationRule::Pass);
    assert_eq!(pass_reason(&passing, &with), Some(Reason::Authorization));
    let looking = generic(|_| {});
    let judged = |control| judged(&looking, &with, 200, [("Cache-Control", control)]).is_ok();
    assert!(!judged("max-age=9"));
    for allowing in ["max-age=9, public", "s-maxage=9", "max-age=9, must-revalidate"] {
        assert!(judged(allowing), "{allowing}");
    }
}

#[test]
fn nothing_stale_is_given_that_must_be_validated_first() {
    let storable = |control: &str| {
        judged(&generic(|_| {}), &get("/", []), 200, [("Cache-Control", control)]).expect("stored")
    };
    assert!(storable("max-age=9").stale_if_disconnected());
    assert!(storable("max-age=9").grace().is_zero());
    let told = storable("max-age=9, stale-while-revalidate=5, stale-if-error=7");
    assert_eq!(told.grace(), Duration::from_secs(5));
    assert_eq!(told.stale_if_error(), Duration::from_secs(7));
    let stale = "stale-while-revalidate=5, stale-if-error=7";
    for control in ["max-age=9, must-revalidate", "max-age=9, proxy-revalidate", "s-maxage=9"] {
        let line = format!("{control}, {stale}");
        let storable = storable(&line);
        assert!(!storable.stale_if_disconnected(), "{control}");
        assert!(storable.grace().is_zero() && storable.stale_if_error().is_zero(), "{control}");
    }
}
