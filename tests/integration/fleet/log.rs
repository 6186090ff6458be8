//! A purge at one node is gone at all, in its order.

use std::time::{Duration, Instant};

use super::{PATIENCE, Shop, overview, store, version, wait_until_current};
use crate::support::Parvis;
use crate::support::client::{self, Client};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

fn wait_until_fresh(node: &Parvis, target: &str, least: u64) {
    wait_until("the purge", PATIENCE, || version(node, target) >= least);
}

#[test]
fn a_purge_at_one_node_is_gone_at_all() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 3] = shop.nodes(&redis);
    for node in &nodes {
        store(node, "/cat_p_1");
        store(node, "/cat_p_2");
    }
    let now = shop.commit();
    let reply = nodes[1].purge_tag("cat_p_1");
    assert_eq!((reply.status, reply.header("x-parvis-reach")), (200, Some("logged")));
    assert_eq!(version(&nodes[1], "/cat_p_1"), now, "the answering node applied it before");
    for node in &nodes {
        wait_until_fresh(node, "/cat_p_1", now);
        assert!(node.get("/cat_p_2", &[]).is_hit(), "nothing else is purged");
    }
    assert_eq!(redis.orders(), ["1 hard tags cat_p_1"]);
}

#[test]
fn each_kind_of_purge_reaches_the_others() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 2] = shop.nodes(&redis);
    let json = [("Content-Type", "application/json")];
    let api = |body: &str| {
        let reply = client::request(nodes[0].control, "POST", "/purge", &json, body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains("\"reach\":\"logged\""), "{}", reply.text());
    };
    let all = [("X-Magento-Tags-Pattern", ".*")];
    let regex = [("X-Magento-Tags-Pattern", "cat_p_[0-9]+")];
    let purges: [&dyn Fn(); 5] = [
        &|| api("{\"tags\":[\"cat_p_7\"]}"),
        &|| api("{\"url\":\"http://shop.test/cat_p_7\"}"),
        &|| api("{\"pattern\":\"t_p\"}"),
        &|| assert_eq!(nodes[0].ask("PURGE", "/", &regex, b"").status, 200),
        &|| assert_eq!(nodes[0].ask("PURGE", "/", &all, b"").status, 200),
    ];
    for purge in purges {
        store(&nodes[1], "/cat_p_7");
        let now = shop.commit();
        purge();
        wait_until_fresh(&nodes[1], "/cat_p_7", now);
    }
    store(&nodes[1], "/cat_p_7");
    api("{\"all\":true,\"soft\":true}");
    wait_until("the soft purge", PATIENCE, || {
        nodes[1].get("/cat_p_7", &[]).cache_status().contains("detail=grace")
    });
}

#[test]
fn purges_of_several_nodes_stand_in_one_order() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 2] = shop.nodes(&redis);
    std::thread::scope(|scope| {
        for (at, node) in nodes.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..100 {
                    assert_eq!(node.purge_tag(&format!("cat_p_{at}{number:03}")).status, 200);
                }
            });
        }
    });
    let orders = redis.orders();
    assert_eq!(orders.len(), 200);
    for at in 0..2 {
        let start = format!("1 hard tags cat_p_{at}");
        let own: Vec<_> = orders.iter().filter(|order| order.starts_with(&start)).collect();
        assert_eq!(own.len(), 100);
        assert!(own.is_sorted(), "each node's purges keep their order");
    }
    wait_until("both to read all", PATIENCE, || {
        nodes.iter().all(|node| node.metric("parvis_fleet_position ") == Some(200.0))
    });
    assert!(nodes.iter().all(|node| super::softened(node) == 1), "the chain was whole");
}

#[test]
fn a_fill_that_began_before_a_purge_of_another_node_is_not_stored() {
    use crate::support::origin::{Origin, page};
    use std::io::Write;
    let redis = Redis::start();
    let origin = Origin::start(|seen, stream| {
        if seen.number == 0 {
            std::thread::sleep(Duration::from_secs(2));
        }
        let _ = stream.write_all(&page(&format!("{}", seen.number), "cat_p_1"));
    });
    let shop = Shop { origin, version: std::sync::Arc::default() };
    let nodes: [Parvis; 2] = shop.nodes(&redis);
    std::thread::scope(|scope| {
        let early = scope.spawn(|| nodes[1].get("/p", &[]).text());
        wait_until("the fetch", PATIENCE, || shop.origin.count() == 1);
        assert_eq!(nodes[0].purge_tag("cat_p_1").status, 200);
        wait_until("the purge", PATIENCE, || {
            nodes[1].metric("parvis_fleet_position ") == Some(1.0)
        });
        assert_eq!(nodes[1].get("/p", &[]).text(), "1", "it did not join the older fetch");
        assert_eq!(early.join().expect("a page"), "0");
    });
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(nodes[1].get("/p", &[]).text(), "1", "the fenced fill replaced the page");
}

