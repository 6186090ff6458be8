//! The object cache outlives a stop and a start, on disk: all of it or nothing, and nothing that was cleaned.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parvis::resp::Value;

use super::eviction::values_and_untagged;
use super::{Chance, Connection, Kept};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const PATIENCE: Duration = Duration::from_secs(20);

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

fn start(state: &Path, more: &[(&str, &str)]) -> Kept {
    let directory = quoted(state);
    let own = [("store.snapshot_directory", directory.as_str()), ("store.snapshot_interval", "0")];
    Kept::start(&[&own, more].concat())
}

fn stop(mut kept: Kept) {
    kept.parvis.process.signal("TERM");
    assert_eq!(kept.parvis.process.wait(PATIENCE), Some(0), "{}", kept.parvis.stderr());
}

fn fill(kept: &Kept) {
    let mut connection = kept.connect();
    connection.say("SELECT 2");
    connection.say("HSET zc:k:A d data t x,y");
    connection.say("SADD zc:ti:x A");
    connection.say("SADD zc:ti:y A");
    connection.say("SET later x EX 1000");
    connection.ask(&[&b"SET"[..], b"any", b"\r\n\0\xff $5 *3"]);
}

fn keys(kept: &Kept) -> Value {
    let mut connection = kept.connect();
    connection.say("SELECT 2");
    connection.say("DBSIZE")
}

fn warned(kept: &Kept, words: &str) {
    wait_until(words, PATIENCE, || kept.parvis.stderr().contains(words));
}

#[test]
fn what_was_kept_is_there_again_with_what_is_left_of_its_time() {
    let state = tempfile::tempdir().expect("a directory");
    let first = start(state.path(), &[]);
    fill(&first);
    first.connect().say("SET soon x PX 300");
    stop(first);
    assert!(state.path().join("objects.snapshot").is_file());
    thread::sleep(Duration::from_millis(400));
    let again = start(state.path(), &[]);
    assert_eq!(keys(&again), Value::Integer(5));
    assert_eq!(again.connect().say("DBSIZE"), Value::Integer(0), "it has ended meanwhile");
    let mut connection = again.connect();
    connection.say("SELECT 2");
    assert_eq!(connection.say("HGET zc:k:A d"), Value::Bulk("data".into()));
    assert_eq!(connection.say("SMEMBERS zc:ti:x"), Value::Array(vec![Value::Bulk("A".into())]));
    let any = Value::Bulk((&b"\r\n\0\xff $5 *3"[..]).into());
    assert_eq!(connection.say("GET any"), any);
    let Value::Integer(left) = connection.say("TTL later") else { panic!("a number") };
    assert!((900..=1_000).contains(&left), "{left}");
    assert!(!state.path().join("objects.snapshot").exists(), "it is used once");
}

#[test]
fn after_a_crash_it_begins_empty_since_something_may_have_been_cleaned() {
    let state = tempfile::tempdir().expect("a directory");
    let first = start(state.path(), &[]);
    fill(&first);
    stop(first);
    let second = start(state.path(), &[]);
    assert_eq!(keys(&second), Value::Integer(5));
    second.connect().say("FLUSHALL");
    second.parvis.process.signal("KILL");
    drop(second);
    assert_eq!(keys(&start(state.path(), &[])), Value::Integer(0));
}

#[test]
fn what_was_kept_of_another_release_or_by_a_node_that_was_alone_is_not_used() {
    let (state, redis) = (tempfile::tempdir().expect("a directory"), Redis::start());
    let release = state.path().join("deployed_version.txt");
    std::fs::write(&release, "1700\n").expect("written");
    let settings = [("fleet.release_file", &*quoted(&release))];
    let first = start(state.path(), &settings);
    fill(&first);
    stop(first);
    let file = state.path().join("objects.snapshot");
    let bytes = std::fs::read(&file).expect("kept");
    std::fs::write(&release, "1701\n").expect("written");
    let again = start(state.path(), &settings);
    warned(&again, "it is of release \"1700\", and the release is \"1701\"");
    assert_eq!(keys(&again), Value::Integer(0));
    drop(again);
    std::fs::write(&release, "1700\n").expect("written");
    std::fs::write(&file, bytes).expect("written");
    let url = format!("\"{}\"", redis.url());
    let fleet = [settings[0], ("redis.url", url.as_str()), ("fleet.name", "\"web-1\"")];
    let again = start(state.path(), &fleet);
    warned(&again, "it has no place in the log of this fleet");
    assert_eq!(keys(&again), Value::Integer(0));
}

