//! A node of a fleet that restarts stays one node, and loses no purge that waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Successors, first_ends, is_alive};
use crate::fleet::{PATIENCE, Shop, overview, store, version, wait_until_current};
use crate::peers::owned_by;
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

#[test]
fn a_node_that_restarts_goes_on_to_give_pages_to_the_others() {
    let (shop, redis) = (crate::peers::Shop::open(), Redis::start());
    let nodes = ["web-1", "web-2"].map(|name| shop.node(name, &redis));
    let nodes = nodes.map(|node| node.with("lifecycle.drain", "\"1s\""));
    let mut nodes = crate::peers::started(nodes.into_iter());
    owned_by(&nodes[0], &nodes[1], "before");
    let mut successors = Successors::new();
    let is_over = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(nodes[1].get(&format!("/meanwhile-{asked}"), &[]).status, 200);
                asked += 1;
            }
            asked
        });
        successors.restart(&nodes[0]);
        let lent = || nodes[0].metric("parvis_peers_lent_total ") > Some(0.0);
        wait_until("the new process to give a page", PATIENCE, lent);
        is_over.store(true, Ordering::Relaxed);
        asking.join().expect("no failed request")
    });
    first_ends(&mut nodes[0]);
    let renders = shop.renders("/meanwhile");
    assert!(renders <= asked * 11 / 10 + 1, "{renders} for {asked} pages");
    let target = owned_by(&nodes[0], &nodes[1], "after");
    assert_eq!(shop.renders(&target), 1);
}
