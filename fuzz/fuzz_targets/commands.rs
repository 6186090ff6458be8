//! Any commands of two clients, as lines: each gets one reply of its client's protocol, and what was told
//! of them does the same again in another keyspace. When all keys are gone no memory is counted.
//!
//! The first byte of a line says whose it is, and how far time goes on before it.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use parvis::keyspace::{After, Bounds, Eviction, Keyspace, Session};
use parvis::resp::{
    Limits, ReadState, ReplyLimits, ReplyState, Request, Value, decode, read_reply, read_request,
};

const BOUNDS: Bounds = Bounds {
    databases: 4,
    memory_max_bytes: 64 << 10,
    eviction: Eviction::Refuse,
    string_max_bytes: 4 << 10,
    queue_max_bytes: 4 << 10,
    watched_max: 8,
    repeated_max: 20,
    reply_max_bytes: 16 << 10,
};
const LIMITS: Limits = Limits {
    inline_max_bytes: 4 << 10,
    bulk_max_bytes: 1 << 20,
    arguments_max: 4 << 10,
    request_max_bytes: 8 << 20,
};
const REPLIES: ReplyLimits = ReplyLimits {
    line_max_bytes: 64 << 10,
    bulk_max_bytes: 8 << 20,
    elements_max: 1 << 20,
    reply_max_bytes: 64 << 20,
};

fn assert_reply(mut out: BytesMut, request: &Request) {
    if out.is_empty() {
        // CLIENT REPLY says that there is none.
        return;
    }
    let reply = read_reply(&mut out, &REPLIES, &mut ReplyState::default());
    let reply = reply.expect("a reply").unwrap_or_else(|| panic!("{request:?} {out:?}"));
    assert!(out.is_empty(), "{request:?}: more than one reply");
    decode(&reply.bytes).expect("decoded");
}

fn ask(keyspace: &mut Keyspace, session: &mut Session, words: &[&[u8]]) -> Value {
    let mut out = BytesMut::new();
    session.execute(keyspace, &Request::pack(words), 0, &mut out);
    decode(&out).expect("one reply")
}

/// All keys with what they are, in one order.
fn contents(keyspace: &Keyspace) -> Vec<(usize, Vec<Vec<u8>>)> {
    let mut all = Vec::new();
    for database in 0..keyspace.databases() {
        for place in 0..keyspace.len(database) {
            let mut out = BytesMut::new();
            keyspace.portrait(database, place, &mut out);
            let mut words = Vec::new();
            let mut state = ReadState::default();
            while let Some(request) = read_request(&mut out, &LIMITS, &mut state).expect("ours") {
                if request.is("SELECT") || request.is("DEL") {
                    continue;
                }
                let mut parts: Vec<Vec<u8>> = request.args().skip(2).map(<[u8]>::to_vec).collect();
                if request.is("HSET") {
                    parts = parts.chunks(2).map(|pair| pair.join(&b'=')).collect();
                }
                parts.sort();
                words.push(request.arg(0).expect("a name").to_vec());
                words.push(request.arg(1).expect("a key").to_vec());
                words.append(&mut parts);
            }
            all.push((database, words));
        }
    }
    all.sort();
    all
}

fuzz_target!(|input: &[u8]| {
    // What is given up is told, too.
    let eviction = [Eviction::Refuse, Eviction::LeastRecentlyUsed][input.len() % 2];
    let mut keyspace = Keyspace::new(Bounds { eviction, ..BOUNDS }, 1);
    keyspace.keep_effects();
    let mut clients = [Session::new(1), Session::new(2)];
    let mut now_ms = 1_000_000;
    let (mut again, mut replayer) = (
        Keyspace::new(Bounds { memory_max_bytes: usize::MAX, eviction, ..BOUNDS }, 2),
        Session::new(3),
    );
    for line in input.split(|byte| *byte == b'\n') {
        let [first, line @ ..] = line else { continue };
        now_ms += i64::from(first >> 1);
        let client = &mut clients[usize::from(first & 1)];
        let mut buffer = BytesMut::from(line);
        buffer.extend_from_slice(b"\n");
        let Ok(Some(request)) = read_request(&mut buffer, &LIMITS, &mut ReadState::default())
        else {
            continue;
        };
        let mut out = BytesMut::new();
        let after = client.execute(&mut keyspace, &request, now_ms, &mut out);
        assert_reply(out, &request);
        if after != After::Continue {
            *client = Session::new(4);
        }
        let mut effects = BytesMut::from(&keyspace.take_effects()[..]);
        let mut state = ReadState::default();
        while let Some(told) = read_request(&mut effects, &LIMITS, &mut state).expect("ours") {
            let mut out = BytesMut::new();
            replayer.execute(&mut again, &told, 0, &mut out);
            assert_ne!(out[0], b'-', "{told:?} of {request:?}: {out:?}");
        }
    }
    assert_eq!(contents(&again), contents(&keyspace));
    let mut session = Session::new(5);
    let Value::Simple(_) = ask(&mut keyspace, &mut session, &[b"FLUSHALL"]) else {
        panic!("not flushed")
    };
    drop(keyspace.take_freed(usize::MAX));
    assert_eq!(keyspace.memory_bytes(), 0);
});
