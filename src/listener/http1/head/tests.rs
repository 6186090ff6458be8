//! Properties of the head reader; single cases are tried over sockets.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::listener::limits::HeadLimits;

const LIMITS: HeadLimits = HeadLimits {
    request_line_max_bytes: 200,
    field_max_bytes: 100,
    head_max_bytes: 1_000,
    fields_max: 10,
};

/// Feeds `input` up to each of `ends` in turn.
fn scan(input: &[u8], ends: impl Iterator<Item = usize>) -> Result<Option<usize>, Refused> {
    let mut scanner = Scanner::default();
    for end in ends.chain([input.len()]) {
        if let Some(length) = scanner.advance(&input[..end.min(input.len())], &LIMITS)? {
            return Ok(Some(length));
        }
    }
    Ok(None)
}

/// The head and its length, whole or in pieces.
fn read(input: &[u8], ends: impl Iterator<Item = usize>) -> Result<Option<(usize, Head)>, Refused> {
    let Some(length) = scan(input, ends)? else {
        return Ok(None);
    };
    parse(&Bytes::copy_from_slice(&input[..length])).map(|head| Some((length, head)))
}

/// Lines that are nearly right, so that more than the first check is reached.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Host: a.example".to_owned()),
        Just("Content-Length: 5".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("Connection: keep-alive, close".to_owned()),
        Just("Expect: 100-continue".to_owned()),
        "[a-zA-Z-]{1,8}:[ \t]{0,2}[ -~]{0,30}",
        "[ -~]{0,20}",
        any::<String>().prop_map(|text| text.chars().take(10).collect()),
    ];
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let first = prop_oneof![
        4 => "(GET|POST|OPTIONS|PURGE|CONNECT) (/[ -~]{0,20}|http://a.example/x|\\*|a:1) HTTP/1.[01]",
        1 => "[ -~]{0,40}",
    ];
    let lines = prop::collection::vec((line, end.clone()), 0..8);
    (first, end, lines, "[\r\n -~]{0,10}").prop_map(|(first, end, lines, after)| {
        let lines: String = lines.into_iter().map(|(line, end)| line + end).collect();
        format!("{first}{end}{lines}\r\n{after}").into_bytes()
    })
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![nearly_a_head(), prop::collection::vec(any::<u8>(), 0..300)]
}

type Lines = Vec<(String, Vec<u8>)>;

/// What httparse makes of the same bytes: method, target, names and values.
fn peer(input: &[u8]) -> Option<(usize, String, Vec<u8>, Lines)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(input).ok()? else {
        return None;
    };
    let lines = request.headers.iter().map(|line| (line.name.to_owned(), line.value.to_vec()));
    let lines = lines.collect();
    Some((length, request.method?.to_owned(), request.path?.as_bytes().to_vec(), lines))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_every_split_reads_the_same(
        input in anything(),
        mut ends in prop::collection::vec(0..400_usize, 0..6),
    ) {
        ends.sort_unstable();
        let whole = read(&input, std::iter::empty());
        let split = read(&input, ends.into_iter());
        let bytewise = read(&input, 0..input.len());
        // Which of several faults is told may depend on the split; whether there is one may not,
        // but for a head that is refused before its end has come.
        prop_assert_eq!(whole.is_err(), split.is_err());
        prop_assert_eq!(split.is_err(), bytewise.is_err());
        prop_assert_eq!(whole.as_ref().ok(), split.as_ref().ok());
        prop_assert_eq!(whole.ok(), bytewise.ok());
    }

    #[test]
    fn what_is_accepted_means_the_same_to_another_parser(input in nearly_a_head()) {
        let Ok(Some((length, head))) = read(&input, std::iter::empty()) else { return Ok(()) };
        let (peer_length, method, target, lines) = peer(&input).expect("httparse accepts it");
        prop_assert_eq!(length, peer_length);
        prop_assert_eq!(head.method.as_str(), method);
        prop_assert!(target.ends_with(&head.target) || !target.starts_with(b"/"));
        let ours: Vec<_> = head.fields.iter().map(|field| {
            (String::from_utf8(field.name.to_vec()).expect("a token"), field.value.to_vec())
        }).collect();
        prop_assert_eq!(ours, lines);
    }

    #[test]
    fn an_accepted_head_is_bounded_and_clean(input in anything()) {
        let Ok(Some((length, head))) = read(&input, std::iter::empty()) else { return Ok(()) };
        prop_assert!(length <= LIMITS.head_max_bytes);
        prop_assert!(head.fields.len() <= LIMITS.fields_max);
        prop_assert!(head.version == Version::HTTP_10 || !head.authority.is_empty());
        prop_assert!(head.fields.all("content-length").count() <= 1);
        let has_both =
            head.fields.contains("content-length") && head.fields.contains("transfer-encoding");
        prop_assert!(!has_both);
        for field in &head.fields {
            prop_assert!(field.name.iter().copied().all(is_token_byte));
            prop_assert!(!field.value.iter().copied().any(is_forbidden_in_value));
        }
    }
}

