//! The waiting room: while the shop is full its visitors wait, and come in by the order of their arrival.
//!
//! A ticket is a number, drawn for the whole fleet; what a visitor keeps of it is a signed token, good on any node. Each node
//! lets its share of the rate in, once in a [`TICK`], and all together no more than there are places inside. The line is in
//! Redis, by one script ([`shared`]); without one, or while it is away, each node has a line of its own by the same
//! rules ([`line`]).
//!
//! Nobody is asked while the page of who waits looks again: the node knows from its last tick who may enter, and tells with the
//! next one who was seen.

#[cfg(test)]
mod arrivals;
mod cookies;
mod counts;
pub mod glance;
pub mod line;
mod opening;
mod pace;
pub mod page;
pub mod shared;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod ticking;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::fields::Fields;
use crate::random;
use crate::redis_pool::{Redis, RedisError};
use crate::settings::WaitingRoom;
use crate::tokens::Signer;
use cookies::{Cookies, Way};
use counts::Counts;
use glance::Glance;
use line::{Drawn, Line, Ticket};
use opening::Opening;
use pace::{History, Pace};
use shared::{Entered, Shared};

pub use cookies::{ADMITTED, PLACE};
pub use counts::Figures;

/// Between two steps of the line.
pub const TICK: Duration = Duration::from_millis(500);

/// A node that nobody waits at looks every so many ticks whether the room is open elsewhere.
const LOOK_TICKS: u64 = 4;

/// So many visitors are told of with one command, and let in by it.
const STEP_MAX: usize = 2_000;

/// So many commands in one tick.
const STEPS_MAX: usize = 20;

/// For so long places outlive the tokens that they are for: what is told comes later than it was.
const SLACK: Duration = Duration::from_secs(5);

/// A place in the line, of a token that was signed here or on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Ticket);

/// What a visitor brings. What is forged, too old or of another purpose is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Was admitted, and goes on.
    Admitted {
        /// A value of Set-Cookie with which that goes on, where it is time. Without `Secure`, which is right where the client came by
        /// TLS. Belongs on a response of PHP that is not stored.
        renew: Option<String>,
    },
    /// A place in the line.
    Place(Place),
    /// Neither.
    Nothing,
}

/// May a visitor come in?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with this value of Set-Cookie (without `Secure`, as in [`Holds::Admitted`]).
    Enter {
        /// `parvis_admitted`
        cookie: String,
    },
    /// Not yet.
    Wait(Standing),
}

/// How a visitor stands who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many stand before; `None`: that is not known, since Redis is away.
    pub ahead: Option<u64>,
    /// How long that takes at the rate of the last minute, where there is one.
    pub wait: Option<Duration>,
    /// A value of Set-Cookie that keeps the place, where it is a new one (without `Secure`). Neither this nor a place that was brought: the
    /// line is full.
    pub cookie: Option<String>,
    /// When to look again.
    pub refresh: Duration,
}

/// What the room is like, for those who run it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Do visitors wait?
    pub is_on: bool,
    /// Why: `command`, `waiting_room.mode`, `waiting_room.times`, `load`. Where a command has switched it off, that alone.
    pub causes: Vec<&'static str>,
    /// Is that by a command, and which?
    pub by_hand: Option<bool>,
    /// Has this node a line of its own, though there is a Redis?
    pub is_alone: bool,
    /// Visitors who wait, as far as this node knows.
    pub waiting: u64,
    /// Places inside that are in use, or kept for who may enter.
    pub inside: u64,
    /// `waiting_room.visitors_max`
    pub visitors_max: u64,
    /// How many were let in within the last minute.
    pub per_minute: u64,
    /// How long somebody waits who comes now, where that can be said.
    pub wait: Option<Duration>,
}

struct State {
    /// The line as of the last step.
    glance: Glance,
    /// This node's own.
    line: Line,
    /// The line of the fleet whose tickets count in the own one.
    accepts: Option<u64>,
    /// Who waits and was seen since the last step, and in which line.
    seen: Vec<Ticket>,
    /// Who is inside and was there.
    stayed: Vec<Ticket>,
    pace: Pace,
    history: History,
    opening: Opening,
    /// What a command said has not reached Redis.
    is_untold: bool,
    /// Counts what commands said, so that an answer of before one does not undo it.
    commands: u64,
    nodes: usize,
    ticks: u64,
}

