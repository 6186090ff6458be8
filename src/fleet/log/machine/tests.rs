//! What the machine makes of entries and of the log's end.

use super::*;

const EPOCH: Token = Token::new([1; 16]);

fn at(sequence: u8) -> Position {
    let entry = (sequence > 0).then(|| Token::new([sequence; 16]));
    Position { epoch: EPOCH, sequence: u64::from(sequence), entry }
}

fn entry(sequence: u8) -> Entry {
    let before = at(sequence - 1).entry;
    Entry { position: at(sequence), before, order: Some(Order::Soften) }
}

fn seconds(seconds: u64) -> Moment {
    Moment::from_milliseconds(seconds * 1_000)
}

fn found(end: Position) -> Machine {
    let proof_max = Duration::from_secs(5);
    let recent_age = Duration::from_mins(1);
    let mut machine = Machine::new(Limits { proof_max, recent_max: 2, recent_age });
    let actions = machine.end(machine.question(seconds(0)), end, seconds(0));
    assert!(matches!(actions[..], [Action::Soften(Cause::Started)]));
    machine
}

fn causes(actions: &[Action]) -> Vec<Cause> {
    let cause = |action: &Action| match action {
        // The order of these entries asks for it by itself.
        Action::Soften(Cause::Lost) => None,
        Action::Soften(cause) => Some(*cause),
        _ => None,
    };
    actions.iter().filter_map(cause).collect()
}

#[test]
fn a_look_counts_from_its_question_and_once_all_before_its_end_is_applied() {
    let mut machine = found(at(3));
    assert_eq!(machine.proven_until(), Some(seconds(5)));
    let question = machine.question(seconds(4));
    // The answer was long under way.
    assert!(machine.end(question, at(5), seconds(60)).is_empty());
    assert_eq!(machine.proven_until(), Some(seconds(5)));
    machine.entry(entry(4), seconds(60));
    assert_eq!(machine.proven_until(), Some(seconds(5)));
    machine.entry(entry(5), seconds(60));
    assert_eq!(machine.proven_until(), Some(seconds(9)));
}

#[test]
fn an_answer_that_entries_have_overtaken_is_no_end_that_went_back() {
    let mut machine = found(at(3));
    let question = machine.question(seconds(1));
    machine.entry(entry(4), seconds(1));
    assert!(machine.end(question, at(3), seconds(1)).is_empty());
    let question = machine.question(seconds(2));
    let actions = machine.end(question, at(3), seconds(2));
    assert_eq!(causes(&actions), [Cause::WentBack]);
}

#[test]
fn an_own_word_of_lost_purges_that_is_read_before_its_acknowledgement_is_no_other_log() {
    let mut machine = found(at(3));
    let name = Token::new([4; 16]);
    machine.appending(name, Order::Soften, seconds(1));
    assert_eq!(causes(&machine.entry(entry(4), seconds(1))), []);
    assert_eq!(causes(&machine.appended(name, (EPOCH, 4), seconds(1))), []);
}

#[test]
fn gaps_other_chains_and_other_epochs_are_told_apart() {
    let mut machine = found(at(3));
    assert_eq!(causes(&machine.entry(entry(4), seconds(1))), []);
    assert_eq!(causes(&machine.entry(entry(4), seconds(1))), [], "it was read before");
    assert_eq!(causes(&machine.entry(entry(6), seconds(1))), [Cause::Gap]);
    let other = Entry { before: Some(Token::new([9; 16])), ..entry(7) };
    assert_eq!(causes(&machine.entry(other, seconds(1))), [Cause::Rewritten]);
    let epoch = Token::new([2; 16]);
    let new = Entry { position: Position { epoch, ..at(1) }, before: None, order: None };
    let actions = machine.entry(new, seconds(1));
    assert_eq!(causes(&actions), [Cause::NewEpoch, Cause::Unreadable]);
}

#[test]
fn where_another_process_was_it_goes_on_and_proves_nothing_before_it_has_read_the_rest() {
    let proof_max = Duration::from_secs(5);
    let resumed = || {
        let limits = Limits { proof_max, recent_max: 2, recent_age: proof_max };
        let mut machine = Machine::new(limits);
        machine.resume(at(3));
        machine
    };
    let look = |machine: &mut Machine, end| {
        let question = machine.question(seconds(1));
        causes(&machine.end(question, end, seconds(1)))
    };
    let mut machine = resumed();
    assert_eq!(look(&mut machine, at(4)), []);
    assert_eq!(machine.proven_until(), None);
    machine.entry(entry(4), seconds(1));
    assert_eq!(machine.proven_until(), Some(seconds(6)));
    machine.resume(at(9));
    assert_eq!(machine.position(), Some(at(4)), "it knows the log by itself");
    let mut machine = resumed();
    assert_eq!(causes(&machine.entry(entry(5), seconds(1))), [Cause::Gap], "it was trimmed");
    assert_eq!(look(&mut resumed(), at(2)), [Cause::WentBack]);
    let other = Position { epoch: Token::new([2; 16]), ..at(3) };
    assert_eq!(look(&mut resumed(), other), [Cause::NewEpoch]);
    let other = Position { entry: Some(Token::new([9; 16])), ..at(3) };
    assert_eq!(look(&mut resumed(), other), [Cause::Rewritten]);
}

