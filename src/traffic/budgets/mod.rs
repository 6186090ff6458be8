//! Budgets: limits that all nodes share, for what is slow anyway and what somebody guesses at: logins, password resets,
//! coupons, payments.
//!
//! They are counted in Redis, by one script that asks and takes in one round trip for all budgets of a request, and by the clock of Redis, so those of nodes do
//! not matter. Other than a limit of one node, which lets a burst through and then goes on at its rate, a budget of ten a minute
//! lets ten through in any minute: who guesses passwords gets no more for waiting a while first.
//!
//! Nothing in Redis says whose account it is: keys are hashes with a secret, where one is set.
//!
//! Where Redis is away or slow each node counts for itself, against its share of the same rate.

mod window;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;

use super::limits::{Limit, Limits, RetryAfter};
use crate::clock::Moment;
use crate::redis_pool::{Command, Redis, RedisError, Reply};
use crate::settings::{LimitRule, Rate};
use window::Window;

const SCRIPT: &str = include_str!("budget.lua");

/// Bytes of a hash that name an account: nobody finds two that share one.
const NAME_BYTES: usize = 16;

/// Whose account something is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder<'a> {
    /// Who asks: an address, a session, a class, in any form that is the same on all nodes.
    Client(&'a [u8]),
    /// What a form names, and an account that cannot be read has nobody else's name ([`super::forms`]).
    Account(Option<&'a str>),
}

/// What a rule limits for all nodes together.
#[derive(Clone, Debug)]
pub struct Budget {
    name: Arc<str>,
    rate: Rate,
    burst: u32,
    windows: Vec<Window>,
}

/// What one rule takes out of its budget for a request.
#[derive(Clone, Debug)]
pub struct Taking<'a> {
    /// The budget.
    pub budget: &'a Budget,
    /// Whose accounts; one at least.
    pub holders: Vec<Holder<'a>>,
    /// So much out of each; one at least, and more than a budget holds is never let through.
    pub count: u32,
    /// Is the request refused where nothing is left in one of them? Then nothing is taken out of other budgets
    /// either. Else it goes on, and nothing is taken out of this one.
    pub binds: bool,
}

/// When something will be left again, where nothing is.
pub type Taken = Result<(), RetryAfter>;

/// What became of requests since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Asked in Redis.
    pub asked: u64,
    /// Counted by this node alone, since Redis was away or slow.
    pub alone: u64,
    /// Refused, by either.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    alone: AtomicU64,
    refused: AtomicU64,
}

/// The budgets of all rules.
pub struct Budgets {
    /// `None`: no fleet, so this node counts for itself.
    redis: Option<Arc<Redis>>,
    prefix: String,
    secret: hmac::Key,
    limits: Arc<Limits>,
    is_alone: AtomicBool,
    counts: Counts,
}

