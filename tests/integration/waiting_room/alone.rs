//! A node without Redis, whose process is replaced.

use super::super::restart::{Successors, first_ends};
use super::super::support::process::wait_until;
use super::{EVERYBODY, NOBODY, PATIENCE, Visitor, room, set, waiting, waits};
use crate::support::Parvis;
use crate::support::php::Php;

#[test]
fn by_hand_it_stays_on_over_a_restart_without_redis_and_who_is_in_stays_in() {
    let php = Php::with_front_controller("room.php", 2);
    let parvis = waiting(Parvis::before_php(&php)).with("waiting_room.mode", "\"off\"");
    let mut parvis = parvis.with("waiting_room.admit", EVERYBODY).start();
    assert_eq!(Visitor::default().opens(&parvis, "/").status, 200);
    assert!(room(&parvis, &["on"]).starts_with("The waiting room is on, by command.\n"));
    let mut inside = Visitor::default();
    wait_until("the turn", PATIENCE, || !waits(&inside.opens(&parvis, "/")));
    set(&parvis, "admit", NOBODY);
    super::wait_until_newcomers("the settings", &parvis, true);
    let mut successors = Successors::new();
    for round in 0..2 {
        successors.restart(&parvis);
        if round == 0 {
            first_ends(&mut parvis);
        }
        assert!(waits(&Visitor::default().opens(&parvis, "/")), "after restart {round}");
        assert_eq!(inside.opens(&parvis, "/").status, 200, "after restart {round}");
        assert!(room(&parvis, &["status"]).starts_with("The waiting room is on, by command.\n"));
    }
}

#[test]
fn by_hand_it_stays_off_over_a_restart_without_redis_until_it_is_left_to_the_settings() {
    let php = Php::with_front_controller("room.php", 2);
    let mut parvis = waiting(Parvis::before_php(&php)).start();
    assert!(waits(&Visitor::default().opens(&parvis, "/")));
    room(&parvis, &["off"]);
    let mut successors = Successors::new();
    successors.restart(&parvis);
    first_ends(&mut parvis);
    assert_eq!(Visitor::default().opens(&parvis, "/").status, 200);
    assert!(room(&parvis, &["status"]).starts_with("The waiting room is off, by command"));
    room(&parvis, &["auto"]);
    successors.restart(&parvis);
    assert!(waits(&Visitor::default().opens(&parvis, "/")), "as the settings have it");
    assert!(room(&parvis, &["status"]).contains("on, by waiting_room.mode"));
}
