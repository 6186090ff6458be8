use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    inline_max_bytes: 64,
    bulk_max_bytes: 1_000,
    arguments_max: 100,
    request_max_bytes: 4_000,
};
const REPLIES: ReplyLimits = ReplyLimits {
    line_max_bytes: 200,
    bulk_max_bytes: 1_000,
    elements_max: 200,
    reply_max_bytes: 4_000,
};

/// All requests of some bytes that come in these pieces, and how they end.
fn requests<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Request>, Result<usize, ProtocolError>) {
    let (mut buffer, mut state, mut found) = (BytesMut::new(), ReadState::default(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match read_request(&mut buffer, limits, &mut state) {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(buffer.len()))
}

fn whole(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Result<usize, ProtocolError>) {
    let (found, end) = requests([bytes], &LIMITS);
    let words = |request: &Request| request.args().map(<[u8]>::to_vec).collect();
    (found.iter().map(words).collect(), end)
}

fn error_of(bytes: &[u8]) -> String {
    let error = whole(bytes).1.expect_err("an error");
    let mut out = BytesMut::new();
    error.write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn arrays_and_lines_are_read_one_after_the_other() {
    let bytes =
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nping\r\n\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\n*1\r\n$4\r\nPI";
    let (found, end) = whole(bytes);
    let expected: [&[&[u8]]; 3] = [&[b"GET", b"a"], &[b"ping"], &[b""]];
    assert_eq!(found, expected);
    assert_eq!(end, Ok(10), "what is not whole stays");
}

#[test]
fn a_request_is_slices_of_the_bytes_it_came_in() {
    let bytes = b"*2\r\n$3\r\nGeT\r\n$2\r\n\r\n\r\n";
    let (found, _) = requests([&bytes[..]], &LIMITS);
    let request = &found[0];
    assert_eq!(&request.raw()[..], bytes);
    assert_eq!((request.len(), request.arg(1), request.arg(2)), (2, Some(&b"\r\n"[..]), None));
    assert_eq!(request.bytes(0), Some(Bytes::from_static(b"GeT")));
    assert!(request.is("get") && !request.is("ge") && !request.is("gett"));
}

#[test]
fn a_line_is_passed_on_as_an_array() {
    let (found, _) = requests([&b"set 'a b' \"\\x41\\n\"\n"[..]], &LIMITS);
    let packed = Request::pack(&[b"set", b"a b", b"A\n"]);
    assert_eq!(found, std::slice::from_ref(&packed));
    assert_eq!(&packed.raw()[..], b"*3\r\n$3\r\nset\r\n$3\r\na b\r\n$2\r\nA\n\r\n");
}

#[test]
fn quotes_mean_what_they_mean_to_redis() {
    let cases: [(&[u8], &[&[u8]]); 8] = [
        (b"  a\tb \r\n", &[b"a", b"b"]),
        (b"\x0ba\x0bb\n", &[b"a\x0bb"]),
        (b"a\"b c\" d\n", &[b"ab c", b"d"]),
        (b"\"\\q\\\"\\\\\\t\\b\\a\\r\\xzz\"\n", &[b"q\"\\\t\x08\x07\rxzz"]),
        (b"'\\n\\'' x\n", &[b"\\n'", b"x"]),
        (b"\"\" ''\n", &[b"", b""]),
        (b"a'b'\n", &[b"ab"]),
        (b"\\x41\n", &[b"\\x41"]),
    ];
    for (line, words) in cases {
        assert_eq!(whole(line).0, [words], "{:?}", line.escape_ascii().to_string());
    }
    for line in [&b"\"a\n"[..], b"'a\n", b"\"a\"b\n", b"'a'b\n", b"a\"b\"c\n", b"\"a\\\"\n"] {
        assert_eq!(whole(line).1, Err(ProtocolError::UnbalancedQuotes));
    }
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_redis() {
    let cases: [(&[u8], &str); 14] = [
        (b"*\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*101\r\n", "invalid multibulk length"),
        (b"*1\rX", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\r\n", "expected '$', got ' '"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$1001\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$1\r\naXX", "invalid bulk length"),
        (b"\"\n", "unbalanced quotes in request"),
    ];
    for (bytes, text) in cases {
        let shown = bytes.escape_ascii().to_string();
        assert_eq!(error_of(bytes), format!("-ERR Protocol error: {text}\r\n"), "{shown}");
    }
    let long = [b'1'; 70];
    let with = |before: &[u8]| error_of(&[before, &long].concat());
    assert!(with(b"*").contains("too big mbulk count string"));
    assert!(with(b"*1\r\n$").contains("too big bulk count string"));
    assert!(with(b"").contains("too big inline request"));
    // Also where its end is wrong: nobody looks that far.
    assert!(error_of(&[b"*", &long[..], b"\rx"].concat()).contains("too big mbulk count string"));
}

#[test]
fn a_request_is_no_larger_than_its_limit() {
    let limits = Limits { request_max_bytes: 30, ..LIMITS };
    let fits = b"*2\r\n$3\r\nGET\r\n$11\r\n12345678901\r\n";
    assert_eq!(fits.len(), 31);
    let (_, end) = requests([&fits[..]], &limits);
    assert_eq!(end, Err(ProtocolError::RequestTooLarge));
    let limits = Limits { request_max_bytes: 31, ..LIMITS };
    assert_eq!(requests([&fits[..]], &limits).0.len(), 1);
    // It is said as soon as it is known.
    let (_, end) = requests([&b"*2\r\n$3\r\nGET\r\n$900\r\n"[..]], &limits);
    assert_eq!(end, Err(ProtocolError::RequestTooLarge));
}

#[test]
fn a_byte_at_a_time_costs_no_second_look() {
    // A state that looked again from the start would take half an hour of this.
    let mut bytes = b"*1000\r\n".to_vec();
    for _ in 0..1_000 {
        bytes.extend_from_slice(b"$1000\r\n");
        bytes.extend([b'x'; 1_000]);
        bytes.extend_from_slice(b"\r\n");
    }
    let limits = Limits { arguments_max: 1_000, request_max_bytes: 2 << 20, ..LIMITS };
    let (found, end) = requests(bytes.chunks(1), &limits);
    assert_eq!((found.len(), end), (1, Ok(0)));
    let limits = ReplyLimits { elements_max: 1_001, reply_max_bytes: 2 << 20, ..REPLIES };
    assert_eq!(replies(bytes.chunks(1), &limits).0.len(), 1);
}

/// All replies of some bytes that come in these pieces, and how they end.
fn replies<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &ReplyLimits,
) -> (Vec<RawReply>, Result<usize, ProtocolError>) {
    let (mut buffer, mut state, mut found) = (BytesMut::new(), ReplyState::default(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match read_reply(&mut buffer, limits, &mut state) {
                Ok(Some(reply)) => found.push(reply),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(buffer.len()))
}

const EACH_KIND: &[(&[u8], ReplyKind)] = &[
    (b"+OK\r\n", ReplyKind::Simple),
    (b"-ERR no\r\n", ReplyKind::Error),
    (b"!5\r\nERR x\r\n", ReplyKind::Error),
    (b":-12\r\n", ReplyKind::Integer),
    (b"$2\r\n\r\n\r\n", ReplyKind::Bulk),
    (b"$0\r\n\r\n", ReplyKind::Bulk),
    (b"$-1\r\n", ReplyKind::Null),
    (b"*-1\r\n", ReplyKind::Null),
    (b"_\r\n", ReplyKind::Null),
    (b"*0\r\n", ReplyKind::Array),
    (b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n", ReplyKind::Array),
    (b"%1\r\n+a\r\n*1\r\n#t\r\n", ReplyKind::Map),
    (b"~2\r\n:1\r\n:2\r\n", ReplyKind::Set),
    (b",-1.5e3\r\n", ReplyKind::Double),
    (b",inf\r\n", ReplyKind::Double),
    (b"#f\r\n", ReplyKind::Boolean),
    (b"(123456789012345678901234567890\r\n", ReplyKind::BigNumber),
    (b"=6\r\ntxt:ab\r\n", ReplyKind::Verbatim),
    (b">2\r\n+message\r\n+x\r\n", ReplyKind::Push),
    (b"|1\r\n+ttl\r\n*1\r\n:3\r\n*1\r\n|1\r\n+a\r\n:1\r\n+x\r\n", ReplyKind::Array),
    (b"|0\r\n|1\r\n+a\r\n|1\r\n+b\r\n+c\r\n+d\r\n$1\r\nx\r\n", ReplyKind::Bulk),
];

#[test]
fn each_kind_of_reply_is_framed_and_decoded() {
    let all: Vec<u8> = EACH_KIND.iter().flat_map(|(bytes, _)| bytes.to_vec()).collect();
    let (found, end) = replies([&all[..]], &REPLIES);
    assert_eq!(end, Ok(0));
    let expected: Vec<_> = EACH_KIND
        .iter()
        .map(|(bytes, kind)| RawReply { bytes: Bytes::from_static(bytes), kind: *kind })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(replies(all.chunks(1), &REPLIES), (expected, Ok(0)));
    for (bytes, _) in EACH_KIND {
        let value = decode(bytes).expect("decoded");
        let mut out = BytesMut::new();
        write::value(&mut out, Protocol::Resp3, &value);
        assert_eq!(decode(&out), Ok(value));
    }
    let text = |text| Value::Bulk(Bytes::from_static(text));
    let list = decode(b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n");
    assert_eq!(list, Ok(Value::Array(vec![Value::Array(vec![Value::Integer(1)]), text(b"a")])));
}

#[test]
fn what_is_no_reply_is_refused() {
    let streamed: [&[u8]; 4] = [b"$?\r\n", b"*?\r\n", b"%?\r\n", b"*1\r\n~?\r\n"];
    for bytes in streamed {
        assert_eq!(replies([bytes], &REPLIES).1, Err(ProtocolError::Streamed));
    }
    let malformed: [&[u8]; 11] = [
        b"\r\n",
        b"x\r\n",
        b":\r\n",
        b":1.5\r\n",
        b"$-2\r\n",
        b"*x\r\n",
        b"#x\r\n",
        b"+a\rb\r\n",
        b"$1\r\nabc\r\n",
        b",x\r\n",
        b"(1x\r\n",
    ];
    for bytes in malformed {
        let shown = bytes.escape_ascii().to_string();
        assert_eq!(replies([bytes], &REPLIES).1, Err(ProtocolError::MalformedReply), "{shown}");
        assert_eq!(decode(bytes), Err(ProtocolError::MalformedReply), "{shown}");
    }
    let large: [&[u8]; 4] =
        [b"$1001\r\n", b"*200\r\n", b"*2\r\n%99\r\n*1\r\n", b"*9223372036854775807\r\n"];
    for bytes in large {
        assert_eq!(replies([bytes], &REPLIES).1, Err(ProtocolError::ReplyTooLarge));
    }
    assert_eq!(replies([&[b'+'; 300][..]], &REPLIES).1, Err(ProtocolError::ReplyTooLarge));
    let broken = [&[b'+'; 300][..], b"\rx"].concat();
    assert_eq!(replies([&broken[..]], &REPLIES).1, Err(ProtocolError::ReplyTooLarge));
    let deep = [b"*1\r\n".repeat(DEPTH_MAX), b":1\r\n".to_vec()].concat();
    assert_eq!(decode(&deep), Err(ProtocolError::ReplyTooDeep));
    assert!(decode(&deep[4..]).is_ok());
    assert_eq!(decode(b":1\r\n:2\r\n"), Err(ProtocolError::MalformedReply));
}

#[test]
fn replies_have_the_shapes_of_their_protocol() {
    let value = Value::Array(vec![
        Value::Null,
        Value::Boolean(true),
        Value::Double(1.5),
        Value::Map(vec![(Value::Integer(1), Value::Set(vec![Value::Integer(2)]))]),
        Value::Verbatim { format: *b"txt", text: Bytes::from_static(b"a") },
        Value::Error(Bytes::from_static(b"ERR a\r\nb\r\n")),
    ]);
    let mut out = BytesMut::new();
    write::value(&mut out, Protocol::Resp2, &value);
    assert_eq!(
        out.escape_ascii().to_string().replace("\\r\\n", " "),
        "*6 $-1 :1 $3 1.5 *2 :1 *1 :2 $1 a -ERR a  b "
    );
    out.clear();
    write::value(&mut out, Protocol::Resp3, &value);
    assert_eq!(
        out.escape_ascii().to_string().replace("\\r\\n", " "),
        "*6 _ #t ,1.5 %1 :1 ~1 :2 =5 txt:a -ERR a  b "
    );
}

#[test]
fn integers_have_one_form() {
    for number in [0, 1, -1, 10, i64::MAX, i64::MIN] {
        assert_eq!(integer(number.to_string().as_bytes()), Some(number));
    }
    for text in [
        "",
        "-",
        "-0",
        "00",
        "01",
        "+1",
        " 1",
        "1 ",
        "1x",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "-99999999999999999999",
    ] {
        assert_eq!(integer(text.as_bytes()), None, "{text}");
    }
}

/// Bytes that are nearly requests, or nearly replies.
fn nearly(kinds: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => proptest::sample::select(kinds).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

const OF_REQUESTS: &[&[u8]] = &[
    b"*1\r\n",
    b"*2\r\n",
    b"*0\r\n",
    b"$1\r\na\r\n",
    b"$3\r\nGET\r\n",
    b"$0\r\n\r\n",
    b"$12\r\n",
    b"ping\r\n",
    b"set 'a' \"b\"\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"*",
    b"$",
    b"0123456789abcdef",
];
const OF_REPLIES: &[&[u8]] = &[
    b"+OK\r\n",
    b":1\r\n",
    b"$1\r\na\r\n",
    b"*2\r\n",
    b"%1\r\n",
    b"|1\r\n",
    b">1\r\n",
    b"_\r\n",
    b"$-1\r\n",
    b"$12\r\n",
    b"\r\n",
    b"\r",
    b"*",
    b"~3\r\n",
    b"0123456789abcdef",
    b"*40\r\n",
];

fn pieces<'a>(bytes: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(
        bytes in nearly(OF_REQUESTS),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let expected = requests([&bytes[..]], &LIMITS);
        prop_assert_eq!(requests(pieces(&bytes, &cuts), &LIMITS), expected.clone());
        prop_assert_eq!(requests(bytes.chunks(1), &LIMITS), expected);
    }

    #[test]
    fn any_split_gives_the_same_replies(
        bytes in nearly(OF_REPLIES),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let expected = replies([&bytes[..]], &REPLIES);
        prop_assert_eq!(replies(pieces(&bytes, &cuts), &REPLIES), expected.clone());
        prop_assert_eq!(replies(bytes.chunks(1), &REPLIES), expected.clone());
        for reply in expected.0 {
            decode(&reply.bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }

    #[test]
    fn what_is_packed_is_read(
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..9),
    ) {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let request = Request::pack(&words);
        let (found, end) = requests([&request.raw()[..]], &LIMITS);
        prop_assert_eq!((found, end), (vec![request], Ok(0)));
    }
}
