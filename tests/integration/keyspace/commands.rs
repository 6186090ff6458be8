//! Random commands: right ones, and such as people get wrong.

use super::compare::Compare;
use crate::support::chance::Chance;

/// What an argument's sign stands for: `k` a key, `f` a field or member, `v` a value, `i` a whole number,
/// `d` a number with a fraction, `t` a time from now, `T` a time since 1970 in seconds, `F` one
/// that is to come, `M` one in milliseconds, `c` a small count, `n` a database, `p` a pattern; `*` the last sign again, up to three
/// times; `[` and what follows: any of these options; what is in capitals stands for itself.
const COMMANDS: &[(&str, Compare)] = &[
    ("GET k", Compare::Exactly),
    ("SET k v", Compare::Exactly),
    ("SET k i", Compare::Exactly),
    ("SET k v [ NX XX GET KEEPTTL EX:t PX:t EXAT:F EX:i", Compare::Exactly),
    ("SETEX k t v", Compare::Exactly),
    ("PSETEX k t v", Compare::Exactly),
    ("SETEX k i v", Compare::Exactly),
    ("SETNX k v", Compare::Exactly),
    ("GETSET k v", Compare::Exactly),
    ("GETDEL k", Compare::Exactly),
    ("GETEX k [ EX:t PX:t EXAT:T PXAT:M PERSIST EX:i", Compare::Exactly),
    ("MGET k*", Compare::Exactly),
    ("MSET k v k v", Compare::Exactly),
    ("MSET k v k*", Compare::Exactly),
    ("MSETNX k v k v", Compare::Exactly),
    ("APPEND k v", Compare::Exactly),
    ("STRLEN k", Compare::Exactly),
    ("INCR k", Compare::Exactly),
    ("DECR k", Compare::Exactly),
    ("INCRBY k i", Compare::Exactly),
    ("DECRBY k i", Compare::Exactly),
    ("INCRBYFLOAT k d", Compare::Exactly),
    ("GETRANGE k c c", Compare::Exactly),
    ("GETRANGE k i i", Compare::Exactly),
    ("SETRANGE k c v", Compare::Exactly),
    ("HSET k f v f v", Compare::Exactly),
    ("HSET k f i", Compare::Exactly),
    ("HSET k f v f*", Compare::Exactly),
    ("HMSET k f v f v", Compare::Exactly),
    ("HSETNX k f v", Compare::Exactly),
    ("HGET k f", Compare::Exactly),
    ("HMGET k f*", Compare::Exactly),
    ("HGETALL k", Compare::Pairs),
    ("HDEL k f*", Compare::Exactly),
    ("HEXISTS k f", Compare::Exactly),
    ("HLEN k", Compare::Exactly),
    ("HKEYS k", Compare::Unordered),
    ("HVALS k", Compare::Unordered),
    ("HINCRBY k f i", Compare::Exactly),
    ("HINCRBYFLOAT k f d", Compare::Exactly),
    ("HSTRLEN k f", Compare::Exactly),
    ("HRANDFIELD k", Compare::Shape),
    ("HRANDFIELD k c [ WITHVALUES", Compare::Shape),
    ("SADD k f*", Compare::Exactly),
    ("SADD k f f f f", Compare::Exactly),
    ("SREM k f*", Compare::Exactly),
    ("SMEMBERS k", Compare::Unordered),
    ("SISMEMBER k f", Compare::Exactly),
    ("SMISMEMBER k f*", Compare::Exactly),
    ("SCARD k", Compare::Exactly),
    ("SINTER k*", Compare::Unordered),
    ("SUNION k*", Compare::Unordered),
    ("SDIFF k*", Compare::Unordered),
    ("SINTERSTORE k k*", Compare::Exactly),
    ("SUNIONSTORE k k*", Compare::Exactly),
    ("SDIFFSTORE k k*", Compare::Exactly),
    ("SINTERCARD 2 k k [ LIMIT:c", Compare::Exactly),
    ("SINTERCARD c k*", Compare::Exactly),
    ("SPOP k 100", Compare::Unordered),
    ("SPOP k 0", Compare::Exactly),
    ("SRANDMEMBER k", Compare::Shape),
    ("SRANDMEMBER k c", Compare::Shape),
    ("SMOVE k k f", Compare::Exactly),
    ("DEL k*", Compare::Exactly),
    ("UNLINK k*", Compare::Exactly),
    ("EXISTS k*", Compare::Exactly),
    ("TOUCH k*", Compare::Exactly),
    ("TYPE k", Compare::Exactly),
    ("RENAME k k", Compare::Exactly),
    ("RENAMENX k k", Compare::Exactly),
    ("COPY k k [ REPLACE DB:n", Compare::Exactly),
    ("TTL k", Compare::Time(1_000)),
    ("PTTL k", Compare::Time(1)),
    ("EXPIRETIME k", Compare::Time(1_000)),
    ("PEXPIRETIME k", Compare::Time(1)),
    ("EXPIRE k t", Compare::Exactly),
    ("EXPIRE k i", Compare::Exactly),
    ("EXPIRE k t [ NX XX GT LT", Compare::Exactly),
    ("PEXPIRE k t [ NX XX GT LT", Compare::Exactly),
    ("EXPIREAT k T [ NX XX GT LT", Compare::Exactly),
    ("PEXPIREAT k M [ NX XX GT LT", Compare::Exactly),
    ("EXPIREAT k i", Compare::Exactly),
    ("PERSIST k", Compare::Exactly),
    ("KEYS p", Compare::Unordered),
    ("SCAN 0 [ MATCH:p COUNT:i TYPE:p", Compare::Shape),
    ("HSCAN k 0 [ MATCH:p COUNT:i", Compare::Pairs),
    ("SSCAN k 0 [ MATCH:p COUNT:i", Compare::Shape),
    ("SCAN v", Compare::Shape),
    ("RANDOMKEY", Compare::Shape),
    ("DBSIZE", Compare::Exactly),
    ("FLUSHDB [ ASYNC SYNC", Compare::Exactly),
    ("SELECT n", Compare::Exactly),
    ("SELECT i", Compare::Exactly),
    ("SWAPDB n n", Compare::Exactly),
    ("MULTI", Compare::Exactly),
    ("MULTI", Compare::Exactly),
    ("EXEC", Compare::Exactly),
    ("EXEC", Compare::Exactly),
    ("EXEC", Compare::Exactly),
    ("DISCARD", Compare::Exactly),
    ("WATCH k*", Compare::Exactly),
    ("UNWATCH", Compare::Exactly),
    ("PING", Compare::Exactly),
    ("PING v", Compare::Exactly),
    ("ECHO v", Compare::Exactly),
    ("AUTH v", Compare::Exactly),
    ("AUTH DEFAULT v", Compare::Exactly),
    ("HELLO c", Compare::Greeting),
    ("HELLO 2 [ SETNAME:v AUTH:v", Compare::Greeting),
    ("HELLO 3", Compare::Greeting),
    ("RESET", Compare::Exactly),
    ("CLIENT SETNAME v", Compare::Exactly),
    ("CLIENT GETNAME", Compare::Exactly),
    ("CLIENT REPLY ON", Compare::Exactly),
    ("CLIENT NO-EVICT ON", Compare::Exactly),
    ("CLIENT v", Compare::Exactly),
    ("CONFIG v", Compare::Exactly),
    ("CONFIG GET v", Compare::Exactly),
    ("EVALSHA v 0", Compare::Exactly),
    ("NOSUCH v v*", Compare::Exactly),
];

