//! The waiting room in Chromium.

use super::super::demo::browser::{Browser, Driver};
use super::super::support::process::wait_until;
use super::{EVERYBODY, PATIENCE, Shop, set};

fn text(browser: &Browser<'_>, selector: &str) -> String {
    let script = format!(
        "const found = document.querySelector('{selector}'); return found ? found.textContent : '';"
    );
    browser.run(&script).as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_browser_waits_looks_again_by_itself_comes_in_and_keeps_the_cart() {
    let (shop, driver) = (Shop::start(), Driver::start());
    let parvis = shop.node().with("waiting_room.refresh", "\"2s\"").start();
    let browser = driver.browser();
    browser.calls_itself(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
    );
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", parvis.port);
    browser.open(&url("/women.html?color=12#first"));
    assert_eq!(text(&browser, "h1"), "You are in the waiting room");
    assert!(text(&browser, "[role=status]").contains("You are next"));
    let looks = || parvis.access_log().matches("\"waiting\"").count();
    let before = looks();
    wait_until("it looks again by itself", PATIENCE, || looks() >= before + 2);
    assert_eq!(browser.run("return document.cookie;"), "", "its place is no script's");
    set(&parvis, "admit", EVERYBODY);
    wait_until("the shop", PATIENCE, || text(&browser, "h1") == "Shop");
    assert_eq!(browser.run("return location.search;"), "?color=12");
    let session = text(&browser, "#session");
    browser.click("//button");
    wait_until("the cart", PATIENCE, || text(&browser, "#items") == "1");
    // The shop is full again.
    set(&parvis, "admit", super::NOBODY);
    super::wait_until_newcomers("the settings", &parvis, true);
    browser.open(&url("/women.html"));
    assert_eq!((text(&browser, "h1").as_str(), text(&browser, "#items").as_str()), ("Shop", "1"));
    assert_eq!(text(&browser, "#session"), session);
}
