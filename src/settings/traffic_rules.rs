//! Reads `[[traffic.rule]]`, and finds rules that can never match.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::ValueKind;
use http::HeaderName;

use super::admission::{METHOD, NAME, PATH, covers_name};
use super::mistake::{Mistake, Problem};
use super::reader::Reader;
use super::sources::Given;
use super::syntax::{self, Syntax};
use super::units::parse_duration;
use super::words::Word;
use super::{
    Action, Beyond, HeaderMatch, HeaderWants, LimitRule, Per, Rate, Settings, TrafficRule, WhoKind,
    default_rules,
};

/// Rules that may be given.
pub const RULES_MAX: usize = 100;
/// Headers by different names that all rules together may ask for.
pub const HEADERS_MAX: usize = 64;
/// What is asked of how often something comes, at least and at most.
const EACH: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(24);

/// How a rule names what it does.
#[derive(Clone, Copy, PartialEq)]
enum Do {
    Allow,
    Log,
    Limit,
    Stored,
    Challenge,
    Refuse,
}

impl Word for Do {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("allow", Self::Allow),
        ("log", Self::Log),
        ("limit", Self::Limit),
        ("stored", Self::Stored),
        ("challenge", Self::Challenge),
        ("refuse", Self::Refuse),
    ];
}

impl Word for Beyond {
    const WORDS: &'static [(&'static str, Self)] =
        &[("wait", Self::Wait), ("challenge", Self::Challenge), ("stored", Self::Stored)];
}

impl Word for Per {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("address", Self::Address),
        ("network", Self::Network),
        ("session", Self::Session),
        ("class", Self::Class),
        ("rule", Self::Rule),
    ];
}

/// Who asks.
const WHO: Syntax<WhoKind> = Syntax {
    allowed: "browser, bot, verified-bot, unverified-bot, impostor, new-visitor, session, customer or \
              passed",
    parse: |text| {
        let found = WhoKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| "nobody of that name".to_owned())
    },
};

/// A header, its absence, or a text in it.
const HEADER: Syntax<HeaderMatch> = Syntax {
    allowed: "a header's name, !name where it is missing, or \"name: text\" for a text in it",
    parse: |text| {
        let absent = text.strip_prefix('!');
        let (name, wants) = match (absent, text.split_once(':')) {
            (Some(name), _) => (name, HeaderWants::Absent),
            (None, None) => (text, HeaderWants::Present),
            (None, Some((name, part))) => {
                let part = part.trim();
                let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
                if part.is_empty() || part.len() > 200 || !part.bytes().all(printable) {
                    return Err("no text of 1 to 200 printable ASCII characters".to_owned());
                }
                (name, HeaderWants::Contains(part.to_ascii_lowercase()))
            }
        };
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let name = name.map_err(|_| "no header's name".to_owned())?.as_str().to_owned();
        Ok(HeaderMatch { name, wants })
    },
};

/// So many requests in a time.
pub(super) const REQUESTS: Syntax<Rate> = Syntax {
    allowed: "a number (1 to 1000000) and a time (100ms to 1day), such as 10/1min",
    parse: |text| {
        let (amount, each) = text.split_once('/').ok_or("no number and time")?;
        let amount = amount.trim().parse().map_err(|_| "no whole number".to_owned())?;
        rate(amount, each)
    },
};

/// So much of PHP's time in a time.
const PHP: Syntax<Rate> = Syntax {
    allowed: "two times (1ms to 1000s, and 100ms to 1day), such as 500ms/10s",
    parse: |text| {
        let (amount, each) = text.split_once('/').ok_or("no two times")?;
        let amount = parse_duration(amount.trim()).ok_or("no time of PHP")?;
        rate(u32::try_from(amount.as_millis()).unwrap_or(u32::MAX), each)
    },
};

/// A form field's name.
const FIELD: Syntax<String> = Syntax {
    allowed: "a form field's name as the form has it, such as login[username], of 1 to 100 characters",
    parse: |text| {
        let is_name = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=%+".contains(&byte));
        if is_name && (1..=100).contains(&text.len()) {
            Ok(text.to_owned())
        } else {
            Err("no field's name".to_owned())
        }
    },
};

