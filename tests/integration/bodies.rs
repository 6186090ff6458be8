//! What PHP sees of a request, through a real PHP-FPM.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::support::client::Client;
use super::support::h2::{H2, Length};
use super::support::php::Php;
use super::support::{Parvis, Reply};

fn told(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_slice(&reply.decoded()).expect("JSON")
}

fn server<'a>(told: &'a Value, name: &str) -> Option<&'a str> {
    told["server"][name].as_str()
}

/// Content in which each place is different, so that a piece lost or doubled shows.
fn content(bytes: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(bytes)
        .collect()
}

fn sha1(content: &[u8]) -> String {
    let mut command = std::process::Command::new("sha1sum");
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sha1sum");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), content).expect("written");
    let output = child.wait_with_output().expect("a digest");
    String::from_utf8_lossy(&output.stdout)[..40].to_owned()
}

fn check(reply: &Reply, content: &[u8], what: &str) {
    let told = told(reply);
    assert_eq!(told["method"], "POST", "{what}");
    assert_eq!(told["bytes"], content.len(), "{what}");
    assert_eq!(told["sha1"], sha1(content), "{what}");
    let length = content.len().to_string();
    assert_eq!(server(&told, "CONTENT_LENGTH"), Some(&*length), "{what}");
    assert_eq!(server(&told, "HTTP_TRANSFER_ENCODING"), None, "{what}");
}

fn chunked(client: &mut Client, content: &[u8], chunk: usize) -> Reply {
    client.send(
        b"POST /post HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\
          Content-Type: application/octet-stream\r\n\r\n",
    );
    for piece in content.chunks(chunk) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes());
        client.send(piece);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    client.read(false).expect("a whole response")
}

#[test]
fn php_sees_exactly_the_bytes_that_were_posted_whatever_their_framing() {
    let php = Php::with_front_controller("echo.php", 4);
    let parvis = Parvis::before_php(&php).start();
    let binary = [("Content-Type", "application/octet-stream")];
    let (mut client, mut h2) = (Client::connect(parvis.port), H2::connect(parvis.port));
    for bytes in [0, 1, 65_535, 65_536, 300 << 10] {
        let content = content(bytes);
        let reply = client.ask("POST", "/post", &binary, &content);
        check(&reply, &content, &format!("{bytes} with their length"));
        let reply = chunked(&mut client, &content, 9_999);
        check(&reply, &content, &format!("{bytes} in chunks"));
        for (length, what) in [(Length::Told, "with"), (Length::Untold, "without")] {
            let reply = h2.ask("POST", "/post", &binary, &content, length);
            check(&reply, &content, &format!("{bytes} over HTTP/2 {what} a length"));
        }
    }
}

#[test]
fn php_reads_a_form_that_came_in_chunks() {
    let php = Php::with_front_controller("echo.php", 1);
    let parvis = Parvis::before_php(&php).start();
    let mut client = Client::connect(parvis.port);
    client.send(
        b"POST /form HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\
          Content-Type: application/x-www-form-urlencoded\r\n\r\n4\r\nqty=\r\n3\r\n2&a\r\n2\r\n=b\r\n0\r\n\r\n",
    );
    let told = told(&client.read(false).expect("a whole response"));
    assert_eq!(told["post"], serde_json::json!({"qty": "2", "a": "b"}));
}

#[test]
fn php_learns_of_https_and_of_the_client_from_trusted_hops_alone() {
    let php = Php::with_front_controller("echo.php", 2);
    let forwarded = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "443"),
    ];
    let parvis = Parvis::before_php(&php).start();
    for method in ["GET", "POST"] {
        let told = told(&parvis.ask(method, "/p", &forwarded, b""));
        assert_eq!(server(&told, "HTTPS"), Some("on"), "{method}");
        assert_eq!(server(&told, "SERVER_PORT"), Some("443"), "{method}");
        assert_eq!(server(&told, "REQUEST_SCHEME"), Some("https"), "{method}");
        assert_eq!(server(&told, "REMOTE_ADDR"), Some("203.0.113.9"), "{method}");
    }
    let parvis = Parvis::before_php(&php).with("listen.trusted", "[]").start();
    for method in ["GET", "POST"] {
        let told = told(&parvis.ask(method, "/p", &forwarded, b""));
        assert_eq!(server(&told, "HTTPS"), None, "{method}");
        assert_eq!(server(&told, "REMOTE_ADDR"), Some("127.0.0.1"), "{method}");
        assert_ne!(server(&told, "SERVER_PORT"), Some("443"), "{method}");
        assert_eq!(server(&told, "HTTP_X_FORWARDED_PROTO"), Some("http"), "{method}");
    }
}

