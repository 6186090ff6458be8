//! Fields: pseudo-fields, targets, authorities, names, values and lengths (RFC 9113 8).

use super::cases::Case;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, WHOLE, field, frame, get, request,
};

/// A block of `:method GET`, `:scheme http` and these.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let others = fields.iter().flat_map(|(name, value)| field(name, value));
    field(":method", "GET").into_iter().chain(field(":scheme", "http")).chain(others).collect()
}

fn plain(name: &'static str, fields: &[(&str, &str)]) -> Case {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.extend(field(name, value));
    }
    Case::request(name, &bytes)
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "shop.test");
const PATH: (&str, &str) = (":path", "/x");

pub fn pseudo_fields() -> Vec<Case> {
    let reset = |name, fields: &[(&str, &str)]| plain(name, fields).reset(PROTOCOL_ERROR);
    // A name that is none, or a value that is none, ends the connection: h2 gives up its table.
    let goaway = |name, fields: &[(&str, &str)]| plain(name, fields).goaway(PROTOCOL_ERROR);
    let twice = |name, other| reset(name, &[METHOD, SCHEME, AUTHORITY, PATH, other]);
    vec![
        plain("all four", &[METHOD, SCHEME, AUTHORITY, PATH]),
        plain("any order", &[PATH, AUTHORITY, METHOD, SCHEME]),
        plain("https behind a proxy", &[METHOD, (":scheme", "https"), AUTHORITY, PATH]),
        reset("no method", &[SCHEME, AUTHORITY, PATH]),
        reset("no scheme", &[METHOD, AUTHORITY, PATH]),
        reset("no path", &[METHOD, SCHEME, AUTHORITY]),
        reset("no pseudo-field", &[("x-a", "1")]),
        reset("nothing", &[]),
        twice("two methods", METHOD),
        twice("two schemes", SCHEME),
        twice("two authorities", AUTHORITY),
        twice("two paths", PATH),
        reset("after a field", &[METHOD, SCHEME, AUTHORITY, ("x-a", "1"), PATH]),
        reset("authority after a field", &[METHOD, SCHEME, PATH, ("x-a", "1"), AUTHORITY]),
        goaway("unknown", &[METHOD, SCHEME, AUTHORITY, PATH, (":x", "1")]),
        goaway("empty name", &[METHOD, SCHEME, AUTHORITY, PATH, (":", "1")]),
        goaway("upper case", &[METHOD, SCHEME, AUTHORITY, PATH, (":Path", "/")]),
        twice("status", (":status", "200")),
        twice("protocol without CONNECT", (":protocol", "websocket")),
        goaway("empty method", &[(":method", ""), SCHEME, AUTHORITY, PATH]),
        goaway("method with a space", &[(":method", "GET /"), SCHEME, AUTHORITY, PATH]),
        goaway(
            "method with a line",
            &[(":method", "GET / HTTP/1.1\r\nx"), SCHEME, AUTHORITY, PATH],
        ),
        plain("empty scheme", &[METHOD, (":scheme", ""), AUTHORITY, PATH]).status(400),
        reset("scheme with a space", &[METHOD, (":scheme", "ht tp"), AUTHORITY, PATH]),
        reset("scheme with a path", &[METHOD, (":scheme", "http://b/?"), AUTHORITY, PATH]),
        plain("another scheme", &[METHOD, (":scheme", "ftp"), AUTHORITY, PATH]).status(400),
        plain("a scheme in upper case", &[METHOD, (":scheme", "HTTP"), AUTHORITY, PATH]),
    ]
}

