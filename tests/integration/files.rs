//! Magento's `pub/` through the binary: files from the disk, scripts from PHP-FPM, links, denied
//! places, uploads and downloads.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::php::Php;
use super::support::process::wait_until;
use super::support::{Parvis, get};

const STYLES: &str = "/static/version1700000000/frontend/styles.css";

const FRONT_CONTROLLER: &[u8] = br#"<?php
header_remove('X-Powered-By');
header('Cache-Control: no-store');
header('Content-Type: text/plain');
switch (strtok($_SERVER['REQUEST_URI'], '?')) {
case '/upload':
    $body = file_get_contents('php://input');
    echo $_SERVER['CONTENT_LENGTH'] ?? '-', ' ', strlen($body), ' ', crc32($body);
    break;
case '/download':
    header('X-Accel-Buffering: no');
    header('Content-Type: application/octet-stream');
    while (ob_get_level() > 0) { ob_end_clean(); }
    for ($i = 0; $i < 40; $i++) { echo "part $i\n"; flush(); usleep(50000); }
    break;
case '/fatal':
    header('Cache-Control: public, max-age=86400');
    header('X-Magento-Tags: store');
    no_such_function();
default:
    echo 'front controller ', $_SERVER['REQUEST_URI'];
}
"#;

/// A web root as Magento has it.
fn shop() -> Php {
    let php = Php::with_front_controller("work.php", 4);
    php.write("index.php", FRONT_CONTROLLER);
    php.write("static.php", b"<?php echo 'static.php ', $_GET['resource'] ?? '-';");
    php.write("get.php", b"<?php echo 'get.php ', $_SERVER['REQUEST_URI'];");
    php.write("errors/404.php", b"<?php http_response_code(404); echo 'no such thing';");
    php.write("cron.php", b"<?php echo 'secret';");
    php.write("static/frontend/styles.css", ".rule { color: red }\n".repeat(1_000).as_bytes());
    php.write("static/frontend/plain.js", "let a = 1;\n".repeat(1_000).as_bytes());
    php.write("media/catalog/large.jpg", &numbers(3_000_000));
    php.write("media/catalog/small.jpg", b"image");
    php
}

/// Bytes that tell their place.
fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_versioned_static_file_is_immutable_has_a_length_and_revalidates() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    let reply = parvis.get(STYLES, &[]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.len(), 21_000);
    assert_eq!(reply.header("content-length"), Some("21000"));
    assert_eq!(reply.header("content-type"), Some("text/css"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert!(reply.cache_status().contains("static-file"), "{}", reply.cache_status());
    let tag = reply.header("etag").expect("a validator").to_owned();
    let modified = reply.header("last-modified").expect("a date").to_owned();
    for condition in [("If-None-Match", &*tag), ("If-Modified-Since", &*modified)] {
        let again = parvis.get(STYLES, &[condition]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{condition:?}");
        assert_eq!(again.header("etag"), Some(&*tag));
    }
    let head = parvis.ask("HEAD", STYLES, &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("21000")));
    let unversioned = parvis.get("/static/frontend/styles.css", &[]);
    assert_eq!(unversioned.header("cache-control"), Some("public, max-age=31536000"));
    assert_eq!(parvis.ask("POST", STYLES, &[], b"a").status, 405);
}

#[test]
fn a_file_counts_as_a_file_and_what_php_makes_in_its_place_does_not() {
    let php = shop();
    php.write("robots.txt", b"User-agent: *");
    let parvis = Parvis::before_php(&php).start();
    for (target, verdict) in [
        (STYLES, "file"),
        ("/robots.txt", "file"),
        ("/media/catalog/none.jpg", "pass"),
        ("/customer/account", "pass"),
    ] {
        parvis.get(target, &[]);
        let logged = format!("\"verdict\":\"{verdict}\"");
        wait_until(target, Duration::from_secs(5), || {
            parvis.access_log().lines().any(|line| line.contains(target) && line.contains(&logged))
        });
    }
    let metrics = get(parvis.control, "/metrics", &[]).text();
    assert!(metrics.contains("parvis_requests_total{verdict=\"file\"} 2"), "{metrics}");
    let asked = parvis.access_log();
    let of_file = asked.lines().find(|line| line.contains("robots.txt")).expect("a line");
    assert!(of_file.contains("\"first_byte_seconds\":null"), "{of_file}");
}

#[test]
fn a_precompressed_neighbour_goes_to_who_takes_it() {
    let php = shop();
    php.write("static/frontend/styles.css.br", b"brotli");
    php.write("static/frontend/styles.css.gz", b"gzip");
    let parvis = Parvis::before_php(&php).start();
    for (accepted, coding, content) in [
        ("gzip, deflate, br", Some("br"), &b"brotli"[..]),
        ("gzip", Some("gzip"), b"gzip"),
        ("br;q=0, gzip;q=0.5", Some("gzip"), b"gzip"),
    ] {
        let reply = parvis.get(STYLES, &[("Accept-Encoding", accepted)]);
        assert_eq!(reply.header("content-encoding"), coding, "{accepted}");
        assert_eq!(reply.body, content, "{accepted}");
        assert_eq!(reply.all("vary"), ["Accept-Encoding"]);
    }
    let plain = parvis.get(STYLES, &[("Accept-Encoding", "identity")]);
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, 21_000));
}

