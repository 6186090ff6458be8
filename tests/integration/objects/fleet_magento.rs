//! What Magento 2.4.9 says to clean reaches the other nodes, also where the node that is asked has nothing of it.

use parvis::resp::Value;

use super::fleet::{Node, fleet};
use crate::fleet::{PATIENCE, Shop};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const NAME: &str = "95bbb2ec0b24a459d03267f7c68333bf85bcd4e9";
const CLEAN_SCOPE: &str = "447708840ed150d0e8ea735c9a4d4fd33c5c8165";

/// Saves a value as Magento does: in one turn, and its tags in the next one.
fn save(node: &Node, id: &str, tags: &str) {
    let mut php = node.connect();
    php.say(&format!("SETEX 4e0_:{id} 1000 data"));
    let places = format!("cache:all_ids cache:tags: 4e0_ cache:id_tags:4e0_{id}");
    let said = php.say(&format!("EVALSHA {NAME} 0 4e0_:{id} {id} {places} {tags}"));
    assert_eq!(said, Value::Integer(1));
}

fn has(node: &Node, id: &str) -> bool {
    node.connect().say(&format!("EXISTS 4e0_:{id}")) == Value::Integer(1)
}

#[test]
fn a_clean_within_a_scope_reaches_a_node_that_alone_has_such_a_value() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    let commands = [
        // Without Lua: what has the tag, what has the scope's, and nothing more, since they share nothing here.
        vec!["SMEMBERS cache:tags:4e0_X".to_owned(), "SMEMBERS cache:tags:4e0_S".to_owned()],
        vec![format!("EVALSHA {CLEAN_SCOPE} 1 X cache:tags: 4e0_ S 4e0_:")],
    ];
    for commands in commands {
        save(&nodes[0], "tag", "X");
        save(&nodes[0], "scope-1", "S");
        save(&nodes[0], "scope-2", "S");
        save(&nodes[1], "both", "X S");
        save(&nodes[1], "scope", "S");
        assert!(has(&nodes[1], "both"));
        let mut php = nodes[0].connect();
        for command in &commands {
            php.say(command);
        }
        wait_until("web-2", PATIENCE, || !has(&nodes[1], "both"));
        assert!(has(&nodes[1], "scope") && has(&nodes[0], "tag") && has(&nodes[0], "scope-1"));
    }
}

#[test]
fn a_flush_reaches_values_without_tags_that_another_node_alone_has() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes: [Node; 2] = fleet(&shop, &redis);
    nodes[1].connect().say("SETEX 4e0_:untagged 1000 data");
    let mut php = nodes[0].connect();
    assert_eq!(php.say("KEYS cache:tags:4e0_*"), Value::Array(Vec::new()));
    php.say("DEL cache:all_ids");
    assert_eq!(php.say("KEYS cache:id_tags:4e0_*"), Value::Array(Vec::new()));
    php.say("SCAN 0 MATCH 4e0_:* COUNT 1000");
    wait_until("web-2", PATIENCE, || !has(&nodes[1], "untagged"));
}
