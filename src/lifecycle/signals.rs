//! Signals of the system as messages.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::LifecycleError;

/// What somebody asks of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop, or hurry up with it.
    Stop,
    /// SIGHUP: read the configuration again and open logs again.
    Reload,
}

/// Signals that wait; the system merges what comes faster.
const WAITING_MAX: usize = 8;

/// Takes signals over from here on; must be called within a tokio runtime.
pub fn signals() -> Result<mpsc::Receiver<Signal>, LifecycleError> {
    let listen = |kind| signal(kind).map_err(|source| LifecycleError::Signals { source });
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
                _ = hang_up.recv() => Signal::Reload,
            };
            if sender.send(signal).await.is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{self, Signal as System};

    #[tokio::test]
    async fn signals_of_the_system_arrive_as_messages() {
        let mut signals = signals().expect("set up");
        for (system, want) in [
            (System::HUP, Signal::Reload),
            (System::TERM, Signal::Stop),
            (System::INT, Signal::Stop),
        ] {
            process::kill_process(process::getpid(), system).expect("sent");
            assert_eq!(signals.recv().await, Some(want));
        }
    }
}
