//! What the tasks of a node share: the connection, what is known of the log, the way to the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::apply::Applier;
use super::hosts::Hosts;
use super::log::{Action, Entry, Limits, Machine, Order, Position, Question, Token};
use super::members::Member;
use super::stream::{Keys, Read};
use super::warmth::Warmth;
use super::{Bell, Figures, Reach, Wait, members};
use crate::clock::Clock;
use crate::keyspace::Clean;
use crate::observe::Observer;
use crate::random;
use crate::redis_pool::{Redis, RedisError};
use crate::settings::{self, Settings};

/// A purge, or a clean, for the writer.
pub(super) struct Job {
    pub(super) name: Token,
    pub(super) order: Order,
    pub(super) is_awaited: bool,
    /// `None`: nobody waits for it.
    pub(super) answer: Option<oneshot::Sender<Appended>>,
    /// Gone with the job, once the purge is in the log or the journal.
    pub(super) unlogged: Option<Unlogged>,
    /// The same of a clean, which nobody waits for.
    pub(super) told: Option<Unlogged>,
}

/// A purge that is applied here and neither in the log nor in the journal yet. While there is one the
/// others cannot be told up to where they must have come.
pub struct Unlogged(Arc<AtomicUsize>);

impl Drop for Unlogged {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What became of it.
pub(super) enum Appended {
    /// It is in the log, in this epoch with this sequence.
    Logged(Token, u64),
    /// It waits in the journal.
    Journaled,
}

/// A node's link to the log.
pub(super) struct Link {
    pub(super) redis: Arc<Redis>,
    pub(super) keys: Keys,
    pub(super) settings: settings::Fleet,
    pub(super) regex_max_bytes: usize,
    pub(super) name: String,
    /// Where the others may reach this node one day; for people now.
    pub(super) address: String,
    /// Of this process, to notice another one of the same name.
    pub(super) instance: Token,
    pub(super) release: ArcSwap<String>,
    /// Has the release been looked for?
    pub(super) is_release_read: AtomicBool,
    pub(super) clock: Clock,
    pub(super) applier: Arc<Applier>,
    machine: Mutex<Machine>,
    jobs: mpsc::Sender<Job>,
    pub(super) queue: Mutex<Option<mpsc::Receiver<Job>>>,
    /// Who was there at the last look; `None`: nobody has looked yet.
    pub(super) members: ArcSwapOption<Vec<Member>>,
    /// Where nodes were seen.
    pub(super) hosts: Hosts,
    /// How far it is with the pages of others.
    pub(super) warmth: Warmth,
    /// Rung to announce this node now.
    pub(super) beat_now: Bell,
    /// Rung when the position has moved otherwise than by reading.
    pub(super) moved: Bell,
    /// Rung when Redis answers, for what waits in the journal.
    pub(super) deliver: Bell,
    pub(super) journal: AtomicUsize,
    /// What was in the journal when this process began is done here.
    pub(super) is_journal_done: AtomicBool,
    pub(super) journal_bytes: AtomicU64,
    pub(super) end: AtomicU64,
    /// Another process of this node announces it.
    pub(super) is_aside: AtomicBool,
    unlogged: Arc<AtomicUsize>,
    /// Cleans that are neither in the log nor in the journal yet. Others may be asked for pages meanwhile: the
    /// purge that a clean is for stands behind it, and holds that up.
    told: Arc<AtomicUsize>,
    /// Milliseconds of a moment.
    quiet_until: AtomicU64,
    require: bool,
    applied: AtomicU64,
    softened: AtomicU64,
}

impl Link {
    pub(super) fn new(
        settings: &Settings,
        applier: Arc<Applier>,
        clock: &Clock,
    ) -> Result<Self, RedisError> {
        let fleet = settings.fleet.clone();
        let (jobs, queue) = mpsc::channel(fleet.queue_max);
        let limits = Limits {
            proof_max: fleet.proof_max,
            recent_max: fleet.recent_max,
            recent_age: fleet.recent_age,
        };
        let listen = settings.listen.http.first().or(settings.listen.https.first());
        Ok(Self {
            redis: Arc::new(Redis::new(&settings.redis, clock)?),
            keys: Keys::new(&fleet.prefix),
            regex_max_bytes: settings.purge.regex_max_bytes,
            name: if fleet.name.is_empty() { host_name() } else { fleet.name.clone() },
            address: listen.map(ToString::to_string).unwrap_or_default(),
            instance: token(),
            release: ArcSwap::default(),
            is_release_read: AtomicBool::new(fleet.release_file.as_os_str().is_empty()),
            clock: clock.clone(),
            applier,
            machine: Mutex::new(machine(limits)),
            jobs,
            queue: Mutex::new(Some(queue)),
            members: ArcSwapOption::empty(),
            hosts: Hosts::default(),
            warmth: Warmth::default(),
            beat_now: Bell::new(),
            moved: Bell::new(),
            deliver: Bell::new(),
            journal: AtomicUsize::new(0),
            is_journal_done: AtomicBool::new(false),
            journal_bytes: AtomicU64::new(0),
            end: AtomicU64::new(0),
            is_aside: AtomicBool::new(false),
            unlogged: Arc::default(),
            told: Arc::default(),
            quiet_until: AtomicU64::new(0),
            require: settings.redis.require,
            applied: AtomicU64::new(0),
            softened: AtomicU64::new(0),
            settings: fleet,
        })
    }

