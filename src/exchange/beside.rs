//! What passes beside a request and its response: interim responses, and the wish to leave HTTP.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::fields::Fields;

/// What a connection offers besides one response. The default offers nothing.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Takes interim responses to the client.
    pub interim: Interim,
    /// The protocols to which the client would switch (the value of its Upgrade fields), where
    /// this connection can.
    pub upgrade: Option<Bytes>,
}

/// One interim response (RFC 9110 15.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterimResponse {
    /// 102, 103, or another 1xx that is neither 100 nor 101.
    pub status: StatusCode,
    /// Its end-to-end fields.
    pub fields: Fields,
}

/// Takes the interim responses to one request, until that is answered. What comes later, or
/// exceeds the bounds, is dropped: an interim response is only a hint.
#[derive(Clone, Debug, Default)]
pub struct Interim {
    ticket: Option<Ticket>,
    hidden: &'static [&'static str],
}

#[derive(Clone, Debug)]
struct Ticket {
    queue: Arc<InterimQueue>,
    number: u64,
}

impl Interim {
    /// The same, but fields of these names are left out.
    #[must_use]
    pub fn hiding(self, hidden: &'static [&'static str]) -> Self {
        Self { hidden, ..self }
    }

    /// Hands an interim response over. Set-Cookie is left out: user agents may ignore it there
    /// (RFC 6265 3), and who gets a cookie is decided with the response.
    pub fn send(&self, status: StatusCode, fields: &Fields) {
        let Some(ticket) = &self.ticket else {
            return;
        };
        let mut fields = fields.clone();
        fields.retain(|field| {
            !field.is("set-cookie") && !self.hidden.iter().any(|name| field.is(name))
        });
        ticket.queue.push(ticket.number, InterimResponse { status, fields });
    }
}

/// Interim responses on their way from an origin to a connection; a connection has one, and
/// opens it anew for each request, so that a request costs no allocation.
#[derive(Debug)]
pub struct InterimQueue {
    state: Mutex<State>,
    responses_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the requests; odd while one is open.
    number: u64,
    waiting: VecDeque<InterimResponse>,
    /// Of the request that is open.
    responses: usize,
    bytes: usize,
    reader: Option<Waker>,
}

impl InterimQueue {
    /// Takes `responses_max` responses with heads of `bytes_max` bytes together for each request.
    pub fn new(responses_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), responses_max, bytes_max })
    }

    /// Begins with the next request: what is sent for an earlier one is dropped from now on.
    pub fn open(self: &Arc<Self>) -> Interim {
        let mut state = self.state.lock();
        *state = State { number: (state.number | 1) + 2, ..State::default() };
        let ticket = Ticket { queue: Arc::clone(self), number: state.number };
        Interim { ticket: Some(ticket), hidden: &[] }
    }

    /// The request is answered: takes what still waits.
    pub fn close(&self) -> VecDeque<InterimResponse> {
        let mut state = self.state.lock();
        state.number += state.number & 1;
        state.reader = None;
        std::mem::take(&mut state.waiting)
    }

    /// The next response, once there is one.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<InterimResponse> {
        let mut state = self.state.lock();
        if let Some(response) = state.waiting.pop_front() {
            return Poll::Ready(response);
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
            state.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn push(&self, number: u64, response: InterimResponse) {
        let mut state = self.state.lock();
        // The status line and the empty line come to less than this.
        let bytes = state.bytes + response.fields.wire_bytes() + 64;
        if state.number != number || state.responses >= self.responses_max || bytes > self.bytes_max
        {
            return;
        }
        state.responses += 1;
        state.bytes = bytes;
        state.waiting.push_back(response);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A byte stream of either kind of socket.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The origin's end of a connection that has left HTTP.
pub struct Tunnel {
    /// The stream.
    pub io: Box<dyn Stream>,
    /// What came behind the origin's 101 already.
    pub ahead: Bytes,
    /// The protocol it speaks: the origin's Upgrade field.
    pub protocol: Bytes,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tunnel({:?})", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(queue: &InterimQueue) -> Vec<u16> {
        queue.close().iter().map(|response| response.status.as_u16()).collect()
    }

    #[test]
    fn what_comes_after_the_answer_reaches_no_other_request() {
        let queue = InterimQueue::new(9, 10_000);
        let first = queue.open();
        first.send(StatusCode::PROCESSING, &Fields::new());
        assert_eq!(drained(&queue), [102]);
        first.send(StatusCode::EARLY_HINTS, &Fields::new());
        let second = queue.open();
        first.send(StatusCode::EARLY_HINTS, &Fields::new());
        assert_eq!(drained(&queue), Vec::<u16>::new());
        second.send(StatusCode::EARLY_HINTS, &Fields::new());
        assert_eq!(drained(&queue), Vec::<u16>::new());
    }

    #[test]
    fn responses_and_their_bytes_are_bounded_for_each_request() {
        let queue = InterimQueue::new(2, 1_000);
        for _ in 0..2 {
            let interim = queue.open();
            for _ in 0..5 {
                interim.send(StatusCode::EARLY_HINTS, &Fields::new());
            }
            assert_eq!(drained(&queue), [103, 103]);
        }
        let large = Fields::from([("Link", &*"x".repeat(700))]);
        let interim = queue.open();
        interim.send(StatusCode::EARLY_HINTS, &large);
        interim.send(StatusCode::EARLY_HINTS, &large);
        assert_eq!(drained(&queue), [103]);
    }

    #[test]
    fn cookies_and_hidden_fields_are_left_out() {
        let queue = InterimQueue::new(2, 1_000);
        let interim = queue.open().hiding(&["server"]);
        let fields = Fields::from([("Set-Cookie", "a=b"), ("Server", "x"), ("Link", "</a>")]);
        interim.send(StatusCode::EARLY_HINTS, &fields);
        let sent = queue.close().pop_front().expect("one");
        assert_eq!(sent.fields, Fields::from([("Link", "</a>")]));
    }
}
