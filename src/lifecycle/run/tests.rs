use super::*;
use crate::observe::Cause;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const DRAIN: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Shop {
    reload_takes: Duration,
    reloads: Mutex<usize>,
    accepting_ended: AtomicBool,
    finished: Notify,
    /// Does a restart come about?
    successor_serves: AtomicBool,
    restart_takes: Duration,
    restarts: Mutex<usize>,
    successor_fails: Notify,
    resumed: AtomicBool,
    hands_on_for: Duration,
}

impl Service for Shop {
    fn timing(&self) -> Timing {
        Timing { drain: DRAIN, deadline: DEADLINE }
    }

    async fn reload(&self) {
        sleep(self.reload_takes).await;
        *self.reloads.lock() += 1;
    }

    fn stop_accepting(&self) {
        self.accepting_ended.store(true, Ordering::SeqCst);
    }

    async fn finished(&self) {
        self.finished.notified().await;
    }

    async fn restart(&self) -> bool {
        *self.restarts.lock() += 1;
        sleep(self.restart_takes).await;
        self.successor_serves.load(Ordering::SeqCst)
    }

    async fn hand_on(&self) {
        sleep(self.hands_on_for).await;
    }

    async fn successor_gone(&self) -> Gone {
        self.successor_fails.notified().await;
        Gone::Failed(std::os::unix::process::ExitStatusExt::from_raw(9))
    }

    fn resume(&self) {
        self.resumed.store(true, Ordering::SeqCst);
    }
}

struct Server {
    state: Arc<State>,
    shop: Arc<Shop>,
    signals: mpsc::Sender<Signal>,
    told: Arc<Mutex<Vec<Notice>>>,
    running: JoinHandle<Outcome>,
    start: Instant,
}

fn server(reload_takes: Duration, watchdog: Option<Duration>) -> Server {
    server_of(Shop { reload_takes, ..Shop::default() }, watchdog)
}

/// A restart of it takes two seconds and comes about.
fn restartable(watchdog: Option<Duration>) -> Server {
    let restart_takes = Duration::from_secs(2);
    let successor_serves = AtomicBool::new(true);
    server_of(Shop { successor_serves, restart_takes, ..Shop::default() }, watchdog)
}

fn server_of(shop: Shop, watchdog: Option<Duration>) -> Server {
    let (state, told) = (Arc::new(State::new()), Arc::new(Mutex::new(Vec::new())));
    let shop = Arc::new(shop);
    let (signals, receiver) = mpsc::channel(8);
    let running = {
        let (state, shop, told) = (Arc::clone(&state), Arc::clone(&shop), Arc::clone(&told));
        tokio::spawn(async move {
            run(&state, &*shop, receiver, watchdog, |notice| told.lock().push(notice)).await
        })
    };
    Server { state, shop, signals, told, running, start: Instant::now() }
}

impl Server {
    async fn signal(&self, signal: Signal) {
        self.signals.send(signal).await.expect("somebody listens");
        sleep(Duration::from_millis(1)).await;
    }

    fn accepting(&self) -> bool {
        !self.shop.accepting_ended.load(Ordering::SeqCst)
    }

