//! TLS as a browser meets it: protocols by ALPN, and certificates that are renewed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::Parvis;
use super::support::h2::{H2, Length, runtime};
use super::support::origin::{Origin, page};
use super::support::process::{free_port, wait_until};

/// Makes a key and a certificate for it, and gives the certificate.
pub fn renew(directory: &Path) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).expect("made");
    std::fs::write(directory.join("c.pem"), pair.cert.pem()).expect("written");
    std::fs::write(directory.join("k.pem"), pair.signing_key.serialize_pem()).expect("written");
    pair.cert.der().clone()
}

fn started(origin: &Origin, directory: &Path) -> (Parvis, u16) {
    let port = free_port();
    let file = |name: &str| format!("\"{}\"", directory.join(name).display());
    let parvis = Parvis::before_http(origin.port)
        .with("listen.https", &format!("[\"127.0.0.1:{port}\"]"))
        .with("tls.certificate", &file("c.pem"))
        .with("tls.key", &file("k.pem"))
        .start();
    (parvis, port)
}

pub async fn open(
    port: u16,
    root: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("shop.test").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

pub fn h2(port: u16, root: &CertificateDer<'static>) -> std::io::Result<H2> {
    let runtime = runtime();
    let stream = runtime.block_on(open(port, root, &[b"h2", b"http/1.1"]))?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    Ok(H2::on(runtime, stream))
}

async fn over_http1(stream: &mut TlsStream<TcpStream>, target: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn alpn_chooses_the_protocol_and_both_share_the_stored_page() {
    let origin = Origin::always(page("content", "t"));
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = renew(directory.path());
    let (parvis, port) = started(&origin, directory.path());
    let mut client = h2(port, &certificate).expect("TLS");
    assert_eq!(client.ask("GET", "/p", &[], b"", Length::Told).status, 200);
    wait_until("storing", Duration::from_secs(5), || {
        client.ask("GET", "/p", &[], b"", Length::Told).is_hit()
    });
    let runtime = runtime();
    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let answer = runtime.block_on(async {
            let mut stream = open(port, &certificate, protocols).await.expect("TLS");
            over_http1(&mut stream, "/p").await
        });
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("; hit"), "{answer}");
        assert!(answer.ends_with("content"), "{answer}");
    }
    assert!(!parvis.get("/p", &[]).is_hit(), "a page of https is not that of http");
    let seen = origin.seen();
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("https"));
    let told = seen[0].header("x-forwarded-port");
    assert_eq!(told, Some(&*port.to_string()), "the port that the client used");
}

#[test]
fn sighup_brings_a_renewed_certificate_and_a_broken_one_leaves_the_old() {
    let origin = Origin::always(page("content", "t"));
    let directory = tempfile::tempdir().expect("a directory");
    let first = renew(directory.path());
    let (parvis, port) = started(&origin, directory.path());
    let mut old = h2(port, &first).expect("TLS");
    let ask = |client: &mut H2| client.ask("GET", "/p", &[], b"", Length::Told).status;
    assert_eq!(ask(&mut old), 200);
    let second = renew(directory.path());
    assert!(h2(port, &second).is_err(), "nothing changes before the signal");
    parvis.process.signal("HUP");
    wait_until("the new certificate", Duration::from_secs(5), || h2(port, &second).is_ok());
    assert!(h2(port, &first).is_err());
    assert_eq!(ask(&mut old), 200, "connections that were open stay");

    std::fs::write(directory.path().join("k.pem"), "no key").expect("written");
    parvis.process.signal("HUP");
    wait_until("the refusal", Duration::from_secs(5), || parvis.stderr().contains("k.pem"));
    assert_eq!(ask(&mut h2(port, &second).expect("the certificate in force")), 200);
}

#[test]
fn hints_and_tunnels_pass_over_tls_as_they_come() {
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let origin = Origin::start(|seen, stream| {
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        if seen.header("upgrade").is_some() {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let mut buffer = [0; 100];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..count]);
            }
        }
        // Otherwise the page never comes: the hint must not wait for it.
        std::thread::sleep(Duration::from_secs(60));
    });
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = renew(directory.path());
    let (_parvis, port) = started(&origin, directory.path());
    runtime().block_on(async {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let mut stream = open(port, &certificate, &[b"http/1.1"]).await.expect("TLS");
        let get = "GET /held HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        stream.write_all(get.as_bytes()).await.expect("sent");
        let mut answer = vec![0; hint.len()];
        let reading = stream.read_exact(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("in time").expect("a hint");
        assert_eq!(answer, hint.as_bytes());
        let mut stream = open(port, &certificate, &[b"http/1.1"]).await.expect("TLS");
        let offer = "GET /socket HTTP/1.1\r\nHost: shop.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly";
        stream.write_all(offer.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        while !answer.ends_with("early") {
            let byte = tokio::time::timeout(Duration::from_secs(20), stream.read_u8()).await;
            answer.push(byte.expect("in time").expect("a byte") as char);
        }
        assert!(answer.starts_with(hint) && answer.contains("HTTP/1.1 101 "), "{answer}");
    });
}
