//! The demo's store: what Magento would be, small enough to read.
//!
//! It renders pages in 300 ms, names their tags, sets the cookies that Magento sets, keeps carts by
//! session, and sends a PURGE to its own sidecar when a price changes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{Request, Responder, Response};

/// What rendering a page costs the demo's "PHP".
const RENDER: Duration = Duration::from_millis(300);
/// Carts that are kept; further sessions start without one.
const CARTS_MAX: usize = 1_000;
const PAGE: &str = include_str!("page.html");
const HTML: &str = "text/html; charset=UTF-8";

struct Product {
    name: &'static str,
    shade: &'static str,
    /// The outline, as an SVG path in a square of 100.
    shape: &'static str,
    cents: u32,
}

const PRODUCTS: [Product; 6] = [
    Product {
        name: "Linen dress “Solstice”",
        shade: "#e8c9a0",
        shape: "M38 12L44 12Q50 24 56 12L62 12L60 38L77 88L23 88L40 38Z",
        cents: 12_900,
    },
    Product {
        name: "Wool coat “Tramontane”",
        shade: "#a9b4c2",
        shape: "M37 12L50 22L63 12L82 28L77 60L69 57V90H31V57L23 60L18 28ZM50 22V90",
        cents: 34_900,
    },
    Product {
        name: "Silk scarf “Rosace”",
        shade: "#d99a9a",
        shape: "M28 14Q50 34 72 14L76 25Q64 40 57 44L64 88H46L45 47Q33 39 24 25Z",
        cents: 8900,
    },
    Product {
        name: "Striped jersey “Estran”",
        shade: "#9fb8d8",
        shape: "M34 20L43 16Q50 25 57 16L66 20L87 40L77 53L69 45V84H31V45L23 53L13 40ZM31 54H69M31 62H69M31 70H69",
        cents: 5900,
    },
    Product {
        name: "Leather belt “Clocher”",
        shade: "#b88a5e",
        shape: "M8 43H92Q97 50 92 57H8ZM14 36H34V64H14ZM20 43V57H28V43Z",
        cents: 7500,
    },
    Product {
        name: "Canvas bag “Marché”",
        shade: "#c9cf9f",
        shape: "M24 42H76L83 88H17ZM34 42Q34 14 50 14Q66 14 66 42H60Q60 20 50 20Q40 20 40 42Z",
        cents: 4500,
    },
];

/// The store.
pub(super) struct Shop {
    sidecar: SocketAddr,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    cents: [u32; PRODUCTS.len()],
    carts: HashMap<Bytes, usize>,
    sessions: u64,
}

impl Shop {
    /// A store whose sidecar listens at `sidecar`.
    pub(super) fn new(sidecar: SocketAddr, clock: Clock) -> Self {
        let cents = PRODUCTS.map(|product| product.cents);
        let state = State { cents, carts: HashMap::new(), sessions: 0 };
        Self { sidecar, clock, state: Mutex::new(state) }
    }

    /// A whole page; `product` is the one whose price its button changes.
    fn page(&self, title: &str, content: &str, product: usize, host: &str) -> String {
        PAGE.replace("{{title}}", title)
            .replace("{{content}}", content)
            .replace("{{product}}", &product.to_string())
            .replace("{{name}}", PRODUCTS[product].name)
            .replace("{{host}}", host)
            .replace("{{rendered}}", &self.now_milliseconds().to_string())
    }

    /// Milliseconds since 1970, as scripts count them.
    fn now_milliseconds(&self) -> u128 {
        let since_1970 = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.map(|duration| duration.as_millis()).unwrap_or_default()
    }

