//! Draining and restarting this server.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ControlError, Node, access, answer};
use crate::body::channel;
use crate::exchange::{Request, Response};
use crate::observe::Phase;

/// Bytes of progress that wait for who asked.
const PROGRESS_MAX_BYTES: usize = 16 << 10;

/// How far a server is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Where it stands.
    pub phase: Phase,
    /// Open client connections.
    pub connections: usize,
    /// How long it takes from the order to the end at most.
    pub at_most: Duration,
}

impl Departure {
    /// `{"phase":"draining","connections":3,"seconds_max":40}`
    pub(super) fn to_json(self) -> Value {
        let phase = match self.phase {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
            Phase::Stopping => "stopping",
        };
        let seconds_max = self.at_most.as_secs_f64().ceil();
        json!({ "phase": phase, "connections": self.connections, "seconds_max": seconds_max })
    }
}

/// Begins the drain, or goes on with it.
pub(super) fn drain(node: &impl Node, request: &Request) -> Result<Response, ControlError> {
    access::for_steering(&node.settings(), request)?;
    node.drain();
    Ok(answer::json(StatusCode::ACCEPTED, &node.departure().to_json()))
}

/// Has a new process take over, and tells how that goes.
pub(super) fn restart(node: &impl Node, request: &Request) -> Result<Response, ControlError> {
    if request.method != Method::POST {
        return Err(ControlError::Method { allowed: "POST" });
    }
    access::for_steering(&node.settings(), request)?;
    let mut steps = node.restart().map_err(ControlError::Conflict)?;
    let (mut sender, body) = channel(PROGRESS_MAX_BYTES, None);
    tokio::spawn(async move {
        while let Some(step) = steps.recv().await {
            // The restart goes on without who asked for it.
            if sender.send(step).await.is_err() {
                return;
            }
        }
        sender.finish();
    });
    Ok(answer::lines(body))
}
