//! What was found out about addresses, remembered within bounds, and the questions that wait.
//!
//! The memory is in parts with a lock each: two cores wait for each other only where they ask for the same
//! few addresses at once. Browsers never come here.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::accounts::prefix;
use super::catalogue::Known;
use super::look_up::Verdict;
use crate::clock::Moment;
use crate::settings::KnownBots;

/// Parts of the memory.
const PARTS: usize = 64;

/// What is known of an address that claims to be a bot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet, or nothing can be.
    Unknown,
    /// It is the operator's.
    Proven,
    /// It is not.
    Refuted,
}

/// An address and what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    address: IpAddr,
    /// Of the hosts' names by which it can be proven, so that new data ask anew.
    proof: u64,
}

/// A claim that is to be looked up.
#[derive(Debug)]
pub(super) struct Question {
    pub address: IpAddr,
    pub known: Arc<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    standing: Standing,
    /// Then it is looked up again.
    fresh_until: Moment,
    /// Then it counts no more, whatever the look-ups say meanwhile.
    stands_until: Moment,
}

impl Entry {
    fn standing_at(&self, now: Moment) -> Standing {
        if now < self.stands_until { self.standing } else { Standing::Unknown }
    }
}

/// Two generations: what was used since the younger one began, and what was used in the one before.
#[derive(Debug, Default)]
struct Part {
    young: HashMap<Claim, Entry>,
    old: HashMap<Claim, Entry>,
}

impl Part {
    fn find(&mut self, claim: &Claim, generation_max: usize) -> Option<Entry> {
        if let Some(entry) = self.young.get(claim) {
            return Some(*entry);
        }
        let entry = self.old.remove(claim)?;
        self.keep(claim.clone(), entry, generation_max);
        Some(entry)
    }

    fn keep(&mut self, claim: Claim, entry: Entry, generation_max: usize) {
        if self.young.len() >= generation_max && !self.young.contains_key(&claim) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&claim);
        self.young.insert(claim, entry);
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// What of `[bots]` says how long something counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub proven_ttl: Duration,
    pub impostor_ttl: Duration,
    pub retry_after: Duration,
}

impl Times {
    pub fn of(settings: &KnownBots) -> Self {
        let KnownBots { proven_ttl, impostor_ttl, retry_after, .. } = *settings;
        Self { proven_ttl, impostor_ttl, retry_after }
    }
}

/// The memory and the queue.
#[derive(Debug)]
pub(super) struct Proofs {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    /// Entries of one generation of one part.
    generation_max: usize,
    questions: mpsc::Sender<Question>,
    /// Networks of the addresses that wait or are looked up, and until when an answer is waited for.
    asked: Mutex<HashMap<Network, Moment>>,
    unasked: AtomicU64,
}

/// The /24 of an IPv4 address, the /48 of an IPv6 address. One question of each at a time: who has one, and its names
/// on a server that does not answer, would fill the queue with addresses of it, and others stay unproven.
type Network = (bool, u128);

fn network(address: IpAddr) -> Network {
    prefix(address, 24, 48)
}

