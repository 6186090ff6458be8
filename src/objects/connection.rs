//! One client: bytes to commands, replies to bytes.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep, timeout};

use super::buffers::Held;
use super::messages::{Key, Touched};
use super::{Objects, Stay, onward};
use crate::clock::Moment;
use crate::keyspace::{After, Session};
use crate::resp::{ProtocolError, ReadState, Request, read_request, write};
use crate::settings::Endpoint;

/// Bytes that are read at once at least.
const READ_MIN_BYTES: usize = 16 << 10;
/// Bytes that are read at once at most, once that many come.
const READ_MAX_BYTES: usize = 1 << 20;
/// Commands that are done under one lock at most, so that others get their turn.
const BATCH_MAX: usize = 64;
/// Replies are sent once they are so long, before further commands are done.
const REPLIES_MAX_BYTES: usize = 1 << 20;
/// Larger buffers are not kept while their client says nothing.
const KEPT_MAX_BYTES: usize = 64 << 10;

/// What a client hears whose command is too large beside those of the others.
const NO_ROOM: &[u8] = b"ERR the commands of all clients take more than objects.buffers_max";

/// Why a connection ends.
enum End {
    /// The client has gone.
    Gone,
    /// It is to go.
    Told,
    /// What it sent cannot be taken; it was told why.
    Refused,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

struct Client<'a> {
    objects: &'a Objects,
    session: Session,
    /// What came and was not read as a command yet.
    read: BytesMut,
    state: ReadState,
    requests: Vec<Request>,
    replies: BytesMut,
    /// Commands that another process is to do.
    undone: Vec<Bytes>,
    held: Held<'a>,
    /// Messages that its transaction touches, which is not done yet.
    awaited: Vec<Key>,
    /// Bytes that are read at once: more where all the room was filled.
    chunk_bytes: usize,
    silence: Silence<'a>,
}

impl Objects {
    /// Serves a client until it goes, or sends what is no command, or `stay` says that it is not to be
    /// served here, or another process has the databases; then it is passed on, or let go. `endpoint` is where
    /// a process listens that takes over. `stay` is asked whenever the task is woken.
    pub async fn serve<S>(&self, mut stream: S, stay: impl Fn() -> Stay + Send, endpoint: &Endpoint)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let id = self.clients_seen.fetch_add(1, Ordering::Relaxed) + 1;
        let _connected = Connected::new(&self.clients);
        let mut client = Client {
            objects: self,
            session: Session::new(id),
            read: BytesMut::new(),
            state: ReadState::default(),
            requests: Vec::new(),
            replies: BytesMut::new(),
            undone: Vec::new(),
            held: self.buffers.hold(),
            awaited: Vec::new(),
            chunk_bytes: READ_MIN_BYTES,
            silence: Silence::new(self),
        };
        match client.run(&mut stream, &stay).await {
            End::Refused => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let _ = client.send(&mut stream).await;
            }
            End::Told if stay() != Stay::Nowhere => {
                if let Err(error) = client.pass_on(&mut stream, endpoint).await {
                    tracing::debug!(%error, "a client of the object cache could not be passed on");
                }
            }
            End::Gone if client.read.is_empty() => self.end(&mut client.session),
            End::Gone | End::Told => {}
        }
        let _ = timeout(self.write_timeout, stream.shutdown()).await;
    }
}

