//! A response on its way to an HTTP/1 client.
//!
//! The head and what is ready of the content leave in one vectored write; a stored head leaves as
//! the bytes it was stored as.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{IoSlice, Write as _};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::response_head::{
    Asked, Delimiter, bad_gateway, is_message, is_sound, write_end, write_lines, write_status_line,
};
use super::wire::{Filled, Wire, WriteFailed};
use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::exchange::{Completion, Delivered, Response, StoredHead, is_framing};
use crate::fields::Fields;
use crate::listener::copies::Copies;
use crate::listener::limits::Limits;
use crate::listener::socket::Transport;

/// Pieces of content that go out in one write.
const BATCH_PIECES: usize = 16;
/// Bytes of content that are gathered for one write while more is ready.
const BATCH_BYTES: usize = 128 << 10;
/// Room for head, chunk size, chunk end and trailers around them.
const BATCH_SLICES: usize = BATCH_PIECES + 7;
/// Up to here a response is copied together and leaves in a plain write: the system takes longer
/// to look at a list of pieces.
const JOINED_MAX_BYTES: usize = 4 << 10;
/// The room for a response's head that a thread keeps for the next one.
const SCRATCH_MAX_BYTES: usize = 16 << 10;

thread_local! {
    /// Where heads are put together: nearly all leave in the turn in which they are made, so a
    /// thread needs one, and connections none.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Where a small response is put together as a whole.
    static JOINED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How a response went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// In whole; another may follow.
    KeepAlive,
    /// In whole; the client was told that the connection closes.
    Close,
    /// Not in whole: the connection must end at once.
    Cut,
}

/// Sends a response and tells its completion, and us, how that went.
pub(super) async fn respond<S: Transport>(
    wire: &mut Wire<S>,
    response: Response,
    asked: Asked,
    limits: &Limits,
    clock: &Clock,
) -> (Sent, Delivered) {
    Outgoing::new(response, asked, clock).send(wire, limits).await
}

/// A response of which the head has been put together.
pub(super) struct Outgoing {
    /// The status line, then what follows the stored lines.
    scratch: Vec<u8>,
    status_line: usize,
    stored: Option<StoredHead>,
    body: Body,
    completion: Completion,
    delimiter: Delimiter,
    keep_alive: bool,
    /// Is the content a part of what is stored (206)? Clients choose those: they get no copies.
    is_part: bool,
    /// Bytes of head and content that have left.
    written: usize,
}

impl Outgoing {
    pub(super) fn new(mut response: Response, asked: Asked, clock: &Clock) -> Self {
        if !is_message(&response) {
            response = bad_gateway(response);
        }
        let delimiter = Delimiter::of(&response, asked);
        let keep_alive = asked.keep_alive && !response.close && delimiter != Delimiter::Close;
        let mut scratch = SCRATCH.take();
        scratch.clear();
        write_status_line(&mut scratch, response.status);
        let status_line = scratch.len();
        write_lines(&mut scratch, &response, clock);
        write_end(&mut scratch, asked.version, delimiter, keep_alive);
        let is_part = response.status == http::StatusCode::PARTIAL_CONTENT;
        let Response { stored, mut body, completion, .. } = response;
        if !delimiter.has_content() {
            body = Body::empty();
        }
        Self {
            scratch,
            status_line,
            stored,
            body,
            completion,
            delimiter,
            keep_alive,
            is_part,
            written: 0,
        }
    }

    /// Writes what is in memory, as far as the client takes it now; once all of it has left, says
    /// how that went. `None`: it takes longer, [`Outgoing::send`] goes on.
    pub(super) fn send_now<S: Transport>(
        &mut self,
        wire: &mut Wire<S>,
        copies: &Copies,
        context: &mut Context<'_>,
    ) -> Option<(Sent, Delivered)> {
        let parts = self.body.ready_parts().filter(|parts| parts.len() <= BATCH_PIECES)?;
        let last = parts.last().filter(|_| S::SENDS_FILES && !self.is_part);
        let copy = last.and_then(|last| copies.of(last));
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let used = fill(&mut slices, self.head(), parts);
        let mut written = 0;
        let end = if let Some(copy) = copy.as_ref().and_then(|copy| copy.as_ref()) {
            wire.send_file_now(&mut slices[..used - 1], copy, &mut written, context)
        } else if slices[..used].iter().map(|slice| slice.len()).sum::<usize>() <= JOINED_MAX_BYTES
        {
            let mut joined = JOINED.take();
            joined.clear();
            slices[..used].iter().for_each(|slice| joined.extend_from_slice(slice));
            let end = wire.write_now(&mut [IoSlice::new(&joined)], &mut written, context);
            JOINED.set(joined);
            end
        } else {
            wire.write_now(&mut slices[..used], &mut written, context)
        };
        self.written = written;
        let end = match end {
            Poll::Ready(end) => end.map_err(Failure::from),
            Poll::Pending => return None,
        };
        let body_bytes = written.saturating_sub(self.head_bytes()) as u64;
        Some(self.end(wire, end, body_bytes))
    }

