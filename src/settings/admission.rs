//! `[admission]`: whose request goes to PHP next, where there is no room for all.

mod defaults;

use std::time::Duration;

use config::ValueKind;

use super::covering::{covers_all, covers_besides, covers_name, covers_path};
use super::reader::Reader;
use super::syntax::{self, Syntax};
use defaults::default_classes;
pub(super) use defaults::{ADMIN_PATHS, CALLBACK_PATHS, CART_PATHS, CHECKOUT_PATHS};

/// Classes that can be told apart.
const CLASSES_MAX: usize = 100;
/// An hour in the queue is a slip.
const QUEUE_TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// `[admission]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// Does the limit follow PHP's latency? Else it is `origin.concurrency_max`, or PHP-FPM's children.
    pub adaptive: bool,
    /// The limit is never lower, unless `origin.concurrency_max` or PHP-FPM's children are.
    pub limit_min: usize,
    /// How long a request may take in PHP, in percent of what it takes with few others there, before
    /// the limit is lowered.
    pub slowdown_max_percent: u32,
    /// Once the first request of a class has waited for so long, the last one goes first.
    pub lifo_after: Duration,
    /// Requests that this server may send again by itself, in percent of what it was asked.
    pub retry_percent: u8,
    /// The classes; the first that matches a request counts.
    pub classes: Vec<AdmissionClass>,
}

/// One of `[[admission.class]]`. Of what is given all has to match; of each list one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionClass {
    /// Its name in metrics: lower case letters, digits and `-`.
    pub name: String,
    /// 1 to 9; lower goes first.
    pub rank: u8,
    /// Of what goes to PHP while requests of the class wait, at least so many percent.
    pub share_percent: u8,
    /// Of the places in PHP it has at most so many percent, and one in any case.
    pub places_percent: u8,
    /// How long a request waits; `None`: `origin.queue_timeout`.
    pub queue_timeout: Option<Duration>,
    /// Methods.
    pub methods: Vec<String>,
    /// Paths by whole segments, and all below; a `*` at the end of a segment stands for any rest of it.
    pub paths: Vec<String>,
    /// Parameters of the query of which one is there; a `*` at the end stands for any rest.
    pub query: Vec<String>,
    /// There is a parameter that is none of these.
    pub query_besides: Vec<String>,
    /// Who asks, by the session's record.
    pub visitors: Vec<VisitorKind>,
    /// Texts in `User-Agent`, in lower case.
    pub user_agents: Vec<String>,
    /// Names of GraphQL mutations that stand in the content.
    pub operations: Vec<String>,
    /// Is it for what says that it is a bot (by the data of bots, and `sessions.bot_agents`) and has no session?
    pub bots: bool,
    /// Is it for what nobody waits for: the refresh of a stored page?
    pub refreshes: bool,
}

/// Who asks, as far as the record of the session says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitorKind {
    /// There is no session yet, or nothing in it.
    New,
    /// A guest without a cart.
    Guest,
    /// A guest with a cart.
    Cart,
    /// A customer who is logged in.
    Customer,
    /// A user of the administration.
    Admin,
}

impl Default for AdmissionClass {
    fn default() -> Self {
        Self {
            name: String::new(),
            rank: 6,
            share_percent: 0,
            places_percent: 100,
            queue_timeout: None,
            methods: Vec::new(),
            paths: Vec::new(),
            query: Vec::new(),
            query_besides: Vec::new(),
            visitors: Vec::new(),
            user_agents: Vec::new(),
            operations: Vec::new(),
            bots: false,
            refreshes: false,
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            adaptive: true,
            limit_min: 4,
            slowdown_max_percent: 150,
            lifo_after: Duration::from_secs(1),
            retry_percent: 10,
            classes: default_classes(),
        }
    }
}

impl AdmissionClass {
    /// Does each request that `other` matches match this class, too?
    fn covers(&self, other: &Self) -> bool {
        // All refreshes are GET requests.
        let get = ["GET".to_owned()];
        let methods = if other.refreshes { &get } else { &other.methods[..] };
        (!self.refreshes || other.refreshes)
            && (!self.bots || other.bots)
            && covers_all(&self.methods, methods, PartialEq::eq)
            && covers_all(&self.paths, &other.paths, |own, its| covers_path(own, its))
            && covers_all(&self.query, &other.query, |own, its| covers_name(own, its))
            && covers_besides(&self.query_besides, &other.query_besides)
            && covers_all(&self.operations, &other.operations, PartialEq::eq)
            && covers_all(&self.user_agents, &other.user_agents, |own, its| its.contains(own))
            && covers_all(&self.visitors, &other.visitors, PartialEq::eq)
    }

