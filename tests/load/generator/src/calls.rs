//! The requests of each step: the page itself, what a browser fetches for it, and the calls that its scripts make.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::journey::{Step, popular};
use crate::plan::Catalogue;

/// Files of the theme, which a browser fetches once.
pub const STATIC: [&str; 6] = [
    "css/styles-m.css",
    "css/styles-l.css",
    "requirejs/require.js",
    "js/bundle0.js",
    "js/bundle1.js",
    "images/logo.svg",
];
/// Where they are.
pub const STATIC_ROOT: &str = "/static/version1795373677/frontend/Magento/luma/en_US";
/// Where product images are, which are numbered.
pub const IMAGE_ROOT: &str = "/media/catalog/product/cache/7c38845ff069edb7e4ecd64875256957";
/// So many of them.
pub const IMAGES: usize = 40;
/// Of landings that come from an advertisement, with its parameter.
const ADVERTISED: f64 = 0.3;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As the results call it.
    pub kind: &'static str,
    /// Path and query.
    pub target: String,
    /// The content of a POST, and whether it is JSON rather than a form.
    pub post: Option<(String, bool)>,
    /// Whether a script asks: it says so, and takes JSON.
    pub script: bool,
}

/// What of a visitor decides about the requests.
pub struct Visit {
    /// Of this visitor's choices.
    pub random: Rng,
    /// What there is.
    pub catalogue: Catalogue,
    /// The product whose page was opened last.
    pub product: usize,
    /// Whether no page was opened yet.
    pub first: bool,
    /// The form key, which each form repeats.
    pub form_key: String,
    /// The number in the URLs that no cache is to answer.
    pub stamp: u64,
}

fn page(kind: &'static str, target: String) -> Call {
    Call { kind, target, post: None, script: false }
}

fn form(kind: &'static str, target: String, content: String, script: bool) -> Call {
    Call { kind, target, post: Some((content, false)), script }
}

fn json(kind: &'static str, target: &str, content: &str) -> Call {
    let target = format!("/rest/default/V1/guest-carts/b7f2c1d09a/{target}");
    Call { kind, target, post: Some((content.to_owned(), true)), script: true }
}

impl Visit {
    /// One that begins.
    pub fn new(mut random: Rng, catalogue: Catalogue) -> Self {
        let form_key: String = (0..16).map(|_| random.alphanumeric()).collect();
        let stamp = 1_700_000_000_000 + random.u64(0..100_000_000_000);
        Self { random, catalogue, product: 0, first: true, form_key, stamp }
    }

    /// All requests of a step, in their order.
    pub fn calls(&mut self, step: Step) -> Vec<Call> {
        match step {
            Step::Home => self.view(page("home", "/".to_owned()), 0),
            Step::Category => {
                let category = popular(&mut self.random, self.catalogue.categories) + 1;
                let second = if self.random.f64() < 0.2 { "?p=2" } else { "" };
                self.view(page("category", format!("/category-{category}.html{second}")), 2)
            }
            Step::Product => {
                self.product = popular(&mut self.random, self.catalogue.products) + 1;
                self.view(page("product", format!("/simple-product-{}.html", self.product)), 1)
            }
            Step::Search => {
                let word = popular(&mut self.random, self.catalogue.words);
                self.view(page("search", format!("/catalogsearch/result/?q=word{word}")), 1)
            }
            Step::Filtered => {
                let target = filtered(&mut self.random, self.catalogue);
                self.view(page("filter", target), 1)
            }
            Step::RareSearch => {
                let target = format!("/catalogsearch/result/?q={}", rare_word(&mut self.random));
                self.view(page("raresearch", target), 1)
            }
            Step::Add => {
                let (product, key) = (self.product.max(1), &self.form_key);
                let content = format!("product={product}&form_key={key}&qty=1");
                let add =
                    form("add", format!("/checkout/cart/add/product/{product}/"), content, true);
                vec![add, self.section("cart%2Cdirectory-data%2Cmessages")]
            }
            Step::Cart | Step::Checkout | Step::Address | Step::Payment => self.buying(step),
            Step::LogIn => {
                let content = format!(
                    "form_key={}&login%5Busername%5D=user%40shop.test&login%5Bpassword%5D=right&send=",
                    self.form_key
                );
                vec![
                    page("login", "/customer/account/login/".to_owned()),
                    form("login", "/customer/account/loginPost/".to_owned(), content, false),
                    page("account", "/customer/account/".to_owned()),
                    self.section("customer%2Ccart%2Ccompare-products%2Cwishlist"),
                ]
            }
            Step::Orders => vec![page("orders", "/sales/order/history/".to_owned())],
        }
    }

