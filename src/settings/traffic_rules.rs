//! Reads `[[traffic.rule]]`, and finds rules that can never match.

use std::collections::BTreeMap;
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
pub(super) const RULES_MAX: usize = 100;
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
const REQUESTS: Syntax<Rate> = Syntax {
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
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, Vec<String>> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Settings::load(Some(file.path()), [])
            .map_err(|mistakes| mistakes.iter().map(|one| one.problem.to_string()).collect())
    }

    fn mistakes(text: &str) -> Vec<String> {
        load(text).err().unwrap_or_default()
    }

    fn rule(name: &str, rest: &str) -> String {
        let does = if rest.contains("do =") { "" } else { "do = \"allow\"\n" };
        format!("[[traffic.rule]]\nname = \"{name}\"\n{does}{rest}\n")
    }

    #[test]
    fn the_default_rules_are_in_order() {
        let mut reader = Reader::default();
        reader.check_rules("traffic.rule", &default_rules::default_rules());
        assert_eq!(reader.mistakes, []);
    }

    #[test]
    fn a_rule_is_read_whole() {
        let settings = load(
            "[[traffic.rule]]\nname = \"facets\"\ndo = \"limit\"\nfrom = [\"192.0.2.0/24\", \"::1\"]\n\
             who = [\"unverified-bot\", \"passed\"]\nmethods = [\"GET\"]\nhosts = [\"Shop.example\"]\n\
             paths = [\"/a/*\"]\nquery = [\"color\"]\nquery_besides = [\"p\"]\nfacets_min = 3\n\
             query_length_min = 10\nheaders = [\"Accept\", \"!Cookie\", \"User-Agent: Some, Text\"]\n\
             requests = \"1/1s\"\nburst = 10\nphp = \"200ms/1s\"\nper = \"network\"\n\
             beyond = \"challenge\"\ndry_run = true\n",
        )
        .expect("valid");
        let [rule] = &settings.traffic.rules[..] else { panic!("one rule") };
        assert_eq!(rule.from.iter().count(), 2);
        assert_eq!(rule.who, [WhoKind::UnverifiedBot, WhoKind::Passed]);
        assert_eq!(rule.hosts, ["shop.example"]);
        assert_eq!((rule.facets_min, rule.query_length_min), (Some(3), Some(10)));
        let wants: Vec<_> =
            rule.headers.iter().map(|one| (one.name.as_str(), one.wants.clone())).collect();
        let text = HeaderWants::Contains("some, text".to_owned());
        assert_eq!(
            wants,
            [
                ("accept", HeaderWants::Present),
                ("cookie", HeaderWants::Absent),
                ("user-agent", text)
            ]
        );
        let second = Duration::from_secs(1);
        let limit = LimitRule {
            requests: Some(Rate { amount: 1, each: second }),
            burst: Some(10),
            php: Some(Rate { amount: 200, each: second }),
            per: Per::Network,
            beyond: Beyond::Challenge,
            ..LimitRule::default()
        };
        assert_eq!(rule.action, Action::Limit(limit));
        assert!(rule.dry_run);
    }

    #[test]
    fn rules_that_are_given_replace_the_default_ones_or_stand_before_them() {
        let own = rule("own", "paths = [\"/x\"]");
        assert_eq!(load(&own).expect("valid").traffic.rules.len(), 1);
        let both = load(&format!("[traffic]\ndefaults = true\n{own}")).expect("valid");
        assert_eq!(both.traffic.rules[0].name, "own");
        assert_eq!(both.traffic.rules[1..], default_rules::default_rules());
        assert_eq!(load("[traffic]\nrule = []\n").expect("valid").traffic.rules, []);
    }

    #[test]
    fn a_rule_hidden_by_one_that_has_decided_is_a_mistake_that_names_both() {
        let hides = [
            ("", "paths = [\"/x\"]"),
            ("paths = [\"/CHECKOUT\"]", "paths = [\"/checkout/cart\", \"/checkout/x\"]"),
            ("paths = [\"/rest\"]", "paths = [\"/rest/*/V1\"]\nmethods = [\"POST\"]"),
            ("from = [\"10.0.0.0/8\"]", "from = [\"10.1.0.0/16\", \"10.2.0.1\"]"),
            ("who = [\"bot\"]", "who = [\"verified-bot\", \"impostor\"]"),
            ("who = [\"browser\", \"bot\"]", "who = [\"customer\"]"),
            ("who = [\"session\"]", "who = [\"customer\", \"session\"]"),
            ("hosts = [\"*.shop.example\"]", "hosts = [\"a.shop.example\", \"*.b.shop.example\"]"),
            ("query = [\"colo*\"]", "query = [\"color\", \"colour\"]\nmethods = [\"GET\"]"),
            ("facets_min = 2", "facets_min = 3"),
            ("query_length_min = 9", "query_length_min = 10\nwho = [\"bot\"]"),
            ("headers = [\"accept\"]", "headers = [\"accept: text/html\", \"cookie\"]"),
            ("headers = [\"user-agent: bot\"]", "headers = [\"user-agent: googlebot\"]"),
            (
                "do = \"refuse\"\nmethods = [\"PUT\"]",
                "do = \"limit\"\nphp = \"1s/10s\"\nmethods = [\"PUT\"]",
            ),
            ("do = \"stored\"\nmethods = [\"GET\"]", "do = \"challenge\"\nmethods = [\"GET\"]"),
        ];
        for (first, second) in hides {
            let text = rule("first", first) + &rule("second", second);
            let found = mistakes(&text);
            let named = found.iter().filter(|one| one.contains("second") && one.contains("first"));
            assert_eq!(named.count(), 1, "{first} {second} {found:?}");
        }
    }

    #[test]
    fn what_a_rule_leaves_over_is_for_the_next() {
        let leaves = [
            ("paths = [\"/x\"]", ""),
            ("do = \"log\"", "paths = [\"/x\"]"),
            ("do = \"limit\"\nrequests = \"1/1s\"", "paths = [\"/x\"]"),
            ("do = \"challenge\"", "paths = [\"/x\"]"),
            ("do = \"refuse\"\ndry_run = true", "paths = [\"/x\"]"),
            ("who = [\"verified-bot\"]", "who = [\"bot\"]"),
            ("hosts = [\"*.shop.example\"]", "hosts = [\"shop.example\"]"),
            ("headers = [\"accept\", \"cookie\"]", "headers = [\"accept\"]"),
            ("headers = [\"!accept\"]", "headers = [\"accept\"]"),
            ("from = [\"10.1.0.0/16\"]", "from = [\"10.0.0.0/8\"]"),
            ("facets_min = 3", "facets_min = 2"),
        ];
        for (first, second) in leaves {
            let text = rule("first", first) + &rule("second", second);
            assert_eq!(mistakes(&text), [""; 0], "{first} {second}");
        }
    }

    #[test]
    fn rules_that_cannot_match_or_make_no_sense_are_mistakes() {
        let wrong = [
            (rule("a", "paths = [\"/Index.php/checkout\"]"), "can never match: paths"),
            (
                rule("a", "do = \"challenge\"\nwho = [\"verified-bot\", \"passed\"]"),
                "can never match",
            ),
            (rule("a", "headers = [\"accept\", \"!accept\"]"), "can never match: of accept"),
            (rule("a", "query_length_min = 1000000"), "request_line_max"),
            (
                rule("a", "facets_min = 1000\n[listen]\nrequest_line_max = \"1KiB\""),
                "request_line_max",
            ),
            (rule("a", "who = [\"customer\"]"), "sessions.listen"),
            (
                rule("a", "hosts = [\"x.example\"]\n[site]\nhosts = [\"shop.example\"]"),
                "site.hosts",
            ),
            (rule("a", "methods = [\"GET\"]") + &rule("a", ""), "another rule's"),
            (rule("A", ""), "no name"),
            (rule("a", "who = [\"bots\"]"), "nobody of that name"),
            (rule("a", "headers = [\"a b\"]"), "no header's name"),
            (rule("a", "headers = [\"a: \"]"), "no text"),
            (rule("a", "do = \"limit\""), "a limit needs requests or php"),
            (rule("a", "do = \"limit\"\nphp = \"1s/10s\"\nburst = 1"), "burst is of requests"),
            (rule("a", "do = \"limit\"\nphp = \"1s/10s\"\nfleet = true"), "each node's own"),
            (rule("a", "do = \"limit\"\nrequests = \"1/1s\"\nfield = \"x\""), "field needs fleet"),
            (rule("a", "do = \"limit\"\nrequests = \"0/1s\""), "out of range"),
            (rule("a", "do = \"limit\"\nrequests = \"1/1ms\""), "no time of 100ms"),
            (rule("a", "do = \"limit\"\nrequests = \"1s\""), "no number and time"),
            (rule("a", "do = \"limit\"\nphp = \"1/1s\""), "no time of PHP"),
            (rule("a", "requests = \"1/1s\""), "are for do = \"limit\" alone"),
            ("[[traffic.rule]]\nname = \"a\"\n".to_owned(), "has no do"),
            ("[traffic]\nsecret = \"short\"\n".to_owned(), "too short"),
        ];
        for (text, expected) in wrong {
            let found = mistakes(&text);
            assert!(found.iter().any(|one| one.contains(expected)), "{text} {found:?}");
        }
    }

    #[test]
    fn the_secret_is_shown_to_nobody() {
        let settings = load("[traffic]\nsecret = \"0123456789abcdef\"\n").expect("valid");
        assert!(!format!("{settings:?}").contains("0123456789abcdef"));
        assert_eq!(settings.traffic_secret(), Some("0123456789abcdef"));
    }
}
