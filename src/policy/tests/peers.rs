//! What of a request leaves for another node.

use super::*;
use crate::policy::PeerRequest;

fn peer_request(policy: &Policy, request: &Request) -> Option<PeerRequest> {
    policy.peer_request(request, &resolve(request), &request.target)
}

fn text(request: &PeerRequest) -> String {
    let mut out = Vec::new();
    request.fields.write_http1(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn of_cookies_the_keyed_ones_alone_leave_this_node() {
    let policy = policy(|site| site.key_cookies = strings(&["currency"]));
    let cookie = ("Cookie", "PHPSESSID=secret; currency=EUR; form_key=secret; xcurrency=secret");
    let asked = peer_request(&policy, &get("/p.html", [cookie])).expect("may be asked for");
    assert!(asked.may_render);
    assert_eq!(asked.fields.first_str("cookie"), Some("currency=EUR"));
    assert!(!text(&asked).contains("secret"));
}

#[test]
fn what_is_rendered_by_the_session_is_not_rendered_elsewhere() {
    let cookie = ("Cookie", "PHPSESSID=secret; X-Magento-Vary=abc");
    let asked = peer_request(&magento(), &get("/p.html", [cookie])).expect("may be asked for");
    assert!(!asked.may_render);
    assert_eq!(asked.fields.first_str("cookie"), Some("X-Magento-Vary=abc"));
}

#[test]
fn neither_credentials_nor_who_the_visitor_is_leave_this_node() {
    let fields = [
        ("User-Agent", "browser"),
        ("Referer", "http://shop.test/secret"),
        ("X-Forwarded-For", "192.0.2.66"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "192.0.2.66"),
    ];
    for policy in [magento(), policy(|site| site.policy = crate::settings::PolicyKind::Generic)] {
        let request = from_loopback(get("/p.html", fields));
        let text = text(&peer_request(&policy, &request).expect("may be asked for"));
        assert!(text.contains("browser") && !text.contains("secret"), "{text}");
        assert!(!text.contains("192.0.2.66") && !text.to_lowercase().contains("host"), "{text}");
        let authorised = get("/graphql?query={a}", [("Authorization", "Bearer secret")]);
        assert_eq!(peer_request(&policy, &authorised), None);
    }
}

#[test]
fn another_node_makes_the_same_key_of_what_it_gets() {
    let policy = policy(|site| site.key_cookies = strings(&["currency"]));
    let fields = [
        ("Cookie", "a=b; currency=EUR; X-Magento-Vary=abc"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("Host", "Shop.test:81"),
    ];
    let request = get("/p.html?utm_source=x&b=1&a=2", fields);
    let plan = lookup(&policy, &request);
    let asked = policy.peer_request(&request, &resolve(&request), &plan.target).expect("asked");
    let mut there = get("/", []);
    (there.target, there.authority) = (plan.target.clone(), asked.authority);
    there.fields = asked.fields;
    assert_eq!(lookup(&policy, &there).key, plan.key);
}
