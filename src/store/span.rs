//! Times of stored responses: each has several, so that their size counts.

use std::time::Duration;

/// A time in four bytes: in milliseconds up to 24 days, beyond that in seconds, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub(super) u32);

impl Span {
    /// From here on it is seconds, which begin where milliseconds end.
    const SECONDS: u32 = 1 << 31;

    /// So long, or as much of it as there is room for: 68 years.
    pub(super) fn of(duration: Duration) -> Self {
        match u32::try_from(duration.as_millis()) {
            Ok(milliseconds) if milliseconds < Self::SECONDS => Self(milliseconds),
            _ => {
                let seconds = duration.as_secs() - u64::from(Self::SECONDS / 1_000);
                let stored = u64::from(Self::SECONDS).saturating_add(seconds);
                Self(u32::try_from(stored).unwrap_or(u32::MAX))
            }
        }
    }

    /// As a duration.
    pub(super) fn get(self) -> Duration {
        match self.0.checked_sub(Self::SECONDS) {
            None => Duration::from_millis(u64::from(self.0)),
            Some(more) => Duration::from_secs(u64::from(Self::SECONDS / 1_000) + u64::from(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_milliseconds_for_weeks_and_seconds_for_decades() {
        let spans = [0, 1, (1 << 31) - 1, 1 << 31, 31_536_000_999, 2_000_000_000_000];
        let kept = spans.map(|milliseconds| {
            let span = Span::of(Duration::from_millis(milliseconds)).get();
            span.as_millis() as u64
        });
        assert_eq!(kept, [0, 1, (1 << 31) - 1, 2_147_483_000, 31_536_000_000, 2_000_000_000_000]);
        assert!(Span::of(Duration::MAX).get() > Duration::from_hours(24 * 365 * 60));
    }
}
