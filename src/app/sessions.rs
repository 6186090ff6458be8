//! The clients of the sessions, in front of the gateway.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::AppError;
use crate::clock::Clock;
use crate::fleet::own_host;
use crate::keyspace;
use crate::listener::{Accepted, BoundListener, Shutdown, Stage, serve_streams};
use crate::observe::{Reading, Readings};
use crate::pipeline::Node;
use crate::random;
use crate::sessions::embedded::{Embedded, OpenError};
use crate::sessions::figures::{LockFigures, QueueFigures, SessionFigures, Source};
use crate::sessions::gateway::{Backend, From, Gateway, StoredRecords, Trunks};
use crate::sessions::lock::{self, Kept, LockStore, Locks, Scripts, Standing};
use crate::sessions::visitors::{Class, Visitors};
use crate::settings::Settings;

/// What one client too many is told, in Redis' words.
const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// How long the process before may take to let go of the journal, and how often is looked.
const JOURNAL_TRIES: u32 = 200;
const JOURNAL_PAUSE: Duration = Duration::from_millis(10);

/// Serves them, where there are any.
pub(super) struct SessionServer {
    /// `None`: nobody is served, or not yet.
    gateway: Arc<Mutex<Option<Arc<Gateway>>>>,
    /// Where the sessions are here.
    embedded: Mutex<Option<Arc<Embedded>>>,
    clients_max: usize,
    shutdown: Shutdown,
}

impl SessionServer {
    /// Without `sessions.listen` it serves nobody.
    pub(super) fn new(node: &Node) -> Result<Self, AppError> {
        let rules = node.parts().rules.load_full();
        let (settings, clock) = (&rules.settings, &node.parts().clock);
        let mut gateway = None;
        if let (Some(_), Some(redis)) = (&settings.sessions.listen, settings.sessions_redis()) {
            let trunks = Trunks::new(&redis, &settings.sessions, clock)?;
            let scripts = Scripts::new(trunks.clone(), &settings.fleet.prefix);
            let locks = locks(node, Arc::new(scripts), settings);
            let backend = Backend::Central(trunks);
            gateway = Some(gateway_of(node, settings, backend, locks));
        }
        Ok(Self {
            gateway: Arc::new(Mutex::new(gateway)),
            embedded: Mutex::default(),
            clients_max: settings.sessions.clients_max,
            shutdown: Shutdown::new(),
        })
    }

    /// Opens the store where the sessions are here: one process at a time has it.
    pub(super) fn begin(&self, node: &Node) -> Result<(), AppError> {
        let rules = node.parts().rules.load_full();
        let (settings, clock) = (&rules.settings, &node.parts().clock);
        if settings.sessions.listen.is_none() || self.gateway.lock().is_some() {
            return Ok(());
        }
        let embedded = open(settings, clock)?;
        *self.embedded.lock() = Some(Arc::clone(&embedded));
        let kept = Kept::new(Arc::clone(&embedded), clock);
        let locks = locks(node, Arc::new(kept), settings);
        let backend = Backend::Embedded(embedded);
        *self.gateway.lock() = Some(gateway_of(node, settings, backend, locks));
        Ok(())
    }

    /// Leaves the store to another process. Clients that are still here are told so.
    pub(super) fn let_go(&self) {
        if let Some(embedded) = self.embedded.lock().take() {
            *self.gateway.lock() = None;
            embedded.close();
        }
    }

    /// Its clients, and when they are to go: one that has begun a request of PHP goes on until that
    /// ends, so a process that leaves serves them as long as it may.
    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Serves those who connect.
    pub(super) fn serve(&self, listener: BoundListener) {
        let Some(gateway) = self.gateway.lock().clone() else { return };
        let (clients_max, shutdown) = (self.clients_max, self.shutdown.clone());
        tokio::spawn(async move {
            let endpoint = listener.endpoint().clone();
            tracing::info!(%endpoint, "listening for sessions");
            let stages = shutdown.clone();
            let serve = |accepted| client(Arc::clone(&gateway), accepted, stages.clone());
            let served = serve_streams(listener, clients_max, FULL, shutdown, serve).await;
            if let Err(error) = served {
                tracing::error!(%endpoint, %error, "a listener has failed");
            }
        });
    }

    /// What is to be seen of sessions; `None`: they do not pass through here.
    pub(super) fn source(&self, node: &Node) -> Option<Arc<dyn Source>> {
        let (gateway, node) = (self.gateway.lock().clone()?, node.clone());
        Some(Arc::new(Seen { gateway, node }))
    }

    /// Shows what the gateway has seen.
    pub(super) fn register_readings(&self, node: &Node) {
        let (gateway, seen) = (Arc::clone(&self.gateway), node.clone());
        node.parts().observer.register(move |readings| {
            if let Some(visitors) = seen.parts().visitors.get() {
                for class in Class::ALL {
                    readings.set(reading_of(class), visitors.counted(class));
                }
            }
            let Some(gateway) = gateway.lock().clone() else { return };
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
    gateway: Arc<Gateway>,
    node: Node,
}

impl Source for Seen {
    fn figures(&self) -> SessionFigures {
        let parts = self.node.parts();
        let seen = self.gateway.figures();
        let locks = self.gateway.locks().map(|locks| locks.figures()).unwrap_or_default();
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
            holders: self.gateway.holders().by_path(parts.clock.now()),
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

fn open(settings: &Settings, clock: &Clock) -> Result<Arc<Embedded>, OpenError> {
    let sessions = &settings.sessions;
    let bounds = keyspace::Bounds {
        databases: sessions.databases as usize,
        memory_max_bytes: usize::try_from(sessions.memory_bytes).unwrap_or(usize::MAX),
        string_max_bytes: sessions.request_max_bytes,
        ..keyspace::Bounds::default()
    };
    let mut tries = 0;
    loop {
        match Embedded::open(&sessions.journal, bounds, clock) {
            Err(OpenError::Taken(_)) if tries < JOURNAL_TRIES => {
                tries += 1;
                std::thread::sleep(JOURNAL_PAUSE);
            }
            opened => return opened,
        }
    }
}

async fn client(gateway: Arc<Gateway>, accepted: Accepted, shutdown: Shutdown) {
    let closing = move || shutdown.stage() >= Stage::Draining;
    match accepted {
        Accepted::Tcp { stream, peer, local } => {
            let local = local.map(|local| local.to_string()).unwrap_or_default();
            let from = From { peer: peer.to_string(), local, is_unix: false, pid: None };
            gateway.serve(stream, from, closing).await;
        }
        Accepted::Unix(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let path = stream.local_addr().ok();
            let path = path.as_ref().and_then(|local| local.as_pathname());
            let path = path.map(|path| format!("{}:0", path.display())).unwrap_or_default();
            let from = From { peer: path.clone(), local: path, is_unix: true, pid };
            gateway.serve(stream, from, closing).await;
        }
    }
}
