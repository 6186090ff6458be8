//! The raw corpus: requests that are malformed, ambiguous, or legal and odd, byte by byte, each
//! with the answer it must get, what becomes of its connection, and how many requests the origin
//! sees of it. The cases are the files of `raw/`, made for people to read and to extend:
//!
//! ```text
//! # A comment
//! [a name]
//! One line that says why, with the section of its RFC
//! > a line, sent with CRLF        + bytes, sent as they are
//! | half-close
//! = 400 close origin 0
//! ```
//!
//! `\r`, `\n`, `\t`, `\\` and `\xNN` are bytes. `{path}` is a path of the case's own, `{unique}` its
//! number, `{next}` a request that may be read, `{smuggled}` one that must not, `{repeat 9 text}`
//! nine times the text. The result is a list of statuses (`h`: to a HEAD; `none`), `open` or
//! `close`, the number of requests that reach the origin, and `saw` with the names that it got of
//! those it looks for. `= nginx: ...` or `= fastcgi: ...` is for that origin alone.

mod case;
mod origin;
mod run;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::Parvis;
use crate::support::nginx::Nginx;
use crate::support::parvis::Builder;
use crate::support::php::Php;
use crate::support::process::log_text;
use case::{Case, Kind, Status, cases};
use origin::CountingOrigin;
use run::{Runner, mismatches};

/// How long a connection that should speak or end may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(builder: Builder) -> Parvis {
    builder
        .with("site.hosts", "[\"shop.test\", \"*.shop.test\"]")
        .with("listen.body_max", "\"1MiB\"")
        .with("origin.retries", "0")
        .start()
}

fn check(kind: Kind, port: u16, count: impl Fn() -> usize) {
    check_in(1, &cases(), kind, port, count);
}

fn check_in(pieces: usize, cases: &[Case], kind: Kind, port: u16, count: impl Fn() -> usize) {
    let runner = Runner { port, kind, pieces, patience: PATIENCE, count: &count };
    let wrong = mismatches(&runner, cases);
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn php_requests(php: &Php) -> impl Fn() -> usize {
    let log = php.root().parent().expect("a parent").join("requests.log");
    move || log_text(&log).lines().count()
}

#[test]
fn each_raw_request_is_answered_as_it_must_be_before_an_origin_that_counts() {
    let origin = CountingOrigin::start();
    let parvis = start(Parvis::before_http(origin.port));
    check(Kind::Http, parvis.port, || origin.count());
}

#[test]
fn each_raw_request_is_answered_as_it_must_be_however_it_is_split() {
    // There it matters what has come when the answer leaves.
    let cases: Vec<Case> =
        cases().into_iter().filter(|case| case.file != "expect-upgrade").collect();
    for pieces in [2, 5] {
        let origin = CountingOrigin::start();
        let parvis = start(Parvis::before_http(origin.port));
        check_in(pieces, &cases, Kind::Http, parvis.port, || origin.count());
    }
}

#[test]
fn each_raw_request_is_answered_as_it_must_be_by_the_generic_policy_too() {
    let origin = CountingOrigin::start();
    let parvis = Parvis::before_http(origin.port)
        .with("site.policy", "\"generic\"")
        .with("listen.unknown_methods", "\"refuse\"");
    let parvis = start(parvis);
    check(Kind::Http, parvis.port, || origin.count());
}

#[test]
fn each_raw_request_is_answered_as_it_must_be_before_nginx_and_php() {
    let php = Php::with_front_controller("raw.php", 4);
    let nginx = Nginx::before(&php);
    let parvis = start(Parvis::before_http(nginx.port));
    check(Kind::Nginx, parvis.port, php_requests(&php));
}

#[test]
fn each_raw_request_is_answered_as_it_must_be_before_php_over_fastcgi() {
    let php = Php::with_front_controller("raw.php", 4);
    let parvis = start(Parvis::before_php(&php));
    check(Kind::FastCgi, parvis.port, php_requests(&php));
}

#[test]
fn the_corpus_is_large_and_each_case_has_a_name_of_its_own_and_a_reason() {
    let cases = cases();
    assert!(cases.len() >= 150, "{}", cases.len());
    let names: HashSet<_> = cases.iter().map(|case| (&case.file, &case.name)).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.iter().all(|case| case.why.len() >= 8));
    let legal = cases.iter().filter(|case| !is_refused(case)).count();
    assert!(legal >= 50 && cases.len() - legal >= 100, "{legal} of {}", cases.len());
}

fn is_refused(case: &Case) -> bool {
    case.expected(Kind::Http).statuses.iter().any(|status| status.number >= 400)
}

/// Takes everything up to an empty line for a request, and answers it.
fn lenient_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || {
                let (mut read, mut buffer) = (Vec::<u8>::new(), [0; 9_000]);
                while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                    read.extend(buffer[..bytes].iter().filter(|&&byte| byte != b'\r'));
                    while let Some(at) = read.windows(2).position(|two| two == b"\n\n") {
                        read.drain(..at + 2);
                        counter.fetch_add(1, Ordering::SeqCst);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    (port, count)
}

#[test]
fn a_lenient_server_fails_the_corpus() {
    let (port, count) = lenient_server();
    let count = || count.load(Ordering::SeqCst);
    let patience = Duration::from_millis(30);
    let runner = Runner { port, kind: Kind::Http, pieces: 1, patience, count: &count };
    let sample: Vec<Case> = cases().into_iter().filter(is_refused).step_by(8).collect();
    assert!(sample.len() >= 20);
    let wrong = mismatches(&runner, &sample);
    for case in &sample {
        let name = format!("{}: {}: ", case.file, case.name);
        assert!(wrong.iter().any(|line| line.starts_with(&name)), "{name} passed");
    }
    assert_eq!(Status::parse("200h"), Status { number: 200, head_only: true });
}
