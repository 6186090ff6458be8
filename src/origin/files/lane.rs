//! Threads that may block, with a bounded queue before them and a deadline for who waits.
//!
//! A thread that a file system holds is lost until it comes back, so each kind of file has a lane
//! of its own. A step whose waiter has gone is skipped, so that a lane that comes back is soon
//! done with what has piled up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::FileError;

type Step = Box<dyn FnOnce() + Send>;

/// One group of threads.
#[derive(Debug)]
pub(super) struct Lane {
    queue: SyncSender<Step>,
    queue_max: usize,
    deadline: Duration,
}

impl Lane {
    /// Starts `threads` threads. They end when the lane is dropped.
    pub(super) fn start(
        name: &'static str,
        threads: usize,
        queue_max: usize,
        deadline: Duration,
    ) -> Result<Self, FileError> {
        let (queue, steps) = sync_channel::<Step>(queue_max);
        let steps = Arc::new(Mutex::new(steps));
        for _ in 0..threads.max(1) {
            let steps = Arc::clone(&steps);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&steps))
                .map_err(|source| FileError::Threads { source })?;
        }
        Ok(Self { queue, queue_max, deadline })
    }

    /// For one step.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Runs one step on a thread of the lane.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FileError> {
        let (sender, receiver) = oneshot::channel();
        let step = Box::new(move || {
            if !sender.is_closed() {
                // Whoever waited may have gone meanwhile; then nobody wants the outcome.
                let _ = sender.send(step());
            }
        });
        self.queue.try_send(step).map_err(|refused| match refused {
            TrySendError::Full(_) => FileError::Busy { queue_max: self.queue_max },
            TrySendError::Disconnected(_) => FileError::Stopped,
        })?;
        match tokio::time::timeout(self.deadline, receiver).await {
            Ok(outcome) => outcome.map_err(|_| FileError::Stopped),
            Err(_) => Err(FileError::TimedOut),
        }
    }
}

/// Takes steps until the lane is dropped. The lock is held while waiting for a step, not while
/// doing it.
fn work(steps: &Mutex<Receiver<Step>>) {
    loop {
        let step = steps.lock().recv();
        let Ok(step) = step else {
            return;
        };
        // A step must not take its thread along. Its waiter sees that the outcome is lost.
        if catch_unwind(AssertUnwindSafe(step)).is_err() {
            tracing::error!("a step of file work panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn lane(queue_max: usize) -> Lane {
        Lane::start("test", 1, queue_max, Duration::from_millis(50)).expect("threads")
    }

    #[tokio::test]
    async fn a_step_that_hangs_times_out_and_a_full_queue_refuses_at_once() {
        let lane = lane(1);
        let (release, held) = mpsc::channel::<()>();
        assert!(matches!(lane.run(move || held.recv()).await, Err(FileError::TimedOut)));
        let (waits, refused) = tokio::join!(lane.run(|| 1), lane.run(|| 2));
        assert!(matches!(waits, Err(FileError::TimedOut)));
        assert!(matches!(refused, Err(FileError::Busy { queue_max: 1 })));
        release.send(()).expect("held");
    }

    #[tokio::test]
    async fn a_step_nobody_waits_for_any_more_is_skipped() {
        let lane = lane(4);
        let (release, held) = mpsc::channel::<()>();
        let (ran, runs) = mpsc::channel();
        let hung = lane.run(move || held.recv());
        let abandoned = lane.run(move || ran.send(()));
        let (hung, abandoned) = tokio::join!(hung, abandoned);
        assert!(hung.is_err() && abandoned.is_err());
        release.send(()).expect("held");
        assert_eq!(lane.run(|| 3).await.expect("the thread is back"), 3);
        assert!(runs.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_step_that_panics_leaves_its_thread_alive() {
        // Time enough for the panic to be reported.
        let lane = Lane::start("test", 1, 4, Duration::from_secs(30)).expect("threads");
        let outcome: Result<(), _> = lane.run(|| panic!("on purpose")).await;
        assert!(matches!(outcome, Err(FileError::Stopped)));
        assert_eq!(lane.run(|| 1).await.expect("alive"), 1);
    }
}
