//! Parts of what is stored, and conditions on it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::support::Parvis;
use super::support::client::Reply;
use super::support::origin::Origin;
use super::support::parvis::Builder;
use super::support::process::wait_until;

const MODIFIED: &str = "Sun, 22 Nov 2020 10:00:00 GMT";
const DATE: &str = "Sun, 22 Nov 2026 10:00:00 GMT";
const EARLIER: &str = "Sun, 22 Nov 2020 09:59:59 GMT";

/// Content in which each place is different.
fn document() -> Vec<u8> {
    (0..10_000u32).flat_map(|number| format!("{number:05};").into_bytes()).collect()
}

fn send(stream: &mut TcpStream, fields: &str, content: &[u8]) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=600, s-maxage=600\r\n\
         X-Magento-Tags: t\r\n{fields}Connection: close\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), content].concat());
}

/// A PDF, which has one form; HTML, which has several; a page with an include.
fn origin() -> Origin {
    Origin::start(|seen, stream| {
        let validators = format!("ETag: \"a\"\r\nLast-Modified: {MODIFIED}\r\n");
        match seen.target.as_str() {
            "/page" => {
                let fields = format!("Content-Type: text/html\r\n{validators}");
                send(stream, &fields, &document());
            }
            "/joined" => {
                let page = [&document()[..], b"<esi:include src=\"/menu\"/>"].concat();
                let fields = format!("Content-Type: text/html\r\n{validators}");
                send(stream, &fields, &page);
            }
            "/menu" => send(stream, "Content-Type: text/html\r\n", b"<nav>"),
            "/coded" => {
                let fields =
                    format!("Content-Type: text/html\r\nContent-Encoding: x\r\n{validators}");
                send(stream, &fields, &document());
            }
            _ => {
                let fields = format!(
                    "Content-Type: application/pdf\r\nDate: {}\r\nAccept-Ranges: bytes\r\n{validators}",
                    httpdate::fmt_http_date(std::time::SystemTime::now())
                );
                send(stream, &fields, &document());
            }
        }
    })
}

/// Both policies, over both protocols.
fn each(origin: &Origin, check: impl Fn(&Parvis)) {
    for policy in ["magento", "generic"] {
        for http2 in [false, true] {
            let parvis = builder(origin, policy).start();
            check(&if http2 { parvis.over_http2() } else { parvis });
        }
    }
}

fn builder(origin: &Origin, policy: &str) -> Builder {
    Parvis::before_http(origin.port)
        .with("site.policy", &format!("\"{policy}\""))
        .with("site.age", "true")
}

fn store(parvis: &Parvis, target: &str) {
    let is_stored = || parvis.get(target, &[]).is_hit();
    wait_until("storing", Duration::from_secs(10), is_stored);
}

fn range(parvis: &Parvis, target: &str, range: &str) -> Reply {
    parvis.get(target, &[("Range", range)])
}

#[test]
fn a_range_is_cut_from_what_is_stored_without_asking_the_origin() {
    let origin = origin();
    let document = document();
    each(&origin, |parvis| {
        store(parvis, "/document");
        let asked = origin.count();
        for (asked, start, end) in
            [("bytes=0-9", 0, 10), ("bytes=59990-", 59_990, 60_000), ("bytes=-6", 59_994, 60_000)]
        {
            let reply = range(parvis, "/document", asked);
            assert_eq!(reply.status, 206, "{asked}");
            assert!(reply.body == document[start..end], "{asked}");
            let content_range = format!("bytes {start}-{}/60000", end - 1);
            assert_eq!(reply.header("content-range"), Some(&*content_range));
            assert_eq!(reply.header("content-length"), Some(&*(end - start).to_string()));
            assert_eq!(reply.header("content-type"), Some("application/pdf"));
            assert_eq!(reply.header("etag"), Some("\"a\""));
            assert_eq!(reply.header("accept-ranges"), Some("bytes"));
            assert!(reply.is_hit());
        }
        assert_eq!(origin.count(), asked);
    });
}

#[test]
fn several_ranges_are_sent_in_one_answer_up_to_a_bound() {
    let origin = origin();
    let document = document();
    each(&origin, |parvis| {
        store(parvis, "/document");
        let reply = range(parvis, "/document", "bytes=0-4, 100-104,-5");
        assert_eq!(reply.status, 206);
        let content_type = reply.header("content-type").expect("a type");
        let boundary =
            content_type.strip_prefix("multipart/byteranges; boundary=").expect("multipart");
        let mut expected = String::new();
        for (start, end) in [(0, 5), (100, 105), (59_995, 60_000)] {
            expected.push_str(&format!(
                "\r\n--{boundary}\r\nContent-Type: application/pdf\r\n\
                 Content-Range: bytes {start}-{}/60000\r\n\r\n{}",
                end - 1,
                String::from_utf8_lossy(&document[start..end])
            ));
        }
        expected.push_str(&format!("\r\n--{boundary}--\r\n"));
        assert_eq!(String::from_utf8_lossy(&reply.body), expected);
        let reply = range(parvis, "/document", "bytes=0-4,2-9,10-11");
        assert_eq!(reply.header("content-range"), Some("bytes 0-11/60000"), "they meet");
        let many: Vec<String> = (0..17).map(|n| format!("{}-{}", n * 9, n * 9)).collect();
        let reply = range(parvis, "/document", &format!("bytes={}", many.join(",")));
        assert_eq!((reply.status, reply.body.len()), (200, 60_000));
        let reply = range(parvis, "/document", &format!("bytes={}", many[..16].join(",")));
        assert_eq!(reply.status, 206);
    });
    let none = builder(&origin, "generic").with("store.ranges_max", "0").start();
    store(&none, "/document");
    assert_eq!(range(&none, "/document", "bytes=0-4").status, 200);
}

