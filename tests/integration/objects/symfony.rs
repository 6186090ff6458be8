//! Symfony's own adapters, as Debian has them, see the same as at redis-server, and what they clean other nodes clean.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kept;
use super::fleet::{Node, fleet_with};
use crate::fleet::{PATIENCE, Shop};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/objects/symfony.php")
}

fn php(socket: &Path, order: &[&str]) -> String {
    let output =
        Command::new("php").arg(script()).arg(socket).args(order).output().expect("php runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Which of the forty items a node has.
fn there(node: &Node) -> String {
    php(&node.socket(), &["there"])
}

#[test]
fn symfonys_adapters_see_no_difference() {
    let (kept, redis) = (Kept::start(&[]), Redis::start());
    let ours = php(&kept.socket(), &["play"]);
    assert!(ours.lines().count() == 49 && ours.contains("x.xx.xx"), "{ours}");
    assert_eq!(ours, php(&redis.socket(), &["play"]));
}

#[test]
fn what_symfonys_adapter_cleans_by_tag_goes_on_other_nodes_and_nothing_else() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let tag_sets = [("objects.tag_sets", r#"["ns:\u0000tags\u0000* -> *"]"#)];
    let nodes: [Node; 2] = fleet_with(&shop, &redis, &tag_sets);
    for node in &nodes {
        assert_eq!(php(&node.socket(), &["fill"]), "saved true\n");
        assert!(!there(node).contains('.'), "all are there");
    }
    assert_eq!(php(&nodes[0].socket(), &["clean", "third1", "odd"]), "cleaned true\n");
    let left = there(&nodes[0]);
    assert!(left.contains("\"x.x...x.x...x.x"), "{left}");
    wait_until("web-2", PATIENCE, || there(&nodes[1]) == left);
}

#[test]
fn where_no_setting_knows_symfonys_tags_other_nodes_lose_all_rather_than_keep_what_was_cleaned() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet_with(&shop, &redis, &[]);
    php(&nodes[1].socket(), &["fill"]);
    php(&nodes[0].socket(), &["fill"]);
    php(&nodes[0].socket(), &["clean", "odd"]);
    wait_until("web-2", PATIENCE, || !there(&nodes[1]).contains('x'));
    assert!(there(&nodes[0]).contains("\"x.x.x."), "it knows itself what has the tag");
}