pub fn targets() -> Vec<Case> {
    let path = |name, path| plain(name, &[METHOD, SCHEME, AUTHORITY, (":path", path)]);
    vec![
        path("query", "/a?b=c&d=/?"),
        path("percent", "/%41%2e"),
        path("bytes above ASCII are for the origin", "/\u{e4}"),
        path("empty path", "").reset(PROTOCOL_ERROR),
        path("no slash", "x").reset(PROTOCOL_ERROR),
        path("question mark first", "?a").status(400),
        path("absolute", "http://shop.test/").reset(PROTOCOL_ERROR),
        path("absolute of another host", "http://evil.test/").reset(PROTOCOL_ERROR),
        path("asterisk", "*").status(400),
        // The URI of the h2 crate drops it before we see the path; nobody behind us sees it either.
        path("fragment", "/a#b"),
        path("space", "/a b").reset(PROTOCOL_ERROR),
        path("tab", "/a\tb").reset(PROTOCOL_ERROR),
        path("line", "/ HTTP/1.1\r\nHost: b\r\n\r\nGET /").reset(PROTOCOL_ERROR),
        path("line feed", "/a\nb").reset(PROTOCOL_ERROR),
        path("NUL", "/a\0").reset(PROTOCOL_ERROR),
        path("DEL", "/a\u{7f}").reset(PROTOCOL_ERROR),
        path("an encoded NUL is passed and not stored", "/a%00"),
    ]
}

pub fn authorities() -> Vec<Case> {
    let authority =
        |name, authority| plain(name, &[METHOD, SCHEME, (":authority", authority), PATH]);
    let host = |name, hosts: &[&str]| {
        let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        Case::request(name, &[block(&[PATH]), block_of(&hosts)].concat())
    };
    let both = |name, host| plain(name, &[METHOD, SCHEME, AUTHORITY, PATH, ("host", host)]);
    vec![
        host("Host instead", &["shop.test"]),
        both("Host agrees", "shop.test"),
        both("Host agrees in other letters", "SHOP.test"),
        authority("port", "shop.test:8080"),
        authority("IPv6", "[::1]:80"),
        host("neither", &[]).status(400),
        host("two Hosts", &["shop.test", "shop.test"]).status(400),
        host("Host of two", &["shop.test, evil.test"]).status(400),
        host("empty Host", &[""]).status(400),
        host("Host with a path", &["shop.test/evil"]).status(400),
        both("Host differs", "evil.test").status(400),
        both("Host differs by port", "shop.test:81").status(400),
        both("Host empty beside an authority", "").status(400),
        authority("userinfo", "user@shop.test").status(400),
        authority("userinfo with password", "shop.test:80@evil.test").status(400),
        authority("path in it", "shop.test/evil").reset(PROTOCOL_ERROR),
        authority("query in it", "shop.test?evil").reset(PROTOCOL_ERROR),
        authority("space in it", "shop.test evil").reset(PROTOCOL_ERROR),
        authority("line in it", "shop.test\r\nx: y").reset(PROTOCOL_ERROR),
        authority("empty", "").reset(PROTOCOL_ERROR),
        authority("no number for a port", "shop.test:x").status(400),
        authority("port too large", "shop.test:65536").status(400),
        authority("bracket open", "[::1").reset(PROTOCOL_ERROR),
        authority("comma", "shop.test,evil.test").status(400),
        authority("percent", "shop%2etest").reset(PROTOCOL_ERROR),
    ]
}

