//! A million stored responses: what each takes in memory beyond its content and head, how long
//! purges take, and whether look-ups notice them.
//!
//! `cargo bench --bench scale` takes about 3 GiB and a minute; `-- 200000` stores fewer. As a test
//! it stores a few, and looks at what purges reach alone.
#![expect(clippy::expect_used, reason = "a bench that cannot run may stop")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parvis::clock::Clock;
use parvis::exchange::StoredHead;
use parvis::fields::Fields;
use parvis::settings;
use parvis::store::{Found, NewEntry, Store};

use stored::{key, mixed_tags, own_tag, response};

#[path = "scenarios/stored.rs"]
mod stored;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TAGS_EACH: usize = 10;

/// How often a purge is repeated, each time of another tag.
const PURGES: usize = 9;

/// Responses that purges of tags of one size reach in all.
const PURGED_MAX: usize = 300_000;

/// Lines of a head as a shop sends it, next to a long one.
const HEAD: [(&str, &str); 12] = [
    ("Content-Type", "text/html; charset=UTF-8"),
    ("Vary", "Accept-Encoding"),
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0"),
    ("Expires", "-1"),
    ("ETag", "W/\"0123456789abcdef\""),
    ("X-Content-Type-Options", "nosniff"),
    ("X-XSS-Protection", "1; mode=block"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin"),
    ("Strict-Transport-Security", "max-age=31536000"),
    ("Content-Security-Policy-Report-Only", "default-src 'self'"),
];

/// Says how many lines the heads have that a child process stores: memory that one store has freed
/// would hide what the next one takes.
const LINES: &str = "SCALE_HEAD_LINES";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = words.iter().any(|word| word == "--bench");
    let wanted = words.iter().find_map(|word| word.parse().ok());
    let objects = wanted.unwrap_or(if is_bench { 1_000_000 } else { 5_000 });
    if let Some(lines) = std::env::var(LINES).ok().and_then(|lines| lines.parse().ok()) {
        Shop::open(objects, lines).measure();
        return;
    }
    let this = std::env::current_exe().expect("it has a path");
    for lines in [1, HEAD.len()] {
        let mut child = Command::new(&this);
        let ended = child.args(&words).env(LINES, lines.to_string()).status();
        assert!(ended.expect("it starts").success());
    }
}

/// A filled store and who looks things up in it.
struct Shop {
    store: Store,
    clock: Clock,
    objects: usize,
    lines: usize,
    /// What look-ups are counted for at the moment.
    phase: AtomicU8,
    closing: AtomicBool,
}

/// What look-ups are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pause,
    Quiet,
    PurgingFew,
    PurgingMany,
    Removing,
}

/// What is said of them, in the order of the phases after the pause.
const PHASES: [&str; 4] = [
    "between purges",
    "while 1,000 or fewer are purged",
    "while more are",
    "while they are removed",
];

