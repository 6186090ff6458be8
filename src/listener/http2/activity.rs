//! What happens on one HTTP/2 connection, so that one that only costs can be ended.
//!
//! The wire tells what passes on it, and each request what becomes of it; the connection's task
//! judges from time to time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Moment};
use crate::listener::limits::Limits;

/// How long content may wait for a window while nothing at all moves on the connection.
pub(super) fn stall_max(limits: &Limits) -> Duration {
    limits.http2_stall_timeout.min(limits.write_timeout)
}

/// A connection is judged at least this often.
pub(super) fn judge_pause_max(limits: &Limits) -> Duration {
    stall_max(limits).min(limits.header_timeout)
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
    requests: AtomicU64,
    /// Responses whose end has not left, as the wire sees it.
    unsent: AtomicUsize,
    /// When a request came or went, or content moved; milliseconds of the clock.
    moved: AtomicU64,
    /// Since when the client owes the rest of what it began, in the same milliseconds and one
    /// more; 0: it owes nothing.
    owed: AtomicU64,
    /// Bytes of the fields of active requests.
    fields_bytes: AtomicUsize,
    /// A response asked for the end of the connection.
    is_to_close: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Responses with content that waits for a window.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: Vec<(u64, Moment)>,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let moved = AtomicU64::new(clock.now().milliseconds());
        Arc::new(Self {
            clock,
            active: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
            moved,
            owed: AtomicU64::new(0),
            fields_bytes: AtomicUsize::new(0),
            is_to_close: AtomicBool::new(false),
            waiting: Mutex::default(),
        })
    }

    /// Something went on.
    pub(super) fn note_movement(&self) {
        self.moved.store(self.clock.now().milliseconds(), Ordering::Relaxed);
    }

    /// How many responses the wire has begun and not ended.
    pub(super) fn note_unsent(&self, unsent: usize) {
        self.unsent.store(unsent, Ordering::Relaxed);
    }

    /// Does the client owe the rest of a frame, or of a list of fields?
    pub(super) fn note_owed(&self, is_owed: bool) {
        if !is_owed {
            self.owed.store(0, Ordering::Relaxed);
        } else if self.owed.load(Ordering::Relaxed) == 0 {
            self.owed.store(self.clock.now().milliseconds() + 1, Ordering::Relaxed);
        }
    }

    /// Has a response asked for the connection's end?
    pub(super) fn is_to_close(&self) -> bool {
        self.is_to_close.load(Ordering::Relaxed)
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Stream {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.note_movement();
        Stream { activity: Arc::clone(self), waiting: None, fields_bytes: 0 }
    }

    /// What to do with the connection. Without requests it may stay for `idle_max`.
    pub(super) fn judge(&self, limits: &Limits, idle_max: Duration) -> Verdict {
        let now = self.clock.now();
        let moment = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let still = now.since(Moment::from_milliseconds(moment(&self.moved)));
        if let Some(owed) = moment(&self.owed).checked_sub(1)
            && now.since(Moment::from_milliseconds(owed)) >= limits.header_timeout
        {
            return Verdict::Cut("the rest of a frame never came");
        }
        let (stall_max, pause_max) = (stall_max(limits), judge_pause_max(limits));
        let oldest = self.waiting.lock().since.iter().map(|(_, since)| *since).min();
        if oldest.is_some_and(|oldest| now.since(oldest) >= limits.write_timeout) {
            return Verdict::Cut("no window for a response");
        }
        let is_active = self.active.load(Ordering::Relaxed) > 0;
        if oldest.is_some() || (!is_active && self.unsent.load(Ordering::Relaxed) > 0) {
            return if still >= stall_max {
                Verdict::Cut("no window for content")
            } else {
                Verdict::Serve(pause_max.min(stall_max.saturating_sub(still)))
            };
        }
        if is_active {
            return Verdict::Serve(pause_max);
        }
        if still >= idle_max {
            Verdict::Retire
        } else {
            Verdict::Serve(pause_max.min(idle_max.saturating_sub(still)))
        }
    }

    /// How long the connection may be without requests: the first is to come soon.
    pub(super) fn idle_max(&self, limits: &Limits) -> Duration {
        let is_new = self.requests.load(Ordering::Relaxed) == 0;
        if is_new { limits.header_timeout } else { limits.keep_alive }
    }
}

/// One request until its response has gone.
#[derive(Debug)]
pub(super) struct Stream {
    activity: Arc<Activity>,
    /// The place among those that wait for a window.
    waiting: Option<u64>,
    fields_bytes: usize,
}

