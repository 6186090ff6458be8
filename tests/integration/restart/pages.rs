//! What is stored goes over to the new process, hottest first, and purges hold meanwhile.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::support::chance::Chance;
use super::super::support::client::{Client, Reply};
use super::super::support::origin::{Origin, page};
use super::super::support::process::wait_until;
use super::super::support::{Parvis, get};
use super::{Successors, first_ends};
use crate::fleet::{Shop, store};
use crate::support::redis::Redis;

const PAGES: usize = 300;

fn url_of(number: usize) -> String {
    format!("/page-{number}")
}

/// Stores all pages, of which so many may be stored.
fn fill(parvis: &Parvis, storable: usize) {
    for number in 0..PAGES {
        parvis.get(&url_of(number), &[]);
    }
    wait_until("storing", Duration::from_secs(20), || {
        parvis.metric("parvis_store_objects ") >= Some(storable as f64)
    });
}

fn shop() -> Origin {
    Origin::start(|seen, stream| {
        let content = format!("{} {}", seen.target, "lorem ipsum ".repeat(200));
        let _ = stream.write_all(&page(&content, seen.target.trim_start_matches("/page-")));
    })
}

#[test]
fn the_new_process_has_what_the_old_one_had_stored() {
    let origin = shop();
    let mut parvis = Parvis::before_http(origin.port).start();
    fill(&parvis, PAGES);
    let before = parvis.get(&url_of(7), &[("Accept-Encoding", "br")]);
    let mut successors = Successors::new();
    for _ in 0..2 {
        successors.restart(&parvis);
    }
    first_ends(&mut parvis);
    let rendered = origin.count();
    for number in 0..PAGES {
        let reply = parvis.get(&url_of(number), &[]);
        assert!(reply.is_hit() && !reply.cache_status().contains("stale"), "{reply:?}");
    }
    assert_eq!(origin.count(), rendered);
    let after = parvis.get(&url_of(7), &[("Accept-Encoding", "br")]);
    assert_eq!(after.header("content-encoding"), Some("br"));
    assert_eq!((&after.body, after.header("etag")), (&before.body, before.header("etag")));
    assert_eq!(parvis.metric("parvis_snapshot_restored_total "), Some(PAGES as f64));
    // Purges reach what came over.
    assert_eq!(parvis.purge_tag("7").status, 200);
    assert!(!parvis.get(&url_of(7), &[]).is_hit());
}

#[test]
fn pages_that_are_not_waited_for_come_while_the_new_process_serves() {
    let origin = shop();
    let mut parvis =
        Parvis::before_http(origin.port).with("lifecycle.restart_fill", "\"0s\"").start();
    fill(&parvis, PAGES);
    let mut successors = Successors::new();
    successors.restart(&parvis);
    wait_until("the pages", Duration::from_secs(20), || {
        parvis.metric("parvis_snapshot_restored_total ") == Some(PAGES as f64)
    });
    first_ends(&mut parvis);
}

#[test]
fn nothing_goes_over_where_keys_mean_something_else_now() {
    let origin = shop();
    let mut parvis = Parvis::before_http(origin.port).start();
    fill(&parvis, PAGES);
    mean_something_else_by_keys(&parvis);
    Successors::new().restart(&parvis);
    first_ends(&mut parvis);
    assert!(parvis.stderr().contains("is not used"), "{}", parvis.stderr());
}

/// From the next start on.
fn mean_something_else_by_keys(parvis: &Parvis) {
    let path = parvis.config_path();
    let text = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, format!("{text}\n[site]\nkey_cookies = [\"store\"]\n")).expect("written");
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    hits: AtomicUsize,
    others: AtomicUsize,
}

impl Seen {
    /// The share of hits since the last time.
    fn take_ratio(&self) -> f64 {
        let hits = self.hits.swap(0, Ordering::SeqCst);
        let all = hits + self.others.swap(0, Ordering::SeqCst);
        hits as f64 / all.max(1) as f64
    }
}

const CLIENTS: u32 = 20;
const REQUESTS_PER_SECOND: u32 = 1_000;

