//! Redis is away for five minutes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::world::{Plan, World};
use super::{PATIENCE, finish, run, seconds};
use crate::support::client::Client;
use crate::support::redis::Redis;

/// Visitors in a checkout, whose pages PHP renders each time.
fn check_out(world: &World, is_over: &AtomicBool) {
    let request = b"GET /checkout HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    while !is_over.load(Ordering::SeqCst) {
        for node in &world.nodes {
            let answer =
                Client::to(node.http, PATIENCE).and_then(|mut client| client.exchange(request));
            if !answer.as_ref().is_ok_and(|reply| reply.status == 200) {
                world.fail(format!("the checkout at node {}: {answer:?}", node.at));
            }
        }
        sleep(Duration::from_millis(100));
    }
}

fn renders_each_second(world: &World, during: Duration) -> f64 {
    let (began, before) = (world.now(), world.shop.renders());
    sleep(during);
    (world.shop.renders() - before) as f64 / world.now().saturating_sub(began).as_secs_f64()
}

/// Purges of tags that nobody else purges, in order; gives the tags.
fn purge_in_order(world: &World, node: usize, is_over: &AtomicBool) -> Vec<String> {
    let mut tags = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let tag = format!("kept_{node}_{}", tags.len());
        let request = format!(
            "PURGE / HTTP/1.1\r\nHost: shop.test\r\nX-Magento-Tags-Pattern: ((^|,){tag}(,|$))\r\n\r\n"
        );
        let client = Client::to(world.nodes[node].http, PATIENCE);
        let answer = client.and_then(|mut client| client.exchange(request.as_bytes()));
        if !answer.as_ref().is_ok_and(|reply| matches!(reply.status, 200 | 202)) {
            world.fail(format!("a purge at node {node}: {answer:?}"));
        }
        tags.push(tag);
        sleep(Duration::from_millis(100));
    }
    tags
}

/// Is `part` in `whole`, in its order?
fn is_in_order(part: &[String], whole: &[String]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|one| whole.any(|other| other == one))
}

#[test]
fn while_redis_is_away_nothing_fails_purges_are_kept_and_php_has_at_most_twice_its_load() {
    let mut plan = Plan::of("Redis away for 5 min");
    // The settings that a shop has, in the long form.
    // Strict nodes fetch each page that they doubt, whatever that costs.
    plan.rules.is_strict = [false; super::NODES];
    plan.rules.proof_max = seconds(1.0, 5);
    plan.rules.refill_trust = seconds(4.0, 30);
    plan.heartbeat = seconds(0.1, 1);
    plan.rules.echo = seconds(1.0, 2);
    plan.echo = plan.rules.echo;
    plan.write_pause = Duration::from_millis(500);
    plan.read_pause = Duration::from_millis(4);
    let mut loads = (0.0, 0.0);
    let outcome = run(plan, None, |world, _| {
        let is_over = AtomicBool::new(false);
        let mut kept = Vec::new();
        std::thread::scope(|scope| {
            let is_over = &is_over;
            scope.spawn(|| check_out(world, is_over));
            loads.0 = renders_each_second(world, seconds(2.0, 30));
            world.with_redis(Redis::kill);
            let purging: Vec<_> = (0..super::NODES)
                .map(|node| scope.spawn(move || purge_in_order(world, node, is_over)))
                .collect();
            loads.1 = renders_each_second(world, seconds(6.0, 300));
            is_over.store(true, Ordering::SeqCst);
            kept.extend(purging.into_iter().map(|one| one.join().expect("purged")));
        });
        world.with_redis(Redis::start_again);
        world.settle();
        let orders = world.with_redis(|redis| redis.orders());
        for (node, tags) in kept.iter().enumerate() {
            assert!(tags.len() > 10, "{}", tags.len());
            let want: Vec<_> = tags.iter().map(|tag| format!("1 hard tags {tag}")).collect();
            assert!(is_in_order(&want, &orders), "node {node}: {want:?} is not in {orders:?}");
        }
    });
    let (before, away) = loads;
    let outcome = super::Outcome {
        note: format!("PHP renders {before:.1}/s before and {away:.1}/s while it is away"),
        ..outcome
    };
    finish(&outcome);
    assert!(away <= 2.0 * before, "{}", outcome.note);
}
