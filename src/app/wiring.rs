//! A node from its settings.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::AppError;
use crate::admission::Admission;
use crate::admission::limit::Move;
use crate::body::SpoolMemory;
use crate::clock::{Clock, Moment};
use crate::error_pages::ErrorPages;
use crate::esi::MistakeLog;
use crate::fill::Flights;
use crate::fleet::{Fleet, Values};
use crate::keeper::Keeper;
use crate::listener::{Limits, Shutdown};
use crate::observe::{Labelled, Observer, Reading, Readings, State, process};
use crate::origin::Origin;
use crate::origin::status::{Shown, Watch};
use crate::pipeline::{Maintenance, Node, Parts, PrivateParts, RoomPaths, Rules, SharedPages};
use crate::policy::Policy;
use crate::sessions::gate::{Bounds, Gate};
use crate::sessions::throwaway::Mint;
use crate::settings::Settings;
use crate::settings::WhoKind;
use crate::store::Store;
use crate::tokens;
use crate::traffic::bots::{self, Bots};
use crate::traffic::{Kept, Traffic};
use crate::waiting_room::Room;

#[cfg(not(feature = "faulty"))]
fn store(settings: &Settings, clock: &Clock) -> Store {
    Store::new(&settings.store, clock.clone())
}

/// Without the fence where `PARVIS_WITHOUT` names it.
#[cfg(feature = "faulty")]
fn store(settings: &Settings, clock: &Clock) -> Store {
    use crate::settings::faulty::{Mechanism, is_off};
    let of = if is_off(Mechanism::Fence) { Store::without_fence } else { Store::new };
    of(&settings.store, clock.clone())
}

/// Builds store, origin and rules, and what observes them. `values`: the object cache, if one is kept.
pub fn build_node(
    settings: Settings,
    state: Arc<State>,
    values: Option<Arc<dyn Values>>,
) -> Result<Node, AppError> {
    let clock = Clock::system();
    let policy = Policy::new(&settings).map_err(AppError::Policy)?;
    let pages = Arc::new(ErrorPages::load(&settings.error_pages)?);
    let maintenance = Maintenance::new(settings.maintenance.on);
    // Before anybody is served, or the shop would be open for a moment.
    maintenance.look_for(&settings.maintenance.flag);
    let observer = Arc::new(Observer::new(&clock, &settings.log, Arc::clone(&state))?);
    let origin = Arc::new(Origin::new(&settings, &clock)?);
    let store = Arc::new(store(&settings, &clock));
    let (kept, observing) = (Arc::clone(&store), Arc::clone(&observer));
    let fleet = Fleet::new(&settings, kept, values, observing, &clock)?;
    let (concurrency_max, share) =
        (settings.origin.concurrency_max, settings.fleet.refresh_share_percent);
    let soft_refreshes = Arc::new(Semaphore::new((concurrency_max * share / 100).max(1)));
    let refreshes = Arc::new(Semaphore::new(settings.fill.refreshes_max));
    let session_gate = session_gate(&settings, &clock);
    let mint = settings.sessions.listen.as_ref().map(|_| Mint::new(&settings.fleet.peers.secret));
    let body_memory = SpoolMemory::new(settings.listen.bodies_memory_max_bytes);
    let bots = Bots::new(&settings.bots, clock.clone())?;
    let (secret, earlier) = (&settings.traffic.secret, &settings.traffic.earlier_secrets);
    let (signer, source) = tokens::kept::signer(secret, earlier, &settings);
    tracing::info!(%source, "the secret that signs what clients keep");
    if settings.redis.is_set() && !source.is_shared() {
        tracing::warn!(
            "neither traffic.secret nor fleet.secret is set: where there are several nodes, what a client has been given \
             by one (that it has passed a challenge, its place in the waiting room) is worth nothing on the others"
        );
    }
    let (signer, redis) = (Arc::new(signer), fleet.redis());
    let in_redis = redis.clone().map(|redis| (redis, settings.fleet.prefix.as_str()));
    let room = Room::new(&settings.waiting_room, Arc::clone(&signer), in_redis, clock.clone());
    let kept_traffic = Arc::new(Kept::new(&settings, signer, redis));
    let traffic = Traffic::new(&settings, Arc::clone(&kept_traffic), Arc::clone(&pages), None);
    let room_paths = RoomPaths::new(&settings.waiting_room);
    let rules = Rules { policy, settings: Arc::new(settings), pages, traffic, room_paths };
    Ok(Node::new(Parts {
        rules: ArcSwap::from_pointee(rules),
        store,
        origin,
        observer,
        clock,
        flights: Arc::new(Flights::default()),
        refreshes,
        soft_refreshes,
        fleet: Arc::new(fleet),
        readiness: state,
        forgery_seen: AtomicBool::new(false),
        esi_mistakes: MistakeLog::default(),
        body_memory,
        session_gate,
        visitors: OnceLock::new(),
        private_parts: PrivateParts::default(),
        shared_pages: SharedPages::default(),
        maintenance,
        bots: Arc::new(bots),
        kept_traffic,
        room: Arc::new(room),
        mint: mint.map(Arc::new),
        sharer: ArcSwap::from_pointee(None),
    }))
}

