//! Clients that hold on to what they have: slow heads, bodies and readers, and more connections
//! than there are places. They are let go, memory stays bounded, and others get their hits.
//!
//! By hand, with the binary of a release and the defaults of all timeouts:
//! `PARVIS_BINARY=... PARVIS_SLOW_CONNECTIONS=5000 cargo test --test integration slow:: -- --nocapture --test-threads=1`

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::{Client, get};
use super::support::origin::{Origin, page};
use super::support::parvis::Builder;
use super::support::process::{Process, log_text, program, wait_until};
use super::support::{Parvis, Reply};

const MIB: u64 = 1 << 20;
const CONNECTIONS: u64 = 500;
/// What one slow connection may take of the process at most, with the buffers of what it asked
/// for. An idle one takes less than 4 KiB.
const CONNECTION_MAX_BYTES: u64 = 64 << 10;
/// What the hits beside them may add.
const NOISE_MAX_BYTES: u64 = 24 * MIB;

/// Set by hand for a measurement.
fn measured_connections() -> Option<u64> {
    std::env::var("PARVIS_SLOW_CONNECTIONS").ok().map(|text| text.parse().expect("a number"))
}

/// `/hit` and `/large` are stored. All connections come from loopback: it is in `listen.trusted`
/// by default, to which `connections_per_address_max` does not apply.
fn shop(change: impl FnOnce(Builder) -> Builder) -> (Origin, Parvis) {
    let large = "0123456789abcdef".repeat(256 << 10);
    let origin = Origin::start(move |seen, stream| {
        let content = if seen.target == "/large" { &large } else { "hit" };
        let _ = stream.write_all(&page(content, "a"));
    });
    let builder = Parvis::before_http(origin.port)
        .with("log.access", "\"off\"")
        .with("encoding.gzip", "false");
    let parvis = change(builder).start();
    for target in ["/hit", "/large"] {
        wait_until("storing", Duration::from_secs(5), || parvis.get(target, &[]).is_hit());
    }
    (origin, parvis)
}

/// Short timeouts, or those of the defaults for a measurement.
fn impatient(builder: Builder) -> Builder {
    if measured_connections().is_some() {
        return builder;
    }
    builder
        .with("listen.header_timeout", "\"1s\"")
        .with("listen.body_timeout", "\"2s\"")
        .with("listen.write_timeout", "\"1s\"")
        .with("listen.keep_alive", "\"2s\"")
}

/// What others saw.
struct Seen {
    /// How long each hit took, shortest first.
    hits: Vec<Duration>,
    /// The most memory of the process.
    most_bytes: u64,
}

impl Seen {
    fn percentile(&self, percent: usize) -> Duration {
        self.hits[(self.hits.len() - 1) * percent / 100]
    }
}

/// Hits, each on a connection of its own, until `is_over`.
fn watch(parvis: &Parvis, is_over: impl Fn() -> bool) -> Seen {
    let mut seen = Seen { hits: Vec::new(), most_bytes: 0 };
    while !is_over() || seen.hits.len() < 20 {
        let began = Instant::now();
        let reply: Reply = get(parvis.port, "/hit", &[]);
        seen.hits.push(began.elapsed());
        assert!(reply.is_hit(), "{reply:?}");
        seen.most_bytes = seen.most_bytes.max(parvis.resident_bytes());
        thread::sleep(Duration::from_millis(5));
    }
    seen.hits.sort_unstable();
    seen
}

/// slowhttptest on its way. It may not notice that it was let go: a slow reader has much to read
/// before it sees the end.
struct Attack {
    process: Process,
    most_places: f64,
}

impl Attack {
    fn start(mode: &str, connections: u64, url: &str, arguments: &[&str], log: &Path) -> Self {
        let mut command = Command::new(program("slowhttptest"));
        command
            .args([mode, "-c", &connections.to_string(), "-r", "1000", "-l", "150", "-v", "1"])
            .args(["-u", url])
            .args(arguments);
        Self { process: Process::start(&mut command, log), most_places: 0.0 }
    }

    /// Have the attackers had places, and lost them?
    fn is_beaten(&mut self, parvis: &Parvis, connections: u64) -> bool {
        let places = parvis.metric("parvis_listen_connections").expect("a metric");
        self.most_places = self.most_places.max(places);
        let had_places = self.most_places > connections as f64 * 0.5;
        (had_places && places < 10.0) || self.process.has_ended()
    }
}

