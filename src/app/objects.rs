//! The object cache and its clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::AppError;
use crate::clock::Clock;
use crate::fleet::{FleetError, Values};
use crate::keyspace::Clean;
use crate::listener::{self, Accepted, BoundListener, Shutdown, Stage};
use crate::objects::{self, Objects, Stay};
use crate::observe::{Observer, Reading, Readings};
use crate::pipeline::Node;
use crate::random;
use crate::redis_pool::Redis;
use crate::settings::{Endpoint, Settings};

/// Between two rounds of the databases' housekeeping.
const UPKEEP: Duration = Duration::from_millis(100);

/// The log of the fleet cleans them, too.
impl Values for Objects {
    fn clean(&self, clean: &Clean) {
        self.clean(clean);
    }

    fn cleans_were_missed(&self) {
        self.cleans_were_missed();
    }
}

/// The databases, and the thread that does their commands. It is one of its own, as Redis has one: a command
/// over a hundred thousand keys keeps no visitor's page waiting, and nobody waits for a lock.
pub(super) struct ObjectsServer {
    objects: Arc<Objects>,
    clients_max: usize,
    runtime: Handle,
}

impl ObjectsServer {
    /// Starts the thread, where the settings ask for the databases. It ends once it is told to stop.
    pub fn start(
        settings: &Settings,
        stopped: watch::Receiver<bool>,
    ) -> Result<Option<Self>, AppError> {
        if settings.objects.listen.is_none() {
            return Ok(None);
        }
        let objects = Arc::new(Objects::new(&settings.objects, Clock::system(), random::number()));
        if settings.redis.url.is_some() || !settings.redis.sentinels.is_empty() {
            let redis = Redis::new(&settings.redis, &Clock::system()).map_err(FleetError::from)?;
            objects.send_messages(&settings.objects, redis, &settings.fleet.prefix);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(AppError::Runtime)?;
        let (handle, kept) = (runtime.handle().clone(), Arc::clone(&objects));
        let run = move || {
            runtime.block_on(keep_house(kept, stopped));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("parvis-objects".to_owned());
        thread.spawn(run).map_err(AppError::Runtime)?;
        Ok(Some(Self { objects, clients_max: settings.objects.clients_max, runtime: handle }))
    }

    /// The databases, as what purges cleans them.
    pub fn values(&self) -> Arc<dyn Values> {
        Arc::clone(&self.objects) as Arc<dyn Values>
    }

    /// Has the node tell the others what clients clean; to be called before the first client comes.
    pub fn tell(&self, node: &Node) {
        let node = node.clone();
        self.objects.tell_cleans(Arc::new(move |clean| {
            let node = node.clone();
            Box::pin(async move { node.clean_elsewhere(clean).await })
        }));
    }

    /// Serves the clients of a socket, until `shutdown` says otherwise.
    pub fn serve(&self, listener: BoundListener, shutdown: Shutdown) {
        let endpoint = listener.endpoint().clone();
        let (objects, clients_max) = (Arc::clone(&self.objects), self.clients_max);
        self.runtime.spawn(async move {
            // Who connects before waits in the socket's queue.
            objects.opened().await;
            tracing::info!(%endpoint, "listening for the object cache");
            let (stages, next) = (shutdown.clone(), endpoint.clone());
            let serve = move |accepted| {
                serve_client(Arc::clone(&objects), accepted, stages.clone(), next.clone())
            };
            let full = objects::NO_PLACE;
            let served = listener::serve_streams(listener, clients_max, full, shutdown, serve);
            if let Err(error) = served.await {
                tracing::error!(%endpoint, %error, "a listener has failed");
            }
        });
    }

    /// The databases.
    pub fn objects(&self) -> Arc<Objects> {
        Arc::clone(&self.objects)
    }

    /// Shows what it counts in metrics and statistics.
    pub fn register_readings(&self, observer: &Observer) {
        let objects = Arc::clone(&self.objects);
        observer.register(move |readings| show(&objects, readings));
    }
}

/// Serves a client. `endpoint` is where the process that takes over listens, too.
async fn serve_client(
    objects: Arc<Objects>,
    accepted: Accepted,
    shutdown: Shutdown,
    endpoint: Endpoint,
) {
    let stay = || match shutdown.stage() {
        Stage::Serving => Stay::Here,
        Stage::Leaving => Stay::Elsewhere,
        Stage::Draining | Stage::Aborting => Stay::Nowhere,
    };
    match accepted {
        Accepted::Tcp { stream, .. } => objects.serve(stream, stay, &endpoint).await,
        Accepted::Unix(stream) => objects.serve(stream, stay, &endpoint).await,
    }
}

/// Keeps house until told to stop.
async fn keep_house(objects: Arc<Objects>, mut stopped: watch::Receiver<bool>) {
    loop {
        let kept = Arc::clone(&objects);
        drop(tokio::task::spawn_blocking(move || kept.maintain()).await);
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
    }
}

fn show(objects: &Objects, readings: &mut Readings) {
    let figures = objects.figures();
    let kept = figures.keyspace;
    readings.set_count(Reading::ObjectsKeys, kept.keys);
    readings.set_count(Reading::ObjectsBytes, kept.memory_bytes);
    readings.set_count(Reading::ObjectsSetsBytes, kept.sets_bytes);
    readings.set(Reading::ObjectsLimitBytes, figures.memory_max_bytes);
    readings.set(Reading::ObjectsCommands, kept.commands);
    readings.set(Reading::ObjectsHits, kept.hits);
    readings.set(Reading::ObjectsMisses, kept.misses);
    readings.set(Reading::ObjectsExpired, kept.expired);
    readings.set(Reading::ObjectsEvictions, kept.evicted);
    readings.set(Reading::ObjectsResets, kept.resets);
    readings.set_count(Reading::ObjectsClients, figures.clients);
    readings.set(Reading::ObjectsConnections, figures.clients_seen);
    readings.set(Reading::ObjectsRefused, figures.refused);
    readings.set(Reading::ObjectsCleans, kept.cleans);
    readings.set(Reading::ObjectsUnkept, kept.unkept);
    readings.set(Reading::ObjectsRefusedScripts, kept.refused_scripts);
    readings.set(Reading::ObjectsMessageFailures, figures.message_failures);
}
