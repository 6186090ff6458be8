//! Whose turn it is in a session, where a page is fetched for all who ask for it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::queue::{Shop, told};
use crate::peers::{PATIENCE, SECRET, owned_by, started};
use crate::support::Parvis;
use crate::support::origin::{Origin, page};
use crate::support::parvis::Builder;
use crate::support::php::Php;
use crate::support::process::{free_port, wait_until};
use crate::support::redis::Redis;

fn in_fleet(builder: Builder, name: &str, redis: &Redis) -> Builder {
    builder
        .with("fleet.name", &format!("\"{name}\""))
        .with("redis.url", &format!("\"{}\"", redis.url()))
        .with("fleet.journal_directory", "\"\"")
        .with("fleet.heartbeat", "\"100ms\"")
        .with("fleet.listen", &format!("\"127.0.0.1:{}\"", free_port()))
        .with("fleet.secret", &format!("\"{SECRET}\""))
        .with("fleet.owner_wait", "\"20s\"")
        .with("fleet.owner_silence", "\"20s\"")
        // Nobody gives up waiting for another's fetch before the session is free.
        .with("fill.wait_timeout", "\"50s\"")
}

/// A node whose pages are rendered by their owner, as long as that can.
struct Fleet {
    /// The shop's node first.
    nodes: Vec<Parvis>,
    owner: Origin,
    /// What the owner's PHP does: 0: it answers; then it only hangs up, the first time late.
    fails: Arc<AtomicUsize>,
    _php: Php,
    _redis: Redis,
    store: String,
    _directory: tempfile::TempDir,
}

impl Fleet {
    fn open() -> Self {
        let (php, redis) = (Php::with_front_controller("session.php", 6), Redis::start());
        let directory = tempfile::tempdir().expect("a directory");
        let store = format!("unix:{}", directory.path().join("session.sock").display());
        let fails = Arc::new(AtomicUsize::new(0));
        let how = Arc::clone(&fails);
        let owner = Origin::start(move |_, stream| match how.load(Ordering::SeqCst) {
            0 => drop(stream.write_all(&page("the owner's", "owned"))),
            1 => {
                how.store(2, Ordering::SeqCst);
                thread::sleep(Duration::from_secs(2));
            }
            _ => {}
        });
        let shop = Parvis::before_php(&php)
            .with("sessions.listen", &format!("\"{store}\""))
            .with("sessions.mode", "\"0666\"");
        let other = Parvis::before_http(owner.port);
        let nodes = started(
            [in_fleet(shop, "web-1", &redis), in_fleet(other, "web-2", &redis)].into_iter(),
        );
        Self { nodes, owner, fails, _php: php, _redis: redis, store, _directory: directory }
    }

    /// A page that the other node owns and nobody has; from now on that one cannot render it.
    fn owned(&self) -> String {
        let prefix = format!("page?store={}&cacheable=60&req=page&n", self.store);
        let target = owned_by(&self.nodes[1], &self.nodes[0], &prefix);
        assert_eq!(self.nodes[0].purge_tag("owned").status, 200);
        self.fails.store(1, Ordering::SeqCst);
        target
    }

    fn ask(&self, target: &str, session: &str) -> crate::support::Reply {
        self.nodes[0].get(target, &[("Cookie", &format!("PHPSESSID={session}"))])
    }
}

#[test]
fn who_follows_a_fill_that_the_owner_could_not_do_waits_for_no_session_but_their_own() {
    let fleet = Fleet::open();
    let target = fleet.owned();
    let busy_page = format!("/checkout/cart?store={}&hold=12000", fleet.store);
    thread::scope(|scope| {
        let its = &fleet;
        let busy = scope.spawn(move || its.ask(&busy_page, "busy"));
        wait_until("the lock", PATIENCE, || {
            its.nodes[0].metric("parvis_sessions_locks_held ") == Some(1.0)
        });
        let asked = fleet.owner.count();
        let leads = scope.spawn(|| its.ask(&target, "busy"));
        wait_until("the owner", PATIENCE, || fleet.owner.count() > asked);
        // It follows now, while the owner is asked. Then the page has to be rendered here, and it is not the
        // leader's turn.
        let follower = told(&fleet.ask(&target, "free"));
        assert!(!busy.is_finished(), "it waited for the leader's session");
        assert_eq!(follower["id"], "free", "it has led in turn");
        told(&busy.join().expect("a reply"));
        assert_eq!(told(&leads.join().expect("a reply"))["id"], "free", "and rendered for both");
    });
}

#[test]
fn a_fill_that_has_waited_for_its_turn_is_done_in_it() {
    let shop = Shop::open(6, &[]);
    let queued = || shop.parvis.metric("parvis_sessions_queued ");
    thread::scope(|scope| {
        let busy = shop.begin(scope, "busy", "hold=2000");
        let page = "cacheable=60&req=page";
        let fill = scope.spawn(|| shop.get("/page", "PHPSESSID=busy; X-Magento-Vary=v", page));
        wait_until("the fill", PATIENCE, || queued() == Some(1.0));
        let other = scope.spawn(|| shop.ask("busy", "hold=500"));
        wait_until("the other request", PATIENCE, || queued() == Some(2.0));
        told(&busy.join().expect("a reply"));
        // Who gave its turn up when it came would find that of the other.
        assert_eq!(told(&fill.join().expect("a reply"))["visits"], 2);
        assert_eq!(told(&other.join().expect("a reply"))["visits"], 3);
    });
}
