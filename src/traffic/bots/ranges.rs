//! Sets of addresses, looked up by bisection.

use std::net::IpAddr;

use ipnet::IpNet;

/// Ranges of addresses, sorted and apart from each other.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Is the address in one of them? IPv4 in IPv6 is to come as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => has(&self.v4, address.to_bits()),
            IpAddr::V6(address) => has(&self.v6, address.to_bits()),
        }
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl<'a> FromIterator<&'a IpNet> for Ranges {
    fn from_iter<I: IntoIterator<Item = &'a IpNet>>(ranges: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match range {
                IpNet::V4(range) => {
                    v4.push((range.network().to_bits(), range.broadcast().to_bits()));
                }
                IpNet::V6(range) => {
                    v6.push((range.network().to_bits(), range.broadcast().to_bits()));
                }
            }
        }
        Self { v4: apart(v4), v6: apart(v6) }
    }
}

/// Sorted, with those joined that overlap.
fn apart<N: Ord + Copy>(mut ranges: Vec<(N, N)>) -> Vec<(N, N)> {
    ranges.sort_unstable();
    let mut joined: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn has<N: Ord + Copy>(ranges: &[(N, N)], address: N) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).is_some_and(|at| address <= ranges[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_is_in_the_set_where_one_of_the_ranges_has_it(
            // Few bits, so that ranges overlap and addresses are in them.
            v4 in prop::collection::vec((0_u32..64, 26_u8..=32), 0..8),
            v6 in prop::collection::vec((0_u128..64, 122_u8..=128), 0..8),
            address in 0_u32..64,
        ) {
            let nets: Vec<IpNet> = v4
                .iter()
                .map(|(bits, prefix)| IpNet::new(IpAddr::V4((*bits).into()), *prefix))
                .chain(v6.iter().map(|(bits, prefix)| IpNet::new(IpAddr::V6((*bits).into()), *prefix)))
                .collect::<Result<_, _>>()
                .expect("right");
            let ranges: Ranges = nets.iter().collect();
            prop_assert_eq!(ranges.is_empty(), nets.is_empty());
            for address in [IpAddr::V4(address.into()), IpAddr::V6(u128::from(address).into())] {
                let naive = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(ranges.contains(address), naive);
            }
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_addresses() {
        let all: Vec<IpNet> =
            ["255.0.0.0/8", "0.0.0.0/8", "ffff::/16"].map(|net| net.parse().expect("right")).into();
        let ranges: Ranges = all.iter().collect();
        for inside in ["255.255.255.255", "0.0.0.0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(ranges.contains(inside.parse().expect("right")), "{inside}");
        }
        assert!(!ranges.contains("::".parse().expect("right")));
        assert!(!Ranges::default().contains("::".parse().expect("right")));
    }
}
