//! Settings that are tables of their own: `[[site.ttl]]` and `[origin.params]`.

use std::collections::BTreeMap;
use std::time::Duration;

use config::ValueKind;

use super::TtlRule;
use super::mistake::{Mistake, Problem};
use super::reader::{LIST_MAX, Reader};
use super::sources::Given;
use super::syntax;

/// Ten years; a longer lifetime is a slip.
const TTL_MAX: Duration = Duration::from_hours(10 * 365 * 24);

impl Reader {
    /// `[[site.ttl]]`: tables with `path`, `status` and `ttl`, in the file alone.
    pub fn ttl_rules(&mut self, key: &'static str, field: &mut Vec<TtlRule>) {
        self.file_only.insert(key);
        let Some(given) = self.take(key) else { return };
        let ValueKind::Array(elements) = given.value else {
            let allowed = format!("tables headed [[{key}]]");
            self.refuse(key, &given.place, &given.value, "not a list of tables", &allowed);
            return;
        };
        if elements.len() > LIST_MAX {
            let allowed = format!("at most {LIST_MAX} tables");
            let what = format!("has {}", elements.len());
            self.refuse(key, &given.place, &ValueKind::Nil, &what, &allowed);
            return;
        }
        let tables = elements.into_iter().map(|element| element.kind).enumerate();
        let rules: Vec<_> =
            tables.map(|(at, table)| self.ttl_rule(&format!("{key}#{}", at + 1), table)).collect();
        if let Some(rules) = rules.into_iter().collect() {
            *field = rules;
        }
    }

    fn ttl_rule(&mut self, at: &str, table: ValueKind) -> Option<TtlRule> {
        let ValueKind::Table(table) = table else {
            let place = self.sources.place_in_file(at);
            self.refuse(at, &place, &table, "not a table", "a table with path, status and ttl");
            return None;
        };
        let mut rule = TtlRule { path: String::new(), status: None, ttl: Duration::ZERO };
        let mut inner = Self::default();
        let given: BTreeMap<_, _> =
            table.into_iter().map(|(key, value)| (key, value.kind)).collect();
        let has_ttl = given.contains_key("ttl");
        for (key, value) in given {
            let full = format!("{at}.{key}");
            let place = self.sources.place_in_file(&full);
            inner.sources.given.insert(key, Given { value, place });
        }
        inner.text("path", &mut rule.path, &syntax::URL_PATH_OR_EMPTY);
        inner.ttl_status(&mut rule.status);
        inner.duration("ttl", &mut rule.ttl, Duration::ZERO..=TTL_MAX);
        inner.refuse_unknown();
        let is_right = inner.mistakes.is_empty() && has_ttl;
        for mut mistake in inner.mistakes {
            mistake.key = format!("{at}.{}", mistake.key);
            self.mistakes.push(mistake);
        }
        if !has_ttl {
            let place = self.sources.place_in_file(at);
            let problem = Problem::Conflict("has no ttl".to_owned());
            self.mistakes.push(Mistake { place, key: at.to_owned(), value: None, problem });
        }
        is_right.then_some(rule)
    }

    /// Partial and not-modified answers are no whole response, and a server's failure must not
    /// outlive its cause.
    fn ttl_status(&mut self, field: &mut Option<u16>) {
        let mut status = 200;
        self.number("status", &mut status, 200..=499);
        let Some(given) = self.sources.given.get("status").cloned() else { return };
        if [206, 304].contains(&status) {
            let allowed = "a whole number from 200 to 499, but for 206 and 304";
            self.refuse("status", &given.place, &given.value, "no whole response", allowed);
        }
        *field = Some(status);
    }

    /// `[origin.params.HOST]`: tables of texts, in the file alone. Their values may be secrets.
    pub fn params(
        &mut self,
        key: &'static str,
        field: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) {
        self.file_only.insert(key);
        self.secret.insert(key);
        let Some(given) = self.take(key) else { return };
        let ValueKind::Table(hosts) = given.value else {
            self.refuse(key, &given.place, &given.value, "not a table", "a table for each host");
            return;
        };
        let hosts: BTreeMap<_, _> =
            hosts.into_iter().map(|(key, value)| (key, value.kind)).collect();
        for (host, params) in hosts {
            // Parameters are looked up by the whole host, so *.shop.example would never match.
            let name = if host == "*" { Ok(host.clone()) } else { syntax::exact_host(&host) };
            let at = format!("{key}.{host}");
            let place = self.sources.place_in_file(&at);
            let (Ok(name), ValueKind::Table(params)) = (name, params) else {
                let allowed =
                    "[origin.params.\"HOST\"], where HOST is * or a whole host without port";
                self.refuse(&at, &place, &ValueKind::Nil, "no host's parameters", allowed);
                continue;
            };
            let params: BTreeMap<_, _> =
                params.into_iter().map(|(key, value)| (key, value.kind)).collect();
            let params: Vec<_> = params
                .into_iter()
                .filter_map(|(param, value)| {
                    let value = self.param(&format!("{at}.{param}"), &param, &value)?;
                    Some((param, value))
                })
                .collect();
            field.entry(name).or_default().extend(params);
        }
    }

    fn param(&mut self, at: &str, name: &str, value: &ValueKind) -> Option<String> {
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match value {
            ValueKind::String(value) if is_name && is_param_text(name, value) => {
                Some(value.clone())
            }
            _ => {
                let place = self.sources.place_in_file(at);
                let allowed = "NAME = \"text\": letters, digits and _ in the name, no control \
                               characters in the text, but for line ends in PHP_VALUE and \
                               PHP_ADMIN_VALUE";
                self.refuse(at, &place, &ValueKind::Nil, "no FastCGI parameter", allowed);
                None
            }
        }
    }
}

/// PHP-FPM takes settings of PHP from two parameters, a line each.
fn is_param_text(name: &str, value: &str) -> bool {
    let has_lines = matches!(name, "PHP_VALUE" | "PHP_ADMIN_VALUE");
    !value.contains(|letter: char| letter.is_control() && !(has_lines && letter == '\n'))
}