    /// Sends it, or what has not left yet.
    pub(super) async fn send<S: Transport>(
        mut self,
        wire: &mut Wire<S>,
        limits: &Limits,
    ) -> (Sent, Delivered) {
        let body = std::mem::take(&mut self.body);
        let mut writer =
            Writer { wire, limits, delimiter: self.delimiter, sent_bytes: 0, trailers: Vec::new() };
        writer.wire.begin_message();
        let head = self.head();
        let end = match body.ready_parts() {
            Some(parts) => writer.whole(head, parts, self.written).await,
            None => writer.stream(head, body).await,
        };
        let sent_bytes = writer.sent_bytes;
        self.end(wire, end, sent_bytes)
    }

    fn head(&self) -> [&[u8]; 3] {
        let stored = self.stored.as_ref().map_or(&b""[..], StoredHead::http1);
        [&self.scratch[..self.status_line], stored, &self.scratch[self.status_line..]]
    }

    fn head_bytes(&self) -> usize {
        self.scratch.len() + self.stored.as_ref().map_or(0, |stored| stored.http1().len())
    }

    fn end<S: Transport>(
        &mut self,
        wire: &mut Wire<S>,
        end: Result<(), Failure>,
        body_bytes: u64,
    ) -> (Sent, Delivered) {
        if self.scratch.capacity() <= SCRATCH_MAX_BYTES {
            SCRATCH.set(std::mem::take(&mut self.scratch));
        }
        let sent = match end {
            Ok(()) if self.keep_alive => Sent::KeepAlive,
            Ok(()) => Sent::Close,
            Err(_) => Sent::Cut,
        };
        if sent == Sent::Cut && self.delimiter == Delimiter::Close {
            wire.close_as_broken();
        }
        let delivered = match end {
            Ok(()) => Delivered::Whole { body_bytes },
            Err(Failure::Client) => Delivered::ClientGone { body_bytes },
            Err(Failure::Content) => Delivered::BodyFailed { body_bytes },
        };
        std::mem::take(&mut self.completion).finish(delivered);
        (sent, delivered)
    }
}

/// Why a response was not sent in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The client has gone or takes nothing.
    Client,
    /// The content broke off, or was not as long as was said.
    Content,
}

impl From<WriteFailed> for Failure {
    fn from(_: WriteFailed) -> Self {
        Self::Client
    }
}

/// Writes head and content to a client that takes its time.
struct Writer<'a, S> {
    wire: &'a mut Wire<S>,
    limits: &'a Limits,
    delimiter: Delimiter,
    /// Bytes of content that were sent.
    sent_bytes: u64,
    /// The lines that follow the last chunk.
    trailers: Vec<u8>,
}

