//! A snapshot from any bytes: reading ends, takes no more memory than there are bytes, and gives nothing
//! but what is written again as the same bytes.
//!
//! The first byte says what the rest is: `s`, a whole snapshot; `r`, the content of one record, to which
//! the right checksum is made.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use parvis::policy::CacheKey;
use parvis::snapshot::{Fault, Head, Pushed, Reader, Writer, record};

const RECORD_MAX_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((b's', stream)) => read_stream(stream),
        Some((b'r', content)) => read_record(content),
        _ => {}
    }
});

fn read_stream(stream: &[u8]) {
    let Ok(mut reader) = Reader::open(stream, RECORD_MAX_BYTES) else { return };
    let head: Head = reader.head().clone();
    let (mut responses, mut whole) = (Vec::new(), true);
    for next in &mut reader {
        match next {
            Ok(response) => responses.push(response),
            Err(_) => whole = false,
        }
    }
    // What is longer than a writer writes is read all the same.
    let Ok(mut writer) = Writer::begin(Vec::new(), &head, u64::MAX, RECORD_MAX_BYTES) else {
        return;
    };
    for response in &responses {
        assert_eq!(writer.push(response).expect("memory"), Pushed::Written);
    }
    let begin = usize::try_from(writer.bytes()).expect("small");
    let written = writer.finish().expect("memory");
    assert_eq!(written[..begin], stream[..begin]);
    assert!(!whole || stream.starts_with(&written));
}

fn read_record(content: &[u8]) {
    let head = Head::default();
    let read = record::read(Bytes::copy_from_slice(content));
    let Ok(response) = read else { return };
    if let Some(key) = CacheKey::checked(&response.key) {
        assert_eq!(key.as_bytes(), &response.key);
    }
    let mut again = Vec::new();
    record::write(&response, &mut again).expect("it was read from fewer bytes");
    assert_eq!(again, content);
    let mut writer = Writer::begin(Vec::new(), &head, u64::MAX, RECORD_MAX_BYTES).expect("memory");
    if writer.push(&response).expect("memory") == Pushed::Written {
        let written = writer.finish().expect("memory");
        let reader = Reader::open(&written[..], RECORD_MAX_BYTES).expect("its head");
        let responses: Result<Vec<_>, Fault> = reader.collect();
        assert_eq!(responses.expect("whole"), [response]);
    }
}
