//! Floods: the connection is told to calm down and ends, memory stays bounded, and others are
//! served meanwhile.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client;
use crate::support::frames::{
    ACK, Answer, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame,
    Frames, HEADERS, PING, PRIORITY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE,
    at, field, frame, get, indexed, request, reset, setting, window,
};
use crate::support::origin::{Origin, page};
use crate::support::process::wait_until;
use crate::support::{Parvis, parvis};

const MIB: u64 = 1 << 20;
/// What a flood may add to the memory of the process: generous, as the hits beside it take some.
const GROWTH_MAX_BYTES: u64 = 48 * MIB;
const REFUSED_STREAM: u32 = 7;

/// `/hit` is stored, `/large` is 4 MiB and stored, `/slow` takes its time and is not.
fn shop(change: impl FnOnce(parvis::Builder) -> parvis::Builder) -> (Origin, Parvis) {
    let large = "0123456789abcdef".repeat(256 << 10);
    let origin = Origin::start(move |seen, stream| {
        let response = match &*seen.target {
            "/hit" => page("hit", "a"),
            "/large" => page(&large, "a"),
            _ => {
                thread::sleep(Duration::from_secs(2));
                b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nslow"
                    .to_vec()
            }
        };
        let _ = stream.write_all(&response);
    });
    let parvis = change(Parvis::before_http(origin.port).with("log.access", "\"off\"")).start();
    for target in ["/hit", "/large"] {
        wait_until("storing", Duration::from_secs(5), || parvis.get(target, &[]).is_hit());
    }
    (origin, parvis)
}

fn head(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

/// The client's stream of that number.
fn stream(number: usize) -> u32 {
    number as u32 * 2 + 1
}

type Bytes = Box<dyn FnMut(usize) -> Vec<u8> + Send>;

struct Flood {
    name: &'static str,
    /// Sent once.
    first: Vec<u8>,
    /// Sent again and again.
    again: Bytes,
}

fn flood(
    name: &'static str,
    first: Vec<u8>,
    again: impl FnMut(usize) -> Vec<u8> + Send + 'static,
) -> Flood {
    Flood { name, first, again: Box::new(again) }
}

/// As `flood`, with the same bytes each time.
fn same(name: &'static str, first: Vec<u8>, again: Vec<u8>) -> Flood {
    flood(name, first, move |_| again.clone())
}

fn control_floods() -> Vec<Flood> {
    let open = || head(1, END_HEADERS, &request("POST", "/slow"));
    vec![
        same("pings", Vec::new(), frame(PING, 0, 0, b"01234567")),
        same("answers to no ping", Vec::new(), frame(PING, ACK, 0, b"01234567")),
        same("settings", Vec::new(), frame(SETTINGS, 0, 0, &setting(4, 1_000))),
        same("empty settings", Vec::new(), frame(SETTINGS, 0, 0, &[])),
        same("priorities", Vec::new(), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7])),
        flood("windows up and down", open(), |at| {
            frame(SETTINGS, 0, 0, &setting(4, at as u32 % 2 * 1_000))
        }),
        same("windows of a byte", Vec::new(), window(0, 1)),
        same("windows of a stream", open(), window(1, 1)),
        same("frames nobody knows", Vec::new(), frame(0xbe, 0, 0, b"01234567")),
        same("resets of a closed stream", [open(), reset(1, CANCEL)].concat(), reset(1, CANCEL)),
        same("empty content", open(), frame(DATA, 0, 1, &[])),
        same("padding alone", open(), frame(DATA, 8, 1, &[4, 0, 0, 0, 0])),
    ]
}

