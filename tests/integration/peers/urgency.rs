//! What another node asks for waits for a place in PHP by whoever wants it there.

use std::thread;

use super::{PATIENCE, Shop, owned_by, started};
use crate::support::Parvis;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const CLASSES: &str = "[[admission.class]]\nname = \"refreshes\"\nrank = 9\nrefreshes = true\n\
    [[admission.class]]\nname = \"bots\"\nrank = 8\nuser_agents = [\"crawler\"]\n\
    [[admission.class]]\nname = \"pages\"\nrank = 5\n";
const BUSY: &str = "/checkout/busy";

/// Two nodes, of which the first has one place in PHP.
fn nodes(shop: &Shop, redis: &Redis) -> Vec<Parvis> {
    let narrow = shop.node("web-1", redis).with("origin.concurrency_max", "1");
    let other = shop.node("web-2", redis);
    started([narrow, other].into_iter().map(|node| node.with_toml(CLASSES)))
}

fn shop() -> Shop {
    Shop::with(|seen| {
        let seconds = if seen.target.starts_with(BUSY) { 6 } else { 0 };
        std::time::Duration::from_secs(seconds)
    })
}

/// Waits until one of this class waits there, and no other.
fn waits_as(node: &Parvis, class: &str) {
    wait_until(class, PATIENCE, || {
        ["refreshes", "bots", "pages"].iter().all(|other| {
            let waiting = node.metric(&format!("parvis_admission_waiting{{class=\"{other}\"}}"));
            waiting == Some(f64::from(u8::from(*other == class)))
        })
    });
}

fn occupied(node: &Parvis) {
    wait_until("its place", PATIENCE, || node.metric("parvis_origin_in_use ") == Some(1.0));
}

#[test]
fn a_page_that_a_bot_wants_elsewhere_waits_as_a_bots_until_a_visitor_wants_it_too() {
    let (shop, redis) = (shop(), Redis::start());
    let nodes = nodes(&shop, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "wanted");
    assert_eq!(nodes[0].purge_tag(target.trim_start_matches('/')).status, 200);
    thread::scope(|scope| {
        let busy = scope.spawn(|| nodes[0].ask("POST", BUSY, &[], b""));
        occupied(&nodes[0]);
        let bot = scope.spawn(|| nodes[1].get(&target, &[("User-Agent", "a crawler")]));
        waits_as(&nodes[0], "bots");
        let visitor = scope.spawn(|| nodes[1].get(&target, &[]));
        waits_as(&nodes[0], "pages");
        assert!(!busy.is_finished());
        for reply in [busy, bot, visitor] {
            assert_eq!(reply.join().expect("a reply").status, 200);
        }
    });
    assert_eq!(shop.renders(&target), 2, "once before the purge, once after it");
}

#[test]
fn a_refresh_of_another_node_waits_as_a_refresh() {
    let (shop, redis) = (shop(), Redis::start());
    let nodes = nodes(&shop, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "stale");
    thread::scope(|scope| {
        let busy = scope.spawn(|| nodes[0].ask("POST", BUSY, &[], b""));
        occupied(&nodes[0]);
        let soft = crate::support::request(
            nodes[1].control,
            "POST",
            "/purge",
            &[("Content-Type", "application/json")],
            b"{\"all\":true,\"soft\":true}",
        );
        assert_eq!(soft.status, 200, "{}", soft.text());
        assert_eq!(nodes[1].get(&target, &[]).status, 200, "what is stale, at once");
        waits_as(&nodes[0], "refreshes");
        assert!(!busy.is_finished());
        assert_eq!(busy.join().expect("a reply").status, 200);
    });
}