/// Clients that ask for pages as people do: for a few of them most of the time, at a steady pace.
fn load(port: u16, seen: &Arc<Seen>, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let pause = Duration::from_secs(1) * CLIENTS / REQUESTS_PER_SECOND;
    let client = |client: u64| {
        let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
        thread::spawn(move || {
            let (mut kept, mut next) = (None::<Client>, Instant::now());
            let mut chance = Chance::of(client);
            while !stop.load(Ordering::SeqCst) {
                let mut roll = || chance.below(PAGES);
                // Half of the requests are for a fifth of the pages.
                let number = roll().min(roll()).min(roll());
                let client = kept.get_or_insert_with(|| Client::connect(port));
                let reply = client.ask("GET", &url_of(number), &[], b"");
                assert_eq!(reply.status, 200);
                let count = if reply.is_hit() { &seen.hits } else { &seen.others };
                count.fetch_add(1, Ordering::SeqCst);
                if ends(&reply) {
                    kept = None;
                }
                next += pause;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        })
    };
    (0..u64::from(CLIENTS)).map(client).collect()
}

fn ends(reply: &Reply) -> bool {
    reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// What a restart under load does: the share of hits before and in the first 10 s after it, and how often a
/// page that may be stored was rendered in that time. No request fails.
fn restart_under_load(carries_pages: bool) -> (f64, f64, usize) {
    // One page in fifty is nobody else's.
    let is_private = |target: &str| target.ends_with("50");
    let origin = Origin::start(move |seen, stream| {
        thread::sleep(Duration::from_millis(10));
        let content = format!("{} {}", seen.target, "lorem ipsum ".repeat(500));
        let mut text = String::from_utf8(page(&content, "t")).expect("text");
        if is_private(&seen.target) {
            text = text.replace("public", "private");
        }
        let _ = stream.write_all(text.as_bytes());
    });
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"2s\"").start();
    let storable = (0..PAGES).filter(|number| !is_private(&url_of(*number))).count();
    fill(&parvis, storable);
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let clients = load(parvis.port, &seen, &stop);
    let rendered = || origin.seen().iter().filter(|seen| !is_private(&seen.target)).count();
    seen.take_ratio();
    thread::sleep(Duration::from_secs(5));
    let before = seen.take_ratio();
    if !carries_pages {
        mean_something_else_by_keys(&parvis);
    }
    let (mut successors, rendered_before) = (Successors::new(), rendered());
    successors.restart(&parvis);
    seen.take_ratio();
    thread::sleep(Duration::from_secs(10));
    let asked = seen.hits.load(Ordering::SeqCst) + seen.others.load(Ordering::SeqCst);
    let after = seen.take_ratio();
    let rendered = rendered() - rendered_before;
    stop.store(true, Ordering::SeqCst);
    let failed = clients.into_iter().filter_map(|client| client.join().err()).count();
    println!("hits {before:.3} before, {after:.3} after of {asked} in 10 s; {rendered} rendered");
    assert_eq!(failed, 0, "no request failed");
    first_ends(&mut parvis);
    (before, after, rendered)
}

#[test]
fn under_load_no_request_fails_and_the_hit_ratio_stays() {
    let (before, after, rendered) = restart_under_load(true);
    assert!(before > 0.5 && after >= before * 0.95, "{after} after {before}");
    assert!(rendered <= PAGES / 20, "{rendered} pages were rendered again");
}

#[test]
fn the_same_load_notices_a_restart_that_loses_the_pages() {
    let (_, _, rendered) = restart_under_load(false);
    assert!(rendered > PAGES / 2, "{rendered} pages were rendered again");
}

/// The latest version whose purge was answered, and clients that want nothing older.
fn reads_nothing_older(
    port: u16,
    answered: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<usize> {
    let (answered, stop) = (Arc::clone(answered), Arc::clone(stop));
    thread::spawn(move || {
        let mut older = 0;
        while !stop.load(Ordering::SeqCst) {
            for target in ["/cat_p_1", "/cat_p_2", "/cat_p_3"] {
                let least = answered.load(Ordering::SeqCst);
                let shown: u64 = get(port, target, &[]).text().parse().expect("a version");
                older += usize::from(shown < least);
            }
        }
        older
    })
}

fn purges_during_restarts(shop: &Shop, mut parvis: Parvis) {
    for target in ["/cat_p_1", "/cat_p_2", "/cat_p_3"] {
        store(&parvis, target);
    }
    let (answered, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> =
        (0..2).map(|_| reads_nothing_older(parvis.port, &answered, &is_over)).collect();
    let mut successors = Successors::new();
    let port = parvis.port;
    thread::scope(|scope| {
        let purger = scope.spawn(|| {
            let mut purges = 0;
            while !is_over.load(Ordering::SeqCst) {
                let version = shop.commit();
                let pattern = "((^|,)cat_p_1(,|$))|((^|,)cat_p_2(,|$))|((^|,)cat_p_3(,|$))";
                let pattern = [("X-Magento-Tags-Pattern", pattern)];
                let reply = Client::connect(port).ask("PURGE", "/", &pattern, b"");
                assert!(reply.status == 200 || reply.status == 202, "{reply:?}");
                answered.store(version, Ordering::SeqCst);
                purges += 1;
                // Long enough for pages to be stored in between.
                thread::sleep(Duration::from_millis(20));
            }
            purges
        });
        for _ in 0..3 {
            successors.restart(&parvis);
            thread::sleep(Duration::from_millis(300));
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(purger.join().expect("no purge failed") > 3, "{}", parvis.stderr());
    });
    let older: usize = readers.into_iter().map(|reader| reader.join().expect("no failure")).sum();
    assert_eq!(older, 0, "no page from before an answered purge");
    first_ends(&mut parvis);
}

#[test]
fn no_page_from_before_an_answered_purge_comes_back_by_a_restart() {
    let shop = Shop::open();
    let parvis = Parvis::before_http(shop.origin.port).start();
    purges_during_restarts(&shop, parvis);
}

#[test]
fn nor_on_a_node_of_a_fleet() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let [node] = shop.nodes(&redis);
    purges_during_restarts(&shop, node);
}

#[test]
fn a_purge_of_another_node_during_a_restart_reaches_what_comes_over() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let [mut node, other] = shop.nodes(&redis);
    store(&node, "/cat_p_1");
    store(&node, "/cat_p_2");
    let rendered = shop.origin.count();
    let mut successors = Successors::new();
    successors.restart(&node);
    let now = shop.commit();
    assert_eq!(other.purge_tag("cat_p_1").status, 200);
    let shown = || node.get("/cat_p_1", &[]).text().parse::<u64>().expect("a version");
    wait_until("the purge", Duration::from_secs(10), || shown() == now);
    assert!(node.get("/cat_p_2", &[]).is_hit(), "the other page came over");
    assert!(shop.origin.count() <= rendered + 1, "once for the page that was purged");
    assert_eq!(crate::fleet::softened(&node), 0, "nothing went soft: the log was read on");
    first_ends(&mut node);
}

/// A shop whose change becomes visible a second after its purge was sent, and a restart in between: what
/// is rendered meanwhile shows the old state. Gives what is shown in the end.
fn shown_after_a_late_commit(echo: &str) -> u64 {
    let shop = Shop::open();
    let mut parvis = Parvis::before_http(shop.origin.port).with("purge.echo", echo).start();
    store(&parvis, "/cat_p_1");
    assert_eq!(parvis.purge_tag("cat_p_1").status, 200);
    store(&parvis, "/cat_p_1");
    store(&parvis, "/cat_p_2");
    let mut successors = Successors::new();
    successors.restart(&parvis);
    first_ends(&mut parvis);
    assert!(parvis.get("/cat_p_2", &[]).is_hit());
    store(&parvis, "/cat_p_1");
    let now = shop.commit();
    thread::sleep(Duration::from_secs(3));
    let shown: u64 = parvis.get("/cat_p_1", &[]).text().parse().expect("a version");
    now - shown
}

#[test]
fn a_purge_that_came_before_its_commit_is_applied_again_by_the_new_process() {
    assert_eq!(shown_after_a_late_commit("\"2s\""), 0, "the new state");
    assert_eq!(shown_after_a_late_commit("0"), 1, "without the echo the old one stays");
}
