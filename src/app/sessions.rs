//! The clients of the sessions, in front of the gateway.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::AppError;
use crate::clock::Clock;
use crate::fleet::own_host;
use crate::keyspace;
use crate::lifecycle::handover::{ClientsIn, ClientsOut};
use crate::listener::{Accepted, BoundListener, Shutdown, Stage, serve_stream, serve_streams};
use crate::observe::{Reading, Readings};
use crate::pipeline::Node;
use crate::random;
use crate::sessions::Carried;
use crate::sessions::embedded::{Embedded, OpenError};
use crate::sessions::figures::{LockFigures, QueueFigures, SessionFigures, Source};
use crate::sessions::gateway::{Backend, From, Gateway, Lobby, StoredRecords, Trunks};
use crate::sessions::lock::{self, Kept, LockStore, Locks, Scripts, Standing};
use crate::sessions::visitors::{Class, Visitors};
use crate::settings::Settings;

/// For so long another process waits until the locks of clients that have gone are freed.
const SETTLED_MAX: Duration = Duration::from_secs(5);

/// What one client too many is told, in Redis' words.
const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// How long the process before may take to let go of the journal, and how often is looked.
const JOURNAL_TRIES: u32 = 200;
const JOURNAL_PAUSE: Duration = Duration::from_millis(10);

/// How long a client that the other process does not take waits for this one to serve it again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Serves them, where there are any.
pub(super) struct SessionServer {
    lobby: Lobby,
    /// Where the sessions are here.
    embedded: Mutex<Option<Arc<Embedded>>>,
    /// The way to the process that has taken over.
    onward: Mutex<Option<Arc<ClientsOut>>>,
    clients_max: usize,
    shutdown: Shutdown,
}

impl SessionServer {
    /// Without `sessions.listen` it serves nobody.
    pub(super) fn new(node: &Node) -> Result<Arc<Self>, AppError> {
        let rules = node.parts().rules.load_full();
        let (settings, clock) = (&rules.settings, &node.parts().clock);
        let lobby = Lobby::default();
        if let (Some(_), Some(redis)) = (&settings.sessions.listen, settings.sessions_redis()) {
            let trunks = Trunks::new(&redis, &settings.sessions, clock)?;
            let scripts = Scripts::new(trunks.clone(), &settings.fleet.prefix);
            let locks = locks(node, Arc::new(scripts), settings);
            let backend = Backend::Central(trunks);
            lobby.open(gateway_of(node, settings, backend, locks));
        }
        Ok(Arc::new(Self {
            lobby,
            embedded: Mutex::default(),
            onward: Mutex::default(),
            clients_max: settings.sessions.clients_max,
            shutdown: Shutdown::new(),
        }))
    }

    /// Opens the store where the sessions are here: one process at a time has it.
    pub(super) fn begin(&self, node: &Node) -> Result<(), AppError> {
        let rules = node.parts().rules.load_full();
        let (settings, clock) = (&rules.settings, &node.parts().clock);
        if settings.sessions.listen.is_none() || self.lobby.gateway().is_some() {
            return Ok(());
        }
        let known = self.embedded.lock().clone();
        let embedded = open(settings, clock, known.as_ref())?;
        *self.embedded.lock() = Some(Arc::clone(&embedded));
        let kept = Kept::new(Arc::clone(&embedded), clock);
        let locks = locks(node, Arc::new(kept), settings);
        let backend = Backend::Embedded(embedded);
        self.lobby.open(gateway_of(node, settings, backend, locks));
        Ok(())
    }

    /// Is the store here, which one process at a time has?
    pub(super) fn has_store(&self) -> bool {
        self.embedded.lock().is_some()
    }

    /// The end of this process.
    pub(super) fn close(&self) {
        if let Some(embedded) = self.embedded.lock().take() {
            self.lobby.close();
            embedded.close();
        }
    }

