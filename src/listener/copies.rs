//! Copies of what is sent again and again, in a file that exists in memory alone.
//!
//! A write to a socket copies all bytes into the kernel; `sendfile` gives it references to the pages of a
//! file, which are in memory already. So what leaves often and is large is written to such a file
//! once, and leaves from there. Whatever goes wrong with that, the bytes themselves are at hand.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::param::page_size;

/// Bytes from which on a copy pays: a file's bytes leave in a system call of their own. In a bare loop
/// over loopback both ways cost the same up to 24 KiB; `sendfile` saves 8 % of 64 and 12 % of 150 KiB.
const BYTES_MIN: usize = 32 << 10;
/// Bytes of the largest copy: to make one, a thread that serves others too is held up.
const BYTES_MAX: usize = 1 << 20;
/// How often something has left when it is copied.
const COPIED_AT: u64 = 4;
/// Looks at a copy, about one a second, in which nobody has used it, after which it goes: where two copies
/// are of one buffer, none of them is ever the last to hold it.
const IDLE_LOOKS: u8 = 30;
/// Says whether the system puts such files into huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
/// Copies that are asked to give up for a new one.
const LOOKS_MAX: usize = 64;
/// The bits of [`Place::seen`] that count; the others say of what.
const COUNT_BITS: u64 = 0xf;

/// The copies of all connections of a listener.
#[derive(Debug)]
pub struct Copies {
    /// Where a copy stands follows from where its bytes are. A power of two.
    places: Box<[Place]>,
    /// The file, once it is needed; `None` in it: the system has none for us.
    file: OnceLock<Option<Arc<Kept>>>,
    memory_max_bytes: u64,
    /// The places that are taken. The first is asked first to give up: it goes unless it was used
    /// since it was last asked, and is the last then.
    order: Mutex<VecDeque<usize>>,
}

#[derive(Debug, Default)]
struct Place {
    copy: ArcSwapOption<Copied>,
    /// What was last sent of this place without a copy, and how often.
    seen: AtomicU64,
}

/// The file, of which no part is used twice: bytes that have been sent may still be on their way.
#[derive(Debug)]
struct Kept {
    file: File,
    end: AtomicU64,
    bytes: AtomicU64,
}

/// Bytes that are in the file too.
#[derive(Debug)]
pub(super) struct Copied {
    /// As long as these are held nothing else can be where they are.
    of: Bytes,
    kept: Arc<Kept>,
    offset: u64,
    /// How often it was looked at since it was used.
    looks: AtomicU8,
}

