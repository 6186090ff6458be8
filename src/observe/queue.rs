//! What waits to be written to the access log: bounded, and one part per thread, so that requests
//! on different cores do not wait for each other.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};
use parking_lot::Mutex;

use super::counters::{shard_count, shard_of_this_thread};
use super::record::{Record, Verdict};
use crate::exchange::{Delivered, Scheme};
use crate::reason::Reason;

/// Bytes of text that may wait, for each line that may: a writer that is stuck must not make the
/// memory grow by lines of 16 KiB.
const LINE_MEAN_BYTES: usize = 1_024;

/// The longest texts that are logged; the rest is cut.
const TEXT_MAX_BYTES: [usize; 5] = [32, 255, 8_192, 1_024, 2_048];

/// A record as it waits. Its texts are copied into one allocation: as slices they would keep the
/// whole buffers alive in which the requests' heads arrived.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) time: SystemTime,
    pub(super) duration: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) client: IpAddr,
    pub(super) scheme: Scheme,
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<Reason>,
    pub(super) delivered: Delivered,
    pub(super) body_bytes: u64,
    texts: Box<[u8]>,
    ends: [u16; 5],
}

impl Line {
    pub(super) fn new(record: &Record) -> Self {
        let all: [&[u8]; 5] = [
            record.method.as_str().as_bytes(),
            &record.authority,
            &record.target,
            record.user_agent.as_deref().unwrap_or_default(),
            record.referer.as_deref().unwrap_or_default(),
        ];
        let cut = |place: usize| &all[place][..all[place].len().min(TEXT_MAX_BYTES[place])];
        let mut texts = Vec::with_capacity((0..all.len()).map(|place| cut(place).len()).sum());
        let mut ends = [0; 5];
        for (place, end) in ends.iter_mut().enumerate() {
            texts.extend_from_slice(cut(place));
            // The sum of the bounds fits.
            *end = texts.len() as u16;
        }
        Self {
            time: record.time,
            duration: record.duration,
            first_byte: record.first_byte,
            client: record.client,
            scheme: record.scheme,
            version: record.version,
            status: record.status,
            verdict: record.verdict,
            reason: record.reason,
            delivered: record.delivered,
            body_bytes: record.body_bytes(),
            texts: texts.into(),
            ends,
        }
    }

    fn text(&self, place: usize) -> &[u8] {
        let start = if place == 0 { 0 } else { usize::from(self.ends[place - 1]) };
        &self.texts[start..usize::from(self.ends[place])]
    }

    pub(super) fn method(&self) -> &[u8] {
        self.text(0)
    }

    pub(super) fn authority(&self) -> &[u8] {
        self.text(1)
    }

    pub(super) fn target(&self) -> &[u8] {
        self.text(2)
    }

    /// Empty where there is none.
    pub(super) fn user_agent(&self) -> &[u8] {
        self.text(3)
    }

    /// Empty where there is none.
    pub(super) fn referer(&self) -> &[u8] {
        self.text(4)
    }

    /// When the response had left.
    pub(super) fn ended(&self) -> Option<SystemTime> {
        self.time.checked_add(self.duration)
    }
}

/// How a push went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Kept,
    /// It waits, and this part is half full now: time to write.
    HalfFull,
    /// There was no room; it is counted.
    Lost,
}

/// The queue.
pub(super) struct Queue {
    parts: Box<[Mutex<Part>]>,
    part_lines_max: usize,
    part_bytes_max: usize,
    lost: AtomicU64,
}

#[derive(Default)]
struct Part {
    lines: Vec<Line>,
    bytes: usize,
}

