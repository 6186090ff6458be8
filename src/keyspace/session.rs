//! A client's side: which database, which protocol, and the transaction that waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::Keyspace;
use super::command::Call;
use super::error::Error;
use super::eviction::Eviction;
use super::guard;
use super::own::Own;
use super::table::{self, Command, Flags};
use super::view::View;
use super::watch::Mark;
use crate::resp::{Protocol, Request, write};

/// What becomes of the connection after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next command may come.
    Continue,
    /// It is closed, once the reply is sent.
    Close,
    /// It is closed without a reply: what came over it was HTTP.
    Refuse,
}

/// Which replies a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    All,
    None,
    /// All but that to this command.
    SkipThis,
    /// All but that to the next one.
    SkipNext,
}

/// Commands that wait for EXEC.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    queue: VecDeque<(Request, &'static Command)>,
    bytes: usize,
    /// One of them was refused, so that EXEC does none.
    is_broken: bool,
}

impl Transaction {
    /// How many wait.
    pub fn len(&self) -> i64 {
        super::command::signed(self.queue.len())
    }
}

/// What is known of a client, but for its transaction.
#[derive(Debug)]
pub(super) struct Client {
    pub id: u64,
    pub database: usize,
    pub protocol: Protocol,
    pub name: Bytes,
    pub replies: Replies,
    pub transaction: Option<Transaction>,
    /// In which database, which key.
    pub watched: Vec<(usize, Box<[u8]>)>,
    /// Set when one of them was changed.
    pub mark: Mark,
    /// It as a writer of a cache.
    pub own: Own,
    pub after: After,
}

/// One client's connection.
#[derive(Debug)]
pub struct Session(Client);

/// Commands that make a session what another one is, but for what it knows of cleans, and for what was changed of what it
/// watches ([`Session::overtake`]). A session that passes for a client says PARVIS.BEGAN between the two parts:
/// SELECT would have it begin anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anew {
    /// Protocol, name, what it watches, database. Each has a reply.
    pub is: Vec<Request>,
    /// The transaction. Where it wants no replies it begins with a command that says so, and none of it has one.
    pub amid: Vec<Request>,
}

impl Session {
    /// A client that has just connected. `id` is what CLIENT ID says.
    pub fn new(id: u64) -> Self {
        Self(Client {
            id,
            database: 0,
            protocol: Protocol::Resp2,
            name: Bytes::new(),
            replies: Replies::All,
            transaction: None,
            watched: Vec::new(),
            mark: Mark::default(),
            own: Own::default(),
            after: After::Continue,
        })
    }

