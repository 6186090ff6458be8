//! Which class a request is of.

use http::Method;
use regex::bytes::{Regex, RegexBuilder};

use crate::settings::{AdmissionClass, VisitorKind};

/// What of a request decides on its class.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, raw.
    pub path: &'a [u8],
    /// The query, raw.
    pub query: Option<&'a [u8]>,
    /// User-Agent; empty: none.
    pub user_agent: &'a [u8],
    /// Does nobody wait for it?
    pub is_refresh: bool,
}

/// A class, by its place in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassId(pub(super) usize);

/// What is known of a request's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classified {
    /// It is this one.
    Is(ClassId),
    /// That depends on who asks.
    DependsOnVisitor,
}

/// The classes of `[[admission.class]]`, in order.
#[derive(Clone, Debug)]
pub struct Classes(Vec<Class>);

/// A class, with its paths taken apart: each request to PHP is compared with all of them.
#[derive(Clone, Debug)]
struct Class {
    own: AdmissionClass,
    paths: Vec<Vec<Name>>,
    /// Finds any of its names of clients, in one walk.
    agents: Option<Regex>,
}

/// A name, or what names begin with.
#[derive(Clone, Debug)]
struct Name {
    text: Box<[u8]>,
    is_beginning: bool,
}

impl Name {
    fn new(pattern: &str) -> Self {
        let beginning = pattern.strip_suffix('*');
        let text = beginning.unwrap_or(pattern).as_bytes().into();
        Self { text, is_beginning: beginning.is_some() }
    }

    fn is(&self, name: &[u8]) -> bool {
        if self.is_beginning { name.starts_with(&self.text) } else { *self.text == *name }
    }
}

/// More classes than there may be.
const URGENCY_STEP: usize = 1_000;
/// Segments of a path that are looked at; no class needs more.
const SEGMENTS_MAX: usize = 16;

impl Classes {
    /// As many as there are.
    pub fn new(classes: &[AdmissionClass]) -> Self {
        let names =
            |path: &String| path.split('/').filter(|one| !one.is_empty()).map(Name::new).collect();
        let class = |own: &AdmissionClass| Class {
            own: own.clone(),
            paths: own.paths.iter().map(names).collect(),
            agents: any_of(&own.user_agents),
        };
        Self(classes.iter().map(class).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &AdmissionClass> {
        self.0.iter().map(|class| &class.own)
    }

    /// The last one, which takes what no other does.
    pub fn last(&self) -> ClassId {
        ClassId(self.0.len().saturating_sub(1))
    }

    /// How urgent requests of a class are: a lower number is of a better rank. It names the class, too.
    pub fn urgency(&self, class: ClassId) -> usize {
        let rank = self.0.get(class.0).map_or(u8::MAX, |class| class.own.rank);
        usize::from(rank) * URGENCY_STEP + class.0
    }

    /// The class that wants something so urgently, where its rank is better than that of `class`.
    pub(super) fn more_urgent(&self, urgency: usize, class: usize) -> Option<usize> {
        let other = urgency % URGENCY_STEP;
        let rank = |class: usize| self.0.get(class).map(|class| class.own.rank);
        rank(other).filter(|other| rank(class).is_some_and(|own| *other < own)).map(|_| other)
    }

    /// The class of a request, as far as that can be said without knowing who asks.
    pub fn of(&self, facts: &Facts<'_>) -> Classified {
        let seen = Seen::of(facts);
        for (at, class) in self.0.iter().enumerate() {
            if is_of(class, facts, &seen) {
                if class.own.visitors.is_empty() {
                    return Classified::Is(ClassId(at));
                }
                if !facts.is_refresh {
                    return Classified::DependsOnVisitor;
                }
            }
        }
        Classified::Is(self.last())
    }

    /// The class of a request of this visitor; `None`: nothing is known of who asks.
    pub fn of_visitor(&self, facts: &Facts<'_>, visitor: Option<VisitorKind>) -> ClassId {
        let seen = Seen::of(facts);
        let is_theirs = |class: &Class| {
            let visitors = &class.own.visitors;
            visitors.is_empty() || visitor.is_some_and(|own| visitors.contains(&own))
        };
        let found = self.0.iter().position(|class| is_of(class, facts, &seen) && is_theirs(class));
        found.map_or(self.last(), ClassId)
    }
}

/// What is taken apart of a request once.
struct Seen<'a> {
    /// Of its path, without `index.php` in front, which some shops have.
    segments: [&'a [u8]; SEGMENTS_MAX],
    count: usize,
}

impl<'a> Seen<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let all = facts.path.split(|byte| *byte == b'/').filter(|one| !one.is_empty());
        let mut segments: [&[u8]; SEGMENTS_MAX] = [&[]; SEGMENTS_MAX];
        let mut count = 0;
        for (at, segment) in all.enumerate() {
            if at == 0 && segment == b"index.php" {
                continue;
            }
            let Some(place) = segments.get_mut(count) else { break };
            *place = segment;
            count += 1;
        }
        Self { segments, count }
    }