/// Requests of one session queue where this server sees the session's lock.
fn session_gate(settings: &Settings, clock: &Clock) -> Option<Arc<Gate>> {
    let sessions = &settings.sessions;
    sessions.listen.is_some().then(|| Gate::new(Bounds::of(sessions), clock))
}

/// Shows what the parts count in metrics and statistics.
pub fn register_readings(
    node: &Node,
    keeper: &Arc<Keeper>,
    shutdown: &Shutdown,
    limits: &Arc<Limits>,
) {
    let (parts, connections) = (node.clone(), Arc::clone(shutdown.connections()));
    let (limits, keeper) = (Arc::clone(limits), Arc::clone(keeper));
    node.parts().observer.register(move |readings| {
        process::show(readings);
        let parts = parts.parts();
        let store = parts.store.stats();
        readings.set(Reading::StoreObjects, store.objects);
        readings.set(Reading::StoreBytes, store.bytes);
        readings.set(Reading::StoreLimitBytes, store.limit_bytes);
        readings.set(Reading::StoreTags, store.tags);
        readings.set(Reading::StoreInsertions, store.insertions);
        readings.set(Reading::StoreEvictions, store.evictions);
        readings.set(Reading::StoreFenced, store.fenced);
        readings.set_count(Reading::FillsInFlight, parts.flights.len());
        readings.set_count(Reading::FillWaiters, parts.flights.waiters());
        let refreshes_max = parts.rules.load().settings.fill.refreshes_max;
        let refreshing = refreshes_max.saturating_sub(parts.refreshes.available_permits());
        readings.set_count(Reading::FillRefreshes, refreshing);
        show_admission(readings, parts.origin.admission());
        if let Some(php) = parts.origin.status().and_then(Watch::shown) {
            show_php(readings, &php);
        }
        readings.set(Reading::OriginHealthy, u64::from(parts.origin.health().healthy()));
        if let Some(files) = parts.origin.file_counts() {
            readings.set(Reading::FilesTimedOut, files.timed_out);
            readings.set(Reading::FilesRefused, files.refused);
        }
        readings.set(Reading::EsiMistakes, parts.esi_mistakes.count());
        if let Some(gate) = &parts.session_gate {
            let gate = gate.figures();
            readings.set_count(Reading::SessionsQueued, gate.waiting);
            readings.set(Reading::SessionsQueuedTotal, gate.waited);
            readings.set(Reading::SessionsRefused, gate.refused);
        }
        show_bots(readings, &parts.bots.figures());
        show_traffic(readings, &parts.rules.load().traffic, &parts.kept_traffic);
        show_room(readings, &parts.room);
        show_fleet(readings, parts);
        show_snapshots(readings, &keeper, parts.clock.now());
        let door = connections.counts();
        readings.set_count(Reading::ListenConnections, connections.count());
        readings.set_count(Reading::ListenUpgrades, limits.upgrades_in_use());
        readings.set(Reading::ListenCopiesBytes, limits.copies.bytes());
        let refused = door.refused_connections_max + door.refused_per_address;
        readings.set(Reading::ListenRefusedConnections, refused);
        readings.set(Reading::ListenBadRequests, door.requests_refused);
        readings.set(Reading::ListenHttp2Cut, door.http2_connections_cut);
    });
}

