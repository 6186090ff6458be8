//! Fragments that take their time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parvis::body::Body;
use tokio::runtime::Runtime;

use super::super::support::Parvis;
use super::super::support::h2;
use super::super::support::origin::Origin;
use super::super::support::process::wait_until;
use super::{GZIP, Gate, private, public, stored};

/// A response that is read piece by piece.
enum Reading {
    Http1(BufReader<TcpStream>),
    Http2 { runtime: Runtime, incoming: Incoming },
}

impl Reading {
    /// Asks and reads the head.
    fn start(port: u16, target: &str, coding: &str, http2: bool) -> Self {
        if http2 {
            return Self::start_http2(port, target, coding);
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: shop.test\r\nAccept-Encoding: {coding}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "cut: {head}");
        }
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        Self::Http1(reader)
    }

    fn start_http2(port: u16, target: &str, coding: &str) -> Self {
        let runtime = h2::runtime();
        let request = http::Request::get(format!("http://shop.test{target}"))
            .header("accept-encoding", coding)
            .body(Body::empty())
            .expect("a request");
        let incoming = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            let io = TokioIo::new(stream.expect("a listener"));
            let shaken = handshake(TokioExecutor::new(), io).await;
            let (mut sender, connection) = shaken.expect("HTTP/2");
            tokio::spawn(connection);
            let answer =
                tokio::time::timeout(Duration::from_secs(20), sender.send_request(request));
            answer.await.expect("in time").expect("a response").into_body()
        });
        Self::Http2 { runtime, incoming }
    }

    /// The next piece; `None` at the proper end.
    fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Http1(reader) => {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a chunk in time");
                let size = usize::from_str_radix(line.trim(), 16).expect("a size");
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk).expect("a whole chunk");
                chunk.truncate(size);
                (size > 0).then_some(chunk)
            }
            Self::Http2 { runtime, incoming } => runtime.block_on(async {
                let frame = std::future::poll_fn(|context| {
                    std::pin::Pin::new(&mut *incoming).poll_frame(context)
                });
                let frame = tokio::time::timeout(Duration::from_secs(20), frame).await;
                let frame = frame.expect("a frame in time")?.expect("no reset");
                Some(frame.into_data().map(|data| data.to_vec()).unwrap_or_default())
            }),
        }
    }
}

