//! Who asks, and what they may do.
//!
//! [`Rules`] say what matches and what the first rule that decides wants; [`bots`] and [`challenge`] know who asks;
//! [`limits`] count. This module puts them together: before anything is asked ([`Traffic::judge`], on the way of
//! each hit), and before PHP is ([`Traffic::before_php`]).

mod asked;
pub mod bots;
pub mod budgets;
pub mod challenge;
pub mod forms;
pub mod limits;
mod matching;
mod rules;
mod tally;
mod verdict;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use asked::{Asked, Declared, Knows};
pub use rules::{Rule, Rules};
pub use tally::Figures;
pub use verdict::{Denial, Judged, No};

use crate::clock::Moment;
use crate::error_pages::ErrorPages;
use crate::settings::{LimitRule, Per, Settings};
use crate::tokens::Signer;
use challenge::Challenge;
use limits::{Limit, Limits};

/// What outlives a reload.
pub struct Kept {
    limits: Limits,
    signer: Arc<Signer>,
}

impl Kept {
    /// With as many accounts as the settings say.
    pub fn new(settings: &Settings, signer: Arc<Signer>) -> Self {
        Self { limits: Limits::new(settings.traffic.accounts_max), signer }
    }

    /// Signs what clients keep.
    pub fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }
}

/// The rules in force, and what they need.
pub struct Traffic {
    kept: Arc<Kept>,
    rules: Rules,
    /// By the places of rules.
    limits: Vec<Option<Limit>>,
    challenge: Challenge,
    is_on: bool,
}

impl Traffic {
    /// With the rules of these settings. What rules of the same name counted goes on from `before`, and so
    /// do the accounts of limits that stay as they were.
    pub fn new(
        settings: &Settings,
        kept: Arc<Kept>,
        pages: Arc<ErrorPages>,
        before: Option<&Self>,
    ) -> Self {
        let rules = Rules::new(&settings.traffic, before.map(|before| &before.rules));
        let limit = |rule: &Rule| rule.limit().map(|own| kept.limits.limit(&rule.name, own));
        Self {
            limits: rules.iter().map(limit).collect(),
            challenge: Challenge::new(&settings.challenge, Arc::clone(&kept.signer), pages),
            is_on: settings.traffic.on && !settings.traffic.rules.is_empty(),
            rules,
            kept,
        }
    }

    /// Is there anything to judge by?
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The challenge.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// What the rules say of a request before anything is asked. Takes from the limits on requests of this
    /// node; neither waits nor locks what all threads share.
    pub fn judge(&self, asked: &Asked<'_>, now: Moment) -> Judged {
        self.rules.judge(asked, &|place, limit| self.take(place, limit, asked, now))
    }

    fn take(
        &self,
        place: usize,
        limit: &LimitRule,
        asked: &Asked<'_>,
        now: Moment,
    ) -> rules::Taken {
        let Some(Some(account)) = self.limits.get(place) else { return Ok(()) };
        let key = self.key(place, limit.per, asked);
        self.kept.limits.take(account, key, now).map_err(|again| again.0)
    }

    /// What the rules say of a request before PHP is asked for it: who gets what is stored alone, whose PHP time
    /// is used up, and what is counted for the fleet.
    ///
    /// # Errors
    /// A rule's no.
    pub fn before_php(&self, judged: &Judged, asked: &Asked<'_>, now: Moment) -> Result<(), No> {
        for place in judged.before_php.iter() {
            let Some(limit) = self.rules.at(place).and_then(Rule::limit) else { continue };
            let taken = if limit.fleet {
                self.take(place, limit, asked, now)
            } else {
                self.php_left(place, limit, asked, now)
            };
            if let Err(again) = taken
                && let Some(no) = self.rules.used_up(place, asked, again, !limit.fleet)
            {
                return Err(no);
            }
        }
        judged.stored.clone().map_or(Ok(()), Err)
    }

    fn php_left(
        &self,
        place: usize,
        limit: &LimitRule,
        asked: &Asked<'_>,
        now: Moment,
    ) -> rules::Taken {
        let Some(Some(account)) = self.limits.get(place) else { return Ok(()) };
        let key = self.key(place, limit.per, asked);
        self.kept.limits.php_left(account, key, now).map_err(|again| again.0)
    }

    /// May PHP be asked for a refresh, for which nobody waits? Counts nothing.
    pub fn may_refresh(&self, judged: &Judged, asked: &Asked<'_>, now: Moment) -> bool {
        let is_left = |place: usize| {
            let rule = self.rules.at(place).filter(|rule| !rule.is_dry);
            let limit = rule.and_then(Rule::limit);
            limit.is_none_or(|limit| self.php_left(place, limit, asked, now).is_ok())
        };
        judged.stored.is_none() && judged.before_php.iter().all(is_left)
    }

    /// Charges what PHP took for a request.
    pub fn charge(&self, judged: &Judged, asked: &Asked<'_>, php: Duration, now: Moment) {
        self.rules.charge(judged.matched, php);
        for place in judged.before_php.iter() {
            let limit = self.rules.at(place).and_then(Rule::limit);
            let (Some(limit), Some(Some(account))) = (limit, self.limits.get(place)) else {
                continue;
            };
            let key = self.key(place, limit.per, asked);
            self.kept.limits.charge_php(account, key, php, now);
        }
    }

    /// What the account is found by that this request shares.
    fn key(&self, place: usize, per: Per, asked: &Asked<'_>) -> u64 {
        let limits = &self.kept.limits;
        let of_address = || limits.key((0_u8, prefix(asked.address, 32, 64)));
        match per {
            Per::Address => of_address(),
            Per::Network => limits.key((1_u8, prefix(asked.address, 24, 48))),
            Per::Session => match asked.session() {
                Some(session) => limits.key((2_u8, &session[..])),
                None => of_address(),
            },
            Per::Class => {
                let who = self.rules.at(place).map_or(&[][..], |rule| &rule.own.who);
                let kind = who.iter().find(|kind| asked.is(**kind)).map(|kind| *kind as u8);
                limits.key((3_u8, kind.unwrap_or(asked.declared() as u8)))
            }
            Per::Rule => limits.key(4_u8),
        }
    }
}

/// The leading bits of an address, of IPv4 and of IPv6.
fn prefix(address: IpAddr, ipv4_bits: u32, ipv6_bits: u32) -> (bool, u128) {
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