#[test]
fn of_what_is_not_whole_nothing_is_used() {
    let state = tempfile::tempdir().expect("a directory");
    let first = start(state.path(), &[]);
    fill(&first);
    stop(first);
    let file = state.path().join("objects.snapshot");
    let whole = std::fs::read(&file).expect("kept");
    let mut flipped = whole.clone();
    let middle = flipped.len() - 40;
    flipped[middle] ^= 4;
    for (bytes, words) in [
        (whole[..whole.len() - 20].to_vec(), "before its end"),
        (flipped, "the checksum of record"),
        (b"something".to_vec(), "the object cache begins empty"),
    ] {
        std::fs::write(&file, bytes).expect("written");
        let again = start(state.path(), &[]);
        warned(&again, words);
        assert_eq!(keys(&again), Value::Integer(0), "{words}");
        again.parvis.process.signal("KILL");
    }
    std::fs::write(&file, whole).expect("written");
    assert_eq!(keys(&start(state.path(), &[])), Value::Integer(5));
}

/// Saves and cleans as Magento's backend does without Lua, until it is told to stop or the server is gone.
fn save_and_clean(socket: &Path, number: usize, stop: &AtomicBool) {
    let mut chance = Chance(number as u64 + 1);
    let mut connection = Connection::to(socket);
    let data = "x".repeat(3_000);
    while !stop.load(Ordering::Relaxed) {
        let at = chance.below(3_000);
        let (key, tag) = (format!("zc:k:{at}"), format!("T{}", at % 300));
        let other = format!("T{}", chance.below(300));
        let mut commands = Vec::new();
        if chance.below(100) > 0 {
            commands.push(vec!["HMSET", &key, "d", &data, "t", &tag]);
        } else {
            commands.push(vec!["EVALSHA", super::scripts::CLEAN, "1", &other]);
            commands[0].extend(["zc:ti:", "zc:k:", "zc:tags", "zc:ids", "0", "5000"]);
        }
        let (set, id) = (format!("zc:ti:{tag}"), at.to_string());
        if commands[0][0] == "HMSET" {
            commands.push(vec!["SADD", &set, &id]);
        }
        // In one transaction, as the backend does.
        let mut bytes = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
        for words in &commands {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            bytes.extend_from_slice(parvis::resp::Request::pack(&words).raw());
        }
        bytes.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        if std::io::Write::write_all(&mut connection.stream, &bytes).is_err() {
            return;
        }
        for _ in 0..commands.len() + 2 {
            if connection.reply().is_none() {
                return;
            }
        }
    }
}

#[test]
fn a_snapshot_while_clients_write_has_no_value_that_its_tag_does_not_name() {
    let state = tempfile::tempdir().expect("a directory");
    for round in 0..3 {
        let kept = start(state.path(), &[("objects.request_max", "\"8MiB\"")]);
        let (_, untagged) = values_and_untagged(&kept.socket());
        assert_eq!(untagged, 0, "after stop {round}");
        let stopping = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|number| {
                let (socket, stopping) = (kept.socket(), Arc::clone(&stopping));
                thread::spawn(move || save_and_clean(&socket, number + round * 3, &stopping))
            })
            .collect();
        wait_until("values", PATIENCE, || kept.metric("keys") > 1_000.0);
        stop(kept);
        stopping.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().expect("it ends well");
        }
    }
    let kept = start(state.path(), &[]);
    let (values, untagged) = values_and_untagged(&kept.socket());
    assert!(values > 500 && untagged == 0, "{values} values, {untagged} untagged");
}
