//! The known name that is most like an unknown one.

/// Longest name that is compared; whatever is longer is no slip of the pen.
const NAME_MAX_BYTES: usize = 100;

/// The candidate with the fewest edits, if they are few enough for it to be a slip.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > NAME_MAX_BYTES {
        return None;
    }
    // A third of the letters: above that, names that have nothing in common are proposed.
    let edits_max = (name.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The insertions, deletions and replacements that turn one name into the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_strangers_are_not() {
        let known = ["store.memory", "store.grace", "listen.http", "listen.https"];
        assert_eq!(nearest("store.memroy", known), Some("store.memory"));
        assert_eq!(nearest("listen.htp", known), Some("listen.http"));
        assert_eq!(nearest("store.memory_bytes", known), Some("store.memory"));
        assert_eq!(nearest("varnish.ban_lurker", known), None);
    }

    proptest! {
        #[test]
        fn edits_are_symmetric_and_zero_for_equals_alone(left in "[a-c]{0,6}", right in "[a-c]{0,6}") {
            prop_assert_eq!(edits(&left, &right), edits(&right, &left));
            prop_assert_eq!(edits(&left, &right) == 0, left == right);
        }
    }
}
