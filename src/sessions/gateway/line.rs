//! A connection that several clients share: commands out in one order, replies back in the same.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::budget::Hold;
use super::error::BackendError;
use crate::clock::{Clock, Moment};
use crate::redis_pool::RedisError;
use crate::resp::{ProtocolError, RawReply, ReplyKind, ReplyLimits, ReplyState, read_reply};

/// Bytes that are taken from the queue ahead of the socket.
const OUT_MAX_BYTES: usize = 256 << 10;
/// The least room for what is read.
const READ_BYTES: usize = 16 << 10;

/// Commands that stay together and in order.
pub(super) struct Job {
    /// As the client sent them.
    pub(super) commands: Vec<Bytes>,
    /// Replies that they have.
    pub(super) replies: usize,
    /// Where the replies' bytes are counted.
    pub(super) hold: Hold,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What became of a job.
pub(super) struct Answer {
    /// The replies that came, in order: all of them, or those before the failure.
    pub(super) replies: Vec<RawReply>,
    /// Why there are no more.
    pub(super) failure: Option<Failure>,
    /// Their bytes' part of the budget.
    pub(super) hold: Hold,
}

/// Why replies are missing.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) why: BackendError,
    /// Nothing of the commands has left this server.
    pub(super) unsent: bool,
    /// The first reply that is missing is itself why the connection ended. Its command would end the
    /// next one as well, so it is not sent again and gets this error.
    pub(super) culprit: Option<BackendError>,
}

impl Failure {
    pub(super) fn new(why: BackendError, unsent: bool) -> Self {
        Self { why, unsent, culprit: None }
    }
}

impl Job {
    /// Tells the client that nothing was sent.
    pub(super) fn refuse(self, why: BackendError) {
        let failure = Some(Failure::new(why, true));
        // The client may be gone.
        let _ = self.answer.send(Answer { replies: Vec::new(), failure, hold: self.hold });
    }
}

/// A job whose replies are awaited.
struct Waiting {
    /// Where its commands begin among all bytes of this connection.
    begins: u64,
    since: Moment,
    missing: usize,
    replies: Vec<RawReply>,
    hold: Hold,
    /// `None`: nobody wants them any more; they are read all the same, since others follow.
    answer: Option<oneshot::Sender<Answer>>,
}

/// Such a connection.
pub(super) struct Line<S> {
    stream: S,
    clock: Clock,
    timeout: std::time::Duration,
    limits: ReplyLimits,
    input: BytesMut,
    state: ReplyState,
    out: BytesMut,
    /// Bytes that were put in `out`, and those of them that were written.
    queued: u64,
    written: u64,
    needs_flush: bool,
    waiting: VecDeque<Waiting>,
    heard: Moment,
    tick: Interval,
    answered: bool,
}