fn stream_floods() -> Vec<Flood> {
    let whole = |number: usize, path: &str| head(stream(number), WHOLE, &get(path));
    vec![
        flood("rapid reset of misses", Vec::new(), move |number| {
            [whole(number, "/slow"), reset(stream(number), CANCEL)].concat()
        }),
        flood("rapid reset of hits", Vec::new(), move |number| {
            [whole(number, "/hit"), reset(stream(number), CANCEL)].concat()
        }),
        flood("made to reset by a window", Vec::new(), move |number| {
            [whole(number, "/slow"), window(stream(number), 0x7fff_ffff)].concat()
        }),
        flood("made to reset by a length", Vec::new(), |number| {
            let block = [request("POST", "/slow"), field("content-length", "1")].concat();
            let content = frame(DATA, END_STREAM, stream(number), b"too long");
            [head(stream(number), END_HEADERS, &block), content].concat()
        }),
        flood("made to reset by a priority", Vec::new(), move |number| {
            let itself = [&stream(number).to_be_bytes()[..], &[0]].concat();
            [whole(number, "/slow"), frame(PRIORITY, 0, stream(number), &itself)].concat()
        }),
        flood("made to reset by trailers", Vec::new(), |number| {
            let open = head(stream(number), END_HEADERS, &request("POST", "/slow"));
            [open, head(stream(number), END_HEADERS, &field("x-a", "1"))].concat()
        }),
        flood("empty requests", Vec::new(), |number| head(stream(number), WHOLE, &[])),
        flood("more streams than allowed", Vec::new(), move |number| whole(number, "/slow")),
        same(
            "CONTINUATION without end",
            head(1, END_STREAM, &get("/slow")),
            frame(CONTINUATION, 0, 1, &field("x-a", "y".repeat(100)).repeat(100)),
        ),
        same(
            "empty CONTINUATION",
            head(1, END_STREAM, &get("/slow")),
            frame(CONTINUATION, 0, 1, &[]),
        ),
    ]
}

/// Runs `attack` while others ask for a stored page; each of them gets it.
fn beside_hits<R>(parvis: &Parvis, attack: impl FnOnce() -> R) -> R {
    let (is_over, hits) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) || hits.load(Ordering::SeqCst) < 3 {
                assert!(client::get(parvis.port, "/hit", &[]).is_hit());
                hits.fetch_add(1, Ordering::SeqCst);
            }
        });
        let result = attack();
        is_over.store(true, Ordering::SeqCst);
        result
    })
}

/// Plays all; the names of those that were not ended, or not told why, or that took memory.
fn withstood(parvis: &Parvis, floods: Vec<Flood>) -> Vec<String> {
    const TIMES: usize = 300_000;
    let mut wrong = Vec::new();
    for Flood { name, first, again } in floods {
        let before = parvis.resident_bytes();
        let mut client = Frames::connect(parvis.port);
        let (listened, error) = beside_hits(parvis, || {
            client.send(&first);
            let listened = client.flood(TIMES, again);
            (listened, if listened < TIMES { client.end() } else { None })
        });
        let growth = parvis.resident_bytes().saturating_sub(before);
        println!("{name}: {listened} times, {error:?}, {} KiB more", growth >> 10);
        // h2 may find an error of the protocol first.
        let is_told = matches!(error, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR));
        if listened >= TIMES || !is_told || growth > GROWTH_MAX_BYTES {
            wrong.push(format!("{name}: {listened} times, {error:?}, {growth} bytes"));
        }
    }
    wrong
}

#[test]
fn floods_of_frames_that_bring_nothing_forward_are_told_to_calm_down() {
    let (_origin, parvis) = shop(|builder| builder);
    assert_eq!(withstood(&parvis, control_floods()), [""; 0]);
}

#[test]
fn floods_of_streams_are_told_to_calm_down_whoever_resets_them() {
    let (_origin, parvis) = shop(|builder| builder);
    assert_eq!(withstood(&parvis, stream_floods()), [""; 0]);
}

