//! Time as a value: the only place that reads a clock.
//!
//! Pure code takes a [`Moment`] (monotonic) or a `SystemTime` (for HTTP dates) as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// A point in time that only goes forward and also runs while the machine is suspended, in
/// milliseconds since this process built its [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `milliseconds` after the clock's origin.
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The moment of a reading of [`Clock::elapsed`].
    pub fn of(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the clock's origin.
    pub const fn milliseconds(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved into the future, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }
}

/// The process' clock; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { origin: Duration },
    Manual { milliseconds: Arc<AtomicU64> },
}

impl Clock {
    /// The machine's time since it was booted (`CLOCK_BOOTTIME`). A page that was stored before the
    /// machine was suspended is older afterwards, and so is what a node knows of the others.
    pub fn system() -> Self {
        Self(Source::System { origin: since_boot() })
    }

    /// A clock that moves only by [`Clock::advance`], for tests.
    pub fn manual() -> Self {
        Self(Source::Manual { milliseconds: Arc::default() })
    }

    /// Now.
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System { origin } => Moment::of(since_boot().saturating_sub(*origin)),
            Source::Manual { milliseconds } => Moment(milliseconds.load(Ordering::SeqCst)),
        }
    }

    /// The time since the clock's origin at full resolution, for measuring how long work takes: a
    /// hit takes less than the millisecond that a [`Moment`] tells apart.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System { origin } => since_boot().saturating_sub(*origin),
            Source::Manual { milliseconds } => {
                Duration::from_millis(milliseconds.load(Ordering::SeqCst))
            }
        }
    }

    /// The wall clock, for HTTP dates, log lines, and what is kept over a restart of the machine; nothing
    /// else is decided by it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// [`Clock::wall`] as of the system's last tick, a few milliseconds ago: for what each request
    /// asks and nobody measures with. It costs a seventh.
    pub fn wall_roughly(&self) -> SystemTime {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }

    /// A moment as of the system's last tick, of a clock that stands while the machine is suspended; only
    /// to be compared with others of its kind.
    pub fn roughly(&self) -> Moment {
        match &self.0 {
            Source::System { .. } => {
                let now = clock_gettime(ClockId::MonotonicCoarse);
                let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
                let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
                Moment::of(Duration::new(seconds, nanoseconds))
            }
            Source::Manual { .. } => self.now(),
        }
    }

    /// Moves a manual clock; a system clock does not move by hand.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { milliseconds } = &self.0 {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            milliseconds.fetch_add(by, Ordering::SeqCst);
        }
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now().since(before), Duration::from_secs(2));
    }

    #[test]
    fn the_rough_wall_clock_is_close_to_the_exact_one() {
        let clock = Clock::system();
        let (rough, exact) = (clock.wall_roughly(), clock.wall());
        let behind = exact.duration_since(rough).expect("the rough one is not ahead");
        assert!(behind < Duration::from_secs(1), "{behind:?}");
    }

    #[test]
    fn a_moment_never_goes_below_zero() {
        assert_eq!(Moment(3).since(Moment(5)), Duration::ZERO);
        assert_eq!(Moment(3).plus(Duration::MAX), Moment(u64::MAX));
    }
}