    /// Why no request can match; `None`: one can.
    fn contradiction(&self) -> Option<String> {
        let is_read = |method: &String| matches!(method.as_str(), "GET" | "HEAD");
        if self.refreshes && !self.methods.is_empty() && !self.methods.iter().any(is_read) {
            return Some("refreshes are GET requests, and methods has none".to_owned());
        }
        let brings = |method: &String| !is_read(method);
        if !self.operations.is_empty()
            && (self.refreshes || !self.methods.is_empty() && !self.methods.iter().any(brings))
        {
            return Some("operations stand in content, and such requests have none".to_owned());
        }
        let is_below_index = |path: &String| covers_path("/index.php", path);
        if let Some(path) = self.paths.iter().find(|path| is_below_index(path)) {
            return Some(format!(
                "paths are compared without index.php in front: leave it out of {path}"
            ));
        }
        if self.refreshes && !self.visitors.is_empty() {
            return Some("nobody waits for refreshes, so that they have no visitors".to_owned());
        }
        None
    }
}

/// A class's name.
pub(super) const NAME: Syntax<String> = Syntax {
    allowed: "lower case letters, digits and - (1 to 40), a letter first",
    parse: |text| {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if begins && text.len() <= 40 && text.bytes().all(letter) {
            Ok(text.to_owned())
        } else {
            Err("no name".to_owned())
        }
    },
};

/// A path with `*` for the rest of segments.
pub(super) const PATH: Syntax<String> = Syntax {
    allowed: "a path of whole segments, as in /rest/*/V1/carts, without a query; * at the end of a \
              segment alone",
    parse: |text| {
        let path = (syntax::SEGMENTS.parse)(text)?;
        let is_odd = |segment: &str| segment.trim_end_matches('*').contains('*');
        if path.split('/').any(is_odd) || path.contains("**") {
            return Err("a * that is not at the end of its segment".to_owned());
        }
        Ok(path)
    },
};

/// A method.
pub(super) const METHOD: Syntax<String> = Syntax {
    allowed: "a method that goes to PHP: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
    parse: |text| match text {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Ok(text.to_owned()),
        _ => Err("no such method".to_owned()),
    },
};

/// A name of GraphQL.
pub(super) const OPERATION: Syntax<String> = Syntax {
    allowed: "a name of GraphQL: letters, digits and _ (1 to 100), no digit first",
    parse: |text| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if begins && text.len() <= 100 && text.bytes().all(letter) {
            Ok(text.to_owned())
        } else {
            Err("no name".to_owned())
        }
    },
};

/// Who asks.
const VISITOR: Syntax<VisitorKind> = Syntax {
    allowed: "new, guest, cart, customer or admin",
    parse: |text| match text {
        "new" => Ok(VisitorKind::New),
        "guest" => Ok(VisitorKind::Guest),
        "cart" => Ok(VisitorKind::Cart),
        "customer" => Ok(VisitorKind::Customer),
        "admin" => Ok(VisitorKind::Admin),
        _ => Err("no such visitor".to_owned()),
    },
};

impl Reader {
    /// `[[admission.class]]`, in the file alone; they replace those of the default.
    pub fn admission_classes(&mut self, key: &'static str, field: &mut Vec<AdmissionClass>) {
        if let Some(classes) = self.tables(key, 1..=CLASSES_MAX, Self::admission_class) {
            self.check_classes(key, &classes);
            *field = classes;
        }
    }

    fn admission_class(&mut self, at: &str, table: ValueKind) -> Option<AdmissionClass> {
        let mut table = self.table(at, table, ["name", "rank"])?;
        let (mut class, inner) = (AdmissionClass::default(), &mut table.inner);
        inner.text("name", &mut class.name, &NAME);
        inner.number("rank", &mut class.rank, 1..=9);
        inner.number("share_percent", &mut class.share_percent, 0..=50);
        inner.number("places_percent", &mut class.places_percent, 1..=100);
        inner.optional_duration(
            "queue_timeout",
            &mut class.queue_timeout,
            Duration::ZERO..=QUEUE_TIMEOUT_MAX,
        );
        inner.list("methods", &mut class.methods, &METHOD);
        inner.list("paths", &mut class.paths, &PATH);
        inner.list("query", &mut class.query, &syntax::PARAMETER);
        inner.list("query_besides", &mut class.query_besides, &syntax::PARAMETER);
        inner.list("visitors", &mut class.visitors, &VISITOR);
        inner.list("user_agents", &mut class.user_agents, &super::sessions::AGENT);
        inner.list("operations", &mut class.operations, &OPERATION);
        inner.switch("bots", &mut class.bots);
        inner.switch("refreshes", &mut class.refreshes);
        self.close(at, table).then_some(class)
    }

