//! A node that leaves hands on what only it has.

use super::{heat, wait_until_ready};
use crate::peers::{PATIENCE, Shop};
use crate::support::Parvis;
use crate::support::client::request;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const PAGES: usize = 120;

/// Three nodes, of which the first was asked for all pages, and then leaves as `by` says. Gives how
/// many of them the others then have rendered.
fn renders_after(leave_max: &str, by: impl Fn(&Parvis)) -> usize {
    let (shop, redis) = (Shop::open(), Redis::start());
    let mut nodes = crate::peers::started(
        (1..=3)
            .map(|at| shop.node(&format!("web-{at}"), &redis).with("fleet.leave_max", leave_max)),
    );
    heat(&nodes[0], "legacy", PAGES);
    assert_eq!(shop.renders("/legacy"), PAGES);
    by(&nodes[0]);
    assert_eq!(nodes[0].process.wait(PATIENCE), Some(0));
    nodes.remove(0);
    for node in &nodes {
        wait_until("it to be gone", PATIENCE, || node.metric("parvis_peers_known ") == Some(1.0));
        for page in 0..PAGES {
            assert_eq!(node.get(&format!("/legacy-{page}"), &[]).status, 200);
        }
    }
    shop.renders("/legacy") - PAGES
}

#[test]
fn after_sigterm_none_of_its_pages_is_rendered_again() {
    assert_eq!(renders_after("\"10s\"", |node| node.process.signal("TERM")), 0);
}

#[test]
fn after_a_drain_over_the_control_api_neither() {
    let drain = |node: &Parvis| {
        assert_eq!(request(node.control, "POST", "/drain", &[], b"").status, 202);
    };
    assert_eq!(renders_after("\"10s\"", drain), 0);
}

#[test]
fn without_handing_on_they_are_which_shows_that_the_check_above_notices() {
    let rendered = renders_after("0", |node| node.process.signal("TERM"));
    assert!(rendered > PAGES / 10, "{rendered}");
}

#[test]
fn a_node_that_leaves_is_not_asked_for_pages_and_waits_no_longer_than_it_may() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let mut nodes = crate::peers::started((1..=2).map(|at| {
        shop.node(&format!("web-{at}"), &redis)
            .with("fleet.leave_max", "\"2s\"")
            .with("fleet.proof_max", "\"1h\"")
            .with("lifecycle.drain", "\"1s\"")
    }));
    heat(&nodes[0], "hang", 20);
    // The heir hangs.
    nodes[1].process.stop();
    nodes[0].process.signal("TERM");
    assert_eq!(nodes[0].process.wait(PATIENCE), Some(0));
    nodes[1].process.signal("CONT");
    let said = nodes[0].stderr();
    assert!(said.contains("pages were handed on") && said.contains("in_time=false"), "{said}");
    wait_until("it to be gone", PATIENCE, || nodes[1].metric("parvis_peers_known ") == Some(0.0));
    wait_until_ready(&nodes[1]);
}
