//! What happens to the log, and to nodes.

use std::time::Duration;

use super::{PATIENCE, Shop, is_soft, softened, store, version, wait_until_current};
use crate::support::Parvis;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

/// Something happens to the log; then nothing stored before counts as fresh, and everything works
/// again.
fn goes_soft_after(what: &str, fault: impl FnOnce(&Redis, &[Parvis; 2])) {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 2] = shop.nodes(&redis);
    for number in 0..20 {
        assert_eq!(nodes[0].purge_tag(&format!("cat_p_{number}")).status, 200);
    }
    wait_until("web-2", PATIENCE, || nodes[1].metric("parvis_fleet_position ") == Some(20.0));
    for node in &nodes {
        store(node, "/page");
    }
    let before = softened(&nodes[1]);
    let now = shop.commit();
    fault(&redis, &nodes);
    wait_until(what, PATIENCE, || softened(&nodes[1]) > before);
    wait_until("a refresh", PATIENCE, || version(&nodes[1], "/page") == now);
    wait_until_current(&nodes[1]);
    let now = shop.commit();
    wait_until("a purge in the log", PATIENCE, || nodes[0].purge_tag("page").status == 200);
    wait_until("a purge thereafter", PATIENCE, || version(&nodes[1], "/page") == now);
}

#[test]
fn after_flushall_everything_tagged_is_soft() {
    goes_soft_after("FLUSHALL", |redis, _| drop(redis.ask(&["flushall"])));
}

#[test]
fn after_a_trim_past_a_reader_everything_tagged_is_soft() {
    goes_soft_after("the gap", |redis, nodes| {
        nodes[1].process.stop();
        for number in 0..20 {
            nodes[0].purge_tag(&format!("cat_c_{number}"));
        }
        // What it was sent before it stopped lies in its socket.
        redis.ask(&["client", "kill", "type", "normal"]);
        redis.ask(&["xtrim", "{parvis}:log", "maxlen", "3"]);
        nodes[1].process.signal("CONT");
    });
}

#[test]
fn after_a_sequence_was_set_back_everything_tagged_is_soft() {
    goes_soft_after("the sequence", |redis, _| {
        drop(redis.ask(&["hset", "{parvis}:head", "sequence", "3"]));
    });
}

#[test]
fn after_an_entry_that_cannot_be_read_everything_tagged_is_soft_and_its_id_is_logged() {
    goes_soft_after("the entry", |redis, nodes| {
        let script = "local h = redis.call('HMGET', KEYS[1], 'epoch', 'sequence', 'entry') \
            local s = redis.call('HINCRBY', KEYS[1], 'sequence', 1) \
            redis.call('HSET', KEYS[1], 'entry', ARGV[1]) \
            redis.call('XADD', KEYS[2], s .. '-0', 'epoch', h[1], 'entry', ARGV[1], 'before', h[3], \
            'node', 'x', 'wait', '0', 'order', '7 of a later version')";
        let name = "0123456789abcdef0123456789abcdef";
        redis.ask(&["eval", script, "2", "{parvis}:head", "{parvis}:log", name]);
        wait_until("the message", PATIENCE, || nodes[1].stderr().contains("id=\"21-0\""));
    });
}

#[test]
fn after_a_tail_was_rewritten_everything_tagged_is_soft_and_own_entries_are_appended_again() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 2] = shop.nodes(&redis);
    for number in 1..=5 {
        assert_eq!(nodes[0].purge_tag(&format!("cat_p_{number}")).status, 200);
    }
    wait_until("web-2", PATIENCE, || nodes[1].metric("parvis_fleet_position ") == Some(5.0));
    // As a replica that had not got the last two entries, promoted.
    let third = redis.ask(&["xrange", "{parvis}:log", "3-0", "3-0"]);
    let third: Vec<&str> = third.lines().collect();
    let name = third[third.iter().position(|line| *line == "entry").expect("a field") + 1];
    let script = "redis.call('XDEL', KEYS[2], '4-0', '5-0') \
        redis.call('XSETID', KEYS[2], '3-0') \
        redis.call('HSET', KEYS[1], 'sequence', 3, 'entry', ARGV[1])";
    redis.ask(&["eval", script, "2", "{parvis}:head", "{parvis}:log", name]);
    wait_until("the lost entries", PATIENCE, || {
        let orders = redis.orders();
        ["1 hard tags cat_p_4", "1 hard tags cat_p_5"]
            .iter()
            .all(|lost| orders.iter().skip(3).any(|order| order == lost))
    });
    wait_until("web-2", PATIENCE, || softened(&nodes[1]) > 1);
}

#[test]
fn a_node_that_was_stopped_is_soft_before_it_serves_and_catches_up() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = ["web-1", "web-2"].map(|name| {
        let node = shop
            .node(name, &redis.url())
            .with("fleet.proof_max", "\"1s\"")
            .with("fleet.refill_trust", "0")
            .start();
        wait_until_current(&node);
        node
    });
    store(&nodes[1], "/cat_p_1");
    let now = shop.commit();
    let port = nodes[1].port;
    nodes[1].process.stop();
    // The request is in its socket when it wakes up, before any purge is.
    let asked = std::thread::spawn(move || crate::support::get(port, "/cat_p_1", &[]));
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(nodes[0].purge_tag("cat_p_1").status, 200);
    nodes[1].process.signal("CONT");
    let reply = asked.join().expect("a reply");
    let is_fresh_hit = reply.is_hit() && !reply.cache_status().contains("detail=");
    assert!(!is_fresh_hit || reply.text() == now.to_string(), "{}", reply.cache_status());
    wait_until("the purge", PATIENCE, || version(&nodes[1], "/cat_p_1") == now);
    wait_until_current(&nodes[1]);
    assert_eq!(softened(&nodes[1]), 1, "nothing was lost, so nothing else went soft");
    assert_eq!(is_soft(&nodes[0]), Some(false));
}
