//! What the simulation is made of: chance, Redis, messages, nodes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{ECHO, Mechanisms, PROOF_MAX};
use crate::clock::{Clock, Moment};
use crate::exchange::StoredHead;
use crate::fields::Fields;
use crate::fleet::echo::Echoes;
use crate::fleet::log::machine::{Action, Entry, Limits, Machine, Question};
use crate::fleet::log::position::Position;
use crate::fleet::log::{Order, Token};
use crate::fleet::trust::Trust;
use crate::keyspace::Clean;
use crate::policy::PurgeScope;
use crate::random::chance::Chance;
use crate::settings;
use crate::store::{self, FillMark, NewEntry, Store};

/// A seed says everything.
pub(super) struct Random(pub(super) Chance);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0.number() >> 11
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn token(&mut self) -> Token {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        Token::new(bytes)
    }
}

/// Redis: the entries it still has, each with the time it was written.
pub(super) struct Server {
    pub(super) epoch: Token,
    pub(super) sequence: u64,
    pub(super) entry: Option<Token>,
    pub(super) entries: VecDeque<(Entry, u64)>,
}

impl Server {
    pub(super) fn end(&self) -> Position {
        Position { epoch: self.epoch, sequence: self.sequence, entry: self.entry }
    }

    pub(super) fn append(&mut self, name: Token, order: Order, now: u64) -> Position {
        let before = self.entry;
        self.sequence += 1;
        self.entry = Some(name);
        let position = self.end();
        self.entries.push_back((Entry { position, before, order: Some(order) }, now));
        position
    }

    pub(super) fn behind(&self, cursor: u64) -> Vec<Entry> {
        let later = self.entries.iter().filter(|(entry, _)| entry.position.sequence > cursor);
        later.map(|(entry, _)| entry.clone()).collect()
    }

    /// A replica takes over that had only got what was written before.
    pub(super) fn lose_tail(&mut self, since: u64) {
        while let Some((last, written)) = self.entries.back()
            && *written > since
        {
            self.sequence = last.position.sequence - 1;
            self.entry = last.before;
            self.entries.pop_back();
        }
    }
}

/// On its way, to arrive at a time.
pub(super) enum Message {
    Read { cursor: u64 },
    Entries(Vec<Entry>),
    Ask(Question),
    End(Question, Position),
    Append { name: Token, order: Order, sent: u64 },
    Appended { name: Token, position: Position },
}

pub(super) struct Fill {
    pub(super) tag: usize,
    pub(super) mark: FillMark,
    /// The last clean when it began.
    pub(super) cleans: u64,
    /// It built the value that it is rendered from.
    pub(super) builds: bool,
    pub(super) reads_at: u64,
    pub(super) version: Option<u64>,
    pub(super) ends_at: u64,
}

/// What PHP keeps beside the pages: of each tag a version.
#[derive(Default)]
pub(super) struct Values {
    kept: HashMap<usize, u64>,
    cleans: u64,
    cleaned: HashMap<usize, u64>,
    all_cleaned: u64,
    has_fence: bool,
}

impl Values {
    pub(super) fn cleans(&self) -> u64 {
        self.cleans
    }

    pub(super) fn get(&self, tag: usize) -> Option<u64> {
        self.kept.get(&tag).copied()
    }

    /// Keeps what was built by who had begun after so many cleans.
    pub(super) fn keep(&mut self, tag: usize, version: u64, cleans: u64) {
        let cleaned = self.cleaned.get(&tag).copied().unwrap_or(0).max(self.all_cleaned);
        if cleaned <= cleans || !self.has_fence {
            self.kept.insert(tag, version);
        }
    }

    fn clean(&mut self, clean: &Clean) {
        let Clean::Keys { keys, .. } = clean else { return self.clear() };
        self.cleans += 1;
        for key in keys {
            let tag = std::str::from_utf8(key).expect("text").parse().expect("a tag");
            self.kept.remove(&tag);
            self.cleaned.insert(tag, self.cleans);
        }
    }

