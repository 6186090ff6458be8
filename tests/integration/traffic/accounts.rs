//! Budgets of logins, over the nodes of a fleet, and by the account that a form names.

use super::super::fleet::{self, Shop};
use super::super::support::Parvis;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;
use super::rule;

const FORM: &str = "application/x-www-form-urlencoded";

/// A budget of ten a minute for logins, with more lines.
fn logins(more: &str) -> String {
    let rest = "do = \"limit\"\nmethods = [\"POST\"]\npaths = [\"/customer/account/loginPost\"]\nrequests = \"10/1m\"\n";
    rule("logins", &format!("{rest}{more}"))
}

fn two_nodes(shop: &Shop, redis: &Redis, rules: &str) -> [Parvis; 2] {
    ["web-1", "web-2"].map(|name| {
        let node = shop.node(name, &redis.url()).with_toml(rules).start();
        fleet::wait_until_current(&node);
        node
    })
}

fn log_in(node: &Parvis, address: &str, content_type: &str, content: &str) -> u16 {
    let headers = [("Content-Type", content_type), ("X-Forwarded-For", address)];
    node.ask("POST", "/customer/account/loginPost", &headers, content.as_bytes()).status
}

/// Forty tries, on each node in turn, each from `address` and with the content that `content` gives; how many got
/// through.
fn passed(
    nodes: &[Parvis; 2],
    address: impl Fn(usize) -> String,
    content: impl Fn(usize) -> (&'static str, String),
) -> usize {
    let statuses = (0..40).map(|at| {
        let (content_type, content) = content(at);
        log_in(&nodes[at % 2], &address(at), content_type, &content)
    });
    let statuses: Vec<u16> = statuses.collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

fn same_address(_at: usize) -> String {
    "192.0.2.7".to_owned()
}

fn many_addresses(at: usize) -> String {
    format!("192.0.{at}.7")
}

fn any_account(at: usize) -> (&'static str, String) {
    (FORM, format!("login[username]=user{at}@example.com&login[password]=x"))
}

/// The same account, written in all ways that PHP reads alike.
fn jane(at: usize) -> (&'static str, String) {
    match at % 4 {
        0 => (FORM, "login[username]=jane@example.com&login[password]=x".to_owned()),
        1 => (FORM, "login%5Busername%5D=+JANE%40example.com+&login%5Bpassword%5D=y".to_owned()),
        2 => (FORM, format!("login[username]=other{at}&+login[username]x=Jane@example.com")),
        _ => (
            "multipart/form-data; boundary=x1",
            "--x1\r\nContent-Disposition: form-data; name=\"login[username]\"\r\n\r\njane@example.com\r\n--x1--\r\n"
                .to_owned(),
        ),
    }
}

#[test]
fn two_nodes_let_ten_logins_a_minute_of_an_address_through() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = two_nodes(&shop, &redis, &logins("fleet = true"));
    let through = passed(&nodes, same_address, any_account);
    assert!((10..=12).contains(&through), "{through} of 40");
    let again = nodes[1].ask(
        "POST",
        "/customer/account/loginPost",
        &[("X-Forwarded-For", "192.0.2.7")],
        b"",
    );
    assert_eq!(again.status, 429);
    let seconds: u64 =
        again.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(
        nodes[0].get("/customer/account/loginPost", &[]).status,
        200,
        "the rule is for POST"
    );
    assert_eq!(log_in(&nodes[0], "192.0.2.8", FORM, "a=b"), 200, "another address");
}

#[test]
fn without_the_fleet_each_node_lets_ten_through() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = two_nodes(&shop, &redis, &logins("fleet = false"));
    let through = passed(&nodes, same_address, any_account);
    assert!(through >= 20, "{through} of 40");
}

#[test]
fn an_account_is_tried_ten_times_a_minute_from_however_many_addresses() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = two_nodes(&shop, &redis, &logins("fleet = true\nfield = \"login[username]\""));
    let through = passed(&nodes, many_addresses, jane);
    assert!((10..=12).contains(&through), "{through} of 40");
    let (content_type, other) = any_account(0);
    assert_eq!(log_in(&nodes[0], "192.0.2.8", content_type, &other), 200, "another account");
    let large = format!("a={}&login[username]=jane@example.com", "x".repeat(100_000));
    let through = passed(&nodes, |at| format!("192.1.{at}.7"), |_| (FORM, large.clone()));
    assert!((10..=12).contains(&through), "{through} of 40 that cannot be read");
    // Nothing of it is kept where others read.
    let keys = redis.ask(&["keys", "*"]);
    assert!(keys.contains("{parvis}:budget:"), "{keys}");
    for node in &nodes {
        let said = [keys.clone(), node.stderr(), node.access_log()].concat().to_lowercase();
        assert!(!said.contains("jane"), "{said}");
        assert!(!keys.contains("192."), "{keys}");
    }
}

