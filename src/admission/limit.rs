//! How many requests may be in PHP at once, as a plain state machine without a clock.
//!
//! What matters is whether one more in PHP makes the others slower. By Little's law the throughput is
//! requests in PHP divided by the time each takes: where that time does not grow with their number
//! (PHP sleeps, waiting for a database), each more is won; where it grows as their number does (no
//! processor is free), none is. So the time of each class is compared with what it was with few in PHP, and
//! where it has become too long, the limit is lowered on purpose to see what that does: if requests
//! become faster in the same measure they were in each other's way, and the limit stays low; if not, PHP
//! is slower by itself, that is what it takes from now on, and the limit goes back.
//! Such looks come now and then by themselves, too, or what was learned long ago could be wrong for ever.

mod learned;

use std::time::Duration;

use learned::{CLASS_SAMPLES_MIN, Takes, Window};

/// Responses that say enough of a class; fewer are noise.
const SAMPLES_MIN: usize = 12;
/// A window takes no less than this, and with fewer samples no more than that.
const WINDOW_MIN: Duration = Duration::from_millis(100);
const WINDOW_MAX: Duration = Duration::from_secs(5);
/// To what share of those in PHP a look lowers the limit.
const LOOK_SHARE: f64 = 0.6;
/// A limit that is lowered falls to this share at least.
const LESS: f64 = 0.9;
/// The share of those before that may be in PHP at most for a look to have begun, and to be judged.
const LOWERED: f64 = 0.95;
const LOOK_SEEN: f64 = 0.7;
/// Requests that take this share of what was thought, or more, show that it was known.
const KNEW: f64 = 0.85;
/// Windows until a look that shows nothing is given up.
const LOOK_WINDOWS_MAX: usize = 4;
/// How strongly the time grows with the number in PHP: below this more of them pay, above that none.
const PAYS_BELOW: f64 = 0.4;
const IN_VAIN_ABOVE: f64 = 0.7;
/// Between two looks: as long as they teach something, and at most.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(2);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(8);
/// And so many times as long as the last one took, or throughput would be lost to looking.
const LOOKS_ONE_IN: u32 = 8;
/// How fast the limit grows while requests wait and PHP is not slower: at first, and once it was found too high.
const GROWTH_AT_FIRST: f64 = 0.5;
const GROWTH: f64 = 0.15;
/// Of how much below the bound of slowness the limit still grows.
const GROWS_BELOW: f64 = 0.9;
/// Windows in a row in which requests are too slow, until the limit is lowered: one may be by chance.
const SLOW_WINDOWS: usize = 2;
/// Requests wait and none ends: the limit grows each time this is over, since nothing speaks against it.
const STALL: Duration = Duration::from_secs(1);

/// Why the limit moved last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It has not.
    Start,
    /// Requests wait, and PHP is not slower with more of them.
    Room,
    /// PHP became slower with so many.
    Slower,
    /// To see whether fewer would be faster.
    Look,
    /// They were not.
    Back,
    /// Requests waited and none ended.
    Stalled,
    /// PHP-FPM has fewer children, or more of other work, or has less of it again.
    Children,
}

impl Move {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Room,
        Self::Slower,
        Self::Look,
        Self::Back,
        Self::Stalled,
        Self::Children,
    ];

    /// One word for metrics and statistics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Room => "room",
            Self::Slower => "slower",
            Self::Look => "look",
            Self::Back => "back",
            Self::Stalled => "stalled",
            Self::Children => "children",
        }
    }
}

/// What bounds the limit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// It is never lower (`admission.limit_min`), unless `max` is.
    pub min: usize,
    /// Nor higher (`origin.concurrency_max`).
    pub max: usize,
    /// How many times as long as with few in PHP a request may take there
    /// (`admission.slowdown_max_percent` / 100).
    pub slowdown_max: f64,
    /// Is it moved at all (`admission.adaptive`)?
    pub adaptive: bool,
}

