//! The store of a single server, on a disk that is full.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parvis::clock::Clock;
use parvis::keyspace::Bounds;
use parvis::resp::{Request, Value};
use parvis::sessions::embedded::Embedded;

use crate::support::process::wait_until;

const PATIENCE: Duration = Duration::from_mins(1);

/// A file system of a megabyte.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(directory.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn open(tiny: &Tiny) -> Arc<Embedded> {
    let path = tiny.0.path().join("sessions.journal");
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
    let ballast = tiny.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 700 << 10]).expect("written");
    let store = open(&tiny);
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
    let again = open(&tiny);
    assert_eq!(again.figures().keys, 41);
    assert_eq!(ask(&again, &["HGET", "sess_39", "data"]), Value::Bulk(value.into()));
    assert_eq!(ask(&again, &["GET", "after"]), Value::Bulk("v".into()));
    again.close();
}
