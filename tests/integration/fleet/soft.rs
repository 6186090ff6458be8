//! A node that cannot prove that it knows the log's end.

use std::time::Duration;

use super::{PATIENCE, Shop, is_soft, store, version, wait_until_current};
use crate::support::Parvis;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

fn lone_node(shop: &Shop, redis: &Redis, settings: &[(&str, &str)]) -> Parvis {
    let builder = shop.node("web-1", &redis.url()).with("fleet.proof_max", "\"1s\"");
    let node = settings.iter().fold(builder, |builder, (key, value)| builder.with(key, value));
    let node = node.start();
    wait_until_current(&node);
    node
}

#[test]
fn without_redis_pages_are_served_as_grace_and_refreshed_and_a_refill_is_trusted() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let node = lone_node(&shop, &redis, &[("fleet.refill_trust", "\"30s\"")]);
    store(&node, "/cat_p_1");
    redis.kill();
    wait_until("soft", PATIENCE, || is_soft(&node) == Some(true));
    assert!(node.get("/cat_p_1", &[]).is_hit(), "it is trusted for some time");
    drop(node);
    redis.start_again();
    let node = lone_node(&shop, &redis, &[("fleet.refill_trust", "\"1s\"")]);
    store(&node, "/cat_p_1");
    redis.kill();
    wait_until("soft", PATIENCE, || is_soft(&node) == Some(true));
    std::thread::sleep(Duration::from_secs(1));
    let now = shop.commit();
    let reply = node.get("/cat_p_1", &[]);
    assert_eq!(reply.status, 200);
    assert!(reply.cache_status().contains("detail=unproven"), "{}", reply.cache_status());
    wait_until("the refresh", PATIENCE, || version(&node, "/cat_p_1") == now);
    // Redis comes back as it was: what is stored is as good as it was.
    redis.start_again();
    wait_until_current(&node);
    assert!(
        node.access_log().contains("\"unproven\"")
            || node.metric("parvis_reasons_total{reason=\"unproven\"}") >= Some(1.0)
    );
}

#[test]
fn a_strict_node_fetches_first_and_answers_503_when_it_cannot() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let node = lone_node(&shop, &redis, &[("fleet.strict", "true")]);
    store(&node, "/cat_p_1");
    redis.kill();
    wait_until("soft", PATIENCE, || is_soft(&node) == Some(true));
    let insertions = || node.metric("parvis_store_insertions_total ");
    for _ in 0..3 {
        let (now, before) = (shop.commit(), insertions());
        assert_eq!(version(&node, "/cat_p_1"), now, "no older page is given out");
        // Until it is stored a fetch may still be joined.
        wait_until("storing", PATIENCE, || insertions() > before);
    }
    // An origin that refuses: the node is started with one, and its store is filled before.
    drop(node);
    let dead = crate::support::process::free_port();
    redis.start_again();
    let node = lone_node(
        &shop,
        &redis,
        &[("fleet.strict", "true"), ("origin.http", &format!("\"127.0.0.1:{dead}\""))],
    );
    redis.kill();
    wait_until("soft", PATIENCE, || is_soft(&node) == Some(true));
    assert!(node.get("/cat_p_1", &[]).status >= 500);
}

#[test]
fn nothing_fails_while_redis_is_away() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let node = lone_node(&shop, &redis, &[]);
    store(&node, "/cat_p_1");
    redis.kill();
    for _ in 0..300 {
        assert_eq!(node.get("/cat_p_1", &[]).status, 200);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(
        node.get("/.parvis/ready", &[]).status == 200,
        "a shared fault makes no node not ready"
    );
    redis.start_again();
    wait_until_current(&node);
}

#[test]
fn a_redis_that_hangs_makes_a_purge_wait_no_longer_than_its_timeout_allows() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = lone_node(&shop, &redis, &[]);
    redis.stop();
    let replies: Vec<_> = (0..5).map(|_| node.purge_tag("cat_p_1").status).collect();
    redis.signal("CONT");
    assert!(replies.iter().all(|status| *status == 202), "{replies:?}");
    wait_until("the journal", PATIENCE, || node.metric("parvis_fleet_journal ") == Some(0.0));
    assert!(redis.orders().len() >= 5);
}