    /// Leaves the store to another process, while its clients wait. `None`: it is not here.
    pub(super) async fn let_go(self: &Arc<Self>, node: &Node) -> Option<LetGo> {
        let embedded = self.embedded.lock().clone()?;
        let gateway = self.lobby.gateway();
        let let_go = LetGo { server: Arc::clone(self), node: node.clone(), is_taken: false };
        if passes_clients() {
            self.lobby.empty().await;
        }
        if let Some(locks) = gateway.as_ref().and_then(|gateway| gateway.locks()) {
            // What clients that have gone had is free before the other process looks, unless the store refuses that.
            let _ = tokio::time::timeout(SETTLED_MAX, locks.settled()).await;
        }
        let closed = tokio::task::spawn_blocking(move || embedded.close());
        // It gives nothing, and does not panic.
        let _ = closed.await;
        Some(let_go)
    }

    /// Takes the store back that no other process has after all. Clients wait until then.
    pub(super) fn take_back(self: &Arc<Self>, node: &Node) {
        if !self.has_store() {
            return;
        }
        // Without a runtime all ends.
        let Ok(runtime) = Handle::try_current() else { return };
        self.lobby.hold();
        let (server, node) = (Arc::clone(self), node.clone());
        runtime.spawn_blocking(move || {
            if let Err(error) = server.begin(&node) {
                tracing::error!(%error, "sessions are not served");
                server.lobby.close();
            }
        });
    }

    /// Takes the clients in that come from the process before.
    pub(super) fn take_in(self: &Arc<Self>, clients: ClientsIn) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let mut count = 0_u64;
            loop {
                let (socket, state) = match clients.next().await {
                    Ok(Some(next)) => next,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "clients of the sessions are lost");
                        break;
                    }
                };
                match (Accepted::from_descriptor(socket), Carried::unpack(&state)) {
                    (Ok(accepted), Some(carried)) => {
                        count += 1;
                        let of = Arc::clone(&server);
                        let run = |accepted| client(of, accepted, Some(carried));
                        let (most, shutdown) = (server.clients_max, &server.shutdown);
                        serve_stream(accepted, most, FULL, shutdown, run);
                    }
                    (Err(error), _) => tracing::warn!(%error, "a client's socket is of no use"),
                    (_, None) => tracing::warn!("a client came whose state cannot be read"),
                }
            }
            tracing::info!(count, "the clients of the sessions have come");
        });
    }

    /// Passes a client on to the process that has taken over. False: it does not take it.
    async fn pass_on(&self, accepted: &Accepted, carried: &Carried) -> bool {
        let Some(onward) = self.onward.lock().clone() else { return false };
        match onward.send(socket_of(accepted), &carried.pack()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "a client of the sessions could not be passed on");
                false
            }
        }
    }

    /// Its clients, and when they are to go: one that has begun a request of PHP goes on until that
    /// ends, so a process that leaves serves them as long as it may.
    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Serves those who connect.
    pub(super) fn serve(self: &Arc<Self>, listener: BoundListener) {
        let (own, clients_max) = (Arc::clone(self), self.clients_max);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let endpoint = listener.endpoint().clone();
            tracing::info!(%endpoint, "listening for sessions");
            let run = |accepted| client(Arc::clone(&own), accepted, None);
            let ended = serve_streams(listener, clients_max, FULL, shutdown, run).await;
            if let Err(error) = ended {
                tracing::error!(%endpoint, %error, "a listener has failed");
            }
        });
    }

    /// What is to be seen of sessions; `None`: they do not pass through here.
    pub(super) fn source(self: &Arc<Self>, node: &Node) -> Option<Arc<dyn Source>> {
        node.parts().rules.load().settings.sessions.listen.as_ref()?;
        Some(Arc::new(Seen { server: Arc::clone(self), node: node.clone() }))
    }

    /// Shows what the gateway has seen.
    pub(super) fn register_readings(self: &Arc<Self>, node: &Node) {
        let (server, seen) = (Arc::clone(self), node.clone());
        node.parts().observer.register(move |readings| {
            if let Some(visitors) = seen.parts().visitors.get() {
                for class in Class::ALL {
                    readings.set(reading_of(class), visitors.counted(class));
                }
            }
            let Some(gateway) = server.lobby.gateway() else { return };
            let figures = gateway.figures();
            readings.set_count(Reading::SessionClients, figures.clients);
            readings.set(Reading::SessionCommands, figures.commands);
            readings.set(Reading::SessionFailed, figures.failed);
            readings.set(Reading::SessionRetried, figures.retried);
            readings.set(Reading::SessionMalformed, figures.malformed);
            if let Some(locks) = gateway.locks() {
                show_locks(readings, &locks.figures());
            }
            readings.set_count(Reading::SessionTrunks, figures.trunks.connections);
            readings.set_count(Reading::SessionAlone, figures.trunks.alone);
            readings.set(Reading::SessionTrunksLost, figures.trunks.lost);
            readings.set(Reading::SessionConnectFailures, figures.trunks.failures);
        });
    }
}

