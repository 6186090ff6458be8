use std::pin::Pin;

use super::*;
use crate::settings::AdmissionClass;

fn admission(concurrency_max: usize, queue_max: usize, queue_timeout: Duration) -> Arc<Admission> {
    Admission::new(&settings(concurrency_max, queue_max, queue_timeout), &Clock::system())
}

fn settings(concurrency_max: usize, queue_max: usize, queue_timeout: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.origin.concurrency_max = concurrency_max;
    settings.origin.queue_max = queue_max;
    settings.origin.queue_timeout = queue_timeout;
    let class = |name: &str, rank, places_percent| AdmissionClass {
        name: name.to_owned(),
        rank,
        places_percent,
        ..AdmissionClass::default()
    };
    settings.admission.classes = vec![class("orders", 1, 100), class("pages", 5, 50)];
    settings
}

const ORDERS: usize = 0;
const PAGES: usize = 1;

fn ticket(class: usize) -> Ticket {
    Ticket { class: Some(ClassId(class)), ..Ticket::default() }
}

/// A request that is seen to wait.
async fn waiter(
    admission: &Arc<Admission>,
    class: usize,
) -> tokio::task::JoinHandle<Result<Place, Refused>> {
    let (own, before) = (Arc::clone(admission), admission.figures().waiting);
    let task = tokio::spawn(async move { own.enter(&ticket(class)).await });
    while admission.figures().waiting == before {
        tokio::task::yield_now().await;
    }
    task
}

const LONG: Duration = Duration::from_secs(9);

#[tokio::test]
async fn who_finds_no_place_waits_and_who_finds_the_queue_full_is_refused() {
    let admission = admission(1, 1, LONG);
    let place = admission.enter(&ticket(PAGES)).await.expect("free");
    let page = waiter(&admission, PAGES).await;
    assert_eq!(admission.enter(&ticket(PAGES)).await.err(), Some(Refused::Full));
    let order = waiter_in_place_of(&admission).await;
    assert_eq!(page.await.expect("joined").err(), Some(Refused::PutOut));
    assert_eq!((admission.figures().in_php, admission.figures().waiting), (1, 1));
    drop(place);
    drop(order.await.expect("joined").expect("a place"));
    assert_eq!((admission.figures().in_php, admission.figures().waiting), (0, 0));
    let figures = admission.class_figures();
    assert_eq!((figures[PAGES].1.full, figures[PAGES].1.put_out), (1, 1));
    assert_eq!((figures[ORDERS].1.admitted, figures[ORDERS].1.waited), (1, 1));
}

