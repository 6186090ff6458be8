//! More than PHP can do.

use std::process::Command;

use super::*;
use crate::support::parvis::program;

const CHILDREN: usize = 4;

/// 4 children of 100 ms do 40 requests a second; 80 clients ask for pages as fast as they can, and 2 order. What the
/// latter and the former got.
fn overload(classes: &str) -> ([usize; 3], [usize; 3], Parvis, Php) {
    let php = Php::with_front_controller("work.php", CHILDREN);
    let parvis = before(&php, CHILDREN).with("origin.queue_max", "40").with_toml(classes).start();
    let pages = Clients::start(&parvis, 80, "/page?work=100");
    wait_until("overload", Duration::from_secs(20), || pages.seen()[1] > 20);
    let orders = Clients::start(&parvis, 2, "/checkout/order?work=100");
    let enough = |orders: [usize; 3]| orders.iter().sum::<usize>() >= 30;
    wait_until("orders", Duration::from_secs(60), || enough(orders.seen()));
    (orders.stop(), pages.stop(), parvis, php)
}

#[test]
fn five_times_too_much_costs_pages_and_no_order() {
    let (orders, pages, parvis, _php) = overload(TWO_CLASSES);
    assert_eq!((orders[1], orders[2]), (0, 0), "{orders:?}");
    assert!(pages[1] > 0 && pages[2] == 0, "{pages:?}");
    assert!(pages[0] > 0, "pages have their share: {pages:?}");
    let dropped = ["full", "put_out", "too_long"].map(|why| {
        let name = format!("parvis_admission_{why}_total{{class=\"pages\"}}");
        parvis.metric(&name).expect("shown")
    });
    assert_eq!(Some(dropped.iter().sum::<f64>()), Some(pages[1] as f64), "{dropped:?}");
    assert!(dropped[1] > 0.0, "orders took their seats: {dropped:?}");
    // When it is over, all is as before.
    assert_eq!(parvis.metric("parvis_origin_queued "), Some(0.0));
    assert_eq!(parvis.metric("parvis_origin_in_use "), Some(0.0));
    assert_eq!(parvis.get("/page?work=1&after", &[]).status, 200);
}

#[test]
fn without_classes_orders_are_lost_with_the_pages() {
    let (orders, ..) = overload(ONE_CLASS);
    assert!(orders[1] > 0, "{orders:?}");
}

/// The places in which requests were answered that came one after the other while PHP was busy.
fn order_of_answers(lifo_after: &str) -> Vec<usize> {
    let php = Php::with_front_controller("work.php", 1);
    let parvis = before(&php, 1)
        .with("admission.lifo_after", lifo_after)
        .with_toml("[[admission.class]]\nname = \"all\"\nrank = 5\n")
        .start();
    let busy = occupy(&parvis, 2_000);
    let answered = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = (1..=3)
        .map(|number| {
            let reply = queue(&parvis, &format!("/page?work=200&n={number}"), number);
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                assert_eq!(reply.join().expect("no panic").status, 200);
                answered.fetch_add(1, Ordering::SeqCst)
            })
        })
        .collect();
    busy.join().expect("no panic");
    waiting.into_iter().map(|place| place.join().expect("no panic")).collect()
}

#[test]
fn the_last_come_goes_first_once_the_first_has_waited_for_long() {
    assert_eq!(order_of_answers("\"100ms\""), [2, 1, 0]);
    assert_eq!(order_of_answers("\"1h\""), [0, 1, 2]);
}

#[test]
fn who_waits_too_long_is_told_so_and_so_is_who_finds_the_queue_full() {
    let php = Php::with_front_controller("work.php", 1);
    let class = "[[admission.class]]\nname = \"all\"\nrank = 5\nqueue_timeout = \"300ms\"\n";
    let parvis = before(&php, 1).with("origin.queue_max", "1").with_toml(class).start();
    let busy = occupy(&parvis, 3_000);
    let late = queue(&parvis, "/late", 1);
    let full = parvis.get("/full", &[]);
    let late = late.join().expect("no panic");
    assert!(!busy.is_finished());
    for (reply, reason) in [(&full, "origin-busy"), (&late, "queue-timeout")] {
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
        assert!(reply.cache_status().ends_with(reason), "{}", reply.cache_status());
    }
    let metric = |name: &str| parvis.metric(&format!("parvis_admission_{name}{{class=\"all\"}}"));
    assert_eq!((metric("full_total"), metric("too_long_total")), (Some(1.0), Some(1.0)));
    busy.join().expect("no panic");
    wait_until("the log", Duration::from_secs(10), || {
        let log = parvis.access_log();
        log.contains("\"reason\":\"queue-timeout\"") && log.contains("\"queued_seconds\":0.3")
    });
}

