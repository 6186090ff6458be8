use bytes::BytesMut;

use super::*;
use crate::resp::{Protocol, Request, Value, decode};

const NOW: i64 = 1_000_000;

/// One client of a keyspace, at a time.
struct Client {
    session: Session,
    now_ms: i64,
}

impl Client {
    fn new() -> Self {
        Self { session: Session::new(7), now_ms: NOW }
    }

    fn raw(&mut self, keyspace: &mut Keyspace, words: &str) -> BytesMut {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        self.session.execute(keyspace, &Request::pack(&words), self.now_ms, &mut out);
        out
    }

    fn ask(&mut self, keyspace: &mut Keyspace, words: &str) -> String {
        let out = self.raw(keyspace, words);
        shown(&decode(&out).expect("one reply"))
    }
}

fn shown(value: &Value) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match value {
        Value::Simple(it) | Value::Error(it) | Value::Bulk(it) => text(it),
        Value::Integer(number) => number.to_string(),
        Value::Null => "nil".to_owned(),
        Value::Array(it) | Value::Set(it) => {
            format!("[{}]", it.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        other => format!("{other:?}"),
    }
}

fn keyspace() -> Keyspace {
    Keyspace::new(Bounds::default(), 1)
}

#[test]
fn a_key_is_there_up_to_its_end() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    client.ask(&mut keyspace, "SET k v PX 100");
    client.now_ms = NOW + 100;
    assert_eq!(client.ask(&mut keyspace, "GET k"), "v");
    assert_eq!(client.ask(&mut keyspace, "DBSIZE"), "1");
    client.now_ms += 1;
    assert_eq!(client.ask(&mut keyspace, "GET k"), "nil");
    assert_eq!(client.ask(&mut keyspace, "DBSIZE"), "0");
    // A time that has passed is taken by SET, and the key is never seen.
    assert_eq!(client.ask(&mut keyspace, "SET k v EXAT 1"), "OK");
    assert_eq!(client.ask(&mut keyspace, "GET k"), "nil");
    assert_eq!(client.ask(&mut keyspace, "TTL k"), "-2");
}

#[test]
fn the_search_for_what_has_ended_comes_to_all_databases() {
    let bounds = Bounds { memory_max_bytes: 2_000_000, ..Bounds::default() };
    let (mut keyspace, mut client) = (Keyspace::new(bounds, 1), Client::new());
    for number in 0..5_000 {
        client.ask(&mut keyspace, &format!("SET a{number} v PX 900000"));
    }
    for (database, at) in [(1, 0), (3, 100)] {
        client.ask(&mut keyspace, &format!("SELECT {database}"));
        for number in at..at + 100 {
            client.ask(&mut keyspace, &format!("SET b{number} v PX 10"));
        }
    }
    let removed: usize = (0..6).map(|_| keyspace.expire(NOW + 11, 1_000)).sum();
    assert_eq!((removed, keyspace.figures().keys), (200, 5_000));
    // It goes round: what ends later in the first database is found, too.
    let removed: usize = (0..7).map(|_| keyspace.expire(NOW + 1_000_000, 1_000)).sum();
    assert_eq!((removed, keyspace.figures().keys), (5_000, 0));
}

#[test]
fn where_there_is_no_room_what_has_ended_goes_whatever_its_database() {
    let bounds = Bounds { memory_max_bytes: 2_000_000, ..Bounds::default() };
    let (mut keyspace, mut client) = (Keyspace::new(bounds, 1), Client::new());
    for number in 0..5_000 {
        client.ask(&mut keyspace, &format!("SET a{number} v PX 900000"));
    }
    client.ask(&mut keyspace, "SELECT 1");
    let value = "x".repeat(1_000);
    let full = (0..10_000).find(|number| {
        client.ask(&mut keyspace, &format!("SET b{number} {value} PX 10")).starts_with("OOM")
    });
    assert!(full.is_some());
    client.now_ms += 11;
    let refused = (0..6).filter(|_| client.ask(&mut keyspace, "SET c v").starts_with("OOM"));
    assert!(refused.count() < 6);
}

#[test]
fn what_has_ended_is_removed_without_being_asked_for() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    for number in 0..1_000 {
        client.ask(&mut keyspace, &format!("SET a{number} v PX {}", number + 1));
        client.ask(&mut keyspace, &format!("SET b{number} v"));
    }
    let (mut removed, mut rounds) = (0, 0);
    while removed < 500 {
        removed += keyspace.expire(NOW + 501, 100);
        rounds += 1;
        assert!(rounds < 60, "{removed}");
    }
    assert_eq!((removed, keyspace.figures().keys), (500, 1_500));
    assert_eq!(keyspace.expire(NOW + 501, 10_000), 0);
    assert_eq!(keyspace.expire(NOW + 5_000, 10_000), 500);
    assert_eq!(keyspace.expire(NOW + 5_000, 10_000), 0);
}

