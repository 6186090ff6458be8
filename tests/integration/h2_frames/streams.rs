//! Content, trailers and the states of streams (RFC 9113 5.1, 8.1).

use super::cases::Case;
use crate::support::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, HEADERS, PRIORITY, PROTOCOL_ERROR,
    PUSH_PROMISE, RST_STREAM, WHOLE, field, frame, get, request, reset, setting, window,
};
use crate::support::frames::{PREFACE, SETTINGS};

fn head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", "/x"))
}

fn whole(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &get("/x"))
}

fn trailers(name: &'static str, block: &[u8]) -> Case {
    let frames = [head(1), frame(DATA, 0, 1, b"0123"), frame(HEADERS, WHOLE, 1, block)];
    Case::frames(name, &frames)
}

pub fn contents() -> Vec<Case> {
    vec![
        trailers("trailers", &field("x-a", "1")),
        trailers("empty trailers", &[]),
        trailers("trailers that name framing reach nobody", &field("content-length", "9")),
        // h2 drops pseudo-fields of trailers; nobody behind us sees any trailer.
        trailers("a path in trailers", &field(":path", "/evil")),
        trailers("a status in trailers", &field(":status", "200")),
        trailers("connection in trailers", &field("connection", "close")).reset(PROTOCOL_ERROR),
        trailers("a line in trailers", &field("x-a", "1\r\nb")).goaway(PROTOCOL_ERROR),
        trailers("upper case in trailers", &field("X-A", "1")).goaway(PROTOCOL_ERROR),
        Case::frames(
            "trailers that do not end the stream",
            &[head(1), frame(HEADERS, END_HEADERS, 1, &field("x-a", "1"))],
        )
        .reset(PROTOCOL_ERROR),
        Case::frames(
            "another request as trailers",
            &[head(1), frame(HEADERS, WHOLE, 1, &get("/evil"))],
        ),
        Case::frames(
            "content in many pieces",
            &[head(1), frame(DATA, 0, 1, b"0").repeat(50), frame(DATA, END_STREAM, 1, b"")],
        ),
        Case::frames("padding", &[head(1), frame(DATA, 8 | END_STREAM, 1, b"\x02content\0\0")]),
        Case::frames(
            "padding as long as the frame",
            &[head(1), frame(DATA, 8 | END_STREAM, 1, b"\x03\0\0")],
        )
        .goaway(PROTOCOL_ERROR),
        Case::frames("padding without a length", &[head(1), frame(DATA, 8 | END_STREAM, 1, b"")])
            .goaway(PROTOCOL_ERROR),
        Case::frames(
            "more than the window",
            &[head(1), frame(DATA, 0, 1, &[b'x'; 16_384]).repeat(17)],
        )
        .goaway(FLOW_CONTROL_ERROR),
        Case::frames("cut short", &[head(1), frame(DATA, 0, 1, b"0123"), reset(1, CANCEL)])
            .finished()
            .closed(),
    ]
}

pub fn states() -> Vec<Case> {
    let idle = |name, bytes: Vec<u8>| Case::frames(name, &[bytes]).goaway(PROTOCOL_ERROR);
    let closed = |name, bytes: Vec<u8>| Case::frames(name, &[whole(1), bytes]);
    vec![
        idle("DATA on an idle stream", frame(DATA, END_STREAM, 1, b"x")),
        idle("RST_STREAM on an idle stream", reset(1, CANCEL)),
        idle("WINDOW_UPDATE on an idle stream", window(1, 1)),
        idle("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        idle("HEADERS on stream 0", frame(HEADERS, WHOLE, 0, &get("/x"))),
        idle("RST_STREAM on stream 0", reset(0, CANCEL)),
        idle("a stream of even number", whole(2)),
        closed("DATA after the end", frame(DATA, END_STREAM, 1, b"x"))
            .goaway(PROTOCOL_ERROR)
            .perhaps_seen(),
        closed("HEADERS after the end", frame(HEADERS, WHOLE, 1, &field("x-a", "1")))
            .goaway(PROTOCOL_ERROR)
            .perhaps_seen(),
        closed("WINDOW_UPDATE after the end", window(1, 1)),
        closed("PRIORITY after the end", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])),
        closed("RST_STREAM of another that was never opened", reset(3, CANCEL))
            .goaway(PROTOCOL_ERROR)
            .perhaps_seen(),
        Case::frames("streams out of order", &[whole(5), whole(3)])
            .on(3)
            .goaway(PROTOCOL_ERROR)
            .perhaps_seen(),
        Case::frames("streams that leave some out", &[whole(5), whole(9)]).on(9).reaching_origin(2),
        Case::frames("a stream far ahead", &[whole(0x7fff_fffd)]).on(0x7fff_fffd),
        Case::frames("the reserved bit", &[whole(0x8000_0001)]),
        Case::frames("a window of nothing", &[head(1), window(1, 0)]).goaway(PROTOCOL_ERROR),
        Case::frames("a window of nothing for all", &[window(0, 0)]).goaway(PROTOCOL_ERROR),
        Case::frames("a window too large", &[head(1), window(1, 0x7fff_ffff)])
            .reset(FLOW_CONTROL_ERROR),
        Case::frames("a window too large for all", &[window(0, 0x7fff_ffff)])
            .goaway(FLOW_CONTROL_ERROR),
        Case::frames("PUSH_PROMISE", &[head(1), promise()]).goaway(PROTOCOL_ERROR),
        Case::frames(
            "HEADERS that depend on themselves",
            &[frame(HEADERS, WHOLE | 0x20, 1, &[&[0, 0, 0, 1, 0][..], &get("/x")].concat())],
        )
        .reset(PROTOCOL_ERROR),
        Case::frames(
            "HEADERS with a priority",
            &[frame(HEADERS, WHOLE | 0x20, 1, &[&[0, 0, 0, 0, 7][..], &get("/x")].concat())],
        ),
        Case::frames("PRIORITY that depends on itself", &[frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])])
            .reset(PROTOCOL_ERROR),
        Case::frames(
            "PRIORITY on an idle stream",
            &[frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 0]), whole(5)],
        )
        .on(5),
        Case::frames("RST_STREAM too short", &[head(1), frame(RST_STREAM, 0, 1, &[0, 0, 0])])
            .goaway(PROTOCOL_ERROR),
        shrinking_window(),
    ]
}

fn promise() -> Vec<u8> {
    let payload = [&[0, 0, 0, 2][..], &get("/evil")].concat();
    frame(PUSH_PROMISE, END_HEADERS, 1, &payload)
}

/// A window that becomes negative holds the response back until it is opened again.
fn shrinking_window() -> Case {
    let bytes = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[setting(1, 0), setting(4, 100)].concat()),
        &head(1),
        &window(1, 10),
        &frame(SETTINGS, 0, 0, &setting(4, 0)),
        &frame(DATA, END_STREAM, 1, b"x"),
        &window(1, 100),
        &frame(SETTINGS, 0, 0, &setting(4, 65_535)),
    ]
    .concat();
    Case::raw("a window that shrinks and grows", &bytes)
}