    fn is_within(&self, path: &[Name]) -> bool {
        let segments = self.segments.get(..self.count).unwrap_or_default();
        path.len() <= segments.len()
            && path.iter().zip(segments).all(|(name, segment)| name.is(segment))
    }
}

/// Does a request match, as far as that does not depend on who asks?
fn is_of(class: &Class, facts: &Facts<'_>, seen: &Seen<'_>) -> bool {
    let AdmissionClass { methods, query, query_besides, refreshes, .. } = &class.own;
    (!refreshes || facts.is_refresh)
        && (methods.is_empty() || methods.iter().any(|own| own == facts.method.as_str()))
        && (class.paths.is_empty() || class.paths.iter().any(|own| seen.is_within(own)))
        && (query.is_empty() || parameters(facts.query).any(|name| is_one_of(query, name)))
        && (query_besides.is_empty()
            || parameters(facts.query).any(|name| !is_one_of(query_besides, name)))
        && (class.own.user_agents.is_empty()
            || class.agents.as_ref().is_some_and(|agents| agents.is_match(facts.user_agent)))
}

/// The names of the parameters, raw.
fn parameters(query: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    let pairs = query.unwrap_or_default().split(|byte| *byte == b'&');
    let name = |pair: &'_ [u8]| pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    pairs.filter(|pair| !pair.is_empty()).map(move |pair| &pair[..name(pair)])
}

fn is_one_of(names: &[String], name: &[u8]) -> bool {
    names.iter().any(|own| is_named(own, name))
}

fn is_named(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => pattern.as_bytes() == name,
    }
}

