//! The promise about memory: however much passes through the store, the process stays near its
//! limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::Parvis;
use super::support::chance::Chance;

const MIB: u64 = 1 << 20;
const CLIENTS: usize = 32;
/// Noise from which all pages are cut: nothing that a compressor could make small.
const NOISE_BYTES: usize = 4 << 20;
const PAGE_BYTES_MIN: usize = 1 << 10;
const PAGE_BYTES_MAX: usize = 60 << 10;

/// Page `number`: its tags, and where in the noise its content lies.
fn page(number: usize) -> (String, std::ops::Range<usize>) {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    // Squared, as in a shop: many small ones, few large ones, 21 KiB on average.
    let part = mixed % 1_000;
    let length = PAGE_BYTES_MIN + (PAGE_BYTES_MAX - PAGE_BYTES_MIN) * part * part / 1_000_000;
    let start = (mixed >> 10) % (NOISE_BYTES - PAGE_BYTES_MAX);
    let mut tags = String::from("store");
    for tag in 0..10 + mixed % 30 {
        tags.push_str(&format!(",cat_p_{}", (mixed / 7 + tag * 37) % 30_000));
    }
    (tags, start..start + length)
}

fn noise() -> Arc<Vec<u8>> {
    let mut chance = Chance::of(1);
    Arc::new((0..NOISE_BYTES / 8).flat_map(|_| chance.number().to_le_bytes()).collect())
}

/// Reads one head; what it asks for, `/N`.
async fn asked(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    buffer.clear();
    while !buffer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let line = std::str::from_utf8(buffer.split(|&byte| byte == b'\r').next()?).ok()?;
    line.split(' ').nth(1)?.strip_prefix('/')?.parse().ok()
}

async fn serve(mut stream: TcpStream, noise: Arc<Vec<u8>>) {
    let mut buffer = Vec::new();
    while let Some(number) = asked(&mut stream, &mut buffer).await {
        let (tags, content) = page(number);
        let length = content.len();
        // Every other one is compressed when it is stored, on threads of its own.
        let media_type = if number % 2 == 0 { "text/html" } else { "application/octet-stream" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nCache-Control: public, max-age=86400\r\n\
             X-Magento-Tags: {tags}\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut response = head.into_bytes();
        response.extend_from_slice(&noise[content]);
        if stream.write_all(&response).await.is_err() {
            return;
        }
    }
}

/// Asks for pages until all have been asked for.
async fn ask_all(port: u16, next: Arc<AtomicUsize>, pages: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("accepted");
    let mut buffer = vec![0; 256 << 10];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= pages {
            return;
        }
        let request = format!("GET /{number} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        take_in_response(&mut stream, &mut buffer).await;
    }
}

async fn take_in_response(stream: &mut TcpStream, buffer: &mut [u8]) {
    let (mut filled, mut end) = (0, None);
    while end.is_none_or(|end| filled < end) {
        let read = stream.read(&mut buffer[filled..]).await.expect("a response");
        assert!(read > 0, "cut short: {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
        if end.is_none() {
            end = length_of(&buffer[..filled]);
        }
        if end == Some(usize::MAX) {
            // Chunked.
            end = buffer[..filled].ends_with(b"\r\n0\r\n\r\n").then_some(filled).or(end);
        }
    }
}

/// The length of the whole response once its head is there; the largest number: not said.
fn length_of(received: &[u8]) -> Option<usize> {
    let head_end = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..head_end]).expect("ASCII");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    Some(length.map_or(usize::MAX, |length| head_end + length.parse::<usize>().expect("a number")))
}

/// What a process took.
#[derive(Debug)]
struct Taken {
    /// Resident bytes before the first request.
    base: u64,
    /// The most that was seen.
    most: u64,
    /// At the end.
    last: u64,
    stored: f64,
    evicted: f64,
}

/// Sends `pages` different pages through a process with that `store.memory`.
fn fill(memory: &str, pages: usize) -> Taken {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let noise = noise();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let origin_port = listener.local_addr().expect("an address").port();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&noise)));
        }
    });
    let parvis = Parvis::before_http(origin_port)
        .with("store.memory", &format!("\"{memory}\""))
        .with("encoding.gzip_level", "1")
        .with("log.access", "\"off\"")
        .start();
    let base = parvis.resident_bytes();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| runtime.spawn(ask_all(parvis.port, Arc::clone(&next), pages)))
        .collect();
    let mut most = base;
    while clients.iter().any(|client| !client.is_finished()) {
        most = most.max(parvis.resident_bytes());
        std::thread::sleep(Duration::from_millis(20));
    }
    for client in clients {
        runtime.block_on(client).expect("no panic");
    }
    let number = |name| parvis.metric(name).expect("a metric");
    let taken = Taken {
        base,
        most,
        last: parvis.resident_bytes(),
        stored: number("parvis_store_bytes"),
        evicted: number("parvis_store_evictions_total"),
    };
    println!(
        "{pages} pages in {:?}: {} MiB at start, {} at most, {} at the end; {} MiB stored of {memory}, \
         {} evicted",
        began.elapsed(),
        base / MIB,
        most / MIB,
        taken.last / MIB,
        taken.stored / MIB as f64,
        taken.evicted
    );
    taken
}

/// What a process may take beside what it took with an empty store: the limit and 15 %.
fn allowed(limit_bytes: u64) -> u64 {
    limit_bytes + limit_bytes * 15 / 100
}

#[test]
fn a_hundred_thousand_pages_leave_resident_memory_within_the_limit_and_15_percent() {
    let taken = fill("256MiB", 100_000);
    assert!(taken.evicted > 50_000.0, "the store was never full");
    assert!(taken.stored > 0.8 * (256 * MIB) as f64, "the store is not full");
    assert!(taken.most <= taken.base + allowed(256 * MIB), "{taken:?}");
}

#[test]
fn without_a_limit_the_same_pages_take_more_than_that() {
    let taken = fill("4GiB", 25_000);
    assert!(taken.evicted < 1.0);
    assert!(taken.last > taken.base + allowed(256 * MIB), "{taken:?}");
}