impl Stream {
    /// Takes a share of the memory for fields, which all requests of the connection have in
    /// common. `false`: there is not enough left.
    pub(super) fn reserve_fields(&mut self, bytes: usize, max_bytes: usize) -> bool {
        self.fields_bytes += bytes;
        let before = self.activity.fields_bytes.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= max_bytes
    }

    /// The connection is to end when what is under way has ended.
    pub(super) fn close_connection(&self) {
        self.activity.is_to_close.store(true, Ordering::Relaxed);
    }

    /// Content waits for a window from now on.
    pub(super) fn waits(&mut self) {
        if self.waiting.is_none() {
            let now = self.activity.clock.now();
            let mut waiting = self.activity.waiting.lock();
            let place = waiting.next;
            waiting.next += 1;
            waiting.since.push((place, now));
            self.waiting = Some(place);
        }
    }

    /// Content has found its window.
    pub(super) fn goes_on(&mut self) {
        if let Some(place) = self.waiting.take() {
            self.activity.waiting.lock().since.retain(|(waiting, _)| *waiting != place);
        }
        self.activity.note_movement();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.goes_on();
        self.activity.active.fetch_sub(1, Ordering::Relaxed);
        self.activity.fields_bytes.fetch_sub(self.fields_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Listen;

    const SECOND: Duration = Duration::from_secs(1);

    struct Case {
        limits: Limits,
        clock: Clock,
        activity: Arc<Activity>,
    }

    impl Case {
        fn new() -> Self {
            let clock = Clock::manual();
            let activity = Activity::new(clock.clone());
            Self { limits: Limits::from(&Listen::default()), clock, activity }
        }

        fn after(&self, seconds: u32) -> Verdict {
            self.clock.advance(SECOND * seconds);
            self.activity.judge(&self.limits, self.limits.keep_alive)
        }
    }

    #[test]
    fn a_connection_is_idle_only_without_requests() {
        let case = Case::new();
        let stream = case.activity.begin();
        assert!(matches!(case.after(1_000), Verdict::Serve(_)));
        drop(stream);
        assert_eq!(case.after(74), Verdict::Serve(SECOND));
        assert_eq!(case.after(1), Verdict::Retire);
    }

    #[test]
    fn content_that_finds_no_window_is_cut_after_ten_seconds() {
        let case = Case::new();
        let mut stream = case.activity.begin();
        stream.waits();
        assert!(matches!(case.after(9), Verdict::Serve(_)));
        assert!(matches!(case.after(1), Verdict::Cut(_)));
        stream.goes_on();
        assert!(matches!(case.after(9), Verdict::Serve(_)));
    }

    #[test]
    fn other_streams_keep_a_stalled_one_for_no_longer_than_the_write_timeout() {
        let case = Case::new();
        let mut stalled = case.activity.begin();
        stalled.waits();
        for _ in 0..11 {
            assert!(matches!(case.after(5), Verdict::Serve(_)));
            drop(case.activity.begin());
        }
        assert!(matches!(case.after(5), Verdict::Cut(_)));
    }

    #[test]
    fn what_h2_holds_for_a_client_without_a_window_is_cut_too() {
        let case = Case::new();
        let stream = case.activity.begin();
        case.activity.note_unsent(1);
        // The origin may take its time.
        assert!(matches!(case.after(1_000), Verdict::Serve(_)));
        drop(stream);
        assert!(matches!(case.after(9), Verdict::Serve(_)));
        assert!(matches!(case.after(1), Verdict::Cut(_)));
        case.activity.note_unsent(0);
        assert!(matches!(case.after(1), Verdict::Serve(_)));
    }

    #[test]
    fn a_frame_must_be_whole_within_the_header_timeout() {
        let case = Case::new();
        let _stream = case.activity.begin();
        case.activity.note_owed(true);
        assert!(matches!(case.after(4), Verdict::Serve(_)));
        // More of the same changes nothing.
        case.activity.note_owed(true);
        assert!(matches!(case.after(1), Verdict::Cut(_)));
        case.activity.note_owed(false);
        assert!(matches!(case.after(1), Verdict::Serve(_)));
    }

    #[test]
    fn the_memory_for_fields_is_shared_and_given_back() {
        let case = Case::new();
        let (mut first, mut second) = (case.activity.begin(), case.activity.begin());
        assert!(first.reserve_fields(60, 100));
        assert!(!second.reserve_fields(60, 100));
        drop(second);
        assert!(case.activity.begin().reserve_fields(40, 100));
        drop(first);
        assert!(case.activity.begin().reserve_fields(100, 100));
    }
}