/// A command, and how its replies are compared.
pub fn random(choice: &mut Chance) -> (Vec<Vec<u8>>, Compare) {
    let (signs, compare) = COMMANDS[choice.below(COMMANDS.len())];
    // What flushes comes seldom, or there would never be much.
    if signs.starts_with("FLUSHDB") && choice.below(20) > 0 {
        return random(choice);
    }
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut signs = signs.split(' ');
    for sign in signs.by_ref().take_while(|sign| *sign != "[") {
        if let Some(sign) = sign.strip_suffix('*') {
            words.extend((0..=choice.below(3)).map(|_| argument(sign, choice)));
        } else {
            words.push(argument(sign, choice));
        }
    }
    let options: Vec<&str> = signs.collect();
    while !options.is_empty() && choice.below(2) == 0 {
        let option = choice.one(&options);
        let (word, sign) = option.split_once(':').unwrap_or((option, ""));
        words.push(if choice.below(4) == 0 { word.to_lowercase() } else { word.into() }.into());
        if !sign.is_empty() {
            words.push(argument(sign, choice));
        }
    }
    match choice.below(60) {
        // Without its count SPOP takes what chance says.
        0 if words.len() > 1 && words[0] != b"SPOP" => drop(words.pop()),
        1 => words.push(argument("v", choice)),
        _ => {}
    }
    (words, compare)
}

