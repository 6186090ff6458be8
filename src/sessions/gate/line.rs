//! The requests of one session, as a plain state machine: who is on the way to the lock, and who
//! waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;

/// Which place a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At the end: a request of the visitor alone.
    Visitor,
    /// Before those, behind its like: others may wait for the response, too.
    Fill,
}

/// What becomes of a request that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It goes at once.
    Goes,
    /// It waits for its turn.
    Waits,
    /// As many wait as may.
    Full,
}

/// The request that is on its way to the lock, or has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bearer {
    number: u64,
    /// When it went to PHP; `None`: it waits for a place there, and can have asked for nothing.
    since: Option<Moment>,
    /// Has PHP asked for the session's lock since?
    has_asked: bool,
}

struct Waiter<T> {
    number: u64,
    kind: Kind,
    /// Lower is more urgent.
    urgency: usize,
    /// How it is told.
    call: T,
}

/// The line of one session. Nobody waits while there is no bearer.
pub(super) struct Line<T> {
    bearer: Option<Bearer>,
    waiting: VecDeque<Waiter<T>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { bearer: None, waiting: VecDeque::new() }
    }
}

impl<T> Line<T> {
    /// A request comes; `call` is kept where it waits.
    pub(super) fn enter(
        &mut self,
        (number, kind, urgency): (u64, Kind, usize),
        waiting_max: usize,
        call: impl FnOnce() -> T,
    ) -> Entered {
        if self.takes(number) {
            return Entered::Goes;
        }
        if self.waiting.len() >= waiting_max {
            return Entered::Full;
        }
        let at = match kind {
            Kind::Visitor => self.waiting.len(),
            Kind::Fill => self.waiting.partition_point(|waiter| waiter.kind == Kind::Fill),
        };
        self.waiting.insert(at, Waiter { number, kind, urgency, call: call() });
        Entered::Waits
    }

    /// A request comes that does not wait. True: it is its turn.
    pub(super) fn takes(&mut self, number: u64) -> bool {
        let is_free = self.bearer.is_none();
        if is_free {
            self.bearer = Some(Bearer { number, since: None, has_asked: false });
        }
        is_free
    }

    /// The request whose turn it is has a place in PHP.
    pub(super) fn goes(&mut self, number: u64, now: Moment) {
        if let Some(bearer) = self.bearer.as_mut().filter(|bearer| bearer.number == number) {
            bearer.since = Some(now);
        }
    }

    /// How urgent it is to those who wait behind this request; the highest number: to nobody.
    pub(super) fn urgency_behind(&self, number: u64) -> usize {
        let is_bearer = self.bearer.is_some_and(|bearer| bearer.number == number);
        let waiting = self.waiting.iter().filter(|_| is_bearer);
        waiting.map(|waiter| waiter.urgency).min().unwrap_or(usize::MAX)
    }

    /// PHP asks for the lock, so it will also be seen to let it go. Who waits for a place there is not who asks.
    pub(super) fn asked(&mut self) {
        if let Some(bearer) = self.bearer.as_mut().filter(|bearer| bearer.since.is_some()) {
            bearer.has_asked = true;
        }
    }

    /// PHP has let the lock go. Gives the call of who is next.
    pub(super) fn freed(&mut self) -> Option<T> {
        self.bearer.is_some_and(|bearer| bearer.has_asked).then(|| self.advance()).flatten()
    }

    /// The response has ended, or the request waits no more. Gives the call of who is next.
    pub(super) fn ended(&mut self, number: u64) -> Option<T> {
        if self.bearer.is_some_and(|bearer| bearer.number == number) {
            return self.advance();
        }
        self.waiting.retain(|waiter| waiter.number != number);
        None
    }

    /// Lets the next one go where the bearer has not asked for the lock within `after`.
    pub(super) fn look(&mut self, now: Moment, after: Duration) -> Option<T> {
        self.due(now, after).is_some_and(|due| due.is_zero()).then(|| self.advance()).flatten()
    }

    /// How long until that is so; `None`: there is a lock to wait for, or a place in PHP.
    pub(super) fn due(&self, now: Moment, after: Duration) -> Option<Duration> {
        let since = self.bearer.filter(|bearer| !bearer.has_asked)?.since?;
        Some(after.saturating_sub(now.since(since)))
    }

    /// Is there nothing to remember?
    pub(super) fn is_idle(&self) -> bool {
        self.bearer.is_none() && self.waiting.is_empty()
    }