#[test]
fn parameters_are_configured_for_all_hosts_and_for_one() {
    let php = Php::with_front_controller("echo.php", 2);
    let parvis = Parvis::before_php(&php)
        .with_toml(
            "[origin.params.\"*\"]\nMAGE_MODE = \"production\"\nMAGE_RUN_CODE = \"base\"\n\
             HTTP_X_BUILD = \"ours\"\n[origin.params.\"b2b.shop.test\"]\nMAGE_RUN_CODE = \"b2b\"\n",
        )
        .start();
    for (host, code) in
        [("shop.test", "base"), ("b2b.shop.test", "b2b"), ("B2B.shop.test:6081", "b2b")]
    {
        let told = told(&parvis.ask("POST", "/p", &[("Host", host), ("X-Build", "theirs")], b""));
        assert_eq!(server(&told, "MAGE_MODE"), Some("production"), "{host}");
        assert_eq!(server(&told, "MAGE_RUN_CODE"), Some(code), "{host}");
        assert_eq!(server(&told, "HTTP_X_BUILD"), Some("ours"), "{host}");
    }
}

#[test]
fn no_header_becomes_http_proxy_or_takes_the_place_of_another() {
    let php = Php::with_front_controller("echo.php", 2);
    let parvis = Parvis::before_php(&php).start();
    let headers = [
        ("Proxy", "http://evil.test"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("Content_Length", "5"),
        ("X_Magento_Vary", "x"),
    ];
    for method in ["GET", "POST"] {
        let told = told(&parvis.ask(method, "/p", &headers, b""));
        assert_eq!(server(&told, "HTTP_PROXY"), None, "{method}");
        assert_eq!(server(&told, "HTTP_X_FORWARDED_FOR"), Some("127.0.0.1"), "{method}");
        assert_eq!(server(&told, "HTTP_X_MAGENTO_VARY"), None, "{method}");
        assert_ne!(server(&told, "HTTP_CONTENT_LENGTH"), Some("5"), "{method}");
    }
}

#[test]
fn no_path_chooses_the_script_or_its_path_info() {
    let php = Php::with_front_controller("echo.php", 2);
    php.write("static/evil.php", b"<?php echo 'ran';");
    php.write("media/evil.php", b"<?php echo 'ran';");
    php.write("errors/evil.php", b"<?php echo 'ran';");
    php.write("evil.php", b"<?php echo 'ran';");
    let parvis = Parvis::before_php(&php).start();
    let index = format!("{}/index.php", php.root().display());
    for target in [
        "/index.php/catalog/product",
        "/index.php%0a/x.php",
        "/x%0ax.php",
        "/evil.php",
        "/evil.php/x.jpg",
        "/evil.php%00.jpg",
        "/evil.php%20",
        "/static/evil.php",
        "/media/evil.php",
        "/media/evil.php/x.jpg",
        "/errors/evil.php",
        "/media/../evil.php",
        "/.git/config",
    ] {
        for method in ["GET", "POST"] {
            let reply = parvis.ask(method, target, &[], b"");
            assert!(!reply.text().contains("ran"), "{target} ran a script of its choice");
            assert!(!reply.text().contains("<?php"), "{target} showed a script");
            if reply.status == 200 {
                let told = told(&reply);
                let script = server(&told, "SCRIPT_FILENAME").unwrap_or_default();
                let known = ["index.php", "static.php", "get.php"]
                    .map(|name| format!("{}/{name}", php.root().display()));
                assert!(known.iter().any(|own| own == script), "{target}: {script}");
            }
        }
    }
    let told = told(&parvis.get("/a/b?c=d", &[]));
    assert_eq!(server(&told, "SCRIPT_FILENAME"), Some(&*index));
    assert_eq!(server(&told, "REQUEST_URI"), Some("/a/b?c=d"));
}

#[test]
fn a_kept_connection_to_php_never_serves_the_rest_of_a_cut_exchange() {
    let php = Php::with_front_controller("echo.php", 2);
    let parvis = Parvis::before_php_with_knobs(&php)
        .with("origin.keep_alive", "\"20s\"")
        .with("origin.concurrency_max", "2")
        .start();
    for round in 0..6 {
        for method in ["GET", "POST"] {
            let mut gone = Client::connect(parvis.port);
            gone.send(
                format!("{method} /gone?pause=200&r={round} HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                    .as_bytes(),
            );
            // Before the head, with it, and in the middle of the content.
            thread::sleep(Duration::from_millis(60 * (round % 3) + 5));
            drop(gone);
            for next in 0..3 {
                let target = format!("/next?n={next}&r={round}");
                let told = told(&parvis.ask(method, &target, &[], b""));
                assert_eq!(server(&told, "REQUEST_URI"), Some(&*target));
            }
        }
    }
}
