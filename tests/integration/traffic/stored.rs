//! Who may see what is stored alone never has PHP at work.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::origin::{Origin, page};
use super::super::support::parvis::Builder;
use super::super::support::process::wait_until;
use super::{HTML, from, on_and_off, rule, store};

const BOT: (&str, &str) = ("User-Agent", "some crawler (compatible; GPTBot/1.2)");

fn shop(origin: &Origin) -> Builder {
    let stored = "do = \"stored\"\nheaders = [\"user-agent: crawler\"]\nfacets_min = 2";
    Parvis::before_http(origin.port)
        .with("store.grace", "\"1h\"")
        .with_toml(&rule("facets", stored))
}

const DEEP: &str = "/x?color=1&size=2";

#[test]
fn a_bot_gets_what_is_stored_of_facets_and_429_where_nothing_is() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let [on, off] = on_and_off(|| shop(&origin));
    let denied = on.get(DEEP, &[HTML, BOT]);
    assert_eq!((denied.status, denied.cache_status()), (429, "parvis; detail=rule-stored"));
    assert_eq!(origin.count(), 0);
    assert_eq!(on.get("/x?color=1", &[HTML, BOT]).status, 200, "one facet is within the depth");
    store(&on, DEEP);
    assert!(on.get(DEEP, &[HTML, BOT]).is_hit());
    assert_eq!(off.get(DEEP, &[HTML, BOT]).status, 200, "without the rules");
}

#[test]
fn a_bot_gets_what_is_stale_and_starts_no_refresh() {
    let short = String::from_utf8(page("page", "cat_p_1")).expect("text").replace("86400", "1");
    let origin = Origin::always(short);
    let parvis = shop(&origin).start();
    from(&parvis, "192.0.2.1", DEEP);
    wait_until("it is stale", Duration::from_secs(10), || {
        parvis.get(DEEP, &[HTML, BOT]).cache_status().contains("ttl=-")
    });
    for _ in 0..5 {
        assert_eq!(parvis.get(DEEP, &[HTML, BOT]).status, 200);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(origin.count(), 1, "a bot has nothing rendered");
    from(&parvis, "192.0.2.1", DEEP);
    wait_until("a visitor's refresh", Duration::from_secs(10), || origin.count() == 2);
}
