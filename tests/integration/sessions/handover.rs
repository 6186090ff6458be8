//! A new process takes the store of a single server over, and the clients that are connected with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::queue::told;
use super::{Client, packed, text};
use crate::restart::{Successors, first_ends};
use crate::support::Parvis;
use crate::support::parvis::Builder;
use crate::support::php::Php;
use crate::support::process::{self, free_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A shop on one server without a Redis.
struct Shop {
    parvis: Parvis,
    store: String,
    _php: Php,
    _directory: tempfile::TempDir,
}

impl Shop {
    fn open(with: impl FnOnce(Builder) -> Builder) -> Self {
        let php = Php::with_front_controller("session.php", 8);
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let store = format!("unix:{}", path("session.sock"));
        let builder = Parvis::before_php_with_knobs(&php)
            .with("sessions.listen", &format!("\"{store}\""))
            .with("sessions.mode", "\"0666\"")
            .with("sessions.journal", &format!("\"{}\"", path("journal")));
        let parvis = with(builder).start();
        Self { parvis, store, _php: php, _directory: directory }
    }

    /// Visitors ask, two for each session, with new and with kept connections, while a new process takes over
    /// so many times. Gives how many answers there were, and what was wrong with the first that was.
    fn visits(&self, successors: &mut Successors, restarts: usize) -> (usize, Option<String>) {
        let (ends, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let wrong = Mutex::new(None);
        let all = [(); 3].map(|()| AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..6 {
                let (ends, answered, wrong, all) = (&ends, &answered, &wrong, &all);
                scope.spawn(move || {
                    // PHP is often amid a request, with its lock.
                    let knobs = ["hold=40", "hold=5&persistent=1"][number % 2];
                    let (session, visits) = (format!("visitor{}", number / 2), &all[number / 2]);
                    while !ends.load(Ordering::SeqCst) {
                        let target = format!("/checkout/cart?store={}&{knobs}", self.store);
                        let cookie = format!("PHPSESSID={session}");
                        let ask = || self.parvis.get(&target, &[("Cookie", &cookie)]);
                        let Ok(reply) = catch_unwind(AssertUnwindSafe(ask)) else {
                            let what = "no response".to_owned();
                            wrong.lock().expect("no panic").get_or_insert(what);
                            return;
                        };
                        visits.fetch_add(1, Ordering::SeqCst);
                        answered.fetch_add(1, Ordering::SeqCst);
                        let is_good = reply.status == 200 && {
                            let told = told(&reply);
                            told["locked"] == true
                                && told["written"] == true
                                && told["broke"] == false
                        };
                        if !is_good {
                            let what = format!("{} {}", reply.status, reply.text());
                            wrong.lock().expect("no panic").get_or_insert(what);
                            return;
                        }
                    }
                });
            }
            let more = |wanted: usize| {
                let before = answered.load(Ordering::SeqCst);
                wait_until("more answers", PATIENCE, || {
                    let failed = wrong.lock().expect("no panic").is_some();
                    failed || answered.load(Ordering::SeqCst) >= before + wanted
                });
            };
            more(30);
            for _ in 0..restarts {
                successors.restart(&self.parvis);
                more(60);
            }
            ends.store(true, Ordering::SeqCst);
        });
        let mut wrong = wrong.into_inner().expect("no panic");
        if wrong.is_some() {
            return (answered.into_inner(), wrong);
        }
        for (number, visits) in all.iter().enumerate() {
            let visits = visits.load(Ordering::SeqCst);
            let target = format!("/checkout/cart?store={}", self.store);
            let cookie = format!("PHPSESSID=visitor{number}");
            let last = self.parvis.get(&target, &[("Cookie", &cookie)]);
            if told(&last)["before"] != visits {
                wrong = Some(format!("{visits} visits were acknowledged, not {}", last.text()));
            }
        }
        (answered.into_inner(), wrong)
    }
}

#[test]
fn php_sees_no_error_and_no_write_is_lost_over_restarts() {
    let mut successors = Successors::new();
    let mut shop = Shop::open(|builder| builder.with("lifecycle.deadline", "\"8s\""));
    let (answered, wrong) = shop.visits(&mut successors, 3);
    println!("{answered} requests of PHP over three restarts");
    assert_eq!(wrong, None, "{}", shop.parvis.stderr());
    first_ends(&mut shop.parvis);
}

#[test]
fn a_restart_that_passes_no_clients_on_is_noticed() {
    let Some(binary) = std::env::var_os("PARVIS_FAULTY_BINARY").map(PathBuf::from) else {
        println!("left out: PARVIS_FAULTY_BINARY names no binary of the feature `faulty`");
        return;
    };
    // PHP may just have had no session open.
    let noticed = (0..5).find_map(|_| {
        let mut successors = Successors::new();
        let shop = Shop::open(|builder| builder.faulty(binary.clone(), "clients"));
        shop.visits(&mut successors, 1).1
    });
    println!("without it: {noticed:?}");
    assert!(noticed.is_some());
}

/// A server without PHP, and the port where sessions are.
fn node(directory: &Path, more: &[(&str, &str)]) -> (Parvis, u16) {
    let port = free_port();
    let builder = Parvis::before_http(free_port())
        .with("sessions.listen", &format!("\"127.0.0.1:{port}\""))
        .with("sessions.wait_max", "\"60s\"")
        .with("sessions.hold_max", "\"60s\"")
        .with("sessions.journal", &format!("\"{}\"", directory.join("journal").display()));
    let parvis = more.iter().fold(builder, |builder, (key, value)| builder.with(key, value));
    (parvis.start(), port)
}

fn waiting(parvis: &Parvis) -> bool {
    parvis.metric("parvis_sessions_locks_waiting ") == Some(1.0)
}

#[test]
fn each_client_goes_on_as_what_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut successors = Successors::new();
    let (mut parvis, port) = node(directory.path(), &[("sessions.password", "\"secret\"")]);
    let new = || {
        let mut client = Client::connect(port);
        assert_eq!(client.ask("AUTH secret"), "+OK");
        client
    };
    let mut named = new();
    assert!(named.ask("HELLO 3").starts_with("%7|"));
    assert_eq!(named.ask("CLIENT SETNAME php"), "+OK");
    assert_eq!(named.ask("SELECT 2"), "+OK");
    let mut amid = new();
    assert_eq!(amid.ask("MULTI"), "+OK");
    assert_eq!(amid.ask("INCR n"), "+QUEUED");
    let mut broken = new();
    assert_eq!(broken.ask("MULTI"), "+OK");
    assert!(broken.ask("NONSENSE").starts_with("-ERR unknown command"));
    let mut watches = new();
    assert_eq!(watches.ask("WATCH n"), "+OK");
    let mut half = new();
    half.send(b"*2\r\n$4\r\nINCR\r\n$1");
    let mut outside = Client::connect(port);
    assert!(outside.ask("GET n").starts_with("-NOAUTH"));
    successors.restart(&parvis);
    first_ends(&mut parvis);
    assert_eq!(named.ask("CLIENT GETNAME"), "$3|php");
    assert_eq!(named.ask("GET n"), "_", "it speaks the third version");
    assert_eq!(named.ask("SET in-two 1"), "+OK");
    assert_eq!(amid.ask("INCR n"), "+QUEUED");
    assert_eq!(amid.ask("EXEC"), "*2|:1|:2");
    assert!(broken.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(watches.ask("MULTI"), "+OK");
    assert_eq!(watches.ask("INCR n"), "+QUEUED");
    assert_eq!(watches.ask("EXEC"), "*-1", "who knows what happened in between");
    half.send(b"\r\nn\r\n");
    assert_eq!(text(&half.reply().expect("a reply")), ":3");
    assert_eq!(half.ask("SELECT 2"), "+OK");
    assert_eq!(half.ask("GET in-two"), "$1|1");
    assert!(outside.ask("GET n").starts_with("-NOAUTH"));
}

#[test]
fn who_waits_for_a_lock_is_asked_again_there_and_gets_it_from_its_holder() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut successors = Successors::new();
    let (mut parvis, port) = node(directory.path(), &[("sessions.orphan_after", "\"50s\"")]);
    let mut holder = Client::connect(port);
    assert_eq!(holder.ask("HINCRBY sess_a lock 1"), ":1");
    assert_eq!(holder.ask("HMSET sess_a pid web|1 lock 1"), "+OK");
    let mut unsigned = Client::connect(port);
    assert_eq!(unsigned.ask("HINCRBY sess_b lock 1"), ":1");
    let mut signed = Client::connect(port);
    assert_eq!(signed.ask("HINCRBY sess_c lock 1"), ":1");
    assert_eq!(signed.ask("HMSET sess_c pid web|4 lock 1"), "+OK");
    let mut waiter = Client::connect(port);
    waiter.send(&[packed("HINCRBY sess_a lock 1"), packed("PING")].concat());
    wait_until("the wait", PATIENCE, || waiting(&parvis));
    successors.restart(&parvis);
    first_ends(&mut parvis);
    wait_until("the wait there", PATIENCE, || waiting(&parvis));
    // It is the client's, and not left behind: the next one is called when it is let go.
    assert_eq!(holder.ask("HMSET sess_a data x lock 0"), "+OK");
    assert_eq!(text(&waiter.reply().expect("a reply")), ":1");
    assert_eq!(text(&waiter.reply().expect("a reply")), "+PONG");
    assert_eq!(waiter.ask("HMSET sess_a pid web|2 lock 1"), "+OK");
    assert_eq!(unsigned.ask("HMSET sess_b pid web|3 lock 1"), "+OK");
    // And who goes with it frees it at once.
    for (client, key) in [(waiter, "sess_a"), (unsigned, "sess_b"), (signed, "sess_c")] {
        let mut last = Client::connect(port);
        last.send(&packed(&format!("HINCRBY {key} lock 1")));
        wait_until("the wait", PATIENCE, || waiting(&parvis));
        drop(client);
        assert_eq!(text(&last.reply().expect("a reply")), ":1");
    }
}

