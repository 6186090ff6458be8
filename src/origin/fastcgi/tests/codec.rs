use super::*;
use crate::fields::Fields;
use crate::origin::fastcgi::{Decoded, decode_pieces, decode_response};
use http::StatusCode;
use proptest::prelude::*;

fn decode(stream: &[Vec<u8>]) -> Result<Decoded, &'static str> {
    decode_response(&stream.concat())
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what decoding gives")]
fn whole(status: u16, fields: Fields, content: &str) -> Result<Decoded, &'static str> {
    let status = StatusCode::from_u16(status).expect("a status");
    Ok(Decoded { status, fields, content: content.as_bytes().to_vec(), broken: None })
}

const HEAD: &str = "Status: 404 Not Found\r\nX-A: 1\r\nx-a: 2\r\n\r\nbody";

fn expected() -> Result<Decoded, &'static str> {
    whole(404, Fields::from([("X-A", "1"), ("x-a", "2")]), "body")
}

#[test]
fn the_head_may_be_split_over_records_at_any_byte() {
    for at in 0..=HEAD.len() {
        let (first, second) = HEAD.as_bytes().split_at(at);
        let stream = [stdout(first), stdout(second), end()];
        assert_eq!(decode(&stream), expected(), "split at {at}");
    }
}

#[test]
fn padding_may_arrive_late() {
    let first = record(6, 1, HEAD.as_bytes(), 255);
    let stream = [first.clone(), end()].concat();
    for at in first.len() - 256..=first.len() {
        let (early, late) = stream.split_at(at);
        assert_eq!(decode_pieces([early, late]), expected(), "split at {at}");
    }
}

#[test]
fn end_request_may_come_in_two_packets() {
    let stream = reply(HEAD);
    for at in stream.len() - 16..stream.len() {
        let (early, late) = stream.split_at(at);
        assert_eq!(decode_pieces([early, late]), expected(), "split at {at}");
    }
}

#[test]
fn an_empty_stdout_before_the_end_changes_nothing() {
    let stream = [stdout(HEAD.as_bytes()), stdout(b""), stderr(b""), end()];
    assert_eq!(decode(&stream), expected());
}

#[test]
fn stderr_of_9_kb_before_the_head_and_between_two_records_of_it_is_no_part_of_the_reply() {
    let (first, second) = HEAD.as_bytes().split_at(9);
    let noise = stderr(&[b'E'; 9 << 10]);
    let stream = [noise.clone(), stdout(first), noise, stdout(second), end()];
    assert_eq!(decode(&stream), expected());
}

#[test]
fn the_head_may_end_its_lines_with_a_bare_lf() {
    assert_eq!(decode(&[reply("Status: 404\nX-A: 1\r\nx-a: 2\n\nbody")]), expected());
}

#[test]
fn location_without_status_is_302_and_a_local_path_is_no_internal_redirect() {
    let stream = reply("Location: /elsewhere\r\n\r\n");
    assert_eq!(decode(&[stream]), whole(302, Fields::from([("Location", "/elsewhere")]), ""));
    let stream = reply("Status: 201 Created\r\nLocation: /x\r\n\r\n");
    assert_eq!(decode(&[stream]), whole(201, Fields::from([("Location", "/x")]), ""));
}

#[test]
fn an_empty_head_and_no_head_end_at_all_are_no_response() {
    assert_eq!(decode(&[reply("\r\nbody")]), Err("the head is empty"));
    assert_eq!(decode(&[reply("\n\nbody")]), Err("the head is empty"));
    assert_eq!(decode(&[reply("X-A: 1\r\n")]), Err("the reply ended before its head"));
    assert_eq!(decode(&[end()]), Err("the reply ended before its head"));
    assert_eq!(decode(&[]), Err("the reply is cut"));
}

#[test]
fn what_exceeds_content_length_is_cut_and_a_short_one_is_broken() {
    let length = |value: &str| Fields::from([("Content-Length", value)]);
    let stream =
        [stdout(b"Content-Length: 5\r\n\r\nhel"), stdout(b"lo, world"), stdout(b"and more"), end()];
    assert_eq!(decode(&stream), whole(200, length("5"), "hello"));
    assert_eq!(decode(&[reply("Content-Length: 0\r\n\r\nhello")]), whole(200, length("0"), ""));
    let short = decode(&[reply("Content-Length: 6\r\n\r\nhello")]).expect("a head");
    assert_eq!((&short.content[..], short.broken), (&b"hello"[..], Some("the reply is cut")));
}

