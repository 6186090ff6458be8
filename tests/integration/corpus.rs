//! The recorded store's traffic through Parvis, over FastCGI and over HTTP.

use std::time::Duration;

use super::support::corpus::{Exchange, exchanges};
use super::support::nginx::Nginx;
use super::support::parvis::Builder;
use super::support::php::Php;
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

/// Where Parvis decides otherwise than Varnish with Magento's VCL; ARCHITECTURE.md says why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("100-bogus-vary-cookie", "miss-uncacheable"),
    ("104-setup-404", "miss-uncacheable"),
    ("86-rest-product-admin", "pass-uncacheable"),
];

/// The recorded requests were strangers', whose `Cache-Control: no-cache` counts for nothing.
const STRANGERS: (&str, &str) = ("purge.allow", "[\"192.0.2.1\"]");

fn corpus_settings(builder: Builder) -> Builder {
    builder.with("site.forward_headers", "[\"X-Corpus-Name\"]").with("origin.concurrency_max", "8")
}

fn replay(parvis: &Parvis, exchange: &Exchange) -> Reply {
    let mut headers: Vec<(&str, &str)> = exchange
        .headers
        .iter()
        .filter(|(name, _)| {
            !["connection", "content-length"].contains(&name.to_lowercase().as_str())
        })
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    headers.push(("X-Corpus-Name", &exchange.name));
    parvis.ask(&exchange.method, &exchange.target, &headers, &exchange.body)
}

fn verdict(reply: &Reply) -> &'static str {
    let status = reply.cache_status();
    if status.contains("; hit") {
        "hit"
    } else if status.contains("fwd=bypass") || status.contains("fwd=method") {
        "pass-uncacheable"
    } else if status.contains("; stored") {
        "miss"
    } else {
        "miss-uncacheable"
    }
}

/// What the second of two requests in a row is to be. Varnish's list was sent twice in whole, so
/// its first verdicts depend on the order; the second ones tell what was stored.
fn expected(exchange: &Exchange) -> &str {
    let differs = DIFFERENCES.iter().find(|(name, _)| *name == exchange.name);
    differs.map_or(exchange.varnish_second.as_str(), |(_, verdict)| verdict)
}

/// Files are PHP's or nginx's business in the recording, and have tests of their own here.
fn is_file(exchange: &Exchange) -> bool {
    exchange.target.starts_with("/static/") || exchange.target.starts_with("/media/")
}