#[test]
fn without_a_budget_a_flood_of_pings_goes_on() {
    let (_origin, parvis) = shop(|builder| builder.with("listen.http2_control_max", "100_000_000"));
    let mut client = Frames::connect(parvis.port);
    let ping = frame(PING, ACK, 0, b"01234567");
    assert_eq!(client.flood(10_000, |_| ping.clone()), 10_000);
    assert_eq!(client.ask(1, &get("/hit")), Answer::Status(200));
}

#[test]
fn a_proper_client_with_thousands_of_requests_never_meets_a_budget() {
    let (_origin, parvis) = shop(|builder| builder);
    let mut client = Frames::connect(parvis.port);
    for number in 0..5_000 {
        let id = stream(number);
        if number % 10 == 0 {
            client.send(frame(PING, 0, 0, b"01234567"));
        }
        // As browsers do: a priority of its own, and windows for what was read.
        client.send([window(id - if number == 0 { 1 } else { 2 }, 1_000), window(0, 10)].concat());
        assert_eq!(client.ask(id, &get("/hit")), Answer::Status(200), "request {number}");
        if number % 3 == 0 {
            // It leaves a page while something is under way.
            client.send(reset(id, CANCEL));
        }
    }
}

#[test]
fn a_client_with_small_windows_gets_a_large_response() {
    let (_origin, parvis) = shop(|builder| builder);
    let mut client = Frames::with_settings(parvis.port, &setting(4, 2_048));
    client.send(head(1, WHOLE, &[get("/large"), field("accept-encoding", "identity")].concat()));
    let (mut bytes, mut unopened) = (0, 0);
    loop {
        let Some(Frame { kind, flags, payload, .. }) = client.next() else { panic!("cut") };
        assert!(![RST_STREAM, 7].contains(&kind), "after {bytes} bytes: {kind} {payload:?}");
        if kind != DATA {
            continue;
        }
        bytes += payload.len();
        if flags & END_STREAM != 0 {
            break;
        }
        unopened += payload.len() as u32;
        // At half the window, as clients do: whoever opens it by every piece makes ever smaller ones.
        if unopened >= 1_024 {
            // In two parts each: four frames for one.
            for part in [unopened / 2, unopened - unopened / 2] {
                client.send([window(1, part), window(0, part)].concat());
            }
            unopened = 0;
        }
    }
    assert_eq!(bytes, 4 << 20);
}

