//! The rules of `[[traffic.rule]]` that hold where none are given.

use std::time::Duration;

use super::admission::{ADMIN_PATHS, CALLBACK_PATHS, CHECKOUT_PATHS};
use super::{Action, Beyond, HeaderMatch, HeaderWants, LimitRule, Per, Rate, TrafficRule, WhoKind};

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

/// What is guessed or tried out: by a session, by an address, and where addresses cost nothing, by a network. What a
/// session is refused counts against no address.
fn slow_things() -> Vec<TrafficRule> {
    let posted = |name: &str, paths: &[&str], amount: u32, per: Per| TrafficRule {
        methods: texts(["POST", "PUT"]),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..rule(name, budget(amount, per))
    };
    let pair = |what: &str, paths: &[&str], address: u32, session: u32| {
        [
            posted(&format!("{what}-session"), paths, session, Per::Session),
            posted(&format!("{what}-address"), paths, address, Per::Address),
        ]
    };
    let mut rules = vec![
        posted("logins-network", &LOGIN_PATHS, 300, Per::Network),
        // Its form is posted to the page that was asked for.
        posted("admin-address", &ADMIN_PATHS, 300, Per::Address),
    ];
    rules.extend(pair("logins", &LOGIN_PATHS, 60, 10));
    rules.extend(pair("resets", &RESET_PATHS, 30, 5));
    rules.extend(pair("accounts", &ACCOUNT_PATHS, 30, 5));
    rules.extend(pair("coupons", &COUPON_PATHS, 60, 10));
    rules.extend(pair("payments", &PAYMENT_PATHS, 60, 10));
    rules
}

/// Who says that it is a bot.
fn crawlers() -> Vec<TrafficRule> {
    // What is sent to the shop is a payment service's or another system's.
    let crawls = |name: &str, who: WhoKind, milliseconds: u32| TrafficRule {
        who: vec![who],
        methods: texts(["GET", "HEAD"]),
        ..rule(name, php(milliseconds, Per::Class, Beyond::Stored))
    };
    let combines = |name: &str, who: WhoKind, facets: u32| TrafficRule {
        who: vec![who],
        facets_min: Some(facets),
        ..rule(name, Action::Stored)
    };
    vec![
        TrafficRule { who: vec![WhoKind::Impostor], ..rule("impostors", Action::Challenge) },
        // A product of a search engine's listing has its colour and its size in the URL.
        combines("verified-facets", WhoKind::VerifiedBot, 3),
        combines("bots-facets", WhoKind::UnverifiedBot, 2),
        crawls("bots-crawl", WhoKind::VerifiedBot, 20_000),
        crawls("unverified-crawl", WhoKind::UnverifiedBot, 5_000),
    ]
}

/// Layered navigation, asked for by who does not say that it is a bot.
fn facets() -> Vec<TrafficRule> {
    let limit = |name: &str, who: WhoKind, facets: u32, limit: LimitRule| TrafficRule {
        who: vec![who],
        facets_min: Some(facets),
        ..rule(name, Action::Limit(limit))
    };
    let of_php = |milliseconds| LimitRule {
        php: Some(rate(milliseconds, 10)),
        per: Per::Rule,
        beyond: Beyond::Challenge,
        ..LimitRule::default()
    };
    let a_minute = |amount, per, beyond| LimitRule {
        requests: Some(rate(amount, 60)),
        burst: Some(amount / 2),
        per,
        beyond,
        ..LimitRule::default()
    };
    let network = |amount, beyond| a_minute(amount, Per::Network, beyond);
    vec![
        // A visitor's first page is seldom a filter that nobody has asked for before. From the second one on a browser has
        // cookies of Magento's scripts, long before there is a session.
        TrafficRule {
            headers: vec![HeaderMatch { name: "cookie".to_owned(), wants: HeaderWants::Absent }],
            ..limit("facets-newcomers", WhoKind::NewVisitor, 1, of_php(1_000))
        },
        limit("facets-network", WhoKind::Browser, 3, network(60, Beyond::Challenge)),
        limit("facets-all", WhoKind::Browser, 3, of_php(2_000)),
        limit("facets-visitor", WhoKind::Browser, 3, a_minute(60, Per::Session, Beyond::Wait)),
        // Sessions cost nothing, and one browser's pass counts in all of its network.
        limit("facets-passed", WhoKind::Passed, 3, network(300, Beyond::Wait)),
    ]
}

const LOGIN_PATHS: [&str; 13] = [
    "/customer/account/loginPost",
    "/*/customer/account/loginPost",
    "/customer/ajax/login",
    "/*/customer/ajax/login",
    "/rest/V1/integration/customer/token",
    "/rest/*/V1/integration/customer/token",
    "/rest/V1/integration/admin/token",
    "/rest/*/V1/integration/admin/token",
    "/rest/*/async/V1/integration/customer/token",
    "/rest/*/async/V1/integration/admin/token",
    "/rest/V1/tfa",
    "/rest/*/V1/tfa",
    "/rest/*/async/V1/tfa",
];

const RESET_PATHS: [&str; 6] = [
    "/customer/account/forgotPasswordPost",
    "/*/customer/account/forgotPasswordPost",
    "/customer/account/resetPasswordPost",
    "/*/customer/account/resetPasswordPost",
    "/rest/V1/customers/password",
    "/rest/*/V1/customers/password",
];

const ACCOUNT_PATHS: [&str; 2] = ["/customer/account/createPost", "/*/customer/account/createPost"];

const COUPON_PATHS: [&str; 6] = [
    "/checkout/cart/couponPost",
    "/*/checkout/cart/couponPost",
    "/rest/V1/carts/*/coupons",
    "/rest/*/V1/carts/*/coupons",
    "/rest/V1/guest-carts/*/coupons",
    "/rest/*/V1/guest-carts/*/coupons",
];

const PAYMENT_PATHS: [&str; 14] = [
    "/rest/V1/carts/*/payment-information",
    "/rest/*/V1/carts/*/payment-information",
    "/rest/V1/guest-carts/*/payment-information",
    "/rest/*/V1/guest-carts/*/payment-information",
    "/rest/V1/carts/*/order",
    "/rest/*/V1/carts/*/order",
    "/rest/V1/guest-carts/*/order",
    "/rest/*/V1/guest-carts/*/order",
    "/multishipping/checkout/overviewPost",
    "/*/multishipping/checkout/overviewPost",
    "/paypal/express/placeOrder",
    "/*/paypal/express/placeOrder",
    "/paypal/transparent/requestSecureToken",
    "/*/paypal/transparent/requestSecureToken",
];