#[test]
fn a_purge_that_waits_for_the_fleet_is_200_once_all_have_applied_it() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 3] = shop.nodes(&redis);
    let waiting = [("X-Magento-Tags-Pattern", "((^|,)cat_p_1(,|$))"), ("X-Parvis-Wait", "fleet")];
    for _ in 0..20 {
        for node in &nodes {
            store(node, "/cat_p_1");
        }
        let now = shop.commit();
        let reply = nodes[0].ask("PURGE", "/", &waiting, b"");
        assert_eq!((reply.status, reply.header("x-parvis-reach")), (200, Some("fleet")));
        assert!(nodes.iter().all(|node| version(node, "/cat_p_1") == now));
    }
    nodes[2].process.stop();
    let reply = nodes[0].ask("PURGE", "/", &waiting, b"");
    nodes[2].process.signal("CONT");
    assert_eq!((reply.status, reply.header("x-parvis-lagging")), (202, Some("web-3")));
    wait_until("web-3 to catch up", PATIENCE, || {
        nodes[0].ask("PURGE", "/", &waiting, b"").status == 200
    });
}

#[test]
fn a_purge_is_applied_again_for_what_was_rendered_before_its_commit() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let [first, second] = ["web-1", "web-2"].map(|name| {
        let node = shop.node(name, &redis.url()).with("purge.echo", "\"1s\"").start();
        super::wait_until_current(&node);
        node
    });
    assert_eq!(first.purge_tag("cat_p_1").status, 200);
    wait_until("the purge", PATIENCE, || second.metric("parvis_fleet_position ") == Some(1.0));
    let early = [store(&first, "/cat_p_1"), store(&second, "/cat_p_1")];
    let now = shop.commit();
    assert!(early.iter().all(|version| *version < now), "rendered before the commit");
    wait_until_fresh(&first, "/cat_p_1", now);
    wait_until_fresh(&second, "/cat_p_1", now);
}

/// Prints a figure and asserts none: this machine may be busy.
#[test]
fn the_time_from_append_to_applied_is_measured() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Parvis; 5] = shop.nodes(&redis);
    let waiting = [("X-Magento-Tags-Pattern", "((^|,)cat_p_1(,|$))"), ("X-Parvis-Wait", "fleet")];
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            nodes[0].ask("PURGE", "/", &waiting, b"");
            began.elapsed()
        })
        .collect();
    times.sort();
    eprintln!(
        "PURGE to applied on 5 nodes, as its answer says: p50 {:?}, p99 {:?}, max {:?}",
        times[100], times[197], times[199]
    );
    assert_eq!(overview(&nodes[4])["nodes"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_purge_whose_sender_left_reaches_the_others() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis.url()).with("fleet.queue_max", "1").start();
    wait_until_current(&node);
    redis.signal("STOP");
    let mut senders: Vec<_> = (0..8).map(|_| Client::connect(node.port)).collect();
    for (number, sender) in senders.iter_mut().enumerate() {
        let tag = format!("cat_p_{number}");
        let head = format!(
            "PURGE / HTTP/1.1\r\nHost: shop.test\r\nX-Magento-Tags-Pattern: ((^|,){tag}(,|$))\r\n\r\n"
        );
        sender.send(head.as_bytes());
    }
    // Some are with Redis, some in the queue, and the last ones wait for a place there.
    let purges = || node.metric("parvis_purges_total ");
    wait_until("the purges to be applied here", PATIENCE, || purges() == Some(8.0));
    drop(senders);
    std::thread::sleep(Duration::from_millis(200));
    redis.signal("CONT");
    wait_until("the others to be told", PATIENCE, || {
        let orders = redis.orders();
        (0..8).all(|number| orders.contains(&format!("1 hard tags cat_p_{number}")))
    });
}
