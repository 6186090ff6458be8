//! One client: its commands in their order, each with its reply.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::batch::{Batch, Note, Taken};
use super::budget::Hold;
use super::commands::{Class, Own, class};
use super::error::BackendError;
use super::lobby::Call;
use super::locking::{Wrote, key_to_lock, writes};
use super::own::{After, Manners, NOT_IN};
use super::pinned::Pinned;
use super::trunks::{Trunk, is_lost};
use super::{Backend, Gateway};
use crate::redis_pool::RedisError;
use crate::resp::{
    Protocol, ProtocolError, RawReply, ReadState, ReplyKind, Request, read_request, write,
};
use crate::sessions::carried::Carried;
use crate::sessions::embedded::EmbeddedSession;
use crate::sessions::figures::HolderClient;
use crate::sessions::lock::LockClient;
use crate::sessions::throwaway::Answers;

/// The least room for what is read.
pub(super) const READ_BYTES: usize = 4 << 10;
/// What a client's buffer may take before it counts in `sessions.buffers_max`: all clients have so
/// much.
pub(super) const UNCOUNTED_BYTES: usize = 64 << 10;
/// Bytes of replies after which they are written before further commands are taken.
const OUT_BYTES: usize = 256 << 10;
/// Memory that an idle client keeps.
const KEPT_BYTES: usize = 64 << 10;
/// How long a client must have been silent before its connection is closed because this process ends:
/// PHP that is amid a request says something more often, or holds a lock.
const QUIET: Duration = Duration::from_secs(5);
/// The pauses between tries while the server is not ready.
const AGAIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_millis(500);

/// How serving a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The connection ends, in order or not.
    Closed,
    /// The client is to be served elsewhere, or later.
    Stopped,
}

pub(super) use End::Closed;

/// Where a client comes from, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct From {
    /// Its address, or the socket's path.
    pub peer: String,
    /// Where it connected to.
    pub local: String,
    /// Did it come by a Unix socket, whose mode says who may?
    pub is_unix: bool,
    /// The process at the other end.
    pub pid: Option<i32>,
}

pub(super) struct Client<S> {
    pub(super) gateway: Arc<Gateway>,
    pub(super) stream: S,
    pub(super) input: BytesMut,
    pub(super) reading: ReadState,
    /// Replies that were not written yet.
    pub(super) out: BytesMut,
    pub(super) manners: Manners,
    batch: Batch,
    /// The shared connection that was used last.
    trunk: Option<(u32, Protocol, Arc<Trunk>)>,
    /// A transaction whose end has not come.
    transaction: Vec<Request>,
    pub(super) pinned: Option<Pinned>,
    /// Its session with the store of this server, where that has the sessions.
    pub(super) inside: Option<EmbeddedSession>,
    /// Its locks, where tries for them wait.
    pub(super) locks: Option<LockClient>,
    hold: Hold,
    held_bytes: usize,
    /// Of the bytes in `out`.
    pub(super) out_hold: Hold,
    /// For sessions that keep nothing.
    throwaway: Option<Answers>,
    holder: HolderClient,
    /// Says when it is to stop.
    pub(super) call: Call,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(gateway: Arc<Gateway>, stream: S, from: &From, call: Call) -> Self {
        let id = gateway.next_id.fetch_add(1, Ordering::Relaxed);
        let locks = gateway.locks.as_ref().map(|locks| locks.client(from.pid));
        let (peer, local) = (from.peer.clone(), from.local.clone());
        let manners = Manners::new(id, peer, local, from.is_unix, &gateway.door);
        let budget = gateway.budget.clone();
        let inside = match &gateway.backend {
            Backend::Central(_) => None,
            Backend::Embedded(embedded) => Some(embedded.session()),
        };
        let mint = gateway.mint.clone();
        let throwaway = mint.map(|mint| Answers::new(mint, &gateway.bounds.key_prefix));
        let holder = gateway.holders.client();
        Self {
            gateway,
            stream,
            input: BytesMut::new(),
            reading: ReadState::default(),
            out: BytesMut::new(),
            manners,
            batch: Batch::default(),
            trunk: None,
            transaction: Vec::new(),
            pinned: None,
            inside,
            locks,
            hold: budget.hold(),
            held_bytes: 0,
            out_hold: budget.hold(),
            throwaway,
            holder,
            call,
        }
    }

