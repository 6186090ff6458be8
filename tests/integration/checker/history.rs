//! What was written and read, and whether each read was new enough.
//!
//! All times are those of one monotonic clock, since the start of the run. A write obliges each node: a
//! read that began after its bound and shows an older version breaks a promise. Pure, so that the
//! rules themselves have tests.

use std::time::Duration;

use super::blocks;

/// A page that was read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    pub node: usize,
    pub page: usize,
    pub version: u64,
    pub began: Duration,
    pub ended: Duration,
    /// Its Cache-Status says that it is served as grace.
    pub is_marked: bool,
}

/// How far a purge's answer says that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Logged,
    Fleet,
    Journaled,
}

/// A change of a page, and its purge.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub page: usize,
    pub version: u64,
    pub node: usize,
    /// From when on renderings show it.
    pub visible: Duration,
    pub sent: Duration,
    /// `None`: there was no answer, so nobody is obliged.
    pub acked: Option<(Duration, Reach)>,
}

/// A time in which a fault lasts, up to when all nodes say that they know the log's end.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub began: Duration,
    /// The cause is gone.
    pub over: Duration,
    pub settled: Duration,
    /// Redis forgot what it had taken, so that its writers append it again, once they are connected.
    pub forgets: bool,
}

/// A look at a node's own figures.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    pub node: usize,
    pub began: Duration,
    pub ended: Duration,
    /// It knows the log's end, and nothing waits in its journal.
    pub is_current: bool,
    /// `None`: it did not answer.
    pub place: Option<Place>,
}

/// Where a node stands in the log by its own figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub position: u64,
    pub lag: u64,
    pub journal: u64,
    /// Times that everything tagged became stale.
    pub softened: u64,
    pub is_soft: bool,
}

impl Place {
    /// As a node's metrics say it.
    pub fn of(metrics: &str) -> Option<Self> {
        let figure = |name: &str| {
            let mut lines = metrics.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.parse::<u64>().ok()
        };
        Some(Self {
            position: figure("parvis_fleet_position")?,
            lag: figure("parvis_fleet_lag")?,
            journal: figure("parvis_fleet_journal")?,
            softened: figure("parvis_fleet_softened_total")?,
            is_soft: figure("parvis_fleet_soft")? > 0,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { position, lag, journal, softened, is_soft } = self;
        let soft = if *is_soft { "soft" } else { "not soft" };
        write!(
            formatter,
            "at {position} of the log, {lag} behind, {journal} in its journal, {soft}, softened {softened} times"
        )
    }
}

/// How late the machine woke a thread that wanted to be woken: (when, how much, how much up to then).
#[derive(Clone, Debug, Default)]
pub struct Lateness(Vec<(Duration, Duration)>);

impl Lateness {
    pub fn note(&mut self, at: Duration, late: Duration) {
        let before = self.0.last().map_or(Duration::ZERO, |(_, sum)| *sum);
        self.0.push((at, before + late));
    }

    pub fn within(&self, from: Duration, to: Duration) -> Duration {
        let sum = |until: Duration| {
            let at = self.0.partition_point(|(at, _)| *at <= until);
            at.checked_sub(1).map_or(Duration::ZERO, |at| self.0[at].1)
        };
        // What was late shows when it is over.
        sum(to + Duration::from_millis(20)).saturating_sub(sum(from))
    }

    pub fn whole(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |(_, sum)| *sum)
    }
}

/// The settings that the bounds follow from.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub proof_max: Duration,
    pub refill_trust: Duration,
    /// What the nodes are promised to do; a run without echoes has the same.
    pub echo: Duration,
    /// The longest time that a page takes to render.
    pub render_max: Duration,
    pub is_strict: [bool; super::NODES],
}

/// P2: without faults, after the log has a purge.
const CONNECTED: Duration = Duration::from_millis(250);
/// Purges of so long a time have one echo (`fleet::echo`).
const ECHO_TOGETHER: Duration = Duration::from_millis(100);
/// A background refresh of a page that renders at once.
const REFRESH: Duration = Duration::from_secs(1);
/// How long a writer takes to find a Redis that is back, and to append again what it had forgotten.
pub const APPENDED_AGAIN: Duration = Duration::from_secs(3);
/// A hop may wait as long as the watchdog did, and there are several.
const HOPS: u32 = 4;