fn show_admission(readings: &mut Readings, admission: &Admission) {
    let all = admission.figures();
    readings.set_count(Reading::OriginInUse, all.in_php);
    readings.set_count(Reading::OriginQueued, all.waiting);
    readings.set_count(Reading::AdmissionLimit, all.limit);
    readings.set_count(Reading::AdmissionCeiling, all.ceiling);
    readings.set(Reading::AdmissionRetriesRefused, all.retries_refused);
    for (why, moves) in Move::ALL.iter().zip(all.moves) {
        readings.set_labelled(Labelled::AdmissionMoves, why.as_str(), moves);
    }
    readings.set_labelled(Labelled::AdmissionLastMove, all.last_move.as_str(), 1_u64);
    for (name, class) in admission.class_figures() {
        let mut set = |metric, value| readings.set_labelled(metric, &name, value);
        set(Labelled::AdmissionWaiting, class.waiting as u64);
        set(Labelled::AdmissionInPhp, class.in_php as u64);
        set(Labelled::AdmissionAdmitted, class.admitted);
        set(Labelled::AdmissionWaited, class.waited);
        set(Labelled::AdmissionWait, class.waited_milliseconds);
        set(Labelled::AdmissionPhp, class.php_milliseconds);
        set(Labelled::AdmissionFull, class.full);
        set(Labelled::AdmissionPutOut, class.put_out);
        set(Labelled::AdmissionTooLong, class.too_long);
        set(Labelled::AdmissionLeft, class.left);
    }
}

fn show_traffic(readings: &mut Readings, traffic: &Traffic, kept: &Kept) {
    let budgets = kept.budget_figures();
    readings.set(Reading::TrafficBudgetsAsked, budgets.asked);
    readings.set(Reading::TrafficBudgetsAlone, budgets.alone);
    readings.set(Reading::TrafficBudgetsRefused, budgets.refused);
    for rule in traffic.rules().iter() {
        let figures = rule.figures();
        let mut set = |metric, value| readings.set_labelled(metric, &rule.name, value);
        set(Labelled::TrafficMatched, figures.matched);
        set(Labelled::TrafficDecided, figures.decided);
        set(Labelled::TrafficDryRun, figures.dry_run);
        set(Labelled::TrafficPhp, figures.php_milliseconds);
    }
    for kind in WhoKind::ALL {
        let count = traffic.rules().counted(kind);
        readings.set_labelled(Labelled::TrafficClients, kind.as_str(), count);
    }
}

fn show_room(readings: &mut Readings, room: &Room) {
    let (status, figures) = (room.status(), room.figures());
    readings.set(Reading::RoomOn, u64::from(status.is_on));
    readings.set(Reading::RoomAlone, u64::from(status.is_alone));
    readings.set(Reading::RoomWaiting, status.waiting);
    readings.set(Reading::RoomInside, status.inside);
    readings.set(Reading::RoomPerMinute, status.per_minute);
    readings.set(Reading::RoomDrawn, figures.drawn);
    readings.set(Reading::RoomAdmitted, figures.admitted);
    readings.set(Reading::RoomLooks, figures.looked);
    readings.set(Reading::RoomFull, figures.full);
    readings.set(Reading::RoomUnanswered, figures.alone);
}

