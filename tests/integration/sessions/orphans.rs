//! Locks whose owners are gone: killed processes, hosts that left, a Redis that forgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parvis::resp::Value;
use parvis::sessions::lock::{Bounds, Standing};

use super::lock::{DATABASE, Node, bounds, bulk, runtime, sign, until, write_free};
use crate::support::redis::Redis;

const LITTLE: Duration = Duration::from_millis(300);

fn soon() -> Bounds {
    Bounds { orphan_after: Duration::from_millis(400), ..bounds() }
}

/// What is known of hosts, where this one is `here`.
fn on(here: &'static str) -> impl Fn(&str) -> Standing + Send + Sync + 'static {
    move |host| match host {
        host if host == here => Standing::Here,
        "left" => Standing::Gone,
        _ => Standing::Other,
    }
}

/// A process on `host` that has a lock and is killed with it.
fn killed_with(redis: &Redis, key: &'static str, pid: Option<&str>) {
    let other = runtime();
    let node = other.block_on(async {
        let node = Node::with(redis, "killed", soon(), on("here")).await;
        let (mut client, key) = (node.client(), Bytes::from_static(key.as_bytes()));
        assert_eq!(client.take(DATABASE, &key).await, Ok(1));
        if let Some(pid) = pid {
            sign(&node, &mut client, &key, pid).await;
        }
        // Nothing of it does anything any more.
        std::mem::forget(client);
        node
    });
    other.shutdown_background();
    std::mem::forget(node);
}

#[test]
fn a_lock_of_a_process_that_was_killed_is_freed_after_its_time() {
    let redis = Redis::start();
    for (key, pid, host) in [
        ("sess_same_host", Some("here|1"), "here"),
        ("sess_unsigned", None, "here"),
        ("sess_other_host", Some("here|2"), "there"),
    ] {
        killed_with(&redis, key, pid);
        runtime().block_on(async {
            let node = Node::with(&redis, "heir", soon(), on(host)).await;
            let (mut waiter, began) = (node.client(), Instant::now());
            let key = Bytes::from_static(key.as_bytes());
            assert_eq!(waiter.take(DATABASE, &key).await, Ok(1), "{key:?}");
            assert!(began.elapsed() >= soon().orphan_after.mul_f64(0.8), "{key:?}");
            assert_eq!(node.locks.figures().freed, 1);
        });
    }
}

fn patient() -> Bounds {
    Bounds { orphan_after: Duration::from_secs(60), ..bounds() }
}

#[test]
fn a_lock_of_a_host_that_left_the_fleet_is_freed_at_once() {
    let redis = Redis::start();
    killed_with(&redis, "sess_left", Some("left|7"));
    runtime().block_on(async {
        let node = Node::with(&redis, "one", patient(), on("here")).await;
        let (mut client, key) = (node.client(), Bytes::from_static(b"sess_left"));
        assert_eq!(client.take(DATABASE, &key).await, Ok(1));
        assert_eq!((node.locks.figures().freed, node.locks.figures().unanswered), (1, 0));
    });
}

#[test]
fn a_lock_that_only_its_pid_says_to_be_of_a_host_that_left_is_freed_after_its_time() {
    let redis = Redis::start();
    runtime().block_on(async {
        let node = Node::with(&redis, "one", soon(), on("here")).await;
        node.ask(&["HMSET", "sess_direct", "pid", "left|7", "lock", "3"]).await;
        let (mut client, key) = (node.client(), Bytes::from_static(b"sess_direct"));
        let began = Instant::now();
        assert_eq!(client.take(DATABASE, &key).await, Ok(1));
        assert!(began.elapsed() >= soon().orphan_after.mul_f64(0.8));
        assert_eq!((node.locks.figures().freed, node.locks.figures().unanswered), (1, 0));
    });
}

/// The pid that a session has is of who had the lock before, until the next one has signed.
#[test]
fn a_lock_that_was_taken_after_one_of_a_host_that_left_is_not_freed_for_its_pid() {
    let redis = Redis::start();
    runtime().block_on(async {
        let [holds, waits] = ["holds", "waits"].map(|name| async {
            Node::with(&redis, name, Bounds { wait_max: LITTLE, ..patient() }, on("here")).await
        });
        let (holds, waits) = (holds.await, waits.await);
        holds.ask(&["HMSET", "sess_next", "pid", "left|7", "lock", "0"]).await;
        let (mut holder, mut waiter) = (holds.client(), waits.client());
        let key = Bytes::from_static(b"sess_next");
        assert_eq!(holder.take(DATABASE, &key).await, Ok(1));
        // Nobody hears the holder's process while its connection is made anew.
        holds.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        until(|| !holds.locks.hears()).await;
        assert_eq!(waiter.take(DATABASE, &key).await, Ok(2));
        assert_eq!(waits.locks.figures().freed, 0);
    });
}

/// When the owner of the only lock last said that it has it.
const TOLD: &str = "return redis.call('HGET', redis.call('KEYS', '*:holder:*')[1], 'told')";

/// Twice silent for less than the time is not silent for all the time.
#[test]
fn a_lock_whose_owner_was_heard_in_between_is_not_freed() {
    let redis = Redis::start();
    runtime().block_on(async {
        let often = Bounds { wait_max: Duration::ZERO, hold_max: Duration::ZERO, ..bounds() };
        let orphan_after = Duration::from_millis(1_500);
        let holds = Node::with(&redis, "holds", bounds(), on("there")).await;
        let waits = Node::with(&redis, "waits", Bounds { orphan_after, ..often }, on("here")).await;
        let key = Bytes::from_static(b"sess_twice");
        let (mut holder, mut waiter) = (holds.client(), waits.client());
        assert_eq!(holder.take(DATABASE, &key).await, Ok(1));
        sign(&holds, &mut holder, &key, "there|1").await;
        let told = async || holds.ask(&["EVAL", TOLD, "0"]).await;
        for _ in 0..3 {
            let before = told().await;
            holds.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            until(|| !holds.locks.hears()).await;
            // It listens again after a second, and nobody hears it while the waiter looks.
            let taken = waiter.take(DATABASE, &key).await;
            assert!(matches!(taken, Ok(2..)), "{taken:?}");
            while told().await == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        assert_eq!(waits.locks.figures().freed, 0);
    });
}

/// The script that frees it is refused, as each that writes.
#[test]
fn a_lock_whose_client_left_while_the_redis_had_no_memory_is_freed_once_it_has() {
    let redis = Redis::start();
    runtime().block_on(async {
        let node = Node::with(&redis, "one", patient(), on("here")).await;
        let key = Bytes::from_static(b"sess_full");
        let mut holder = node.client();
        assert_eq!(holder.take(DATABASE, &key).await, Ok(1));
        sign(&node, &mut holder, &key, "here|1").await;
        node.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
        drop(holder);
        // It is tried, and refused.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(node.locks.figures().freed, 0);
        node.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
        until(|| node.locks.figures().freed == 1).await;
        assert_eq!(node.ask(&["HGET", "sess_full", "lock"]).await, bulk("0"));
    });
}

#[test]
fn a_lock_of_php_elsewhere_is_left_to_phps_own_rule() {
    let redis = Redis::start();
    runtime().block_on(async {
        let node = Node::with(&redis, "one", soon(), on("here")).await;
        node.ask(&["HMSET", "sess_elsewhere", "pid", "nowhere|7", "lock", "1"]).await;
        let (mut client, key) = (node.client(), Bytes::from_static(b"sess_elsewhere"));
        assert_eq!(client.take(DATABASE, &key).await, Ok(2));
        assert_eq!(node.locks.figures().freed, 0);
    });
}

#[test]
fn a_lock_of_this_host_is_left_alone_while_its_process_is_connected() {
    let redis = Redis::start();
    runtime().block_on(async {
        let node = Node::with(&redis, "one", soon(), on("here")).await;
        node.ask(&["HMSET", "sess_here", "pid", "here|77", "lock", "1"]).await;
        let its = node.locks.client(Some(77));
        let (mut client, key) = (node.client(), Bytes::from_static(b"sess_here"));
        assert_eq!(client.take(DATABASE, &key).await, Ok(2));
        drop(its);
        assert_eq!(client.take(DATABASE, &key).await, Ok(1), "it has gone");
        assert_eq!(node.locks.figures().freed, 1);
    });
}

#[test]
fn while_two_processes_are_one_node_each_leaves_the_locks_of_the_other() {
    let redis = Redis::start();
    runtime().block_on(async {
        let old = Node::with(&redis, "old", soon(), on("here")).await;
        let new = Node::with(&redis, "new", soon(), on("here")).await;
        let key = Bytes::from_static(b"sess_both");
        let (mut holder, mut waiter) = (old.client(), new.client());
        assert_eq!(holder.take(DATABASE, &key).await, Ok(1));
        sign(&old, &mut holder, &key, "here|1").await;
        let (taken, freed) = tokio::join!(waiter.take(DATABASE, &key), async {
            tokio::time::sleep(2 * soon().orphan_after).await;
            let lock = old.ask(&["HGET", "sess_both", "lock"]).await;
            write_free(&old, &mut holder, &key).await;
            lock
        });
        assert_eq!((taken, freed), (Ok(1), bulk("1")), "and the new one had to wait for it");
        assert_eq!(new.locks.figures().freed, 0);
    });
}

#[test]
fn after_the_redis_forgot_who_waits_and_who_has_locks_nobody_hangs_and_nobody_has_one_twice() {
    let redis = Redis::start();
    runtime().block_on(async {
        let nodes = [
            Arc::new(Node::with(&redis, "one", soon(), on("here")).await),
            Arc::new(Node::with(&redis, "two", soon(), on("there")).await),
        ];
        let (key, is_held) = (Bytes::from_static(b"sess_forgot"), Arc::new(AtomicBool::new(false)));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (node, key) = (Arc::clone(&nodes[number % 2]), key.clone());
            let is_held = Arc::clone(&is_held);
            tasks.spawn(async move {
                let mut client = node.client();
                while client.take(DATABASE, &key).await.expect("an answer") != 1 {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                assert!(!is_held.swap(true, Ordering::SeqCst), "two at once");
                let host = if number % 2 == 0 { "here" } else { "there" };
                sign(&node, &mut client, &key, &format!("{host}|{number}")).await;
                tokio::time::sleep(Duration::from_millis(150)).await;
                is_held.store(false, Ordering::SeqCst);
                write_free(&node, &mut client, &key).await;
            });
        }
        until(|| nodes.iter().all(|node| node.locks.figures().waiting >= 3)).await;
        for _ in 0..4 {
            forget(&nodes[0]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), tasks.join_all()).await;
        assert!(ended.is_ok(), "somebody hangs");
        until(|| nodes.iter().all(|node| node.locks.hears())).await;
    });
}

/// As a Redis does that takes over without what stood beside the sessions: connections go, too.
async fn forget(node: &Node) {
    let Value::Array(keys) = node.ask(&["KEYS", "{parvis}:*"]).await else { panic!("a list") };
    for key in keys {
        let Value::Bulk(key) = key else { panic!("a name") };
        node.ask(&["DEL", std::str::from_utf8(&key).expect("text")]).await;
    }
    node.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
}
