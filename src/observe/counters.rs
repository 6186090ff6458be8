//! Counters that threads do not share: each thread adds to a block of its own, and only reading
//! walks over all of them. (The usual metrics crates take a lock for each observation.)

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::record::{Record, Verdict};
use crate::exchange::Delivered;
use crate::reason::Reason;

/// Upper bounds of the histograms' buckets in nanoseconds, with their labels in seconds.
pub(super) const BOUNDS: [(u64, &str); 19] = [
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
];

/// The labels of the status classes; the last is for statuses beyond HTTP's.
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// The labels of the ends of a delivery.
pub(super) const ENDS: [&str; 3] = ["whole", "client-gone", "body-failed"];

const SHARDS_MAX: usize = 64;

/// The number of blocks for this machine: one per core, as a power of two.
pub(crate) fn shard_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.next_power_of_two().min(SHARDS_MAX)
}

/// This thread's place among `shards` blocks; threads are dealt out evenly as they come.
pub(crate) fn shard_of_this_thread(shards: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let place = PLACE
        .try_with(|place| {
            place.get().unwrap_or_else(|| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                place.set(Some(number));
                number
            })
        })
        .unwrap_or(0);
    place % shards.max(1)
}

/// All blocks.
pub(super) struct Counters {
    blocks: Box<[Block]>,
}

// Aligned to two cache lines, which processors prefetch together.
#[derive(Default)]
#[repr(align(128))]
struct Block {
    durations: [Histogram; Verdict::ALL.len()],
    first_byte: Histogram,
    reasons: Counts<{ Reason::ALL.len() }>,
    classes: Counts<{ CLASSES.len() }>,
    ends: Counts<{ ENDS.len() }>,
    sent_bytes: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    buckets: Counts<{ BOUNDS.len() + 1 }>,
    sum_nanoseconds: AtomicU64,
}

struct Counts<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Counts<N> {
    fn add(&self, place: usize) {
        self.0[place].fetch_add(1, Ordering::Relaxed);
    }

    fn add_to(&self, sums: &mut [u64; N]) {
        for (sum, count) in sums.iter_mut().zip(&self.0) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanoseconds);
        self.buckets.add(bucket);
        self.sum_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn add_to(&self, sums: &mut HistogramTotals) {
        self.buckets.add_to(&mut sums.buckets);
        sums.sum_nanoseconds += self.sum_nanoseconds.load(Ordering::Relaxed);
    }
}

impl Counters {
    pub(super) fn new(shards: usize) -> Self {
        Self { blocks: (0..shards.max(1)).map(|_| Block::default()).collect() }
    }

    /// Counts a request that has ended.
    pub(super) fn count(&self, record: &Record<'_>) {
        let block = &self.blocks[shard_of_this_thread(self.blocks.len())];
        block.durations[record.verdict as usize].observe(record.duration);
        if let Some(first_byte) = record.first_byte {
            block.first_byte.observe(first_byte);
        }
        if let Some(reason) = record.reason {
            block.reasons.add(reason as usize);
        }
        let class = usize::from(record.status.as_u16() / 100);
        block.classes.add(if (1..=5).contains(&class) { class - 1 } else { CLASSES.len() - 1 });
        block.ends.add(match record.delivered {
            Delivered::Whole { .. } => 0,
            Delivered::ClientGone { .. } => 1,
            Delivered::BodyFailed { .. } => 2,
        });
        block.sent_bytes.fetch_add(record.body_bytes(), Ordering::Relaxed);
    }

    /// The sums over all threads.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for block in &self.blocks {
            for (sums, histogram) in totals.durations.iter_mut().zip(&block.durations) {
                histogram.add_to(sums);
            }
            block.first_byte.add_to(&mut totals.first_byte);
            block.reasons.add_to(&mut totals.reasons);
            block.classes.add_to(&mut totals.classes);
            block.ends.add_to(&mut totals.ends);
            totals.sent_bytes += block.sent_bytes.load(Ordering::Relaxed);
        }
        totals
    }
}

