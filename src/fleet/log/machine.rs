//! What a node knows of the log, as a state machine without I/O: entries and looks at the log's end
//! go in with the time, actions come out.
//!
//! **Position.** The entry up to which everything was applied: epoch, sequence, random name. An
//! entry continues it if it is of the same epoch, has the next sequence, and names the entry before
//! it. Anything else means that entries were missed or rewritten: everything tagged goes soft.
//!
//! **Proof.** A look at the end counts from the moment it was asked for, not from its answer: on a
//! connection that was half open, or in a process that was stopped, the answer may be old. It is
//! a proof once everything up to that end was applied. [`Machine::proven_until`] says how long the
//! last one counts.
//!
//! **Own entries.** What this node appended lately is kept. A tail that was lost with a master
//! is written again by those who wrote it first; applying twice is harmless.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::order::Order;
use super::position::Position;
use super::token::Token;
use crate::clock::Moment;

/// Looks at the end that wait until everything before it was applied. At one a heartbeat, a reader
/// that is this far behind is soft long since.
const LOOKS_MAX: usize = 64;

/// An entry as it was read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// The name of the entry before it.
    pub before: Option<Token>,
    /// What it asks for; `None`: it cannot be read.
    pub order: Option<Order>,
}

/// Why everything tagged goes soft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The node has just found the log: what it stored before may have missed purges.
    Started,
    /// Entries between the last one and this one are not there any more.
    Gap,
    /// An entry does not follow the one that was read before it.
    Rewritten,
    /// The log's end lies before what was read.
    WentBack,
    /// The log is another one: Redis has lost it.
    NewEpoch,
    /// An entry cannot be read.
    Unreadable,
    /// A node has lost purges, and says so in the log.
    Lost,
}

impl Cause {
    /// A sentence for the log.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Started => "the log of purges was found",
            Self::Gap => "entries of the log were trimmed before they were read",
            Self::Rewritten => "the log was rewritten, as by a failover that lost its tail",
            Self::WentBack => "the log's end went back, as by a failover that lost its tail",
            Self::NewEpoch => "the log is a new one, as after a flush of Redis",
            Self::Unreadable => "an entry of the log cannot be read",
            Self::Lost => "a node has lost purges that it kept while Redis was away",
        }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Apply what the entry asks for.
    Apply(Order),
    /// Everything tagged that is stored is stale from now on, and no fill that is under way counts
    /// as newer.
    Soften(Cause),
    /// Append these again, with the names they have.
    AppendAgain(Vec<(Token, Order)>),
}

/// Asked before a look at the end, and to be given back with its answer.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    asked_at: Moment,
    position: Option<Position>,
    /// The highest sequence that an own append was acknowledged with, and its epoch.
    acknowledged: Option<Place>,
}

/// What is known of an own entry.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Where the log has it, as its append was acknowledged.
    acknowledged: Option<Place>,
    /// Where it was read.
    read: Option<Place>,
}

/// An epoch and a sequence.
type Place = (Token, u64);

/// Which checks are made; all but in tests which show that their checker notices.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// That no sequence is left out, and that the end does not go back.
    pub gap: bool,
    /// That each entry names the one before it, and the end the entry that was read there.
    pub chain: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { gap: true, chain: true }
    }
}

/// What bounds the machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `fleet.proof_max`
    pub proof_max: Duration,
    /// `fleet.recent_max`
    pub recent_max: usize,
    /// `fleet.recent_age`
    pub recent_age: Duration,
}

/// An entry of this node.
#[derive(Clone, Debug)]
struct Own {
    name: Token,
    order: Order,
    made_at: Moment,
}

/// What a node knows of the log.
#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    checks: Checks,
    position: Option<Position>,
    looks: VecDeque<(Position, Moment)>,
    proven_at: Option<Moment>,
    own: VecDeque<Own>,
    /// Their names, and what is known of their places.
    own_names: HashMap<Token, Known>,
    own_places: HashMap<Place, Token>,
    acknowledged: Option<Place>,
}

impl Machine {
    /// A node that has not seen the log.
    pub fn new(limits: Limits) -> Self {
        Self::with_checks(limits, Checks::default())
    }

    /// The same with some checks left out.
    #[doc(hidden)]
    pub fn with_checks(limits: Limits, checks: Checks) -> Self {
        Self {
            limits,
            checks,
            position: None,
            looks: VecDeque::new(),
            proven_at: None,
            own: VecDeque::new(),
            own_names: HashMap::new(),
            own_places: HashMap::new(),
            acknowledged: None,
        }
    }

