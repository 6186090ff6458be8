//! Which node owns a key: the one whose name and the key together give the highest number
//! (rendezvous hashing). All nodes that know the same members agree without asking each other, and
//! where a member comes or goes only the keys that it has or had move.

/// A name or a key as a number. It must be the same on each node, so that its hash is written down
/// here (FNV-1a, then mixed).
pub fn number_of(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(fnv)
}

/// The place of the owner of `key` among nodes, given by their numbers. `None`: there are none.
pub fn owner(nodes: impl Iterator<Item = u64>, key: u64) -> Option<usize> {
    let rank = |node: u64| (mixed(node ^ key), node);
    nodes.enumerate().max_by_key(|(_, node)| rank(*node)).map(|(place, _)| place)
}

/// Each bit of the input changes half of those that come out (the finaliser of splitmix64).
fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn owner_of<'a>(nodes: &[&'a str], key: &[u8]) -> Option<&'a str> {
        let numbers = nodes.iter().map(|name| number_of(name.as_bytes()));
        owner(numbers, number_of(key)).map(|place| nodes[place])
    }

    proptest! {
        #[test]
        fn the_order_in_which_a_node_knows_the_others_does_not_matter(
            names: BTreeSet<String>, key: Vec<u8>, turn: usize,
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let mut others = names.clone();
            others.rotate_left(turn % names.len().max(1));
            prop_assert_eq!(owner_of(&names, &key), owner_of(&others, &key));
        }

        #[test]
        fn a_member_that_goes_moves_its_own_keys_alone(
            names in prop::collection::btree_set(".{1,9}", 2..9), key: Vec<u8>, gone: usize,
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let gone = names[gone % names.len()];
            let left: Vec<_> = names.iter().copied().filter(|name| *name != gone).collect();
            let (before, after) = (owner_of(&names, &key), owner_of(&left, &key));
            prop_assert!(before == after || before == Some(gone));
        }
    }

    proptest! {
        #[test]
        fn nodes_that_know_different_others_never_ask_in_a_circle(
            names in prop::collection::btree_set(".{1,9}", 2..9), key: Vec<u8>,
            views in prop::collection::vec(any::<u16>(), 9),
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let sees = |node: usize| -> Vec<&str> {
                let known = |other: &usize| *other == node || views[node] >> other & 1 == 1;
                (0..names.len()).filter(known).map(|other| names[other]).collect()
            };
            for node in 0..names.len() {
                let (mut at, mut visited) = (names[node], BTreeSet::new());
                while let Some(next) = owner_of(&sees(names.iter().position(|name| *name == at).expect("known")), &key)
                    && next != at
                {
                    prop_assert!(visited.insert(at), "a circle");
                    at = next;
                }
            }
        }
    }

    #[test]
    fn all_members_own_about_as_many_keys() {
        let names: Vec<_> = (1..=10).map(|number| format!("web-{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut keys = vec![0; names.len()];
        for page in 0..10_000 {
            let key = format!("shop.test/page-{page}.html\0");
            let owner = owner_of(&names, key.as_bytes()).expect("a node");
            keys[names.iter().position(|name| *name == owner).expect("known")] += 1;
        }
        assert!(keys.iter().all(|number| (850..1_150).contains(number)), "{keys:?}");
    }

    #[test]
    fn the_numbers_are_the_same_in_each_version() {
        assert_eq!(number_of(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(owner([].into_iter(), 1), None);
    }
}
