//! The fifteen faults, each with readers and writers on three nodes; nothing older than its bound may be
//! seen.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use super::network::{Network, Trouble};
use super::world::{Plan, World};
use super::{NODES, PATIENCE, case, case_in_network, hold, seconds, skipped};
use crate::support::client::Client;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

#[test]
fn without_a_fault() {
    let plan = Plan { is_calm: true, ..Plan::of("none") };
    case(plan, |_, _| sleep(hold()));
}

#[test]
fn a_node_is_killed() {
    let plan = Plan { kinds: NODES, ..Plan::of("kill -9 of a node") };
    case(plan, |world, cycle| {
        let node = &world.nodes[cycle % NODES];
        node.kill();
        sleep(hold() / 2);
        node.start();
        sleep(hold() / 2);
    });
}

#[test]
fn redis_is_killed() {
    case(Plan::of("kill of Redis"), |world, _| {
        world.with_redis(Redis::kill);
        sleep(hold());
        world.with_redis(Redis::start_again);
    });
}

#[test]
fn nodes_are_stopped_and_go_on() {
    case(Plan::of("SIGSTOP for 30 s"), |world, _| {
        let stopped = &world.nodes[1..];
        stopped.iter().for_each(super::world::Node::stop);
        sleep(seconds(2.5, 30));
        stopped.iter().for_each(super::world::Node::go_on);
    });
}

const CUT: Trouble = Trouble { loss_to_node: 100, loss_from_node: 100, delay: 0 };

/// For as long as a fault lasts these nodes' wires have this trouble.
fn troubled(world: &World, nodes: std::ops::Range<usize>, trouble: Trouble) {
    let network = world.network.as_ref().expect("a network");
    for at in nodes.clone() {
        network.trouble(at, trouble);
    }
    sleep(hold());
    for at in nodes {
        network.trouble(at, Trouble::default());
    }
}

#[test]
fn a_partition_both_ways() {
    let test = "checker::faults::a_partition_both_ways";
    case_in_network(test, Plan::of("partition both ways"), |world, _| troubled(world, 1..3, CUT));
}

#[test]
fn a_partition_one_way() {
    let test = "checker::faults::a_partition_one_way";
    let plan = Plan { kinds: 2, ..Plan::of("partition one way") };
    case_in_network(test, plan, |world, cycle| {
        let trouble = if cycle.is_multiple_of(2) {
            Trouble { loss_from_node: 0, ..CUT }
        } else {
            Trouble { loss_to_node: 0, ..CUT }
        };
        troubled(world, 1..3, trouble);
    });
}

#[test]
fn packets_are_lost() {
    let trouble = Trouble { loss_to_node: 30, loss_from_node: 30, delay: 0 };
    let test = "checker::faults::packets_are_lost";
    case_in_network(test, Plan::of("30 % loss"), |world, _| troubled(world, 0..3, trouble));
}

#[test]
fn packets_are_delayed() {
    let trouble = Trouble { delay: 200, ..Trouble::default() };
    let test = "checker::faults::packets_are_delayed";
    case_in_network(test, Plan::of("200 ms delay"), |world, _| troubled(world, 0..3, trouble));
}

#[test]
fn connections_are_reset() {
    let test = "checker::faults::connections_are_reset";
    case_in_network(test, Plan::of("connection resets"), |world, _| {
        let until = world.now() + hold();
        let mut at = 0;
        while world.now() < until {
            Network::reset(at % NODES);
            at += 1;
            sleep(Duration::from_millis(70));
        }
    });
}

/// Purges at a node of what no page has, one after the other.
fn purge_others(world: &World, node: usize, count: usize) {
    let mut client = Client::to(world.nodes[node].http, PATIENCE).expect("a connection");
    for number in 0..count {
        let request = format!(
            "PURGE / HTTP/1.1\r\nHost: shop.test\r\nX-Magento-Tags-Pattern: \
             ((^|,)cat_c_{number}(,|$))\r\n\r\n"
        );
        let status = client.exchange(request.as_bytes()).expect("an answer").status;
        assert!(matches!(status, 200 | 202), "{status}");
    }
}

