//! Many visitors at once, each with a sentinel of its own: nobody ever sees another's.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::support::client::Client;
use super::support::h2::{H2, Length};
use super::support::origin::{Origin, Seen};
use super::support::{Parvis, Reply};

const VISITORS: usize = 12;
const ROUNDS: usize = 6;

/// What is public is the same for all; everything private carries its visitor's sentinel.
fn shop(private: &'static str) -> Origin {
    let asked = AtomicUsize::new(0);
    Origin::start(move |seen: &Seen, stream| {
        thread::sleep(Duration::from_millis(15));
        let sentinel = sentinel_of(seen.header("cookie").unwrap_or_default()).to_owned();
        let path = seen.target.split('?').next().unwrap_or_default();
        let flips = path == "/flips" && asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let (control, content) = match path {
            "/page" => (PUBLIC, "<p>page</p><esi:include src=\"/block\"/><p>end</p>".to_owned()),
            "/menu-page" => (PUBLIC, "<p>page</p><esi:include src=\"/menu\"/>".to_owned()),
            "/menu" => (PUBLIC, "menu <esi:include src=\"/block\"/>".to_owned()),
            "/public" => (PUBLIC, "public".to_owned()),
            "/flips" if flips => (PUBLIC, "public".to_owned()),
            "/short" => (private, format!("private {sentinel} {}", ".".repeat(5_000))),
            _ => (private, format!("private {sentinel}")),
        };
        let (status, location) = match path {
            "/redirect" => ("302 Found", format!("Location: /welcome/{sentinel}\r\n")),
            _ => ("200 OK", String::new()),
        };
        let length = content.len() + if path == "/short" { 10 } else { 0 };
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{control}Set-Cookie: PHPSESSID={sentinel}\r\n\
             {location}Content-Length: {length}\r\nConnection: close\r\n\r\n{content}"
        );
    })
}

const PUBLIC: &str = "Cache-Control: public, s-maxage=1\r\nX-Magento-Tags: t\r\n";
const PRIVATE: &str = "Cache-Control: max-age=0, must-revalidate, no-cache, no-store\r\n";

fn sentinel_of(cookie: &str) -> &str {
    cookie.split("; ").find(|pair| pair.starts_with("sentinel-")).unwrap_or_default()
}

/// Sentinels of others that the reply carries.
fn foreign(reply: &Reply, own: &str) -> Vec<String> {
    let mut text = reply.text();
    for (name, value) in &reply.headers {
        text.push_str(&format!("\n{name}: {value}"));
    }
    text.match_indices("sentinel-")
        .map(|(at, _)| text[at..].split(|c: char| !(c.is_alphanumeric() || c == '-')).next())
        .map(|found| found.unwrap_or_default().to_owned())
        .filter(|found| found != own)
        .collect()
}

enum Door {
    Http1(Client),
    Http2(H2),
}

impl Door {
    fn ask(&mut self, method: &str, target: &str, cookie: &str) -> Reply {
        let headers = [("Cookie", cookie)];
        match self {
            Self::Http1(client) => client.ask(method, target, &headers, b""),
            Self::Http2(client) => client.ask(method, target, &headers, b"", Length::Told),
        }
    }
}

/// What one visitor saw that it should not have, or missed.
fn visit(port: u16, number: usize) -> Vec<String> {
    let own = format!("sentinel-{number}");
    let cookie = format!("a=1; {own}; b=2");
    let mut door = if number.is_multiple_of(3) {
        Door::Http2(H2::connect(port))
    } else {
        Door::Http1(Client::connect(port))
    };
    let mut wrong = Vec::new();
    for round in 0..ROUNDS {
        for (method, target, has_own) in [
            ("GET", "/page", true),
            ("GET", "/menu-page", true),
            ("GET", "/public", false),
            ("GET", "/private", true),
            ("GET", &*format!("/private?new={round}"), true),
            ("GET", &*format!("/page?new={round}"), true),
            ("GET", "/redirect", true),
            ("GET", "/flips", false),
            ("GET", "/customer/account/", true),
            ("POST", "/customer/section/load/", true),
            ("HEAD", "/private", false),
        ] {
            let reply = door.ask(method, target, &cookie);
            for other in foreign(&reply, &own) {
                wrong.push(format!("{own} saw {other} at {method} {target}"));
            }
            if has_own && !reply.text().contains(&own) {
                wrong.push(format!("{own} missed its own content at {method} {target}"));
            }
        }
        // A cut reply of another visitor must not come to the next.
        let mut short = Client::connect(port);
        let request = format!("GET /short HTTP/1.1\r\nHost: shop.test\r\nCookie: {cookie}\r\n\r\n");
        short.send(request.as_bytes());
        if short.read(false).is_ok() {
            wrong.push(format!("{own} took a short reply for a whole one"));
        }
    }
    wrong
}

fn visit_all(parvis: &Parvis) -> Vec<String> {
    let port = parvis.port;
    let threads: Vec<_> =
        (0..VISITORS).map(|number| thread::spawn(move || visit(port, number))).collect();
    threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn no_visitor_ever_sees_what_is_anothers() {
    let origin = Arc::new(shop(PRIVATE));
    let parvis = Parvis::before_http(origin.port).with("store.grace", "\"1s\"").start();
    let wrong = visit_all(&parvis);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let pages = origin.seen().iter().filter(|seen| seen.target == "/public").count();
    assert!(pages < VISITORS * ROUNDS / 2, "nothing was shared, so nothing was shown");
}

#[test]
fn the_checker_sees_it_where_private_pages_are_said_to_be_public() {
    let origin = shop(PUBLIC);
    let parvis = Parvis::before_http(origin.port).start();
    let wrong = visit_all(&parvis);
    assert!(wrong.iter().any(|line| line.contains("GET /private")), "{}", wrong.join("\n"));
}

#[test]
fn the_cookies_of_a_stored_page_go_to_its_fetcher_alone_where_a_setting_says_so() {
    let origin = shop(PRIVATE);
    let parvis = Parvis::before_http(origin.port).with("site.cookies_to_fetcher", "true").start();
    let wrong = visit_all(&parvis);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let first = parvis.get("/public?x=1", &[("Cookie", "sentinel-99")]);
    assert_eq!(first.header("set-cookie"), Some("PHPSESSID=sentinel-99"));
    let second = parvis.get("/public?x=1", &[("Cookie", "sentinel-98")]);
    assert!(second.header("set-cookie").is_none());
}
