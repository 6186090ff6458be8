//! The classes of `[[admission.class]]` where the file has none: those of a Magento shop.

use std::time::Duration;

use super::{AdmissionClass, VisitorKind};

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// From a payment provider to a bot.
pub(super) fn default_classes() -> Vec<AdmissionClass> {
    let class = |name: &str, rank| AdmissionClass {
        name: name.to_owned(),
        rank,
        ..AdmissionClass::default()
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    vec![
        AdmissionClass {
            share_percent: 2,
            places_percent: 50,
            queue_timeout: seconds(10),
            refreshes: true,
            ..class("refreshes", 9)
        },
        AdmissionClass { paths: texts(CALLBACK_PATHS), ..class("callbacks", 1) },
        AdmissionClass {
            share_percent: 3,
            places_percent: 50,
            paths: texts(ADMIN_PATHS),
            ..class("admin", 4)
        },
        // Crawlers follow links to carts and log-ins; they place no orders.
        AdmissionClass {
            share_percent: 1,
            places_percent: 50,
            queue_timeout: seconds(10),
            methods: texts(["GET", "HEAD"]),
            bots: true,
            ..class("bots", 9)
        },
        AdmissionClass { share_percent: 10, paths: texts(CART_PATHS), ..class("cart", 3) },
        AdmissionClass {
            paths: [texts(CHECKOUT_PATHS), texts(CHECKOUT_APIS)].concat(),
            ..class("checkout", 2)
        },
        AdmissionClass {
            methods: texts(["POST"]),
            paths: texts(["/graphql", "/*/graphql"]),
            operations: texts(CHECKOUT_OPERATIONS),
            ..class("graphql-checkout", 2)
        },
        AdmissionClass { share_percent: 5, paths: texts(ACCOUNT_PATHS), ..class("account", 3) },
        AdmissionClass {
            share_percent: 5,
            places_percent: 50,
            paths: texts(["/rest", "/soap"]),
            ..class("apis", 6)
        },
        AdmissionClass {
            share_percent: 5,
            visitors: vec![VisitorKind::Cart, VisitorKind::Customer, VisitorKind::Admin],
            ..class("buyers", 5)
        },
        AdmissionClass {
            share_percent: 1,
            places_percent: 75,
            queue_timeout: seconds(15),
            paths: texts(["/catalogsearch", "/*/catalogsearch", "/search", "/*/search"]),
            ..class("search", 8)
        },
        AdmissionClass {
            share_percent: 1,
            places_percent: 75,
            queue_timeout: seconds(15),
            methods: texts(["GET", "HEAD"]),
            query_besides: texts(NO_FILTERS),
            ..class("filters", 8)
        },
        AdmissionClass { share_percent: 5, ..class("pages", 6) },
    ]
}

/// Paging, sorting, search, and what Magento's own scripts send.
const NO_FILTERS: [&str; 8] = ["p", "product_list_*", "___*", "q", "id", "handles", "blocks", "_"];

/// The administration, where its front name has this word.
pub(in crate::settings) const ADMIN_PATHS: [&str; 4] =
    ["/admin", "/*/admin", "/admin_*", "/*/admin_*"];

pub(in crate::settings) const CALLBACK_PATHS: [&str; 13] = [
    "/health_check.php",
    "/paypal/ipn",
    "/paypal/transparent",
    "/adyen/webhook",
    "/adyen/process/json",
    "/mollie/checkout/webhook",
    "/stripe/webhooks",
    "/braintree/webhook",
    "/multisafepay/connect/notification",
    "/payone/transactionstatus",
    "/rest/*/V1/adyen/webhook",
    "/rest/V1/buckaroo/push",
    "/rest/*/V1/buckaroo/push",
];

pub(in crate::settings) const CART_PATHS: [&str; 6] = [
    "/checkout/cart",
    "/*/checkout/cart",
    "/checkout/sidebar",
    "/*/checkout/sidebar",
    "/customer/section/load",
    "/*/customer/section/load",
];

/// The checkout, and what visitors come back to from a payment page.
pub(in crate::settings) const CHECKOUT_PATHS: [&str; 13] = [
    "/checkout",
    "/*/checkout",
    "/multishipping",
    "/*/multishipping",
    "/onestepcheckout",
    "/firecheckout",
    "/paypal",
    "/*/paypal",
    "/adyen",
    "/mollie",
    "/stripe",
    "/braintree",
    "/klarna",
];

const CHECKOUT_APIS: [&str; 4] =
    ["/rest/*/V1/carts", "/rest/*/V1/guest-carts", "/rest/V1/carts", "/rest/V1/guest-carts"];

/// The mutations of Magento's GraphQL from the address to the order.
const CHECKOUT_OPERATIONS: [&str; 13] = [
    "setGuestEmailOnCart",
    "setShippingAddressesOnCart",
    "setBillingAddressOnCart",
    "setShippingMethodsOnCart",
    "setPaymentMethodOnCart",
    "setPaymentMethodAndPlaceOrder",
    "placeOrder",
    "placeNegotiableQuoteOrder",
    "createPaypalExpressToken",
    "createPayflowProToken",
    "createBraintreeClientToken",
    "createPaymentOrder",
    "syncPaymentOrder",
];

const ACCOUNT_PATHS: [&str; 8] = [
    "/customer",
    "/*/customer",
    "/sales",
    "/*/sales",
    "/wishlist",
    "/*/wishlist",
    "/graphql",
    "/*/graphql",
];
