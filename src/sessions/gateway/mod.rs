//! The way between PHP and the Redis that has the sessions: a server that any client of Redis can
//! use, over few connections.
//!
//! - **Shared connections** ([`Trunks`]): a command leaves as it came, and its reply is passed on as it
//!   came, framed but not decoded. Which commands may go so stands in a table (`commands`); they leave
//!   the connection as it was, and wait for nobody.
//! - **A connection of one's own** is for what does not: WATCH, a transaction that does not come whole in
//!   one read, commands that wait, SUBSCRIBE, MONITOR, and commands that nobody here knows. It goes back
//!   to a small pool when it is in the state in which it was given, and is closed otherwise; if it is
//!   lost so is its client's.
//! - **This server answers** what is about the connection itself: SELECT, AUTH, HELLO, CLIENT, RESET,
//!   QUIT. It refuses what administers the server, and what would hurt other clients.
//! - **While the Redis is away** (or another one takes its place) a command that surely was not carried
//!   out waits up to `sessions.failover_wait` after the loss: one that was not sent, one that changes
//!   nothing, one that the server refused for the moment (LOADING, READONLY, MASTERDOWN). One that may
//!   have been carried out gets an error at once, and so does one whose own reply ended a shared connection, since it is
//!   too large or does not come in time.

mod batch;
mod budget;
mod client;
mod commands;
mod door;
mod error;
mod inside;
mod line;
mod lobby;
mod locking;
mod messages;
mod own;
mod pinned;
mod records;
mod stopped;
mod trunks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use client::From;
pub use error::BackendError;
pub use lobby::Lobby;
pub use messages::Messages;
pub use records::StoredRecords;
pub use trunks::{TrunkFigures, Trunks};

use crate::clock::Clock;
use crate::redis_pool::RedisError;
use crate::resp::{Limits, ReplyLimits};
use crate::sessions::carried::Carried;
use crate::sessions::embedded::Embedded;
use crate::sessions::figures::Holders;
use crate::sessions::lock::Locks;
use crate::sessions::throwaway::Mint;
use crate::settings::Settings;
use budget::Budget;
use client::Client;
use door::Door;
use lobby::Call;

/// Bytes of a command on a line, as in Redis.
const INLINE_MAX_BYTES: usize = 64 << 10;

/// What serves the clients.
pub struct Gateway {
    backend: Backend,
    budget: Budget,
    /// Who waits for a session's lock waits here.
    locks: Option<Arc<Locks>>,
    door: Door,
    bounds: Bounds,
    clock: Clock,
    next_id: AtomicU64,
    counts: Counts,
    /// Whose ids' sessions keep nothing.
    mint: Option<Arc<Mint>>,
    holders: Arc<Holders>,
}

/// Where the sessions are.
#[derive(Clone)]
pub enum Backend {
    /// In a Redis that all nodes share.
    Central(Trunks),
    /// In this server.
    Embedded(Arc<Embedded>),
}

/// Of `[sessions]`.
struct Bounds {
    key_prefix: Vec<u8>,
    limits: Limits,
    databases: u32,
    timeout: Duration,
    failover_wait: Duration,
    reply_limits: ReplyLimits,
    pipeline_max: usize,
    idle_timeout: Duration,
    write_timeout: Duration,
}

#[derive(Default)]
struct Counts {
    clients: AtomicUsize,
    commands: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    malformed: AtomicU64,
}

/// What the gateway has seen, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayFigures {
    /// Clients that are connected.
    pub clients: usize,
    /// Commands that came.
    pub commands: u64,
    /// Commands that got an error of this server's, since the Redis was away or a bound was reached.
    pub failed: u64,
    /// Tries to send commands again.
    pub retried: u64,
    /// Clients whose bytes were no commands.
    pub malformed: u64,
    /// The connections behind.
    pub trunks: TrunkFigures,
}

impl Gateway {
    /// A gateway to where the sessions are. Without `locks` tries for the lock of a session are answered as
    /// any command.
    pub fn new(
        settings: &Settings,
        backend: Backend,
        locks: Option<Arc<Locks>>,
        clock: &Clock,
    ) -> Self {
        let sessions = &settings.sessions;
        let budget = match &backend {
            Backend::Central(trunks) => trunks.budget().clone(),
            Backend::Embedded(_) => Budget::new(sessions.buffers_max_bytes),
        };
        Self {
            backend,
            budget,
            locks,
            door: Door::new(settings),
            bounds: Bounds {
                key_prefix: sessions.key_prefix.clone().into_bytes(),
                limits: Limits {
                    inline_max_bytes: INLINE_MAX_BYTES,
                    bulk_max_bytes: sessions.request_max_bytes,
                    arguments_max: sessions.arguments_max,
                    request_max_bytes: sessions.request_max_bytes,
                },
                databases: sessions.databases,
                timeout: sessions.timeout,
                failover_wait: sessions.failover_wait,
                reply_limits: trunks::limits(sessions),
                pipeline_max: sessions.pipeline_max,
                idle_timeout: sessions.idle_timeout,
                write_timeout: sessions.write_timeout,
            },
            clock: clock.clone(),
            next_id: AtomicU64::new(1),
            counts: Counts::default(),
            mint: None,
            holders: Arc::new(Holders::new(sessions.key_prefix.as_bytes())),
        }
    }

    /// Answers for sessions of this mint's ids by itself: they keep nothing.
    #[must_use]
    pub fn with_throwaway_sessions(self, mint: Option<Arc<Mint>>) -> Self {
        Self { mint, ..self }
    }

    /// The locks, where they are this server's to give.
    pub fn locks(&self) -> Option<&Arc<Locks>> {
        self.locks.as_ref()
    }

    /// Which paths hold locks.
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// Serves one client until it leaves, or is called away: then its state is given. `closing` says that
    /// this process ends; then its connection is closed when it has been silent for a while.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        self: Arc<Self>,
        stream: S,
        from: &From,
        carried: Option<Carried>,
        call: Call,
        closing: &impl Fn() -> bool,
    ) -> Option<Carried> {
        let _counted = Counted::new(&self);
        let mut client = Client::new(Arc::clone(&self), stream, from, call);
        if let Some(carried) = carried {
            client.resume(carried);
        }
        client.run(closing).await
    }

    fn trunks(&self) -> Result<&Trunks, BackendError> {
        match &self.backend {
            Backend::Central(trunks) => Ok(trunks),
            Backend::Embedded(_) => Err(BackendError::Away(RedisError::Away)),
        }
    }

    /// For metrics.
    pub fn figures(&self) -> GatewayFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GatewayFigures {
            clients: self.counts.clients.load(Ordering::Relaxed),
            commands: count(&self.counts.commands),
            failed: count(&self.counts.failed),
            retried: count(&self.counts.retried),
            malformed: count(&self.counts.malformed),
            trunks: self.trunks().map(Trunks::figures).unwrap_or_default(),
        }
    }
}

/// A client that is connected.
struct Counted(Arc<Gateway>);

impl Counted {
    fn new(gateway: &Arc<Gateway>) -> Self {
        gateway.counts.clients.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gateway))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counts.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