/// What finds any of these texts, in any case.
fn any_of(texts: &[String]) -> Option<Regex> {
    if texts.is_empty() {
        return None;
    }
    let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
    // Escaped texts are always a regex, and there is room for as many as the settings take.
    RegexBuilder::new(&texts.join("|"))
        .unicode(false)
        .case_insensitive(true)
        .size_limit(usize::MAX)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Admission;

    fn name_of(method: &str, target: &str, agent: &str, visitor: Option<VisitorKind>) -> String {
        let classes = Classes::new(&Admission::default().classes);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        let method = method.parse().expect("a method");
        let facts = Facts {
            method: &method,
            path: path.as_bytes(),
            query,
            user_agent: agent.as_bytes(),
            is_refresh: false,
        };
        let class = match classes.of(&facts) {
            Classified::Is(class) => {
                assert_eq!(classes.of_visitor(&facts, visitor), class);
                class
            }
            Classified::DependsOnVisitor => classes.of_visitor(&facts, visitor),
        };
        classes.0[class.0].own.name.clone()
    }

    #[test]
    fn the_default_classes_tell_a_shops_requests_apart() {
        let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        for (method, target, class) in [
            ("GET", "/", "pages"),
            ("GET", "/women/tops.html?p=2&product_list_order=price", "pages"),
            ("GET", "/women/tops.html?color=49&p=2", "filters"),
            ("GET", "/catalogsearch/result/?q=bag", "search"),
            ("POST", "/checkout/cart/add/uenc/x/product/1/", "cart"),
            ("GET", "/de/checkout/cart/", "cart"),
            ("GET", "/customer/section/load/?sections=cart&_=1", "cart"),
            ("GET", "/checkout/", "checkout"),
            ("GET", "/index.php/checkout/", "checkout"),
            ("POST", "/rest/default/V1/guest-carts/x/payment-information", "checkout"),
            ("POST", "/paypal/ipn/", "callbacks"),
            ("GET", "/health_check.php", "callbacks"),
            ("POST", "/customer/account/loginPost/", "account"),
            ("POST", "/graphql", "account"),
            ("POST", "/rest/default/V1/products", "apis"),
            ("POST", "/soap/default", "apis"),
            ("GET", "/admin/sales/order/", "admin"),
            ("GET", "/admin_1x2y3z/sales/order/", "admin"),
            ("GET", "/administration.html", "pages"),
        ] {
            assert_eq!(name_of(method, target, browser, None), class, "{target}");
        }
        let bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
        assert_eq!(name_of("GET", "/x.html?color=1", bot, None), "bots");
        for target in ["/customer/account/login/referer/x/", "/checkout/cart/", "/wishlist/"] {
            assert_eq!(name_of("GET", target, bot, None), "bots", "{target}");
        }
        assert_eq!(name_of("POST", "/paypal/ipn/", bot, None), "callbacks");
        assert_eq!(name_of("POST", "/checkout/cart/add/", bot, None), "cart");
        for buyer in [VisitorKind::Cart, VisitorKind::Customer] {
            assert_eq!(name_of("GET", "/x.html?color=1", browser, Some(buyer)), "buyers");
        }
        for other in [VisitorKind::New, VisitorKind::Guest] {
            assert_eq!(name_of("GET", "/x.html", browser, Some(other)), "pages");
        }
    }

    #[test]
    fn the_more_urgent_class_is_the_one_of_the_better_rank() {
        let class = |rank| AdmissionClass { rank, ..AdmissionClass::default() };
        let classes = Classes::new(&[class(9), class(5), class(5)]);
        let [bots, pages, other] = [0, 1, 2];
        assert_eq!(classes.more_urgent(classes.urgency(ClassId(pages)), bots), Some(pages));
        assert_eq!(classes.more_urgent(classes.urgency(ClassId(bots)), pages), None);
        assert_eq!(classes.more_urgent(classes.urgency(ClassId(other)), pages), None);
        assert_eq!(classes.more_urgent(usize::MAX, bots), None, "nobody follows");
    }

    #[test]
    fn a_refresh_is_asked_for_by_nobody() {
        let classes = Classes::new(&Admission::default().classes);
        let facts = Facts {
            method: &Method::GET,
            path: b"/x.html",
            query: None,
            user_agent: b"",
            is_refresh: true,
        };
        assert_eq!(classes.of(&facts), Classified::Is(ClassId(0)));
        let visitors =
            AdmissionClass { visitors: vec![VisitorKind::Cart], ..AdmissionClass::default() };
        let classes = Classes::new(&[visitors, AdmissionClass::default()]);
        assert_eq!(classes.of(&facts), Classified::Is(ClassId(1)));
    }

    fn is_within(pattern: &str, path: &[u8]) -> bool {
        let classes = Classes::new(&[AdmissionClass {
            paths: vec![pattern.to_owned()],
            ..AdmissionClass::default()
        }]);
        let facts =
            Facts { method: &Method::GET, path, query: None, user_agent: b"", is_refresh: false };
        is_of(&classes.0[0], &facts, &Seen::of(&facts))
    }

    #[test]
    fn paths_match_by_whole_segments() {
        assert!(is_within("/rest/*/V1/carts", b"/rest/de/V1/carts/mine"));
        assert!(!is_within("/rest/*/V1/carts", b"/rest/V1/carts"));
        assert!(!is_within("/checkout", b"/checkouts"));
        assert!(is_within("/check*", b"//checkouts/x"));
        assert!(is_within("/checkout", b"/checkout"));
        assert!(is_within("/checkout", b"/index.php/checkout"));
        assert!(!is_within("/a/b", "/x".repeat(100).as_bytes()));
    }
}
