//! The rules of a host.

use super::set::Set;
use super::table::Table;

/// Hosts of rules.
#[derive(Debug)]
pub struct Hosts {
    names: Table<Set>,
    /// With a dot in front: all below.
    domains: Vec<(Box<[u8]>, Set)>,
    with: Set,
}

impl Hosts {
    /// The hosts of each rule, in order.
    pub fn new<'a>(rules: impl Iterator<Item = &'a [String]>) -> Self {
        let mut hosts = Self { names: Table::new(true), domains: Vec::new(), with: Set::EMPTY };
        for (rule, own) in rules.enumerate() {
            for host in own {
                hosts.with.add(rule);
                match host.strip_prefix('*') {
                    Some(domain) => hosts.domains.push((domain.as_bytes().into(), Set::of(rule))),
                    None => hosts.names.entry(host).add(rule),
                }
            }
        }
        hosts
    }

    /// Of these rules those that take a host, with or without port.
    pub fn of(&self, authority: &[u8], rules: Set) -> Set {
        let asked = rules.and(self.with);
        if asked.is_empty() {
            return rules;
        }
        let host = without_port(authority);
        let mut found = self.names.named(host).copied().unwrap_or_default();
        for (domain, own) in &self.domains {
            let end = host.len().checked_sub(domain.len()).and_then(|at| host.get(at..));
            let is_below = host.len() > domain.len()
                && end.is_some_and(|end| end.eq_ignore_ascii_case(domain));
            if is_below {
                found = found.or(*own);
            }
        }
        rules.without(asked.without(found))
    }
}

/// The host of an authority; the colons of an IPv6 address stand in brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    let end = match authority.iter().position(|byte| *byte == b']') {
        Some(bracket) => bracket + 1,
        None => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    authority.get(..end).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_by_its_name_or_by_a_domain_above_it() {
        let of = |hosts: &[&str]| hosts.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let rules = [of(&["shop.example", "[2001:db8::1]"]), of(&["*.shop.example"]), of(&[])];
        let hosts = Hosts::new(rules.iter().map(Vec::as_slice));
        let found =
            |host: &str| hosts.of(host.as_bytes(), Set::first(3)).iter().collect::<Vec<_>>();
        assert_eq!(found("Shop.example:8443"), [0, 2]);
        assert_eq!(found("de.SHOP.example"), [1, 2]);
        assert_eq!(found("eshop.example"), [2]);
        assert_eq!(found("[2001:db8::1]:443"), [0, 2]);
        assert_eq!(found(""), [2]);
    }
}
