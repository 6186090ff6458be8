//! A place in the line, and the way in.

use std::time::{SystemTime, UNIX_EPOCH};

use parvis::tokens::{Purpose, Signer};

use super::super::support::Parvis;
use super::super::support::process::wait_until;
use super::{EVERYBODY, PATIENCE, SECRET, Shop, Visitor, set, waiting, waits};
use crate::support::php::Php;

#[test]
fn a_visitor_waits_and_comes_in_when_it_is_the_turn() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    let mut visitor = Visitor::default();
    let page = visitor.opens(&parvis, "/");
    assert!(waits(&page), "{page:?}");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-robots-tag"), Some("noindex"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let [cookie] = page.all("set-cookie")[..] else { panic!("{page:?}") };
    assert!(cookie.starts_with("parvis_place="), "{cookie}");
    assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    let place = visitor.cookie("parvis_place").expect("a place").to_owned();
    let again = visitor.opens(&parvis, "/");
    assert!(waits(&again) && again.header("set-cookie").is_none(), "{again:?}");
    assert_eq!(visitor.asks(&parvis, "HEAD", "/", &[super::HTML]).status, 503);
    set(&parvis, "admit", EVERYBODY);
    wait_until("her turn", PATIENCE, || !waits(&visitor.opens(&parvis, "/")));
    assert_eq!(visitor.cookie("parvis_place"), Some(&*place), "nobody drew anew");
    assert!(visitor.cookie("parvis_admitted").is_some());
    set(&parvis, "admit", super::NOBODY);
    super::wait_until_newcomers("the settings", &parvis, true);
    let inside = visitor.opens(&parvis, "/");
    assert_eq!(inside.status, 200, "who is in stays in");
    let log = parvis.access_log();
    assert!(log.contains("\"verdict\":\"refused\",\"reason\":\"waiting\""), "{log}");
}

#[test]
fn a_place_holds_on_the_other_node_and_so_does_the_way_in() {
    let shop = Shop::start();
    let (one, other) = (shop.node().start(), shop.another("web-2").start());
    let mut visitor = Visitor::default();
    assert!(waits(&visitor.opens(&one, "/")));
    let elsewhere = visitor.opens(&other, "/");
    assert!(waits(&elsewhere) && elsewhere.header("set-cookie").is_none(), "{elsewhere:?}");
    let mut second = Visitor::default();
    assert!(waits(&second.opens(&other, "/")));
    // The order is the fleet's: on each node the second one sees somebody before it.
    for node in [&one, &other] {
        wait_until("the line is known", PATIENCE, || {
            let page = second.opens(node, "/");
            assert!(page.header("set-cookie").is_none(), "{page:?}");
            page.text().contains("1 visitor is ahead of you")
        });
    }
    for node in [&one, &other] {
        set(node, "admit", EVERYBODY);
    }
    wait_until("the turn", PATIENCE, || !waits(&visitor.opens(&other, "/")));
    set(&one, "admit", super::NOBODY);
    set(&other, "admit", super::NOBODY);
    super::wait_until_newcomers("the settings", &one, true);
    assert_eq!(visitor.opens(&one, "/").status, 200, "admitted by the other node");
}

#[test]
fn without_redis_a_node_has_a_line_of_its_own() {
    let php = Php::with_front_controller("room.php", 2);
    let parvis = waiting(Parvis::before_php(&php)).start();
    let (mut first, mut second) = (Visitor::default(), Visitor::default());
    assert!(waits(&first.opens(&parvis, "/")) && waits(&second.opens(&parvis, "/")));
    wait_until("the line is known", PATIENCE, || {
        second.opens(&parvis, "/").text().contains("1 visitor is ahead of you")
    });
    set(&parvis, "admit", EVERYBODY);
    for visitor in [&mut first, &mut second] {
        wait_until("the turn", PATIENCE, || !waits(&visitor.opens(&parvis, "/")));
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The way in, as a node of this secret gives it.
fn way_in(secret: &str, purpose: Purpose, unix_seconds: u64) -> String {
    let numbers = [7_u64, 1, unix_seconds];
    let mut payload: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
    payload.push(1);
    Signer::new(secret.as_bytes()).sign(purpose, &payload)
}

fn place(secret: &str, purpose: Purpose, epoch: u64, number: u64) -> String {
    let payload: Vec<u8> = [epoch, number, now()].into_iter().flat_map(u64::to_be_bytes).collect();
    Signer::new(secret.as_bytes()).sign(purpose, &payload)
}

#[test]
fn a_forged_cookie_of_any_kind_is_refused() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    let opens = |name: &str, value: &str| {
        let mut visitor = Visitor::with(&[(name, value)]);
        let reply = visitor.opens(&parvis, "/");
        // Who brings nothing that counts gets a place at the end.
        (reply.status, reply.all("set-cookie").iter().any(|set| set.starts_with("parvis_place=")))
    };
    let real = way_in(SECRET, Purpose::Admitted, now());
    assert_eq!(opens("parvis_admitted", &real).0, 200, "a real one");
    let mut altered = real.clone().into_bytes();
    altered[3] = if altered[3] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("letters");
    for (what, token) in [
        ("another secret", way_in("a guess of somebody", Purpose::Admitted, now())),
        ("a place", way_in(SECRET, Purpose::WaitingPlace, now())),
        ("a challenge", way_in(SECRET, Purpose::Challenge, now())),
        ("too old", way_in(SECRET, Purpose::Admitted, now() - 3_600)),
        ("of the future", way_in(SECRET, Purpose::Admitted, now() + 3_600)),
        ("altered", altered),
        ("cut", real[..real.len() - 4].to_owned()),
        ("no token", "1".to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(opens("parvis_admitted", &token), (503, true), "{what}");
    }
    for (what, token) in [
        ("another secret", place("a guess of somebody", Purpose::WaitingPlace, 7, 1)),
        ("the way in", place(SECRET, Purpose::Admitted, 7, 1)),
        ("of another line", place(SECRET, Purpose::WaitingPlace, 7, 1)),
        ("no token", "AAAA".to_owned()),
    ] {
        assert_eq!(opens("parvis_place", &token), (503, true), "{what}");
    }
}

#[test]
fn without_its_seal_a_forged_way_in_would_be_taken() {
    let Some(binary) = std::env::var_os("PARVIS_FAULTY_BINARY") else {
        println!("left out: PARVIS_FAULTY_BINARY names no binary of the feature `faulty`");
        return;
    };
    let shop = Shop::start();
    let parvis = shop.node().faulty(binary.into(), "seals").start();
    let forged = way_in("a guess of somebody", Purpose::Admitted, now());
    assert_eq!(Visitor::with(&[("parvis_admitted", &forged)]).opens(&parvis, "/").status, 200);
}