    /// Up to where everything was applied; `None` until the log was found.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Goes on where another process of this node, or one before it, was: everything up to there is
    /// applied to what this one stores. Of no effect once the log was found.
    pub fn resume(&mut self, position: Position) {
        self.position = self.position.or(Some(position));
    }

    /// The last entry that this node has applied: one that was read, or one of its own that the
    /// log has acknowledged. `None` until the log was found, and while one of its own is in another
    /// epoch, which this node has not come to: no place in this one says that it is known.
    pub fn known(&self) -> Option<(Token, u64)> {
        let Position { epoch, sequence, .. } = self.position?;
        match self.acknowledged {
            Some((of, own)) => (of == epoch).then_some((epoch, sequence.max(own))),
            None => Some((epoch, sequence)),
        }
    }

    /// Until when this node counts as knowing the log's end; `None`: it never did.
    pub fn proven_until(&self) -> Option<Moment> {
        self.proven_at.map(|at| at.plus(self.limits.proof_max))
    }

    /// To be called before a look at the end is asked for.
    pub fn question(&self, now: Moment) -> Question {
        Question { asked_at: now, position: self.position, acknowledged: self.acknowledged }
    }

    /// The answer: the log's end at some time after the question.
    pub fn end(&mut self, question: Question, end: Position, now: Moment) -> Vec<Action> {
        let Some(position) = self.position else {
            return self.start_over(question, end, Cause::Started, now);
        };
        if end.epoch != position.epoch {
            // The position may have moved to another epoch since the question; then the answer is
            // late, and the next one will say.
            let is_late = question.position.is_some_and(|asked| asked.epoch != position.epoch);
            return if is_late {
                Vec::new()
            } else {
                self.start_over(question, end, Cause::NewEpoch, now)
            };
        }
        let known = |known: Option<Place>| {
            known.filter(|(epoch, _)| *epoch == end.epoch).map_or(0, |(_, sequence)| sequence)
        };
        let asked = question.position.filter(|asked| asked.epoch == end.epoch);
        let asked = asked.map(|asked| (asked.epoch, asked.sequence));
        let read = known(asked).max(known(question.acknowledged));
        if self.checks.gap && end.sequence < read {
            return self.start_over(question, end, Cause::WentBack, now);
        }
        let is_here = end.sequence == position.sequence;
        if self.checks.chain && is_here && end.entry != position.entry {
            return self.start_over(question, end, Cause::Rewritten, now);
        }
        if end.sequence <= position.sequence {
            self.prove(question.asked_at);
        } else if self.looks.len() < LOOKS_MAX {
            self.looks.push_back((end, question.asked_at));
        }
        Vec::new()
    }

    /// An entry that was read behind the position.
    pub fn entry(&mut self, entry: Entry, now: Moment) -> Vec<Action> {
        let Some(position) = self.position else { return Vec::new() };
        let at = entry.position;
        let is_same_log = at.epoch == position.epoch;
        if is_same_log && at.sequence <= position.sequence {
            return Vec::new();
        }
        let mut actions = Vec::new();
        let is_next = at.sequence == position.sequence + 1;
        let broken = if !is_same_log {
            Some(Cause::NewEpoch)
        } else if self.checks.gap && !is_next {
            Some(Cause::Gap)
        } else if self.checks.chain && is_next && entry.before != position.entry {
            Some(Cause::Rewritten)
        } else {
            None
        };
        let broken = broken.or_else(|| self.took_anothers_place(at));
        if !is_same_log {
            self.forget_acknowledged_in(position.epoch);
        }
        self.position = Some(at);
        match broken {
            Some(cause) => {
                self.looks.clear();
                actions.push(Action::Soften(cause));
                if cause != Cause::Gap {
                    self.append_again(&mut actions, now);
                }
            }
            None => self.prove_by_looks(at),
        }
        match entry.order {
            None => actions.push(Action::Soften(Cause::Unreadable)),
            Some(Order::Soften) => actions.push(Action::Soften(Cause::Lost)),
            Some(order) => {
                // What this process appended it has applied before.
                let own = at.entry.and_then(|name| self.own_names.get_mut(&name));
                match own {
                    Some(known) => known.read = Some((at.epoch, at.sequence)),
                    None => actions.push(Action::Apply(order)),
                }
            }
        }
        actions
    }