/// The waiting room of this process.
pub struct Room {
    settings: ArcSwap<WaitingRoom>,
    cookies: Cookies,
    /// `None`: no fleet.
    shared: Option<Shared>,
    clock: Clock,
    /// Is the time of the line in Redis that of this clock, too?
    is_timed: bool,
    is_on: AtomicBool,
    /// Is the own line in use?
    is_alone: AtomicBool,
    state: Mutex<State>,
    counts: Counts,
}

impl Room {
    /// As the settings have it. `prefix`: of the fleet, in Redis.
    pub fn new(
        settings: &WaitingRoom,
        signer: Arc<Signer>,
        redis: Option<(Arc<Redis>, &str)>,
        clock: Clock,
    ) -> Self {
        let room = Self {
            settings: ArcSwap::from_pointee(settings.clone()),
            cookies: Cookies::new(signer),
            shared: redis.map(|(redis, prefix)| Shared::new(redis, prefix)),
            is_on: AtomicBool::new(false),
            is_alone: AtomicBool::new(false),
            state: Mutex::new(State {
                glance: Glance::default(),
                line: Line::new(epoch(), 0),
                accepts: None,
                seen: Vec::new(),
                stayed: Vec::new(),
                pace: Pace::default(),
                history: History::default(),
                opening: Opening::default(),
                is_untold: false,
                commands: 0,
                nodes: 1,
                ticks: 0,
            }),
            counts: Counts::default(),
            clock,
            is_timed: false,
        };
        room.sum_up();
        room
    }

    /// The line in Redis goes by this room's clock, too: for tests in which time is played.
    #[must_use]
    pub fn by_its_own_clock(mut self) -> Self {
        self.is_timed = true;
        self
    }

    /// The number of a new line, where there is none, and the time; zero: by the clock of Redis.
    fn line_and_time(&self) -> (u64, u64) {
        (epoch(), if self.is_timed { self.clock.now().milliseconds().max(1) } else { 0 })
    }

    /// Do visitors wait?
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<WaitingRoom> {
        self.settings.load_full()
    }

    /// New settings; who waits and who is inside stays so.
    pub fn reload(&self, settings: &WaitingRoom) {
        self.settings.store(Arc::new(settings.clone()));
        self.sum_up();
    }

    /// What a visitor brings, by its cookies alone. `now_unix`: seconds of Unix.
    pub fn judge(&self, fields: &Fields, now_unix: u64) -> Holds {
        let settings = self.settings.load();
        let Some(way) = self.cookies.way_in(fields) else {
            let place = self.cookies.place_in(fields, now_unix);
            return place.map_or(Holds::Nothing, |ticket| Holds::Place(Place(ticket)));
        };
        let Some(age) = cookies::age(way.at_unix, now_unix) else { return Holds::Nothing };
        let valid = if way.is_proven { settings.idle } else { settings.absent() };
        if age >= valid.as_secs() {
            // Who stayed for long on the first page has a ticket all the same.
            let is_place = !way.is_proven && age < settings.idle.as_secs();
            return if is_place { Holds::Place(Place(way.ticket)) } else { Holds::Nothing };
        }
        let renew = (!way.is_proven || age >= settings.idle.as_secs() / 4).then(|| {
            self.note(|state| &mut state.stayed, way.ticket, settings.waiting_max);
            let way = Way { ticket: way.ticket, at_unix: now_unix, is_proven: true };
            self.cookies.give_way(way, settings.idle)
        });
        Holds::Admitted { renew }
    }

    /// May a visitor come in? Who has no place draws a ticket, of the fleet where Redis answers. Waits for no longer than Redis has for
    /// a command, and only where somebody comes anew, or whose turn it may be.
    pub async fn ask(&self, place: Option<Place>) -> Answer {
        let ticket = place.map(|place| place.0);
        if let Some(shared) = self.shared.as_ref().filter(|_| !self.is_alone()) {
            match self.ask_fleet(shared, ticket).await {
                Ok(answer) => return answer,
                Err(error) => self.goes_alone(&error),
            }
        }
        self.ask_here(ticket)
    }

