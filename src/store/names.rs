//! Names (tags, pools) as numbers, each with the slots of the responses that carry it.

use super::entry::TagId;
use super::sharded::Sharded;
use super::slots::{Removed, Slot, Slots};

/// A name is known exactly as long as some response carries it; its number is reused after that.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By name, which stands in the record.
    ids: Sharded<TagId>,
    records: Vec<Option<Record>>,
    free: Vec<TagId>,
    links: u64,
}

#[derive(Debug)]
struct Record {
    name: Name,
    slots: Slots,
}

/// Magento's tags are short: most take no allocation.
#[derive(Debug)]
enum Name {
    Short { length: u8, bytes: [u8; SHORT_NAME_BYTES] },
    Long(Box<[u8]>),
}

/// With its length and its kind a short name takes as much as a pointer to a long one.
pub(super) const SHORT_NAME_BYTES: usize = 22;

impl Name {
    fn of(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT_NAME_BYTES];
        match bytes.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name);
                Self::Short { length: name.len() as u8, bytes }
            }
            None => Self::Long(name.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(name) => name,
        }
    }
}

impl Names {
    /// The number of a name that some response carries.
    pub(super) fn find(&self, name: &[u8]) -> Option<TagId> {
        self.ids.find(name, |&id| self.name(id) == name)
    }

    /// Notes that the response in `slot` carries `name`. `None`: that was known.
    pub(super) fn link(&mut self, name: &[u8], slot: Slot) -> Option<TagId> {
        if let Some(id) = self.find(name) {
            let record = self.records[id.0 as usize].as_mut()?;
            return record.slots.insert(slot).then(|| {
                self.links += 1;
                id
            });
        }
        let record = Some(Record { name: Name::of(name), slots: Slots::One(slot) });
        let id = if let Some(id) = self.free.pop() {
            self.records[id.0 as usize] = record;
            id
        } else {
            reserve_slowly(&mut self.records);
            self.records.push(record);
            TagId((self.records.len() - 1) as u32)
        };
        let records = &self.records;
        self.ids.insert(name, id, |id| name_in(records, id));
        self.links += 1;
        Some(id)
    }

    /// Undoes [`Names::link`].
    pub(super) fn unlink(&mut self, id: TagId, slot: Slot) {
        let Some(place) = self.records.get_mut(id.0 as usize) else { return };
        let Some(record) = place else { return };
        let removed = record.slots.remove(slot);
        if removed == Removed::Absent {
            return;
        }
        self.links -= 1;
        if removed == Removed::Last {
            if let Some(record) = place.take() {
                self.ids.remove(record.name.as_bytes(), |&known| known == id);
            }
            self.free.push(id);
        }
    }

    /// The name behind a number; empty where nobody carries it any more.
    pub(super) fn name(&self, id: TagId) -> &[u8] {
        name_in(&self.records, id)
    }

    /// The slots of the responses that carry it.
    pub(super) fn slots(&self, id: TagId) -> Option<&Slots> {
        self.record(id).map(|record| &record.slots)
    }

    /// All names with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Slots)> {
        self.records.iter().flatten().map(|record| (record.name.as_bytes(), &record.slots))
    }

    /// Names that some response carries.
    pub(super) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Pairs of a name and a response.
    pub(super) fn links(&self) -> u64 {
        self.links
    }

    /// Numbers that can still be given out.
    pub(super) fn room(&self) -> usize {
        self.free.len() + (u32::MAX as usize).saturating_sub(self.records.len())
    }

    fn record(&self, id: TagId) -> Option<&Record> {
        self.records.get(id.0 as usize).and_then(Option::as_ref)
    }
}

fn name_in(records: &[Option<Record>], id: TagId) -> &[u8] {
    let record = records.get(id.0 as usize).and_then(Option::as_ref);
    record.map_or(&[], |record| record.name.as_bytes())
}

/// Makes room for one more, and a quarter: what a vector takes by itself would be as much again.
pub(super) fn reserve_slowly<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_given_back() {
        assert_eq!(size_of::<Option<Record>>(), 40);
        for length in [0, 1, SHORT_NAME_BYTES, SHORT_NAME_BYTES + 1, 1_000] {
            let name = vec![b'x'; length];
            assert_eq!(Name::of(&name).as_bytes(), name);
        }
    }

    #[test]
    fn a_name_that_nobody_carries_is_released_and_its_number_reused() {
        let mut names = Names::default();
        let cat = names.link(b"cat_p_1", 7).unwrap();
        assert_eq!(names.link(b"cat_p_1", 7), None);
        assert_eq!(names.link(b"cat_p_1", 8), Some(cat));
        assert_eq!((names.len(), names.links()), (1, 2));
        names.unlink(cat, 7);
        names.unlink(cat, 7);
        assert_eq!(names.find(b"cat_p_1"), Some(cat));
        names.unlink(cat, 8);
        assert_eq!((names.len(), names.links()), (0, 0));
        assert_eq!(names.find(b"cat_p_1"), None);
        names.unlink(cat, 8);
        assert_eq!(names.link(b"cms_b_2", 9), Some(cat));
        assert_eq!(names.name(cat), b"cms_b_2");
    }
}