    fn advance(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        let bearer =
            |waiter: &Waiter<T>| Bearer { number: waiter.number, since: None, has_asked: false };
        self.bearer = next.as_ref().map(bearer);
        next.map(|waiter| waiter.call)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_milliseconds(0);
    const AFTER: Duration = Duration::from_millis(100);

    fn at(milliseconds: u64) -> Moment {
        Moment::from_milliseconds(milliseconds)
    }

    fn enter(line: &mut Line<u64>, number: u64, kind: Kind) -> Entered {
        line.enter((number, kind, usize::MAX), 3, || number)
    }

    #[test]
    fn one_goes_and_the_others_follow_in_their_order() {
        let mut line = Line::default();
        assert_eq!(enter(&mut line, 1, Kind::Visitor), Entered::Goes);
        for number in 2..=4 {
            assert_eq!(enter(&mut line, number, Kind::Visitor), Entered::Waits);
        }
        assert_eq!(enter(&mut line, 5, Kind::Visitor), Entered::Full);
        line.asked();
        assert_eq!(line.freed(), None, "it waits for a place in PHP, so that was another");
        line.goes(1, NOW);
        line.asked();
        assert_eq!(line.freed(), Some(2));
        assert_eq!(line.ended(1), None, "its lock was free before its response ended");
        assert_eq!(line.ended(2), Some(3), "it took none");
        assert_eq!(line.ended(3), Some(4));
        assert_eq!(line.ended(4), None);
        assert!(line.is_idle());
    }

    #[test]
    fn a_fill_goes_before_the_visitors_own_requests_and_behind_other_fills() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        enter(&mut line, 3, Kind::Fill);
        enter(&mut line, 4, Kind::Fill);
        assert_eq!(line.ended(1), Some(3));
        assert_eq!(line.ended(3), Some(4));
        assert_eq!(line.ended(4), Some(2));
    }

    #[test]
    fn who_asks_for_no_lock_holds_the_next_one_back_for_a_while_only() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        enter(&mut line, 3, Kind::Visitor);
        assert_eq!(line.due(at(40), AFTER), None, "it waits for a place in PHP");
        line.goes(1, NOW);
        assert_eq!(line.due(at(40), AFTER), Some(Duration::from_millis(60)));
        assert_eq!(line.look(at(99), AFTER), None);
        assert_eq!(line.look(at(100), AFTER), Some(2));
        line.goes(2, at(100));
        line.asked();
        assert_eq!(line.due(at(900), AFTER), None);
        assert_eq!(line.look(at(900), AFTER), None, "there is a lock to wait for");
    }

    #[test]
    fn who_has_the_turn_is_as_urgent_as_who_waits_behind_it() {
        let mut line = Line::default();
        let mut come = |number, kind, urgency| {
            line.enter((number, kind, urgency), 9, || number);
        };
        come(1, Kind::Visitor, 1_000);
        come(2, Kind::Visitor, 3_000);
        come(3, Kind::Visitor, 2_000);
        assert_eq!(line.urgency_behind(1), 2_000);
        assert_eq!(line.urgency_behind(2), usize::MAX, "it is not its turn");
        assert_eq!(line.ended(1), Some(2));
        assert_eq!((line.urgency_behind(1), line.urgency_behind(2)), (usize::MAX, 2_000));
        line.ended(3);
        assert_eq!(line.urgency_behind(2), usize::MAX);
    }

    #[test]
    fn a_lock_that_nobody_here_has_asked_for_lets_nobody_go() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        assert_eq!(line.freed(), None);
    }

    #[test]
    fn who_leaves_the_line_is_not_called() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        enter(&mut line, 3, Kind::Visitor);
        assert_eq!(line.ended(2), None);
        assert_eq!(line.ended(1), Some(3));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(Kind),
        Asked,
        Freed,
        /// One that came goes to PHP, or cannot.
        Goes(prop::sample::Index),
        /// One that came ends: the bearer, one that waits, or one that is through.
        Ended(prop::sample::Index),
        Look(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::bool::ANY
                .prop_map(|fill| Step::Enter(if fill { Kind::Fill } else { Kind::Visitor })),
            1 => Just(Step::Asked),
            1 => Just(Step::Freed),
            2 => any::<prop::sample::Index>().prop_map(Step::Ended),
            1 => any::<prop::sample::Index>().prop_map(Step::Goes),
            1 => (0u64..200).prop_map(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn somebody_is_on_the_way_whenever_somebody_waits(
            steps in prop::collection::vec(step(), 0..60)
        ) {
            let (mut line, mut now, mut known) = (Line::default(), NOW, Vec::new());
            for step in steps {
                match step {
                    Step::Enter(kind) => {
                        let number = known.len() as u64;
                        line.enter((number, kind, usize::MAX), 5, || number);
                        known.push(number);
                    }
                    Step::Asked => line.asked(),
                    Step::Freed => drop(line.freed()),
                    Step::Ended(which) if !known.is_empty() => {
                        line.ended(*which.get(&known));
                    }
                    Step::Goes(which) if !known.is_empty() => line.goes(*which.get(&known), now),
                    Step::Ended(_) | Step::Goes(_) => {}
                    Step::Look(milliseconds) => {
                        now = now.plus(Duration::from_millis(milliseconds));
                        line.look(now, AFTER);
                    }
                }
                prop_assert!(line.bearer.is_some() || line.waiting.is_empty());
                prop_assert!(line.waiting.len() <= 5);
            }
            // When all have gone nothing is remembered.
            for number in known {
                line.ended(number);
            }
            prop_assert!(line.is_idle());
        }
    }
}
