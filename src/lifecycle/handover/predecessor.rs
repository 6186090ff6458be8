//! The process that served until now, seen from the one that takes over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketType, sockopt};
use tokio::sync::mpsc;

use super::channel::{self, Channel};
use super::clients::ClientsIn;
use super::link::{Event, Link};
use super::{HandoverError, Message, Passed, Shared, VARIABLE, VERSION};

/// How long the sockets may take to come: they were sent before this process had begun.
const SOCKETS_WITHIN: Duration = Duration::from_secs(10);
/// Sockets that are taken over.
const SOCKETS_MAX: usize = 1_024;
/// Messages of the handover that wait to be looked at; there are five.
const EVENTS_MAX: usize = 8;

/// The channel to the process that serves until now, where this one is to take over from it.
pub fn inherited() -> Result<Option<OwnedFd>, HandoverError> {
    let Some(version) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    if !matches!(sockopt::socket_type(&socket), Ok(SocketType::SEQPACKET)) {
        return Err(HandoverError::NoChannel);
    }
    if version.to_str() != Some(VERSION) {
        return Err(HandoverError::Version(version.to_string_lossy().into_owned()));
    }
    Ok(Some(socket))
}

/// Says why this process cannot start to the one that waits for it, if one does.
pub fn tell_failure(reason: &str) {
    let Ok(Some(socket)) = inherited() else { return };
    let most = channel::PACKET_MAX_BYTES / 8;
    let reason: String = reason.chars().take(most).collect();
    if let Ok(packet) = channel::packet(&Message::Failed { reason }) {
        // Who does not hear it sees this process end.
        let _ = channel::send_now(socket.as_fd(), &packet, None);
    }
}

/// What was taken over.
#[derive(Debug)]
pub struct Taken {
    /// The listening sockets.
    pub sockets: Vec<Passed>,
    link: Arc<Link>,
}

impl Taken {
    /// Takes in the sockets; must be called within a tokio runtime.
    pub async fn receive(socket: OwnedFd) -> Result<Self, HandoverError> {
        let channel = Channel::new(socket)?;
        let sockets = tokio::time::timeout(SOCKETS_WITHIN, sockets(&channel))
            .await
            .unwrap_or(Err(HandoverError::NoSockets))?;
        Ok(Self { sockets, link: Arc::new(Link::new(channel)) })
    }

    /// Listens to the predecessor from now on, and carries out its purges by `apply`.
    pub fn begin(self, apply: impl Fn(Shared) + Send + Sync + 'static) -> Predecessor {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let reader = Arc::clone(&self.link);
        tokio::spawn(async move { reader.run(apply, sender).await });
        Predecessor { link: self.link, events }
    }
}

async fn sockets(channel: &Channel) -> Result<Vec<Passed>, HandoverError> {
    let mut sockets = Vec::new();
    loop {
        match channel.receive().await? {
            Some((Message::Socket { setting, activated }, Some(socket)))
                if sockets.len() < SOCKETS_MAX =>
            {
                sockets.push(Passed { setting, activated, socket });
            }
            Some((Message::Sockets { count }, _)) if count == sockets.len() => return Ok(sockets),
            Some((Message::Unknown, _)) => {}
            _ => return Err(HandoverError::NoSockets),
        }
    }
}

/// What the process that serves until now wants.
#[derive(Debug)]
pub enum Told {
    /// That this one takes in what it has stored, from this socket.
    Pages(UnixStream),
    /// That this one takes its clients in, once it serves.
    Clients(ClientsIn),
    /// That this one takes in its object cache, from this socket.
    Objects(UnixStream),
    /// That the shop goes on being worked on.
    Maintenance,
    /// That the waiting room stays switched as a command said.
    Room(bool),
    /// That this one serves.
    Go,
}

/// The process that serves until now.
#[derive(Debug)]
pub struct Predecessor {
    link: Arc<Link>,
    events: mpsc::Receiver<Event>,
}

impl Predecessor {
    /// For the purges of both.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Says that this process could serve.
    pub async fn prepared(&self) {
        self.say(&Message::Prepared).await;
    }

    /// Says that what the other has stored is here.
    pub async fn filled(&self) {
        self.say(&Message::Filled).await;
    }

    /// What this process is to do next. A predecessor that has gone says that it is to serve, too:
    /// somebody must.
    pub async fn told(&mut self) -> Told {
        while let Some(event) = self.events.recv().await {
            match event {
                (Message::Go, _) => return Told::Go,
                (Message::Pages, Some(socket)) => return Told::Pages(socket.into()),
                (Message::Clients, Some(socket)) => match ClientsIn::new(socket) {
                    Ok(clients) => return Told::Clients(clients),
                    Err(error) => tracing::warn!(%error, "clients cannot be taken in"),
                },
                (Message::Objects, Some(socket)) => return Told::Objects(socket.into()),
                (Message::Maintenance, _) => return Told::Maintenance,
                (Message::Room { is_on }, _) => return Told::Room(is_on),
                _ => {}
            }
        }
        tracing::warn!("the process before this one has gone before it could say that it leaves");
        Told::Go
    }

    /// Says that this process serves.
    pub async fn serving(&self) {
        self.say(&Message::Serving).await;
    }

    async fn say(&self, message: &Message) {
        // Where it cannot be said, nobody waits for it.
        let _ = self.link.channel().send(message, None).await;
    }

    /// Resolves when it has ended.
    pub async fn gone(mut self) {
        while self.events.recv().await.is_some() {}
    }
}
