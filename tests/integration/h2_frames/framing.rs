//! Frames, settings, field blocks and prefaces (RFC 9113 3.4, 4, 6; RFC 7541).

use super::cases::Case;
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY,
    HEADERS, PADDED, PING, PREFACE, PRIORITISED, PRIORITY, PROTOCOL_ERROR, SETTINGS, WHOLE,
    WINDOW_UPDATE, at, field, frame, get, indexed, integer, request, setting,
};

fn whole(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &get("/x"))
}

/// A frame before a proper request.
fn before(name: &'static str, bytes: Vec<u8>) -> Case {
    Case::frames(name, &[bytes, whole(1)])
}

pub fn frames() -> Vec<Case> {
    let refused = |name, bytes| before(name, bytes).goaway(PROTOCOL_ERROR);
    vec![
        before("an unknown type", frame(0xbe, 0xff, 0, b"anything")),
        before("an unknown type on a stream", frame(0xbe, 0xff, 77, b"anything")),
        before("unknown flags", frame(PING, 0xfe, 0, b"01234567")),
        before("a ping", frame(PING, 0, 0, b"01234567")),
        before("an answer to no ping", frame(PING, ACK, 0, b"01234567")),
        before("an old priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 0])),
        before("GOAWAY from the client", frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0])),
        refused("a short ping", frame(PING, 0, 0, b"0123")),
        refused("a long ping", frame(PING, 0, 0, b"0123456789")),
        refused("a ping on a stream", frame(PING, 0, 1, b"01234567")),
        refused("a short priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0])),
        refused("a priority of no stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 0])),
        refused("a short window", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        refused("a long window", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1, 0])),
        refused("a short GOAWAY", frame(GOAWAY, 0, 0, &[0, 0, 0, 0])),
        refused("a GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0, 0, 0, 0, 0, 0, 0, 0])),
        Case::frames("a frame too large", &[frame(0xbe, 0, 0, &[0; 16_385])])
            .goaway(FRAME_SIZE_ERROR),
        Case::frames(
            "DATA too large",
            &[
                frame(HEADERS, END_HEADERS, 1, &request("POST", "/x")),
                frame(DATA, END_STREAM, 1, &[0; 16_385]),
            ],
        )
        .goaway(FRAME_SIZE_ERROR),
        Case::frames("a frame that claims 16 MiB", &[vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]])
            .goaway(FRAME_SIZE_ERROR),
        Case::frames("half a frame", &[whole(1)[..12].to_vec()]).finished().closed(),
    ]
}

pub fn settings() -> Vec<Case> {
    let of = |name, payload: Vec<u8>| before(name, frame(SETTINGS, 0, 0, &payload));
    let refused = |case: Case| case.goaway(PROTOCOL_ERROR);
    vec![
        of("no settings", Vec::new()),
        of("unknown settings", setting(0x7777, 7)),
        of("the same setting twice", setting(3, 1).repeat(2)),
        of("the largest frame there is", setting(5, 16_777_215)),
        refused(of("a frame size too small", setting(5, 16_383))),
        refused(of("a frame size too large", setting(5, 16_777_216))),
        of("a window too large", setting(4, 0x8000_0000)).goaway(PROTOCOL_ERROR),
        refused(of("push that is neither on nor off", setting(2, 2))),
        refused(of("extended CONNECT that is neither on nor off", setting(8, 2))),
        refused(of("half a setting", vec![0, 3, 0, 0])),
        refused(before("on a stream", frame(SETTINGS, 0, 1, &[]))),
        refused(before("ACK with a payload", frame(SETTINGS, ACK, 0, &setting(3, 1)))),
        refused(Case::frames(
            "ACK twice",
            &[frame(SETTINGS, ACK, 0, &[]), frame(SETTINGS, ACK, 0, &[]), whole(1)],
        )),
        Case::frames(
            "a window that makes an open one too large",
            &[
                frame(HEADERS, END_HEADERS, 1, &request("POST", "/x")),
                frame(WINDOW_UPDATE, 0, 1, &0x7000_0000_u32.to_be_bytes()),
                frame(SETTINGS, 0, 0, &setting(4, 0x7000_0000)),
            ],
        )
        .goaway(FLOW_CONTROL_ERROR),
    ]
}

