//! One exchange on one connection: the request goes out while the reply comes in.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::OriginError;
use super::connection::Connection;
use super::decoder::{Decoder, Fault, Step};
use super::head::ResponseHead;
use super::pool::Pool;
use super::sending::{Sending, WriteFault};
use crate::admission::{Place, Ticket};
use crate::body::{Body, BodyError, BodySender, Spooled};
use crate::exchange::{Interim, Tunnel};
use crate::fields::Fields;

/// Bytes that a read has room for: most pages come in one, with their head.
const READ_BYTES: usize = 64 << 10;
/// Less room than this is not worth a read; up to there a block is filled, so that an origin which
/// sends a few bytes at a time does not have a block of its own for each of them.
const READ_MIN_BYTES: usize = 4 << 10;

/// Content that is taken in one turn, after which it is the client's and other requests' turn.
const TURN_BYTES: usize = 2 * READ_BYTES;

thread_local! {
    /// The last exchange's buffer: most replies have left when the next one comes, and then it is free
    /// again. Blocks of this size are none that the allocator keeps at hand.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// A request, ready to be sent as often as it takes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// All that comes before the content.
    pub head: Bytes,
    /// The content.
    pub body: Spooled,
    /// How the content is framed.
    pub wrapping: Wrapping,
    /// May it be sent again when it is not known what became of it?
    pub repeatable: bool,
    /// Where interim responses go.
    pub interim: Interim,
    /// What it shows at the door.
    pub ticket: Ticket,
}

/// How a request's content is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// As it is; the head says its length.
    Plain,
    /// In STDIN records, an empty one at the end.
    Stdin,
}

/// The waits of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// For the head of the reply, from the beginning of the exchange.
    pub first_byte: Duration,
    /// For each read and write.
    pub between_bytes: Duration,
}

/// An exchange that has begun.
pub(super) struct Exchange {
    connection: Connection,
    writing: Writing,
    input: BytesMut,
    decoder: Decoder,
    /// What has been decoded and not been handed on.
    ahead: VecDeque<Result<Step, Fault>>,
    waits: Waits,
    interim: Interim,
    answered: bool,
}

enum Writing {
    Active(Sending),
    Sent,
    /// The origin did not take it all; what it answers may still be good.
    Failed,
}

/// How relaying the content ended.
enum Relayed {
    Whole { reusable: bool, trailers: Fields },
    Broken(BodyError),
    Unwanted,
}

impl Exchange {
    /// Begins an exchange.
    pub(super) fn new(
        connection: Connection,
        message: Message,
        decoder: Decoder,
        waits: Waits,
    ) -> Self {
        let interim = message.interim.clone();
        Self {
            connection,
            writing: Writing::Active(Sending::new(message, waits.between_bytes)),
            input: spare_buffer(),
            decoder,
            ahead: VecDeque::new(),
            waits,
            interim,
            answered: false,
        }
    }

    /// Did a byte come back?
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Does PHP-FPM work on it, whether or not anybody waits?
    pub(super) fn is_worked_on(&self) -> bool {
        matches!(self.decoder, Decoder::FastCgi(_)) && matches!(self.writing, Writing::Sent)
    }

    /// Reads up to the end of the reply's head.
    pub(super) async fn head(&mut self) -> Result<ResponseHead, OriginError> {
        let wait = self.waits.first_byte;
        let head = async {
            loop {
                let step = match self.decoder.next(&mut self.input) {
                    Ok(Step::More) => self.read().await?,
                    step => step,
                };
                match step {
                    Ok(Step::More) => {}
                    Ok(Step::Head(head)) => return Ok(head),
                    Ok(Step::Interim { status, fields }) => self.interim.send(status, &fields),
                    Ok(Step::Content(_) | Step::Trailers(_) | Step::End { .. }) => {
                        return Err(OriginError::Malformed { what: "the reply has no head" });
                    }
                    Err(Fault::Malformed(what)) => return Err(OriginError::Malformed { what }),
                    Err(Fault::Overloaded) => return Err(OriginError::Overloaded),
                    Err(Fault::Cut) => {
                        return Err(OriginError::Lost { source: closed_early() });
                    }
                }
            }
        };
        match timeout(wait, head).await {
            Ok(result) => result,
            Err(_) => Err(OriginError::TimedOut { stage: "waiting for the first byte" }),
        }
    }

    /// The content, where all of it has come, nothing follows it and the connection stays. Otherwise
    /// it is to be relayed, which begins with what was looked at here.
    pub(super) fn whole_content(&mut self) -> Option<Body> {
        let reusable = loop {
            match self.decoder.next(&mut self.input) {
                Ok(Step::More) => return None,
                Ok(Step::End { reusable }) => break reusable,
                step => {
                    let is_content = matches!(step, Ok(Step::Content(_)));
                    self.ahead.push_back(step);
                    if !is_content {
                        return None;
                    }
                }
            }
        };
        if !reusable {
            self.ahead.push_back(Ok(Step::End { reusable }));
            return None;
        }
        let content = self.ahead.drain(..).filter_map(|step| match step {
            Ok(Step::Content(piece)) => Some(piece),
            _ => None,
        });
        Some(Body::of_pieces(content))
    }

    /// Moves the content to `sender` until its end, then gives the connection back.
    ///
    /// When nobody reads any more the connection is closed, which is how the origin learns of it;
    /// but a reply that only lacks its end is read to there, so that the worker's place stays
    /// taken while the worker works.
    pub(super) async fn relay(
        mut self,
        mut sender: BodySender,
        place: Place,
        pool: std::sync::Arc<Pool>,
    ) {
        match self.relay_content(&mut sender).await {
            Relayed::Whole { reusable, trailers } => {
                let finished = if reusable {
                    self.give_back(&pool);
                    None
                } else {
                    self.keep_buffer();
                    Some(self)
                };
                drop(place);
                sender.finish_with(trailers);
                if finished.is_some() {
                    // To close takes as long as to send the end on, which is waited for.
                    tokio::task::yield_now().await;
                }
            }
            Relayed::Broken(error) => {
                drop((self, place));
                sender.abort(error);
            }
            Relayed::Unwanted => {}
        }
    }

