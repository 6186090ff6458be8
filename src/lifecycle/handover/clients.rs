//! Clients on their way to the other process: the connection itself, and what is known of it.
//!
//! Each is one or several packets. The first letter of a packet says whether another follows; the descriptor
//! comes beside the first.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::sync::Mutex;

use super::channel::{self, Channel, PACKET_MAX_BYTES};

/// What may be known of one client. Who sends has bounds of its own, which are far below.
const STATE_MAX_BYTES: usize = 1 << 30;
const LAST: u8 = b'.';
const MORE: u8 = b'+';

/// Takes clients to the other process.
#[derive(Debug)]
pub struct ClientsOut(Mutex<Channel>);

/// Gives those that come.
#[derive(Debug)]
pub struct ClientsIn(Channel);

/// Both ends: ours, and one for the other process.
pub(super) fn pair() -> io::Result<(ClientsOut, OwnedFd)> {
    let (ours, theirs) = channel::pair()?;
    Ok((ClientsOut(Mutex::new(ours)), theirs))
}

impl ClientsOut {
    /// Passes a client on. When this returns it is the other process', or that has gone.
    ///
    /// # Errors
    /// The other process has gone, or takes no clients; then the client is still this process'.
    pub async fn send(&self, client: BorrowedFd<'_>, state: &[u8]) -> io::Result<()> {
        let channel = self.0.lock().await;
        let (mut rest, mut beside) = (state, Some(client));
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PACKET_MAX_BYTES - 1));
            let letter = if after.is_empty() { LAST } else { MORE };
            let packet = [&[letter], piece].concat();
            channel.send_packet(&packet, beside.take()).await?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }
}

impl ClientsIn {
    /// On what came from the other process; must be called within a tokio runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Channel::new(socket).map(Self)
    }

    /// The next one; `None`: the other process has gone.
    pub async fn next(&self) -> io::Result<Option<(OwnedFd, Vec<u8>)>> {
        let (mut state, mut client) = (Vec::new(), None);
        loop {
            let Some((packet, beside)) = self.0.receive_packet().await? else { return Ok(None) };
            client = client.or(beside);
            let Some((letter, piece)) = packet.split_first() else { continue };
            if state.len() + piece.len() > STATE_MAX_BYTES {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            state.extend_from_slice(piece);
            if *letter == LAST {
                let client = client.ok_or(io::ErrorKind::InvalidData)?;
                return Ok(Some((client, state)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn clients_come_with_all_that_is_known_of_them_in_their_order() {
        let (out, theirs) = pair().expect("a pair");
        let coming = ClientsIn::new(theirs).expect("registered");
        let (mut client, served) = UnixStream::pair().expect("a pair");
        let long = vec![b'x'; 3 * PACKET_MAX_BYTES];
        let send = async {
            out.send(served.as_fd(), &long).await.expect("sent");
            drop(served);
            let (_, other) = UnixStream::pair().expect("a pair");
            out.send(other.as_fd(), b"").await.expect("sent");
            drop(out);
        };
        let receive = async {
            let (socket, state) = coming.next().await.expect("received").expect("a client");
            assert_eq!(state, long);
            let (_, state) = coming.next().await.expect("received").expect("a client");
            assert!(state.is_empty());
            assert!(coming.next().await.expect("ended").is_none());
            UnixStream::from(socket)
        };
        let ((), mut served) = tokio::join!(send, receive);
        served.write_all(b"+PONG").expect("it is open");
        let mut reply = [0; 5];
        client.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"+PONG");
    }

    #[tokio::test]
    async fn who_takes_no_clients_leaves_them_here() {
        let (out, theirs) = pair().expect("a pair");
        let (_client, served) = UnixStream::pair().expect("a pair");
        drop(theirs);
        out.send(served.as_fd(), b"x").await.expect_err("nobody is there");
    }
}
