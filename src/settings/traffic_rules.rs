//! Reads `[[traffic.rule]]`.

mod checks;

use std::time::Duration;

use config::ValueKind;
use http::HeaderName;

pub(super) use self::checks::check_with_others;
use super::admission::{METHOD, NAME, OPERATION, PATH};
use super::reader::Reader;
use super::syntax::{self, Syntax};
use super::units::parse_duration;
use super::words::Word;
use super::{
    Action, Beyond, HeaderMatch, HeaderWants, LimitRule, Per, Rate, Traffic, TrafficRule, WhoKind,
    default_rules,
};

/// Rules that may be given.
pub const RULES_MAX: usize = 100;
/// Given and default rules together.
pub const TOGETHER_MAX: usize = 128;
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
    allowed: "browser, bot, verified-bot, unverified-bot, impostor, new-visitor, session, stranger, \
              customer or passed",
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
    forms: Vec<String>,
    operations: Vec<String>,
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
            || !self.forms.is_empty()
            || !self.operations.is_empty()
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
                "requests, burst, php, per, fleet, field, forms, operations and beyond are for \
                 do = \"limit\" alone",
            );
        }
        Ok(action)
    }

    fn into_limit(self) -> Result<LimitRule, &'static str> {
        let Self { requests, burst, php, per, fleet, field, forms, operations, beyond } = self;
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
        if !fleet && (!forms.is_empty() || !operations.is_empty()) {
            return Err(
                "forms and operations need fleet = true: the content is read where something may wait",
            );
        }
        let (per, beyond) = (per.unwrap_or_default(), beyond.unwrap_or_default());
        Ok(LimitRule { requests, burst, php, per, fleet, field, forms, operations, beyond })
    }
}

impl Reader {
    /// `[[traffic.rule]]`, in the file alone; they replace those of the default, or stand before them.
    pub fn traffic_rules(&mut self, key: &'static str, traffic: &mut Traffic) {
        let Some(rules) = self.tables(key, 0..=RULES_MAX, Self::traffic_rule) else { return };
        self.check_rules(key, &rules);
        traffic.rules = rules;
        if traffic.defaults {
            traffic.follow(default_rules::default_rules());
            let count = traffic.rules.len();
            if count > TOGETHER_MAX {
                let text =
                    format!("with the default ones there are {count}; at most {TOGETHER_MAX}");
                self.blame_table(key, text);
            }
        }
    }

    fn traffic_rule(&mut self, at: &str, table: ValueKind) -> Option<TrafficRule> {
        let mut table = self.table(at, table, ["name", "do"])?;
        let (mut rule, inner) = (TrafficRule::default(), &mut table.inner);
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
        let is_right = self.close(at, table);
        match action {
            Ok(action) => rule.action = action,
            Err(why) if is_right => {
                self.blame_table(at, format!("the rule {}: {why}", rule.name));
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
        self.list("forms", &mut limit.forms, &FIELD);
        self.list("operations", &mut limit.operations, &OPERATION);
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
}

#[cfg(test)]
mod tests;
