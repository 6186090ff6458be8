//! Which class a request is of.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::line::Rule;
use crate::exchange::split_target;
use crate::policy::matching::{AnyText, Name, PathPattern, Segments, parameters};
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
    /// What has arrived of its content: GraphQL says there what it wants.
    pub content: &'a [u8],
    /// Does it say that it is a bot's, and comes without a session?
    pub is_bot: bool,
    /// Does nobody wait for it?
    pub is_refresh: bool,
}

impl<'a> Facts<'a> {
    /// Those of a request of which no more is known.
    pub fn plain(method: &'a Method, target: &'a [u8]) -> Self {
        let (path, query) = split_target(target);
        Self {
            method,
            path,
            query,
            user_agent: b"",
            content: b"",
            is_bot: false,
            is_refresh: false,
        }
    }
}

/// A class. It has the same number for as long as this process runs, whatever becomes of the settings.
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

/// The classes of `[[admission.class]]`.
#[derive(Clone, Debug)]
pub struct Classes {
    /// In order.
    classes: Vec<Class>,
    /// Of all that there are or were since the start, by their numbers.
    known: Vec<Known>,
}

/// What holds for requests of a class, also where the settings have it no more.
#[derive(Clone, Debug)]
struct Known {
    name: Arc<str>,
    rank: u8,
    share_percent: u8,
    places_percent: u8,
    queue_timeout: Duration,
}

/// A class, with what it matches by prepared: each request to PHP is compared with all of them.
#[derive(Clone, Debug)]
struct Class {
    own: AdmissionClass,
    id: ClassId,
    paths: Vec<PathPattern>,
    query: Vec<Name>,
    query_besides: Vec<Name>,
    agents: AnyText,
    operations: AnyText,
}

impl Class {
    fn new(own: &AdmissionClass, id: ClassId) -> Self {
        Self {
            id,
            paths: PathPattern::all(&own.paths),
            query: Name::all(&own.query),
            query_besides: Name::all(&own.query_besides),
            agents: AnyText::new(&own.user_agents),
            operations: AnyText::words(&own.operations),
            own: own.clone(),
        }
    }

    /// Does a request match, as far as that does not depend on who asks?
    fn matches(&self, facts: &Facts<'_>, segments: &Segments<'_>) -> bool {
        let AdmissionClass { methods, refreshes, bots, user_agents, operations, .. } = &self.own;
        let (query, besides) = (&self.query, &self.query_besides);
        (!refreshes || facts.is_refresh)
            && (!bots || facts.is_bot)
            && (methods.is_empty() || methods.iter().any(|own| own == facts.method.as_str()))
            && (self.paths.is_empty() || self.paths.iter().any(|own| segments.are_within(own)))
            && (query.is_empty() || parameters(facts.query).any(|name| Name::is_one(query, name)))
            && (besides.is_empty()
                || parameters(facts.query).any(|name| !Name::is_one(besides, name)))
            && (user_agents.is_empty() || self.agents.is_in(facts.user_agent))
            && (operations.is_empty() || self.operations.is_in(beginning(facts.content)))
    }
}

/// The part of a request's content that is searched.
fn beginning(content: &[u8]) -> &[u8] {
    content.get(..CONTENT_MAX_BYTES).unwrap_or(content)
}

/// As many classes as there may be over time.
const KNOWN_MAX: usize = 1_000;
/// More than that.
const URGENCY_STEP: usize = KNOWN_MAX + 1;
/// Bytes of a request's content that are searched for operations. An order of a shop in the browser has some
/// hundred before its mutation's name.
const CONTENT_MAX_BYTES: usize = 16 << 10;

impl Classes {
    /// Those of the settings. `queue_timeout`: of those that name none.
    pub fn new(classes: &[AdmissionClass], queue_timeout: Duration) -> Self {
        let none = Self { classes: Vec::new(), known: Vec::new() };
        none.followed_by(classes, queue_timeout).unwrap_or(none)
    }

    /// Those of other settings: who has the name of one that there is, or was, takes its place. `None`: there have
    /// been too many over time.
    pub fn followed_by(&self, classes: &[AdmissionClass], queue_timeout: Duration) -> Option<Self> {
        let mut known = self.known.clone();
        let mut number = |own: &AdmissionClass| {
            let now = Known {
                name: own.name.as_str().into(),
                rank: own.rank,
                share_percent: own.share_percent,
                places_percent: own.places_percent,
                queue_timeout: own.queue_timeout.unwrap_or(queue_timeout),
            };
            let at = known.iter().position(|before| *before.name == *own.name);
            match at.and_then(|at| known.get_mut(at)) {
                Some(before) => *before = now,
                None => known.push(now),
            }
            at.unwrap_or(known.len() - 1)
        };
        let classes = classes.iter().map(|own| Class::new(own, ClassId(number(own)))).collect();
        (known.len() <= KNOWN_MAX).then_some(Self { classes, known })
    }