impl Proofs {
    /// An empty memory, and where the questions come out.
    pub fn new(settings: &KnownBots) -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(settings.queue_max);
        let proofs = Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            generation_max: (settings.remembered_max / PARTS / 2).max(1),
            questions,
            asked: Mutex::default(),
            unasked: AtomicU64::new(0),
        };
        (proofs, asked)
    }

    /// What is known of a claim. Who is unknown, or was looked up too long ago, is queued once, when nobody else of
    /// its network is; meanwhile what was known counts. `patience`: the question is not asked again before.
    pub fn standing(
        &self,
        known: &Arc<Known>,
        address: IpAddr,
        now: Moment,
        patience: Duration,
    ) -> Standing {
        let claim = self.claim(known, address);
        let mut part = self.part(&claim).lock();
        let before = part.find(&claim, self.generation_max);
        let standing = before.map_or(Standing::Unknown, |entry| entry.standing_at(now));
        if before.is_some_and(|entry| now < entry.fresh_until) {
            return standing;
        }
        if !self.ask(address, known, now, patience) {
            return standing;
        }
        let stands_until = before.map_or(now, |entry| entry.stands_until);
        let entry = Entry { standing, fresh_until: now.plus(patience), stands_until };
        part.keep(claim, entry, self.generation_max);
        standing
    }

    /// False: it has to come again.
    fn ask(&self, address: IpAddr, known: &Arc<Known>, now: Moment, patience: Duration) -> bool {
        let mut asked = self.asked.lock();
        if asked.get(&network(address)).is_some_and(|until| now < *until) {
            return false;
        }
        let is_sent =
            self.questions.try_send(Question { address, known: Arc::clone(known) }).is_ok();
        if is_sent {
            // Without questions that are lost there are never so many.
            if asked.len() > 2 * self.questions.max_capacity() {
                asked.retain(|_, until| now < *until);
            }
            asked.insert(network(address), now.plus(patience));
        } else {
            self.unasked.fetch_add(1, Ordering::Relaxed);
        }
        is_sent
    }

    /// Remembers what a look-up said.
    pub fn learn(&self, question: &Question, verdict: Verdict, now: Moment, times: Times) {
        self.asked.lock().remove(&network(question.address));
        let claim = self.claim(&question.known, question.address);
        let mut part = self.part(&claim).lock();
        let entry = match verdict {
            Verdict::Proven => lasting(Standing::Proven, now, times.proven_ttl),
            Verdict::Refuted => lasting(Standing::Refuted, now, times.impostor_ttl),
            Verdict::Unprovable => lasting(Standing::Unknown, now, times.impostor_ttl),
            // That nobody answers proves nothing, and refutes nothing that was proven.
            Verdict::Unanswered => {
                let before = part.find(&claim, self.generation_max);
                Entry {
                    standing: before.map_or(Standing::Unknown, |entry| entry.standing),
                    fresh_until: now.plus(times.retry_after),
                    stands_until: before.map_or(now, |entry| entry.stands_until),
                }
            }
        };
        part.keep(claim, entry, self.generation_max);
    }

    /// Claims that are remembered.
    pub fn remembered(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len()).sum()
    }

    /// Questions that wait.
    pub fn queued(&self) -> usize {
        self.questions.max_capacity() - self.questions.capacity()
    }

    /// Questions for which there was no room.
    pub fn unasked(&self) -> u64 {
        self.unasked.load(Ordering::Relaxed)
    }

    fn claim(&self, known: &Known, address: IpAddr) -> Claim {
        let proof = self.hasher.hash_one((&known.name, &known.hosts, known.hosts_resolve));
        Claim { address, proof }
    }

    fn part(&self, claim: &Claim) -> &Mutex<Part> {
        let hash = usize::try_from(self.hasher.hash_one(claim)).unwrap_or_default();
        &self.parts[hash % PARTS]
    }
}

