//! `store.memory_bytes` is a promise: a store that is filled with 100,000 pages of mixed sizes keeps
//! the resident memory of its process below the limit plus 15 %.
//!
//! A process of its own, with the allocator of the binary. Also says what one response costs.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parvis::clock::Clock;
use parvis::exchange::StoredHead;
use parvis::fields::Fields;
use parvis::policy::CacheKey;
use parvis::settings;
use parvis::store::{Encoded, Forms, Found, NewEntry, Segment, Store, StoredBody};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PAGES: u64 = 100_000;

/// Cases by name. Each runs in a process of its own, since memory that one case has freed would hide
/// what the next one takes.
///
/// Threads that fill at full speed leave the allocator with some 40 MiB of free pages, which it gives
/// back within ten seconds; that is a small part of the default limit and would be a large one of
/// the others, which show the accounting.
const CASES: [Case; 4] = [
    Case { name: "mixed", limit_mib: 512, threads: 4, pages: Pages::Mixed },
    Case { name: "mixed-small-store", limit_mib: 64, threads: 1, pages: Pages::Mixed },
    Case { name: "tiny", limit_mib: 64, threads: 1, pages: Pages::Tiny },
    Case { name: "tagged", limit_mib: 128, threads: 1, pages: Pages::Tagged },
];

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    limit_mib: u64,
    threads: u64,
    pages: Pages,
}

fn main() -> std::io::Result<()> {
    if let Ok(wanted) = std::env::var(CASE) {
        for case in CASES.into_iter().filter(|case| case.name == wanted) {
            assert!(case.fill(), "{wanted}: above the limit plus 15 %");
        }
        return Ok(());
    }
    let this = std::env::current_exe()?;
    for Case { name, .. } in CASES {
        let case = std::process::Command::new(&this).env(CASE, name).status()?;
        assert!(case.success(), "{name} failed");
    }
    Ok(())
}

/// Names the case that a child process runs.
const CASE: &str = "STORE_MEMORY_CASE";

#[derive(Clone, Copy)]
enum Pages {
    /// 1 to 380 KiB, mostly small; heads of 5 KB, 1 to 38 tags.
    Mixed,
    /// Hardly any content, so that bookkeeping is what is measured.
    Tiny,
    /// Small content and many tags, half of them its own.
    Tagged,
}

impl Case {
    /// Fills a store twice over, with a flush in between, and compares the process' growth with the
    /// limit.
    fn fill(self) -> bool {
        let Self { name, limit_mib, threads, pages } = self;
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let noise: Vec<u8> = (0..1 << 20).map(|_| dice.roll(256) as u8).collect();
        let before = resident_bytes();
        let clock = Clock::system();
        let memory_bytes = limit_mib << 20;
        let settings = settings::Store { memory_bytes, ..settings::Store::default() };
        let store = Store::new(&settings, clock.clone());
        let mut most = 0;
        for round in 0..2 {
            let ends = std::thread::scope(|scope| {
                let fillers: Vec<_> = (0..threads)
                    .map(|thread| {
                        let numbers = (thread..PAGES).step_by(threads as usize);
                        let (store, clock, noise) = (&store, &clock, &noise);
                        let filler = Filler { store, clock, noise, pages };
                        scope.spawn(move || filler.fill(numbers, thread + 1))
                    })
                    .collect();
                fillers.into_iter().map(|filler| filler.join().unwrap_or(u64::MAX)).max()
            });
            most = most.max(ends.unwrap_or_default().saturating_sub(before));
            let stats = store.stats();
            println!(
                "{name}, round {round}: {} of {limit_mib} MiB weighed, {} MiB resident at most \
                 ({} % of the limit), {} objects of {} bytes, {} evictions",
                stats.bytes >> 20,
                most >> 20,
                most * 100 / memory_bytes,
                stats.objects,
                stats.bytes / stats.objects.max(1),
                stats.evictions,
            );
            if round == 0 {
                store.purge_all(false);
            }
        }
        most <= memory_bytes / 100 * 115
    }
}

/// One of the threads that fill the store.
struct Filler<'a> {
    store: &'a Store,
    clock: &'a Clock,
    noise: &'a [u8],
    pages: Pages,
}

impl Filler<'_> {
    /// Stores these pages and says what was resident at most.
    fn fill(&self, numbers: impl Iterator<Item = u64>, seed: u64) -> u64 {
        let mut dice = Dice(seed);
        let mut most = 0;
        for number in numbers {
            let page = page(number, self.pages, &mut dice, self.noise);
            // Some pages are asked for again, so that the store prefers them.
            for _ in 0..=dice.roll(3) {
                if let Found::Fresh(entry) = self.store.lookup(&page.key, self.clock.now()) {
                    let _ = self.store.identity(&entry, 0);
                }
            }
            if let Ok(entry) = self.store.insert(self.store.mark(), page)
                && number.is_multiple_of(10)
            {
                let _ = self.store.identity(&entry, 0);
            }
            if dice.roll(16) == 0 {
                let tag = Bytes::from(format!("cat_p_{}", dice.roll(PAGES)));
                self.store.purge_tags(&[tag], false);
            }
            if dice.roll(250) == 0 {
                most = most.max(resident_bytes());
            }
        }
        most.max(resident_bytes())
    }
}

fn page(number: u64, pages: Pages, dice: &mut Dice, noise: &[u8]) -> NewEntry {
    let (content_bytes, head_bytes, own_tags, shared_tags) = match pages {
        Pages::Mixed => (1_000 + (1 << dice.roll(8)) * dice.roll(1_500), 4_600, 1, dice.roll(38)),
        Pages::Tiny => (10, 10, 0, 1),
        Pages::Tagged => (1_000, 100, 20, 20),
    };
    let start = dice.roll(noise.len() as u64 - content_bytes) as usize;
    let content = &noise[start..start + content_bytes as usize];
    // Noise stands for what a compressor leaves. Some pages are text, so that plain forms are kept.
    let literal = Segment::Literal(if number.is_multiple_of(10) && content_bytes > 100 {
        let text = b"<li>item</li>\n".repeat(content_bytes as usize / 14);
        Encoded::from_identity(&text, Some(1), 1_024)
    } else {
        let forms = Forms { deflate: Some(content), ..Forms::default() };
        Encoded::of_forms(forms, 0, content_bytes)
    });
    let own = (0..own_tags).map(|tag| format!("cat_p_{}", number + tag * PAGES));
    let shared = (0..shared_tags).map(|tag| format!("cat_c_p_{}", (number + tag * 97) % 5_000));
    let policy = "default-src 'self'; ".repeat(head_bytes / 20);
    NewEntry {
        key: CacheKey::for_tests(format!("www.example.com/page-{number}.html").as_bytes(), b"s"),
        status: StatusCode::OK,
        head: StoredHead::new(Fields::from([
            ("Content-Type", "text/html; charset=UTF-8"),
            ("Content-Security-Policy", policy.as_str()),
            ("X-Frame-Options", "SAMEORIGIN"),
        ])),
        body: StoredBody::new([literal]),
        tags: own.chain(shared).map(Bytes::from).collect(),
        pool: None,
        ttl: Duration::from_hours(24),
        grace: Duration::from_mins(5),
        keep: Duration::from_hours(72),
        stale_if_error: Duration::ZERO,
        stale_if_disconnected: true,
        age: Duration::ZERO,
        validation: None,
        variant: None,
        debug: false,
    }
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}