#[test]
fn where_the_new_process_cannot_begin_clients_go_on_with_the_old_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let (parvis, port) = node(directory.path(), &[]);
    let mut client = Client::connect(port);
    assert_eq!(client.ask("SELECT 2"), "+OK");
    assert_eq!(client.ask("HINCRBY sess_a lock 1"), ":1");
    let mut waiter = Client::connect(port);
    waiter.send(&[packed("SELECT 2"), packed("HINCRBY sess_a lock 1")].concat());
    assert_eq!(text(&waiter.reply().expect("a reply")), "+OK");
    wait_until("the wait", PATIENCE, || waiting(&parvis));
    let foreign = directory.path().join("foreign");
    std::fs::write(&foreign, "no journal").expect("written");
    let right = std::fs::read_to_string(parvis.config_path()).expect("readable");
    let journal = directory.path().join("journal").display().to_string();
    let wrong = right.replace(&journal, &foreign.display().to_string());
    std::fs::write(parvis.config_path(), wrong).expect("written");
    let said = crate::restart::try_restart(&parvis);
    assert!(said.contains("it is no journal of sessions"), "{said}");
    assert_eq!(client.ask("HMSET sess_a data x lock 0"), "+OK");
    assert_eq!(text(&waiter.reply().expect("a reply")), ":1");
    // And the next restart finds all.
    std::fs::write(parvis.config_path(), right).expect("written");
    let mut successors = Successors::new();
    successors.restart(&parvis);
    assert_eq!(waiter.ask("HGET sess_a data"), "$1|x");
}