impl Budgets {
    /// `prefix` and `secret` are those of the fleet, the same on all nodes. Without a secret who reads Redis can try
    /// addresses and accounts until one has the name that is there. What a node counts for itself is kept in `limits`.
    pub fn new(
        redis: Option<Arc<Redis>>,
        prefix: &str,
        secret: &[u8],
        limits: Arc<Limits>,
    ) -> Self {
        Self {
            redis,
            prefix: format!("{{{prefix}}}:budget:"),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
            limits,
            is_alone: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// The budget of a rule; `None`: it limits no requests.
    pub fn budget(&self, name: &str, rule: &LimitRule) -> Option<Budget> {
        let rate = rule.requests?;
        let burst = rule.burst.unwrap_or(rate.amount).max(1);
        Some(Budget { name: name.into(), rate, burst, windows: Window::all(rate, burst) })
    }

    /// Takes a request out of all accounts of all its budgets, or out of none where one that binds has nothing left.
    /// Says that of each budget. `nodes`: so many share the rate while each counts for itself. Waits for no longer
    /// than Redis has for a command.
    pub async fn take(&self, takings: &[Taking<'_>], nodes: usize, now: Moment) -> Vec<Taken> {
        let answer = match &self.redis {
            Some(redis) => self.ask(redis, takings).await,
            None => Err(RedisError::Away),
        };
        let taken = match answer {
            Ok(taken) => {
                self.counts.asked.fetch_add(1, Ordering::Relaxed);
                self.is_shared_again();
                taken
            }
            Err(error) => {
                self.counts.alone.fetch_add(1, Ordering::Relaxed);
                self.goes_on_alone(&error, nodes);
                self.take_here(takings, nodes, now)
            }
        };
        if taken.iter().any(Result::is_err) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// What became of requests.
    pub fn figures(&self) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { asked, alone, refused } = &self.counts;
        Figures { asked: read(asked), alone: read(alone), refused: read(refused) }
    }

    async fn ask(
        &self,
        redis: &Arc<Redis>,
        takings: &[Taking<'_>],
    ) -> Result<Vec<Taken>, RedisError> {
        let reply = redis.ask_in_time(self.command(takings)).await?;
        waits_of(&reply, takings.len())
    }

    /// The script goes with each question, as those of the fleet do: it is two kilobytes, and one that Redis has forgotten
    /// would take a second round trip.
    fn command(&self, takings: &[Taking<'_>]) -> Command {
        let names = takings.iter().flat_map(|Taking { budget, holders, .. }| {
            holders.iter().map(|holder| self.name(budget, *holder))
        });
        let names: Vec<String> = names.collect();
        let command = Command::new("EVAL").arg(SCRIPT).number(names.len());
        let command = names.into_iter().fold(command, Command::arg);
        takings.iter().fold(command, |command, Taking { budget, holders, count, binds }| {
            let command = command.number(holders.len()).number(u8::from(*binds)).number(*count);
            let command = command.number(budget.windows.len());
            budget.windows.iter().fold(command, |command, window| {
                command.number(window.count).number(window.microseconds)
            })
        })
    }

    /// The key of an account.
    fn name(&self, budget: &Budget, holder: Holder<'_>) -> String {
        let (kind, bytes) = match holder {
            Holder::Client(bytes) => (b'c', bytes),
            Holder::Account(Some(account)) => (b'a', account.as_bytes()),
            Holder::Account(None) => (b'u', &b""[..]),
        };
        let mut context = hmac::Context::with_key(&self.secret);
        // A rule whose name and limit stay keeps its accounts. Each part says how long it is, so none can be taken for another.
        context.update(&(budget.name.len() as u64).to_be_bytes());
        context.update(budget.name.as_bytes());
        context.update(&budget.rate.amount.to_be_bytes());
        context.update(&budget.rate.each.as_micros().to_be_bytes());
        context.update(&budget.burst.to_be_bytes());
        context.update(&[kind]);
        context.update(bytes);
        let hash = context.sign();
        hash.as_ref().iter().take(NAME_BYTES).fold(self.prefix.clone(), |mut name, byte| {
            // Writing to a text cannot fail.
            let _written = write!(name, "{byte:02x}");
            name
        })
    }

    /// What another request takes between the look and the taking is not given back to this one: that is rare, and
    /// errs by one.
    fn take_here(&self, takings: &[Taking<'_>], nodes: usize, now: Moment) -> Vec<Taken> {
        let limits: Vec<Limit> =
            takings.iter().map(|taking| self.share(taking.budget, nodes)).collect();
        let key = |holder: &Holder<'_>| self.limits.key(("budget", holder));
        let all = || takings.iter().zip(&limits);
        let left = |(taking, limit): (&Taking<'_>, &Limit)| {
            let left = |holder| self.limits.left(limit, key(holder), taking.count, now);
            taking.holders.iter().try_for_each(left)
        };
        let left: Vec<Taken> = all().map(left).collect();
        let is_refused = takings.iter().zip(&left).any(|(own, left)| own.binds && left.is_err());
        if is_refused {
            return left;
        }
        let take = |((taking, limit), left): ((&Taking<'_>, &Limit), Taken)| {
            left?;
            let take = |holder| self.limits.take_some(limit, key(holder), taking.count, now);
            taking.holders.iter().try_for_each(take)
        };
        all().zip(left).map(take).collect()
    }

    /// The share of one node: as many, in a time that is longer by the number of nodes.
    fn share(&self, budget: &Budget, nodes: usize) -> Limit {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX).max(1);
        let Rate { amount, each } = budget.rate;
        let requests = Rate { amount, each: each.saturating_mul(nodes) };
        let rule = LimitRule {
            requests: Some(requests),
            burst: Some((budget.burst / nodes).max(1)),
            ..LimitRule::default()
        };
        self.limits.limit(&budget.name, &rule)
    }

    fn goes_on_alone(&self, error: &RedisError, nodes: usize) {
        if self.redis.is_some() && !self.is_alone.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "budgets of the fleet cannot be asked for: {error}; this node counts for itself, \
                 against the share of one of {nodes} nodes"
            );
        }
    }

    fn is_shared_again(&self) {
        // Each login looks, few change it.
        if self.is_alone.load(Ordering::Relaxed) && self.is_alone.swap(false, Ordering::Relaxed) {
            tracing::info!("budgets are counted for the fleet again");
        }
    }
}

fn waits_of(reply: &Reply, count: usize) -> Result<Vec<Taken>, RedisError> {
    let waits = reply.list().filter(|waits| waits.len() == count).ok_or(RedisError::Unexpected)?;
    let taken = |wait: &Reply| match wait.integer() {
        Some(0) => Ok(Ok(())),
        Some(milliseconds) => Ok(Err(RetryAfter(Duration::from_millis(milliseconds)))),
        None => Err(RedisError::Unexpected),
    };
    waits.iter().map(taken).collect()
}

#[cfg(test)]
mod tests;
