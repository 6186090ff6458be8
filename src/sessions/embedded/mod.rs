//! The sessions of a single server without a Redis: a keyspace in memory, with a journal on disk.
//!
//! What is promised:
//!
//! - Before a client gets its reply, what its command did was given to the system (`write`). It survives this
//!   process' end in any way, `kill -9` included.
//! - The journal is synced each second, and when it is closed: a loss of power takes at most what was done in
//!   the second before (and in the time that the disk takes to sync). It never takes part of a transaction.
//! - Where the disk is full, or fails, commands go on in memory. [`Figures::is_behind`] says so, and until the
//!   journal could be written anew, which is tried each five seconds, what is done is lost with the process.
//! - Without a journal all is in memory alone, and gone with the process.
//! - One process owns the journal at a time; [`Embedded::close`] gives it to the one that takes over.
//! - It is written anew when it has grown to twice the memory that its keys take.

mod journal;
mod rewrite;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};

use crate::clock::{Clock, Moment};
use crate::keyspace::{After, Anew, Bounds, Keyspace, Session};
use crate::random;
use crate::resp::{self, ReadState, Request, Value, write};

pub use journal::OpenError;

use journal::Journal;
use rewrite::{Pending, Rewrite, Step};

/// How often it is looked what has ended, and whether there is something to sync.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// What a loss of power takes at most.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// After a failure the journal is written anew this much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Keys that are looked at each time whether they have ended.
const SEARCHED: usize = 1_000;
/// Below, a journal is not worth writing anew.
const REWRITE_MIN_BYTES: u64 = 1 << 20;

/// What our own records may hold; they were checked when they came.
const RECORD_LIMITS: resp::Limits = resp::Limits {
    inline_max_bytes: 64,
    bulk_max_bytes: u32::MAX as usize,
    arguments_max: u32::MAX as usize,
    request_max_bytes: u32::MAX as usize,
};

/// The store.
#[derive(Debug)]
pub struct Embedded {
    inner: Mutex<Inner>,
    /// Told when the journal is closed.
    closed: Condvar,
    path: PathBuf,
    bounds: Bounds,
    clock: Clock,
    /// What has to be added to the clock's time to have milliseconds since 1970.
    epoch_ms: i64,
    clients: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    keyspace: Keyspace,
    /// `None`: memory alone, or it is closed.
    journal: Option<Journal>,
    is_closed: bool,
    /// How often it was opened; who tends an earlier opening stops.
    openings: u64,
    /// What was done is not in the journal.
    is_behind: bool,
    is_unsynced: bool,
    rewrite: Option<Pending>,
    synced: Moment,
    tried: Option<Moment>,
    rewrites: u64,
    failures: u64,
}

/// Numbers for metrics and readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Keys.
    pub keys: usize,
    /// Bytes which they take in memory.
    pub memory_bytes: usize,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// The disk is full, or fails: what is done now would be lost with the process.
    pub is_behind: bool,
    /// How often it could not be written or synced.
    pub failures: u64,
    /// How often it was written anew.
    pub rewrites: u64,
    /// Keys that ended.
    pub expired: u64,
    /// Commands that were refused since memory was full.
    pub refused: u64,
}

impl Embedded {
    /// Opens the journal, or begins one, does again what it says, and has a thread tend it until it is closed
    /// or the last owner lets go. Blocks as long as the disk needs. With an empty path there is no journal:
    /// all is in memory, and gone with the process.
    pub fn open(path: &Path, bounds: Bounds, clock: &Clock) -> Result<Arc<Self>, OpenError> {
        let embedded = Arc::new(Self::load(path, bounds, clock)?);
        embedded.have_it_tended()?;
        Ok(embedded)
    }

    /// Opens the journal once more, after the process that it was left to has gone: what that one did is in
    /// it. Blocks as [`Embedded::open`] does.
    pub fn open_again(self: &Arc<Self>) -> Result<(), OpenError> {
        self.close();
        let mut read = Self::read(&self.path, self.bounds, &self.clock)?;
        let mut inner = self.inner.lock();
        read.openings = inner.openings + 1;
        *inner = read;
        drop(inner);
        self.have_it_tended()
    }