fn rate(amount: u32, each: &str) -> Result<Rate, String> {
    let each = parse_duration(each.trim()).filter(|each| EACH.contains(each));
    let each = each.ok_or_else(|| "no time of 100ms to 1day".to_owned())?;
    if (1..=1_000_000).contains(&amount) {
        Ok(Rate { amount, each })
    } else {
        Err("out of range".to_owned())
    }
}

/// What of a limit a table says.
#[derive(Default)]
struct GivenLimit {
    requests: Option<Rate>,
    burst: Option<u32>,
    php: Option<Rate>,
    per: Option<Per>,
    fleet: bool,
    field: Option<String>,
    beyond: Option<Beyond>,
}

impl GivenLimit {
    fn is_given(&self) -> bool {
        self.requests.is_some()
            || self.burst.is_some()
            || self.php.is_some()
            || self.per.is_some()
            || self.fleet
            || self.field.is_some()
            || self.beyond.is_some()
    }

    fn into_action(self, does: Do) -> Result<Action, &'static str> {
        let action = match does {
            Do::Allow => Action::Allow,
            Do::Log => Action::Log,
            Do::Stored => Action::Stored,
            Do::Challenge => Action::Challenge,
            Do::Refuse => Action::Refuse,
            Do::Limit => return self.into_limit().map(Action::Limit),
        };
        if self.is_given() {
            return Err(
                "requests, burst, php, per, fleet, field and beyond are for do = \"limit\" alone",
            );
        }
        Ok(action)
    }

    fn into_limit(self) -> Result<LimitRule, &'static str> {
        let Self { requests, burst, php, per, fleet, field, beyond } = self;
        if requests.is_none() && php.is_none() {
            return Err("a limit needs requests or php");
        }
        if burst.is_some() && requests.is_none() {
            return Err("burst is of requests, which are not limited");
        }
        if fleet && php.is_some() {
            return Err("fleet counts requests, and PHP's time is each node's own");
        }
        if field.is_some() && !fleet {
            return Err("field needs fleet = true: the content is read where something may wait");
        }
        let (per, beyond) = (per.unwrap_or_default(), beyond.unwrap_or_default());
        Ok(LimitRule { requests, burst, php, per, fleet, field, beyond })
    }
}

impl Reader {
    /// `[[traffic.rule]]`, in the file alone; they replace those of the default, or stand before them.
    pub fn traffic_rules(
        &mut self,
        key: &'static str,
        field: &mut Vec<TrafficRule>,
        defaults: bool,
    ) {
        self.file_only.insert(key);
        let Some(given) = self.take(key) else { return };
        let allowed = format!("at most {RULES_MAX} tables headed [[{key}]]");
        let ValueKind::Array(elements) = given.value else {
            self.refuse(key, &given.place, &given.value, "not a list of tables", &allowed);
            return;
        };
        if elements.len() > RULES_MAX {
            let what = format!("has {}", elements.len());
            self.refuse(key, &given.place, &ValueKind::Nil, &what, &allowed);
            return;
        }
        let tables = elements.into_iter().map(|element| element.kind).enumerate();
        let rules: Vec<_> = tables
            .map(|(at, table)| self.traffic_rule(&format!("{key}#{}", at + 1), table))
            .collect();
        let rules: Option<Vec<_>> = rules.into_iter().collect();
        if let Some(mut rules) = rules {
            if defaults {
                rules.extend(default_rules::default_rules());
            }
            self.check_rules(key, &rules);
            *field = rules;
        }
    }

