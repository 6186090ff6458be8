//! One request and its response on an HTTP/2 connection.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, StatusCode, Version};

use super::activity::Stream;
use super::content::Content;
use super::intake::Feed;
use super::{convert, intake, outgoing};
use crate::body::Body;
use crate::exchange::{Connection, Handler, InterimQueue, InterimResponse, Response};
use crate::fields::Fields;
use crate::listener::door::Door;
use crate::listener::refused::Refused;

/// A request whose head has come.
pub(super) struct Exchange<H> {
    pub(super) request: http::Request<RecvStream>,
    pub(super) to: SendResponse<Content>,
    pub(super) stream: Stream,
    pub(super) connection: Connection,
    /// Takes the hints of this exchange alone while it lasts.
    pub(super) hints: Arc<InterimQueue>,
    pub(super) door: Arc<Door<H>>,
}

impl<H: Handler> Exchange<H> {
    /// Answers the request. With a response that is ready, and a client that has a window for it,
    /// this is done when it is polled for the first time. It ends early, and with it the handling,
    /// when the client resets the stream.
    pub(super) async fn run(mut self) {
        let (head, incoming) = self.request.into_parts();
        let head_only = head.method == Method::HEAD;
        let (door, limits) = (&*self.door, &*self.door.limits);
        let (body, feed) = if head.method == Method::CONNECT {
            // What follows it is for a tunnel that there will not be.
            (Body::empty(), None)
        } else {
            let is_announced = convert::expects_continue(&head.headers);
            intake::begin(incoming, &head.headers, is_announced, limits)
        };
        let has_room = self.stream.reserve_fields(
            convert::fields_bytes(&head.headers),
            limits.http2_fields_memory_max_bytes,
        );
        let request = if has_room {
            let interim = self.hints.open();
            let connection = self.connection.clone();
            convert::request(&head, body, connection, interim, &limits.head)
        } else {
            Err(Refused::FieldsMemory)
        };
        let response = match request {
            Ok(request) => {
                drop(head);
                let is_invited = AtomicBool::new(false);
                // On the heap: most requests have no content.
                let feeding = feed.map(|feed: Feed| Box::pin(feed.run(&is_invited, limits)));
                let handling = pin!(door.handler.handle(request));
                answer(handling, feeding, &is_invited, &self.hints, &mut self.to).await
            }
            Err(refused) => {
                let named = convert::named(&head);
                Some(door.refuse(refused, &self.connection, Version::HTTP_2, named))
            }
        };
        let late = self.hints.close();
        let Some(response) = response else { return };
        for hint in late {
            send_interim(&mut self.to, &hint);
        }
        if response.close {
            self.stream.close_connection();
        }
        outgoing::send(response, head_only, &mut self.to, &mut self.stream, &door.clock).await;
    }
}

/// Runs the handling while content is fed to it and hints go to the client. `None`: the client
/// has reset the stream, and nobody waits for the response.
async fn answer(
    mut handling: Pin<&mut impl Future<Output = Response>>,
    mut feeding: Option<Pin<Box<impl Future<Output = ()>>>>,
    is_invited: &AtomicBool,
    hints: &InterimQueue,
    to: &mut SendResponse<Content>,
) -> Option<Response> {
    poll_fn(|context| {
        if let Poll::Ready(response) = handling.as_mut().poll(context) {
            return Poll::Ready(Some(response));
        }
        if feeding.as_mut().is_some_and(|feed| feed.as_mut().poll(context).is_ready()) {
            feeding = None;
        }
        if is_invited.swap(false, Ordering::Relaxed) {
            let invitation =
                InterimResponse { status: StatusCode::CONTINUE, fields: Fields::new() };
            send_interim(to, &invitation);
        }
        while let Poll::Ready(hint) = hints.poll_next(context) {
            send_interim(to, &hint);
        }
        to.poll_reset(context).map(|_| None)
    })
    .await
}

/// An interim response that cannot be sent is dropped: the stream has gone, which shows elsewhere.
fn send_interim(to: &mut SendResponse<Content>, interim: &InterimResponse) {
    if let Err(error) = to.send_informational(convert::interim_head(interim)) {
        tracing::debug!(%error, "no interim response can be sent");
    }
}
