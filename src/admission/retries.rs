//! How often Parvis itself may ask again: a share of what it was asked.
//!
//! An origin in trouble breaks many exchanges at once. If each were tried again, it would get twice the
//! requests just then.

/// What may be spent on further tries.
#[derive(Debug)]
pub(super) struct Retries {
    share: f64,
    /// Tries that are saved up.
    saved: f64,
    saved_max: f64,
}

impl Retries {
    /// `share_percent` of requests, and `saved_max` at once: as many as connections may break together.
    pub(super) fn new(share_percent: u8, saved_max: usize) -> Self {
        let saved_max = if share_percent == 0 { 0.0 } else { saved_max.max(1) as f64 };
        Self { share: f64::from(share_percent) / 100.0, saved: saved_max, saved_max }
    }

    /// Other settings, from now on.
    pub(super) fn set(&mut self, share_percent: u8, saved_max: usize) {
        let saved = self.saved;
        *self = Self::new(share_percent, saved_max);
        self.saved = self.saved.min(saved);
    }

    /// A request was sent.
    pub(super) fn sent(&mut self) {
        self.saved = (self.saved + self.share).min(self.saved_max);
    }

    /// May one be sent again?
    pub(super) fn take(&mut self) -> bool {
        let may = self.saved >= 1.0;
        if may {
            self.saved -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_a_share_of_requests_beyond_what_may_break_at_once() {
        let mut retries = Retries::new(10, 4);
        assert_eq!((0..9).filter(|_| retries.take()).count(), 4);
        let again = (0..1_000).filter(|_| {
            retries.sent();
            retries.take()
        });
        assert!((98..=101).contains(&again.count()));
        (0..1_000).for_each(|_| retries.sent());
        assert_eq!((0..9).filter(|_| retries.take()).count(), 4, "no more is saved up");
        assert!(!Retries::new(0, 4).take());
    }
}
