//! A purge is not undone by pages that are taken in advance.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parvis::fleet::log::Token;
use parvis::fleet::peer::message::{Place, Why};
use parvis::fleet::peer::warm_message::{Hottest, HottestAsk, Parcel, TakeAsk, encode_parcels};

use super::{health, heat, stat, wait_until_ready};
use crate::peers::played::{Giver, ask};
use crate::peers::{PATIENCE, Random, SECRET, Shop, version};
use crate::support::Parvis;
use crate::support::process::{free_port, wait_until};
use crate::support::redis::Redis;

/// What a node without a release says.
fn hottest_ask(keyspace: u64) -> HottestAsk {
    HottestAsk { release: Bytes::new(), keyspace, pages_max: 10, heir: None }
}

/// What keys mean with the settings of these tests.
fn keyspace() -> u64 {
    let settings = parvis::settings::Settings::default();
    parvis::policy::Policy::new(&settings).expect("valid").keyspace()
}

/// A page as it was before a change, the list that names it, and the place of who has it.
fn old_page(shop: &Shop, redis: &Redis) -> (Hottest, Parcel) {
    let port = free_port();
    let listen = format!("\"127.0.0.1:{port}\"");
    let node = shop.node("web-0", redis).with("fleet.listen", &listen).start();
    wait_until_ready(&node);
    heat(&node, "old", 1);
    let list = ask(port, &hottest_ask(keyspace())).expect("a list");
    assert_eq!(list.pages.len(), 1);
    let place = place_of(redis);
    let keys = vec![list.pages[0].key.clone()];
    let take = TakeAsk { place, release: Bytes::new(), keyspace: keyspace(), keys };
    let parcels = ask(port, &take).expect("pages");
    let parcel = parcels.into_iter().next().flatten().expect("the page");
    // Answers that nobody may have.
    let ahead = TakeAsk { place: Place { sequence: place.sequence + 1, ..place }, ..take.clone() };
    assert_eq!(ask(port, &ahead), Err(Why::Behind), "it has not read the log so far");
    let elsewhere =
        TakeAsk { place: Place { epoch: Token::new([9; 16]), ..place }, ..take.clone() };
    assert_eq!(ask(port, &elsewhere), Err(Why::Behind), "another log");
    let of_release = TakeAsk { release: Bytes::from_static(b"other"), ..take.clone() };
    assert_eq!(ask(port, &of_release), Err(Why::Release));
    let other_keys = TakeAsk { keyspace: 1, ..take };
    assert_eq!(ask(port, &other_keys), Err(Why::Key));
    assert_eq!(ask(port, &hottest_ask(1)), Err(Why::Key));
    (list, parcel)
}

/// The end of the log.
fn place_of(redis: &Redis) -> Place {
    let head = redis.ask(&["hmget", "{parvis}:head", "epoch", "sequence", "entry"]);
    let lines: Vec<&str> = head.lines().map(str::trim).collect();
    let token = |at: usize| lines.get(at).and_then(|name| Token::parse(name.as_bytes()));
    let epoch = token(0).expect("an epoch");
    Place { epoch, sequence: lines[1].parse().expect("a number"), entry: token(2) }
}

/// A node that joins, and is given the old page after what the test does meanwhile.
fn joined(meanwhile: impl FnOnce(&Shop, &Parvis)) -> (Shop, Redis, Parvis) {
    let (shop, redis) = (Shop::open(), Redis::start());
    let (list, parcel) = old_page(&shop, &redis);
    let giver = Giver::with(list, &redis);
    let node = shop.node("web-1", &redis).start();
    let asked = giver.asked.recv_timeout(PATIENCE).expect("it asks for the page");
    assert_eq!(health(&node).0, 503);
    meanwhile(&shop, &node);
    asked.answer_with(&encode_parcels(&Ok(vec![Some(parcel)])), SECRET);
    wait_until_ready(&node);
    redis.ask(&["srem", "{parvis}:nodes", "played"]);
    wait_until("the giver to be gone", PATIENCE, || {
        node.metric("parvis_peers_known ") == Some(0.0)
    });
    (shop, redis, node)
}

