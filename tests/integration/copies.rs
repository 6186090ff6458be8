//! Large responses that leave often: from copies in a file in memory, with `sendfile`.

use std::io::Write as _;
use std::time::Duration;

use super::support::client::Client;
use super::support::origin::{Origin, page};
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

const PAGE_BYTES: usize = 150 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n";

/// Content of that page, of which no two versions and no two pages are alike.
fn content(target: &str, version: usize) -> String {
    let lines = (0..).map(|line| format!("{target} {version} {line}\n"));
    let mut content = String::new();
    lines
        .take_while(|line| {
            content.push_str(line);
            content.len() < PAGE_BYTES
        })
        .for_each(drop);
    content
}

/// Each request at the origin gets the next version.
fn shop() -> Origin {
    Origin::start(|seen, stream| {
        let tag = seen.target.trim_start_matches('/');
        let _ = stream.write_all(&page(&content(&seen.target, seen.number), tag));
    })
}

fn copies_bytes(parvis: &Parvis) -> i64 {
    parvis.metric("parvis_listen_copies_bytes ").expect("a metric") as i64
}

/// Asks for it until it leaves from a copy.
fn copied(parvis: &Parvis, target: &str) -> Reply {
    let before = copies_bytes(parvis);
    let mut reply = parvis.get(target, &[]);
    wait_until("a copy", PATIENCE, || {
        reply = parvis.get(target, &[]);
        copies_bytes(parvis) > before
    });
    reply
}

#[test]
fn what_leaves_from_a_copy_is_what_is_stored() {
    let origin = shop();
    let parvis = Parvis::before_http(origin.port).start();
    assert_eq!(copied(&parvis, "/a").text(), content("/a", 0));
    let mut client = Client::connect(parvis.port);
    for _ in 0..20 {
        let reply = client.exchange(REQUEST.as_bytes()).expect("a response");
        assert_eq!(reply.text(), content("/a", 0));
    }
    let part = parvis.get("/a", &[("Range", "bytes=100000-100009")]);
    assert_eq!(part.text(), &content("/a", 0)[100_000..100_010]);
    let gzip = parvis.get("/a", &[("Accept-Encoding", "gzip")]);
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(gzip.decoded(), content("/a", 0).into_bytes());
    assert!(parvis.ask("HEAD", "/a", &[], b"").body.is_empty());
    assert_eq!(origin.count(), 1);
}

#[test]
fn requests_that_came_at_once_are_answered_in_order() {
    let origin = shop();
    let parvis = Parvis::before_http(origin.port).start();
    copied(&parvis, "/a");
    copied(&parvis, "/b");
    let mut client = Client::connect(parvis.port);
    let other = REQUEST.replace("/a", "/b");
    // Far more than a socket takes, of which nothing is read before all was asked for.
    client.send(format!("{REQUEST}{other}").repeat(20).as_bytes());
    for _ in 0..20 {
        assert_eq!(client.read(false).expect("a response").text(), content("/a", 0));
        assert_eq!(client.read(false).expect("a response").text(), content("/b", 1));
    }
}

/// Requests that are sent without reading responses.
const ASKED: usize = 100;

#[test]
fn a_purge_ends_a_copy_and_frees_its_memory() {
    let origin = shop();
    let parvis = Parvis::before_http(origin.port).start();
    copied(&parvis, "/a");
    let mut slow = Client::connect(parvis.port);
    // More than the system takes of responses.
    slow.send(REQUEST.repeat(ASKED).as_bytes());
    assert_eq!(parvis.purge_tag("a").status, 200);
    assert_eq!(parvis.get("/a", &[]).text(), content("/a", 1));
    // What was on its way when it was purged comes as it was, what was not is new.
    let mut is_new = false;
    for _ in 0..ASKED {
        let text = slow.read(false).expect("a response").text();
        is_new = is_new || text == content("/a", 1);
        assert!(text == content("/a", usize::from(is_new)));
    }
    assert!(is_new);
    assert_eq!(parvis.purge_tag("a").status, 200);
    wait_until("less memory", PATIENCE, || copies_bytes(&parvis) == 0);
    assert_eq!(copied(&parvis, "/a").text(), content("/a", 2));
}

#[test]
fn copies_take_no_more_than_the_setting_says() {
    let origin = shop();
    let bound = 512 << 10;
    let parvis = Parvis::before_http(origin.port)
        .with("listen.sendfile_memory", &format!("\"{}KiB\"", bound >> 10))
        .start();
    // In turn, so that each takes the place of others.
    for round in 0..3 {
        for name in 0..8 {
            let target = format!("/{name}");
            for _ in 0..12 {
                assert_eq!(parvis.get(&target, &[]).text(), content(&target, name));
            }
            assert!(copies_bytes(&parvis) <= bound, "{target} in round {round}");
        }
    }
    assert!(copies_bytes(&parvis) > 0);
    assert_eq!(origin.count(), 8);
}

#[test]
fn without_memory_for_copies_there_are_none() {
    let origin = shop();
    let parvis = Parvis::before_http(origin.port).with("listen.sendfile_memory", "\"0\"").start();
    for _ in 0..50 {
        assert_eq!(parvis.get("/a", &[]).text(), content("/a", 0));
    }
    assert_eq!(copies_bytes(&parvis), 0);
}
