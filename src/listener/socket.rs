//! Sockets to listen on, and the streams they give.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::exchange::Peer;
use crate::settings::Endpoint;
use crate::unix_stream::UnixStream;

/// Connections that the kernel may hold for us before we accept them.
const BACKLOG: i32 = 4_096;
/// Bytes that the kernel takes of us beyond what it has sent. Without it a socket's buffer grows
/// to megabytes, and a client who reads slowly would look as if it read nothing for minutes.
const UNSENT_MAX_BYTES: u32 = 128 << 10;
/// Everybody on this machine may connect to a Unix socket; the directory it is in decides who
/// gets that far.
const UNIX_MODE: u32 = 0o666;
/// Ports below this need a right of their own on Linux, unless the machine is set up otherwise.
const PRIVILEGED_PORTS: u16 = 1_024;

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refuses.
    #[error("{setting} = {endpoint}: {}", describe(.endpoint, .source))]
    Bind {
        /// The setting that names the endpoint.
        setting: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// A file is in the way that is no socket.
    #[error("{setting} = {endpoint}: the file exists and is no socket")]
    NoSocket {
        /// The setting that names the endpoint.
        setting: &'static str,
        /// Where.
        endpoint: Endpoint,
    },
    /// A socket that was passed to this process cannot be taken over.
    #[error("{setting}: a socket that was passed is of no use: {source}")]
    Adopt {
        /// The setting it stands for.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The socket cannot be used with the runtime.
    #[error("{endpoint}: {}", describe(.endpoint, .source))]
    Register {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

/// What the system said, and what there is to do about it.
fn describe(endpoint: &Endpoint, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => match endpoint {
            Endpoint::Tcp(_) => {
                "address already in use; `ss -ltnp` as root says by whom".to_owned()
            }
            Endpoint::Unix(_) => "address already in use".to_owned(),
        },
        io::ErrorKind::AddrNotAvailable => "no such address on this machine".to_owned(),
        io::ErrorKind::PermissionDenied => match endpoint {
            Endpoint::Tcp(address) if address.port() < PRIVILEGED_PORTS => format!(
                "permission denied: without root a port below {PRIVILEGED_PORTS} needs \
                 CAP_NET_BIND_SERVICE, which systemd/parvis.service gives"
            ),
            Endpoint::Tcp(_) => "permission denied".to_owned(),
            Endpoint::Unix(_) => {
                "permission denied: this user may not create files in its directory".to_owned()
            }
        },
        io::ErrorKind::NotFound => "no such directory".to_owned(),
        _ => source.to_string(),
    }
}

/// A socket that listens; connections queue up from here on.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socket,
    endpoint: Endpoint,
}

/// Opens all endpoints of a setting, or none.
pub fn bind(
    setting: &'static str,
    endpoints: &[Endpoint],
) -> Result<Vec<BoundListener>, ListenError> {
    endpoints.iter().map(|endpoint| bind_one(setting, endpoint, UNIX_MODE)).collect()
}

/// Opens an endpoint; `unix_mode` says who may connect to a Unix socket.
pub fn bind_one(
    setting: &'static str,
    endpoint: &Endpoint,
    unix_mode: u32,
) -> Result<BoundListener, ListenError> {
    let failed = |source| ListenError::Bind { setting, endpoint: endpoint.clone(), source };
    let socket = match endpoint {
        Endpoint::Tcp(address) => bind_tcp(*address).map_err(failed)?,
        Endpoint::Unix(path) => {
            if is_in_the_way(path).map_err(failed)? {
                return Err(ListenError::NoSocket { setting, endpoint: endpoint.clone() });
            }
            bind_unix(path, unix_mode).map_err(failed)?
        }
    };
    let endpoint = match endpoint {
        // Port 0 has become a real one.
        Endpoint::Tcp(asked) => Endpoint::Tcp(
            socket.local_addr().ok().and_then(|local| local.as_socket()).unwrap_or(*asked),
        ),
        Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
    };
    Ok(BoundListener { socket, endpoint })
}

/// An IPv6 wildcard takes IPv6 alone, so that `0.0.0.0:80` and `[::]:80` can stand side by side.
fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    tune(&SockRef::from(&socket), true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    tune(&SockRef::from(&socket), false)?;
    Ok(socket)
}

/// Linux hands these options down to the sockets that are accepted, which saves system calls for
/// each of them.
fn tune(socket: &SockRef<'_>, is_tcp: bool) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if is_tcp {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX_BYTES)?;
    }
    Ok(())
}

fn is_in_the_way(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(!metadata.file_type().is_socket()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a socket file that a process has left behind, but never one on which somebody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    match net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl BoundListener {
    /// A TCP socket that was opened before, as with socket activation.
    pub fn from_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        let endpoint = Endpoint::Tcp(listener.local_addr()?);
        tune(&SockRef::from(&listener), true)?;
        Ok(Self { socket: listener.into(), endpoint })
    }

    /// A Unix socket that was opened before.
    pub fn from_unix(listener: net::UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
        tune(&SockRef::from(&listener), false)?;
        Ok(Self { socket: listener.into(), endpoint: Endpoint::Unix(path) })
    }

    /// Where it listens; the real port where 0 was asked for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The socket itself, for another process: one more handle on it.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Takes a socket over that another process has listened on, if it is one.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if socket.domain()? == Domain::UNIX {
            Self::from_unix(socket.into())
        } else {
            Self::from_tcp(socket.into())
        }
    }

    /// Another handle on the same socket, for another runtime.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, endpoint: self.endpoint.clone() })
    }

    /// Gives the socket to the runtime it is called on.
    pub(super) fn register(self) -> Result<Acceptor, ListenError> {
        let Self { socket, endpoint } = self;
        let registered = match &endpoint {
            Endpoint::Tcp(local) => {
                let local = (!local.ip().is_unspecified()).then_some(*local);
                TcpListener::from_std(socket.into())
                    .map(|listener| Acceptor::Tcp { listener, local })
            }
            Endpoint::Unix(_) => UnixListener::from_std(socket.into()).map(Acceptor::Unix),
        };
        registered.map_err(|source| ListenError::Register { endpoint, source })
    }
}