/// The limit, and what it has learned.
#[derive(Debug)]
pub struct Limit {
    bounds: Bounds,
    /// `bounds.max`, or what PHP-FPM has children for.
    ceiling: usize,
    allowed: f64,
    in_use: usize,
    takes: Takes,
    window: Window,
    phase: Phase,
    /// Windows in a row in which requests were too slow while the limit was used up.
    slow_windows: usize,
    growth: f64,
    next_look: Duration,
    /// When the limit was lowered.
    low_since: Duration,
    look_interval: Duration,
    last_end: Duration,
    last_move: Move,
    moves: [u64; Move::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Steady,
    /// PHP was slow, and the limit was lowered for that.
    Lowered(Anchor),
    /// The limit was lowered to see what that does.
    Looking(Anchor),
}

/// How it was before the limit was lowered.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    /// How slow requests were, and with how many in PHP.
    ratio: f64,
    in_php: f64,
    /// The limit.
    back_to: f64,
    /// Windows in which as many were in PHP as before.
    windows: usize,
}

impl Anchor {
    /// How strongly the time of requests depends on how many are in PHP: 0 not at all, 1 in the same
    /// measure, so that throughput does not.
    fn slope(&self, ratio: f64, in_php: f64) -> f64 {
        (self.ratio / ratio).ln() / (self.in_php / in_php).ln()
    }
}

impl Limit {
    /// It begins at its highest: nothing speaks against that yet.
    pub fn new(classes: usize, bounds: Bounds, now: Duration) -> Self {
        Self {
            bounds,
            ceiling: bounds.max,
            allowed: bounds.max as f64,
            in_use: 0,
            takes: Takes::new(classes),
            window: Window::new(classes, now),
            phase: Phase::Steady,
            slow_windows: 0,
            growth: GROWTH_AT_FIRST,
            next_look: now + LOOK_INTERVAL_MIN,
            low_since: now,
            look_interval: LOOK_INTERVAL_MIN,
            last_end: now,
            last_move: Move::Start,
            moves: [0; Move::ALL.len()],
        }
    }

    /// Requests that may be in PHP.
    pub fn places(&self) -> usize {
        // The limit is at least 1 and at most a setting.
        (self.allowed.round() as usize).clamp(1, self.ceiling.max(1))
    }

    /// Requests that are.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Its upper bound now.
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// Why it moved last.
    pub fn last_move(&self) -> Move {
        self.last_move
    }

    /// How often it moved for this reason.
    pub fn moves(&self, why: Move) -> u64 {
        self.moves[why as usize]
    }

    /// PHP has no more room than this: its children, without what others have there.
    pub fn set_ceiling(&mut self, children: usize) {
        let ceiling = children.clamp(1, self.bounds.max);
        if ceiling == self.ceiling {
            return;
        }
        let was_at_most = self.places() >= self.ceiling;
        self.ceiling = ceiling;
        let limit = if was_at_most { ceiling as f64 } else { self.allowed };
        self.move_to(limit, Move::Children);
    }

    /// Other bounds, from now on, and so many classes, of which the first are those that there are. What was learned
    /// stays.
    pub fn set(&mut self, classes: usize, bounds: Bounds) {
        self.bounds = bounds;
        self.takes.set_classes(classes);
        self.window.set_classes(classes);
        self.ceiling = self.ceiling.min(bounds.max);
        if !bounds.adaptive {
            self.phase = Phase::Steady;
            self.allowed = self.ceiling as f64;
        }
        self.allowed = self.allowed.clamp(self.least(), self.ceiling.max(1) as f64);
    }

    /// A request goes to PHP.
    pub fn begin(&mut self, now: Duration) {
        self.window.pass(self.in_use, now);
        self.in_use += 1;
    }

    /// A request waits. Where its class alone has no place, that says nothing of the limit.
    pub fn wait(&mut self, now: Duration) {
        if self.in_use < self.places() {
            return;
        }
        self.window.waited = true;
        if self.bounds.adaptive
            && self.in_use > 0
            && now.saturating_sub(self.last_end.max(self.window.since)) >= STALL
        {
            self.phase = Phase::Steady;
            self.last_end = now;
            self.grow(Move::Stalled);
        }
    }

