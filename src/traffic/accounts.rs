//! Whose account of a limit a request shares, and what PHP took that is charged there.

use std::net::IpAddr;
use std::time::Duration;

use super::asked::Asked;
use super::limits::{Limit, Limits, RetryAfter};
use super::matching::Set;
use super::verdict::Judged;
use super::{Rule, Traffic, rules};
use crate::clock::Moment;
use crate::settings::{Beyond, LimitRule, Per};

/// Whom PHP's time is charged for one request: the same whoever its client turns out to be meanwhile, so that what
/// was laid down is given back where that was.
#[derive(Debug, Default)]
pub struct Payers {
    /// Those that count it.
    rules: Set,
    /// The places of limits, and the accounts that the request shares there.
    accounts: Vec<(usize, u64)>,
    /// What was laid down in each.
    deposit: Duration,
}

impl Traffic {
    pub(super) fn take(
        &self,
        place: usize,
        limit: &LimitRule,
        asked: &Asked<'_>,
        now: Moment,
    ) -> rules::Taken {
        self.counted(place, limit, asked, |limits, limit, key| limits.take(limit, key, now))
    }

    pub(super) fn php_left(
        &self,
        place: usize,
        limit: &LimitRule,
        asked: &Asked<'_>,
        now: Moment,
    ) -> rules::Taken {
        self.counted(place, limit, asked, |limits, limit, key| limits.php_left(limit, key, now))
    }

    /// What the account says that a request shares; who shares none is let through.
    fn counted(
        &self,
        place: usize,
        limit: &LimitRule,
        asked: &Asked<'_>,
        ask: impl FnOnce(&Limits, &Limit, u64) -> Result<(), RetryAfter>,
    ) -> rules::Taken {
        let Some((limit, key)) = self.account(place, limit, asked) else { return Ok(()) };
        ask(&self.kept.limits, limit, key).map_err(|again| again.0)
    }

    /// Where what PHP takes for a request is charged. Who asks is found out here, as far as that is known by now.
    pub fn payers(&self, judged: &Judged, asked: &Asked<'_>) -> Payers {
        let limits = self.rules.before_php(judged, asked);
        let account = |place| {
            let own = self.rules.at(place).and_then(Rule::limit).filter(|own| own.php.is_some())?;
            let (_, key) = self.account(place, own, asked)?;
            Some((place, key))
        };
        Payers {
            rules: judged.matched.or(limits),
            accounts: limits.iter().filter_map(account).collect(),
            deposit: Duration::ZERO,
        }
    }

    /// Lays down what PHP may take for a request that begins, so that not all that come while the first ones are at
    /// work are let through.
    pub fn deposit(&self, payers: Payers, now: Moment) -> Payers {
        let typical = self.accounts_of(&payers).map(|(limit, _)| limit.typical()).max();
        let deposit = typical.unwrap_or_default();
        for (limit, key) in self.accounts_of(&payers) {
            self.kept.limits.deposit_php(limit, key, deposit, now);
        }
        Payers { deposit, ..payers }
    }

    /// Charges what PHP took for a request, and gives back what was laid down for it.
    pub fn charge(&self, payers: &Payers, php: Duration, now: Moment) {
        self.rules.charge(payers.rules, php);
        for (limit, key) in self.accounts_of(payers) {
            self.kept.limits.charge_php(limit, key, (php, payers.deposit), now);
        }
    }

    fn accounts_of<'a>(&'a self, payers: &'a Payers) -> impl Iterator<Item = (&'a Limit, u64)> {
        payers.accounts.iter().filter_map(|(place, key)| {
            let limit = self.limits.get(*place)?.as_ref()?;
            Some((limit, *key))
        })
    }

    /// The limit of a rule on this node, and whose account this request shares; `None`: it is not counted.
    fn account(&self, place: usize, own: &LimitRule, asked: &Asked<'_>) -> Option<(&Limit, u64)> {
        let limit = self.limits.get(place)?.as_ref()?;
        let key = self.key(place, own.per, asked)?;
        // Who cannot be shown a challenge has an account apart: else a crawl that pages are shown to would shut out the
        // scripts of visitors.
        let is_apart = own.beyond == Beyond::Challenge && !asked.can_be_challenged();
        Some((limit, if is_apart { self.kept.limits.key((5_u8, key)) } else { key }))
    }

    /// What the account is found by that this request shares; `None`: by a session that it has not, or by an address that
    /// stands for many clients, whom one of them would shut out.
    fn key(&self, place: usize, per: Per, asked: &Asked<'_>) -> Option<u64> {
        if is_of_proxy(per, asked) {
            return None;
        }
        let limits = &self.kept.limits;
        Some(match per {
            Per::Address => limits.key((0_u8, prefix(asked.address, 32, 64))),
            Per::Network => limits.key((1_u8, prefix(asked.address, 24, 48))),
            Per::Session => match asked.session() {
                Some(session) => limits.key((2_u8, &session[..])),
                None => return None,
            },
            Per::Class => limits.key((3_u8, self.class(place, asked))),
            Per::Rule => limits.key(4_u8),
        })
    }

    /// Who shares a budget, in a form that is the same on all nodes; `None` as for [`Traffic::key`].
    pub(super) fn client(&self, place: usize, per: Per, asked: &Asked<'_>) -> Option<Vec<u8>> {
        if is_of_proxy(per, asked) {
            return None;
        }
        let of_prefix = |kind: u8, (is_ipv6, prefix): (bool, u128)| {
            [&[kind, u8::from(is_ipv6)], &prefix.to_be_bytes()[..]].concat()
        };
        Some(match per {
            Per::Address => of_prefix(0, prefix(asked.address, 32, 64)),
            Per::Network => of_prefix(1, prefix(asked.address, 24, 48)),
            Per::Session => match asked.session() {
                Some(session) => [&[2], &session[..]].concat(),
                None => return None,
            },
            Per::Class => vec![3, self.class(place, asked)],
            Per::Rule => vec![4],
        })
    }

    fn class(&self, place: usize, asked: &Asked<'_>) -> u8 {
        let who = self.rules.at(place).map_or(&[][..], |rule| &rule.own.who);
        let kind = who.iter().find(|kind| asked.is(**kind)).map(|kind| *kind as u8);
        kind.unwrap_or(asked.declared() as u8)
    }
}

/// Would an account be of a proxy's address?
fn is_of_proxy(per: Per, asked: &Asked<'_>) -> bool {
    matches!(per, Per::Address | Per::Network) && asked.is_proxys()
}

/// The leading bits of an address, of IPv4 and of IPv6.
pub(super) fn prefix(address: IpAddr, ipv4_bits: u32, ipv6_bits: u32) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u128::from(u32::from(address) >> (32 - ipv4_bits))),
        IpAddr::V6(address) => (true, u128::from(address) >> (128 - ipv6_bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_prefix() {
        let of = |address: &str, v4, v6| prefix(address.parse().expect("an address"), v4, v6);
        assert_eq!(of("192.0.2.1", 24, 48), of("192.0.2.254", 24, 48));
        assert_ne!(of("192.0.2.1", 32, 64), of("192.0.2.254", 32, 64));
        assert_eq!(of("2001:db8::1", 32, 64), of("2001:db8::ffff:1", 32, 64));
        assert_ne!(of("2001:db8:1::1", 24, 48), of("2001:db8:2::1", 24, 48));
        assert_eq!(of("::ffff:192.0.2.1", 32, 64), of("192.0.2.1", 32, 64));
    }
}
