//! A client with a connection of its own: while it watches keys, is in a transaction that comes in
//! parts, waits, or listens.

use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::client::{Client, Closed, End, is_done, tell};
use super::commands::{Class, Own, may_say_while_listening};
use super::error::BackendError;
use super::locking::Wrote;
use super::trunks::Alone;
use crate::redis_pool::RedisError;
use crate::resp::{
    RawReply, ReplyKind, ReplyState, Request, Value, decode, integer, read_reply, read_request,
};

/// The least room for what is read.
const READ_BYTES: usize = 4 << 10;
/// The end of this process, or a client that is gone, is looked at so often by who waits.
const CLIENT_INPUT_MAX_BYTES: usize = 64 << 10;

pub(super) struct Pinned {
    alone: Alone,
    input: BytesMut,
    state: ReplyState,
    transaction: Transaction,
    watches: bool,
    /// It may have another state than is known.
    is_unclean: bool,
    /// Commands of the transaction that were queued, and those of them that select a database.
    queued: usize,
    selects: Vec<(usize, u32)>,
    /// What its transaction has written of locks, if it is carried out.
    wrote: Vec<Wrote>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// This server has refused a command of it, so that it must not be carried out.
    Broken,
}

/// What Redis says at the end of a transaction in which it refused a command.
const EXEC_ABORTED: &[u8] = b"EXECABORT Transaction discarded because of previous errors.";
/// Writes of one transaction that are remembered.
const WROTE_MAX: usize = 1_000;

impl Pinned {
    pub(super) fn new(alone: Alone) -> Self {
        Self {
            alone,
            input: BytesMut::new(),
            state: ReplyState::default(),
            transaction: Transaction::None,
            watches: false,
            is_unclean: false,
            queued: 0,
            selects: Vec::new(),
            wrote: Vec::new(),
        }
    }

    /// What is known to be written of locks after a reply.
    fn acknowledged(
        &mut self,
        request: &Request,
        wrote: Vec<Wrote>,
        class: Class,
        reply: &RawReply,
    ) -> Vec<Wrote> {
        match class {
            Class::Exec if self.in_transaction() => {
                let all = std::mem::take(&mut self.wrote);
                if is_done(reply) && request.is("exec") { all } else { Vec::new() }
            }
            Class::Multi => {
                self.wrote.clear();
                Vec::new()
            }
            _ if reply.kind == ReplyKind::Error => Vec::new(),
            _ if self.in_transaction() => {
                self.wrote.extend(wrote);
                self.wrote.truncate(WROTE_MAX);
                Vec::new()
            }
            _ => wrote,
        }
    }

    async fn send(&mut self, request: &Request) -> std::io::Result<()> {
        self.alone.stream.write_all(request.raw()).await?;
        self.alone.stream.flush().await
    }

    fn in_transaction(&self) -> bool {
        self.transaction != Transaction::None
    }

    fn is_done(&self) -> bool {
        !self.in_transaction() && !self.watches
    }

    /// What a reply says of the connection's state; gives the database where another one is selected now.
    fn learn(&mut self, request: &Request, class: Class, reply: &RawReply) -> Option<u32> {
        let is_error = reply.kind == ReplyKind::Error;
        match class {
            Class::Multi if !self.in_transaction() => {
                self.transaction = if is_error { Transaction::None } else { Transaction::Open };
                (self.queued, self.selects) = (0, Vec::new());
            }
            Class::Exec if self.in_transaction() => {
                // Only one that was aborted is over as well.
                self.is_unclean |= is_error && !reply.bytes.starts_with(b"-EXECABORT");
                (self.transaction, self.watches) = (Transaction::None, false);
                return self.selected(reply);
            }
            Class::Own(Own::Select) if !self.in_transaction() => {
                let number = request.arg(1).and_then(integer);
                let number = number.and_then(|number| u32::try_from(number).ok());
                return number.filter(|_| !is_error);
            }
            Class::Watch if !self.in_transaction() => self.watches |= !is_error,
            Class::Alone { clean: false, .. } if !self.in_transaction() => self.is_unclean = true,
            _ if self.in_transaction() => {
                self.is_unclean |= matches!(class, Class::Alone { clean: false, .. });
                if class == Class::Own(Own::Select)
                    && !is_error
                    && let Some(number) = request.arg(1).and_then(integer)
                {
                    let number = u32::try_from(number).unwrap_or_default();
                    self.selects.push((self.queued, number));
                }
                self.queued += usize::from(!is_error);
            }
            _ if request.is("unwatch") && !is_error => self.watches = false,
            _ => {}
        }
        None
    }