impl Client<'_> {
    async fn run<S>(&mut self, stream: &mut S, stay: &impl Fn() -> Stay) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let turn = async {
                self.receive(stream, stay).await?;
                self.answer(stream).await
            };
            if let Err(end) = turn.await {
                return end;
            }
        }
    }

    /// Does all commands that have come whole.
    async fn answer<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), End> {
        loop {
            let taken = self.take_requests();
            let is_all = self.requests.len() < BATCH_MAX;
            let after = self.execute(stream).await?;
            match after {
                After::Continue => {}
                After::Close => {
                    self.send(stream).await?;
                    return Err(End::Gone);
                }
                After::Refuse => return Err(End::Refused),
            }
            if let Err(error) = taken {
                // What came before the mistake was done.
                error.write(&mut self.replies);
                return Err(End::Refused);
            }
            if is_all {
                break;
            }
        }
        self.send(stream).await?;
        self.settle()
    }

    /// Reads what has come.
    async fn receive<S>(&mut self, stream: &mut S, stay: &impl Fn() -> Stay) -> Result<(), End>
    where
        S: AsyncRead + Unpin,
    {
        self.read.reserve(self.chunk_bytes);
        let room = self.read.capacity() - self.read.len();
        let is_amid = self.session.is_amid();
        let may_leave = self.read.is_empty();
        let must_leave = || match stay() {
            Stay::Here => false,
            Stay::Elsewhere => may_leave,
            Stay::Nowhere => may_leave && !is_amid,
        };
        self.silence.begin();
        let read = poll_fn(|context| {
            let reading = pin!(stream.read_buf(&mut self.read));
            match reading.poll(context) {
                Poll::Pending if must_leave() => Poll::Ready(Err(End::Told)),
                Poll::Pending => self.silence.poll(context).map(|()| Ok(0)),
                Poll::Ready(read) => Poll::Ready(read.map_err(End::from)),
            }
        });
        let read = read.await?;
        let is_full = read == room;
        self.chunk_bytes =
            if is_full { (self.chunk_bytes * 2).min(READ_MAX_BYTES) } else { READ_MIN_BYTES };
        if read == 0 { Err(End::Gone) } else { Ok(()) }
    }

    /// Takes complete commands, as many as are done under one lock.
    fn take_requests(&mut self) -> Result<(), ProtocolError> {
        while self.requests.len() < BATCH_MAX {
            match read_request(&mut self.read, &self.objects.limits, &mut self.state)? {
                Some(request) => self.requests.push(request),
                None => break,
            }
        }
        Ok(())
    }

    /// Does the commands that were taken. Replies are sent on the way only where they are long.
    async fn execute<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<After, End> {
        let mut requests = std::mem::take(&mut self.requests);
        let (mut left, mut after) = (&requests[..], After::Continue);
        let mut messages = self.fetch_messages(left).await;
        while !left.is_empty() && after == After::Continue {
            let (session, replies) = (&mut self.session, &mut self.replies);
            let Some((done, next, cleans)) =
                self.objects.execute(session, left, replies, REPLIES_MAX_BYTES)
            else {
                self.undone = left.iter().map(|request| request.raw().clone()).collect();
                return Err(End::Told);
            };
            (left, after) = (&left[done..], next);
            if let Some(touched) = &mut messages {
                self.objects.send_changed(touched).await;
                self.session.waited(self.objects.clock.roughly().milliseconds());
            }
            if !cleans.is_empty() {
                self.objects.telling.tell(cleans).await;
                self.session.waited(self.objects.clock.roughly().milliseconds());
            }
            if self.replies.len() >= REPLIES_MAX_BYTES {
                self.send(stream).await?;
            }
        }
        requests.clear();
        self.requests = requests;
        Ok(after)
    }

    /// Fetches the messages that commands touch, those of a transaction again when it is done.
    async fn fetch_messages(&mut self, requests: &[Request]) -> Option<Touched> {
        let messages = self.objects.messages.get()?;
        let mut keys = messages.touched(&self.session, requests);
        if keys.is_empty() && self.awaited.is_empty() {
            return None;
        }
        keys.append(&mut self.awaited);
        let begins = |request: &Request| request.is("multi");
        if self.session.is_in_transaction() || requests.iter().any(begins) {
            // Where its EXEC comes now they are fetched once more in vain.
            self.awaited.extend_from_slice(&keys);
        }
        self.objects.fetch_messages(keys).await
    }

    /// Sends all replies.
    async fn send<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), End> {
        while !self.replies.is_empty() {
            let replies = &self.replies[..];
            let mut writing =
                poll_fn(|context| Pin::new(&mut *stream).poll_write(context, replies));
            // In most cases the system takes all at once, and no time needs to be measured.
            let at_once =
                poll_fn(|context| Poll::Ready(Pin::new(&mut writing).poll(context))).await;
            let written = match at_once {
                Poll::Ready(written) => written,
                Poll::Pending => {
                    timeout(self.objects.write_timeout, writing).await.unwrap_or(Ok(0))
                }
            };
            match written? {
                0 => return Err(End::Gone),
                written => self.replies.advance(written),
            }
        }
        self.replies.clear();
        Ok(())
    }

    /// Has another process go on: with what was begun, and what came and was not done.
    async fn pass_on<S>(&mut self, stream: &mut S, endpoint: &Endpoint) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.session.is_overtaken() {
            return Err(io::Error::other("what it watched was changed, which cannot be told"));
        }
        if self.send(stream).await.is_err() {
            return Ok(());
        }
        let mut rest = BytesMut::new();
        self.undone.drain(..).for_each(|raw| rest.extend_from_slice(&raw));
        rest.extend_from_slice(&self.read);
        let greeting = onward::greeting(&self.session);
        onward::pass_on(stream, greeting, &rest, endpoint).await
    }

    /// Counts what has to wait, and gives back what does not.
    fn settle(&mut self) -> Result<(), End> {
        if self.read.is_empty() && self.read.capacity() > KEPT_MAX_BYTES {
            self.read = BytesMut::new();
        }
        if self.replies.capacity() > KEPT_MAX_BYTES {
            self.replies = BytesMut::new();
        }
        if self.held.set(self.read.len().saturating_add(self.session.queued_bytes())) {
            return Ok(());
        }
        write::error(&mut self.replies, NO_ROOM);
        Err(End::Refused)
    }
}

/// How long a client says nothing. A timer is not set for each command: it goes on, and where it ends it is looked
/// whether the client has spoken since.
struct Silence<'a> {
    objects: &'a Objects,
    since: Moment,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Silence<'a> {
    fn new(objects: &'a Objects) -> Self {
        Self { objects, since: objects.clock.roughly(), timer: None }
    }

    fn begin(&mut self) {
        self.since = self.objects.clock.roughly();
    }

    /// Ends when the client has said nothing for too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(idle) = self.objects.idle_timeout else { return Poll::Pending };
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
            ready!(timer.as_mut().poll(context));
            let left = idle.saturating_sub(self.objects.clock.roughly().since(self.since));
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.timer = Some(Box::pin(sleep(left)));
        }
    }
}

/// Counts a client for as long as it is connected.
struct Connected<'a>(&'a AtomicUsize);

impl<'a> Connected<'a> {
    fn new(clients: &'a AtomicUsize) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(clients)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
