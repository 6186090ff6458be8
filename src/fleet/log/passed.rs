//! Which entries a node has come by: two nodes that name the same number may mean different entries, after
//! a failover that lost the log's tail.

use std::collections::VecDeque;

use super::position::Position;
use super::token::Token;

/// Entries that are remembered. Who is further behind is told that nothing is known of his place.
const ENTRIES_MAX: usize = 4_096;

/// The names of the entries up to a position, one after the other.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The number of the first one.
    begins: u64,
    names: VecDeque<Option<Token>>,
}

impl Passed {
    /// What came before is no part of the log any more, or is not known.
    pub(super) fn begin(&mut self, at: Position) {
        self.names.clear();
        self.begins = at.sequence;
        self.names.push_back(at.entry);
    }

    /// The entry that follows.
    pub(super) fn add(&mut self, at: Position) {
        if self.begins + self.names.len() as u64 != at.sequence {
            return self.begin(at);
        }
        if self.names.len() >= ENTRIES_MAX {
            self.names.pop_front();
            self.begins += 1;
        }
        self.names.push_back(at.entry);
    }

    /// Is this entry, of the same epoch, one of them?
    pub(super) fn has(&self, place: Position) -> bool {
        let name = place.sequence.checked_sub(self.begins).and_then(|at| {
            let at = usize::try_from(at).ok()?;
            self.names.get(at)
        });
        place.sequence == 0 || (place.entry.is_some() && name == Some(&place.entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64, name: u8) -> Position {
        let entry = Some(Token::new([name; 16]));
        Position { epoch: Token::new([0; 16]), sequence, entry }
    }

    #[test]
    fn an_entry_is_known_by_its_number_and_name() {
        let mut passed = Passed::default();
        passed.begin(at(7, 7));
        passed.add(at(8, 8));
        assert!(passed.has(at(7, 7)) && passed.has(at(8, 8)));
        assert!(!passed.has(at(8, 9)), "another entry had that number");
        assert!(!passed.has(at(6, 6)) && !passed.has(at(9, 9)));
        assert!(!passed.has(Position { entry: None, ..at(8, 8) }), "its name is not known");
        assert!(passed.has(Position { entry: None, ..at(0, 0) }), "before the first");
        passed.add(at(10, 10));
        assert!(!passed.has(at(8, 8)) && passed.has(at(10, 10)), "one is missing in between");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut passed = Passed::default();
        passed.begin(at(1, 1));
        for sequence in 2..=ENTRIES_MAX as u64 + 1 {
            passed.add(at(sequence, 2));
        }
        assert!(!passed.has(at(1, 1)) && passed.has(at(2, 2)));
    }
}
