//! A running process: a node, its doors, its background tasks, and how it reloads and stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::control::Controlled;
use super::{AppError, Doors, build_node, register_readings};
use crate::control::Control;
use crate::exchange::{Client, Scheme};
use crate::fleet::Load;
use crate::lifecycle::{
    self, Activated, Service, Timing, signals, tell_service_manager, watchdog_interval,
};
use crate::listener::{Shutdown, TlsServer};
use crate::observe::{Cause, LevelHandle, State};
use crate::origin::probe::{self, Check};
use crate::pipeline::{Node, Rules};
use crate::policy::Policy;
use crate::settings::{PolicyKind, Settings, process_environment};

/// How long the last lines of the access log may take at the end.
const LOG_DEADLINE: Duration = Duration::from_secs(2);

/// Between two rounds of the store's housekeeping and the look at the origin's socket.
const UPKEEP: Duration = Duration::from_secs(1);

/// A node with open doors.
pub struct Server {
    node: Node,
    state: Arc<State>,
    shutdown: Shutdown,
    tls: Option<Arc<TlsServer>>,
    level: Option<LevelHandle>,
    file: Option<PathBuf>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Opens the doors and starts serving.
    pub fn open(
        settings: Settings,
        activated: Activated,
        level: Option<LevelHandle>,
        file: Option<PathBuf>,
    ) -> Result<Self, AppError> {
        let doors = super::open(&settings, activated)?;
        Self::behind(doors, settings, level, file)
    }

    /// Starts serving behind doors that were opened by these settings.
    pub fn behind(
        doors: Doors,
        settings: Settings,
        level: Option<LevelHandle>,
        file: Option<PathBuf>,
    ) -> Result<Self, AppError> {
        let state = Arc::new(State::new());
        let node = build_node(settings, Arc::clone(&state))?;
        let (shutdown, tls) = (Shutdown::new(), doors.tls.clone());
        register_readings(&node, &shutdown, doors.limits());
        let (stop, stopped) = watch::channel(false);
        let server = Self { node, state, shutdown, tls, level, file, stop };
        server.serve(doors);
        server.start_probe(stopped.clone());
        server.start_fleet(&stopped);
        server.start_upkeep(stopped);
        Ok(server)
    }

    fn serve(&self, doors: Doors) {
        let control = Control::new(Arc::new(Controlled(self.node.clone())));
        doors.serve(self.node.clone(), control, &self.shutdown);
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Runs until SIGTERM or SIGINT, then stops in order.
    pub async fn run_until_told(self) -> Result<(), AppError> {
        let signals = signals()?;
        let notify = tell_service_manager;
        lifecycle::run(&self.state, &self, signals, watchdog_interval(), notify).await;
        self.stop.send_replace(true);
        self.node.parts().fleet.leave().await;
        self.shutdown.abort();
        let observer = Arc::clone(&self.node.parts().observer);
        let closed = tokio::task::spawn_blocking(move || observer.close_log(LOG_DEADLINE)).await;
        if !closed.unwrap_or(false) {
            tracing::warn!("the access log could not be written out in time");
        }
        Ok(())
    }

    fn start_probe(&self, stopped: watch::Receiver<bool>) {
        let node = self.node.clone();
        let settings = Arc::clone(&node.parts().rules.load().settings);
        let target = probe_target(&settings);
        tokio::spawn(async move {
            let parts = node.parts();
            let health = &settings.health;
            let fetch = |check| {
                let (node, target, settings) = (node.clone(), target.clone(), &settings);
                async move {
                    let origin = &node.parts().origin;
                    match check {
                        Check::Connection => {
                            origin.try_connect().await.map(|()| http::StatusCode::OK)
                        }
                        Check::Request => {
                            let request = probe_request(settings, &target);
                            origin.fetch(&request).await.map(|response| response.status)
                        }
                    }
                }
            };
            let requests = !target.is_empty();
            let origin = parts.origin.health();
            probe::run(origin, health, requests, &parts.clock, fetch, stopped).await;
        });
    }

    fn start_fleet(&self, stopped: &watch::Receiver<bool>) {
        let origin = Arc::clone(&self.node.parts().origin);
        let places = self.node.parts().rules.load().settings.origin.concurrency_max;
        let load = move || Load { in_use: origin.gate().in_use(), places };
        self.node.parts().fleet.start(Arc::clone(&self.state), load, stopped);
    }

    /// Cleans the store, and makes this server not ready while its own PHP-FPM refuses.
    fn start_upkeep(&self, mut stopped: watch::Receiver<bool>) {
        let (node, state) = (self.node.clone(), Arc::clone(&self.state));
        tokio::spawn(async move {
            let pace = UPKEEP.min(node.parts().rules.load().settings.health.refused / 2);
            loop {
                let parts = node.parts();
                let refused = parts.origin.health().refused_for(parts.clock.now());
                let limit = parts.rules.load().settings.health.refused;
                if refused.is_some_and(|refused| refused >= limit) {
                    if state.raise(Cause::OriginRefused) {
                        tracing::error!("the origin's socket refuses: not ready");
                    }
                } else if state.clear(Cause::OriginRefused) {
                    tracing::info!("the origin's socket accepts again");
                }
                let store = Arc::clone(&parts.store);
                drop(tokio::task::spawn_blocking(move || store.maintain()).await);
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    () = tokio::time::sleep(pace.max(Duration::from_millis(50))) => {}
                }
            }
        });
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
                let settings = Arc::new(settings);
                self.node.parts().rules.store(Arc::new(Rules { policy, settings }));
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

    fn stop_accepting(&self) {
        self.shutdown.drain();
    }

    async fn finished(&self) {
        self.shutdown.all_gone().await;
    }
}

/// `health.probe`, or what the policy has for it; empty: none.
fn probe_target(settings: &Settings) -> String {
    settings.health.probe.clone().unwrap_or_else(|| match settings.site.policy {
        PolicyKind::Magento => "/health_check.php".to_owned(),
        PolicyKind::Generic => String::new(),
    })
}

fn probe_request(settings: &Settings, target: &str) -> crate::origin::OriginRequest {
    // A shop that serves several hosts answers its check on each of them.
    let host = settings.site.hosts.iter().find(|host| !host.starts_with('*'));
    let host = host.cloned().unwrap_or_else(|| "localhost".to_owned());
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    crate::origin::OriginRequest {
        method: http::Method::GET,
        target: target.to_owned().into(),
        authority: host.clone().into(),
        fields: [("Host", host.as_str()), ("User-Agent", "parvis-probe")].into(),
        body: crate::body::Spooled::default(),
        beside: crate::exchange::Beside::default(),
        client: Client {
            address,
            port: 0,
            scheme: Scheme::Http,
            server_port: 80,
            trusted_peer: true,
            forged: false,
            hops: Vec::new(),
        },
    }
}
