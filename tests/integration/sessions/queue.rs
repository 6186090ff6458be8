//! Requests of one session over HTTP: they wait in Parvis for their turn, and take no worker for that.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Parvis;
use crate::support::client::Reply;
use crate::support::parvis::Builder;
use crate::support::php::Php;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

const PATIENCE: Duration = Duration::from_secs(20);

/// A shop whose PHP has its sessions behind Parvis.
pub struct Shop {
    pub parvis: Parvis,
    pub redis: Arc<Redis>,
    _php: Php,
    /// Where PHP connects to.
    store: String,
    _directory: tempfile::TempDir,
}

impl Shop {
    pub fn open(children: usize, more: &[(&str, &str)]) -> Self {
        Self::beside(Arc::new(Redis::start()), children, more)
    }

    /// Another server of a shop.
    pub fn beside(redis: Arc<Redis>, children: usize, more: &[(&str, &str)]) -> Self {
        let php = Php::with_front_controller("session.php", children);
        let directory = tempfile::tempdir().expect("a directory");
        let store = format!("unix:{}", directory.path().join("session.sock").display());
        let with = |builder: Builder, (key, value): &(&str, &str)| builder.with(key, value);
        let parvis = more
            .iter()
            .fold(Parvis::before_php_with_knobs(&php), with)
            .with("sessions.listen", &format!("\"{store}\""))
            .with("sessions.mode", "\"0666\"")
            .with("sessions.url", &format!("\"{}\"", redis.url()))
            .start();
        Self { parvis, redis, _php: php, store, _directory: directory }
    }

    /// A request that is passed, of a session.
    pub fn ask(&self, session: &str, knobs: &str) -> Reply {
        self.get("/checkout/cart", &format!("PHPSESSID={session}"), knobs)
    }

    pub fn get(&self, path: &str, cookie: &str, knobs: &str) -> Reply {
        self.parvis.get(&self.target(path, knobs), &[("Cookie", cookie)])
    }

    pub fn target(&self, path: &str, knobs: &str) -> String {
        format!("{path}?store={}&{knobs}", self.store)
    }

    /// Begins a request, and comes back when PHP has the session's lock.
    pub fn begin<'a>(
        &'a self,
        scope: &'a thread::Scope<'a, '_>,
        session: &'a str,
        knobs: &'a str,
    ) -> thread::ScopedJoinHandle<'a, Reply> {
        let request = scope.spawn(move || self.ask(session, knobs));
        wait_until("the lock", PATIENCE, || self.lock(session) == "1");
        request
    }

    pub fn lock(&self, session: &str) -> String {
        self.redis.ask(&["-n", "2", "hget", &format!("sess_{session}"), "lock"])
    }

    fn has_waiter(&self) -> bool {
        self.parvis.metric("parvis_sessions_queued ") == Some(1.0)
    }

    /// So many requests at once, and how long they took in all.
    fn many(&self, count: usize, knobs: &str) -> (Vec<Value>, Duration) {
        let began = Instant::now();
        let replies = thread::scope(|scope| {
            let requests: Vec<_> =
                (0..count).map(|_| scope.spawn(|| self.ask("crowd", knobs))).collect();
            requests.into_iter().map(|request| request.join().expect("a reply")).collect::<Vec<_>>()
        });
        (replies.iter().map(told).collect(), began.elapsed())
    }
}

/// What PHP tells of a visit.
pub fn told(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_str(&reply.text()).expect("what PHP tells")
}

/// Those who found the lock taken, by a second try or by having been held for longer than a script takes.
fn waiters(told: &[Value]) -> usize {
    let waited = |one: &&Value| {
        one["tries"].as_u64() != Some(1) || one["waited_ms"].as_f64().is_none_or(|ms| ms > 25.0)
    };
    told.iter().filter(waited).count()
}