/// A replica that had not got the last writes takes the master's place, and its address.
pub fn promote_with_a_lost_tail(world: &World, cycle: usize) {
    let master = world.with_redis(|master| master.port);
    world.with_redis(|redis| redis.ask(&["config", "set", "repl-diskless-sync-delay", "0"]));
    let mut replica = Redis::with(&["--replicaof", "127.0.0.1", &master.to_string()]);
    wait_until("the replica", PATIENCE, || {
        replica.ask(&["info", "replication"]).contains("master_link_status:up")
    });
    replica.ask(&["replicaof", "no", "one"]);
    let sequence = || {
        let text = world.with_redis(|redis| redis.ask(&["hget", "{parvis}:head", "sequence"]));
        text.parse::<u64>().unwrap_or(0)
    };
    let tail_begins = sequence();
    wait_until("a tail", PATIENCE, || sequence() > tail_begins + 3);
    // Even cycles: a reader has read a tail, its own for the most part, and is away until the others
    // have filled its place again. What they appended before, they append again; the tail is
    // longer than that, so that new purges stand where this reader believes to have been.
    let reader = cycle.is_multiple_of(2).then(|| &world.nodes[1 + cycle / 2 % 2]);
    if let Some(reader) = reader {
        purge_others(world, reader.at, (sequence() as usize + 200).min(2_500));
        sleep(Duration::from_millis(200));
        reader.stop();
    }
    let lost = sequence();
    {
        let mut all = world.redis.lock().expect("not poisoned");
        let mut old = all.pop_front().expect("a master");
        old.kill();
        replica.move_to(master);
        all.push_front(replica);
    }
    sleep(hold() / 2);
    if let Some(reader) = reader {
        // What it missed of that is not purged again.
        world.writes.store(false, Ordering::SeqCst);
        sleep(Duration::from_millis(200));
        while sequence() <= lost {
            purge_others(world, 0, 50);
        }
        reader.go_on();
    }
    sleep(hold() / 2);
    world.windows.lock().expect("not poisoned").last_mut().expect("this one").forgets = true;
}

#[test]
fn a_replica_that_lost_the_tail_is_promoted() {
    let plan = Plan { kinds: 2, ..Plan::of("promotion of a replica with a lost tail") };
    case(plan, promote_with_a_lost_tail);
}

/// Where Debian keeps it, on any architecture.
fn libfaketime() -> Option<String> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut paths = libraries.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    paths.find(|path| path.exists()).map(|path| path.display().to_string())
}