    async fn relay_content(&mut self, sender: &mut BodySender) -> Relayed {
        let mut trailers = Fields::new();
        let mut turn_bytes = 0;
        loop {
            match self.next_step(sender).await {
                Ok(Step::More | Step::Head(_) | Step::Interim { .. }) => {}
                Ok(Step::Trailers(fields)) => trailers = fields,
                Ok(Step::End { reusable }) => return Relayed::Whole { reusable, trailers },
                Ok(Step::Content(piece)) => {
                    turn_bytes += piece.len();
                    if sender.send(piece).await.is_err() {
                        return Relayed::Unwanted;
                    }
                    if turn_bytes >= TURN_BYTES {
                        turn_bytes = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Err(Interrupted::NobodyReads) if self.decoder.content_is_whole() => {
                    return self.drain().await;
                }
                Err(Interrupted::NobodyReads) => return Relayed::Unwanted,
                Err(Interrupted::Broken(error)) => return Relayed::Broken(error),
            }
        }
    }

    async fn next_step(&mut self, sender: &mut BodySender) -> Result<Step, Interrupted> {
        let known = self.ahead.pop_front();
        match known.unwrap_or_else(|| self.decoder.next(&mut self.input)) {
            Ok(Step::More) => {}
            step => return Ok(step?),
        }
        let wait = self.waits.between_bytes;
        tokio::select! {
            biased;
            read = timeout(wait, self.read()) => match read {
                Ok(Ok(step)) => Ok(step?),
                Ok(Err(_)) => Err(Interrupted::Broken(BodyError::Truncated)),
                Err(_) => Err(Interrupted::Broken(BodyError::TimedOut)),
            },
            () = sender.closed() => Err(Interrupted::NobodyReads),
        }
    }

    /// Reads to the end of a reply whose content is out already.
    async fn drain(&mut self) -> Relayed {
        let wait = self.waits.between_bytes;
        let end = async {
            loop {
                let step = match self.decoder.next(&mut self.input) {
                    Ok(Step::More) => self.read().await.ok()?,
                    step => step,
                };
                match step {
                    Ok(Step::End { reusable }) => return Some(reusable),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        match timeout(wait, end).await {
            Ok(Some(reusable)) => Relayed::Whole { reusable, trailers: Fields::new() },
            Ok(None) | Err(_) => Relayed::Unwanted,
        }
    }

    /// Reads once, or says what the connection's end makes of the reply; writes on meanwhile.
    async fn read(&mut self) -> Result<Result<Step, Fault>, OriginError> {
        if self.input.capacity() - self.input.len() < READ_MIN_BYTES {
            self.input.reserve(READ_BYTES);
        }
        let Self { connection, writing, input, answered, .. } = self;
        let read = poll_fn(|context| {
            if let Poll::Ready(read) = pin!(connection.read_buf(input)).poll(context) {
                return Poll::Ready(read.map_err(|source| OriginError::Lost { source }));
            }
            if let Writing::Active(sending) = writing {
                match sending.poll(connection, context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => *writing = Writing::Sent,
                    Poll::Ready(Err(WriteFault::TimedOut)) if !*answered => {
                        let stage = "sending the request";
                        return Poll::Ready(Err(OriginError::TimedOut { stage }));
                    }
                    Poll::Ready(Err(_)) => *writing = Writing::Failed,
                }
            }
            Poll::Pending
        });
        if read.await? == 0 {
            return Ok(self.decoder.end_of_input());
        }
        self.answered = true;
        Ok(Ok(Step::More))
    }

    /// The connection after a 101, once the request is out. `None`: it was lost meanwhile.
    pub(super) async fn into_tunnel(self, protocol: Bytes) -> Option<Tunnel> {
        let Self { mut connection, writing, mut input, waits, .. } = self;
        match writing {
            Writing::Active(mut sending) => {
                let sent = poll_fn(|context| sending.poll(&mut connection, context));
                timeout(waits.between_bytes, sent).await.ok()?.ok()?;
            }
            Writing::Sent => {}
            Writing::Failed => return None,
        }
        let ahead = input.split().freeze();
        Some(Tunnel { io: Box::new(connection), ahead, protocol })
    }

    /// Gives the connection back, unless the request is not out in whole, and its buffer.
    pub(super) fn give_back(mut self, pool: &std::sync::Arc<Pool>) {
        if matches!(self.writing, Writing::Sent) && self.input.is_empty() {
            self.keep_buffer();
            pool.put(self.connection);
        }
    }

    /// For the next exchange, where nothing is left in it.
    fn keep_buffer(&mut self) {
        if self.input.is_empty() {
            SPARE.set(std::mem::take(&mut self.input));
        }
    }
}

/// An empty buffer with room for a read, or with none.
fn spare_buffer() -> BytesMut {
    let mut spare = SPARE.take();
    // Slices of it may still be on their way to a client.
    if spare.try_reclaim(READ_BYTES) { spare } else { BytesMut::new() }
}

enum Interrupted {
    NobodyReads,
    Broken(BodyError),
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        Self::Broken(match fault {
            Fault::Malformed(_) => BodyError::Malformed,
            Fault::Cut | Fault::Overloaded => BodyError::Truncated,
        })
    }
}

fn closed_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the end of the head")
}