fn verdicts_equal_varnish(parvis: &Parvis) {
    let mut wrong = Vec::new();
    for exchange in exchanges().iter().filter(|exchange| !is_file(exchange)) {
        let first = replay(parvis, exchange);
        if expected(exchange) == "hit" {
            let what = format!("{} after {}", exchange.name, first.cache_status());
            wait_until(&what, Duration::from_secs(5), || {
                verdict(&replay(parvis, exchange)) == "hit"
            });
        }
        let second = replay(parvis, exchange);
        if verdict(&second) != expected(exchange) {
            wrong.push(format!(
                "{}: {} is not {} ({})",
                exchange.name,
                verdict(&second),
                expected(exchange),
                second.cache_status()
            ));
        }
        for reply in [&first, &second] {
            check_delivery(exchange, reply, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_delivery(exchange: &Exchange, reply: &Reply, wrong: &mut Vec<String>) {
    let name = &exchange.name;
    // Over HTTP nginx runs PHP for it; over FastCGI our routes deny it, as the set-up application
    // has no use on a public listener.
    let denied = name == "104-setup-404" && reply.status == 404;
    if reply.status != exchange.status && !denied {
        wrong.push(format!("{name}: status {} is not {}", reply.status, exchange.status));
        return;
    }
    for stripped in ["X-Magento-Tags", "X-Magento-Debug", "X-Powered-By", "Server", "Via"] {
        if reply.header(stripped).is_some() {
            wrong.push(format!("{name}: {stripped} reached the client"));
        }
    }
    let stored = matches!(verdict(reply), "hit" | "miss");
    if stored && reply.header("set-cookie").is_some() {
        wrong.push(format!("{name}: a stored response set a cookie"));
    }
    if !stored {
        let cookies: Vec<&str> =
            reply.all("set-cookie").iter().filter_map(|c| c.split('=').next()).collect();
        let recorded = exchange
            .response_headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"))
            .count();
        if cookies.len() != recorded {
            wrong.push(format!("{name}: {} of {recorded} cookies arrived", cookies.len()));
        }
    }
    if stored && reply.header("cache-control") != Some(exchange.varnish_cache_control.as_str()) {
        wrong.push(format!("{name}: Cache-Control {:?}", reply.header("cache-control")));
    }
    if reply.text().contains("<esi:include") {
        wrong.push(format!("{name}: an include was not joined"));
    }
    if exchange.method != "HEAD" && !exchange.esi.is_empty() {
        let tags: usize = exchange.esi.iter().map(|(_, tag)| tag.len()).sum();
        let menus = exchange.esi.len() * 5232;
        let length = reply.decoded().len();
        if length != exchange.body_bytes - tags + menus {
            wrong.push(format!("{name}: {length} bytes after joining"));
        }
    }
}

#[test]
fn verdicts_are_those_of_varnish_with_magentos_vcl_over_fastcgi() {
    let php = Php::with_corpus();
    let parvis = corpus_settings(Parvis::before_php(&php)).with(STRANGERS.0, STRANGERS.1).start();
    verdicts_equal_varnish(&parvis);
}

#[test]
fn verdicts_are_those_of_varnish_with_magentos_vcl_for_clients_that_speak_http2() {
    let php = Php::with_corpus();
    let builder = corpus_settings(Parvis::before_php(&php)).with(STRANGERS.0, STRANGERS.1);
    let parvis = builder.start().over_http2();
    verdicts_equal_varnish(&parvis);
}

#[test]
fn verdicts_are_those_of_varnish_with_magentos_vcl_over_http() {
    let php = Php::with_corpus();
    let nginx = Nginx::before(&php);
    let builder = corpus_settings(Parvis::before_http(nginx.port));
    let parvis = builder.with(STRANGERS.0, STRANGERS.1).start();
    verdicts_equal_varnish(&parvis);
}

#[test]
fn the_menu_is_joined_compressed_and_refreshed_by_its_own_tag_alone() {
    let php = Php::with_corpus();
    let parvis = corpus_settings(Parvis::before_php(&php)).start();
    let home = exchanges()
        .into_iter()
        .find(|exchange| exchange.name == "01-home-first-visit")
        .expect("recorded");
    replay(&parvis, &home);
    // Until page and menu are stored both are joined as they come, in gzip.
    wait_until("storing", Duration::from_secs(5), || {
        let page = replay(&parvis, &home);
        verdict(&page) == "hit" && page.header("content-encoding") == Some("br")
    });
    let page = replay(&parvis, &home);
    assert!(page.body.len() < page.decoded().len() / 2, "joined and compressed");
    parvis.purge_tag("cat_c_10");
    let after = replay(&parvis, &home);
    assert_eq!(verdict(&after), "hit", "the page itself was not purged");
    assert_eq!(after.decoded().len(), page.decoded().len());
}

#[test]
fn with_storing_off_a_response_through_fastcgi_equals_that_through_nginx() {
    let php = Php::with_corpus();
    let nginx = Nginx::before(&php);
    let parvis = corpus_settings(Parvis::before_php(&php))
        .with("site.policy", "\"generic\"")
        .with("site.cache_status", "false")
        .with("store.memory", "\"0B\"")
        .with("encoding.gzip", "false")
        .with("esi.enabled", "false")
        .start();
    let own = ["date", "server", "connection", "keep-alive", "transfer-encoding"];
    let visible = |reply: &Reply| -> Vec<(String, String)> {
        reply
            .headers
            .iter()
            .filter(|(name, _)| !own.contains(&name.to_lowercase().as_str()))
            .cloned()
            .collect()
    };
    for exchange in exchanges().iter().filter(|exchange| !is_file(exchange)) {
        let ours = replay(&parvis, exchange);
        let headers: Vec<(&str, &str)> = exchange
            .headers
            .iter()
            .filter(|(name, _)| {
                !["connection", "content-length"].contains(&name.to_lowercase().as_str())
            })
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain([("X-Corpus-Name", exchange.name.as_str())])
            .collect();
        let theirs = super::support::request(
            nginx.port,
            &exchange.method,
            &exchange.target,
            &headers,
            &exchange.body,
        );
        assert_eq!(ours.status, theirs.status, "{}", exchange.name);
        assert_eq!(visible(&ours), visible(&theirs), "{}", exchange.name);
        assert_eq!(ours.body, theirs.body, "{}", exchange.name);
    }
}
