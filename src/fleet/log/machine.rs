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
use super::passed::Passed;
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
    /// Something of the log came.
    is_under_way: bool,
    passed: Passed,
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
            is_under_way: false,
            passed: Passed::default(),
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
    /// applied to what this one stores. Of several places the first counts, from which all are read.
    /// False: the log was found already, or it is a place of another log than one before.
    pub fn resume(&mut self, position: Position) -> bool {
        match self.position {
            Some(own) if self.is_under_way || own.epoch != position.epoch => return false,
            Some(own) if own.sequence == position.sequence => return own.entry == position.entry,
            Some(own) if own.sequence < position.sequence => return true,
            None | Some(_) => {}
        }
        self.position = Some(position);
        self.passed.begin(position);
        true
    }

    /// The last entry that this node has applied: one that was read, or one of its own that the
    /// log has acknowledged. `None` until the log was found, and while one of its own is in another
    /// epoch, which this node has not come to: no place in this one says that it is known.
    pub fn known(&self) -> Option<Position> {
        let position = self.position?;
        match self.acknowledged {
            Some((of, _)) if of != position.epoch => None,
            Some((of, own)) if own > position.sequence => {
                let entry = self.own_places.get(&(of, own)).copied();
                Some(Position { epoch: of, sequence: own, entry })
            }
            _ => Some(position),
        }
    }

    /// Has everything up to this entry been applied? `None`: not yet, or it is of another log.
    pub fn has_passed(&self, place: Position) -> Option<bool> {
        let position = self.position?;
        let is_behind = position.epoch != place.epoch || position.sequence < place.sequence;
        (!is_behind).then(|| self.passed.has(place))
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
        self.is_under_way = true;
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
        self.is_under_way = true;
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
        if broken.is_some() {
            self.passed.begin(at);
        } else {
            self.passed.add(at);
        }
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
        // What this process appended it has applied before.
        let own = at.entry.and_then(|name| self.own_names.get_mut(&name));
        let is_own = own.is_some();
        if let Some(known) = own {
            known.read = Some((at.epoch, at.sequence));
        }
        match entry.order {
            None => actions.push(Action::Soften(Cause::Unreadable)),
            Some(Order::Soften) => actions.push(Action::Soften(Cause::Lost)),
            Some(_) if is_own => {}
            Some(order) => actions.push(Action::Apply(order)),
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
        self.passed.begin(end);
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
mod tests;
