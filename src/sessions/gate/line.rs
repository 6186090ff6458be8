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
    since: Moment,
    /// Has PHP asked for the session's lock since?
    has_asked: bool,
}

struct Waiter<T> {
    number: u64,
    kind: Kind,
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
        (number, kind): (u64, Kind),
        now: Moment,
        waiting_max: usize,
        call: impl FnOnce() -> T,
    ) -> Entered {
        if self.goes(number, now) {
            return Entered::Goes;
        }
        if self.waiting.len() >= waiting_max {
            return Entered::Full;
        }
        let at = match kind {
            Kind::Visitor => self.waiting.len(),
            Kind::Fill => self.waiting.partition_point(|waiter| waiter.kind == Kind::Fill),
        };
        self.waiting.insert(at, Waiter { number, kind, call: call() });
        Entered::Waits
    }

    /// A request comes that does not wait. True: it goes.
    pub(super) fn goes(&mut self, number: u64, now: Moment) -> bool {
        let is_free = self.bearer.is_none();
        if is_free {
            self.bearer = Some(Bearer { number, since: now, has_asked: false });
        }
        is_free
    }

    /// PHP asks for the lock, so it will also be seen to let it go.
    pub(super) fn asked(&mut self) {
        if let Some(bearer) = &mut self.bearer {
            bearer.has_asked = true;
        }
    }

    /// PHP has let the lock go. Gives the call of who is next.
    pub(super) fn freed(&mut self, now: Moment) -> Option<T> {
        self.bearer.is_some_and(|bearer| bearer.has_asked).then(|| self.advance(now)).flatten()
    }

    /// The response has ended, or the request waits no more. Gives the call of who is next.
    pub(super) fn ended(&mut self, number: u64, now: Moment) -> Option<T> {
        if self.bearer.is_some_and(|bearer| bearer.number == number) {
            return self.advance(now);
        }
        self.waiting.retain(|waiter| waiter.number != number);
        None
    }

    /// Lets the next one go where the bearer has not asked for the lock within `after`.
    pub(super) fn look(&mut self, now: Moment, after: Duration) -> Option<T> {
        self.due(now, after).is_some_and(|due| due.is_zero()).then(|| self.advance(now)).flatten()
    }

    /// How long until that is so; `None`: there is a lock to wait for.
    pub(super) fn due(&self, now: Moment, after: Duration) -> Option<Duration> {
        let bearer = self.bearer.filter(|bearer| !bearer.has_asked)?;
        Some(after.saturating_sub(now.since(bearer.since)))
    }

    /// Is there nothing to remember?
    pub(super) fn is_idle(&self) -> bool {
        self.bearer.is_none() && self.waiting.is_empty()
    }

    fn advance(&mut self, now: Moment) -> Option<T> {
        let next = self.waiting.pop_front();
        let bearer =
            |waiter: &Waiter<T>| Bearer { number: waiter.number, since: now, has_asked: false };
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
        line.enter((number, kind), NOW, 3, || number)
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
        assert_eq!(line.freed(NOW), Some(2));
        assert_eq!(line.ended(1, NOW), None, "its lock was free before its response ended");
        assert_eq!(line.ended(2, NOW), Some(3), "it took none");
        assert_eq!(line.ended(3, NOW), Some(4));
        assert_eq!(line.ended(4, NOW), None);
        assert!(line.is_idle());
    }

    #[test]
    fn a_fill_goes_before_the_visitors_own_requests_and_behind_other_fills() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        enter(&mut line, 3, Kind::Fill);
        enter(&mut line, 4, Kind::Fill);
        assert_eq!(line.ended(1, NOW), Some(3));
        assert_eq!(line.ended(3, NOW), Some(4));
        assert_eq!(line.ended(4, NOW), Some(2));
    }

    #[test]
    fn who_asks_for_no_lock_holds_the_next_one_back_for_a_while_only() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        enter(&mut line, 3, Kind::Visitor);
        assert_eq!(line.due(at(40), AFTER), Some(Duration::from_millis(60)));
        assert_eq!(line.look(at(99), AFTER), None);
        assert_eq!(line.look(at(100), AFTER), Some(2));
        line.asked();
        assert_eq!(line.due(at(900), AFTER), None);
        assert_eq!(line.look(at(900), AFTER), None, "there is a lock to wait for");
    }

    #[test]
    fn a_lock_that_nobody_here_has_asked_for_lets_nobody_go() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        assert_eq!(line.freed(NOW), None);
    }

    #[test]
    fn who_leaves_the_line_is_not_called() {
        let mut line = Line::default();
        enter(&mut line, 1, Kind::Visitor);
        enter(&mut line, 2, Kind::Visitor);
        enter(&mut line, 3, Kind::Visitor);
        assert_eq!(line.ended(2, NOW), None);
        assert_eq!(line.ended(1, NOW), Some(3));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(Kind),
        Asked,
        Freed,
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
                        line.enter((number, kind), now, 5, || number);
                        known.push(number);
                    }
                    Step::Asked => line.asked(),
                    Step::Freed => drop(line.freed(now)),
                    Step::Ended(which) if !known.is_empty() => {
                        line.ended(*which.get(&known), now);
                    }
                    Step::Ended(_) => {}
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
                line.ended(number, now);
            }
            prop_assert!(line.is_idle());
        }
    }
}
