//! What every connection of a listener shares.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Version};

use super::connections::{Event, Shutdown, Stage};
use super::limits::Limits;
use super::refused::Refused;
use crate::clock::Clock;
use crate::exchange::{Connection, Delivered, Handler, RefusedRequest, Request, Response};

/// The handler, the bounds, and when to stop.
#[derive(Debug)]
pub(super) struct Door<H> {
    pub(super) handler: Arc<H>,
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

impl<H> Door<H> {
    pub(super) fn stage(&self) -> Stage {
        self.shutdown.stage()
    }

    pub(super) fn note(&self, event: Event) {
        self.shutdown.connections().note(event);
    }
}

impl<H: Handler> Door<H> {
    /// The answer to a request that no handler is to see. It is counted, and logged with what is
    /// known of its method and target.
    pub(super) fn refuse(
        &self,
        refused: Refused,
        connection: &Connection,
        version: Version,
        (method, target): (Method, Bytes),
    ) -> Response {
        tracing::debug!(%refused, status = refused.status().as_u16(), "request refused");
        self.note(Event::RequestRefused);
        let (status, reason) = (refused.status(), refused.reason());
        let mut response = Response::text(status, format!("{refused}\n"));
        let request = RefusedRequest { connection, version, method, target, status, reason };
        response.completion = self.handler.refused(request);
        response
    }
}

/// An answered request whose response is leaving; dropping it means that the client has gone.
pub(super) struct Unsettled<'a, H: Handler> {
    handler: &'a H,
    request: Request,
    receipt: Option<H::Receipt>,
}

impl<'a, H: Handler> Unsettled<'a, H> {
    pub(super) fn new(handler: &'a H, request: Request, receipt: H::Receipt) -> Self {
        Self { handler, request, receipt: Some(receipt) }
    }

    /// The response has left, or cannot leave.
    pub(super) fn settle(mut self, delivered: Delivered) {
        if let Some(receipt) = self.receipt.take() {
            self.handler.settle(&self.request, receipt, delivered);
        }
    }
}

impl<H: Handler> Drop for Unsettled<'_, H> {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            let delivered = Delivered::ClientGone { body_bytes: 0 };
            self.handler.settle(&self.request, receipt, delivered);
        }
    }
}
