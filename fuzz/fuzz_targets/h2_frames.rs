//! An HTTP/2 connection of any bytes after its preface, in any pieces: it ends when the client
//! does, it answers with no more than a bound, and what reaches the handler holds together.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use parvis::exchange::{Request, Responder, Response};
use parvis::listener::{Limits, serve_pipe};
use parvis::settings::Listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::runtime::{Builder, Runtime};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Bytes in each direction that wait for the other end.
const PIPE_BYTES: usize = 16 << 10;
/// No answer of the handler is longer; each takes nine bytes of a request at least.
const ANSWER_MAX_BYTES: usize = 512;
/// Settings, goodbyes and the like.
const OVERHEAD_MAX_BYTES: usize = 64 << 10;

/// Checks what it gets.
#[derive(Default)]
struct Checker(AtomicUsize);

impl Responder for Checker {
    async fn respond(&self, request: Request) -> Response {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert!(!request.method.as_str().is_empty());
        assert!(request.target.iter().all(|byte| *byte > b' ' && *byte != 0x7f && *byte != b'#'));
        assert!(request.authority.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'@'));
        let mut hosts = 0;
        let mut cookies = 0;
        assert!(request.fields.len() <= 100);
        for field in request.fields.iter() {
            let name = std::str::from_utf8(&field.name).expect("ASCII");
            assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!name.contains(':') && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
            let is_of_connection =
                ["connection", "transfer-encoding", "upgrade", "keep-alive"].contains(&name);
            assert!(!is_of_connection, "{name}");
            assert!(field.value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f));
            assert_eq!(field.value.trim_ascii(), &field.value[..]);
            hosts += usize::from(name == "host");
            cookies += usize::from(name == "cookie");
        }
        assert!(hosts == 1 && cookies <= 1);
        let said = request.fields.first("content-length").cloned();
        match request.body.collect(1 << 20).await {
            Ok(content) => {
                if let Some(said) = said {
                    let said = std::str::from_utf8(&said).expect("digits");
                    assert_eq!(said.parse::<usize>().expect("a number"), content.len());
                }
                Response::text(StatusCode::OK, format!("{} bytes\n", content.len()))
            }
            Err(_) => Response::text(StatusCode::BAD_REQUEST, "broken\n"),
        }
    }
}

async fn play(bytes: &[u8], piece_bytes: usize) {
    let checker = Arc::new(Checker::default());
    let limits = Arc::new(Limits::from(&Listen::default()));
    let (client, server) = duplex(PIPE_BYTES);
    let served = tokio::spawn(serve_pipe(server, Arc::clone(&checker), limits));
    let (mut reader, mut writer) = split(client);
    let reading = tokio::spawn(async move {
        let mut answered = Vec::new();
        let _ = reader.read_to_end(&mut answered).await;
        answered.len()
    });
    for piece in bytes.chunks(piece_bytes) {
        if writer.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = writer.shutdown().await;
    let ended = tokio::time::timeout(Duration::from_secs(20), served).await;
    ended.expect("it ends when its client does").expect("no panic");
    let answered = reading.await.expect("no panic");
    let most = OVERHEAD_MAX_BYTES + bytes.len() / 9 * ANSWER_MAX_BYTES;
    assert!(answered <= most, "{answered} bytes for {}", bytes.len());
    assert!(checker.0.load(Ordering::SeqCst) <= bytes.len() / 9);
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().build().expect("a runtime")
    );
}

fuzz_target!(|input: &[u8]| {
    let [cut, has_settings, frames @ ..] = input else { return };
    let settings = if has_settings & 1 == 0 { SETTINGS } else { &[] };
    let bytes = [PREFACE, settings, frames].concat();
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            play(&bytes, bytes.len()).await;
            play(&bytes, usize::from(*cut) + 1).await;
        });
    });
});