#[test]
fn twenty_requests_of_one_session_take_php_s_time_and_no_worker_waits() {
    let shop = Shop::open(8, &[]);
    let began = Instant::now();
    for _ in 0..20 {
        told(&shop.ask("alone", "hold=50"));
    }
    let alone = began.elapsed();
    let (told, together) = shop.many(20, "hold=50");
    println!("20 x 50 ms of one session: {together:.2?} at once, {alone:.2?} one by one");
    assert!(told.iter().all(|one| one["locked"] == true && one["written"] == true));
    // A request that goes when the lock is free finds it free: none had a worker while it waited.
    assert_eq!(waiters(&told), 0, "{told:?}");
    assert!(together < alone.mul_f64(1.2), "{together:?} instead of {alone:?}");
    let visits: u64 = told.iter().filter_map(|one| one["visits"].as_u64()).max().expect("some");
    assert_eq!(visits, 20, "each saw what the one before wrote");
    let log = shop.parvis.access_log();
    assert!(log.contains("\"queued_seconds\":"), "{log}");
    assert!(!log.contains("crowd"), "no session is named");
}

#[test]
fn twenty_requests_of_one_session_over_two_servers_take_php_s_time_too() {
    let redis = Arc::new(Redis::start());
    let shops = [(); 2].map(|()| Shop::beside(Arc::clone(&redis), 8, &[]));
    let began = Instant::now();
    for number in 0..20 {
        told(&shops[number % 2].ask("alone", "hold=50"));
    }
    let (alone, began) = (began.elapsed(), Instant::now());
    let halves: Vec<_> = thread::scope(|scope| {
        let half = |shop| scope.spawn(move || Shop::many(shop, 10, "hold=50").0);
        shops
            .iter()
            .map(half)
            .collect::<Vec<_>>()
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    });
    let together = began.elapsed();
    println!("20 x 50 ms of one session over two: {together:.2?} at once, {alone:.2?} one by one");
    let all: Vec<_> = halves.into_iter().flat_map(|half| half.expect("replies")).collect();
    assert!(all.iter().all(|one| one["locked"] == true && one["broke"] == false), "{all:?}");
    assert!(all.iter().all(|one| one["tries"] == 1), "each was held until it was its turn");
    let visits: u64 = all.iter().filter_map(|one| one["visits"].as_u64()).max().expect("some");
    assert_eq!(visits, 20, "each saw what the one before wrote");
    assert!(together < alone.mul_f64(1.2), "{together:?} instead of {alone:?}");
}

#[test]
fn without_the_queue_workers_would_wait_for_the_lock() {
    let shop = Shop::open(8, &[("sessions.lockless_paths", "[\"/checkout\"]")]);
    let (told, _) = shop.many(20, "hold=50");
    assert!(waiters(&told) > 1, "{told:?}");
}

#[test]
fn an_export_that_has_closed_its_session_does_not_hold_back_its_own_polls() {
    let shop = Shop::open(4, &[]);
    thread::scope(|scope| {
        let began = Instant::now();
        let export = shop.begin(scope, "admin", "hold=200&after=4000");
        let polled = told(&shop.ask("admin", ""));
        assert!(!export.is_finished(), "the poll was answered after {:?}", began.elapsed());
        assert_eq!(polled["visits"], 2, "it saw what the export had written");
        told(&export.join().expect("a reply"));
    });
}

#[test]
fn sessions_do_not_wait_for_each_other_and_the_admins_cookie_comes_first() {
    let shop = Shop::open(4, &[]);
    thread::scope(|scope| {
        let busy = shop.begin(scope, "busy", "hold=3000");
        told(&shop.ask("other", ""));
        told(&shop.get("/checkout/cart", "PHPSESSID=busy2; admin=busy", "id=else"));
        assert!(!busy.is_finished() || busy.join().is_ok());
    });
}