const VALUES: &[&str] = &[
    "",
    "a",
    "ab c",
    "hello",
    "10",
    "-1",
    "007",
    "1.5",
    "k1",
    "'q",
    "0",
    "EX",
    "lists",
    "default",
    "a\r\nb",
    "9223372036854775807",
    "3",
    "\u{e9}",
];
const INTEGERS: &[&str] = &[
    "1",
    "-1",
    "0",
    "2",
    "10",
    "-7",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775800",
    "9223372036854775808",
    "1.0",
    "x",
    "",
    "+1",
    "01",
    " 1",
    "100000000000000000",
    "-100000000000000000",
    "9223372036854775",
];
const FRACTIONS: &[&str] = &[
    "1",
    "-1",
    "0.1",
    "1.1",
    "-0.3",
    "3.0e2",
    "1e-3",
    "100.25",
    "12345.678",
    "inf",
    "-inf",
    "nan",
    "x",
    "",
    " 1",
    "1e20",
    "-0",
    ".5",
    "5.",
    "1e300",
    "1e5000",
    "0.0001",
    "123456789012.123456789",
];
const COUNTS: &[&str] = &["0", "1", "2", "3", "5", "20", "-1", "-2", "-5", "-20", "x"];
const PATTERNS: &[&str] = &["*", "k*", "k[1-3]", "f?", "*1*", "string", "hash", "x"];

fn argument(sign: &str, choice: &mut Chance) -> Vec<u8> {
    let text = match sign {
        "k" => format!("k{}", choice.below(10)),
        "f" => format!("f{}", choice.below(14)),
        "v" if choice.below(4) == 0 => "x".repeat(choice.below(60)),
        "v" => choice.one(VALUES).to_owned(),
        "i" => choice.one(INTEGERS).to_owned(),
        "d" => choice.one(FRACTIONS).to_owned(),
        "c" => choice.one(COUNTS).to_owned(),
        "p" => choice.one(PATTERNS).to_owned(),
        "n" => choice.one(&["0", "0", "0", "1", "2", "15", "16", "-1"]).to_owned(),
        // So far apart that it does not matter when they were set.
        "t" => match choice.below(12) {
            0 => "0".into(),
            1 => "-5".into(),
            2 => "9223372036854775807".into(),
            _ => (100_000_000 + choice.below(100_000) * 100_000).to_string(),
        },
        "T" => match choice.below(8) {
            0 => "1000".into(),
            1 => "-1000".into(),
            _ => (4_000_000_000_usize + choice.below(100) * 100_000_000).to_string(),
        },
        "M" => match choice.below(8) {
            0 => "1000".into(),
            _ => (4_000_000_000_000_usize + choice.below(100) * 100_000_000_000).to_string(),
        },
        // SET takes one that has passed, and keeps the key until somebody looks at it.
        "F" => (4_000_000_000_usize + choice.below(100) * 100_000_000).to_string(),
        other => other.to_owned(),
    };
    text.into_bytes()
}
