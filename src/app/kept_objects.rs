//! The object cache over a start, and over a restart that hands over.
//!
//! At any time one process does its commands. The old one copies what it has while it goes on, tells what its
//! clients do meanwhile, and does nothing more before the new one begins: so a clean holds, whichever of the
//! two it came to. What comes in between waits in the listening socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Server;
use super::objects::ObjectsServer;
use crate::keeper::FoundObjects;
use crate::lifecycle::handover::{HandoverError, Successor};

/// For the last words of the old process to come over, and to be taken in: they are few, and clients wait.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);

/// An object cache on its way to the process that takes over.
pub(super) struct Giving {
    end: mpsc::Sender<()>,
    sent: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Reads in what was kept, and then has clients served, in a fleet once it is known what was cleaned
    /// since; without it they are at once.
    pub(super) fn read_objects_in(&self, found: Option<FoundObjects>) {
        let Some(objects) = self.objects.as_ref().map(ObjectsServer::objects) else { return };
        let Some(found) = found else {
            objects.open();
            return;
        };
        let (keeper, node) = (Arc::clone(&self.keeper), self.node.clone());
        let patience = self.node.parts().rules.load().settings.store.snapshot_timeout;
        tokio::spawn(async move {
            let reading = tokio::task::spawn_blocking(move || keeper.read_objects_in(found));
            let restored = async {
                if reading.await.unwrap_or_default() {
                    // Nobody is served what was cleaned since.
                    node.parts().fleet.knows_cleans().await;
                }
            };
            if timeout(patience, restored).await.is_err() {
                tracing::warn!(
                    "the object cache begins empty, since it was not read in time, or what was cleaned since"
                );
                objects.cleans_were_missed();
            }
            objects.open();
        });
    }

    /// Takes in what the process before has, until that does nothing more.
    pub(super) fn receive_objects(&self, socket: UnixStream) -> JoinHandle<()> {
        let keeper = Arc::clone(&self.keeper);
        let patience = self.node.parts().rules.load().settings.lifecycle.restart_timeout;
        tokio::task::spawn_blocking(move || keeper.receive_objects(socket, patience))
    }

    /// Has clients served, once what came is in its place.
    pub(super) async fn open_objects(&self, coming: Option<JoinHandle<()>>) {
        let Some(server) = &self.objects else { return };
        if let Some(coming) = coming
            && timeout(LAST_WORDS_WITHIN, coming).await.is_err()
        {
            tracing::warn!("the objects of the process before do not come in time");
        }
        server.objects().open();
    }

    /// Gives the object cache to the process that takes over; waits until it has a copy, and goes on to tell
    /// it what clients do. `None`: it begins empty.
    pub(super) async fn give_objects(
        &self,
        successor: &Successor,
    ) -> Result<Option<Giving>, HandoverError> {
        if self.objects.is_none() {
            return Ok(None);
        }
        let socket = successor.give_objects().await?;
        let (end, ended) = mpsc::channel();
        let (copied, is_copied) = oneshot::channel();
        let lifecycle = &self.node.parts().rules.load().settings.lifecycle;
        let (patience, fill) = (lifecycle.restart_timeout, lifecycle.restart_fill);
        let keeper = Arc::clone(&self.keeper);
        let sent = tokio::task::spawn_blocking(move || {
            let copied = || {
                // Who does not wait for it any more wants none of it.
                let _ = copied.send(());
            };
            keeper.send_objects(socket, patience, copied, &ended)
        });
        let giving = Giving { end, sent };
        if let Ok(Ok(())) = timeout(fill.min(successor.time_left() / 2), is_copied).await {
            return Ok(Some(giving));
        }
        tracing::warn!("the new process has no copy of the object cache in time: it begins empty");
        Ok(None)
    }

    /// Does no more commands, and has the new process know of all that were done.
    pub(super) async fn objects_given(&self, giving: Option<Giving>) {
        let Some(server) = &self.objects else { return };
        // No more clients, or those that are passed on would come back.
        self.objects_shutdown.leave();
        let Some(Giving { end, sent }) = giving else {
            server.objects().give_away();
            return;
        };
        let _ = end.send(());
        match timeout(LAST_WORDS_WITHIN, sent).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the new process begins with an empty object cache");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the new process begins with an empty object cache");
            }
        }
        server.objects().give_away();
    }

    /// The new process does not serve: does commands here again.
    pub(super) fn keep_objects(&self) {
        let Some(server) = &self.objects else { return };
        server.objects().take_back();
        self.objects_shutdown.resume();
        let doors = self.doors.lock();
        let Some(doors) = &*doors else { return };
        if let Err(error) = doors.serve_objects(server, &self.objects_shutdown) {
            tracing::error!(%error, "the object cache is not served");
        }
    }
}
