//! The requests that wait for a place in PHP, by class, as a plain state machine without a clock.
//!
//! A class of a lower rank goes first. While a class waits, a share of what goes to PHP is its own, so
//! that none waits for ever behind better ones. Within a class the first come goes first, weighed by how
//! many wait with it; once the first has waited for long, there are more than can be served, and the last
//! come goes first: who came long ago has given up, or will be gone before its response is there.

use std::collections::VecDeque;
use std::time::Duration;

/// What a class may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lower goes first.
    pub rank: u8,
    /// Of what goes to PHP, while requests of the class wait.
    pub share_percent: u8,
}

/// How many others wait with a request: the followers of a fill.
pub trait Crowd {
    /// Now.
    fn followers(&self) -> usize;
}

/// What became of who came to wait.
#[derive(Debug)]
pub enum Entered<C> {
    /// It waits, under this number.
    Waits(u64),
    /// It waits in the place of another that is put out.
    Displaces(u64, Gone<C>),
    /// As many wait as may, and none of a worse rank.
    Full(C),
}

/// Who is put out.
#[derive(Debug)]
pub struct Gone<C> {
    /// Its class.
    pub class: usize,
    /// How it is told.
    pub call: C,
}

/// Who goes.
#[derive(Debug)]
pub struct Next<C> {
    /// Its class.
    pub class: usize,
    /// How it is told.
    pub call: C,
    /// How long it has waited.
    pub waited: Duration,
}

/// Who waits.
#[derive(Debug)]
pub struct Line<C> {
    queues: Vec<Queue<C>>,
    waiting: usize,
    waiting_max: usize,
    lifo_after: Duration,
    number: u64,
}

#[derive(Debug)]
struct Queue<C> {
    rule: Rule,
    /// In the order in which they came.
    waiters: VecDeque<Waiter<C>>,
    /// Of its share, what it did not get yet, in requests.
    due: f64,
}

#[derive(Debug)]
struct Waiter<C> {
    number: u64,
    since: Duration,
    call: C,
}

impl<C: Crowd> Queue<C> {
    fn is_overloaded(&self, lifo_after: Duration, now: Duration) -> bool {
        self.waiters.front().is_some_and(|first| now.saturating_sub(first.since) > lifo_after)
    }

    /// The place of who goes next.
    fn next(&self, lifo_after: Duration, now: Duration) -> Option<usize> {
        let weight = |waiter: &Waiter<C>| waiter.call.followers().saturating_add(1) as u128;
        let all = self.waiters.iter().enumerate();
        let best = if self.is_overloaded(lifo_after, now) {
            // Of equal ones the last is taken.
            all.max_by_key(|(_, waiter)| weight(waiter))
        } else {
            // What all who wait for it have waited; of equal ones the first is taken.
            let waited = |waiter: &Waiter<C>| now.saturating_sub(waiter.since).as_micros() + 1;
            all.rev().max_by_key(|(_, waiter)| weight(waiter) * waited(waiter))
        };
        best.map(|(place, _)| place)
    }

    /// The place of who is put out first.
    fn worst(&self, lifo_after: Duration, now: Duration) -> Option<usize> {
        let all = self.waiters.iter().enumerate();
        let worst = if self.is_overloaded(lifo_after, now) {
            all.min_by_key(|(_, waiter)| waiter.call.followers())
        } else {
            all.rev().min_by_key(|(_, waiter)| waiter.call.followers())
        };
        worst.map(|(place, _)| place)
    }
}

impl<C: Crowd> Line<C> {
    /// Nobody waits; at most `waiting_max` may. Within a class the last come goes first once the
    /// first has waited for more than `lifo_after`.
    pub fn new(
        rules: impl IntoIterator<Item = Rule>,
        waiting_max: usize,
        lifo_after: Duration,
    ) -> Self {
        let queue = |rule| Queue { rule, waiters: VecDeque::new(), due: 0.0 };
        let queues = rules.into_iter().map(queue).collect();
        Self { queues, waiting: 0, waiting_max, lifo_after, number: 0 }
    }