/// Runs slowhttptest until all its connections have been ended, while others are watched.
fn attack(mode: &str, target: &str, arguments: &[&str]) {
    let (_origin, parvis) = shop(impatient);
    let connections = measured_connections().unwrap_or(CONNECTIONS);
    let before = parvis.resident_bytes();
    let calm = watch(&parvis, || true);
    let began = Instant::now();
    let url = format!("http://127.0.0.1:{}{target}", parvis.port);
    let log = parvis.directory.path().join("slowhttptest");
    let mut attack = Attack::start(mode, connections, &url, arguments, &log);
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            while !attack.is_beaten(&parvis, connections) {
                thread::sleep(Duration::from_millis(50));
            }
            is_over.store(true, Ordering::SeqCst);
        });
        watch(&parvis, || is_over.load(Ordering::SeqCst))
    });
    let growth = seen.most_bytes.saturating_sub(before);
    println!(
        "{mode}: {} of {connections} places for {:?}; hits p50 {:?} p99 {:?} of {}, before p50 {:?} \
         p99 {:?}; {} KiB, {} KiB more at most",
        attack.most_places,
        began.elapsed(),
        seen.percentile(50),
        seen.percentile(99),
        seen.hits.len(),
        calm.percentile(50),
        calm.percentile(99),
        before >> 10,
        growth >> 10,
    );
    assert!(!log_text(&log).contains("Hit test time limit"), "they were never let go");
    assert!(growth < connections * CONNECTION_MAX_BYTES + NOISE_MAX_BYTES, "{growth} bytes");
}

#[test]
fn slow_headers_are_let_go_while_others_get_their_hits() {
    attack("-H", "/hit", &["-i", "1", "-x", "8"]);
}

#[test]
fn slow_bodies_are_let_go_while_others_get_their_hits() {
    // No pause is too long, but the rate is too low.
    attack("-B", "/post", &["-i", "1", "-x", "8", "-s", "8192"]);
}

#[test]
fn ranges_without_end_are_answered_while_others_get_their_hits() {
    attack("-R", "/hit", &["-a", "1", "-b", "3000"]);
}

#[test]
fn slow_readers_are_let_go_while_others_get_their_hits() {
    attack("-X", "/large", &["-w", "1", "-y", "1", "-n", "5", "-z", "5"]);
}

/// Is this connection still there after so long?
fn is_served(client: &mut Client) -> bool {
    client.stream().write_all(b"GET /hit HTTP/1.1\r\nHost: shop.test\r\n\r\n").is_ok()
        && client.read(false).is_ok_and(|reply| reply.is_hit())
}

#[test]
fn one_address_gets_so_many_places_and_no_more_unless_it_is_trusted() {
    let (_origin, parvis) = shop(|builder| {
        builder.with("listen.trusted", "[]").with("listen.connections_per_address_max", "10")
    });
    wait_until("places", Duration::from_secs(20), || {
        parvis.metric("parvis_listen_connections").is_some_and(|open| open < 1.0)
    });
    let mut clients: Vec<_> = (0..11).map(|_| Client::connect(parvis.port)).collect();
    let mut last = clients.pop().expect("eleven");
    assert!(clients.iter_mut().all(is_served));
    assert!(!is_served(&mut last));
    // A place that is given back can be had.
    drop(clients.pop());
    wait_until("a place", Duration::from_secs(20), || is_served(&mut Client::connect(parvis.port)));

    let (_origin, parvis) =
        shop(|builder| builder.with("listen.connections_per_address_max", "10"));
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(parvis.port)).collect();
    assert!(clients.iter_mut().all(is_served), "loopback is trusted");
}

#[test]
fn without_descriptors_whoever_has_a_place_is_served_and_others_are_let_go() {
    let (origin, parvis) = shop(|builder| builder.with_descriptors(300));
    let mut clients: Vec<_> = (0..400).map(|_| Client::connect(parvis.port)).collect();
    let served = clients.iter_mut().filter_map(|client| is_served(client).then_some(())).count();
    assert!((100..300).contains(&served), "{served}");
    // Those that were left to others suffice for the origin.
    let first = clients.first_mut().expect("many");
    assert_eq!(first.ask("GET", "/another", &[], b"").status, 200);
    assert_eq!(origin.seen().last().map(|seen| seen.target.clone()), Some("/another".to_owned()));
    assert!(parvis.stderr().contains("raise LimitNOFILE"), "{}", parvis.stderr());
    drop(clients);
    wait_until("places", Duration::from_secs(20), || is_served(&mut Client::connect(parvis.port)));
}
