//! The order of things between "serving" and "gone".

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::service_manager::Notice;
use super::signals::Signal;
use crate::observe::{Phase, State};

/// How long the steps of stopping may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Serving on while not ready (`lifecycle.drain`).
    pub drain: Duration,
    /// Then, for what is in flight (`lifecycle.deadline`).
    pub deadline: Duration,
}

/// What is started, reloaded and stopped.
pub trait Service {
    /// The timing in force now; a reload may change it.
    fn timing(&self) -> Timing;

    /// Reads the configuration again and opens logs again. It says itself what came of it. It is
    /// dropped where it has not ended when the server is told to stop.
    fn reload(&self) -> impl Future<Output = ()> + Send;

    /// Accepts no more connections, and ends each kept one after its response.
    fn stop_accepting(&self);

    /// Resolves when nothing is in flight any more.
    fn finished(&self) -> impl Future<Output = ()> + Send;
}

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything in flight was finished.
    Finished,
    /// The deadline passed before.
    DeadlinePassed,
    /// A further signal gave up what was in flight.
    Hurried,
}

/// Serves until a signal says to stop, then stops in order. `signals` being closed counts as one.
/// `watchdog` is the longest silence the service manager accepts.
pub async fn run(
    state: &State,
    service: &impl Service,
    mut signals: mpsc::Receiver<Signal>,
    watchdog: Option<Duration>,
    tell: impl Fn(Notice),
) -> Outcome {
    let phases = async {
        state.enter(Phase::Serving);
        tell(Notice::Ready);
        serve(service, &mut signals, &tell).await;
        state.enter(Phase::Draining);
        tell(Notice::Draining);
        let timing = service.timing();
        tracing::info!(drain = ?timing.drain, "told to stop; serving on as not ready");
        drain(&mut signals, timing.drain).await;
        state.enter(Phase::Stopping);
        tell(Notice::Finishing);
        service.stop_accepting();
        tracing::info!(deadline = ?timing.deadline, "finishing what is in flight");
        let outcome = finish(service, &mut signals, timing.deadline).await;
        if outcome != Outcome::Finished {
            tracing::warn!(?outcome, "requests in flight are given up");
        }
        outcome
    };
    match watchdog {
        Some(longest) => with_watchdog(phases, longest, &tell).await,
        None => phases.await,
    }
}

async fn serve(
    service: &impl Service,
    signals: &mut mpsc::Receiver<Signal>,
    tell: &impl Fn(Notice),
) {
    while next(signals).await == Signal::Reload {
        // A reload that hangs must not keep the server from stopping. A SIGHUP during a reload
        // means that the files changed once more.
        let mut again = true;
        while again {
            again = false;
            tell(Notice::Reloading);
            let reload = service.reload();
            tokio::pin!(reload);
            loop {
                tokio::select! {
                    () = &mut reload => break,
                    signal = next(signals) => match signal {
                        Signal::Reload => again = true,
                        Signal::Stop => return,
                    },
                }
            }
            tell(Notice::Ready);
        }
    }
}

async fn drain(signals: &mut mpsc::Receiver<Signal>, drain: Duration) {
    if timeout(drain, stop(signals)).await.is_ok() {
        tracing::info!("told to stop again; not waiting for the load balancer any more");
    }
}

async fn finish(
    service: &impl Service,
    signals: &mut mpsc::Receiver<Signal>,
    deadline: Duration,
) -> Outcome {
    tokio::select! {
        biased;
        () = service.finished() => Outcome::Finished,
        () = stop(signals) => Outcome::Hurried,
        () = tokio::time::sleep(deadline) => Outcome::DeadlinePassed,
    }
}

/// The next signal; where nobody can send one any more, to stop.
async fn next(signals: &mut mpsc::Receiver<Signal>) -> Signal {
    signals.recv().await.unwrap_or(Signal::Stop)
}

/// A further signal to stop. A closed channel has said so already and says it only once.
async fn stop(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Stop) => return,
            Some(Signal::Reload) => tracing::info!("not reloading: the server is stopping"),
            None => std::future::pending().await,
        }
    }
}

async fn with_watchdog<T>(
    work: impl Future<Output = T>,
    longest: Duration,
    tell: &impl Fn(Notice),
) -> T {
    tokio::pin!(work);
    let mut ticks = interval((longest / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => tell(Notice::Watchdog),
        }
    }
}

#[cfg(test)]
mod tests;
