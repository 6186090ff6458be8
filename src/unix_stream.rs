//! A stream over a Unix socket that sleeps until something comes.
//!
//! The system tells who watches a Unix socket that it can be written to each time the other end reads
//! (`unix_write_space` in Linux; TCP does so only where a write had to wait). A runtime that watches a socket for both
//! is woken for each message twice, by the other end's reading of the last reply and by its next message. So this one is
//! watched for reading alone, and for writing only while the system takes nothing.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::{Errno, ioctl_fionbio, writev};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Bytes that are read at first, before it is known that more have come.
const READ_MIN_BYTES: usize = 2 << 10;
/// Bytes that are read at once at most.
const READ_MAX_BYTES: usize = 64 << 10;

/// The stream.
#[derive(Debug)]
pub struct UnixStream {
    socket: AsyncFd<OwnedFd>,
    /// The same socket, while it is waited for that it can be written to.
    full: Option<AsyncFd<OwnedFd>>,
}

/// Has the runtime watch a socket for one thing alone.
#[expect(
    deprecated,
    reason = "the successor is unsafe, since not all types keep their descriptor; this one does"
)]
fn watch(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, interest)
}

impl UnixStream {
    /// Connects. Within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system's: a Unix socket is open at once or not at all, and one whose backlog is full says "try again".
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::new(socket.into())
    }

    /// Has the runtime it is called on watch a socket.
    ///
    /// # Errors
    ///
    /// What the system says of watching it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self { socket, full: None })
    }

    /// Where it was accepted, as the system shows it; nothing where that has no path.
    pub fn local_path(&self) -> Option<PathBuf> {
        let address = SockRef::from(self.socket.get_ref()).local_addr().ok()?;
        address.as_pathname().map(Path::to_path_buf)
    }

    /// The process at the other end, as it was when the connection was made.
    pub fn peer_pid(&self) -> Option<i32> {
        socket_peercred(self.socket.get_ref()).ok().map(|peer| peer.pid.as_raw_nonzero().get())
    }

    /// Writes what the system takes at once. How much that is.
    ///
    /// # Errors
    ///
    /// The system's, also that there is no room.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.socket.get_ref(), bytes, SendFlags::NOSIGNAL)?)
    }

    fn poll_writing(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(context))?.clear_ready();
            }
            match write(self.socket.get_ref()) {
                Err(Errno::WOULDBLOCK) => {
                    if self.full.is_none() {
                        let same = self.socket.get_ref().try_clone()?;
                        self.full = Some(watch(same, Interest::WRITABLE)?);
                    }
                }
                Err(Errno::INTR) => {}
                end => {
                    self.full = None;
                    return Poll::Ready(Ok(end?));
                }
            }
        }
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wanted = READ_MIN_BYTES;
        let mut is_some = false;
        while buffer.remaining() > 0 {
            let mut ready = match self.socket.poll_read_ready(context)? {
                Poll::Ready(ready) => ready,
                Poll::Pending if is_some => break,
                Poll::Pending => return Poll::Pending,
            };
            // The room is set to zero before it is lent to the system: little, as long as little comes.
            let room = buffer.initialize_unfilled_to(wanted.min(buffer.remaining()));
            let length = room.len();
            match recv(self.socket.get_ref(), room, RecvFlags::empty()) {
                Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) if !is_some => return Poll::Ready(Err(error.into())),
                Err(_) | Ok((_, 0)) => break,
                Ok((_, read)) => {
                    buffer.advance(read);
                    is_some = true;
                    if read < length {
                        // All that had come: the runtime is told of what comes next.
                        ready.clear_ready();
                        break;
                    }
                    wanted = (wanted * 4).min(READ_MAX_BYTES);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(context, |socket| send(socket, bytes, SendFlags::NOSIGNAL))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(context, |socket| writev(socket, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.socket.get_ref(), Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (one, other) = net::UnixStream::pair().expect("a pair");
        let watched = |socket: net::UnixStream| UnixStream::new(socket.into()).expect("watched");
        (watched(one), watched(other))
    }

    #[tokio::test]
    async fn what_is_written_is_read_however_long_and_in_whatever_pieces() {
        let (mut one, mut other) = pair();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            for piece in sent.chunks(1_234_567) {
                one.write_all(piece).await.expect("written");
            }
            assert!(one.full.is_none(), "it is not watched for writing once all is written");
        });
        let mut came = Vec::new();
        other.read_to_end(&mut came).await.expect("read");
        writing.await.expect("done");
        assert!(came == expected, "{} of {} bytes", came.len(), expected.len());
    }

    #[tokio::test]
    async fn an_end_is_read_after_what_came_before_it() {
        let (mut one, mut other) = pair();
        one.write_all(b"last word").await.expect("written");
        one.shutdown().await.expect("shut");
        let mut came = [0; 64];
        assert_eq!(other.read(&mut came).await.expect("read"), 9);
        assert_eq!(other.read(&mut came).await.expect("the end"), 0);
        assert_eq!(other.read(&mut came).await.expect("still the end"), 0);
    }

    #[tokio::test]
    async fn a_write_waits_for_room_and_fails_once_nobody_will_read() {
        let (mut one, other) = pair();
        let much = vec![7; 1 << 20];
        let mut context = Context::from_waker(Waker::noop());
        while Pin::new(&mut one).poll_write(&mut context, &much).is_ready() {}
        assert!(one.full.is_some(), "it is watched for writing while there is no room");
        drop(other);
        let error = one.write_all(&much).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// How often this thread slept and was woken while the other end read what was written, bit by bit.
    async fn wakes(
        mut one: impl AsyncRead + AsyncWrite + Unpin,
        mut other: net::UnixStream,
    ) -> u64 {
        const WRITES: usize = 50;
        let slept = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("read");
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|number| number.trim().parse::<u64>().ok()).expect("a number")
        };
        for _ in 0..WRITES {
            one.write_all(b"x").await.expect("written");
        }
        let before = slept();
        let reading = std::thread::spawn(move || {
            for _ in 0..WRITES {
                std::thread::sleep(std::time::Duration::from_millis(2));
                io::Read::read_exact(&mut other, &mut [0]).expect("read");
            }
        });
        assert_eq!(one.read(&mut [0]).await.expect("the end"), 0);
        let after = slept();
        reading.join().expect("done");
        after - before
    }

    #[tokio::test]
    async fn the_other_ends_reading_wakes_nobody() {
        let pair = || net::UnixStream::pair().expect("a pair");
        let (one, other) = pair();
        let ours = wakes(UnixStream::new(one.into()).expect("watched"), other).await;
        let (one, other) = pair();
        one.set_nonblocking(true).expect("set");
        let both = wakes(tokio::net::UnixStream::from_std(one).expect("watched"), other).await;
        assert!(ours <= 5, "woken {ours} times by what is no news");
        assert!(both > 2 * ours, "{both}: what is watched for writing, too, is woken by it");
    }
}