    /// Says at start what this node is.
    pub(super) fn introduce(&self) {
        tracing::info!(
            name = self.name,
            redis = %self.redis.address(),
            prefix = self.settings.prefix,
            "a node of a fleet"
        );
    }

    /// Brings purges, which are applied here, to the others.
    pub(super) async fn spread(&self, orders: Vec<Order>, wait: Wait) -> Reach {
        let mut answers = Vec::with_capacity(orders.len());
        for order in orders {
            let (answer, answered) = oneshot::channel();
            let is_awaited = wait == Wait::Fleet;
            let (name, answer, unlogged) = (token(), Some(answer), Some(self.unlogged()));
            let job = Job { name, order, is_awaited, answer, unlogged, told: None };
            // A full queue makes the sender wait, since only the writer keeps the journal.
            if self.jobs.send(job).await.is_err() {
                return Reach::Journaled;
            }
            answers.push(answered);
        }
        let mut last = None;
        for answered in answers {
            match answered.await {
                Ok(Appended::Logged(epoch, sequence)) => last = Some((epoch, sequence)),
                Ok(Appended::Journaled) | Err(_) => return Reach::Journaled,
            }
        }
        match (last, wait) {
            (Some(place), Wait::Fleet) => members::wait_for(self, place).await,
            _ => Reach::Logged,
        }
    }

    /// Brings a clean, which was done here, to the others: when this returns, each purge that comes later
    /// stands behind it. It waits for room in the queue, not for Redis; what has room is there without a wait.
    pub(super) async fn tell(&self, clean: Clean) {
        for order in Order::of_clean(clean) {
            self.told.fetch_add(1, Ordering::AcqRel);
            let told = Some(Unlogged(Arc::clone(&self.told)));
            let (name, answer, unlogged) = (token(), None, None);
            let job = Job { name, order, is_awaited: false, answer, unlogged, told };
            if self.jobs.send(job).await.is_err() {
                return;
            }
        }
    }

    /// Is each clean that was told in the log or in the journal?
    pub(super) fn cleans_are_written(&self) -> bool {
        self.told.load(Ordering::Acquire) == 0
    }

    /// To be made before a purge is applied here.
    pub(super) fn unlogged(&self) -> Unlogged {
        self.unlogged.fetch_add(1, Ordering::AcqRel);
        Unlogged(Arc::clone(&self.unlogged))
    }

    /// Another process of this node appends a purge that is applied here too. When the log has it is
    /// not known here, so that for a while nobody is told a place.
    pub(super) fn be_quiet(&self) {
        let until = self.clock.now().plus(QUIET);
        self.quiet_until.fetch_max(until.milliseconds(), Ordering::AcqRel);
    }

    /// The place in the log up to which the others must have come to know each purge that is applied
    /// here. `None`: there are purges which the log does not have, or no log was found yet.
    pub(super) fn known(&self) -> Option<Position> {
        let is_logged = || {
            self.unlogged.load(Ordering::Acquire) == 0
                && self.journal.load(Ordering::Acquire) == 0
                && self.clock.now().milliseconds() >= self.quiet_until.load(Ordering::Acquire)
        };
        // What is logged between the two looks is in the place or shows in the second: a log that
        // has just lost entries gives its place and has them to be appended again.
        let place = if is_logged() { self.machine.lock().known() } else { None };
        place.filter(|_| is_logged())
    }

    /// To be asked before the log's end is.
    pub(super) fn question(&self) -> Question {
        self.machine.lock().question(self.clock.now())
    }

    /// Up to where everything is applied.
    pub(super) fn position(&self) -> Option<Position> {
        self.machine.lock().position()
    }

    /// Is everything up to this entry applied? `None`: not yet.
    pub(super) fn has_passed(&self, place: Position) -> Option<bool> {
        self.machine.lock().has_passed(place)
    }

    /// Goes on from there, where the log was not found yet; see [`Machine::resume`].
    pub(super) fn resume(&self, position: Position) -> bool {
        let is_resumed = self.machine.lock().resume(position);
        self.moved.notify_one();
        is_resumed
    }

    /// The log's end, as an answer says.
    pub(super) fn ends_at(self: &Arc<Self>, question: Question, end: Position) {
        let mut machine = self.machine.lock();
        let before = machine.position();
        let actions = machine.end(question, end, self.clock.now());
        self.end.store(end.sequence, Ordering::Relaxed);
        self.carry_out(actions);
        self.applier.trust.prove(machine.proven_until());
        if machine.position() != before {
            self.moved.notify_one();
        }
    }