    /// Serves it until it or this process ends the connection, or it is to stop: then it gives what is to
    /// be known of it.
    pub(super) async fn run(mut self, closing: &impl Fn() -> bool) -> Option<Carried> {
        let served = async {
            loop {
                self.requests().await?;
                self.write_out().await?;
                self.more(closing).await?;
            }
        };
        let Err::<(), End>(end) = served.await else { return None };
        // What was answered before the end is still said.
        let written = self.write_out().await;
        if end == End::Stopped && written.is_ok() {
            return Some(self.carry());
        }
        let _ =
            tokio::time::timeout(self.gateway.bounds.write_timeout, self.stream.shutdown()).await;
        None
    }

    /// Takes all requests that have come whole.
    async fn requests(&mut self) -> Result<(), End> {
        loop {
            if self.call.has_come() {
                return Err(End::Stopped);
            }
            match read_request(&mut self.input, &self.gateway.bounds.limits, &mut self.reading) {
                Ok(Some(request)) if request.is_http() => return self.turn_away(None).await,
                Ok(Some(request)) => self.take(request).await?,
                Ok(None) if self.transaction.is_empty() => return self.flush().await,
                // More may have come meanwhile.
                Ok(None) => self.leave_crowd().await?,
                Err(error) => return self.turn_away(Some(error)).await,
            }
        }
    }

    /// What came is no command. What came before it is done, but for a transaction without its end.
    async fn turn_away(&mut self, error: Option<ProtocolError>) -> Result<(), End> {
        self.gateway.counts.malformed.fetch_add(1, Ordering::Relaxed);
        self.transaction.clear();
        self.flush().await?;
        if let Some(error) = error {
            error.write(&mut self.out);
        }
        Err(Closed)
    }

    async fn take(&mut self, request: Request) -> Result<(), End> {
        self.gateway.counts.commands.fetch_add(1, Ordering::Relaxed);
        let class = class(&request);
        let may_enter =
            matches!(class, Class::Own(Own::Auth | Own::Hello | Own::Quit | Own::Reset));
        if !self.manners.is_in && !may_enter {
            self.refuse(NOT_IN);
            return Ok(());
        }
        if self.pinned.is_some() {
            return self.take_pinned(request, class).await;
        }
        if !self.transaction.is_empty() {
            return self.collect(request, class).await;
        }
        let in_transaction = self.inside.as_ref().is_some_and(EmbeddedSession::is_in_transaction);
        if !in_transaction && self.throwaway.as_ref().is_some_and(|answers| answers.take(&request))
        {
            self.flush().await?;
            self.answer_for_nobody(&request);
            return Ok(());
        }
        self.holder.wrote(&request, self.gateway.clock.now());
        if self.locks.is_some()
            && !in_transaction
            && let Some(key) = key_to_lock(&request, &self.gateway.bounds.key_prefix)
        {
            return self.take_lock(&request, &key).await;
        }
        if self.inside.is_some() {
            return self.take_inside(&request, class).await;
        }
        match class {
            Class::Shared { reads } => return self.queue(&request, reads).await,
            // Without MULTI before it an error.
            Class::Exec => return self.queue(&request, false).await,
            Class::Multi => self.transaction.push(request),
            Class::Own(own) => {
                self.flush().await?;
                return self.answer(own, &request).await;
            }
            Class::Refused(why) => {
                self.flush().await?;
                self.refuse_command(&request, why);
            }
            Class::Watch | Class::Alone { .. } | Class::Listen => {
                self.flush().await?;
                self.pin().await?;
                return self.take_pinned(request, class).await;
            }
        }
        Ok(())
    }

    /// A session that keeps nothing is none of the store's.
    fn answer_for_nobody(&mut self, request: &Request) {
        if let Some(answers) = &mut self.throwaway {
            answers.answer(request, self.manners.protocol, &mut self.out);
        }
    }

    async fn queue(&mut self, request: &Request, reads: bool) -> Result<(), End> {
        let wrote = if reads { Vec::new() } else { self.writes(request) };
        let note = if wrote.is_empty() { Note::Nothing } else { Note::Wrote(wrote) };
        self.batch.push(request, reads, note);
        self.flush_full().await
    }

    /// What it writes of locks, where anybody is to know.
    pub(super) fn writes(&self, request: &Request) -> Vec<Wrote> {
        if self.locks.is_none() {
            return Vec::new();
        }
        writes(request, self.manners.database, &self.gateway.bounds.key_prefix)
    }

    async fn flush_full(&mut self) -> Result<(), End> {
        let is_full = self.batch.replies() >= self.gateway.bounds.pipeline_max;
        if is_full { self.flush().await } else { Ok(()) }
    }

