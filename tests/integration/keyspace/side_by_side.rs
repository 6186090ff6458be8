//! Random commands of several clients give the same replies as redis-server's, and what they did can be
//! done again.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use parvis::keyspace::{After, Bounds, Keyspace, Session};
use parvis::resp::{Limits, ReadState, Request, Value, decode, read_request};

use super::Direct;
use super::commands::random;
use super::compare::{Compare, are_equal};
use crate::support::chance::Chance;
use crate::support::redis::Redis;

/// Commands of a run; `PARVIS_KEYSPACE_COMMANDS` says another number, `PARVIS_KEYSPACE_SEED` other ones.
const COMMANDS: u64 = 100_000;
const CLIENTS: usize = 3;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("fits")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// A client of both.
struct Client {
    session: Session,
    direct: Direct,
    /// How the replies of what waits in its transaction are compared.
    queued: Vec<Compare>,
    history: Vec<String>,
}

fn ask(session: &mut Session, keyspace: &mut Keyspace, words: &[&[u8]], now_ms: i64) -> Value {
    let mut out = BytesMut::new();
    let after = session.execute(keyspace, &Request::pack(words), now_ms, &mut out);
    assert_eq!(after, After::Continue);
    decode(&out).expect("one reply")
}

impl Client {
    fn ask_both(&mut self, keyspace: &mut Keyspace, words: &[&[u8]]) -> (Value, Value) {
        let ours = ask(&mut self.session, keyspace, words, now_ms());
        (ours, self.ask_redis(words))
    }

    fn ask_redis(&mut self, words: &[&[u8]]) -> Value {
        self.direct.send(Request::pack(words).raw());
        self.direct.reply().expect("still connected")
    }

    fn step(&mut self, keyspace: &mut Keyspace, words: &[Vec<u8>], compare: Compare) {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let shown: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        self.history.push(shown.join(" "));
        let is_walk = words[0].ends_with(b"SCAN");
        let (ours, theirs) = self.ask_both(keyspace, &words);
        let is_exec = words[0] == b"EXEC";
        let equal = match (&ours, &theirs) {
            (Value::Array(ours), Value::Array(theirs)) if is_exec => {
                let pairs = ours.iter().zip(theirs).zip(&self.queued);
                let mut equal = pairs.map(|((a, b), how)| are_equal(*how, a, b));
                ours.len() == theirs.len() && equal.all(|equal| equal)
            }
            // How much one step of a walk gives is not the same; what a whole walk gives is.
            (Value::Array(one), Value::Array(other)) if is_walk => {
                one.len() == 2 && other.len() == 2 && self.walks_agree(keyspace, &words)
            }
            _ => are_equal(compare, &ours, &theirs),
        };
        assert!(
            equal,
            "of {:?}\nours   {ours:?}\ntheirs {theirs:?}\nafter {:#?}",
            shown,
            &self.history[self.history.len().saturating_sub(30)..]
        );
        if ours == Value::Simple("QUEUED".into()) {
            // A walk in a transaction is one step; nothing is left out where there is little.
            self.queued.push(if is_walk { Compare::Walk } else { compare });
        } else if !self.session.is_in_transaction() {
            self.queued.clear();
        }
    }

    fn walks_agree(&mut self, keyspace: &mut Keyspace, words: &[&[u8]]) -> bool {
        let place = usize::from(words[0] != b"SCAN") + 1;
        let ours = walk(words, place, |words| ask(&mut self.session, keyspace, words, now_ms()));
        ours == walk(words, place, |words| self.ask_redis(words))
    }

    /// SPOP takes what chance says; the other side is told what that was.
    fn pop(&mut self, keyspace: &mut Keyspace, key: &[u8]) {
        self.history.push(format!("SPOP {}", key.escape_ascii()));
        match ask(&mut self.session, keyspace, &[b"SPOP", key], now_ms()) {
            Value::Bulk(member) => {
                assert_eq!(self.ask_redis(&[b"SREM", key, &member]), Value::Integer(1));
            }
            other => assert_eq!(other, self.ask_redis(&[b"SPOP", key])),
        }
    }
}

