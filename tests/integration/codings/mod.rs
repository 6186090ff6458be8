//! The codings of content: what clients take, and what the origin sent.

mod includes;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Parvis;
use crate::support::client::{Client, Reply};
use crate::support::origin::{Origin, Seen, page};
use crate::support::parvis::Builder;
use crate::support::process::wait_until;

/// What browsers and others send, and the coding in which they get what is stored.
const CLIENTS: [(Option<&str>, Option<&str>); 10] = [
    (Some("gzip, deflate, br, zstd"), Some("br")),
    (Some("gzip, deflate"), Some("gzip")),
    (Some("br;q=0.5, gzip;q=0.9"), Some("gzip")),
    (Some("br"), Some("br")),
    (Some("*"), Some("br")),
    (Some("identity, gzip;q=0.1, br;q=0.1"), None),
    (Some("zstd"), None),
    (Some("gzip;q=nonsense"), None),
    (Some(""), None),
    (None, None),
];

fn text() -> String {
    "<li class=\"item\">of the product</li>\n".repeat(400)
}

/// In front of an origin; what comes from the store says its age.
fn before(port: u16) -> Builder {
    Parvis::before_http(port).with("site.age", "true")
}

/// Text with repetitions too far apart for deflate.
fn far_apart() -> String {
    let words: String =
        (0..9_000u32).map(|number| format!("{:x} ", number.wrapping_mul(2_654_435_761))).collect();
    words.repeat(2)
}

/// Asks until the answer comes from the store.
fn stored(parvis: &Parvis, target: &str, headers: &[(&str, &str)]) -> Reply {
    let is_stored = || parvis.get(target, headers).is_hit();
    wait_until("storing", Duration::from_secs(10), is_stored);
    parvis.get(target, headers)
}

fn accepting(field: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    field.map(|field| ("Accept-Encoding", field)).into_iter().collect()
}

/// A response of the origin with content as it stands.
fn send(stream: &mut TcpStream, fields: &str, content: &[u8]) {
    let length = content.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Magento-Tags: t\r\n{fields}\
         Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(&[head.as_bytes(), content].concat());
}

const PUBLIC: &str = "Cache-Control: public, max-age=600, s-maxage=600\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let params = brotli::enc::BrotliEncoderParams::default();
    brotli::BrotliCompress(&mut &bytes[..], &mut out, &params).expect("in memory");
    out
}

fn assert_each_client_gets(parvis: &Parvis, target: &str, expected: &str) {
    for (field, coding) in CLIENTS {
        let reply = stored(parvis, target, &accepting(field));
        assert_eq!(reply.header("content-encoding"), coding, "{field:?}");
        assert_eq!(reply.text(), expected, "{field:?}");
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"), "{field:?}");
        let head = parvis.ask("HEAD", target, &accepting(field), b"");
        assert_eq!(head.header("content-encoding"), coding, "{field:?}");
        assert_eq!(head.header("content-length"), Some(&*reply.body.len().to_string()));
    }
}

#[test]
fn a_stored_page_leaves_in_the_form_that_its_client_likes_best() {
    let origin = Origin::start(|_, stream| {
        send(stream, &format!("{PUBLIC}ETag: \"a\"\r\n"), text().as_bytes());
    });
    for http2 in [false, true] {
        let mut parvis = before(origin.port).start();
        if http2 {
            parvis = parvis.over_http2();
        }
        assert_each_client_gets(&parvis, "/page", &text());
        for (field, _) in CLIENTS {
            let mut request = accepting(field);
            assert_eq!(parvis.get("/page", &request).header("etag"), Some("W/\"a\""));
            request.push(("If-None-Match", "\"a\""));
            let reply = parvis.get("/page", &request);
            assert_eq!((reply.status, reply.header("vary")), (304, Some("Accept-Encoding")));
        }
    }
    assert_eq!(origin.count(), 2, "one form is made of another");
}

/// Pages with a menu that has a fragment itself, which is too small to be compressed.
fn with_menu(seen: &Seen, stream: &mut TcpStream) {
    let include = |source| format!("<esi:include src=\"{source}\"/>");
    let content = match seen.target.as_str() {
        "/menu" => format!("<nav>{}{}</nav>", text(), include("/price")),
        "/price" => "9.99".to_owned(),
        "/plain" => far_apart(),
        "/own" => format!("<p>{}</p>", text()),
        _ => format!("<html>{}{}-{}</html>", text(), include("/menu"), include("/own")),
    };
    let fields = if seen.target == "/own" { "Cache-Control: private\r\n" } else { PUBLIC };
    send(stream, fields, content.as_bytes());
}

