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
pub mod proxies;
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
use crate::redis_pool::Redis;
use crate::settings::{Beyond, LimitRule, Per, Settings};
use crate::tokens::Signer;
use budgets::{Budget, Budgets, Holder, Taking};
use challenge::Challenge;
use forms::{Contents, Named, Reading};
use limits::{Limit, Limits, RetryAfter, Typical};
use matching::Set;
use proxies::Proxies;

/// What outlives a reload.
pub struct Kept {
    limits: Arc<Limits>,
    budgets: Budgets,
    signer: Arc<Signer>,
    proxies: Proxies,
    /// Milliseconds of PHP that requests of other nodes took of late.
    for_peers: Typical,
}

impl Kept {
    /// With as many accounts as the settings say. `redis`: where the nodes of a fleet count together.
    pub fn new(settings: &Settings, signer: Arc<Signer>, redis: Option<Arc<Redis>>) -> Self {
        let limits = Arc::new(Limits::new(settings.traffic.accounts_max));
        let secrets = [&settings.traffic.secret, &settings.fleet.peers.secret];
        let secret = secrets.into_iter().find(|secret| !secret.is_empty());
        let secret = secret.map_or(&[][..], |secret| secret.as_bytes());
        let budgets = Budgets::new(redis, &settings.fleet.prefix, secret, Arc::clone(&limits));
        let (proxies, for_peers) = (Proxies::default(), Typical::default());
        Self { limits, budgets, signer, proxies, for_peers }
    }

    /// What became of requests that the fleet counts.
    pub fn budget_figures(&self) -> budgets::Figures {
        self.budgets.figures()
    }