    /// A request has left PHP. `took`: how long PHP took to answer, where it did.
    pub fn end(&mut self, class: usize, took: Option<Duration>, now: Duration) {
        self.window.pass(self.in_use, now);
        self.in_use = self.in_use.saturating_sub(1);
        self.last_end = now;
        if !self.bounds.adaptive {
            return;
        }
        if self.window.settling > 0 {
            self.window.settling -= 1;
            if self.window.settling == 0 {
                let waited = self.window.waited;
                self.window.begin(now, 0);
                self.window.waited = waited;
            }
            return;
        }
        if let Some(took) = took {
            self.window.add(class, took.as_secs_f64().min(self.takes.longest(class)));
        }
        let length = now.saturating_sub(self.window.since);
        let samples = self.window.samples();
        let wanted = SAMPLES_MIN.max(self.places());
        let is_long = length >= WINDOW_MAX && samples >= CLASS_SAMPLES_MIN;
        if (samples >= wanted && length >= WINDOW_MIN) || is_long {
            self.decide(length, now);
        }
    }

    fn decide(&mut self, length: Duration, now: Duration) {
        let in_php = self.window.occupied / length.as_secs_f64();
        let waited = self.window.waited;
        let ratio = self.takes.ratio(&self.window);
        match self.phase {
            Phase::Steady => self.steady(in_php, now),
            Phase::Lowered(anchor) | Phase::Looking(anchor) if in_php > anchor.in_php * LOWERED => {
                self.wait_for(anchor, now);
            }
            Phase::Lowered(anchor) => self.judge_lowering(anchor, in_php, now),
            Phase::Looking(anchor) => self.judge_look(anchor, in_php, now),
        }
        self.takes.slowness = ratio.max(1.0);
        let excess = self.in_use.saturating_sub(self.places());
        let is_steady = matches!(self.phase, Phase::Steady);
        // What was in PHP with more others is to leave it first.
        let settling = if is_steady { excess } else { excess + self.places() };
        self.window.begin(now, settling);
        self.window.waited = waited && !is_steady;
    }

    fn steady(&mut self, in_php: f64, now: Duration) {
        if self.takes.ratio(&self.window) < KNEW {
            // PHP is faster than was known, and with fewer there it may be faster still.
            self.takes.measured_at = self.takes.measured_at.max(in_php);
            self.takes.is_confirmed = false;
            self.look_interval = LOOK_INTERVAL_MIN;
            self.next_look = self.next_look.min(now + LOOK_INTERVAL_MIN);
        }
        self.takes.learn(&self.window, in_php, self.least());
        let ratio = self.takes.ratio(&self.window);
        let bound = self.bounds.slowdown_max;
        let anchor = Anchor { ratio, in_php, back_to: self.allowed, windows: 0 };
        let can_go_down = in_php > self.least() * 1.2;
        // While the limit is not used up it is not the reason, and lowering it would show nothing.
        let is_slow = self.window.waited && ratio > bound && can_go_down;
        self.slow_windows = if is_slow { self.slow_windows + 1 } else { 0 };
        if is_slow {
            if self.slow_windows < SLOW_WINDOWS {
                return;
            }
            self.slow_windows = 0;
            self.low_since = now;
            self.lower(anchor, ratio, in_php);
        } else if self.window.waited && now >= self.next_look && can_go_down {
            self.low_since = now;
            self.look(anchor);
        } else if self.window.waited && ratio <= bound * GROWS_BELOW {
            self.grow(Move::Room);
        }
    }

    /// As many are in PHP as before: requests are long, or few come.
    fn wait_for(&mut self, anchor: Anchor, now: Duration) {
        let anchor = Anchor { windows: anchor.windows + 1, ..anchor };
        if anchor.windows >= LOOK_WINDOWS_MAX {
            if matches!(self.phase, Phase::Looking(_)) {
                self.look_later(now);
            }
            self.phase = Phase::Steady;
            return self.move_to(anchor.back_to, Move::Back);
        }
        match &mut self.phase {
            Phase::Lowered(own) | Phase::Looking(own) => *own = anchor,
            Phase::Steady => {}
        }
    }

    /// Lowers the limit to where requests would be fast enough if they were only in each other's way.
    fn lower(&mut self, anchor: Anchor, ratio: f64, in_php: f64) {
        let enough = (in_php * self.bounds.slowdown_max / ratio).min(in_php * LESS);
        self.phase = Phase::Lowered(anchor);
        self.move_to(enough.max(anchor.in_php * LOOK_SHARE), Move::Slower);
    }