    /// The requests of the cart and of the checkout.
    fn buying(&mut self, step: Step) -> Vec<Call> {
        match step {
            Step::Cart => {
                let totals = json(
                    "totals",
                    "totals-information",
                    r#"{"addressInformation":{"address":{"countryId":"US"}}}"#,
                );
                vec![page("cart", "/checkout/cart/".to_owned()), totals]
            }
            Step::Checkout => {
                let estimate = json(
                    "estimate",
                    "estimate-shipping-methods",
                    r#"{"address":{"country_id":"US","postcode":"12345"}}"#,
                );
                vec![page("checkout", "/checkout/".to_owned()), estimate]
            }
            Step::Address => {
                vec![json(
                    "address",
                    "shipping-information",
                    r#"{"addressInformation":{"shipping_method_code":"flatrate"}}"#,
                )]
            }
            _ => vec![
                json(
                    "payment",
                    "payment-information",
                    r#"{"paymentMethod":{"method":"checkmo"},"email":"a@shop.test"}"#,
                ),
                page("success", "/checkout/onepage/success/".to_owned()),
                self.section("cart%2Cmessages"),
            ],
        }
    }

    /// A page with so many images; the first one of a visit brings the theme's files and the first private section, too.
    fn view(&mut self, mut page: Call, images: usize) -> Vec<Call> {
        let file = |kind, target| Call { kind, target, post: None, script: false };
        let mut calls = Vec::new();
        let first = std::mem::take(&mut self.first);
        if first && self.random.f64() < ADVERTISED {
            let sign = if page.target.contains('?') { '&' } else { '?' };
            let _ = write!(
                page.target,
                "{sign}utm_source=mail&utm_campaign=sale{}",
                self.random.u8(..)
            );
        }
        calls.push(page);
        if first {
            calls.extend(STATIC.iter().map(|name| file("static", format!("{STATIC_ROOT}/{name}"))));
        }
        for _ in 0..images {
            calls.push(file(
                "image",
                format!("{IMAGE_ROOT}/image-{}.jpg", self.random.usize(..IMAGES)),
            ));
        }
        if first {
            calls.push(self.section(""));
        }
        calls
    }

    fn section(&mut self, sections: &str) -> Call {
        self.stamp += 1;
        let target = format!(
            "/customer/section/load/?sections={sections}&force_new_section_timestamp=true&_={}",
            self.stamp
        );
        Call { kind: "section", target, post: None, script: true }
    }
}

/// A category with filters of its layered navigation, of which there are more combinations than pages in any cache.
pub fn filtered(random: &mut Rng, catalogue: Catalogue) -> String {
    let mut target = format!("/category-{}.html?", random.usize(1..=catalogue.categories));
    let _ = write!(target, "price={}-{}", 10 * random.u32(0..50), 10 * random.u32(50..100));
    for name in ["color", "size", "material", "activity"] {
        if random.bool() {
            let _ = write!(target, "&{name}={}", random.u32(1..60));
        }
    }
    if random.bool() {
        let _ = write!(
            target,
            "&product_list_order={}",
            ["name", "price", "position"][random.usize(..3)]
        );
    }
    target
}

/// A word that nobody else searches for.
pub fn rare_word(random: &mut Rng) -> String {
    (0..9).map(|_| random.lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::{Profile, journey};

    const CATALOGUE: Catalogue = Catalogue { products: 100, categories: 10, words: 20 };

    #[test]
    fn a_first_page_brings_files_and_a_section_and_a_second_one_does_not() {
        let mut visit = Visit::new(Rng::with_seed(1), CATALOGUE);
        let kinds = |calls: &[Call]| calls.iter().map(|call| call.kind).collect::<Vec<_>>();
        let first = visit.calls(Step::Home);
        assert_eq!(
            kinds(&first),
            ["home", "static", "static", "static", "static", "static", "static", "section"]
        );
        assert_eq!(kinds(&visit.calls(Step::Home)), ["home"]);
        let add = visit.calls(Step::Add);
        assert_eq!(kinds(&add), ["add", "section"]);
        assert!(add[0].post.as_ref().unwrap().0.contains(&visit.form_key));
    }

    #[test]
    fn at_least_a_tenth_of_what_buyers_ask_for_cannot_be_cached() {
        let mut random = Rng::with_seed(4);
        let (mut all, mut uncacheable) = (0, 0);
        for _ in 0..3_000 {
            let mut visit = Visit::new(random.fork(), CATALOGUE);
            for step in journey(Profile::Buyer, &mut random) {
                for call in visit.calls(step) {
                    all += 1;
                    let cacheable = ["home", "category", "product", "search", "static", "image"]
                        .contains(&call.kind);
                    uncacheable += usize::from(!cacheable);
                }
            }
        }
        assert!(uncacheable * 10 >= all, "{uncacheable} of {all}");
    }
}
