//! What Magento was recorded to send has the replies of redis-server.

use std::path::Path;

use parvis::resp::Value;

use super::scripts::{SAVE, own_lua};
use super::{Connection, Kept};
use crate::keyspace::compare::{Compare, are_equal};
use crate::support::redis::Redis;

/// The pages, saves and cleans in the order in which they were recorded.
const STEPS: [&str; 12] = [
    "cold-home-after-flushall",
    "cold-category",
    "cold-product",
    "warm-home",
    "warm-category",
    "warm-product",
    "warm-section-load",
    "warm-esi-topnav",
    "product-save-rest",
    "category-save-rest",
    "home-after-clean-config",
    "warm-home",
];

/// An argument as it was, or one of that length.
fn word(value: &serde_json::Value) -> Vec<u8> {
    if let Some(text) = value.as_str() {
        return text.as_bytes().to_vec();
    }
    let bytes = value["bytes"].as_u64().expect("a length");
    let id = value["id"].as_str().expect("an id");
    id.bytes().cycle().take(usize::try_from(bytes).expect("fits")).collect()
}

fn connections(file: &str) -> Vec<Vec<Vec<Vec<u8>>>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/objects");
    let text = std::fs::read_to_string(corpus.join(file)).expect("the corpus has it");
    let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    lines
        .map(|line| {
            let line = line.expect("JSON");
            let commands = line["commands"].as_array().expect("a list").iter();
            commands
                .map(|words| words.as_array().expect("a list").iter().map(word).collect())
                .collect()
        })
        .collect()
}

/// What goes to each: of the text of a script the recording has the length alone, and the real Redis
/// gets one of ours that does the same.
fn for_both(words: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut ours, mut theirs) = (words.to_vec(), words.to_vec());
    if words[0].starts_with(b"EVAL") {
        if words[0] == b"EVAL" {
            (ours[0], ours[1]) = (b"EVALSHA".to_vec(), SAVE.as_bytes().to_vec());
        }
        let sha1 = String::from_utf8(ours[1].clone()).expect("text");
        (theirs[0], theirs[1]) = (b"EVAL".to_vec(), own_lua(&sha1).as_bytes().to_vec());
    }
    (ours, theirs)
}

fn replay(file: &str, ours: &mut Connection, theirs: &mut Connection) -> (usize, usize) {
    let (mut commands, mut there) = (0, 0);
    for words in connections(file).concat() {
        let (to_us, to_them) = for_both(&words);
        let (one, other) = (ours.ask(&to_us), theirs.ask(&to_them));
        let shown = words.iter().take(3).map(|word| word.escape_ascii().to_string());
        let shown: Vec<String> = shown.collect();
        assert!(
            are_equal(Compare::Unordered, &one, &other),
            "{file}: {shown:?}\n{one:?}\n{other:?}"
        );
        assert!(!matches!(one, Value::Error(_)), "{file}: {shown:?} {one:?}");
        commands += 1;
        there += usize::from(matches!(&one, Value::Bulk(value) if !value.is_empty()));
    }
    (commands, there)
}

#[test]
fn recorded_page_views_saves_and_cleans_have_the_replies_of_redis() {
    let (kept, redis) = (Kept::start(&[]), Redis::start());
    for variant in ["lua0", "lua1"] {
        let (mut ours, mut theirs) = (kept.connect(), Connection::to(&redis.socket()));
        let (mut commands, mut there) = (0, 0);
        for step in STEPS {
            let counts = replay(&format!("{variant}-{step}.jsonl"), &mut ours, &mut theirs);
            (commands, there) = (commands + counts.0, there + counts.1);
            assert_eq!(ours.say("DBSIZE"), theirs.say("DBSIZE"), "{variant}-{step}");
        }
        assert!(commands > 2_000 && there > 1_000, "{commands} commands, {there} found something");
        assert_eq!(ours.contents(), theirs.contents());
        let last = ["lua0-cli-cache-clean-config.jsonl", "lua0-cli-cache-flush.jsonl"];
        for file in last {
            replay(file, &mut ours, &mut theirs);
            assert_eq!(ours.contents(), theirs.contents());
        }
        for connection in [&mut ours, &mut theirs] {
            connection.say("FLUSHALL");
        }
    }
}

#[test]
fn the_largest_value_of_the_recordings_comes_back_whole() {
    let kept = Kept::start(&[]);
    let value: Vec<u8> = (0..1_200_000_u32).map(|at| (at % 251) as u8).collect();
    let mut connection = kept.connect();
    for round in 0..20 {
        let key = format!("zc:k:{round}").into_bytes();
        let words = [&b"HMSET"[..], &key, b"d", &value];
        assert_eq!(connection.ask(&words), Value::Simple("OK".into()));
        assert_eq!(connection.ask(&[&b"HGET"[..], &key, b"d"]), Value::Bulk(value.clone().into()));
    }
    // In one pipeline, whose replies are read once all is sent.
    let ask = b"*3\r\n$4\r\nHGET\r\n$6\r\nzc:k:1\r\n$1\r\nd\r\n".repeat(10);
    connection.send(&ask);
    for _ in 0..10 {
        assert_eq!(connection.reply(), Some(Value::Bulk(value.clone().into())));
    }
}