#[test]
fn a_page_joined_with_its_fragments_leaves_in_the_form_that_its_client_likes_best() {
    let origin = Origin::start(with_menu);
    let text = text();
    let expected = format!("<html>{text}<nav>{text}9.99</nav>-<p>{text}</p></html>");
    for http2 in [false, true] {
        let mut parvis = before(origin.port).start();
        if http2 {
            parvis = parvis.over_http2();
        }
        for fragment in ["/price", "/menu", "/page"] {
            stored(&parvis, fragment, &[]);
        }
        for (field, coding) in CLIENTS {
            let reply = parvis.get("/page", &accepting(field));
            assert!(reply.is_hit());
            assert_eq!(reply.header("content-encoding"), coding, "{field:?}");
            assert_eq!(reply.text(), expected, "{field:?}");
        }
    }
}

#[test]
fn what_is_not_stored_is_compressed_with_gzip_as_it_streams() {
    let origin = Origin::start(|_, stream| {
        send(stream, "Cache-Control: private\r\nETag: \"a\"\r\n", text().as_bytes());
    });
    let parvis = before(origin.port).start();
    for (field, coding) in [("gzip, br", Some("gzip")), ("br", None), ("", None)] {
        let reply = parvis.get("/own", &[("Accept-Encoding", field)]);
        assert_eq!(reply.header("content-encoding"), coding, "{field}");
        assert_eq!(reply.text(), text(), "{field}");
        let tag = if coding.is_some() { "W/\"a\"" } else { "\"a\"" };
        assert_eq!(reply.header("etag"), Some(tag), "{field}");
    }
}

