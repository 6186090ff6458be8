//! A rush on the shop, over the line itself: 10,000 visitors come within ten seconds.

use std::collections::BTreeMap;

use super::arrivals::out_of_order;
use super::line::{Drawn, Line, Rules, Step, Ticket};
use crate::random::chance::mixed;

const VISITORS: usize = 10_000;
const VISITORS_MAX: u64 = 300;
/// Ten in a second.
const GRANTS: u64 = 5;
const TICK_MS: u64 = 500;
const REFRESH_MS: u64 = 15_000;

const RULES: Rules = Rules {
    visitors_max: VISITORS_MAX,
    hold_ms: 60_000,
    idle_ms: 30_000,
    absent_ms: 45_000,
    waiting_max: 100_000,
};

/// What a rush came to.
#[derive(Debug, Default)]
struct Outcome {
    /// Visitors by the order of their arrival, in the order in which they came in.
    entered: Vec<usize>,
    /// Most of them inside at once, who have a place.
    inside_max: usize,
}

/// What is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Places are not kept: a hundredth of looks draws a new ticket.
    Places,
    /// Places inside are not counted.
    Budget,
}

#[derive(Clone, Copy, Debug)]
enum Visitor {
    Comes,
    Waits(Ticket),
    Inside { until_ms: u64 },
    Gone,
}

fn loses_place(without: Without, visitor: usize, now_ms: u64) -> bool {
    without == Without::Places
        && mixed(now_ms.wrapping_mul(31) ^ visitor as u64).is_multiple_of(100)
}

/// Plays until all have been inside. Every tenth visitor goes away right after the first look.
fn rush(without: Without) -> Outcome {
    let rules =
        Rules { visitors_max: if without == Without::Budget { 0 } else { VISITORS_MAX }, ..RULES };
    let (mut line, mut outcome) = (Line::new(1, 0), Outcome::default());
    let mut visitors = vec![Visitor::Comes; VISITORS];
    let mut at: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for visitor in 0..VISITORS {
        at.entry(visitor as u64).or_default().push(visitor);
    }
    let (mut step, mut inside) = (Step::default(), 0_usize);
    let mut glance = line.glance();
    for now_ms in 0..3_600_000 {
        for visitor in at.remove(&now_ms).unwrap_or_default() {
            let ticket = match visitors[visitor] {
                Visitor::Inside { until_ms } if until_ms <= now_ms => {
                    visitors[visitor] = Visitor::Gone;
                    inside -= 1;
                    continue;
                }
                Visitor::Waits(_) if loses_place(without, visitor, now_ms) => None,
                Visitor::Waits(ticket) => Some(ticket),
                _ => None,
            };
            let drawn = match ticket {
                Some(ticket) if ticket.number > glance.serving => {
                    step.seen.push(ticket.number);
                    Drawn::Waits(ticket)
                }
                Some(ticket) if line.enter(ticket, &rules, now_ms) => Drawn::Inside(ticket),
                Some(ticket) => Drawn::Waits(ticket),
                None => line.draw(now_ms.is_multiple_of(10), &rules, now_ms),
            };
            match drawn {
                Drawn::Inside(_) => {
                    outcome.entered.push(visitor);
                    inside += 1;
                    let until_ms = now_ms + RULES.idle_ms;
                    visitors[visitor] = Visitor::Inside { until_ms };
                    at.entry(until_ms).or_default().push(visitor);
                }
                Drawn::Waits(_) if visitor % 10 == 9 => visitors[visitor] = Visitor::Gone,
                Drawn::Waits(ticket) => {
                    visitors[visitor] = Visitor::Waits(ticket);
                    let looks = REFRESH_MS + mixed(now_ms ^ visitor as u64) % 1_000;
                    at.entry(now_ms + looks).or_default().push(visitor);
                }
                Drawn::Full => panic!("the line is long enough"),
            }
            outcome.inside_max = outcome.inside_max.max(inside);
        }
        if now_ms.is_multiple_of(TICK_MS) {
            let told = Step { grants: GRANTS, ..std::mem::take(&mut step) };
            line.step(&told, &rules, now_ms);
            glance = line.glance();
            assert!(without == Without::Budget || glance.inside <= VISITORS_MAX);
        }
        if at.is_empty() {
            break;
        }
    }
    outcome
}

impl Outcome {
    /// Did all come in who stayed, within two percent of their order, and never too many of them?
    fn is_right(&self) -> bool {
        self.entered.len() >= VISITORS * 9 / 10
            && out_of_order(&self.entered) <= 0.02
            && self.inside_max as u64 <= VISITORS_MAX
    }
}

#[test]
fn ten_thousand_visitors_come_in_by_their_order_and_never_too_many_are_inside() {
    let outcome = rush(Without::Nothing);
    let (order, inside) = (out_of_order(&outcome.entered), outcome.inside_max);
    assert!(outcome.is_right(), "{} {order} {inside}", outcome.entered.len());
}

#[test]
fn the_simulation_notices_where_places_are_not_kept() {
    let outcome = rush(Without::Places);
    assert!(out_of_order(&outcome.entered) > 0.02, "{}", out_of_order(&outcome.entered));
}

#[test]
fn the_simulation_notices_where_nobody_counts_who_is_inside() {
    let outcome = rush(Without::Budget);
    assert!(outcome.inside_max as u64 > VISITORS_MAX, "{}", outcome.inside_max);
}