    /// How many there are or were since the start.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// What the line before PHP has to know of each of them, by their numbers.
    pub(super) fn rules(&self) -> impl ExactSizeIterator<Item = Rule> {
        let rule = |known: &Known| Rule { rank: known.rank, share_percent: known.share_percent };
        self.known.iter().map(rule)
    }

    /// Their names, by their numbers.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.known.iter().map(|known| &known.name)
    }

    /// Of so many places in PHP, those that a class may occupy.
    pub(super) fn places(&self, class: usize, places: usize) -> usize {
        let percent = self.known.get(class).map_or(100, |known| known.places_percent);
        (places * usize::from(percent) / 100).max(1)
    }

    /// How long a request of a class waits.
    pub(super) fn queue_timeout(&self, class: usize) -> Duration {
        self.known.get(class).map_or(Duration::ZERO, |known| known.queue_timeout)
    }

    /// The last one, which takes what no other does.
    pub fn last(&self) -> ClassId {
        self.classes.last().map_or(ClassId(0), |class| class.id)
    }

    /// The name of a class.
    pub fn name(&self, class: ClassId) -> Option<&Arc<str>> {
        self.known.get(class.0).map(|known| &known.name)
    }

    /// The class of this name, where the settings have one.
    pub fn named(&self, name: &[u8]) -> Option<ClassId> {
        self.classes.iter().find(|class| class.own.name.as_bytes() == name).map(|class| class.id)
    }

    /// How urgent requests of a class are: a lower number is of a better rank. It names the class, too.
    pub fn urgency(&self, class: ClassId) -> usize {
        let rank = self.known.get(class.0).map_or(u8::MAX, |known| known.rank);
        usize::from(rank) * URGENCY_STEP + class.0
    }

    /// Of a class and of who wants something so urgently ([`Classes::urgency`]): who wants it more. `None`: nobody
    /// wants it.
    pub fn most_urgent(&self, urgency: usize, class: Option<ClassId>) -> Option<ClassId> {
        match class {
            Some(class) => Some(self.more_urgent(urgency, class.0).map_or(class, ClassId)),
            None if urgency == usize::MAX => None,
            None => Some(ClassId(urgency % URGENCY_STEP)).filter(|class| class.0 < self.known()),
        }
    }

    /// The class that wants something so urgently, where its rank is better than that of `class`.
    pub(super) fn more_urgent(&self, urgency: usize, class: usize) -> Option<usize> {
        let other = urgency % URGENCY_STEP;
        let rank = |class: usize| self.known.get(class).map(|known| known.rank);
        rank(other).filter(|other| rank(class).is_some_and(|own| *other < own)).map(|_| other)
    }

    /// The class of a request, as far as that can be said without knowing who asks.
    pub fn of(&self, facts: &Facts<'_>) -> Classified {
        let segments = Segments::of(facts.path);
        for class in &self.classes {
            if class.matches(facts, &segments) {
                if class.own.visitors.is_empty() {
                    return Classified::Is(class.id);
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
        let segments = Segments::of(facts.path);
        let is_theirs = |class: &Class| {
            let visitors = &class.own.visitors;
            visitors.is_empty() || visitor.is_some_and(|own| visitors.contains(&own))
        };
        let is_it = |class: &&Class| class.matches(facts, &segments) && is_theirs(class);
        self.classes.iter().find(is_it).map_or(self.last(), |class| class.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Admission;

    fn default() -> Classes {
        Classes::new(&Admission::default().classes, Duration::ZERO)
    }

    /// The default class of a request that comes from a browser, with these changes.
    fn class_of<'a>(
        (method, target): (&str, &'a str),
        visitor: Option<VisitorKind>,
        change: impl FnOnce(&mut Facts<'a>),
    ) -> String {
        let classes = default();
        let method = method.parse().expect("a method");
        let mut facts = Facts::plain(&Method::GET, target.as_bytes());
        change(&mut facts);
        let facts = Facts { method: &method, ..facts };
        let class = match classes.of(&facts) {
            Classified::Is(class) => {
                assert_eq!(classes.of_visitor(&facts, visitor), class);
                class
            }
            Classified::DependsOnVisitor => classes.of_visitor(&facts, visitor),
        };
        classes.name(class).expect("a name").to_string()
    }

    fn name_of(method: &str, target: &str) -> String {
        class_of((method, target), None, |_| {})
    }

    #[test]
    fn the_default_classes_tell_a_shops_requests_apart() {
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
            assert_eq!(name_of(method, target), class, "{target}");
        }
        for buyer in [VisitorKind::Cart, VisitorKind::Customer] {
            assert_eq!(class_of(("GET", "/x.html?color=1"), Some(buyer), |_| {}), "buyers");
        }
        for other in [VisitorKind::New, VisitorKind::Guest] {
            assert_eq!(class_of(("GET", "/x.html"), Some(other), |_| {}), "pages");
        }
    }

    #[test]
    fn bots_have_a_class_of_their_own_for_what_they_read() {
        let of_bot = |method, target| class_of((method, target), None, |facts| facts.is_bot = true);
        for target in [
            "/x.html?color=1",
            "/customer/account/login/referer/x/",
            "/checkout/cart/",
            "/wishlist/",
        ] {
            assert_eq!(of_bot("GET", target), "bots", "{target}");
        }
        assert_eq!(of_bot("POST", "/paypal/ipn/"), "callbacks");
        assert_eq!(of_bot("POST", "/checkout/cart/add/"), "cart");
    }

    #[test]
    fn graphql_that_orders_is_the_checkouts() {
        let of_content = |target, content: &'static [u8]| {
            class_of(("POST", target), None, |facts| facts.content = content)
        };
        let order = br#"{"operationName":"placeOrder","variables":{"id":"x"},"query":"mutation placeOrder($id: String!) {\n  placeOrder(input: {cart_id: $id}) { order { order_number } }\n}"}"#;
        assert_eq!(of_content("/graphql", order), "graphql-checkout");
        assert_eq!(of_content("/de/graphql", order), "graphql-checkout");
        let query = br#"{"query":"{ products(search: \"bag\") { items { sku } } }"}"#;
        assert_eq!(of_content("/graphql", query), "account");
        assert_eq!(of_content("/catalogsearch/result", order), "search");
        let late = [&[b' '; CONTENT_MAX_BYTES][..], order].concat().leak();
        assert_eq!(of_content("/graphql", late), "account", "no more than the beginning is read");
    }

    #[test]
    fn the_more_urgent_class_is_the_one_of_the_better_rank() {
        let class = |name: &str, rank| AdmissionClass {
            name: name.to_owned(),
            rank,
            ..AdmissionClass::default()
        };
        let classes = Classes::new(&[class("a", 9), class("b", 5), class("c", 5)], Duration::ZERO);
        let [bots, pages, other] = [0, 1, 2];
        assert_eq!(classes.more_urgent(classes.urgency(ClassId(pages)), bots), Some(pages));
        assert_eq!(classes.more_urgent(classes.urgency(ClassId(bots)), pages), None);
        assert_eq!(classes.more_urgent(classes.urgency(ClassId(other)), pages), None);
        assert_eq!(classes.more_urgent(usize::MAX, bots), None, "nobody follows");
        let by = |urgency, class: Option<usize>| classes.most_urgent(urgency, class.map(ClassId));
        let page = classes.urgency(ClassId(pages));
        assert_eq!(by(page, Some(bots)), Some(ClassId(pages)));
        assert_eq!(by(usize::MAX, Some(bots)), Some(ClassId(bots)));
        assert_eq!((by(page, None), by(usize::MAX, None)), (Some(ClassId(pages)), None));
    }

    #[test]
    fn a_refresh_is_asked_for_by_nobody() {
        let classes = default();
        let facts = Facts { is_refresh: true, ..Facts::plain(&Method::GET, b"/x.html") };
        assert_eq!(classes.of(&facts), Classified::Is(ClassId(0)));
        let visitors = AdmissionClass {
            name: "a".to_owned(),
            visitors: vec![VisitorKind::Cart],
            ..AdmissionClass::default()
        };
        let classes = Classes::new(&[visitors, AdmissionClass::default()], Duration::ZERO);
        assert_eq!(classes.of(&facts), Classified::Is(ClassId(1)));
    }

    #[test]
    fn a_class_is_known_by_its_name() {
        let classes = default();
        let cart = classes.named(b"cart").expect("it is a default");
        assert_eq!(classes.name(cart).map(|name| &**name), Some("cart"));
        assert_eq!(classes.named(b"cars"), None);
    }

    #[test]
    fn a_class_keeps_its_number_over_other_settings() {
        let class = |name: &str, rank| AdmissionClass {
            name: name.to_owned(),
            rank,
            ..AdmissionClass::default()
        };
        let before = Classes::new(&[class("a", 1), class("b", 2)], Duration::ZERO);
        let [a, b] = [&b"a"[..], b"b"].map(|name| before.named(name).expect("it is there"));
        let second = Duration::from_secs(1);
        let after = before.followed_by(&[class("new", 3), class("b", 4)], second).expect("room");
        assert_eq!((after.named(b"b"), after.named(b"a"), after.last()), (Some(b), None, b));
        assert_eq!((after.known(), after.name(a).map(|name| &**name)), (3, Some("a")));
        let ranks: Vec<u8> = after.rules().map(|rule| rule.rank).collect();
        assert_eq!(ranks, [1, 4, 3], "what waits keeps its rank, though its class is gone");
        assert_eq!((after.queue_timeout(a.0), after.queue_timeout(b.0)), (Duration::ZERO, second));
        let many: Vec<_> = (0..=KNOWN_MAX).map(|at| class(&format!("c{at}"), 1)).collect();
        assert!(after.followed_by(&many, second).is_none());
    }
}