#[test]
fn little_content_and_what_gains_nothing_is_kept_in_one_form() {
    let noise: Vec<u8> = (0..5_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .step_by(3)
        .collect();
    let sent = noise.clone();
    let origin = Origin::start(move |seen, stream| {
        let content = if seen.target == "/noise" { &sent[..] } else { b"<p>little</p>" };
        send(stream, &format!("{PUBLIC}ETag: \"a\"\r\n"), content);
    });
    let parvis = before(origin.port).with("encoding.gzip_level", "1").start();
    let all = [("Accept-Encoding", "gzip, br")];
    let little = stored(&parvis, "/little", &all);
    assert_eq!((little.header("content-encoding"), little.header("vary")), (None, None));
    assert_eq!(little.header("etag"), Some("\"a\""), "there is one form alone");
    assert!(stored(&parvis, "/noise", &all).decoded() == noise);
}

#[test]
fn each_form_can_be_switched_off() {
    let origin = Origin::start(|_, stream| send(stream, PUBLIC, text().as_bytes()));
    for (key, field, coding) in [
        ("encoding.brotli", "br, gzip", Some("gzip")),
        ("encoding.brotli", "br", None),
        ("encoding.gzip", "br, gzip", None),
    ] {
        let parvis = before(origin.port).with(key, "false").start();
        let reply = stored(&parvis, "/page", &[("Accept-Encoding", field)]);
        assert_eq!(reply.header("content-encoding"), coding, "{key} {field}");
        assert_eq!(reply.text(), text());
    }
    let alone =
        before(origin.port).with("encoding.gzip", "false").with("encoding.brotli", "true").start();
    for (field, coding) in [("br, gzip", Some("br")), ("gzip", None)] {
        let reply = stored(&alone, "/page", &[("Accept-Encoding", field)]);
        assert_eq!(reply.header("content-encoding"), coding, "{field}");
        assert_eq!(reply.text(), text());
    }
}

#[test]
fn zstd_is_sent_to_those_who_like_it_best_where_it_is_switched_on() {
    let origin = Origin::start(with_menu);
    for http2 in [false, true] {
        let mut parvis = before(origin.port).with("encoding.zstd", "true").start();
        if http2 {
            parvis = parvis.over_http2();
        }
        for (field, coding, joined) in [
            ("zstd", Some("zstd"), None),
            ("gzip, zstd", Some("zstd"), Some("gzip")),
            ("gzip, zstd, br", Some("br"), Some("br")),
            ("br;q=0.9, zstd", Some("zstd"), Some("br")),
        ] {
            for (target, coding) in [("/plain", coding), ("/page", joined)] {
                let reply = stored(&parvis, target, &[("Accept-Encoding", field)]);
                assert_eq!(reply.header("content-encoding"), coding, "{target} {field}");
                assert_eq!(reply.text(), parvis.get(target, &[]).text(), "{target} {field}");
            }
        }
    }
}

#[test]
fn no_transform_keeps_the_bytes() {
    let origin = Origin::start(|seen, stream| {
        let fields = format!("Cache-Control: max-age=600, No-Transform\r\nETag: \"{}\"\r\n", "a");
        if seen.target == "/coded" {
            send(stream, &format!("{fields}Content-Encoding: gzip\r\n"), &gzip(text().as_bytes()));
        } else {
            send(stream, &fields, text().as_bytes());
        }
    });
    let parvis = before(origin.port).start();
    let reply = stored(&parvis, "/plain", &[("Accept-Encoding", "br, gzip")]);
    assert!(reply.body == text().as_bytes());
    assert_eq!((reply.header("etag"), reply.header("vary")), (Some("\"a\""), None));
    assert!(reply.all("cache-control").contains(&"no-transform"));
    for _ in 0..2 {
        let reply = parvis.get("/coded", &[]);
        assert_eq!(reply.body, gzip(text().as_bytes()));
        assert_eq!(reply.header("content-encoding"), Some("gzip"));
        assert!(!reply.is_hit());
    }
}

#[test]
fn what_the_origin_coded_is_taken_off_and_searched_for_includes() {
    for (name, code) in [
        ("gzip", gzip as fn(&[u8]) -> Vec<u8>),
        ("x-gzip", gzip),
        ("br", brotli),
        ("deflate", zlib),
        ("zstd", |bytes| zstd::bulk::compress(bytes, 3).expect("in memory")),
        ("identity, br", brotli),
        ("identity", <[u8]>::to_vec),
    ] {
        let origin = Origin::start(move |seen, stream| {
            if seen.target == "/menu" {
                return send(stream, PUBLIC, b"<nav>");
            }
            let content = format!("{}<esi:include src=\"/menu\"/>", text());
            let fields = format!("{PUBLIC}Content-Encoding: {name}\r\nETag: \"a\"\r\n");
            send(stream, &fields, &code(content.as_bytes()));
        });
        let parvis = before(origin.port).start();
        let first = parvis.get("/page", &[]);
        let expected = format!("{}<nav>", text());
        assert_eq!((first.text(), first.header("content-encoding")), (expected.clone(), None));
        stored(&parvis, "/menu", &[]);
        assert_each_client_gets(&parvis, "/page", &expected);
    }
}

#[test]
fn a_small_page_that_the_origin_coded_has_a_weak_tag_and_no_coding() {
    let origin = Origin::start(|_, stream| {
        let fields = format!("{PUBLIC}Content-Encoding: gzip\r\nETag: \"a\"\r\nDigest: x\r\n");
        send(stream, &fields, &gzip(b"<p>little</p>"));
    });
    let parvis = before(origin.port).start();
    let reply = stored(&parvis, "/page", &[("Accept-Encoding", "gzip")]);
    assert_eq!(reply.body, b"<p>little</p>");
    assert_eq!(reply.header("etag"), Some("W/\"a\""), "its bytes are not those of the origin");
    assert_eq!((reply.header("content-encoding"), reply.header("digest")), (None, None));
}

#[test]
fn an_unknown_content_encoding_and_several_pass_unstored() {
    for coding in ["dcz", "compress", "gzip, gzip", "aes128gcm", "br, gzip"] {
        let origin = Origin::start(move |_, stream| {
            let fields = format!("{PUBLIC}Content-Encoding: {coding}\r\nETag: \"a\"\r\n");
            send(stream, &fields, b"<esi:include src=\"/menu\"/> in some coding");
        });
        let parvis = before(origin.port).start();
        for round in 1..=2 {
            let reply = parvis.get("/page", &[("Accept-Encoding", "gzip, br")]);
            assert_eq!(reply.body, b"<esi:include src=\"/menu\"/> in some coding");
            assert_eq!(reply.header("content-encoding"), Some(coding));
            assert_eq!(reply.header("etag"), Some("\"a\""));
            assert!(reply.cache_status().contains("content-encoding") || round == 2);
            assert_eq!(origin.count(), round);
        }
    }
}

#[test]
fn too_many_encodings_get_the_bytes_themselves() {
    let origin = Origin::start(|_, stream| send(stream, PUBLIC, text().as_bytes()));
    let parvis = before(origin.port).start();
    let many = format!("{}br, gzip", "x, ".repeat(40));
    let reply = stored(&parvis, "/page", &[("Accept-Encoding", &many)]);
    assert_eq!((reply.header("content-encoding"), reply.text()), (None, text()));
    let few = format!("{}br, gzip", "x, ".repeat(20));
    let reply = parvis.get("/page", &[("Accept-Encoding", &few)]);
    assert_eq!((reply.header("content-encoding"), reply.text()), (Some("br"), text()));
}

#[test]
fn an_empty_and_a_missing_accept_encoding_get_the_bytes_themselves() {
    let origin = Origin::start(|_, stream| send(stream, PUBLIC, text().as_bytes()));
    let parvis = before(origin.port).start();
    for headers in [&[("Accept-Encoding", "")][..], &[]] {
        let reply = stored(&parvis, "/page", headers);
        assert_eq!((reply.header("content-encoding"), reply.text()), (None, text()));
    }
    assert_eq!(origin.count(), 1, "they are one variant");
}

#[test]
fn content_that_is_not_coded_as_it_says_passes_whole_and_is_not_stored() {
    for coding in ["gzip", "br", "deflate"] {
        let origin = Origin::start(move |_, stream| {
            let fields = format!("{PUBLIC}Content-Encoding: {coding}\r\n");
            send(stream, &fields, text().as_bytes());
        });
        for http2 in [false, true] {
            let mut parvis = before(origin.port).start();
            if http2 {
                parvis = parvis.over_http2();
            }
            for _ in 0..2 {
                let reply = parvis.get("/page", &[("Accept-Encoding", "gzip")]);
                assert_eq!(reply.body, text().as_bytes(), "{coding}");
                assert_eq!(reply.header("content-encoding"), Some(coding));
                assert!(!reply.is_hit());
            }
        }
        assert_eq!(origin.count(), 4);
    }
}

#[test]
fn content_that_turns_out_to_be_damaged_breaks_its_message_and_is_not_stored() {
    let origin = Origin::start(|seen, stream| {
        let noise: Vec<u8> = (0..200_000u32)
            .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3f)
            .collect();
        let mut file = gzip(&noise);
        if seen.target == "/page" {
            let checksum = file.len() - 8;
            file[checksum] ^= 1;
        }
        let fields = format!("{PUBLIC}Content-Encoding: gzip\r\n");
        send(stream, &fields, &file);
    });
    let parvis = before(origin.port).start();
    for http2 in [false, true] {
        for _ in 0..2 {
            if http2 {
                let broken = std::panic::catch_unwind(|| {
                    super::support::h2::request(parvis.port, "GET", "/page", &[], b"")
                });
                assert!(broken.is_err(), "the stream is reset");
            } else {
                let mut client = Client::connect(parvis.port);
                client.send(b"GET /page HTTP/1.1\r\nHost: shop.test\r\n\r\n");
                assert!(client.read(false).is_err(), "it has no end");
            }
        }
    }
    assert!(origin.count() >= 4, "nothing of it is stored");
    let sound = stored(&parvis, "/sound", &[]);
    assert_eq!(sound.body.len(), 200_000, "the same file with its checksum is stored");
}