    /// The last database that a transaction has selected.
    fn selected(&mut self, reply: &RawReply) -> Option<u32> {
        let selects = std::mem::take(&mut self.selects);
        if selects.is_empty() {
            return None;
        }
        let Ok(Value::Array(results)) = decode(&reply.bytes) else { return None };
        let is_done = |(at, _): &&(usize, u32)| {
            results.get(*at).is_some_and(|result| matches!(result, Value::Simple(_)))
        };
        selects.iter().rev().find(is_done).map(|(_, number)| *number)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A command of a client that has a connection of its own.
    pub(super) async fn take_pinned(&mut self, request: Request, class: Class) -> Result<(), End> {
        if self.pinned.is_none() {
            // The one before went back when its transaction did not begin.
            self.pin().await?;
        }
        let in_transaction = self.pinned.as_ref().is_some_and(Pinned::in_transaction);
        match class {
            Class::Own(Own::Quit | Own::Reset) => {
                self.pinned = None;
                return self.answer_pinned(&request, class).await;
            }
            // Within a transaction the server says what is wrong with it, at its end.
            Class::Own(Own::Select) if in_transaction || self.is_known_database(&request) => {}
            Class::Own(Own::Auth | Own::Client | Own::Select | Own::Unsubscribe)
                if !in_transaction =>
            {
                return self.answer_pinned(&request, class).await;
            }
            Class::Own(_) | Class::Listen if in_transaction => {
                self.break_transaction();
                self.refuse_command(&request, "is not possible in a transaction");
                return Ok(());
            }
            Class::Own(_) => {
                self.refuse_command(&request, "is not possible while keys are watched");
                return Ok(());
            }
            Class::Refused(why) => {
                self.break_transaction();
                self.refuse_command(&request, why);
                return Ok(());
            }
            Class::Listen => return self.listen(request).await,
            _ => {}
        }
        let waits = matches!(class, Class::Alone { waits: true, .. }) && !in_transaction;
        let is_broken =
            self.pinned.as_ref().is_some_and(|pinned| pinned.transaction == Transaction::Broken);
        let is_aborted = is_broken && request.is("exec") && class == Class::Exec;
        let request = if is_aborted { Request::pack(&[b"DISCARD"]) } else { request };
        let reply = self.exchange(&request, waits).await?;
        if is_aborted {
            self.refuse(EXEC_ABORTED);
        } else {
            self.pass_on(&reply.bytes).await?;
        }
        let wrote = self.writes(&request);
        let Some(mut pinned) = self.pinned.take() else { return Ok(()) };
        tell(self.locks.as_mut(), pinned.acknowledged(&request, wrote, class, &reply));
        if let Some(database) = pinned.learn(&request, class, &reply) {
            if database < self.gateway.bounds.databases {
                self.manners.database = database;
                pinned.alone.moved(database);
            } else {
                pinned.is_unclean = true;
            }
        }
        if !pinned.is_done() {
            self.pinned = Some(pinned);
        } else if !pinned.is_unclean
            && pinned.input.is_empty()
            && let Ok(trunks) = self.gateway.trunks()
        {
            trunks.give_back(pinned.alone);
        }
        self.write_long().await
    }

    fn break_transaction(&mut self) {
        if let Some(pinned) = &mut self.pinned
            && pinned.in_transaction()
        {
            pinned.transaction = Transaction::Broken;
        }
    }

    /// A reply for the client, if there is memory for it.
    async fn pass_on(&mut self, reply: &[u8]) -> Result<(), End> {
        if !self.out_hold.grow(reply.len()) {
            // What was answered before may be what takes it.
            self.write_out().await?;
            if !self.out_hold.grow(reply.len()) {
                self.gateway.counts.failed.fetch_add(1, Ordering::Relaxed);
                BackendError::TooLarge("sessions.buffers_max").write(&mut self.out);
                return Ok(());
            }
        }
        self.out.extend_from_slice(reply);
        Ok(())
    }

    async fn answer_pinned(&mut self, request: &Request, class: Class) -> Result<(), End> {
        let Class::Own(own) = class else { return Ok(()) };
        self.answer(own, request).await
    }

    fn is_known_database(&self, request: &Request) -> bool {
        let number = request.arg(1).and_then(integer).and_then(|number| u32::try_from(number).ok());
        request.len() == 2 && number.is_some_and(|number| number < self.gateway.bounds.databases)
    }

    /// One command and its reply. A client that leaves meanwhile ends it.
    async fn exchange(&mut self, request: &Request, waits: bool) -> Result<RawReply, End> {
        // Who waits for long is to have what was answered before.
        if waits {
            self.write_out().await?;
        }
        let timeout = self.gateway.bounds.timeout;
        let exchanged = if waits {
            self.exchange_patiently(request).await
        } else {
            match tokio::time::timeout(timeout, self.exchange_patiently(request)).await {
                Ok(exchanged) => exchanged,
                Err(_elapsed) => Err(Some(RedisError::TimedOut(timeout))),
            }
        };
        exchanged.map_err(|error| match error {
            Some(error) => self.unpinned(error),
            None => Closed,
        })
    }

    /// `None` as the error: the client is gone.
    async fn exchange_patiently(
        &mut self,
        request: &Request,
    ) -> Result<RawReply, Option<RedisError>> {
        let broken = |error: std::io::Error| Some(RedisError::Broken(error.to_string()));
        let limits = self.gateway.bounds.reply_limits;
        let Some(pinned) = &mut self.pinned else { return Err(None) };
        pinned.send(request).await.map_err(broken)?;
        loop {
            match read_reply(&mut pinned.input, &limits, &mut pinned.state) {
                Ok(Some(reply)) if reply.kind == ReplyKind::Push => {
                    if !self.out_hold.grow(reply.bytes.len()) {
                        let what = "sessions.buffers_max is reached".to_owned();
                        return Err(Some(RedisError::Broken(what)));
                    }
                    self.out.extend_from_slice(&reply.bytes);
                }
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {
                    pinned.input.reserve(READ_BYTES);
                    self.input.reserve(READ_BYTES);
                    let hears = self.input.len() < CLIENT_INPUT_MAX_BYTES;
                    tokio::select! {
                        biased;
                        read = pinned.alone.stream.read_buf(&mut pinned.input) => {
                            if read.map_err(broken)? == 0 {
                                let what = "closed by the server".to_owned();
                                return Err(Some(RedisError::Broken(what)));
                            }
                        }
                        said = self.stream.read_buf(&mut self.input), if hears => {
                            if !said.is_ok_and(|bytes| bytes > 0) {
                                return Err(None);
                            }
                        }
                    }
                }
                Err(error) => return Err(Some(RedisError::Broken(error.to_string()))),
            }
        }
    }

    /// From here on the server speaks when it likes, until one of the two goes. The connection is not
    /// used for anything else any more.
    async fn listen(&mut self, first: Request) -> Result<(), End> {
        self.write_out().await?;
        let Some(mut pinned) = self.pinned.take() else { return Err(Closed) };
        let is_monitor = first.is("monitor");
        if pinned.send(&first).await.is_err() {
            return Err(self.unpinned(RedisError::Away));
        }
        loop {
            self.out.extend_from_slice(&pinned.input.split());
            self.write_out().await?;
            while let Some(request) =
                read_request(&mut self.input, &self.gateway.bounds.limits, &mut self.reading)
                    .map_err(|error| {
                        error.write(&mut self.out);
                        Closed
                    })?
            {
                if is_monitor || !may_say_while_listening(&request) {
                    self.refuse_command(&request, "is not possible on a connection that listens");
                    return Err(Closed);
                }
                if pinned.send(&request).await.is_err() {
                    return Err(self.unpinned(RedisError::Away));
                }
            }
            pinned.input.reserve(READ_BYTES);
            self.input.reserve(READ_BYTES);
            tokio::select! {
                read = pinned.alone.stream.read_buf(&mut pinned.input) => {
                    if !read.is_ok_and(|bytes| bytes > 0) {
                        return Err(Closed);
                    }
                }
                said = self.stream.read_buf(&mut self.input) => {
                    if !said.is_ok_and(|bytes| bytes > 0) {
                        return Err(Closed);
                    }
                    self.count_input()?;
                }
            }
        }
    }
}
