//! All kinds of listening sockets are taken over, and what the configuration adds or drops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::super::support::client::Client;
use super::super::support::origin::{Origin, page};
use super::super::support::process::{Process, free_port, wait_until};
use super::super::support::{Parvis, get, request};
use super::{Successors, first_ends};

fn over_unix(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream
        .write_all(b"GET /p HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    text
}

#[test]
fn unix_sockets_are_taken_over_and_addresses_come_and_go_with_the_configuration() {
    let origin = Origin::always(page("content", "t"));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("http.sock");
    let (kept, dropped, added) = (free_port(), free_port(), free_port());
    let http = |ports: [u16; 2]| {
        let [a, b] = ports.map(|port| format!("\"127.0.0.1:{port}\""));
        format!("[{a}, {b}, \"unix:{}\"]", path.display())
    };
    let before = http([kept, dropped]);
    let mut parvis = Parvis::before_http(origin.port).with("listen.http", &before).start_at(kept);
    let mut successors = Successors::new();
    assert!(over_unix(&path).contains("\r\ncontent"));
    let text = std::fs::read_to_string(parvis.config_path()).expect("readable");
    let after = text.replace(&before, &http([added, kept]));
    assert_ne!(after, text);
    std::fs::write(parvis.config_path(), after).expect("written");
    successors.restart(&parvis);
    first_ends(&mut parvis);
    for port in [kept, added] {
        assert_eq!(get(port, "/p", &[]).text(), "content");
    }
    assert!(over_unix(&path).contains("\r\ncontent"));
    wait_until("the end of the dropped one", Duration::from_secs(5), || {
        TcpStream::connect(("127.0.0.1", dropped)).is_err()
    });
    // And once more, from a process that has itself taken over.
    successors.restart(&parvis);
    assert!(over_unix(&path).contains("\r\ncontent"));
    assert_eq!(get(added, "/p", &[]).text(), "content");
}

#[test]
fn a_signal_restarts_it_too_and_systemd_learns_of_the_new_main_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let (port, control) = (free_port(), free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
    command
        .arg("run")
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .env("WATCHDOG_USEC", "400000")
        .env("PARVIS__LISTEN__HTTP", format!("127.0.0.1:{port}"))
        .env("PARVIS__LISTEN__CONTROL", format!("127.0.0.1:{control}"))
        .env("PARVIS__HEALTH__PROBE", "")
        .env("PARVIS__LIFECYCLE__DRAIN", "1s");
    let mut process = Process::start(&mut command, &directory.path().join("output"));
    let told = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    while !told().contains("READY=1") {}
    let mut kept = Client::connect(port);
    assert_eq!(kept.ask("GET", "/.parvis/ready", &[], b"").status, 200);
    process.signal("USR2");
    let main = loop {
        let message = told();
        assert!(!message.contains("READY=1"), "the new one is not the main process yet");
        if let Some(id) = message.strip_prefix("MAINPID=") {
            break id.trim().parse().expect("an id");
        }
    };
    let _successors = Successors(vec![main]);
    let mut after = Vec::new();
    while !after.iter().any(|message: &String| message.contains("READY=1")) {
        after.push(told());
    }
    assert_eq!(process.wait(Duration::from_secs(10)), Some(0));
    for _ in 0..3 {
        // The new one must keep the watchdog, though it was not started by systemd.
        while !told().contains("WATCHDOG=1") {}
    }
    assert!(!after.iter().any(|message| message.contains("STOPPING")), "{after:?}");
    assert_eq!(request(port, "GET", "/.parvis/ready", &[], b"").status, 200);
    assert_eq!(get(control, "/ready", &[]).status, 200);
}

#[test]
fn a_restart_runs_the_program_that_is_at_its_path_by_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let (program, seen) = (directory.path().join("parvis"), directory.path().join("seen"));
    let installed = env!("CARGO_BIN_EXE_parvis");
    std::os::unix::fs::symlink(installed, &program).expect("a link");
    let (port, control) = (free_port(), free_port());
    let mut command = Command::new(&program);
    command
        .arg("run")
        .env("PARVIS__LISTEN__HTTP", format!("127.0.0.1:{port}"))
        .env("PARVIS__LISTEN__CONTROL", format!("127.0.0.1:{control}"))
        .env("PARVIS__HEALTH__PROBE", "")
        .env("PARVIS__LIFECYCLE__DRAIN", "0s");
    let mut process = Process::start(&mut command, &directory.path().join("output"));
    let ready = || {
        TcpStream::connect(("127.0.0.1", control)).is_ok()
            && get(control, "/ready", &[]).status == 200
    };
    wait_until("the start", Duration::from_secs(10), ready);
    // An upgrade: another file takes the place of the one that runs.
    let next = directory.path().join("next");
    let script = format!("#!/bin/sh\necho $$ > {}\nexec {installed} \"$@\"\n", seen.display());
    std::fs::write(&next, script).expect("written");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&next, all).expect("set");
    std::fs::rename(&next, &program).expect("renamed");
    let told = request(control, "POST", "/restart", &[], b"");
    assert!(told.text().contains("\"done\":true"), "{}", told.text());
    let id = std::fs::read_to_string(&seen).expect("the new program has run");
    let _successors = Successors(vec![id.trim().parse().expect("an id")]);
    assert_eq!(process.wait(Duration::from_secs(10)), Some(0));
    assert_eq!(get(port, "/.parvis/ready", &[]).status, 200);
}
