//! Finds rules of `[traffic]` that can never match, and default ones whose place a given one takes.

use std::collections::BTreeSet;

use super::HEADERS_MAX;
use crate::settings::covering::{covers_all, covers_besides, covers_name, covers_path};
use crate::settings::reader::Reader;
use crate::settings::traffic::Replaced;
use crate::settings::{
    Action, Beyond, HeaderWants, LimitRule, Settings, Traffic, TrafficRule, WhoKind,
};

impl Reader {
    /// A rule that matches nothing, or nothing that one before it has not decided on, is a mistake:
    /// whoever wrote it counts on it.
    pub(super) fn check_rules(&mut self, key: &str, rules: &[TrafficRule]) {
        for (number, rule) in rules.iter().enumerate() {
            let (at, name) = (format!("{key}#{}", number + 1), &rule.name);
            let before = rules.get(..number).unwrap_or_default();
            if before.iter().any(|other| other.name == *name) {
                self.blame_table(&at, format!("the name {name} is another rule's, too"));
            } else if let Some(why) = rule.contradiction() {
                self.blame_table(&at, format!("the rule {name} can never match: {why}"));
            } else if let Some(header) = rule.takes_any() {
                let text = format!(
                    "the rule {name} takes {header} where it is there and where it is not, so whatever \
                     comes: leave it out"
                );
                self.blame_table(&at, text);
            } else if let Some(other) =
                before.iter().find(|other| other.decides() && other.covers(rule))
            {
                let text = format!(
                    "the rule {name} can never match: whatever it matches, the rule {} before it has \
                     decided on",
                    other.name
                );
                self.blame_table(&at, text);
            }
        }
        let names = rules.iter().flat_map(|rule| &rule.headers).map(|header| &header.name);
        let names = names.collect::<BTreeSet<_>>().len();
        if names > HEADERS_MAX {
            let text =
                format!("the rules ask for {names} different headers; at most {HEADERS_MAX}");
            self.blame_table(key, text);
        }
    }
}

impl Traffic {
    /// Lets default rules follow those that are given, but for the ones that these hide, or that have the name of
    /// one.
    pub(super) fn follow(&mut self, defaults: Vec<TrafficRule>) {
        let given = self.rules.len();
        for rule in defaults {
            let own = self.rules.get(..given).unwrap_or_default();
            let hides =
                |own: &&TrafficRule| own.name == rule.name || own.decides() && own.covers(&rule);
            match own.iter().find(hides) {
                Some(own) => {
                    self.replaced.push(Replaced { name: rule.name, by: own.name.clone() });
                }
                None => self.rules.push(rule),
            }
        }
    }
}

impl WhoKind {
    /// Is each client of the other kind one of this, too?
    fn includes(self, other: Self) -> bool {
        use WhoKind::{
            Bot, Browser, Customer, Impostor, NewVisitor, Session, Stranger, UnverifiedBot,
            VerifiedBot,
        };
        self == other
            || (self == Bot && matches!(other, VerifiedBot | UnverifiedBot | Impostor))
            || (self == Session && matches!(other, Customer | Stranger))
            || (self == Browser && matches!(other, NewVisitor | Stranger))
    }
}

impl TrafficRule {
    /// Does it decide on whatever it matches?
    fn decides(&self) -> bool {
        !self.dry_run && matches!(self.action, Action::Allow | Action::Stored | Action::Refuse)
    }

    /// Does each request that `other` matches match this rule, too?
    fn covers(&self, other: &Self) -> bool {
        let both = |one, two| self.who.contains(&one) && self.who.contains(&two);
        let who = both(WhoKind::Browser, WhoKind::Bot)
            || covers_all(&self.who, &other.who, |own, its| own.includes(*its));
        let from = self.from.is_empty()
            || (!other.from.is_empty()
                && other.from.iter().all(|its| self.from.iter().any(|own| own.contains(its))));
        let least = |own: Option<u32>, its: Option<u32>| {
            own.is_none_or(|own| its.is_some_and(|its| its >= own))
        };
        from && who
            && covers_all(&self.methods, &other.methods, PartialEq::eq)
            && covers_all(&self.hosts, &other.hosts, |own, its| covers_host(own, its))
            && covers_all(&self.paths, &other.paths, |own, its| covers_path_in_any_case(own, its))
            && covers_all(&self.query, &other.query, |own, its| covers_name(own, its))
            && covers_besides(&self.query_besides, &other.query_besides)
            && least(self.facets_min, other.facets_min)
            && least(self.query_length_min, other.query_length_min)
            && self.covers_headers(other)
    }

