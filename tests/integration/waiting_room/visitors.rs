//! Who never waits, and what is shown to those who do.

use super::super::support::process::wait_until;
use super::{HTML, PATIENCE, Shop, Visitor, waits};
use crate::support::Parvis;
use crate::support::php::Php;

const CART: &str = r#"checkout|a:1:{s:10:"quote_id_1";s:1:"7";}"#;
const CUSTOMER: &str = r#"customer_base|a:1:{s:11:"customer_id";s:1:"7";}"#;
const GUEST: &str = r#"core|a:1:{s:9:"_form_key";s:16:"aaaaaaaaaaaaaaaa";}"#;

#[test]
fn who_has_a_cart_or_is_a_customer_is_never_put_out() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    for (id, record) in [("withacart", CART), ("customer", CUSTOMER), ("justaguest", GUEST)] {
        shop.redis.ask(&["-n", "2", "hset", &format!("sess_{id}"), "data", record]);
    }
    let status = |id: &str| Visitor::with(&[("PHPSESSID", id)]).opens(&parvis, "/").status;
    assert_eq!((status("withacart"), status("customer")), (200, 200));
    assert_eq!((status("justaguest"), status("madeup")), (503, 503));
}

#[test]
fn who_puts_something_into_the_cart_comes_in_and_keeps_it() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    let mut visitor = Visitor::default();
    assert!(waits(&visitor.opens(&parvis, "/")));
    let added = visitor.asks(&parvis, "POST", "/add", &[HTML]);
    assert_eq!(added.status, 200, "a form is never lost");
    wait_until("the session", PATIENCE, || {
        let page = visitor.opens(&parvis, "/");
        page.status == 200 && page.text().contains("<p id=items>1</p>")
    });
}

#[test]
fn where_sessions_do_not_pass_here_magentos_cookies_tell_who_is_in_the_shop() {
    let php = Php::with_front_controller("room.php", 2);
    let parvis = super::waiting(Parvis::before_php(&php)).start();
    let status = |cookies: &[(&str, &str)]| Visitor::with(cookies).opens(&parvis, "/").status;
    let session = ("PHPSESSID", "abcdef");
    assert_eq!(status(&[session, ("private_content_version", "f00")]), 200);
    assert_eq!(status(&[session, ("section_data_ids", "%7B%7D")]), 200);
    assert_eq!(status(&[session]), 503);
    assert_eq!(status(&[("private_content_version", "f00")]), 503);
}

#[test]
fn the_checkout_callbacks_scripts_and_files_never_get_the_page() {
    let shop = Shop::start();
    shop.php.write("static/a.css", b"a{}");
    let parvis = shop.node().start();
    let asks = |method: &str, target: &str, more: &[(&str, &str)]| {
        Visitor::default().asks(&parvis, method, target, more).status
    };
    for target in ["/checkout/", "/de/checkout/cart/", "/paypal/ipn", "/rest/V1/x", "/admin/"] {
        assert_eq!(asks("GET", target, &[HTML]), 200, "{target}");
    }
    for more in [
        &[HTML, ("X-Requested-With", "XMLHttpRequest")][..],
        &[("Accept", "*/*"), ("Sec-Fetch-Dest", "empty"), ("Sec-Fetch-Mode", "cors")],
        &[("Accept", "image/avif,image/webp,*/*"), ("Sec-Fetch-Dest", "image")],
        &[("Accept", "application/json")],
    ] {
        assert_eq!(asks("GET", "/catalog/any", more), 200, "{more:?}");
    }
    assert_eq!(asks("POST", "/newsletter", &[HTML]), 200);
    assert_eq!(asks("GET", "/static/a.css", &[HTML]), 200);
    assert_eq!(asks("GET", "/health_check.php", &[HTML]), 200);
    assert_eq!(asks("GET", "/catalog/any", &[HTML]), 503);
}

#[test]
fn the_shops_own_people_do_not_wait() {
    let shop = Shop::start();
    let parvis = shop.node().with("maintenance.allow", "[\"192.0.2.0/24\"]").start();
    let from = |address: &str| {
        let forwarded = [HTML, ("X-Forwarded-For", address)];
        Visitor::default().asks(&parvis, "GET", "/", &forwarded).status
    };
    assert_eq!((from("192.0.2.7"), from("198.51.100.7")), (200, 503));
}

#[test]
fn only_the_paths_that_are_named_have_a_waiting_room() {
    let shop = Shop::start();
    let parvis = shop.node().with("waiting_room.paths", "[\"/limited\"]").start();
    let status = |target: &str| Visitor::default().opens(&parvis, target).status;
    assert_eq!((status("/limited/shoe.html"), status("/women.html")), (503, 200));
}

#[test]
fn the_page_speaks_the_visitors_language_or_is_the_shops_own() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    for (language, title) in [
        ("de-AT,de;q=0.9", "Sie sind im Warteraum"),
        ("fr", "Vous êtes dans la salle d’attente"),
        ("es", "Está en la sala de espera"),
        ("it", "È nella sala d’attesa"),
        ("nl", "U bent in de wachtkamer"),
        ("zh", "You are in the waiting room"),
    ] {
        let more = [HTML, ("Accept-Language", language)];
        let page = Visitor::default().asks(&parvis, "GET", "/", &more);
        assert!(waits(&page) && page.text().contains(&format!("<h1>{title}</h1>")), "{page:?}");
    }
    let pages = tempfile::tempdir().expect("a directory");
    let own = "<!DOCTYPE html><title>Ours</title><img src=/logo.svg alt=Shop><!-- parvis --><hr>";
    std::fs::write(pages.path().join("waiting.html"), own).expect("written");
    let directory = format!("\"{}\"", pages.path().display());
    let parvis = shop.another("web-2").with("error_pages.directory", &directory).start();
    let page = Visitor::default().opens(&parvis, "/");
    let text = page.text();
    assert!(waits(&page) && text.starts_with("<!DOCTYPE html><title>Ours</title>"), "{text}");
    assert!(text.contains("role=\"status\"") && text.ends_with("<hr>"), "{text}");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("img-src 'self'") && !policy.contains("script-src"), "{policy}");
}