    /// Entries that were read, in their order.
    pub(super) fn take(self: &Arc<Self>, entries: Vec<Read>) {
        let mut is_awaited = false;
        for Read { entry, unreadable, is_awaited: awaited } in entries {
            is_awaited |= awaited;
            if let Some(error) = unreadable {
                let (id, entry) = (entry.position.sequence, entry.position.entry);
                tracing::warn!(id = format!("{id}-0"), ?entry, "an entry of the log: {error}");
            }
            self.take_one(entry);
        }
        if is_awaited {
            self.beat_now.notify_one();
        }
    }

    fn take_one(self: &Arc<Self>, entry: Entry) {
        let mut machine = self.machine.lock();
        let sequence = entry.position.sequence;
        let actions = machine.entry(entry, self.clock.now());
        self.carry_out(actions);
        self.end.fetch_max(sequence, Ordering::Relaxed);
        self.applier.trust.prove(machine.proven_until());
    }

    /// Under the machine's lock, so that what is applied keeps the log's order.
    fn carry_out(self: &Arc<Self>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Apply(order @ Order::Objects(_)) => drop(self.applier.purge(&order)),
                Action::Apply(order) => {
                    let purged = self.applier.purge(&order);
                    self.applier.count(purged.responses);
                    self.applied.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(responses = purged.responses, "purged by the log");
                }
                Action::Soften(cause) => {
                    self.softened.fetch_add(1, Ordering::Relaxed);
                    self.applier.soften(cause);
                }
                Action::AppendAgain(again) => self.append_again(again),
            }
        }
    }

    fn append_again(self: &Arc<Self>, again: Vec<(Token, Order)>) {
        tracing::warn!(entries = again.len(), "appending own recent entries to the log again");
        let jobs = self.jobs.clone();
        // Until the log has them again the others may not know them.
        let again: Vec<_> = again.into_iter().map(|own| (own, self.unlogged())).collect();
        // Bounded by fleet.recent_max; the queue may be shorter, and nobody waits for them.
        tokio::spawn(async move {
            for ((name, order), unlogged) in again {
                let (answer, unlogged) = (None, Some(unlogged));
                let told = None;
                let job = Job { name, order, is_awaited: false, answer, unlogged, told };
                if jobs.send(job).await.is_err() {
                    return;
                }
            }
        });
    }

    /// This node is about to append these.
    pub(super) fn appending<'a>(&self, entries: impl Iterator<Item = (Token, &'a Order)>) {
        let (mut machine, now) = (self.machine.lock(), self.clock.now());
        for (name, order) in entries {
            machine.appending(name, order.clone(), now);
        }
    }

    /// The log has it.
    pub(super) fn appended(self: &Arc<Self>, name: Token, place: (Token, u64)) {
        let mut machine = self.machine.lock();
        let actions = machine.appended(name, place, self.clock.now());
        self.carry_out(actions);
    }

    /// Is this node not ready without Redis?
    pub(super) fn redis_is_required(&self) -> bool {
        self.require
    }

    /// The release of the shop, as it is told to others.
    pub(super) fn release_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.release.load().as_bytes())
    }

    pub(super) fn observer(&self) -> &Observer {
        self.applier.observer()
    }

    pub(super) fn figures(&self) -> Figures {
        let position = self.position().map_or(0, |position| position.sequence);
        Figures {
            connected: self.redis.is_connected(),
            soft: self.applier.trust.is_soft(self.clock.now()),
            position,
            lag: self.end.load(Ordering::Relaxed).saturating_sub(position),
            journal: self.journal.load(Ordering::Relaxed),
            journal_bytes: self.journal_bytes.load(Ordering::Relaxed),
            applied: self.applied.load(Ordering::Relaxed),
            softened: self.softened.load(Ordering::Relaxed),
        }
    }
}

#[cfg(not(feature = "faulty"))]
fn machine(limits: Limits) -> Machine {
    Machine::new(limits)
}

/// Without the checks that `PARVIS_WITHOUT` names.
#[cfg(feature = "faulty")]
fn machine(limits: Limits) -> Machine {
    use crate::settings::faulty::{Mechanism, is_off};
    let checks =
        super::log::Checks { gap: !is_off(Mechanism::Gap), chain: !is_off(Mechanism::Chain) };
    Machine::with_checks(limits, checks)
}

/// A name that nobody else has.
pub(super) fn token() -> Token {
    Token::new(random::bytes())
}

/// Longer than an append takes while Redis answers.
const QUIET: Duration = Duration::from_secs(1);

/// A pause between tries that none of the settings names.
pub(super) const SHORT_PAUSE: Duration = Duration::from_millis(100);

/// The host's name, as far as it is one for a key.
fn host_name() -> String {
    let system = rustix::system::uname();
    let letter = |letter: &char| letter.is_ascii_alphanumeric() || "-._".contains(*letter);
    let name: String =
        system.nodename().to_string_lossy().chars().filter(letter).take(100).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
