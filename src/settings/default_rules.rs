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
    rules.extend(graphql());
    rules.push(TrafficRule { paths: texts(CALLBACK_PATHS), ..rule("callbacks", Action::Allow) });
    rules.extend(scripts());
    rules.extend([
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

/// What GraphQL has of the same things, by the names of operations: of several in one request each counts. Then PHP's time
/// for all of it, since queries by GET are not named.
fn graphql() -> Vec<TrafficRule> {
    let named = |name: &str, operations: &[&str], amount: u32, per: Per| {
        let operations = operations.iter().map(|operation| (*operation).to_owned()).collect();
        TrafficRule {
            methods: texts(["POST"]),
            paths: texts(GRAPHQL_PATHS),
            ..rule(
                name,
                Action::Limit(LimitRule {
                    requests: Some(rate(amount, 60)),
                    per,
                    fleet: true,
                    operations,
                    ..LimitRule::default()
                }),
            )
        }
    };
    let of_php = |name: &str, milliseconds: u32, per: Per| TrafficRule {
        paths: texts(GRAPHQL_PATHS),
        ..rule(name, php(milliseconds, per, Beyond::Stored))
    };
    vec![
        named("graphql-logins-network", &LOGIN_OPERATIONS, 300, Per::Network),
        named("graphql-logins", &LOGIN_OPERATIONS, 60, Per::Address),
        named("graphql-resets", &RESET_OPERATIONS, 30, Per::Address),
        named("graphql-accounts", &ACCOUNT_OPERATIONS, 30, Per::Address),
        named("graphql-coupons", &COUPON_OPERATIONS, 60, Per::Address),
        named("graphql-payments", &PAYMENT_OPERATIONS, 60, Per::Address),
        named("graphql-carts", &CART_OPERATIONS, 240, Per::Address),
        named("graphql-products", &PRODUCT_OPERATIONS, 600, Per::Address),
        of_php("graphql-address", 10_000, Per::Address),
        of_php("graphql-network", 20_000, Per::Network),
    ]
}

/// What programs send to the cart as visitors do. Payment services call back with the same libraries, to paths of their
/// own; other systems say by Authorization who they are.
fn scripts() -> Vec<TrafficRule> {
    let limit = |requests: u32, burst: u32, milliseconds: Option<u32>, per| LimitRule {
        requests: Some(rate(requests, 60)),
        burst: Some(burst),
        php: milliseconds.map(|milliseconds| rate(milliseconds, 10)),
        per,
        ..LimitRule::default()
    };
    let pages = |name: &str, action| TrafficRule {
        who: vec![WhoKind::UnverifiedBot, WhoKind::Impostor],
        methods: texts(["POST", "PUT", "PATCH", "DELETE"]),
        paths: [&VISITOR_PATHS[..], &FORM_PATHS[..]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..rule(name, action)
    };
    let rest = |name: &str, limit| TrafficRule {
        who: vec![WhoKind::UnverifiedBot, WhoKind::Impostor],
        paths: texts(VISITOR_API_PATHS),
        headers: vec![HeaderMatch { name: "authorization".to_owned(), wants: HeaderWants::Absent }],
        ..rule(name, Action::Limit(limit))
    };
    // Of an Authorization nobody can tell here whether it is made up.
    let rest_php = |name: &str, milliseconds: u32, per| TrafficRule {
        who: vec![
            WhoKind::UnverifiedBot,
            WhoKind::Impostor,
            WhoKind::NewVisitor,
            WhoKind::Stranger,
        ],
        paths: texts(VISITOR_API_PATHS),
        ..rule(name, php(milliseconds, per, Beyond::Wait))
    };
    vec![
        pages("scripts-address", Action::Limit(limit(30, 10, None, Per::Address))),
        pages("scripts-network", Action::Limit(limit(60, 20, Some(1_000), Per::Network))),
        pages("scripts-all", php(2_000, Per::Rule, Beyond::Wait)),
        rest("scripts-rest-address", limit(60, 20, None, Per::Address)),
        rest("scripts-rest-network", limit(120, 40, Some(2_000), Per::Network)),
        rest_php("rest-address", 10_000, Per::Address),
        rest_php("rest-network", 20_000, Per::Network),
        // The first that a browser sends brings it a session.
        TrafficRule {
            who: vec![WhoKind::NewVisitor, WhoKind::Stranger],
            methods: texts(["POST"]),
            paths: texts(VISITOR_PATHS),
            ..rule("carts-newcomers", php(3_000, Per::Network, Beyond::Wait))
        },
    ]
}

/// Who says that it is a bot.
fn crawlers() -> Vec<TrafficRule> {
    // What is sent to the shop is a payment service's or another system's.
    let crawls = |name: &str, who: &[WhoKind], milliseconds: u32| TrafficRule {
        who: who.to_vec(),
        methods: texts(["GET", "HEAD"]),
        ..rule(name, php(milliseconds, Per::Class, Beyond::Stored))
    };
    let combines = |name: &str, who: &[WhoKind], facets: u32| TrafficRule {
        who: who.to_vec(),
        facets_min: Some(facets),
        ..rule(name, Action::Stored)
    };
    vec![
        TrafficRule { who: vec![WhoKind::Impostor], ..rule("impostors", Action::Challenge) },
        // A product of a search engine's listing has its colour and its size in the URL.
        combines("verified-facets", &[WhoKind::VerifiedBot], 3),
        combines("bots-facets", &[WhoKind::UnverifiedBot, WhoKind::Impostor], 2),
        crawls("bots-crawl", &[WhoKind::VerifiedBot], 20_000),
        // An impostor who has solved the challenge is no better than who proves nothing.
        crawls("unverified-crawl", &[WhoKind::UnverifiedBot, WhoKind::Impostor], 5_000),
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
        // Of other cookies nobody can tell whether they are made up, but of a session that is none.
        TrafficRule {
            who: vec![WhoKind::NewVisitor, WhoKind::Stranger],
            ..limit("facets-guests", WhoKind::NewVisitor, 1, of_php(10_000))
        },
        limit(
            "facets-session",
            WhoKind::Session,
            1,
            LimitRule { per: Per::Session, ..of_php(5_000) },
        ),
        limit("facets-network", WhoKind::Browser, 3, network(60, Beyond::Challenge)),
        limit("facets-all", WhoKind::Browser, 3, of_php(2_000)),
        limit("facets-visitor", WhoKind::Browser, 3, a_minute(60, Per::Session, Beyond::Wait)),
        // Sessions cost nothing, and one browser's pass counts in all of its network.
        limit("facets-passed", WhoKind::Passed, 3, network(300, Beyond::Wait)),
        limit(
            "filters-passed",
            WhoKind::Passed,
            1,
            LimitRule { per: Per::Network, beyond: Beyond::Wait, ..of_php(10_000) },
        ),
    ]
}

const GRAPHQL_PATHS: [&str; 2] = ["/graphql", "/*/graphql"];

/// Where Magento keeps something for whoever asks.
const VISITOR_PATHS: [&str; 8] = [
    "/checkout/cart",
    "/*/checkout/cart",
    "/checkout/sidebar",
    "/*/checkout/sidebar",
    "/wishlist",
    "/*/wishlist",
    "/catalog/product_compare",
    "/*/catalog/product_compare",
];

/// Forms that visitors fill in.
const FORM_PATHS: [&str; 16] = [
    "/checkout/onepage",
    "/*/checkout/onepage",
    "/multishipping",
    "/*/multishipping",
    "/customer/account",
    "/*/customer/account",
    "/customer/ajax",
    "/*/customer/ajax",
    "/review/product/post",
    "/*/review/product/post",
    "/sendfriend",
    "/*/sendfriend",
    "/contact",
    "/*/contact",
    "/newsletter/subscriber",
    "/*/newsletter/subscriber",
];

/// What Magento's REST has of the same for who does not say who it is.
const VISITOR_API_PATHS: [&str; 8] = [
    "/rest/V1/guest-carts",
    "/rest/*/V1/guest-carts",
    "/rest/*/async/V1/guest-carts",
    "/rest/V1/carts",
    "/rest/*/V1/carts",
    "/rest/V1/customers",
    "/rest/*/V1/customers",
    "/rest/*/async/V1/customers",
];

const LOGIN_OPERATIONS: [&str; 2] = ["generateCustomerToken", "changeCustomerPassword"];

const RESET_OPERATIONS: [&str; 2] = ["requestPasswordResetEmail", "resetPassword"];

/// Accounts, and what sends mail to whom it is told.
const ACCOUNT_OPERATIONS: [&str; 8] = [
    "createCustomer",
    "createCustomerV2",
    "resendConfirmationEmail",
    "isEmailAvailable",
    "subscribeEmailToNewsletter",
    "sendEmailToFriend",
    "contactUs",
    "createProductReview",
];

const COUPON_OPERATIONS: [&str; 5] = [
    "applyCouponToCart",
    "applyCouponsToCart",
    "applyGiftCardToCart",
    "giftCardAccount",
    "redeemGiftCardBalanceAsStoreCredit",
];

const PAYMENT_OPERATIONS: [&str; 6] = [
    "placeOrder",
    "setPaymentMethodAndPlaceOrder",
    "createBraintreeClientToken",
    "createPayflowProToken",
    "createPaypalExpressToken",
    "createPaymentOrder",
];

const CART_OPERATIONS: [&str; 14] = [
    "addProductsToCart",
    "addSimpleProductsToCart",
    "addConfigurableProductsToCart",
    "addBundleProductsToCart",
    "addDownloadableProductsToCart",
    "addVirtualProductsToCart",
    "createEmptyCart",
    "createGuestCart",
    "estimateShippingMethods",
    "estimateTotals",
    "createWishlist",
    "addProductsToWishlist",
    "createCompareList",
    "addProductsToCompareList",
];

/// Lists of products, by search and filter.
const PRODUCT_OPERATIONS: [&str; 2] = ["products", "productSearch"];

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