    /// The database that commands are for.
    pub fn database(&self) -> usize {
        self.0.database
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// The name it gave itself.
    pub fn name(&self) -> &[u8] {
        &self.0.name
    }

    /// Has it begun what another connection could not go on with: a transaction, or to watch keys?
    pub fn is_amid(&self) -> bool {
        self.0.transaction.is_some() || !self.0.watched.is_empty() || self.0.replies != Replies::All
    }

    /// Is a transaction open?
    pub fn is_in_transaction(&self) -> bool {
        self.0.transaction.is_some()
    }

    /// The commands by which a new session becomes what this one is.
    pub fn anew(&self) -> Anew {
        let client = &self.0;
        let (mut is, mut amid) = (Vec::new(), Vec::new());
        if client.protocol == Protocol::Resp3 {
            is.push(Request::pack(&[b"HELLO", b"3"]));
        }
        if !client.name.is_empty() {
            is.push(Request::pack(&[b"CLIENT", b"SETNAME", &client.name]));
        }
        let select = |at: usize| Request::pack(&[b"SELECT", at.to_string().as_bytes()]);
        for (at, key) in &client.watched {
            is.extend([select(*at), Request::pack(&[b"WATCH", key])]);
        }
        is.push(select(client.database));
        // Amid a transaction it can only be that all are off: MULTI's reply would have been the one to skip.
        match client.replies {
            Replies::All => {}
            Replies::None => amid.push(Request::pack(&[b"CLIENT", b"REPLY", b"OFF"])),
            Replies::SkipThis | Replies::SkipNext => {
                amid.push(Request::pack(&[b"CLIENT", b"REPLY", b"SKIP"]));
            }
        }
        if let Some(transaction) = &client.transaction {
            amid.push(Request::pack(&[b"MULTI"]));
            amid.extend(transaction.queue.iter().map(|(request, _)| request.clone()));
            if transaction.is_broken {
                // It has no key, so it breaks the new one as well, and EXEC does none.
                amid.push(Request::pack(&[b"GET"]));
            }
        }
        Anew { is, amid }
    }

    /// Was a key changed that it watches?
    pub fn is_overtaken(&self) -> bool {
        self.0.mark.load(Ordering::Relaxed)
    }

    /// Does it get no replies, to the next command at least?
    pub fn is_silent(&self) -> bool {
        self.0.replies != Replies::All
    }

    /// Bytes of the commands that wait in its transaction.
    pub fn queued_bytes(&self) -> usize {
        self.0.transaction.as_ref().map_or(0, |transaction| transaction.bytes)
    }

    /// It says something, at a time in milliseconds of any monotonic clock; commands follow. After a pause, or
    /// where it never pauses after some time, it begins anew: what it writes may be as old as its beginning.
    pub fn begin_turn(&mut self, keyspace: &Keyspace, monotonic_ms: u64) {
        if let Some(coherence) = &keyspace.coherence {
            let (last, is_amid) = (coherence.fence.last(), self.is_amid());
            self.0.own.hear(last, monotonic_ms, &coherence.rules, is_amid);
        }
    }

    /// Others have their turn now.
    pub fn end_turn(&mut self, keyspace: &mut Keyspace, now_ms: i64) {
        if self.0.own.has_to_settle() {
            let own = &mut self.0.own;
            View { keyspace, at: 0, now_ms }.portraying(|view| guard::end_turn(view, own));
        }
    }

    /// Did it write what tags are to name, or have named just now?
    pub fn awaits_names(&self) -> bool {
        self.0.own.awaits_names()
    }

    /// It has gone, and says nothing more: no more tags come for what it wrote.
    pub fn end(&mut self, keyspace: &mut Keyspace, now_ms: i64) {
        self.0.own.begin(keyspace.last_clean());
        self.end_turn(keyspace, now_ms);
    }

    /// It had to wait until then.
    pub fn waited(&mut self, monotonic_ms: u64) {
        self.0.own.heard(monotonic_ms);
    }

    /// What it watches counts as changed.
    pub fn overtake(&mut self) {
        if !self.0.watched.is_empty() {
            self.0.mark.store(true, Ordering::Relaxed);
        }
    }

    /// Does one command, at a time in milliseconds since 1970, and appends its reply to `out`.
    pub fn execute(
        &mut self,
        keyspace: &mut Keyspace,
        request: &Request,
        now_ms: i64,
        out: &mut BytesMut,
    ) -> After {
        keyspace.commands += 1;
        let client = &mut self.0;
        if request.is_http() {
            client.after = After::Refuse;
            return client.after;
        }
        let before = out.len();
        if let Err(error) = client.accept(keyspace, request, now_ms, out) {
            out.truncate(before);
            write::error(out, &error.0);
        }
        match client.replies {
            Replies::All => {}
            Replies::None => out.truncate(before),
            Replies::SkipThis => {
                out.truncate(before);
                client.replies = Replies::All;
            }
            Replies::SkipNext => {
                out.truncate(before);
                client.replies = Replies::SkipThis;
            }
        }
        client.after
    }
}

impl Client {
    /// Looks whether a command can be done, then does it, or puts it into the transaction.
    fn accept(
        &mut self,
        keyspace: &mut Keyspace,
        request: &Request,
        now_ms: i64,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let command = match self.admit(keyspace, request, now_ms) {
            Ok(command) => command,
            Err(error) => {
                return Err(self.reject(request, error));
            }
        };
        match &mut self.transaction {
            Some(transaction) if !command.flags.contains(Flags::AT_ONCE) => {
                transaction.bytes += request.raw().len();
                transaction.queue.push_back((request.detached(), command));
                write::simple(out, "QUEUED");
                Ok(())
            }
            _ => {
                self.run(keyspace, request, command, now_ms, out)?;
                // So PHP begins on a connection that it had before.
                if command.name == "select" {
                    self.own.begin(keyspace.last_clean());
                }
                Ok(())
            }
        }
    }

