//! What goes on beside the listeners of a running process, until that stops.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::server::Server;
use crate::exchange::{Client, Scheme};
use crate::fleet::Load;
use crate::observe::Cause;
use crate::origin::OriginRequest;
use crate::origin::probe::{self, Check};
use crate::settings::Settings;
use crate::waiting_room;

/// Between two rounds of the store's housekeeping and the look at the origin's socket.
const UPKEEP: Duration = Duration::from_secs(1);

impl Server {
    /// Begins all of it.
    pub(super) fn start_background(&self) {
        self.start_probe();
        self.watch_php();
        self.start_fleet();
        self.start_upkeep();
        self.start_bots();
        self.start_room();
        self.start_snapshots();
    }

    /// Has something done until this server stops.
    pub(super) fn until_stopped(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = work => {}
            }
        });
    }

    fn start_probe(&self) {
        let stopped = self.stop.subscribe();
        let node = self.node.clone();
        let settings = Arc::clone(&node.parts().rules.load().settings);
        let target = settings.probe().to_owned();
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
                            let mut request = probe_request(settings, &target);
                            let door = origin.admission();
                            request.ticket = door.ticket_of(&request.method, &request.target);
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

    /// Looks at PHP-FPM's own status from time to time.
    fn watch_php(&self) {
        let origin = Arc::clone(&self.node.parts().origin);
        self.until_stopped(async move {
            if let Some(status) = origin.status() {
                status.run(origin.admission()).await;
            }
        });
    }

    /// Looks up who says that it is a bot, and reads the data of bots again where they change.
    fn start_bots(&self) {
        let bots = Arc::clone(&self.node.parts().bots);
        self.until_stopped(async move { bots.run().await });
    }

    /// Lets in who waits before the shop, from tick to tick.
    fn start_room(&self) {
        let mut stopped = self.stop.subscribe();
        let node = self.node.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(waiting_room::TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    _ = ticks.tick() => {}
                }
                let parts = node.parts();
                let is_short = parts.origin.admission().figures().waiting > 0;
                parts.room.tick(is_short, parts.fleet.nodes()).await;
            }
        });
    }

    /// Writes snapshots from time to time.
    fn start_snapshots(&self) {
        let keeper = Arc::clone(&self.keeper);
        self.until_stopped(async move { keeper.write_often().await });
    }

    /// Reads the log from here on, unless that has begun.
    pub(super) fn start_fleet(&self) {
        if self.fleet_runs.swap(true, Ordering::SeqCst) {
            return;
        }
        let origin = Arc::clone(&self.node.parts().origin);
        let places = self.node.parts().rules.load().settings.origin.concurrency_max;
        let load = move || Load { in_use: origin.admission().figures().in_php, places };
        self.node.parts().fleet.start(Arc::clone(&self.state), load, &self.stop.subscribe());
    }

    /// Takes from the other nodes what this one is asked for, once what it had itself has been read.
    pub(super) fn join_fleet(&self, reading: Option<JoinHandle<()>>) {
        let node = self.node.clone();
        let restored = async {
            if let Some(reading) = reading {
                drop(reading.await);
            }
        };
        self.until_stopped(async move { node.join_fleet(restored).await });
    }

    /// Cleans store and copies, and makes this server not ready while its own PHP-FPM refuses.
    fn start_upkeep(&self) {
        let mut stopped = self.stop.subscribe();
        let (node, state) = (self.node.clone(), Arc::clone(&self.state));
        let copies = self.doors.lock().as_ref().map(|doors| Arc::clone(&doors.limits().copies));
        tokio::spawn(async move {
            let pace = UPKEEP.min(node.parts().rules.load().settings.health.refused / 2);
            loop {
                let parts = node.parts();
                let refused = parts.origin.health().refused_for(parts.clock.now());
                let limit = parts.rules.load().settings.health.refused;
                if refused.is_some_and(|refused| refused >= limit) {
                    if state.raise(Cause::OriginRefused) {
                        let ready = state.ready();
                        tracing::error!(
                            ready,
                            "the origin's socket has refused connections for longer than health.refused"
                        );
                    }
                } else if state.clear(Cause::OriginRefused) {
                    tracing::info!("the origin takes connections again");
                }
                let (store, copies) = (Arc::clone(&parts.store), copies.clone());
                let flag = parts.rules.load().settings.maintenance.flag.clone();
                let own = node.clone();
                let clean = move || {
                    own.parts().maintenance.look_for(&flag);
                    store.maintain();
                    if let Some(copies) = copies {
                        copies.sweep();
                    }
                };
                drop(tokio::task::spawn_blocking(clean).await);
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    () = tokio::time::sleep(pace.max(Duration::from_millis(50))) => {}
                }
            }
        });
    }
}

fn probe_request(settings: &Settings, target: &str) -> OriginRequest {
    // A shop that serves several hosts answers its check on each of them.
    let host = settings.site.hosts.iter().find(|host| !host.starts_with('*'));
    let host = host.cloned().unwrap_or_else(|| "localhost".to_owned());
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    OriginRequest {
        method: http::Method::GET,
        target: target.to_owned().into(),
        authority: host.clone().into(),
        fields: [("Host", host.as_str()), ("User-Agent", "parvis-probe")].into(),
        body: crate::body::Spooled::default(),
        beside: crate::exchange::Beside::default(),
        files_alone: false,
        ticket: crate::admission::Ticket::default(),
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