    /// Other rules, from now on: those of classes that there are, and of more. Who waits stays.
    pub fn set_rules(&mut self, rules: impl IntoIterator<Item = Rule>, lifo_after: Duration) {
        for (class, rule) in rules.into_iter().enumerate() {
            match self.queues.get_mut(class) {
                Some(queue) => queue.rule = rule,
                None => self.queues.push(Queue { rule, waiters: VecDeque::new(), due: 0.0 }),
            }
        }
        self.lifo_after = lifo_after;
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Of this class.
    pub fn waiting_of(&self, class: usize) -> usize {
        self.queues.get(class).map_or(0, |queue| queue.waiters.len())
    }

    /// Does one wait whose class `may` go?
    pub fn has_next(&self, may: impl Fn(usize) -> bool) -> bool {
        let mut queues = self.queues.iter().enumerate();
        queues.any(|(class, queue)| !queue.waiters.is_empty() && may(class))
    }

    /// A request comes to wait.
    pub fn enter(&mut self, class: usize, call: C, now: Duration) -> Entered<C> {
        let Some(rank) = self.queues.get(class).map(|queue| queue.rule.rank) else {
            return Entered::Full(call);
        };
        let gone = if self.waiting < self.waiting_max {
            None
        } else {
            match self.put_out_for(class, rank, now) {
                Some(gone) => Some(gone),
                None => return Entered::Full(call),
            }
        };
        self.number += 1;
        let number = self.number;
        if let Some(queue) = self.queues.get_mut(class) {
            queue.waiters.push_back(Waiter { number, since: now, call });
            self.waiting += 1;
        }
        match gone {
            Some(gone) => Entered::Displaces(number, gone),
            None => Entered::Waits(number),
        }
    }

    /// The one that goes to PHP next, of those classes that `may`.
    pub fn next(&mut self, may: impl Fn(usize) -> bool, now: Duration) -> Option<Next<C>> {
        let is_candidate =
            |(class, queue): &(usize, &Queue<C>)| !queue.waiters.is_empty() && may(*class);
        let by_share = self
            .queues
            .iter()
            .enumerate()
            .filter(is_candidate)
            .filter(|(_, queue)| queue.due >= 1.0)
            .max_by(|(_, one), (_, other)| one.due.total_cmp(&other.due));
        let since = |queue: &Queue<C>| queue.waiters.front().map(|first| first.since);
        let (class, _) = match by_share {
            Some(queue) => queue,
            None => self
                .queues
                .iter()
                .enumerate()
                .filter(is_candidate)
                .min_by_key(|(_, queue)| (queue.rule.rank, since(queue)))?,
        };
        let taken = self.take(class, Queue::next, now)?;
        self.settle(class);
        let waited = now.saturating_sub(taken.since);
        Some(Next { class, call: taken.call, waited })
    }

    /// A request has gone away. False: it does not wait any more.
    pub fn leave(&mut self, class: usize, number: u64) -> bool {
        let Some(queue) = self.queues.get_mut(class) else { return false };
        let Ok(place) = queue.waiters.binary_search_by_key(&number, |waiter| waiter.number) else {
            return false;
        };
        queue.waiters.remove(place);
        self.waiting -= 1;
        true
    }

    /// A request of this class goes to PHP: of the others that wait each is owed its share of that.
    fn settle(&mut self, class: usize) {
        for (other, queue) in self.queues.iter_mut().enumerate() {
            if other == class && queue.due >= 1.0 {
                queue.due -= 1.0;
            }
            if queue.waiters.is_empty() {
                // Who does not wait is owed nothing, or would come before all others later.
                queue.due = 0.0;
            } else {
                let share = f64::from(queue.rule.share_percent) / 100.0;
                queue.due = (queue.due + share).min(2.0);
            }
        }
    }

    /// Makes room for one of this class: by one of the worst rank, or of its own rank where the last come
    /// goes first there.
    fn put_out_for(&mut self, class: usize, rank: u8, now: Duration) -> Option<Gone<C>> {
        let lifo_after = self.lifo_after;
        let waits = |(_, queue): &(usize, &Queue<C>)| !queue.waiters.is_empty();
        let worst = self.queues.iter().enumerate().filter(waits);
        // Of several classes of the worst rank its own gives the seat.
        let order = |(at, queue): &(usize, &Queue<C>)| (queue.rule.rank, *at == class);
        let (worst, queue) = worst.max_by_key(order)?;
        let is_worse = queue.rule.rank > rank;
        let is_own = queue.rule.rank == rank && queue.is_overloaded(lifo_after, now);
        if !is_worse && !is_own {
            return None;
        }
        let waiter = self.take(worst, Queue::worst, now)?;
        Some(Gone { class: worst, call: waiter.call })
    }

    fn take(
        &mut self,
        class: usize,
        which: fn(&Queue<C>, Duration, Duration) -> Option<usize>,
        now: Duration,
    ) -> Option<Waiter<C>> {
        let queue = self.queues.get_mut(class)?;
        let place = which(queue, self.lifo_after, now)?;
        let waiter = queue.waiters.remove(place)?;
        self.waiting -= 1;
        Some(waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A name, and how many wait with it.
    type Name = (&'static str, usize);

    impl Crowd for Name {
        fn followers(&self) -> usize {
            self.1
        }
    }

    const CHECKOUT: usize = 0;
    const PAGES: usize = 1;
    const BOTS: usize = 2;
    const SECOND: Duration = Duration::from_secs(1);

    fn line(waiting_max: usize) -> Line<Name> {
        let rule = |rank, share_percent| Rule { rank, share_percent };
        Line::new([rule(1, 0), rule(5, 10), rule(9, 2)], waiting_max, SECOND)
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn next(line: &mut Line<Name>, now: Duration) -> &'static str {
        line.next(|_| true, now).map_or("nobody", |next| next.call.0)
    }

    fn enter(line: &mut Line<Name>, class: usize, name: &'static str, now: Duration) {
        let entered = line.enter(class, (name, 0), now);
        assert!(matches!(entered, Entered::Waits(_)), "{entered:?}");
    }

    #[test]
    fn the_better_class_goes_first_and_within_it_the_first_come() {
        let mut line = line(9);
        for (class, name) in [(BOTS, "bot"), (PAGES, "a"), (PAGES, "b"), (CHECKOUT, "order")] {
            enter(&mut line, class, name, at(0));
        }
        let order: Vec<_> = (0..5).map(|_| next(&mut line, at(10))).collect();
        assert_eq!(order, ["order", "a", "b", "bot", "nobody"]);
    }

    #[test]
    fn who_waits_behind_better_ones_gets_its_share() {
        let mut line = line(10_000);
        for _ in 0..1_000 {
            enter(&mut line, CHECKOUT, "order", at(0));
            enter(&mut line, PAGES, "page", at(0));
            enter(&mut line, BOTS, "bot", at(0));
        }
        let order: Vec<_> = (0..1_000).map(|_| next(&mut line, at(10))).collect();
        let count = |name| order.iter().filter(|one| **one == name).count();
        assert!((95..=105).contains(&count("page")), "{}", count("page"));
        assert!((18..=22).contains(&count("bot")), "{}", count("bot"));
    }

    #[test]
    fn a_share_is_not_saved_up_by_who_does_not_wait() {
        let mut line = line(10_000);
        for _ in 0..1_000 {
            enter(&mut line, CHECKOUT, "order", at(0));
            next(&mut line, at(10));
        }
        enter(&mut line, PAGES, "page", at(10));
        enter(&mut line, CHECKOUT, "order", at(10));
        assert_eq!(next(&mut line, at(10)), "order");
    }

    #[test]
    fn the_last_come_goes_first_once_the_first_has_waited_for_long() {
        let mut line = line(9);
        for (name, now) in [("a", 0), ("b", 500), ("c", 900)] {
            enter(&mut line, PAGES, name, at(now));
        }
        assert_eq!(next(&mut line, at(950)), "a");
        enter(&mut line, PAGES, "d", at(1_450));
        assert_eq!(next(&mut line, at(1_501)), "d", "b waits for more than a second");
        assert_eq!(next(&mut line, at(1_502)), "c");
        assert_eq!(next(&mut line, at(1_503)), "b");
    }

    #[test]
    fn a_page_that_many_wait_for_goes_before_one_that_came_a_little_earlier() {
        let mut line = line(9);
        line.enter(PAGES, ("one", 0), at(0));
        line.enter(PAGES, ("many", 9), at(50));
        line.enter(PAGES, ("few", 1), at(60));
        let order: Vec<_> = (0..3).map(|_| next(&mut line, at(100))).collect();
        assert_eq!(order, ["many", "one", "few"]);
    }

    #[test]
    fn a_full_line_puts_out_a_worse_one_for_a_better_one_alone() {
        let mut line = line(2);
        enter(&mut line, BOTS, "bot", at(0));
        enter(&mut line, PAGES, "a", at(0));
        assert!(matches!(line.enter(BOTS, ("late", 0), at(1)), Entered::Full(("late", 0))));
        let Entered::Displaces(_, gone) = line.enter(PAGES, ("b", 0), at(1)) else { panic!() };
        assert_eq!((gone.class, gone.call.0), (BOTS, "bot"));
        assert!(matches!(line.enter(PAGES, ("c", 0), at(1)), Entered::Full(_)));
        let Entered::Displaces(_, gone) = line.enter(CHECKOUT, ("order", 0), at(2)) else {
            panic!()
        };
        assert_eq!(gone.call.0, "b", "the last come, who has waited least");
        assert_eq!(line.waiting(), 2);
    }

    #[test]
    fn in_an_overloaded_class_a_new_one_puts_out_the_first_come() {
        let mut line = line(2);
        enter(&mut line, PAGES, "a", at(0));
        enter(&mut line, PAGES, "b", at(10));
        let Entered::Displaces(_, gone) = line.enter(PAGES, ("c", 0), at(2_000)) else { panic!() };
        assert_eq!(gone.call.0, "a");
    }

    #[test]
    fn of_equal_ranks_the_own_class_gives_the_seat_and_only_where_it_is_overloaded() {
        let rule = Rule { rank: 5, share_percent: 0 };
        let (own, other) = (0, 1);
        let mut line = Line::new([rule, rule], 2, SECOND);
        enter(&mut line, own, "own", at(0));
        enter(&mut line, other, "other", at(10));
        assert!(matches!(line.enter(own, ("early", 0), at(20)), Entered::Full(_)));
        let Entered::Displaces(_, gone) = line.enter(own, ("late", 0), at(2_000)) else { panic!() };
        assert_eq!(gone.call.0, "own");
        // No one of its own waits: the other is overloaded, and who comes last goes first among equals.
        let mut line = Line::new([rule, rule], 1, SECOND);
        enter(&mut line, other, "other", at(0));
        let Entered::Displaces(_, gone) = line.enter(own, ("late", 0), at(2_000)) else { panic!() };
        assert_eq!(gone.call.0, "other");
    }

    #[test]
    fn who_leaves_gives_its_seat_up_and_a_class_without_a_place_is_passed_over() {
        let mut line = line(2);
        let Entered::Waits(number) = line.enter(CHECKOUT, ("order", 0), at(0)) else { panic!() };
        enter(&mut line, PAGES, "a", at(0));
        assert_eq!(line.next(|class| class != CHECKOUT, at(1)).map(|next| next.call.0), Some("a"));
        assert!(line.has_next(|_| true) && !line.has_next(|class| class == PAGES));
        assert!(line.leave(CHECKOUT, number));
        assert!(!line.leave(CHECKOUT, number));
        assert_eq!((line.waiting(), next(&mut line, at(1))), (0, "nobody"));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nobody_goes_twice(
            steps in prop::collection::vec((0..4_u8, 0..3_usize, 0..5_usize), 1..200),
            waiting_max in 0..8_usize,
        ) {
            let mut line = Line::new([1, 5, 9].map(|rank| Rule { rank, share_percent: 10 }), waiting_max, SECOND);
            let (mut entered, mut out, mut numbers) = (0, 0, Vec::new());
            for (time, (step, class, followers)) in steps.into_iter().enumerate() {
                let now = at(time as u64 * 100);
                match step {
                    0 => out += usize::from(line.next(|_| true, now).is_some()),
                    1 => if let Some((class, number)) = numbers.pop() {
                        out += usize::from(line.leave(class, number));
                    },
                    _ => match line.enter(class, ("x", followers), now) {
                        Entered::Waits(number) => { entered += 1; numbers.push((class, number)); }
                        Entered::Displaces(number, _) => {
                            entered += 1;
                            out += 1;
                            numbers.push((class, number));
                        }
                        Entered::Full(_) => prop_assert!(line.waiting() == waiting_max),
                    },
                }
                prop_assert!(line.waiting() <= waiting_max);
                prop_assert_eq!(line.waiting(), entered - out);
            }
        }
    }
}
