//! Whom this node asks for a page, and when it may answer another one.

use std::net::SocketAddr;
use std::sync::Arc;

use super::peer::message::{Ask, Lent, Place, Why};
use super::peer::{PeerDoor, PeerFigures};
use super::{Fleet, LOOK};

/// How often it is looked whether the log has been read far enough.
const LOOKS_MAX: usize = 100;

/// Another node, which is to be asked for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    address: SocketAddr,
    /// Up to where this node has applied the log.
    pub place: Place,
    /// The release of the shop.
    pub release: Arc<String>,
}

impl Fleet {
    /// Where other nodes come in; `None`: pages are neither asked for nor given.
    pub fn peer_door(&self) -> Option<&Arc<PeerDoor>> {
        self.peers.as_ref().map(|peers| peers.door())
    }

    /// The node to ask for a page. `None`: this one renders it, be it that it owns the key, or that
    /// nobody could say whether what comes back knows of each purge.
    pub fn owner_of(&self, key: &[u8]) -> Option<Owner> {
        let (peers, link) = (self.peers.as_ref()?, self.link.as_ref()?);
        let address = peers.owner_of(key)?;
        if self.trust().is_soft(link.clock.now()) {
            return None;
        }
        Some(Owner { address, place: link.known()?, release: link.release.load_full() })
    }

    /// Asks for a page. `None`: there was no answer.
    pub async fn ask(&self, owner: &Owner, ask: &Ask) -> Option<Lent> {
        self.peers.as_ref()?.ask(owner.address, ask).await
    }

    /// Waits until this node may answer: until it has applied the log as far as who asks.
    ///
    /// # Errors
    /// [`Why::Release`], [`Why::Behind`].
    pub async fn may_answer(&self, release: &[u8], place: Place) -> Result<(), Why> {
        let link = self.link.as_ref().ok_or(Why::Behind)?;
        self.is_of_release(release)?;
        for _ in 0..LOOKS_MAX {
            if self.trust().is_soft(link.clock.now()) {
                return Err(Why::Behind);
            }
            match link.has_passed(place) {
                Some(true) => return Ok(()),
                // The log of one of both nodes was rewritten, and that one does not know it yet.
                Some(false) | None => tokio::time::sleep(LOOK).await,
            }
        }
        Err(Why::Behind)
    }

    /// Is who asks of the same release?
    ///
    /// # Errors
    /// [`Why::Release`].
    pub fn is_of_release(&self, release: &[u8]) -> Result<(), Why> {
        let link = self.link.as_ref().ok_or(Why::Release)?;
        if link.release.load().as_bytes() == release { Ok(()) } else { Err(Why::Release) }
    }

    /// What became of pages between nodes; `None`: none are asked for or given.
    pub fn peer_figures(&self) -> Option<PeerFigures> {
        self.peers.as_ref().map(|peers| peers.figures())
    }
}