#[test]
fn of_several_places_to_go_on_from_the_first_counts() {
    let limits = Limits {
        proof_max: seconds(5).since(seconds(0)),
        recent_max: 2,
        recent_age: Duration::ZERO,
    };
    let mut machine = Machine::new(limits);
    assert!(machine.resume(at(7)) && machine.resume(at(3)) && machine.resume(at(5)));
    assert_eq!(machine.position(), Some(at(3)));
    assert!(!machine.resume(Position { epoch: Token::new([2; 16]), ..at(3) }), "another log");
    assert!(!machine.resume(Position { entry: Some(Token::new([9; 16])), ..at(3) }), "rewritten");
    assert!(machine.resume(at(3)));
    machine.entry(entry(4), seconds(1));
    assert!(!machine.resume(at(2)), "what is between is passed");
    assert_eq!(machine.position(), Some(at(4)));
}

#[test]
fn an_own_entry_whose_place_another_one_took_is_appended_again_whichever_is_known_first() {
    let name = Token::new([77; 16]);
    for is_acknowledged_first in [true, false] {
        let mut machine = found(at(3));
        machine.appending(name, Order::Soften, seconds(1));
        let mut actions = Vec::new();
        if is_acknowledged_first {
            actions.extend(machine.appended(name, (EPOCH, 4), seconds(1)));
            actions.extend(machine.entry(entry(4), seconds(1)));
        } else {
            actions.extend(machine.entry(entry(4), seconds(1)));
            actions.extend(machine.appended(name, (EPOCH, 4), seconds(1)));
        }
        assert_eq!(causes(&actions), [Cause::Rewritten]);
        let again = |action: &Action| match action {
            Action::AppendAgain(again) => again.iter().any(|(again, _)| *again == name),
            _ => false,
        };
        assert!(actions.iter().any(again));
    }
}

#[test]
fn a_number_that_another_entry_had_is_no_place_that_was_passed() {
    let mut machine = found(at(3));
    machine.entry(entry(4), seconds(1));
    assert_eq!(machine.has_passed(at(4)), Some(true));
    assert_eq!(machine.has_passed(at(5)), None, "not yet");
    // The master was lost with its tail, and this node has not heard of it: others are at a new entry 4.
    let anothers = Position { entry: Some(Token::new([44; 16])), ..at(4) };
    assert_eq!(machine.has_passed(anothers), Some(false));
    assert_eq!(machine.has_passed(Position { epoch: Token::new([2; 16]), ..at(4) }), None);
}

#[test]
fn no_place_is_told_while_an_own_entry_is_in_an_epoch_that_was_not_come_to() {
    let mut machine = found(at(3));
    let (epoch, name) = (Token::new([2; 16]), Token::new([77; 16]));
    machine.appending(name, Order::Soften, seconds(1));
    // Redis was flushed, and nothing but this acknowledgement tells so far.
    machine.appended(name, (epoch, 1), seconds(1));
    assert_eq!(machine.known(), None);
    let question = machine.question(seconds(2));
    let actions = machine.end(question, Position { epoch, ..at(0) }, seconds(2));
    assert_eq!(causes(&actions), [Cause::NewEpoch]);
    let own = Position { epoch, sequence: 1, entry: None };
    assert_eq!(machine.known(), Some(own), "that end was older than the own entry");
    let question = machine.question(seconds(3));
    machine.end(question, at(9), seconds(3));
    assert_eq!(machine.known(), Some(at(9)));
}

#[test]
fn own_entries_are_kept_up_to_their_number_and_age() {
    let mut machine = found(at(0));
    for number in 1..=3 {
        machine.appending(Token::new([number; 16]), Order::Soften, seconds(1));
    }
    assert_eq!((machine.own.len(), machine.own_names.len()), (2, 2));
    let mut actions = Vec::new();
    machine.append_again(&mut actions, seconds(62));
    assert!(actions.is_empty() && machine.own_names.is_empty());
}
