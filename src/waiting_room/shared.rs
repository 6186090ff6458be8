//! The line of the fleet, in Redis: each question and each step is one script, by the clock of Redis.

use std::sync::Arc;
use std::time::Duration;

use super::glance::Glance;
use super::line::{Drawn, Rules, Step, Ticket};
use crate::redis_pool::{Command, Redis, RedisError, Reply};

const SCRIPT: &str = include_str!("room.lua");

/// What a line's step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The line after it.
    pub glance: Glance,
    /// So many were taken in by this step.
    pub taken: u64,
    /// For so long it counts that some node's PHP has more to do than it can.
    pub busy_left: Duration,
    /// What a command said, on any node.
    pub by_hand: Option<bool>,
}

/// What somebody hears whose turn it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Come in.
    Inside,
    /// Not yet, or not any more: first in the line.
    Waits,
    /// The ticket is of a line that is no more.
    Foreign,
}

/// The line of the fleet.
pub struct Shared {
    redis: Arc<Redis>,
    /// State, who waits, who was seen, who is inside, who came back, the switch.
    keys: [String; 6],
}

impl Shared {
    /// The one of the fleet of this prefix.
    pub fn new(redis: Arc<Redis>, prefix: &str) -> Self {
        let names = ["state", "waiting", "seen", "inside", "back", "switch"];
        Self { redis, keys: names.map(|name| format!("{{{prefix}}}:room:{name}")) }
    }

    /// Draws a ticket, as [`super::line::Line::draw`]. `epoch`: of a new line, where there is none; `now_ms`: zero, but in tests.
    ///
    /// # Errors
    /// Redis is away, slow, or answers something else.
    pub async fn draw(
        &self,
        may_enter: bool,
        rules: &Rules,
        (epoch, now_ms): (u64, u64),
    ) -> Result<Drawn, RedisError> {
        let command = self.command("draw", rules, (epoch, now_ms)).number(u8::from(may_enter));
        let reply = self.redis.ask_in_time(command).await?;
        let [epoch, number, is_inside] = reply.list().unwrap_or_default() else {
            return Err(RedisError::Unexpected);
        };
        let (epoch, number) = (number_of(epoch)?, number_of(number)?);
        Ok(match (number, number_of(is_inside)?) {
            (0, _) => Drawn::Full,
            (_, 1) => Drawn::Inside(Ticket { epoch, number }),
            _ => Drawn::Waits(Ticket { epoch, number }),
        })
    }

    /// Asks whether a visitor may come in, as [`super::line::Line::enter`].
    ///
    /// # Errors
    /// As for [`Shared::draw`].
    pub async fn enter(
        &self,
        ticket: Ticket,
        rules: &Rules,
        at: (u64, u64),
    ) -> Result<Entered, RedisError> {
        let command = self.command("enter", rules, at);
        let reply =
            self.redis.ask_in_time(command.number(ticket.epoch).number(ticket.number)).await?;
        match reply.bytes() {
            Some(b"inside") => Ok(Entered::Inside),
            Some(b"waits") => Ok(Entered::Waits),
            Some(b"foreign") => Ok(Entered::Foreign),
            _ => Err(RedisError::Unexpected),
        }
    }

    /// A step, as [`super::line::Line::step`]. `seen_in`: the line of who was seen; `busy`: so long it counts that PHP has more to do
    /// than it can.
    ///
    /// # Errors
    /// As for [`Shared::draw`].
    pub async fn step(
        &self,
        step: &Step,
        (seen_in, busy): (u64, Duration),
        rules: &Rules,
        at: (u64, u64),
    ) -> Result<Stepped, RedisError> {
        let command = self.command("step", rules, at).number(step.grants).number(busy.as_millis());
        let command = command.number(step.stayed.len());
        let command = step.stayed.iter().fold(command, |command, ticket| {
            command.arg(format!("{}.{}", ticket.epoch, ticket.number))
        });
        let command = step.seen.iter().fold(command.number(seen_in), Command::number);
        stepped(&self.redis.ask_in_time(command).await?)
    }

    /// What a command said, on any node.
    ///
    /// # Errors
    /// As for [`Shared::draw`].
    pub async fn by_hand(&self) -> Result<Option<bool>, RedisError> {
        Ok(switch_of(&self.redis.ask_in_time(Command::new("GET").arg(&self.keys[5])).await?))
    }

    /// Tells all nodes what a command said. It stays until another one takes it back.
    ///
    /// # Errors
    /// As for [`Shared::draw`].
    pub async fn tell(&self, by_hand: Option<bool>) -> Result<(), RedisError> {
        let switch = &self.keys[5];
        let command = match by_hand {
            Some(is_on) => Command::new("SET").arg(switch).arg(if is_on { "on" } else { "off" }),
            None => Command::new("DEL").arg(switch),
        };
        self.redis.ask_in_time(command).await.map(drop)
    }

    /// Ends the line: who waits is not known any more. Who is inside stays so, and goes on to count.
    ///
    /// # Errors
    /// As for [`Shared::draw`].
    pub async fn clear(&self) -> Result<(), RedisError> {
        let [state, waiting, seen, _, back, _] = &self.keys;
        let command =
            [state, waiting, seen, back].into_iter().fold(Command::new("DEL"), Command::arg);
        self.redis.ask_in_time(command).await.map(drop)
    }

    fn command(&self, what: &str, rules: &Rules, (epoch, now_ms): (u64, u64)) -> Command {
        let command = Command::new("EVAL").arg(SCRIPT).number(self.keys.len());
        let command = self.keys.iter().fold(command, Command::arg);
        let Rules { visitors_max, hold_ms, idle_ms, absent_ms, waiting_max } = *rules;
        let numbers = [epoch, now_ms, visitors_max, hold_ms, idle_ms, absent_ms, waiting_max];
        numbers.into_iter().fold(command.arg(what), Command::number)
    }
}

fn number_of(reply: &Reply) -> Result<u64, RedisError> {
    reply.integer().ok_or(RedisError::Unexpected)
}

fn switch_of(reply: &Reply) -> Option<bool> {
    match reply.bytes() {
        Some(b"on") => Some(true),
        Some(b"off") => Some(false),
        _ => None,
    }
}

fn stepped(reply: &Reply) -> Result<Stepped, RedisError> {
    let [epoch, drawn, serving, granted, waiting, inside, busy_left, switch, taken, marks @ ..] =
        reply.list().unwrap_or_default()
    else {
        return Err(RedisError::Unexpected);
    };
    Ok(Stepped {
        glance: Glance {
            epoch: number_of(epoch)?,
            drawn: number_of(drawn)?,
            serving: number_of(serving)?,
            granted: number_of(granted)?,
            waiting: number_of(waiting)?,
            inside: number_of(inside)?,
            marks: marks.iter().map(number_of).collect::<Result<_, _>>()?,
        },
        taken: number_of(taken)?,
        busy_left: Duration::from_millis(number_of(busy_left)?),
        by_hand: switch_of(switch),
    })
}
