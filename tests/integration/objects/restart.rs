//! A restart that hands over: connections go on, and there is one set of objects, which goes over.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parvis::resp::Value;

use super::{Chance, Connection, Kept};
use crate::restart::Successors;

fn ok() -> Value {
    Value::Simple("OK".into())
}

#[test]
fn connections_go_on_over_a_restart_with_all_that_was_kept() {
    let mut kept = Kept::start(&[]);
    let (mut idle, mut amid, mut watching) = (kept.connect(), kept.connect(), kept.connect());
    assert_eq!(idle.say("SELECT 1"), ok());
    assert_eq!(idle.say("SET before x"), ok());
    assert_eq!(idle.say("SET ends x PX 1"), ok());
    assert_eq!(idle.say("SADD tag a b"), Value::Integer(2));
    assert_eq!(amid.say("MULTI"), ok());
    assert_eq!(amid.say("SET queued 1"), Value::Simple("QUEUED".into()));
    assert_eq!(watching.say("WATCH queued"), ok());
    let mut successors = Successors::new();
    successors.restart(&kept.parvis);
    let mut new = kept.connect();
    assert_eq!(new.say("SELECT 1"), ok());
    for connection in [&mut new, &mut idle] {
        assert_eq!(connection.say("GET before"), Value::Bulk("x".into()));
        assert_eq!(connection.say("SCARD tag"), Value::Integer(2));
        assert_eq!(connection.say("GET ends"), Value::Null);
    }
    // What one sees the others see: database and connection went over.
    // It began with the old one: who knows what was cleaned since.
    assert_eq!(idle.say("SET after x"), ok());
    assert_eq!(new.say("GET after"), Value::Null);
    // Nor is what stood there before: it may be older than what came in its place.
    assert_eq!(idle.say("SET before y"), ok());
    assert_eq!(new.say("GET before"), Value::Null);
    // A set may be a tag, whoever's: a value that it has forgotten would outlive its clean.
    assert_eq!(idle.say("SADD tag c"), Value::Integer(1));
    assert_eq!(new.say("SCARD tag"), Value::Integer(3));
    assert_eq!(idle.say("SELECT 1"), ok());
    assert_eq!(idle.say("SET after y"), ok());
    assert_eq!(new.say("GET after"), Value::Bulk("y".into()));
    assert_eq!(new.say("FLUSHDB"), ok());
    assert_eq!(idle.say("GET after"), Value::Null);
    // So did what was begun: it is finished there, as old as it is.
    assert_eq!(amid.say("EXEC"), Value::Array(vec![ok()]));
    assert_eq!(new.say("SELECT 0"), ok());
    assert_eq!(new.say("GET queued"), Value::Null);
    assert_eq!(watching.say("MULTI"), ok());
    assert_eq!(watching.say("SET queued 2"), Value::Simple("QUEUED".into()));
    assert_eq!(watching.say("EXEC"), Value::Null, "it was changed meanwhile");
    assert_eq!(new.say("GET queued"), Value::Null);
    drop((idle, amid, watching));
    crate::restart::first_ends(&mut kept.parvis);
    assert_eq!(new.say("PING"), Value::Simple("PONG".into()));
}

#[test]
fn a_transaction_whose_watched_key_was_changed_is_not_done_after_a_restart_either() {
    let kept = Kept::start(&[]);
    let (mut watching, mut other) = (kept.connect(), kept.connect());
    assert_eq!(watching.say("WATCH k"), ok());
    assert_eq!(watching.say("MULTI"), ok());
    assert_eq!(watching.say("SET done 1"), Value::Simple("QUEUED".into()));
    assert_eq!(other.say("SET k changed"), ok());
    let mut successors = Successors::new();
    successors.restart(&kept.parvis);
    // It is disconnected, or hears that nothing was done.
    let sent = watching.stream.write_all(b"EXEC\r\n");
    assert!(sent.is_err() || matches!(watching.reply(), None | Some(Value::Null)));
    assert_eq!(other.say("GET done"), Value::Null);
}

/// Saves, reads and cleans keys of its own, over kept and new connections. How many values were not there any
/// more, and what else is not as it left it.
fn worker(
    socket: &Path,
    number: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> (usize, Vec<String>) {
    let mut chance = Chance(number as u64 * 7_919 + 1);
    let (mut lost, mut wrong) = (0, Vec::new());
    let mut connection = Connection::to(socket);
    let mut known: Vec<Option<usize>> = vec![None; 50];
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        if chance.below(20) == 0 {
            connection = Connection::to(socket);
        }
        let at = chance.below(known.len());
        let key = format!("w{number}-{at}");
        match chance.below(4) {
            0 => {
                // A connection that was passed on keeps nothing before it begins anew.
                connection.say("SELECT 0");
                let save = format!("HSET {key} d {round} t T{number}");
                connection.say(&save);
                connection.say(&format!("SADD T{number} {key}"));
                known[at] = Some(round);
            }
            1 => {
                connection.say(&format!("DEL {key}"));
                known[at] = None;
            }
            _ => {
                let expected = known[at].map(|it| Value::Bulk(it.to_string().into()));
                let read = connection.say(&format!("HGET {key} d"));
                if read == Value::Null && expected.is_some() {
                    lost += 1;
                    known[at] = None;
                } else if read != expected.clone().unwrap_or(Value::Null) {
                    wrong.push(format!("{key} is {read:?} and not {expected:?}"));
                    known[at] = None;
                }
                if known[at].is_some() {
                    let named = connection.say(&format!("SISMEMBER T{number} {key}"));
                    if named != Value::Integer(1) {
                        wrong.push(format!("{key} is not named by its tag"));
                    }
                }
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    (lost, wrong)
}

#[test]
fn no_clean_is_lost_by_restarts_under_load_and_few_values_are() {
    let kept = Kept::start(&[]);
    let mut filling = kept.connect();
    let value = "x".repeat(2_000);
    for at in 0..5_000 {
        filling.ask(&["SET", &format!("ballast{at}"), &value]);
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|number| {
            let socket: PathBuf = kept.socket();
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || worker(&socket, number, &stop, &done))
        })
        .collect();
    let mut successors = Successors::new();
    for _ in 0..3 {
        let before = done.load(Ordering::Relaxed);
        successors.restart(&kept.parvis);
        // They go on after it.
        while done.load(Ordering::Relaxed) < before + 500 {
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (lost, wrong): (Vec<usize>, Vec<Vec<String>>) =
        workers.into_iter().map(|worker| worker.join().expect("it ends well")).unzip();
    let (lost, wrong) = (lost.iter().sum::<usize>(), wrong.concat());
    // One that is saved amid a restart may be taken for an old one.
    assert!(lost <= 200, "{lost} of {done:?}");
    assert!(wrong.is_empty(), "{} of {done:?}: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert_eq!(kept.connect().say("STRLEN ballast4999"), Value::Integer(2_000));
}