    fn clear(&mut self) {
        self.cleans += 1;
        self.all_cleaned = self.cleans;
        self.kept.clear();
    }
}

pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) store: Store,
    pub(super) values: Values,
    pub(super) trust: Trust,
    pub(super) echoes: Echoes,
    /// To and from the server, in order.
    pub(super) wire: VecDeque<(u64, Message)>,
    pub(super) reading: bool,
    pub(super) beats_at: u64,
    /// Appends that were not acknowledged, oldest first, with the time they were sent.
    pub(super) unacknowledged: VecDeque<(Token, Order, Option<u64>)>,
    pub(super) fills: Vec<Fill>,
    pub(super) cut_until: u64,
    pub(super) stopped_until: u64,
    pub(super) slow_until: u64,
}

impl Node {
    pub(super) fn new(clock: &Clock, with: Mechanisms) -> Self {
        let limits = Limits {
            proof_max: Duration::from_millis(PROOF_MAX),
            recent_max: 1_000,
            recent_age: Duration::from_mins(1),
        };
        let settings = settings::Fleet { refill_trust: Duration::ZERO, ..Default::default() };
        let store_settings = settings::Store { memory_bytes: 8 << 20, ..Default::default() };
        let store = if with.fence {
            Store::new(&store_settings, clock.clone())
        } else {
            Store::without_fence(&store_settings, clock.clone())
        };
        let echo = if with.echo { ECHO } else { 0 };
        Self {
            machine: Machine::with_checks(limits, with.checks),
            store,
            values: Values { has_fence: with.value_fence, ..Values::default() },
            trust: Trust::of(&settings),
            echoes: Echoes::new(Duration::from_millis(echo), 10_000),
            wire: VecDeque::new(),
            reading: false,
            beats_at: 0,
            unacknowledged: VecDeque::new(),
            fills: Vec::new(),
            cut_until: 0,
            stopped_until: 0,
            slow_until: 0,
        }
    }

    pub(super) fn apply(&mut self, order: &Order, now: Moment) {
        match order {
            Order::Soften => {
                self.values.clear();
                self.soften(now);
            }
            Order::Purge { scope: PurgeScope::Tags(tags), soft } => {
                self.store.purge_tags(tags, *soft);
            }
            Order::Objects(clean) => self.values.clean(clean),
            Order::Purge { .. } => panic!("not in this simulation"),
        }
    }

    /// Does once more what is due; that values go with the pages is said beside it.
    pub(super) fn echo(&mut self, now: Moment) {
        for order in self.echoes.due(now) {
            match &order {
                Order::Soften => self.soften(now),
                other => self.apply(other, now),
            }
        }
        self.echoes.done(now);
    }

    fn soften(&mut self, now: Moment) {
        self.store.soften_tagged();
        self.trust.soften(now);
    }

    pub(super) fn carry_out(&mut self, actions: Vec<Action>, now: Moment) {
        for action in actions {
            match action {
                Action::Apply(order) => {
                    self.apply(&order, now);
                    self.echoes.note(&order, now);
                }
                Action::Soften(_) => {
                    self.apply(&Order::Soften, now);
                    self.echoes.note(&Order::Soften, now);
                }
                Action::AppendAgain(again) => {
                    let again = again.into_iter().map(|(name, order)| (name, order, None));
                    self.unacknowledged.extend(again);
                }
            }
        }
        self.trust.prove(self.machine.proven_until());
    }
}

/// Is the page of this tag rendered from a value?
pub(super) fn has_value(tag: usize) -> bool {
    tag % 2 == 1
}

pub(super) fn clean(tag: usize) -> Order {
    let keys = vec![Bytes::from(tag.to_string())];
    Order::Objects(Clean::Keys { database: 0, keys })
}

pub(super) fn page(tag: usize, version: u64) -> NewEntry {
    let version = version.to_string();
    NewEntry {
        head: StoredHead::new(Fields::from([("X-Version", version.as_str())])),
        tags: vec![Bytes::from(format!("tag{tag}"))],
        ..store::tests::page(&format!("shop/{tag}"), &[])
    }
}
