//! The tests' own session handler (`tests/php/session.php`) says what Magento's was recorded to say, byte for byte. So
//! what the other tests show with it holds for Magento's.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::super::support::corpus::{Connection, connections};
use super::super::support::redis::Redis;

#[test]
fn a_new_guests_session_is_made_as_recorded() {
    says_what_was_recorded("guest-first-page", 0, &[]);
}

#[test]
fn a_second_page_reads_and_writes_as_recorded() {
    says_what_was_recorded("guest-second-page", 0, &[]);
    says_what_was_recorded("guest-add-to-cart", 0, &[("AGENT", "Mozilla/5.0")]);
}

#[test]
fn a_bots_session_lives_for_as_long_as_recorded() {
    says_what_was_recorded(
        "bot",
        0,
        &[("AGENT", "Googlebot/2.1 (+http://www.google.com/bot.html)")],
    );
}

#[test]
fn a_second_comer_counts_itself_and_tries_again_as_recorded() {
    let told = says_what_was_recorded("two-concurrent-same-session", 1, &[]);
    assert_eq!((&told["tries"], &told["locked"]), (&2.into(), &true.into()), "{told}");
}

#[test]
fn a_stale_lock_is_broken_as_recorded() {
    let told = says_what_was_recorded("stale-lock-dead-pid", 0, &[]);
    assert_eq!((&told["tries"], &told["broke"]), (&11.into(), &true.into()), "{told}");
}

#[test]
fn a_session_is_ended_as_recorded() {
    says_what_was_recorded("logout", 0, &[("DESTROY", "1")]);
}

#[test]
fn one_too_many_leaves_after_its_second_try() {
    let redis = Redis::start();
    redis.ask(&["-n", "2", "hset", "sess_a", "lock", "1", "wait", "6", "pid", "other|1"]);
    let told = told_by(begin(&redis.socket(), &[("ID", "a")]));
    assert_eq!(told["error"], "too many wait", "{told}");
    assert_eq!(redis.ask(&["-n", "2", "hmget", "sess_a", "lock", "wait"]), "3\n6");
}

#[test]
fn who_waits_too_long_goes_on_and_writes_nothing() {
    let redis = Redis::start();
    redis.ask(&["-n", "2", "hset", "sess_a", "lock", "1", "pid", "other|1"]);
    let knobs = [("ID", "a"), ("BREAK_AFTER", "2"), ("FAIL_AFTER", "-1")];
    let told = told_by(begin(&redis.socket(), &knobs));
    assert_eq!((&told["tries"], &told["locked"]), (&2.into(), &false.into()), "{told}");
    assert_eq!(redis.ask(&["-n", "2", "hmget", "sess_a", "lock", "wait", "data"]), "3\n0");
}

#[test]
fn a_reader_takes_no_lock_and_writes_nothing() {
    let redis = Redis::start();
    let told = told_by(begin(&redis.socket(), &[("ID", "a"), ("READ_ONLY", "1")]));
    assert_eq!((&told["tries"], &told["locked"]), (&0.into(), &false.into()), "{told}");
    assert_eq!(redis.ask(&["-n", "2", "exists", "sess_a"]), "0");
}

/// Runs the handler against a server that knows the recorded connection alone. Gives what the script told.
fn says_what_was_recorded(file: &str, at: usize, knobs: &[(&str, &str)]) -> Value {
    let recorded = connections(file).swap_remove(at);
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("store.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let data = directory.path().join("data");
    std::fs::write(&data, recorded.written()).expect("written");
    let key = recorded.commands[1][1].as_str().expect("the session's key");
    let said = recorded.commands.iter().find(|command| command[0] == "HMSET").expect("a lock");
    let said = |at: usize| said[at].as_str().expect("text");
    let mut all = vec![("ID", key.trim_start_matches("sess_")), ("PID", said(3)), ("REQ", said(7))];
    let data = data.display().to_string();
    all.push(("DATA", &data));
    all.extend_from_slice(knobs);
    let child = begin(&socket, &all);
    follow(listener.accept().expect("a client").0, &recorded);
    told_by(child)
}

/// Plays the server's part, and compares each piece of the client's.
fn follow(mut stream: UnixStream, recorded: &Connection) {
    let (mut asked, mut answered) = (0, 0);
    for &(client, bytes) in &recorded.chunks {
        if client {
            let expected = &recorded.client[asked..asked + bytes];
            let mut came = vec![0; bytes];
            stream.read_exact(&mut came).expect("as many bytes as were recorded");
            assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(expected));
            asked += bytes;
        } else {
            stream.write_all(&recorded.server[answered..answered + bytes]).expect("sent");
            answered += bytes;
        }
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    assert_eq!(String::from_utf8_lossy(&rest), "", "it says no more than was recorded");
}

fn begin(socket: &Path, knobs: &[(&str, &str)]) -> Child {
    let mut command = Command::new("php");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/session.php"));
    command.env("SESSION_STORE", format!("unix:{}", socket.display()));
    command.envs(knobs.iter().map(|(name, value)| (format!("SESSION_{name}"), value)));
    command.stdout(Stdio::piped()).spawn().expect("PHP")
}

fn told_by(child: Child) -> Value {
    let output = child.wait_with_output().expect("PHP ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}
