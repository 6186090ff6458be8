//! Keys that are messages between the servers of a shop go through the central Redis, and no others do.

use std::time::Duration;

use parvis::resp::Value;

use super::scripts::SAVE;
use super::{Connection, Kept};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const KEY: &str = "zc:k:982_NOTIFICATION_UPDATE_CUSTOMER_SESSION_7";
const ID: &str = "982_NOTIFICATION_UPDATE_CUSTOMER_SESSION_7";

fn node(redis: &Redis) -> Kept {
    Kept::start(&[("redis.url", &format!("\"{}\"", redis.url()))])
}

fn text(value: &str) -> Value {
    Value::Bulk(value.to_owned().into())
}

#[test]
fn a_message_that_one_node_writes_is_read_and_deleted_on_another() {
    let redis = Redis::start();
    let (first, second) = (node(&redis), node(&redis));
    let (mut one, mut other) = (first.connect(), second.connect());
    assert_eq!(other.say(&format!("HGET {KEY} d")), Value::Null);
    one.say(&format!("HMSET {KEY} d 1 t MAGE m 1 i 0"));
    assert_eq!(one.say(&format!("EXPIRE {KEY} 500")), Value::Integer(1));
    assert_eq!(other.say(&format!("HGET {KEY} d")), text("1"));
    let Value::Integer(left) = other.say(&format!("TTL {KEY}")) else { panic!("a number") };
    assert!((400..=500).contains(&left), "{left}");
    assert_eq!(other.say(&format!("DEL {KEY}")), Value::Integer(1));
    assert_eq!(one.say(&format!("HGET {KEY} d")), Value::Null);
    // In a transaction, whose commands may come one by one, and by the script that saves.
    for command in ["MULTI", &format!("HSET {KEY} d 2"), &format!("HGET {KEY} d")] {
        one.say(command);
    }
    assert!(matches!(one.say("EXEC"), Value::Array(replies) if replies[1] == text("2")));
    assert_eq!(other.say(&format!("HGET {KEY} d")), text("2"));
    one.say(&format!("EVALSHA {SAVE} 1 T zc:k: d t m i zc:tags zc:ti: zc:ids {ID} 3 T 1 0 60 0"));
    assert_eq!(other.say(&format!("HGET {KEY} d")), text("3"));
}

/// What Redis is asked of messages until it hears a word.
fn asked(monitor: &mut Connection, redis: &Redis, word: &str) -> usize {
    Connection::to(&redis.socket()).say(&format!("ECHO {word}"));
    let mut number = 0;
    loop {
        let Some(Value::Simple(line)) = monitor.reply() else { panic!("a line") };
        let line = String::from_utf8_lossy(&line).into_owned();
        number += usize::from(line.contains(":objects:"));
        if line.contains(word) {
            return number;
        }
    }
}

#[test]
fn no_other_key_asks_redis() {
    let redis = Redis::start();
    let kept = node(&redis);
    let mut connection = kept.connect();
    let mut monitor = Connection::to(&redis.socket());
    assert_eq!(monitor.say("MONITOR"), Value::Simple("OK".into()));
    connection.say(&format!("SET {KEY} v"));
    assert_eq!(asked(&mut monitor, &redis, "first-word"), 2, "fetched and sent");
    for at in 0..200 {
        connection.say(&format!("HMSET zc:k:{at} d v t X m 1 i 0"));
        connection.say(&format!("HGET zc:k:{at} d"));
        connection.say(&format!("SADD zc:ti:X {at}"));
        connection.say(&format!("DEL zc:k:{at} zc:k:no"));
    }
    assert_eq!(asked(&mut monitor, &redis, "second-word"), 0);
    assert_eq!(connection.say(&format!("GET {KEY}")), text("v"));
    assert_eq!(asked(&mut monitor, &redis, "third-word"), 1, "what did not change is not sent");
}

#[test]
fn while_redis_is_away_messages_stay_on_their_node() {
    let mut redis = Redis::start();
    let kept = node(&redis);
    let mut connection = kept.connect();
    connection.say(&format!("SET {KEY} before"));
    redis.kill();
    assert_eq!(connection.say(&format!("SET {KEY} alone")), Value::Simple("OK".into()));
    assert_eq!(connection.say(&format!("GET {KEY}")), text("alone"));
    assert!(kept.metric("message_failures_total") >= 1.0);
    assert!(kept.parvis.stderr().contains("messages of the object cache stay on this server"));
    redis.start_again();
    wait_until("messages go through Redis again", Duration::from_secs(20), || {
        connection.say(&format!("SET {KEY} again"));
        Connection::to(&redis.socket()).say("KEYS *") != Value::Array(Vec::new())
            && kept.parvis.stderr().contains("go through Redis again")
    });
}
