//! The steps as a plain state machine: what `lock.lua` does in a Redis, for sessions that this node
//! keeps itself, and for the simulation.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::step::{Answer, Place, Seen, Step, Token};
use crate::clock::Moment;

/// Who was called and has not come by then is passed over.
const CALLED: Duration = Duration::from_millis(250);

/// The fields of one session that PHP keeps its lock in.
pub trait Fields {
    /// Why they cannot be read or written.
    type Error;

    /// The field `lock` as a number, 0 where it is not there; `None` where it is no number.
    fn lock(&mut self) -> Result<Option<i64>, Self::Error>;

    /// The field `pid`; empty where it is not there.
    fn pid(&mut self) -> Result<Bytes, Self::Error>;

    /// `HINCRBY lock 1`
    fn count(&mut self) -> Result<i64, Self::Error>;

    /// `HSET lock 0`
    fn set_free(&mut self) -> Result<(), Self::Error>;
}

/// What is told to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is this one's turn.
    Turn(Token),
    /// It stands behind who was called.
    Next(Token),
}

impl Told {
    /// As it goes over the wire.
    pub fn message(&self) -> Bytes {
        match self {
            Self::Turn(token) => format!("w{token}").into(),
            Self::Next(token) => format!("n{token}").into(),
        }
    }

    /// Whom it is for.
    pub fn token(&self) -> &Token {
        match self {
            Self::Turn(token) | Self::Next(token) => token,
        }
    }
}

/// Who has the lock.
#[derive(Clone, Debug, Default)]
struct Owner {
    token: Token,
    /// The session's pid when it was taken, which is another's until the owner signs; empty: it has
    /// signed.
    pid: Bytes,
    /// When it last said so.
    told: i64,
}

/// What stands beside one session.
#[derive(Clone, Debug, Default)]
struct Beside {
    line: BTreeMap<i64, Token>,
    owner: Option<Owner>,
    called: Option<(Token, Moment)>,
}

/// What stands beside all sessions.
#[derive(Clone, Debug, Default)]
pub struct Table {
    sessions: HashMap<Place, Beside>,
    /// The last turn that was given, or the last that an owner said that it is one. A Redis has
    /// microseconds; here a counter goes on from those of its start.
    last_turn: i64,
}

/// One step under way.
struct Turn<'a, F, T> {
    beside: &'a mut Beside,
    fields: &'a mut F,
    /// Tells a process; false: it is gone.
    tell: T,
    now: Moment,
    counter: &'a mut i64,
}

impl Table {
    /// One whose turns are above this one.
    pub fn after(turn: i64) -> Self {
        Self { last_turn: turn, ..Self::default() }
    }

    /// Does a step. `tell`: tells a process, and says whether it hears; `lives`: says that alone.
    pub fn run<F: Fields>(
        &mut self,
        (place, step): (&Place, &Step),
        fields: &mut F,
        now: Moment,
        tell: impl FnMut(Told) -> bool,
        lives: impl Fn(&str) -> bool,
    ) -> Result<Answer, F::Error> {
        let beside = self.sessions.entry(place.clone()).or_default();
        let mut turn = Turn { beside, fields, tell, now, counter: &mut self.last_turn };
        let answer = turn.run(step, lives);
        let Beside { line, owner, called } = &*turn.beside;
        if line.is_empty() && owner.is_none() && called.is_none() {
            self.sessions.remove(place);
        }
        answer
    }

    /// Forgets all, as a Redis does that takes over from another.
    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        self.sessions.clear();
    }
}