fn block_of(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

pub fn names_and_values() -> Vec<Case> {
    let with = |name, field_name: &str, value: &str| {
        Case::request(name, &[get("/x"), field(field_name, value)].concat())
    };
    let reset = |name, field_name, value| with(name, field_name, value).reset(PROTOCOL_ERROR);
    let goaway = |name, field_name, value| with(name, field_name, value).goaway(PROTOCOL_ERROR);
    vec![
        with("plain", "x-a", "b"),
        with("empty value", "x-a", ""),
        with("bytes above ASCII", "x-a", "\u{e4}"),
        with("tab in a value", "x-a", "a\tb"),
        with("white space around a value", "x-a", " b "),
        with("underscore", "x_a", "b"),
        goaway("upper case", "X-A", "b"),
        goaway("one upper-case letter", "x-A", "b"),
        goaway("empty name", "", "b"),
        goaway("space in a name", "x a", "b"),
        goaway("space after a name", "x-a ", "b"),
        goaway("colon in a name", "x-a:b", "c"),
        goaway("line in a name", "x-a: b\r\nx-c", "d"),
        goaway("NUL in a name", "x\0a", "b"),
        goaway("bytes above ASCII in a name", "x-\u{e4}", "b"),
        goaway("line in a value", "x-a", "b\r\nHost: evil.test"),
        goaway("a request in a value", "x-a", "b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        goaway("line feed in a value", "x-a", "b\nc"),
        goaway("carriage return in a value", "x-a", "b\rc"),
        goaway("NUL in a value", "x-a", "b\0c"),
        goaway("a control character in a value", "x-a", "b\u{1}c"),
        goaway("DEL in a value", "x-a", "b\u{7f}c"),
        reset("connection", "connection", "close"),
        reset("connection names a field", "connection", "x-forwarded-for"),
        reset("transfer-encoding", "transfer-encoding", "chunked"),
        reset("transfer-encoding identity", "transfer-encoding", "identity"),
        reset("keep-alive", "keep-alive", "timeout=5"),
        reset("proxy-connection", "proxy-connection", "keep-alive"),
        reset("upgrade", "upgrade", "h2c"),
        with("te trailers", "te", "trailers"),
        reset("te gzip", "te", "gzip"),
        reset("te trailers and more", "te", "trailers, deflate"),
        with("expect", "expect", "tea").status(417),
        with("a long value", "x-a", &"b".repeat(17_000)).status(431),
    ]
}

pub fn lengths() -> Vec<Case> {
    let post = |name, lengths: &[&str], content: &str| {
        let lengths = lengths.iter().flat_map(|length| field("content-length", length));
        let block: Vec<u8> = request("POST", "/x").into_iter().chain(lengths).collect();
        Case::post(name, &block, content.as_bytes())
    };
    let said = |length| [request("POST", "/x"), field("content-length", length)].concat();
    let get = |name, length: &str| {
        Case::request(name, &[get("/x"), field("content-length", length)].concat())
    };
    let reset = |case: Case| case.reset(PROTOCOL_ERROR);
    vec![
        post("length as said", &["4"], "0123"),
        post("no length", &[], "0123"),
        post("no content", &["0"], ""),
        get("none for a GET", "0"),
        reset(post("shorter than said", &["5"], "0123")),
        reset(post("longer than said", &["3"], "0123")),
        reset(post("content where none was said", &["0"], "0")),
        reset(get("said, but the stream has ended", "4")),
        reset(post("two that differ", &["4", "5"], "0123")),
        post("two that agree", &["4", "4"], "0123").status(400),
        reset(post("a list", &["4, 4"], "0123")),
        reset(post("plus", &["+4"], "0123")),
        reset(post("minus", &["-4"], "0123")),
        reset(post("hexadecimal", &["0x4"], "0123")),
        reset(post("empty", &[""], "0123")),
        reset(post("a space", &["4 "], "0123")),
        reset(post("too large for any number", &["18446744073709551620"], "0123")),
        Case::frames(
            "beyond the limit",
            &[frame(HEADERS, END_HEADERS, 1, &said("68719476736")), frame(DATA, 0, 1, b"0123")],
        )
        .status(413),
        post("leading zeros", &["0004"], "0123"),
    ]
}

pub fn methods() -> Vec<Case> {
    let connect = [field(":method", "CONNECT"), field(":authority", "shop.test:443")].concat();
    let extended = [
        field(":method", "CONNECT"),
        field(":protocol", "websocket"),
        field(":scheme", "http"),
        field(":authority", "shop.test"),
        field(":path", "/x"),
    ]
    .concat();
    vec![
        Case::request("OPTIONS of all", &request("OPTIONS", "*")),
        Case::request("a method nobody knows", &request("BREW", "/x")),
        Case::request("TRACE", &request("TRACE", "/x")).status(405),
        Case::request("CONNECT", &connect).status(405),
        Case::post("CONNECT with content", &connect, b"GET / HTTP/1.1\r\n\r\n").status(405),
        Case::request("CONNECT with a path", &request("CONNECT", "/x")).reset(PROTOCOL_ERROR),
        Case::request("CONNECT without an authority", &field(":method", "CONNECT")).status(400),
        Case::request("extended CONNECT", &extended).reset(PROTOCOL_ERROR),
        Case::request("the preface's own method", &request("PRI", "/x")),
        Case::frames(
            "GET with content",
            &[
                frame(HEADERS, WHOLE - END_STREAM, 1, &get("/x")),
                frame(DATA, END_STREAM, 1, b"content"),
            ],
        ),
    ]
}
