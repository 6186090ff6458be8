//! A connection to an origin.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::OriginError;
use crate::settings::Endpoint;
use crate::unix_stream::UnixStream;

/// The first pause before a Unix socket whose backlog is full is tried again.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// A stream over TCP or a Unix socket.
#[derive(Debug)]
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects within `timeout`.
///
/// A Unix socket says "try again" at once while its backlog is full. That is an application which
/// is busy, not one which is gone, so it is tried until the time is up.
pub(super) async fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<Connection, OriginError> {
    let attempt = async {
        let mut pause = BACKLOG_PAUSE;
        loop {
            match open(endpoint).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(OriginError::Refused { endpoint: endpoint.to_string(), source }),
        Err(_) => Err(OriginError::TimedOut { stage: "connecting" }),
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<Connection> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Connection::Tcp(stream))
        }
        Endpoint::Unix(path) => {
            // It is open at once or not at all, so nothing need be waited for.
            UnixStream::connect(path).map(Connection::Unix)
        }
    }
}

impl Connection {
    /// Is it open and silent? One on which something came, or which was closed, is of no use.
    ///
    /// The system is asked itself: what the runtime knows of the socket may be older than a byte
    /// that would be taken for the beginning of the next reply.
    pub(super) fn is_idle(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut byte = [0_u8; 1];
        let peeked = match self {
            Self::Tcp(stream) => rustix::net::recv(stream, &mut byte, flags),
            Self::Unix(stream) => rustix::net::recv(stream, &mut byte, flags),
        };
        matches!(peeked, Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// Sends what the system takes at once, and says how much that is. The runtime learns only by
    /// its next look at all sockets that a new one can be written to.
    ///
    /// What goes wrong here does so again with the next write.
    pub(super) fn send_now(&self, bytes: &[u8]) -> usize {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match self {
            Self::Tcp(stream) => rustix::net::send(stream, bytes, flags),
            Self::Unix(stream) => rustix::net::send(stream, bytes, flags),
        };
        sent.unwrap_or(0)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