#[test]
fn fields_are_slices_of_the_head_but_for_names_that_all_send() {
    let bytes = Bytes::from_static(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\n");
    let head = parse(&bytes).expect("valid");
    let within = |slice: &Bytes| bytes.as_ptr_range().contains(&slice.as_ptr());
    assert!(within(&head.target) && within(&head.authority));
    assert!(head.fields.iter().all(|field| within(&field.value)));
    let names: Vec<bool> = head.fields.iter().map(|field| within(&field.name)).collect();
    assert_eq!(names, [false, true]);
    assert_eq!(head.fields.first("x-y").map(|value| &value[..]), Some(&b"z"[..]));
}

#[test]
fn a_first_byte_that_begins_no_method_is_refused_wherever_the_line_ends() {
    for input in ["\x16", " GET /", "\x16\r\nHost: a"] {
        assert_eq!(scan(input.as_bytes(), 0..input.len()), Err(Refused::Method));
        assert_eq!(scan(input.as_bytes(), std::iter::empty()), Err(Refused::Method));
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let target = "t".repeat(LIMITS.request_line_max_bytes - "GET / HTTP/1.1".len());
    let fits = format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(read(fits.as_bytes(), std::iter::empty()).is_ok_and(|head| head.is_some()));
    let longer = format!("GET /{target}t HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read(longer.as_bytes(), 0..longer.len()), Err(Refused::RequestLineTooLong));

    let value = "v".repeat(LIMITS.field_max_bytes - "X: ".len());
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n");
    assert!(read(fits.as_bytes(), 0..fits.len()).is_ok_and(|head| head.is_some()));
    let longer = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}v\r\n\r\n");
    assert_eq!(read(longer.as_bytes(), std::iter::empty()), Err(Refused::FieldTooLong));

    let lines = |count| "X: y\r\n".repeat(count);
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(LIMITS.fields_max - 1));
    assert!(read(fits.as_bytes(), std::iter::empty()).is_ok_and(|head| head.is_some()));
    let more = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(LIMITS.fields_max));
    assert_eq!(read(more.as_bytes(), std::iter::empty()), Err(Refused::TooManyFields));
}

#[test]
fn another_protocol_is_told_at_once_whether_its_first_line_is_there_or_not() {
    for input in ["\u{16}", "\u{16}\u{3}\r\nmore", "(/ HTTP/1.1\r\nHost: a\r\n"] {
        let whole = scan(input.as_bytes(), std::iter::empty());
        assert_eq!(whole, Err(Refused::Method), "{input:?}");
        assert_eq!(scan(input.as_bytes(), 0..input.len()), whole, "{input:?}");
    }
    assert_eq!(scan(b"\r", std::iter::empty()), Ok(None), "an empty line may follow");
}

#[test]
fn what_follows_a_head_does_not_count_as_head() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let input = format!("{head}{}", "x".repeat(5_000));
    assert_eq!(scan(input.as_bytes(), std::iter::empty()), Ok(Some(head.len())));
}

#[test]
fn each_refusal_is_a_client_error_but_for_the_version() {
    for refused in Refused::ALL {
        let status = refused.status();
        assert!(status.is_client_error() || *refused == Refused::Version, "{refused:?}");
    }
}

#[test]
fn an_authority_is_a_host_and_an_optional_port() {
    for good in ["a", "a.b-c_d.", "a:1", "a:65535", "127.0.0.1:80", "[::1]", "[2001:db8::1]:443"] {
        assert!(is_authority(good.as_bytes()), "{good}");
    }
    let long = "a".repeat(256);
    assert!(!is_authority(format!("a:{}", "9".repeat(60)).as_bytes()), "a port of 60 digits");
    for bad in [
        "",
        ":1",
        "a:",
        "a:0",
        "a:65536",
        "a:000001",
        "a b",
        "a,b",
        "u@a",
        "a/",
        "a?",
        "[::1",
        "[]",
        "[::1]x",
        "[::1]:",
        "::1",
        "a:1:2",
        "[fe80::1%25eth0]",
        "a%41",
        "\u{e4}",
        &long,
    ] {
        assert!(!is_authority(bad.as_bytes()), "{bad}");
    }
}