    fn have_it_tended(self: &Arc<Self>) -> Result<(), OpenError> {
        let (weak, opening) = (Arc::downgrade(self), self.inner.lock().openings);
        let work = move || {
            while let Some(embedded) = weak.upgrade() {
                if !embedded.tend(opening) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("sessions-journal".into());
        let started = thread.spawn(work);
        started.map(drop).map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }

    fn load(path: &Path, bounds: Bounds, clock: &Clock) -> Result<Self, OpenError> {
        let inner = Self::read(path, bounds, clock)?;
        let wall = clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let elapsed = i64::try_from(clock.now().milliseconds()).unwrap_or(0);
        let epoch_ms = i64::try_from(wall.as_millis()).unwrap_or(0) - elapsed;
        Ok(Self {
            inner: Mutex::new(inner),
            closed: Condvar::new(),
            path: path.to_owned(),
            bounds,
            clock: clock.clone(),
            epoch_ms,
            clients: AtomicU64::new(1),
        })
    }

    fn read(path: &Path, bounds: Bounds, clock: &Clock) -> Result<Inner, OpenError> {
        // Nothing is refused, and nothing ends, of what was done before.
        let mut keyspace =
            Keyspace::new(Bounds { memory_max_bytes: usize::MAX, ..bounds }, random::number());
        let mut session = Session::new(0);
        let mut unread = 0_u64;
        let (mut journal, mut cut) = (None, 0);
        if !path.as_os_str().is_empty() {
            let opened = Journal::open(path, |content| {
                unread += u64::from(!replay(content, &mut keyspace, &mut session));
            })?;
            (journal, cut) = (Some(opened.0), opened.1);
        }
        if cut > 0 || unread > 0 {
            let path = path.display();
            tracing::warn!(%path, cut, unread, "the sessions' journal was not whole");
        }
        keyspace.limit_memory(bounds.memory_max_bytes);
        if journal.is_some() {
            keyspace.keep_effects();
        }
        Ok(Inner {
            keyspace,
            journal,
            is_closed: false,
            openings: 0,
            is_behind: false,
            is_unsynced: false,
            rewrite: None,
            synced: clock.now(),
            tried: None,
            rewrites: 0,
            failures: 0,
        })
    }

    /// A client that has just connected.
    pub fn session(self: &Arc<Self>) -> EmbeddedSession {
        let id = self.clients.fetch_add(1, Ordering::Relaxed);
        EmbeddedSession { embedded: Arc::clone(self), session: Session::new(id) }
    }

    /// The reply to one packed command of this server's own.
    pub fn ask(&self, database: u32, command: &[u8]) -> Value {
        let mut buffer = BytesMut::from(command);
        match resp::read_request(&mut buffer, &RECORD_LIMITS, &mut ReadState::default()) {
            Ok(Some(request)) => self.together(database, |ask| ask(&request)),
            _ => Value::Error(Bytes::from_static(b"ERR no whole command")),
        }
    }

    /// Several commands of this server's own, between which no other is done: what is compared is still so
    /// when it is set. Each is written down by itself.
    pub fn together<T>(
        &self,
        database: u32,
        work: impl FnOnce(&mut dyn FnMut(&Request) -> Value) -> T,
    ) -> T {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        let mut session = Session::new(0);
        let select = Request::pack(&[b"SELECT", database.to_string().as_bytes()]);
        let mut out = BytesMut::new();
        inner.execute(&mut session, &select, now_ms, &mut out);
        work(&mut |command| {
            out.clear();
            inner.execute(&mut session, command, now_ms, &mut out);
            resp::decode(&out).unwrap_or(Value::Null)
        })
    }

    /// Syncs the journal and lets go of it, so that another process may open it. From then on each client is
    /// told so, and its connection is to be closed.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        let journal = inner.journal.take();
        drop(inner);
        if let Some(journal) = journal
            && let Err(error) = journal.file().sync_data()
        {
            tracing::warn!(path = %self.path.display(), %error, "the sessions' journal is not synced");
        }
        self.closed.notify_all();
    }

    /// What there is, and how the journal stands.
    pub fn figures(&self) -> Figures {
        let inner = self.inner.lock();
        let keyspace = inner.keyspace.figures();
        Figures {
            keys: keyspace.keys,
            memory_bytes: keyspace.memory_bytes,
            journal_bytes: inner.journal.as_ref().map_or(0, Journal::bytes),
            is_behind: inner.is_behind,
            failures: inner.failures,
            rewrites: inner.rewrites,
            expired: keyspace.expired,
            refused: keyspace.refused,
        }
    }

    /// Milliseconds since 1970. It goes on with the machine's time since it was opened: who sets the wall
    /// clock ends no session.
    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.clock.now().milliseconds()).unwrap_or(i64::MAX);
        self.epoch_ms.saturating_add(elapsed)
    }

    /// Does what is due, then waits a little. False: it is closed, or was opened again.
    fn tend(&self, opening: u64) -> bool {
        self.end_sessions();
        self.sync_if_due();
        if self.is_rewrite_due() {
            self.rewrite();
        }
        let mut inner = self.inner.lock();
        if !inner.is_closed {
            self.closed.wait_for(&mut inner, TEND_EVERY);
        }
        !inner.is_closed && inner.openings == opening
    }

    fn end_sessions(&self) {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        // Who has let go of the journal decides nothing any more.
        if !inner.is_closed && inner.keyspace.expire(now_ms, SEARCHED) > 0 {
            inner.keep();
        }
    }

    fn sync_if_due(&self) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if !inner.is_unsynced || now.since(inner.synced) < SYNC_EVERY {
            return;
        }
        let Some(file) = inner.journal.as_ref().map(Journal::file) else { return };
        (inner.is_unsynced, inner.synced) = (false, now);
        drop(inner);
        if let Err(error) = file.sync_data() {
            // What the system still has of it may be lost without a word: only a new file is sure.
            self.inner.lock().fall_behind(&error);
        }
    }

    fn is_rewrite_due(&self) -> bool {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let Some(journal) = &inner.journal else { return false };
        let live = inner.keyspace.memory_bytes() as u64;
        let has_grown = journal.bytes() > REWRITE_MIN_BYTES.max(live * 2);
        let may_try = inner.tried.is_none_or(|tried| now.since(tried) >= RETRY_AFTER);
        let is_due = (has_grown || inner.is_behind) && may_try;
        if is_due {
            inner.tried = Some(now);
        }
        is_due
    }

    fn rewrite(&self) {
        let was_behind = self.inner.lock().is_behind;
        let path = self.path.display();
        match self.write_anew() {
            Ok(()) if was_behind => tracing::warn!(%path, "the sessions' journal is whole again"),
            Ok(()) => {}
            // Databases were emptied or swapped meanwhile, or the journal was closed.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.inner.lock().failures += 1;
                tracing::warn!(%path, %error, "the sessions' journal could not be written anew");
            }
        }
    }

    fn write_anew(&self) -> std::io::Result<()> {
        let Some(mut rewrite) = Rewrite::begin(self)? else { return Ok(()) };
        while rewrite.step()? == Step::More {}
        rewrite.finish()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn execute(
        &mut self,
        session: &mut Session,
        request: &Request,
        now_ms: i64,
        out: &mut BytesMut,
    ) -> After {
        if self.is_closed {
            write::error(out, b"LOADING Another process has the sessions now");
            return After::Close;
        }
        let after = session.execute(&mut self.keyspace, request, now_ms, out);
        self.keep();
        after
    }

    /// Writes down what was done.
    fn keep(&mut self) {
        let effects = self.keyspace.take_effects();
        if effects.is_empty() {
            return;
        }
        if let Some(journal) = self.journal.as_mut().filter(|_| !self.is_behind) {
            match journal.append(&effects) {
                Ok(()) => self.is_unsynced = true,
                Err(error) => self.fall_behind(&error),
            }
        }
        if let Some(pending) = &mut self.rewrite {
            let touched = self.keyspace.take_touched();
            let keyspace = &self.keyspace;
            pending.take_in(&touched, |at, key, out| keyspace.portrait_of(at, key, out));
        }
    }

    /// From now on the journal does not have what is done, until it is written anew.
    fn fall_behind(&mut self, error: &std::io::Error) {
        self.is_behind = true;
        self.failures += 1;
        tracing::warn!(
            %error,
            "the sessions' journal cannot be written: until that is over, a crash loses sessions"
        );
    }
}

