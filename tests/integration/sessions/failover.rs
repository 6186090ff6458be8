//! The Redis that has the sessions dies, or Parvis does: what was acknowledged is there.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Client, node};
use crate::support::process::{Process, free_port, program, wait_until};
use crate::support::redis::Redis;

const PATIENCE: Duration = Duration::from_secs(60);
const WRITERS: usize = 4;

/// A sentinel that knows one master, `shop`.
struct Sentinel {
    port: u16,
    _process: Process,
}

impl Sentinel {
    fn start(directory: &Path, master: u16) -> Self {
        let port = free_port();
        let file = directory.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor shop 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 2000\n",
            directory.display()
        );
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(program("redis-server"));
        command.arg(&file).arg("--sentinel");
        let process = Process::start(&mut command, &directory.join("log"));
        Self { port, _process: process }
    }

    fn says(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("redis-cli"));
        command.args(["-p", &self.port.to_string(), "sentinel"]).args(arguments);
        let output = command.output().expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn master(&self) -> u16 {
        let address = self.says(&["get-master-addr-by-name", "shop"]);
        address.lines().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    fn sees_a_replica(&self) -> bool {
        self.says(&["replicas", "shop"]).contains("master-link-status\nok")
    }
}

/// What a writer was told of its numbers, in order: acknowledged or not.
#[derive(Default)]
struct Told(Vec<(u64, bool)>);

/// Appends its numbers to its own list until it is told to stop.
fn write(port: u16, writer: usize, begins: u64, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let mut client = Client::connect(port);
    let mut number = begins;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let command = super::packed(&format!("RPUSH list{writer} {number}"));
        if let Some(reply) = client.try_ask(&command) {
            told.0.push((number, reply[0] == b':'));
        } else {
            told.0.push((number, false));
            let Some(next) = Client::try_connect(port) else { break };
            client = next;
        }
        thread::sleep(Duration::from_millis(2));
    }
    told
}

/// Each number at most once; of what was acknowledged, what is missing.
fn missing(redis: &Redis, writer: usize, told: &Told) -> Vec<u64> {
    let list = redis.ask(&["lrange", &format!("list{writer}"), "0", "-1"]);
    let mut times: HashMap<u64, usize> = HashMap::new();
    for number in list.lines().filter_map(|line| line.parse().ok()) {
        *times.entry(number).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "written twice: {twice:?}");
    let acknowledged = told.0.iter().filter(|(_, is_done)| *is_done);
    acknowledged
        .filter(|(number, _)| !times.contains_key(number))
        .map(|(number, _)| *number)
        .collect()
}

#[test]
fn over_failovers_nothing_acknowledged_is_lost_but_what_redis_had_not_replicated() {
    let one = Redis::start();
    let other = Redis::with(&["--replicaof", &format!("127.0.0.1 {}", one.port)]);
    let directory = tempfile::tempdir().expect("a directory");
    let sentinel = Sentinel::start(directory.path(), one.port);
    let mut servers = [one, other];
    wait_until("the sentinel to see both", PATIENCE, || sentinel.sees_a_replica());
    let (_node, port) = node("redis://ignored", |builder| {
        builder
            .with("redis.sentinels", &format!("[\"127.0.0.1:{}\"]", sentinel.port))
            .with("redis.master", "\"shop\"")
            .with("sessions.master", "\"shop\"")
            .with("sessions.failover_wait", "\"30s\"")
            .with("fleet.journal_directory", "\"\"")
    });
    for round in 0..2 {
        let stop = AtomicBool::new(false);
        let master = sentinel.master();
        let at = servers.iter().position(|server| server.port == master).expect("one of them");
        let begins = (round + 1) * 1_000_000;
        let told: Vec<Told> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let stop = &stop;
                        move || write(port, writer, begins, stop)
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(500));
            servers[at].kill();
            wait_until("the failover", PATIENCE, || sentinel.master() != master);
            let new = &servers[1 - at];
            let length = || new.ask(&["llen", "list0"]).parse::<u64>().unwrap_or(0);
            let before = length();
            wait_until("writes to go on", PATIENCE, || length() > before + 20);
            stop.store(true, Ordering::SeqCst);
            writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
        });
        for (writer, told) in told.iter().enumerate() {
            let missing = missing(&servers[1 - at], writer, told);
            let refused: Vec<_> =
                told.0.iter().filter(|(_, is_done)| !is_done).map(|(number, _)| *number).collect();
            println!(
                "round {round}, writer {writer}: {} writes, refused {refused:?}, lost by Redis {missing:?}",
                told.0.len()
            );
            assert!(refused.len() <= 1, "one was under way: {refused:?}");
            // The stream of replication ends somewhere: what is missing was the last before the end.
            if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
                assert_eq!(last - first + 1, missing.len() as u64, "a run: {missing:?}");
                assert!(
                    refused.is_empty() || refused[0] == last + 1,
                    "at the end: {missing:?} {refused:?}"
                );
            }
        }
        servers[at].start_again();
        wait_until("both are there again", PATIENCE, || {
            sentinel.sees_a_replica()
                && servers[at].ask(&["info", "replication"]).contains("master_link_status:up")
        });
    }
}

#[test]
fn a_parvis_that_is_killed_has_lost_nothing_that_it_acknowledged() {
    let redis = Redis::start();
    for round in 0..3 {
        let (node, port) = node(&redis.url(), |builder| builder);
        let stop = AtomicBool::new(false);
        let told: Vec<Told> = thread::scope(|scope| {
            let begins = (round + 1) * 1_000_000;
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let stop = &stop;
                        move || write(port, writer, begins, stop)
                    })
                })
                .collect();
            wait_until("all of them", PATIENCE, || {
                node.metric("parvis_sessions_clients ")
                    == u32::try_from(WRITERS).ok().map(f64::from)
            });
            thread::sleep(Duration::from_millis(300));
            node.process.signal("KILL");
            let ends = Instant::now() + PATIENCE;
            let told = writers.into_iter().map(|writer| writer.join().expect("no panic")).collect();
            assert!(Instant::now() < ends);
            told
        });
        for (writer, told) in told.iter().enumerate() {
            assert!(told.0.len() > 20, "{}", told.0.len());
            assert_eq!(missing(&redis, writer, told), Vec::<u64>::new());
        }
    }
}
