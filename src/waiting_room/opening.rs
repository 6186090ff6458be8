//! When the room is on.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::settings::{RoomMode, WaitingRoom};

/// Looks at PHP that are remembered.
const SAMPLES_MAX: usize = 10_000;

/// What says whether the room is on.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Did a request wait for PHP? As of each moment, the newest last.
    samples: VecDeque<(Moment, bool)>,
    /// For how long more come than PHP can take, as far as any node has seen.
    busy_until: Option<Moment>,
    /// What a command said.
    pub by_hand: Option<bool>,
}

impl Opening {
    /// Another look at PHP.
    pub fn note(&mut self, is_waiting: bool, after: Duration, now: Moment) {
        while self.samples.len() >= SAMPLES_MAX
            || self.samples.front().is_some_and(|(at, _)| now.since(*at) > after)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, is_waiting));
    }

    /// Did requests wait in most looks of that time, and is that as long as it should be?
    pub fn is_busy(&self, after: Duration, now: Moment) -> bool {
        let Some((first, _)) = self.samples.front() else { return false };
        // Looks are not exactly as far apart as the time has parts.
        let is_long = now.since(*first) >= after * 9 / 10;
        let busy = self.samples.iter().filter(|(_, is_waiting)| *is_waiting).count();
        is_long && busy * 2 > self.samples.len()
    }

    /// More come than PHP can take, here or on another node, and that counts for so long.
    pub fn busy_for(&mut self, left: Duration, now: Moment) {
        self.busy_until = Some(self.busy_until.unwrap_or_default().max(now.plus(left)));
    }

    /// What switches it on; nothing where it is off. `was_on_with`: so many wait, and it was on.
    pub fn causes(
        &self,
        settings: &WaitingRoom,
        was_on_with: u64,
        now: Moment,
        now_unix: u64,
    ) -> Vec<&'static str> {
        match self.by_hand {
            Some(true) => return vec!["command"],
            Some(false) => return Vec::new(),
            None => {}
        }
        let is_busy = self.busy_until.is_some_and(|until| now < until);
        let by_load = settings.mode == RoomMode::Auto && (is_busy || was_on_with > 0);
        let by_time = settings.times.iter().any(|span| span.contains(now_unix));
        let causes = [
            (settings.mode == RoomMode::On, "waiting_room.mode"),
            (by_time, "waiting_room.times"),
            (by_load, "load"),
        ];
        causes.into_iter().filter_map(|(is_one, cause)| is_one.then_some(cause)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Span;

    const AFTER: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment::from_milliseconds(seconds * 1_000)
    }

    fn of(mode: RoomMode) -> WaitingRoom {
        let times = vec![Span { from_unix: 100, until_unix: 200 }];
        WaitingRoom { mode, times, ..WaitingRoom::default() }
    }

    #[test]
    fn php_is_busy_once_requests_waited_for_most_of_the_time() {
        let mut opening = Opening::default();
        assert!(!opening.is_busy(AFTER, at(0)));
        for second in 0..20 {
            opening.note(true, AFTER, at(second));
        }
        assert!(!opening.is_busy(AFTER, at(19)), "a peak is no rush");
        for second in 20..=30 {
            opening.note(false, AFTER, at(second));
        }
        assert!(opening.is_busy(AFTER, at(30)));
        for second in 31..=45 {
            opening.note(false, AFTER, at(second));
        }
        assert!(!opening.is_busy(AFTER, at(45)));
    }

    #[test]
    fn a_command_counts_before_all_else() {
        let mut opening = Opening { by_hand: Some(false), ..Opening::default() };
        assert!(opening.causes(&of(RoomMode::On), 5, at(0), 150).is_empty());
        opening.by_hand = Some(true);
        assert_eq!(opening.causes(&of(RoomMode::Off), 0, at(0), 0), ["command"]);
    }

    #[test]
    fn times_count_in_each_mode() {
        let opening = Opening::default();
        assert_eq!(opening.causes(&of(RoomMode::Off), 0, at(0), 150), ["waiting_room.times"]);
        assert!(opening.causes(&of(RoomMode::Off), 0, at(0), 200).is_empty());
        let causes = opening.causes(&of(RoomMode::On), 0, at(0), 150);
        assert_eq!(causes, ["waiting_room.mode", "waiting_room.times"]);
    }

    #[test]
    fn a_rush_ends_once_it_was_calm_and_nobody_waits() {
        let mut opening = Opening::default();
        let auto = of(RoomMode::Auto);
        opening.busy_for(Duration::from_mins(2), at(10));
        opening.busy_for(Duration::from_mins(1), at(11));
        assert_eq!(opening.causes(&auto, 0, at(129), 0), ["load"]);
        assert_eq!(opening.causes(&auto, 3, at(130), 0), ["load"]);
        assert!(opening.causes(&auto, 0, at(130), 0).is_empty());
        assert!(opening.causes(&of(RoomMode::Off), 3, at(20), 0).is_empty());
    }
}
