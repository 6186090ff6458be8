//! A running process: a node, its doors, and how it reloads and stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::control::Controlled;
use super::objects::ObjectsServer;
use super::sessions::SessionServer;
use super::{AppError, Doors, build_node, register_readings};
use crate::control::Control;
use crate::error_pages::ErrorPages;
use crate::fleet::FleetError;
use crate::keeper::Keeper;
use crate::lifecycle::handover::{Gone, Successor};
use crate::lifecycle::{
    self, Activated, Desk, Service, Signal, Timing, signals, tell_service_manager,
    watchdog_interval,
};
use crate::listener::{ListenError, Shutdown, Stage, TlsServer};
use crate::observe::{LevelHandle, State};
use crate::pipeline::{Node, RoomPaths, Rules};
use crate::policy::Policy;
use crate::settings::{Settings, process_environment};
use crate::traffic::Traffic;

/// How long the last lines of the access log may take at the end.
const LOG_DEADLINE: Duration = Duration::from_secs(2);

/// How long the last cleans of the object cache may take to be in the log or the journal.
const CLEANS_DEADLINE: Duration = Duration::from_secs(2);

/// A node with open doors.
pub struct Server {
    pub(super) node: Node,
    pub(super) state: Arc<State>,
    pub(super) shutdown: Shutdown,
    tls: Option<Arc<TlsServer>>,
    level: Option<LevelHandle>,
    file: Option<PathBuf>,
    /// What ends all that goes on beside.
    pub(super) stop: watch::Sender<bool>,
    /// Until it is to accept no more: an open socket on which nobody accepts lets clients wait.
    pub(super) doors: Mutex<Option<Doors>>,
    /// What says when the control listener ends: later than the others.
    pub(super) control_shutdown: Shutdown,
    /// The object cache, and what says when its listener ends: PHP needs it until the last response.
    pub(super) objects: Option<ObjectsServer>,
    pub(super) objects_shutdown: Shutdown,
    pub(super) desk: Arc<Desk>,
    orders: Option<mpsc::Receiver<Signal>>,
    hears_signals: bool,
    /// The process that serves in place of this one.
    pub(super) successor: Mutex<Option<Successor>>,
    /// Of that, for as long as it is given what is stored here.
    pub(super) giving: Mutex<Option<JoinHandle<()>>>,
    /// What is stored, over restarts.
    pub(super) keeper: Arc<Keeper>,
    pub(super) fleet_runs: AtomicBool,
    /// The clients of the sessions.
    pub(super) sessions: Arc<SessionServer>,
    /// Ends with the process that served before this one.
    pub(super) predecessor: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Opens the doors and starts serving.
    pub async fn open(
        settings: Settings,
        activated: Activated,
        level: Option<LevelHandle>,
        file: Option<PathBuf>,
    ) -> Result<Self, AppError> {
        let doors = super::open(&settings, activated)?;
        Self::behind(doors, settings, level, file).await
    }

    /// Starts serving behind doors that were opened by these settings, with what a snapshot has.
    pub async fn behind(
        doors: Doors,
        settings: Settings,
        level: Option<LevelHandle>,
        file: Option<PathBuf>,
    ) -> Result<Self, AppError> {
        let server = Self::prepare(doors, settings, level, file)?;
        // Before anybody can ask whether it is ready.
        server.node.parts().fleet.hold(&server.state);
        let (found, objects) = tokio::join!(server.keeper.open(), server.keeper.open_objects());
        server.read_objects_in(objects);
        server.begin()?;
        let reading = found.map(|found| {
            let keeper = Arc::clone(&server.keeper);
            tokio::task::spawn_blocking(move || keeper.read_in(found))
        });
        server.join_fleet(reading);
        Ok(server)
    }