impl Copied {
    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.kept.file
    }

    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Where in the file the bytes begin.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How often it was looked at since it was used, before this look.
    fn look(&self) -> u8 {
        let looks = self.looks.load(Ordering::Relaxed);
        self.looks.store(looks.saturating_add(1), Ordering::Relaxed);
        looks
    }

    fn is_of(&self, bytes: &Bytes) -> bool {
        self.of.as_ptr() == bytes.as_ptr() && self.of.len() == bytes.len()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let bytes = whole_pages(self.of.len());
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where the system refuses, the memory is gone for copies, and stays counted.
        if fallocate(&self.kept.file, flags, self.offset, bytes).is_ok() {
            self.kept.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Copies {
    /// For so much memory; nothing: there will be no copies.
    pub fn new(memory_max_bytes: u64) -> Self {
        let most = memory_max_bytes / BYTES_MIN as u64;
        let places = if most == 0 { 0 } else { (2 * most as usize).next_power_of_two() };
        Self {
            places: (0..places).map(|_| Place::default()).collect(),
            file: OnceLock::new(),
            memory_max_bytes,
            order: Mutex::default(),
        }
    }

    /// Bytes of memory that copies take.
    pub fn bytes(&self) -> u64 {
        let kept = self.file.get().and_then(Option::as_ref);
        kept.map_or(0, |kept| kept.bytes.load(Ordering::Relaxed))
    }

    /// The copy of these bytes, which are about to leave, if there is one, or it is time for one.
    pub(super) fn of(&self, bytes: &Bytes) -> Option<Guard<Option<Arc<Copied>>>> {
        if bytes.len() < BYTES_MIN || self.places.is_empty() {
            return None;
        }
        let hash = hash(bytes);
        let place = &self.places[self.number_of(hash)];
        let copy = place.copy.load();
        if let Some(copied) = &*copy
            && copied.is_of(bytes)
        {
            // Cores share the line: it is not written each time.
            if copied.looks.load(Ordering::Relaxed) > 0 {
                copied.looks.store(0, Ordering::Relaxed);
            }
            return Some(copy);
        }
        drop(copy);
        (place.is_due(hash) && bytes.len() <= BYTES_MAX).then(|| self.make(place, bytes))?
    }

    /// Makes a copy, unless others that are in use have the place or the memory.
    #[cold]
    fn make(&self, place: &Place, bytes: &Bytes) -> Option<Guard<Option<Arc<Copied>>>> {
        // Without success it is tried again as late as at first.
        place.seen.store(0, Ordering::Relaxed);
        let kept = self.file.get_or_init(Kept::open).as_ref()?;
        // Who comes meanwhile does without.
        let mut order = self.order.try_lock()?;
        let number = self.number_of(hash(bytes));
        if place.copy.load().is_some() {
            if !place.give_up() {
                return None;
            }
            order.retain(|other| *other != number);
        }
        let needed = whole_pages(bytes.len());
        let fits = || kept.bytes.load(Ordering::Relaxed) + needed <= self.memory_max_bytes;
        for _ in 0..LOOKS_MAX {
            if fits() {
                break;
            }
            let oldest = order.pop_front()?;
            if !self.places[oldest].give_up() {
                order.push_back(oldest);
            }
        }
        if !fits() {
            return None;
        }
        place.copy.store(Some(Arc::new(kept.copy(bytes)?)));
        order.push_back(number);
        Some(place.copy.load())
    }

    /// Lets go of what nobody else holds any more (it was purged, replaced or evicted), and of what has
    /// not been used for some time. Frees memory, so it may take milliseconds.
    pub fn sweep(&self) {
        self.order.lock().retain(|number| {
            let place = &self.places[*number];
            let stays = |copied: &Arc<Copied>| !copied.of.is_unique() && copied.look() < IDLE_LOOKS;
            let is_kept = place.copy.load().as_ref().is_some_and(stays);
            if !is_kept {
                place.copy.store(None);
            }
            is_kept
        });
    }

    /// The place of what has this hash.
    fn number_of(&self, hash: u64) -> usize {
        hash as usize & (self.places.len() - 1)
    }
}

impl Place {
    /// These bytes have no copy: have they left often enough by now?
    fn is_due(&self, hash: u64) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        let (of, count) = (hash & !COUNT_BITS, seen & COUNT_BITS);
        let count = if seen & !COUNT_BITS == of { (count + 1).min(COUNT_BITS) } else { 1 };
        self.seen.store(of | count, Ordering::Relaxed);
        count >= COPIED_AT
    }

    /// Lets go of a copy that was not used since this was last asked. Is it free now?
    fn give_up(&self) -> bool {
        let copy = self.copy.load();
        let Some(copied) = &*copy else { return true };
        if copied.look() == 0 && !copied.of.is_unique() {
            return false;
        }
        drop(copy);
        self.copy.store(None);
        true
    }
}

impl Kept {
    fn open() -> Option<Arc<Self>> {
        if has_huge_pages(&std::fs::read_to_string(HUGE_PAGES).unwrap_or_default()) {
            tracing::warn!("{HUGE_PAGES} is on: large responses are copied to each client");
            return None;
        }
        match memfd_create("parvis-copies", MemfdFlags::CLOEXEC) {
            Ok(file) => Some(Arc::new(Self {
                file: File::from(file),
                end: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            })),
            Err(error) => {
                tracing::warn!(%error, "no memory file: large responses are copied to each client");
                None
            }
        }
    }

    fn copy(self: &Arc<Self>, bytes: &Bytes) -> Option<Copied> {
        let taken = whole_pages(bytes.len());
        let offset = self.end.fetch_add(taken, Ordering::Relaxed);
        self.bytes.fetch_add(taken, Ordering::Relaxed);
        let copied =
            Copied { of: bytes.clone(), kept: Arc::clone(self), offset, looks: AtomicU8::new(0) };
        // In part or not at all: what was written goes with the copy.
        self.file.write_all_at(bytes, offset).is_ok().then_some(copied)
    }
}

/// Memory takes whole pages. A copy has its own: where a part of a page is freed the system writes zeros
/// into it, though what was sent of it may still be on its way.
fn whole_pages(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(page_size() as u64)
}

/// Copies would share a page then, and one that is freed would change what was sent of another.
fn has_huge_pages(setting: &str) -> bool {
    ["[always]", "[within_size]", "[force]"].iter().any(|word| setting.contains(word))
}

/// Of where bytes are, and how many.
fn hash(bytes: &Bytes) -> u64 {
    let place = (bytes.as_ptr() as u64) ^ (bytes.len() as u64).rotate_left(48);
    let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_BYTES: u64 = 2 << 20;

    fn page(letter: u8) -> Bytes {
        Bytes::from(vec![letter; 40 << 10])
    }

    /// What leaves as it leaves for the last of so many times.
    fn sent(copies: &Copies, bytes: &Bytes, times: u64) -> Option<Arc<Copied>> {
        let mut last = None;
        for _ in 0..times {
            last = copies.of(bytes).and_then(|copy| copy.clone());
        }
        last
    }

    fn read(copy: &Copied) -> Vec<u8> {
        let mut read = vec![0; copy.len()];
        copy.file().read_exact_at(&mut read, copy.offset()).expect("it is there");
        read
    }

    #[test]
    fn what_leaves_often_is_copied_and_what_leaves_seldom_is_not() {
        let copies = Copies::new(MEMORY_BYTES);
        let bytes = page(b'a');
        assert!(sent(&copies, &bytes, COPIED_AT - 1).is_none());
        assert_eq!(copies.bytes(), 0);
        let copy = sent(&copies, &bytes, 1).expect("a copy");
        assert_eq!(&read(&copy)[..], &bytes[..]);
        assert_eq!(copies.bytes(), whole_pages(bytes.len()));
        assert!(Arc::ptr_eq(&copy, &sent(&copies, &bytes, 1).expect("the same copy")));
    }

    #[test]
    fn small_and_huge_bytes_are_not_copied_and_without_memory_nothing_is() {
        let copies = Copies::new(8 * MEMORY_BYTES);
        for length in [BYTES_MIN - 1, BYTES_MAX + 1] {
            assert!(sent(&copies, &Bytes::from(vec![b'a'; length]), 2 * COPIED_AT).is_none());
        }
        assert!(sent(&Copies::new(0), &page(b'a'), 2 * COPIED_AT).is_none());
    }

    #[test]
    fn a_copy_stays_whole_for_who_holds_it_and_its_memory_is_freed_then() {
        let copies = Copies::new(MEMORY_BYTES);
        let bytes = page(b'a');
        let copy = sent(&copies, &bytes, COPIED_AT).expect("a copy");
        copies.sweep();
        assert!(copies.bytes() > 0, "somebody has the bytes still");
        drop(bytes);
        copies.sweep();
        assert_eq!(read(&copy)[..], page(b'a')[..]);
        drop(copy);
        assert_eq!(copies.bytes(), 0);
    }

    #[test]
    fn two_copies_of_one_buffer_go_when_nobody_uses_them_any_more() {
        let copies = Copies::new(MEMORY_BYTES);
        let both = page(b'a').into_iter().chain(page(b'b')).collect::<Bytes>();
        let halves = [both.slice(..40 << 10), both.slice(40 << 10..)];
        for half in &halves {
            assert!(sent(&copies, half, COPIED_AT).is_some());
        }
        drop((both, halves));
        for _ in 0..IDLE_LOOKS {
            copies.sweep();
            assert!(copies.bytes() > 0);
        }
        copies.sweep();
        assert_eq!(copies.bytes(), 0);
    }

    #[test]
    fn where_files_may_stand_in_huge_pages_there_are_no_copies() {
        assert!(has_huge_pages("[always] within_size advise never deny force"));
        assert!(has_huge_pages("always [within_size] advise never deny force"));
        for setting in ["always within_size [advise] never deny force", "always [never] deny", ""] {
            assert!(!has_huge_pages(setting), "{setting}");
        }
    }

    #[test]
    fn all_copies_together_take_no_more_than_they_may_and_new_ones_take_the_place_of_idle_ones() {
        let copies = Copies::new(MEMORY_BYTES);
        let pages: Vec<_> = (0..=255).map(page).collect();
        let mut made = 0;
        for bytes in &pages {
            let copy = sent(&copies, bytes, 4 * COPIED_AT);
            if let Some(copy) = copy {
                made += 1;
                assert_eq!(&read(&copy)[..], &bytes[..]);
            }
            assert!(copies.bytes() <= MEMORY_BYTES);
        }
        let fit = MEMORY_BYTES / whole_pages(pages[0].len());
        assert!(made > 2 * fit, "{made} of {} were copied, {fit} fit", pages.len());
    }
}
