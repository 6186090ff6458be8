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
    let (state, told) = (Arc::new(State::new()), Arc::new(Mutex::new(Vec::new())));
    let shop = Arc::new(Shop { reload_takes, ..Shop::default() });
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
