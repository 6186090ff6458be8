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
use crate::exchange::{
    Begun, Connection, Delivered, Handler, InterimQueue, InterimResponse, Request, Response,
};
use crate::fields::Fields;
use crate::listener::door::{Door, Unsettled};
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

/// What is left to do of an exchange. With a response that is ready, and a client that has a window
/// for it, it is done when it is polled for the first time. It ends early, and with it the
/// handling, when the client resets the stream.
pub(super) type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<H: Handler> Exchange<H> {
    /// Begins with the request. A hit takes no more room on the heap than its response.
    pub(super) fn begin(self) -> Rest {
        let Self { request, to, mut stream, connection, hints, door } = self;
        let (head, incoming) = request.into_parts();
        let head_only = head.method == Method::HEAD;
        let limits = &*door.limits;
        let (body, feed) = if head.method == Method::CONNECT {
            // What follows it is for a tunnel that there will not be.
            (Body::empty(), None)
        } else {
            let is_announced = convert::expects_continue(&head.headers);
            intake::begin(incoming, &head.headers, is_announced, limits)
        };
        let fields_bytes = convert::fields_bytes(&head.headers);
        let request = if stream.reserve_fields(fields_bytes, limits.http2_fields_memory_max_bytes) {
            convert::request(&head, body, connection.clone(), &limits.head)
        } else {
            Err(Refused::FieldsMemory)
        };
        let outlet = Outlet { to, stream, head_only, door };
        match request {
            Ok(request) => match outlet.door.handler.begin(&request) {
                Begun::Answered(response, receipt) => {
                    Box::pin(outlet.send_settled(response, request, receipt))
                }
                Begun::Open(open) => Box::pin(outlet.wait(request, open, feed, hints)),
            },
            Err(refused) => {
                let named = convert::named(&head);
                let response = outlet.door.refuse(refused, &connection, Version::HTTP_2, named);
                Box::pin(outlet.send(response))
            }
        }
    }
}

/// Where a response goes.
struct Outlet<H> {
    to: SendResponse<Content>,
    stream: Stream,
    head_only: bool,
    door: Arc<Door<H>>,
}

impl<H: Handler> Outlet<H> {
    async fn send(mut self, response: Response) {
        self.deliver(response).await;
    }

    async fn send_settled(mut self, response: Response, request: Request, receipt: H::Receipt) {
        let door = Arc::clone(&self.door);
        let unsettled = Unsettled::new(&*door.handler, request, receipt);
        unsettled.settle(self.deliver(response).await);
    }

    /// Waits for the response while the content of the request is fed to the handler.
    async fn wait(
        mut self,
        mut request: Request,
        open: H::Open,
        feed: Option<Feed>,
        hints: Arc<InterimQueue>,
    ) {
        request.beside.interim = hints.open();
        let door = Arc::clone(&self.door);
        let is_invited = AtomicBool::new(false);
        // On the heap: most requests have no content.
        let feeding = feed.map(|feed: Feed| Box::pin(feed.run(&is_invited, &door.limits)));
        let handling = pin!(door.handler.handle(request, open));
        let response = answer(handling, feeding, &is_invited, &hints, &mut self.to).await;
        let late = hints.close();
        let Some(response) = response else { return };
        for hint in late {
            send_interim(&mut self.to, &hint);
        }
        self.deliver(response).await;
    }

    async fn deliver(&mut self, response: Response) -> Delivered {
        if response.close {
            self.stream.close_connection();
        }
        let Self { to, stream, head_only, door } = self;
        outgoing::send(response, *head_only, to, stream, &door.clock).await
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
