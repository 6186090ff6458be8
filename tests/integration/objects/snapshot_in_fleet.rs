//! What a node of a fleet kept of its objects, over a stop or a crash: the log says what was cleaned since.

use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Duration;

use parvis::resp::Value;
use parvis::snapshot::{Head, Reader, Writer};

use super::fleet::Node;
use crate::fleet::{PATIENCE, Shop, wait_until_current};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const BLOCK_BYTES: usize = 1 << 20;

/// The Redis, a node that goes on, and where the other keeps what it has.
struct Fleet {
    shop: Shop,
    redis: Redis,
    other: Node,
    state: tempfile::TempDir,
}

impl Fleet {
    fn open() -> Self {
        let (shop, redis) = (Shop::open(), Redis::start());
        let other = Node::start(shop.node("web-1", &redis.url()));
        wait_until_current(&other.parvis);
        Self { shop, redis, other, state: tempfile::tempdir().expect("a directory") }
    }

    /// The other node; `interval` is that of snapshots.
    fn node(&self, interval: &str) -> Node {
        let directory = format!("\"{}\"", self.state.path().display());
        let node = self.shop.node("web-2", &self.redis.url());
        let node = node.with("store.snapshot_directory", &directory);
        let node = node.with("fleet.journal_directory", &directory);
        Node::start(node.with("store.snapshot_interval", interval))
    }

    fn file(&self) -> std::path::PathBuf {
        self.state.path().join("objects.snapshot")
    }

    /// A node that has values of two tags, and has found the log.
    fn filled(&self, interval: &str) -> Node {
        let node = self.node(interval);
        wait_until_current(&node.parvis);
        // What was missed before that is gone by now.
        wait_until("the log", PATIENCE, || node.figure("cleans_missed_total") > 0.0);
        node.save("a", "PRODUCT_1");
        node.save("other", "PRODUCT_2");
        node
    }

    /// A node cleans a tag; what it says of it is an entry of its own in the log, and the last one.
    fn clean(&self, node: &Node, tag: &str) {
        node.connect().say(&format!("DEL zc:ti:{tag}"));
        let order = format!("1 hard objects 0 keys zc:ti:{tag}");
        wait_until(&order, PATIENCE, || self.redis.orders().last() == Some(&order));
    }
}

fn stop(node: &mut Node) {
    node.parvis.process.signal("TERM");
    assert_eq!(node.parvis.process.wait(PATIENCE), Some(0), "{}", node.parvis.stderr());
}

fn kill(node: &mut Node) {
    node.parvis.process.signal("KILL");
    node.parvis.process.wait(PATIENCE);
}

