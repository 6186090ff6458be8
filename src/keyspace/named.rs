//! What sets of tags name.

use super::dense::Dense;
use super::layout::TagSets;
use super::value::{Entry, Value};

/// Do sets of one cache's tags name nothing that is the same in all of them?
pub(super) fn are_apart(entries: &Dense<Entry>, layout: &[TagSets], sets: &[&[u8]]) -> bool {
    let are_of_one = |pair: &TagSets| {
        let tags: Option<Vec<_>> = sets.iter().map(|set| pair.of_set(set)).collect();
        tags.is_some_and(|tags| tags.iter().all(|tag| TagSets::are_of_one(tag, &tags[0])))
    };
    !sets.is_empty() && layout.iter().any(are_of_one) && common(entries, layout, sets).is_empty()
}

/// The set with the fewest members.
pub(super) fn smallest<'a>(entries: &Dense<Entry>, sets: &[&'a [u8]]) -> Option<&'a [u8]> {
    sets.iter().copied().min_by_key(|set| members(entries, set).map_or(0, Dense::len))
}

pub(super) fn members<'a>(entries: &'a Dense<Entry>, set: &[u8]) -> Option<&'a Dense<()>> {
    match entries.get(set).map(|entry| &entry.value) {
        Some(Value::Set(members)) => Some(members),
        _ => None,
    }
}

/// The keys of what all of these sets name.
pub(super) fn common(entries: &Dense<Entry>, layout: &[TagSets], sets: &[&[u8]]) -> Vec<Vec<u8>> {
    let Some(first) = smallest(entries, sets) else { return Vec::new() };
    let mut keys = values(entries, layout, first);
    keys.retain(|key| {
        layout.iter().any(|pair| {
            pair.of_value(key).is_some_and(|value| {
                sets.iter().all(|set| {
                    pair.of_set(set).is_some_and(|tag| TagSets::are_of_one(&tag, &value))
                        && members(entries, set).is_some_and(|names| names.contains(value.name))
                })
            })
        })
    });
    keys
}

/// The keys of what a tag's set names.
pub(super) fn values(entries: &Dense<Entry>, layout: &[TagSets], set: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for pair in layout {
        let (Some(tag), Some(members)) = (pair.of_set(set), members(entries, set)) else {
            continue;
        };
        keys.extend(members.iter().map(|(member, ())| pair.value(&tag, member)));
    }
    keys
}

/// Does a tag's set name anything that is there?
pub(super) fn names_any(entries: &Dense<Entry>, layout: &[TagSets], set: &[u8]) -> bool {
    values(entries, layout, set).iter().any(|key| entries.contains(key))
}
