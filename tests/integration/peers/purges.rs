//! A purge is not undone by a page that comes from another node.

use std::time::Duration;

use parvis::fleet::log::Token;
use parvis::fleet::peer::message::{Answer, Ask, Place, Why};

use super::played::{Played, ask};
use super::{PATIENCE, SECRET, Shop, owned_by, started, version};
use crate::support::Parvis;
use crate::support::origin::Seen;
use crate::support::process::{free_port, wait_until};
use crate::support::redis::Redis;

/// Asks the node for a page that a played node owns, which answers with an old one; between question
/// and answer the test does what it wants. Gives the target.
fn old_page(node: &Parvis, redis: &Redis, meanwhile: impl FnOnce(&str)) -> String {
    let played = Played::beside(node, redis);
    let (target, reply) = played.when_asked(node, "old", |target, asked| {
        meanwhile(target.trim_start_matches('/'));
        let old = asked.page("0 old");
        asked.answer(&old, SECRET);
    });
    assert_eq!(reply.status, 200);
    target
}

#[test]
fn a_page_that_was_rendered_before_a_purge_is_not_stored_after_it() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis).start();
    let target = old_page(&node, &redis, |tag| {
        shop.commit();
        assert_eq!(node.purge_tag(tag).status, 200);
    });
    assert_eq!(version(&node, &target), 1);
    assert!(shop.renders(&target) > 0);
}

#[test]
fn without_a_purge_in_between_it_is_stored_which_shows_that_the_check_above_notices() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis).start();
    let target = old_page(&node, &redis, |_| {
        shop.commit();
    });
    assert_eq!((version(&node, &target), shop.renders(&target)), (0, 0));
    assert!(node.get(&target, &[]).is_hit());
}

#[test]
fn a_node_gives_nothing_before_it_has_read_the_log_as_far_as_who_asks() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let port = free_port();
    let listen = format!("\"127.0.0.1:{port}\"");
    let node = shop.node("web-1", &redis).with("fleet.listen", &listen).start();
    let played = Played::beside(&node, &redis);
    assert_eq!(node.purge_tag("something").status, 200);
    let mut question = None;
    played.when_asked(&node, "ahead", |_, asked| {
        question = Some(asked.ask.clone());
        asked.answer(&Answer::Nothing(Why::NotStored), SECRET);
    });
    let question = question.expect("asked");
    let place = question.place;
    assert_eq!(place.sequence, 1);
    let answer = |question: &Ask| ask(port, question).answer;
    assert!(matches!(answer(&question), Answer::Page { .. }), "it is here by now");
    let ahead = Ask { place: Place { sequence: 2, ..place }, ..question.clone() };
    assert_eq!(answer(&ahead), Answer::Nothing(Why::Behind));
    let elsewhere =
        Ask { place: Place { epoch: Token::new([9; 16]), ..place }, ..question.clone() };
    assert_eq!(answer(&elsewhere), Answer::Nothing(Why::Behind), "another log");
    let rewritten = Place { entry: Some(Token::new([9; 16])), ..place };
    let rewritten = Ask { place: rewritten, ..question.clone() };
    assert_eq!(answer(&rewritten), Answer::Nothing(Why::Behind), "another entry of that number");
    let of_release = Ask { release: "other".into(), ..question.clone() };
    assert_eq!(answer(&of_release), Answer::Nothing(Why::Release));
    let other_key = Ask { key: "other".into(), ..question };
    assert_eq!(answer(&other_key), Answer::Nothing(Why::Key));
}

#[test]
fn an_owner_which_reads_of_a_purge_just_now_gives_nothing_from_before_it() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "versions");
    let tag = target.trim_start_matches('/');
    for _ in 0..100 {
        let committed = shop.commit();
        assert_eq!(nodes[1].purge_tag(tag).status, 200);
        assert_eq!(version(&nodes[1], &target), committed);
    }
}

