//! Object caches of several nodes: what one of them cleans the others clean before any later purge.

use std::path::PathBuf;
use std::time::Duration;

use parvis::resp::Value;

use super::{Connection, Kept};
use crate::fleet::{PATIENCE, Shop, is_soft, wait_until_current};
use crate::restart::Successors;
use crate::support::Parvis;
use crate::support::parvis::Builder;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

/// A node with an object cache.
pub(super) struct Node {
    pub(super) parvis: Parvis,
    directory: tempfile::TempDir,
}

impl Node {
    pub(super) fn start(node: Builder) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = format!("\"unix:{}\"", directory.path().join("objects.sock").display());
        Self { parvis: node.with("objects.listen", &socket).start(), directory }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("objects.sock")
    }

    pub(super) fn connect(&self) -> Connection {
        Connection::to(&self.socket())
    }

    /// Keeps a value with its tag, as Magento does.
    pub(super) fn save(&self, id: &str, tag: &str) {
        let mut php = self.connect();
        php.say(&format!("HMSET zc:k:{id} d data t {tag} m 1 i 0"));
        php.say(&format!("SADD zc:tags {tag}"));
        php.say(&format!("SADD zc:ti:{tag} {id}"));
        assert!(self.has(id));
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.connect().say(&format!("EXISTS zc:k:{id}")) == Value::Integer(1)
    }

    pub(super) fn figure(&self, name: &str) -> f64 {
        self.parvis.metric(&format!("parvis_objects_{name} ")).expect("a number")
    }
}

pub(super) fn fleet<const N: usize>(shop: &Shop, redis: &Redis) -> [Node; N] {
    fleet_with(shop, redis, &[])
}

pub(super) fn fleet_with<const N: usize>(
    shop: &Shop,
    redis: &Redis,
    settings: &[(&str, &str)],
) -> [Node; N] {
    std::array::from_fn(|at| {
        let mut node = shop.node(&format!("web-{}", at + 1), &redis.url());
        for (key, value) in settings {
            node = node.with(key, value);
        }
        let node = Node::start(node.with("purge.echo", "\"300ms\""));
        wait_until_current(&node.parvis);
        // What was missed before the log was found is cleaned once more.
        wait_until("the echo", PATIENCE, || node.figure("cleans_echoed_total") > 0.0);
        node
    })
}

#[test]
fn a_clean_of_a_tag_takes_what_it_names_on_each_node_and_stands_before_the_purge() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    let bare = shop.node("web-3", &redis.url()).start();
    wait_until_current(&bare);
    let softened = crate::fleet::softened(&bare);
    nodes[0].save("a", "PRODUCT_1");
    nodes[1].save("b", "PRODUCT_1");
    nodes[1].save("other", "PRODUCT_2");
    nodes[0].connect().say("DEL zc:k:a");
    nodes[0].connect().say("DEL zc:ti:PRODUCT_1");
    assert_eq!(nodes[0].parvis.purge_tag("cat_p_1").status, 200);
    wait_until("web-2", PATIENCE, || !nodes[1].has("b"));
    assert!(nodes[1].has("other"));
    let orders = redis.orders();
    assert_eq!(orders.last().map(String::as_str), Some("1 hard tags cat_p_1"), "{orders:?}");
    let cleans = &orders[..orders.len() - 1];
    assert!(!cleans.is_empty(), "{orders:?}");
    assert!(
        cleans.iter().all(|order| order.starts_with("1 hard objects 0 keys zc:")),
        "{orders:?}"
    );
    // A node without an object cache reads over it.
    wait_until("web-3", PATIENCE, || {
        bare.metric("parvis_fleet_position ") == nodes[0].parvis.metric("parvis_fleet_position ")
    });
    assert_eq!((crate::fleet::softened(&bare), is_soft(&bare)), (softened, Some(false)));
    assert_eq!(bare.metric("parvis_objects_cleans_told_total "), None);
    assert!(nodes[0].figure("cleans_told_total") > 0.0);
    assert!(nodes[1].figure("cleans_applied_total") > 0.0);
}

#[test]
fn a_clean_of_what_a_node_does_not_have_itself_reaches_those_that_do() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    nodes[1].save("b", "PRODUCT_1");
    nodes[0].connect().say("UNLINK zc:ti:PRODUCT_1");
    wait_until("web-2", PATIENCE, || !nodes[1].has("b"));
    nodes[1].save("b", "PRODUCT_1");
    nodes[0].connect().say("FLUSHDB");
    wait_until("web-2", PATIENCE, || !nodes[1].has("b"));
}

/// As a server does that has the admin alone.
#[test]
fn a_clean_within_a_scope_by_a_node_with_little_of_it_leaves_the_scope_on_the_others() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    let save = |node: &Node, id: &str, tags: &str| {
        let mut php = node.connect();
        php.say(&format!("HMSET zc:k:{id} d data t {tags} m 1 i 0"));
        for tag in tags.split(',') {
            php.say(&format!("SADD zc:ti:{tag} {id}"));
        }
    };
    save(&nodes[0], "block", "BLOCK_HTML");
    for id in ["p1", "p2", "p3"] {
        save(&nodes[0], id, "CAT_P_1");
    }
    save(&nodes[1], "both", "BLOCK_HTML,CAT_P_1");
    for id in ["b1", "b2", "b3"] {
        save(&nodes[1], id, "BLOCK_HTML");
    }
    save(&nodes[1], "product", "CAT_P_1");
    let echoed = nodes[0].figure("cleans_echoed_total");
    nodes[0].connect().say("SINTER zc:ti:CAT_P_1 zc:ti:BLOCK_HTML");
    wait_until("web-2", PATIENCE, || !nodes[1].has("both"));
    wait_until("its own echo", PATIENCE, || nodes[0].figure("cleans_echoed_total") > echoed);
    assert!(["b1", "b2", "b3", "product"].iter().all(|id| nodes[1].has(id)));
    assert!(["block", "p1", "p2", "p3"].iter().all(|id| nodes[0].has(id)));
    let orders = redis.orders();
    let told = "1 hard objects 0 common zc:ti:BLOCK_HTML,zc:ti:CAT_P_1";
    assert!(orders.iter().any(|order| order == told), "{orders:?}");
}