fn show_bots(readings: &mut Readings, bots: &bots::Figures) {
    readings.set_count(Reading::BotsKnown, bots.known);
    readings.set_count(Reading::BotsFilesWrong, bots.files_wrong);
    readings.set_count(Reading::BotsRemembered, bots.remembered);
    readings.set_count(Reading::BotsWaiting, bots.waiting);
    readings.set(Reading::BotsProven, bots.proven);
    readings.set(Reading::BotsRefuted, bots.refuted);
    readings.set(Reading::BotsUnanswered, bots.unanswered);
    readings.set(Reading::BotsUnasked, bots.unasked);
}

fn show_php(readings: &mut Readings, php: &Shown) {
    readings.set_count(Reading::PhpChildren, php.workers.total);
    readings.set_count(Reading::PhpActive, php.workers.active);
    readings.set_count(Reading::PhpIdle, php.workers.idle);
    readings.set_count(Reading::PhpOthers, php.others);
    readings.set_count(Reading::PhpListenQueue, php.workers.listen_queue);
    readings.set(Reading::PhpMaxChildrenReached, php.workers.max_children_reached);
}

fn show_fleet(readings: &mut Readings, parts: &Parts) {
    if let Some(fleet) = parts.fleet.figures() {
        readings.set(Reading::FleetConnected, u64::from(fleet.connected));
        readings.set(Reading::FleetSoft, u64::from(fleet.soft));
        readings.set(Reading::FleetPosition, fleet.position);
        readings.set(Reading::FleetLag, fleet.lag);
        readings.set(Reading::FleetApplied, fleet.applied);
        readings.set(Reading::FleetSoftened, fleet.softened);
        let excused = parts.readiness.readiness().excused().count();
        readings.set_count(Reading::FleetExcused, excused);
        readings.set_count(Reading::FleetJournal, fleet.journal);
        readings.set(Reading::FleetJournalBytes, fleet.journal_bytes);
    }
    if let Some(cleans) = parts.fleet.clean_figures() {
        readings.set(Reading::ObjectsCleansTold, cleans.told);
        readings.set(Reading::ObjectsCleansApplied, cleans.applied);
        readings.set(Reading::ObjectsCleansEchoed, cleans.echoed);
        readings.set(Reading::ObjectsCleansMissed, cleans.missed);
    }
    if let Some(peers) = parts.fleet.peer_figures() {
        readings.set_count(Reading::PeersKnown, peers.known);
        readings.set(Reading::PeersAsked, peers.asked);
        readings.set(Reading::PeersBorrowed, peers.borrowed);
        readings.set(Reading::PeersFailed, peers.failed);
        readings.set(Reading::PeersLent, peers.lent);
        readings.set(Reading::PeersRefused, peers.refused);
    }
    if let Some(warm) = parts.fleet.warm_figures() {
        if let Some(percent) = warm.percent {
            readings.set(Reading::WarmPercent, percent);
        }
        readings.set(Reading::WarmTaken, warm.taken);
        readings.set(Reading::WarmTakenBytes, warm.taken_bytes);
        readings.set(Reading::WarmRefused, warm.refused);
        readings.set(Reading::WarmGiven, warm.given);
        readings.set(Reading::WarmGivenBytes, warm.given_bytes);
    }
}

fn show_snapshots(readings: &mut Readings, keeper: &Keeper, now: Moment) {
    let Some(figures) = keeper.figures() else { return };
    readings.set(Reading::SnapshotFailures, figures.failures);
    readings.set(Reading::SnapshotRestored, figures.restored);
    if let Some((written, at)) = figures.last {
        readings.set(Reading::SnapshotPages, written.records);
        readings.set(Reading::SnapshotBytes, written.bytes);
        readings.set(Reading::SnapshotAge, now.since(at).as_secs());
    }
}
