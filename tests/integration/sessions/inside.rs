//! A server without a Redis keeps the sessions itself.

use std::time::Duration;

use super::{Client, packed, text};
use parvis::sessions::throwaway::Mint;

use crate::restart::{Successors, first_ends};
use crate::support::Parvis;
use crate::support::process::{free_port, wait_until};

/// By which a test mints ids of throwaway sessions as the node does.
const SECRET: &str = "a secret of more than thirty-two letters";

fn node(directory: &std::path::Path) -> (Parvis, u16) {
    let port = free_port();
    let journal = directory.join("sessions.journal");
    let parvis = Parvis::before_http(free_port())
        .with("sessions.listen", &format!("\"127.0.0.1:{port}\""))
        .with("fleet.secret", &format!("\"{SECRET}\""))
        .with("sessions.journal", &format!("\"{}\"", journal.display()))
        .start();
    (parvis, port)
}

#[test]
fn sessions_are_there_again_after_a_kill_and_a_second_try_for_a_lock_waits_for_the_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let (parvis, port) = node(directory.path());
    let mut one = Client::connect(port);
    assert_eq!(one.ask("SELECT 2"), "+OK");
    assert_eq!(one.ask("HINCRBY sess_a lock 1"), ":1");
    assert_eq!(one.ask("HMSET sess_a data hello lock 1 pid host|1"), "+OK");
    let mut other = Client::connect(port);
    assert_eq!(other.ask("SELECT 2"), "+OK");
    other.send(&packed("HINCRBY sess_a lock 1"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(one.ask("HMSET sess_a data bye lock 0"), "+OK");
    assert_eq!(text(&other.reply().expect("a reply")), ":1", "it was its turn");
    assert!(one.ask("HELLO 3").starts_with("%7|"));
    assert!(one.ask("FLUSHALL").starts_with("-ERR parvis: "));
    parvis.process.signal("KILL");
    drop(parvis);
    let (_parvis, port) = node(directory.path());
    let mut one = Client::connect(port);
    assert_eq!(one.ask("SELECT 2"), "+OK");
    assert_eq!(one.ask("HMGET sess_a data pid"), "*2|$3|bye|$6|host|1");
}

#[test]
fn nothing_is_done_of_what_a_browser_was_made_to_send() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_parvis, port) = node(directory.path());
    let mut browser = Client::connect(port);
    browser.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n");
    assert_eq!(browser.reply(), None);
    assert_eq!(Client::connect(port).ask("GET k"), "$-1");
}

#[test]
fn a_process_that_takes_over_has_what_the_one_before_had() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut successors = Successors::new();
    let (mut parvis, port) = node(directory.path());
    let mut old = Client::connect(port);
    assert_eq!(old.ask("SET a 1"), "+OK");
    successors.restart(&parvis);
    let mut new = Client::connect(port);
    wait_until("it is served", Duration::from_secs(10), || new.ask("GET a") == "$1|1");
    drop(old);
    first_ends(&mut parvis);
}

#[test]
fn a_command_on_a_throwaway_session_is_part_of_the_transaction_in_which_it_stands() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_parvis, port) = node(directory.path());
    let mut client = Client::connect(port);
    let take = format!("HINCRBY sess_{} lock 1", Mint::new(SECRET).id());
    assert_eq!(client.ask(&take), ":1");
    assert_eq!(client.ask(&take), ":1", "it keeps nothing");
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask(&take), "+QUEUED");
    assert_eq!(client.ask("EXEC"), "*1|:1");
}
