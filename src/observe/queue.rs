//! What waits to be written to the access log: bounded, and one part per thread, so that requests
//! on different cores do not wait for each other.
//!
//! A line is formatted where it waits, by the thread that answered: it costs no allocation, and
//! nothing of the request is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::counters::{shard_count, shard_of_this_thread};
use super::line::LineWriter;
use super::record::Record;

/// Bytes of text that may wait, for each line that may: a writer that is stuck must not make the
/// memory grow by lines of 16 KiB.
const LINE_MEAN_BYTES: usize = 1_024;

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

struct Part {
    writer: LineWriter,
    lines: Lines,
}

/// Whole lines of text, in the order in which their responses left.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// Of each line when its response had left, since the clock's origin, and where it ends.
    ends: Vec<(Duration, usize)>,
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (Duration, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(starts).map(|((ended, end), start)| (*ended, &self.text[start..*end]))
    }
}

impl Queue {
    /// Room for `lines_max` lines (`log.queue_max`), dealt out evenly to the threads.
    pub(super) fn new(lines_max: usize, writer: &LineWriter) -> Self {
        let parts = shard_count().min(lines_max.max(1));
        let part_lines_max = lines_max / parts;
        let part = || Mutex::new(Part { writer: writer.clone(), lines: Lines::default() });
        Self {
            parts: (0..parts).map(|_| part()).collect(),
            part_lines_max,
            part_bytes_max: part_lines_max.saturating_mul(LINE_MEAN_BYTES),
            lost: AtomicU64::new(0),
        }
    }

    /// Takes a line in, or counts it as lost. `ended`: since the clock's origin.
    pub(super) fn push(&self, record: &Record<'_>, ended: Duration) -> Pushed {
        let mut part = self.parts[shard_of_this_thread(self.parts.len())].lock();
        let Part { writer, lines } = &mut *part;
        if lines.len() >= self.part_lines_max || lines.text.len() >= self.part_bytes_max {
            drop(part);
            self.lose(1);
            return Pushed::Lost;
        }
        writer.write(&mut lines.text, record);
        lines.ends.push((ended, lines.text.len()));
        if lines.len() == self.part_lines_max.div_ceil(2) { Pushed::HalfFull } else { Pushed::Kept }
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
        self.parts.iter().all(|part| part.lock().lines.len() == 0)
    }

    /// As many as [`Queue::drain`] needs.
    pub(super) fn spares(&self) -> Vec<Lines> {
        self.parts.iter().map(|_| Lines::default()).collect()
    }

    /// Takes what waits into `out`, which is empty, in the order in which the responses left; gives
    /// the number of lines. The locks are held for the length of a swap: `spares` lend their
    /// allocations.
    pub(super) fn drain(&self, out: &mut Vec<u8>, spares: &mut [Lines]) -> usize {
        for (part, spare) in self.parts.iter().zip(&mut *spares) {
            spare.clear();
            std::mem::swap(&mut part.lock().lines, spare);
        }
        let count = spares.iter().map(Lines::len).sum();
        let mut used = spares.iter_mut().filter(|lines| lines.len() > 0);
        match (used.next(), used.next()) {
            (Some(only), None) if only.ends.is_sorted() => std::mem::swap(&mut only.text, out),
            _ => merge(out, spares),
        }
        count
    }
}

/// Appends the lines of all parts in the order in which the responses left.
fn merge(out: &mut Vec<u8>, parts: &[Lines]) {
    let mut lines: Vec<(Duration, &[u8])> = parts.iter().flat_map(Lines::iter).collect();
    lines.sort_by_key(|(ended, _)| *ended);
    for (_, line) in &lines {
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use crate::settings::AccessFormat;

    fn queue(lines_max: usize) -> Queue {
        Queue::new(lines_max, &LineWriter::new(AccessFormat::Json, false))
    }

    fn push(queue: &Queue) -> Pushed {
        queue.push(&record(), Duration::ZERO)
    }

    fn drained(queue: &Queue) -> usize {
        let mut text = Vec::new();
        let lines = queue.drain(&mut text, &mut queue.spares());
        assert_eq!(memchr::memchr_iter(b'\n', &text).count(), lines);
        lines
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let queue = queue(4);
        let pushed: Vec<_> = (0..6).map(|_| push(&queue)).collect();
        let kept = pushed.iter().filter(|pushed| **pushed != Pushed::Lost).count();
        assert!((1..=4).contains(&kept));
        assert_eq!(queue.lost(), 6 - kept as u64);
        assert_eq!(drained(&queue), kept);
        assert!(queue.is_empty());
        assert_ne!(push(&queue), Pushed::Lost, "there is room again");
    }

    #[test]
    fn a_queue_of_none_loses_everything() {
        assert_eq!(push(&queue(0)), Pushed::Lost);
    }

    #[test]
    fn all_threads_together_keep_at_most_the_bound() {
        let queue = queue(1_000);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        push(&queue);
                    }
                });
            }
        });
        let kept = drained(&queue);
        assert!(kept <= 1_000);
        assert_eq!(kept as u64 + queue.lost(), 16_000);
    }

    #[test]
    fn long_lines_are_cut_and_count_by_their_bytes() {
        let long = vec![b'a'; 100_000];
        let record = Record { target: &long, user_agent: &long, ..record() };
        let queue = queue(64);
        let kept = (0..64).filter(|_| queue.push(&record, Duration::ZERO) != Pushed::Lost).count();
        assert!((1..=8).contains(&kept), "{kept} lines of 9 KiB in 64 KiB");
        let mut text = Vec::new();
        queue.drain(&mut text, &mut queue.spares());
        assert!(text.len() < kept * (8_192 + 1_024 + 512), "{}", text.len());
    }

    #[test]
    fn lines_leave_in_the_order_in_which_the_responses_left() {
        let queue = queue(1_000);
        for ended in [5, 1, 3] {
            let target = format!("/{ended}");
            let record = Record { target: target.as_bytes(), ..record() };
            queue.push(&record, Duration::from_millis(ended));
        }
        let mut text = Vec::new();
        assert_eq!(queue.drain(&mut text, &mut queue.spares()), 3);
        let text = String::from_utf8(text).expect("UTF-8");
        let places = ["/1", "/3", "/5"].map(|target| text.find(target).expect("a line"));
        assert!(places.is_sorted(), "{text}");
    }
}
