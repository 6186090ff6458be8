//! Names and beginnings of names, each with what belongs to it.

/// Names that are found in one step, and beginnings of which those are compared whose first letter fits.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// The place of a name, plus one, at its hash or behind; 0: none.
    slots: Box<[u16]>,
    names: Vec<(Box<[u8]>, T)>,
    beginnings: Vec<(Box<[u8]>, T)>,
    /// The first letters of beginnings.
    firsts: [bool; 256],
    ignores_case: bool,
}

impl<T: Default> Table<T> {
    /// An empty one; with `ignores_case` ASCII letters compare without case.
    pub fn new(ignores_case: bool) -> Self {
        Self {
            slots: Box::default(),
            names: Vec::new(),
            beginnings: Vec::new(),
            firsts: [false; 256],
            ignores_case,
        }
    }

    /// What belongs to a pattern, a name or a beginning with `*` behind; it is there from now on. As many
    /// as 65,534 names have places.
    pub fn entry(&mut self, pattern: &str) -> &mut T {
        let beginning = pattern.strip_suffix('*');
        let text = beginning.unwrap_or(pattern).as_bytes();
        let text: Box<[u8]> =
            if self.ignores_case { text.to_ascii_lowercase().into() } else { text.into() };
        let list = if beginning.is_some() { &mut self.beginnings } else { &mut self.names };
        let found = list.iter().position(|(own, _)| *own == text);
        let at = found.unwrap_or_else(|| {
            list.push((text, T::default()));
            list.len() - 1
        });
        if found.is_none() {
            self.index();
        }
        let list = if beginning.is_some() { &mut self.beginnings } else { &mut self.names };
        &mut list[at].1
    }

    fn index(&mut self) {
        self.firsts = [false; 256];
        for (beginning, _) in &self.beginnings {
            match beginning.first() {
                Some(first) => self.firsts[usize::from(*first)] = true,
                None => self.firsts = [true; 256],
            }
        }
        let mut slots = vec![0_u16; (2 * self.names.len() + 1).next_power_of_two()];
        let mask = slots.len() - 1;
        for (place, (name, _)) in self.names.iter().enumerate() {
            let Ok(number) = u16::try_from(place + 1) else { break };
            let mut at = hash(name) & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = number;
        }
        self.slots = slots.into();
    }

    fn is(&self, own: &[u8], name: &[u8]) -> bool {
        if self.ignores_case { own.eq_ignore_ascii_case(name) } else { own == name }
    }

    /// What belongs to this very name.
    pub fn named(&self, name: &[u8]) -> Option<&T> {
        if self.names.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash(name) & mask;
        loop {
            let (own, value) = self.names.get(usize::from(self.slots[at].checked_sub(1)?))?;
            if self.is(own, name) {
                return Some(value);
            }
            at = (at + 1) & mask;
        }
    }

    /// What belongs to it, and to what it begins with.
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a T> {
        let may_begin = self.firsts[usize::from(name.first().map_or(0, u8::to_ascii_lowercase))]
            || (!self.ignores_case
                && name.first().is_some_and(|first| self.firsts[usize::from(*first)]));
        let beginnings = if may_begin { &self.beginnings[..] } else { &[] };
        let begins = |own: &[u8]| name.get(..own.len()).is_some_and(|start| self.is(own, start));
        let begun = beginnings.iter().filter(move |(own, _)| begins(own)).map(|(_, value)| value);
        self.named(name).into_iter().chain(begun)
    }

    /// Is it, or what it begins with, there?
    pub fn has(&self, name: &[u8]) -> bool {
        self.all(name).next().is_some()
    }
}

/// Equal for names that differ in the case of ASCII letters alone. Whoever chooses a request's names
/// does not choose the table's, so there is nothing to flood.
fn hash(name: &[u8]) -> usize {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte | 0x20)).wrapping_mul(0x0100_0193);
    let hash = name.iter().fold(0x811c_9dc5, step);
    (hash ^ (hash >> 15)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(patterns: &[&str], ignores_case: bool) -> Table<Vec<usize>> {
        let mut table: Table<Vec<usize>> = Table::new(ignores_case);
        for (number, pattern) in patterns.iter().enumerate() {
            table.entry(pattern).push(number);
        }
        table
    }

    fn found(table: &Table<Vec<usize>>, name: &str) -> Vec<usize> {
        let mut found: Vec<_> = table.all(name.as_bytes()).flatten().copied().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn names_and_beginnings_are_found() {
        let table = table(&["color", "co*", "*", "Size", "color"], false);
        assert_eq!(found(&table, "color"), [0, 1, 2, 4]);
        assert_eq!(found(&table, "cotton"), [1, 2]);
        assert_eq!(found(&table, "size"), [2]);
        assert_eq!(found(&table, ""), [2]);
        assert!(self::table(&[], false).named(b"x").is_none());
    }

    #[test]
    fn without_case_all_spellings_are_one() {
        let table = table(&["LoginPost", "Admin*"], true);
        assert_eq!(found(&table, "LOGINpost"), [0]);
        assert_eq!(found(&table, "aDmIn_x"), [1]);
        assert_eq!(found(&table, "admi"), [0; 0]);
    }

    proptest! {
        #[test]
        fn it_finds_what_comparing_all_finds(
            patterns in prop::collection::vec("[a-cA-C]{0,3}[*]?", 0..12),
            name in "[a-cA-C]{0,4}",
            ignores_case: bool,
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let table = table(&patterns, ignores_case);
            let fold = |text: &str| if ignores_case { text.to_ascii_lowercase() } else { text.to_owned() };
            let expected: Vec<usize> = (0..patterns.len())
                .filter(|number| match patterns[*number].strip_suffix('*') {
                    Some(beginning) => fold(&name).starts_with(&fold(beginning)),
                    None => fold(&name) == fold(patterns[*number]),
                })
                .collect();
            prop_assert_eq!(found(&table, &name), expected);
        }
    }
}