    /// Everything but to serve.
    pub(super) fn prepare(
        doors: Doors,
        settings: Settings,
        level: Option<LevelHandle>,
        file: Option<PathBuf>,
    ) -> Result<Self, AppError> {
        let state = Arc::new(State::new());
        let stop = watch::Sender::new(false);
        let objects = ObjectsServer::start(&settings, stop.subscribe())?;
        let values = objects.as_ref().map(ObjectsServer::values);
        let node = build_node(settings, Arc::clone(&state), values)?;
        let sessions = SessionServer::new(&node)?;
        if let Some(objects) = &objects {
            objects.tell(&node);
            objects.register_readings(&node.parts().observer);
        }
        let (shutdown, tls) = (Shutdown::new(), doors.tls.clone());
        let kept = objects.as_ref().map(ObjectsServer::objects);
        let keeper = Arc::new(Keeper::new(&node).with_objects(kept));
        register_readings(&node, &keeper, &shutdown, doors.limits());
        sessions.register_readings(&node);
        let (desk, orders) = Desk::new();
        Ok(Self {
            node,
            state,
            shutdown,
            tls,
            level,
            file,
            stop,
            doors: Mutex::new(Some(doors)),
            control_shutdown: Shutdown::new(),
            objects,
            objects_shutdown: Shutdown::new(),
            desk: Arc::new(desk),
            orders: Some(orders),
            hears_signals: false,
            successor: Mutex::default(),
            giving: Mutex::default(),
            keeper,
            fleet_runs: AtomicBool::new(false),
            sessions,
            predecessor: tokio::sync::Mutex::default(),
        })
    }

    /// Serves, and begins what goes on beside.
    pub(super) fn begin(&self) -> Result<(), AppError> {
        self.sessions.begin(&self.node)?;
        self.serve_peers()?;
        self.serve()?;
        self.start_background();
        Ok(())
    }

    pub(super) fn serve(&self) -> Result<(), ListenError> {
        let connections = Arc::clone(self.shutdown.connections());
        let (node, desk) = (self.node.clone(), Arc::clone(&self.desk));
        let sessions = self.sessions.source(&node);
        let objects = self.objects.as_ref().map(ObjectsServer::objects);
        let controlled = Controlled { node, desk, connections, sessions, objects };
        let control = Control::new(Arc::new(controlled));
        let (public, steered) = (&self.shutdown, &self.control_shutdown);
        let doors = self.doors.lock();
        let Some(doors) = &*doors else { return Ok(()) };
        doors.serve_sessions(&self.sessions)?;
        if let Some(objects) = &self.objects {
            doors.serve_objects(objects, &self.objects_shutdown)?;
        }
        doors.serve((self.node.clone(), public), (control, steered))
    }

    /// From here on signals wait for [`Server::run_until_told`].
    pub(super) fn listen_to_signals(&mut self) -> Result<(), AppError> {
        if !std::mem::replace(&mut self.hears_signals, true) {
            signals(self.desk.orders())?;
        }
        Ok(())
    }

