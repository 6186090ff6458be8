//! One timer for all the waits of a connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that moves often and expires seldom.
///
/// Moving it costs a store: the timer that is registered with the runtime stays where it is and
/// is moved only when it fires too early. So a connection that answers from the store touches no
/// timer wheel, which all cores share.
///
/// The time runs from the first wait on, so that what is answered without a wait reads no clock.
#[derive(Debug)]
pub(super) struct Watchdog {
    limit: Duration,
    /// Once somebody waits.
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Expires after `limit`.
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, deadline: None, sleep: None }
    }

    /// Expires after a wait of `limit`, which begins with the next call of
    /// [`Watchdog::poll_expired`].
    pub(super) const fn arm(&mut self, limit: Duration) {
        self.limit = limit;
        self.deadline = None;
    }

    /// Has the deadline passed? Otherwise the task is woken when it does.
    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.deadline.get_or_insert_with(|| after(self.limit));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

fn after(limit: Duration) -> Instant {
    let now = Instant::now();
    // A limit that no clock can hold is no limit: a year.
    now.checked_add(limit).unwrap_or(now + Duration::from_hours(24 * 365))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_deadline_can_move_both_ways() {
        let milliseconds = Duration::from_millis;
        let start = Instant::now();
        let mut watchdog = Watchdog::new(milliseconds(10_000));
        assert!(poll_fn(|context| Poll::Ready(watchdog.poll_expired(context))).await.is_pending());
        watchdog.arm(milliseconds(20));
        poll_fn(|context| watchdog.poll_expired(context)).await;
        assert!((20..5_000).contains(&start.elapsed().as_millis()));
        // The registered timer fires first and has to be moved.
        watchdog.arm(milliseconds(20));
        assert!(poll_fn(|context| Poll::Ready(watchdog.poll_expired(context))).await.is_pending());
        watchdog.arm(milliseconds(60));
        poll_fn(|context| watchdog.poll_expired(context)).await;
        assert!((80..5_000).contains(&start.elapsed().as_millis()));
    }
}
