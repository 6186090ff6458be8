//! Properties of plans.

use bytes::Bytes;
use proptest::prelude::*;

use super::{get, policy, request, resolve};
use crate::fields::Fields;
use crate::policy::{Plan, Policy, Purpose};
use crate::settings::PolicyKind;

/// What the Magento policy keys a storefront page by.
#[derive(Clone, Debug, PartialEq)]
struct Page {
    host: String,
    target: String,
    vary: String,
    country: String,
    currency: Option<String>,
}

fn page() -> impl Strategy<Value = Page> {
    let part = || "[a-b]{0,2}";
    ("[a-b]{1,2}", "/[a-b]{0,2}(\\?[a-b]=[a-b])?", part(), part(), prop::option::of(part()))
        .prop_map(|(host, target, vary, country, currency)| Page {
            host,
            target,
            vary,
            country,
            currency,
        })
}

fn keyed() -> Policy {
    policy(|site| {
        site.key_headers = vec!["X-Country".to_owned()];
        site.key_cookies = vec!["currency".to_owned()];
    })
}

fn key(policy: &Policy, page: &Page) -> Bytes {
    let currency = page.currency.as_ref().map(|value| format!("; currency={value}"));
    let cookie = format!("X-Magento-Vary={}{}", page.vary, currency.unwrap_or_default());
    let fields = [("Host", &*page.host), ("Cookie", &*cookie), ("X-Country", &*page.country)];
    super::lookup(policy, &get(&page.target, fields)).key.as_bytes().clone()
}

proptest! {
    #[test]
    fn different_pages_never_have_equal_keys(one in page(), two in page()) {
        let policy = keyed();
        prop_assert_eq!(key(&policy, &one) == key(&policy, &two), one == two);
    }

    #[test]
    fn no_bytes_make_planning_panic(
        target in prop::collection::vec(any::<u8>(), 0..40),
        authority in prop::collection::vec(any::<u8>(), 0..12),
        cookie in prop::collection::vec(any::<u8>(), 0..24),
        connection in "[ -~]{0,16}",
        generic in any::<bool>(),
    ) {
        let policy = policy(|site| {
            site.policy = if generic { PolicyKind::Generic } else { PolicyKind::Magento };
            site.bypass_cookies = vec!["b".to_owned()];
        });
        let mut fields = Fields::new();
        fields.push_static("Cookie", cookie.clone());
        fields.push_static("Connection", connection);
        fields.push_static("Referer", cookie.clone());
        fields.push_static("X-Forwarded-For", cookie);
        let mut request = request("GET", "/", fields);
        request.target = target.into();
        request.authority = authority.into();
        let client = resolve(&request);
        if let Plan::Lookup(plan) = policy.plan(&request, &client) {
            policy.origin_request(&request, &client, &plan.target, Purpose::Fill);
            // Nothing that separates the parts of a key can come from its URL.
            prop_assert!(!plan.key.url().contains(&0));
            prop_assert!(plan.target.starts_with(b"/"));
        }
        policy.origin_request(&request, &client, &request.target, Purpose::Pass);
        policy.url_scope(&request.authority, &request.target);
    }

    #[test]
    fn what_the_origin_is_asked_for_has_the_same_key(query in "([ab]|utm_a|gclid)(=[01])?(&([ab]|utm_a|gclid)?(=[01])?){0,5}") {
        let policy = policy(|_| {});
        let first = super::lookup(&policy, &get(&format!("/p?{query}"), []));
        let target = std::str::from_utf8(&first.target).expect("text");
        let again = super::lookup(&policy, &get(target, []));
        prop_assert_eq!(&again.key, &first.key);
        prop_assert_eq!(&again.target, &first.target);
    }
}