/// From when on a node may show no older version.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Duration,
    /// What is older may then be shown once more, as grace: that read starts the refresh.
    as_grace: bool,
}

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub reads: Vec<Read>,
    pub writes: Vec<Write>,
    pub windows: Vec<Window>,
    pub polls: Vec<Poll>,
    pub late: Lateness,
}

/// What a history comes to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub violations: Vec<String>,
    pub violations_in_all: usize,
    /// The longest time after an acknowledgement with 200 that an older version was shown as good.
    pub stale_max: Duration,
    /// The same after a 202, whose purge waits in the journal of a node that cannot reach the log.
    pub journaled_max: Duration,
    /// The same with what was marked as grace.
    pub marked_max: Duration,
}

impl History {
    /// Checks each read. Messages of at most ten violations, each with the page's history.
    pub fn check(mut self, rules: &Rules) -> Findings {
        self.reads.sort_by_key(|read| (read.page, read.node, read.began));
        self.writes.sort_by_key(|write| (write.page, write.version));
        let mut found = Findings::default();
        for reads in self.reads.chunk_by(|a, b| (a.page, a.node) == (b.page, b.node)) {
            let page = reads[0].page;
            let writes: Vec<_> = self.writes.iter().filter(|write| write.page == page).collect();
            let dues: Vec<_> =
                writes.iter().map(|write| self.due(rules, write, reads[0].node)).collect();
            for read in reads {
                self.judge(read, (reads, &writes, &dues), &mut found);
            }
        }
        found
    }

    fn judge(
        &self,
        read: &Read,
        (reads, writes, dues): (&[Read], &[&Write], &[Option<Due>]),
        found: &mut Findings,
    ) {
        let from = writes.partition_point(|write| write.version <= read.version);
        let mut is_first = true;
        for (write, due) in writes[from..].iter().zip(&dues[from..]) {
            let acked = write.acked.filter(|(at, _)| *at <= read.began);
            let Some((acked, reach)) = acked else { continue };
            let stale = read.began.saturating_sub(acked.max(write.visible));
            if std::mem::take(&mut is_first) {
                let max = match reach {
                    _ if read.is_marked => &mut found.marked_max,
                    Reach::Journaled => &mut found.journaled_max,
                    Reach::Logged | Reach::Fleet => &mut found.stale_max,
                };
                *max = stale.max(*max);
            }
            let Some(due) = due else { continue };
            if !self.is_broken(*due, read, reads) {
                continue;
            }
            found.violations_in_all += 1;
            if found.violations.len() < 10 {
                let said = if read.is_marked { "as grace" } else { "as good" };
                found.violations.push(format!(
                    "page {}: node {} showed version {} {said} in a read that began at {:?}; \
                     version {} was acknowledged at {acked:?}, due there at {:?}\n{}{}",
                    read.page,
                    read.node,
                    read.version,
                    read.began,
                    write.version,
                    due.at,
                    self.places(read.began),
                    self.of_page(read.page)
                ));
            }
            return;
        }
    }

    fn is_broken(&self, due: Due, read: &Read, reads: &[Read]) -> bool {
        if read.began < due.at {
            return false;
        }
        if !(due.as_grace && read.is_marked) {
            return true;
        }
        let first = reads.partition_point(|other| other.began < due.at);
        let asked = reads.get(first).map_or(Duration::MAX, |first| first.ended);
        let refreshed = asked.saturating_add(REFRESH);
        read.began >= refreshed.saturating_add(HOPS * self.late.within(asked, refreshed))
    }