async fn waiter_in_place_of(
    admission: &Arc<Admission>,
) -> tokio::task::JoinHandle<Result<Place, Refused>> {
    let own = Arc::clone(admission);
    let task = tokio::spawn(async move { own.enter(&ticket(ORDERS)).await });
    while admission.class_figures()[ORDERS].1.waiting == 0 {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test]
async fn waiting_ends_with_the_time_in_the_queue_and_is_counted() {
    let admission = admission(1, 1, Duration::from_millis(5));
    let _place = admission.enter(&ticket(ORDERS)).await.expect("free");
    let late = ticket(ORDERS);
    assert_eq!(admission.enter(&late).await.err(), Some(Refused::TooLong));
    assert!(late.waited_milliseconds.load(Ordering::Relaxed) >= 5);
    let figures = admission.class_figures()[ORDERS].1;
    assert_eq!((figures.too_long, figures.left, figures.waiting), (1, 0, 0));
}

#[tokio::test]
async fn who_leaves_the_queue_is_known_to_have_waited() {
    let admission = admission(1, 1, LONG);
    let _place = admission.enter(&ticket(ORDERS)).await.expect("free");
    let gone = ticket(ORDERS);
    let entered = tokio::time::timeout(Duration::from_millis(20), admission.enter(&gone)).await;
    assert!(entered.is_err());
    assert!(gone.waited_milliseconds.load(Ordering::Relaxed) >= 20);
    assert_eq!(admission.class_figures()[ORDERS].1.left, 1);
}

#[tokio::test]
async fn a_waiter_that_goes_away_gives_its_seat_up_even_when_it_was_called_already() {
    let admission = admission(1, 2, LONG);
    let place = admission.enter(&ticket(ORDERS)).await.expect("free");
    let (gone, called) = (waiter(&admission, ORDERS).await, waiter(&admission, ORDERS).await);
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(admission.class_figures()[ORDERS].1.left, 1);
    // It is called and never hears of it.
    drop(place);
    called.abort();
    drop(called.await);
    assert_eq!((admission.figures().in_php, admission.figures().waiting), (0, 0));
}

#[tokio::test]
async fn a_class_leaves_the_places_that_are_not_its_own_to_others() {
    let admission = admission(4, 9, LONG);
    let pages = [
        admission.enter(&ticket(PAGES)).await.expect("free"),
        admission.enter(&ticket(PAGES)).await.expect("free"),
    ];
    let page = waiter(&admission, PAGES).await;
    let order = admission.enter(&ticket(ORDERS)).await.expect("there is room for orders");
    drop(pages);
    drop(page.await.expect("joined").expect("its turn"));
    drop(order);
    assert_eq!(admission.figures().in_php, 0);
}

#[tokio::test]
async fn who_has_to_wait_depends_on_the_class() {
    let admission = admission(4, 9, LONG);
    let _pages = [
        admission.enter(&ticket(PAGES)).await.expect("free"),
        admission.enter(&ticket(PAGES)).await.expect("free"),
    ];
    let page = waiter(&admission, PAGES).await;
    assert!(admission.must_wait(ClassId(PAGES)));
    assert!(!admission.must_wait(ClassId(ORDERS)), "a page waits for one of its own places");
    page.abort();
}

#[tokio::test]
async fn a_place_more_lets_who_waits_in() {
    let admission = admission(2, 9, LONG);
    admission.set_children(1);
    let _place = admission.enter(&ticket(ORDERS)).await.expect("free");
    let waits = waiter(&admission, ORDERS).await;
    admission.set_children(9);
    drop(waits.await.expect("joined").expect("a place"));
    assert_eq!(admission.figures().ceiling, 2, "the setting holds");
}

/// A turn in a session behind which somebody may come to wait.
#[derive(Default)]
struct Queued {
    urgency: std::sync::Mutex<Option<usize>>,
    joined: tokio::sync::Notify,
    goes: std::sync::atomic::AtomicBool,
}

impl Turn for Queued {
    fn urgency(&self) -> usize {
        self.urgency.lock().expect("no panic").unwrap_or(usize::MAX)
    }

    fn joined(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.joined.notified())
    }

    fn goes(&self) {
        self.goes.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_request_in_its_session_makes_it_as_urgent_as_they_are_at_once() {
    let admission = admission(1, 9, LONG);
    let place = admission.enter(&ticket(ORDERS)).await.expect("free");
    let turn = Arc::new(Queued::default());
    let own = Ticket { turn: Some(Arc::clone(&turn) as Arc<dyn Turn>), ..ticket(PAGES) };
    let door = Arc::clone(&admission);
    let page = tokio::spawn(async move { door.enter(&own).await });
    let waiting = |class: usize| admission.class_figures()[class].1.waiting;
    while waiting(PAGES) == 0 {
        tokio::task::yield_now().await;
    }
    let came = tokio::time::Instant::now();
    *turn.urgency.lock().expect("no panic") = Some(admission.classes().urgency(ClassId(ORDERS)));
    turn.joined.notify_one();
    while waiting(ORDERS) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((waiting(PAGES), came.elapsed()), (0, Duration::ZERO), "it waits as an order");
    assert!(!turn.goes.load(Ordering::SeqCst));
    drop(place);
    drop(page.await.expect("joined").expect("its place"));
    assert!(turn.goes.load(Ordering::SeqCst));
}

#[tokio::test]
async fn other_settings_hold_for_who_comes_and_who_waits_and_its_class_may_be_gone() {
    let admission = admission(4, 9, LONG);
    let pages = [
        admission.enter(&ticket(PAGES)).await.expect("free"),
        admission.enter(&ticket(PAGES)).await.expect("free"),
    ];
    let page = waiter(&admission, PAGES).await;
    let mut other = settings(4, 9, LONG);
    other.admission.classes[PAGES].places_percent = 75;
    assert!(admission.reload(&other));
    let page = page.await.expect("joined").expect("there is room for three pages now");
    let last = waiter(&admission, PAGES).await;
    other.admission.classes.remove(PAGES);
    other.admission.classes[ORDERS].name = "all".to_owned();
    assert!(admission.reload(&other));
    let all = admission.classes().last();
    assert_eq!(all, ClassId(2));
    let called = admission.enter(&Ticket { class: Some(all), ..Ticket::default() }).await;
    drop((pages, page));
    drop(last.await.expect("joined").expect("its turn, though its class is gone"));
    drop(called);
    let names: Vec<String> = admission.class_figures().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["orders", "pages", "all"]);
    assert_eq!((admission.figures().in_php, admission.figures().waiting), (0, 0));
}
