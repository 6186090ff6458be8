//! Who goes to PHP next.
//!
//! PHP is what runs out. [`limit`] says how many requests it does well with, [`line`] who of those that wait
//! goes next, [`classes`] of which class a request is. This is the shell around them: nothing in it decides.
//! A lock is held for as long as the line is searched, and never while something is waited for. Hits never
//! come here.

mod classes;
#[expect(clippy::cast_precision_loss, reason = "requests in PHP are few")]
#[expect(clippy::cast_sign_loss, reason = "no limit is below one")]
pub mod limit;
pub mod line;
#[expect(clippy::cast_precision_loss, reason = "connections are few")]
mod retries;
#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "the numbers of a simulation are small")]
mod simulation;
#[cfg(test)]
mod tests;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Method;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::reason::Reason;
use crate::settings::Settings;
pub use classes::{ClassId, Classes, Classified, Facts};
use limit::{Bounds, Limit, Move};
use line::{Crowd, Entered, Gone, Line, Next};
use retries::Retries;
pub use ticket::{Followers, Ticket, Turn};

/// How often who waits looks whether PHP is stuck.
const LOOK: Duration = Duration::from_millis(500);

/// Why a request does not go to PHP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many wait as may, and none of a lower class.
    #[error("all places are taken, and as many requests wait as may")]
    Full,
    /// A request of a higher class took its seat.
    #[error("all places are taken, and a request of a higher class took its seat in the queue")]
    PutOut,
    /// It has waited for as long as its class may.
    #[error("no place became free in time")]
    TooLong,
}

impl Refused {
    /// The word for header, log and metric.
    pub fn reason(self) -> Reason {
        match self {
            Self::Full => Reason::OriginBusy,
            Self::PutOut => Reason::QueuePutOut,
            Self::TooLong => Reason::QueueTimeout,
        }
    }
}

/// How a waiter is told.
struct Call {
    told: oneshot::Sender<Result<Place, Refused>>,
    followers: Option<Followers>,
}

impl Crowd for Call {
    fn followers(&self) -> usize {
        self.followers.as_ref().map_or(0, |followers| followers())
    }
}

/// What was seen of a class since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassFigures {
    /// Requests that wait now.
    pub waiting: usize,
    /// Requests in PHP now.
    pub in_php: usize,
    /// Requests that went to PHP.
    pub admitted: u64,
    /// Of them, those that had to wait.
    pub waited: u64,
    /// Milliseconds that these have waited.
    pub waited_milliseconds: u64,
    /// Milliseconds that requests were in PHP.
    pub php_milliseconds: u64,
    /// Requests that found the queue full.
    pub full: u64,
    /// Requests whose seat was given to a higher class.
    pub put_out: u64,
    /// Requests that waited for too long.
    pub too_long: u64,
    /// Requests that left the queue by themselves.
    pub left: u64,
}

/// What is known of all classes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Requests in PHP.
    pub in_php: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that may be in PHP.
    pub limit: usize,
    /// What bounds that: the setting, or what PHP-FPM has children for.
    pub ceiling: usize,
    /// Why it moved last.
    pub last_move: Move,
    /// How often it moved, by [`Move::ALL`].
    pub moves: [u64; Move::ALL.len()],
    /// Further tries that were not made, since too many were.
    pub retries_refused: u64,
}

struct State {
    limit: Limit,
    line: Line<Call>,
    retries: Retries,
    retries_refused: u64,
    figures: Vec<ClassFigures>,
}

/// The door of PHP.
pub struct Admission {
    clock: Clock,
    classes: ArcSwap<Classes>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Admission").finish_non_exhaustive()
    }
}

/// A place in PHP; dropping it lets the next one in.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    class: usize,
    since: Duration,
    /// How long PHP took until it answered.
    took: Option<Duration>,
}

impl Place {
    /// PHP has answered. How long it took until now says something of PHP; what follows, of the client.
    pub fn answered(&mut self) {
        self.took = Some(self.admission.clock.elapsed().saturating_sub(self.since));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.ended(self.class, self.since, self.took);
    }
}

impl State {
    /// May one more of this class go to PHP?
    fn has_place(&self, class: usize, classes: &Classes) -> bool {
        let places = self.limit.places();
        let in_php = self.figures.get(class).map_or(0, |figures| figures.in_php);
        self.limit.in_use() < places && in_php < classes.places(class, places)
    }

    fn admit(&mut self, class: usize, waited: Option<Duration>, now: Duration) {
        self.limit.begin(now);
        self.retries.sent();
        if let Some(figures) = self.figures.get_mut(class) {
            figures.in_php += 1;
            figures.admitted += 1;
            if let Some(waited) = waited {
                figures.waited += 1;
                figures.waited_milliseconds += milliseconds(waited);
            }
        }
    }

    /// Those for whom there is a place.
    fn next(&mut self, classes: &Classes, now: Duration) -> Vec<Next<Call>> {
        let mut all = Vec::new();
        while self.line.waiting() > 0 && self.limit.in_use() < self.limit.places() {
            let free: Vec<bool> =
                (0..self.figures.len()).map(|class| self.has_place(class, classes)).collect();
            let may = |class: usize| free.get(class).copied().unwrap_or(false);
            let Some(next) = self.line.next(may, now) else { break };
            self.admit(next.class, Some(next.waited), now);
            all.push(next);
        }
        all
    }
}