    /// A command that is refused breaks the transaction; EXEC ends it.
    fn reject(&mut self, request: &Request, error: Error) -> Error {
        if request.is("exec") {
            self.transaction = None;
            self.unwatch();
            let text = error.0.strip_prefix(b"ERR ").unwrap_or(&error.0);
            let why: &[u8] = b"EXECABORT Transaction discarded because of: ";
            return Error::text([why, text].concat());
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.is_broken = true;
        }
        error
    }

    fn admit(
        &self,
        keyspace: &mut Keyspace,
        request: &Request,
        now_ms: i64,
    ) -> Result<&'static Command, Error> {
        let command = table::find(request)?;
        if !command.takes(request.len()) {
            return Err(Error::arity(command.name));
        }
        let (mut more_bytes, mut grows) =
            (request.raw().len(), command.flags.contains(Flags::GROWS));
        if let Some(transaction) = self.transaction.as_ref().filter(|_| request.is("exec")) {
            let mut queue = transaction.queue.iter();
            more_bytes = transaction.bytes;
            grows = queue.any(|(_, command)| command.flags.contains(Flags::GROWS));
        }
        if grows && !keyspace.has_room(now_ms, more_bytes) {
            keyspace.refused += 1;
            return Err(Error::MEMORY);
        }
        if let Some(transaction) = &self.transaction {
            if command.flags.contains(Flags::NEVER_QUEUED) {
                return Err(Error::fixed("ERR Command not allowed inside a transaction"));
            }
            let bytes = transaction.bytes.saturating_add(request.raw().len());
            if bytes > keyspace.bounds.queue_max_bytes {
                return Err(Error::fixed("ERR transaction is too large"));
            }
        }
        Ok(command)
    }

    /// Does a command, and tells what it did.
    fn run(
        &mut self,
        keyspace: &mut Keyspace,
        request: &Request,
        command: &'static Command,
        now_ms: i64,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let (changes, at) = (keyspace.changes, self.database);
        let bytes = keyspace.databases[at].entries.bytes();
        let writes = command.flags.contains(Flags::WRITES);
        keyspace.is_reading = !writes;
        let draws = command.flags.contains(Flags::DRAWS);
        let is_portrayed = keyspace.effects.is_copied && draws;
        if is_portrayed {
            keyspace.keep_touched(true);
        }
        let mut view = View { keyspace, at, now_ms };
        let guarded = guard::before(&mut view, &mut self.own, command, request);
        let begins = out.len();
        let mut call = Call { view, client: self, request, command, out, begins, is_told: false };
        let done = (command.run)(&mut call);
        let is_told = call.is_told || !writes;
        if is_portrayed {
            keyspace.tell_touched();
        } else if keyspace.changes != changes && !is_told {
            keyspace.effects.push_raw(at, request.raw());
        }
        let mut view = View { keyspace, at, now_ms };
        guard::after(guarded, &mut view, &mut self.own, (command, request), done.is_ok());
        if command.flags.contains(Flags::GROWS) {
            // A short command can take much: COPY, SUNIONSTORE, APPEND to what has little room left.
            let expected = bytes + request.raw().len() + BESIDE_BYTES;
            if draws || keyspace.databases[at].entries.bytes() > expected {
                keyspace.keep_room(now_ms);
            }
        }
        done
    }