    /// A transaction that has begun and not ended: as long as it may come whole, and go so.
    async fn collect(&mut self, request: Request, class: Class) -> Result<(), End> {
        let is_plain = matches!(class, Class::Shared { .. } | Class::Multi | Class::Exec);
        self.transaction.push(request);
        if class == Class::Exec {
            let whole = std::mem::take(&mut self.transaction);
            // DISCARD, which ends it as well, does none of it.
            let done =
                if whole.last().is_some_and(|end| end.is("exec")) { &whole[..] } else { &[] };
            let wrote: Vec<_> = done.iter().flat_map(|request| self.writes(request)).collect();
            let note = if wrote.is_empty() { Note::Nothing } else { Note::Wrote(wrote) };
            self.batch.push_transaction(&whole, note);
            return self.flush_full().await;
        } else if !is_plain || self.transaction.len() >= self.gateway.bounds.pipeline_max {
            return self.leave_crowd().await;
        }
        Ok(())
    }

    /// The transaction goes on over a connection of its own.
    async fn leave_crowd(&mut self) -> Result<(), End> {
        self.flush().await?;
        self.pin().await?;
        for request in std::mem::take(&mut self.transaction) {
            let class = class(&request);
            self.take_pinned(request, class).await?;
        }
        Ok(())
    }

    pub(super) async fn answer(&mut self, own: Own, request: &Request) -> Result<(), End> {
        let (door, databases) = (self.gateway.door.clone(), self.gateway.bounds.databases);
        match self.manners.answer(own, request, (&door, databases), &mut self.out) {
            After::GoOn => Ok(()),
            After::Anew => {
                self.trunk = None;
                Ok(())
            }
            After::Close => Err(Closed),
            After::AskWho => {
                self.batch.push(&Request::pack(&[b"HELLO"]), true, Note::Who);
                self.flush().await
            }
        }
    }

    pub(super) fn refuse(&mut self, error: &[u8]) {
        write::error(&mut self.out, error);
    }

    pub(super) fn refuse_command(&mut self, request: &Request, why: &str) {
        const SHOWN_BYTES: usize = 64;
        let name = request.arg(0).unwrap_or_default();
        let mut text = b"ERR parvis: ".to_vec();
        text.extend_from_slice(&name[..name.len().min(SHOWN_BYTES)]);
        text.push(b' ');
        text.extend_from_slice(why.as_bytes());
        write::error(&mut self.out, &text);
    }

