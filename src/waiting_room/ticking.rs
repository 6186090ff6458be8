//! What the room does by itself, from tick to tick, and what those do who run it.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::counts::{self, Figures};
use super::glance::Glance;
use super::line::{Line, Rules, Step, Ticket};
use super::shared::Shared;
use super::{LOOK_TICKS, Room, SLACK, STEP_MAX, STEPS_MAX, State, Status, epoch};
use crate::redis_pool::RedisError;
use crate::settings::RoomMode;

impl Room {
    /// One tick: tells who was seen and who stayed, lets in who is next, and looks whether the room is on. `is_php_short`: do requests
    /// wait for PHP here? `nodes`: so many share the rate.
    pub async fn tick(&self, is_php_short: bool, nodes: usize) {
        let busy = self.begin_tick(is_php_short, nodes);
        match &self.shared {
            Some(shared) => {
                if let Err(error) = self.tick_with_fleet(shared, busy).await {
                    self.goes_alone(&error);
                    self.step_here();
                }
            }
            None => self.step_here(),
        }
        self.sum_up();
    }

    /// For how long it counts that PHP has more to do than it can; zero: it has not.
    fn begin_tick(&self, is_php_short: bool, nodes: usize) -> Duration {
        let (settings, now) = (self.settings.load(), self.clock.now());
        let mut state = self.state.lock();
        state.ticks += 1;
        state.nodes = nodes.max(1);
        state.opening.note(is_php_short, settings.after, now);
        let is_auto = settings.mode == RoomMode::Auto;
        if is_auto && is_php_short {
            state.pace.pause(now);
        } else {
            state.pace.fill(settings.admit, nodes, now);
        }
        if !is_auto || !state.opening.is_busy(settings.after, now) {
            return Duration::ZERO;
        }
        state.opening.busy_for(settings.calm, now);
        settings.calm
    }

    async fn tick_with_fleet(&self, shared: &Shared, busy: Duration) -> Result<(), RedisError> {
        self.tell(shared).await?;
        let (commands, is_look) = {
            let state = self.state.lock();
            (state.commands, state.ticks % LOOK_TICKS == 1)
        };
        let is_auto = self.settings.load().mode == RoomMode::Auto;
        if self.is_on() || !busy.is_zero() || self.has_to_tell() || (is_auto && is_look) {
            self.step_fleet(shared, busy, commands).await?;
        } else if is_look {
            let by_hand = shared.by_hand().await?;
            self.hears(by_hand, commands);
        } else {
            return Ok(());
        }
        if self.shared.is_some() && self.is_alone.swap(false, Ordering::Relaxed) {
            tracing::info!("the waiting room is the fleet's again");
        }
        Ok(())
    }

    fn has_to_tell(&self) -> bool {
        let state = self.state.lock();
        !state.stayed.is_empty() || !state.seen.is_empty() || self.is_alone()
    }

