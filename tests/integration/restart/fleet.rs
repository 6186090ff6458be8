//! A node of a fleet that restarts stays one node, and loses no purge that waits.

use std::time::Duration;

use super::{Successors, first_ends, is_alive};
use crate::fleet::{PATIENCE, Shop, overview, store, version, wait_until_current};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

#[test]
fn a_restarted_node_is_still_the_same_member_and_its_purges_reach_the_others() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let mut node = shop.node("web-1", &redis.url()).with("lifecycle.drain", "\"1s\"").start();
    let other = shop.node("web-2", &redis.url()).start();
    for node in [&node, &other] {
        wait_until_current(node);
    }
    store(&other, "/cat_p_1");
    let instance = |at: usize| overview(&other)["nodes"][at]["instance"].clone();
    let before = instance(0);
    let mut successors = Successors::new();
    let id = successors.restart(&node);
    first_ends(&mut node);
    wait_until("the new process to announce itself", PATIENCE, || instance(0) != before);
    wait_until_current(&node);
    // The old one has not taken it out of the list when it ended.
    let names: Vec<_> = (0..2).map(|at| overview(&other)["nodes"][at]["name"].clone()).collect();
    assert_eq!(names, ["web-1", "web-2"]);
    let now = shop.commit();
    assert_eq!(node.purge_tag("cat_p_1").status, 200);
    wait_until("web-2", PATIENCE, || version(&other, "/cat_p_1") == now);
    assert!(is_alive(id));
    assert!(!node.stderr().contains("another node announces itself"), "{}", node.stderr());
}

#[test]
fn purges_that_wait_in_the_journal_go_to_the_new_process() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let directory = tempfile::tempdir().expect("a directory");
    let journal = format!("\"{}\"", directory.path().display());
    let mut node = shop
        .node("web-1", &redis.url())
        .with("lifecycle.drain", "\"1s\"")
        .with("fleet.journal_directory", &journal)
        .start();
    wait_until_current(&node);
    redis.kill();
    assert_eq!(node.purge_tag("early").status, 202);
    let mut successors = Successors::new();
    successors.restart(&node);
    // The old process has the file until it ends.
    assert_eq!(node.purge_tag("late").status, 202);
    first_ends(&mut node);
    redis.start_again();
    let want = ["1 hard tags early", "1 hard tags late"];
    wait_until("the journal", PATIENCE, || {
        let orders = redis.orders();
        want.iter().all(|want| orders.iter().any(|order| order == want))
    });
    let path = directory.path().join("purges-web-1.journal");
    wait_until("the file to be emptied", Duration::from_secs(5), || {
        std::fs::metadata(&path).is_ok_and(|found| found.len() == 0)
    });
}