    /// `None`: that node is not obliged.
    fn due(&self, rules: &Rules, write: &Write, node: usize) -> Option<Due> {
        let (acked, reach) = write.acked?;
        let is_early = write.visible > write.sent;
        // What an owner gave in the meantime is purged again when the owner does that.
        let echo = if is_early { rules.echo + 2 * ECHO_TOGETHER } else { Duration::ZERO };
        let connected = if is_early { 2 * CONNECTED } else { CONNECTED };
        let (known, work) = (acked.max(write.visible), echo + connected);
        if node == write.node {
            let at = if is_early { self.extended(known, work, Duration::ZERO) } else { acked };
            return Some(Due { at, as_grace: false });
        }
        let until = self.extended(known, CONNECTED, Duration::ZERO);
        if reach != Reach::Journaled && !self.is_disturbed(write.node, node, (acked, until)) {
            let is_applied = reach == Reach::Fleet && !is_early;
            let at = if is_applied { acked } else { self.extended(known, work, Duration::ZERO) };
            return Some(Due { at, as_grace: false });
        }
        let mut base = known;
        if reach == Reach::Journaled {
            base = base.max(self.current(write.node, acked)?);
        }
        let about = |window: &&Window| {
            window.forgets && acked + CONNECTED >= window.began && acked <= window.over
        };
        if let Some(window) = self.windows.iter().find(about) {
            base = base.max(window.over + APPENDED_AGAIN);
        }
        if blocks::has(write.page) {
            // While a node cannot read the log PHP gets old blocks from it, however often it renders. Who
            // proves the log's end by then has done the clean and the purge, or holds all for missed.
            base = self.current(node, base + rules.proof_max)?;
            let at = self.extended(base, work, Duration::ZERO);
            return Some(Due { at, as_grace: !rules.is_strict[node] });
        }
        let trusted = if rules.is_strict[node] { Duration::ZERO } else { rules.refill_trust };
        let waiting = rules.proof_max + trusted + rules.render_max;
        Some(Due { at: self.extended(base, work, waiting), as_grace: !rules.is_strict[node] })
    }

    /// A bound counts from a time. What nodes do in it takes longer by what the machine was late of
    /// it, at its begin and at its end; what they wait for in between does not.
    fn extended(&self, from: Duration, work: Duration, waiting: Duration) -> Duration {
        let began = from + HOPS * self.late.within(from, from + work);
        let end = began + waiting + work;
        end + HOPS * self.late.within(end.saturating_sub(work).max(from + work), end)
    }

    /// Was there a fault in this time, or was one of these nodes not current for any other reason?
    fn is_disturbed(&self, one: usize, other: usize, (from, to): (Duration, Duration)) -> bool {
        let around = Duration::from_secs(1);
        self.windows.iter().any(|window| window.began <= to && from <= window.settled)
            || self.polls.iter().any(|poll| {
                let is_of = poll.node == one || poll.node == other;
                is_of
                    && !poll.is_current
                    && poll.began <= to + around
                    && from <= poll.ended + around
            })
    }

    /// When a node was seen after this to know the log's end, with an empty journal.
    fn current(&self, node: usize, after: Duration) -> Option<Duration> {
        let is_it = |poll: &&Poll| poll.node == node && poll.began > after && poll.is_current;
        self.polls.iter().find(is_it).map(|poll| poll.ended)
    }

    /// Where each node stood at this time: by the last look at it before, and the first after it.
    fn places(&self, at: Duration) -> String {
        let told = |poll: &Poll| match &poll.place {
            Some(place) => format!("{place} ({:?})", poll.ended),
            None => format!("it did not answer ({:?})", poll.ended),
        };
        let of_node = |node: usize| {
            let of = || self.polls.iter().filter(move |poll| poll.node == node);
            let before = of().filter(|poll| poll.ended <= at).max_by_key(|poll| poll.ended);
            let after = of().filter(|poll| poll.began > at).min_by_key(|poll| poll.began);
            let looks = before.into_iter().chain(after).map(told).collect::<Vec<_>>();
            format!("  node {node}: {}\n", looks.join("; then "))
        };
        (0..super::NODES).map(of_node).collect()
    }