/// Sums of what was counted since the start.
#[derive(Clone, Debug)]
pub struct Totals {
    pub(super) durations: [HistogramTotals; Verdict::ALL.len()],
    pub(super) first_byte: HistogramTotals,
    pub(super) reasons: [u64; Reason::ALL.len()],
    pub(super) classes: [u64; CLASSES.len()],
    pub(super) ends: [u64; ENDS.len()],
    pub(super) sent_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HistogramTotals {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) sum_nanoseconds: u64,
}

impl HistogramTotals {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            durations: [HistogramTotals::default(); Verdict::ALL.len()],
            first_byte: HistogramTotals::default(),
            reasons: [0; Reason::ALL.len()],
            classes: [0; CLASSES.len()],
            ends: [0; ENDS.len()],
            sent_bytes: 0,
        }
    }
}

impl Totals {
    /// Requests that ended with this verdict.
    pub fn requests(&self, verdict: Verdict) -> u64 {
        self.durations[verdict as usize].count()
    }

    /// Requests that ended with this reason.
    pub fn reasons(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize]
    }

    /// All requests that have ended.
    pub fn all_requests(&self) -> u64 {
        self.durations.iter().map(HistogramTotals::count).sum()
    }

    /// Content bytes that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// The share of requests which the store answered among those for which it was asked; `None`
    /// where it was never asked.
    #[expect(clippy::cast_precision_loss, reason = "a ratio to look at")]
    pub fn hit_ratio(&self) -> Option<f64> {
        let hits = self.requests(Verdict::Hit) + self.requests(Verdict::Grace);
        let asked = hits + self.requests(Verdict::Miss) + self.requests(Verdict::HitForMiss);
        (asked > 0).then(|| hits as f64 / asked as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use http::StatusCode;

    #[test]
    fn what_many_threads_count_adds_up() {
        let counters = Counters::new(4);
        std::thread::scope(|scope| {
            for thread in 0..8_usize {
                let counters = &counters;
                scope.spawn(move || {
                    let mut record = record();
                    record.verdict = if thread % 2 == 0 { Verdict::Hit } else { Verdict::Miss };
                    record.reason = (thread % 2 == 1).then_some(Reason::Cold);
                    for _ in 0..10_000 {
                        counters.count(&record);
                    }
                });
            }
        });
        let totals = counters.totals();
        assert_eq!(totals.requests(Verdict::Hit), 40_000);
        assert_eq!(totals.requests(Verdict::Miss), 40_000);
        assert_eq!(totals.reasons(Reason::Cold), 40_000);
        assert_eq!(totals.all_requests(), 80_000);
        assert_eq!(totals.classes, [0, 80_000, 0, 0, 0, 0]);
        assert_eq!(totals.sent_bytes(), 80_000 * 1_500);
        assert_eq!(totals.hit_ratio(), Some(0.5));
    }

    #[test]
    fn a_bucket_takes_what_is_at_most_its_bound() {
        let histogram = Histogram::default();
        for nanoseconds in [0, 50_000, 50_001, 60_000_000_000, 60_000_000_001] {
            histogram.observe(Duration::from_nanos(nanoseconds));
        }
        let mut totals = HistogramTotals::default();
        histogram.add_to(&mut totals);
        assert_eq!(totals.buckets[0], 2);
        assert_eq!(totals.buckets[1], 1);
        assert_eq!(totals.buckets[BOUNDS.len() - 1], 1);
        assert_eq!(totals.buckets[BOUNDS.len()], 1);
        assert_eq!(totals.count(), 5);
    }

    #[test]
    fn statuses_beyond_http_count_as_other() {
        let counters = Counters::new(1);
        let mut record = record();
        for status in [100, 599, 600, 999] {
            record.status = StatusCode::from_u16(status).expect("a status");
            counters.count(&record);
        }
        assert_eq!(counters.totals().classes, [1, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn the_ratio_of_nothing_is_none() {
        assert_eq!(Counters::new(1).totals().hit_ratio(), None);
    }
}