impl Queue {
    /// Room for `lines_max` lines (`log.queue_max`), dealt out evenly to the threads.
    pub(super) fn new(lines_max: usize) -> Self {
        let parts = shard_count().min(lines_max.max(1));
        let part_lines_max = lines_max / parts;
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            part_lines_max,
            part_bytes_max: part_lines_max.saturating_mul(LINE_MEAN_BYTES),
            lost: AtomicU64::new(0),
        }
    }

    /// Takes a line in, or counts it as lost.
    pub(super) fn push(&self, line: Line) -> Pushed {
        let bytes = line.texts.len();
        let mut part = self.parts[shard_of_this_thread(self.parts.len())].lock();
        let full = part.lines.len() >= self.part_lines_max
            || (part.bytes > 0 && part.bytes + bytes > self.part_bytes_max);
        if full {
            drop(part);
            self.lose(1);
            return Pushed::Lost;
        }
        part.bytes += bytes;
        part.lines.push(line);
        if part.lines.len() == self.part_lines_max.div_ceil(2) {
            Pushed::HalfFull
        } else {
            Pushed::Kept
        }
    }

    /// Counts lines as lost.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Does nothing wait?
    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.lock().lines.is_empty())
    }

    /// Moves what waits to the end of `out`, in the order in which the responses left. The locks
    /// are held for the length of a swap: `spare` lends its allocation.
    pub(super) fn drain(&self, out: &mut Vec<Line>, spare: &mut Vec<Line>) {
        let start = out.len();
        for part in &self.parts {
            let mut part = part.lock();
            std::mem::swap(&mut part.lines, spare);
            part.bytes = 0;
            drop(part);
            out.append(spare);
        }
        out[start..].sort_by_key(Line::ended);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use bytes::Bytes;

    fn drained(queue: &Queue) -> Vec<Line> {
        let mut out = Vec::new();
        queue.drain(&mut out, &mut Vec::new());
        out
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let queue = Queue::new(4);
        let pushed: Vec<_> = (0..6).map(|_| queue.push(Line::new(&record()))).collect();
        let kept = pushed.iter().filter(|pushed| **pushed != Pushed::Lost).count();
        assert!((1..=4).contains(&kept));
        assert_eq!(queue.lost(), 6 - kept as u64);
        assert_eq!(drained(&queue).len(), kept);
        assert!(queue.is_empty());
        assert_ne!(queue.push(Line::new(&record())), Pushed::Lost, "there is room again");
    }

    #[test]
    fn a_queue_of_none_loses_everything() {
        let queue = Queue::new(0);
        assert_eq!(queue.push(Line::new(&record())), Pushed::Lost);
    }

    #[test]
    fn all_threads_together_keep_at_most_the_bound() {
        let queue = Queue::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        queue.push(Line::new(&record()));
                    }
                });
            }
        });
        let kept = drained(&queue).len();
        assert!(kept <= 1_000);
        assert_eq!(kept as u64 + queue.lost(), 16_000);
    }

    #[test]
    fn long_lines_are_cut_and_count_by_their_bytes() {
        let mut record = record();
        record.target = Bytes::from(vec![b'a'; 100_000]);
        record.user_agent = Some(Bytes::from(vec![b'b'; 100_000]));
        let line = Line::new(&record);
        assert_eq!(line.target().len(), 8_192);
        assert_eq!(line.user_agent().len(), 1_024);
        assert_eq!((line.method(), line.authority()), (&b"GET"[..], &b"shop.example"[..]));
        assert_eq!(line.referer(), b"");
        let queue = Queue::new(64);
        let kept = (0..64).filter(|_| queue.push(Line::new(&record)) != Pushed::Lost).count();
        assert!((1..=8).contains(&kept), "{kept} lines of 9 KiB in 64 KiB");
    }

    #[test]
    fn lines_leave_in_the_order_in_which_the_responses_left() {
        let queue = Queue::new(1_000);
        for milliseconds in [5, 1, 3] {
            let mut record = record();
            record.duration = Duration::from_millis(milliseconds);
            queue.push(Line::new(&record));
        }
        let order: Vec<_> = drained(&queue).iter().map(|line| line.duration.as_millis()).collect();
        assert_eq!(order, [1, 3, 5]);
    }
}
