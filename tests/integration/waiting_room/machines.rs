//! Bots get no places, and what is stored is there for all.

use super::super::support::process::wait_until;
use super::{HTML, PATIENCE, Shop, Visitor, set, waits};

const GOOGLEBOT: (&str, &str) =
    ("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");

#[test]
fn a_bot_is_told_to_come_later_and_gets_no_place() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    let bot = |target: &str| parvis.get(target, &[GOOGLEBOT, HTML]);
    let reply = bot("/women.html");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("60")), "{reply:?}");
    assert_eq!(
        (reply.header("set-cookie"), reply.header("cache-control")),
        (None, Some("no-store"))
    );
    assert!(!reply.text().contains("refresh"), "{}", reply.text());
    assert_eq!(bot("/checkout/").status, 200, "a path without a waiting room");
    assert!(super::room(&parvis, &["status"]).contains("waiting              0\n"));
}

#[test]
fn stored_pages_stay_visible_to_all_unless_it_is_set_otherwise() {
    let shop = Shop::start();
    let parvis = shop.node().with("waiting_room.hits", "true").with("waiting_room.mode", "\"off\"");
    let parvis = parvis.start();
    let bot = || parvis.get("/sale.html", &[GOOGLEBOT, HTML]);
    wait_until("it is stored", PATIENCE, || {
        Visitor::default().opens(&parvis, "/sale.html").is_hit()
    });
    set(&parvis, "mode", "\"on\"");
    super::wait_until_newcomers("the room", &parvis, true);
    let hit = Visitor::default().opens(&parvis, "/sale.html");
    assert!(hit.is_hit() && hit.header("set-cookie").is_none(), "{hit:?}");
    assert!(bot().is_hit());
    set(&parvis, "hits", "false");
    wait_until("the settings", PATIENCE, || {
        waits(&Visitor::default().opens(&parvis, "/sale.html"))
    });
    assert_eq!(bot().status, 503);
    let by_script = [("Accept", "*/*"), ("X-Requested-With", "XMLHttpRequest")];
    let hit = Visitor::default().asks(&parvis, "GET", "/sale.html", &by_script);
    assert_eq!(hit.status, 200, "a script does not wait: {hit:?}");
    set(&parvis, "admit", super::EVERYBODY);
    let mut visitor = Visitor::default();
    wait_until("the turn", PATIENCE, || visitor.opens(&parvis, "/sale.html").is_hit());
    assert!(visitor.cookie("parvis_admitted").is_some(), "{:?}", visitor.cookies);
    let hit = visitor.opens(&parvis, "/sale.html");
    assert!(hit.is_hit(), "{hit:?}");
}

#[test]
fn the_way_in_is_in_no_stored_page_and_in_no_cache_in_front() {
    let shop = Shop::start();
    let parvis = shop.node().with("waiting_room.admit", super::EVERYBODY);
    let parvis = parvis.with("site.browser_cache", "\"origin\"").start();
    let mut visitor = Visitor::default();
    let mut came = None;
    wait_until("the turn", PATIENCE, || {
        let reply = visitor.opens(&parvis, "/sale.html");
        let is_in = reply.status == 200;
        came = Some(reply);
        is_in
    });
    let came = came.expect("a reply");
    assert!(came.all("set-cookie").iter().any(|set| set.starts_with("parvis_admitted=")));
    let caching = came.header("cache-control").expect("it says so");
    assert!(caching.contains("no-store") || caching.contains("private"), "{caching}");
    wait_until("it is stored", PATIENCE, || {
        Visitor::default().opens(&parvis, "/sale.html").is_hit()
    });
    let hit = Visitor::default().opens(&parvis, "/sale.html");
    assert!(hit.is_hit() && hit.header("set-cookie").is_none(), "{hit:?}");
}
