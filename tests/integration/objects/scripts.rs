//! The scripts of PHP's cache backends do what they do at redis-server, where Lua scripts of our own say
//! what that is.

use std::time::Duration;

use parvis::resp::Value;

use super::{Chance, Connection, Kept};
use crate::keyspace::compare::{Compare, are_equal};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

pub const SAVE: &str = "1aa53383846dbeb66b01e7f17908449a96ddf717";
pub const CLEAN: &str = "321be2370adbc52c83c52a33b72921111a989a6d";
const CLEAN_SETS: &str = "42ab2fe548aee5ff540123687a2c39a38b54e4a2";
const COLLECT: &str = "6990147f5d1999b936dac3b6f7e5d2071908bcf3";
const FORGET: &str = "9af41155cf293a95fd1a39368fecfbe408362380";
const DELETE: &str = "04907746998413a590f8f9d3fa941875bd85c6a8";
const INVALIDATE: &str = "43d401bd2bd0ad864c3ca221512cda1b6215ec23";

const SAVE_LUA: &str = "local key = ARGV[1] .. ARGV[9]
local before = redis.call('HGET', key, ARGV[3])
for at = 2, 5 do redis.call('HSET', key, ARGV[at], ARGV[at + 8]) end
if ARGV[13] == '0' then redis.call('EXPIRE', key, ARGV[14]) end
for _, tag in ipairs(KEYS) do
    redis.call('SADD', ARGV[6], tag)
    redis.call('SADD', ARGV[7] .. tag, ARGV[9])
end
if ARGV[15] == '1' then redis.call('SADD', ARGV[8], ARGV[9]) end
return before or ''";

const CLEAN_LUA: &str = "for _, tag in ipairs(KEYS) do
    for _, id in ipairs(redis.call('SMEMBERS', ARGV[1] .. tag)) do
        redis.call('DEL', ARGV[2] .. id)
        if ARGV[5] == '1' then redis.call('SREM', ARGV[4], id) end
    end
    redis.call('DEL', ARGV[1] .. tag)
    redis.call('SREM', ARGV[3], tag)
end
return 1";

const CLEAN_SETS_LUA: &str = "for _, set in ipairs(KEYS) do
    for _, id in ipairs(redis.call('SMEMBERS', set)) do
        redis.call('DEL', ARGV[1] .. id)
        if ARGV[4] == '1' then redis.call('SREM', ARGV[3], id) end
    end
    redis.call('DEL', set)
    redis.call('SREM', ARGV[2], set)
end
return 1";

const COLLECT_LUA: &str = "for _, tag in ipairs(KEYS) do
    local left = 0
    for _, id in ipairs(redis.call('SMEMBERS', ARGV[4] .. tag)) do
        if redis.call('EXISTS', ARGV[1] .. id) == 1 then
            left = left + 1
        else
            redis.call('SREM', ARGV[4] .. tag, id)
            if ARGV[5] == '1' then redis.call('SREM', ARGV[3], id) end
        end
    end
    if left == 0 then
        redis.call('DEL', ARGV[4] .. tag)
        redis.call('SREM', ARGV[2], tag)
    end
end
return 1";

const FORGET_LUA: &str = "local there = redis.call('EXISTS', KEYS[1])
if there == 0 then
    redis.call('SREM', KEYS[2], ARGV[1])
    if ARGV[2] == '1' then redis.call('SREM', KEYS[3], ARGV[1]) end
end
return there";

const DELETE_LUA: &str = "local value = redis.call('GET', KEYS[1]) or ''
redis.call('DEL', KEYS[1])
local tagged = #value > 13 and value:byte(1) == 157
tagged = tagged and value:byte(6) == 0 and value:byte(10) == 95
if not tagged then return '' end
local high, middle, low = value:byte(11, 13)
return value:sub(14, 13 + low + 256 * middle + 65536 * high)";

const INVALIDATE_LUA: &str = "for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    redis.call('DEL', ARGV[1] .. id)
end
redis.call('DEL', KEYS[1], '{' .. KEYS[1] .. '}' .. KEYS[1])
return {'0', {}}";

