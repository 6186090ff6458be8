//! The store of a single server: its process is killed, and its disk is full.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parvis::clock::Clock;
use parvis::keyspace::Bounds;
use parvis::resp::{Request, Value};
use parvis::sessions::embedded::Embedded;

use crate::support::process::wait_until;
use crate::support::tiny::Tiny;

const PATIENCE: Duration = Duration::from_mins(1);

fn open(directory: &Path) -> Arc<Embedded> {
    let path = directory.join("sessions.journal");
    Embedded::open(&path, Bounds::default(), &Clock::system()).expect("opened")
}

fn ask(store: &Embedded, words: &[&str]) -> Value {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    store.ask(0, Request::pack(&words).raw())
}

#[test]
fn a_full_disk_is_told_commands_go_on_and_all_is_written_when_there_is_room() {
    let Some(tiny) = Tiny::mount() else {
        println!("skipped: no right to mount a file system");
        return;
    };
    let ballast = tiny.path().join("ballast");
    std::fs::write(&ballast, vec![0; 700 << 10]).expect("written");
    let store = open(tiny.path());
    let value = "x".repeat(10_000);
    for number in 0..40 {
        let key = format!("sess_{number}");
        assert_eq!(ask(&store, &["HSET", &key, "data", &value]), Value::Integer(1));
    }
    let figures = store.figures();
    assert!(figures.is_behind && figures.failures > 0, "{figures:?}");
    assert_eq!(figures.keys, 40, "what the disk does not take is in memory");
    assert_eq!(ask(&store, &["HGET", "sess_39", "data"]), Value::Bulk(value.clone().into()));
    std::fs::remove_file(&ballast).expect("removed");
    wait_until("a whole journal", PATIENCE, || !store.figures().is_behind);
    ask(&store, &["SET", "after", "v"]);
    store.close();
    let again = open(tiny.path());
    assert_eq!(again.figures().keys, 41);
    assert_eq!(ask(&again, &["HGET", "sess_39", "data"]), Value::Bulk(value.into()));
    assert_eq!(ask(&again, &["GET", "after"]), Value::Bulk("v".into()));
    again.close();
}

const DIRECTORY: &str = "PARVIS_TEST_JOURNAL";
const SESSIONS: u64 = 50;

/// Counts up in many sessions, and says each number once it was acknowledged.
#[test]
#[ignore = "another test runs it, and kills it"]
fn a_writer() {
    let directory = std::env::var_os(DIRECTORY).expect("the other test's");
    let store = open(Path::new(&directory));
    let mut out = std::io::stdout();
    let data = "x".repeat(3_000);
    for number in next_of(&store).. {
        let key = format!("sess_{}", number % SESSIONS);
        let number = number.to_string();
        ask(&store, &["HSET", &key, "number", &number, "data", &data]);
        ask(&store, &["SET", "next", &number]);
        writeln!(out, "\nacknowledged {number}").expect("written");
    }
}

fn next_of(store: &Embedded) -> u64 {
    match ask(store, &["GET", "next"]) {
        Value::Bulk(text) => String::from_utf8_lossy(&text).parse::<u64>().expect("a number") + 1,
        _ => 0,
    }
}

#[test]
fn what_was_acknowledged_survives_the_kill_of_its_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = std::env::current_exe().expect("this program");
    let (_, module) = module_path!().split_once("::").expect("in the crate");
    let writer = format!("{module}::a_writer");
    let mut acknowledged = 0;
    for round in 0..8 {
        let mut child = Command::new(&program)
            .args(["--exact", &writer, "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let enough = acknowledged + 500 + round * 37;
        let mut is_killed = false;
        for line in lines.map_while(Result::ok) {
            let Some(number) = line.strip_prefix("acknowledged ") else { continue };
            acknowledged = number.parse().expect("a number");
            // What it says until it is dead was acknowledged, too.
            if acknowledged >= enough && !is_killed {
                child.kill().expect("it lives");
                is_killed = true;
            }
        }
        child.wait().expect("ended");
        assert!(is_killed, "it ended by itself");
        let store = open(directory.path());
        assert!(next_of(&store) > acknowledged, "{} {acknowledged}", next_of(&store));
        for back in 0..SESSIONS {
            let number = acknowledged - back;
            let Value::Bulk(text) =
                ask(&store, &["HGET", &format!("sess_{}", number % SESSIONS), "number"])
            else {
                panic!("{number} is gone")
            };
            let found: u64 = String::from_utf8_lossy(&text).parse().expect("a number");
            assert!(found >= number, "{found} in place of {number}");
        }
        store.close();
    }
}