pub fn field_blocks() -> Vec<Case> {
    let block = get("/x");
    let (first, second) = block.split_at(11);
    let with = |name, extra: &[u8]| Case::request(name, &[&get("/x")[..], extra].concat());
    let broken = |name, extra: &[u8]| with(name, extra).goaway(PROTOCOL_ERROR);
    let padded = |length: u8| [&[length][..], &block, &[0, 0]].concat();
    vec![
        Case::pieces("in two pieces", &[first, second]),
        Case::pieces("in four, some of them empty", &[&[], first, &[], second]),
        Case::frames("padded", &[frame(HEADERS, WHOLE | PADDED, 1, &padded(2))]),
        Case::frames(
            "padded with more than there is",
            &[frame(HEADERS, WHOLE | PADDED, 1, &padded(200))],
        )
        .goaway(PROTOCOL_ERROR),
        Case::frames(
            "no room for the priority it has",
            &[frame(HEADERS, WHOLE | PRIORITISED, 1, &[0, 0])],
        )
        .goaway(PROTOCOL_ERROR),
        Case::frames(
            "another frame within",
            &[
                frame(HEADERS, END_STREAM, 1, first),
                frame(PING, 0, 0, b"01234567"),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ],
        )
        .goaway(PROTOCOL_ERROR),
        Case::frames(
            "an unknown frame within",
            &[
                frame(HEADERS, END_STREAM, 1, first),
                frame(0xbe, 0, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ],
        )
        .goaway(PROTOCOL_ERROR),
        Case::frames(
            "CONTINUATION of another stream",
            &[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 3, second)],
        )
        .goaway(PROTOCOL_ERROR),
        Case::frames("CONTINUATION of nothing", &[frame(CONTINUATION, END_HEADERS, 1, second)])
            .goaway(PROTOCOL_ERROR),
        Case::frames(
            "CONTINUATION after the end",
            &[whole(1), frame(CONTINUATION, END_HEADERS, 1, &field("x-a", "1"))],
        )
        .goaway(PROTOCOL_ERROR)
        .perhaps_seen(),
        with("entries of the table", &[indexed("x-a", "b"), at(62), at(62)].concat()),
        broken("index 0", &at(0)),
        broken("an index beyond the table", &at(63)),
        broken("an index beyond all tables", &integer(0x80, 7, 1 << 20)),
        broken("an integer without end", &[0xff; 40]),
        broken("a name cut short", &[0, 5, b'x']),
        broken("a value cut short", &[0, 1, b'x', 5, b'y']),
        broken("a string longer than all", &[0, 0x7f, 0xff, 0xff, 0xff, 0x7f]),
        broken("Huffman coding of EOS", &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        broken("a table larger than allowed", &integer(0x20, 5, 1 << 20)),
        broken("a change of the table in the middle", &[field("x-a", "b"), vec![0x20]].concat()),
        with("101 fields", &field("x-a", "b").repeat(101)).status(431),
        with("1000 cookie crumbs are one field", &field("cookie", "a=1").repeat(1_000)),
        with("a list over 64 KiB", &field("x-a", "b".repeat(8_000)).repeat(9)).status(431),
    ]
}

pub fn prefaces() -> Vec<Case> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let raw = |name, parts: &[&[u8]]| Case::raw(name, &parts.concat());
    vec![
        raw("no settings first", &[PREFACE, &whole(1)]).goaway(PROTOCOL_ERROR),
        raw("a ping first", &[PREFACE, &frame(PING, 0, 0, b"01234567"), &settings, &whole(1)])
            .goaway(PROTOCOL_ERROR),
        raw("garbage after the preface", &[PREFACE, b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"])
            .goaway(PROTOCOL_ERROR),
        raw(
            "HTTP/1 after a request",
            &[
                PREFACE,
                &frame(SETTINGS, 0, 0, &setting(1, 0)),
                &whole(1),
                b"GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n",
            ],
        )
        .goaway(FRAME_SIZE_ERROR)
        .perhaps_seen(),
        raw("the preface twice", &[PREFACE, PREFACE, &settings, &whole(1)]).goaway(PROTOCOL_ERROR),
        raw("half a preface", &[&PREFACE[..20]]).finished().closed(),
    ]
}
