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
    /// SIGUSR2: start a new process that takes over.
    Restart,
}

/// Signals that wait; the system merges what comes faster.
pub(super) const WAITING_MAX: usize = 8;

/// Takes signals over from here on, and passes them to `orders`; must be called within a tokio
/// runtime.
pub fn signals(orders: mpsc::Sender<Signal>) -> Result<(), LifecycleError> {
    let listen = |kind| signal(kind).map_err(|source| LifecycleError::Signals { source });
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut restart = listen(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
                _ = hang_up.recv() => Signal::Reload,
                _ = restart.recv() => Signal::Restart,
            };
            if orders.send(signal).await.is_err() {
                break;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{self, Signal as System};

    #[tokio::test]
    async fn signals_of_the_system_arrive_as_messages() {
        let (sender, mut orders) = mpsc::channel(WAITING_MAX);
        signals(sender).expect("set up");
        for (system, want) in [
            (System::HUP, Signal::Reload),
            (System::TERM, Signal::Stop),
            (System::INT, Signal::Stop),
            (System::USR2, Signal::Restart),
        ] {
            process::kill_process(process::getpid(), system).expect("sent");
            assert_eq!(orders.recv().await, Some(want));
        }
    }
}