fn show_locks(readings: &mut Readings, locks: &lock::Figures) {
    readings.set_count(Reading::SessionLocksHeld, locks.held);
    readings.set_count(Reading::SessionLocksWaiting, locks.waiting);
    readings.set(Reading::SessionLocksTaken, locks.taken);
    readings.set(Reading::SessionLocksWaited, locks.waited);
    readings.set(Reading::SessionLocksUnanswered, locks.unanswered);
    readings.set(Reading::SessionLocksFreed, locks.freed);
}

fn reading_of(class: Class) -> Reading {
    match class {
        Class::Unknown => Reading::SessionsUnknown,
        Class::New => Reading::SessionsNew,
        Class::Guest => Reading::SessionsGuest,
        Class::Cart => Reading::SessionsCart,
        Class::Customer => Reading::SessionsCustomer,
        Class::Admin => Reading::SessionsAdmin,
    }
}

/// Where the figures come from.
struct Seen {
    server: Arc<SessionServer>,
    node: Node,
}

impl Source for Seen {
    fn figures(&self) -> SessionFigures {
        let parts = self.node.parts();
        let Some(gateway) = self.server.lobby.gateway() else { return SessionFigures::default() };
        let seen = gateway.figures();
        let locks = gateway.locks().map(|locks| locks.figures()).unwrap_or_default();
        let queue = parts.session_gate.as_ref().map(|gate| gate.figures()).unwrap_or_default();
        SessionFigures {
            clients: seen.clients as u64,
            connections: (seen.trunks.connections + seen.trunks.alone) as u64,
            commands: seen.commands,
            failed: seen.failed,
            locks: LockFigures {
                held: locks.held as u64,
                waiting: locks.waiting as u64,
                taken: locks.taken,
                waited: locks.waited,
                unanswered: locks.unanswered,
                freed: locks.freed,
            },
            queue: QueueFigures {
                waiting: queue.waiting as u64,
                waited: queue.waited,
                refused: queue.refused,
            },
            holders: gateway.holders().by_path(parts.clock.now()),
        }
    }
}

fn gateway_of(
    node: &Node,
    settings: &Settings,
    backend: Backend,
    locks: Arc<Locks>,
) -> Arc<Gateway> {
    let parts = node.parts();
    let records = StoredRecords::new(backend.clone(), &settings.sessions);
    parts.visitors.get_or_init(|| Arc::new(Visitors::new(&settings.sessions, Box::new(records))));
    let gateway = Gateway::new(settings, backend, Some(locks), &parts.clock);
    Arc::new(gateway.with_throwaway_sessions(parts.mint.clone()))
}

