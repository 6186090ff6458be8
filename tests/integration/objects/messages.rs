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

/// How often a key was asked for; the log and the announcements use other commands.
fn commands(redis: &Redis) -> i64 {
    let mut connection = Connection::to(&redis.socket());
    let Value::Bulk(info) = connection.say("INFO commandstats") else { panic!("a text") };
    let info = String::from_utf8_lossy(&info).into_owned();
    let of = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:calls=")));
        let number = line.and_then(|line| line.split('=').nth(1)?.split(',').next()?.parse().ok());
        number.unwrap_or(0_i64)
    };
    of("get")
}

#[test]
fn no_other_key_asks_redis() {
    let redis = Redis::start();
    let kept = node(&redis);
    let mut connection = kept.connect();
    connection.say(&format!("SET {KEY} v"));
    let before = commands(&redis);
    for at in 0..200 {
        connection.say(&format!("HMSET zc:k:{at} d v t X m 1 i 0"));
        connection.say(&format!("HGET zc:k:{at} d"));
        connection.say(&format!("SADD zc:ti:X {at}"));
        connection.say(&format!("DEL zc:k:{at} zc:k:no"));
    }
    assert_eq!(commands(&redis), before);
    assert_eq!(connection.say(&format!("GET {KEY}")), text("v"));
    assert!(commands(&redis) > before);
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