    /// Headers are looked at one by one: each that is asked for here has to be asked for there, and no
    /// more of it may do there.
    fn covers_headers(&self, other: &Self) -> bool {
        let of = |rule: &Self, name: &str| -> Vec<HeaderWants> {
            let own = rule.headers.iter().filter(|header| header.name == name);
            own.map(|header| header.wants.clone()).collect()
        };
        self.headers.iter().all(|header| {
            let (own, its) = (of(self, &header.name), of(other, &header.name));
            !its.is_empty() && its.iter().all(|its| own.iter().any(|own| covers_header(own, its)))
        })
    }

    /// Why no request can match; `None`: one can.
    fn contradiction(&self) -> Option<String> {
        let is_below_index = |path: &&String| {
            let first = path.split('/').find(|segment| !segment.is_empty());
            first.is_some_and(|first| first.eq_ignore_ascii_case("index.php"))
        };
        if let Some(path) = self.paths.iter().find(is_below_index) {
            return Some(format!(
                "paths are compared without index.php in front: leave it out of {path}"
            ));
        }
        let is_late = |limit: &LimitRule| limit.requests.is_none();
        let is_known = !matches!(&self.action, Action::Limit(limit) if is_late(limit));
        if is_known
            && !self.who.is_empty()
            && self.who.iter().all(|kind| *kind == WhoKind::Stranger)
        {
            return Some("strangers are known to limits on php alone".to_owned());
        }
        let is_challenge = matches!(self.action, Action::Challenge)
            || matches!(&self.action, Action::Limit(limit) if limit.beyond == Beyond::Challenge);
        let is_never = |kind: &WhoKind| matches!(kind, WhoKind::VerifiedBot | WhoKind::Passed);
        if is_challenge && !self.who.is_empty() && self.who.iter().all(is_never) {
            return Some("verified bots and who has passed are never challenged".to_owned());
        }
        None
    }

    /// A header that is asked for in both ways, of which one always holds.
    fn takes_any(&self) -> Option<&str> {
        let is_there = |name: &str| {
            let mut all = self.headers.iter();
            all.any(|header| header.name == name && header.wants == HeaderWants::Present)
        };
        let mut absent = self.headers.iter().filter(|one| one.wants == HeaderWants::Absent);
        absent.find(|one| is_there(&one.name)).map(|one| one.name.as_str())
    }
}

/// Rules that no request matches with these other settings.
pub(in crate::settings) fn check_with_others(settings: &Settings, reader: &mut Reader) {
    const KEY: &str = "traffic.rule";
    // The default rules do no harm where something is not to be had.
    if !reader.sources.given.contains_key(KEY) || reader.is_refused(KEY) {
        return;
    }
    let line_max = settings.listen.request_line_max_bytes;
    for (number, rule) in settings.traffic.rules.iter().enumerate() {
        let (at, name) = (format!("{KEY}#{}", number + 1), &rule.name);
        let is_served = |host: &String| {
            settings.site.hosts.iter().any(|own| covers_host(own, host) || covers_host(host, own))
        };
        // A facet is a name, =, a value and an ampersand.
        let facets_bytes = rule.facets_min.map_or(0, |least| 4 * u64::from(least) - 1);
        let length = facets_bytes.max(u64::from(rule.query_length_min.unwrap_or_default()));
        let is_of_sessions = |kind: &WhoKind| matches!(kind, WhoKind::Customer | WhoKind::Stranger);
        let why = if length > line_max as u64 {
            "a query of that length is beyond listen.request_line_max"
        } else if !rule.who.is_empty()
            && rule.who.iter().all(is_of_sessions)
            && settings.sessions.listen.is_none()
        {
            "customers and strangers are known where sessions.listen is set, and it is not"
        } else if !rule.hosts.is_empty()
            && !settings.site.hosts.is_empty()
            && !rule.hosts.iter().any(is_served)
        {
            "its hosts are none of site.hosts"
        } else {
            continue;
        };
        reader.blame_table(&at, format!("the rule {name} can never match: {why}"));
    }
}

/// The paths of rules ignore case, and those of classes do not.
fn covers_path_in_any_case(own: &str, its: &str) -> bool {
    covers_path(&own.to_ascii_lowercase(), &its.to_ascii_lowercase())
}

fn covers_host(own: &str, its: &str) -> bool {
    match own.strip_prefix('*') {
        // *.example stands for all below, and not for example itself.
        Some(domain) => its.trim_start_matches('*').ends_with(domain) && its != domain,
        None => own == its,
    }
}

fn covers_header(own: &HeaderWants, its: &HeaderWants) -> bool {
    match (own, its) {
        (HeaderWants::Absent, HeaderWants::Absent)
        | (HeaderWants::Present, HeaderWants::Present | HeaderWants::Contains(_)) => true,
        (HeaderWants::Contains(own), HeaderWants::Contains(its)) => its.contains(own),
        _ => false,
    }
}
