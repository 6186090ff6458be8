//! One run: time goes on, things happen, and visitors look at pages.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::parts::{Fill, Message, Node, Random, Server, clean, has_value, page};
use super::{
    APPEND_TIMEOUT, Cleans, ECHO, FAULT_EVERY, HEARTBEAT, Mechanisms, NODES, PROOF_MAX, RUN, TAGS,
    TICK,
};
use crate::clock::{Clock, Moment};
use crate::fleet::log::{Order, Token};
use crate::policy::{CacheKey, PurgeScope};
use crate::random::chance::Chance;
use crate::store::Found;

/// A purge that the log has taken.
struct Obligation {
    tag: usize,
    version: u64,
    due: u64,
}

pub(super) struct World {
    random: Random,
    clock: Clock,
    now: u64,
    with: Mechanisms,
    server: Server,
    nodes: Vec<Node>,
    /// Of each tag: the versions and from when on renderings show them.
    commits: [Vec<(u64, u64)>; TAGS],
    /// What each purge, by its entry's name, is about: tag, version, from when on it is visible, and whether
    /// it was applied before.
    purges: HashMap<Token, (usize, u64, u64, bool)>,
    obligations: Vec<Obligation>,
    required: [u64; TAGS],
    trims_until: u64,
    pub(super) hits: u64,
    faults: Vec<String>,
    pub(super) violations: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, with: Mechanisms) -> Self {
        let mut random = Random(Chance::of(seed));
        let clock = Clock::manual();
        let epoch = random.token();
        let server = Server { epoch, sequence: 0, entry: None, entries: VecDeque::new() };
        let nodes = (0..NODES).map(|_| Node::new(&clock, with)).collect();
        Self {
            random,
            clock,
            now: 0,
            with,
            server,
            nodes,
            commits: std::array::from_fn(|_| vec![(0, 0)]),
            purges: HashMap::new(),
            obligations: Vec::new(),
            required: [0; TAGS],
            trims_until: 0,
            hits: 0,
            faults: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Self {
        while self.now < RUN && self.violations.is_empty() {
            self.now += TICK;
            self.clock.advance(Duration::from_millis(TICK));
            if self.with.faults && self.now.is_multiple_of(FAULT_EVERY) {
                self.fault();
            }
            for at in 0..NODES {
                if self.nodes[at].stopped_until > self.now {
                    continue;
                }
                // A request may be looked at before what came from the server.
                if self.random.percent(50) {
                    self.visit(at);
                    self.receive(at);
                } else {
                    self.receive(at);
                    self.visit(at);
                }
                self.work(at);
            }
            let now = self.now;
            let required = &mut self.required;
            self.obligations.retain(|one| {
                if one.due <= now {
                    required[one.tag] = required[one.tag].max(one.version);
                }
                one.due > now
            });
        }
        self
    }

    fn fault(&mut self) {
        let (at, long) =
            (self.random.below(NODES as u64) as usize, 2_000 + self.random.below(8_000));
        let until = self.now + long;
        let kind = self.random.below(8);
        self.faults.push(format!("{kind} at {} ms, node {at} until {until}", self.now));
        match kind {
            0 => {
                self.nodes[at].cut_until = until;
                self.nodes[at].wire.clear();
                self.nodes[at].reading = false;
                if self.random.percent(70) {
                    self.trim_later();
                }
            }
            1 => {
                self.nodes[at].slow_until = until;
                self.trim_later();
            }
            2 => self.nodes[at].stopped_until = until,
            3 => {
                // A new process: what it stored and knew is gone, what waits is in its journal.
                let waiting = std::mem::take(&mut self.nodes[at].unacknowledged);
                self.nodes[at] = Node::new(&self.clock, self.with);
                let waiting = waiting.into_iter().map(|(name, order, _)| (name, order, None));
                self.nodes[at].unacknowledged = waiting.collect();
                let now = Moment::from_milliseconds(self.now);
                for (_, order, _) in self.nodes[at].unacknowledged.clone() {
                    self.nodes[at].apply(&order, now);
                    self.nodes[at].echoes.note(&order, now);
                }
            }
            4 => {
                self.server.entries.clear();
                self.server.epoch = self.random.token();
                (self.server.sequence, self.server.entry) = (0, None);
            }
            _ => {
                let lost = if self.random.percent(70) { 600 } else { 3_000 };
                let since = self.now.saturating_sub(self.random.below(lost));
                self.server.lose_tail(since);
            }
        }
    }

    /// Only the newest entry is left from now on, and what comes later.
    fn trim_later(&mut self) {
        while self.server.entries.len() > 1 {
            self.server.entries.pop_front();
        }
        self.trims_until = self.now + 12_000;
    }
}

impl World {
    /// What a node does besides answering.
    fn work(&mut self, at: usize) {
        let now = Moment::from_milliseconds(self.now);
        self.nodes[at].echo(now);
        self.fill(at);
        if self.random.below(1_000) < 8 {
            self.purge(at);
        }
        if self.nodes[at].cut_until > self.now {
            return;
        }
        if self.now >= self.nodes[at].beats_at {
            let question = self.nodes[at].machine.question(now);
            self.send(at, Message::Ask(question));
            self.nodes[at].beats_at = self.now + HEARTBEAT;
        }
        let position = self.nodes[at].machine.position();
        if let Some(position) = position
            && !self.nodes[at].reading
        {
            self.nodes[at].reading = true;
            self.send(at, Message::Read { cursor: position.sequence });
        }
        // One after the other, so that the order is kept whatever gets lost.
        let now_ms = self.now;
        let next = self.nodes[at].unacknowledged.front_mut().and_then(|(name, order, sent)| {
            let is_due = sent.is_none_or(|sent| now_ms >= sent + APPEND_TIMEOUT);
            is_due.then(|| {
                *sent = Some(now_ms);
                (*name, order.clone())
            })
        });
        if let Some((name, order)) = next {
            self.nodes[at].machine.appending(name, order.clone(), now);
            self.send(at, Message::Append { name, order, sent: now_ms });
        }
    }

    /// A change whose purge is sent at once, and which renderings may show only later.
    fn purge(&mut self, at: usize) {
        let tag = self.random.below(TAGS as u64) as usize;
        let version = self.commits[tag].last().map_or(0, |(version, _)| version + 1);
        let delay =
            if self.with.early && self.random.percent(30) { self.random.below(1_500) } else { 0 };
        let before = self.commits[tag].last().map_or(0, |(_, visible)| *visible);
        let visible_at = (self.now + delay).max(before);
        self.commits[tag].push((version, visible_at));
        let now = Moment::from_milliseconds(self.now);
        if has_value(tag) {
            self.nodes[at].apply(&clean(tag), now);
            self.nodes[at].echoes.note(&clean(tag), now);
        }
        let scope = PurgeScope::Tags(vec![Bytes::from(format!("tag{tag}"))]);
        let order = Order::Purge { scope, soft: false };
        self.nodes[at].apply(&order, now);
        self.nodes[at].echoes.note(&order, now);
        let name = self.random.token();
        self.purges.insert(name, (tag, version, visible_at, visible_at > self.now));
        let own = (name, self.random.token());
        self.queue(at, own, order, has_value(tag).then(|| clean(tag)));
    }

    /// A purge on its way to the log, and the clean that came before it.
    fn queue(
        &mut self,
        at: usize,
        (name, its): (Token, Token),
        purge: Order,
        clean: Option<Order>,
    ) {
        let clean = clean.map(|clean| (its, clean, None));
        let waiting = &mut self.nodes[at].unacknowledged;
        let (before, behind) = match self.with.cleans {
            Cleans::BeforeThePurge => (clean, None),
            Cleans::BehindThePurge => (None, clean),
            Cleans::Nowhere => (None, None),
        };
        waiting.extend(before);
        waiting.push_back((name, purge, None));
        waiting.extend(behind);
    }

    /// A visitor: what is given out as good must be new enough.
    fn visit(&mut self, at: usize) {
        if !self.random.percent(30) {
            return;
        }
        let tag = self.random.below(TAGS as u64) as usize;
        let now = Moment::from_milliseconds(self.now);
        let node = &mut self.nodes[at];
        let key = CacheKey::for_tests(format!("shop/{tag}").as_bytes(), b"");
        if let Found::Fresh(entry) = node.store.lookup(&key, now)
            && !node.trust.doubts(&entry, now)
        {
            self.hits += 1;
            let shown = entry
                .head()
                .first("X-Version")
                .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            let shown: u64 = shown.expect("a version");
            if shown < self.required[tag] {
                self.violations.push(format!(
                    "at {} ms node {at} gave out version {shown} of {tag}, {} is due; {:?}",
                    self.now,
                    self.required[tag],
                    self.faults.last()
                ));
            }
        } else if !node.fills.iter().any(|fill| fill.tag == tag) {
            let mark = node.store.mark();
            let (reads_at, length) = (self.now + self.random.below(200), self.random.below(1_500));
            let ends_at = reads_at + length;
            let cleans = node.values.cleans();
            let fill = Fill { tag, mark, cleans, builds: false, reads_at, version: None, ends_at };
            self.nodes[at].fills.push(fill);
        }
    }

    /// Fetches under way: they see what is visible at some time, and are stored later.
    fn fill(&mut self, at: usize) {
        let (now, commits, node) = (self.now, &self.commits, &mut self.nodes[at]);
        for fill in &mut node.fills {
            if fill.version.is_none() && fill.reads_at <= now {
                let visible = commits[fill.tag].iter().rev().find(|(_, from)| *from <= now);
                let visible = visible.map_or(0, |(version, _)| *version);
                let kept = node.values.get(fill.tag);
                fill.builds = has_value(fill.tag) && kept.is_none();
                fill.version = Some(kept.unwrap_or(visible));
            }
        }
        let (store, values) = (&node.store, &mut node.values);
        node.fills.retain(|fill| {
            if let Some(version) = fill.version.filter(|_| fill.ends_at <= now) {
                if fill.builds {
                    values.keep(fill.tag, version, fill.cleans);
                }
                drop(store.insert(fill.mark, page(fill.tag, version)));
                return false;
            }
            true
        });
    }

    fn send(&mut self, at: usize, message: Message) {
        let is_read = matches!(message, Message::Read { .. } | Message::Entries(_));
        let is_slow = is_read && self.nodes[at].slow_until > self.now;
        let latency = if is_slow { 3_000 } else { 5 + self.random.below(40) };
        // Each connection keeps its order; the reader has one of its own.
        let same = |other: &Message| {
            matches!(other, Message::Read { .. } | Message::Entries(_)) == is_read
        };
        let last = self.nodes[at].wire.iter().filter(|(_, other)| same(other));
        let last = last.map(|(due, _)| *due).max().unwrap_or(0);
        self.nodes[at].wire.push_back(((self.now + latency).max(last), message));
    }

    /// What arrives, at the server or at the node.
    fn receive(&mut self, at: usize) {
        let now = Moment::from_milliseconds(self.now);
        let now_ms = self.now;
        let due: Vec<Message> = {
            let wire = &mut self.nodes[at].wire;
            let (due, later) =
                std::mem::take(wire).into_iter().partition::<Vec<_>, _>(|(due, _)| *due <= now_ms);
            *wire = later.into();
            due.into_iter().map(|(_, message)| message).collect()
        };
        for message in due {
            match message {
                Message::Ask(question) => {
                    let end = self.server.end();
                    self.send(at, Message::End(question, end));
                }
                Message::Read { cursor } => {
                    let entries = self.server.behind(cursor);
                    self.send(at, Message::Entries(entries));
                }
                Message::Append { name, order, sent } => self.append(at, name, order, sent),
                Message::Appended { name, position } => {
                    let node = &mut self.nodes[at];
                    let place = (position.epoch, position.sequence);
                    let actions = node.machine.appended(name, place, now);
                    node.carry_out(actions, now);
                    if node.unacknowledged.front().is_some_and(|(first, ..)| *first == name) {
                        node.unacknowledged.pop_front();
                    }
                }
                Message::End(question, end) => {
                    let before = self.nodes[at].machine.position();
                    let actions = self.nodes[at].machine.end(question, end, now);
                    self.nodes[at].carry_out(actions, now);
                    if self.nodes[at].machine.position() != before {
                        // As the reader does when its place has moved.
                        let is_read = |message: &Message| {
                            matches!(message, Message::Read { .. } | Message::Entries(_))
                        };
                        self.nodes[at].wire.retain(|(_, message)| !is_read(message));
                        self.nodes[at].reading = false;
                    }
                }
                Message::Entries(entries) => {
                    self.nodes[at].reading = false;
                    for entry in entries {
                        let actions = self.nodes[at].machine.entry(entry, now);
                        self.nodes[at].carry_out(actions, now);
                    }
                }
            }
        }
    }

    fn append(&mut self, at: usize, name: Token, order: Order, sent: u64) {
        // What timed out was given up with its connection.
        if self.now > sent + APPEND_TIMEOUT {
            return;
        }
        let position = self.server.append(name, order, self.now);
        if self.now < self.trims_until {
            while self.server.entries.len() > 2 {
                self.server.entries.pop_front();
            }
        }
        self.send(at, Message::Appended { name, position });
        // A clean obliges nobody by itself.
        let Some(&(tag, version, visible_at, is_early)) = self.purges.get(&name) else { return };
        let echoed = if is_early { visible_at.max(self.now) + ECHO + 200 } else { self.now };
        let bound = if self.with.faults { PROOF_MAX + 2_000 } else { 250 };
        self.obligations.push(Obligation { tag, version, due: echoed + bound });
    }
}