#[test]
fn a_script_without_a_neighbour_is_compressed_on_its_way_and_still_revalidates() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    let target = "/static/version1/frontend/plain.js";
    let reply = parvis.get(target, &[("Accept-Encoding", "gzip")]);
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert!(reply.body.len() < 1_000, "{} bytes", reply.body.len());
    assert_eq!(reply.decoded().len(), 11_000);
    let tag = reply.header("etag").expect("a validator").to_owned();
    assert!(tag.starts_with("W/"), "two codings share it: {tag}");
    let again = parvis.get(target, &[("Accept-Encoding", "gzip"), ("If-None-Match", &tag)]);
    assert_eq!(again.status, 304);
}

#[test]
fn ranges_of_a_file_are_served_and_impossible_ones_refused() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    let (target, content) = ("/media/catalog/large.jpg", numbers(3_000_000));
    for (range, from, to) in [
        ("bytes=0-9", 0, 10),
        ("bytes=2000000-2499999", 2_000_000, 2_500_000),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
    ] {
        let reply = parvis.get(target, &[("Range", range)]);
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.body == content[from..to], "{range}");
        let expected = format!("bytes {from}-{}/3000000", to - 1);
        assert_eq!(reply.header("content-range"), Some(&*expected));
    }
    let refused = parvis.get(target, &[("Range", "bytes=3000000-")]);
    assert_eq!((refused.status, refused.header("content-range")), (416, Some("bytes */3000000")));
    let whole = parvis.get(target, &[("Range", "bytes=0-9"), ("If-Range", "\"another\"")]);
    assert!(whole.status == 200 && whole.body == content);
}

#[test]
fn missing_media_go_to_get_php_and_missing_static_files_to_static_php() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    for (target, expected) in [
        ("/media/catalog/cache/1.jpg?w=2", "get.php /media/catalog/cache/1.jpg?w=2"),
        ("/static/version12/frontend/a.css", "static.php frontend/a.css"),
        ("/static/frontend/b.css", "static.php frontend/b.css"),
        ("/some/page.html?a=1", "front controller /some/page.html?a=1"),
    ] {
        let reply = parvis.get(target, &[]);
        assert_eq!((reply.status, &*reply.text()), (200, expected));
    }
}

#[test]
fn denied_places_and_hidden_files_are_not_found() {
    let php = shop();
    for path in [
        "media/customer/id.pdf",
        "media/downloadable/1.zip",
        "media/import/prices.csv",
        "media/custom_options/x.pdf",
        "media/theme_customization/x.xml",
        "static/script.php",
        "errors/local.xml",
        ".user.ini",
        ".htaccess",
        "static/.git/config",
        "setup/index.php",
    ] {
        php.write(path, b"secret");
    }
    php.write(".well-known/acme-challenge/token", b"challenge");
    php.write("robots.txt", b"User-agent: *");
    let parvis = Parvis::before_php(&php).start();
    for target in [
        "/media/customer/id.pdf",
        "/media//customer/id.pdf",
        "/media/%63ustomer/id.pdf",
        "/pub/media/customer/id.pdf",
        "/media/downloadable/1.zip",
        "/media/import/prices.csv",
        "/media/custom_options/x.pdf",
        "/media/theme_customization/x.xml",
        "/static/script.php",
        "/static/version1/script.php",
        "/errors/local.xml",
        "/.user.ini",
        "/.htaccess",
        "/static/.git/config",
        "/setup/index.php",
        "/cron.php",
    ] {
        let reply = parvis.get(target, &[]);
        assert_eq!((reply.status, &*reply.text()), (404, "no such thing"), "{target}");
    }
    assert_eq!(parvis.get("/.well-known/acme-challenge/token", &[]).text(), "challenge");
    assert_eq!(parvis.get("/robots.txt", &[]).text(), "User-agent: *");
    for target in ["/static/../../etc/passwd", "/media/%00.jpg", "/static/%2e%2e/%2e%2e/x"] {
        let reply = parvis.get(target, &[]);
        assert!(reply.status == 400 || reply.text().starts_with("front controller"), "{target}");
    }
}

