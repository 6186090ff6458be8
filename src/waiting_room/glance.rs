//! What a node knows of the line between two steps, so that nobody is asked while a page refreshes itself.

/// So many numbers of those who wait are known, at equal distances.
const MARKS: u64 = 16;

/// The line at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Which line it is.
    pub epoch: u64,
    /// The last number that was drawn.
    pub drawn: u64,
    /// The highest number that may enter.
    pub serving: u64,
    /// How many were taken in since the line began.
    pub granted: u64,
    /// Who waits.
    pub waiting: u64,
    /// Places inside that are in use, or kept for who may enter.
    pub inside: u64,
    /// The numbers of who stands at [`Glance::ranks`].
    pub marks: Vec<u64>,
}

impl Glance {
    /// Ranks at equal distances in a line of this length, from the first to the last.
    pub fn ranks(waiting: u64) -> impl Iterator<Item = u64> {
        let last = waiting.saturating_sub(1);
        let marks = if waiting == 0 { 0 } else { MARKS + 1 };
        (0..marks).map(move |mark| last * mark / MARKS)
    }

    /// How many stand before a number, as far as can be said: who has left in between counts until it is noticed.
    pub fn ahead(&self, number: u64) -> u64 {
        if number > self.drawn {
            return self.waiting + (number - self.drawn - 1);
        }
        let after = self.marks.partition_point(|mark| *mark < number);
        let rank = |mark: usize| Self::ranks(self.waiting).nth(mark).unwrap_or(self.waiting);
        let Some(above) = self.marks.get(after).copied() else { return self.waiting };
        let Some(before) = after.checked_sub(1) else { return 0 };
        let below = self.marks[before];
        let (from, to) = (rank(before), rank(after));
        // Between two marks they stand at equal distances.
        from + (to - from) * (number - below) / (above - below).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: impl Iterator<Item = u64>, drawn: u64) -> (Glance, Vec<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        let waiting = numbers.len() as u64;
        let marks = Glance::ranks(waiting).map(|rank| numbers[rank as usize]).collect();
        (Glance { drawn, waiting, marks, ..Glance::default() }, numbers)
    }

    #[test]
    fn a_rank_is_told_from_few_numbers() {
        let (glance, numbers) = of((101..=1_100).filter(|number| number % 7 != 0), 1_100);
        for (rank, number) in numbers.iter().enumerate() {
            assert!(glance.ahead(*number).abs_diff(rank as u64) <= 2, "{number}");
        }
        assert_eq!(glance.ahead(1), 0);
        assert_eq!(glance.ahead(1_101), glance.waiting);
        assert_eq!(glance.ahead(1_111), glance.waiting + 10);
    }

    #[test]
    fn short_lines_are_told_exactly() {
        for length in 0..=17 {
            let (glance, numbers) = of((1..=length).map(|at| at * 3), length * 3);
            for (rank, number) in numbers.iter().enumerate() {
                assert_eq!(glance.ahead(*number), rank as u64, "{number} of {length}");
            }
        }
    }
}