/// Why a line ended.
pub(super) enum End {
    /// Nobody can ask any more.
    Unused,
    /// It is of no more use.
    Lost(BackendError),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(super) fn new(
        stream: S,
        clock: &Clock,
        timeout: std::time::Duration,
        limits: ReplyLimits,
    ) -> Self {
        let mut tick = interval((timeout / 4).max(std::time::Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stream,
            clock: clock.clone(),
            timeout,
            limits,
            input: BytesMut::with_capacity(READ_BYTES),
            state: ReplyState::default(),
            out: BytesMut::with_capacity(READ_BYTES),
            queued: 0,
            written: 0,
            needs_flush: false,
            waiting: VecDeque::new(),
            heard: clock.now(),
            tick,
            answered: false,
        }
    }

    /// Has a reply ever come?
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Serves the queue until the connection is lost or nobody can ask any more.
    /// Once `renew` is told it ends when nothing is awaited any more.
    pub(super) async fn run(&mut self, jobs: &mut mpsc::Receiver<Job>, renew: &Notify) -> End {
        let mut renewed = pin!(renew.notified());
        let mut is_old = false;
        poll_fn(|context| {
            is_old = is_old || renewed.as_mut().poll(context).is_ready();
            if is_old {
                return self.finish(context);
            }
            self.poll(context, jobs)
        })
        .await
    }

    /// Takes nothing new.
    fn finish(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Err(error) = self.write(context).and_then(|()| self.read(context)) {
            return Poll::Ready(End::Lost(error));
        }
        if self.waiting.is_empty() {
            return Poll::Ready(End::Lost(BackendError::Lost(RedisError::Away)));
        }
        self.look(context)
    }

    fn poll(&mut self, context: &mut Context<'_>, jobs: &mut mpsc::Receiver<Job>) -> Poll<End> {
        let closed = self.take(context, jobs);
        if let Err(error) = self.write(context).and_then(|()| self.read(context)) {
            return Poll::Ready(End::Lost(error));
        }
        if closed && self.waiting.is_empty() {
            return Poll::Ready(End::Unused);
        }
        self.look(context)
    }

    /// Is an answer overdue?
    fn look(&mut self, context: &mut Context<'_>) -> Poll<End> {
        while self.tick.poll_tick(context).is_ready() {
            if let Some(error) = self.overdue() {
                return Poll::Ready(End::Lost(error));
            }
        }
        Poll::Pending
    }

    /// Takes what is queued, as long as there is room; says whether nobody can ask any more.
    fn take(&mut self, context: &mut Context<'_>, jobs: &mut mpsc::Receiver<Job>) -> bool {
        while self.out.len() < OUT_MAX_BYTES {
            match jobs.poll_recv(context) {
                Poll::Ready(Some(job)) => self.add(job),
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
        false
    }

    fn add(&mut self, job: Job) {
        let begins = self.queued;
        for command in &job.commands {
            self.out.extend_from_slice(command);
            self.queued += command.len() as u64;
        }
        self.waiting.push_back(Waiting {
            begins,
            since: self.clock.now(),
            missing: job.replies,
            replies: Vec::with_capacity(job.replies),
            hold: job.hold,
            answer: Some(job.answer),
        });
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<(), BackendError> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.out) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(lost(&io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return Err(lost(&error)),
                Poll::Ready(Ok(written)) => {
                    // Where the queue had to wait for room, there is some now.
                    if self.out.len() >= OUT_MAX_BYTES {
                        context.waker().wake_by_ref();
                    }
                    self.out.advance(written);
                    self.written += written as u64;
                    self.needs_flush = true;
                }
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(lost(&error)),
                Poll::Ready(Ok(())) => self.needs_flush = false,
            }
        }
        Ok(())
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<(), BackendError> {
        loop {
            self.input.reserve(READ_BYTES);
            match self.poll_read(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(lost(&error)),
                Poll::Ready(Ok(0)) => {
                    return Err(BackendError::Lost(RedisError::Broken(
                        "closed by the server".to_owned(),
                    )));
                }
                Poll::Ready(Ok(_)) => {}
            }
            self.heard = self.clock.now();
            while let Some(reply) = read_reply(&mut self.input, &self.limits, &mut self.state)
                .map_err(BackendError::Malformed)?
            {
                self.give(reply)?;
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = pin!(self.stream.read_buf(&mut self.input));
        Poll::Ready(ready!(read.poll(context)))
    }

    /// Gives a reply to who waits for one the longest.
    fn give(&mut self, reply: RawReply) -> Result<(), BackendError> {
        if reply.kind == ReplyKind::Push {
            // Nobody on a shared connection has asked for news.
            return Ok(());
        }
        self.answered = true;
        let Some(first) = self.waiting.front_mut() else {
            return Err(BackendError::Lost(RedisError::Unexpected));
        };
        first.missing = first.missing.saturating_sub(1);
        if first.answer.is_some() {
            if first.hold.grow(reply.bytes.len()) {
                first.replies.push(reply);
            } else {
                let why = BackendError::TooLarge("sessions.buffers_max");
                first.tell(Some(Failure::new(why, false)));
            }
        }
        if first.missing == 0
            && let Some(mut done) = self.waiting.pop_front()
        {
            done.tell(None);
        }
        Ok(())
    }

    fn overdue(&self) -> Option<BackendError> {
        let first = self.waiting.front()?;
        let since = first.since.max(self.heard);
        let is_overdue = self.clock.now().since(since) >= self.timeout;
        is_overdue.then_some(BackendError::Lost(RedisError::TimedOut(self.timeout)))
    }

    /// Tells all who wait that there are no more replies.
    pub(super) fn fail(&mut self, why: &BackendError) {
        let mut culprit = culprit(why);
        // For all others the connection was lost.
        let why = match why {
            BackendError::Malformed(error) => {
                BackendError::Lost(RedisError::Broken(error.to_string()))
            }
            why => why.clone(),
        };
        for mut waiting in self.waiting.drain(..) {
            let unsent = waiting.begins >= self.written;
            // What was not sent has no reply that could be to blame.
            let culprit = culprit.take().filter(|_| !unsent);
            waiting.tell(Some(Failure { why: why.clone(), unsent, culprit }));
        }
    }
}

impl Waiting {
    fn tell(&mut self, failure: Option<Failure>) {
        let Some(answer) = self.answer.take() else { return };
        let replies = std::mem::take(&mut self.replies);
        let hold = self.hold.split();
        // The client may be gone.
        let _ = answer.send(Answer { replies, failure, hold });
    }
}

/// What the one is told whose reply ended the connection, if it was a reply.
fn culprit(why: &BackendError) -> Option<BackendError> {
    match why {
        BackendError::Malformed(ProtocolError::ReplyTooLarge) => {
            Some(BackendError::TooLarge("sessions.reply_max"))
        }
        BackendError::Malformed(_) | BackendError::Lost(RedisError::TimedOut(_)) => {
            Some(why.clone())
        }
        _ => None,
    }
}

fn lost(error: &io::Error) -> BackendError {
    BackendError::Lost(RedisError::Broken(error.to_string()))
}
