use proptest::prelude::*;

use super::*;

const EPOCH: u64 = 5;

fn rules(visitors_max: u64) -> Rules {
    Rules { visitors_max, hold_ms: 300_000, idle_ms: 600_000, absent_ms: 45_000, waiting_max: 100 }
}

fn drawn(line: &mut Line, rules: &Rules, now_ms: u64) -> Ticket {
    match line.draw(false, rules, now_ms) {
        Drawn::Waits(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn ticket(number: u64) -> Ticket {
    Ticket { epoch: EPOCH, number }
}

fn grants(grants: u64) -> Step {
    Step { grants, ..Step::default() }
}

#[test]
fn who_came_first_comes_in_first() {
    let (mut line, rules) = (Line::new(EPOCH, 0), rules(2));
    let tickets: Vec<Ticket> = (0..3).map(|at| drawn(&mut line, &rules, at)).collect();
    assert_eq!(tickets, [ticket(1), ticket(2), ticket(3)]);
    assert_eq!(line.step(&grants(5), &rules, 10), 2, "there are two places");
    let inside: Vec<bool> = tickets.iter().map(|ticket| line.enter(*ticket, &rules, 20)).collect();
    assert_eq!(inside, [true, true, false]);
    let glance = line.glance();
    assert_eq!((glance.serving, glance.waiting, glance.inside), (2, 1, 2));
}

#[test]
fn nobody_comes_in_at_once_before_who_waits() {
    let (mut line, rules) = (Line::new(EPOCH, 0), rules(0));
    assert_eq!(line.draw(true, &rules, 0), Drawn::Inside(ticket(1)));
    assert_eq!(line.draw(false, &rules, 0), Drawn::Waits(ticket(2)));
    assert_eq!(line.draw(true, &rules, 0), Drawn::Waits(ticket(3)));
}

#[test]
fn a_dead_client_uses_nothing_up() {
    let (mut line, rules) = (Line::new(EPOCH, 0), rules(1));
    let (dead, alive) = (drawn(&mut line, &rules, 0), drawn(&mut line, &rules, 0));
    let seen = Step { seen: vec![alive.number], ..Step::default() };
    line.step(&seen, &rules, 40_000);
    assert_eq!(line.step(&grants(1), &rules, 46_000), 1);
    assert!(line.enter(alive, &rules, 46_000));
    assert!(!line.enter(dead, &rules, 46_000), "but it may come back");
    assert_eq!(line.glance().waiting, 1);
}

#[test]
fn a_client_without_cookies_keeps_a_place_from_others_for_a_short_while_alone() {
    let (mut line, rules) = (Line::new(EPOCH, 0), rules(2));
    assert!(matches!(line.draw(true, &rules, 0), Drawn::Inside(_)));
    let waits = drawn(&mut line, &rules, 0);
    assert_eq!(line.step(&grants(1), &rules, 0), 1);
    assert_eq!(line.step(&grants(0), &rules, 44_999), 0);
    assert_eq!(line.glance().inside, 2);
    line.step(&grants(0), &rules, 45_000);
    assert_eq!(line.glance().inside, 0);
    assert!(!line.enter(waits, &rules, 45_000));
}

#[test]
fn who_comes_late_is_first_in_line_with_the_old_ticket() {
    let (mut line, rules) = (Line::new(EPOCH, 0), rules(1));
    let (late, next) = (drawn(&mut line, &rules, 0), drawn(&mut line, &rules, 0));
    let both = Step { seen: vec![late.number, next.number], stayed: Vec::new(), grants: 1 };
    assert_eq!(line.step(&both, &rules, 1_000), 1);
    let see_next = Step { seen: vec![next.number], ..Step::default() };
    for second in (15..=300).step_by(15) {
        line.step(&see_next, &rules, second * 1_000);
    }
    // The place was kept for five minutes, and is gone.
    assert_eq!(line.step(&grants(0), &rules, 301_000), 0);
    assert_eq!(line.glance().inside, 0);
    assert!(!line.enter(late, &rules, 302_000));
    assert_eq!(line.step(&grants(1), &rules, 303_000), 1);
    assert!(line.enter(late, &rules, 304_000), "before who came after");
    assert!(!line.enter(next, &rules, 304_000));
}

#[test]
fn a_full_line_takes_nobody() {
    let (mut line, rules) = (Line::new(EPOCH, 0), Rules { waiting_max: 2, ..rules(0) });
    let gone = drawn(&mut line, &rules, 0);
    line.step(&grants(0), &rules, 50_000);
    drawn(&mut line, &rules, 50_000);
    drawn(&mut line, &rules, 50_000);
    assert_eq!(line.draw(false, &rules, 50_000), Drawn::Full);
    assert!(!line.enter(gone, &rules, 50_000));
    assert_eq!(line.glance().waiting, 2, "nor anybody back");
}

#[test]
fn places_of_whom_nobody_knows_count_until_they_show() {
    let (mut line, rules) = (Line::new(EPOCH, 0), rules(3));
    line.reserve(3, 600_000);
    drawn(&mut line, &rules, 0);
    assert_eq!(line.step(&grants(1), &rules, 0), 0);
    let foreign = Ticket { epoch: 4, number: 9 };
    let stayed = Step { stayed: vec![foreign], grants: 1, ..Step::default() };
    assert_eq!(line.step(&stayed, &rules, 1_000), 0, "one of the three");
    assert_eq!(line.known_inside(), [foreign]);
    let seen = Step { seen: vec![1], grants: 1, ..Step::default() };
    assert_eq!(line.step(&seen, &rules, 600_000), 1);
    assert_eq!(line.glance().inside, 2);
}

proptest! {
    /// Whatever visitors do, places are never more than there are, and nobody comes in who was not called.
    #[test]
    fn the_budget_holds(
        visitors_max in 1..5_u64,
        steps in prop::collection::vec((0..4_u8, 1..12_u64, 0..40_000_u64), 1..200),
    ) {
        let (mut line, rules) = (Line::new(EPOCH, 0), rules(visitors_max));
        let mut now_ms = 0;
        for (what, number, passes_ms) in steps {
            now_ms += passes_ms;
            match what {
                0 => drop(line.draw(number % 2 == 0, &rules, now_ms)),
                1 => {
                    let called = line.enter(ticket(number), &rules, now_ms);
                    prop_assert!(!called || number <= line.glance().serving);
                }
                2 => drop(line.step(&grants(number), &rules, now_ms)),
                _ => {
                    let seen = Step { seen: vec![number], ..Step::default() };
                    line.step(&seen, &rules, now_ms);
                }
            }
            prop_assert!(line.glance().inside <= visitors_max);
        }
    }
}
