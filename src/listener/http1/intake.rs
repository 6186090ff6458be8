//! The content of one request on its way from the wire to whoever handles the request.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use super::body::{Decoder, Framing, Taken};
use super::head::Head;
use super::respond::Sent;
use super::response_head::serialised;
use super::wire::{Filled, Wire};
use super::{Next, Refused};
use crate::body::{Body, BodyError, BodySender, channel};
use crate::exchange::{InterimQueue, Response};
use crate::listener::limits::Limits;
use crate::listener::socket::Transport;

/// Bytes of content that wait for the handler.
const CHANNEL_MAX_BYTES: usize = 64 << 10;
/// Bytes of content that are read and dropped after an early answer to keep the connection.
const DISCARD_MAX_BYTES: u64 = 64 << 10;

/// How far the content of a request has come.
#[derive(Debug)]
pub(super) struct Intake {
    decoder: Decoder,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is arriving.
    Open,
    /// The client waits for `100 Continue`.
    Announced,
    /// Everything was read.
    Complete,
    /// It broke off; what follows on the connection cannot be told apart from it.
    Broken,
}

/// What ended the feeding of a handler.
enum Fed {
    /// There is nothing more to read for this request.
    Stopped,
    /// The client has gone.
    Gone,
}

impl Intake {
    /// The content as the handler gets it, and the end into which it is to be fed, unless it has
    /// already arrived.
    pub(super) fn begin<S: Transport>(
        wire: &mut Wire<S>,
        head: &Head,
        limits: &Limits,
    ) -> Result<(Self, Body, Option<BodySender>), Refused> {
        let decoder = Decoder::new(head.framing, limits.body_max_bytes);
        let length = match head.framing {
            Framing::None => return Ok((Self::nothing(limits), Body::empty(), None)),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        // What came along with the head is judged before the handler starts: most broken content
        // never reaches it.
        if length.is_none()
            && let Err(fault @ super::body::BodyFault::Malformed) = decoder.check(&wire.input)
        {
            return Err(fault.into());
        }
        if let Some(length) = length
            && length <= wire.input.len() as u64
            && length <= limits.body_max_bytes
        {
            let content = wire.input.split_to(length as usize).freeze();
            return Ok((Self { decoder, state: State::Complete }, Body::from(content), None));
        }
        let state = if head.expects_continue && wire.input.is_empty() {
            State::Announced
        } else {
            State::Open
        };
        let mut intake = Self { decoder, state };
        let (sender, body) = channel(CHANNEL_MAX_BYTES, length);
        if length.is_some_and(|length| length > limits.body_max_bytes) {
            intake.state = State::Broken;
            sender.abort(BodyError::TooLarge { limit: limits.body_max_bytes });
            return Ok((intake, body, None));
        }
        wire.begin_message();
        Ok((intake, body, Some(sender)))
    }

    /// Runs `handling` while content is fed to it and the client is watched. Once all content is
    /// in, `hints` go to the client as they come. `None`: the client
    /// has gone, and the handler was dropped.
    pub(super) async fn answer<S: Transport>(
        &mut self,
        wire: &mut Wire<S>,
        sender: Option<BodySender>,
        limits: &Limits,
        hints: &InterimQueue,
        mut handling: Pin<&mut impl Future<Output = Response>>,
    ) -> Option<Response> {
        if let Some(sender) = sender {
            let mut feeding = pin!(self.feed(wire, sender, limits));
            let first = poll_fn(|context| {
                if let Poll::Ready(response) = handling.as_mut().poll(context) {
                    return Poll::Ready(Ok(response));
                }
                feeding.as_mut().poll(context).map(Err)
            })
            .await;
            match first {
                Ok(response) => return Some(response),
                Err(Fed::Gone) => return None,
                Err(Fed::Stopped) => {}
            }
        }
        let is_complete = self.state == State::Complete;
        poll_fn(|context| {
            if let Poll::Ready(response) = handling.as_mut().poll(context) {
                return Poll::Ready(Some(response));
            }
            while let Poll::Ready(hint) = hints.poll_next(context) {
                wire.queue_interim(&serialised(&hint));
            }
            if !wire.poll_interim(context) {
                return Poll::Ready(None);
            }
            // A client that sends its next request already is there; nothing more is read, so
            // that it cannot fill our memory.
            if is_complete
                && wire.input.is_empty()
                && wire.poll_fill(context) == Poll::Ready(Filled::Gone)
            {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }

    async fn feed<S: Transport>(
        &mut self,
        wire: &mut Wire<S>,
        mut sender: BodySender,
        limits: &Limits,
    ) -> Fed {
        if self.state == State::Announced
            && let Err(fed) = self.invite(wire, &mut sender, limits).await
        {
            sender.abort(BodyError::ConnectionLost);
            return fed;
        }
        loop {
            match self.decoder.take(&mut wire.input) {
                Ok(Taken::Piece(piece)) => {
                    if sender.send(piece).await.is_err() {
                        return Fed::Stopped;
                    }
                }
                Ok(Taken::End) => {
                    self.state = State::Complete;
                    sender.finish();
                    return Fed::Stopped;
                }
                Ok(Taken::NeedMore) => match wire.fill_content(limits.body_timeout).await {
                    Filled::Bytes => {}
                    Filled::Gone => {
                        sender.abort(BodyError::ConnectionLost);
                        return Fed::Gone;
                    }
                    Filled::Expired => return self.break_off(sender, BodyError::TimedOut),
                },
                Err(fault) => return self.break_off(sender, fault.into()),
            }
        }
    }

    fn break_off(&mut self, sender: BodySender, error: BodyError) -> Fed {
        self.state = State::Broken;
        sender.abort(error);
        Fed::Stopped
    }

    /// Waits until the handler wants the content, and then asks the client for it. A client may
    /// send it unasked (RFC 9110 10.1.1).
    async fn invite<S: Transport>(
        &mut self,
        wire: &mut Wire<S>,
        sender: &mut BodySender,
        limits: &Limits,
    ) -> Result<(), Fed> {
        let filled = {
            let mut wanted = pin!(sender.wanted());
            poll_fn(|context| {
                if wanted.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                wire.poll_fill(context).map(Some)
            })
            .await
        };
        match filled {
            Some(Filled::Bytes) => {}
            Some(_) => return Err(Fed::Gone),
            None if sender.is_closed() => return Err(Fed::Stopped),
            None => {
                // From here on the client may send, whatever becomes of this wait.
                self.state = State::Open;
                wire.send_continue(limits.write_timeout).await.map_err(|_| Fed::Gone)?;
            }
        }
        self.state = State::Open;
        Ok(())
    }

    /// May another request follow on this connection, as far as this one's content goes?
    pub(super) fn can_be_reused(&self) -> bool {
        match self.state {
            State::Complete => true,
            State::Open => {
                self.decoder.remaining_bytes().is_none_or(|left| left <= DISCARD_MAX_BYTES)
            }
            State::Announced | State::Broken => false,
        }
    }

    /// Has everything been read?
    fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// That of a request without content.
    pub(super) fn nothing(limits: &Limits) -> Self {
        let decoder = Decoder::new(Framing::None, limits.body_max_bytes);
        Self { decoder, state: State::Complete }
    }

    /// What follows on the connection after the response.
    pub(super) async fn next<S: Transport>(
        &mut self,
        wire: &mut Wire<S>,
        sent: Sent,
        limits: &Limits,
    ) -> Next {
        let is_read = match sent {
            Sent::Cut => true,
            Sent::Close => self.is_complete(),
            Sent::KeepAlive => self.discard(wire, limits).await,
        };
        if is_read { Next::after(sent, wire) } else { Next::Linger }
    }

    /// Reads and drops what is left after an early answer. `false`: it is too much, too slow or
    /// broken, and the connection must close.
    async fn discard<S: Transport>(&mut self, wire: &mut Wire<S>, limits: &Limits) -> bool {
        let mut discarded = 0;
        // One deadline for all of it.
        wire.watchdog.arm(limits.header_timeout);
        while self.state == State::Open {
            match self.decoder.take(&mut wire.input) {
                Ok(Taken::Piece(piece)) => {
                    discarded += piece.len() as u64;
                    if discarded > DISCARD_MAX_BYTES {
                        return false;
                    }
                }
                Ok(Taken::End) => self.state = State::Complete,
                Ok(Taken::NeedMore) => {
                    if wire.fill().await != Filled::Bytes {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        self.is_complete()
    }
}