#[test]
fn one_request_too_many_is_refused_and_so_is_one_whose_turn_does_not_come() {
    let more = [("sessions.queue_max", "1"), ("sessions.queue_wait", "\"500ms\"")];
    let shop = Shop::open(4, &more);
    thread::scope(|scope| {
        let busy = shop.begin(scope, "busy", "hold=3000");
        let waiter = scope.spawn(|| shop.ask("busy", ""));
        wait_until("a waiter", PATIENCE, || shop.has_waiter());
        let refused = shop.ask("busy", "");
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")));
        assert!(refused.cache_status().contains("detail=session-busy"), "{refused:?}");
        let late = waiter.join().expect("a reply");
        assert_eq!((late.status, late.header("retry-after")), (503, Some("5")));
        assert!(!busy.is_finished(), "they did not wait for it");
        told(&busy.join().expect("a reply"));
    });
    assert_eq!(shop.parvis.metric("parvis_sessions_refused_total "), Some(2.0));
}

#[test]
fn who_takes_no_lock_holds_its_session_back_for_a_while_only_and_some_paths_not_at_all() {
    let more =
        [("sessions.lockless_after", "\"200ms\""), ("sessions.lockless_paths", "[\"/rest\"]")];
    let shop = Shop::open(4, &more);
    thread::scope(|scope| {
        // It reads the session without its lock.
        let (sender, begun) = mpsc::channel();
        let its = &shop;
        let reader = scope.spawn(move || {
            sender.send(()).expect("heard");
            its.ask("quiet", "read_only=1&hold=4000")
        });
        begun.recv().expect("begun");
        wait_until("PHP", PATIENCE, || {
            shop.parvis.metric("parvis_origin_in_use ").is_some_and(|in_use| in_use > 0.0)
        });
        told(&shop.get("/rest/V1/x", "PHPSESSID=quiet", ""));
        assert_eq!(shop.parvis.metric("parvis_sessions_queued_total "), Some(0.0));
        told(&shop.ask("quiet", ""));
        assert!(!reader.is_finished(), "the others did not wait for its end");
        reader.join().expect("a reply");
    });
}

#[test]
fn nobody_waits_behind_the_session_of_who_leads_a_shared_fill() {
    let shop = Shop::open(4, &[]);
    thread::scope(|scope| {
        let busy = shop.begin(scope, "busy", "hold=4000");
        // It would lead the fill of a page, and its session is busy. Its page is of a variant, so that
        // PHP needs the session.
        let page = "cacheable=60&req=page";
        let leader = scope.spawn(|| shop.get("/page", "PHPSESSID=busy; X-Magento-Vary=v", page));
        wait_until("a waiter", PATIENCE, || shop.has_waiter());
        let follower = shop.get("/page", "PHPSESSID=free; X-Magento-Vary=v", page);
        told(&follower);
        assert!(!busy.is_finished(), "it did not wait for the other's session");
        told(&leader.join().expect("a reply"));
        busy.join().expect("a reply");
    });
}

#[test]
fn a_page_whose_visitors_sessions_are_all_busy_is_rendered_once_for_them() {
    const VISITORS: usize = 8;
    let shop = Shop::open(2 * VISITORS, &[]);
    let names: Vec<_> = (0..VISITORS).map(|number| format!("busy{number}")).collect();
    thread::scope(|scope| {
        let busy: Vec<_> = names.iter().map(|name| shop.begin(scope, name, "hold=4000")).collect();
        let its = &shop;
        let ask = |name: &String| {
            let cookies = format!("PHPSESSID={name}; X-Magento-Vary=v");
            scope.spawn(move || its.get("/page", &cookies, "cacheable=60&req=page"))
        };
        let pages: Vec<_> = names.iter().map(ask).collect();
        let pages = pages.into_iter().map(|page| told(&page.join().expect("a reply")));
        let mut by: Vec<_> = pages.map(|page| page["id"].to_string()).collect();
        by.sort();
        by.dedup();
        assert_eq!(by.len(), 1, "each of these was asked: {by:?}");
        for busy in busy {
            told(&busy.join().expect("a reply"));
        }
    });
}

#[test]
fn a_worker_that_is_killed_with_the_lock_leaves_it_free() {
    let shop = Shop::open(4, &[]);
    let died = shop.ask("victim", "die=1");
    assert_eq!(died.status, 502, "{}", died.text());
    let next = told(&shop.ask("victim", ""));
    assert_eq!((&next["locked"], &next["broke"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(next["tries"], 1, "PHP itself would have waited for five seconds");
}