    /// What it has brought that the limit was lowered since PHP was slow.
    fn judge_lowering(&mut self, anchor: Anchor, in_php: f64, now: Duration) {
        let ratio = self.takes.ratio(&self.window);
        self.growth = GROWTH;
        let can_go_down = in_php > self.least() * 1.2;
        let is_seen = in_php <= anchor.in_php * LOOK_SEEN;
        let is_lost = is_seen && anchor.slope(ratio, in_php) < PAYS_BELOW;
        if !is_lost && (ratio <= self.bounds.slowdown_max || !can_go_down) {
            self.phase = Phase::Steady;
        } else if !is_seen {
            self.lower(anchor, ratio, in_php);
        } else if is_lost {
            // Fewer in PHP are as slow, and do less: PHP is slower by itself.
            self.takes.relearn(&self.window, in_php);
            self.back(anchor, ratio);
            self.look_interval = LOOK_INTERVAL_MIN;
            self.look_later(now);
        } else {
            self.lower(Anchor { ratio, in_php, windows: 0, ..anchor }, ratio, in_php);
        }
    }

    fn look(&mut self, anchor: Anchor) {
        let in_php = anchor.in_php;
        // Below where it was measured what requests take, or nothing new is seen.
        let share = if self.takes.is_confirmed { 1.0 } else { LOOK_SHARE };
        let lower = (in_php * LOOK_SHARE).min(self.takes.measured_at * share);
        self.phase = Phase::Looking(anchor);
        self.move_to(lower.max(in_php * LOOK_SHARE * LOOK_SHARE), Move::Look);
    }

    /// What fewer in PHP have shown.
    fn judge_look(&mut self, anchor: Anchor, in_php: f64, now: Duration) {
        let ratio = self.takes.ratio(&self.window);
        self.growth = GROWTH;
        if ratio > KNEW {
            // It was known what requests take.
            self.takes.is_confirmed = true;
            self.takes.learn(&self.window, in_php, self.least());
            if anchor.ratio <= self.bounds.slowdown_max {
                // Nor were they too slow with more.
                self.phase = Phase::Steady;
                self.move_to(anchor.back_to, Move::Back);
            } else {
                self.back(anchor, ratio);
            }
            return self.look_later(now);
        }
        self.takes.relearn(&self.window, in_php);
        self.look_interval = LOOK_INTERVAL_MIN;
        if anchor.slope(ratio, in_php) >= IN_VAIN_ABOVE && in_php > self.least() * 1.2 {
            // Nothing was lost with fewer: still fewer may do.
            self.look(Anchor { ratio: 1.0, in_php, windows: 0, ..anchor });
        } else {
            self.back(anchor, ratio);
            self.look_later(now);
        }
    }

    /// Back to the limit of before, or to where PHP would be as slow as it may, by what has been seen: `ratio`
    /// with fewer in PHP.
    fn back(&mut self, anchor: Anchor, ratio: f64) {
        let slower = (anchor.ratio / ratio).max(1.0);
        let target = (anchor.in_php * self.bounds.slowdown_max / slower).min(anchor.back_to);
        self.phase = Phase::Steady;
        let is_lower = target < anchor.back_to * 0.95;
        self.move_to(target, if is_lower { Move::Slower } else { Move::Back });
    }

    fn look_later(&mut self, now: Duration) {
        let took = now.saturating_sub(self.low_since);
        self.next_look = now + self.look_interval.max(took * LOOKS_ONE_IN);
        self.look_interval = (self.look_interval * 2).min(LOOK_INTERVAL_MAX);
    }

    fn grow(&mut self, why: Move) {
        let more = (self.allowed * self.growth).max(1.0);
        self.move_to(self.allowed + more, why);
    }

    fn move_to(&mut self, limit: f64, why: Move) {
        let before = self.places();
        self.allowed = limit.clamp(self.least(), self.ceiling.max(1) as f64);
        if self.places() != before {
            self.last_move = why;
            self.moves[why as usize] += 1;
        }
    }

    fn least(&self) -> f64 {
        self.bounds.min.min(self.ceiling).max(1) as f64
    }
}
