//! What is wrong with a request is said as redis-server says it.

use bytes::BytesMut;
use parvis::resp::{Limits, ReadState, Value, decode, read_request};

use super::Direct;
use crate::support::redis::Redis;

/// redis-server's own.
const LIMITS: Limits = Limits {
    inline_max_bytes: 64 << 10,
    bulk_max_bytes: 512 << 20,
    arguments_max: 2_147_483_647,
    request_max_bytes: 1 << 30,
};

fn ours(bytes: &[u8]) -> Value {
    let mut buffer = BytesMut::from(bytes);
    let error = loop {
        match read_request(&mut buffer, &LIMITS, &mut ReadState::default()) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("{:?} is no error", bytes.escape_ascii().to_string()),
            Err(error) => break error,
        }
    };
    let mut out = BytesMut::new();
    error.write(&mut out);
    decode(&out).expect("an error")
}

#[test]
fn protocol_errors_have_the_words_of_redis_and_close_the_connection() {
    let redis = Redis::start();
    let long = vec![b'1'; 70_000];
    let cases: Vec<Vec<u8>> = [
        &b"*\r\n"[..],
        b"*x\r\n",
        b"*+1\r\n",
        b"*01\r\n",
        b"*2147483648\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n\xff\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$+1\r\n",
        b"*1\r\nx\rY",
        b"\"\n",
        b"'a'b\r\n",
        b"\"a\\\"\n",
        b"a\"b\"c\n",
    ]
    .map(<[u8]>::to_vec)
    .into_iter()
    .chain([&b""[..], b"*", b"*1\r\n", b"*1\r\n$"].map(|head| [head, &long].concat()))
    .collect();
    for bytes in cases {
        let mut direct = Direct::to(&redis);
        direct.send(&bytes);
        let shown = bytes[..bytes.len().min(30)].escape_ascii().to_string();
        assert_eq!(direct.reply(), Some(ours(&bytes)), "{shown}");
        assert_eq!(direct.reply(), None, "{shown}");
    }
}