const BOTS_FIRST_OUT: &str = "[[admission.class]]\nname = \"bots\"\nrank = 9\nqueue_timeout = \"BOTS\"\n\
    user_agents = [\"bot\"]\n[[admission.class]]\nname = \"pages\"\nrank = 5\n";

/// A bot waits for a page for as long as its class may; with a visitor who follows it, or none. What both got.
fn bot_and_visitor(bots_wait: &str, with_visitor: bool) -> (u16, Option<u16>) {
    let php = Php::with_front_controller("work.php", 1);
    let classes = BOTS_FIRST_OUT.replace("BOTS", bots_wait);
    let parvis = before(&php, 1).with_toml(&classes).start();
    let busy = occupy(&parvis, 4_000);
    let port = parvis.port;
    let bot = thread::spawn(move || client::get(port, "/page", &[("User-Agent", "a bot")]));
    wait_until("the bot in the queue", Duration::from_secs(10), || {
        parvis.metric("parvis_origin_queued ") == Some(1.0)
    });
    let visitor = with_visitor.then(|| ask_beside(&parvis, "/page"));
    let bot = bot.join().expect("no panic").status;
    let visitor = visitor.map(|visitor| visitor.join().expect("no panic").status);
    busy.join().expect("no panic");
    (bot, visitor)
}

#[test]
fn who_follows_a_bot_that_waited_too_long_asks_for_a_seat_of_its_own() {
    // A seat is lifted each half second: not before this.
    assert_eq!(bot_and_visitor("300ms", true), (503, Some(200)));
}

#[test]
fn who_follows_a_bot_lifts_its_seat() {
    assert_eq!(bot_and_visitor("2s", true), (200, Some(200)));
}

#[test]
fn a_bot_that_nobody_follows_waits_for_as_long_as_bots_do() {
    assert_eq!(bot_and_visitor("2s", false), (503, None));
}

#[test]
fn a_client_that_leaves_gives_its_seat_up() {
    let php = Php::with_front_controller("work.php", 1);
    let parvis = before(&php, 1).with("origin.queue_max", "1").start();
    let busy = occupy(&parvis, 2_000);
    let mut leaves = client::Client::connect(parvis.port);
    leaves.send(b"POST /checkout/x HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n");
    let waits = |waiting: f64| parvis.metric("parvis_origin_queued ") == Some(waiting);
    wait_until("the queue", Duration::from_secs(10), || waits(1.0));
    drop(leaves);
    wait_until("its seat", Duration::from_secs(10), || waits(0.0));
    assert!(!busy.is_finished());
    assert_eq!(parvis.metric("parvis_admission_left_total{class=\"checkout\"}"), Some(1.0));
    busy.join().expect("no panic");
}

#[test]
fn who_can_get_something_stale_does_not_wait_for_a_place() {
    let php = Php::with_front_controller("work.php", 1);
    let parvis = before(&php, 1).with("store.grace", "0").start();
    assert_eq!(parvis.get("/page", &[]).status, 200);
    wait_until("storing", Duration::from_secs(5), || parvis.get("/page", &[]).is_hit());
    let soft = client::request(
        parvis.control,
        "POST",
        "/purge",
        &[("Content-Type", "application/json")],
        b"{\"all\":true,\"soft\":true}",
    );
    assert_eq!(soft.status, 200, "{}", soft.text());
    let busy = occupy(&parvis, 3_000);
    for _ in 0..3 {
        let stale = parvis.get("/page", &[]);
        assert_eq!(stale.status, 200);
        assert!(stale.cache_status().ends_with("detail=origin-busy"), "{}", stale.cache_status());
    }
    assert!(!busy.is_finished());
    busy.join().expect("no panic");
    wait_until("the refresh", Duration::from_secs(10), || parvis.get("/page", &[]).is_hit());
}

#[test]
fn a_class_that_can_never_match_is_a_mistake_that_names_both() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("parvis.toml");
    let text = "[[admission.class]]\nname = \"shop\"\nrank = 1\npaths = [\"/checkout\"]\n\
        [[admission.class]]\nname = \"cart\"\nrank = 2\npaths = [\"/checkout/cart\"]\n\
        [[admission.class]]\nname = \"rest\"\nrank = 6\n";
    std::fs::write(&file, text).expect("written");
    let checked =
        Command::new(program()).arg("check").arg("--config").arg(&file).output().expect("runs");
    assert_eq!(checked.status.code(), Some(2));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    let expected = "parvis.toml:5: admission.class#2: the class cart can never match: whatever it \
                    matches, the class shop before it matches first";
    assert!(said.contains(expected), "{said}");
}
