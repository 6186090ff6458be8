//! The rules of an address: one search in a sorted table, however many networks they name.

use std::net::IpAddr;

use ipnet::IpNet;

use super::set::{RULES_MAX, Set};
use crate::settings::Networks;

/// Where rules begin or cease to hold, by the first address of each piece.
#[derive(Debug, Default)]
pub struct NetworkTable {
    v4: Vec<(u32, Set)>,
    v6: Vec<(u128, Set)>,
    /// Rules with networks.
    with: Set,
}

impl NetworkTable {
    /// The networks of each rule, in order.
    pub fn new<'a>(rules: impl Iterator<Item = &'a Networks>) -> Self {
        let mut with = Set::EMPTY;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (rule, networks) in rules.enumerate() {
            for network in networks.iter() {
                with.add(rule);
                match network {
                    IpNet::V4(net) => {
                        v4.push((u32::from(net.network()), u32::from(net.broadcast()), rule));
                    }
                    IpNet::V6(net) => {
                        v6.push((u128::from(net.network()), u128::from(net.broadcast()), rule));
                    }
                }
            }
        }
        Self {
            v4: pieces(&v4, |last| last.checked_add(1)),
            v6: pieces(&v6, |last| last.checked_add(1)),
            with,
        }
    }

    /// Of these rules those that take an address. IPv4 in IPv6 counts as IPv4.
    pub fn of(&self, address: IpAddr, rules: Set) -> Set {
        let asked = rules.and(self.with);
        if asked.is_empty() {
            return rules;
        }
        let found = match address.to_canonical() {
            IpAddr::V4(address) => piece_of(&self.v4, u32::from(address)),
            IpAddr::V6(address) => piece_of(&self.v6, u128::from(address)),
        };
        rules.without(asked.without(found))
    }
}

fn piece_of<A: Ord + Copy>(pieces: &[(A, Set)], address: A) -> Set {
    let behind = pieces.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|at| pieces.get(at)).map_or(Set::EMPTY, |(_, set)| *set)
}

/// The pieces into which networks, by their first and last addresses, cut all addresses.
fn pieces<A: Ord + Copy>(networks: &[(A, A, usize)], next: fn(A) -> Option<A>) -> Vec<(A, Set)> {
    // Ends before beginnings, so that a count does not matter in between.
    let mut edges: Vec<(A, bool, usize)> = Vec::with_capacity(2 * networks.len());
    for (first, last, rule) in networks {
        edges.push((*first, true, *rule));
        if let Some(behind) = next(*last) {
            edges.push((behind, false, *rule));
        }
    }
    edges.sort_unstable();
    // Networks of one rule may lie within each other.
    let mut open = [0_u32; RULES_MAX];
    let mut set = Set::EMPTY;
    let mut pieces: Vec<(A, Set)> = Vec::new();
    for (at, begins, rule) in edges {
        let Some(open) = open.get_mut(rule) else { continue };
        *open = if begins { *open + 1 } else { open.saturating_sub(1) };
        if *open == 0 {
            set.remove(rule);
        } else {
            set.add(rule);
        }
        match pieces.last_mut() {
            Some((last, its)) if *last == at => *its = set,
            _ => pieces.push((at, set)),
        }
    }
    pieces.dedup_by(|later, earlier| later.1 == earlier.1);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<IpNet>().expect("a network")).collect()
    }

    #[test]
    fn an_address_has_the_rules_of_all_its_networks() {
        let rules = [
            networks(&["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]),
            networks(&[]),
            networks(&["10.1.2.3/32", "255.255.255.255/32"]),
            networks(&["0.0.0.0/0", "::/0"]),
        ];
        let table = NetworkTable::new(rules.iter());
        let of = |address: &str| -> Vec<usize> {
            table.of(address.parse().expect("an address"), Set::first(4)).iter().collect()
        };
        assert_eq!(of("10.1.2.3"), [0, 1, 2, 3]);
        assert_eq!(of("10.1.2.4"), [0, 1, 3]);
        assert_eq!(of("11.0.0.0"), [1, 3]);
        assert_eq!(of("255.255.255.255"), [1, 2, 3]);
        assert_eq!(of("2001:db8::1"), [0, 1, 3]);
        assert_eq!(of("::ffff:10.1.2.3"), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn it_says_what_looking_at_all_says(
            nets in prop::collection::vec((0_usize..4, any::<u32>(), 0_u8..=8), 0..20),
            address: u32,
        ) {
            // Few bits, so that networks meet.
            let net = |bits: u32, length: u8| {
                let address = std::net::Ipv4Addr::from((bits & 7) << 29);
                IpNet::new(IpAddr::V4(address), length.min(3)).expect("a length").trunc()
            };
            let rules: Vec<Networks> = (0..4)
                .map(|rule| {
                    nets.iter().filter(|one| one.0 == rule).map(|one| net(one.1, one.2)).collect()
                })
                .collect();
            let table = NetworkTable::new(rules.iter());
            let address = IpAddr::from(std::net::Ipv4Addr::from(address));
            let expected: Vec<usize> = (0..4)
                .filter(|rule| rules[*rule].is_empty() || rules[*rule].contains(address))
                .collect();
            let found: Vec<usize> = table.of(address, Set::first(4)).iter().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
