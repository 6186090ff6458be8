//! Much of it: 100,000 keys with 40 tags each, the bound of memory, and flushing under load.
//!
//! `PARVIS_OBJECTS_KEYS=100000` has the numbers of a large shop; without it there are fewer keys, so that a
//! debug build is done in seconds.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parvis::resp::{Request, Value};

use super::eviction::named_by_all_tags;
use super::{Connection, Kept};
use crate::support::Parvis;
use crate::support::origin::{Origin, page};

const MIB: u64 = 1 << 20;
const TAGS: usize = 40;
/// What a process grows by at its first commands, whatever they keep: a connection's buffers, its threads' caches.
const BASE_BYTES: u64 = 2 * MIB;

/// As many as a large shop has, where that is asked for.
fn keys(few: usize) -> usize {
    std::env::var("PARVIS_OBJECTS_KEYS").ok().and_then(|it| it.parse().ok()).unwrap_or(few)
}

/// Saves keys with 40 tags each and a value of some size, as Magento's backend does, in pipelines.
fn save(connection: &mut Connection, keys: std::ops::Range<usize>, value_bytes: usize) {
    let value = "x".repeat(value_bytes);
    for at in keys {
        let id = format!("69d_BLOCK_{at:026x}");
        // Some tags have few values, some almost all.
        let tags: Vec<String> = (0..TAGS)
            .map(|tag| match tag {
                0..4 => format!("T{tag}"),
                4..20 => format!("C{}", (at * 7 + tag * 131) % 2_000),
                _ => format!("P{}", (at * 13 + tag * 257) % 50_000),
            })
            .collect();
        let joined = tags.join(",");
        let key = format!("zc:k:{id}");
        let mut bytes = Vec::new();
        let words = [b"HMSET", key.as_bytes(), b"d", value.as_bytes(), b"t", joined.as_bytes()];
        bytes.extend_from_slice(Request::pack(&words).raw());
        for tag in &tags {
            let set = format!("zc:ti:{tag}");
            let words = [b"SADD", set.as_bytes(), id.as_bytes()];
            bytes.extend_from_slice(Request::pack(&words).raw());
        }
        connection.stream.write_all(&bytes).expect("sent");
        for _ in 0..=TAGS {
            let reply = connection.reply().expect("a reply");
            assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
        }
    }
}

#[test]
fn the_bound_of_memory_holds_for_the_process_with_forty_tags_on_each_key() {
    // A bound that is as tight for the keys as 256 MiB are for 100,000.
    let keys = keys(20_000);
    let limit = (256 * MIB) as usize / 100_000 * keys;
    let memory = format!("\"{limit}B\"");
    let memory = [("objects.memory", memory.as_str()), ("objects.request_max", "\"8MiB\"")];
    let kept = Kept::start(&memory);
    let base = kept.parvis.resident_bytes();
    let mut connection = kept.connect();
    let mut most = 0;
    for round in 0..20 {
        let share = keys / 20;
        save(&mut connection, round * share..(round + 1) * share, 1_000);
        most = most.max(kept.parvis.resident_bytes());
        assert!(kept.metric("bytes") <= limit as f64);
    }
    let grown = most.saturating_sub(base);
    println!(
        "{} keys: objects.memory {} MiB, {:.0} MiB counted, the process grew by {} MiB at most ({} %); {} resets",
        keys,
        limit as u64 / MIB,
        kept.metric("bytes") / MIB as f64,
        grown / MIB,
        grown * 100 / limit as u64,
        kept.metric("resets_total")
    );
    assert!(grown <= limit as u64 / 100 * 115 + BASE_BYTES, "{grown} of {limit}");
    assert_eq!(named_by_all_tags(&kept.socket(), 200), Some(0));
}

/// Asks for a page over and over, until told to stop: how long each took, and when.
fn visit(port: u16, stop: &AtomicBool) -> Vec<(Instant, Duration)> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_nodelay(true).expect("set");
    let mut times = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        stream.write_all(b"GET /page HTTP/1.1\r\nHost: shop.test\r\n\r\n").expect("sent");
        let read = std::io::Read::read(&mut stream, &mut buffer).expect("a response");
        assert!(buffer.starts_with(b"HTTP/1.1 200") && read > 300);
        times.push((began, began.elapsed()));
        thread::sleep(Duration::from_micros(300));
    }
    times
}

