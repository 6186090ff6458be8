//! Restarts that come to nothing.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::origin::{Origin, page};
use super::super::support::process::{self, wait_until};
use super::super::support::{Parvis, get, request};
use super::{Successors, restart, text};

fn started(key: &str, value: &str) -> (Parvis, Origin) {
    let origin = Origin::always(page("content", "t"));
    let parvis = Parvis::before_http(origin.port).with(key, value).start();
    (parvis, origin)
}

fn fails(parvis: &mut Parvis, reason: &str) {
    let output = restart(parvis);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(reason), "{said}");
    assert!(!parvis.process.has_ended());
    assert_eq!(parvis.get("/p", &[]).text(), "content");
    assert_eq!(parvis.get("/.parvis/ready", &[]).status, 200);
}

#[test]
fn a_wrong_configuration_or_an_address_in_use_is_said_and_the_old_process_goes_on() {
    let (mut parvis, _origin) = started("lifecycle.drain", "\"0s\"");
    let mut successors = Successors::new();
    let right = std::fs::read_to_string(parvis.config_path()).expect("readable");
    let write = |path: &std::path::Path, text: &str| std::fs::write(path, text).expect("written");
    let path = parvis.config_path();
    write(&path, &right.replace("[store]", "[site]\npolicy = \"wordpress\"\n[store]"));
    fails(&mut parvis, "wordpress");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    write(&path, &right.replace("http = [", &format!("http = [\"127.0.0.1:{port}\", ")));
    fails(&mut parvis, &format!("listen.http = 127.0.0.1:{port}: address already in use"));
    write(&path, &right);
    successors.restart(&parvis);
}

/// Puts a pipe in the configuration's place: who reads it waits for who writes it.
fn put_a_pipe(parvis: &Parvis) -> String {
    let path = parvis.config_path();
    let text = std::fs::read_to_string(&path).expect("readable");
    std::fs::remove_file(&path).expect("removed");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    text
}

#[test]
fn a_new_process_that_takes_too_long_is_ended() {
    let (mut parvis, _origin) = started("lifecycle.restart_timeout", "\"1s\"");
    put_a_pipe(&parvis);
    fails(&mut parvis, "did not serve within 1 s");
}

#[test]
fn a_restart_while_another_is_under_way_is_refused() {
    let (mut parvis, _origin) = started("lifecycle.drain", "\"0s\"");
    let configuration = put_a_pipe(&parvis);
    let control = parvis.control;
    let first = thread::spawn(move || request(control, "POST", "/restart", &[], b""));
    wait_until("the first", Duration::from_secs(5), || parvis.stderr().contains("was started"));
    fails(&mut parvis, "a restart is under way");
    let second = request(control, "POST", "/restart", &[], b"");
    assert_eq!(second.status, 409, "{}", second.text());
    std::fs::write(parvis.config_path(), configuration).expect("the first reads it");
    let told = first.join().expect("an answer").text();
    let last: serde_json::Value =
        serde_json::from_str(told.lines().last().expect("a line")).expect("JSON");
    let process = last["process"].as_u64().unwrap_or_else(|| panic!("{told}"));
    let _successors = Successors(vec![u32::try_from(process).expect("an id")]);
    assert_eq!(parvis.get("/p", &[]).text(), "content");
}

#[test]
fn told_to_stop_during_a_restart_it_ends_the_new_process_and_itself() {
    let (mut parvis, _origin) = started("lifecycle.drain", "\"0s\"");
    put_a_pipe(&parvis);
    parvis.process.signal("USR2");
    wait_until("the start", Duration::from_secs(5), || parvis.stderr().contains("was started"));
    parvis.process.signal("TERM");
    assert_eq!(parvis.process.wait(Duration::from_secs(8)), Some(0), "{}", parvis.stderr());
    assert!(parvis.stderr().contains("the new process is ended"), "{}", parvis.stderr());
}

#[test]
fn where_the_new_process_dies_while_the_old_one_leaves_the_old_one_serves_again() {
    let origin = Origin::start(|seen, stream| {
        if seen.target == "/slow" {
            thread::sleep(Duration::from_secs(3));
        }
        let _ = stream.write_all(&page("content", "t"));
    });
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"20s\"").start();
    let mut successors = Successors::new();
    let port = parvis.port;
    let slow = thread::spawn(move || get(port, "/slow", &[]));
    wait_until("the slow fetch", Duration::from_secs(10), || origin.count() == 1);
    let id = successors.restart(&parvis);
    process::signal(id, "KILL");
    wait_until("the old one", Duration::from_secs(10), || {
        parvis.stderr().contains("this one serves again")
    });
    assert_eq!(Client::connect(port).ask("GET", "/p", &[], b"").text(), "content");
    assert_eq!(slow.join().expect("a response").text(), "content");
    assert!(!parvis.process.has_ended());
    successors.restart(&parvis);
    assert_eq!(parvis.get("/p", &[]).text(), "content");
}