impl Admission {
    /// The door of `settings.origin`, by the classes of `settings.admission`.
    pub fn new(settings: &Settings, clock: &Clock) -> Arc<Self> {
        let (origin, admission) = (&settings.origin, &settings.admission);
        let classes = Classes::new(&admission.classes, origin.queue_timeout);
        let count = classes.known();
        let state = State {
            limit: Limit::new(count, bounds_of(settings), clock.elapsed()),
            line: Line::new(classes.rules(), origin.queue_max, admission.lifo_after),
            retries: Retries::new(admission.retry_percent, origin.concurrency_max),
            retries_refused: 0,
            figures: vec![ClassFigures::default(); count],
        };
        let classes = ArcSwap::from_pointee(classes);
        Arc::new(Self { clock: clock.clone(), classes, state: Mutex::new(state) })
    }

    /// Takes what is new in `settings.admission`. Who waits or is in PHP stays, also where its class is gone. False: classes
    /// have had too many names since the start, and the old ones stay.
    pub fn reload(self: &Arc<Self>, settings: &Settings) -> bool {
        let (origin, admission) = (&settings.origin, &settings.admission);
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        let classes = self.classes().followed_by(&admission.classes, origin.queue_timeout);
        let Some(classes) = classes else { return false };
        let count = classes.known();
        state.line.set_rules(classes.rules(), admission.lifo_after);
        state.limit.set(count, bounds_of(settings));
        state.retries.set(admission.retry_percent, origin.concurrency_max);
        state.figures.resize(count, ClassFigures::default());
        // Nobody knows a class that the line does not.
        let classes = Arc::new(classes);
        self.classes.store(Arc::clone(&classes));
        let next = state.next(&classes, now);
        drop(state);
        self.call(next);
        true
    }

    /// The classes.
    pub fn classes(&self) -> Arc<Classes> {
        self.classes.load_full()
    }

    /// The ticket of a request that nobody sent: of this server itself.
    pub fn ticket_of(&self, method: &Method, target: &[u8]) -> Ticket {
        let class = self.classes().of_visitor(&Facts::plain(method, target), None);
        Ticket { class: Some(class), ..Ticket::default() }
    }

