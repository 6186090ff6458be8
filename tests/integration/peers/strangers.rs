//! Nothing on the port of the nodes can be reached by somebody who is none.

use std::net::TcpStream;
use std::sync::Arc;

use http::{Method, Request};
use parvis::fleet::log::Token;
use parvis::fleet::peer::seal::{Sealed, Secret, Subject};

use super::played::Played;
use super::{PATIENCE, SECRET, Shop, started};
use crate::support::Parvis;
use crate::support::client::raw;
use crate::support::process::{free_port, wait_until};
use crate::support::redis::Redis;

/// Somebody who speaks HTTP/2 to a node's port.
struct Stranger {
    runtime: tokio::runtime::Runtime,
    sender: h2::client::SendRequest<bytes::Bytes>,
}

impl Stranger {
    fn connect(port: u16) -> Self {
        let runtime = crate::support::h2::runtime();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("open");
            let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// Status and challenge.
    fn ask(
        &self,
        method: Method,
        path: &str,
        seal: Option<Sealed>,
        content: &[u8],
    ) -> (u16, Option<Token>) {
        let mut request = Request::builder().method(method).uri(format!("http://a{path}"));
        if let Some(seal) = seal {
            request = request.header("parvis-seal", &seal.to_value()[..]);
        }
        let request = request.body(()).expect("a request");
        let content = bytes::Bytes::copy_from_slice(content);
        self.runtime.block_on(async {
            let mut sender = self.sender.clone().ready().await.expect("open");
            let (response, mut body) = sender.send_request(request, false).expect("sent");
            body.send_data(content, true).expect("sent");
            let response = response.await.expect("an answer");
            let challenge = response.headers().get("parvis-challenge");
            let challenge = challenge.and_then(|value| Token::parse(value.as_bytes()));
            (response.status().as_u16(), challenge)
        })
    }

    fn challenge(&self) -> Token {
        let (status, challenge) = self.ask(Method::GET, "/challenge", None, b"");
        assert_eq!(status, 401);
        challenge.expect("a challenge")
    }
}

fn refused(node: &Parvis) -> Option<f64> {
    node.metric("parvis_peers_refused_total ")
}

fn node_with_port(shop: &Shop, redis: &Redis) -> (Parvis, u16) {
    let port = free_port();
    let node = shop.node("web-1", redis).with("fleet.listen", &format!("\"127.0.0.1:{port}\""));
    let node = node.start();
    wait_until("the door", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (node, port)
}

#[test]
fn forged_and_replayed_requests_are_refused_and_counted() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let (node, port) = node_with_port(&shop, &redis);
    let stranger = Stranger::connect(port);
    let challenge = stranger.challenge();
    assert_eq!(refused(&node), Some(0.0), "to ask for a challenge is no forgery");
    let subject =
        |challenge, content| Subject { challenge, method: "POST", path: "/page", content };
    let nonce = Token::new([7; 16]);
    let (secret, content) = (Secret::new(SECRET), &b"no question"[..]);
    let right = secret.seal(subject(challenge, content), 1, nonce);
    let forged =
        Secret::new("another secret of a fleet").seal(subject(challenge, content), 2, nonce);
    let knock = |seal, content: &[u8]| stranger.ask(Method::POST, "/page", seal, content).0;
    assert_eq!(knock(None, content), 403);
    assert_eq!(knock(Some(forged), content), 403);
    assert_eq!(knock(Some(right), b"something else"), 403);
    assert_eq!(refused(&node), Some(3.0));
    // Who knows the secret gets in, once; this one then asks for nothing that makes sense.
    assert_eq!(knock(Some(right), content), 400);
    assert_eq!(refused(&node), Some(3.0));
    assert_eq!(knock(Some(right), content), 403, "replayed on its own connection");
    let other = Stranger::connect(port);
    assert_ne!(other.challenge(), challenge);
    assert_eq!(other.ask(Method::POST, "/page", Some(right), content).0, 403, "and on another");
    assert_eq!(refused(&node), Some(5.0));
    assert_eq!(shop.origin.count(), 0);
    assert!(node.stderr().contains("a request of no node of this fleet"), "{}", node.stderr());
}

#[test]
fn every_path_is_closed_to_strangers() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let (node, port) = node_with_port(&shop, &redis);
    for path in ["/", "/page", "/metrics", "/.parvis/ready", "/challenge/"] {
        assert_eq!(Stranger::connect(port).ask(Method::GET, path, None, b"").0, 403, "{path}");
    }
    for path in ["/page", "/hottest", "/take", "/leaving"] {
        assert_eq!(Stranger::connect(port).ask(Method::POST, path, None, b"").0, 403, "{path}");
    }
    assert_eq!(refused(&node), Some(9.0));
    // Nor is HTTP/1.1 spoken.
    let said = raw(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!said.starts_with(b"HTTP/1.1"), "{}", String::from_utf8_lossy(&said));
}

/// An authority, and a node's certificate by it, as PEM files in a directory.
fn certificates(directory: &std::path::Path, authority: &str, names: &[&str]) {
    let issuer_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&issuer_key).expect("made");
    let write =
        |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("written");
    write(&format!("{authority}.pem"), &root.pem());
    let issuer = rcgen::Issuer::new(params, issuer_key);
    for name in names {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new([(*name).to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &issuer).expect("made");
        write(&format!("{name}.pem"), &certificate.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}

#[test]
fn nodes_know_each_other_by_certificates_too() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    certificates(directory.path(), "authority", &["web-1", "web-2"]);
    certificates(directory.path(), "other", &["web-3"]);
    let node = |name: &str, authority: &str| {
        let file = |name: String| format!("\"{}\"", directory.path().join(name).display());
        shop.node(name, &redis)
            .with("fleet.secret", "\"\"")
            .with("fleet.certificate", &file(format!("{name}.pem")))
            .with("fleet.key", &file(format!("{name}.key")))
            .with("fleet.authority", &file(format!("{authority}.pem")))
    };
    let nodes = started([node("web-1", "authority"), node("web-2", "authority")].into_iter());
    assert_eq!(super::once::ask_all(&nodes, 20, "tls"), 0);
    assert_eq!(shop.renders("/tls"), 20);
    // One whose certificate is of another authority believes them, and they do not believe it.
    let third = node("web-3", "authority").start();
    wait_until("the others", PATIENCE, || third.metric("parvis_peers_known ") == Some(2.0));
    wait_until("it to be refused", PATIENCE, || {
        for page in 0..20 {
            assert_eq!(third.get(&format!("/tls-{page}"), &[]).status, 200);
        }
        nodes.iter().any(|node| refused(node) > Some(0.0))
    });
    assert_eq!(third.metric("parvis_peers_borrowed_total "), Some(0.0));
}

#[test]
fn an_answer_that_is_not_sealed_by_the_fleet_is_not_believed() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis).start();
    let played = Played::beside(&node, &redis);
    let (target, reply) = played.when_asked(&node, "forged", |_, asked| {
        let page = asked.page("0 forged");
        asked.answer(&page, "another secret of a fleet");
    });
    assert!(!reply.text().contains("forged"), "{}", reply.text());
    assert_eq!(shop.renders(&target), 1);
    assert_eq!(node.metric("parvis_peers_failed_total "), Some(1.0));
}