#[test]
fn content_length_that_is_no_number_or_repeated_is_malformed() {
    for head in ["Content-Length: x", "Content-Length: 1\r\nContent-Length: 1"] {
        assert!(decode(&[reply(&format!("{head}\r\n\r\na"))]).is_err(), "{head}");
    }
}

#[test]
fn a_reply_without_end_request_is_broken() {
    let cut = decode(&[stdout(HEAD.as_bytes())]).expect("a head");
    assert_eq!((&cut.content[..], cut.broken), (&b"body"[..], Some("the reply is cut")));
}

#[test]
fn end_request_with_another_status_than_complete_is_an_error() {
    for (status, error) in [
        (1, "the application ended with CANT_MPX_CONN"),
        (2, "the application is overloaded"),
        (3, "the application ended with UNKNOWN_ROLE"),
        (4, "END_REQUEST has an unknown protocol status"),
    ] {
        assert_eq!(decode(&[end_with(status)]), Err(error));
        let late = decode(&[stdout(HEAD.as_bytes()), end_with(status)]).expect("a head");
        assert_eq!(late.broken, Some(error));
    }
}

#[test]
fn what_an_application_ends_with_a_failure_of_its_own_is_not_whole() {
    for failed in [[0, 0, 0, 1], [0, 0, 0, 255], [1, 0, 0, 0]] {
        let end = record(3, 1, &[&failed[..], &[0; 4]].concat(), 0);
        let reply = decode(&[stdout(HEAD.as_bytes()), end]).expect("a head");
        assert_eq!(reply.broken, Some("the reply is cut"));
    }
}

#[test]
fn end_request_that_cannot_be_decoded_is_an_error() {
    for content in [&[][..], &[0; 7], &[0; 9]] {
        assert!(
            decode(&[stdout(HEAD.as_bytes()), record(3, 1, content, 0)])
                .is_ok_and(|decoded| decoded.broken == Some("END_REQUEST is not 8 bytes long"))
        );
    }
}

#[test]
fn a_record_id_of_0_or_unknown_is_an_error() {
    for id in [0, 2, 256, 65_535] {
        let result = decode(&[record(6, id, HEAD.as_bytes(), 0), end()]);
        assert_eq!(result, Err("a record has an id that is not the request's"), "{id}");
    }
}

#[test]
fn an_unknown_type_or_version_is_an_error() {
    for kind in [0, 1, 2, 4, 5, 8, 9, 10, 11, 12, 255] {
        let result = decode(&[record(kind, 1, HEAD.as_bytes(), 0), end()]);
        assert_eq!(result, Err("a record has a type that answers nothing"), "{kind}");
    }
    let mut other = reply(HEAD);
    other[0] = 2;
    assert_eq!(decode(&[other]), Err("a record has another version than 1"));
}

#[test]
fn records_after_the_end_are_not_read() {
    let stream = [reply(HEAD), stdout(b"more"), end()];
    assert_eq!(decode(&stream), expected());
}

#[test]
fn control_characters_and_odd_names_in_the_head_are_malformed() {
    for head in ["X: a\rb", "X: a\0b", "X\0: a", "X y: a", ": a", "X", "X: a\r\n folded"] {
        assert!(decode(&[reply(&format!("{head}\r\n\r\nbody"))]).is_err(), "{head:?}");
    }
}

#[test]
fn a_status_that_is_none_is_malformed() {
    for status in ["", "20", "abc", "2000", "0200", "099", "101 Switching", "200\r\nStatus: 404"] {
        assert!(decode(&[reply(&format!("Status: {status}\r\n\r\n"))]).is_err(), "{status:?}");
    }
}

#[test]
fn what_a_script_says_to_its_server_and_about_the_connection_goes_no_further() {
    let head = "Status: 200 OK\r\nX-Accel-Redirect: /x\r\nX-Accel-Expires: 3\r\n\
                Connection: close, X-Hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n";
    let result = decode(&[reply(&format!("{head}\r\nbody"))]);
    assert_eq!(result, whole(200, Fields::from([("X-A", "1")]), "body"));
}