    /// Whose addresses may stand for many.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// What PHP takes for a request of another node.
    pub fn for_peers(&self) -> &Typical {
        &self.for_peers
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
    budgets: Vec<Option<Budget>>,
    contents: Vec<Option<Contents>>,
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
        let budget = |rule: &Rule| {
            let own = rule.limit().filter(|limit| limit.fleet)?;
            kept.budgets.budget(&rule.name, own)
        };
        Self {
            limits: rules.iter().map(limit).collect(),
            budgets: rules.iter().map(budget).collect(),
            contents: rules.iter().map(|rule| rule.limit().and_then(Contents::of)).collect(),
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
        let Some((limit, key)) = self.account(place, limit, asked) else { return Ok(()) };
        self.kept.limits.take(limit, key, now).map_err(|again| again.0)
    }

    /// What the rules say of a request before PHP is asked for it: who gets what is stored alone, and whose PHP
    /// time is used up. What the fleet counts is left to be claimed.
    ///
    /// # Errors
    /// A rule's no.
    pub fn before_php(
        &self,
        judged: &Judged,
        asked: &Asked<'_>,
        now: Moment,
    ) -> Result<Vec<Claim>, No> {
        let mut claims = Vec::new();
        let left = self.rules.before_php(judged, asked);
        self.rules.match_late(left.and(judged.late));
        for place in left.iter() {
            let Some(limit) = self.rules.at(place).and_then(Rule::limit) else { continue };
            if limit.fleet {
                let client = self.client(place, limit.per, asked);
                if client.is_some() || limit.field.is_some() {
                    let binds = self.rules.binds(place, asked);
                    claims.push(Claim { place, client, named: Named::Nobody, count: 1, binds });
                }
            } else if let Err(again) = self.php_left(place, limit, asked, now)
                && let Some(no) = self.rules.used_up(place, asked, again, true)
            {
                return Err(no);
            }
        }
        judged.stored.clone().map_or(Ok(claims), Err)
    }

    /// Does a claim depend on what the request brings?
    pub fn reads(&self, claim: &Claim) -> bool {
        self.field(claim).is_some() || self.contents_of(claim).is_some()
    }

    /// Of these claims those that count, each with the account that the form names for it. `content`: all of it; `None`: it
    /// cannot be read, or is longer than [`forms::CONTENT_MAX_BYTES`].
    pub fn read(
        &self,
        claims: &mut Vec<Claim>,
        content_type: Option<&[u8]>,
        content: Option<&[u8]>,
    ) {
        let reading = Reading::new(content_type, content);
        for claim in claims.iter_mut() {
            if let Some(contents) = self.contents_of(claim) {
                claim.count = contents.count_in(&reading);
            }
            if let Some(field) = self.field(claim).filter(|_| claim.count > 0) {
                claim.named = reading.account(field);
            }
        }
        claims.retain(|claim| claim.count > 0);
    }

    fn contents_of(&self, claim: &Claim) -> Option<&Contents> {
        self.contents.get(claim.place)?.as_ref()
    }

    /// The form field that names the account of a claim.
    fn field(&self, claim: &Claim) -> Option<&str> {
        self.rules.at(claim.place).and_then(Rule::limit)?.field.as_deref()
    }

    /// Takes a request out of all budgets of the fleet that it claims, of the client and of the account that a form
    /// names, or out of none of them. Waits for Redis, no longer than that has for a command. Gives the places of the
    /// rules whose budgets have nothing left, and when they have something again.
    pub async fn claim(
        &self,
        claims: &[Claim],
        nodes: usize,
        now: Moment,
    ) -> Vec<(usize, Duration)> {
        let (places, takings): (Vec<usize>, Vec<Taking<'_>>) =
            claims.iter().filter_map(|claim| self.taking(claim)).unzip();
        if takings.is_empty() {
            return Vec::new();
        }
        let taken = self.kept.budgets.take(&takings, nodes, now).await;
        let refused = |(place, taken): (usize, budgets::Taken)| {
            taken.err().map(|RetryAfter(again)| (place, again))
        };
        places.into_iter().zip(taken).filter_map(refused).collect()
    }

    /// `None`: there is nobody from whose account something could be taken.
    fn taking<'a>(&'a self, claim: &'a Claim) -> Option<(usize, Taking<'a>)> {
        let budget = self.budgets.get(claim.place)?.as_ref()?;
        let holders: Vec<Holder<'_>> = claim.holders().collect();
        (!holders.is_empty()).then_some((
            claim.place,
            Taking { budget, holders, count: claim.count, binds: claim.binds },
        ))
    }

    /// Who shares a budget, in a form that is the same on all nodes; `None` as for [`Traffic::key`].
    fn client(&self, place: usize, per: Per, asked: &Asked<'_>) -> Option<Vec<u8>> {
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

    fn php_left(
        &self,
        place: usize,
        limit: &LimitRule,
        asked: &Asked<'_>,
        now: Moment,
    ) -> rules::Taken {
        let Some((limit, key)) = self.account(place, limit, asked) else { return Ok(()) };
        self.kept.limits.php_left(limit, key, now).map_err(|again| again.0)
    }

    /// May PHP be asked for a refresh, for which nobody waits? Counts nothing.
    pub fn may_refresh(&self, judged: &Judged, asked: &Asked<'_>, now: Moment) -> bool {
        let is_left = |place: usize| {
            let rule = self.rules.at(place).filter(|rule| !rule.is_dry);
            let limit = rule.and_then(Rule::limit);
            limit.is_none_or(|limit| self.php_left(place, limit, asked, now).is_ok())
        };
        judged.stored.is_none() && self.rules.before_php(judged, asked).iter().all(is_left)
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
}

/// Would an account be of a proxy's address?
fn is_of_proxy(per: Per, asked: &Asked<'_>) -> bool {
    matches!(per, Per::Address | Per::Network) && asked.is_proxys()
}

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

/// What a request takes of a budget of the fleet.
pub struct Claim {
    place: usize,
    /// `None`: by a session that it has not, or by an address that stands for many. What a form names counts all the
    /// same.
    client: Option<Vec<u8>>,
    named: Named,
    /// For how many it counts.
    count: u32,
    /// Does its rule turn the request away where nothing is left?
    binds: bool,
}

impl Claim {
    fn holders(&self) -> impl Iterator<Item = Holder<'_>> {
        let account = match &self.named {
            Named::Nobody => None,
            Named::Account(name) => Some(Holder::Account(Some(name))),
            Named::Unreadable => Some(Holder::Account(None)),
        };
        self.client.as_deref().map(Holder::Client).into_iter().chain(account)
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