#[test]
fn memory_is_counted_and_what_would_take_more_is_refused() {
    let bounds = Bounds { memory_max_bytes: 10_000, ..Bounds::default() };
    let (mut keyspace, mut client) = (Keyspace::new(bounds, 1), Client::new());
    let long = "x".repeat(4_000);
    assert_eq!(client.ask(&mut keyspace, &format!("SET a {long}")), "OK");
    assert_eq!(client.ask(&mut keyspace, &format!("HSET b f {long}")), "1");
    assert_eq!(client.ask(&mut keyspace, &format!("SADD c {long} PX")), "2");
    assert!(keyspace.memory_bytes() > 12_000);
    let refused = client.ask(&mut keyspace, "SET d v");
    assert_eq!(refused, "OOM command not allowed when used memory > \\'maxmemory\\'.");
    assert_eq!(keyspace.figures().refused, 1);
    assert_eq!(client.ask(&mut keyspace, "HGET b f"), long, "reading goes on");
    assert_eq!(client.ask(&mut keyspace, "PEXPIRE a 5"), "1");
    // What has ended makes room.
    client.now_ms += 10;
    assert_eq!(client.ask(&mut keyspace, "SET d v"), "OK");
    for key in ["b", "c", "d"] {
        client.ask(&mut keyspace, &format!("DEL {key}"));
    }
    assert_eq!(keyspace.memory_bytes(), 0);
}

#[test]
fn a_transaction_is_overtaken_by_a_watched_key_that_changes_or_ends() {
    let (mut keyspace, mut one, mut other) = (keyspace(), Client::new(), Client::new());
    let overtaken = |keyspace: &mut Keyspace, one: &mut Client| {
        assert_eq!(one.ask(keyspace, "MULTI"), "OK");
        assert_eq!(one.ask(keyspace, "SET x 1"), "QUEUED");
        one.ask(keyspace, "EXEC")
    };
    for (watched, change, expected) in [
        ("k", "SET k v", "nil"),
        ("k", "GET k", "[OK]"),
        ("k", "HSET k f v", "[OK]"),
        ("k", "SET other v", "[OK]"),
        ("gone", "SET gone v EX 5", "nil"),
        ("gone", "EXPIRE gone 9", "nil"),
        ("gone", "FLUSHDB", "nil"),
        ("never", "FLUSHDB", "[OK]"),
    ] {
        one.ask(&mut keyspace, &format!("WATCH {watched}"));
        other.ask(&mut keyspace, change);
        assert_eq!(overtaken(&mut keyspace, &mut one), expected, "{watched}: {change}");
    }
    // It ends while it is watched.
    other.ask(&mut keyspace, "SET k v PX 5");
    one.ask(&mut keyspace, "WATCH k");
    one.now_ms += 10;
    assert_eq!(overtaken(&mut keyspace, &mut one), "nil");
    // It had ended before.
    other.ask(&mut keyspace, "SET k v PX 5");
    one.ask(&mut keyspace, "WATCH k");
    assert_eq!(one.ask(&mut keyspace, "EXISTS k"), "0");
    assert_eq!(overtaken(&mut keyspace, &mut one), "[OK]");
    // What was watched before is not watched after.
    one.ask(&mut keyspace, "WATCH k");
    one.ask(&mut keyspace, "UNWATCH");
    other.ask(&mut keyspace, "SET k w");
    assert_eq!(overtaken(&mut keyspace, &mut one), "[OK]");
}

#[test]
fn bounds_of_a_transaction_and_of_watching_hold() {
    let bounds = Bounds { queue_max_bytes: 60, watched_max: 2, ..Bounds::default() };
    let (mut keyspace, mut client) = (Keyspace::new(bounds, 1), Client::new());
    assert_eq!(client.ask(&mut keyspace, "WATCH a b a"), "OK");
    assert!(client.ask(&mut keyspace, "WATCH c").starts_with("ERR"));
    client.ask(&mut keyspace, "MULTI");
    assert_eq!(client.ask(&mut keyspace, "SET a 1"), "QUEUED");
    assert_eq!(client.ask(&mut keyspace, "SET b 2"), "QUEUED");
    assert_eq!(client.ask(&mut keyspace, "SET c 3"), "ERR transaction is too large");
    assert!(client.ask(&mut keyspace, "EXEC").starts_with("EXECABORT"));
    assert_eq!(client.ask(&mut keyspace, "EXISTS a b"), "0");
}