    /// Opens the door for other nodes, if there is one.
    fn serve_peers(&self) -> Result<(), AppError> {
        let Some(door) = self.node.parts().fleet.peer_door() else { return Ok(()) };
        let listener = door.bind().map_err(FleetError::from)?;
        let (door, lender) = (Arc::clone(door), Arc::new(self.node.clone()));
        self.until_stopped(async move { door.serve(listener, lender).await });
        Ok(())
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Runs until SIGTERM or SIGINT, then stops in order.
    pub async fn run_until_told(mut self) -> Result<(), AppError> {
        self.listen_to_signals()?;
        // Where they are gone, it runs already, or rather has.
        let Some(orders) = self.orders.take() else { return Ok(()) };
        let notify = tell_service_manager;
        lifecycle::run(&self.state, &self, orders, watchdog_interval(), notify).await;
        self.pages_given().await;
        // Of the clients that have gone.
        let fleet = &self.node.parts().fleet;
        let _ = tokio::time::timeout(CLEANS_DEADLINE, fleet.cleans_written()).await;
        self.keeper.write_last().await;
        self.stop.send_replace(true);
        self.node.parts().fleet.leave().await;
        self.shutdown.abort();
        self.sessions.shutdown().abort();
        self.sessions.close();
        self.objects_shutdown.abort();
        let observer = Arc::clone(&self.node.parts().observer);
        let closed = tokio::task::spawn_blocking(move || observer.close_log(LOG_DEADLINE)).await;
        if !closed.unwrap_or(false) {
            tracing::warn!("the access log could not be written out in time");
        }
        Ok(())
    }

    fn put_in_force(&self, settings: Settings) {
        match Policy::new(&settings) {
            Ok(policy) => {
                if let Some(level) = &self.level
                    && let Err(error) = level.set(&settings.log.level)
                {
                    tracing::error!(%error, "log.level stays as it was");
                }
                self.renew_certificate(&settings);
                let parts = self.node.parts();
                let pages = match ErrorPages::load(&settings.error_pages) {
                    Ok(pages) => Arc::new(pages),
                    Err(error) => {
                        tracing::error!(%error, "the old error pages stay in use");
                        Arc::clone(&parts.rules.load().pages)
                    }
                };
                parts.maintenance.set_by_settings(settings.maintenance.on);
                if !parts.origin.admission().reload(&settings) {
                    tracing::error!(
                        "the classes before PHP have had too many names since the start; the old \
                         ones stay until a restart"
                    );
                }
                parts.bots.renew(&settings.bots);
                parts.room.reload(&settings.waiting_room);
                let (kept, before) = (Arc::clone(&parts.kept_traffic), parts.rules.load());
                let traffic =
                    Traffic::new(&settings, kept, Arc::clone(&pages), Some(&before.traffic));
                let room_paths = RoomPaths::new(&settings.waiting_room);
                let settings = Arc::new(settings);
                let rules = Rules { policy, settings, pages, traffic, room_paths };
                parts.rules.store(Arc::new(rules));
            }
            Err(errors) => {
                let error = AppError::Policy(errors);
                tracing::error!(%error, "the new configuration is wrong; the old one stays");
            }
        }
    }

    fn renew_certificate(&self, settings: &Settings) {
        let Some(server) = &self.tls else { return };
        let now = self.node.parts().clock.wall();
        match super::doors::certificate(&settings.tls, now) {
            Ok(config) => server.replace(config),
            Err(error) => tracing::error!(%error, "the old certificate stays in use"),
        }
    }
}

impl Service for Server {
    fn timing(&self) -> Timing {
        let lifecycle = &self.node.parts().rules.load().settings.lifecycle;
        Timing { drain: lifecycle.drain, deadline: lifecycle.deadline }
    }

    async fn reload(&self) {
        self.node.parts().observer.reopen_log();
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            Settings::load_for_this_machine(file.as_deref(), process_environment())
        });
        let Ok(read) = read.await else { return };
        let old = Arc::clone(&self.node.parts().rules.load().settings);
        if let Some(plan) = lifecycle::accept(&old, read) {
            self.put_in_force(plan.settings);
        }
    }

    async fn hand_on(&self) {
        self.node.parts().fleet.hand_on().await;
    }

    fn stop_accepting(&self) {
        self.shutdown.drain();
        self.sessions.shutdown().drain();
        *self.doors.lock() = None;
    }

    async fn finished(&self) {
        tokio::join!(self.shutdown.all_gone(), self.sessions.shutdown().all_gone());
        if self.objects_shutdown.stage() == Stage::Leaving {
            // Their clients do not know that they are passed on.
            self.objects_shutdown.all_gone().await;
        }
        // Nobody renders any more. What PHP does beside, in the background, connects again.
        self.objects_shutdown.drain();
        let _ = tokio::time::timeout(LOG_DEADLINE, self.objects_shutdown.all_gone()).await;
        // Who waits on the control listener for just this hears of it.
        self.control_shutdown.drain();
        let _ = tokio::time::timeout(LOG_DEADLINE, self.control_shutdown.all_gone()).await;
    }

    async fn restart(&self) -> bool {
        self.hand_over().await
    }

    async fn successor_gone(&self) -> Gone {
        self.successor_ended().await
    }

    fn resume(&self) {
        self.serve_again();
    }
}
