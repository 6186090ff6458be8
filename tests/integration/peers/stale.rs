//! Grace holds across nodes: what its owner would serve stale, it gives to who has nothing.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{PATIENCE, Shop, owned_by, started, version};
use crate::support::origin::{Origin, page};
use crate::support::process::wait_until;
use crate::support::redis::Redis;
use crate::support::{Parvis, request};

fn purge_softly(node: &Parvis, tag: &str) {
    let body = format!("{{\"tags\": [\"{tag}\"], \"soft\": true}}");
    let purged = request(
        node.control,
        "POST",
        "/purge",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(purged.status, 200, "{}", purged.text());
}

#[test]
fn a_page_in_grace_comes_from_its_owner_who_refreshes_it() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    let shop =
        Shop::with(move |_| Duration::from_secs(if slow.load(Ordering::SeqCst) { 2 } else { 0 }));
    let redis = Redis::start();
    let nodes = shop.nodes(3, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "grace");
    let before = version(&nodes[0], &target);
    is_slow.store(true, Ordering::SeqCst);
    let now = shop.commit();
    purge_softly(&nodes[0], target.trim_start_matches('/'));
    let given = version(&nodes[2], &target);
    assert_eq!(given, before, "nobody waits for a page that may be served stale");
    wait_until("the refresh", PATIENCE, || version(&nodes[2], &target) == now);
    assert_eq!(shop.renders(&target), 2, "it was refreshed once, by its owner");
}

#[test]
fn who_has_a_stale_page_gets_no_stale_one() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "refresh");
    let now = shop.commit();
    purge_softly(&nodes[0], target.trim_start_matches('/'));
    wait_until("the refresh", PATIENCE, || version(&nodes[1], &target) == now);
    assert_eq!(shop.renders(&target), 2, "the owner rendered it for the refresh");
}

#[test]
fn what_the_owner_keeps_stands_in_for_an_origin_that_fails() {
    let is_failing = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&is_failing);
    let origin = Origin::start(move |seen, stream| {
        let text = "all work and no play ".repeat(100);
        let response = if failing.load(Ordering::SeqCst) {
            b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
        } else {
            page(&text, seen.target.trim_start_matches('/'))
        };
        let _ = stream.write_all(&response);
    });
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = |at: usize| {
        let node = shop.node(&format!("web-{at}"), &redis).with("store.grace", "\"0\"");
        node.with("origin.http", &format!("\"127.0.0.1:{}\"", origin.port))
    };
    let nodes = started((1..=3).map(node));
    let target = owned_by(&nodes[0], &nodes[1], "failing");
    is_failing.store(true, Ordering::SeqCst);
    assert_eq!(nodes[2].get("/other", &[]).status, 500);
    purge_softly(&nodes[0], target.trim_start_matches('/'));
    let reply = nodes[2].get(&target, &[]);
    assert_eq!(reply.status, 200, "{}", reply.cache_status());
}
