//! PHP's time is charged to who asked for it, whichever node of the fleet renders.

use std::time::Duration;

use super::super::peers::{self, PATIENCE, owned_by};
use super::super::support::origin::Seen;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;
use super::super::support::{Parvis, request};
use super::{from, rule};

const RULE: &str = "do = \"limit\"\nphp = \"200ms/1h\"\npaths = [\"/slow\"]";
const SPENT: &str = "parvis_traffic_rule_php_seconds_total{rule=\"php\"}";

fn two_nodes(shop: &peers::Shop, redis: &Redis, rules: &str) -> Vec<Parvis> {
    let node = |name: &&str| shop.node(name, redis).with_toml(rules);
    peers::started(["web-1", "web-2"].iter().map(node))
}

fn lent(node: &Parvis) -> Option<f64> {
    node.metric("parvis_peers_lent_total ")
}

#[test]
fn what_another_node_renders_is_charged_where_it_was_asked_for() {
    let takes =
        |seen: &Seen| Duration::from_millis(250 * u64::from(seen.target.starts_with("/slow")));
    let (shop, redis) = (peers::Shop::with(takes), Redis::start());
    let nodes = two_nodes(&shop, &redis, &rule("php", RULE));
    // Each from an address of its own until one is the other node's.
    let mut spent = None;
    for client in 1..100 {
        let (before, address) = (lent(&nodes[0]), format!("192.0.2.{client}"));
        let counted = nodes[1].metric(SPENT).unwrap_or_default();
        assert_eq!(from(&nodes[1], &address, &format!("/slow/{client}")).status, 200);
        if lent(&nodes[0]) > before {
            let more = nodes[1].metric(SPENT).unwrap_or_default() - counted;
            assert!(more >= 0.25, "{more} seconds were counted");
            spent = Some(address);
            break;
        }
    }
    let spent = spent.expect("a page of the other node");
    assert_eq!(from(&nodes[1], &spent, "/slow/more").status, 429, "its account is used up");
    assert_eq!(nodes[0].metric(SPENT), Some(0.0), "nobody asked there");
    // What is stored at the other node costs nobody anything.
    let slow = (1..100).map(|at| format!("/slow/stored-{at}"));
    for (client, target) in (1..).zip(slow) {
        let address = format!("198.51.100.{client}");
        let before = lent(&nodes[0]);
        wait_until("it is stored", PATIENCE, || from(&nodes[0], &address, &target).is_hit());
        let counted = nodes[1].metric(SPENT);
        assert_eq!(from(&nodes[1], "203.0.113.1", &target).status, 200);
        if lent(&nodes[0]) > before {
            assert_eq!(nodes[1].metric(SPENT), counted);
            return;
        }
    }
    panic!("a node that owns nothing");
}

/// The answer does not wait for the refresh, so that it says what such took of late.
#[test]
fn a_refresh_that_another_node_begins_is_charged_to_who_got_the_stale_page() {
    let takes =
        |seen: &Seen| Duration::from_millis(150 * u64::from(seen.target.starts_with("/slow")));
    let (shop, redis) = (peers::Shop::with(takes), Redis::start());
    let node = |name: &&str| shop.node(name, &redis).with_toml(&rule("php", RULE));
    let nodes = peers::started(["web-1", "web-2", "web-3"].iter().map(node));
    let target = owned_by(&nodes[0], &nodes[1], "slow/x");
    shop.commit();
    let body = format!("{{\"tags\": [\"{}\"], \"soft\": true}}", target.trim_start_matches('/'));
    let json = [("Content-Type", "application/json")];
    assert_eq!(request(nodes[0].control, "POST", "/purge", &json, body.as_bytes()).status, 200);
    let spent = || nodes[2].metric(SPENT).unwrap_or_default();
    let before = spent();
    assert_eq!(from(&nodes[2], "192.0.2.1", &target).status, 200);
    let charged = spent() - before;
    assert!(charged >= 0.05, "{charged} seconds");
}