    /// Sends what is queued and waits for all its replies.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let (gateway, mut pause) = (Arc::clone(&self.gateway), AGAIN);
        let until = gateway.clock.now().plus(gateway.bounds.failover_wait);
        while !self.batch.is_empty() {
            let mut hold = gateway.budget.hold();
            let trunk = if hold.grow(self.batch.bytes()) {
                self.trunk()
            } else {
                Err(BackendError::Full("sessions.buffers_max"))
            };
            let locks = self.locks.as_mut();
            let (out, manners) = (&mut self.out, &self.manners);
            let mut taken = Replies { out, manners, locks, errors: 0 };
            let trunk = match trunk {
                Ok(trunk) => trunk,
                Err(error) => {
                    self.batch.fail(&error, &mut taken);
                    gateway.counts.failed.fetch_add(taken.errors, Ordering::Relaxed);
                    return Ok(());
                }
            };
            let (commands, replies) = self.batch.to_send();
            let answer = trunk.send(commands, replies, hold).await;
            let give_up = gateway.clock.now() >= until;
            self.batch.settle(&answer.replies, answer.failure.as_ref(), give_up, &mut taken);
            if taken.errors > 0 {
                gateway.counts.failed.fetch_add(taken.errors, Ordering::Relaxed);
            }
            self.out_hold.absorb(answer.hold);
            if self.batch.is_empty() {
                break;
            }
            gateway.counts.retried.fetch_add(1, Ordering::Relaxed);
            if !answer.failure.is_some_and(|failure| is_lost(&failure.why)) {
                // The server asked to come again; another one may take its place.
                trunk.renew();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
        self.write_long().await
    }

    /// Writes replies before there are too many of them.
    pub(super) async fn write_long(&mut self) -> Result<(), End> {
        if self.out.len() >= OUT_BYTES { self.write_out().await } else { Ok(()) }
    }

    fn trunk(&mut self) -> Result<Arc<Trunk>, BackendError> {
        let Manners { database, protocol, id, .. } = self.manners;
        if let Some((of, speaks, trunk)) = &self.trunk
            && (*of, *speaks) == (database, protocol)
            && !trunk.is_closed()
        {
            return Ok(Arc::clone(trunk));
        }
        // The one before may make room for it.
        self.trunk = None;
        let trunk = self.gateway.trunks()?.trunk(database, protocol, id)?;
        self.trunk = Some((database, protocol, Arc::clone(&trunk)));
        Ok(trunk)
    }

    /// Writes the replies.
    pub(super) async fn write_out(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_all(&self.out);
        let written = tokio::time::timeout(self.gateway.bounds.write_timeout, written).await;
        self.out_hold = self.gateway.budget.hold();
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        } else {
            self.out.clear();
        }
        if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(Closed) }
    }

    /// Waits for more of what the client says.
    async fn more(&mut self, closing: &impl Fn() -> bool) -> Result<(), End> {
        let idle_timeout = self.gateway.bounds.idle_timeout;
        let mut silent = Duration::ZERO;
        loop {
            self.input.reserve(READ_BYTES);
            let read = tokio::time::timeout(QUIET, self.stream.read_buf(&mut self.input));
            let read = tokio::select! {
                biased;
                () = self.call.comes() => return Err(End::Stopped),
                read = read => read,
            };
            match read {
                Ok(Ok(0) | Err(_)) => return Err(Closed),
                Ok(Ok(_)) => return self.count_input(),
                Err(_elapsed) => silent += QUIET,
            }
            let holds = self.locks.as_ref().is_some_and(LockClient::holds_any);
            let is_idle = self.input.is_empty() && self.pinned.is_none() && !holds;
            if is_idle && closing() || !idle_timeout.is_zero() && silent >= idle_timeout {
                return Err(Closed);
            }
        }
    }

    /// Counts what the client's unfinished request takes.
    pub(super) fn count_input(&mut self) -> Result<(), End> {
        let bytes = self.input.len();
        if bytes <= UNCOUNTED_BYTES {
            if self.held_bytes > 0 {
                self.hold = self.gateway.budget.hold();
                self.held_bytes = 0;
            }
            return Ok(());
        }
        // In steps, so that the shared count is not written at each read.
        while self.held_bytes < bytes {
            if !self.hold.grow(UNCOUNTED_BYTES) {
                BackendError::Full("sessions.buffers_max").write(&mut self.out);
                return Err(Closed);
            }
            self.held_bytes += UNCOUNTED_BYTES;
        }
        Ok(())
    }

    /// A connection of its own, from here on.
    pub(super) async fn pin(&mut self) -> Result<(), End> {
        let Manners { database, protocol, .. } = self.manners;
        let gateway = Arc::clone(&self.gateway);
        let alone = match gateway.trunks() {
            Ok(trunks) => trunks.alone(database, protocol).await,
            Err(error) => Err(error),
        };
        match alone {
            Ok(alone) => {
                self.pinned = Some(Pinned::new(alone));
                Ok(())
            }
            Err(error) => {
                // What was to come over it cannot be told apart from what follows.
                error.write(&mut self.out);
                self.gateway.counts.failed.fetch_add(1, Ordering::Relaxed);
                Err(Closed)
            }
        }
    }

    /// The connection of its own is of no more use, and with it what it stood for.
    pub(super) fn unpinned(&mut self, error: RedisError) -> End {
        self.pinned = None;
        self.gateway.counts.failed.fetch_add(1, Ordering::Relaxed);
        BackendError::Lost(error).write(&mut self.out);
        Closed
    }
}

/// Was a write done, or a transaction?
pub(super) fn is_done(reply: &RawReply) -> bool {
    !matches!(reply.kind, ReplyKind::Error | ReplyKind::Null)
}

/// Tells the client's locks what was acknowledged.
pub(super) fn tell(locks: Option<&mut LockClient>, all: Vec<Wrote>) {
    let Some(locks) = locks else { return };
    for Wrote { database, key, written } in all {
        locks.wrote(database, &key, written);
    }
}

/// Passes replies on.
struct Replies<'a> {
    out: &'a mut BytesMut,
    manners: &'a Manners,
    locks: Option<&'a mut LockClient>,
    errors: u64,
}

impl Taken for Replies<'_> {
    fn reply(&mut self, note: Note, replies: &[RawReply]) {
        match (note, replies) {
            (Note::Who, [reply]) => {
                self.manners.introduce(&reply.bytes, self.out);
                return;
            }
            // Of a transaction the last reply is that of EXEC.
            (Note::Wrote(all), [.., last]) if is_done(last) => tell(self.locks.as_deref_mut(), all),
            _ => {}
        }
        for reply in replies {
            self.out.extend_from_slice(&reply.bytes);
        }
    }

    fn failure(&mut self, error: &BackendError) {
        self.errors += 1;
        error.write(self.out);
    }
}
