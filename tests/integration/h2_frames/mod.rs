//! HTTP/2 from a client made of frames: what it may send is answered, what it may not is refused,
//! and the origin sees the requests that were answered, and no other.

mod cases;
mod fields;
mod floods;
mod framing;
mod streams;

use std::time::Duration;

use super::support::Parvis;
use super::support::frames::{
    Answer, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, NO_ERROR, PREFACE, SETTINGS, WHOLE,
    field, frame, get, request,
};
use super::support::origin::{Origin, Seen};
use super::support::process::wait_until;
use cases::Case;

/// A stream that no case uses, for a request after it: the last there is.
const LATER: u32 = 0x7fff_ffff;

/// An origin whose responses are never stored, behind a process.
struct Shop {
    origin: Origin,
    parvis: Parvis,
}

impl Shop {
    fn open() -> Self {
        let origin = Origin::always(
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        );
        let parvis = Parvis::before_http(origin.port)
            .with("listen.unknown_methods", "\"pass\"")
            .with("listen.header_timeout", "\"2s\"")
            .start();
        Self { origin, parvis }
    }

    /// What the client is answered, and what the origin saw of it.
    fn play(&self, case: &Case) -> (Answer, Vec<Seen>) {
        let before = self.origin.count();
        let mut client = Frames::silent(self.parvis.port);
        client.send(&case.bytes);
        if case.finishes {
            client.finish();
        }
        let answer = client.answer(case.stream);
        // What was refused leaves the connection as it was, if the error was the stream's alone.
        let is_of_stream = matches!(answer, Answer::Status(_) | Answer::Reset(_));
        if !is_of_stream || case.finishes {
            client = Frames::connect(self.parvis.port);
        }
        let mut later = client.ask(LATER, &get("/later"));
        if later == Answer::Goaway(NO_ERROR) || later == Answer::Closed {
            // The response said that the connection ends.
            later = Frames::connect(self.parvis.port).ask(LATER, &get("/later"));
        }
        assert_eq!(later, Answer::Status(200), "after {}", case.name);
        let seen = || -> Vec<Seen> {
            let seen = self.origin.seen().split_off(before);
            seen.into_iter().filter(|seen| seen.target != "/later").collect()
        };
        if answer == case.answer {
            // Other streams take the time they need.
            let enough = *case.at_origin().start();
            wait_until(case.name, Duration::from_secs(30), || seen().len() >= enough);
        }
        (answer, seen())
    }

    /// Plays all, and lists what was not as expected.
    fn check(&self, cases: &[Case]) {
        let mut wrong = Vec::new();
        for case in cases {
            let (answer, seen) = self.play(case);
            if answer != case.answer || !case.at_origin().contains(&seen.len()) {
                let seen: Vec<_> =
                    seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
                wrong.push(format!(
                    "{}: {answer:?} instead of {:?}; the origin saw {seen:?}",
                    case.name, case.answer
                ));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }

    /// What the origin saw of a request with these fields.
    fn seen_of(&self, fields: &[Vec<u8>]) -> Seen {
        let case = Case::request("seen", &[&get("/seen")[..], &fields.concat()].concat());
        let (answer, mut seen) = self.play(&case);
        assert_eq!((answer, seen.len()), (Answer::Status(200), 1));
        seen.remove(0)
    }
}

#[test]
fn each_request_is_answered_as_expected_and_the_origin_sees_the_legal_ones_alone() {
    let cases: Vec<Case> = [
        fields::pseudo_fields(),
        fields::targets(),
        fields::authorities(),
        fields::names_and_values(),
        fields::lengths(),
        fields::methods(),
    ]
    .concat();
    assert!(cases.len() >= 60, "{}", cases.len());
    Shop::open().check(&cases);
}

#[test]
fn each_frame_is_answered_as_expected_and_the_origin_sees_the_legal_requests_alone() {
    let cases: Vec<Case> = [
        streams::contents(),
        streams::states(),
        framing::frames(),
        framing::settings(),
        framing::field_blocks(),
        framing::prefaces(),
    ]
    .concat();
    assert!(cases.len() >= 60, "{}", cases.len());
    Shop::open().check(&cases);
}

#[test]
fn what_is_legal_reaches_the_origin_as_http_1_has_it() {
    let shop = Shop::open();
    let seen = shop.seen_of(&[
        field("cookie", "a=1"),
        field("x-a", "  b \t"),
        field("cookie", "b=2"),
        field("te", "trailers"),
        field("cookie", "c=3"),
    ]);
    let cookies: Vec<_> =
        seen.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie")).collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(cookies[0].1, "a=1; b=2; c=3");
    assert_eq!(seen.header("host"), Some("shop.test"));
    assert_eq!(seen.header("te"), None);

    let before = shop.origin.count();
    let mut client = Frames::connect(shop.parvis.port);
    client.send(frame(HEADERS, END_HEADERS, 1, &request("POST", "/post")));
    client.send(frame(DATA, 0, 1, b"0123"));
    client.send(frame(DATA, 0, 1, b"45"));
    // A trailer reaches nobody.
    client.send(frame(HEADERS, WHOLE, 1, &field("x-trailer", "1")));
    assert_eq!(client.answer(1), Answer::Status(200));
    let seen = shop.origin.seen().split_off(before).remove(0);
    assert_eq!((&*seen.method, &*seen.body), ("POST", &b"012345"[..]));
    assert_eq!(seen.header("content-length"), Some("6"));
    assert_eq!(seen.header("transfer-encoding"), None);
    assert_eq!(seen.header("x-trailer"), None);
}
