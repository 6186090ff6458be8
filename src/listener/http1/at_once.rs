//! A request that is answered from memory: read, answered and written in one turn of its task,
//! without an allocation for the exchange.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::body::Framing;
use super::head::{self, Head};
use super::intake::Intake;
use super::respond::Outgoing;
use super::wire::Wire;
use super::{Named, Next, Open, Refused, request_of};
use crate::body::Body;
use crate::exchange::{Begun, Connection, Handler, Request};
use crate::listener::connections::Stage;
use crate::listener::door::{Door, Unsettled};
use crate::listener::socket::Transport;

/// What became of a request at once.
pub(super) enum AtOnce<H: Handler> {
    /// Its response has left.
    Done(Next),
    /// Its response leaves as the client takes it.
    Rest(Box<Rest<H>>),
    /// The handler has to wait for something.
    Open(Box<Open<H>>),
    /// It has content, or may leave HTTP.
    Not(Box<Head>),
    /// It is malformed.
    Refused(Box<(Refused, Named)>),
}

/// A response that has left in part.
pub(super) struct Rest<H: Handler> {
    outgoing: Outgoing,
    request: Request,
    receipt: H::Receipt,
}

/// Answers a request, where that takes no wait. `length`: of its head, which has been read.
pub(super) async fn answer_at_once<S: Transport, H: Handler>(
    wire: &mut Wire<S>,
    length: usize,
    connection: &Connection,
    door: &Door<H>,
) -> AtOnce<H> {
    // All that an answer needs stays on the stack of this one poll: what would be kept across a
    // wait would make each idle connection larger.
    poll_fn(|context| Poll::Ready(turn(wire, length, connection, door, context))).await
}

fn turn<S: Transport, H: Handler>(
    wire: &mut Wire<S>,
    length: usize,
    connection: &Connection,
    door: &Door<H>,
    context: &mut Context<'_>,
) -> AtOnce<H> {
    let bytes = wire.take(length);
    let head = match head::parse(&bytes) {
        Ok(head) => head,
        Err(refused) => return AtOnce::Refused(Box::new((refused, head::named(&bytes)))),
    };
    if head.framing != Framing::None || head.names_upgrade {
        return AtOnce::Not(Box::new(head));
    }
    let (request, mut asked, _) = request_of(head, connection, Body::empty());
    match door.handler.begin(&request) {
        Begun::Answered(response, receipt) => {
            asked.keep_alive &= door.stage() == Stage::Serving;
            let mut outgoing = Outgoing::new(response, asked, &door.clock);
            match outgoing.send_now(wire, &door.limits.copies, context) {
                Some((sent, delivered)) => {
                    door.handler.settle(&request, receipt, delivered);
                    AtOnce::Done(Next::after(sent, wire))
                }
                None => AtOnce::Rest(Box::new(Rest { outgoing, request, receipt })),
            }
        }
        open @ Begun::Open(_) => AtOnce::Open(Box::new(Open {
            request,
            asked,
            begun: open,
            intake: Intake::nothing(&door.limits),
            sender: None,
            offers_switch: false,
            names_upgrade: false,
        })),
    }
}

impl<H: Handler> Rest<H> {
    /// Sends what has not left yet.
    pub(super) async fn finish<S: Transport>(
        self: Box<Self>,
        wire: &mut Wire<S>,
        door: &Door<H>,
    ) -> Next {
        let Self { outgoing, request, receipt } = *self;
        let unsettled = Unsettled::new(&*door.handler, request, receipt);
        let (sent, delivered) = outgoing.send(wire, &door.limits).await;
        unsettled.settle(delivered);
        Next::after(sent, wire)
    }
}