/// A socket that the runtime watches.
#[derive(Debug)]
pub(super) enum Acceptor {
    /// TCP; `local` is the address of all its connections, if that is known beforehand.
    Tcp { listener: TcpListener, local: Option<SocketAddr> },
    /// A Unix socket.
    Unix(UnixListener),
}

/// A connection that was accepted.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP.
    Tcp {
        /// It.
        stream: TcpStream,
        /// The other end.
        peer: SocketAddr,
        /// This end, if the system says it.
        local: Option<SocketAddr>,
    },
    /// At a path.
    Unix(UnixStream),
}

impl Acceptor {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp { listener, local } => {
                let (stream, peer) = listener.accept().await?;
                let local = local.or_else(|| stream.local_addr().ok());
                Ok(Accepted::Tcp { stream, peer, local })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                UnixStream::new(stream.into_std()?.into()).map(Accepted::Unix)
            }
        }
    }
}

impl Accepted {
    /// Takes a connection over that another process has accepted; must be called within a tokio runtime.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        if socket.r#type()? != Type::STREAM {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        socket.set_nonblocking(true)?;
        if socket.domain()? == Domain::UNIX {
            return UnixStream::new(socket.into()).map(Self::Unix);
        }
        let stream = TcpStream::from_std(socket.into())?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr().ok());
        Ok(Self::Tcp { stream, peer, local })
    }

    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Tcp { peer, .. } => Peer::Ip(*peer),
            Self::Unix(_) => Peer::Unix,
        }
    }

    /// Says a last word, as far as it is taken at once, and closes.
    pub(super) fn refuse(self, word: &[u8]) {
        // The runtime does not know yet whether it can be written to; the system does.
        let _ = match self {
            Self::Tcp { stream, .. } => stream.into_std().and_then(|mut it| it.write(word)),
            Self::Unix(stream) => stream.write_now(word),
        };
    }
}

/// A stream on which HTTP is spoken.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Makes closing it an error for the other end. Where a response ends with the connection, a
    /// proper close would make a broken one look whole.
    fn close_as_broken(&self);

    /// Can it send bytes of a file without copying them? Then [`Transport::poll_send_file`] may be used.
    const SENDS_FILES: bool = false;

    /// Writes while more is to follow at once, so that the system waits for that.
    fn poll_write_ahead(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(context, slices)
    }

    /// Sends bytes of a file; says how many.
    fn poll_send_file(
        &mut self,
        _context: &mut Context<'_>,
        _file: &File,
        _offset: u64,
        _bytes: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// Calls what writes to a socket until it writes, or the socket takes nothing.
fn poll_writing(
    stream: &TcpStream,
    context: &mut Context<'_>,
    mut write: impl FnMut() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match stream.try_io(Interest::WRITABLE, || Ok(write()?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            end => return Poll::Ready(end),
        }
    }
}

impl Transport for TcpStream {
    const SENDS_FILES: bool = true;

    fn poll_write_ahead(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        poll_writing(self, context, || {
            sendmsg(&*self, slices, &mut SendAncillaryBuffer::default(), flags)
        })
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &File,
        offset: u64,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        poll_writing(self, context, || sendfile(&*self, file, Some(&mut { offset }), bytes))
    }

    fn close_as_broken(&self) {
        // If the system refuses, the connection is closed all the same.
        let _ = SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Transport for UnixStream {
    fn close_as_broken(&self) {}
}

impl Transport for DuplexStream {
    fn close_as_broken(&self) {}
}

impl<S: Transport> Transport for tokio_rustls::server::TlsStream<S> {
    fn close_as_broken(&self) {
        self.get_ref().0.close_as_broken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Endpoint {
        Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn a_port_in_use_is_told_in_one_line_with_its_setting() {
        let first = bind("listen.http", &[loopback()]).expect("a free port");
        let endpoint = first[0].endpoint().clone();
        let error = bind("listen.http", std::slice::from_ref(&endpoint)).expect_err("in use");
        let expected = format!("listen.http = {endpoint}: address already in use; `ss ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn a_right_that_is_missing_is_told_by_what_gives_it() {
        let told = |endpoint| {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            ListenError::Bind { setting: "listen.http", endpoint, source }.to_string()
        };
        let port = |port| Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(told(port(80)).contains("CAP_NET_BIND_SERVICE"));
        assert!(told(port(6_081)).ends_with(": permission denied"));
        assert!(told(Endpoint::Unix("/run/x.sock".into())).ends_with("in its directory"));
    }

    #[test]
    fn a_stale_socket_file_is_replaced_but_a_live_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let endpoint = Endpoint::Unix(directory.path().join("x.sock"));
        let live = bind("listen.http", std::slice::from_ref(&endpoint)).expect("bound");
        let error = bind("listen.http", std::slice::from_ref(&endpoint)).expect_err("in use");
        assert!(error.to_string().ends_with(": address already in use"), "{error}");
        drop(live);
        bind("listen.http", &[endpoint]).expect("the stale file is replaced");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").expect("written");
        let error = bind("listen.http", &[Endpoint::Unix(path.clone())]).expect_err("in the way");
        assert!(error.to_string().ends_with("the file exists and is no socket"), "{error}");
        assert_eq!(std::fs::read(path).expect("still there"), b"data");
    }
}
