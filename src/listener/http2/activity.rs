//! What happens on one HTTP/2 connection, so that one that only costs can be ended.
//!
//! h2 bounds frames, header lists and resets before a request is seen. It knows nothing of
//! clients that open requests to cancel them at once (CVE-2023-44487), or that ask for content
//! and give no window to send it in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::listener::limits::Limits;

/// How long content may wait for a window while nothing at all moves on the connection.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Requests that a client may cancel before it is looked at whether it lets others finish.
const CANCELLED_MAX: u64 = 100;

/// A connection is judged at least this often; so a stall is seen when it is this old.
pub(super) fn stall_max(limits: &Limits) -> Duration {
    STALL_MAX.min(limits.write_timeout)
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again after so long.
    Serve(Duration),
    /// It is idle: say goodbye.
    Retire,
    /// It only costs: cut it.
    Cut(&'static str),
}

#[derive(Debug)]
pub(super) struct Activity {
    clock: Clock,
    /// Requests that are not answered in whole.
    active: AtomicUsize,
    /// Responses with content that was handed to h2 and not asked on: they may wait for a window.
    waiting: AtomicUsize,
    requests: AtomicU64,
    cancelled: AtomicU64,
    /// When a request came or went, or content was asked for; milliseconds of the clock.
    moved: AtomicU64,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let moved = AtomicU64::new(clock.now().milliseconds());
        Arc::new(Self {
            clock,
            active: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            moved,
        })
    }

    fn note_movement(&self) {
        self.moved.store(self.clock.now().milliseconds(), Ordering::Relaxed);
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Stream {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.note_movement();
        Stream { activity: Arc::clone(self), is_waiting: false, is_answered: false }
    }

    /// What to do with the connection. Without requests it may stay for `idle_max`.
    pub(super) fn judge(&self, limits: &Limits, idle_max: Duration) -> Verdict {
        let moved = Moment::from_milliseconds(self.moved.load(Ordering::Relaxed));
        let still = self.clock.now().since(moved);
        if self.is_abused() {
            return Verdict::Cut("most requests were cancelled");
        }
        let stall_max = stall_max(limits);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return if still >= stall_max {
                Verdict::Cut("no window for content")
            } else {
                Verdict::Serve(stall_max.saturating_sub(still))
            };
        }
        if self.active.load(Ordering::Relaxed) > 0 {
            return Verdict::Serve(stall_max);
        }
        if still >= idle_max {
            Verdict::Retire
        } else {
            Verdict::Serve(stall_max.min(idle_max.saturating_sub(still)))
        }
    }

    /// How long the connection may be without requests: the first is to come soon.
    pub(super) fn idle_max(&self, limits: &Limits) -> Duration {
        let is_new = self.requests.load(Ordering::Relaxed) == 0;
        if is_new { limits.header_timeout } else { limits.keep_alive }
    }

    /// Have more requests been cancelled than are borne?
    pub(super) fn is_abused(&self) -> bool {
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        cancelled > CANCELLED_MAX && cancelled * 2 > self.requests.load(Ordering::Relaxed)
    }
}

/// One request until its response has gone.
#[derive(Debug)]
pub(super) struct Stream {
    activity: Arc<Activity>,
    is_waiting: bool,
    is_answered: bool,
}

impl Stream {
    /// Content is asked for: what was handed over before has found its window.
    pub(super) fn asked(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.activity.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.activity.note_movement();
    }

    /// Content was handed over.
    pub(super) fn handed(&mut self) {
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.activity.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The handler has answered.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.asked();
        self.activity.active.fetch_sub(1, Ordering::Relaxed);
        if !self.is_answered {
            self.activity.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Listen;

    #[test]
    fn a_connection_is_idle_only_without_requests() {
        let limits = Limits::from(&Listen::default());
        let clock = Clock::manual();
        let activity = Activity::new(clock.clone());
        let stream = activity.begin();
        clock.advance(Duration::from_secs(1_000));
        assert!(matches!(activity.judge(&limits, limits.keep_alive), Verdict::Serve(_)));
        drop(stream);
        clock.advance(Duration::from_secs(74));
        assert_eq!(
            activity.judge(&limits, limits.keep_alive),
            Verdict::Serve(Duration::from_secs(1))
        );
        clock.advance(Duration::from_secs(1));
        assert_eq!(activity.judge(&limits, limits.keep_alive), Verdict::Retire);
    }

    #[test]
    fn content_that_finds_no_window_is_cut_after_ten_seconds() {
        let limits = Limits::from(&Listen::default());
        let clock = Clock::manual();
        let activity = Activity::new(clock.clone());
        let mut stream = activity.begin();
        stream.handed();
        clock.advance(Duration::from_secs(9));
        assert!(matches!(activity.judge(&limits, limits.keep_alive), Verdict::Serve(_)));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(activity.judge(&limits, limits.keep_alive), Verdict::Cut(_)));
        stream.asked();
        assert!(matches!(activity.judge(&limits, limits.keep_alive), Verdict::Serve(_)));
    }

    #[test]
    fn a_client_that_cancels_most_of_its_requests_is_cut() {
        let activity = Activity::new(Clock::manual());
        for _ in 0..CANCELLED_MAX {
            drop(activity.begin());
        }
        assert!(!activity.is_abused());
        drop(activity.begin());
        assert!(activity.is_abused());
    }
}
