//! `parvis demo`, as a visitor with a real browser sees it.

pub mod browser;

use std::process::Command;
use std::time::Duration;

use crate::support::client;
use crate::support::process::{Process, log_text, wait_until};
use browser::{Browser, Driver};

/// A browser that shares two slow cores with other tests takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts to count the layout shifts that no input explains, those before it too.
const COUNT_SHIFTS: &str = "window.shifts = 0; new PerformanceObserver(list => { \
    window.shifts += list.getEntries().filter(entry => !entry.hadRecentInput).length; \
    }).observe({ type: 'layout-shift', buffered: true });";

/// How many there were, once what is drawn has been drawn.
const SHIFTS: &str = "return new Promise(resolve => requestAnimationFrame(() => \
    requestAnimationFrame(() => resolve(window.shifts))));";

struct Demo {
    process: Process,
    address: String,
    greeting: String,
    _directory: tempfile::TempDir,
}

impl Demo {
    /// On a port that it chooses itself.
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("output");
        let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
        let process = Process::start(command.args(["demo", "--port", "0"]), &log);
        wait_until("the greeting", PATIENCE, || log_text(&log).contains("Ctrl-C"));
        let greeting = log_text(&log);
        let address = greeting
            .split_whitespace()
            .find(|word| word.starts_with("http://127.0.0.1:"))
            .expect("an address")
            .to_owned();
        Self { process, address, greeting, _directory: directory }
    }

    fn port(&self) -> u16 {
        let port = self.address.trim_end_matches('/').rsplit(':').next();
        port.and_then(|port| port.parse().ok()).expect("a port")
    }
}

/// A visitor of the demo: a browser with cookies of its own.
struct Visitor<'a> {
    browser: Browser<'a>,
}

impl<'a> Visitor<'a> {
    fn comes_to(address: &str, driver: &'a Driver) -> Self {
        let visitor = Self { browser: driver.browser() };
        visitor.browser.open(address);
        visitor.waits();
        visitor.browser.run(COUNT_SHIFTS);
        visitor
    }

    /// Until the panel has finished what it does, which takes several requests.
    fn waits(&self) {
        wait_until("the panel", PATIENCE, || {
            let script = "return document.readyState === 'complete' \
                && document.querySelector('#history .word').textContent !== '' \
                && !document.getElementById('panel').classList.contains('busy');";
            self.browser.run(script) == true
        });
    }

    fn clicks(&self, button: &str) {
        self.browser.click(&format!("//button[normalize-space()='{button}']"));
        self.waits();
    }

    fn reads(&self, id: &str) -> String {
        let script = format!("return document.getElementById('{id}').textContent;");
        self.browser.run(&script).as_str().expect("a text").to_owned()
    }

    /// The words of the history, newest first.
    fn history(&self) -> Vec<String> {
        let script = "return Array.from(document.querySelectorAll('#history .word'), \
            word => word.textContent).filter(word => word);";
        let words = self.browser.run(script);
        let words = words.as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a word").to_owned()).collect()
    }

    /// The times of the history in milliseconds, newest first.
    fn times(&self) -> Vec<f64> {
        let script = "return Array.from(document.querySelectorAll('#history .time'), \
            time => parseFloat(time.textContent)).filter(time => !isNaN(time));";
        let times = self.browser.run(script);
        times.as_array().expect("a list").iter().filter_map(serde_json::Value::as_f64).collect()
    }
}

#[test]
fn a_visitor_sees_a_miss_then_hits_and_a_changed_price_at_once() {
    let (demo, driver) = (Demo::start(), Driver::start());
    let visitor = Visitor::comes_to(&demo.address, &driver);
    assert_eq!(visitor.history(), ["pass", "miss"], "the page, then the cart");
    assert_eq!(visitor.reads("price-0"), "€ 129.00");

    visitor.clicks("Load it again");
    assert_eq!(visitor.history(), ["hit", "pass", "miss"]);
    assert_eq!(visitor.reads("word"), "hit");
    let times = visitor.times();
    assert!(times[0] < times[2], "a hit is faster than PHP: {times:?}");

    visitor.clicks("Change a price");
    assert_eq!(visitor.history(), ["hit", "miss", "purge", "hit", "pass", "miss"]);
    assert_eq!(visitor.reads("price-0"), "€ 119.00");
    assert_eq!(visitor.reads("price-1"), "€ 349.00", "the others stay");
    let history = visitor.reads("history");
    assert!(history.contains("€ 119.00. Tag cat_p_0: 1 stored page dropped"), "{history}");
    let times = visitor.times();
    assert!(times[0] < times[1] && times[1] >= 300.0, "PHP takes 300 ms: {times:?}");
    assert_eq!(visitor.browser.run(SHIFTS), 0, "nothing jumps");

    // The same count sees a page that jumps, once the click is long enough ago not to explain it.
    let jump = "document.body.prepend(Object.assign(document.createElement('p'), \
        { textContent: 'an advertisement' }));";
    wait_until("a jump", PATIENCE, || {
        visitor.browser.run(jump);
        visitor.browser.run(SHIFTS) != 0
    });
}

#[test]
fn a_cart_is_its_visitors_alone() {
    let (demo, driver) = (Demo::start(), Driver::start());
    let buyer = Visitor::comes_to(&demo.address, &driver);
    buyer.clicks("Add to cart");
    assert_eq!(buyer.reads("cart-count"), "1");
    assert_eq!(buyer.history()[..3], ["hit", "pass", "pass"], "page, nobody's cart, own cart");
    let history = buyer.reads("history");
    assert!(history.contains("Another visitor’s cart: 0"), "{history}");
    assert_eq!(buyer.browser.run(SHIFTS), 0, "nothing jumps");

    let other = Visitor::comes_to(&demo.address, &driver);
    assert_eq!(other.reads("cart-count"), "0");
    assert_eq!(other.history(), ["pass", "hit"], "the page is shared");
    buyer.browser.open(&format!("{}checkout/cart/", demo.address));
    buyer.waits();
    assert!(buyer.reads("shop").contains("1 piece is in your cart."));
    assert_eq!(buyer.reads("word"), "pass");
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_fits_a_phone() {
    let (demo, driver) = (Demo::start(), Driver::start());
    let visitor = Visitor::comes_to(&demo.address, &driver);
    let browser = &visitor.browser;
    assert_eq!(browser.run("return document.documentElement.lang;"), "en");
    assert_eq!(
        browser.run("return document.querySelectorAll('nav a').length;"),
        3,
        "the menu was joined"
    );
    let foreign = "return performance.getEntriesByType('resource').map(entry => entry.name)\
        .filter(name => !name.startsWith(location.origin));";
    assert_eq!(browser.run(foreign), serde_json::json!([]), "nothing from elsewhere");
    browser.becomes_a_phone(360, 740);
    let width = "return [innerWidth, document.documentElement.scrollWidth];";
    assert_eq!(browser.run(width), serde_json::json!([360, 360]), "nothing is wider");
}

#[test]
fn the_greeting_names_the_real_ports_and_commands_that_work() {
    let mut demo = Demo::start();
    assert_eq!(client::get(demo.port(), "/", &[]).status, 200);
    let purge = demo.greeting.lines().find(|line| line.contains(" purge --tag ")).expect("a line");
    let mut words = purge.split_whitespace();
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .output()
        .expect("the command of the greeting");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("Purged: 1 response "), "{text}{output:?}");
    assert!(!client::get(demo.port(), "/", &[]).is_hit());
    demo.process.signal("INT");
    assert_eq!(demo.process.wait(PATIENCE), Some(0), "Ctrl-C ends it in order");
}