/// The locks of sessions as this process sees them. Needs a tokio runtime.
fn locks(node: &Node, store: Arc<dyn LockStore>, settings: &Settings) -> Arc<Locks> {
    let parts = node.parts();
    let (bounds, gate) = (lock::Bounds::of(&settings.sessions), parts.session_gate.clone());
    let process = format!("{:016x}", random::number());
    let (own, fleet) = (own_host(), Arc::clone(&parts.fleet));
    let hosts = move |host: &str| match host {
        host if host == own => Standing::Here,
        host if fleet.has_left(host) => Standing::Gone,
        _ => Standing::Other,
    };
    Locks::new(store, bounds, process, Box::new(hosts), gate, &parts.clock)
}

/// Opens the store, once more where it is known.
fn open(
    settings: &Settings,
    clock: &Clock,
    known: Option<&Arc<Embedded>>,
) -> Result<Arc<Embedded>, OpenError> {
    let sessions = &settings.sessions;
    let bounds = keyspace::Bounds {
        databases: sessions.databases as usize,
        memory_max_bytes: usize::try_from(sessions.memory_bytes).unwrap_or(usize::MAX),
        string_max_bytes: sessions.request_max_bytes,
        ..keyspace::Bounds::default()
    };
    let mut tries = 0;
    loop {
        let opened = match known {
            Some(embedded) => embedded.open_again().map(|()| Arc::clone(embedded)),
            None => Embedded::open(&sessions.journal, bounds, clock),
        };
        match opened {
            Err(OpenError::Taken(_)) if tries < JOURNAL_TRIES => {
                tries += 1;
                std::thread::sleep(JOURNAL_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Do clients go to the process that takes the store over?
#[cfg(not(feature = "faulty"))]
fn passes_clients() -> bool {
    true
}

/// Not where `PARVIS_WITHOUT` says so.
#[cfg(feature = "faulty")]
fn passes_clients() -> bool {
    use crate::settings::faulty::{Mechanism, is_off};
    !is_off(Mechanism::Clients)
}

/// The store is let go of. Where this is dropped before another process has it, this one takes it back.
pub(super) struct LetGo {
    server: Arc<SessionServer>,
    node: Node,
    is_taken: bool,
}

impl LetGo {
    /// The other process has it: all clients go there.
    pub(super) fn taken_over(mut self, clients: Option<ClientsOut>) {
        self.is_taken = true;
        *self.server.onward.lock() = clients.map(Arc::new);
        if passes_clients() {
            self.server.lobby.leave();
        }
    }
}

impl Drop for LetGo {
    fn drop(&mut self) {
        if !self.is_taken {
            self.server.take_back(&self.node);
        }
    }
}

/// Serves a client where it is to be served.
async fn client(server: Arc<SessionServer>, mut accepted: Accepted, carried: Option<Carried>) {
    let from = from(&accepted);
    let closing = || server.shutdown.stage() >= Stage::Draining;
    let mut carried = carried;
    loop {
        let left = match &mut accepted {
            Accepted::Tcp { stream, .. } => {
                server.lobby.serve(stream, &from, carried, closing).await
            }
            Accepted::Unix(stream) => server.lobby.serve(stream, &from, carried, closing).await,
        };
        let Some(left) = left else { return };
        if server.pass_on(&accepted, &left).await || !server.lobby.comes_back(BACK_WITHIN).await {
            return;
        }
        carried = Some(left);
    }
}

fn socket_of(accepted: &Accepted) -> BorrowedFd<'_> {
    match accepted {
        Accepted::Tcp { stream, .. } => stream.as_fd(),
        Accepted::Unix(stream) => stream.as_fd(),
    }
}

fn from(accepted: &Accepted) -> From {
    match accepted {
        Accepted::Tcp { peer, local, .. } => {
            let local = local.map(|local| local.to_string()).unwrap_or_default();
            From { peer: peer.to_string(), local, is_unix: false, pid: None }
        }
        Accepted::Unix(stream) => {
            let (pid, path) = (stream.peer_pid(), stream.local_path());
            let path = path.map(|path| format!("{}:0", path.display())).unwrap_or_default();
            From { peer: path.clone(), local: path, is_unix: true, pid }
        }
    }
}