    fn home(&self, host: &str) -> Response {
        let mut content = String::from("<div class=\"grid\">");
        let cents = self.state.lock().cents;
        for (number, product) in PRODUCTS.iter().enumerate() {
            let (figure, price) = (figure(product), price(number, cents[number]));
            let _ = write!(
                content,
                "<a class=\"card\" href=\"/product/{number}\">{figure}{}<br>{price}</a>",
                product.name,
            );
        }
        content.push_str("</div>");
        let tags = (0..PRODUCTS.len())
            .fold("store,cat_c_1".to_owned(), |tags, number| format!("{tags},cat_p_{number}"));
        cacheable(self.page("The collection", &content, 0, host), &tags, 86_400)
    }

    fn product(&self, number: usize, host: &str) -> Response {
        let Some(product) = PRODUCTS.get(number) else {
            return self.not_found(host);
        };
        let price = price(number, self.state.lock().cents[number]);
        let content = format!("<div class=\"card single\">{}{price}</div>", figure(product));
        cacheable(
            self.page(product.name, &content, number, host),
            &format!("store,cat_p_{number}"),
            86_400,
        )
    }

    fn not_found(&self, host: &str) -> Response {
        let content = "<p>The store has no such page. <a href=\"/\">The collection</a></p>";
        let page = self.page("Not found", content, 0, host);
        uncacheable(StatusCode::NOT_FOUND, HTML, page)
    }

    fn menu(&self) -> Response {
        let rendered = self.now_milliseconds();
        let links = format!(
            "<ul data-rendered=\"{rendered}\"><li><a href=\"/\">Collection</a></li>\
             <li><a href=\"/product/0\">Dresses</a></li><li><a href=\"/product/1\">Coats</a></li></ul>"
        );
        cacheable(links, "cat_c,cat_c_1", 3_600)
    }

    fn cart_count(&self, request: &Request) -> usize {
        let session = session(request);
        session.and_then(|session| self.state.lock().carts.get(&session).copied()).unwrap_or(0)
    }

    fn section(&self, request: &Request) -> Response {
        let content = serde_json::json!({ "cart": { "summary_count": self.cart_count(request) } });
        uncacheable(StatusCode::OK, "application/json", content.to_string())
    }

    fn cart(&self, request: &Request, host: &str) -> Response {
        let content = match self.cart_count(request) {
            0 => "<p>Your cart is empty.</p>".to_owned(),
            1 => "<p>1 piece is in your cart.</p>".to_owned(),
            count => format!("<p>{count} pieces are in your cart.</p>"),
        };
        uncacheable(StatusCode::OK, HTML, self.page("Your cart", &content, 0, host))
    }

    fn add_to_cart(&self, request: &Request) -> Response {
        let mut state = self.state.lock();
        let mut response = uncacheable(StatusCode::OK, "application/json", "{}".to_owned());
        let session = session(request).unwrap_or_else(|| {
            state.sessions += 1;
            let session = format!("demo{}", state.sessions);
            let cookie = format!("PHPSESSID={session}; path=/; HttpOnly; SameSite=Lax");
            response.fields.push_static("Set-Cookie", cookie);
            Bytes::from(session)
        });
        if state.carts.len() < CARTS_MAX || state.carts.contains_key(&session) {
            *state.carts.entry(session).or_insert(0) += 1;
        }
        response
    }

    async fn change_price(&self, number: usize) -> Response {
        if number >= PRODUCTS.len() {
            return uncacheable(StatusCode::NOT_FOUND, "application/json", "{}".to_owned());
        }
        let cents = {
            let mut state = self.state.lock();
            let cents = state.cents[number];
            // Down by ten euros at a time, and up again before it is free.
            let lower = if cents > 3000 { cents - 1000 } else { PRODUCTS[number].cents };
            state.cents[number] = lower;
            lower
        };
        let tag = format!("cat_p_{number}");
        let begin = self.clock.elapsed();
        match self.purge(&tag).await {
            Ok(purged) => {
                let milliseconds =
                    self.clock.elapsed().saturating_sub(begin).as_secs_f64() * 1_000.0;
                let content = serde_json::json!({
                    "price": euros(cents), "tag": tag, "purged": purged, "milliseconds": milliseconds,
                });
                uncacheable(StatusCode::OK, "application/json", content.to_string())
            }
            Err(error) => {
                let content = serde_json::json!({ "error": error.to_string() }).to_string();
                uncacheable(StatusCode::INTERNAL_SERVER_ERROR, "application/json", content)
            }
        }
    }

