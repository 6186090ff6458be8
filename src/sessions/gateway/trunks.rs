//! The connections to the Redis that has the sessions.
//!
//! Few are shared by all clients: one for each database and version of the protocol in use (or
//! `sessions.trunks`), on which commands follow each other as they come and replies come back in
//! the same order. What leaves a connection in another state, or waits, has one for itself
//! ([`Trunks::alone`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::budget::Budget;
use super::error::BackendError;
use super::line::{Answer, End, Failure, Job, Line};
use super::messages::Messages;
use crate::clock::{Clock, Moment};
use crate::random;
use crate::redis_pool::{Dialer, RedisError, Stream};
use crate::resp::{Protocol, ReplyLimits, Value, decode};
use crate::settings::{self, Sessions};

/// Jobs that wait for a shared connection to take them; who has one more waits as long.
const QUEUE_MAX: usize = 1_024;
/// Idle connections of one's own that are kept for the next who needs one.
const SPARE_MAX: usize = 8;
/// The first pause where Redis asked to come again.
const AGAIN: Duration = Duration::from_millis(20);

/// The way to the Redis that has the sessions; clones are handles on the same.
#[derive(Clone)]
pub struct Trunks(Arc<Shared>);

struct Shared {
    dialer: Dialer,
    clock: Clock,
    limits: ReplyLimits,
    timeout: Duration,
    failover_wait: Duration,
    trunks: usize,
    trunks_max: usize,
    budget: Budget,
    open: Mutex<HashMap<Kind, Arc<Trunk>>>,
    spare: Mutex<Vec<(Kind, Stream)>>,
    alone: Arc<Semaphore>,
    alone_max: usize,
    /// Since when no connection comes about.
    away: Mutex<Option<Away>>,
    counts: Counts,
}

struct Away {
    since: Moment,
    /// Was it said?
    said: bool,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    lost: AtomicU64,
    failures: AtomicU64,
}

/// What the connections have come to, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrunkFigures {
    /// Shared connections that stand.
    pub connections: usize,
    /// Connections that one client has for itself.
    pub alone: usize,
    /// Shared connections that were lost.
    pub lost: u64,
    /// Tries to connect that failed.
    pub failures: u64,
}

/// What a shared connection speaks, and which of several it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    database: u32,
    protocol: Protocol,
    number: usize,
}

/// A shared connection, or what makes it.
pub(super) struct Trunk {
    jobs: mpsc::Sender<Job>,
    renew: Arc<Notify>,
}

impl Trunk {
    /// Queues commands. Nothing was sent if it fails.
    pub(super) async fn send(
        &self,
        commands: Vec<Bytes>,
        replies: usize,
        hold: super::budget::Hold,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        let job = Job { commands, replies, hold, answer };
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(job).await {
            job.refuse(BackendError::Lost(RedisError::Away));
        }
        match answered.await {
            Ok(answer) => answer,
            // The task ended in between, which it does when this process ends.
            Err(_) => Answer::nothing(),
        }
    }

    /// The server will not have such a connection; another try makes a new one.
    pub(super) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// What is behind is not, or no more, what it should be: the next command goes over a new
    /// connection.
    pub(super) fn renew(&self) {
        self.renew.notify_one();
    }
}

impl Trunks {
    /// Connects when somebody asks.
    ///
    /// # Errors
    /// [`RedisError::Authority`]
    pub fn new(
        redis: &settings::Redis,
        sessions: &Sessions,
        clock: &Clock,
    ) -> Result<Self, RedisError> {
        Ok(Self(Arc::new(Shared {
            dialer: Dialer::new(redis)?,
            clock: clock.clone(),
            limits: limits(sessions),
            timeout: sessions.timeout,
            failover_wait: sessions.failover_wait,
            trunks: sessions.trunks,
            trunks_max: sessions.trunks_max,
            budget: Budget::new(sessions.buffers_max_bytes),
            open: Mutex::default(),
            spare: Mutex::default(),
            alone: Arc::new(Semaphore::new(sessions.pinned_max)),
            alone_max: sessions.pinned_max,
            away: Mutex::default(),
            counts: Counts::default(),
        })))
    }

    /// Where it is, without user and password.
    pub fn address(&self) -> String {
        self.0.dialer.address()
    }

    /// For metrics.
    pub fn figures(&self) -> TrunkFigures {
        let counts = &self.0.counts;
        TrunkFigures {
            connections: counts.connections.load(Ordering::Relaxed),
            alone: self.0.alone_max.saturating_sub(self.0.alone.available_permits()),
            lost: counts.lost.load(Ordering::Relaxed),
            failures: counts.failures.load(Ordering::Relaxed),
        }
    }