impl<F: Fields, T: FnMut(Told) -> bool> Turn<'_, F, T> {
    fn run(&mut self, step: &Step, lives: impl Fn(&str) -> bool) -> Result<Answer, F::Error> {
        match step {
            Step::Take { token, turn, waiters_max } => {
                let number = self.fields.lock()?;
                match number {
                    None | Some(..0) => return self.increment(token),
                    Some(0) if self.is_first(token, *turn) => return self.increment(token),
                    Some(_) => {}
                }
                let Some(turn) = self.stand_in_line(token, *turn, *waiters_max) else {
                    return self.increment(token);
                };
                let Owner { token: owner, pid: held_as, told } =
                    self.beside.owner.clone().unwrap_or_default();
                let owner_lives = !owner.is_empty() && lives(&owner);
                let (pid, is_free) = (self.fields.pid()?, number == Some(0));
                let is_signed = !owner.is_empty() && pid != held_as;
                let seen = Seen { owner, owner_lives, is_signed, told, pid, is_free };
                Ok(Answer::Waits { turn, seen })
            }
            Step::Now { token } => self.increment(token),
            Step::Release { token } => {
                if self.fields.lock()? == Some(0) {
                    (self.beside.owner, self.beside.called) = (None, None);
                    self.call_next();
                } else if self.is_owner(token) {
                    self.beside.owner = None;
                    self.call_next();
                }
                Ok(Answer::Done)
            }
            Step::Free { owner, pid, .. } => self.free(owner, pid.as_ref()),
            Step::Leave { token } if self.is_owner(token) => self.free(token, None),
            Step::Leave { token } => {
                self.beside.line.retain(|_, waiter| waiter != token);
                self.forget_call(token);
                if self.fields.lock()? == Some(0) {
                    self.call_next();
                }
                Ok(Answer::Done)
            }
            Step::Own { token, pid, broke } => {
                let is_held = self.fields.lock()?.is_some_and(|number| number > 0);
                let may = *broke || self.beside.owner.is_none() || self.is_owner(token);
                if is_held && may && self.fields.pid()? == *pid {
                    self.own(token, Bytes::new());
                }
                Ok(Answer::Done)
            }
        }
    }

    fn is_owner(&self, token: &str) -> bool {
        self.beside.owner.as_ref().is_some_and(|owner| owner.token == token)
    }

    fn increment(&mut self, token: &Token) -> Result<Answer, F::Error> {
        self.beside.line.retain(|_, waiter| waiter != token);
        let number = self.fields.count()?;
        if number == 1 {
            let pid = self.fields.pid()?;
            self.own(token, pid);
        }
        Ok(Answer::Counted(number))
    }

    fn own(&mut self, token: &Token, pid: Bytes) {
        *self.counter += 1;
        self.beside.owner = Some(Owner { token: token.clone(), pid, told: *self.counter });
        self.beside.called = None;
    }

    fn free(&mut self, owner: &str, signed: Option<&Bytes>) -> Result<Answer, F::Error> {
        let Owner { token: held_by, pid: held_as, .. } =
            self.beside.owner.clone().unwrap_or_default();
        let is_held = self.fields.lock()?.is_some_and(|number| number > 0);
        let is_same = held_by == owner && self.fields.pid()? == *signed.unwrap_or(&held_as);
        if is_held && is_same {
            self.fields.set_free()?;
            (self.beside.owner, self.beside.called) = (None, None);
            self.call_next();
            return Ok(Answer::Freed);
        }
        if !owner.is_empty() && held_by == owner {
            self.beside.owner = None;
            self.call_next();
        }
        Ok(Answer::Done)
    }

    fn is_first(&mut self, token: &str, turn: i64) -> bool {
        loop {
            let mut line = self.beside.line.iter();
            let Some((&its, first)) = line.next() else { return true };
            if first == token || (turn > 0 && turn < its) {
                return true;
            }
            let (first, second) = (first.clone(), line.next().map(|(_, token)| token.clone()));
            match &self.beside.called {
                Some((called, since)) if *called == first => {
                    if self.now.since(*since) < CALLED {
                        return false;
                    }
                    self.beside.line.remove(&its);
                }
                _ => {
                    if self.call(its, first, second) {
                        return false;
                    }
                }
            }
        }
    }

    fn call_next(&mut self) {
        loop {
            let mut line = self.beside.line.iter();
            let Some((&its, first)) = line.next() else { return };
            let (first, second) = (first.clone(), line.next().map(|(_, token)| token.clone()));
            if self.call(its, first, second) {
                return;
            }
        }
    }

    fn call(&mut self, turn: i64, first: Token, second: Option<Token>) -> bool {
        if !(self.tell)(Told::Turn(first.clone())) {
            self.beside.line.remove(&turn);
            return false;
        }
        self.beside.called = Some((first, self.now));
        if let Some(second) = second {
            (self.tell)(Told::Next(second));
        }
        true
    }

    fn stand_in_line(&mut self, token: &Token, turn: i64, waiters_max: usize) -> Option<i64> {
        let line = &mut self.beside.line;
        let known = line.iter().find(|(_, waiter)| *waiter == token).map(|(turn, _)| *turn);
        let turn = match known {
            Some(turn) => turn,
            None if line.len() >= waiters_max => return None,
            None => {
                if turn == 0 {
                    *self.counter += 1;
                }
                let turn = if turn > 0 { turn } else { *self.counter };
                line.insert(turn, token.clone());
                turn
            }
        };
        self.forget_call(token);
        Some(turn)
    }

    fn forget_call(&mut self, token: &str) {
        if self.beside.called.as_ref().is_some_and(|(called, _)| called == token) {
            self.beside.called = None;
        }
    }
}