#[test]
fn a_purge_while_the_owner_renders_is_not_undone_on_any_node() {
    let slow = |seen: &Seen| Duration::from_millis(300 * u64::from(seen.number > 20));
    let (shop, redis) = (Shop::with(slow), Redis::start());
    let nodes = shop.nodes(2, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "purged");
    let tag = target.trim_start_matches('/');
    while shop.origin.count() <= 20 {
        nodes[0].get(&format!("/more-{}", shop.origin.count()), &[]);
    }
    for round in 0..4 {
        assert_eq!(nodes[0].purge_tag(tag).status, 200);
        wait_until("the purge", PATIENCE, || position(&nodes[1]) == position(&nodes[0]));
        std::thread::scope(|scope| {
            let renders = shop.renders(&target);
            let asking = scope.spawn(|| nodes[1].get(&target, &[]));
            wait_until("rendering", PATIENCE, || shop.renders(&target) > renders);
            let committed = shop.commit();
            assert_eq!(nodes[round % 2].purge_tag(tag).status, 200);
            assert_eq!(asking.join().expect("asked").status, 200);
            wait_until("the log", PATIENCE, || position(&nodes[1]) == position(&nodes[0]));
            assert_eq!([0, 1].map(|at| version(&nodes[at], &target)), [committed; 2]);
        });
    }
}

/// The purge of the one who asks was lost to the owner, with the log that it had read: it only knows that it missed some.
#[test]
fn what_its_owner_marked_stale_for_purges_that_it_missed_is_not_brought_back_by_who_purged_it() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "missed");
    // The new log is shorter than what was read of the old one, so its entries are not read one by one.
    for _ in 0..5 {
        assert_eq!(nodes[0].purge_tag("other").status, 200);
    }
    wait_until("the log", PATIENCE, || position(&nodes[1]) == position(&nodes[0]));
    let softened = || nodes[0].metric("parvis_fleet_softened_total ");
    let before = softened();
    nodes[0].process.stop();
    redis.ask(&["flushall"]);
    let committed = shop.commit();
    let purged = nodes[1].purge_tag(target.trim_start_matches('/'));
    assert!(matches!(purged.status, 200 | 202), "{}", purged.status);
    nodes[0].process.signal("CONT");
    wait_until("the owner to notice", PATIENCE, || softened() > before);
    let knows = |node: &Parvis| {
        node.metric("parvis_fleet_soft ") == Some(0.0)
            && node.metric("parvis_peers_known ") == Some(1.0)
    };
    wait_until("both to know the log and each other", PATIENCE, || nodes.iter().all(knows));
    wait_until("the log", PATIENCE, || position(&nodes[1]) == position(&nodes[0]));
    assert_eq!(version(&nodes[1], &target), committed);
}

fn position(node: &Parvis) -> Option<f64> {
    node.metric("parvis_fleet_position ")
}

#[test]
fn a_page_from_before_a_commit_is_purged_again_where_it_was_brought_to() {
    let (shop, redis) = (Shop::open(), Redis::start());
    // The node that asks has purged again before it asks, its owner not yet.
    let nodes = started(["3s", "100ms"].iter().enumerate().map(|(at, echo)| {
        shop.node(&format!("web-{at}"), &redis).with("purge.echo", &format!("\"{echo}\""))
    }));
    let target = owned_by(&nodes[0], &nodes[1], "echo");
    let tag = target.trim_start_matches('/');
    // Magento purges, and commits afterwards.
    assert_eq!(nodes[0].purge_tag(tag).status, 200);
    wait_until("the purge", PATIENCE, || position(&nodes[1]) == position(&nodes[0]));
    std::thread::sleep(Duration::from_millis(500));
    let old = version(&nodes[1], &target);
    let committed = shop.commit();
    assert_eq!(version(&nodes[1], &target), old, "stored before the commit");
    for node in &nodes {
        wait_until("the echo", PATIENCE, || version(node, &target) == committed);
    }
}