/// All that a walk gives, once each.
fn walk(words: &[&[u8]], place: usize, mut ask: impl FnMut(&[&[u8]]) -> Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = b"0".to_vec();
    let step = if words[0] == b"HSCAN" { 2 } else { 1 };
    loop {
        let mut words = words.to_vec();
        words[place] = &cursor;
        let Value::Array(reply) = ask(&words) else { panic!("{words:?}") };
        let (Value::Bulk(next), Value::Array(part)) = (&reply[0], &reply[1]) else {
            panic!("{reply:?}")
        };
        found.extend(part.chunks(step).map(|part| format!("{part:?}")));
        if &next[..] == b"0" {
            break;
        }
        cursor = next.to_vec();
    }
    found.sort();
    found.dedup();
    found
}

/// All there is, in one order.
fn contents(keyspace: &mut Keyspace, now_ms: i64) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for database in 0..keyspace.databases() {
        let mut session = Session::new(0);
        let mut ask = |words: &[&[u8]]| ask(&mut session, keyspace, words, now_ms);
        ask(&[b"SELECT", database.to_string().as_bytes()]);
        let Value::Array(keys) = ask(&[b"KEYS", b"*"]) else { panic!("a list") };
        for key in keys {
            let Value::Bulk(key) = key else { panic!("a key") };
            let end = ask(&[b"PEXPIRETIME", &key]);
            let value = match ask(&[b"TYPE", &key]) {
                Value::Simple(kind) if kind == "string" => format!("{:?}", ask(&[b"GET", &key])),
                Value::Simple(kind) if kind == "hash" => {
                    format!("{:?}", walk(&[b"HSCAN", &key, b"0"], 2, &mut ask))
                }
                _ => format!("{:?}", walk(&[b"SSCAN", &key, b"0"], 2, &mut ask)),
            };
            all.insert(format!("{database} {key:?}"), format!("{end:?} {value}"));
        }
    }
    all
}

/// Does again what was told, when nothing ends.
fn replay(effects: &[u8], keyspace: &mut Keyspace) {
    let limits = Limits {
        inline_max_bytes: 1 << 10,
        bulk_max_bytes: 1 << 30,
        arguments_max: 1 << 20,
        request_max_bytes: 1 << 30,
    };
    let (mut buffer, mut state) = (BytesMut::from(effects), ReadState::default());
    let (mut session, mut out) = (Session::new(0), BytesMut::new());
    while let Some(request) = read_request(&mut buffer, &limits, &mut state).expect("commands") {
        out.clear();
        session.execute(keyspace, &request, 0, &mut out);
        assert!(!out.starts_with(b"-"), "{request:?}: {out:?}");
    }
    assert!(buffer.is_empty());
}

#[test]
fn random_commands_of_several_clients_have_the_replies_of_redis() {
    let seed = number("PARVIS_KEYSPACE_SEED").unwrap_or(0x5eed);
    let commands = number("PARVIS_KEYSPACE_COMMANDS").unwrap_or(COMMANDS);
    let redis = Redis::start();
    let bounds = Bounds { repeated_max: 1_000, ..Bounds::default() };
    let mut keyspace = Keyspace::new(bounds, seed);
    keyspace.keep_effects();
    let mut again = Keyspace::new(bounds, 1);
    let mut choice = Chance(seed);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|id| Client {
            session: Session::new(id as u64),
            direct: Direct::to(&redis),
            queued: Vec::new(),
            history: Vec::new(),
        })
        .collect();
    for at in 0..commands {
        let client = &mut clients[choice.below(CLIENTS)];
        let is_free = !client.session.is_in_transaction();
        match choice.below(1_000) {
            0..10 if is_free => {
                client.pop(&mut keyspace, format!("k{}", choice.below(10)).as_bytes());
            }
            // A key that ends, perhaps while somebody watches it. It counts until somebody looks at it.
            10 if is_free => {
                let key = format!("k{}", choice.below(10)).into_bytes();
                let words = [b"PEXPIRE".to_vec(), key.clone(), b"1".to_vec()];
                client.step(&mut keyspace, &words, Compare::Exactly);
                std::thread::sleep(std::time::Duration::from_millis(5));
                let words = [b"EXISTS".to_vec(), key];
                client.step(&mut keyspace, &words, Compare::Exactly);
            }
            _ => {
                let (words, compare) = random(&mut choice);
                client.step(&mut keyspace, &words, compare);
            }
        }
        if at % 1_000 == 999 {
            replay(&keyspace.take_effects(), &mut again);
        }
    }
    replay(&keyspace.take_effects(), &mut again);
    let now_ms = now_ms();
    assert_eq!(contents(&mut again, now_ms), contents(&mut keyspace, now_ms));
}