    /// EXEC: does what was queued, all of it or nothing.
    pub fn execute_queue(
        &mut self,
        keyspace: &mut Keyspace,
        now_ms: i64,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let Some(transaction) = self.transaction.take() else {
            return Err(Error::fixed("ERR EXEC without MULTI"));
        };
        let is_overtaken = self.is_overtaken(keyspace, now_ms);
        self.unwatch();
        if transaction.is_broken {
            let text = "EXECABORT Transaction discarded because of previous errors.";
            return Err(Error::fixed(text));
        }
        if is_overtaken {
            write::null_array(out, self.protocol);
            return Ok(());
        }
        let begins = out.len();
        write::array(out, transaction.queue.len());
        for (request, command) in transaction.queue {
            let before = out.len();
            let mut done = self.run(keyspace, &request, command, now_ms, out);
            // It is done all the same.
            if out.len() - begins > keyspace.bounds.reply_max_bytes {
                done = Err(Error::REPLY);
            }
            if let Err(error) = done {
                out.truncate(before);
                write::error(out, &error.0);
            }
        }
        Ok(())
    }

    /// Was a key that it watches changed, or has one ended?
    fn is_overtaken(&mut self, keyspace: &mut Keyspace, now_ms: i64) -> bool {
        for (at, key) in &self.watched {
            View { keyspace, at: *at, now_ms }.contains(key);
        }
        self.mark.load(Ordering::Relaxed)
    }

    /// Watches a key from now on.
    pub fn watch(&mut self, view: &mut View<'_>, key: &[u8]) -> Result<(), Error> {
        let is_it = |(at, own): &(usize, Box<[u8]>)| *at == view.at && **own == *key;
        if self.watched.iter().any(is_it) {
            return Ok(());
        }
        if self.watched.len() >= view.keyspace.bounds.watched_max {
            return Err(Error::fixed("ERR too many watched keys"));
        }
        // One that has ended is not there: that it goes is no change.
        view.contains(key);
        view.database().watches.add(key, &self.mark);
        self.watched.push((view.at, key.into()));
        Ok(())
    }

    pub fn unwatch(&mut self) {
        if !self.watched.is_empty() {
            self.watched.clear();
            self.mark = Arc::default();
        }
    }

    /// RESET: as if it had just connected.
    pub fn reset(&mut self) {
        self.unwatch();
        self.transaction = None;
        self.database = 0;
        self.protocol = Protocol::Resp2;
        self.name = Bytes::new();
        self.replies = Replies::All;
    }
}

/// What a command may take beside its own bytes, before it is looked how much it took.
const BESIDE_BYTES: usize = 1 << 10;
/// So many keys are looked at before a write is refused for want of memory.
const SEARCHED_FOR_ROOM: usize = 1_000;

impl Keyspace {
    /// Is there room for more, where need be after some that have ended are removed?
    fn has_room(&mut self, now_ms: i64, more_bytes: usize) -> bool {
        if !self.garbage.is_empty() {
            self.free_some(more_bytes);
        }
        if self.bounds.eviction == Eviction::LeastRecentlyUsed {
            self.make_room(now_ms, more_bytes.saturating_add(BESIDE_BYTES));
            return true;
        }
        let is_full = |keyspace: &Self| keyspace.memory_bytes() > keyspace.bounds.memory_max_bytes;
        while is_full(self) && !self.garbage.is_empty() {
            self.free_some(more_bytes);
        }
        if is_full(self) {
            self.expire(now_ms, SEARCHED_FOR_ROOM);
        }
        !is_full(self)
    }

    /// Holds the bound after a command that took more than was expected.
    fn keep_room(&mut self, now_ms: i64) {
        if self.bounds.eviction == Eviction::LeastRecentlyUsed {
            self.make_room(now_ms, 0);
        }
    }
}
