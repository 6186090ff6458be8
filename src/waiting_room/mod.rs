//! The waiting room: while the shop is full its visitors wait, and come in by the order of their arrival.
//!
//! A ticket is a number, drawn for the whole fleet; what a visitor keeps of it is a signed token, good on any node. Each node
//! lets its share of the rate in, once in a [`TICK`], and all together no more than there are places inside. The line is in
//! Redis, by one script ([`shared`]); without one, or while it is away, each node has a line of its own by the same
//! rules ([`line`]).
//!
//! Nobody is asked while the page of who waits looks again: the node knows from its last tick who may enter, and tells with the
//! next one who was seen.

mod counts;
mod cookies;
mod glance;
mod line;
mod opening;
mod pace;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::{Clock, Moment};
use crate::fields::Fields;
use crate::random;
use crate::redis_pool::{Redis, RedisError};
use crate::settings::{RoomMode, WaitingRoom};
use crate::tokens::Signer;
use cookies::{Cookies, Way};
use counts::Counts;
use glance::Glance;
use line::{Drawn, Line, Rules, Step, Ticket};
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    is_on: AtomicBool,
    /// Is the own line in use?
    is_alone: AtomicBool,
    state: Mutex<State>,
    counts: Counts,
}