    /// A class that matches nothing, or nothing that one before it does not match, is a mistake: whoever
    /// wrote it counts on it.
    fn check_classes(&mut self, key: &str, classes: &[AdmissionClass]) {
        for (number, class) in classes.iter().enumerate() {
            let (at, name) = (format!("{key}#{}", number + 1), &class.name);
            let before = classes.get(..number).unwrap_or_default();
            if before.iter().any(|other| other.name == *name) {
                self.blame_table(&at, format!("the name {name} is another class's, too"));
            } else if let Some(why) = class.contradiction() {
                self.blame_table(&at, format!("the class {name} can never match: {why}"));
            } else if let Some(other) = before.iter().find(|other| other.covers(class)) {
                let text = format!(
                    "the class {name} can never match: whatever it matches, the class {} before it \
                     matches first",
                    other.name
                );
                self.blame_table(&at, text);
            }
        }
        let shares: u32 = classes.iter().map(|class| u32::from(class.share_percent)).sum();
        if shares > 90 {
            let text = format!("the shares of all classes are {shares} % together; at most 90");
            self.blame_table(key, text);
        }
        if let Some(last) = classes.last()
            && !last.covers(&AdmissionClass::default())
        {
            let at = format!("{key}#{}", classes.len());
            let text = format!(
                "the last class, {}, has to match every request: leave out what it matches by",
                last.name
            );
            self.blame_table(&at, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn mistakes(classes: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let last = "[[admission.class]]\nname = \"rest\"\nrank = 6\n";
        std::fs::write(file.path(), format!("{classes}{last}")).expect("written");
        match Settings::load(Some(file.path()), []) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(|one| one.problem.to_string()).collect(),
        }
    }

    fn class(name: &str, rest: &str) -> String {
        format!("[[admission.class]]\nname = \"{name}\"\nrank = 5\n{rest}\n")
    }

    #[test]
    fn the_default_classes_are_in_order() {
        let mut reader = Reader::default();
        reader.check_classes("admission.class", &default_classes());
        assert_eq!(reader.mistakes, []);
    }

    #[test]
    fn a_class_that_an_earlier_one_hides_is_a_mistake_that_names_both() {
        let hides = [
            ("paths = [\"/checkout\"]", "paths = [\"/checkout/cart\"]"),
            ("paths = [\"/rest/*/V1\"]", "paths = [\"/rest/de/V1/carts\"]\nmethods = [\"POST\"]"),
            ("methods = [\"GET\", \"POST\"]", "methods = [\"POST\"]"),
            ("query = [\"a*\", \"b\"]", "query = [\"abc\"]"),
            ("query_besides = [\"p\"]", "query_besides = [\"p\", \"q\"]"),
            ("visitors = [\"cart\", \"customer\"]", "visitors = [\"cart\"]"),
            ("user_agents = [\"bot\"]", "user_agents = [\"googlebot\"]"),
            ("operations = [\"a\", \"b\"]", "operations = [\"b\"]"),
        ];
        for (first, second) in hides {
            let text = class("first", first) + &class("second", second);
            let found = mistakes(&text);
            assert_eq!(found.len(), 1, "{first} {second} {found:?}");
            assert!(found[0].contains("second") && found[0].contains("first"), "{found:?}");
            if !second.contains("methods = [\"POST\"]\n") && !first.contains("rest") {
                assert_eq!(mistakes(&(class("second", second) + &class("first", first))), [""; 0]);
            }
        }
    }

    #[test]
    fn classes_that_cannot_match_or_make_no_sense_are_mistakes() {
        let wrong = [
            (class("a", "refreshes = true\nmethods = [\"POST\"]"), "can never match"),
            (class("a", "methods = [\"GET\"]\noperations = [\"placeOrder\"]"), "can never match"),
            (class("a", "operations = [\"place order\"]"), "no name"),
            (class("a", "refreshes = true\nvisitors = [\"cart\"]"), "can never match"),
            (class("a", "paths = [\"/index.php/checkout\"]"), "can never match"),
            (
                class("a", "methods = [\"GET\"]") + &class("b", "refreshes = true"),
                "can never match",
            ),
            (class("rest", "paths = [\"/x\"]"), "another class's"),
            (class("A", ""), "no name"),
            (class("a", "paths = [\"/\"]"), "every path"),
            (class("a", "paths = [\"/a*b\"]"), "not at the end"),
            (class("a", "methods = [\"PURGE\"]"), "no such method"),
            (
                class("a", "paths = [\"/x\"]\nshare_percent = 50")
                    + &class("b", "paths = [\"/y\"]\nshare_percent = 45"),
                "95 %",
            ),
            ("[[admission.class]]\nname = \"a\"\n".to_owned(), "has no rank"),
        ];
        for (text, expected) in wrong {
            let found = mistakes(&text);
            assert!(found.iter().any(|one| one.contains(expected)), "{text} {found:?}");
        }
    }

    #[test]
    fn the_last_class_has_to_match_everything() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), class("only", "paths = [\"/x\"]")).expect("written");
        let mistakes = Settings::load(Some(file.path()), []).expect_err("it leaves some out");
        assert!(mistakes.to_string().contains("has to match every request"), "{mistakes}");
    }
}
