//! `parvis explain` and the server judge the same requests by the same rules: which of them match, and which one decides.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::super::support::client;
use super::super::support::origin::{Origin, page};
use super::super::support::parvis::{Builder, program};
use super::super::support::{Parvis, Reply};
use super::rule;

const FIREFOX: &str =
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const GOOGLEBOT: &str =
    "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const HTML: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
const SESSION: &str = "Cookie: PHPSESSID=abcdef0123456789";

/// A request: method, URL, the client's address, headers.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str]);

const ROWS: &[Row] = &[
    ("GET", "/", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/", "198.51.100.7", &[HTML, FIREFOX]),
    ("GET", "/", "2001:db8:5::1", &[HTML, FIREFOX]),
    ("HEAD", "/women.html", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("POST", "/women.html", "192.0.2.1", &[HTML, FIREFOX]),
    ("PUT", "/rest/V1/carts/mine", "192.0.2.1", &["Accept: application/json"]),
    ("GET", "/index.php/Women/shoe.html", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/womens/shoe.html", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/women.html?color=49", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/women.html?color=49,50&p=2", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("GET", "/women.html?color=49&size=1&price=10-20", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("GET", "/women.html?color=&size=1&utm_source=x&gclid=y", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/women.html?c%6Flor=49&special=1", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("GET", "/?q=0123456789012345678901234567890123456789", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/puzzle", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/puzzle", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("GET", "/puzzle", "66.249.66.1", &[HTML, GOOGLEBOT]),
    ("GET", "/", "66.249.66.1", &[HTML, GOOGLEBOT]),
    ("GET", "/", "192.0.2.9", &[HTML, GOOGLEBOT]),
    ("GET", "/", "192.0.2.1", &["User-Agent: curl/8.9.1"]),
    ("GET", "/", "192.0.2.1", &["User-Agent: python-requests/2.32"]),
    ("GET", "/", "192.0.2.1", &["User-Agent: a BadBot/1.0", FIREFOX]),
    ("GET", "/", "192.0.2.1", &[FIREFOX, "User-Agent: a badbot/1.0"]),
    ("GET", "/", "192.0.2.1", &[HTML]),
    ("GET", "/", "192.0.2.1", &[HTML, "User-Agent:"]),
    ("GET", "/", "192.0.2.1", &[HTML, FIREFOX, "X-Probe: some TEXT here"]),
    ("GET", "/", "192.0.2.1", &[HTML, FIREFOX, "X-Probe: other", "X-Probe: text"]),
    ("GET", "/", "192.0.2.1", &[HTML, FIREFOX, "Cookie: a=1; PHPSESSID=", "Cookie: admin=xyz"]),
    ("GET", "/", "192.0.2.1", &[HTML, FIREFOX, "Cookie: a=1; PHPSESSID=abc; b=2"]),
    ("GET", "/", "192.0.2.1", &[HTML, FIREFOX, "Cookie: phpsessid=abc"]),
    (
        "GET",
        "/graphql?query={products{items{sku}}}",
        "192.0.2.1",
        &["Content-Type: application/json"],
    ),
    ("POST", "/graphql", "192.0.2.1", &["Content-Type: application/json", "Store: de"]),
    ("GET", "//women.html", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/x/../women.html", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/%77omen.html", "192.0.2.1", &[HTML, FIREFOX]),
    ("GET", "/health_check.php", "192.0.2.1", &[HTML, FIREFOX]),
];

fn rules() -> String {
    let log = |name: &str, what: &str| rule(name, &format!("do = \"log\"\n{what}"));
    let who = |name: &str| log(name, &format!("who = [\"{name}\"]"));
    let kinds = ["browser", "bot", "verified-bot", "unverified-bot", "impostor", "new-visitor"];
    [
        rule("office", "do = \"allow\"\nfrom = [\"198.51.100.0/24\", \"2001:db8:5::/48\"]"),
        kinds.map(who).concat(),
        ["session", "passed"].map(who).concat(),
        log("writes", "methods = [\"POST\", \"PUT\"]"),
        log("host", "hosts = [\"*.example\"]"),
        log("path", "paths = [\"/women*\"]"),
        log("graph", "paths = [\"/graphql\"]"),
        log("color", "query = [\"color\"]"),
        log("besides", "query_besides = [\"color\", \"utm_*\", \"p\"]"),
        log("filtered", "facets_min = 1"),
        log("long", "query_length_min = 40"),
        log("probed", "headers = [\"X-Probe\"]"),
        log("unprobed", "headers = [\"!X-Probe\"]"),
        log("text", "headers = [\"X-Probe: text\"]"),
        log("cookie", "headers = [\"Cookie\", \"!Store\"]"),
        rule("tried", "do = \"refuse\"\nfacets_min = 1\ndry_run = true"),
        rule("robots", "do = \"refuse\"\nheaders = [\"User-Agent: badbot\"]"),
        rule(
            "puzzle",
            "do = \"challenge\"\npaths = [\"/puzzle\"]\nwho = [\"new-visitor\", \"bot\"]",
        ),
        rule("filters", "do = \"stored\"\nfacets_min = 3"),
        log("rest", "who = [\"browser\", \"bot\"]"),
    ]
    .concat()
}

/// Which rules matched, and which decided.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    matched: BTreeSet<String>,
    decided: BTreeSet<String>,
}

/// As the text of `parvis explain` has it.
fn explained(row: Row, toml: &str) -> (Judged, String) {
    let (method, target, address, headers) = row;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("parvis.toml");
    std::fs::write(&path, toml).expect("written");
    let mut command = Command::new(program());
    command.args(["explain", "--method", method, "--from", address, "--url"]);
    command.arg(format!("http://shop.example{target}")).arg("--config").arg(path);
    for header in headers {
        command.args(["--header", header]);
    }
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{row:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut judged = Judged::default();
    for line in text.lines() {
        if let Some((name, _)) = line.strip_prefix("  ").and_then(|line| line.split_once(": yes")) {
            judged.matched.insert(name.to_owned());
        }
        if let Some(rest) = line.strip_prefix("The rule ") {
            judged.decided.insert(rest.split(' ').next().expect("a name").to_owned());
        }
    }
    (judged, text)
}

/// Counts of a metric by rule.
fn counts(parvis: &Parvis, metric: &str) -> BTreeMap<String, u64> {
    let text = client::get(parvis.control, "/metrics", &[]).text();
    let start = format!("parvis_traffic_rule_{metric}_total{{rule=\"");
    let lines = text.lines().filter_map(|line| line.strip_prefix(start.as_str()));
    lines
        .map(|line| {
            let (name, count) = line.split_once("\"} ").expect("a count");
            (name.to_owned(), count.parse().expect("a number"))
        })
        .collect()
}

fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeSet<String> {
    after
        .iter()
        .filter(|(name, count)| before[*name] < **count)
        .map(|(name, _)| name.clone())
        .collect()
}

/// As the server's metrics have it.
fn judged(parvis: &Parvis, row: Row) -> (Judged, Reply) {
    let (method, target, address, headers) = row;
    let split =
        |header: &'static str| header.split_once(':').map(|(name, value)| (name, value.trim()));
    let own = [("Host", "shop.example"), ("X-Forwarded-For", address)];
    let all: Vec<(&str, &str)> =
        own.into_iter().chain(headers.iter().filter_map(|header| split(header))).collect();
    let body: &[u8] = if ["POST", "PUT"].contains(&method) { b"{}" } else { b"" };
    let before = ["matched", "decided"].map(|metric| counts(parvis, metric));
    let reply = parvis.ask(method, target, &all, body);
    let after = ["matched", "decided"].map(|metric| counts(parvis, metric));
    let [matched, decided] = [0, 1].map(|at| grown(&before[at], &after[at]));
    (Judged { matched, decided }, reply)
}

fn shop(origin: &Origin) -> Builder {
    Parvis::before_http(origin.port)
        .with("site.debug_header", "\"always\"")
        .with("bots.look_up", "false")
        .with("traffic.secret", "\"a secret of this shop\"")
        .with_toml(&rules())
}

#[test]
fn explain_and_the_server_judge_alike() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = shop(&origin).start();
    let toml = shop(&origin).text();
    let mut seen = Judged::default();
    for row in ROWS {
        let ((explained, text), (judged, reply)) = (explained(*row, &toml), judged(&parvis, *row));
        assert_eq!(explained, judged, "{row:?}\n{text}\n{reply:?}");
        let refused = reply.header("x-parvis-rule").map(str::to_owned);
        let is_told = refused.is_none_or(|name| judged.decided.contains(&name));
        assert!(is_told, "{row:?}\n{text}\n{reply:?}");
        seen.matched.extend(judged.matched);
        seen.decided.extend(judged.decided);
    }
    let decided = ["filters", "office", "puzzle", "robots"].map(str::to_owned);
    assert_eq!(seen.decided, decided.into(), "each of them");
    let never = ["impostor", "passed"];
    let all = rules().matches("[[traffic.rule]]").count();
    assert_eq!(seen.matched.len(), all - never.len(), "each but {never:?}: {:?}", seen.matched);
}

/// What the default rules are about, beside the rows above.
const SHOP_ROWS: &[Row] = &[
    ("POST", "/customer/account/loginPost/", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("POST", "/de/customer/account/forgotpasswordpost", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("POST", "/customer/account/createpost/", "192.0.2.1", &[HTML, FIREFOX]),
    ("POST", "/checkout/cart/couponPost/", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("POST", "/checkout/cart/add/", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    ("GET", "/checkout/", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
    (
        "POST",
        "/rest/V1/guest-carts/abc/payment-information",
        "192.0.2.1",
        &["Accept: */*", FIREFOX],
    ),
    ("PUT", "/rest/default/V1/guest-carts/abc/order", "192.0.2.1", &["Accept: */*", FIREFOX]),
    ("POST", "/rest/V1/integration/customer/token", "192.0.2.1", &["Accept: application/json"]),
    ("POST", "/admin/admin/index/index/", "192.0.2.1", &[HTML, FIREFOX]),
    ("POST", "/paypal/ipn/", "192.0.2.1", &["User-Agent: PayPal IPN"]),
    ("POST", "/graphql", "192.0.2.1", &["Content-Type: application/json", FIREFOX, SESSION]),
    ("GET", "/women.html?color=49&size=1&price=10-20", "66.249.66.1", &[HTML, GOOGLEBOT]),
    ("GET", "/women.html?color=49&size=1", "192.0.2.9", &[HTML, GOOGLEBOT]),
    (
        "GET",
        "/women.html?color=49&size=1&price=1",
        "192.0.2.1",
        &[HTML, FIREFOX, "Cookie: form_key=x"],
    ),
    ("POST", "/women.html?color=49&size=1&price=1", "192.0.2.1", &[HTML, FIREFOX, SESSION]),
];

#[test]
fn explain_and_the_server_judge_alike_by_the_default_rules() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let shop = || {
        let shop = Parvis::before_http(origin.port).with("bots.look_up", "false");
        shop.with("traffic.secret", "\"a secret of this shop\"")
    };
    let (parvis, toml) = (shop().start(), shop().text());
    let mut seen = BTreeSet::new();
    for row in SHOP_ROWS.iter().chain(ROWS) {
        let ((explained, text), (judged, reply)) = (explained(*row, &toml), judged(&parvis, *row));
        assert_eq!(explained.matched, judged.matched, "{row:?}\n{text}\n{reply:?}");
        // A limit decides here once it is used up, which no row's is.
        assert_eq!(explained.decided, judged.decided, "{row:?}\n{text}\n{reply:?}");
        seen.extend(judged.matched);
    }
    let of_each = ["accounts", "admin", "coupons", "facets", "logins", "payments", "resets"];
    let is_seen = |start: &&str| seen.iter().any(|name| name.starts_with(*start));
    assert!(of_each.iter().all(is_seen), "{seen:?}");
    assert!(["apis", "callbacks", "checkout"].iter().all(|name| seen.contains(*name)), "{seen:?}");
}

#[test]
fn rules_that_differ_are_noticed() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = shop(&origin).start();
    let toml = shop(&origin).text().replace("facets_min = 3", "facets_min = 2");
    let differs = |row: &&Row| explained(**row, &toml).0 != judged(&parvis, **row).0;
    assert!(ROWS.iter().any(|row| differs(&row)));
}