    fn traffic_rule(&mut self, at: &str, table: ValueKind) -> Option<TrafficRule> {
        let ValueKind::Table(table) = table else {
            let place = self.sources.place_in_file(at);
            self.refuse(at, &place, &table, "not a table", "a table with a name and what to do");
            return None;
        };
        let mut rule = TrafficRule::default();
        let mut inner = Self::default();
        let given: BTreeMap<_, _> =
            table.into_iter().map(|(key, value)| (key, value.kind)).collect();
        let missing: Vec<_> =
            ["name", "do"].into_iter().filter(|key| !given.contains_key(*key)).collect();
        for (key, value) in given {
            let place = self.sources.place_in_file(&format!("{at}.{key}"));
            inner.sources.given.insert(key, Given { value, place });
        }
        inner.text("name", &mut rule.name, &NAME);
        inner.list("from", &mut rule.from, &syntax::NETWORK);
        inner.list("who", &mut rule.who, &WHO);
        inner.list("methods", &mut rule.methods, &METHOD);
        inner.list("hosts", &mut rule.hosts, &syntax::HOST);
        inner.list("paths", &mut rule.paths, &PATH);
        inner.list("query", &mut rule.query, &syntax::PARAMETER);
        inner.list("query_besides", &mut rule.query_besides, &syntax::PARAMETER);
        inner.optional_number("facets_min", &mut rule.facets_min, 1..=1_000);
        inner.optional_number("query_length_min", &mut rule.query_length_min, 1..=1_000_000);
        inner.list_in_file("headers", &mut rule.headers, &HEADER);
        inner.switch("dry_run", &mut rule.dry_run);
        let action = inner.action();
        inner.refuse_unknown();
        let is_right = inner.mistakes.is_empty() && missing.is_empty();
        for mut mistake in inner.mistakes {
            mistake.key = format!("{at}.{}", mistake.key);
            self.mistakes.push(mistake);
        }
        if !missing.is_empty() {
            self.blame_rule(at, format!("has no {}", missing.join(" and no ")));
        }
        match action {
            Ok(action) => rule.action = action,
            Err(why) if is_right => {
                self.blame_rule(at, format!("the rule {}: {why}", rule.name));
                return None;
            }
            Err(_) => return None,
        }
        is_right.then_some(rule)
    }

    fn action(&mut self) -> Result<Action, &'static str> {
        let mut does = Do::Log;
        let mut limit = GivenLimit::default();
        self.word("do", &mut does);
        self.unset_if_empty("requests", &mut limit.requests, &REQUESTS);
        self.optional_number("burst", &mut limit.burst, 1..=1_000_000);
        self.unset_if_empty("php", &mut limit.php, &PHP);
        self.optional_word("per", &mut limit.per);
        self.switch("fleet", &mut limit.fleet);
        self.unset_if_empty("field", &mut limit.field, &FIELD);
        self.optional_word("beyond", &mut limit.beyond);
        limit.into_action(does)
    }

    fn optional_number(
        &mut self,
        key: &'static str,
        field: &mut Option<u32>,
        bounds: std::ops::RangeInclusive<u32>,
    ) {
        let mut number = 0;
        self.number(key, &mut number, bounds);
        if number > 0 {
            *field = Some(number);
        }
    }

    fn optional_word<T: Word>(&mut self, key: &'static str, field: &mut Option<T>) {
        let Some(first) = T::WORDS.first() else { return };
        let mut word = first.1;
        self.word(key, &mut word);
        if self.sources.given.contains_key(key) {
            *field = Some(word);
        }
    }

    /// A rule that matches nothing, or nothing that one before it has not decided on, is a mistake:
    /// whoever wrote it counts on it.
    pub(super) fn check_rules(&mut self, key: &str, rules: &[TrafficRule]) {
        for (number, rule) in rules.iter().enumerate() {
            let (at, name) = (format!("{key}#{}", number + 1), &rule.name);
            let before = rules.get(..number).unwrap_or_default();
            if before.iter().any(|other| other.name == *name) {
                self.blame_rule(&at, format!("the name {name} is another rule's, too"));
            } else if let Some(why) = rule.contradiction() {
                self.blame_rule(&at, format!("the rule {name} can never match: {why}"));
            } else if let Some(other) =
                before.iter().find(|other| other.decides() && other.covers(rule))
            {
                let text = format!(
                    "the rule {name} can never match: whatever it matches, the rule {} before it has \
                     decided on",
                    other.name
                );
                self.blame_rule(&at, text);
            }
        }
        let names = rules.iter().flat_map(|rule| &rule.headers).map(|header| &header.name);
        let names = names.collect::<BTreeSet<_>>().len();
        if names > HEADERS_MAX {
            let text =
                format!("the rules ask for {names} different headers; at most {HEADERS_MAX}");
            self.blame_rule(key, text);
        }
    }

    fn blame_rule(&mut self, at: &str, text: String) {
        let place = self.sources.place_in_file(at);
        let problem = Problem::Conflict(text);
        self.mistakes.push(Mistake { place, key: at.to_owned(), value: None, problem });
    }
}