#[test]
fn a_range_beyond_the_end_is_416_and_one_that_is_none_gets_the_whole() {
    let origin = origin();
    each(&origin, |parvis| {
        store(parvis, "/document");
        let reply = range(parvis, "/document", "bytes=60000-");
        assert_eq!((reply.status, reply.body.len()), (416, 0));
        assert_eq!(reply.header("content-range"), Some("bytes */60000"));
        assert_eq!(reply.header("cache-control"), None, "nobody keeps it as the page");
        for ignored in ["bytes=5-1", "bytes=x", "lines=0-1", "bytes=0-1,x", "bytes"] {
            let reply = range(parvis, "/document", ignored);
            assert_eq!((reply.status, reply.body.len()), (200, 60_000), "{ignored}");
        }
    });
}

#[test]
fn if_range_wants_the_very_version() {
    let origin = origin();
    each(&origin, |parvis| {
        store(parvis, "/document");
        for (if_range, status) in [
            ("\"a\"", 206),
            (MODIFIED, 206),
            ("\"b\"", 200),
            ("W/\"a\"", 200),
            (EARLIER, 200),
            (DATE, 200),
            ("*", 200),
        ] {
            let request = [("Range", "bytes=0-9"), ("If-Range", if_range)];
            let reply = parvis.get("/document", &request);
            assert_eq!(reply.status, status, "{if_range}");
        }
    });
}

#[test]
fn the_conditions_come_before_the_range() {
    let origin = origin();
    each(&origin, |parvis| {
        store(parvis, "/document");
        for (name, value, status) in [
            ("If-None-Match", "\"a\"", 304),
            ("If-None-Match", "\"b\"", 206),
            ("If-Modified-Since", DATE, 304),
            ("If-Modified-Since", EARLIER, 206),
        ] {
            let reply = parvis.get("/document", &[("Range", "bytes=0-9"), (name, value)]);
            assert_eq!(reply.status, status, "{name}: {value}");
        }
    });
}

#[test]
fn if_match_and_if_unmodified_since_are_412_where_another_version_is_stored() {
    let origin = origin();
    each(&origin, |parvis| {
        store(parvis, "/document");
        for (name, value, status) in [
            ("If-Match", "\"a\"", 200),
            ("If-Match", "*", 200),
            ("If-Match", "\"b\", \"a\"", 200),
            ("If-Match", "\"b\"", 412),
            ("If-Match", "W/\"a\"", 412),
            ("If-Unmodified-Since", MODIFIED, 200),
            ("If-Unmodified-Since", DATE, 200),
            ("If-Unmodified-Since", EARLIER, 412),
            ("If-Unmodified-Since", "yesterday", 200),
        ] {
            for method in ["GET", "HEAD"] {
                let reply = parvis.ask(method, "/document", &[(name, value)], b"");
                assert_eq!(reply.status, status, "{method} {name}: {value}");
                assert!(status == 200 || reply.body.is_empty());
            }
        }
    });
}

#[test]
fn head_ignores_a_range() {
    let origin = origin();
    each(&origin, |parvis| {
        store(parvis, "/document");
        let reply = parvis.ask("HEAD", "/document", &[("Range", "bytes=0-9")], b"");
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("60000")));
        assert_eq!(reply.header("content-range"), None);
    });
}

#[test]
fn a_part_of_a_page_that_is_kept_compressed_is_one_of_its_bytes_themselves() {
    let origin = origin();
    let document = document();
    let parvis = builder(&origin, "magento").start();
    store(&parvis, "/page");
    for coding in ["gzip", "br", "identity", ""] {
        let request = [("Range", "bytes=600-611"), ("Accept-Encoding", coding)];
        let reply = parvis.get("/page", &request);
        assert_eq!((reply.status, reply.header("content-encoding")), (206, None), "{coding}");
        assert!(reply.body == document[600..612], "{coding}");
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        assert_eq!(reply.header("etag"), Some("W/\"a\""));
    }
    let request = [("Range", "bytes=0-9"), ("Accept-Encoding", "gzip, identity;q=0")];
    let reply = parvis.get("/page", &request);
    assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
    for tag in ["\"a\"", "W/\"a\""] {
        let reply = parvis.get("/page", &[("Range", "bytes=0-9"), ("If-Range", tag)]);
        assert_eq!(reply.status, 200, "a weak tag says nothing of places: {tag}");
    }
}

#[test]
fn a_page_with_includes_has_no_parts() {
    let origin = origin();
    let parvis = builder(&origin, "magento").start();
    store(&parvis, "/joined");
    let reply = range(&parvis, "/joined", "bytes=0-9");
    assert_eq!((reply.status, reply.body.len()), (200, 60_005));
    assert_eq!(reply.header("accept-ranges"), None);
}

#[test]
fn a_part_of_what_the_origin_coded_is_one_of_the_coded_bytes() {
    let origin = origin();
    let parvis = builder(&origin, "generic").start();
    store(&parvis, "/coded");
    let reply = range(&parvis, "/coded", "bytes=10-19");
    assert_eq!((reply.status, reply.header("content-encoding")), (206, Some("x")));
    assert!(reply.body == document()[10..20]);
}
