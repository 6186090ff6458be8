//! When visitors wait: by hand, by time, and when more come than PHP can take.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::super::restart::{Successors, first_ends};
use super::super::support::parvis::Builder;
use super::super::support::process::wait_until;
use super::{HTML, PATIENCE, Shop, Visitor, room, set, wait_until_newcomers, waits};

#[test]
fn by_hand_it_is_on_for_the_fleet_and_stays_so_over_a_restart() {
    let shop = Shop::start();
    let off = |node: Builder| node.with("waiting_room.mode", "\"off\"").start();
    let (mut one, other) = (off(shop.node()), off(shop.another("web-2")));
    assert!(room(&one, &["status"]).starts_with("The waiting room is off.\n"));
    assert_eq!(Visitor::default().opens(&one, "/").status, 200);
    assert!(room(&one, &["on"]).starts_with("The waiting room is on, by command.\n"));
    assert!(waits(&Visitor::default().opens(&one, "/")), "at once");
    wait_until_newcomers("the other node", &other, true);
    let mut successors = Successors::new();
    successors.restart(&one);
    first_ends(&mut one);
    assert!(waits(&Visitor::default().opens(&one, "/")), "after a restart");
    let said = room(&other, &["status", "--json"]);
    assert!(said.contains("\"on\":true") && said.contains("\"by_hand\":true"), "{said}");
    room(&other, &["off"]);
    assert_eq!(Visitor::default().opens(&other, "/").status, 200);
    wait_until_newcomers("the first node", &one, false);
    assert!(room(&other, &["status"]).starts_with("The waiting room is off, by command"));
    assert!(room(&other, &["auto"]).starts_with("The waiting room is off.\n"));
}

#[test]
fn who_waits_is_counted_and_a_cleared_line_begins_anew() {
    let shop = Shop::start();
    let parvis = shop.node().start();
    let mut visitor = Visitor::default();
    assert!(waits(&visitor.opens(&parvis, "/")));
    wait_until("the count", PATIENCE, || {
        room(&parvis, &["status"]).contains("waiting              1\n")
    });
    assert!(parvis.metric("parvis_waiting_room_on ").is_some_and(|on| on > 0.0));
    room(&parvis, &["clear"]);
    let again = visitor.opens(&parvis, "/");
    assert!(waits(&again) && again.header("set-cookie").is_some(), "{again:?}");
}

fn at(from_now: &str) -> String {
    let ran = Command::new("date").args(["-u", "-d", from_now, "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(ran.expect("date").stdout).expect("a time").trim().to_owned()
}

#[test]
fn at_the_times_that_are_set_visitors_wait() {
    let shop = Shop::start();
    let spans = |from, until| format!("[\"{}/{}\"]", at(from), at(until));
    let parvis = shop.node().with("waiting_room.mode", "\"off\"");
    let parvis = parvis.with("waiting_room.times", &spans("1 hour", "2 hours")).start();
    assert_eq!(Visitor::default().opens(&parvis, "/").status, 200, "not yet");
    set(&parvis, "times", &spans("1 hour ago", "1 hour"));
    wait_until_newcomers("the time", &parvis, true);
    assert!(room(&parvis, &["status"]).contains("on, by waiting_room.times"));
    set(&parvis, "times", &spans("2 hours ago", "1 hour ago"));
    wait_until_newcomers("its end", &parvis, false);
}

#[test]
fn when_more_come_than_php_can_take_visitors_wait_until_it_is_calm() {
    let shop = Shop::start();
    let parvis = shop
        .node()
        .with("waiting_room.mode", "\"auto\"")
        .with("waiting_room.after", "\"2s\"")
        .with("waiting_room.calm", "\"2s\"")
        .with("waiting_room.admit", super::EVERYBODY)
        .with("waiting_room.refresh", "\"1s\"")
        .with("traffic.on", "false")
        .with("origin.concurrency_max", "2")
        .with("admission.adaptive", "false")
        .start();
    assert_eq!(Visitor::default().opens(&parvis, "/").status, 200);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Who is at the checkout does not wait in the room, and so goes on to wait for PHP.
        for _ in 0..12 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    Visitor::default().asks(&parvis, "GET", "/checkout/?hold=300", &[HTML]);
                }
            });
        }
        let looked = catch_unwind(AssertUnwindSafe(|| {
            wait_until("the room", PATIENCE, || room(&parvis, &["status"]).contains("on, by load"));
            assert!(waits(&Visitor::default().opens(&parvis, "/")));
        }));
        is_over.store(true, Ordering::Relaxed);
        looked.expect("visitors wait");
    });
    wait_until_newcomers("calm", &parvis, false);
}