    /// A place, at once or when it is the request's turn. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn enter(self: &Arc<Self>, ticket: &Ticket) -> Result<Place, Refused> {
        let class = ticket.class.unwrap_or_else(|| self.classes.load().last()).0;
        let now = self.clock.elapsed();
        let entered = match self.come(class, ticket, now) {
            Came::Goes(place) => Ok(place),
            Came::Refused(refused) => Err(refused),
            Came::Waits(seat) => {
                let _counting = Waiting { admission: self, ticket, since: now };
                self.wait(seat, ticket).await
            }
        };
        if entered.is_ok() {
            ticket.goes();
        }
        entered
    }

    /// Waits, and takes a better seat as soon as it is more urgent to others who wait with it.
    async fn wait(self: &Arc<Self>, mut seat: Seat, ticket: &Ticket) -> Result<Place, Refused> {
        let patience = |class: usize| self.classes.load().queue_timeout(class);
        let over = tokio::time::sleep(patience(seat.class));
        tokio::pin!(over);
        loop {
            let better = self.classes.load().more_urgent(ticket.urgency(), seat.class);
            if let Some(better) = better {
                // Who finds no seat there keeps its own.
                match self.come(better, ticket, self.clock.elapsed()) {
                    Came::Goes(place) => {
                        seat.is_lifted = true;
                        return Ok(place);
                    }
                    Came::Refused(_) => {}
                    Came::Waits(lifted) => {
                        seat.is_lifted = true;
                        seat = lifted;
                        let end = tokio::time::Instant::now() + patience(better);
                        over.as_mut().reset(end);
                    }
                }
            }
            tokio::select! {
                biased;
                told = &mut seat.told => return told.unwrap_or(Err(Refused::TooLong)),
                () = &mut over => {
                    seat.is_too_long = true;
                    return Err(Refused::TooLong);
                }
                () = ticket.joined() => {}
                () = tokio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    /// May a request be sent again, of which the origin can have seen nothing?
    pub fn may_try_again(&self) -> bool {
        let mut state = self.state.lock();
        let may = state.retries.take();
        if !may {
            state.retries_refused += 1;
        }
        may
    }

    /// Would a request of this class have to wait now?
    pub fn must_wait(&self, class: ClassId) -> bool {
        let (classes, state) = (self.classes.load(), self.state.lock());
        let may = |class| state.has_place(class, &classes);
        !may(class.0) || state.line.has_next(may)
    }

    /// What PHP-FPM has children for, as far as they are not busy with what others ask for.
    pub fn set_children(self: &Arc<Self>, children: usize) {
        let mut state = self.state.lock();
        state.limit.set_ceiling(children);
        let next = state.next(&self.classes.load(), self.clock.elapsed());
        drop(state);
        self.call(next);
    }

    /// What was seen of each class, with its name.
    pub fn class_figures(&self) -> Vec<(String, ClassFigures)> {
        let state = self.state.lock();
        let figures = state.figures.iter().enumerate();
        let figures = figures.map(|(class, figures)| ClassFigures {
            waiting: state.line.waiting_of(class),
            ..*figures
        });
        self.classes.load().names().map(ToString::to_string).zip(figures).collect()
    }

    /// What was seen in all.
    pub fn figures(&self) -> Figures {
        let state = self.state.lock();
        Figures {
            in_php: state.limit.in_use(),
            waiting: state.line.waiting(),
            limit: state.limit.places(),
            ceiling: state.limit.ceiling(),
            last_move: state.limit.last_move(),
            moves: Move::ALL.map(|why| state.limit.moves(why)),
            retries_refused: state.retries_refused,
        }
    }

    fn come(self: &Arc<Self>, class: usize, ticket: &Ticket, now: Duration) -> Came {
        let (classes, mut state) = (self.classes.load(), self.state.lock());
        let may = |class| state.has_place(class, &classes);
        if may(class) && !state.line.has_next(may) {
            state.admit(class, None, now);
            return Came::Goes(self.place(class, now));
        }
        state.limit.wait(now);
        let (told, seat) = oneshot::channel();
        let call = Call { told, followers: ticket.followers.clone() };
        let entered = state.line.enter(class, call, now);
        let (number, gone) = match entered {
            Entered::Waits(number) => (number, None),
            Entered::Displaces(number, gone) => (number, Some(gone)),
            Entered::Full(_) => {
                if let Some(figures) = state.figures.get_mut(class) {
                    figures.full += 1;
                }
                return Came::Refused(Refused::Full);
            }
        };
        if let Some(figures) = gone.as_ref().and_then(|gone| state.figures.get_mut(gone.class)) {
            figures.put_out += 1;
        }
        // The limit may have grown since requests wait.
        let next = state.next(&self.classes.load(), now);
        drop(state);
        if let Some(Gone { call, .. }) = gone {
            // Who left meanwhile need not hear of it.
            let _is_gone = call.told.send(Err(Refused::PutOut));
        }
        self.call(next);
        let admission = Arc::clone(self);
        Came::Waits(Seat {
            admission,
            class,
            number,
            told: seat,
            is_too_long: false,
            is_lifted: false,
        })
    }

    /// Nothing may have ended for long.
    fn look(self: &Arc<Self>) {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        state.limit.wait(now);
        let next = state.next(&self.classes.load(), now);
        drop(state);
        self.call(next);
    }

    fn ended(self: &Arc<Self>, class: usize, since: Duration, took: Option<Duration>) {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        state.limit.end(class, took, now);
        if let Some(figures) = state.figures.get_mut(class) {
            figures.in_php = figures.in_php.saturating_sub(1);
            figures.php_milliseconds += milliseconds(now.saturating_sub(since));
        }
        let next = state.next(&self.classes.load(), now);
        drop(state);
        self.call(next);
    }

    /// Tells those who go. Who has left meanwhile gives the place back by dropping it, unlocked.
    fn call(self: &Arc<Self>, next: Vec<Next<Call>>) {
        let now = self.clock.elapsed();
        for Next { class, call, .. } in next {
            let _is_gone = call.told.send(Ok(self.place(class, now)));
        }
    }

    fn place(self: &Arc<Self>, class: usize, since: Duration) -> Place {
        Place { admission: Arc::clone(self), class, since, took: None }
    }
}

fn bounds_of(settings: &Settings) -> Bounds {
    let admission = &settings.admission;
    Bounds {
        min: admission.limit_min,
        max: settings.origin.concurrency_max,
        slowdown_max: f64::from(admission.slowdown_max_percent) / 100.0,
        adaptive: admission.adaptive,
    }
}

/// Somebody waits; counted when that ends, also where nobody waits any more for what the request is to bring: else its
/// client would be charged for the queue as if PHP had worked.
struct Waiting<'a> {
    admission: &'a Admission,
    ticket: &'a Ticket,
    since: Duration,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = milliseconds(self.admission.clock.elapsed().saturating_sub(self.since));
        self.ticket.waited_milliseconds.fetch_add(waited, Ordering::Relaxed);
    }
}

/// What becomes of who comes.
enum Came {
    Goes(Place),
    Waits(Seat),
    Refused(Refused),
}

/// A seat in the queue, left on drop.
struct Seat {
    admission: Arc<Admission>,
    class: usize,
    number: u64,
    told: oneshot::Receiver<Result<Place, Refused>>,
    is_too_long: bool,
    /// Its request has another seat, or a place, for who waits with it.
    is_lifted: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        // Who was called or put out has no seat any more.
        if !state.line.leave(self.class, self.number) {
            return;
        }
        if self.is_lifted {
            return;
        }
        if let Some(figures) = state.figures.get_mut(self.class) {
            let count = if self.is_too_long { &mut figures.too_long } else { &mut figures.left };
            *count += 1;
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
