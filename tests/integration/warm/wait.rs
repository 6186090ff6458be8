//! What a node that starts waits for, and how long.

use std::time::Duration;

use super::{health, heat, stand_of, stat, wait_until_ready};
use crate::peers::{PATIENCE, Shop};
use crate::support::Parvis;
use crate::support::process::{free_port, wait_until};
use crate::support::redis::Redis;

/// Longer than a test looks.
const LONG: &str = "\"10min\"";

/// A node with pages that each take 16 KiB, asked for some times.
fn warm_node(shop: &Shop, redis: &Redis, pages: usize) -> Parvis {
    let node = shop
        .node("web-1", redis)
        .with("fleet.proof_max", "\"1h\"")
        .with("fleet.leave_max", "0")
        .start();
    wait_until_ready(&node);
    heat(&node, "large", pages);
    node
}

#[test]
fn a_node_is_not_ready_before_it_is_warm_and_tells_how_far_it_is() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let first = warm_node(&shop, &redis, 60);
    // Slow enough to be looked at: some pages in 4 s.
    let second = shop
        .node("web-2", &redis)
        .with("fleet.warm_rate", "\"64KiB\"")
        .with("fleet.warm_max", LONG)
        .with("fleet.leave_max", "0")
        .start();
    wait_until("it to begin", PATIENCE, || stat(&second, "warm", "taken_total") > Some(0));
    assert_eq!(health(&second), (503, "not ready: warming".to_owned()));
    let percent = stat(&second, "warm", "percent").expect("known");
    assert!(percent < 95, "{percent}");
    let ready = crate::support::client::get(second.control, "/ready", &[]);
    assert!(ready.status == 503 && ready.text().contains("\"warming\""), "{}", ready.text());
    wait_until("to be announced", PATIENCE, || {
        stand_of(&first, "web-2").as_deref() == Some("joining")
    });
    assert_eq!(first.metric("parvis_peers_known "), Some(0.0), "nobody asks it for pages yet");
    assert_eq!(second.get("/large-0", &[]).status, 200, "it serves whoever asks all the same");
    // More than one process may look at the pace: the others are not slowed down.
    let third = shop.node("web-3", &redis).with("fleet.leave_max", "0").start();
    wait_until_ready(&third);
    assert!(stat(&third, "warm", "percent") >= Some(95));
    assert_eq!(health(&second).0, 503);
}

#[test]
fn it_is_ready_with_the_share_that_was_set_and_takes_the_rest_while_it_serves() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let _first = warm_node(&shop, &redis, 60);
    let second = shop
        .node("web-2", &redis)
        .with("fleet.warm_rate", "\"64KiB\"")
        .with("fleet.warm_share", "10")
        .with("fleet.leave_max", "0")
        .start();
    wait_until_ready(&second);
    let percent = stat(&second, "warm", "percent").expect("known");
    assert!((10..100).contains(&percent), "{percent}");
    assert!(second.stderr().contains("warm enough: ready"), "{}", second.stderr());
    wait_until("more", PATIENCE, || stat(&second, "warm", "percent") > Some(percent));
}

#[test]
fn where_the_others_hang_it_is_ready_at_the_deadline_and_says_so() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let first = warm_node(&shop, &redis, 5);
    first.process.stop();
    let second = shop
        .node("web-2", &redis)
        .with("fleet.owner_silence", "\"300ms\"")
        .with("fleet.owner_wait", "\"300ms\"")
        .with("fleet.warm_max", "\"3s\"")
        .start();
    wait_until("the log", PATIENCE, || health(&second).1 == "not ready: warming");
    assert_eq!(health(&second).0, 503);
    wait_until_ready(&second);
    first.process.signal("CONT");
    let said = second.stderr();
    assert!(said.contains("fleet.warm_max is over: ready without"), "{said}");
    assert_eq!(stat(&second, "warm", "taken_total"), Some(0));
}

#[test]
fn where_one_of_the_others_dies_the_next_is_taken_from() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let mut first = warm_node(&shop, &redis, 60);
    let second = shop.node("web-2", &redis).with("fleet.warm_share", "100").start();
    wait_until_ready(&second);
    for page in 0..60 {
        assert!(second.get(&format!("/large-{page}"), &[]).is_hit());
    }
    let third = shop
        .node("web-3", &redis)
        .with("fleet.warm_rate", "\"256KiB\"")
        .with("fleet.warm_max", LONG)
        .with("fleet.owner_silence", "\"500ms\"")
        .with("fleet.owner_wait", "\"500ms\"")
        .start();
    wait_until("it to begin", PATIENCE, || stat(&third, "warm", "taken_total") > Some(0));
    assert_eq!(health(&third).0, 503);
    first.process.signal("KILL");
    first.process.wait(PATIENCE);
    wait_until_ready(&third);
    assert!(stat(&third, "warm", "percent") >= Some(95), "{}", third.stderr());
    assert_eq!(shop.renders("/large"), 60);
}

#[test]
fn without_redis_a_node_waits_for_the_logs_end_and_is_then_ready_alone() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    redis.kill();
    let node = shop.node("web-1", &redis).with("fleet.join_wait", "\"3s\"").start();
    let (status, line) = health(&node);
    assert_eq!((status, line.as_str()), (503, "not ready: log-unknown, warming"));
    wait_until_ready(&node);
    assert!(node.stderr().contains("fleet.join_wait is over"), "{}", node.stderr());
    assert_eq!(node.get("/page", &[]).status, 200);
}

#[test]
fn a_node_that_was_ready_alone_takes_pages_once_it_knows_the_log() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    redis.kill();
    let second = shop.node("web-2", &redis).with("fleet.join_wait", "\"100ms\"").start();
    wait_until_ready(&second);
    let port = free_port();
    let first = shop
        .node("web-1", &redis)
        .with("fleet.join_wait", "\"100ms\"")
        .with("fleet.listen", &format!("\"127.0.0.1:{port}\""))
        .start();
    wait_until_ready(&first);
    redis.start_again();
    // Whoever looks first finds the other cold, and is done.
    wait_until("the log", PATIENCE, || {
        [&first, &second].iter().all(|node| node.metric("parvis_fleet_soft ") == Some(0.0))
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(health(&second).0, 200, "it stays ready");
    assert!(second.stderr().contains("the log's end is known"), "{}", second.stderr());
}
