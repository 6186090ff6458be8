//! Restarts while clients of all kinds are served.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::super::support::client::Client;
use super::super::support::h2::Length;
use super::super::support::origin::{Origin, page};
use super::super::support::process::{free_port, wait_until};
use super::super::support::{Parvis, get};
use super::super::tls;
use super::{Successors, first_ends};

/// Clients that ask again and again until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { stop: Arc::default(), answered: Arc::default(), clients: Vec::new() }
    }

    /// `ask` fails the test itself where its request fails.
    fn with(mut self, mut ask: impl FnMut() + Send + 'static) -> Self {
        let (stop, answered) = (Arc::clone(&self.stop), Arc::clone(&self.answered));
        self.clients.push(thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                ask();
                answered.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(5));
            }
        }));
        self
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    fn wait_for_more(&self, more: usize) {
        let before = self.answered();
        wait_until("more answers", Duration::from_secs(30), || {
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            failed || self.answered() >= before + more
        });
    }

    /// Clients of which a request has failed, and requests that were answered.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let failed = self.clients.into_iter().filter_map(|client| client.join().err()).count();
        (failed, self.answered.load(Ordering::SeqCst))
    }
}

/// Asks on one connection until its server says that it closes it.
fn kept(port: u16) -> impl FnMut() + Send + 'static {
    let mut kept: Option<Client> = None;
    move || {
        let client = kept.get_or_insert_with(|| Client::connect(port));
        let reply = client.ask("GET", "/page", &[], b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, "content"));
        if reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            kept = None;
        }
    }
}

fn each_new(port: u16) -> impl FnMut() + Send + 'static {
    move || assert_eq!(get(port, "/page", &[]).text(), "content")
}

/// HTTP/2 over TLS. Where its server says goodbye, what it has not begun with is sent again, as any
/// client does.
fn over_http2(port: u16, root: CertificateDer<'static>) -> impl FnMut() + Send + 'static {
    let mut kept = None;
    move || {
        loop {
            let client = kept.get_or_insert_with(|| tls::h2(port, &root).expect("a connection"));
            match client.try_ask("GET", "/page", &[], b"", Length::Told) {
                Ok(reply) => {
                    assert_eq!((reply.status, reply.text().as_str()), (200, "content"));
                    return;
                }
                Err(error) => {
                    assert!(error.is_canceled(), "{error:?}");
                    kept = None;
                }
            }
        }
    }
}

fn each_new_handshake(port: u16, root: CertificateDer<'static>) -> impl FnMut() + Send + 'static {
    move || {
        let mut client = tls::h2(port, &root).expect("a connection");
        let reply = client.ask("GET", "/page", &[], b"", Length::Told);
        assert_eq!(reply.text(), "content");
    }
}

#[test]
fn two_restarts_under_load_fail_no_request_and_cut_none() {
    let origin = Origin::start(|seen, stream| {
        if seen.target == "/slow" {
            thread::sleep(Duration::from_millis(1_500));
        }
        let content =
            if seen.method == "POST" { seen.body.len().to_string() } else { "content".into() };
        let _ = stream.write_all(&page(&content, "t"));
    });
    let directory = tempfile::tempdir().expect("a directory");
    let root = tls::renew(directory.path());
    let https = free_port();
    let file = |name: &str| format!("\"{}\"", directory.path().join(name).display());
    let mut parvis = Parvis::before_http(origin.port)
        .with("listen.https", &format!("[\"127.0.0.1:{https}\"]"))
        .with("tls.certificate", &file("c.pem"))
        .with("tls.key", &file("k.pem"))
        .with("lifecycle.drain", "\"2s\"")
        .start();
    let mut successors = Successors::new();
    let port = parvis.port;
    let load = Load::new()
        .with(kept(port))
        .with(kept(port))
        .with(each_new(port))
        .with(each_new(port))
        .with(over_http2(https, root.clone()))
        .with(each_new_handshake(https, root));
    load.wait_for_more(100);
    for round in 1..=2 {
        let mut form = Client::connect(port);
        form.send(b"POST /form HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 6\r\n\r\nabc");
        let slow = thread::spawn(move || get(port, "/slow", &[]));
        wait_until("the slow fetch", Duration::from_secs(10), || {
            origin.seen().iter().filter(|seen| seen.target == "/slow").count() == round
        });
        successors.restart(&parvis);
        form.send(b"def");
        assert_eq!(form.read(false).expect("a whole response").text(), "6");
        assert_eq!(slow.join().expect("a response").text(), "content");
        load.wait_for_more(100);
    }
    let (failed, answered) = load.end();
    assert!(failed == 0 && answered >= 300, "{failed} clients failed, {answered} answers");
    first_ends(&mut parvis);
    assert_eq!(get(port, "/page", &[]).text(), "content");
}

#[test]
fn the_same_load_notices_a_restart_with_a_gap() {
    let origin = Origin::always(page("content", "t"));
    let mut parvis = Parvis::before_http(origin.port).start();
    let port = parvis.port;
    let load = Load::new().with(kept(port)).with(each_new(port));
    load.wait_for_more(20);
    parvis.process.signal("TERM");
    first_ends(&mut parvis);
    let _next = Parvis::before_http(origin.port).start_at(port);
    load.wait_for_more(20);
    assert_ne!(load.end().0, 0, "clients failed");
}

#[test]
fn each_process_counts_for_itself_and_an_idle_connection_gets_its_last_response() {
    let origin = Origin::always(page("content", "t"));
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"5s\"").start();
    let mut successors = Successors::new();
    let mut idle = Client::connect(parvis.port);
    for _ in 0..3 {
        assert_eq!(idle.ask("GET", "/old", &[], b"").status, 200);
    }
    let id = successors.restart(&parvis);
    assert_ne!(id, parvis.process.id());
    assert!(!parvis.process.has_ended(), "a client may still use its connection");
    let last = idle.ask("GET", "/old", &[], b"");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    first_ends(&mut parvis);
    assert_eq!(parvis.get("/new", &[]).status, 200);
    wait_until("the counters", Duration::from_secs(5), || {
        parvis.metric("parvis_requests_total{verdict=\"miss\"}") == Some(1.0)
    });
    assert_eq!(super::count(&parvis, "/old"), 4, "the log is one");
}