#[test]
fn what_was_done_is_told_so_that_it_can_be_done_again() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    keyspace.keep_effects();
    for (words, told) in [
        ("SET k v EX 10", "SELECT 0 SET k v PXAT 1010000"),
        ("SETNX k w", ""),
        ("GET k", ""),
        ("EXPIRE k 20", "SELECT 0 PEXPIREAT k 1020000"),
        ("GETEX k PERSIST", "SELECT 0 PERSIST k"),
        ("SET n 1.5", "SELECT 0 SET n 1.5"),
        ("INCRBYFLOAT n 1", "SELECT 0 SET n 2.5 KEEPTTL"),
        ("HINCRBY h f 2", "SELECT 0 HINCRBY h f 2"),
        ("HINCRBYFLOAT h f 2", "SELECT 0 HSET h f 4"),
        ("HDEL h other", ""),
        ("SADD s a", "SELECT 0 SADD s a"),
        ("SADD s a", ""),
        ("SPOP s", "SELECT 0 SREM s a"),
        ("EXPIRE k 0", "SELECT 0 DEL k"),
        ("SELECT 3", ""),
        ("SET k w PX 5", "SELECT 3 SET k w PXAT 1000005"),
        ("NOSUCH", ""),
    ] {
        client.ask(&mut keyspace, words);
        assert_eq!(told_by(&mut keyspace), told, "{words}");
    }
    client.now_ms += 10;
    client.ask(&mut keyspace, "HINCRBY k lock 1");
    assert_eq!(told_by(&mut keyspace), "SELECT 3 DEL k HINCRBY k lock 1");
    for words in ["MULTI", "SET a 1", "SELECT 0", "SET b 2"] {
        client.ask(&mut keyspace, words);
        assert_eq!(told_by(&mut keyspace), "");
    }
    client.ask(&mut keyspace, "EXEC");
    assert_eq!(told_by(&mut keyspace), "SELECT 3 SET a 1 SELECT 0 SET b 2");
    client.ask(&mut keyspace, "SET a 1 PX 1");
    keyspace.take_effects();
    assert_eq!(keyspace.expire(client.now_ms + 5, 100), 1);
    assert_eq!(told_by(&mut keyspace), "SELECT 0 DEL a");
}

#[test]
fn a_lock_of_a_cache_is_told_as_one() {
    let bounds = Bounds { eviction: Eviction::LeastRecentlyUsed, ..Bounds::default() };
    let (mut keyspace, mut client) = (Keyspace::new(bounds, 1), Client::new());
    keyspace.keep_effects();
    for (words, told) in [
        ("SET k v NX", "SELECT 0 SET k v PARVIS.OWN k"),
        ("SETNX l v", "SELECT 0 SET l v PARVIS.OWN l"),
        ("SET k w", "SELECT 0 SET k w"),
        ("INCRBYFLOAT n 1", "SELECT 0 SET n 1 KEEPTTL PARVIS.OWN n"),
    ] {
        client.ask(&mut keyspace, words);
        assert_eq!(told_by(&mut keyspace), told, "{words}");
    }
}

fn told_by(keyspace: &mut Keyspace) -> String {
    let effects = keyspace.take_effects();
    let text = effects.escape_ascii().to_string();
    let words = text.split("\\r\\n").filter(|part| !part.starts_with(['*', '$']));
    words.collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[test]
fn a_browser_that_was_made_to_speak_is_not_listened_to() {
    for words in ["POST / HTTP/1.1", "host: x", "Post"] {
        let (mut keyspace, mut client) = (keyspace(), Client::new());
        client.ask(&mut keyspace, "MULTI");
        let (session, mut out) = (&mut client.session, BytesMut::new());
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let after = session.execute(&mut keyspace, &Request::pack(&words), NOW, &mut out);
        assert_eq!((after, &out[..]), (After::Refuse, &b""[..]));
    }
}

#[test]
fn replies_that_nobody_wants_are_not_sent() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    assert_eq!(client.raw(&mut keyspace, "CLIENT REPLY SKIP"), "");
    assert_eq!(client.raw(&mut keyspace, "SET k v"), "");
    assert_eq!(client.ask(&mut keyspace, "GET k"), "v");
    assert_eq!(client.raw(&mut keyspace, "CLIENT REPLY OFF"), "");
    assert_eq!(client.raw(&mut keyspace, "GET k"), "");
    assert_eq!(client.raw(&mut keyspace, "NOSUCH"), "");
    assert_eq!(client.ask(&mut keyspace, "CLIENT REPLY ON"), "OK");
    assert_eq!(client.ask(&mut keyspace, "GET k"), "v");
}