    /// This node is about to append an entry, which it has applied.
    pub fn appending(&mut self, name: Token, order: Order, now: Moment) {
        if self.limits.recent_max == 0 || self.own_names.contains_key(&name) {
            return;
        }
        self.own_names.insert(name, Known::default());
        while self.own.len() >= self.limits.recent_max {
            self.forget_oldest();
        }
        self.own.push_back(Own { name, order, made_at: now });
    }

    /// Its append was acknowledged.
    pub fn appended(
        &mut self,
        name: Token,
        (epoch, sequence): (Token, u64),
        now: Moment,
    ) -> Vec<Action> {
        let place = (epoch, sequence);
        let mut is_lost = false;
        if let Some(known) = self.own_names.get_mut(&name) {
            // Appended again it has a new place, and the old one tells nothing.
            if let Some(old) = known.acknowledged.replace(place) {
                self.own_places.remove(&old);
            }
            self.own_places.insert(place, name);
            // The reader may be ahead of this acknowledgement, and have read another entry there.
            let is_behind = |at: Position| at.epoch == epoch && at.sequence >= sequence;
            // What was appended twice may have been read behind that place already.
            let was_read = |(of, at): Place| of == epoch && at >= sequence;
            is_lost = self.checks.chain
                && self.position.is_some_and(is_behind)
                && !known.read.is_some_and(was_read);
        }
        let is_newer = |(known, last): Place| known != epoch || last < sequence;
        if self.acknowledged.is_none_or(is_newer) {
            self.acknowledged = Some((epoch, sequence));
        }
        let mut actions = Vec::new();
        if is_lost {
            actions.push(Action::Soften(Cause::Rewritten));
            self.append_again(&mut actions, now);
        }
        actions
    }

    fn forget_oldest(&mut self) {
        if let Some(own) = self.own.pop_front() {
            let known = self.own_names.remove(&own.name).unwrap_or_default();
            if let Some(place) = known.acknowledged {
                self.own_places.remove(&place);
            }
        }
    }

    /// Does an entry stand where the log had acknowledged another one of this node, or where it was
    /// seen to end with another one?
    fn took_anothers_place(&self, at: Position) -> Option<Cause> {
        let own = self.own_places.get(&(at.epoch, at.sequence));
        let is_anothers = own.is_some_and(|name| Some(*name) != at.entry);
        let looked = self.looks.iter().find(|(end, _)| {
            end.epoch == at.epoch && end.sequence == at.sequence && end.entry != at.entry
        });
        (self.checks.chain && (is_anothers || looked.is_some())).then_some(Cause::Rewritten)
    }

    fn prove_by_looks(&mut self, at: Position) {
        while let Some(&(end, asked_at)) = self.looks.front()
            && end.sequence <= at.sequence
        {
            self.looks.pop_front();
            if end.epoch == at.epoch {
                self.prove(asked_at);
            }
        }
    }

    fn prove(&mut self, asked_at: Moment) {
        self.proven_at = Some(self.proven_at.map_or(asked_at, |at| at.max(asked_at)));
    }

    /// What was acknowledged in another epoch stays: it may be the one that comes.
    fn forget_acknowledged_in(&mut self, epoch: Token) {
        self.acknowledged = self.acknowledged.filter(|(of, _)| *of != epoch);
    }

    /// The end is the new position: all that is stored is doubtful, what comes later is known again.
    fn start_over(
        &mut self,
        question: Question,
        end: Position,
        cause: Cause,
        now: Moment,
    ) -> Vec<Action> {
        if let Some(position) = self.position.replace(end) {
            self.forget_acknowledged_in(position.epoch);
        }
        self.looks.clear();
        self.prove(question.asked_at);
        let mut actions = vec![Action::Soften(cause)];
        if cause != Cause::Started {
            self.append_again(&mut actions, now);
        }
        actions
    }

    fn append_again(&mut self, actions: &mut Vec<Action>, now: Moment) {
        let age = self.limits.recent_age;
        while self.own.front().is_some_and(|own| now.since(own.made_at) > age) {
            self.forget_oldest();
        }
        self.own_places.clear();
        self.own_names.values_mut().for_each(|known| *known = Known::default());
        if !self.own.is_empty() {
            let again = self.own.iter().map(|own| (own.name, own.order.clone())).collect();
            actions.push(Action::AppendAgain(again));
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(machine.known(), Some((epoch, 1)), "that end was older than the own entry");
        let question = machine.question(seconds(3));
        machine.end(question, at(9), seconds(3));
        assert_eq!(machine.known(), Some((EPOCH, 9)));
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
}
