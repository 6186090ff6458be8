//! Packets over a socket pair, with a descriptor beside one where it is needed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::Message;

/// Bytes of a packet. Linux takes several times that with its default buffers.
pub(super) const PACKET_MAX_BYTES: usize = 64 << 10;

/// One end. It has the packets of a datagram socket, and unlike that it says when the other end is
/// closed.
#[derive(Debug)]
pub(super) struct Channel(UnixDatagram);

/// Both ends: ours, and one to be inherited.
pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Channel::new(ours)?, theirs))
}

impl Channel {
    /// On a socket that does not block; must be called within a tokio runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        UnixDatagram::from_std(socket.into()).map(Self)
    }

    /// Sends a message, and a descriptor with it.
    pub(super) async fn send(
        &self,
        message: &Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.send_packet(&packet(message)?, descriptor).await
    }

    /// Sends any bytes that fit into a packet.
    pub(super) async fn send_packet(
        &self,
        packet: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let send = || send_now(self.0.as_fd(), packet, descriptor);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next message; `None` when the other end has gone.
    pub(super) async fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let Some((packet, descriptor)) = self.receive_packet().await? else { return Ok(None) };
        Ok(Some((serde_json::from_slice(&packet)?, descriptor)))
    }

    /// The next packet; `None` when the other end has gone.
    pub(super) async fn receive_packet(&self) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        loop {
            match self.0.async_io(Interest::READABLE, || receive_now(self.0.as_fd())).await {
                // The other end was closed with messages unread. Linux says so once, ahead of what
                // that end had still to say.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                received => return received,
            }
        }
    }
}

/// A message as a packet, if it is not too large for one.
pub(super) fn packet(message: &Message) -> io::Result<Vec<u8>> {
    let packet = serde_json::to_vec(message)?;
    if packet.len() > PACKET_MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(packet)
}

/// Sends a packet, or fails where it would have to wait.
pub(super) fn send_now(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_now(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut packet = vec![0; PACKET_MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut packet)];
    let received = recvmsg(socket, parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptor = None;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last();
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    packet.truncate(received.bytes);
    Ok(Some((packet, descriptor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_descriptor_travels_beside_its_message_and_an_end_that_has_gone_is_noticed() {
        let (ours, theirs) = pair().expect("a pair");
        let theirs = Channel::new(theirs).expect("registered");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let message = Message::Socket { setting: "listen.http".to_owned(), activated: true };
        ours.send(&message, Some(listener.as_fd())).await.expect("sent");
        ours.send(&Message::Go, None).await.expect("sent");
        let (message, socket) = theirs.receive().await.expect("received").expect("a message");
        assert!(matches!(message, Message::Socket { setting, activated: true }
            if setting == "listen.http"));
        let passed = std::net::TcpListener::from(socket.expect("a descriptor"));
        assert_eq!(passed.local_addr().ok(), listener.local_addr().ok());
        let (message, socket) = theirs.receive().await.expect("received").expect("a message");
        assert!(matches!(message, Message::Go) && socket.is_none());
        drop(ours);
        assert!(theirs.receive().await.expect("ended").is_none());
        theirs.send(&Message::Go, None).await.expect_err("nobody is there");
    }

    #[tokio::test]
    async fn last_words_are_heard_though_the_other_end_has_not_listened() {
        let (ours, theirs) = pair().expect("a pair");
        ours.send(&Message::Go, None).await.expect("sent");
        let reason = "no".to_owned();
        let packet = packet(&Message::Failed { reason }).expect("small");
        send_now(theirs.as_fd(), &packet, None).expect("sent");
        drop(theirs);
        let (message, _) = ours.receive().await.expect("received").expect("a message");
        assert!(matches!(message, Message::Failed { .. }), "{message:?}");
        assert!(ours.receive().await.expect("ended").is_none());
    }

    #[tokio::test]
    async fn what_a_later_version_says_is_no_error() {
        let (ours, theirs) = pair().expect("a pair");
        let theirs = Channel::new(theirs).expect("registered");
        let packet = br#"{"message":"snapshot","path":"/x"}"#;
        send_now(ours.0.as_fd(), packet, None).expect("sent");
        let (message, _) = theirs.receive().await.expect("received").expect("a message");
        assert!(matches!(message, Message::Unknown));
    }
}