    /// What Magento's CacheInvalidate module sends; the number of pages that Parvis dropped.
    async fn purge(&self, tag: &str) -> std::io::Result<u64> {
        let mut stream = tokio::net::TcpStream::connect(self.sidecar).await?;
        let request = format!(
            "PURGE / HTTP/1.1\r\nX-Magento-Tags-Pattern: ((^|,){tag}(,|$))\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.sidecar
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(16 << 10).read_to_string(&mut answer).await?;
        let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
        let dropped = lines.find(|(name, _)| name.eq_ignore_ascii_case("x-parvis-purged"));
        dropped
            .and_then(|(_, count)| count.parse().ok())
            .ok_or_else(|| std::io::Error::other("the purge was refused"))
    }
}

impl Responder for Shop {
    async fn respond(&self, request: Request) -> Response {
        let path = String::from_utf8_lossy(request.path()).into_owned();
        let host = String::from_utf8_lossy(&request.authority).into_owned();
        let number =
            || path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(usize::MAX);
        if request.method == Method::POST {
            return match path.as_str() {
                _ if path.starts_with("/demo/price/") => self.change_price(number()).await,
                _ if path.starts_with("/checkout/cart/add/") => self.add_to_cart(&request),
                _ => uncacheable(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
            };
        }
        tokio::time::sleep(RENDER).await;
        match path.as_str() {
            "/" => self.home(&host),
            "/page_cache/block/esi/menu/" => self.menu(),
            "/customer/section/load/" => self.section(&request),
            "/checkout/cart/" => self.cart(&request, &host),
            _ if path.starts_with("/product/") => self.product(number(), &host),
            _ => self.not_found(&host),
        }
    }
}

fn session(request: &Request) -> Option<Bytes> {
    let lines = request.fields.all("Cookie");
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(b"PHPSESSID="));
    values.next().filter(|value| value.len() <= 64).map(Bytes::copy_from_slice)
}

fn figure(product: &Product) -> String {
    format!(
        "<svg viewBox=\"0 0 100 100\" style=\"--shade: {}\" aria-hidden=\"true\">\
         <path fill-rule=\"evenodd\" d=\"{}\"/></svg>",
        product.shade, product.shape
    )
}

/// The page's script finds a price by its id to show the new one.
fn price(number: usize, cents: u32) -> String {
    format!("<span class=\"price\" id=\"price-{number}\">{}</span>", euros(cents))
}

fn euros(cents: u32) -> String {
    format!("€ {}.{:02}", cents / 100, cents % 100)
}

fn cacheable(content: String, tags: &str, seconds: u32) -> Response {
    let mut response = Response::new(StatusCode::OK, Body::from(Bytes::from(content)));
    let fields = &mut response.fields;
    fields.push_static("Content-Type", HTML);
    fields.push_static("Cache-Control", format!("max-age={seconds}, public, s-maxage={seconds}"));
    fields.push_static("Pragma", "cache");
    fields.push_static("X-Magento-Tags", tags.to_owned());
    response
}

fn uncacheable(status: StatusCode, content_type: &'static str, content: String) -> Response {
    let mut response = Response::new(status, Body::from(Bytes::from(content)));
    response.fields.push_static("Content-Type", content_type);
    let control = "no-store, no-cache, must-revalidate, max-age=0";
    response.fields.push_static("Cache-Control", control);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_written_as_euros() {
        assert_eq!(euros(12900), "€ 129.00");
        assert_eq!(euros(5), "€ 0.05");
    }
}
