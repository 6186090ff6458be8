//! Many connections at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::Parvis;
use super::support::origin::{Origin, page};
use super::support::process::wait_until;

const CONNECTIONS: usize = 10_000;
const REQUESTS_PER_SECOND: usize = 2_000;

/// The length of the load; the figures of a release are taken with `PARVIS_LOAD_SECONDS=60`.
fn seconds() -> u64 {
    std::env::var("PARVIS_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

fn raise_the_limit_of_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("as high as it may be");
    assert!(
        limit.maximum.is_none_or(|most| most > 12_000),
        "the machine allows too few descriptors"
    );
}

async fn ask(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    stream.write_all(b"GET /p HTTP/1.1\r\nHost: shop.test\r\n\r\n").await?;
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..]).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        if buffer[..length].ends_with(b"end of page") {
            return Ok(());
        }
    }
}

#[test]
fn ten_thousand_keep_alive_connections_carry_two_thousand_requests_a_second_without_an_error() {
    raise_the_limit_of_descriptors();
    let content = format!("{}end of page", "x".repeat(1_000));
    let origin = Origin::always(page(&content, "t"));
    let parvis = Parvis::before_http(origin.port)
        .with("encoding.gzip", "false")
        .with("listen.connections_per_address_max", "20000")
        .with("log.access", "\"off\"")
        .start();
    parvis.get("/p", &[]);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/p", &[]).is_hit());
    let before = parvis.resident_bytes();
    let (answered, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let idle = runtime.block_on(async {
        let mut streams = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let mut stream =
                TcpStream::connect(("127.0.0.1", parvis.port)).await.expect("accepted");
            ask(&mut stream, &mut [0; 4096]).await.expect("answered");
            streams.push(stream);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let idle = parvis.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
        load(streams, &answered, &failed).await;
        idle
    });
    let (answered, failed) = (answered.load(Ordering::SeqCst), failed.load(Ordering::SeqCst));
    println!(
        "{answered} requests over {CONNECTIONS} connections, {failed} failed, {idle} bytes per idle connection"
    );
    assert_eq!(failed, 0);
    assert!(
        answered as u64 >= REQUESTS_PER_SECOND as u64 * seconds() * 9 / 10,
        "{answered} requests"
    );
}

async fn load(streams: Vec<TcpStream>, answered: &Arc<AtomicUsize>, failed: &Arc<AtomicUsize>) {
    let pause = Duration::from_secs_f64(CONNECTIONS as f64 / REQUESTS_PER_SECOND as f64);
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds());
    let tasks: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(number, mut stream)| {
            let (answered, failed) = (Arc::clone(answered), Arc::clone(failed));
            tokio::spawn(async move {
                tokio::time::sleep(pause.mul_f64(number as f64 / CONNECTIONS as f64)).await;
                let mut buffer = [0; 4096];
                while tokio::time::Instant::now() < end {
                    let next = tokio::time::Instant::now() + pause;
                    match ask(&mut stream, &mut buffer).await {
                        Ok(()) => answered.fetch_add(1, Ordering::SeqCst),
                        Err(_) => failed.fetch_add(1, Ordering::SeqCst),
                    };
                    tokio::time::sleep_until(next.min(end)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}