impl<S: Transport> Writer<'_, S> {
    /// Content that is in memory, of which so many bytes of head and content have left.
    async fn whole(
        &mut self,
        head: [&[u8]; 3],
        parts: &[Bytes],
        before: usize,
    ) -> Result<(), Failure> {
        let (mut lead, mut before) = (head, before);
        let mut rest = parts;
        loop {
            let (batch, after) = rest.split_at(rest.len().min(BATCH_PIECES));
            let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
            let used = fill(&mut slices, lead, batch);
            let mut slices = &mut slices[..used];
            IoSlice::advance_slices(&mut slices, before);
            let lead_bytes: usize = lead.iter().map(|part| part.len()).sum();
            let mut written = std::mem::take(&mut before) as u64;
            let outcome = self.wire.write(slices, self.limits.write_timeout, &mut written).await;
            self.sent_bytes += written.saturating_sub(lead_bytes as u64);
            outcome?;
            lead = [&[]; 3];
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Content that arrives while it is sent.
    async fn stream(&mut self, head: [&[u8]; 3], mut body: Body) -> Result<(), Failure> {
        let mut lead = head;
        let mut is_first = true;
        loop {
            let batch = self.gather(&mut body, is_first).await?;
            is_first = false;
            if let Some(Ok(())) = batch.end
                && self.delimiter == Delimiter::Chunks
            {
                self.write_trailers(&body.take_trailers());
            }
            if let Some(Err(_)) = batch.end {
                return Err(Failure::Content);
            }
            self.check_length(&batch)?;
            self.send(lead, &batch).await?;
            lead = [&[]; 3];
            if batch.end.is_some() {
                return Ok(());
            }
        }
    }

    /// The last chunk's trailers (RFC 9112 7.1.2): a client that has no use for them drops them.
    fn write_trailers(&mut self, trailers: &Fields) {
        for field in trailers.iter().filter(|field| is_sound(field) && !is_framing(field)) {
            field.write_http1(&mut self.trailers);
        }
    }

    /// A Content-Length that was promised is kept to the byte, or the connection is cut.
    fn check_length(&self, batch: &Batch) -> Result<(), Failure> {
        let Delimiter::Length(promised) = self.delimiter else {
            return Ok(());
        };
        let total = self.sent_bytes + batch.bytes as u64;
        let is_short = batch.end.is_some() && total < promised;
        if total > promised || is_short { Err(Failure::Content) } else { Ok(()) }
    }

    /// Waits for content and takes what is ready. The first batch may be empty: then the head
    /// goes out alone. Between batches the client is watched.
    async fn gather(&mut self, body: &mut Body, is_first: bool) -> Result<Batch, Failure> {
        let mut batch = Batch::default();
        let gone = poll_fn(|context| {
            while batch.count < BATCH_PIECES && batch.bytes < BATCH_BYTES {
                match body.poll_next(context) {
                    Poll::Ready(Some(Ok(piece))) => batch.push(piece),
                    Poll::Ready(Some(Err(error))) => {
                        batch.end = Some(Err(error));
                        return Poll::Ready(false);
                    }
                    Poll::Ready(None) => {
                        batch.end = Some(Ok(()));
                        return Poll::Ready(false);
                    }
                    Poll::Pending if batch.count > 0 || is_first => return Poll::Ready(false),
                    Poll::Pending => {
                        let is_gone = self.wire.input.is_empty()
                            && self.wire.poll_fill(context) == Poll::Ready(Filled::Gone);
                        return if is_gone { Poll::Ready(true) } else { Poll::Pending };
                    }
                }
            }
            Poll::Ready(false)
        })
        .await;
        if gone { Err(Failure::Client) } else { Ok(batch) }
    }

    async fn send(&mut self, lead: [&[u8]; 3], batch: &Batch) -> Result<(), Failure> {
        let mut size_line = [0; 18];
        let (mut opening, mut closing, mut end): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        if self.delimiter == Delimiter::Chunks {
            let is_last = batch.end.is_some();
            if batch.bytes > 0 {
                opening = write_size(&mut size_line, batch.bytes);
                closing = if is_last { b"\r\n0\r\n" } else { b"\r\n" };
            } else if is_last {
                closing = b"0\r\n";
            }
            if is_last {
                end = b"\r\n";
            }
        }
        let mut slices = [IoSlice::new(&[]); BATCH_SLICES];
        let pieces = batch.pieces[..batch.count].iter().map(|piece| &piece[..]);
        let parts =
            lead.into_iter().chain([opening]).chain(pieces).chain([closing, &self.trailers, end]);
        let used = fill_all(&mut slices, parts);
        let lead_bytes = lead.iter().map(|part| part.len()).sum::<usize>() + opening.len();
        let mut written = 0;
        let outcome =
            self.wire.write(&mut slices[..used], self.limits.write_timeout, &mut written).await;
        self.sent_bytes += written.saturating_sub(lead_bytes as u64).min(batch.bytes as u64);
        outcome.map_err(Failure::from)
    }
}

/// Content that goes out together.
#[derive(Default)]
struct Batch {
    pieces: [Bytes; BATCH_PIECES],
    count: usize,
    bytes: usize,
    end: Option<Result<(), BodyError>>,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces[self.count] = piece;
        self.count += 1;
    }
}

/// A head and pieces of content, at most [`BATCH_PIECES`]; says how many slices that makes.
fn fill<'a>(slices: &mut [IoSlice<'a>], head: [&'a [u8]; 3], parts: &'a [Bytes]) -> usize {
    let parts = head.into_iter().chain(parts.iter().map(|part| &part[..]));
    fill_all(slices, parts.filter(|part| !part.is_empty()))
}

fn fill_all<'a>(slices: &mut [IoSlice<'a>], parts: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut used = 0;
    for (slot, part) in slices.iter_mut().zip(parts) {
        *slot = IoSlice::new(part);
        used += 1;
    }
    used
}

/// A chunk's size line.
fn write_size(out: &mut [u8; 18], size: usize) -> &[u8] {
    let mut rest = &mut out[..];
    // 16 digits and CRLF fit.
    let _ = write!(rest, "{size:x}\r\n");
    let left = rest.len();
    &out[..18 - left]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_line_fits_the_largest_size() {
        let mut out = [0; 18];
        assert_eq!(write_size(&mut out, 0x1f), b"1f\r\n");
        assert_eq!(write_size(&mut out, usize::MAX), b"ffffffffffffffff\r\n");
    }
}
