//! Addresses that are turned away and stand for many clients: proxies, perhaps, that `listen.trusted` does not have.
//!
//! One request cannot tell a proxy from a client that makes forwarding headers up. So nothing is decided here: who is
//! limited, and names many others as those it asks for, is said to the operator, once.

use std::net::IpAddr;

use parking_lot::Mutex;

/// Addresses that are looked at.
const ADDRESSES_MAX: usize = 64;

/// So many others one names before it is said.
const OTHERS_MANY: usize = 10;

/// Addresses that were limited, and whom they named.
#[derive(Debug, Default)]
pub struct Proxies(Mutex<Vec<Limited>>);

#[derive(Debug)]
struct Limited {
    address: IpAddr,
    /// At most [`OTHERS_MANY`], each once.
    others: Vec<IpAddr>,
}

impl Proxies {
    /// A request of this address was turned away, which says that it is for another one. True: it has named many, for
    /// the first time.
    pub fn names_many(&self, address: IpAddr, other: IpAddr) -> bool {
        // Whoever is turned away waits for nobody here; one more or less does not matter.
        let Some(mut all) = self.0.try_lock() else { return false };
        let place = all.iter().position(|limited| limited.address == address);
        let place = place.or_else(|| {
            let new = Limited { address, others: Vec::new() };
            if all.len() < ADDRESSES_MAX {
                all.push(new);
                return all.len().checked_sub(1);
            }
            // Who has named many stays, so that it is not said twice.
            let fewest = all.iter().enumerate().min_by_key(|(_, limited)| limited.others.len());
            let (place, limited) = fewest?;
            let may_go = limited.others.len() < OTHERS_MANY;
            may_go.then(|| {
                all[place] = new;
                place
            })
        });
        let Some(limited) = place.and_then(|place| all.get_mut(place)) else { return false };
        if limited.others.len() >= OTHERS_MANY || limited.others.contains(&other) {
            return false;
        }
        limited.others.push(other);
        limited.others.len() == OTHERS_MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).expect("small").to_be_bytes())
    }

    #[test]
    fn who_names_many_is_told_once() {
        let proxies = Proxies::default();
        let told = |address_at: usize, others: std::ops::Range<usize>| {
            others.filter(|other| proxies.names_many(address(address_at), address(*other))).count()
        };
        assert_eq!((0..100).map(|_| told(1, 5..6)).sum::<usize>(), 0, "one client behind another");
        assert_eq!(told(1, 6..14), 0);
        assert_eq!(told(1, 14..99), 1);
        assert_eq!(told(1, 100..999), 0, "once");
        assert_eq!(told(2, 0..20), 1);
    }

    #[test]
    fn it_is_bounded_and_keeps_who_was_told_of() {
        let proxies = Proxies::default();
        (0..20).for_each(|other| {
            proxies.names_many(address(1), address(other));
        });
        for number in 2..10_000 {
            assert!(!proxies.names_many(address(number), address(0)));
        }
        assert_eq!(proxies.0.lock().len(), ADDRESSES_MAX);
        assert!(!(20..99).any(|other| proxies.names_many(address(1), address(other))));
        assert!((0..99).any(|other| proxies.names_many(address(7), address(other))));
    }
}
