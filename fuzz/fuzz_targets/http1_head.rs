//! A request head of any bytes: the same verdict however it arrives, only what the limits allow,
//! and nothing that another reader would read in another way.
#![no_main]

use bytes::Bytes;
use http::{Method, Version};
use libfuzzer_sys::fuzz_target;
use parvis::listener::HeadLimits;
use parvis::listener::http1::Refused;
use parvis::listener::http1::body::Framing;
use parvis::listener::http1::head::{Head, Scanner, is_authority, parse};

/// Small ones, so that short inputs reach them.
const LIMITS: HeadLimits = HeadLimits {
    request_line_max_bytes: 256,
    field_max_bytes: 128,
    head_max_bytes: 1024,
    fields_max: 16,
};

/// What has come of a head when its end is found, fed in pieces of `piece_bytes`.
fn read(input: &Bytes, piece_bytes: usize) -> Result<Option<(usize, Head)>, Refused> {
    let mut scanner = Scanner::default();
    let mut arrived = 0;
    while arrived < input.len() {
        arrived = (arrived + piece_bytes).min(input.len());
        if let Some(length) = scanner.advance(&input[..arrived], &LIMITS)? {
            assert!(length <= arrived, "a head ends in what has arrived");
            return parse(&input.slice(..length)).map(|head| Some((length, head)));
        }
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, input)) = input.split_first() else { return };
    let input = Bytes::copy_from_slice(input);
    let whole = read(&input, input.len().max(1));
    for piece_bytes in [1, usize::from(cut) % 64 + 1] {
        let cut = read(&input, piece_bytes);
        match (&whole, &cut) {
            (Ok(Some(whole)), Ok(Some(cut))) => assert_eq!(whole, cut),
            // Which of several faults is named may depend on what has arrived.
            (Err(_), Err(_)) | (Ok(None), Ok(None)) => {}
            _ => panic!("{whole:?} in one piece, {cut:?} in pieces of {piece_bytes}"),
        }
    }
    if let Ok(Some((length, head))) = whole {
        assert_within_limits(&input[..length], &head);
        assert_well_formed(&head);
        assert_framed(&head);
        assert_read_alike(&input[..length], &head);
        assert_same_when_sent_on(&head);
    }
});

fn assert_within_limits(bytes: &[u8], head: &Head) {
    assert!(bytes.len() <= LIMITS.head_max_bytes);
    assert!(head.fields.len() <= LIMITS.fields_max);
    for line in bytes.strip_suffix(b"\r\n\r\n").unwrap().split(|&byte| byte == b'\n') {
        assert!(line.len() <= LIMITS.request_line_max_bytes.max(LIMITS.field_max_bytes) + 1);
    }
}

fn assert_well_formed(head: &Head) {
    let target = &head.target[..];
    match &head.method {
        &Method::CONNECT => assert!(is_authority(target) && target == head.authority),
        &Method::OPTIONS => assert!(target.starts_with(b"/") || target == b"*"),
        _ => assert!(target.starts_with(b"/")),
    }
    assert!(target.iter().all(|&byte| byte > b' ' && byte != 0x7f && byte != b'#'));
    if head.authority.is_empty() {
        assert_eq!(head.version, Version::HTTP_10);
    } else {
        assert!(is_authority(&head.authority));
    }
    for field in &head.fields {
        assert!(!field.name.is_empty());
        assert!(field.name.iter().all(|byte| byte.is_ascii_graphic() && !b":,;()".contains(byte)));
        assert!(field.value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f));
        let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        assert!(!blank(field.value.first()) && !blank(field.value.last()));
    }
}

/// There is one way to read where the content ends (RFC 9112 6.3), and one host.
fn assert_framed(head: &Head) {
    let lengths: Vec<_> = head.fields.all("content-length").collect();
    let codings: Vec<_> = head.fields.all("transfer-encoding").collect();
    match head.framing {
        Framing::None => assert!(codings.is_empty() && lengths.len() <= 1),
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1 && length > 0);
            let digits = std::str::from_utf8(lengths[0]).unwrap();
            assert!(!digits.starts_with('+'));
            assert_eq!(digits.parse(), Ok(length));
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
            assert_eq!(head.version, Version::HTTP_11);
        }
    }
    let hosts: Vec<_> = head.fields.all("host").collect();
    match hosts[..] {
        [] => assert_eq!(head.version, Version::HTTP_10),
        [host] => assert!(host.eq_ignore_ascii_case(&head.authority)),
        _ => panic!("several hosts"),
    }
}

/// httparse, which is laxer, reads the same lines; it holds targets in strings, so that one which is
/// no UTF-8 cannot be compared.
fn assert_read_alike(bytes: &[u8], head: &Head) {
    if std::str::from_utf8(&head.target).is_err() {
        return;
    }
    let mut lines = [httparse::EMPTY_HEADER; LIMITS.fields_max];
    let mut other = httparse::Request::new(&mut lines);
    let read = other.parse(bytes).expect("what is strict is well-formed to the lax");
    assert_eq!(read, httparse::Status::Complete(bytes.len()));
    assert_eq!(other.method, Some(head.method.as_str()));
    assert_eq!(other.version, Some(u8::from(head.version == Version::HTTP_11)));
    assert_eq!(other.headers.len(), head.fields.len());
    for (other, field) in other.headers.iter().zip(&head.fields) {
        assert_eq!((other.name.as_bytes(), other.value), (&field.name[..], &field.value[..]));
    }
}

/// Sent on to a reader like this one the request stays what it is.
fn assert_same_when_sent_on(head: &Head) {
    let mut sent = Vec::new();
    sent.extend_from_slice(head.method.as_str().as_bytes());
    sent.push(b' ');
    sent.extend_from_slice(&head.target);
    sent.extend_from_slice(if head.version == Version::HTTP_11 {
        b" HTTP/1.1\r\n"
    } else {
        b" HTTP/1.0\r\n"
    });
    head.fields.write_http1(&mut sent);
    sent.extend_from_slice(b"\r\n");
    let again = parse(&sent.into()).expect("it was accepted before");
    // The authority of an absolute target is Host's but for its case, or stands in for it.
    assert!(again.authority.is_empty() || again.authority.eq_ignore_ascii_case(&head.authority));
    assert_eq!(Head { authority: head.authority.clone(), ..again }, *head);
}
