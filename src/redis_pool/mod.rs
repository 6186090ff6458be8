//! Connections to Redis: the one place that knows addresses, sentinels, TLS, passwords, timeouts and
//! how to connect again. It does not know what keys mean.
//!
//! A [`Dialer`] gives connections as streams of bytes, logged in, to who passes on what others say.
//!
//! [`Redis`] has one connection that all share, whose commands are pipelined; who waits for
//! something (`XREAD BLOCK`) gets one of its own. Both are dropped at the first sign of trouble: a
//! connection whose answer is overdue may be half open, or may answer the wrong question later.

mod backoff;
mod command;
mod concerns;
mod connect;
mod raw;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use backoff::Backoff;
pub use command::{Command, Reply};
pub use raw::Dialer;
pub use stream::Stream;

use crate::clock::{Clock, Moment};
use crate::random;
use crate::settings;
use connect::Target;

/// Why Redis did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// The file of the authorities is of no use.
    #[error("redis.authority: {0}")]
    Authority(String),
    /// There is no connection, and none is tried before some time has passed.
    #[error("there is no connection")]
    Away,
    /// No connection can be made.
    #[error("cannot connect to {address}: {what}")]
    Connect {
        /// The address, without user and password.
        address: String,
        /// What went wrong.
        what: String,
    },
    /// The user is unknown, or the password wrong.
    #[error("{address} refuses the user or the password: {what}")]
    Login {
        /// The address, without user and password.
        address: String,
        /// What the server said.
        what: String,
    },
    /// No sentinel knows the master, or what they name is none.
    #[error("no sentinel of {asked} names a master {master:?} that is one: {what}")]
    NoMaster {
        /// How many were asked.
        asked: usize,
        /// `redis.master`
        master: String,
        /// What the last one said.
        what: String,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server answered with an error.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// The answer is none that this command has.
    #[error("the answer is not what was asked for")]
    Unexpected,
}

impl RedisError {
    /// Is the connection of no more use after it? Errors of a master that is none any more count
    /// too: only a new connection finds the new one.
    fn ends_connection(&self) -> bool {
        match self {
            Self::Refused(what) => {
                let codes = ["READONLY", "MASTERDOWN", "LOADING", "NOAUTH"];
                codes.iter().any(|code| what.starts_with(code))
            }
            Self::Unexpected => false,
            _ => true,
        }
    }
}

/// Between two lines about the same refusal.
const REFUSAL_PAUSE: Duration = Duration::from_mins(1);
/// Refusals that are known as said; what is beyond waits for its turn.
const REFUSALS_MAX: usize = 16;

/// A connection of one's own.
pub struct Link {
    shared: connect::Shared,
}

impl Link {
    /// Sends a command and waits for its answer; after an error that is none of the server's the
    /// link is of no more use.
    pub async fn ask(&mut self, command: &Command, timeout: Duration) -> Result<Reply, RedisError> {
        let sent = self.shared.connection.send_packed_command(command.packed());
        match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(value)) => Reply::of(value).into_result(),
            Ok(Err(error)) => Err(command::error_of(&error)),
            Err(_elapsed) => Err(RedisError::TimedOut(timeout)),
        }
    }

    async fn ask_all(
        &mut self,
        commands: &[Command],
        timeout: Duration,
    ) -> Result<Vec<Reply>, RedisError> {
        let pipeline = command::pipeline(commands);
        let sent = self.shared.connection.send_packed_commands(&pipeline, 0, commands.len());
        match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(values)) if values.len() == commands.len() => {
                Ok(values.into_iter().map(Reply::of).collect())
            }
            Ok(Ok(_)) => Err(RedisError::Unexpected),
            Ok(Err(error)) => Err(command::error_of(&error)),
            Err(_elapsed) => Err(RedisError::TimedOut(timeout)),
        }
    }
}

/// The shared connection, or when to try again.
struct Shared {
    connection: Option<connect::Shared>,
    /// Counts connections, so that an error of an old one does not end a newer one.
    number: u64,
    backoff: Backoff,
    retry_at: Moment,
    /// What was last said of it in the log.
    said: Option<RedisError>,
    /// What it refused over a connection that is good, and when that was said.
    refusals: Vec<(RedisError, Moment)>,
    info_seen: bool,
}

/// Redis, as all parts of this process see it.
pub struct Redis {
    target: Target,
    timeout: Duration,
    reconnect_max: Duration,
    clock: Clock,
    shared: Mutex<Shared>,
    /// One connects, the others wait for it.
    connecting: tokio::sync::Mutex<()>,
    connected: AtomicBool,
}

impl Redis {
    /// Connects at the first question.
    ///
    /// # Errors
    /// [`RedisError::Authority`]
    pub fn new(settings: &settings::Redis, clock: &Clock) -> Result<Self, RedisError> {
        Ok(Self {
            target: Target::new(settings)?,
            timeout: settings.timeout,
            reconnect_max: settings.reconnect_max,
            clock: clock.clone(),
            shared: Mutex::new(Shared {
                connection: None,
                number: 0,
                backoff: Backoff::new(settings.reconnect_max),
                retry_at: Moment::default(),
                said: None,
                refusals: Vec::new(),
                info_seen: false,
            }),
            connecting: tokio::sync::Mutex::new(()),
            connected: AtomicBool::new(false),
        })
    }

    /// Where it is, without user and password.
    pub fn address(&self) -> String {
        self.target.address()
    }