/// What a script does, in Lua.
pub fn own_lua(sha1: &str) -> &'static str {
    match sha1 {
        SAVE => SAVE_LUA,
        CLEAN => CLEAN_LUA,
        CLEAN_SETS => CLEAN_SETS_LUA,
        COLLECT => COLLECT_LUA,
        FORGET => FORGET_LUA,
        DELETE => DELETE_LUA,
        INVALIDATE => INVALIDATE_LUA,
        other => panic!("no script {other}"),
    }
}

struct Both {
    ours: Connection,
    theirs: Connection,
}

impl Both {
    fn run(&mut self, sha1: &str, keys: &[String], arguments: &[Vec<u8>]) -> Value {
        let number = keys.len().to_string().into_bytes();
        let keys = keys.iter().map(|key| key.clone().into_bytes());
        let rest: Vec<Vec<u8>> =
            std::iter::once(number).chain(keys).chain(arguments.iter().cloned()).collect();
        let of = |name: &str, script: &str| {
            let head = [name.as_bytes().to_vec(), script.as_bytes().to_vec()];
            head.into_iter().chain(rest.clone()).collect::<Vec<_>>()
        };
        let ours = self.ours.ask(&of("EVALSHA", sha1));
        let theirs = self.theirs.ask(&of("EVAL", own_lua(sha1)));
        assert!(are_equal(Compare::Unordered, &ours, &theirs), "{sha1}\n{ours:?}\n{theirs:?}");
        ours
    }