/// What can be read of a message so far.
fn readable(bytes: &[u8], coding: &str) -> String {
    let mut text = Vec::new();
    if coding == "gzip" {
        let _ = flate2::read::GzDecoder::new(bytes).read_to_end(&mut text);
    } else {
        text.extend_from_slice(bytes);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_slow_fragment_does_not_delay_what_is_before_it() {
    let gate = Arc::new(Gate::default());
    let closed = Arc::clone(&gate);
    let before = "before ".repeat(1_000);
    let content = format!("{before}<esi:include src='/slow'/>after");
    let origin = Origin::start(move |seen, stream| match seen.target.split('?').next() {
        Some("/slow") => {
            closed.pass();
            private(stream, "slow");
        }
        Some("/page") => public(stream, &content),
        _ => private(stream, &content),
    });
    let parvis = Parvis::before_http(origin.port).start();
    gate.set(true);
    stored(&parvis, "/page");
    for http2 in [false, true] {
        for coding in ["identity", "gzip"] {
            let missed = format!("/page?{http2}{coding}");
            for target in ["/page", &missed, "/passed"] {
                gate.set(false);
                let case = format!("{target} {coding}, HTTP/2: {http2}");
                let mut reading = Reading::start(parvis.port, target, coding, http2);
                let mut bytes = Vec::new();
                while readable(&bytes, coding) != before {
                    bytes.extend(reading.next().expect("more"));
                    assert!(!readable(&bytes, coding).contains("slow"), "{case}");
                }
                gate.set(true);
                while let Some(piece) = reading.next() {
                    bytes.extend(piece);
                }
                assert_eq!(readable(&bytes, coding), format!("{before}slowafter"), "{case}");
                if coding == "gzip" {
                    let mut file = flate2::bufread::GzDecoder::new(&bytes[..]);
                    file.read_to_end(&mut Vec::new()).expect("a whole file");
                    assert!(file.into_inner().is_empty());
                }
            }
        }
    }
}

/// An origin whose fragments wait for each other, as many as `together`.
fn waiting(together: usize) -> Origin {
    let barrier = Barrier::new(together);
    Origin::start(move |seen, stream| match seen.target.as_str() {
        "/page" => {
            let includes = (0..4).map(|number| format!("<esi:include src='/{number}'/>"));
            public(stream, &includes.collect::<String>());
        }
        target => {
            barrier.wait();
            private(stream, target);
        }
    })
}

#[test]
fn fragments_are_fetched_at_the_same_time_and_stand_in_their_order() {
    let origin = waiting(4);
    let parvis = Parvis::before_http(origin.port).start();
    for headers in [&[][..], &[GZIP], &[]] {
        assert_eq!(parvis.get("/page", headers).text(), "/0/1/2/3");
    }
}

#[test]
fn fragments_that_are_fetched_one_after_another_would_wait_for_ever() {
    let origin = waiting(4);
    let parvis = Parvis::before_http(origin.port)
        .with("esi.concurrency_max", "1")
        .with("esi.timeout", "\"100ms\"")
        .start();
    let text = parvis.get("/page", &[]).text();
    assert!(!text.contains("/0"), "the first came before the last was asked for: {text}");
}

#[test]
fn no_more_fragments_are_fetched_at_once_than_the_bound() {
    let (inside, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen_most = Arc::clone(&most);
    let origin = Origin::start(move |seen, stream| {
        if seen.target == "/page" {
            return public(stream, &"<esi:include src='/x'/>".repeat(12));
        }
        seen_most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(10));
        inside.fetch_sub(1, Ordering::SeqCst);
        private(stream, "x");
    });
    let parvis = Parvis::before_http(origin.port).with("esi.concurrency_max", "3").start();
    for _ in 0..2 {
        assert_eq!(parvis.get("/page", &[]).text(), "x".repeat(12));
    }
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?} at once");
}

/// What a visitor gets of a large private page, where the origin has one worker for it and for its
/// fragment.
fn page_with_one_worker(read_on: &str) -> String {
    let rest = "x".repeat(4 << 20);
    let origin = Origin::start(move |seen, stream| match seen.target.as_str() {
        "/page" => private(stream, &format!("<esi:include src='/menu'/>{rest}")),
        _ => public(stream, "menu"),
    });
    let parvis = Parvis::before_http(origin.port)
        .with("origin.concurrency_max", "1")
        .with("origin.queue_timeout", "\"500ms\"")
        .with("origin.response_memory_max", read_on)
        .start();
    parvis.get("/page", &[]).text()
}

#[test]
fn a_page_that_waits_for_a_fragment_gives_its_worker_back() {
    let text = page_with_one_worker("\"16MiB\"");
    assert!(text.starts_with("menux"), "{}", &text[..20]);
}

#[test]
fn a_page_that_is_not_read_on_keeps_its_worker_from_its_fragment() {
    let text = page_with_one_worker("\"1KiB\"");
    assert!(text.starts_with("xxxx"), "{}", &text[..20]);
}

/// Each page includes the next level four times.
fn branching() -> Origin {
    Origin::start(|seen, stream| {
        let level: usize = seen.target[1..].parse().expect("a level");
        let include = format!("<esi:include src='/{}'/>", level + 1);
        private(stream, &format!("x{}", if level < 3 { include.repeat(4) } else { String::new() }));
    })
}

#[test]
fn the_includes_of_a_page_are_bounded_over_all_its_levels() {
    let origin = branching();
    let parvis = Parvis::before_http(origin.port).with("esi.total_max", "20").start();
    assert_eq!(parvis.get("/0", &[]).text(), "x".repeat(21));
    assert_eq!(origin.count(), 21);
}

#[test]
fn without_that_bound_they_would_multiply() {
    let origin = branching();
    let parvis = Parvis::before_http(origin.port).with("esi.total_max", "10000").start();
    assert_eq!(parvis.get("/0", &[]).text(), "x".repeat(1 + 4 + 16 + 64));
}

#[test]
fn a_client_that_leaves_ends_the_fetches_that_nobody_else_waits_for() {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (starts, ends) = (Arc::clone(&begun), Arc::clone(&ended));
    let open = Arc::new(Gate::default());
    let gate = Arc::clone(&open);
    let origin = Origin::start(move |seen, stream| match seen.target.as_str() {
        "/page" => {
            public(stream, "before<esi:include src='/customer/a'/><esi:include src='/own'/>");
        }
        target => {
            starts.fetch_add(1, Ordering::SeqCst);
            if *gate.open.lock().expect("not poisoned") {
                return private(stream, target);
            }
            // The request is all there was: what comes next is the end of the connection.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            if !matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
            {
                ends.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    open.set(true);
    stored(&parvis, "/page");
    // That /own is not to be stored is known from here on: its fetch is for one visitor alone.
    open.set(false);
    for http2 in [false, true] {
        begun.store(0, Ordering::SeqCst);
        ended.store(0, Ordering::SeqCst);
        let mut reading = Reading::start(parvis.port, "/page", "identity", http2);
        assert_eq!(reading.next().as_deref(), Some(&b"before"[..]));
        wait_until("both fetches", Duration::from_secs(10), || begun.load(Ordering::SeqCst) == 2);
        drop(reading);
        wait_until("their ends", Duration::from_secs(10), || ended.load(Ordering::SeqCst) == 2);
    }
}
