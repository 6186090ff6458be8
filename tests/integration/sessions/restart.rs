//! A new process takes over while PHP has its sessions behind the old one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::queue::{Shop, told};
use super::{Client, node};
use crate::restart::{Successors, first_ends};
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn php_sees_no_error_over_restarts_with_new_and_with_kept_connections() {
    let mut successors = Successors::new();
    let mut php = Shop::open(8, &[("lifecycle.deadline", "\"8s\"")]);
    let (told_to_end, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let (shop, ends, answered) = (&php, &told_to_end, &answered);
                scope.spawn(move || {
                    let knobs = ["hold=5", "hold=5&persistent=1"][number % 2];
                    while !ends.load(Ordering::SeqCst) {
                        // Two of each kind share a session.
                        told(&shop.ask(&format!("visitor{}", number / 2), knobs));
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let more = |wanted: usize| {
            let before = answered.load(Ordering::SeqCst);
            wait_until("more answers", PATIENCE, || {
                let failed = clients.iter().any(thread::ScopedJoinHandle::is_finished);
                failed || answered.load(Ordering::SeqCst) >= before + wanted
            });
        };
        more(50);
        successors.restart(&php.parvis);
        more(100);
        told_to_end.store(true, Ordering::SeqCst);
        let failed = clients.into_iter().filter_map(|client| client.join().err()).count();
        assert_eq!(failed, 0, "{}", php.parvis.stderr());
    });
    println!("{} requests of PHP over a restart", answered.load(Ordering::SeqCst));
    first_ends(&mut php.parvis);
}

#[test]
fn a_client_of_the_old_process_goes_on_until_it_is_silent_and_new_ones_meet_the_new_one() {
    let mut successors = Successors::new();
    let redis = Redis::start();
    let (mut parvis, port) = node(&redis.url(), |builder| {
        builder.with("lifecycle.drain", "\"1s\"").with("lifecycle.deadline", "\"30s\"")
    });
    let mut old = Client::connect(port);
    assert_eq!(old.ask("SET a 1"), "+OK");
    assert_eq!(old.ask("WATCH a"), "+OK");
    successors.restart(&parvis);
    let mut new = Client::connect(port);
    assert_eq!(new.ask("GET a"), "$1|1");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(old.ask("MULTI"), "+OK", "it is amid something");
    assert_eq!(old.ask("INCR a"), "+QUEUED");
    assert_eq!(old.ask("EXEC"), "*1|:2");
    assert_eq!(old.reply(), None, "it was silent");
    assert_eq!(new.ask("GET a"), "$1|2");
    first_ends(&mut parvis);
}

#[test]
fn a_client_of_the_old_process_that_has_a_lock_is_not_idle_however_long_it_is_silent() {
    let mut successors = Successors::new();
    let redis = Redis::start();
    let (mut parvis, port) = node(&redis.url(), |builder| {
        builder.with("lifecycle.drain", "\"1s\"").with("lifecycle.deadline", "\"60s\"")
    });
    let mut old = Client::connect(port);
    assert_eq!(old.ask("HINCRBY sess_a lock 1"), ":1");
    assert_eq!(old.ask("HMSET sess_a pid web|1 lock 1"), "+OK");
    successors.restart(&parvis);
    thread::sleep(Duration::from_secs(12));
    assert_eq!(redis.ask(&["hget", "sess_a", "lock"]), "1");
    assert_eq!(old.ask("HMSET sess_a data x lock 0"), "+OK", "it was amid a request");
    assert_eq!(old.reply(), None, "it was silent");
    first_ends(&mut parvis);
}