    async fn ask_fleet(
        &self,
        shared: &Shared,
        ticket: Option<Ticket>,
    ) -> Result<Answer, RedisError> {
        let (rules, at) = (self.rules(1), self.line_and_time());
        if let Some(ticket) = ticket {
            if self.waits_surely(ticket) {
                return Ok(self.wait(ticket, false));
            }
            match shared.enter(ticket, &rules, at).await? {
                Entered::Inside => return Ok(self.enter(ticket, true)),
                Entered::Waits => return Ok(self.wait(ticket, false)),
                Entered::Foreign => {}
            }
        }
        let may_enter = self.takes_one();
        let drawn = shared.draw(may_enter, &rules, at).await;
        if may_enter && !matches!(drawn, Ok(Drawn::Inside(_))) {
            self.state.lock().pace.give_back();
        }
        Ok(self.answer(drawn?))
    }

    fn ask_here(&self, ticket: Option<Ticket>) -> Answer {
        let rules = self.rules(self.state.lock().nodes);
        let now_ms = self.clock.now().milliseconds();
        let may_enter = self.takes_one();
        let mut state = self.state.lock();
        let own = state.line.epoch();
        let is_good = |ticket: &Ticket| ticket.epoch == own || state.accepts == Some(ticket.epoch);
        // Who was called by a line that was cleared since still is.
        let called = ticket.filter(|ticket| state.line.is_inside(*ticket, now_ms));
        let good = ticket.filter(is_good).map(|ticket| Ticket { epoch: own, ..ticket });
        if let Some(ticket) = called.or(good) {
            if may_enter {
                state.pace.give_back();
            }
            let is_inside = state.line.enter(ticket, &rules, now_ms);
            drop(state);
            return if is_inside { self.enter(ticket, true) } else { self.wait(ticket, false) };
        }
        let drawn = state.line.draw(may_enter, &rules, now_ms);
        if may_enter && !matches!(drawn, Drawn::Inside(_)) {
            state.pace.give_back();
        }
        drop(state);
        self.answer(drawn)
    }

    /// One of those whom this node may let in, where nobody waits.
    fn takes_one(&self) -> bool {
        let mut state = self.state.lock();
        let is_one = state.glance.waiting == 0 && state.pace.left() > 0;
        if is_one {
            state.pace.take(1);
        }
        is_one
    }

    /// Does the last step say that this ticket is not called yet? Then its visitor was seen.
    fn waits_surely(&self, ticket: Ticket) -> bool {
        let waits = {
            let glance = &self.state.lock().glance;
            ticket.epoch == glance.epoch && ticket.number > glance.serving
        };
        if waits {
            self.note(|state| &mut state.seen, ticket, self.settings.load().waiting_max);
        }
        waits
    }

    fn note(&self, list: impl FnOnce(&mut State) -> &mut Vec<Ticket>, ticket: Ticket, most: u64) {
        let mut state = self.state.lock();
        let list = list(&mut state);
        if (list.len() as u64) < most {
            list.push(ticket);
        }
    }

    fn answer(&self, drawn: Drawn) -> Answer {
        match drawn {
            Drawn::Inside(ticket) => self.enter(ticket, false),
            Drawn::Waits(ticket) => {
                counts::count(&self.counts.drawn);
                self.wait(ticket, true)
            }
            Drawn::Full => {
                counts::count(&self.counts.full);
                let state = self.state.lock();
                Answer::Wait(self.standing(&state, state.glance.waiting, None))
            }
        }
    }

    fn enter(&self, ticket: Ticket, is_proven: bool) -> Answer {
        counts::count(&self.counts.admitted);
        let settings = self.settings.load();
        let way = Way { ticket, at_unix: self.now_unix(), is_proven };
        Answer::Enter { cookie: self.cookies.give_way(way, settings.idle) }
    }

    fn wait(&self, ticket: Ticket, is_new: bool) -> Answer {
        if !is_new {
            counts::count(&self.counts.looked);
        }
        let cookie = is_new.then(|| self.cookies.give_place(ticket, self.now_unix()));
        let state = self.state.lock();
        Answer::Wait(self.standing(&state, state.glance.ahead(ticket.number), cookie))
    }

    fn standing(&self, state: &State, ahead: u64, cookie: Option<String>) -> Standing {
        let is_known = !self.is_alone();
        let wait = state.history.time_for(ahead + 1).filter(|_| is_known);
        let refresh = self.settings.load().refresh;
        // Whose turn is near looks more often, so that they come in by their order, and no place is kept for long.
        let refresh = wait.map_or(refresh, |wait| wait.clamp(refresh / 5, refresh));
        Standing { ahead: is_known.then_some(ahead), wait, cookie, refresh }
    }
}

/// The number of a new line; nobody guesses it, and none is 0.
fn epoch() -> u64 {
    (random::number() >> 1).max(1)
}
