//! What one request could leave behind for others: errors, other people's pages, other URLs.

use std::io::Write;

use super::support::Parvis;
use super::support::client::raw;
use super::support::h2::{H2, Length};
use super::support::origin::{Origin, Seen, page};

/// An origin with small limits, as a web server behind PHP-FPM's may have: what is odd is an error
/// which says (wrongly) that it may be stored.
fn touchy() -> Origin {
    Origin::start(|seen: &Seen, stream| {
        let large = seen.headers.iter().any(|(_, value)| value.len() > 8_000);
        let odd = ["x-http-method-override", "x-original-url", "x-rewrite-url", "x-forwarded-host"]
            .iter()
            .any(|name| seen.header(name).is_some());
        let status = match (large, odd, seen.header("range")) {
            (true, _, _) => "400 Bad Request",
            (_, true, _) => "404 Not Found",
            (_, _, Some(_)) => "416 Range Not Satisfiable",
            _ => "200 OK",
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nCache-Control: public, s-maxage=600\r\n\
             X-Magento-Tags: t\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
        );
    })
}

#[test]
fn no_request_leaves_an_error_for_others() {
    let origin = touchy();
    let parvis = Parvis::before_http(origin.port).start();
    let long = "x".repeat(15_000);
    let attacks: [(&str, &str); 12] = [
        ("X-Oversized", &long),
        ("Cookie", &long),
        ("User-Agent", &long),
        ("Referer", &format!("http://shop.test/{long}")),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/nowhere"),
        ("X-Rewrite-URL", "/nowhere"),
        ("X-Forwarded-Host", "evil.test"),
        ("Range", "bytes=999999-"),
        ("If-Match", "\"none\""),
        ("Expect", "100-continue"),
        ("X-Meta", "a\u{8}b"),
    ];
    for (number, (name, value)) in attacks.iter().enumerate() {
        let target = format!("/p{number}");
        let attack = format!(
            "GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{name}: {value}\r\n\r\n"
        );
        raw(parvis.port, attack.as_bytes());
        let reply = parvis.get(&target, &[]);
        assert_eq!((reply.status, &*reply.text()), (200, "page"), "{name}");
    }
}

#[test]
fn a_fat_get_a_fat_head_and_an_override_of_the_method_poison_nothing() {
    let origin = Origin::start(|seen, stream| {
        let content = format!("{} {}", seen.method, String::from_utf8_lossy(&seen.body));
        let _ = stream.write_all(&page(&content, "t"));
    });
    let parvis = Parvis::before_http(origin.port).start();
    let override_method = [("X-HTTP-Method-Override", "POST")];
    parvis.ask("GET", "/p", &override_method, b"evil=1");
    parvis.ask("HEAD", "/p", &[], b"evil=2");
    let chunked = b"GET /p HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\
                    Transfer-Encoding: chunked\r\n\r\n6\r\nevil=3\r\n0\r\n\r\n";
    raw(parvis.port, chunked);
    let mut h2 = H2::connect(parvis.port);
    h2.ask("GET", "/p", &[], b"evil=4", Length::Told);
    h2.ask("GET", "/p", &[], b"evil=5", Length::Untold);
    parvis.get("/p", &override_method);
    let reply = parvis.get("/p", &[]);
    assert_eq!(reply.text(), "GET ");
}

#[test]
fn a_private_page_is_never_stored_whatever_its_url_looks_like() {
    let origin = Origin::start(|seen, stream| {
        let content = format!("account of {}", seen.header("cookie").unwrap_or("nobody"));
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\
             Cache-Control: max-age=0, must-revalidate, no-cache, no-store\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{content}",
            content.len()
        );
    });
    let parvis = Parvis::before_http(origin.port).start();
    let delimiters =
        ["/", ";", ".", "%3b", "%0a", "%00", "%23", "%3f", "%2f", "%5c", "%20", "?", "&", "!", "~"];
    for account in ["/customer/account", "/wishlist", "/sales/order/history", "/a"] {
        for delimiter in delimiters {
            for suffix in ["x.css", "x.js", "static/x.png", "../static/x.css", ".css", ""] {
                let target = format!("{account}{delimiter}{suffix}");
                parvis.get(&target, &[("Cookie", "victim")]);
                let attacker = parvis.get(&target, &[("Cookie", "attacker")]);
                assert!(!attacker.text().contains("victim"), "{target}");
                assert!(!attacker.is_hit(), "{target}");
            }
        }
    }
    for target in
        ["/static/..%2fcustomer/account", "/media/%2e%2e/customer/account", "/static/../a"]
    {
        parvis.get(target, &[("Cookie", "victim")]);
        assert!(!parvis.get(target, &[("Cookie", "attacker")]).text().contains("victim"));
    }
}

#[test]
fn connection_cannot_name_what_is_meant_for_php() {
    let origin = Origin::always(page("page", "t"));
    let parvis = Parvis::before_http(origin.port).start();
    let headers = [
        (
            "Connection",
            "X-Forwarded-For, X-Forwarded-Proto, Cookie, Authorization, Host, Content-Length, \
             Content-Type, X-Magento-Cache-Id, X-Own",
        ),
        ("Cookie", "PHPSESSID=s; X-Magento-Vary=v"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("Content-Type", "text/plain"),
        ("X-Own", "1"),
    ];
    parvis.ask("GET", "/p", &headers, b"");
    parvis.ask("POST", "/p", &headers, b"content");
    let with_token = [headers.as_slice(), &[("Authorization", "Bearer t")]].concat();
    parvis.ask("GET", "/rest/V1/x", &with_token, b"");
    let seen = origin.seen();
    for request in &seen {
        let value = |name: &str| request.header(name).unwrap_or_default();
        assert_eq!(value("cookie"), "PHPSESSID=s; X-Magento-Vary=v", "{request:?}");
        assert!(value("x-forwarded-for").starts_with("203.0.113.9"), "{request:?}");
        assert_eq!(value("x-forwarded-proto"), "https", "{request:?}");
        assert_eq!(value("host"), "shop.test", "{request:?}");
        assert!(request.header("x-own").is_none(), "{request:?}");
    }
    assert_eq!(seen[1].body, b"content");
    assert_eq!(seen[1].header("content-type"), Some("text/plain"));
    assert_eq!(seen[2].header("authorization"), Some("Bearer t"));
    // The page went under the key of the cookie that Connection named.
    assert!(!parvis.get("/p", &[("X-Forwarded-Proto", "https")]).is_hit());
}

#[test]
fn a_response_that_varies_by_what_is_not_keyed_is_not_shared() {
    let origin = Origin::start(|seen, stream| {
        let vary = seen.target.trim_start_matches('/').replace('+', ", ");
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: public, s-maxage=600\r\n\
             X-Magento-Tags: t\r\nVary: {vary}\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
        );
    });
    let parvis = Parvis::before_http(origin.port).start();
    for vary in ["Cookie", "*", "Accept-Encoding+Accept-Language", "X-Country"] {
        parvis.get(&format!("/{vary}"), &[]);
        let second = parvis.get(&format!("/{vary}"), &[]);
        assert!(!second.is_hit(), "Vary: {vary}");
        assert!(second.cache_status().contains("vary"), "{}", second.cache_status());
    }
    for vary in ["Accept-Encoding", "accept-encoding+Accept-Encoding"] {
        parvis.get(&format!("/{vary}"), &[]);
        super::support::process::wait_until(vary, std::time::Duration::from_secs(5), || {
            parvis.get(&format!("/{vary}"), &[]).is_hit()
        });
    }
}