#[test]
fn cleans_wait_in_the_journal_between_the_purges_while_redis_is_away() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    nodes[1].save("b", "PRODUCT_1");
    redis.kill();
    assert_eq!(nodes[0].parvis.purge_tag("first").status, 202);
    nodes[0].connect().say("DEL zc:ti:PRODUCT_1");
    assert_eq!(nodes[0].parvis.purge_tag("last").status, 202);
    redis.start_again();
    wait_until("web-2", PATIENCE, || !nodes[1].has("b"));
    let orders = redis.orders();
    let want = ["1 hard tags first", "1 hard objects 0 keys zc:ti:PRODUCT_1", "1 hard tags last"];
    assert!(orders.windows(3).any(|orders| orders == want), "{orders:?}");
}

#[test]
fn a_log_that_was_lost_takes_all_values_since_cleans_may_have_been_in_it() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    let before = nodes[1].figure("cleans_missed_total");
    nodes[1].save("b", "PRODUCT_1");
    redis.ask(&["flushall"]);
    wait_until("web-2", PATIENCE, || !nodes[1].has("b"));
    assert!(nodes[1].figure("cleans_missed_total") > before);
}

#[test]
fn values_stay_while_a_node_only_lacks_proof() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis.url()).with("fleet.proof_max", "\"300ms\"");
    let node = Node::start(node.with("purge.echo", "\"0s\""));
    wait_until_current(&node.parvis);
    node.save("a", "PRODUCT_1");
    redis.kill();
    wait_until("softness", PATIENCE, || is_soft(&node.parvis) == Some(true));
    assert!(node.has("a"));
}

#[test]
fn thousands_of_cleans_are_few_entries_and_all_are_done_elsewhere() {
    const MANY: usize = 20_000;
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    let mut other = nodes[1].connect();
    let mut commands = Vec::new();
    for key in 0..MANY {
        other.say(&format!("SET key:{key} x"));
        commands.extend_from_slice(
            format!("*2\r\n$3\r\nDEL\r\n${}\r\nkey:{key}\r\n", format!("key:{key}").len())
                .as_bytes(),
        );
    }
    let mut one = nodes[0].connect();
    let writing = std::thread::spawn({
        let mut stream = one.stream.try_clone().expect("a handle");
        move || std::io::Write::write_all(&mut stream, &commands).expect("sent")
    });
    for _ in 0..MANY {
        assert!(matches!(one.reply(), Some(Value::Integer(_))));
    }
    writing.join().expect("sent");
    wait_until("web-2", PATIENCE, || other.say("DBSIZE") == Value::Integer(0));
    let entries = redis.ask(&["xlen", "{parvis}:log"]).parse::<usize>().expect("a number");
    assert!(entries < MANY / 4, "{entries}");
}

/// A node without a Redis, whose cleans are done again after a moment.
fn alone(echo: &str) -> Kept {
    Kept::start(&[("purge.echo", echo)])
}

#[test]
fn without_a_redis_a_clean_of_keys_is_done_once_more_and_a_flush_is_not() {
    let kept = alone("\"500ms\"");
    let mut php = kept.connect();
    php.say("SET a built-before-the-commit");
    php.say("DEL a");
    // Another connection: what this one built may be from before.
    let mut other = kept.connect();
    other.say("SET a built-before-the-commit");
    other.say("SET b x");
    wait_until("the echo", PATIENCE, || other.say("GET a") == Value::Null);
    assert_eq!(other.say("GET b"), Value::Bulk("x".into()));
    let echoed = kept.metric("cleans_echoed_total ");
    php.say("FLUSHALL");
    kept.connect().say("SET b x");
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(kept.connect().say("GET b"), Value::Bulk("x".into()));
    assert!((kept.metric("cleans_echoed_total ") - echoed).abs() < 0.5);
}

#[test]
fn a_clean_that_the_old_process_finishes_reaches_what_the_new_one_keeps() {
    let mut kept = alone("\"0s\"");
    let mut amid = kept.connect();
    assert_eq!(amid.say("MULTI"), Value::Simple("OK".into()));
    assert_eq!(amid.say("DEL shared"), Value::Simple("QUEUED".into()));
    let mut successors = Successors::new();
    successors.restart(&kept.parvis);
    let mut new = kept.connect();
    new.say("SET shared x");
    new.say("SET other x");
    amid.say("EXEC");
    assert_eq!(new.say("GET shared"), Value::Null);
    assert_eq!(new.say("GET other"), Value::Bulk("x".into()));
    drop(amid);
    crate::restart::first_ends(&mut kept.parvis);
}
