//! Faults of PHP-FPM and of clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::php::Php;
use super::support::process::wait_until;
use super::support::{Parvis, get};

fn store(parvis: &Parvis, target: &str) {
    parvis.get(target, &[]);
    wait_until(target, Duration::from_secs(5), || parvis.get(target, &[]).is_hit());
}

#[test]
fn a_killed_php_fpm_leaves_stored_pages_served_and_recovers_without_a_restart() {
    let mut php = Php::with_front_controller("work.php", 4);
    let parvis = Parvis::before_php_with_knobs(&php).start();
    store(&parvis, "/stored?work=5");
    let (stop, failures, truncated) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load: Vec<_> = (0..6)
        .map(|reader| {
            let (stop, failures, truncated, port) =
                (Arc::clone(&stop), Arc::clone(&failures), Arc::clone(&truncated), parvis.port);
            thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    assert_eq!(get(port, "/stored?work=5", &[]).status, 200);
                    let reply = get(port, &format!("/fresh?work=40&r={reader}&n={number}"), &[]);
                    match reply.status {
                        200 if !reply.text().ends_with("</html>") => {
                            truncated.fetch_add(1, Ordering::SeqCst);
                        }
                        200 => {}
                        502 | 503 => {
                            failures.fetch_add(1, Ordering::SeqCst);
                        }
                        other => panic!("status {other}"),
                    }
                }
                number
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(700));
    php.kill();
    thread::sleep(Duration::from_millis(700));
    assert!(parvis.get("/stored?work=5", &[]).is_hit());
    php.start();
    wait_until("recovery", Duration::from_secs(10), || {
        parvis.get("/after?work=1", &[]).status == 200
    });
    thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::SeqCst);
    let numbers: Vec<usize> =
        load.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert!(failures.load(Ordering::SeqCst) > 0, "the kill was not felt");
    assert_eq!(truncated.load(Ordering::SeqCst), 0);
    for (reader, last) in numbers.iter().enumerate() {
        for number in 1..=*last {
            let target = format!("/fresh?work=40&r={reader}&n={number}");
            let reply = parvis.get(&target, &[]);
            assert!(reply.text().ends_with("</html>"), "a truncated page was stored: {target}");
        }
    }
}

#[test]
fn two_hundred_clients_at_1_kib_a_second_do_not_hold_a_php_worker() {
    let php = Php::with_front_controller("work.php", 2);
    let parvis = Parvis::before_php_with_knobs(&php).with("origin.concurrency_max", "2").start();
    let stop = Arc::new(AtomicBool::new(false));
    let slow: Vec<_> = (0..200)
        .map(|number| {
            let (stop, port) = (Arc::clone(&stop), parvis.port);
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(move || trickle(port, number, &stop))
                .expect("a thread")
        })
        .collect();
    thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    for number in 0..20 {
        let reply = parvis.ask("POST", &format!("/customer/x?work=1&n={number}"), &[], b"a=1");
        assert_eq!(reply.status, 200);
    }
    let elapsed = began.elapsed();
    stop.store(true, Ordering::SeqCst);
    for client in slow {
        client.join().expect("no panic");
    }
    assert!(elapsed < Duration::from_secs(5), "20 requests took {elapsed:?} beside slow clients");
}

/// Sends a body, then reads a large response, 1 KiB a second both ways.
fn trickle(port: u16, number: usize, stop: &AtomicBool) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let reads = number.is_multiple_of(2);
    let length = if reads { 0 } else { 20_000 };
    let head = format!(
        "POST /customer/slow?work=1&bytes=300000 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes());
    let mut buffer = [0; 1024];
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    while !stop.load(Ordering::SeqCst) {
        let moved = if reads { stream.read(&mut buffer) } else { stream.write(&buffer) };
        if matches!(moved, Ok(0)) {
            return;
        }
        thread::sleep(Duration::from_millis(200));
        for _ in 0..4 {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_worker_killed_in_the_middle_ends_in_502_or_a_cut_and_never_in_a_stored_page() {
    let php = Php::with_front_controller("work.php", 1);
    let parvis = Parvis::before_php_with_knobs(&php).with("origin.retries", "0").start();
    let port = parvis.port;
    let waiting = thread::spawn(move || {
        let mut client = Client::connect(port);
        client.send(b"GET /p?work=1500 HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        client.read(false).map(|reply| reply.status)
    });
    thread::sleep(Duration::from_millis(500));
    for worker in php.workers() {
        super::support::process::signal(worker, "KILL");
    }
    let status = waiting.join().expect("no panic");
    assert!(matches!(status, Ok(502) | Err(_)), "{status:?}");
    let again = parvis.get("/p?work=1", &[]);
    assert!(!again.is_hit());
}
