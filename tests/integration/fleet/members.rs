//! Who is there, as the command and the control API tell it.

use std::process::Command;

use super::{PATIENCE, Shop, overview, store};
use crate::support::process::wait_until;
use crate::support::redis::Redis;
use crate::support::{Parvis, client};

fn fleet_command(node: &Parvis, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
    command.arg("fleet").arg("--control").arg(format!("127.0.0.1:{}", node.control)).args(more);
    command.output().expect("runs")
}

#[test]
fn a_file_that_names_no_release_is_told() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node =
        shop.node("web-1", &redis.url()).with("fleet.release_file", "\"/nowhere/version\"").start();
    let line = "fleet.release_file = /nowhere/version names no release: No such file";
    wait_until("the line", PATIENCE, || node.stderr().contains(line));
}

#[test]
fn nodes_announce_themselves_and_leave_when_they_stop() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let release = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(release.path(), "1764230000\n").expect("written");
    let file = format!("\"{}\"", release.path().display());
    let [first, second] = ["web-1", "web-2"].map(|name| {
        let node = shop.node(name, &redis.url()).with("fleet.release_file", &file).start();
        super::wait_until_current(&node);
        node
    });
    store(&first, "/cat_p_1");
    assert_eq!(first.purge_tag("cat_p_2").status, 200);
    wait_until("both to announce it", PATIENCE, || {
        let nodes = overview(&second)["nodes"].as_array().cloned().unwrap_or_default();
        nodes.len() == 2
            && nodes.iter().all(|node| {
                node["sequence"] == 1 && node["release"] == "1764230000" && node["soft"] == false
            })
    });
    let table = fleet_command(&first, &[]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.success(), "{}", String::from_utf8_lossy(&table.stderr));
    for word in ["NODE", "LAG", "web-1", "web-2", "1764230000", env!("CARGO_PKG_VERSION")] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let json = fleet_command(&first, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["nodes"][1]["name"], "web-2");
    drop(second);
    wait_until("web-2 to leave", PATIENCE, || {
        overview(&first)["nodes"].as_array().is_some_and(|nodes| nodes.len() == 1)
    });
}

#[test]
fn a_single_node_says_that_it_is_one() {
    let shop = Shop::open();
    let node = Parvis::before_http(shop.origin.port).start();
    assert_eq!(client::get(node.control, "/fleet", &[]).status, 404);
    wait_until("it said so", PATIENCE, || node.stderr().contains("this is a single node"));
    let said = fleet_command(&node, &[]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("no [redis] is set"));
}

#[test]
fn two_nodes_of_one_name_are_told() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = [(); 2].map(|()| shop.node("web-1", &redis.url()).start());
    wait_until("the warning", PATIENCE, || {
        nodes
            .iter()
            .any(|node| node.stderr().contains("another node announces itself by this name"))
    });
}
