//! How a process starts its successor, and how that one takes over.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{AppError, Doors, Server};
use crate::lifecycle::handover::{
    ClientsIn, Gone, HandoverError, Launch, Predecessor, Shared, Successor, Taken, Told,
};
use crate::lifecycle::{Notice, tell_service_manager};
use crate::observe::{LevelHandle, Phase};
use crate::pipeline::{Node, Sharer};
use crate::settings::Settings;

impl Server {
    /// Takes over from the process that serves until now, and serves when that one says so.
    pub async fn take_over(
        mut taken: Taken,
        settings: Settings,
        level: Option<LevelHandle>,
        file: Option<PathBuf>,
    ) -> Result<Self, AppError> {
        let doors = Doors::take_over(&settings, std::mem::take(&mut taken.sockets))?;
        let mut server = Self::prepare(doors, settings, level, file)?;
        let mut predecessor = taken.begin(applier(&server.node));
        server.share_with(Some(Arc::clone(predecessor.link()) as Arc<dyn Sharer>));
        // Once the predecessor says so to systemd, signals come to this process.
        server.listen_to_signals()?;
        server.node.parts().fleet.stand_aside(true);
        predecessor.prepared().await;
        let clients = server.until_go(&mut predecessor).await;
        server.state.enter(Phase::Serving);
        server.node.parts().fleet.stand_aside(false);
        server.begin()?;
        if let Some(clients) = clients {
            server.sessions.take_in(clients);
        }
        server.join_fleet(None);
        predecessor.serving().await;
        tracing::info!("this process has taken over");
        let node = server.node.clone();
        server.predecessor = Some(tokio::spawn(async move {
            predecessor.gone().await;
            node.parts().sharer.store(Arc::new(None));
            tracing::info!("the process before this one has ended");
        }))
        .into();
        Ok(server)
    }

    /// Takes in what the process before has stored, and reads the log beside it, until it is to serve. Gives
    /// where clients come from then, if any do.
    async fn until_go(&mut self, predecessor: &mut Predecessor) -> Option<ClientsIn> {
        let (mut coming, mut clients): (Option<JoinHandle<()>>, _) = (None, None);
        let mut objects = None;
        loop {
            tokio::select! {
                told = predecessor.told() => match told {
                    Told::Go => {
                        self.open_objects(objects).await;
                        return clients;
                    }
                    Told::Clients(come) => {
                        clients = Some(come);
                        continue;
                    }
                    Told::Pages(socket) => coming = self.begin_receiving(socket).await,
                    Told::Maintenance => {
                        self.node.parts().maintenance.set_by_command(true);
                        continue;
                    }
                    Told::Room(is_on) => {
                        self.node.parts().room.switch(Some(is_on)).await;
                        continue;
                    }
                    Told::Objects(socket) => objects = Some(self.receive_objects(socket)),
                },
                () = ended(&mut coming) => coming = None,
            }
            if coming.is_none() {
                predecessor.filled().await;
            }
        }
    }

    /// `None`: nothing of use comes.
    async fn begin_receiving(&mut self, socket: UnixStream) -> Option<JoinHandle<()>> {
        let (keeper, patience) = (Arc::clone(&self.keeper), self.restart_timeout());
        let begun = move || keeper.begin_receiving(socket, patience);
        let begun = tokio::task::spawn_blocking(begun).await.ok()?;
        let receiving = match begun {
            Ok(receiving) => receiving,
            Err(fault) => {
                tracing::warn!("what the process before has stored does not come: {fault}");
                return None;
            }
        };
        // From the place that came with it.
        self.start_fleet();
        let keeper = Arc::clone(&self.keeper);
        Some(tokio::task::spawn_blocking(move || keeper.receive(receiving)))
    }

    fn restart_timeout(&self) -> Duration {
        self.node.parts().rules.load().settings.lifecycle.restart_timeout
    }

    fn share_with(&self, sharer: Option<Arc<dyn Sharer>>) {
        self.node.parts().sharer.store(Arc::new(sharer));
    }

    /// Has a new process take over; says what comes of it. `true`: it serves.
    pub(super) async fn hand_over(&self) -> bool {
        if let Err(refused) = self.desk.begin() {
            self.desk.failed(&refused);
            return false;
        }
        match self.start_successor().await {
            Ok(successor) => {
                self.node.parts().fleet.stand_aside(true);
                self.keeper.stand_aside(true);
                self.shutdown.leave();
                self.sessions.shutdown().leave();
                self.control_shutdown.leave();
                self.objects_shutdown.leave();
                self.desk.done(successor.id());
                *self.successor.lock() = Some(successor);
                true
            }
            Err(error) => {
                self.share_with(None);
                self.desk.failed(&error);
                false
            }
        }
    }