#[test]
fn a_window_opened_byte_by_byte_is_cut() {
    let (_origin, parvis) = shop(|builder| builder);
    let mut client = Frames::with_settings(parvis.port, &setting(4, 1));
    client.send(head(1, WHOLE, &get("/large")));
    let byte = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    assert!(client.flood(100_000, |_| byte.clone()) < 100_000);
    assert_eq!(client.end(), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn a_client_without_a_window_is_told_and_cut() {
    let (_origin, parvis) = shop(|builder| builder.with("listen.http2_stall_timeout", "\"300ms\""));
    // A large response waits within Parvis, a small one within h2.
    for (target, bytes) in [("/large", 0), ("/hit", 0), ("/hit", 1)] {
        let mut client = Frames::with_settings(parvis.port, &setting(4, bytes));
        client.send(head(1, WHOLE, &get(target)));
        assert_eq!(client.end(), Some(ENHANCE_YOUR_CALM), "{target}");
    }
    // An origin that takes its time is no stall.
    assert_eq!(Frames::connect(parvis.port).ask(1, &get("/slow")), Answer::Status(200));
}

#[test]
fn the_rest_of_a_frame_must_come_in_time() {
    let (_origin, parvis) = shop(|builder| builder.with("listen.header_timeout", "\"500ms\""));
    let fields = head(3, END_STREAM, &get("/hit"));
    let ping = frame(PING, 0, 0, b"01234567");
    for begun in [&fields[..], &fields[..20], &ping[..4]] {
        let mut client = Frames::connect(parvis.port);
        assert_eq!(client.ask(1, &get("/hit")), Answer::Status(200));
        client.send(begun);
        // Cut in the middle of what it says, it is told all the same.
        assert_eq!(client.end(), Some(ENHANCE_YOUR_CALM));
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_be_tried_again() {
    let (origin, parvis) = shop(|builder| {
        builder
            .with("listen.http2_streams_max", "4")
            .with("origin.queue_max", "0")
            .with("origin.concurrency_max", "64")
    });
    let before = origin.count();
    let mut client = Frames::connect(parvis.port);
    client.send(
        (0..5)
            .map(|number| head(stream(number), WHOLE, &get("/slow")))
            .collect::<Vec<_>>()
            .concat(),
    );
    assert_eq!(client.answer(stream(4)), Answer::Reset(REFUSED_STREAM));
    assert_eq!(client.answer(stream(0)), Answer::Status(200));
    assert!(origin.count() - before <= 4);
    assert_eq!(client.ask(stream(5), &get("/hit")), Answer::Status(200));
}

/// A request whose fields are 60 KiB, most of them one byte each on the wire.
fn bomb() -> [Vec<u8>; 2] {
    let fill = indexed("x-bomb", "y".repeat(3_900));
    let again = at(62).repeat(14);
    [[get("/slow"), fill, again.clone()].concat(), [get("/slow"), at(62).repeat(15)].concat()]
}

/// What 40 connections with 60 such requests each make the process grow by.
fn grown_by_bombs(fields_memory_max: &str) -> u64 {
    let (_origin, parvis) = shop(|builder| {
        builder
            .with("listen.http2_fields_memory_max", fields_memory_max)
            .with("origin.concurrency_max", "1")
            .with("origin.queue_max", "10_000")
    });
    let before = parvis.resident_bytes();
    let [first, again] = bomb();
    let mut clients: Vec<_> = (0..40).map(|_| Frames::connect(parvis.port)).collect();
    for client in &mut clients {
        client.send(head(1, WHOLE, &first));
        let more: Vec<_> = (1..60).map(|number| head(stream(number), WHOLE, &again)).collect();
        client.send(more.concat());
    }
    for client in &mut clients {
        // All that came before it has been handled.
        let hit = client.ask(stream(61), &get("/hit"));
        assert!(matches!(hit, Answer::Status(200 | 431)), "{hit:?}");
    }
    parvis.resident_bytes().saturating_sub(before)
}

#[test]
fn fields_that_stand_for_more_than_they_say_take_bounded_memory() {
    let bounded = grown_by_bombs("\"512KiB\"");
    let unbounded = grown_by_bombs("\"1GiB\"");
    println!("{} KiB, and {} KiB without the bound", bounded >> 10, unbounded >> 10);
    assert!(bounded < 64 * MIB, "{bounded}");
    assert!(unbounded > 2 * bounded, "{unbounded}, not {bounded}");
}

#[test]
fn a_list_of_fields_larger_than_all_bounds_is_refused_before_it_is_held() {
    let (_origin, parvis) = shop(|builder| builder);
    let before = parvis.resident_bytes();
    let fill = indexed("x-bomb", "y".repeat(3_900));
    // 20 KiB that stand for 80 MB, and a fourth of that.
    for times in [20_000, 300] {
        let block = [get("/hit"), fill.clone(), at(62).repeat(times)].concat();
        let mut client = Frames::connect(parvis.port);
        let (first, rest) = block.split_at(block.len().min(16_000));
        client.send(head(1, END_STREAM, first));
        client.send(frame(CONTINUATION, END_HEADERS, 1, rest));
        assert_eq!(client.answer(1), Answer::Goaway(ENHANCE_YOUR_CALM), "{times}");
    }
    let crumbs = [get("/hit"), field("cookie", "a=1").repeat(1_200)].concat();
    let answer = Frames::connect(parvis.port).ask(1, &crumbs);
    assert_eq!(answer, Answer::Status(200), "one field of 7 KiB");
    assert!(parvis.resident_bytes().saturating_sub(before) < GROWTH_MAX_BYTES);
}
