//! For tests: requests, and an origin that does exactly what a test says, byte by byte.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{OriginRequest, OriginResponse};
use crate::body::{BodyError, Spooled};
use crate::exchange::{Client, Scheme};
use crate::fields::Fields;
use crate::settings::{Endpoint, Settings};

/// A request of a client on the internet that named `shop.test`.
pub(super) fn request(method: Method, target: &str) -> OriginRequest {
    OriginRequest {
        method,
        target: Bytes::from(target.to_owned()),
        authority: Bytes::from("shop.test"),
        fields: Fields::from([("Host", "shop.test")]),
        body: Spooled::default(),
        beside: crate::exchange::Beside::default(),
        files_alone: false,
        ticket: crate::admission::Ticket::default(),
        client: Client {
            address: IpAddr::from([192, 0, 2, 7]),
            port: 4_711,
            scheme: Scheme::Http,
            server_port: 80,
            trusted_peer: false,
            forged: false,
            hops: Vec::new(),
        },
    }
}

/// Settings with short waits, so that a test which fails does so soon.
pub(super) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.origin.first_byte_timeout = Duration::from_secs(5);
    settings.origin.between_bytes_timeout = Duration::from_secs(5);
    settings.origin.keep_alive = Some(Duration::ZERO);
    settings.origin.retries = 0;
    settings
}

/// The content of a response, or what broke it.
pub(super) async fn content(response: OriginResponse) -> Result<Bytes, BodyError> {
    response.body.collect(64 << 20).await
}

/// What an origin does on a connection.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Reads one request to its end.
    Read,
    /// Writes.
    Write(Vec<u8>),
    /// Writes each byte by itself.
    Drip(Vec<u8>),
    /// Does nothing for a while.
    Pause(Duration),
    /// Waits until the other end closes.
    AwaitClose,
}

/// An origin on a Unix socket; each connection plays the next script and closes.
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    played: Arc<Mutex<usize>>,
    _directory: tempfile::TempDir,
}

impl Peer {
    /// Starts an origin; `is_whole` says when a request has been read to its end.
    pub(super) fn start(is_whole: fn(&[u8]) -> bool, scripts: Vec<Vec<Act>>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("origin.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let played = Arc::new(Mutex::new(0));
        let (seen, done) = (Arc::clone(&requests), Arc::clone(&played));
        tokio::spawn(async move {
            for script in scripts {
                let (stream, _) = listener.accept().await.expect("accepted");
                let (seen, done) = (Arc::clone(&seen), Arc::clone(&done));
                tokio::spawn(async move {
                    play(stream, script, is_whole, &seen).await;
                    *done.lock() += 1;
                });
            }
        });
        Self { endpoint: Endpoint::Unix(path), requests, played, _directory: directory }
    }

    /// The requests that were read, in order.
    pub(super) fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.lock().clone()
    }

    /// Waits until that many connections have played their scripts.
    pub(super) async fn played(&self, connections: usize) {
        let wait = async {
            while *self.played.lock() < connections {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), wait).await.expect("played in time");
    }
}

async fn play(
    mut stream: UnixStream,
    script: Vec<Act>,
    is_whole: fn(&[u8]) -> bool,
    requests: &Mutex<Vec<Vec<u8>>>,
) {
    for act in script {
        match act {
            Act::Read => {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                requests.lock().push(request);
            }
            Act::Write(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Drip(bytes) => {
                for byte in bytes {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
            Act::Pause(pause) => tokio::time::sleep(pause).await,
            Act::AwaitClose => {
                while stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {}
            }
        }
    }
}
