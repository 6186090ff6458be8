//! Budgets of GraphQL: by the names of operations, however a document hides them, and by PHP's time.

use super::super::support::Parvis;
use super::super::support::origin::{Origin, page};
use super::super::support::redis::Redis;
use super::php_time::slow_origin;
use super::{BROWSER, on_and_off, rule};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post(parvis: &Parvis, address: &str, query: &str) -> u16 {
    let content = serde_json::json!({ "query": query, "variables": {} }).to_string();
    let headers = [BROWSER, JSON, ("X-Forwarded-For", address)];
    parvis.ask("POST", "/graphql", &headers, content.as_bytes()).status
}

fn passed(count: usize, mut status: impl FnMut(usize) -> u16) -> usize {
    (0..count).filter(|at| status(*at) == 200).count()
}

#[test]
fn what_is_guessed_or_abused_has_a_budget_by_default() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port));
    for (number, (operation, most)) in [
        ("generateCustomerToken", 60),
        ("requestPasswordResetEmail", 30),
        ("createCustomer", 30),
        ("createCustomerV2", 30),
        ("applyCouponToCart", 60),
        ("placeOrder", 60),
        ("addProductsToCart", 240),
    ]
    .into_iter()
    .enumerate()
    {
        let address = format!("192.0.{number}.1");
        let query =
            format!("mutation M($a: String) {{ x: {operation}(input: {{a: $a}}) {{ n }} }}");
        let count = most + 30;
        let through = passed(count, |_| post(&on, &address, &query));
        assert!((most..=most + 15).contains(&through), "{operation}: {through}");
        assert_eq!(passed(count, |_| post(&off, &address, &query)), count, "without the rules");
    }
    let page_of_a_shop = "query { cart(cart_id: \"placeOrder\") { id } storeConfig { code } }";
    assert_eq!(passed(300, |_| post(&on, "192.0.2.9", page_of_a_shop)), 300);
}

#[test]
fn aliases_fragments_and_batches_count_one_by_one() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port).start();
    let aliases = |from: usize, count: usize| {
        let guess = |at| format!("a{at}: applyCouponToCart(input: {{code: \"{at}\"}}) {{ n }} ");
        format!("mutation {{ {} }}", (from..from + count).map(guess).collect::<String>())
    };
    assert_eq!(post(&parvis, "192.0.2.1", &aliases(0, 61)), 429, "more than a minute gives");
    assert_eq!(post(&parvis, "192.0.2.1", &aliases(0, 40)), 200, "a refusal takes nothing");
    assert_eq!(post(&parvis, "192.0.2.1", &aliases(40, 40)), 429);
    assert_eq!(post(&parvis, "192.0.2.1", &aliases(40, 20)), 200);
    assert_eq!(post(&parvis, "192.0.2.1", &aliases(60, 1)), 429);
    let spend = |address: &str| assert_eq!(post(&parvis, address, &aliases(0, 60)), 200);
    let batch =
        format!("[{}]", vec!["{\"query\":\"mutation{applyCouponToCart{n}}\"}"; 61].join(","));
    let long = format!("{{\"a\":\"{}\",\"query\":\"{{a}}\"}}", "x".repeat(70_000));
    for (number, content) in [
        "{\"query\":\"query A{a} mutation B{b ...F} fragment F on Mutation{applyCouponToCart{n}}\",\"operationName\":\"B\"}",
        "{\"query\":\"mutation{apply\\u0043ouponToCart{n}}\"}",
        "{\"query\":\"mutation{\\napplyCouponToCart{n}}\"}",
        "{\"query\":\"{a}\",\"query\":\"mutation{x:applyCouponToCart{n}}\"}",
        "{\"query\":\"{ # applyCouponToCart \\n a } mutation M { applyCouponToCart @skip(if: false) }\"}",
        "applyCouponToCart",
        &batch,
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        let address = format!("198.51.100.{number}");
        spend(&address);
        let headers = [BROWSER, JSON, ("X-Forwarded-For", address.as_str())];
        let status = parvis.ask("POST", "/graphql", &headers, content.as_bytes()).status;
        assert_eq!(status, 429, "{content:.100}");
    }
}

#[test]
fn all_nodes_count_each_alias_in_one_budget() {
    let (origin, redis) = (Origin::always(page("page", "cat_p_1")), Redis::start());
    let limit = "do = \"limit\"\nmethods = [\"POST\"]\npaths = [\"/graphql\"]\noperations = [\"placeOrder\"]\n\
                 requests = \"10/1min\"\nper = \"address\"\nfleet = true\n";
    let node = |name: &str| {
        Parvis::before_http(origin.port)
            .with("redis.url", &format!("\"{}\"", redis.url()))
            .with("fleet.name", &format!("\"{name}\""))
            .with_toml(&rule("orders", limit))
            .start()
    };
    let nodes = [node("web-1"), node("web-2")];
    let order = |node: &Parvis, count: usize| {
        let orders = (0..count).map(|at| format!("o{at}: placeOrder {{ n }} "));
        post(node, "192.0.2.1", &format!("mutation {{ {} }}", orders.collect::<String>()))
    };
    assert_eq!(order(&nodes[0], 11), 429, "a minute never gives so many");
    assert_eq!((order(&nodes[0], 6), order(&nodes[1], 5)), (200, 429));
    assert_eq!((order(&nodes[1], 4), order(&nodes[0], 1)), (200, 429));
}

#[test]
fn queries_by_get_are_limited_by_phps_time_and_other_addresses_notice_nothing() {
    let origin = slow_origin();
    let parvis = Parvis::before_http(origin.port).start();
    let ask = |address: &str, at: usize| {
        let target =
            format!("/graphql?query=%7Bproducts(search%3A%22{at}%22)%7Bitems%7Bname%7D%7D%7D");
        parvis.get(&target, &[BROWSER, ("X-Forwarded-For", address)]).status
    };
    // Faster than one after the other, or an address never spends ten seconds in ten.
    let through: usize = std::thread::scope(|scope| {
        let many = (0..8).map(|thread| {
            scope.spawn(move || passed(60, |at| ask("192.0.2.1", thread * 1_000 + at)))
        });
        many.collect::<Vec<_>>().into_iter().map(|one| one.join().expect("asked")).sum()
    });
    assert!((100..460).contains(&through), "{through} of 480");
    assert_eq!(ask("198.51.100.1", 9_000), 200);
}