/// Ends the look-ups, also where something else fails: they would go on for ever.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Shop {
    fn open(objects: usize, lines: usize) -> Self {
        let clock = Clock::system();
        let settings = settings::Store { memory_bytes: 16 << 30, ..settings::Store::default() };
        let shop = Self {
            store: Store::new(&settings, clock.clone()),
            clock,
            objects,
            lines,
            phase: AtomicU8::new(Phase::Pause as u8),
            closing: AtomicBool::new(false),
        };
        let (before_bytes, began) = (resident_bytes(), shop.clock.elapsed());
        let mut content_bytes = 0;
        for number in 0..objects {
            content_bytes += shop.insert(number);
        }
        let took = shop.clock.elapsed().saturating_sub(began);
        shop.store.maintain();
        let stats = shop.store.stats();
        assert_eq!(stats.objects, objects as u64);
        let grown = resident_bytes().saturating_sub(before_bytes) / objects as u64;
        let content_bytes = content_bytes / objects as u64;
        println!("{objects} responses with {TAGS_EACH} tags and {lines} lines of head");
        println!("  stored in {} us each", took.as_micros() / objects as u128);
        println!(
            "  {grown} bytes resident each, {content_bytes} of them content and head: {} of \
             bookkeeping; weighed {}",
            grown.saturating_sub(content_bytes),
            stats.bytes / stats.objects,
        );
        shop
    }

    /// Stores a response and says how long its content and head are.
    fn insert(&self, number: usize) -> u64 {
        let mut fields = Fields::new();
        for (name, value) in &HEAD[..self.lines] {
            fields.push_static(name, (*value).to_owned());
        }
        let head = StoredHead::new(fields);
        let new = NewEntry { head, ..response(number, tags(number, self.objects)) };
        let literal = new.body.only().expect("one literal");
        let bytes = literal.identity_bytes() + new.head.http1().len() as u64;
        assert!(self.store.insert(self.store.mark(), new).is_ok());
        bytes
    }

    fn measure(self) {
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.look_up_all_the_time());
            let closing = Closing(&self.closing);
            self.count_for(Phase::Quiet, || std::thread::sleep(Duration::from_millis(500)));
            for in_each in [1, 1_000, 100_000].into_iter().filter(|each| each * 5 <= self.objects) {
                self.purge_tags_of(in_each);
            }
            self.purge_everything();
            for number in (0..self.objects).step_by(997) {
                let found = self.store.lookup(&key(number), self.clock.now());
                assert!(!matches!(found, Found::Fresh(_)), "what was purged is gone");
            }
            drop(closing);
            for (phase, times) in PHASES.iter().zip(reader.join().expect("it ends")) {
                println!("  look-ups {phase}: {}", percentiles(times));
            }
        });
    }

    /// Purges tags that so many responses carry, stores those again, and says what it took.
    fn purge_tags_of(&self, in_each: usize) {
        let (mut took, mut removing) = (Vec::new(), Duration::ZERO);
        let tags = (PURGED_MAX / in_each).min(self.objects / in_each);
        for round in 0..PURGES.min(tags) {
            let tag = group_tag(in_each, round);
            let began = self.clock.elapsed();
            let phase = if in_each <= 1_000 { Phase::PurgingFew } else { Phase::PurgingMany };
            let purged = self.count_for(phase, || self.store.purge_tags(&[tag], false));
            took.push(self.clock.elapsed().saturating_sub(began));
            assert_eq!(purged.responses, in_each as u64);
            let began = self.clock.elapsed();
            self.count_for(Phase::Removing, || self.store.maintain());
            removing = removing.max(self.clock.elapsed().saturating_sub(began));
            (round * in_each..(round + 1) * in_each).for_each(|number| _ = self.insert(number));
            std::thread::sleep(Duration::from_millis(20));
        }
        took.sort_unstable();
        let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
        println!(
            "  a tag of {in_each}: {median:.2?}, at most {most:.2?}; removed later in {removing:.2?}"
        );
    }

    fn purge_everything(&self) {
        let began = self.clock.elapsed();
        let purged = self.count_for(Phase::PurgingMany, || self.store.purge_all(false));
        let took = self.clock.elapsed().saturating_sub(began);
        assert_eq!(purged.responses, self.objects as u64);
        println!("  everything: {took:.2?}");
    }

    fn count_for<T>(&self, phase: Phase, work: impl FnOnce() -> T) -> T {
        self.phase.store(phase as u8, Ordering::SeqCst);
        let done = work();
        self.phase.store(Phase::Pause as u8, Ordering::SeqCst);
        done
    }

    /// Times of look-ups in nanoseconds, by phase.
    fn look_up_all_the_time(&self) -> [Vec<u64>; PHASES.len()] {
        let mut times = [const { Vec::new() }; PHASES.len()];
        let keys: Vec<_> = (0..4_096).map(|n| key(n * self.objects / 4_096)).collect();
        for key in keys.iter().cycle() {
            if self.closing.load(Ordering::SeqCst) {
                break;
            }
            let phase = self.phase.load(Ordering::SeqCst);
            let began = self.clock.elapsed();
            let found = self.store.lookup(key, self.clock.now());
            let took = self.clock.elapsed().saturating_sub(began).as_nanos() as u64;
            drop(found);
            if phase != Phase::Pause as u8 {
                times[usize::from(phase) - 1].push(took);
            }
        }
        times
    }
}

fn percentiles(mut nanoseconds: Vec<u64>) -> String {
    nanoseconds.sort_unstable();
    let at = |part: usize| nanoseconds.get((nanoseconds.len() * part / 10_000).saturating_sub(1));
    let show = |part| Duration::from_nanos(at(part).copied().unwrap_or_default());
    let [half, p99, p999, most] = [5_000, 9_900, 9_990, 10_000].map(show);
    format!(
        "{} of {half:.2?}, p99 {p99:.2?}, p99.9 {p999:.2?}, at most {most:.2?}",
        nanoseconds.len()
    )
}

/// Its own, others that about a hundred responses share, and two by which purges are measured.
fn tags(number: usize, objects: usize) -> Vec<Bytes> {
    let groups = [1_000, 100_000].map(|in_each| group_tag(in_each, number / in_each));
    let mut tags = mixed_tags(number, TAGS_EACH - groups.len(), objects / 12);
    tags.extend(groups);
    tags
}

/// The tag of so many responses with consecutive numbers.
fn group_tag(in_each: usize, group: usize) -> Bytes {
    if in_each == 1 { own_tag(group) } else { Bytes::from(format!("group_{in_each}_{group}")) }
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