    /// What happened to a page, in order; reads that saw the same in a row are one line.
    fn of_page(&self, page: usize) -> String {
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for write in self.writes.iter().filter(|write| write.page == page) {
            let text = format!(
                "version {} at node {}: visible at {:?}, purge sent at {:?}, answered {:?}",
                write.version, write.node, write.visible, write.sent, write.acked
            );
            lines.push((write.visible.min(write.sent), text));
        }
        let same = |a: &Read, b: &Read| {
            (a.node, a.version, a.is_marked) == (b.node, b.version, b.is_marked)
        };
        let of_page: Vec<_> = self.reads.iter().filter(|read| read.page == page).copied().collect();
        for run in of_page.chunk_by(same) {
            let (first, last) = (run[0], run[run.len() - 1]);
            let grace = if first.is_marked { " as grace" } else { "" };
            let text = format!(
                "  node {} shows {}{grace}, {} times until {:?}",
                first.node,
                first.version,
                run.len(),
                last.ended
            );
            lines.push((first.began, text));
        }
        for window in &self.windows {
            lines.push((window.began, "-- the fault begins".to_owned()));
            lines.push((window.over, "-- its cause is gone".to_owned()));
            lines.push((window.settled, "-- all nodes are current".to_owned()));
        }
        lines.sort();
        lines.iter().map(|(at, text)| format!("{at:>14?} {text}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const RULES: Rules = Rules {
        proof_max: ms(1_000),
        refill_trust: ms(1_000),
        echo: ms(1_000),
        render_max: ms(0),
        is_strict: [false, false, true],
    };

    fn read(node: usize, version: u64, began: u64) -> Read {
        let (began, ended) = (ms(began), ms(began + 1));
        Read { node, page: 0, version, began, ended, is_marked: false }
    }

    fn marked(node: usize, version: u64, began: u64) -> Read {
        Read { is_marked: true, ..read(node, version, began) }
    }

    fn write(reach: Reach) -> Write {
        let acked = Some((ms(102), reach));
        Write { page: 0, version: 1, node: 0, visible: ms(99), sent: ms(100), acked }
    }

    fn broken(reads: &[Read], write: Write, windows: &[Window]) -> usize {
        let (reads, windows) = (reads.to_vec(), windows.to_vec());
        let history = History { reads, writes: vec![write], windows, ..Default::default() };
        history.check(&RULES).violations_in_all
    }

    const FAULT: Window =
        Window { began: ms(100), over: ms(5_000), settled: ms(6_000), forgets: false };

    #[test]
    fn the_answering_node_may_show_nothing_older() {
        assert_eq!(broken(&[read(0, 0, 101), read(0, 1, 102)], write(Reach::Logged), &[]), 0);
        for windows in [&[][..], &[FAULT]] {
            assert_eq!(broken(&[read(0, 0, 102)], write(Reach::Journaled), windows), 1);
            assert_eq!(broken(&[marked(0, 0, 102)], write(Reach::Logged), windows), 1);
        }
    }

    #[test]
    fn another_node_has_250_ms_without_a_fault_and_none_where_the_answer_says_fleet() {
        assert_eq!(broken(&[read(1, 0, 351)], write(Reach::Logged), &[]), 0);
        assert_eq!(broken(&[read(1, 0, 352)], write(Reach::Logged), &[]), 1);
        assert_eq!(broken(&[read(1, 0, 102)], write(Reach::Fleet), &[]), 1);
    }

    #[test]
    fn under_a_fault_the_bound_is_that_of_proof_and_trust_and_a_strict_node_has_no_trust() {
        let at = |node, began| broken(&[read(node, 0, began)], write(Reach::Logged), &[FAULT]);
        assert_eq!((at(1, 2_351), at(1, 2_352)), (0, 1));
        assert_eq!((at(2, 1_351), at(2, 1_352)), (0, 1));
    }

    #[test]
    fn a_page_from_a_block_is_due_under_a_fault_once_its_node_knows_the_log_again() {
        let page = 1;
        let write = Write { page, ..write(Reach::Logged) };
        let poll = |began| Poll {
            node: 1,
            began: ms(began),
            ended: ms(began + 1),
            is_current: true,
            place: None,
        };
        let broken = |read: Read, polls: &[u64]| {
            let polls = polls.iter().map(|began| poll(*began)).collect();
            let (reads, windows) = (vec![Read { page, ..read }], vec![FAULT]);
            let history =
                History { reads, writes: vec![write], windows, polls, ..Default::default() };
            history.check(&RULES).violations_in_all
        };
        assert_eq!(
            broken(read(1, 0, 60_000), &[1_000]),
            0,
            "its proof may be older than the purge"
        );
        assert_eq!(broken(read(1, 0, 60_000), &[1_000, 50_000]), 1);
        assert_eq!(broken(read(1, 0, 50_200), &[1_000, 50_000]), 0);
        assert_eq!(broken(read(0, 0, 102), &[]), 1, "at the node that answered at once");
    }

    #[test]
    fn grace_ends_with_the_refresh_that_a_read_after_the_bound_has_started() {
        let reads = [marked(1, 0, 3_000), marked(1, 0, 4_000), marked(1, 0, 4_001)];
        assert_eq!(broken(&reads, write(Reach::Logged), &[FAULT]), 1);
        assert_eq!(broken(&reads[1..], write(Reach::Logged), &[FAULT]), 0);
        assert_eq!(broken(&[marked(2, 0, 4_000)], write(Reach::Logged), &[FAULT]), 1, "strict");
    }

    #[test]
    fn a_purge_in_a_journal_obliges_others_once_it_was_delivered_and_none_without_an_answer() {
        let write = write(Reach::Journaled);
        assert_eq!(broken(&[read(1, 0, 60_000)], write, &[FAULT]), 0);
        let (began, ended) = (ms(5_500), ms(5_501));
        let seen = Poll { node: 0, began, ended, is_current: true, place: None };
        let reads = vec![read(1, 0, 7_000), read(1, 0, 60_000)];
        let history =
            History { reads, writes: vec![write], polls: vec![seen], ..Default::default() };
        assert_eq!(history.check(&RULES).violations_in_all, 1);
        let unanswered = Write { acked: None, ..write };
        assert_eq!(broken(&[read(0, 0, 60_000)], unanswered, &[]), 0);
    }

    #[test]
    fn a_purge_before_its_commit_is_due_after_its_echo() {
        let early = Write { visible: ms(400), ..write(Reach::Logged) };
        let at = |node, began| broken(&[read(node, 0, began)], early, &[]);
        assert_eq!((at(0, 2_099), at(0, 2_100)), (0, 1));
        assert_eq!((at(1, 2_099), at(1, 2_100)), (0, 1));
    }

    #[test]
    fn a_violation_says_where_all_nodes_stood() {
        let metrics = "parvis_fleet_position 7\nparvis_fleet_lag 2\nparvis_fleet_journal 0\n\
                       parvis_fleet_journal_bytes 0\nparvis_fleet_softened_total 1\nparvis_fleet_soft 1\n";
        let place = Place::of(metrics);
        assert!(place.is_some_and(|place| place.is_soft) && Place::of("").is_none());
        let poll = |node, began, place| {
            let (began, ended) = (ms(began), ms(began + 1));
            Poll { node, began, ended, is_current: true, place }
        };
        let polls =
            vec![poll(0, 300, None), poll(1, 100, None), poll(1, 300, place), poll(1, 500, None)];
        let (reads, writes) = (vec![read(1, 0, 400)], vec![write(Reach::Fleet)]);
        let found = History { reads, writes, polls, ..Default::default() }.check(&RULES);
        let said = &found.violations[0];
        assert!(said.contains("node 0: it did not answer (301ms)\n"), "{said}");
        let of_1 = "node 1: at 7 of the log, 2 behind, 0 in its journal, soft, softened 1 times (301ms); \
                    then it did not answer (501ms)\n";
        assert!(said.contains(of_1), "{said}");
    }

    #[test]
    fn what_the_machine_lost_is_added_to_the_bound() {
        let mut history = History { writes: vec![write(Reach::Logged)], ..Default::default() };
        history.late.note(ms(200), ms(50));
        history.reads = vec![read(1, 0, 551)];
        assert_eq!(history.clone().check(&RULES).violations_in_all, 0);
        history.reads = vec![read(1, 0, 552)];
        let found = history.check(&RULES);
        assert_eq!((found.violations_in_all, found.stale_max), (1, ms(450)));
        assert!(found.violations[0].contains("node 1 shows 0, 1 times"), "{:?}", found.violations);
    }
}
