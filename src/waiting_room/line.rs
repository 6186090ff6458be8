//! Who waits, and who is inside: the rules of the room, without a clock or a store of their own.
//!
//! A ticket is a number, drawn in the order in which visitors come. Whoever was not seen for a while has left the line,
//! and has the old place again on coming back. A grant takes the first ones into the shop, where each place ends at a
//! time: soon, as long as nobody has come to take it, and later for who is there. So what is in use is never more than
//! what there is, whoever comes back or does not. Who has not come back a single time may be a client without cookies, for
//! which a place is kept for no longer than a page takes to look again.
//!
//! `room.lua` has the same rules for a fleet, and a test compares both.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::glance::Glance;

/// So many leave the line at a step; what is left goes with the next one.
const LEAVING_MAX: usize = 1_000;

/// The line of tickets of which nothing else is known; no line has this number.
const UNKNOWN: u64 = 0;

/// What holds for all visitors. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Visitors inside at once; 0: as many as come.
    pub visitors_max: u64,
    /// For so long a place is kept for who may enter.
    pub hold_ms: u64,
    /// For so long for who was there.
    pub idle_ms: u64,
    /// Who was not seen for so long has left the line; for so long a place is kept for who has never come back.
    pub absent_ms: u64,
    /// Visitors in the line.
    pub waiting_max: u64,
}

/// A ticket, of whichever line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The line that it was drawn from.
    pub epoch: u64,
    /// Its number there, from 1.
    pub number: u64,
}

/// What somebody gets who comes anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// A place inside.
    Inside(Ticket),
    /// A place in the line.
    Waits(Ticket),
    /// The line is full.
    Full,
}

/// What the visitors of a node did since the last step, and how many may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Who waits, and was seen.
    pub seen: Vec<u64>,
    /// Who is inside, and was there.
    pub stayed: Vec<Ticket>,
    /// So many more may enter, as far as there is room.
    pub grants: u64,
}

/// Somebody in the line.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    seen_ms: u64,
    /// Came back with the ticket.
    is_back: bool,
}

/// The line and the places inside.
#[derive(Debug)]
pub struct Line {
    epoch: u64,
    /// The last number that was drawn.
    drawn: u64,
    /// The highest number that may enter.
    serving: u64,
    granted: u64,
    waiting: BTreeMap<u64, Waiting>,
    seen: BTreeSet<(u64, u64)>,
    /// When each place inside ends.
    inside: HashMap<Ticket, u64>,
    ends: BTreeSet<(u64, Ticket)>,
}

