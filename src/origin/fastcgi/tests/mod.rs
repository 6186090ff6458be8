//! Tests of the FastCGI client: codec, parameters, exchanges over sockets.

mod codec;
mod exchange;
mod params;

use std::path::Path;

/// One record with `padding` bytes after its content.
fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("fits into a record");
    let mut record = vec![1, kind];
    record.extend(id.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend([padding, 0]);
    record.extend(content);
    record.extend(std::iter::repeat_n(0x5a, usize::from(padding)));
    record
}

fn stdout(content: &[u8]) -> Vec<u8> {
    record(6, 1, content, 0)
}

fn stderr(content: &[u8]) -> Vec<u8> {
    record(7, 1, content, 0)
}

fn end_with(protocol_status: u8) -> Vec<u8> {
    record(3, 1, &[0, 0, 0, 0, protocol_status, 0, 0, 0], 0)
}

fn end() -> Vec<u8> {
    end_with(0)
}

/// A whole reply in one STDOUT record.
fn reply(content: &str) -> Vec<u8> {
    [stdout(content.as_bytes()), end()].concat()
}

fn corpus(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/fastcgi");
    std::fs::read(directory.join(name)).expect("in the corpus")
}

/// The records of a stream as (type, content), padding checked and dropped.
fn records(mut stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    while let [1, kind, 0, 1, high, low, padding, 0, rest @ ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records.push((*kind, rest[..length].to_vec()));
        stream = &rest[length + usize::from(*padding)..];
    }
    assert!(stream.is_empty(), "no record begins with {stream:?}");
    records
}

/// The request's content, and the lengths of its STDIN records.
fn stdin(request: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let stdin = records(request).into_iter().filter(|(kind, _)| *kind == 5);
    let contents: Vec<Vec<u8>> = stdin.map(|(_, content)| content).collect();
    (contents.concat(), contents.iter().map(Vec::len).collect())
}

/// Name and value pairs of a request, each record of them read by itself as PHP does.
fn sent_params(request: &[u8]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (_, content) in records(request).into_iter().filter(|(kind, _)| *kind == 4) {
        let mut rest = &content[..];
        while !rest.is_empty() {
            let (name, value) = (take_length(&mut rest), take_length(&mut rest));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            pairs.push((text(&rest[..name]), text(&rest[name..name + value])));
            rest = &rest[name + value..];
        }
    }
    pairs
}

fn take_length(rest: &mut &[u8]) -> usize {
    let (length, after) = match rest {
        [first @ 0..=127, after @ ..] => (usize::from(*first), after),
        [a, b, c, d, after @ ..] => (u32::from_be_bytes([a & 0x7f, *b, *c, *d]) as usize, after),
        _ => panic!("a length is cut"),
    };
    *rest = after;
    length
}

/// A request is whole with its empty STDIN record.
fn is_whole(request: &[u8]) -> bool {
    request.ends_with(&[1, 5, 0, 1, 0, 0, 0, 0])
}
