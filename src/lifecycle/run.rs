//! The order of things between "serving" and "gone".

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::handover::Gone;
use super::service_manager::Notice;
use super::signals::Signal;
use crate::observe::{Phase, State};

/// How long connections at least stay for a last request where another process serves: one that was
/// just accepted has not sent its first yet.
const LAST_REQUESTS_MIN: Duration = Duration::from_secs(1);

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

    /// Hands what only this server has to those that will be asked for it. It bounds itself, and is
    /// dropped where the server is told to stop again.
    fn hand_on(&self) -> impl Future<Output = ()> + Send;

    /// Accepts no more connections, and ends each kept one after its response.
    fn stop_accepting(&self);

    /// Resolves when nothing is in flight any more.
    fn finished(&self) -> impl Future<Output = ()> + Send;

    /// Starts a process that takes over. It says itself what came of it. `true`: the other serves,
    /// and this one accepts no more and ends each kept connection after its next response. Where
    /// it is dropped before its end, the other process is ended.
    fn restart(&self) -> impl Future<Output = bool> + Send;

    /// Resolves when the process that took over has ended.
    fn successor_gone(&self) -> impl Future<Output = Gone> + Send;

    /// Accepts connections again.
    fn resume(&self);
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

/// Why serving ended.
enum Served {
    /// It was told to stop.
    Told,
    /// Another process serves in its place.
    HandedOver,
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
    // Once another process serves, systemd hears that one alone.
    let is_main = AtomicBool::new(true);
    let tell = |notice| {
        if is_main.load(Ordering::Relaxed) {
            tell(notice);
        }
    };
    let phases = async {
        state.enter(Phase::Serving);
        tell(Notice::Ready);
        while let Served::HandedOver = serve(service, &mut signals, &tell).await {
            is_main.store(false, Ordering::Relaxed);
            if let Some(outcome) = leave(service, &mut signals).await {
                return outcome;
            }
            service.resume();
            is_main.store(true, Ordering::Relaxed);
            tell(Notice::MainProcess(std::process::id()));
            tell(Notice::Ready);
        }
        state.enter(Phase::Draining);
        tell(Notice::Draining);
        let timing = service.timing();
        tracing::info!(drain = ?timing.drain, "told to stop; serving on as not ready");
        drain(service, &mut signals, timing.drain).await;
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
) -> Served {
    let mut waiting = None;
    loop {
        let signal = match waiting {
            Some(signal) => signal,
            None => next(signals).await,
        };
        let done = match signal {
            Signal::Stop => return Served::Told,
            Signal::Reload => reload(service, signals, tell).await,
            Signal::Restart => restart(service, signals).await,
        };
        waiting = match done {
            Ok(waiting) => waiting,
            Err(served) => return served,
        };
    }
}

/// Reads the configuration again; gives what was asked for meanwhile. A SIGHUP during a reload
/// means that the files changed once more. A reload that hangs must not keep the server from
/// stopping.
async fn reload(
    service: &impl Service,
    signals: &mut mpsc::Receiver<Signal>,
    tell: &impl Fn(Notice),
) -> Result<Option<Signal>, Served> {
    tell(Notice::Reloading);
    let mut waiting = None;
    let mut reload = pin!(service.reload());
    loop {
        tokio::select! {
            () = &mut reload => break,
            signal = next(signals) => match signal {
                Signal::Stop => return Err(Served::Told),
                // A new process reads the files anyway.
                Signal::Reload if waiting == Some(Signal::Restart) => {}
                other => waiting = Some(other),
            },
        }
    }
    tell(Notice::Ready);
    Ok(waiting)
}

/// Has another process take over. Where that fails, a SIGHUP that came meanwhile is made up for;
/// where not, the other has read the files later.
async fn restart(
    service: &impl Service,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<Option<Signal>, Served> {
    let mut waiting = None;
    let mut restart = pin!(service.restart());
    loop {
        tokio::select! {
            handed_over = &mut restart => {
                return if handed_over { Err(Served::HandedOver) } else { Ok(waiting) };
            }
            signal = next(signals) => match signal {
                Signal::Stop => return Err(Served::Told),
                Signal::Reload => waiting = Some(Signal::Reload),
                Signal::Restart => tracing::warn!("a restart is under way; not another one"),
            },
        }
    }
}

/// Another process serves: ends when what is in flight here is done. `None`: the other has failed,
/// and this one is to serve again.
async fn leave(service: &impl Service, signals: &mut mpsc::Receiver<Signal>) -> Option<Outcome> {
    let Timing { drain, deadline } = service.timing();
    let drain = drain.max(LAST_REQUESTS_MIN);
    let gone = service.successor_gone();
    tokio::pin!(gone);
    let mut last_requests = pin!(tokio::time::sleep(drain));
    let mut end = pin!(tokio::time::sleep(drain.saturating_add(deadline)));
    let mut hurries = false;
    loop {
        tokio::select! {
            biased;
            () = service.finished() => return Some(Outcome::Finished),
            gone = &mut gone, if !hurries => match gone {
                Gone::Failed(status) => {
                    tracing::error!(%status, "the new process has ended; this one serves again");
                    return None;
                }
                // The service as a whole stops.
                Gone::InOrder => { service.stop_accepting(); hurries = true; }
            },
            () = &mut last_requests, if !hurries => { service.stop_accepting(); hurries = true; }
            () = stop(signals) => {
                if hurries {
                    return Some(Outcome::Hurried);
                }
                service.stop_accepting();
                hurries = true;
            }
            () = &mut end => return Some(Outcome::DeadlinePassed),
        }
    }
}

/// Waits until the load balancer has noticed, and what is handed on has been taken.
async fn drain(service: &impl Service, signals: &mut mpsc::Receiver<Signal>, drain: Duration) {
    let steps = async { tokio::join!(tokio::time::sleep(drain), service.hand_on()) };
    tokio::select! {
        biased;
        () = stop(signals) => {
            tracing::info!("told to stop again; not waiting for the load balancer any more");
        }
        _ = steps => {}
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
            Some(Signal::Restart) => tracing::info!("no restart: the server is stopping"),
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