#[test]
fn a_page_that_is_purged_on_its_way_is_not_stored() {
    let (shop, _redis, node) = joined(|shop, node| {
        shop.commit();
        assert_eq!(node.purge_tag("old-0").status, 200);
    });
    assert_eq!(stat(&node, "warm", "refused_total"), Some(1));
    assert_eq!(version(&node, "/old-0"), 1);
    assert_eq!(shop.renders("/old-0"), 2);
}

#[test]
fn without_a_purge_it_is_which_shows_that_the_check_above_notices() {
    let (shop, _redis, node) = joined(|shop, _| {
        shop.commit();
    });
    assert_eq!(stat(&node, "warm", "taken_total"), Some(1));
    assert_eq!(version(&node, "/old-0"), 0);
    assert!(node.get("/old-0", &[]).is_hit());
    assert_eq!(shop.renders("/old-0"), 1);
}

#[test]
fn a_page_from_before_a_commit_is_purged_again_on_the_node_that_took_it() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let first = shop.node("web-1", &redis).with("purge.echo", "\"4s\"").start();
    wait_until_ready(&first);
    // Magento purges, and commits afterwards; meanwhile a visitor has the old page rendered.
    assert_eq!(first.purge_tag("echo-0").status, 200);
    heat(&first, "echo", 1);
    assert_eq!(version(&first, "/echo-0"), 0);
    let second = shop.node("web-2", &redis).with("purge.echo", "\"4s\"").start();
    wait_until_ready(&second);
    assert_eq!(version(&second, "/echo-0"), 0);
    assert!(second.get("/echo-0", &[]).is_hit(), "it was taken");
    let committed = shop.commit();
    for node in [&first, &second] {
        wait_until("the echo", PATIENCE, || version(node, "/echo-0") == committed);
    }
}

#[test]
fn while_purges_go_on_no_page_that_was_taken_is_older_than_one_that_was_answered() {
    const PAGES: u64 = 40;
    let (shop, redis) = (Shop::open(), Redis::start());
    let target = |page: u64| format!("/large-{page}");
    let first = shop.node("web-1", &redis).start();
    wait_until_ready(&first);
    heat(&first, "large", PAGES as usize);
    // Slow enough that most of the purges come while pages are on their way.
    let second = shop.node("web-2", &redis).with("fleet.warm_rate", "\"128KiB\"").start();
    let (purges, reads, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            while !is_over.load(Ordering::SeqCst) {
                let page = target(random.next() % PAGES);
                let committed = shop.commit();
                let pattern = format!("((^|,){}(,|$))", &page[1..]);
                let waiting =
                    [("X-Magento-Tags-Pattern", &pattern[..]), ("X-Parvis-Wait", "fleet")];
                let answer = [&first, &second][(random.next() % 2) as usize]
                    .ask("PURGE", "/", &waiting, b"");
                // Where a node lags, nothing is known of it.
                if answer.header("x-parvis-reach") == Some("fleet") {
                    purges.fetch_add(1, Ordering::SeqCst);
                    for node in [&second, &first] {
                        let seen = version(node, &page);
                        assert!(seen >= committed, "{page}: {seen} after {committed} was purged");
                        reads.fetch_add(1, Ordering::SeqCst);
                    }
                }
                // It is asked for again, so that it is worth to be taken.
                (0..2).for_each(|_| assert_eq!(first.get(&page, &[]).status, 200));
            }
        });
        wait_until_ready(&second);
        std::thread::sleep(std::time::Duration::from_millis(500));
        is_over.store(true, Ordering::SeqCst);
    });
    let (purges, reads) = (purges.into_inner(), reads.into_inner());
    let taken = stat(&second, "warm", "taken_total");
    println!("{purges} purges, {reads} reads, {taken:?} pages taken");
    assert!(purges > 20 && taken > Some(0), "{purges} purges, {taken:?} taken");
}
