//! Who asks, and what they may do.
//!
//! [`Rules`] say what matches and what the first rule that decides wants; [`bots`] and [`challenge`] know who asks;
//! [`limits`] count. This module puts them together: before anything is asked ([`Traffic::judge`], on the way of
//! each hit), and before PHP is ([`Traffic::before_php`]).

mod accounts;
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

use std::sync::Arc;
use std::time::Duration;

pub use accounts::Payers;
pub use asked::{Asked, Declared, Knows};
pub use rules::{Rule, Rules};
pub use tally::Figures;
pub use verdict::{Denial, Judged, No};

use crate::clock::Moment;
use crate::error_pages::ErrorPages;
use crate::redis_pool::Redis;
use crate::settings::Settings;
use crate::tokens::Signer;
use budgets::{Budget, Budgets, Holder, Taking};
use challenge::Challenge;
use forms::{Contents, Named, Reading};
use limits::{Limit, Limits, RetryAfter, Typical};
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

    /// May PHP be asked for a refresh, for which nobody waits? Counts nothing.
    pub fn may_refresh(&self, judged: &Judged, asked: &Asked<'_>, now: Moment) -> bool {
        let is_left = |place: usize| {
            let rule = self.rules.at(place).filter(|rule| !rule.is_dry);
            let limit = rule.and_then(Rule::limit);
            limit.is_none_or(|limit| self.php_left(place, limit, asked, now).is_ok())
        };
        judged.stored.is_none() && self.rules.before_php(judged, asked).iter().all(is_left)
    }
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
