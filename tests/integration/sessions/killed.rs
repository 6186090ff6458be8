//! Servers that are killed while requests of one session take turns over all of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::super::support::parvis::Builder;
use super::super::support::process::wait_until;
use super::super::support::redis::Redis;
use super::{Client, node, text};

const WRITERS: usize = 4;
/// A lock that was left behind is free within `sessions.orphan_after`, which is 1 s here, and a look;
/// PHP by itself waits for 5 s.
const FREE_WITHIN: Duration = Duration::from_secs(5);
/// So many tries PHP makes before it breaks a lock.
const PHPS_TRIES: usize = 10;

/// What a writer does in turns: it counts one further in the session's data, as PHP writes a session.
struct Writer<'a> {
    pid: String,
    ports: &'a [AtomicUsize; 2],
    counted: &'a Mutex<Vec<u64>>,
    /// Writes whose answer did not come: they may have been done.
    unknown: &'a AtomicUsize,
}

impl Writer<'_> {
    fn run(&self, number: usize, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            for at in [number, number + 1] {
                let port = self.ports[at % 2].load(Ordering::SeqCst);
                let port = u16::try_from(port).expect("a port");
                let Ok(stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                drop(stream);
                let mut client = Client::connect(port);
                while !stop.load(Ordering::SeqCst) && self.take_turn(&mut client).is_some() {}
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// `None`: the server has gone.
    fn take_turn(&self, client: &mut Client) -> Option<()> {
        let mut ask = |command: &str| Some(text(&client.try_ask(&super::packed(command))?));
        while ask("HINCRBY sess_shared lock 1")? != ":1" {
            thread::sleep(Duration::from_millis(50));
        }
        let data = ask("HGET sess_shared data")?;
        let data: u64 = data.rsplit('|').next().and_then(|data| data.parse().ok()).unwrap_or(0);
        ask(&format!("HMSET sess_shared pid {} lock 1", self.pid))?;
        thread::sleep(Duration::from_millis(5));
        if !ask("HGET sess_shared pid")?.ends_with(&self.pid) {
            return Some(());
        }
        let Some(answer) = ask(&format!("HMSET sess_shared data {} lock 0", data + 1)) else {
            self.unknown.fetch_add(1, Ordering::SeqCst);
            return None;
        };
        assert_eq!(answer, "+OK");
        self.counted.lock().expect("no panic").push(data + 1);
        Some(())
    }
}

fn quick(builder: Builder) -> Builder {
    builder.with("sessions.orphan_after", "\"1s\"")
}

#[test]
fn no_write_of_a_session_is_lost_and_its_lock_is_free_soon_though_servers_are_killed() {
    let redis = Redis::start();
    let start = || node(&redis.url(), quick);
    let (first, second) = (start(), start());
    let ports = [AtomicUsize::new(first.1.into()), AtomicUsize::new(second.1.into())];
    let mut servers = [Some(first.0), Some(second.0)];
    let (counted, unknown) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let pid = format!("{}|{number}", host.trim());
            let writer = Writer { pid, ports: &ports, counted: &counted, unknown: &unknown };
            let stop = &stop;
            scope.spawn(move || writer.run(number, stop));
        }
        let written = || counted.lock().expect("no panic").len();
        for round in 0..4 {
            let before = written();
            wait_until("turns", FREE_WITHIN, || written() > before + 20);
            let killed = servers[round % 2].take().expect("it runs");
            killed.process.signal("KILL");
            let before = written();
            wait_until("the lock to be free", FREE_WITHIN, || written() > before + 1);
            let (server, port) = start();
            servers[round % 2] = Some(server);
            ports[round % 2].store(port.into(), Ordering::SeqCst);
        }
        stop.store(true, Ordering::SeqCst);
    });
    let mut counted = counted.into_inner().expect("no panic");
    counted.sort_unstable();
    let all = counted.len();
    counted.dedup();
    assert_eq!(counted.len(), all, "two had the lock at once");
    let last: usize = redis.ask(&["hget", "sess_shared", "data"]).trim().parse().expect("a number");
    let most = all + unknown.load(Ordering::SeqCst);
    assert!((all..=most).contains(&last), "{last} of {all} to {most} that were acknowledged");
}

/// The try of PHP's with which the next client gets the lock of a client whose server is killed, so long
/// after its first try began; PHP sleeps between tries for half a second.
fn freed_at(
    tries: usize,
    killed_after: Duration,
    with: impl Fn(Builder) -> Builder,
) -> Option<usize> {
    let redis = Redis::start();
    let (killed, other) = (node(&redis.url(), &with), node(&redis.url(), &with));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let mut holder = Client::connect(killed.1);
    assert_eq!(holder.ask("HINCRBY sess_shared lock 1"), ":1");
    holder.ask(&format!("HMSET sess_shared pid {}|1 lock 1", host.trim()));
    let mut next = Client::connect(other.1);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(killed_after);
            killed.0.process.signal("KILL");
        });
        (1..=tries).find(|number| {
            if *number > 1 {
                thread::sleep(Duration::from_millis(500));
            }
            next.ask("HINCRBY sess_shared lock 1") == ":1"
        })
    })
}

#[test]
fn a_lock_is_freed_for_a_server_that_was_killed_and_stays_where_nobody_looks_for_that() {
    assert!(freed_at(2, Duration::ZERO, quick).is_some());
    let never = |builder: Builder| {
        let builder = builder.with("sessions.hold_max", "\"10m\"");
        builder.with("sessions.orphan_after", "\"9m\"")
    };
    assert_eq!(freed_at(2, Duration::ZERO, never), None, "the check above would not notice");
}

#[test]
fn with_the_default_settings_it_is_freed_before_php_breaks_it() {
    // The later one is killed while the tries of the other client are held; it notices that after them.
    for after in [0, 1_500] {
        let freed = freed_at(PHPS_TRIES, Duration::from_millis(after), |builder| builder);
        assert!(freed.is_some_and(|number| number < PHPS_TRIES), "{after} ms: {freed:?}");
    }
}

#[test]
fn so_it_is_where_nobody_is_held() {
    let plain = |builder: Builder| builder.with("sessions.wait_max", "\"0s\"");
    let freed = freed_at(PHPS_TRIES, Duration::ZERO, plain);
    assert!(freed.is_some_and(|number| number < PHPS_TRIES), "{freed:?}");
}