/// It is looked up again after its time, and stands for as long once more if nobody answers then.
fn lasting(standing: Standing, now: Moment, ttl: Duration) -> Entry {
    let fresh_until = now.plus(ttl);
    Entry { standing, fresh_until, stands_until: fresh_until.plus(ttl) }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::tests::known;
    use super::*;

    const TIMES: Times = Times {
        proven_ttl: Duration::from_secs(100),
        impostor_ttl: Duration::from_secs(10),
        retry_after: Duration::from_secs(1),
    };
    const PATIENCE: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Moment {
        Moment::from_milliseconds(seconds * 1_000)
    }

    /// An address of a network of its own.
    fn of_network(number: u32) -> IpAddr {
        IpAddr::V4((number << 8).into())
    }

    struct Bench {
        proofs: Proofs,
        asked: mpsc::Receiver<Question>,
        known: Arc<Known>,
    }

    impl Bench {
        fn new(queue_max: usize, remembered_max: usize) -> Self {
            let settings = KnownBots { queue_max, remembered_max, ..KnownBots::default() };
            let (proofs, asked) = Proofs::new(&settings);
            Self { proofs, asked, known: known("a", &["a.example"]) }
        }

        fn standing(&self, address: u32, now: u64) -> Standing {
            self.proofs.standing(&self.known, of_network(address), at(now), PATIENCE)
        }

        fn answer(&mut self, verdict: Verdict, now: u64) {
            let question = self.asked.try_recv().expect("asked");
            self.proofs.learn(&question, verdict, at(now), TIMES);
        }

        fn is_silent(&mut self) -> bool {
            self.asked.try_recv().is_err()
        }
    }

    #[test]
    fn a_claim_is_asked_once_and_known_for_its_time() {
        let mut bench = Bench::new(10, 10_000);
        assert_eq!(bench.standing(1, 0), Standing::Unknown);
        assert_eq!(bench.standing(1, 1), Standing::Unknown);
        bench.answer(Verdict::Proven, 2);
        assert!(bench.is_silent(), "it was asked once");
        assert_eq!(bench.standing(1, 101), Standing::Proven);
        assert!(bench.is_silent());
        assert_eq!(bench.standing(1, 102), Standing::Proven, "it stands while it is asked again");
        bench.answer(Verdict::Refuted, 103);
        assert_eq!(bench.standing(1, 112), Standing::Refuted);
        assert!(bench.is_silent(), "the negative answer is remembered, too");
        assert_eq!(bench.standing(1, 113), Standing::Refuted);
        assert!(!bench.is_silent());
    }

    #[test]
    fn a_look_up_that_fails_convicts_nobody() {
        let mut bench = Bench::new(10, 10_000);
        bench.standing(1, 0);
        bench.answer(Verdict::Unanswered, 1);
        assert_eq!(bench.standing(1, 1), Standing::Unknown);
        assert!(bench.is_silent(), "not before its time");
        assert_eq!(bench.standing(1, 2), Standing::Unknown);
        bench.answer(Verdict::Proven, 2);
        assert_eq!(bench.standing(1, 102), Standing::Proven);
        bench.answer(Verdict::Unanswered, 103);
        assert_eq!(bench.standing(1, 103), Standing::Proven, "what was proven stays so");
        assert_eq!(bench.standing(1, 104), Standing::Proven);
        bench.answer(Verdict::Unanswered, 200);
        assert_eq!(bench.standing(1, 202), Standing::Unknown, "but not for ever");
    }

    #[test]
    fn a_question_that_is_lost_is_asked_again() {
        let mut bench = Bench::new(10, 10_000);
        bench.standing(1, 0);
        assert!(!bench.is_silent());
        bench.standing(1, 4);
        assert!(bench.is_silent());
        bench.standing(1, 5);
        assert!(!bench.is_silent());
    }

    #[test]
    fn a_network_has_one_question_at_a_time() {
        let mut bench = Bench::new(10, 10_000);
        let standing = |bench: &Bench, address: &str| {
            let address = address.parse().expect("an address");
            bench.proofs.standing(&bench.known, address, at(0), PATIENCE)
        };
        // The zone of these is on a server that does not answer.
        for number in 0..1_000 {
            standing(&bench, &format!("2001:db8:0:{number:x}::1"));
            standing(&bench, &format!("192.0.2.{}", number % 256));
        }
        assert_eq!((bench.proofs.queued(), bench.proofs.unasked()), (2, 0));
        standing(&bench, "2001:db8:1::1");
        assert_eq!(bench.proofs.queued(), 3, "another's question finds room");
        bench.answer(Verdict::Proven, 0);
        assert_eq!(standing(&bench, "2001:db8::1"), Standing::Proven);
        standing(&bench, "2001:db8::2");
        assert_eq!(bench.proofs.queued(), 3, "and now the next one of that network");
    }

    #[test]
    fn what_nobody_can_prove_is_not_asked_each_time() {
        let mut bench = Bench::new(10, 10_000);
        bench.standing(1, 0);
        bench.answer(Verdict::Unprovable, 0);
        assert_eq!(bench.standing(1, 9), Standing::Unknown);
        assert!(bench.is_silent());
    }

    #[test]
    fn where_the_queue_is_full_nothing_is_remembered_and_it_is_counted() {
        let bench = Bench::new(2, 10_000);
        for address in 0..5 {
            assert_eq!(bench.standing(address, 0), Standing::Unknown);
        }
        assert_eq!((bench.proofs.unasked(), bench.proofs.queued()), (3, 2));
        assert_eq!(bench.proofs.remembered(), 2);
    }

    #[test]
    fn another_bot_or_other_hosts_are_another_claim() {
        let mut bench = Bench::new(10, 10_000);
        bench.standing(1, 0);
        bench.answer(Verdict::Proven, 0);
        for other in [known("b", &["a.example"]), known("a", &["b.example"])] {
            let standing = bench.proofs.standing(&other, of_network(1), at(1), PATIENCE);
            assert_eq!(standing, Standing::Unknown);
        }
        let same = known("a", &["a.example"]);
        let standing = bench.proofs.standing(&same, of_network(1), at(1), PATIENCE);
        assert_eq!(standing, Standing::Proven, "read again, and the same");
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let most = 100 * PARTS;
        let mut bench = Bench::new(1, most);
        bench.standing(u32::MAX, 0);
        bench.answer(Verdict::Proven, 0);
        for address in 0..20_000 {
            bench.standing(address, 1);
            bench.answer(Verdict::Refuted, 1);
            if address % 100 == 0 {
                assert_eq!(bench.standing(u32::MAX, 1), Standing::Proven, "{address}");
            }
        }
        assert!(bench.proofs.remembered() <= most, "{}", bench.proofs.remembered());
        assert!(bench.proofs.remembered() > most / 3, "{}", bench.proofs.remembered());
    }
}