#[test]
fn clocks_are_an_hour_off() {
    const NAME: &str = "clock one hour off either way";
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    let Some(library) = libfaketime() else {
        return skipped(NAME, "libfaketime is not installed");
    };
    let environment = |name: &str, libraries: String| {
        [
            ("LD_PRELOAD", libraries),
            ("FAKETIME_TIMESTAMP_FILE", file(name).display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    };
    let set = |name: &str, offset: &str| std::fs::write(file(name), offset).expect("written");
    set("nodes", "+0");
    set("redis", "+0");
    let plan = Plan {
        environment: environment("nodes", library.clone()),
        // jemalloc, as Debian's Redis has it, asks for the time before libfaketime can tell it.
        redis_environment: environment("redis", format!("{library}:libc.so.6")),
        ..Plan::of(NAME)
    };
    case(plan, |_, _| {
        for (nodes, redis) in
            [("+3600", "-3600"), ("-3600", "+3600"), ("-3600", "+0"), ("+0", "+0")]
        {
            set("nodes", nodes);
            set("redis", redis);
            sleep(hold() / 2);
        }
    });
}

/// Nodes are stopped, and when they go on the log does not reach back to where they were.
pub fn trim_past_readers(world: &World, _: usize) {
    let stopped = &world.nodes[1..];
    stopped.iter().for_each(super::world::Node::stop);
    sleep(hold());
    // What they missed is not purged again.
    world.writes.store(false, Ordering::SeqCst);
    // What they were sent before they stopped lies in their sockets.
    world.with_redis(|redis| {
        redis.ask(&["client", "kill", "type", "normal"]);
        redis.ask(&["xtrim", "{parvis}:log", "maxlen", "1"]);
    });
    stopped.iter().for_each(super::world::Node::go_on);
}

#[test]
fn the_log_is_trimmed_past_readers() {
    case(Plan::of("trimming past a reader"), trim_past_readers);
}

#[test]
fn redis_is_flushed() {
    case(Plan::of("FLUSHALL"), |world, _| {
        for _ in 0..5 {
            world.with_redis(|redis| redis.ask(&["flushall"]));
            sleep(hold() / 5);
        }
    });
}

#[test]
fn redis_has_no_memory_and_then_loads() {
    let plan = Plan {
        redis_arguments: ["--dbfilename", "dump.rdb"].map(str::to_owned).to_vec(),
        ..Plan::of("Redis out of memory and LOADING")
    };
    case(plan, |world, _| {
        world.with_redis(|redis| redis.ask(&["config", "set", "maxmemory", "1"]));
        sleep(hold() / 2);
        world.with_redis(|redis| redis.ask(&["config", "set", "maxmemory", "0"]));
        wait_until("writes", PATIENCE, || {
            world.with_redis(|redis| redis.ask(&["set", "filler", "1"])) == "OK"
        });
        let keys: Vec<String> =
            (0..20).flat_map(|at| [format!("filler{at}"), "1".repeat(2_000)]).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut mset = vec!["mset"];
        mset.extend(keys);
        world.with_redis(|redis| redis.ask(&mset));
        world.with_redis(|redis| redis.ask(&["save"]));
        sleep(Duration::from_millis(200));
        let delay = (hold().as_micros() / 2 / 20).to_string();
        world.with_redis(|redis| {
            redis.kill();
            redis.begin_again(&[
                "--key-load-delay",
                &delay,
                "--loading-process-events-interval-bytes",
                "1024",
            ]);
        });
        let mut has_loaded = false;
        wait_until("LOADING to end", PATIENCE, || {
            let is_loading = world.with_redis(|redis| redis.is_loading());
            has_loaded |= is_loading;
            !is_loading
        });
        assert!(has_loaded, "Redis was never seen LOADING");
        world.windows.lock().expect("not poisoned").last_mut().expect("this one").forgets = true;
    });
}

/// Some pages take so long that purges overtake them, and many blocks so long that cleans do; nothing else goes
/// wrong.
pub fn slow_pages(name: &'static str) -> Plan {
    let plan = Plan::of(name);
    let mut rules = plan.rules;
    rules.render_max = seconds(1.5, 30);
    Plan { slow_pages: 6, build: Duration::from_millis(200), rules, ..plan }
}

#[test]
fn fills_take_longer_than_purges_need() {
    case(slow_pages("a 30 s fill across a purge"), |world, _| {
        sleep(2 * world.plan.rules.render_max);
    });
}

/// Connections that purge at each node: one waits for the log's answer to each of its purges.
const FLOODERS: u64 = 24;

/// Purges that a flooder sends in one go.
const FLOOD_TOGETHER: u64 = 8;

/// Sends purges of tags that no page has, as fast as the node takes them and at most so many in each
/// second; gives their number.
fn flood(world: &World, node: usize, flooder: u64, for_each_second: u64) -> u64 {
    let mut client = Client::to(world.nodes[node].http, PATIENCE).expect("a connection");
    let (began, until) = (world.now(), world.now() + hold());
    let mut sent = 0;
    while world.now() < until {
        let due = world.now().saturating_sub(began).as_millis() as u64 * for_each_second / 1_000;
        let together = due.saturating_sub(sent).min(FLOOD_TOGETHER);
        if together == 0 {
            sleep(Duration::from_millis(2));
            continue;
        }
        let purge = |number: u64| {
            format!(
                "PURGE / HTTP/1.1\r\nHost: shop.test\r\nX-Magento-Tags-Pattern: \
                 ((^|,)cat_c_{}(,|$))\r\n\r\n",
                flooder * 1_000_000 + number % 10_000
            )
        };
        let purges: String = (sent..sent + together).map(purge).collect();
        let written = client.stream().write_all(purges.as_bytes());
        for _ in 0..together {
            match client.read(false) {
                Ok(reply) if matches!(reply.status, 200 | 202) => sent += 1,
                answer => {
                    let what = "a purge of the flood at node";
                    world.fail(format!("{what} {node}: {written:?}, {answer:?}"));
                    return sent;
                }
            }
        }
    }
    sent
}

#[test]
fn purges_are_a_flood() {
    case(Plan::of("10,000 purges a second"), |world, _| {
        let began = world.now();
        let sent: u64 = std::thread::scope(|scope| {
            let each = (0..NODES as u64 * FLOODERS).map(|at| {
                // A fifth more, since a flooder that waits for an answer loses time.
                let of_each = 12_000 / (NODES as u64 * FLOODERS);
                scope.spawn(move || flood(world, at as usize % NODES, at, of_each))
            });
            let each: Vec<_> = each.collect();
            each.into_iter().map(|one| one.join().expect("flooded")).sum()
        });
        let rate = sent as f64 / world.now().saturating_sub(began).as_secs_f64();
        world.note(format!("{rate:.0} purges/s"));
    });
}