impl WhoKind {
    /// Is each client of the other kind one of this, too?
    fn includes(self, other: Self) -> bool {
        use WhoKind::{Bot, Customer, Impostor, Session, UnverifiedBot, VerifiedBot};
        self == other
            || (self == Bot && matches!(other, VerifiedBot | UnverifiedBot | Impostor))
            || (self == Session && other == Customer)
    }
}

impl TrafficRule {
    /// Does it decide on whatever it matches?
    fn decides(&self) -> bool {
        !self.dry_run && matches!(self.action, Action::Allow | Action::Stored | Action::Refuse)
    }

    /// Does each request that `other` matches match this rule, too?
    fn covers(&self, other: &Self) -> bool {
        let all = |own: &[String], its: &[String], covers: fn(&str, &str) -> bool| {
            let covered = |its: &String| own.iter().any(|own| covers(own, its));
            own.is_empty() || (!its.is_empty() && its.iter().all(covered))
        };
        // A parameter that is none of many is none of few.
        let besides = self.query_besides.is_empty()
            || (!other.query_besides.is_empty()
                && self
                    .query_besides
                    .iter()
                    .all(|own| other.query_besides.iter().any(|its| covers_name(its, own))));
        let both = |one, two| self.who.contains(&one) && self.who.contains(&two);
        let who = self.who.is_empty()
            || both(WhoKind::Browser, WhoKind::Bot)
            || both(WhoKind::NewVisitor, WhoKind::Session)
            || (!other.who.is_empty()
                && other.who.iter().all(|its| self.who.iter().any(|own| own.includes(*its))));
        let from = self.from.is_empty()
            || (!other.from.is_empty()
                && other.from.iter().all(|its| self.from.iter().any(|own| own.contains(its))));
        let least = |own: Option<u32>, its: Option<u32>| {
            own.is_none_or(|own| its.is_some_and(|its| its >= own))
        };
        from && who
            && besides
            && all(&self.methods, &other.methods, |own, its| own == its)
            && all(&self.hosts, &other.hosts, covers_host)
            && all(&self.paths, &other.paths, covers_path)
            && all(&self.query, &other.query, covers_name)
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
        let is_challenge = matches!(self.action, Action::Challenge)
            || matches!(&self.action, Action::Limit(limit) if limit.beyond == Beyond::Challenge);
        let is_never = |kind: &WhoKind| matches!(kind, WhoKind::VerifiedBot | WhoKind::Passed);
        if is_challenge && !self.who.is_empty() && self.who.iter().all(is_never) {
            return Some("verified bots and who has passed are never challenged".to_owned());
        }
        let asks = |name: &str, wants: &HeaderWants| {
            self.headers.iter().any(|header| header.name == name && header.wants == *wants)
        };
        let is_open = |header: &&HeaderMatch| {
            header.wants == HeaderWants::Absent && asks(&header.name, &HeaderWants::Present)
        };
        self.headers.iter().find(is_open).map(|header| {
            format!("of {} it asks both that it is there and that it is not", header.name)
        })
    }
}

/// Rules that no request matches with these other settings.
pub(super) fn check_with_others(settings: &Settings, reader: &mut Reader) {
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
        let why = if length > line_max as u64 {
            "a query of that length is beyond listen.request_line_max"
        } else if !rule.who.is_empty()
            && rule.who.iter().all(|kind| *kind == WhoKind::Customer)
            && settings.sessions.listen.is_none()
        {
            "customers are known where sessions.listen is set, and it is not"
        } else if !rule.hosts.is_empty()
            && !settings.site.hosts.is_empty()
            && !rule.hosts.iter().any(is_served)
        {
            "its hosts are none of site.hosts"
        } else {
            continue;
        };
        reader.blame_rule(&at, format!("the rule {name} can never match: {why}"));
    }
}

fn covers_path(own: &str, its: &str) -> bool {
    let (own, its) = (own.to_ascii_lowercase(), its.to_ascii_lowercase());
    super::admission::covers_path(&own, &its)
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

#[cfg(test)]
mod tests;