    /// Does the shared connection stand, as far as is known?
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// For a single command.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Pauses between tries, for who has a connection of his own.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.reconnect_max)
    }

    /// A connection of one's own.
    pub async fn link(&self) -> Result<Link, RedisError> {
        self.target.connect().await.map(|shared| Link { shared })
    }

    /// Asks over the shared connection.
    pub async fn ask(&self, command: &Command) -> Result<Reply, RedisError> {
        let (mut link, number) = self.shared_link().await?;
        let answer = link.ask(command, self.timeout).await;
        self.judge(number, answer.as_ref().err());
        answer
    }

    /// The same, within the time for a command, whether a connection stands or not. One that has to be made first comes to
    /// its end all the same, for the next question.
    pub async fn ask_in_time(self: &Arc<Self>, command: Command) -> Result<Reply, RedisError> {
        let asking = Arc::clone(self);
        let asked = tokio::spawn(async move { asking.ask(&command).await });
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_stopped)) => Err(RedisError::Away),
            Err(_elapsed) => Err(RedisError::TimedOut(self.timeout)),
        }
    }

    /// Asks several questions at once, which are answered in their order. An error of the server
    /// is the answer to its command alone ([`Reply::Error`]).
    pub async fn ask_all(&self, commands: &[Command]) -> Result<Vec<Reply>, RedisError> {
        let (mut link, number) = self.shared_link().await?;
        let answers = link.ask_all(commands, self.timeout).await;
        let error = match &answers {
            Err(error) => Some(error.clone()),
            Ok(replies) => replies.iter().find_map(Reply::error),
        };
        self.judge(number, error.as_ref());
        answers
    }

    /// The same where a connection stands; [`RedisError::Away`] where none does.
    pub async fn ask_all_if_connected(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Reply>, RedisError> {
        if !self.is_connected() {
            return Err(RedisError::Away);
        }
        self.ask_all(commands).await
    }

    async fn shared_link(&self) -> Result<(Link, u64), RedisError> {
        if let Some(found) = self.standing() {
            return Ok(found);
        }
        if self.clock.now() < self.shared.lock().retry_at {
            return Err(RedisError::Away);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(found) = self.standing() {
            return Ok(found);
        }
        if self.clock.now() < self.shared.lock().retry_at {
            return Err(RedisError::Away);
        }
        match self.target.connect().await {
            Ok(connection) => Ok(self.connected(connection).await),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn standing(&self) -> Option<(Link, u64)> {
        let shared = self.shared.lock();
        let connection = shared.connection.clone()?;
        Some((Link { shared: connection }, shared.number))
    }

    async fn connected(&self, connection: connect::Shared) -> (Link, u64) {
        let mut link = Link { shared: connection.clone() };
        if !self.shared.lock().info_seen {
            self.look_at_info(&mut link).await;
        }
        let mut shared = self.shared.lock();
        shared.number += 1;
        shared.connection = Some(connection);
        shared.info_seen = true;
        // The pause grows on until an answer has come: a server that takes connections and then
        // refuses each command is not asked more often than one that is away.
        self.connected.store(true, Ordering::Relaxed);
        (link, shared.number)
    }

    async fn look_at_info(&self, link: &mut Link) {
        let Ok(reply) = link.ask(&Command::new("INFO"), self.timeout).await else { return };
        for concern in reply.text().as_deref().into_iter().flat_map(concerns::concerns) {
            tracing::warn!(redis = %self.address(), "{concern}");
        }
    }

    fn failed(&self, error: &RedisError) {
        let mut shared = self.shared.lock();
        let pause = shared.backoff.next(random::number());
        shared.retry_at = self.clock.now().plus(pause);
        self.say(&mut shared, error);
    }

    /// What an answer, or the lack of one, says of the connection.
    fn judge(&self, number: u64, error: Option<&RedisError>) {
        let mut shared = self.shared.lock();
        match error {
            None => {
                shared.backoff.reset();
                if number == shared.number && shared.said.take().is_some() {
                    tracing::info!(redis = %self.address(), "Redis answers again");
                }
            }
            Some(error) if !error.ends_connection() => self.say_refusal(&mut shared, error),
            Some(error) => {
                if number == shared.number {
                    shared.connection = None;
                    self.connected.store(false, Ordering::Relaxed);
                    let pause = shared.backoff.next(random::number());
                    shared.retry_at = self.clock.now().plus(pause);
                    self.say(&mut shared, error);
                }
            }
        }
    }

    /// Once a minute for each: answers to other commands say nothing of this one.
    fn say_refusal(&self, shared: &mut Shared, error: &RedisError) {
        let now = self.clock.now();
        shared.refusals.retain(|(_, said)| now.since(*said) < REFUSAL_PAUSE);
        let is_known = shared.refusals.iter().any(|(known, _)| known == error);
        if is_known || shared.refusals.len() >= REFUSALS_MAX {
            return;
        }
        shared.refusals.push((error.clone(), now));
        let text = error.to_string();
        let lacks_right = ["NOPERM", "can't run this command", "can't access"];
        let advice = if lacks_right.iter().any(|words| text.contains(words)) {
            "; does its user have the rights that docs/operations.md lists?"
        } else {
            ""
        };
        tracing::warn!(redis = %self.address(), "Redis does not do what it was asked: {text}{advice}");
    }

    /// Once for each new trouble, not at each try.
    fn say(&self, shared: &mut Shared, error: &RedisError) {
        let is_same =
            |said: &RedisError| std::mem::discriminant(said) == std::mem::discriminant(error);
        if !shared.said.as_ref().is_some_and(is_same) {
            tracing::warn!(
                redis = %self.address(),
                "Redis cannot be used: {error}; this node goes on alone and keeps trying"
            );
            shared.said = Some(error.clone());
        }
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Redis").field("address", &self.address()).finish_non_exhaustive()
    }
}
