//! Purges while Redis is away.

use super::{PATIENCE, Shop, store, version, wait_until_current};
use crate::support::Parvis;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

#[test]
fn purges_wait_in_order_while_redis_is_away_and_are_delivered_when_it_is_back() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 2] = shop.nodes(&redis);
    for node in &nodes {
        store(node, "/cat_p_1");
    }
    assert_eq!(nodes[0].purge_tag("before").status, 200);
    redis.kill();
    let now = shop.commit();
    for number in 1..=150 {
        let reply = nodes[0].purge_tag(&format!("cat_p_{number}"));
        assert_eq!((reply.status, reply.header("x-parvis-reach")), (202, Some("journaled")));
    }
    assert_eq!(version(&nodes[0], "/cat_p_1"), now, "it is applied here all the same");
    assert_eq!(nodes[0].metric("parvis_fleet_journal "), Some(150.0));
    redis.start_again();
    wait_until("the journal", PATIENCE, || nodes[0].metric("parvis_fleet_journal ") == Some(0.0));
    let want: Vec<_> = (1..=150).map(|number| format!("1 hard tags cat_p_{number}")).collect();
    let orders = redis.orders();
    // It came back empty: what was in the log before is appended again, before or behind.
    let journaled: Vec<_> = orders.iter().filter(|order| **order != "1 hard tags before").collect();
    let mut first = journaled.iter().map(|order| order.as_str()).collect::<Vec<_>>();
    first.dedup();
    assert!(first.windows(150).any(|orders| orders == want), "{first:?}");
    wait_until("web-2", PATIENCE, || version(&nodes[1], "/cat_p_1") == now);
    assert_eq!(nodes[0].purge_tag("after").status, 200);
}

#[test]
fn a_journal_outlives_its_process_and_what_is_corrupt_is_told() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let directory = tempfile::tempdir().expect("a directory");
    let journal = format!("\"{}\"", directory.path().display());
    let start =
        || shop.node("web-1", &redis.url()).with("fleet.journal_directory", &journal).start();
    let node = start();
    wait_until_current(&node);
    redis.kill();
    for number in 1..=3 {
        assert_eq!(node.purge_tag(&format!("cat_p_{number}")).status, 202);
    }
    node.process.signal("KILL");
    drop(node);
    let file = directory.path().join("purges-web-1.journal");
    let mut content = std::fs::read(&file).expect("a journal");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    content.extend_from_slice(b"torn");
    std::fs::write(&file, content).expect("written");
    let start =
        || shop.node("web-1", &redis.url()).with("fleet.journal_directory", &journal).start();
    let node = start();
    wait_until("the warning", PATIENCE, || {
        node.stderr().contains("the journal of purges is corrupt in parts")
    });
    redis.start_again();
    wait_until("the journal", PATIENCE, || redis.orders().len() == 3);
    assert_eq!(redis.orders(), ["1 hard tags cat_p_1", "1 hard tags cat_p_3", "1 soft lost"]);
}