    /// Sends one packed command in a database and gives its reply, which may be an error of the
    /// server's ([`Value::Error`]). It must not change the state of its connection, nor wait.
    ///
    /// While the Redis is away it waits for it up to `sessions.failover_wait`. A command that may
    /// have been carried out is not sent again: [`BackendError::Lost`].
    pub async fn ask(&self, database: u32, command: Bytes) -> Result<Value, BackendError> {
        let again_until = self.0.clock.now().plus(self.0.failover_wait);
        let mut pause = AGAIN;
        loop {
            let trunk = self.trunk(database, Protocol::Resp2, 0)?;
            let Answer { replies, failure, .. } =
                trunk.send(vec![command.clone()], 1, self.0.budget.hold()).await;
            match (replies.first(), failure) {
                (Some(reply), _) if is_to_come_again(&reply.bytes) => {
                    if self.0.clock.now() >= again_until {
                        return decode(&reply.bytes).map_err(BackendError::Malformed);
                    }
                    trunk.renew();
                }
                (Some(reply), _) => return decode(&reply.bytes).map_err(BackendError::Malformed),
                (None, Some(failure)) if failure.unsent && is_lost(&failure.why) => {}
                (None, Some(Failure { why, culprit, .. })) => return Err(culprit.unwrap_or(why)),
                (None, None) => return Err(BackendError::Lost(RedisError::Unexpected)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Messages of a channel, on a connection of its own.
    pub async fn subscribe(&self, channel: &str) -> Result<Messages, BackendError> {
        let stream = self.0.dial(0, Protocol::Resp2).await?;
        Messages::subscribe(stream, channel, self.0.limits, self.0.timeout).await
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// The shared connection for a client, `client` being any number of its own.
    pub(super) fn trunk(
        &self,
        database: u32,
        protocol: Protocol,
        client: u64,
    ) -> Result<Arc<Trunk>, BackendError> {
        let number = usize::try_from(client).unwrap_or(0) % self.0.trunks;
        let kind = Kind { database, protocol, number };
        let mut open = self.0.open.lock();
        if let Some(trunk) = open.get(&kind) {
            return Ok(Arc::clone(trunk));
        }
        if open.len() >= self.0.trunks_max {
            // One that no client uses makes room.
            open.retain(|_, trunk| Arc::strong_count(trunk) > 1);
        }
        if open.len() >= self.0.trunks_max {
            return Err(BackendError::Full("sessions.trunks_max"));
        }
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let renew = Arc::new(Notify::new());
        let trunk = Arc::new(Trunk { jobs, renew: Arc::clone(&renew) });
        open.insert(kind, Arc::clone(&trunk));
        drop(open);
        tokio::spawn(keep(Arc::clone(&self.0), kind, queue, renew));
        Ok(trunk)
    }

    /// A connection of one's own.
    pub(super) async fn alone(
        &self,
        database: u32,
        protocol: Protocol,
    ) -> Result<Alone, BackendError> {
        let Ok(place) = Arc::clone(&self.0.alone).try_acquire_owned() else {
            return Err(BackendError::Full("sessions.pinned_max"));
        };
        let kind = Kind { database, protocol, number: 0 };
        let spare = {
            let mut spare = self.0.spare.lock();
            let found = spare.iter().position(|(of, _)| *of == kind);
            found.map(|at| spare.swap_remove(at).1)
        };
        if let Some(stream) = spare.filter(is_silent) {
            return Ok(Alone { stream, kind, _place: place });
        }
        let stream = self.dial_patiently(database, protocol).await?;
        Ok(Alone { stream, kind, _place: place })
    }

    /// Tries until `sessions.failover_wait` has passed since the Redis was lost.
    async fn dial_patiently(
        &self,
        database: u32,
        protocol: Protocol,
    ) -> Result<Stream, BackendError> {
        let mut backoff = self.0.dialer.backoff();
        loop {
            match self.0.dial(database, protocol).await {
                Ok(stream) => return Ok(stream),
                Err(error @ BackendError::Away(_)) if self.0.is_past_patience() => {
                    return Err(error);
                }
                Err(BackendError::Away(_)) => {
                    tokio::time::sleep(backoff.next(random::number())).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes back a connection that is in the state in which it was given.
    pub(super) fn give_back(&self, alone: Alone) {
        let mut spare = self.0.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push((alone.kind, alone.stream));
        }
    }
}

/// A connection of one's own; dropping it closes it.
pub(super) struct Alone {
    pub(super) stream: Stream,
    kind: Kind,
    _place: OwnedSemaphorePermit,
}

impl Alone {
    /// It has selected another database.
    pub(super) fn moved(&mut self, database: u32) {
        self.kind.database = database;
    }
}

impl Answer {
    fn nothing() -> Self {
        let why = BackendError::Lost(RedisError::Away);
        let failure = Some(Failure::new(why, false));
        Self { replies: Vec::new(), failure, hold: Budget::new(0).hold() }
    }
}

/// Is nothing there to be read, the end included? What is there was not asked for.
fn is_silent(stream: &Stream) -> bool {
    let waiting = match stream {
        Stream::Tcp(stream) => stream.try_read(&mut [0]),
        // Both would have to decrypt; a connection that has ended is noticed at the first command.
        Stream::Tls(_) => return false,
        Stream::Unix(stream) => stream.try_read(&mut [0]),
    };
    waiting.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

pub(super) fn limits(sessions: &Sessions) -> ReplyLimits {
    ReplyLimits {
        line_max_bytes: sessions.reply_max_bytes,
        bulk_max_bytes: sessions.reply_max_bytes,
        elements_max: sessions.reply_max_bytes / 4,
        reply_max_bytes: sessions.reply_max_bytes,
    }
}

/// Does the error say that nothing is wrong but the moment or the server? Such a command was not
/// carried out.
pub(super) fn is_to_come_again(reply: &[u8]) -> bool {
    [&b"-LOADING "[..], b"-READONLY ", b"-MASTERDOWN "].iter().any(|code| reply.starts_with(code))
}

/// Did the connection end, so that what may be sent again is sent over another one?
pub(super) fn is_lost(why: &BackendError) -> bool {
    matches!(why, BackendError::Lost(_))
}

impl Shared {
    async fn dial(&self, database: u32, protocol: Protocol) -> Result<Stream, BackendError> {
        match self.dialer.dial(database, protocol).await {
            Ok(stream) => {
                self.answers();
                Ok(stream)
            }
            // It is there, and will not have this database or version of the protocol.
            Err(RedisError::Refused(what)) => {
                self.answers();
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                Err(BackendError::Refused(what))
            }
            Err(error) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                let mut away = self.away.lock();
                let now = self.clock.now();
                let away = away.get_or_insert(Away { since: now, said: false });
                if !std::mem::replace(&mut away.said, true) {
                    tracing::warn!(redis = %self.dialer.address(), "the sessions' Redis: {error}");
                }
                Err(BackendError::Away(error))
            }
        }
    }

    /// It is not away.
    fn answers(&self) {
        if self.away.lock().take().is_some_and(|away| away.said) {
            tracing::info!(redis = %self.dialer.address(), "the sessions' Redis answers again");
        }
    }

    fn is_past_patience(&self) -> bool {
        let since = self.away.lock().as_ref().map(|away| away.since);
        since.is_some_and(|since| self.clock.now().since(since) >= self.failover_wait)
    }
}

/// Keeps a shared connection until nobody can ask any more.
async fn keep(shared: Arc<Shared>, kind: Kind, mut jobs: mpsc::Receiver<Job>, renew: Arc<Notify>) {
    let mut backoff = shared.dialer.backoff();
    loop {
        let dialled = {
            let dial = shared.dial(kind.database, kind.protocol);
            refusing(&shared, &mut jobs, dial).await
        };
        let error = match dialled {
            Ok(stream) => {
                shared.counts.connections.fetch_add(1, Ordering::Relaxed);
                let (clock, timeout) = (&shared.clock, shared.timeout);
                let mut line = Line::new(stream, clock, timeout, shared.limits);
                let end = line.run(&mut jobs, &renew).await;
                shared.counts.connections.fetch_sub(1, Ordering::Relaxed);
                let End::Lost(why) = end else { return };
                shared.counts.lost.fetch_add(1, Ordering::Relaxed);
                // They are to the same server.
                shared.spare.lock().clear();
                line.fail(&why);
                if line.has_answered() {
                    backoff.reset();
                    continue;
                }
                why
            }
            Err(error) => error,
        };
        if jobs.is_closed() && jobs.is_empty() {
            return;
        }
        let pause = tokio::time::sleep(backoff.next(random::number()));
        if matches!(error, BackendError::Refused(_)) {
            refuse_for(&mut jobs, &error, pause).await;
            // Who asks then begins anew.
            let mut open = shared.open.lock();
            if open.get(&kind).is_some_and(|trunk| Arc::ptr_eq(&trunk.renew, &renew)) {
                open.remove(&kind);
            }
            drop(open);
            jobs.close();
            refuse_all(&mut jobs, &error);
            return;
        }
        refusing(&shared, &mut jobs, pause).await;
        if shared.is_past_patience() {
            refuse_all(&mut jobs, &error);
        }
    }
}

/// Waits for something; those that ask meanwhile get an error where the Redis has been away for too
/// long.
async fn refusing<T>(
    shared: &Shared,
    jobs: &mut mpsc::Receiver<Job>,
    what: impl Future<Output = T>,
) -> T {
    tokio::pin!(what);
    loop {
        let is_past = shared.is_past_patience();
        tokio::select! {
            biased;
            done = &mut what => return done,
            Some(job) = jobs.recv(), if is_past => {
                job.refuse(BackendError::Away(RedisError::Away));
            }
            // The time to be patient may end while it waits.
            () = tokio::time::sleep(Duration::from_millis(100)), if !is_past => {}
        }
    }
}

/// Who asks meanwhile is told the same: the server is not asked once for each of them.
async fn refuse_for(
    jobs: &mut mpsc::Receiver<Job>,
    why: &BackendError,
    pause: impl Future<Output = ()>,
) {
    tokio::pin!(pause);
    loop {
        tokio::select! {
            biased;
            () = &mut pause => return,
            job = jobs.recv() => match job {
                Some(job) => job.refuse(why.clone()),
                None => return,
            }
        }
    }
}

fn refuse_all(jobs: &mut mpsc::Receiver<Job>, why: &BackendError) {
    while let Ok(job) = jobs.try_recv() {
        job.refuse(why.clone());
    }
}
