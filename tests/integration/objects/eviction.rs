//! The bound of memory: it holds, a write that fits is never refused, and no value outlives the tags by
//! which it would be cleaned.

use std::collections::BTreeSet;
use std::path::Path;

use parvis::resp::Value;

use super::{Connection, Kept};
use crate::support::redis::Redis;

const MIB: f64 = 1_048_576.0;
const TAGS: usize = 300;

/// Saves values of about 9 KiB with four tags each, as Magento's backend does without Lua.
fn save(path: &Path, from: usize, to: usize) {
    let mut connection = Connection::to(path);
    let data = "x".repeat(9_000);
    for at in from..to {
        let tags: Vec<String> =
            (0..4).map(|tag| format!("T{}", (at * 7 + tag * 31) % TAGS)).collect();
        let key = format!("zc:k:{at}");
        let hash = ["HMSET", &key, "d", &data, "t", &tags.join(",")];
        assert_eq!(connection.ask(&hash), Value::Simple("OK".into()));
        for tag in &tags {
            let added = connection.say(&format!("SADD zc:ti:{tag} {at}"));
            assert!(matches!(added, Value::Integer(_)), "{added:?}");
        }
    }
}

/// Values that are there, and those of them which one of their tags does not name.
pub fn values_and_untagged(path: &Path) -> (usize, usize) {
    let mut connection = Connection::to(path);
    let Value::Array(keys) = connection.say("KEYS zc:k:*") else { panic!("a list") };
    let mut named = Vec::new();
    for tag in 0..TAGS {
        let Value::Array(ids) = connection.say(&format!("SMEMBERS zc:ti:T{tag}")) else {
            panic!("a list")
        };
        named.push(ids.into_iter().map(|id| format!("{id:?}")).collect::<BTreeSet<_>>());
    }
    let mut untagged = 0;
    for key in &keys {
        let Value::Bulk(key) = key else { panic!("a key") };
        let id = format!("{:?}", Value::Bulk(key.slice(5..)));
        let Value::Bulk(tags) = connection.ask(&[&b"HGET"[..], key, b"t"]) else { continue };
        let tags = String::from_utf8(tags.to_vec()).expect("text");
        let forgot = |tag: &str| !named[tag[1..].parse::<usize>().expect("a number")].contains(&id);
        untagged += usize::from(tags.split(',').any(forgot));
    }
    (keys.len(), untagged)
}

/// Of some values that are there, those that one of their tags does not name. `None`: there is no value.
pub fn named_by_all_tags(path: &Path, values: usize) -> Option<usize> {
    let mut connection = Connection::to(path);
    let Value::Array(found) = connection.say("SCAN 0 MATCH zc:k:* COUNT 100000") else {
        panic!("a list")
    };
    let Value::Array(keys) = &found[1] else { panic!("a list") };
    let mut unnamed = 0;
    for key in keys.iter().take(values) {
        let Value::Bulk(key) = key else { panic!("a key") };
        let Value::Bulk(tags) = connection.ask(&[&b"HGET"[..], key, b"t"]) else { continue };
        for tag in tags.split(|byte| *byte == b',') {
            let set = [&b"zc:ti:"[..], tag].concat();
            let named = connection.ask(&[&b"SISMEMBER"[..], &set, &key[5..]]);
            unnamed += usize::from(named != Value::Integer(1));
        }
    }
    (!keys.is_empty()).then_some(unnamed)
}

#[test]
fn old_values_make_room_and_no_value_is_forgotten_by_its_tags() {
    let kept = Kept::start(&[("objects.memory", "\"32MiB\""), ("objects.request_max", "\"8MiB\"")]);
    save(&kept.socket(), 0, 12_000);
    assert!(kept.metric("bytes") <= 32.0 * MIB);
    let (values, untagged) = values_and_untagged(&kept.socket());
    assert_eq!(untagged, 0);
    assert!((2_000..4_000).contains(&values), "{values}");
    assert!(kept.metric("evictions_total") > 7_000.0);
    assert!(kept.metric("resets_total") < 1.0);
    // What was used meanwhile is there, of what was not the last.
    let mut connection = kept.connect();
    for at in 12_000..20_000 {
        connection.say("HGET zc:k:11999 t");
        save(&kept.socket(), at, at + 1);
        if at > 12_500 {
            break;
        }
    }
    assert_ne!(connection.say("HGET zc:k:11999 t"), Value::Null);
    let newest = (0..500).filter(|back| {
        connection.say(&format!("EXISTS zc:k:{}", 12_500 - back)) == Value::Integer(1)
    });
    assert!(newest.count() > 450);
    let oldest =
        (0..500).filter(|at| connection.say(&format!("EXISTS zc:k:{at}")) == Value::Integer(1));
    assert!(oldest.count() < 50);
}

/// Shows that the test above would notice: where any key may go, tags go before their values.
#[test]
fn where_any_key_may_go_tags_forget_values() {
    let redis = Redis::with(&["--maxmemory", "32mb", "--maxmemory-policy", "allkeys-random"]);
    save(&redis.socket(), 0, 12_000);
    let (values, untagged) = values_and_untagged(&redis.socket());
    assert!(values > 0 && untagged > 0, "{values} values, {untagged} untagged");
}

#[test]
fn where_sets_alone_are_left_the_database_begins_anew() {
    let kept = Kept::start(&[("objects.memory", "\"2MiB\""), ("objects.request_max", "\"1MiB\"")]);
    let mut connection = kept.connect();
    for at in 0..40_000 {
        let added = connection.say(&format!("SADD set{} member-{at}", at % 50));
        assert_eq!(added, Value::Integer(1));
    }
    assert!(kept.metric("resets_total") >= 1.0);
    assert!(kept.metric("bytes") <= 2.0 * MIB);
    assert_eq!(connection.say("SET value x"), Value::Simple("OK".into()));
    assert_eq!(connection.say("GET value"), Value::Bulk("x".into()));
}