/// Does again what a record says. False: part of it is no command, or was refused.
fn replay(content: &[u8], keyspace: &mut Keyspace, session: &mut Session) -> bool {
    let (mut buffer, mut state) = (BytesMut::from(content), ReadState::default());
    let (mut out, mut is_good) = (BytesMut::new(), true);
    loop {
        match resp::read_request(&mut buffer, &RECORD_LIMITS, &mut state) {
            Ok(Some(request)) => {
                out.clear();
                // Nothing has ended at that time: what did, the journal says.
                session.execute(keyspace, &request, i64::MIN, &mut out);
                is_good &= !out.starts_with(b"-");
            }
            Ok(None) => return is_good && buffer.is_empty(),
            Err(_) => return false,
        }
    }
}

/// One client's connection to the store.
#[derive(Debug)]
pub struct EmbeddedSession {
    embedded: Arc<Embedded>,
    session: Session,
}

impl EmbeddedSession {
    /// Does one command and appends its reply. What it did is in the journal when this returns.
    pub fn execute(&mut self, request: &Request, out: &mut BytesMut) -> After {
        let now_ms = self.embedded.now_ms();
        self.embedded.inner.lock().execute(&mut self.session, request, now_ms, out)
    }

    /// The database that it has selected.
    pub fn database(&self) -> usize {
        self.session.database()
    }

    /// What it speaks.
    pub fn protocol(&self) -> resp::Protocol {
        self.session.protocol()
    }

    /// The name it gave itself.
    pub fn name(&self) -> &[u8] {
        self.session.name()
    }

    /// Is a transaction open?
    pub fn is_in_transaction(&self) -> bool {
        self.session.is_in_transaction()
    }

    /// The commands by which [`EmbeddedSession::resume`] makes a new session what this one is.
    pub fn begun(&self) -> Vec<Request> {
        let Anew { is, amid } = self.session.anew();
        is.into_iter().chain(amid).collect()
    }

    /// Goes on where another session was. What that one watched counts as changed: others may have come in
    /// between.
    pub fn resume<'a>(&mut self, begun: impl Iterator<Item = &'a [u8]>) {
        let mut replies = BytesMut::new();
        for command in begun {
            let (mut buffer, mut state) = (BytesMut::from(command), ReadState::default());
            if let Ok(Some(it)) = resp::read_request(&mut buffer, &RECORD_LIMITS, &mut state) {
                replies.clear();
                self.execute(&it, &mut replies);
            }
        }
        self.session.overtake();
    }
}