#[test]
fn a_204_has_no_content_and_no_length() {
    let stream = reply("Status: 204\r\nContent-Length: 4\r\nX-A: 1\r\n\r\nbody");
    assert_eq!(decode(&[stream]), whole(204, Fields::from([("X-A", "1")]), ""));
}

#[test]
fn forty_kb_of_response_head_pass_and_more_than_the_bound_do_not() {
    let decoded = decode_response(&corpus("edge-bighdr.server.bin")).expect("a head");
    assert!(decoded.fields.wire_bytes() > 40_000);
    assert_eq!((&decoded.content[..], decoded.broken), (&b"ok"[..], None));
    let line = format!("X-Big: {}\r\n", "h".repeat(60_000));
    let stream: Vec<u8> = (0..5).flat_map(|_| stdout(line.as_bytes())).collect();
    let error = "the head is larger than origin.head_max";
    assert_eq!(decode_response(&stream), Err(error));
}

#[test]
fn the_recorded_replies_of_php_fpm_are_read() {
    let html = "text/html; charset=UTF-8";
    let type_only = || Fields::from([("Content-type", html)]);
    let length = Fields::from([("Content-Length", "5"), ("Content-type", html)]);
    let duplicates = Fields::from([
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Link", "</x>; rel=preload"),
        ("Link", "</y>; rel=preload"),
        ("Content-type", html),
    ]);
    let chunks = "chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n";
    for (name, expected) in [
        ("cl", whole(200, length, "hello")),
        ("dupes", whole(200, duplicates, "x")),
        ("exit", whole(200, type_only(), "partial")),
        ("finish", whole(200, type_only(), "done")),
        ("flush", whole(200, type_only(), chunks)),
        (
            "location",
            whole(302, Fields::from([("Location", "/elsewhere"), ("Content-type", html)]), ""),
        ),
        ("nohdr", whole(200, type_only(), "x")),
        (
            "status",
            whole(503, Fields::from([("Retry-After", "30"), ("Content-type", html)]), "down"),
        ),
        ("status204", whole(204, type_only(), "")),
        ("warn", whole(200, type_only(), "ok")),
    ] {
        assert_eq!(
            decode_response(&corpus(&format!("edge-{name}.server.bin"))),
            expected,
            "{name}"
        );
    }
}

#[test]
fn every_prefix_of_a_recorded_reply_is_broken() {
    for name in ["cl", "dupes", "flush", "warn", "status204"] {
        let stream = corpus(&format!("edge-{name}.server.bin"));
        for at in 0..stream.len() {
            let result = decode_response(&stream[..at]);
            assert!(result.is_err() || result.is_ok_and(|reply| reply.broken.is_some()));
        }
    }
}

/// Records of a valid reply: the text cut at random, with padding and error text between.
fn any_reply() -> impl Strategy<Value = Vec<u8>> {
    let cuts = proptest::collection::vec((1_usize..30, 0_u8..20, any::<bool>()), 1..40);
    ("[a-z]{0,200}", cuts).prop_map(|(body, cuts)| {
        let text = format!("Status: 200\r\nX-A: b\nX-C: d\r\n\r\n{body}").into_bytes();
        let (mut rest, mut stream) = (&text[..], Vec::new());
        for (length, padding, noise) in cuts {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            stream.extend(record(6, 1, piece, padding));
            if noise {
                stream.extend(record(7, 1, b"PHP Warning", padding));
            }
            rest = after;
        }
        stream.extend(stdout(rest));
        stream.extend(end());
        stream
    })
}

proptest! {
    #[test]
    fn any_split_of_a_reply_over_reads_gives_the_same_result(
        stream in any_reply(),
        cuts in proptest::collection::vec(1_usize..50, 1..50),
    ) {
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let whole = decode_response(&stream);
        prop_assert!(whole.as_ref().is_ok_and(|reply| reply.broken.is_none()));
        prop_assert_eq!(decode_pieces(pieces), whole);
    }

    #[test]
    fn any_bytes_give_an_outcome_and_the_same_one_in_single_bytes(
        stream in proptest::collection::vec(any::<u8>(), 0..200),
        prefix in any::<bool>(),
    ) {
        let stream = if prefix { [stdout(b"X: y\n\n"), stream].concat() } else { stream };
        prop_assert_eq!(decode_pieces(stream.chunks(1)), decode_response(&stream));
    }
}
