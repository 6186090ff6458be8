//! TLS: protocols by ALPN, and certificates that change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parvis::listener::TlsServer;
use parvis::listener::tls::load;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http2::{connect, content, get};
use super::{Client, Door};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Made {
    server: Arc<rustls::ServerConfig>,
    roots: RootCertStore,
}

fn make(directory: &Path) -> Made {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let (certificate, key) = (directory.join("c.pem"), directory.join("k.pem"));
    std::fs::write(&certificate, pair.cert.pem()).expect("written");
    std::fs::write(&key, pair.signing_key.serialize_pem()).expect("written");
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).expect("a root");
    Made { server: load(&certificate, &key).expect("loads").config, roots }
}

async fn handshake(
    door: &Door,
    roots: &RootCertStore,
    protocols: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(door.address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = make(directory.path());
    let tls = Arc::new(TlsServer::new(made.server));
    let door = Door::open_tls(Some(tls), |_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let versions = &[version];
        let stream = handshake(&door, &made.roots, &[b"h2", b"http/1.1"], versions).await;
        let stream = stream.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let response = connect(stream).await.send_request(get("https://a/")).await.expect("one");
        assert_eq!(content(response).await.expect("content"), b"GET / a HTTP/2.0 ");

        for protocols in [&[&b"http/1.1"[..]][..], &[]] {
            let stream = handshake(&door, &made.roots, protocols, versions).await.expect("TLS");
            let mut client = Client::new(stream);
            assert_eq!(client.ask(GET).await.content, "GET / a HTTP/1.1 ");
            assert_eq!(client.ask(GET).await.content, "GET / a HTTP/1.1 ");
        }
    }
}

#[tokio::test]
async fn large_content_passes_through_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = make(directory.path());
    let door = Door::open_tls(Some(Arc::new(TlsServer::new(made.server))), |_| {});
    let stream = handshake(&door, &made.roots, &[], rustls::DEFAULT_VERSIONS).await.expect("TLS");
    let mut client = Client::new(stream);
    client.write("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    let large = super::large();
    assert!(client.take(large.len()).await == large);
}

#[tokio::test]
async fn a_replaced_certificate_is_used_for_new_connections_and_old_ones_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (make(directory.path()), make(directory.path()));
    let tls = Arc::new(TlsServer::new(first.server));
    let door = Door::open_tls(Some(Arc::clone(&tls)), |_| {});
    let versions = rustls::DEFAULT_VERSIONS;
    let stream = handshake(&door, &first.roots, &[], versions).await.expect("TLS");
    let mut client = Client::new(stream);
    assert_eq!(client.ask(GET).await.status, 200);
    tls.replace(second.server);
    handshake(&door, &first.roots, &[], versions).await.expect_err("another certificate");
    handshake(&door, &second.roots, &[], versions).await.expect("TLS");
    assert_eq!(client.ask(GET).await.status, 200);
}

#[tokio::test]
async fn a_handshake_must_come_within_the_header_timeout() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = make(directory.path());
    let door = Door::open_tls(Some(Arc::new(TlsServer::new(made.server))), |listen| {
        listen.header_timeout = Duration::from_millis(100);
    });
    let mut silent = door.client().await;
    assert!(silent.rest().await.is_empty());
    let mut clear = door.client().await;
    clear.write(GET).await;
    let alert = clear.rest().await;
    assert!(alert.len() < 10, "an alert at most: {alert:?}");
    assert_eq!(door.shutdown.connections().counts().tls_handshakes_failed, 2);
}

#[tokio::test]
async fn the_protocol_that_was_agreed_on_is_the_one_that_is_spoken() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = make(directory.path());
    let door = Door::open_tls(Some(Arc::new(TlsServer::new(made.server))), |_| {});
    let versions = rustls::DEFAULT_VERSIONS;
    let stream = handshake(&door, &made.roots, &[b"h2"], versions).await.expect("TLS");
    let mut client = Client::new(stream);
    client.write(GET).await;
    let answer = client.rest().await;
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");

    let stream = handshake(&door, &made.roots, &[b"http/1.1"], versions).await.expect("TLS");
    let mut client = Client::new(stream);
    client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let answer = client.rest().await;
    assert!(answer.starts_with(b"HTTP/1.1 505 "), "{answer:?}");
    assert_eq!(door.teller.started(), 0);
}

#[tokio::test]
async fn a_flood_is_told_to_calm_down_through_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = make(directory.path());
    let door = Door::open_tls(Some(Arc::new(TlsServer::new(made.server))), |_| {});
    let stream = handshake(&door, &made.roots, &[b"h2"], rustls::DEFAULT_VERSIONS).await;
    let mut client = Client::new(stream.expect("TLS"));
    let settings = b"\0\0\0\x04\0\0\0\0\0".repeat(1_002);
    client.write([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await;
    let answer = client.rest().await;
    let goaway = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
    assert!(answer.ends_with(goaway), "{:?}", answer.iter().rev().take(20).collect::<Vec<_>>());
}