#[test]
fn a_client_says_who_it_is_and_leaves() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    assert_eq!(client.ask(&mut keyspace, "CLIENT ID"), "7");
    client.ask(&mut keyspace, "HELLO 3 SETNAME shop");
    assert_eq!(client.session.protocol(), Protocol::Resp3);
    assert!(client.ask(&mut keyspace, "CLIENT INFO").contains("id=7 name=shop db=0"));
    assert!(client.ask(&mut keyspace, "INFO memory").contains("maxmemory:268435456"));
    assert!(client.ask(&mut keyspace, "CONFIG GET MAX*").contains("noeviction"));
    assert_eq!(client.ask(&mut keyspace, "TIME"), "[1000 0]");
    assert_eq!(client.ask(&mut keyspace, "COMMAND INFO get nosuch").matches("get").count(), 1);
    let mut out = BytesMut::new();
    let quit = Request::pack(&[b"QUIT"]);
    assert_eq!(client.session.execute(&mut keyspace, &quit, NOW, &mut out), After::Close);
    assert_eq!(out, "+OK\r\n");
}

#[test]
fn scripts_are_refused_in_a_way_that_clients_understand() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    assert!(client.ask(&mut keyspace, "EVALSHA abc 0").starts_with("NOSCRIPT "));
    assert!(client.ask(&mut keyspace, "EVAL return 0").starts_with("NOLUA This server has no Lua"));
    assert!(client.ask(&mut keyspace, "SCRIPT LOAD x").starts_with("NOLUA This server has no Lua"));
    assert_eq!(keyspace.figures().refused_scripts, 2);
    assert_eq!(keyspace.take_refused_script().map(|sha1| sha1.len()), Some(40));
    assert_eq!(keyspace.take_refused_script(), None);
}

#[test]
fn a_portrait_makes_the_same_again() {
    let (mut keyspace, mut client) = (keyspace(), Client::new());
    for number in 0..1_200 {
        client.ask(&mut keyspace, &format!("HSET h f{number} {number}"));
        client.ask(&mut keyspace, &format!("SADD s m{number}"));
    }
    client.ask(&mut keyspace, "SET t text PX 500");
    let mut out = BytesMut::new();
    for place in 0..keyspace.len(0) {
        keyspace.portrait(0, place, &mut out);
    }
    let (mut copy, mut session) = (self::keyspace(), Session::new(0));
    let limits = crate::resp::Limits {
        inline_max_bytes: 1_000,
        bulk_max_bytes: 1_000,
        arguments_max: 2_000,
        request_max_bytes: 1 << 20,
    };
    let mut state = crate::resp::ReadState::default();
    while let Some(request) =
        crate::resp::read_request(&mut out, &limits, &mut state).expect("commands")
    {
        session.execute(&mut copy, &request, 0, &mut BytesMut::new());
    }
    for words in ["HGETALL h", "SMEMBERS s", "GET t", "PEXPIRETIME t", "DBSIZE"] {
        assert_eq!(client.ask(&mut copy, words), client.ask(&mut keyspace, words));
    }
}

#[test]
fn a_short_command_does_not_make_a_reply_without_end() {
    let bounds = Bounds { reply_max_bytes: 10_000, ..Bounds::default() };
    let (mut keyspace, mut client) = (Keyspace::new(bounds, 1), Client::new());
    let long = "x".repeat(4_000);
    client.ask(&mut keyspace, &format!("SET k {long}"));
    client.ask(&mut keyspace, &format!("HSET h f {long}"));
    client.ask(&mut keyspace, &format!("HSET g {long} v"));
    client.ask(&mut keyspace, &format!("SADD s {long}"));
    for (words, more) in [
        ("MGET k k", " k k"),
        ("HMGET h f f", " f f"),
        ("SRANDMEMBER s -2", "0"),
        ("HRANDFIELD g -2", "0"),
    ] {
        assert!(client.ask(&mut keyspace, words).contains(&long), "{words}");
        let reply = client.ask(&mut keyspace, &format!("{words}{more}"));
        assert_eq!(reply, "ERR reply is too large", "{words}");
    }
    for words in ["MULTI", "GET k", "GET k", "GET k", "INCR n"] {
        client.ask(&mut keyspace, words);
    }
    let reply = client.ask(&mut keyspace, "EXEC");
    assert_eq!(reply, format!("[{long} {long} ERR reply is too large 1]"));
}