    fn told(&self) -> Vec<Notice> {
        self.told.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn sigterm_makes_it_not_ready_at_once_and_it_goes_on_serving_for_the_drain() {
    let server = server(Duration::ZERO, None);
    sleep(Duration::from_millis(1)).await;
    assert!(server.state.ready());
    assert_eq!(server.told(), [Notice::Ready]);
    server.signal(Signal::Stop).await;
    assert_eq!(server.state.readiness().causes(), [Cause::Draining]);
    assert!(server.accepting(), "it serves on");
    sleep(Duration::from_millis(9_990)).await;
    assert!(server.accepting());
    sleep(Duration::from_millis(20)).await;
    assert!(!server.accepting());
    assert!(!server.state.ready());
    assert!(!server.running.is_finished(), "something is in flight");
    server.shop.finished.notify_one();
    assert_eq!(server.running.await.expect("joined"), Outcome::Finished);
    assert_eq!(*server.told.lock(), [Notice::Ready, Notice::Draining, Notice::Finishing]);
}

#[tokio::test(start_paused = true)]
async fn it_serves_on_until_its_pages_are_handed_on_or_it_is_told_again() {
    for is_told_again in [false, true] {
        let hands_on_for = DRAIN + Duration::from_secs(5);
        let server = server_of(Shop { hands_on_for, ..Shop::default() }, None);
        server.signal(Signal::Stop).await;
        sleep(DRAIN + Duration::from_secs(4)).await;
        assert!(server.accepting());
        if is_told_again {
            server.signal(Signal::Stop).await;
        } else {
            sleep(Duration::from_secs(2)).await;
        }
        assert!(!server.accepting());
        server.shop.finished.notify_one();
        assert_eq!(server.running.await.expect("joined"), Outcome::Finished);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_has_until_the_deadline() {
    let server = server(Duration::ZERO, None);
    server.signal(Signal::Stop).await;
    assert_eq!(server.running.await.expect("joined"), Outcome::DeadlinePassed);
    let took = server.start.elapsed();
    assert!(
        took >= DRAIN + DEADLINE && took < DRAIN + DEADLINE + Duration::from_secs(1),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_drain_and_a_third_gives_up_what_is_in_flight() {
    let server = server(Duration::ZERO, None);
    server.signal(Signal::Stop).await;
    server.signal(Signal::Stop).await;
    assert!(!server.accepting());
    assert!(!server.running.is_finished());
    server.signal(Signal::Reload).await;
    assert!(!server.running.is_finished(), "a reload hurries nothing");
    server.signal(Signal::Stop).await;
    assert_eq!(server.running.await.expect("joined"), Outcome::Hurried);
    assert!(server.start.elapsed() < Duration::from_secs(1));
    assert_eq!(*server.shop.reloads.lock(), 0);
}

#[tokio::test(start_paused = true)]
async fn sighup_reloads_and_goes_on_serving() {
    let server = server(Duration::from_secs(2), None);
    server.signal(Signal::Reload).await;
    assert_eq!(server.told(), [Notice::Ready, Notice::Reloading]);
    assert!(server.state.ready(), "it serves meanwhile");
    server.signal(Signal::Reload).await;
    server.signal(Signal::Reload).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(*server.shop.reloads.lock(), 2, "what came meanwhile is one more");
    assert_eq!(server.told().last(), Some(&Notice::Ready));
    assert!(server.accepting());
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_hangs_does_not_keep_it_from_stopping() {
    let server = server(Duration::MAX, None);
    server.signal(Signal::Reload).await;
    server.signal(Signal::Stop).await;
    assert_eq!(server.state.readiness().phase(), Phase::Draining);
    server.shop.finished.notify_one();
    assert_eq!(server.running.await.expect("joined"), Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn nobody_left_to_signal_stops_it_in_order() {
    let server = server(Duration::ZERO, None);
    drop(server.signals);
    server.shop.finished.notify_one();
    assert_eq!(server.running.await.expect("joined"), Outcome::Finished);
    let took = server.start.elapsed();
    assert!(took >= DRAIN && took < DRAIN + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_hears_of_it_in_every_phase_until_the_end() {
    let longest = Duration::from_secs(3);
    let server = server(Duration::ZERO, Some(longest));
    sleep(Duration::from_secs(30)).await;
    let beats = |server: &Server| {
        server.told().iter().filter(|notice| **notice == Notice::Watchdog).count()
    };
    assert!((20..=21).contains(&beats(&server)), "{}", beats(&server));
    server.signal(Signal::Stop).await;
    sleep(DRAIN + Duration::from_secs(20)).await;
    assert!(!server.accepting());
    assert!(beats(&server) >= 39, "{}", beats(&server));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_it_stays_ready_for_kept_connections_and_tells_systemd_nothing() {
    let server = restartable(Some(Duration::from_secs(1)));
    server.signal(Signal::Restart).await;
    sleep(Duration::from_secs(2)).await;
    let told = server.told().len();
    sleep(Duration::from_secs(5)).await;
    assert!(server.state.ready(), "the server as a whole is");
    assert!(server.accepting(), "idle connections stay for the drain");
    sleep(Duration::from_secs(6)).await;
    assert!(!server.accepting());
    server.shop.finished.notify_one();
    assert_eq!(server.running.await.expect("joined"), Outcome::Finished);
    assert_eq!(server.told.lock().len(), told);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_after_a_restart_has_until_the_deadline() {
    let server = restartable(None);
    server.signal(Signal::Restart).await;
    assert_eq!(server.running.await.expect("joined"), Outcome::DeadlinePassed);
    assert!(server.start.elapsed() >= DRAIN + DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_changes_nothing_and_a_sighup_meanwhile_is_made_up_for() {
    let server = restartable(None);
    server.shop.successor_serves.store(false, Ordering::SeqCst);
    server.signal(Signal::Restart).await;
    server.signal(Signal::Restart).await;
    server.signal(Signal::Reload).await;
    assert_eq!(*server.shop.reloads.lock(), 0);
    sleep(Duration::from_secs(3)).await;
    assert_eq!((*server.shop.restarts.lock(), *server.shop.reloads.lock()), (1, 1));
    assert!(server.state.ready() && !server.running.is_finished());
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_gives_a_restart_up() {
    let server = restartable(None);
    server.signal(Signal::Restart).await;
    server.signal(Signal::Stop).await;
    assert_eq!(server.state.readiness().phase(), Phase::Draining);
    server.shop.finished.notify_one();
    assert_eq!(server.running.await.expect("joined"), Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn where_the_new_process_fails_while_this_one_leaves_it_serves_again() {
    let server = restartable(None);
    server.signal(Signal::Restart).await;
    sleep(Duration::from_secs(3)).await;
    server.shop.successor_fails.notify_one();
    sleep(Duration::from_secs(60)).await;
    assert!(server.shop.resumed.load(Ordering::SeqCst) && server.accepting());
    let own = Notice::MainProcess(std::process::id());
    assert_eq!(server.told(), [Notice::Ready, own, Notice::Ready]);
    server.signal(Signal::Restart).await;
    assert_eq!(*server.shop.restarts.lock(), 2, "and can be restarted");
}

#[test]
fn the_unit_file_lets_the_next_process_speak() {
    let unit = include_str!("../../../systemd/parvis.service");
    assert!(unit.contains("\nNotifyAccess=all\n"));
}

#[test]
fn the_unit_file_leaves_time_to_drain_and_finish() {
    let unit = include_str!("../../../systemd/parvis.service");
    let seconds = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')?.parse().ok())
        .expect("a time in seconds");
    let defaults = crate::settings::Lifecycle::default();
    let margin = Duration::from_secs(10);
    assert!(Duration::from_secs(seconds) >= defaults.drain + defaults.deadline + margin);
}
