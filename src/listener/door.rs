//! What every connection of a listener shares.

use std::sync::Arc;

use super::connections::{Event, Shutdown, Stage};
use super::limits::Limits;
use crate::clock::Clock;

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
