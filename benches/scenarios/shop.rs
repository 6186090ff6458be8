//! A shop's pages and its visitors' requests, with the heads as they were recorded.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Method, Version};
use parvis::body::Body;
use parvis::exchange::{Beside, Connection, Peer, Request};
use parvis::fields::Fields;

use corpus::{Exchange, exchanges};

#[path = "../../tests/integration/support/corpus.rs"]
#[allow(dead_code, reason = "the tests read more of it")]
mod corpus;

/// Where a page names its menu.
const MENU: &str = "/page_cache/block/esi/blocks/%5B%22catalog.topnav%22%5D/";

/// The target of a page that is never stored.
pub const CART: &str = "/checkout/cart/";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A category page without includes; about 24 KiB of gzip.
    Page,
    /// The same with a menu to be joined in.
    PageWithMenu,
    /// 1 KiB that no coding makes smaller, with a short head.
    File,
}

impl Kind {
    /// Its target.
    pub fn target(self) -> &'static str {
        match self {
            Self::Page => "/category-1.html",
            Self::PageWithMenu => "/category-2.html",
            Self::File => "/robots.txt",
        }
    }
}

fn recorded(name: &str) -> Exchange {
    let found = exchanges().into_iter().find(|exchange| exchange.name == name);
    found.expect("the recording has it")
}

/// The fields of a guest's browser with something in the cart, which has three of Magento's
/// cookies. Those in `more` take the place of others of that name.
pub fn browser_fields(more: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in &recorded("07-category").headers {
        if !more.iter().any(|(replaced, _)| replaced == name) {
            let version = "; private_content_version=5477500ebd13bee0e685840edfe8d56e";
            let more = if name == "Cookie" { version } else { "" };
            fields.push(Bytes::from(name.clone()), Bytes::from(format!("{value}{more}")));
        }
    }
    for (name, value) in more {
        fields.push(Bytes::from((*name).to_owned()), Bytes::from((*value).to_owned()));
    }
    fields
}

/// A browser's request as it goes over the wire.
pub fn request_bytes(target: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = format!("GET {target} HTTP/1.1\r\n").into_bytes();
    browser_fields(more).write_http1(&mut bytes);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A browser's request as the pipeline gets it.
pub fn request(target: &str) -> Request {
    Request {
        method: Method::GET,
        target: Bytes::from(target.to_owned()),
        authority: Bytes::from_static(b"shop.test"),
        version: Version::HTTP_11,
        fields: browser_fields(&[]),
        body: Body::empty(),
        connection: Connection { peer: Peer::Unix, local: None, tls: false },
        beside: Beside::default(),
    }
}

/// The response of the origin, head and content, to a request for this target.
pub fn origin_response(target: &str) -> Vec<u8> {
    if target.starts_with(MENU) {
        return recorded_response(&recorded("02-esi-topnav"), html(5_232, false).as_bytes());
    }
    if target == Kind::File.target() {
        let mut response = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
            Cache-Control: max-age=86400, public, s-maxage=86400\r\nX-Magento-Tags: file\r\n\
            ETag: \"1\"\r\nContent-Length: 1024\r\nConnection: close\r\n\r\n"
            .to_vec();
        response.resize(response.len() + 1_024, b'x');
        return response;
    }
    let exchange = recorded("07-category");
    let page = html(PAGE_BYTES, target == Kind::PageWithMenu.target());
    recorded_response(&exchange, page.as_bytes())
}

/// Bytes of HTML which gzip makes about 24 KiB of.
pub const PAGE_BYTES: usize = 160_000;

/// The field lines of a cart, as they came from PHP.
pub fn cart_head() -> String {
    recorded_lines(&recorded("22-cart-empty"))
}

/// The recorded field lines, without those that frame or date the response.
fn recorded_lines(exchange: &Exchange) -> String {
    let left_out = ["Transfer-Encoding", "Connection", "Content-Encoding", "Date", "Expires"];
    let mut lines = String::new();
    for (name, value) in &exchange.response_headers {
        if !left_out.contains(&name.as_str()) {
            let _ = write!(lines, "{name}: {value}\r\n");
        }
    }
    lines
}

/// The recorded head before this content.
fn recorded_response(exchange: &Exchange, content: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} OK\r\n{}", exchange.status, recorded_lines(exchange));
    let _ = write!(head, "ETag: \"recorded\"\r\nContent-Length: {}\r\n", content.len());
    head.push_str("Connection: close\r\n\r\n");
    [head.as_bytes(), content].concat()
}

/// Something like the HTML of a category page: a frame that repeats, names and numbers that do not.
pub fn html(bytes: usize, include: bool) -> String {
    let mut text = String::with_capacity(bytes + 300);
    let mut number = 1_u32;
    let mut has_include = !include;
    while text.len() < bytes {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (name, price) = (number >> 8, number % 10_000);
        text += "<li class=\"item product product-item\"><a href=\"/product-";
        let _ = writeln!(text, "{name:x}.html\">Product {name}</a><span>${price}</span></li>");
        if !has_include && text.len() > bytes / 10 {
            has_include = true;
            let _ = write!(text, "<esi:include src=\"http://shop.test{MENU}\" />");
        }
    }
    text
}
