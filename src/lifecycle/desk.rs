//! Where restarts and the drain are asked for, by signals and by the control API.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use super::signals::{Signal, WAITING_MAX};
use crate::observe::{Phase, State};

/// Steps that wait for who asked for a restart; it has a step every two seconds.
const STEPS_MAX: usize = 16;

/// What somebody who waits for a restart hears, as a line of JSON: `{"step":"..."}` for what is going
/// on, then `{"done":true,"process":123}` or `{"error":"..."}`.
fn line(value: &serde_json::Value) -> Bytes {
    format!("{value}\n").into()
}

/// Why no restart is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartRefused {
    /// One at a time.
    #[error("a restart is under way")]
    UnderWay,
    /// It starts, stops, or has been followed by another already.
    #[error(
        "this process does not serve: it starts, was told to stop, or a new one serves already"
    )]
    NotServing,
    /// The first process of a container cannot go before the others.
    #[error(
        "this is process 1 of a container, which ends with it; restart the container, or run \
         Parvis below an init"
    )]
    FirstProcess,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    /// Taken, with who waits for it.
    Taken(Option<mpsc::Sender<Bytes>>),
    /// Another process serves.
    HandedOver,
}

/// The desk: who asks gets an answer at once, and the server carries it out.
#[derive(Debug)]
pub struct Desk {
    signals: mpsc::Sender<Signal>,
    slot: Mutex<Slot>,
    /// Was a drain asked for? A second order would hurry it.
    drains: AtomicBool,
}

impl Desk {
    /// A desk, and the orders that it takes.
    pub fn new() -> (Self, mpsc::Receiver<Signal>) {
        let (signals, orders) = mpsc::channel(WAITING_MAX);
        (Self { signals, slot: Mutex::default(), drains: AtomicBool::new(false) }, orders)
    }

    /// For whoever turns signals of the system into orders.
    pub fn orders(&self) -> mpsc::Sender<Signal> {
        self.signals.clone()
    }

    /// Asks for a drain, as SIGTERM does; it is begun once.
    pub fn drain(&self, state: &State) {
        if state.readiness().phase() > Phase::Serving || self.drains.swap(true, Ordering::SeqCst) {
            return;
        }
        // Where the queue is full of signals, it is for the next who asks.
        let asked = self.signals.try_send(Signal::Stop).is_ok();
        self.drains.store(asked, Ordering::SeqCst);
    }

    /// Asks for a restart, and gives what is heard of it.
    pub fn restart(&self, state: &State) -> Result<mpsc::Receiver<Bytes>, RestartRefused> {
        if std::process::id() == 1 {
            return Err(RestartRefused::FirstProcess);
        }
        if state.readiness().phase() != Phase::Serving {
            return Err(RestartRefused::NotServing);
        }
        let mut slot = self.slot.lock();
        match *slot {
            Slot::Free => {}
            Slot::Taken(_) => return Err(RestartRefused::UnderWay),
            Slot::HandedOver => return Err(RestartRefused::NotServing),
        }
        let (sender, steps) = mpsc::channel(STEPS_MAX);
        self.signals.try_send(Signal::Restart).map_err(|_| RestartRefused::UnderWay)?;
        *slot = Slot::Taken(Some(sender));
        Ok(steps)
    }

    /// The restart begins, whoever asked for it.
    pub fn begin(&self) -> Result<(), RestartRefused> {
        if std::process::id() == 1 {
            return Err(RestartRefused::FirstProcess);
        }
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Free) {
            *slot = Slot::Taken(None);
        }
        Ok(())
    }

    /// Says how far it is, to who waits and to the log.
    pub fn progress(&self, text: &str) {
        tracing::info!("restart: {text}");
        if let Slot::Taken(Some(waiting)) = &*self.slot.lock() {
            let _ = waiting.try_send(line(&json!({ "step": text })));
        }
    }

    /// The new process serves.
    pub fn done(&self, process: u32) {
        tracing::info!(process, "restart: the new process serves; this one leaves");
        self.end(Slot::HandedOver, &json!({ "done": true, "process": process }));
    }

    /// It came to nothing.
    pub fn failed(&self, error: &dyn std::error::Error) {
        tracing::error!(%error, "the restart has failed; this process goes on");
        self.end(Slot::Free, &json!({ "error": error.to_string() }));
    }

    /// The restart was given up, or the new process has gone: this one serves.
    pub fn free(&self) {
        *self.slot.lock() = Slot::Free;
    }

    fn end(&self, next: Slot, step: &serde_json::Value) {
        if let Slot::Taken(Some(waiting)) = std::mem::replace(&mut *self.slot.lock(), next) {
            let _ = waiting.try_send(line(step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_restart_at_a_time_and_none_while_it_does_not_serve() {
        let (desk, mut orders) = Desk::new();
        let state = State::new();
        assert_eq!(desk.restart(&state).expect_err("starts"), RestartRefused::NotServing);
        state.enter(Phase::Serving);
        let mut steps = desk.restart(&state).expect("free");
        assert_eq!(orders.try_recv(), Ok(Signal::Restart));
        assert_eq!(desk.restart(&state).expect_err("taken"), RestartRefused::UnderWay);
        desk.begin().expect("begun");
        desk.progress("looks good");
        desk.failed(&RestartRefused::UnderWay);
        assert_eq!(steps.try_recv(), Ok("{\"step\":\"looks good\"}\n".into()));
        assert_eq!(steps.try_recv(), Ok("{\"error\":\"a restart is under way\"}\n".into()));
        assert!(steps.try_recv().is_err(), "that was the end");
        let mut steps = desk.restart(&state).expect("free again");
        desk.begin().expect("begun");
        desk.done(7);
        assert_eq!(steps.try_recv(), Ok("{\"done\":true,\"process\":7}\n".into()));
        assert_eq!(desk.restart(&state).expect_err("over"), RestartRefused::NotServing);
    }

    #[test]
    fn a_drain_is_asked_for_once() {
        let (desk, mut orders) = Desk::new();
        let state = State::new();
        state.enter(Phase::Serving);
        desk.drain(&state);
        desk.drain(&state);
        assert_eq!(orders.try_recv(), Ok(Signal::Stop));
        state.enter(Phase::Draining);
        desk.drain(&state);
        assert!(orders.try_recv().is_err(), "a second order would hurry it");
    }
}
