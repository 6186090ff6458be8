//! The rules of `[[traffic.rule]]` that hold where none are given.

use std::time::Duration;

use super::admission::{CALLBACK_PATHS, CHECKOUT_PATHS};
use super::{Action, Beyond, LimitRule, Per, Rate, TrafficRule, WhoKind};

/// Paging, sorting, search, what Magento's own scripts send, and what payment services return with.
pub(super) const FACETS_BESIDES: [&str; 18] = [
    "p",
    "product_list_*",
    "___*",
    "q",
    "id",
    "handles",
    "blocks",
    "originalRequest",
    "version",
    "_",
    "form_key",
    "uenc",
    "isAjax",
    "ajax",
    "sections",
    "force_new_section_timestamp",
    "token",
    "PayerID",
];

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn rate(amount: u32, seconds: u64) -> Rate {
    Rate { amount, each: Duration::from_secs(seconds) }
}

fn rule(name: &str, action: Action) -> TrafficRule {
    TrafficRule { name: name.to_owned(), action, ..TrafficRule::default() }
}

/// So many requests of a minute, in the whole fleet.
fn budget(amount: u32, per: Per) -> Action {
    Action::Limit(LimitRule {
        requests: Some(rate(amount, 60)),
        per,
        fleet: true,
        ..LimitRule::default()
    })
}

/// So many milliseconds of PHP in ten seconds.
fn php(amount: u32, per: Per, beyond: Beyond) -> Action {
    Action::Limit(LimitRule { php: Some(rate(amount, 10)), per, beyond, ..LimitRule::default() })
}

/// The rules, in order.
pub(super) fn default_rules() -> Vec<TrafficRule> {
    let mut rules = slow_things();
    rules.extend([
        TrafficRule { paths: texts(CALLBACK_PATHS), ..rule("callbacks", Action::Allow) },
        TrafficRule { paths: texts(CHECKOUT_PATHS), ..rule("checkout", Action::Allow) },
        TrafficRule { paths: texts(["/rest", "/soap", "/graphql"]), ..rule("apis", Action::Allow) },
    ]);
    rules.extend(crawlers());
    rules.extend(facets());
    rules
}

/// What is guessed or tried out, by a session and by an address. What a session is refused counts against no address.
fn slow_things() -> Vec<TrafficRule> {
    let post = || texts(["POST", "PUT"]);
    let pair = |what: &str, paths: &[&str], address: u32, session: u32| {
        [("session", Per::Session, session), ("address", Per::Address, address)].map(
            |(name, per, amount)| TrafficRule {
                methods: post(),
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
                ..rule(&format!("{what}-{name}"), budget(amount, per))
            },
        )
    };
    [
        pair("logins", &LOGIN_PATHS, 60, 10),
        pair("resets", &RESET_PATHS, 30, 5),
        pair("coupons", &COUPON_PATHS, 60, 10),
        pair("payments", &PAYMENT_PATHS, 60, 10),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Who says that it is a bot.
fn crawlers() -> Vec<TrafficRule> {
    let bots = || vec![WhoKind::VerifiedBot, WhoKind::UnverifiedBot];
    let read = || texts(["GET", "HEAD"]);
    vec![
        TrafficRule { who: vec![WhoKind::Impostor], ..rule("impostors", Action::Challenge) },
        TrafficRule {
            who: bots(),
            methods: read(),
            facets_min: Some(2),
            ..rule("bots-facets", Action::Stored)
        },
        TrafficRule {
            who: vec![WhoKind::VerifiedBot],
            ..rule("bots-crawl", php(20_000, Per::Class, Beyond::Stored))
        },
        TrafficRule {
            who: vec![WhoKind::UnverifiedBot],
            ..rule("unverified-crawl", php(5_000, Per::Class, Beyond::Stored))
        },
    ]
}

/// Layered navigation, asked for by who does not say that it is a bot.
fn facets() -> Vec<TrafficRule> {
    let deep = |name: &str, limit: LimitRule| TrafficRule {
        who: vec![WhoKind::Browser],
        methods: texts(["GET", "HEAD"]),
        facets_min: Some(3),
        ..rule(name, Action::Limit(limit))
    };
    vec![
        deep(
            "facets-network",
            LimitRule {
                requests: Some(rate(60, 60)),
                burst: Some(30),
                per: Per::Network,
                beyond: Beyond::Challenge,
                ..LimitRule::default()
            },
        ),
        deep(
            "facets-all",
            LimitRule {
                php: Some(rate(2_000, 10)),
                per: Per::Rule,
                beyond: Beyond::Challenge,
                ..LimitRule::default()
            },
        ),
        deep(
            "facets-visitor",
            LimitRule {
                requests: Some(rate(60, 60)),
                burst: Some(30),
                per: Per::Session,
                ..LimitRule::default()
            },
        ),
    ]
}

const LOGIN_PATHS: [&str; 9] = [
    "/customer/account/loginPost",
    "/*/customer/account/loginPost",
    "/customer/ajax/login",
    "/*/customer/ajax/login",
    "/rest/V1/integration/customer/token",
    "/rest/*/V1/integration/customer/token",
    "/rest/V1/integration/admin/token",
    "/rest/*/V1/integration/admin/token",
    "/admin*/admin/auth/login",
];

const RESET_PATHS: [&str; 6] = [
    "/customer/account/forgotPasswordPost",
    "/*/customer/account/forgotPasswordPost",
    "/customer/account/resetPasswordPost",
    "/*/customer/account/resetPasswordPost",
    "/rest/V1/customers/password",
    "/rest/*/V1/customers/password",
];

const COUPON_PATHS: [&str; 6] = [
    "/checkout/cart/couponPost",
    "/*/checkout/cart/couponPost",
    "/rest/V1/carts/*/coupons",
    "/rest/*/V1/carts/*/coupons",
    "/rest/V1/guest-carts/*/coupons",
    "/rest/*/V1/guest-carts/*/coupons",
];

const PAYMENT_PATHS: [&str; 8] = [
    "/rest/V1/carts/*/payment-information",
    "/rest/*/V1/carts/*/payment-information",
    "/rest/V1/guest-carts/*/payment-information",
    "/rest/*/V1/guest-carts/*/payment-information",
    "/rest/V1/carts/*/order",
    "/rest/*/V1/carts/*/order",
    "/paypal/transparent/requestSecureToken",
    "/*/paypal/transparent/requestSecureToken",
];
