//! A shop that is being worked on stays so.

use super::super::support::Parvis;
use super::super::support::origin::{Origin, page};
use super::{Successors, first_ends};
use crate::apologies::command;

#[test]
fn maintenance_that_a_command_switched_on_outlives_a_restart_and_a_command_ends_it() {
    let origin = Origin::always(page("content", "t"));
    let mut parvis = Parvis::before_http(origin.port).start();
    let mut successors = Successors::new();
    assert_eq!(command(&parvis, "on"), "Maintenance is on, by command.\n");
    successors.restart(&parvis);
    first_ends(&mut parvis);
    assert_eq!(parvis.get("/page", &[]).status, 503);
    assert_eq!(command(&parvis, "status"), "Maintenance is on, by command.\n");
    successors.restart(&parvis);
    assert_eq!(parvis.get("/page", &[]).status, 503, "and another one");
    assert_eq!(command(&parvis, "off"), "Maintenance is off.\n");
    assert_eq!(parvis.get("/page", &[]).status, 200);
    successors.restart(&parvis);
    assert_eq!(parvis.get("/page", &[]).status, 200);
}