/// Says of what is kept that it is as old as the log is long.
fn forge_position(file: &Path, change: impl FnOnce(&str) -> String) {
    let from = BufReader::new(std::fs::File::open(file).expect("kept"));
    let mut reader = Reader::open(from, BLOCK_BYTES).expect("whole");
    let head = reader.head().clone();
    let head = Head { position: change(&head.position), ..head };
    let mut writer =
        Writer::begin(BufWriter::new(Vec::new()), &head, u64::MAX, BLOCK_BYTES).expect("begun");
    while let Some(commands) = reader.commands().expect("whole") {
        writer.push_commands(&commands).expect("written");
    }
    let bytes = writer.finish().expect("written").into_inner().expect("written");
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn what_another_node_cleans_while_this_one_is_down_is_not_there_again() {
    let fleet = Fleet::open();
    let mut node = fleet.filled("0");
    stop(&mut node);
    assert!(fleet.file().is_file());
    fleet.clean(&fleet.other, "PRODUCT_1");
    let again = fleet.node("0");
    assert!(!again.has("a"), "before anybody is answered");
    assert!(again.has("other"));
    assert!(!fleet.file().exists(), "it is used once");
    assert!((again.figure("cleans_missed_total")).abs() < 0.5, "{}", again.parvis.stderr());
}

#[test]
fn it_would_be_there_again_if_the_log_were_not_read_on_from_its_place() {
    let fleet = Fleet::open();
    let mut node = fleet.filled("0");
    stop(&mut node);
    fleet.clean(&fleet.other, "PRODUCT_1");
    // What is kept of pages has its place, too.
    std::fs::remove_file(fleet.state.path().join("pages.snapshot")).expect("kept");
    let head = |field: &str| fleet.redis.ask(&["hget", "{parvis}:head", field]);
    forge_position(&fleet.file(), |position| {
        let end = format!("{} {} {}", head("epoch"), head("sequence"), head("entry"));
        assert_eq!(position.split(' ').count(), end.split(' ').count(), "{position}");
        end
    });
    let again = fleet.node("0");
    assert!(again.has("a") && again.has("other"), "{}", again.parvis.stderr());
}

#[test]
fn after_a_crash_what_was_written_a_while_ago_is_there_without_what_was_cleaned_since() {
    let fleet = Fleet::open();
    let mut node = fleet.filled("\"1s\"");
    node.save("own", "PRODUCT_3");
    node.connect().say("SET lock 1 NX");
    wait_until("a snapshot", PATIENCE, || fleet.file().is_file());
    // One that has all of it.
    std::fs::remove_file(fleet.file()).expect("removed");
    node.save("last", "PRODUCT_4");
    wait_until("another", PATIENCE, || fleet.file().is_file());
    fleet.clean(&node, "PRODUCT_3");
    kill(&mut node);
    fleet.clean(&fleet.other, "PRODUCT_1");
    let again = fleet.node("0");
    let there = ["a", "other", "own", "last"].map(|id| again.has(id));
    assert_eq!(there, [false, true, false, true], "{}", again.parvis.stderr());
    assert_eq!(again.connect().say("EXISTS lock"), Value::Integer(0), "nobody knows who has it");
}

#[test]
fn what_was_cleaned_into_the_journal_before_a_crash_is_not_there_again() {
    let mut fleet = Fleet::open();
    let mut node = fleet.filled("\"1s\"");
    wait_until("a snapshot", PATIENCE, || fleet.file().is_file());
    fleet.redis.kill();
    wait_until("the journal", PATIENCE, || {
        node.connect().say("DEL zc:ti:PRODUCT_1");
        node.parvis.metric("parvis_fleet_journal ").is_some_and(|count| count > 0.0)
    });
    kill(&mut node);
    fleet.redis.start_again();
    let again = fleet.node("0");
    assert!(!again.has("a"));
}

#[test]
fn where_the_log_does_not_reach_back_nothing_is_used() {
    let fleet = Fleet::open();
    let mut node = fleet.filled("0");
    stop(&mut node);
    fleet.clean(&fleet.other, "PRODUCT_1");
    fleet.clean(&fleet.other, "PRODUCT_9");
    fleet.redis.ask(&["xtrim", "{parvis}:log", "MAXLEN", "1"]);
    let again = fleet.node("0");
    assert!(!again.has("a") && !again.has("other"), "{}", again.parvis.stderr());
}

#[test]
fn of_another_log_nothing_is_used() {
    let fleet = Fleet::open();
    let mut node = fleet.filled("0");
    stop(&mut node);
    fleet.redis.ask(&["flushall"]);
    let again = fleet.node("0");
    assert!(!again.has("a") && !again.has("other"), "{}", again.parvis.stderr());
}

#[test]
fn while_the_log_cannot_be_read_nobody_is_answered_and_then_it_begins_empty() {
    let mut fleet = Fleet::open();
    let mut node = fleet.filled("0");
    stop(&mut node);
    fleet.redis.kill();
    let again = {
        let directory = format!("\"{}\"", fleet.state.path().display());
        let node = fleet.shop.node("web-2", &fleet.redis.url());
        let node = node.with("store.snapshot_directory", &directory);
        Node::start(node.with("store.snapshot_timeout", "\"2s\""))
    };
    let mut early = again.connect();
    early.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    early.send(b"*1\r\n$6\r\nDBSIZE\r\n");
    assert_eq!(early.reply(), None, "it waits");
    assert!(!again.has("other"));
    assert!(again.parvis.stderr().contains("the object cache begins empty"));
}