    async fn step_fleet(
        &self,
        shared: &Shared,
        busy: Duration,
        commands: u64,
    ) -> Result<(), RedisError> {
        let rules = self.rules(1);
        if self.is_alone() {
            let mut state = self.state.lock();
            // Whom this node let in by itself counts for all.
            let inside = state.line.known_inside();
            state.stayed.extend(inside);
        }
        for _ in 0..STEPS_MAX {
            let (step, seen_in, is_last) = self.state.lock().next_step(self.is_on());
            let stepped = shared.step(&step, (seen_in, busy), &rules, self.line_and_time()).await;
            let stepped = match stepped {
                Ok(stepped) => stepped,
                Err(error) => {
                    self.state.lock().stayed.extend(step.stayed);
                    return Err(error);
                }
            };
            self.hears(stepped.by_hand, commands);
            let now = self.clock.now();
            let mut state = self.state.lock();
            state.pace.take(stepped.taken);
            state.history.note(stepped.glance.epoch, stepped.glance.granted, now);
            state.opening.busy_for(stepped.busy_left, now);
            state.glance = stepped.glance;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    fn step_here(&self) {
        let (is_on, now) = (self.is_on(), self.clock.now());
        let mut state = self.state.lock();
        let rules = self.rules(state.nodes);
        let stayed = std::mem::take(&mut state.stayed);
        let grants = if is_on { state.pace.left() } else { 0 };
        let step = Step { seen: Vec::new(), stayed, grants };
        let taken = state.line.step(&step, &rules, now.milliseconds());
        state.pace.take(taken);
        state.glance = state.line.glance();
        let (epoch, granted) = (state.glance.epoch, state.glance.granted);
        state.history.note(epoch, granted, now);
    }

    /// This node goes on with a line of its own. Tickets of the fleet's count there, and so do those who are inside.
    pub(super) fn goes_alone(&self, error: &RedisError) {
        counts::count(&self.counts.alone);
        let now = self.clock.now();
        let mut state = self.state.lock();
        if self.is_alone.swap(true, Ordering::Relaxed) {
            return;
        }
        let (nodes, rules) = (state.nodes, self.rules(state.nodes));
        let mut line = Line::new(epoch(), state.glance.drawn);
        let inside = state.glance.inside.div_ceil(nodes as u64).min(rules.visitors_max);
        line.reserve(inside, now.plus(Duration::from_millis(rules.idle_ms)).milliseconds());
        state.accepts = Some(state.glance.epoch).filter(|epoch| *epoch != 0);
        state.line = line;
        state.glance = state.line.glance();
        state.seen.clear();
        drop(state);
        // Nobody cares where no one waits.
        if self.is_on() {
            tracing::warn!(
                "the line of the waiting room cannot be asked for: {error}; this node has one of \
                 its own, with the share of one of {nodes} nodes"
            );
        }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// What holds where so many nodes share the places inside.
    pub(super) fn rules(&self, nodes: usize) -> Rules {
        let settings = self.settings.load();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let share = |most: u64| if most == 0 { 0 } else { (most / nodes.max(1) as u64).max(1) };
        Rules {
            visitors_max: share(settings.visitors_max),
            hold_ms: milliseconds(settings.hold),
            idle_ms: milliseconds(settings.idle + SLACK),
            absent_ms: milliseconds(settings.absent() + SLACK),
            waiting_max: settings.waiting_max,
        }
    }

    pub(super) fn now_unix(&self) -> u64 {
        let since = self.clock.wall_roughly().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// Looks whether the room is on.
    pub(super) fn sum_up(&self) {
        let causes = self.causes();
        let is_on = !causes.is_empty();
        if self.is_on.swap(is_on, Ordering::Relaxed) != is_on {
            tracing::warn!(is_on, causes = causes.join(", "), "waiting room");
        }
    }

    fn causes(&self) -> Vec<&'static str> {
        let (settings, now) = (self.settings.load(), self.clock.now());
        let state = self.state.lock();
        let waiting = if self.is_on() { state.glance.waiting } else { 0 };
        state.opening.causes(&settings, waiting, now, self.now_unix())
    }

    /// `parvis room`: on, off, or as the settings say. All nodes hear of it where Redis answers, now or later.
    pub async fn switch(&self, by_hand: Option<bool>) {
        {
            let mut state = self.state.lock();
            state.opening.by_hand = by_hand;
            state.commands += 1;
            state.is_untold = self.shared.is_some();
        }
        self.sum_up();
        if let Some(shared) = &self.shared
            && let Err(error) = self.tell(shared).await
        {
            tracing::warn!("the other nodes do not know of the waiting room's switch yet: {error}");
        }
    }

    /// Is the line the fleet's, in Redis?
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What a command said.
    pub fn by_hand(&self) -> Option<bool> {
        self.state.lock().opening.by_hand
    }

    /// Ends the line: all who wait draw new tickets, in the order in which they come. Who is inside, or was called, stays so.
    pub async fn clear(&self) {
        if let Some(shared) = &self.shared
            && let Err(error) = shared.clear().await
        {
            tracing::warn!("the line of the fleet stays: {error}");
        }
        let mut state = self.state.lock();
        let inside = state.glance.inside;
        state.line.clear(epoch());
        state.accepts = None;
        state.glance = Glance { inside, ..state.line.glance() };
        state.seen.clear();
    }

    async fn tell(&self, shared: &Shared) -> Result<(), RedisError> {
        let (by_hand, commands) = {
            let state = self.state.lock();
            if !state.is_untold {
                return Ok(());
            }
            (state.opening.by_hand, state.commands)
        };
        shared.tell(by_hand).await?;
        let mut state = self.state.lock();
        state.is_untold &= state.commands != commands;
        Ok(())
    }

    /// What a command said, on any node, unless one came here meanwhile.
    fn hears(&self, by_hand: Option<bool>, commands: u64) {
        let mut state = self.state.lock();
        if state.commands == commands && !state.is_untold {
            state.opening.by_hand = by_hand;
        }
    }

    /// What became of visitors on this node since the start.
    pub fn figures(&self) -> Figures {
        self.counts.figures()
    }

    /// What the room is like.
    pub fn status(&self) -> Status {
        let causes = self.causes();
        let state = self.state.lock();
        Status {
            is_on: self.is_on(),
            causes,
            by_hand: state.opening.by_hand,
            is_alone: self.is_alone(),
            waiting: state.glance.waiting,
            inside: state.glance.inside,
            visitors_max: self.settings.load().visitors_max,
            per_minute: state.history.per_minute(),
            wait: state.history.time_for(state.glance.waiting + 1),
        }
    }
}

impl State {
    /// What is to be told next, in which line who was seen is, and whether that is all.
    fn next_step(&mut self, is_on: bool) -> (Step, u64, bool) {
        let stayed: Vec<Ticket> = self.stayed.drain(..self.stayed.len().min(STEP_MAX)).collect();
        let seen_in = self.seen.first().map_or(0, |ticket| ticket.epoch);
        let tickets = self.seen.drain(..self.seen.len().min(STEP_MAX));
        // Those of a line before it come again, and draw anew.
        let own = tickets.filter(|ticket| ticket.epoch == seen_in);
        let seen = own.map(|ticket| ticket.number).collect();
        let is_last = self.stayed.is_empty() && self.seen.is_empty();
        let grants = if is_on && is_last { self.pace.left().min(STEP_MAX as u64) } else { 0 };
        (Step { seen, stayed, grants }, seen_in, is_last)
    }
}
