//! Requests on whose meaning two readers may disagree, or that are larger than the limits: each
//! is refused with a complete answer, and the connection closes.

use super::{Door, numbered};

/// Comes after the content, and must never be answered.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKS: &str = "3\r\nabc\r\n0\r\n\r\n";

/// Request lines.
const REQUEST_LINES: &[(&str, &[u8], u16)] = &[
    ("no version", b"GET /\r\nHost: a\r\n\r\n", 400),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("two spaces before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("tab instead of space", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("tab in the target", b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("NUL in the target", b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("DEL in the target", b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("fragment in the target", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("relative target", b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("asterisk with GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("authority form with GET", b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400),
    ("CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CONNECT without a port", b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a parenthesis in the method", b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("empty method", b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("TLS on a cleartext port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("two empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("version with two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    ("version without minor", b"GET / HTTP/1\r\nHost: a\r\n\r\n", 400),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("HTTP/2.0 in the form of HTTP/1", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ("HTTP/0.9 spelled out", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("half of a preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505),
];

/// Line ends and folding.
const LINE_ENDS: &[(&str, &[u8], u16)] = &[
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("bare LF as the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    ("bare CR as a line end", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    ("folded with a space", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    ("folded with a tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
    ("space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
];

/// Names and values of fields.
const FIELDS: &[(&str, &[u8], u16)] = &[
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("tab before the colon", b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", 400),
    ("empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    ("space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", 400),
    ("control in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\x0bY: z\r\n\r\n", 400),
    ("UTF-8 in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa4: z\r\n\r\n", 400),
    ("slash in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX/Y: z\r\n\r\n", 400),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    ("vertical tab in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", 400),
    ("escape in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[1m\r\n\r\n", 400),
    ("DEL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
];

/// Whom a request is for.
const HOSTS: &[(&str, &[u8], u16)] = &[
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("the same Host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400),
    ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("list of Hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("Host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("Host with a scheme", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", 400),
    ("Host with an empty port", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 400),
    ("Host with a port that is no number", b"GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400),
    ("Host with port 0", b"GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", 400),
    ("Host with too high a port", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
    ("Host with an unclosed bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    ("Host with a bad IPv6 address", b"GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", 400),
    ("UTF-8 in Host", b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", 400),
    ("absolute form with another host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form with another port", b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form without Host", b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    ("absolute form with a user", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form of another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form without a host", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

/// Framing of content and what hangs on it: fields, content.
const FRAMINGS: &[(&str, &str, &str, u16)] = &[
    ("both, length first", "Content-Length: 3\r\nTransfer-Encoding: chunked", CHUNKS, 400),
    ("both, coding first", "Transfer-Encoding: chunked\r\nContent-Length: 3", CHUNKS, 400),
    ("both, length zero", "Content-Length: 0\r\nTransfer-Encoding: chunked", CHUNKS, 400),
    ("length twice", "Content-Length: 3\r\nContent-Length: 4", "abc", 400),
    ("the same length twice", "Content-Length: 3\r\nContent-Length: 3", "abc", 400),
    ("list of lengths", "Content-Length: 3, 3", "abc", 400),
    ("length with plus", "Content-Length: +3", "abc", 400),
    ("length with minus", "Content-Length: -3", "abc", 400),
    ("hexadecimal length", "Content-Length: 0x3", "abc", 400),
    ("length with a fraction", "Content-Length: 3.0", "abc", 400),
    ("length with a space within", "Content-Length: 3 3", "abc", 400),
    ("empty length", "Content-Length:", "abc", 400),
    ("length of UTF-8 digits", "Content-Length: \u{0663}", "abc", 400),
    ("length over 64 bits", "Content-Length: 18446744073709551616", "abc", 400),
    ("length of 40 digits", "Content-Length: 9999999999999999999999999999999999999999", "abc", 400),
    ("length with a space before the colon", "Content-Length : 3", "abc", 400),
    ("coding with a space before the colon", "Transfer-Encoding : chunked", CHUNKS, 400),
    ("coding twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS, 400),
    ("list of the same coding", "Transfer-Encoding: chunked, chunked", CHUNKS, 400),
    ("identity", "Transfer-Encoding: identity", "abc", 400),
    ("identity and chunked", "Transfer-Encoding: identity, chunked", CHUNKS, 400),
    ("gzip and chunked", "Transfer-Encoding: gzip, chunked", CHUNKS, 400),
    ("chunked and gzip", "Transfer-Encoding: chunked, gzip", CHUNKS, 400),
    ("xchunked", "Transfer-Encoding: xchunked", CHUNKS, 400),
    ("quoted coding", "Transfer-Encoding: \"chunked\"", CHUNKS, 400),
    ("coding with a parameter", "Transfer-Encoding: chunked;a=b", CHUNKS, 400),
    ("coding with a comma", "Transfer-Encoding: chunked,", CHUNKS, 400),
    ("empty coding", "Transfer-Encoding:", CHUNKS, 400),
    ("coding with a vertical tab", "Transfer-Encoding: \u{b}chunked", CHUNKS, 400),
    ("coding over two folded lines", "Transfer-Encoding:\r\n chunked", CHUNKS, 400),
    ("Upgrade with a length", "Upgrade: x\r\nContent-Length: 3", "abc", 400),
    ("Upgrade with chunks", "Upgrade: x\r\nTransfer-Encoding: chunked", CHUNKS, 400),
    ("unknown expectation", "Expect: tea\r\nContent-Length: 3", "abc", 417),
    ("empty expectation", "Expect:\r\nContent-Length: 3", "abc", 417),
    ("two expectations", "Expect: 100-continue\r\nExpect: tea\r\nContent-Length: 3", "abc", 417),
];

/// Chunked content.
const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("chunk without a size", "\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with plus", "+3\r\nabc\r\n0\r\n\r\n"),
    ("negative chunk size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with a space before", " 3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with a space after", "3 \r\nabc\r\n0\r\n\r\n"),
    ("chunk size that is no number", "g\r\nabc\r\n0\r\n\r\n"),
    ("chunk size over 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("chunk size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("bare LF after a chunk size", "3\nabc\r\n0\r\n\r\n"),
    ("bare CR after a chunk size", "3\rXabc\r\n0\r\n\r\n"),
    ("bare LF after chunk data", "3\r\nabc\n0\r\n\r\n"),
    ("data longer than its chunk", "3\r\nabcd\r\n0\r\n\r\n"),
    ("data shorter than its chunk", "4\r\nabc\r\n0\r\n\r\n"),
    ("bare LF in an extension", "3;a\nabc\r\n0\r\n\r\n"),
    ("NUL in an extension", "3;a\0\r\nabc\r\n0\r\n\r\n"),
    ("bare LF at the end", "3\r\nabc\r\n0\r\n\n"),
    ("trailer without a colon", "3\r\nabc\r\n0\r\nX\r\n\r\n"),
    ("trailer with a space before the colon", "3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
    ("folded trailer", "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ("bare LF after a trailer", "3\r\nabc\r\n0\r\nX: y\n\r\n"),
];

/// Name, bytes, status.
type Case = (String, Vec<u8>, u16);

fn oversized() -> Vec<(&'static str, String, u16)> {
    let long = "a".repeat(16 << 10);
    let many = numbered(100, |at| format!("X-{at}: y\r\n"));
    let wide = numbered(5, |at| format!("X-{at}: {}\r\n", "y".repeat(15_000)));
    let extension = "a".repeat(5_000);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    vec![
        ("long request line", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        ("request line without an end", format!("GET /{long}"), 414),
        ("long field", format!("{get}X: {long}\r\n\r\n"), 431),
        ("field without an end", format!("{get}X: {long}"), 431),
        ("101 fields", format!("{get}{many}\r\n"), 431),
        ("long head", format!("{get}{wide}\r\n"), 431),
        (
            "endless chunk extension",
            format!("{get}Transfer-Encoding: chunked\r\n\r\n3;{extension}\r\nabc\r\n"),
            400,
        ),
    ]
}

fn table() -> Vec<Case> {
    let post = |fields: &str, content: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{content}{SMUGGLED}").into_bytes()
    };
    let raw = [REQUEST_LINES, LINE_ENDS, FIELDS, HOSTS].concat();
    let raw = raw.into_iter().map(|(name, bytes, status)| (name, bytes.to_vec(), status));
    let framed = FRAMINGS
        .iter()
        .map(|&(name, fields, content, status)| (name, post(fields, content), status));
    let chunked = BROKEN_CHUNKS
        .iter()
        .map(|&(name, chunks)| (name, post("Transfer-Encoding: chunked", chunks), 400));
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let old = [("chunked in HTTP/1.0", [old, CHUNKS].concat().into_bytes(), 400)];
    let sized =
        oversized().into_iter().map(|(name, request, status)| (name, request.into_bytes(), status));
    let all = raw.chain(framed).chain(chunked).chain(old).chain(sized);
    all.map(|(name, bytes, status)| (name.to_owned(), bytes, status)).collect()
}

#[tokio::test]
async fn a_malformed_request_is_refused_with_a_whole_answer_and_the_connection_closes() {
    let door = Door::open().await;
    let mut wrong = Vec::new();
    let cases = table();
    assert!(cases.len() >= 130, "{}", cases.len());
    for (name, bytes, status) in cases {
        let mut client = door.client().await;
        client.write(&bytes).await;
        let reply = client.reply().await;
        let rest = client.rest().await;
        let is_right = reply.status == status
            && reply.field("connection") == Some("close")
            && !reply.content.is_empty()
            && rest.is_empty();
        if !is_right {
            wrong.push(format!("{name}: {reply:?} {}", String::from_utf8_lossy(&rest)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(door.teller.started(), 0, "the handler has seen one of them");
}

#[tokio::test]
async fn a_malformed_request_is_refused_however_it_is_split() {
    let door = Door::open().await;
    // Sizes are left out: these answers come before all bytes are sent.
    let cases = table().into_iter().filter(|(_, bytes, _)| bytes.len() < 1_000);
    for (name, bytes, status) in cases {
        let mut client = door.client().await;
        for piece in bytes.chunks(bytes.len().div_ceil(3)) {
            // The answer may come before the last piece; writing may then fail.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, piece).await;
            tokio::task::yield_now().await;
        }
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{name}");
        assert!(client.rest().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_http_2_preface_after_the_first_request_is_refused() {
    let door = Door::open().await;
    let mut client = door.client().await;
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    let reply = client.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(reply.status, 505);
    assert!(client.rest().await.is_empty());
}
