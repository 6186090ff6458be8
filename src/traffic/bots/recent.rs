//! What this thread found in the User-Agents that it has seen before. Most requests come from a few
//! hundred browsers, and to compare takes a tenth of a walk.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// User-Agents that a thread remembers.
const SLOTS: usize = 256;
/// Bytes of one that is remembered; longer ones are rare.
const AGENT_MAX_BYTES: usize = 240;

thread_local! {
    static RECENT: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// Whose memory it is. Each set of names has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// One that nobody had before.
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[derive(Clone, Copy)]
struct Slot {
    stamp: Stamp,
    length: usize,
    agent: [u8; AGENT_MAX_BYTES],
    found: Option<usize>,
}

impl Slot {
    const EMPTY: Self =
        Self { stamp: Stamp(0), length: 0, agent: [0; AGENT_MAX_BYTES], found: None };

    fn is(&self, stamp: Stamp, agent: &[u8]) -> bool {
        self.stamp == stamp && self.agent.get(..self.length) == Some(agent)
    }
}

/// What `walk` finds in a User-Agent, or found when this thread saw the same last.
pub(super) fn find(
    stamp: Stamp,
    agent: &[u8],
    walk: impl FnOnce(&[u8]) -> Option<usize>,
) -> Option<usize> {
    if agent.len() > AGENT_MAX_BYTES {
        return walk(agent);
    }
    RECENT.with_borrow_mut(|slots| {
        if slots.is_empty() {
            slots.resize(SLOTS, Slot::EMPTY);
        }
        let slot = &mut slots[place(agent)];
        if !slot.is(stamp, agent) {
            slot.found = walk(agent);
            slot.stamp = stamp;
            slot.length = agent.len();
            slot.agent[..agent.len()].copy_from_slice(agent);
        }
        slot.found
    })
}

/// From its length and those of its bytes that tell systems, versions and browsers apart: behind
/// `Mozilla/5.0 (`, and at its end. What shares a place is compared, so that who makes up names on purpose costs a
/// walk each time and no more.
fn place(agent: &[u8]) -> usize {
    let word = |at: usize| {
        let bytes = agent.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let end = |back: usize| word(agent.len().saturating_sub(back));
    let words = [word(13), word(21), word(29), end(40), end(32), end(24), end(16), end(8)];
    let mixed = words.iter().fold(agent.len() as u64, |mixed, word| {
        (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    usize::try_from(mixed >> 32).unwrap_or_default() % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_seen_is_not_walked_again() {
        let stamp = Stamp::new();
        let agent = b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        assert_eq!(find(stamp, agent, |_| Some(7)), Some(7));
        assert_eq!(find(stamp, agent, |_| panic!("it is known")), Some(7));
        assert_eq!(find(Stamp::new(), agent, |_| None), None, "other names, other answers");
        assert_eq!(find(stamp, agent, |_| Some(8)), Some(8), "the place was taken");
        assert_eq!(find(stamp, b"", |_| None), None);
        assert_eq!(find(stamp, &[b'x'; AGENT_MAX_BYTES + 1], |agent| Some(agent.len())), Some(241));
    }

    #[test]
    fn common_browsers_rarely_share_a_place() {
        let agents = (100..150).flat_map(|version| {
            [
                "Windows NT 10.0; Win64; x64",
                "Macintosh; Intel Mac OS X 10_15_7",
                "X11; Linux x86_64",
            ]
            .map(|system| {
                format!(
                    "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/{version}.0.0.0 Safari/537.36"
                )
            })
        });
        let places: std::collections::HashSet<usize> =
            agents.map(|agent| place(agent.as_bytes())).collect();
        // Of 150 at random 114 would be apart.
        assert!(places.len() > 90, "{}", places.len());
    }

    proptest! {
        #[test]
        fn memory_never_changes_what_is_found(
            agents in prop::collection::vec("[ab]{0,3}|[ab]{239,242}", 0..200),
            stamps in 1_usize..3,
        ) {
            let stamps: Vec<Stamp> = (0..stamps).map(|_| Stamp::new()).collect();
            for (at, agent) in agents.iter().enumerate() {
                let own = at % stamps.len();
                let walk = |agent: &[u8]| {
                    let first = agent.iter().position(|byte| *byte == b'b');
                    first.map(|first| first * 10 + own)
                };
                let found = find(stamps[own], agent.as_bytes(), walk);
                prop_assert_eq!(found, walk(agent.as_bytes()));
            }
        }
    }
}