#[test]
fn behind_a_proxy_that_is_not_trusted_an_account_is_tried_ten_times_a_minute_all_the_same() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let rules = logins("fleet = true\nfield = \"login[username]\"");
    let nodes = ["web-1", "web-2"].map(|name| {
        let node = shop.node(name, &redis.url()).with("listen.trusted", "[]");
        let node = node.with_toml(&rules).start();
        fleet::wait_until_current(&node);
        node
    });
    let through = passed(&nodes, many_addresses, jane);
    assert!((10..=12).contains(&through), "{through} of 40");
    assert_eq!(passed(&nodes, many_addresses, any_account), 40, "the proxy has no account");
}

#[test]
fn who_brings_no_session_tries_an_account_ten_times_a_minute_all_the_same() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let rules = logins("fleet = true\nper = \"session\"\nfield = \"login[username]\"");
    let nodes = two_nodes(&shop, &redis, &rules);
    let through = passed(&nodes, many_addresses, jane);
    assert!((10..=12).contains(&through), "{through} of 40");
}

#[test]
fn a_session_keeps_its_own_where_its_address_is_used_up() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let of = |name: &str, per: &str, requests: &str| {
        rule(
            name,
            &format!(
                "do = \"limit\"\nmethods = [\"POST\"]\npaths = [\"/customer/account/loginPost\"]\n\
                 requests = \"{requests}\"\nper = \"{per}\"\nfleet = true\n"
            ),
        )
    };
    let rules = of("session", "session", "3/1h") + &of("address", "address", "5/1h");
    let nodes = two_nodes(&shop, &redis, &rules);
    let tries = |address: &str, session: &str, times: usize| {
        let cookie = format!("PHPSESSID={session}");
        let headers = [("X-Forwarded-For", address), ("Cookie", &*cookie)];
        let log_in = |at: usize| {
            nodes[at % 2].ask("POST", "/customer/account/loginPost", &headers, b"a=b").status == 200
        };
        (0..times).filter(|at| log_in(*at)).count()
    };
    assert_eq!(tries("192.0.2.7", "a", 9) + tries("192.0.2.7", "b", 9), 5, "of the address");
    assert_eq!(tries("192.0.2.7", "jane", 9), 0);
    assert_eq!(tries("192.0.2.8", "jane", 9), 3, "she has spent nothing of her own");
}

#[test]
fn a_reload_keeps_the_accounts_of_limits_that_stay() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis.url()).with_toml(&logins("fleet = true")).start();
    fleet::wait_until_current(&node);
    let through = || (0..20).filter(|_| log_in(&node, "192.0.2.7", FORM, "a=b") == 200).count();
    let first = through();
    assert!((10..=11).contains(&first), "{first}");
    let reload = |marker: &str, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(node.config_path()).expect("read");
        let marker_rule = rule(marker, "do = \"log\"");
        std::fs::write(node.config_path(), change(text) + &marker_rule).expect("written");
        node.process.signal("HUP");
        let metric = format!("parvis_traffic_rule_matched_total{{rule=\"{marker}\"}}");
        wait_until("the reload", fleet::PATIENCE, || node.metric(&metric).is_some());
    };
    let first_rule = rule("first", "do = \"log\"");
    // Another rule comes before it, so that its place is another one.
    reload("again", &|text| {
        text.replacen("[[traffic.rule]]", &(first_rule.clone() + "[[traffic.rule]]"), 1)
    });
    let more = through();
    assert!(more <= 1, "{more}: the account is the one from before");
    reload("anew", &|text| text.replace("requests = \"10/1m\"", "requests = \"12/1m\""));
    let anew = through();
    assert!((12..=13).contains(&anew), "{anew}: another limit has accounts of its own");
}

#[test]
fn without_the_field_only_addresses_count() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = two_nodes(&shop, &redis, &logins("fleet = true"));
    assert_eq!(passed(&nodes, many_addresses, jane), 40);
}

#[test]
fn while_redis_is_away_two_nodes_share_the_budget_and_say_so_once() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let nodes = two_nodes(&shop, &redis, &logins("fleet = true"));
    wait_until("both to be known", fleet::PATIENCE, || {
        nodes.iter().all(|node| {
            fleet::overview(node)["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
        })
    });
    // Each looks who is there once a heartbeat, 100 ms, and keeps what it saw last.
    std::thread::sleep(std::time::Duration::from_secs(3));
    redis.kill();
    let through = passed(&nodes, same_address, any_account);
    assert!((10..=12).contains(&through), "{through} of 40");
    for node in &nodes {
        let said = node.stderr();
        assert_eq!(said.matches("budgets of the fleet cannot be asked for").count(), 1, "{said}");
        assert_eq!(node.metric("parvis_traffic_budgets_alone_total "), Some(20.0));
    }
}
