//! Each page is rendered once for all nodes of a release.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{PATIENCE, Shop, owned_by, pages};
use crate::support::Parvis;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

/// Asks for each page on each node, several at once; gives how many answers were no 200.
pub fn ask_all(nodes: &[Parvis], pages: usize, prefix: &str) -> usize {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::SeqCst);
                    if turn >= pages * nodes.len() {
                        return;
                    }
                    // The nodes take turns, so that most pages are asked for on several at once.
                    let (page, node) = (turn / nodes.len(), turn % nodes.len());
                    let reply = nodes[node].get(&format!("/{prefix}-{page}"), &[]);
                    if reply.status != 200 {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

#[test]
fn ten_nodes_render_a_page_once_and_without_a_secret_ten_times() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(10, &redis);
    let pages = pages();
    assert_eq!(ask_all(&nodes, pages, "once"), 0);
    let renders = shop.renders("/once");
    println!("{pages} pages were rendered {renders} times");
    assert!((pages..=pages * 11 / 10).contains(&renders), "{renders}");
    let lent: f64 = nodes.iter().filter_map(|node| node.metric("parvis_peers_lent_total ")).sum();
    assert!(lent >= (pages * 89 / 10) as f64, "{lent}");
    for node in &nodes {
        wait_until("storing", PATIENCE, || node.get("/once-7", &[]).is_hit());
    }
    drop(nodes);
    let alone = (1..=3).map(|at| {
        let url = format!("\"{}\"", redis.url());
        Parvis::before_http(shop.origin.port)
            .with("fleet.name", &format!("\"alone-{at}\""))
            .with("redis.url", &url)
            .start()
    });
    let alone: Vec<_> = alone.collect();
    assert_eq!(ask_all(&alone, 10, "thrice"), 0);
    assert_eq!(shop.renders("/thrice"), 30, "the check notices nodes that do not ask each other");
}

#[test]
fn what_comes_from_another_node_is_what_was_rendered_there() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "same");
    assert_eq!(shop.renders(&target), 1);
    for coding in ["identity", "gzip", "br"] {
        let accepted = [("Accept-Encoding", coding)];
        let [there, here] = [0, 1].map(|at| nodes[at].get(&target, &accepted));
        assert!(there.is_hit() && here.is_hit());
        assert_eq!(there.body, here.body, "{coding}");
        assert_eq!(there.decoded(), here.decoded(), "{coding}");
        for name in ["Content-Type", "Cache-Control", "ETag", "Vary", "Content-Encoding"] {
            assert_eq!(there.header(name), here.header(name), "{name}, {coding}");
        }
    }
}

#[test]
fn no_cookie_of_a_visitor_leaves_his_node() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    for page in 0..8 {
        let cookies = [("Cookie", "PHPSESSID=secret; form_key=secret")];
        nodes[1].get(&format!("/visit-{page}"), &cookies);
    }
    let came = nodes[1].metric("parvis_peers_borrowed_total ");
    let seen = shop.origin.seen();
    let without = seen.iter().filter(|seen| seen.header("Cookie").is_none()).count();
    assert!((1..8).contains(&without), "{without}");
    assert_eq!(came, Some(without as f64), "what was rendered elsewhere came without");
}

#[test]
fn what_is_rendered_by_the_session_is_rendered_where_the_visitor_is() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    let target = owned_by(&nodes[0], &nodes[1], "group");
    let cookies = [("Cookie", "PHPSESSID=a; X-Magento-Vary=wholesale")];
    assert_eq!(nodes[1].get(&target, &cookies).status, 200);
    let rendered = shop.origin.seen().pop().expect("a request");
    assert_eq!(rendered.header("Cookie"), Some("PHPSESSID=a; X-Magento-Vary=wholesale"));
    assert_eq!(shop.renders(&target), 2);
    wait_until("storing", PATIENCE, || nodes[1].get(&target, &cookies).is_hit());
    assert!(!nodes[0].get(&target, &cookies).is_hit(), "it is not the guest's page");
}

#[test]
fn what_is_uncacheable_stays_on_its_node_once_that_is_known() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = shop.nodes(2, &redis);
    for page in 0..8 {
        assert_eq!(nodes[1].get(&format!("/private-{page}"), &[]).status, 200);
    }
    let asked = |node: &Parvis| node.metric("parvis_peers_asked_total ");
    let before = asked(&nodes[1]);
    assert!(before > Some(0.0), "some of them are the other's");
    for _ in 0..3 {
        for page in 0..8 {
            let reply = nodes[1].get(&format!("/private-{page}"), &[]);
            assert!(reply.status == 200 && !reply.is_hit());
        }
    }
    assert_eq!(asked(&nodes[1]), before);
    nodes[1].ask("POST", "/checkout", &[], b"order");
    nodes[1].get("/customer/account", &[]);
    assert_eq!(asked(&nodes[1]), before, "what is passed never leaves");
}

#[test]
fn many_who_wait_for_one_page_on_all_nodes_wait_for_one_render() {
    let shop = Shop::with(|_| std::time::Duration::from_millis(300));
    let redis = Redis::start();
    let nodes = shop.nodes(4, &redis);
    std::thread::scope(|scope| {
        for node in nodes.iter().flat_map(|node| [node; 5]) {
            scope.spawn(move || assert_eq!(node.get("/herd", &[]).status, 200));
        }
    });
    assert_eq!(shop.renders("/herd"), 1);
}
