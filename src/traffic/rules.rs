//! The rules, compiled: which match a request.

mod judging;

use std::sync::Arc;

use http::Method;

use super::asked::Asked;
use super::matching::{Besides, Headers, Hosts, NetworkTable, Parameters, Paths, RULES_MAX, Set};
use super::tally::{Figures, Kinds, Tally};
use crate::settings::{self, Action, LimitRule, TrafficRule, WhoKind};
pub use judging::Taken;

/// The methods that settings can name, each in its place.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As the settings have it.
    pub own: TrafficRule,
    /// Its name.
    pub name: Arc<str>,
    /// Does it count alone?
    pub is_dry: bool,
    tally: Tally,
}

impl Rule {
    /// What it has done.
    pub fn figures(&self) -> Figures {
        self.tally.figures()
    }

    /// The limit, where it is one.
    pub fn limit(&self) -> Option<&LimitRule> {
        match &self.own.action {
            Action::Limit(limit) => Some(limit),
            _ => None,
        }
    }

    fn is_for(&self, asked: &Asked<'_>) -> bool {
        let who = &self.own.who;
        who.is_empty() || who.iter().any(|kind| asked.is(*kind))
    }
}

/// All rules, in order.
#[derive(Debug)]
pub struct Rules {
    list: Vec<Rule>,
    methods: [Set; METHODS.len()],
    /// Those that take any method.
    other_methods: Set,
    networks: NetworkTable,
    hosts: Hosts,
    paths: Paths,
    parameters: Parameters,
    headers: Headers,
    /// Those that take a request without a query.
    without_query: Set,
    with_length: Set,
    with_facets: Set,
    no_facets: Besides,
    /// Limits on PHP's time that ask for cookies: no hit has to look for these.
    late: Set,
    with_strangers: Set,
    kinds: Kinds,
}

impl Rules {
    /// Compiles the rules. Counts of rules of the same name go on from `before`.
    pub fn new(settings: &settings::Traffic, before: Option<&Self>) -> Self {
        let given = settings.rules.get(..RULES_MAX).unwrap_or(&settings.rules);
        let tally = |name: &str| {
            let same = before.and_then(|before| before.named(name));
            same.map_or_else(Tally::new, |rule| rule.tally.clone())
        };
        let compiled = |own: &TrafficRule| Rule {
            name: own.name.as_str().into(),
            is_dry: own.dry_run || settings.dry_run,
            tally: tally(&own.name),
            own: own.clone(),
        };
        let those = |is: &dyn Fn(&TrafficRule) -> bool| -> Set {
            given.iter().enumerate().filter(|(_, rule)| is(rule)).map(|(at, _)| at).collect()
        };
        let parameters =
            Parameters::new(given.iter().map(|one| (&one.query[..], &one.query_besides[..])));
        let all = Set::first(given.len());
        let with_length = those(&|rule| rule.query_length_min.is_some());
        let with_facets = those(&|rule| rule.facets_min.is_some());
        let asks_query = parameters.with().or(with_length).or(with_facets);
        Self {
            list: given.iter().map(compiled).collect(),
            methods: METHODS.map(|method| {
                let takes = |own: &String| own == method.as_str();
                those(&|rule| rule.methods.is_empty() || rule.methods.iter().any(takes))
            }),
            other_methods: those(&|rule| rule.methods.is_empty()),
            networks: NetworkTable::new(given.iter().map(|rule| &rule.from)),
            hosts: Hosts::new(given.iter().map(|rule| &rule.hosts[..])),
            paths: Paths::new(given.iter().map(|rule| &rule.paths[..])),
            headers: Headers::new(given.iter().map(|rule| &rule.headers[..])),
            parameters,
            without_query: all.without(asks_query),
            with_length,
            with_facets,
            no_facets: Besides::new(&settings.facets_besides),
            late: those(&TrafficRule::asks_late),
            with_strangers: those(&|rule| rule.who.contains(&WhoKind::Stranger)),
            kinds: before.map_or_else(Kinds::new, |before| before.kinds.clone()),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.list.iter()
    }

    /// The rule at a place.
    pub fn at(&self, place: usize) -> Option<&Rule> {
        self.list.get(place)
    }

    fn named(&self, name: &str) -> Option<&Rule> {
        self.list.iter().find(|rule| &*rule.name == name)
    }

    /// Requests of a kind of client, as far as a rule asked who it was.
    pub fn counted(&self, kind: WhoKind) -> u64 {
        self.kinds.counted(kind)
    }

    /// The rules whose conditions hold, but for who asks.
    pub fn candidates(&self, asked: &Asked<'_>) -> Set {
        let mut left = self.of_method(asked.method);
        left = match asked.query {
            None => left.and(self.without_query),
            Some(query) => self.of_query(query, asked, left),
        };
        left = self.networks.of(asked.address, left);
        left = self.paths.of(asked.path, left);
        left = self.hosts.of(asked.authority, left);
        self.headers.of(asked.fields, left)
    }

    fn of_method(&self, method: &Method) -> Set {
        let place = METHODS.iter().position(|own| own == method);
        place.and_then(|place| self.methods.get(place)).map_or(self.other_methods, |rules| *rules)
    }

    fn of_query(&self, query: &[u8], asked: &Asked<'_>, rules: Set) -> Set {
        let mut left = self.parameters.of(query, rules);
        for place in left.and(self.with_length).iter() {
            let least = self.at(place).and_then(|rule| rule.own.query_length_min);
            if least.is_some_and(|least| query.len() < least as usize) {
                left.remove(place);
            }
        }
        for place in left.and(self.with_facets).iter() {
            let least = self.at(place).and_then(|rule| rule.own.facets_min);
            if least.is_some_and(|least| asked.facets(&self.no_facets) < least) {
                left.remove(place);
            }
        }
        left
    }

    /// Of one rule what its conditions say of a request, one by one: the first that does not hold.
    pub fn misses(&self, place: usize, asked: &Asked<'_>) -> Option<&'static str> {
        let (rule, only) = (self.at(place)?, Set::of(place));
        let query = asked.query.unwrap_or_default();
        let own = &rule.own;
        let holds = [
            ("methods", self.of_method(asked.method).has(place)),
            ("from", self.networks.of(asked.address, only).has(place)),
            ("hosts", self.hosts.of(asked.authority, only).has(place)),
            ("paths", self.paths.of(asked.path, only).has(place)),
            ("query", self.parameters.of(query, only).has(place)),
            (
                "query_length_min",
                own.query_length_min.is_none_or(|least| query.len() >= least as usize),
            ),
            (
                "facets_min",
                own.facets_min.is_none_or(|least| asked.facets(&self.no_facets) >= least),
            ),
            ("headers", self.headers.of(asked.fields, only).has(place)),
            ("who", rule.is_for(asked)),
        ];
        holds.into_iter().find(|(_, holds)| !holds).map(|(condition, _)| condition)
    }

    /// The facets that a request's query has.
    pub fn facets(&self, asked: &Asked<'_>) -> u32 {
        asked.facets(&self.no_facets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_room_for_all_rules_that_settings_take() {
        const { assert!(settings::TRAFFIC_RULES_MAX <= RULES_MAX) };
        assert_eq!(settings::TRAFFIC_TOGETHER_MAX, RULES_MAX);
    }
}
