//! Whole passes: a cart's page, which is never stored, as it was recorded, from an HTTP origin that
//! keeps its connection and from a FastCGI application that takes one for each request.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use parvis::settings::{Endpoint, Origin};

use super::Operation;
use super::shop::{CART, cart_head, html, request_bytes};
use super::visit::Visitor;

/// Content of the recorded page, about.
const CART_BYTES: usize = 38_000;

/// Where a record of STDIN without content ends a request.
const STDIN_END: &[u8] = &[1, 5, 0, 1, 0, 0, 0, 0];

pub fn pass_http() -> Operation {
    let (head, content) = (cart_head(), html(CART_BYTES, false));
    let response =
        format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n{content}", content.len());
    pass(
        |endpoint, _| Origin { http: Some(endpoint), ..Origin::default() },
        move |mut connection| {
            while read_to(&mut connection, b"\r\n\r\n") {
                connection.write_all(response.as_bytes()).expect("it is read");
            }
        },
    )
}

pub fn pass_fastcgi() -> Operation {
    let reply = records(&format!("{}\r\n{}", cart_head(), html(CART_BYTES, false)));
    pass(
        |endpoint, root| Origin {
            fastcgi: Some(endpoint),
            root: root.to_owned(),
            ..Origin::default()
        },
        move |mut connection| {
            if read_to(&mut connection, STDIN_END) {
                connection.write_all(&reply).expect("it is read");
            }
        },
    )
}

/// A visitor who asks again and again for what is never stored.
fn pass(
    origin: impl Fn(Endpoint, &Path) -> Origin,
    answer: impl Fn(UnixStream) + Send + 'static,
) -> Operation {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("origin.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    let mut visitor = Visitor::new(origin(Endpoint::Unix(socket), directory.path()));
    let request = request_bytes(CART, &[("Accept-Encoding", "identity")]);
    let first = visitor.ask(&request);
    let mut response = Vec::with_capacity(first.len() + 64);
    assert!(memchr::memmem::find(&first, b"parvis; fwd=bypass").is_some());
    Box::new(move || {
        // The root is open as long as there are repetitions.
        let _root = &directory;
        visitor.repeat_whole(&request, first.len(), &mut response);
        assert!(response.len().abs_diff(first.len()) < 64 && response[..12] == first[..12]);
    })
}

/// Reads until what has come ends so; false: the other end has gone.
fn read_to(connection: &mut UnixStream, end: &[u8]) -> bool {
    let (mut read, mut buffer) = (0, [0; 8_192]);
    while !buffer[..read].ends_with(end) {
        match connection.read(&mut buffer[read..]) {
            Ok(count @ 1..) => read += count,
            _ => return false,
        }
    }
    true
}

/// A whole reply of a FastCGI application.
fn records(text: &str) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in text.as_bytes().chunks(0xfff8) {
        let length = u16::try_from(piece.len()).expect("it fits").to_be_bytes();
        records.extend_from_slice(&[1, 6, 0, 1, length[0], length[1], 0, 0]);
        records.extend_from_slice(piece);
    }
    records.extend_from_slice(&[1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    records
}