fn generic(port: u16) -> Builder {
    before(port).with("site.policy", "\"generic\"")
}

#[test]
fn the_generic_policy_stores_what_comes_coded_as_it_came() {
    for coding in ["gzip", "br", "zstd", "gzip, br", "new"] {
        let origin = Origin::start(move |_, stream| {
            let fields = format!(
                "{PUBLIC}Content-Encoding: {coding}\r\nETag: \"a\"\r\nRepr-Digest: x\r\n\
                 Accept-Ranges: bytes\r\n"
            );
            send(stream, &fields, b"bytes in some coding");
        });
        let parvis = generic(origin.port).start();
        for field in ["gzip, br", "", "identity;q=0"] {
            let reply = stored(&parvis, "/page", &[("Accept-Encoding", field)]);
            assert_eq!(reply.body, b"bytes in some coding", "{coding}");
            for (name, value) in [
                ("content-encoding", coding),
                ("etag", "\"a\""),
                ("repr-digest", "x"),
                ("accept-ranges", "bytes"),
            ] {
                assert_eq!(reply.header(name), Some(value), "{coding} {name}");
            }
        }
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn the_generic_policy_codes_nothing_unless_it_is_told_to() {
    let origin = Origin::start(|seen, stream| {
        let fields = if seen.target == "/own" { "Cache-Control: no-store\r\n" } else { PUBLIC };
        send(stream, &format!("{fields}ETag: \"a\"\r\n"), text().as_bytes());
    });
    let all = [("Accept-Encoding", "gzip, br")];
    let parvis = generic(origin.port).start();
    for reply in
        [parvis.get("/page", &all), stored(&parvis, "/page", &all), parvis.get("/own", &all)]
    {
        assert_eq!(reply.body, text().as_bytes());
        assert_eq!((reply.header("etag"), reply.header("vary")), (Some("\"a\""), None));
    }
    let told = generic(origin.port).with("encoding.gzip", "true").start();
    assert_eq!(stored(&told, "/page", &all).header("content-encoding"), Some("br"));
    assert_eq!(told.get("/own", &all).header("content-encoding"), Some("gzip"));
}

#[test]
fn a_page_of_php_is_asked_for_in_identity() {
    let origin = Origin::always(page(&text(), "t"));
    let parvis = before(origin.port).start();
    parvis.get("/page", &[("Accept-Encoding", "gzip, br")]);
    parvis.ask("POST", "/page", &[("Accept-Encoding", "gzip, br")], b"");
    assert!(origin.seen().iter().all(|seen| seen.header("accept-encoding").is_none()));
}