/// Where none began in `time`, the one before took all of it.
fn p99(mut times: Vec<Duration>, time: Duration) -> Duration {
    times.sort();
    times.get(times.len() * 99 / 100).copied().unwrap_or(time)
}

/// Asks for a value over and over, until told to stop: how long it waited at most.
fn read(socket: &Path, stop: &AtomicBool) -> Duration {
    let mut connection = Connection::to(socket);
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        connection.say("GET nothing");
        longest = longest.max(began.elapsed());
        thread::sleep(Duration::from_micros(300));
    }
    longest
}

/// What becomes of hits on pages beside something that takes away all of a database, in five rounds: the median
/// of p99 with it over that without.
fn p99_beside(keys: usize, what: &str, mut take_away: impl FnMut(&mut Connection)) -> f64 {
    let origin = Origin::always(page(&"content ".repeat(40), "t"));
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("objects.sock");
    let parvis = Parvis::before_http(origin.port)
        .with("objects.listen", &format!("\"unix:{}\"", socket.display()))
        .with("objects.memory", "\"1GiB\"")
        .start();
    parvis.get("/page", &[]);
    let mut connection = Connection::to(&socket);
    let (mut quiet, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        save(&mut connection, 0..keys, 500);
        let stop = Arc::new(AtomicBool::new(false));
        let (visiting, reading) = (Arc::clone(&stop), Arc::clone(&stop));
        let (port, path) = (parvis.port, socket.clone());
        let visitor = thread::spawn(move || visit(port, &visiting));
        let reader = thread::spawn(move || read(&path, &reading));
        thread::sleep(Duration::from_millis(800));
        let began = Instant::now();
        take_away(&mut connection);
        let answered = began.elapsed();
        thread::sleep(Duration::from_millis(800));
        stop.store(true, Ordering::Relaxed);
        let times = visitor.join().expect("it ends well");
        let longest = reader.join().expect("it ends well");
        let within = |from: Instant, to: Instant| {
            let those = times.iter().filter(move |(at, _)| *at >= from && *at < to);
            p99(those.map(|(_, took)| *took).collect(), to - from)
        };
        let before = within(began.checked_sub(Duration::from_millis(700)).expect("later"), began);
        let with = within(began, began + Duration::from_millis(700));
        println!(
            "{what} took {answered:?}, another client waited {longest:?} at most; p99 of hits before {before:?}, with it {with:?}"
        );
        quiet.push(before);
        beside.push(with);
        ratios.push(with.as_secs_f64() / before.as_secs_f64());
    }
    quiet.sort();
    beside.sort();
    let ratio = beside[2].as_secs_f64() / quiet[2].as_secs_f64();
    println!(
        "{keys} keys: p99 of hits beside {what} is {ratio:.2} of that without (medians of 5; {ratios:.2?})"
    );
    ratio
}

#[test]
fn hits_on_pages_lose_nothing_while_a_large_database_is_flushed() {
    let ratio = p99_beside(keys(5_000), "FLUSHDB", |connection| {
        assert_eq!(connection.say("FLUSHDB"), Value::Simple("OK".into()));
        assert_eq!(connection.say("DBSIZE"), Value::Integer(0));
    });
    // What frees the memory has its share of two cores.
    assert!(ratio < 4.0, "{ratio}");
}

#[test]
fn hits_on_pages_lose_nothing_while_a_tag_that_names_all_is_cleaned() {
    let clean = super::scripts::CLEAN;
    let ratio = p99_beside(keys(5_000), "a clean of all", |connection| {
        let said =
            connection.say(&format!("EVALSHA {clean} 1 T0 zc:ti: zc:k: zc:tags zc:ids 0 5000"));
        assert_eq!(said, Value::Integer(1));
        assert_eq!(connection.say("EXISTS zc:ti:T0"), Value::Integer(0));
    });
    assert!(ratio < 4.0, "{ratio}");
}