    fn say(&mut self, command: &str) -> Value {
        let (ours, theirs) = (self.ours.say(command), self.theirs.say(command));
        assert!(are_equal(Compare::Unordered, &ours, &theirs), "{command}\n{ours:?}\n{theirs:?}");
        ours
    }
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn tags(chance: &mut Chance) -> Vec<String> {
    let number = chance.below(4);
    (0..number).map(|_| format!("T{}", chance.below(12))).collect()
}

/// A value as Symfony's marshaller begins it, or nearly so.
fn marshalled(chance: &mut Chance) -> Vec<u8> {
    let mut value = vec![
        0x9d,
        1,
        2,
        3,
        4,
        0,
        0,
        0,
        0,
        0x5f,
        0,
        0,
        u8::try_from(chance.below(9)).expect("fits"),
    ];
    value.extend_from_slice(&b"tagstagstags"[..chance.below(12)]);
    match chance.below(6) {
        0 => value[0] = 0x9e,
        1 => value.truncate(chance.below(14)),
        2 => value[10] = 1,
        _ => {}
    }
    value
}

fn step(both: &mut Both, chance: &mut Chance) {
    let ids = chance.below(2);
    let id = format!("ID{}", chance.below(30));
    match chance.below(10) {
        0..4 => {
            let tags = tags(chance);
            let (ends, seconds) = (chance.below(2), [100_000, 0, -5][chance.below(3)]);
            let data = format!("data{}", chance.below(100));
            let list = tags.join(",");
            let mut all = words("zc:k: d t m i zc:tags zc:ti: zc:ids");
            let rest = [
                id,
                data,
                list,
                "17".to_owned(),
                ends.to_string(),
                seconds.to_string(),
                ids.to_string(),
            ];
            all.extend(rest.map(String::into_bytes));
            both.run(SAVE, &tags, &all);
        }
        4 => {
            let all = words(&format!("zc:ti: zc:k: zc:tags zc:ids {ids} 5000"));
            both.run(CLEAN, &tags(chance), &all);
        }
        5 => {
            let sets: Vec<String> = tags(chance).iter().map(|tag| format!("zc:ti:{tag}")).collect();
            both.run(CLEAN_SETS, &sets, &words(&format!("zc:k: zc:tags zc:ids {ids} 5000")));
        }
        6 => {
            both.say(&format!("DEL zc:k:{id}"));
            both.run(COLLECT, &tags(chance), &words(&format!("zc:k: zc:tags zc:ids zc:ti: {ids}")));
        }
        7 => {
            let keys =
                [format!("zc:k:{id}"), format!("zc:ti:T{}", chance.below(12)), "zc:ids".into()];
            both.run(FORGET, &keys, &words(&format!("{id} {ids}")));
        }
        8 => {
            let value = marshalled(chance);
            for connection in [&mut both.ours, &mut both.theirs] {
                connection.ask(&[&b"SET"[..], id.as_bytes(), &value]);
            }
            both.run(DELETE, &[id], &[]);
        }
        _ => {
            both.say(&format!("SET p:{id} v"));
            both.say(&format!("SADD set {id} other"));
            both.run(INVALIDATE, &["set".to_owned()], &[b"p:".to_vec()]);
        }
    }
}

#[test]
fn known_scripts_do_what_they_do_at_redis() {
    let (kept, redis) = (Kept::start(&[]), Redis::start());
    let mut both = Both { ours: kept.connect(), theirs: Connection::to(&redis.socket()) };
    let mut chance = Chance(0x00c0_ffee);
    for round in 0..4_000 {
        step(&mut both, &mut chance);
        if round % 500 == 499 {
            assert_eq!(both.ours.contents(), both.theirs.contents());
        }
    }
    // A value of the wrong type stops a script at both, in nearly the same words.
    both.say("SET zc:ti:T1 x");
    let clean = words(&format!("EVALSHA {CLEAN} 1 T1 zc:ti: zc:k: zc:tags zc:ids 0 5000"));
    let Value::Error(error) = both.ours.ask(&clean) else { panic!("an error") };
    assert!(error.starts_with(b"WRONGTYPE"), "{error:?}");
}

#[test]
fn known_scripts_are_there_and_others_are_refused() {
    let kept = Kept::start(&[]);
    let mut connection = kept.connect();
    let unknown = "f".repeat(40);
    let asked = format!("SCRIPT EXISTS {SAVE} {unknown} {}", CLEAN.to_ascii_uppercase());
    let flags = [1, 0, 1].map(Value::Integer).to_vec();
    assert_eq!(connection.say(&asked), Value::Array(flags));
    let shown = |value: Value| match value {
        Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("{other:?}"),
    };
    let said = shown(connection.say(&format!("EVALSHA {unknown} 0")));
    assert_eq!(said, "NOSCRIPT No matching script. Please use EVAL.");
    // Magento asks whether there is Lua. There is, until a script has to be refused.
    let is_there_lua = ["EVAL", "return 1", "0"];
    assert_eq!(connection.ask(&is_there_lua), Value::Integer(1));
    let said = shown(connection.ask(&["EVAL", "return 2", "0"]));
    assert!(said.starts_with("NOLUA This server has no Lua"), "{said}");
    let said = shown(connection.ask(&["SCRIPT", "LOAD", "return 2"]));
    assert!(said.starts_with("NOLUA This server has no Lua"), "{said}");
    let said = shown(connection.ask(&is_there_lua));
    assert!(said.starts_with("NOLUA This server has no Lua"), "{said}");
    assert!((kept.metric("refused_scripts_total") - 2.0).abs() < 0.5);
    let sha1_of_return_2 = "7f923f79fe76194c868d7e1d0820de36700eb649";
    wait_until("a word in the log", Duration::from_secs(5), || {
        kept.parvis.stderr().contains(sha1_of_return_2)
    });
    let said = shown(connection.say(&format!("EVALSHA {SAVE} 3 a")));
    assert_eq!(said, "ERR Number of keys can't be greater than number of args");
    let said = shown(connection.say(&format!("EVALSHA {SAVE} 0 a")));
    assert_eq!(said, "ERR The script takes more keys or arguments");
    assert_eq!(connection.say("SCRIPT FLUSH"), Value::Simple("OK".into()));
    assert_eq!(
        connection.say(&format!("SCRIPT EXISTS {SAVE}")),
        Value::Array(vec![Value::Integer(1)])
    );
}
