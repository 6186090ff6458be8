//! A node that is away or slow costs a short wait, and nobody a page.

use std::time::{Duration, Instant};

use super::once::ask_all;
use super::{PATIENCE, Shop, owned_by, pages, started};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

#[test]
fn an_owner_that_is_killed_in_the_middle_fails_no_request() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let mut nodes = shop.nodes(10, &redis);
    let mut killed = nodes.pop().expect("ten");
    let pages = pages();
    let failed = std::thread::scope(|scope| {
        let nodes = &nodes;
        let asking = scope.spawn(move || ask_all(nodes, pages, "killed"));
        wait_until("the middle", PATIENCE, || shop.renders("/killed") > pages / 3);
        killed.process.signal("KILL");
        killed.process.wait(PATIENCE);
        asking.join().expect("asked")
    });
    assert_eq!(failed, 0);
    let renders = shop.renders("/killed");
    println!("{pages} pages were rendered {renders} times");
    assert!(renders <= pages * 13 / 10, "{renders}");
}

#[test]
fn an_owner_that_hangs_costs_one_wait() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = started((1..=2).map(|at| {
        let node = shop.node(&format!("web-{at}"), &redis);
        let node = node.with("fleet.owner_wait", "\"300ms\"").with("fleet.owner_pause", "\"1h\"");
        node.with("fleet.proof_max", "\"1h\"")
    }));
    owned_by(&nodes[0], &nodes[1], "hangs");
    nodes[0].process.signal("STOP");
    let began = Instant::now();
    for page in 0..40 {
        assert_eq!(nodes[1].get(&format!("/stopped-{page}"), &[]).status, 200);
    }
    let took = began.elapsed();
    nodes[0].process.signal("CONT");
    assert_eq!(nodes[1].metric("parvis_peers_failed_total "), Some(1.0));
    assert!(took >= Duration::from_millis(300), "{took:?}: nobody was waited for");
}

#[test]
fn a_node_of_another_release_is_not_asked() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let directory = tempfile::tempdir().expect("a directory");
    let release = |name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, name).expect("written");
        format!("\"{}\"", path.display())
    };
    let (old, new) = (release("old"), release("new"));
    let nodes: Vec<_> = [("web-1", &old), ("web-2", &new), ("web-3", &new)]
        .map(|(name, file)| shop.node(name, &redis).with("fleet.release_file", file).start())
        .into();
    for node in &nodes[1..] {
        wait_until("the other one", PATIENCE, || node.metric("parvis_peers_known ") == Some(1.0));
    }
    assert_eq!(nodes[0].metric("parvis_peers_known "), Some(0.0));
    assert_eq!(ask_all(&nodes, 20, "release"), 0);
    assert_eq!(shop.renders("/release"), 40, "once for each release");
    // A deployment reaches the last node.
    std::fs::write(directory.path().join("old"), "new").expect("written");
    wait_until("the deployment", PATIENCE, || {
        nodes.iter().all(|node| node.metric("parvis_peers_known ") == Some(2.0))
    });
}

#[test]
fn a_node_that_cannot_prove_what_it_knows_neither_asks_nor_gives() {
    let shop = Shop::open();
    let mut redis = Redis::start();
    let nodes =
        started((1..=2).map(|at| {
            shop.node(&format!("web-{at}"), &redis).with("fleet.proof_max", "\"500ms\"")
        }));
    redis.kill();
    for node in &nodes {
        wait_until("doubt", PATIENCE, || node.metric("parvis_fleet_soft ") == Some(1.0));
    }
    assert_eq!(ask_all(&nodes, 10, "soft"), 0);
    assert_eq!(shop.renders("/soft"), 20);
}