impl Line {
    /// An empty one. `drawn`: the last number that another line gave away, which this one goes on from.
    pub fn new(epoch: u64, drawn: u64) -> Self {
        Self {
            epoch,
            drawn,
            serving: drawn,
            granted: 0,
            waiting: BTreeMap::new(),
            seen: BTreeSet::new(),
            inside: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Somebody comes anew. `may_enter`: where nobody waits there may be a place at once.
    pub fn draw(&mut self, may_enter: bool, rules: &Rules, now_ms: u64) -> Drawn {
        self.end(now_ms, rules);
        let is_free = may_enter && self.waiting.is_empty() && self.room(rules) > 0;
        if !is_free && self.waiting.len() as u64 >= rules.waiting_max {
            return Drawn::Full;
        }
        self.drawn += 1;
        let ticket = Ticket { epoch: self.epoch, number: self.drawn };
        if is_free {
            self.serving = self.serving.max(self.drawn);
            self.granted += 1;
            self.keep(ticket, now_ms + rules.absent_ms);
            return Drawn::Inside(ticket);
        }
        self.see(ticket.number, false, rules, now_ms);
        Drawn::Waits(ticket)
    }

    /// Whose turn it may be wants to come in. Where it is not, or the place has gone, it is first in the line again.
    pub fn enter(&mut self, ticket: Ticket, rules: &Rules, now_ms: u64) -> bool {
        self.end(now_ms, rules);
        let is_inside = self.inside.contains_key(&ticket);
        if is_inside {
            self.keep(ticket, now_ms + rules.idle_ms);
        } else {
            self.see(ticket.number, true, rules, now_ms);
        }
        is_inside
    }

    /// Takes in who is next, as far as there is room, and ends what has ended; how many were taken in.
    pub fn step(&mut self, step: &Step, rules: &Rules, now_ms: u64) -> u64 {
        for ticket in &step.stayed {
            if !self.inside.contains_key(ticket) {
                self.replace_unknown();
            }
            self.keep(*ticket, now_ms + rules.idle_ms);
        }
        for number in &step.seen {
            if !self.inside.contains_key(&Ticket { epoch: self.epoch, number: *number }) {
                self.see(*number, true, rules, now_ms);
            }
        }
        self.end(now_ms, rules);
        let before = self.granted;
        for _ in 0..step.grants.min(self.room(rules)) {
            let Some((number, waiting)) = self.waiting.pop_first() else { break };
            self.seen.remove(&(waiting.seen_ms, number));
            self.serving = self.serving.max(number);
            self.granted += 1;
            let unproven_ms = rules.hold_ms.min(rules.absent_ms);
            let kept_ms = if waiting.is_back { rules.hold_ms } else { unproven_ms };
            self.keep(Ticket { epoch: self.epoch, number }, now_ms + kept_ms);
        }
        self.granted - before
    }

    /// So many places are in use of which is not known by whom, until then, or until they show.
    pub fn reserve(&mut self, count: u64, end_ms: u64) {
        for number in 1..=count {
            self.keep(Ticket { epoch: UNKNOWN, number }, end_ms);
        }
    }

    /// Who is inside and known.
    pub fn known_inside(&self) -> Vec<Ticket> {
        self.inside.keys().copied().filter(|ticket| ticket.epoch != UNKNOWN).collect()
    }

    /// Begins anew as another line: who waits is not known any more, who is inside stays so.
    pub fn clear(&mut self, epoch: u64) {
        let (inside, ends) = (std::mem::take(&mut self.inside), std::mem::take(&mut self.ends));
        *self = Self { inside, ends, ..Self::new(epoch, 0) };
    }

    /// Has this very ticket a place inside?
    pub fn is_inside(&self, ticket: Ticket, now_ms: u64) -> bool {
        self.inside.get(&ticket).is_some_and(|end_ms| now_ms < *end_ms)
    }

    /// Which line it is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn replace_unknown(&mut self) {
        let unknown = self.ends.iter().find(|(_, ticket)| ticket.epoch == UNKNOWN).copied();
        if let Some((end_ms, ticket)) = unknown {
            self.ends.remove(&(end_ms, ticket));
            self.inside.remove(&ticket);
        }
    }

    /// A line that is full takes nobody back either, who comes again then.
    fn see(&mut self, number: u64, is_back: bool, rules: &Rules, now_ms: u64) {
        let is_full = self.waiting.len() as u64 >= rules.waiting_max;
        match self.waiting.entry(number) {
            Entry::Occupied(mut entry) => {
                let waiting = entry.get_mut();
                self.seen.remove(&(waiting.seen_ms, number));
                *waiting = Waiting { seen_ms: now_ms, is_back: waiting.is_back || is_back };
            }
            Entry::Vacant(_) if is_full => return,
            Entry::Vacant(entry) => {
                entry.insert(Waiting { seen_ms: now_ms, is_back });
            }
        }
        self.seen.insert((now_ms, number));
    }

    /// A place inside is kept up to then, or longer if it was.
    fn keep(&mut self, ticket: Ticket, end_ms: u64) {
        let before = self.inside.get(&ticket).copied();
        if before.is_some_and(|before| before >= end_ms) {
            return;
        }
        if let Some(before) = before {
            self.ends.remove(&(before, ticket));
        }
        self.inside.insert(ticket, end_ms);
        self.ends.insert((end_ms, ticket));
    }

    fn end(&mut self, now_ms: u64, rules: &Rules) {
        while let Some((end_ms, ticket)) = self.ends.first().copied()
            && end_ms <= now_ms
        {
            self.ends.pop_first();
            self.inside.remove(&ticket);
        }
        let absent_since = now_ms.saturating_sub(rules.absent_ms);
        for _ in 0..LEAVING_MAX {
            let Some((seen_ms, number)) = self.seen.first().copied() else { break };
            if seen_ms >= absent_since {
                break;
            }
            self.seen.pop_first();
            self.waiting.remove(&number);
        }
    }

    fn room(&self, rules: &Rules) -> u64 {
        match rules.visitors_max {
            0 => u64::MAX,
            most => most.saturating_sub(self.inside.len() as u64),
        }
    }

    /// What it is like.
    pub fn glance(&self) -> Glance {
        let waiting = self.waiting.len();
        let mut marks = Vec::new();
        let (mut numbers, mut at) = (self.waiting.keys().copied().peekable(), 0);
        for rank in Glance::ranks(waiting as u64) {
            while at < rank && numbers.next().is_some() {
                at += 1;
            }
            marks.extend(numbers.peek());
        }
        Glance {
            epoch: self.epoch,
            drawn: self.drawn,
            serving: self.serving,
            granted: self.granted,
            waiting: waiting as u64,
            inside: self.inside.len() as u64,
            marks,
        }
    }
}

#[cfg(test)]
mod tests;