    async fn start_successor(&self) -> Result<Successor, HandoverError> {
        let patience = self.restart_timeout();
        self.predecessor_gone(patience).await?;
        let sockets = match &*self.doors.lock() {
            Some(doors) => doors.descriptors()?,
            None => Vec::new(),
        };
        let launch = Launch::again();
        let apply = applier(&self.node);
        let mut successor = Successor::start(&launch, &sockets, patience, apply).await?;
        drop(sockets);
        let process = successor.id();
        self.desk.progress(&format!(
            "process {process} was started and has {} s to serve",
            patience.as_secs_f64()
        ));
        let still = |since: Duration| {
            self.desk.progress(&format!("process {process} starts, for {} s now", since.as_secs()));
        };
        successor.prepared(still).await?;
        self.share_with(Some(Arc::clone(successor.link()) as Arc<dyn Sharer>));
        self.give_pages(&mut successor).await?;
        let objects = self.give_objects(&successor).await?;
        self.desk.progress(&format!("process {process} is ready and takes over"));
        let has_store = self.sessions.has_store();
        let clients = if has_store { Some(successor.give_clients().await?) } else { None };
        tell_service_manager(Notice::MainProcess(process));
        let store = self.sessions.let_go(&self.node).await;
        self.objects_given(objects).await;
        if let Err(error) = self.let_serve(&mut successor).await {
            tell_service_manager(Notice::MainProcess(std::process::id()));
            self.keep_objects();
            // It may have the store of the sessions, which is taken back when this returns.
            drop(successor);
            return Err(error);
        }
        if let Some(store) = store {
            store.taken_over(clients);
        }
        Ok(successor)
    }

    /// Has it serve, from the first request on as this process does. What an operator switches while it starts counts, too.
    async fn let_serve(&self, successor: &mut Successor) -> Result<(), HandoverError> {
        if self.node.parts().maintenance.is_by_command() {
            successor.keep_maintenance().await?;
        }
        // With Redis it is there, and another node may have switched it since.
        let room = &self.node.parts().room;
        if let Some(is_on) = room.by_hand().filter(|_| !room.is_shared()) {
            successor.keep_room(is_on).await?;
        }
        successor.go().await
    }

    /// Gives it what is stored here, which is purged in both from now on, and waits for a while until it
    /// has it.
    async fn give_pages(&self, successor: &mut Successor) -> Result<(), HandoverError> {
        let (socket, patience) = (successor.give_pages().await?, self.restart_timeout());
        let keeper = Arc::clone(&self.keeper);
        let giving = tokio::task::spawn_blocking(move || {
            if let Err(error) = keeper.send(socket, patience) {
                tracing::warn!(%error, "the new process did not take all that is stored here");
            }
        });
        *self.giving.lock() = Some(giving);
        let fill = self.node.parts().rules.load().settings.lifecycle.restart_fill;
        let process = successor.id();
        let still = |since: Duration| {
            let seconds = since.as_secs();
            self.desk
                .progress(&format!("process {process} takes in the pages, for {seconds} s now"));
        };
        if !successor.filled(fill, still).await? {
            self.desk
                .progress(&format!("process {process} gets the rest of the pages while it serves"));
        }
        Ok(())
    }

    /// Waits until a new process has what is stored here, within the time of a restart.
    pub(super) async fn pages_given(&self) {
        let giving = self.giving.lock().take();
        if let Some(giving) = giving {
            let _ = timeout(self.restart_timeout(), giving).await;
        }
    }

    /// Three processes at once would take three times the memory.
    async fn predecessor_gone(&self, patience: Duration) -> Result<(), HandoverError> {
        let mut predecessor = self.predecessor.lock().await;
        let Some(waiting) = predecessor.as_mut() else { return Ok(()) };
        if !waiting.is_finished() {
            self.desk.progress("the process before this one still finishes what it has");
        }
        if timeout(patience, waiting).await.is_err() {
            return Err(HandoverError::PredecessorLeft(patience));
        }
        *predecessor = None;
        Ok(())
    }

    pub(super) async fn successor_ended(&self) -> Gone {
        let successor = self.successor.lock().take();
        match successor {
            Some(successor) => successor.gone().await,
            None => std::future::pending().await,
        }
    }

    /// The new process has failed: this one serves again.
    pub(super) fn serve_again(&self) {
        self.share_with(None);
        self.node.parts().fleet.stand_aside(false);
        self.keeper.stand_aside(false);
        self.shutdown.resume();
        self.sessions.shutdown().resume();
        self.control_shutdown.resume();
        if let Some(objects) = &self.objects {
            objects.objects().take_back();
        }
        self.objects_shutdown.resume();
        self.desk.free();
        self.sessions.take_back(&self.node);
        if let Err(error) = self.serve() {
            tracing::error!(%error, "a listener cannot be opened again");
        }
    }
}

/// Resolves when the task has ended; never where there is none.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Carries out the purges and cleans of another process.
fn applier(node: &Node) -> impl Fn(Shared) + Send + Sync + 'static {
    let node = node.clone();
    move |shared| {
        let purge = match shared {
            Shared::Purge(purge) => purge,
            Shared::Clean(clean) => return node.parts().fleet.clean_for_other_process(clean),
        };
        let regex_max_bytes = node.parts().rules.load().settings.purge.regex_max_bytes;
        match purge.request(regex_max_bytes) {
            Ok(request) => node.parts().fleet.purge_for_other_process(&request),
            Err(refusal) => {
                tracing::warn!(%refusal, "a purge of the other process cannot be read: all is purged");
                node.parts().store.purge_all(false);
            }
        }
    }
}