#[test]
fn a_link_to_an_allowed_place_is_followed_and_one_to_elsewhere_is_not_but_logged() {
    let php = shop();
    let outside = tempfile::tempdir().expect("a directory");
    for name in ["media", "secret"] {
        std::fs::create_dir(outside.path().join(name)).expect("created");
        std::fs::write(outside.path().join(name).join("a.jpg"), name).expect("written");
        let link = php.root().join("media").join(format!("link-{name}"));
        symlink(outside.path().join(name), link).expect("a link");
    }
    let allowed = outside.path().join("media");
    let links = format!("[\"{}\"]", allowed.display());
    let parvis = Parvis::before_php(&php).with("origin.links", &links).start();
    assert_eq!(parvis.get("/media/link-media/a.jpg", &[]).text(), "media");
    assert!(!parvis.stderr().contains("origin.links"));
    assert_eq!(
        parvis.get("/media/link-secret/a.jpg", &[]).text(),
        "get.php /media/link-secret/a.jpg"
    );
    wait_until("the warning", Duration::from_secs(5), || parvis.stderr().contains("origin.links"));
}

#[test]
fn a_large_upload_reaches_php_whole_with_its_length_also_without_one_from_the_client() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    let body = numbers(2_000_000);
    let checksum = crc32(&body);
    let expected = format!("2000000 2000000 {checksum}");
    assert_eq!(parvis.ask("POST", "/upload", &[], &body).text(), expected);

    let mut client = Client::connect(parvis.port);
    client.send(b"POST /upload HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(64 << 10) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes());
        client.send(piece);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.read(false).expect("a response").text(), expected);
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut checksum = flate2::Crc::new();
    checksum.update(bytes);
    checksum.sum()
}

#[test]
fn a_download_that_is_not_to_be_buffered_arrives_while_php_makes_it() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    let mut client = Client::connect(parvis.port);
    let began = Instant::now();
    client.send(b"GET /download HTTP/1.1\r\nHost: shop.test\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.read_head().expect("a head");
    assert_eq!((head.status, head.header("x-accel-buffering")), (200, None));
    let first = began.elapsed();
    let mut last = [0; 5];
    while &last != b"0\r\n\r\n" {
        last.rotate_left(1);
        last[4] = client.first_byte().expect("more");
    }
    let whole = began.elapsed();
    assert!(first * 2 < whole, "the head took {first:?} of {whole:?}");
}

#[test]
fn a_fatal_error_of_php_is_a_500_that_is_not_stored_and_is_in_the_log() {
    let php = shop();
    let parvis = Parvis::before_php(&php).start();
    for _ in 0..2 {
        let reply = parvis.get("/fatal", &[]);
        assert_eq!((reply.status, reply.is_hit()), (500, false));
    }
    wait_until("the error", Duration::from_secs(5), || {
        (parvis.stderr() + &php.log()).contains("no_such_function")
    });
}

#[test]
fn a_missing_socket_is_a_502_with_its_cause_in_the_log_until_php_fpm_is_there() {
    let mut php = shop();
    php.kill();
    std::fs::remove_file(php.socket()).expect("a socket");
    let parvis = Parvis::before_php(&php).start();
    let reply = parvis.get("/page", &[]);
    assert_eq!(reply.status, 502);
    assert!(reply.cache_status().contains("origin-refused"), "{}", reply.cache_status());
    let cause = format!("cannot connect to unix:{}: No such file", php.socket().display());
    wait_until("the cause", Duration::from_secs(5), || parvis.stderr().contains(&cause));
    assert_eq!(parvis.get("/media/catalog/small.jpg", &[]).text(), "image");
    php.start();
    assert_eq!(parvis.get("/page", &[]).text(), "front controller /page");
}