#[test]
fn where_the_new_process_dies_the_old_one_has_what_that_one_wrote() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut successors = Successors::new();
    let origin =
        crate::support::origin::Origin::start(|_, _| thread::sleep(Duration::from_secs(4)));
    let upstream = format!("\"127.0.0.1:{}\"", origin.port);
    let slow = [("lifecycle.drain", "\"20s\""), ("origin.http", upstream.as_str())];
    let (parvis, port) = node(directory.path(), &slow);
    // It stays for a visitor.
    let public = parvis.port;
    let visitor = thread::spawn(move || crate::support::get(public, "/slow", &[]));
    wait_until("the fetch", PATIENCE, || origin.count() == 1);
    let mut client = Client::connect(port);
    assert_eq!(client.ask("SET a 1"), "+OK");
    let id = successors.restart(&parvis);
    assert_eq!(client.ask("SET a 2"), "+OK", "it is the new process' client");
    process::signal(id, "KILL");
    assert_eq!(client.reply(), None, "as with any process that is killed");
    wait_until("the old one", PATIENCE, || parvis.stderr().contains("this one serves again"));
    assert_eq!(Client::connect(port).ask("GET a"), "$1|2");
    drop(visitor.join());
    successors.restart(&parvis);
    assert_eq!(Client::connect(port).ask("GET a"), "$1|2");
}
